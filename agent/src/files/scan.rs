//! Comparing files with the bundle in force. A file whose directory entry has not changed since it was last read is
//! not read again.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    place::{Facts, Home, Owner, PlaceError},
    stage::{digest_of, fits, read_bounded},
};
use crate::cache::Cache;
use fleet::{
    bundle::{Bundle, FileEntry, HomePath},
    drift::Found,
};

/// What is remembered of files that were as desired, or whose difference was read.
#[derive(Debug, Default)]
pub struct Scanner {
    /// Facts hold the change time, which cannot be set back by ordinary means.
    seen: BTreeMap<HomePath, (Facts, Option<Found>)>,
}

impl Scanner {
    /// Forgets everything: other files are desired.
    pub fn reset(&mut self) {
        self.seen.clear();
    }

    /// Looks at `paths`, or at every file of the bundle.
    pub fn scan(
        &mut self,
        home: &Home,
        cache: &Cache,
        (bundle, owner): (&Bundle, Option<Owner>),
        paths: Option<&BTreeSet<HomePath>>,
    ) -> (BTreeSet<HomePath>, BTreeMap<HomePath, Found>) {
        let (mut looked, mut found) = (BTreeSet::new(), BTreeMap::new());
        for (path, entry) in &bundle.files {
            if paths.is_some_and(|paths| !paths.contains(path)) {
                continue;
            }
            match self.look(home, cache, (bundle, owner), (path, entry)) {
                Ok(difference) => {
                    looked.insert(path.clone());
                    if let Some(difference) = difference {
                        found.insert(path.clone(), difference);
                    }
                }
                // Not seen is not the same as different; the next scan looks again.
                Err(error) => tracing::warn!(%path, error = %crate::chain(&error), "Cannot look at a file"),
            }
        }
        (looked, found)
    }

    fn look(
        &mut self,
        home: &Home,
        cache: &Cache,
        (bundle, owner): (&Bundle, Option<Owner>),
        (path, entry): (&HomePath, &FileEntry),
    ) -> Result<Option<Found>, PlaceError> {
        let place = match home.place(path, None) {
            Ok(place) => place,
            Err(PlaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Some(Found::Missing));
            }
            Err(PlaceError::Unsafe { .. }) => return Ok(Some(Found::Content { texts: None })),
            Err(error) => return Err(error),
        };
        let facts = match place.facts() {
            Ok(Some(facts)) => facts,
            Ok(None) => return Ok(Some(Found::Missing)),
            Err(PlaceError::Unsafe { .. }) => return Ok(Some(Found::Content { texts: None })),
            Err(error) => return Err(error),
        };
        if let Some((known, difference)) = self.seen.get(path)
            && *known == facts
        {
            return Ok(difference.clone());
        }
        let disk = read_bounded(&place, &facts)?;
        let difference = if digest_of(disk.as_deref()) == Some(entry.digest) {
            permission(&facts, entry, owner)
        } else {
            let is_config = *path == bundle.service.config_path;
            Some(Found::Content { texts: if is_config { texts(cache, entry, disk) } else { None } })
        };
        self.seen.insert(path.clone(), (facts, difference.clone()));
        Ok(difference)
    }
}

fn texts(cache: &Cache, entry: &FileEntry, disk: Option<Vec<u8>>) -> Option<(String, String)> {
    let desired = String::from_utf8(cache.read(&entry.digest).ok()?).ok()?;
    Some((desired, String::from_utf8(disk?).ok()?))
}

fn permission(facts: &Facts, entry: &FileEntry, owner: Option<Owner>) -> Option<Found> {
    if fits(facts, entry, owner) {
        return None;
    }
    match (facts.mode, facts.owner) {
        (Some(mode), _) if mode != entry.mode => Some(Found::Mode { mode }),
        (_, Some(owner)) => Some(Found::Owner { detail: format!("owner is {}:{}", owner.uid, owner.gid) }),
        _ => None,
    }
}
