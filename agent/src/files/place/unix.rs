//! Unix: directories are held open and names are looked up in them, so nothing can be moved underneath.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use fleet::{bundle::HomePath, host::OtherKind};
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

use super::{Entry, Facts, LastPart, Owner, PlaceError};
use crate::step::step;

/// An open home.
#[derive(Debug)]
pub struct Home {
    fd: OwnedFd,
    path: PathBuf,
}

/// An open parent directory and a name in it.
#[derive(Debug)]
pub struct Place {
    dir: OwnedFd,
    name: OsString,
    path: HomePath,
}

/// Without a link at the end, and without waiting for the other end of a pipe.
const READING: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);
const DIRECTORY: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Home {
    /// Opens a home. The home itself may lie behind symlinks: it is named by the host's owner.
    ///
    /// # Errors
    /// It is not there or not a directory.
    pub fn open(path: &str) -> Result<Self, PlaceError> {
        let flags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
        let fd =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| io_error("open", path, error))?;
        Ok(Self { fd, path: PathBuf::from(path) })
    }

    /// As it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Facts of the home directory itself.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn facts(&self) -> Result<Facts, PlaceError> {
        let path = self.path.display().to_string();
        rustix::fs::fstat(&self.fd)
            .map(|stat| facts(&stat))
            .map_err(|error| io_error("look at", &path, error))
    }

    /// Bytes that an ordinary user may still write.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn free(&self) -> Result<u64, PlaceError> {
        let path = self.path.display().to_string();
        let stat =
            rustix::fs::fstatvfs(&self.fd).map_err(|error| io_error("look at the disk of", &path, error))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Walks to a path's parent. Missing directories are made if `owner` is given, and an error otherwise.
    ///
    /// # Errors
    /// A part is a symlink or not a directory, or the file system refuses.
    pub fn place(&self, path: &HomePath, make: Option<Option<Owner>>) -> Result<Place, PlaceError> {
        let mut dir = self.fd.try_clone().map_err(|source| PlaceError::Io {
            what: "open",
            path: self.path.display().to_string(),
            source,
        })?;
        let mut parts: Vec<&str> = path.as_str().split('/').collect();
        let name = parts.pop().unwrap_or_default();
        for part in parts {
            dir = match rustix::fs::openat(&dir, part, DIRECTORY, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => match make {
                    Some(owner) => make_dir(&dir, part, owner, path)?,
                    None => return Err(io_error("open the directory of", path.as_str(), Errno::NOENT)),
                },
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(PlaceError::Unsafe { path: path.to_string(), why: OtherKind::BehindLink });
                }
                Err(error) => return Err(io_error("open the directory of", path.as_str(), error)),
            };
        }
        Ok(Place { dir, name: OsString::from(name), path: path.clone() })
    }

    /// Names in a directory below home, in no order; none if it is not there.
    ///
    /// # Errors
    /// It, or a directory on its way, is a link or no directory; it holds more than `entries_max` names; or the file
    /// system refuses.
    pub fn list(&self, path: &HomePath, entries_max: usize) -> Result<Vec<Entry>, PlaceError> {
        let place = match self.place(path, None) {
            Ok(place) => place,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let failed = |error| io_error("list", path.as_str(), error);
        let dir = match rustix::fs::openat(&place.dir, &place.name, DIRECTORY, Mode::empty()) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(place.unsafe_target(OtherKind::BehindLink)),
            Err(error) => return Err(failed(error)),
        };
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == entries_max {
                return Err(PlaceError::TooMany { path: path.to_string(), entries_max });
            }
            let is_dir = match entry.file_type() {
                FileType::Directory => true,
                FileType::Unknown => {
                    let stat = rustix::fs::statat(&dir, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW);
                    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
                }
                _ => false,
            };
            entries.push(Entry { name, is_dir });
        }
        Ok(entries)
    }
}

/// What can be read, given how it was found. Only regular files can.
fn obstacle(stat: &Stat) -> Option<OtherKind> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => None,
        FileType::Symlink => Some(OtherKind::Symlink),
        FileType::Directory => Some(OtherKind::Directory),
        FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Some(OtherKind::Special),
    }
}

/// See [`super::open_named`].
pub(super) fn open_without_waiting(path: &Path, last: LastPart) -> io::Result<File> {
    let flags = match last {
        LastPart::MayBeLink => READING.difference(OFlags::NOFOLLOW),
        LastPart::IsNoLink => READING,
    };
    Ok(rustix::fs::open(path, flags, Mode::empty()).map(File::from)?)
}

/// What an open file is.
///
/// # Errors
/// Whatever the file system says.
pub fn facts_of(file: &File) -> io::Result<Facts> {
    Ok(facts(&rustix::fs::fstat(file)?))
}

