//! Comparing files with the bundle in force. A file whose directory entry has not changed since it was last read is
//! not read again.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    bundle::{Bundle, FileEntry, HomePath},
    drift::Found,
};
use rustix::fs::Stat;

use super::{
    place::{Home, Owner, PlaceError},
    stage::{digest_of, fits, read_bounded},
};
use crate::cache::Cache;

/// What tells that a file was not touched. The change time cannot be set back by ordinary means.
type Signature = (u64, i64, i64, i64, u32, u32, u32);

/// What is remembered of files that were as desired, or whose difference was read.
#[derive(Debug, Default)]
pub struct Scanner {
    seen: BTreeMap<HomePath, (Signature, Option<Found>)>,
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
        let stat = match place.stat() {
            Ok(Some(stat)) => stat,
            Ok(None) => return Ok(Some(Found::Missing)),
            Err(PlaceError::Unsafe { .. }) => return Ok(Some(Found::Content { texts: None })),
            Err(error) => return Err(error),
        };
        let signature = signature(&stat);
        if let Some((known, difference)) = self.seen.get(path)
            && *known == signature
        {
            return Ok(difference.clone());
        }
        let disk = read_bounded(&place, &stat)?;
        let difference = if digest_of(disk.as_deref()) == Some(entry.digest) {
            permission(&stat, entry, owner)
        } else {
            let is_config = *path == bundle.service.config_path;
            Some(Found::Content { texts: if is_config { texts(cache, entry, disk) } else { None } })
        };
        self.seen.insert(path.clone(), (signature, difference.clone()));
        Ok(difference)
    }
}

fn texts(cache: &Cache, entry: &FileEntry, disk: Option<Vec<u8>>) -> Option<(String, String)> {
    let desired = String::from_utf8(cache.read(&entry.digest).ok()?).ok()?;
    Some((desired, String::from_utf8(disk?).ok()?))
}

fn permission(stat: &Stat, entry: &FileEntry, owner: Option<Owner>) -> Option<Found> {
    if fits(stat, entry, owner) {
        return None;
    }
    let mode = stat.st_mode & 0o7777;
    if mode != entry.mode {
        return Some(Found::Mode { mode });
    }
    Some(Found::Owner { detail: format!("owner is {}:{}", stat.st_uid, stat.st_gid) })
}

fn signature(stat: &Stat) -> Signature {
    let nanos = |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos);
    let changed = nanos(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0));
    let modified = nanos(stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
    (stat.st_ino, stat.st_size, modified, changed, stat.st_mode, stat.st_uid, stat.st_gid)
}
