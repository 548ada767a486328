//! What must survive the store: how far it had come, and what was revoked.
//!
//! `witness.toml` lies beside the store and is not part of it, so a store that was restored from an older copy is
//! noticed, and a join token that was used or a certificate that was revoked since that copy stays worthless.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use fleet::{
    ids::{Digest, FleetEpoch},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use tracing::{error, warn};

use crate::{
    coordinator::Coordinator,
    private,
    rpc::chain,
    store::{CommitError, Store, Transaction, Version},
};

/// How often it is noted how far the store has come.
const EVERY: Duration = Duration::from_secs(60);

/// Something that stopped counting before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocable {
    /// A join token, by the hash of its secret.
    Token(Digest),
    /// A node's certificate, by its serial number.
    Certificate(String),
}

impl fmt::Display for Revocable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(hash) => write!(f, "token {hash}"),
            Self::Certificate(serial) => write!(f, "certificate {serial}"),
        }
    }
}

/// What was revoked, and when it would have ended anyway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revocation {
    /// What.
    pub what: Revocable,
    /// Not worth remembering after this.
    pub end: Timestamp,
}

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Of the store; empty in the file of a coordinator that never had one.
    epoch: String,
    /// The store had made so many.
    commits: Version,
    /// With the end of each, in ms since 1970.
    #[serde(default)]
    revoked: BTreeMap<String, i64>,
}

/// Why a store is not the one that this data directory had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// Restored from an older copy.
    #[error(
        "the store is older than the one that this data directory had: it has made {commits} commits, and {seen} were seen; \
         revocations since then would be undone. Restore a newer copy, or accept this one with \
         `convoy-coordinator --config FILE recover restored-store`"
    )]
    WentBack {
        /// By the store.
        commits: Version,
        /// By the witness.
        seen: Version,
    },
    /// Made anew, or brought from elsewhere.
    #[error(
        "the store is another than the one that this data directory had (epoch {epoch}, and {seen} was seen); agents obey only \
         {seen}. Restore that one, or accept this one with `convoy-coordinator --config FILE recover restored-store`"
    )]
    OtherStore {
        /// Of the store.
        epoch: FleetEpoch,
        /// By the witness.
        seen: String,
    },
}

/// Remembers beside the store.
pub struct Witness {
    path: PathBuf,
    record: Mutex<Record>,
}

impl Witness {
    /// Reads the file in a data directory; a missing one knows nothing.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("witness.toml");
        let record = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(io::Error::other)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(error),
        };
        Ok(Self { path, record: Mutex::new(record) })
    }

    /// The epoch of the store that it saw, if any.
    pub fn epoch(&self) -> Option<FleetEpoch> {
        FleetEpoch::from_hex(&self.lock().epoch)
    }

    /// Whether this can be the store that was here before.
    ///
    /// # Errors
    /// It cannot.
    pub fn check(&self, epoch: FleetEpoch, commits: Version) -> Result<(), Doubt> {
        let known = self.lock();
        if !known.epoch.is_empty() && known.epoch != epoch.to_string() {
            return Err(Doubt::OtherStore { epoch, seen: known.epoch.clone() });
        }
        if commits < known.commits {
            return Err(Doubt::WentBack { commits, seen: known.commits });
        }
        Ok(())
    }

    /// Notes how far the store has come.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn saw(&self, epoch: FleetEpoch, commits: Version) -> io::Result<()> {
        self.change(|record| {
            record.epoch = epoch.to_string();
            record.commits = commits;
        })
    }

    /// Notes what does not count any more, and forgets what has ended before `now`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn revoke(&self, revocations: &[Revocation], now: Timestamp) -> io::Result<()> {
        self.change(|record| {
            record.revoked.retain(|_, end| now.0 < *end);
            record.revoked.extend(revocations.iter().map(|one| (one.what.to_string(), one.end.0)));
        })
    }

    /// Whether it was revoked.
    pub fn is_revoked(&self, what: &Revocable) -> bool {
        self.lock().revoked.contains_key(&what.to_string())
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let mut record = self.lock();
        change(&mut record);
        private::write(&self.path, toml::to_string(&*record).map_err(io::Error::other)?.as_bytes())
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many commits a store has made; asking makes one more.
///
/// # Errors
/// The store does not commit.
pub async fn commits(store: &dyn Store) -> Result<Version, CommitError> {
    store.commit(Transaction::default()).await
}

impl Coordinator {
    /// Keeps revocations where a restore of the store does not undo them. The store has them already.
    pub(crate) async fn revoke(&self, revocations: Vec<Revocation>) {
        let (witness, now) = (self.witness.clone(), (self.clock)());
        let writing = crate::tasks::blocking(move || witness.revoke(&revocations, now)).await;
        if let Err(error) = writing.map_err(io::Error::other).and_then(|written| written) {
            error!(%error, "A revocation cannot be kept beside the store; restoring an older store would undo it");
        }
    }
}

/// Notes how far the store has come, until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    loop {
        match commits(&*coordinator.store).await {
            Ok(commits) => {
                let (witness, epoch) = (coordinator.witness.clone(), coordinator.epoch);
                let noting = crate::tasks::blocking(move || witness.saw(epoch, commits)).await;
                if let Err(error) = noting.map_err(io::Error::other).and_then(|noted| noted) {
                    warn!(%error, "Cannot note how far the store has come");
                }
            }
            Err(error) => warn!(error = chain(&error), "Cannot ask how far the store has come"),
        }
        if coordinator.stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = coordinator.stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revocations_and_the_stores_progress_are_remembered_until_they_do_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let epoch = FleetEpoch([7; 16]);
        let certificate = |serial: &str| Revocable::Certificate(serial.to_owned());
        let revocation = |serial, end| Revocation { what: certificate(serial), end: Timestamp(end) };
        let witness = Witness::open(dir.path()).unwrap();
        witness.check(epoch, 0).unwrap();
        witness.saw(epoch, 41).unwrap();
        witness.revoke(&[revocation("aa", 100), revocation("bb", 200)], Timestamp(50)).unwrap();

        let witness = Witness::open(dir.path()).unwrap();
        witness.check(epoch, 41).unwrap();
        assert_eq!(witness.check(epoch, 40), Err(Doubt::WentBack { commits: 40, seen: 41 }));
        let other = witness.check(FleetEpoch([8; 16]), 99).unwrap_err();
        assert!(matches!(other, Doubt::OtherStore { .. }), "{other}");
        assert_eq!(witness.epoch(), Some(epoch));
        assert!(witness.is_revoked(&certificate("aa")) && !witness.is_revoked(&certificate("cc")));
        witness.revoke(&[], Timestamp(150)).unwrap();
        assert!(!witness.is_revoked(&certificate("aa")) && witness.is_revoked(&certificate("bb")));
    }
}