fn make_dir(dir: &OwnedFd, part: &str, owner: Option<Owner>, path: &HomePath) -> Result<OwnedFd, PlaceError> {
    let failed = |error| io_error("make the directory of", path.as_str(), error);
    match rustix::fs::mkdirat(dir, part, mode_of(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(failed(error)),
    }
    let made = rustix::fs::openat(dir, part, DIRECTORY, Mode::empty()).map_err(failed)?;
    if let Some(owner) = owner {
        chown(&made, owner).map_err(|source| PlaceError::Io {
            what: "give away the directory of",
            path: path.to_string(),
            source,
        })?;
    }
    rustix::fs::fsync(dir).map_err(failed)?;
    Ok(made)
}

/// Gives an open file to its owner.
fn chown(fd: impl std::os::fd::AsFd, owner: Owner) -> io::Result<()> {
    std::os::unix::fs::fchown(fd, Some(owner.uid), Some(owner.gid))
}

fn io_error(what: &'static str, path: &str, error: Errno) -> PlaceError {
    PlaceError::Io { what, path: path.to_owned(), source: error.into() }
}

impl Place {
    /// The path below home.
    pub fn path(&self) -> &HomePath {
        &self.path
    }

    fn error(&self, what: &'static str, error: Errno) -> PlaceError {
        io_error(what, self.path.as_str(), error)
    }

    fn step(&self, what: &'static str) -> Result<(), PlaceError> {
        step(what).map_err(|source| PlaceError::Io { what, path: self.path.to_string(), source })
    }

    fn unsafe_target(&self, why: OtherKind) -> PlaceError {
        PlaceError::Unsafe { path: self.path.to_string(), why }
    }

    /// A name beside the target, if it is there.
    ///
    /// # Errors
    /// It is no regular file, or the file system refuses.
    pub fn open_aside(&self, name: &OsStr) -> Result<Option<File>, PlaceError> {
        match self.open_name(name) {
            Ok((file, _)) => Ok(Some(file)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open_name(&self, name: &OsStr) -> Result<(File, Facts), PlaceError> {
        let fd = match rustix::fs::openat(&self.dir, name, READING, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::LOOP) => return Err(self.unsafe_target(OtherKind::Symlink)),
            // A socket, or a device without a driver.
            Err(Errno::NXIO) => return Err(self.unsafe_target(OtherKind::Special)),
            Err(error) => return Err(self.error("read", error)),
        };
        // Only now is it known what was opened: the name may have been given to something else since the last look.
        let stat = rustix::fs::fstat(&fd).map_err(|error| self.error("look at", error))?;
        match obstacle(&stat) {
            None => Ok((File::from(fd), facts(&stat))),
            Some(why) => Err(self.unsafe_target(why)),
        }
    }

    /// A hidden name in the same directory, for `purpose`.
    pub fn aside(&self, purpose: &str) -> OsString {
        super::aside(&self.name, purpose)
    }

    /// Facts of the target, `None` if there is none. Only a regular file on the same file system can be replaced.
    ///
    /// # Errors
    /// It is something else, or the file system refuses.
    pub fn facts(&self) -> Result<Option<Facts>, PlaceError> {
        let stat = match rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.error("look at", error)),
        };
        if let Some(why) = obstacle(&stat) {
            return Err(self.unsafe_target(why));
        }
        let dir = rustix::fs::fstat(&self.dir).map_err(|error| self.error("look at", error))?;
        if dir.st_dev != stat.st_dev || self.is_mount_root() {
            return Err(self.unsafe_target(OtherKind::Mount));
        }
        Ok(Some(facts(&stat)))
    }

    /// Whether something is mounted on the target; a file of the same file system can be, and keeps its number then.
    #[cfg(target_os = "linux")]
    fn is_mount_root(&self) -> bool {
        use rustix::fs::{StatxAttributes, StatxFlags};
        let seen = rustix::fs::statx(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE);
        seen.is_ok_and(|seen| {
            let known = StatxAttributes::MOUNT_ROOT.intersection(seen.stx_attributes_mask);
            seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) && !known.is_empty()
        })
    }

    #[cfg(not(target_os = "linux"))]
    fn is_mount_root(&self) -> bool {
        false
    }

    /// Opens the target for reading, and says what it opened.
    ///
    /// # Errors
    /// It is no regular file, or the file system refuses.
    pub fn open(&self) -> Result<(File, Facts), PlaceError> {
        self.open_name(&self.name)
    }

    /// Removes a name beside the target; no error if it is not there.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(&self, name: &OsStr) -> Result<(), PlaceError> {
        self.step("remove")?;
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error("remove a leftover beside", error)),
        }
    }

    /// Makes the names of the directory durable.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn sync(&self) -> Result<(), PlaceError> {
        self.step("sync directory")?;
        rustix::fs::fsync(self.dir.as_fd()).map_err(|error| self.error("sync the directory of", error))
    }

    /// A new file beside the target, for writing. Born 0600 and given its owner before it holds anything, so a secret
    /// is never readable by others.
    ///
    /// # Errors
    /// Whatever the file system says; a name that is taken is an error.
    pub fn create(&self, name: &OsStr, owner: Option<Owner>) -> Result<File, PlaceError> {
        let flags = OFlags::WRONLY
            .union(OFlags::CREATE)
            .union(OFlags::EXCL)
            .union(OFlags::NOFOLLOW)
            .union(OFlags::CLOEXEC);
        self.step("create")?;
        let fd = rustix::fs::openat(&self.dir, name, flags, mode_of(0o600))
            .map_err(|error| self.error("write beside", error))?;
        if let Some(owner) = owner {
            chown(&fd, owner).map_err(|source| PlaceError::Io {
                what: "give away the new",
                path: self.path.to_string(),
                source,
            })?;
        }
        Ok(File::from(fd))
    }

    /// Sets the permission bits of an open file of this directory.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn set_mode(&self, file: &File, mode: u32) -> Result<(), PlaceError> {
        self.step("set mode")?;
        rustix::fs::fchmod(file, mode_of(mode)).map_err(|error| self.error("set the mode of the new", error))
    }

    /// A second name for the target: keeping it needs no space and no copy. No error if there is no target.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn link_aside(&self, name: &OsStr) -> Result<(), PlaceError> {
        self.step("link aside")?;
        match rustix::fs::linkat(&self.dir, &self.name, &self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.error("keep the old", error)),
        }
    }

    /// Puts `name` in the target's place.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn replace_by(&self, name: &OsStr) -> Result<(), PlaceError> {
        self.step("rename")?;
        rustix::fs::renameat(&self.dir, name, &self.dir, &self.name)
            .map_err(|error| self.error("replace", error))
    }

    /// Removes the target.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove_target(&self) -> Result<(), PlaceError> {
        self.remove(&self.name)
    }
}

