//! One home's directory, and the only way to the files in it: component by component, never through a symlink, so
//! that no path in a bundle and no link on disk leads out of the home.

use std::{
    ffi::{OsStr, OsString},
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use fleet::{host::OtherKind, time::Timestamp};

#[cfg(unix)]
mod unix;
#[cfg(unix)]
pub use unix::{Home, Place};

#[cfg(not(unix))]
mod windows;
#[cfg(not(unix))]
pub use windows::{Home, Place};

/// Why a file cannot be managed.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Something on the way or at the end is not safe to replace.
    #[error("{path} {why}")]
    Unsafe {
        /// Below home.
        path: String,
        /// What it is.
        why: OtherKind,
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
