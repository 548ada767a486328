//! From the old files to the staged ones by renames: all, or none after they are undone.
//!
//! Before the first rename the switch is recorded ([`SwitchRecord`]), and every new and every old file has a durable
//! name beside its target. So whatever interrupts it, renames alone finish it or undo it ([`recover`]): no content has
//! to be had, and no check passed, that could fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
};

use fleet::{
    bundle::{FILE_SIZE_MAX, HomePath},
    ids::Digest,
    node::{Recovery, Replaced, SwitchRecord, Way},
};

use super::{
    place::{Home, Place, PlaceError},
    stage::{NEW, OLD, discard, read_bounded},
};
use crate::journal::Switches;

/// Puts the staged content of a switch in force, durable on return.
///
/// # Errors
/// The first step that failed; everything before it was undone. Should undoing fail as well, the error says so, and the
/// record is kept for [`recover`].
pub fn switch(home: &Home, switches: &Switches, record: &SwitchRecord) -> Result<(), SwitchError> {
    let places = places(home, record.files.keys()).map_err(whole)?;
    places.iter().try_for_each(keep_old).map_err(whole)?;
    // The names must outlive a power failure that the record outlives.
    sync(&places).map_err(whole)?;
    if let Err(source) = switches.write(record) {
        let (what, path) = ("record the switch of", record.home.clone());
        return Err(whole(PlaceError::Io { what, path, source }));
    }
    let mut done = 0;
    let result = places.iter().try_for_each(|place| {
        done += 1;
        put(place, record.files.get(place.path()))
    });
    if let Err(cause) = result.and_then(|()| sync(&places)) {
        let undone = places[..done].iter().try_for_each(undo).and_then(|()| sync(&places));
        return Err(SwitchError { cause, undone: undone.is_ok() });
    }
    remove_old(&places);
    Ok(())
}

/// Puts one staged file in force, durable on return. One rename needs no record: it happens or does not.
///
/// # Errors
/// Whatever the file system says.
pub fn switch_one(place: &Place) -> Result<(), PlaceError> {
    place.replace_by(&place.aside(NEW))?;
    place.sync()
}

/// Why files were not switched.
#[derive(Debug)]
pub struct SwitchError {
    /// The first thing that failed.
    pub cause: PlaceError,
    /// Whether the files before are in force again.
    pub undone: bool,
}

fn whole(cause: PlaceError) -> SwitchError {
    SwitchError { cause, undone: true }
}

fn places<'a>(home: &Home, paths: impl Iterator<Item = &'a HomePath>) -> Result<Vec<Place>, PlaceError> {
    paths.map(|path| home.place(path, None)).collect()
}

/// Each directory once.
fn sync(places: &[Place]) -> Result<(), PlaceError> {
    let mut done = BTreeSet::new();
    let parent = |place: &Place| place.path().as_str().rsplit_once('/').map(|(parent, _)| parent.to_owned());
    places.iter().filter(|place| done.insert(parent(place))).try_for_each(Place::sync)
}

/// The new content, or nothing, in the target's place.
fn put(place: &Place, replaced: Option<&Replaced>) -> Result<(), PlaceError> {
    match replaced {
        Some(Replaced { new: None, .. }) => place.remove_target(),
        Some(Replaced { new: Some(_), .. }) | None => place.replace_by(&place.aside(NEW)),
    }
}

/// A second name for what is about to be replaced: undoing needs no space and no copy.
fn keep_old(place: &Place) -> Result<(), PlaceError> {
    let old = place.aside(OLD);
    place.remove(&old)?;
    place.link_aside(&old)
}

