//! From the old files to the staged ones by renames: all, or none after they are undone. A crash in between is
//! finished by staging and switching again, which the journal's intent asks for.

use std::{collections::BTreeSet, io::ErrorKind};

use fleet::bundle::HomePath;

use super::{
    place::{Home, Place, PlaceError},
    stage::{NEW, OLD},
};

/// Puts the staged content of `changed` in force, durable on return.
///
/// # Errors
/// The first rename or sync that failed; everything before it was undone. Should undoing fail as well, the error says
/// so.
pub fn switch(home: &Home, changed: &BTreeSet<HomePath>) -> Result<(), SwitchError> {
    let places: Vec<Place> =
        changed.iter().map(|path| home.place(path, None)).collect::<Result<_, _>>().map_err(whole)?;
    for place in &places {
        keep_old(place).map_err(whole)?;
    }
    let mut done = 0;
    let result = places.iter().try_for_each(|place| {
        done += 1;
        put_in_force(place)
    });
    let result = result.and_then(|()| places.iter().try_for_each(Place::sync));
    if let Err(cause) = result {
        let undone =
            places[..done].iter().try_for_each(undo).and_then(|()| places.iter().try_for_each(Place::sync));
        return Err(SwitchError { cause, undone: undone.is_ok() });
    }
    for place in &places {
        // The old names serve no more; one that stays is removed by the next staging.
        if let Err(error) = place.remove(&place.aside(OLD)) {
            tracing::debug!(%error, "Left an old file aside");
        }
    }
    Ok(())
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

/// A second name for what is about to be replaced: undoing needs no space and no copy.
fn keep_old(place: &Place) -> Result<(), PlaceError> {
    let old = place.aside(OLD);
    place.remove(&old)?;
    place.link_aside(&old)
}

fn put_in_force(place: &Place) -> Result<(), PlaceError> {
    place.replace_by(&place.aside(NEW))
}

fn undo(place: &Place) -> Result<(), PlaceError> {
    match place.replace_by(&place.aside(OLD)) {
        // There was no file before; the new one, if it got there, goes again.
        Err(PlaceError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => place.remove_target(),
        result => result,
    }
}