#[allow(
    clippy::useless_conversion,
    clippy::cast_possible_truncation,
    reason = "16 bits on macOS, 32 on Linux"
)]
fn mode_of(mode: u32) -> Mode {
    Mode::from_raw_mode(mode as rustix::fs::RawMode)
}

#[allow(
    clippy::useless_conversion,
    clippy::unnecessary_fallible_conversions,
    reason = "widths differ between systems"
)]
fn facts(stat: &Stat) -> Facts {
    let nanos = |seconds: i128, nanos: i128| seconds * 1_000_000_000 + nanos;
    let modified = nanos(i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec));
    let changed = nanos(i128::from(stat.st_ctime), i128::from(stat.st_ctime_nsec));
    Facts {
        mode: Some(u32::from(stat.st_mode) & 0o7777),
        owner: Some(Owner { uid: stat.st_uid, gid: stat.st_gid }),
        size: u64::try_from(stat.st_size).unwrap_or(u64::MAX),
        signature: (stat.st_ino, modified, changed),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    fn place(home: &Path, path: &str) -> Result<Place, PlaceError> {
        Home::open(home.to_str().unwrap())?.place(&HomePath::parse(path).unwrap(), Some(None))
    }

    #[test]
    fn new_content_takes_the_place_of_the_old_and_the_old_can_come_back() {
        let home = tempfile::tempdir().unwrap();
        let place = place(home.path(), "repository/conf/a.toml").unwrap();
        assert_eq!(place.facts().unwrap(), None);
        let target = home.path().join("repository/conf/a.toml");
        fs::write(&target, "old").unwrap();
        let (new, old) = (place.aside("new"), place.aside("old"));
        let mut file = place.create(&new, None).unwrap();
        file.write_all(b"newer").unwrap();
        place.set_mode(&file, 0o640).unwrap();
        place.link_aside(&old).unwrap();
        place.replace_by(&new).unwrap();
        place.sync().unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "newer");
        let facts = place.facts().unwrap().unwrap();
        assert_eq!((facts.mode, facts.size), (Some(0o640), 5));
        place.replace_by(&old).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        assert_ne!(place.facts().unwrap().unwrap(), facts);
    }

    #[test]
    fn what_is_staged_is_nobody_elses_to_read_and_a_taken_name_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let place = place(home.path(), "a.toml").unwrap();
        let file = place.create(&place.aside("new"), None).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(place.create(&place.aside("new"), None).is_err());
        place.remove(&place.aside("new")).unwrap();
        place.remove(&place.aside("new")).unwrap();
    }

    #[test]
    fn a_symlink_is_neither_followed_nor_replaced() {
        let home = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), home.path().join("conf")).unwrap();
        assert!(matches!(place(home.path(), "conf/a.toml"), Err(PlaceError::Unsafe { .. })));
        symlink(outside.path().join("x"), home.path().join("b.toml")).unwrap();
        let target = place(home.path(), "b.toml").unwrap();
        assert!(matches!(target.facts(), Err(PlaceError::Unsafe { .. })));
        assert!(target.open().is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn keeping_the_old_is_no_error_where_there_is_none() {
        let home = tempfile::tempdir().unwrap();
        let place = place(home.path(), "a.toml").unwrap();
        place.link_aside(&place.aside("old")).unwrap();
        let missing = place.replace_by(&place.aside("old")).unwrap_err();
        let PlaceError::Io { source, .. } = missing else { panic!("{missing}") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        place.remove_target().unwrap();
    }
}