fn undo(place: &Place) -> Result<(), PlaceError> {
    match place.replace_by(&place.aside(OLD)) {
        // There was no file before; the new one, if it got there, goes again.
        Err(PlaceError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => place.remove_target(),
        result => result,
    }
}

fn remove_old(places: &[Place]) {
    for place in places {
        // The old names serve no more; one that stays is removed at the next start.
        if let Err(error) = place.remove(&place.aside(OLD)) {
            tracing::debug!(%error, "Left an old file aside");
        }
    }
}

/// Takes up the switch of `record` where it was interrupted: finishes it or undoes it, `way` first.
///
/// # Errors
/// The file system refuses. What lies beside the files is still there, so it can be tried again.
pub fn recover(home: &Home, record: &SwitchRecord, way: Way) -> Result<Recovery, PlaceError> {
    let mut files = BTreeMap::new();
    for (path, replaced) in &record.files {
        files.insert(path, Leftover::look(home, path, replaced)?);
    }
    let can_finish = files.values().all(|left| left.new || !left.is_old);
    let can_undo = !record.mixed && files.values().all(|left| left.old || left.is_old || left.was_none);
    let (result, places) = match (way, can_finish, can_undo) {
        (Way::Forward, true, _) | (Way::Back, true, false) => (Recovery::New, finish(home, record, &files)?),
        (Way::Back, _, true) | (Way::Forward, false, true) => {
            (Recovery::Old, undo_all(home, record, &files)?)
        }
        (_, false, false) => return Ok(Recovery::Lost),
    };
    sync(&places)?;
    discard(home, record.files.keys());
    Ok(result)
}

/// What an interrupted switch left of one file.
struct Leftover {
    /// The new content lies beside it, or there is to be none.
    new: bool,
    /// The old content lies beside it.
    old: bool,
    /// The target is as it was before, and not as it should become.
    is_old: bool,
    /// There was no file before.
    was_none: bool,
}

impl Leftover {
    fn look(home: &Home, path: &HomePath, replaced: &Replaced) -> Result<Self, PlaceError> {
        let was_none = replaced.old.is_none();
        let place = match home.place(path, None) {
            Ok(place) => place,
            Err(PlaceError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                // Its directory is gone and everything with it, unless the home is: that is no answer.
                home.facts()?;
                return Ok(Self { new: false, old: false, is_old: was_none, was_none });
            }
            Err(error) => return Err(error),
        };
        let beside = |purpose| -> Result<Option<Digest>, PlaceError> {
            let content = place.read_aside(&place.aside(purpose), FILE_SIZE_MAX)?;
            Ok(content.map(|content| Digest::of(&content)))
        };
        let target = match place.facts()? {
            Some(facts) => read_bounded(&place, &facts)?.map(|content| Digest::of(&content)),
            None => None,
        };
        let new = replaced.new.is_none() || beside(NEW)? == replaced.new;
        let old = beside(OLD)?.is_some();
        Ok(Self { new, old, is_old: target == replaced.old && target != replaced.new, was_none })
    }
}

fn finish(
    home: &Home,
    record: &SwitchRecord,
    files: &BTreeMap<&HomePath, Leftover>,
) -> Result<Vec<Place>, PlaceError> {
    let there = files.iter().filter(|(_, left)| left.new || left.old);
    let places = places(home, there.map(|(path, _)| *path))?;
    let new = |place: &&Place| files.get(place.path()).is_some_and(|left| left.new);
    places.iter().filter(new).try_for_each(|place| put(place, record.files.get(place.path())))?;
    Ok(places)
}

fn undo_all(
    home: &Home,
    record: &SwitchRecord,
    files: &BTreeMap<&HomePath, Leftover>,
) -> Result<Vec<Place>, PlaceError> {
    let changed = files.iter().filter(|(_, left)| left.old && !left.is_old);
    let mut places = places(home, changed.map(|(path, _)| *path))?;
    places.iter().try_for_each(|place| place.replace_by(&place.aside(OLD)))?;
    for (path, replaced) in &record.files {
        if replaced.old.is_none()
            && let Ok(place) = home.place(path, None)
        {
            place.remove_target()?;
            places.push(place);
        }
    }
    Ok(places)
}
