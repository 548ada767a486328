//! Room on the disk of the data directory.
//!
//! Content (fleet directories, packs, what lies on hosts) is refused before anything of it is written unless a reserve
//! stays free afterwards. The reserve is for what must be stored all the same: events, reports, steps, a rollback. Other
//! programs may use it up; a write that fails is the store's matter.

use std::{collections::BTreeMap, io, path::PathBuf};

use fleet::ids::Digest;

use crate::{
    coordinator::Coordinator,
    store::{CommitError, blobs, revisions},
};

/// A page that changes is written beside the old one, and a few pages above it too.
const BYTES_PER_BYTE: u64 = 2;

/// The disk that the data directory lies on.
pub struct Disk {
    /// The data directory.
    pub dir: PathBuf,
    /// So many bytes stay free.
    pub reserve: u64,
}

/// Less room than is needed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the coordinator's disk has no room for that: it needs {needed} bytes and a reserve of {reserve} \
     (`limits.disk_reserve`), and {free} are free in {}; nothing was stored", dir.display()
)]
pub struct NoRoom {
    needed: u64,
    reserve: u64,
    free: u64,
    dir: PathBuf,
}

/// Why records cannot be kept, or soon cannot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreTrouble {
    /// The last commit failed.
    CannotCommit {
        /// An error and its causes.
        why: String,
    },
    /// Less than the reserve is free.
    LowRoom {
        /// Bytes.
        free: u64,
        /// Bytes.
        reserve: u64,
    },
}

impl Disk {
    /// Whether so many bytes of content may be written.
    ///
    /// # Errors
    /// The reserve would not stay free.
    pub(crate) fn check(&self, bytes: u64) -> Result<(), NoRoom> {
        let free = match self.free() {
            Ok(free) => free,
            Err(error) => {
                // The store itself notices a disk that is not there.
                tracing::warn!(%error, dir = %self.dir.display(), "Cannot ask how much room the disk has");
                return Ok(());
            }
        };
        let needed = bytes.saturating_mul(BYTES_PER_BYTE);
        if free < needed.saturating_add(self.reserve) {
            return Err(NoRoom { needed, reserve: self.reserve, free, dir: self.dir.clone() });
        }
        Ok(())
    }

    /// Whether the reserve is free now.
    pub fn trouble(&self) -> Option<StoreTrouble> {
        let (free, reserve) = (self.free().ok()?, self.reserve);
        (free < reserve).then_some(StoreTrouble::LowRoom { free, reserve })
    }

    /// Bytes that are free; `None` if that cannot be asked.
    pub fn room(&self) -> Option<u64> {
        self.free().ok()
    }

    #[cfg(unix)]
    fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&self.dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    #[cfg(not(unix))]
    fn free(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Coordinator {
    /// Stores content that is not there yet, if the disk has room for all of it; all of it is durable on return.
    ///
    /// # Errors
    /// There is no room, and nothing was written; or the store failed, and some of it may be there, which does no harm.
    pub(crate) async fn keep_content(&self, contents: &BTreeMap<Digest, &[u8]>) -> Result<(), CommitError> {
        let missing = blobs::missing(&*self.store, contents).await.map_err(CommitError::Refused)?;
        let bytes: usize = missing.values().map(|content| content.len()).sum();
        if bytes != 0 {
            self.disk.check(bytes as u64)?;
        }
        blobs::put_all(&*self.store, &missing).await
    }

    /// Stores what is missing of the parts of a revision, likewise.
    pub(crate) async fn keep_parts(&self, parts: BTreeMap<Digest, Vec<u8>>) -> Result<(), CommitError> {
        let missing = revisions::missing_parts(&*self.store, parts).await.map_err(CommitError::Refused)?;
        let bytes: usize = missing.values().map(Vec::len).sum();
        if bytes != 0 {
            self.disk.check(bytes as u64)?;
        }
        revisions::put_parts(&*self.store, missing).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_refused_with_the_figures_when_the_reserve_would_not_stay_free() {
        let dir = tempfile::tempdir().unwrap();
        let disk = |reserve| Disk { dir: dir.path().to_owned(), reserve };
        disk(1).check(1_000).unwrap();
        assert_eq!(disk(1).trouble(), None);
        let refused = disk(u64::MAX).check(1_000).unwrap_err();
        assert_eq!((refused.needed, refused.reserve), (2_000, u64::MAX));
        assert!(0 < refused.free && refused.to_string().contains(&refused.free.to_string()), "{refused}");
        assert!(matches!(disk(u64::MAX).trouble(), Some(StoreTrouble::LowRoom { .. })));
        // A disk that cannot be asked stops nobody; writing to it fails by itself.
        let gone = Disk { dir: dir.path().join("gone"), reserve: u64::MAX };
        gone.check(1).unwrap();
    }
}
