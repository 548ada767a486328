//! New content beside its target: written, owned, permitted, synced, under a hidden name.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read as _, Write as _},
};

use fleet::{
    bundle::{Bundle, FILE_SIZE_MAX, FileEntry, HomePath},
    ids::Digest,
    node::StagedFacts,
    spec::canonical,
};
use rustix::fs::{Mode, OFlags, Stat};

use super::place::{Home, Owner, Place, PlaceError, chown};
use crate::cache::Cache;

/// The purpose in a staged name.
pub const NEW: &str = "new";
/// The purpose in the name of what a switch replaces, until it is over.
pub const OLD: &str = "old";

/// What is staged and waits for its switch.
#[derive(Debug, Default)]
pub struct Staged {
    /// Files whose new content lies beside them.
    pub changed: BTreeSet<HomePath>,
    /// What was seen on the way.
    pub facts: StagedFacts,
}

/// Stages every file of `bundle` that is not in force already. Nothing that is in force is touched.
///
/// # Errors
/// The first file that cannot be staged; what was staged before it is removed by the next staging.
pub fn stage(
    home: &Home,
    cache: &Cache,
    bundle: &Bundle,
    owner: Option<Owner>,
) -> Result<Staged, PlaceError> {
    let mut staged = Staged::default();
    for (path, entry) in &bundle.files {
        let content = cache.read(&entry.digest).map_err(|source| PlaceError::Io {
            what: "read the content kept for",
            path: path.to_string(),
            source,
        })?;
        let place = home.place(path, Some(owner))?;
        place.remove(&place.aside(NEW))?;
        place.remove(&place.aside(OLD))?;
        let stat = place.stat()?;
        let disk = match stat {
            Some(stat) => read_bounded(&place, &stat)?,
            None => None,
        };
        let is_config = *path == bundle.service.config_path;
        let content = if is_config { carried(content, disk.as_deref(), bundle) } else { content };
        if !means_the_same(is_config, &content, disk.as_deref()) {
            staged.facts.differing.push(path.clone());
        }
        let same = disk.as_deref() == Some(content.as_slice());
        if same && stat.is_some_and(|stat| fits(&stat, entry, owner)) {
            continue;
        }
        write_beside(&place, entry, &content, owner)?;
        staged.changed.insert(path.clone());
    }
    Ok(staged)
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
    let flags = OFlags::WRONLY
        .union(OFlags::CREATE)
        .union(OFlags::EXCL)
        .union(OFlags::NOFOLLOW)
        .union(OFlags::CLOEXEC);
    let name = place.aside(NEW);
    // Born 0600 and given its owner before it holds anything, so a secret is never readable by others.
    let fd = rustix::fs::openat(&place.dir, &name, flags, Mode::from_raw_mode(0o600))
        .map_err(|error| place.error("write beside", error))?;
    if let Some(owner) = owner {
        chown(&fd, owner).map_err(failed("give away the new"))?;
    }
    let mut file = File::from(fd);
    file.write_all(content).map_err(failed("write beside"))?;
    let mode = Mode::from_raw_mode(entry.mode);
    rustix::fs::fchmod(&file, mode).map_err(|error| place.error("set the mode of the new", error))?;
    file.sync_all().map_err(failed("sync the new"))
}

/// The desired deployment.toml with what the product itself has written into the one on disk; see
/// `fleet::spec::canonical::carry_owned`.
pub fn carried(content: Vec<u8>, disk: Option<&[u8]>, bundle: &Bundle) -> Vec<u8> {
    let texts =
        disk.and_then(|disk| Some((std::str::from_utf8(&content).ok()?, std::str::from_utf8(disk).ok()?)));
    match texts {
        Some((desired, disk)) => {
            canonical::carry_owned(desired, disk, &bundle.service.owned_keys).into_bytes()
        }
        None => content,
    }
}

fn means_the_same(is_config: bool, content: &[u8], disk: Option<&[u8]>) -> bool {
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
pub fn fits(stat: &Stat, entry: &FileEntry, owner: Option<Owner>) -> bool {
    stat.st_mode & 0o7777 == entry.mode
        && owner.is_none_or(|owner| owner.uid == stat.st_uid && owner.gid == stat.st_gid)
}

/// The target's content; `None` if it is larger than any desired content may be.
///
/// # Errors
/// Whatever the file system says.
pub fn read_bounded(place: &Place, stat: &Stat) -> Result<Option<Vec<u8>>, PlaceError> {
    if FILE_SIZE_MAX < u64::try_from(stat.st_size).unwrap_or(u64::MAX) {
        return Ok(None);
    }
    let mut content = Vec::new();
    place.open()?.take(FILE_SIZE_MAX + 1).read_to_end(&mut content).map_err(|source| PlaceError::Io {
        what: "read",
        path: place.path().to_string(),
        source,
    })?;
    Ok(Some(content))
}

/// The digest of what is on disk.
pub fn digest_of(content: Option<&[u8]>) -> Option<Digest> {
    content.map(Digest::of)
}
