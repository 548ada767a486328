//! One home's directory, and the only way to the files in it: component by component, never through a symlink, so
//! that no path in a bundle and no link on disk leads out of the home.
//!
//! Reads are bounded in size and time, and only regular files are read: opening never waits for whoever is at the other
//! end of a pipe. [`open_named`] is the same for the few files that are named by a whole path.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use fleet::{bundle::HomePath, host::OtherKind, time::Timestamp};

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix::open_without_waiting;
#[cfg(unix)]
pub use unix::{Home, Place, facts_of};

#[cfg(not(unix))]
mod windows;
#[cfg(not(unix))]
use windows::open_without_waiting;
#[cfg(not(unix))]
pub use windows::{Home, Place, facts_of};

#[cfg(test)]
#[cfg(target_os = "linux")]
mod race_tests;

/// Why a file cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something on the way or at the end is not safe to replace.
    #[error("{path} {why}; {}", why.remedy())]
    Unsafe {
        /// Below home.
        path: String,
        /// What it is.
        why: OtherKind,
    },
    /// More than is ever read of such a file.
    #[error("{path} has more than {bytes_max} bytes")]
    TooLarge {
        /// Below home.
        path: String,
        /// What would be read.
        bytes_max: u64,
    },
    /// More names than are ever looked at in such a directory.
    #[error("{path} holds more than {entries_max} names")]
    TooMany {
        /// Below home.
        path: String,
        /// What would be listed.
        entries_max: usize,
    },
    /// The file system delivers too slowly.
    #[error("{path} could not be read within {} s", READ_TIME.as_secs())]
    Slow {
        /// Below home.
        path: String,
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
            PlaceError::Unsafe { .. }
            | PlaceError::TooLarge { .. }
            | PlaceError::TooMany { .. }
            | PlaceError::Slow { .. } => false,
        }
    }

    /// The file, or a directory on its way, is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, PlaceError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// A file of a few megabytes on a slow disk takes a second or two.
const READ_TIME: Duration = Duration::from_secs(10);
const CHUNK: usize = 64 * 1024;

/// A regular file as it was read.
pub struct Content {
    /// All of it.
    pub bytes: Vec<u8>,
    /// What the file was when it was opened.
    pub facts: Facts,
}

/// Without the content, which may be a secret.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its last part.
    pub name: String,
    /// A directory itself, not a link to one.
    pub is_dir: bool,
}

impl Home {
    /// Reads a regular file; `None` if it or a directory on its way is not there.
    ///
    /// # Errors
    /// It is something else, larger than `bytes_max`, too slow, or the file system refuses.
    pub fn read(&self, path: &HomePath, bytes_max: u64) -> Result<Option<Content>, PlaceError> {
        match self.place(path, None).and_then(|place| place.read(bytes_max)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Place {
    /// Reads the target.
    ///
    /// # Errors
    /// As [`Home::read`]; a file that is not there is an error as well.
    pub fn read(&self, bytes_max: u64) -> Result<Content, PlaceError> {
        let mut bytes = Vec::new();
        let facts = self.each_chunk(bytes_max, |chunk| bytes.extend_from_slice(chunk))?;
        Ok(Content { bytes, facts })
    }

    /// Gives the target's content to `take`, piece by piece.
    ///
    /// # Errors
    /// As [`Place::read`]; `take` may have been given a part by then.
    pub fn each_chunk(&self, bytes_max: u64, take: impl FnMut(&[u8])) -> Result<Facts, PlaceError> {
        let (file, facts) = self.open()?;
        chunks(self.path(), file, bytes_max, take)?;
        Ok(facts)
    }

    /// Reads what lies beside the target under `name`; `None` if nothing does.
    ///
    /// # Errors
    /// As [`Place::read`].
    pub fn read_aside(&self, name: &OsStr, bytes_max: u64) -> Result<Option<Vec<u8>>, PlaceError> {
        let Some(file) = self.open_aside(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        chunks(self.path(), file, bytes_max, |chunk| bytes.extend_from_slice(chunk))?;
        Ok(Some(bytes))
    }
}

fn chunks(
    path: &HomePath,
    mut file: File,
    bytes_max: u64,
    mut take: impl FnMut(&[u8]),
) -> Result<(), PlaceError> {
    let deadline = Instant::now() + READ_TIME;
    let (mut buffer, mut total) = (vec![0; CHUNK], 0);
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(PlaceError::Io { what: "read", path: path.to_string(), source }),
        };
        total += read as u64;
        if bytes_max < total {
            return Err(PlaceError::TooLarge { path: path.to_string(), bytes_max });
        }
        take(&buffer[..read]);
        if deadline < Instant::now() {
            return Err(PlaceError::Slow { path: path.to_string() });
        }
    }
}

/// Whether the last part of a whole path may be a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastPart {
    /// Named by the host's owner, such as `/etc/pki/java/cacerts`.
    MayBeLink,
    /// In a directory that the server's user can write.
    IsNoLink,
}

/// Opens a regular file by its whole path; directories on its way may be links. Never waits for a pipe, and never opens
/// a device.
///
/// # Errors
/// It is something else, or the file system refuses.
pub fn open_named(path: &Path, last: LastPart) -> io::Result<File> {
    let found = match last {
        LastPart::MayBeLink => std::fs::metadata(path)?,
        LastPart::IsNoLink => std::fs::symlink_metadata(path)?,
    };
    let irregular = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
    if !found.is_file() {
        return Err(irregular());
    }
    // It may have been replaced in between, so it is looked at again once it is open.
    let file = open_without_waiting(path, last)?;
    if !file.metadata()?.is_file() {
        return Err(irregular());
    }
    Ok(file)
}

/// Reads at most `bytes_max` bytes of a regular file by its whole path.
///
/// # Errors
/// As [`open_named`].
pub fn read_named(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_named(path, LastPart::MayBeLink)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Owner to give to new files, if it is not the agent's own user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What is known of a file or directory without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Permission bits; `None` where the platform has none.
    pub mode: Option<u32>,
    /// Owner; `None` where the platform does not tell.
    pub owner: Option<Owner>,
    /// Bytes.
    pub size: u64,
    /// Differs whenever the file was touched, as far as the platform can tell: number, times of change.
    pub signature: (u64, i128, i128),
}

impl Facts {
    /// When the content was last changed.
    pub fn modified(&self) -> Timestamp {
        Timestamp(i64::try_from(self.signature.1 / 1_000_000).unwrap_or(0))
    }

    /// Whether the last change was longer than `ago` before `now`. Not so for one in the future: then the clock was set.
    pub fn changed_before(&self, now: SystemTime, ago: Duration) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let limit = i128::try_from(now.saturating_sub(ago.as_nanos())).unwrap_or(i128::MAX);
        self.signature.1.max(self.signature.2) < limit
    }
}

/// A hidden name beside `name`, for `purpose`; the same for the same name, so a crash leaves at most one.
fn aside(name: &OsStr, purpose: &str) -> OsString {
    let digest = fleet::ids::Digest::of(name.as_encoded_bytes()).short();
    OsString::from(format!(".convoy-{digest}.{purpose}"))
}
