//! One home's directory, and the only way to the files in it: component by component, never through a symlink, so
//! that no path in a bundle and no link on disk leads out of the home.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use fleet::bundle::HomePath;
use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, Stat},
    io::Errno,
};

/// Why a file cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something on the way or at the end is not safe to replace.
    #[error("{path} {why}")]
    Unsafe {
        /// Below home.
        path: String,
        /// What it is.
        why: &'static str,
    },
    /// The file system.
    #[error("cannot {what} {path}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Below home, or home.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl PlaceError {
    /// No space, no quota.
    pub fn is_disk_full(&self) -> bool {
        match self {
            PlaceError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            PlaceError::Unsafe { .. } => false,
        }
    }
}

/// An open home.
#[derive(Debug)]
pub struct Home {
    fd: OwnedFd,
    path: PathBuf,
}

/// An open parent directory and a name in it.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub dir: OwnedFd,
    /// The last part of the path.
    pub name: OsString,
    path: HomePath,
}

/// Owner to give to new files, if it is not the agent's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

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
    pub fn stat(&self) -> Result<Stat, PlaceError> {
        let path = self.path.display().to_string();
        rustix::fs::fstat(&self.fd).map_err(|error| io_error("look at", &path, error))
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
                    let why = "lies behind a symlink or something that is no directory";
                    return Err(PlaceError::Unsafe { path: path.to_string(), why });
                }
                Err(error) => return Err(io_error("open the directory of", path.as_str(), error)),
            };
        }
        Ok(Place { dir, name: OsString::from(name), path: path.clone() })
    }
}

fn make_dir(dir: &OwnedFd, part: &str, owner: Option<Owner>, path: &HomePath) -> Result<OwnedFd, PlaceError> {
    let failed = |error| io_error("make the directory of", path.as_str(), error);
    match rustix::fs::mkdirat(dir, part, Mode::from_raw_mode(0o755)) {
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
pub fn chown(fd: impl std::os::fd::AsFd, owner: Owner) -> io::Result<()> {
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

    /// An error about this place.
    pub fn error(&self, what: &'static str, error: Errno) -> PlaceError {
        io_error(what, self.path.as_str(), error)
    }

    /// A hidden name in the same directory, for `purpose`; the same for the same path, so a crash leaves at most one.
    pub fn aside(&self, purpose: &str) -> OsString {
        let digest = fleet::ids::Digest::of(self.name.as_encoded_bytes()).short();
        OsString::from(format!(".convoy-{digest}.{purpose}"))
    }

    /// Facts of the target, `None` if there is none. Only a regular file on the same file system can be replaced.
    ///
    /// # Errors
    /// It is something else, or the file system refuses.
    pub fn stat(&self) -> Result<Option<Stat>, PlaceError> {
        let unsafe_target = |why| PlaceError::Unsafe { path: self.path.to_string(), why };
        let stat = match rustix::fs::statat(&self.dir, &self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(self.error("look at", error)),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(unsafe_target("is a symlink")),
            FileType::Directory => return Err(unsafe_target("is a directory")),
            _ => return Err(unsafe_target("is not a regular file")),
        }
        let dir = rustix::fs::fstat(&self.dir).map_err(|error| self.error("look at", error))?;
        if dir.st_dev != stat.st_dev {
            return Err(unsafe_target("is mounted by itself and cannot be replaced as a whole"));
        }
        Ok(Some(stat))
    }

    /// Opens the target for reading.
    ///
    /// # Errors
    /// Whatever the file system says; a symlink is not followed.
    pub fn open(&self) -> Result<File, PlaceError> {
        let flags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
        rustix::fs::openat(&self.dir, &self.name, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| self.error("read", error))
    }

    /// Removes a name beside the target; no error if it is not there.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(&self, name: &OsStr) -> Result<(), PlaceError> {
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
        rustix::fs::fsync(self.dir.as_fd()).map_err(|error| self.error("sync the directory of", error))
    }
}
