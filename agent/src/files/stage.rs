//! New content beside its target: written, owned, permitted, synced, under a hidden name.

use std::{collections::BTreeMap, io::Write as _};

use super::place::{Facts, Home, Owner, Place, PlaceError};
use crate::{cache::Cache, step::step};
use fleet::{
    bundle::{Bundle, FILE_SIZE_MAX, FileEntry, HomePath},
    drift::{self, Occasion},
    ids::Digest,
    node::{Replaced, StagedFacts},
    spec::canonical,
};

/// The purpose in a staged name.
pub const NEW: &str = "new";
/// The purpose in the name of what a switch replaces, until it is over.
pub const OLD: &str = "old";

/// What is staged and waits for its switch.
#[derive(Debug, Default)]
pub struct Staged {
    /// Files whose new content lies beside them.
    pub changed: BTreeMap<HomePath, Replaced>,
    /// What was seen on the way.
    pub facts: StagedFacts,
}

/// Stages every file of `bundle` that is not in force already. Nothing that is in force is touched. `before` is the
/// deployment.toml that was declared so far.
///
/// # Errors
/// The first file that cannot be staged; what was staged before it is for [`discard`].
pub fn stage(
    home: &Home,
    cache: &Cache,
    (bundle, before): (&Bundle, Option<&str>),
    owner: Option<Owner>,
) -> Result<Staged, PlaceError> {
    let mut staged = Staged::default();
    for (path, entry) in bundle.files.iter().filter(|(_, entry)| !entry.launch) {
        let content = cache.read(&entry.digest).map_err(|source| PlaceError::Io {
            what: "read the content kept for",
            path: path.to_string(),
            source,
        })?;
        let place = home.place(path, Some(owner))?;
        clear(&place)?;
        let facts = place.facts()?;
        let disk = match facts {
            Some(facts) => read_bounded(&place, &facts)?,
            None => None,
        };
        let is_config = *path == bundle.service.config_path;
        let over = Over { bundle, before, occasion: Occasion::Order };
        let content = if is_config { carried(content, disk.as_deref(), &over) } else { content };
        if !means_the_same(is_config, &content, disk.as_deref()) {
            staged.facts.differing.push(path.clone());
        }
        let same = disk.as_deref() == Some(content.as_slice());
        if same && facts.is_some_and(|facts| fits(&facts, entry, owner)) {
            continue;
        }
        write_beside(&place, entry, &content, owner)?;
        let old = facts.map(|_| Digest::of(disk.as_deref().unwrap_or_default()));
        staged.changed.insert(path.clone(), Replaced { old, new: Some(Digest::of(&content)) });
    }
    Ok(staged)
}

/// Removes what an earlier staging left beside a file.
///
/// # Errors
/// Whatever the file system says.
pub fn clear(place: &Place) -> Result<(), PlaceError> {
    place.remove(&place.aside(NEW))?;
    place.remove(&place.aside(OLD))
}

/// Removes what lies beside the files of `paths`: it may hold secrets. Directories that are not there hold nothing.
pub fn discard<'a>(home: &Home, paths: impl Iterator<Item = &'a HomePath>) {
    for path in paths {
        let removed = match home.place(path, None) {
            Ok(place) => clear(&place),
            Err(PlaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(%path, error = %crate::chain(&error), "Cannot remove what was staged beside a file");
        }
    }
}

/// Puts one file's new content beside it.
///
/// # Errors
/// Whatever the file system says.
pub fn write_beside(
    place: &Place,
    entry: &FileEntry,
    content: &[u8],
    owner: Option<Owner>,
) -> Result<(), PlaceError> {
    let failed = |what| move |source| PlaceError::Io { what, path: place.path().to_string(), source };
    let mut file = place.create(&place.aside(NEW), owner)?;
    step("write").and_then(|()| file.write_all(content)).map_err(failed("write beside"))?;
    place.set_mode(&file, entry.mode)?;
    step("sync file").and_then(|()| file.sync_all()).map_err(failed("sync the new"))
}

/// What a deployment.toml is written for.
pub struct Over<'a> {
    pub bundle: &'a Bundle,
    /// The declared text that the one on disk came from.
    pub before: Option<&'a str>,
    pub occasion: Occasion,
}

/// deployment.toml as `bundle` declares it. What lay there before the first apply was declared by nobody.
pub fn declared(bundle: &Bundle, cache: &Cache) -> Option<String> {
    let entry = bundle.files.get(&bundle.service.config_path).filter(|_| bundle.origin.is_none())?;
    String::from_utf8(cache.read(&entry.digest).ok()?).ok()
}

/// The desired deployment.toml with what stays of the one on disk; see [`drift::written_over`].
pub fn carried(content: Vec<u8>, disk: Option<&[u8]>, over: &Over<'_>) -> Vec<u8> {
    let texts =
        disk.and_then(|disk| Some((std::str::from_utf8(&content).ok()?, std::str::from_utf8(disk).ok()?)));
    match texts {
        Some((desired, disk)) => {
            drift::written_over(desired, disk, over.before, (over.bundle, over.occasion)).into_bytes()
        }
        None => content,
    }
}

/// Whether the server reads the same from both.
pub fn means_the_same(is_config: bool, content: &[u8], disk: Option<&[u8]>) -> bool {
    let Some(disk) = disk else { return false };
    if !is_config {
        return disk == content;
    }
    match (std::str::from_utf8(content), std::str::from_utf8(disk)) {
        (Ok(content), Ok(disk)) => canonical::meaning(content) == canonical::meaning(disk),
        _ => content == disk,
    }
}

/// Whether mode and owner are as they should be.
pub fn fits(facts: &Facts, entry: &FileEntry, owner: Option<Owner>) -> bool {
    let fits_mode = facts.mode.is_none_or(|mode| mode == entry.mode);
    let fits_owner = match (owner, facts.owner) {
        (Some(wanted), Some(owner)) => wanted == owner,
        _ => true,
    };
    fits_mode && fits_owner
}

/// The target's content; `None` if it is larger than any desired content may be.
///
/// # Errors
/// Whatever the file system says.
pub fn read_bounded(place: &Place, facts: &Facts) -> Result<Option<Vec<u8>>, PlaceError> {
    if FILE_SIZE_MAX < facts.size {
        return Ok(None);
    }
    match place.read(FILE_SIZE_MAX) {
        Ok(content) => Ok(Some(content.bytes)),
        // It has grown since it was looked at.
        Err(PlaceError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The digest of what is on disk.
pub fn digest_of(content: Option<&[u8]>) -> Option<Digest> {
    content.map(Digest::of)
}
