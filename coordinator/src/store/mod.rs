//! The contract between the coordinator and whatever keeps its records (ADR 0002), and its engines.
//!
//! Seven verbs over text keys: [`Store::get`], [`Store::range`], [`Store::commit`] (a compare-and-swap transaction),
//! [`Store::watch`] (a hint to look again, never data), [`Store::feed`] (commits in their order, for a copy of some
//! records), [`Store::lease`] and [`Store::health`]. Nothing here knows what a record means; that is [`records`]. An engine promises: a commit is all or nothing and durable before it
//! answers; versions only grow; reads see every commit that was answered before they began.

pub mod blobs;
#[cfg(test)]
mod conformance;
mod embedded;
mod failing;
mod feed;
mod keys;
mod layer;
mod lease;
mod memory;
pub mod records;
pub mod revisions;
pub mod rollouts;
mod sealed;
mod watchers;

use std::{error::Error, time::Duration};

use bytes::Bytes;
use fleet::time::Timestamp;
use futures::future::BoxFuture;
use tokio::sync::watch;

pub use embedded::Embedded;
pub use failing::{Failing, Fault};
pub use feed::{Change, Commit, Feed, Newest, News};
pub use keys::Key;
pub use layer::Layer;
pub use lease::LeaseGrant;
pub use memory::Memory;
pub use sealed::Sealed;

use crate::disk::NoRoom;

/// One value is at most this large; an etcd request carries 1.5 MiB.
pub const VALUE_MAX: usize = 768 * 1024;
/// All values of one transaction together.
pub const TRANSACTION_BYTES_MAX: usize = 1024 * 1024;
/// Checks and writes of one transaction, each; etcd's default bound.
pub const TRANSACTION_WRITES_MAX: usize = 128;

/// When an entry was last written, in the store's own count of commits. 0 means the key is absent.
pub type Version = u64;

/// A stored value.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub key: Key,
    /// The commit that wrote it.
    pub version: Version,
    /// The wire encoding of a record.
    pub value: Bytes,
}

/// Values may be composed files, which hold secrets.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("key", &self.key)
            .field("version", &self.version)
            .field("bytes", &self.value.len())
            .finish()
    }
}

/// In which direction a range is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Some of the keys that start with a prefix.
#[derive(Debug, Clone)]
pub struct Range {
    /// What every key starts with.
    pub prefix: String,
    /// Only keys beyond this one, in the direction of `order`.
    pub after: Option<Key>,
    /// At most so many entries.
    pub most: usize,
    /// Which end first.
    pub order: Order,
}

impl Range {
    /// The first `most` entries below `prefix`.
    pub fn first(prefix: &str, most: usize) -> Self {
        Self { prefix: prefix.to_owned(), after: None, most, order: Order::Ascending }
    }

    /// The last `most` entries below `prefix`, the very last one first.
    pub fn last(prefix: &str, most: usize) -> Self {
        Self { order: Order::Descending, ..Self::first(prefix, most) }
    }
}

/// What must hold for a transaction to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Which entry.
    pub key: Key,
    /// Its version now; 0 demands that it is absent.
    pub version: Version,
}

/// One change of a transaction.
#[derive(Clone, PartialEq, Eq)]
pub enum Write {
    /// Create or replace.
    Put(Key, Bytes),
    /// Remove; absent is fine.
    Delete(Key),
}

/// As of [`Entry`]: without values.
impl std::fmt::Debug for Write {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Write::Put(key, value) => f.debug_tuple("Put").field(key).field(&value.len()).finish(),
            Write::Delete(key) => f.debug_tuple("Delete").field(key).finish(),
        }
    }
}

impl Write {
    fn key(&self) -> &Key {
        match self {
            Write::Put(key, _) | Write::Delete(key) => key,
        }
    }
}

/// Changes that happen together or not at all, and only if every check holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All must hold.
    pub checks: Vec<Check>,
    /// In this order.
    pub writes: Vec<Write>,
}

impl Transaction {
    /// Adds the demand that `key` is still at `version`.
    #[must_use]
    pub fn check(mut self, key: Key, version: Version) -> Self {
        self.checks.push(Check { key, version });
        self
    }

    /// Adds a write without a check.
    #[must_use]
    pub fn put(mut self, key: Key, value: impl Into<Bytes>) -> Self {
        self.writes.push(Write::Put(key, value.into()));
        self
    }

    /// Replaces an entry that was read at `version` (0: creates it).
    #[must_use]
    pub fn replace(self, key: Key, version: Version, value: impl Into<Bytes>) -> Self {
        self.check(key.clone(), version).put(key, value)
    }

    /// Adds a removal without a check.
    #[must_use]
    pub fn delete(mut self, key: Key) -> Self {
        self.writes.push(Write::Delete(key));
        self
    }

    /// Takes over all checks and writes of `other`, after its own.
    #[must_use]
    pub fn and(mut self, other: Transaction) -> Self {
        self.checks.extend(other.checks);
        self.writes.extend(other.writes);
        self
    }

    /// Every key that is checked or written; some come twice.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.checks.iter().map(|check| &check.key).chain(self.writes.iter().map(Write::key))
    }

    /// Every engine refuses what the smallest one could not take, so that a fleet can move from one to another.
    fn check_bounds(&self) -> Result<(), CommitError> {
        let bytes = |write: &Write| match write {
            Write::Put(_, value) => value.len(),
            Write::Delete(_) => 0,
        };
        let largest = self.writes.iter().map(bytes).max().unwrap_or(0);
        let total: usize = self.writes.iter().map(bytes).sum();
        let parts = self.writes.len().max(self.checks.len());
        if VALUE_MAX < largest || TRANSACTION_BYTES_MAX < total || TRANSACTION_WRITES_MAX < parts {
            return Err(CommitError::TooLarge { parts, bytes: total });
        }
        Ok(())
    }
}

/// Why a transaction is not known to have happened.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A check did not hold; nothing was written. Read again and decide again.
    #[error("{key} was changed by somebody else in the meantime")]
    Conflict {
        /// The first entry that differed.
        key: Key,
    },
    /// More than the contract allows; nothing was written.
    #[error("a transaction of {parts} parts and {bytes} bytes is more than the store takes")]
    TooLarge {
        /// Checks or writes, whichever are more.
        parts: usize,
        /// Of all values.
        bytes: usize,
    },
    /// The disk has no room; nothing was written.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The engine refused before writing anything.
    #[error(transparent)]
    Refused(StoreError),
    /// The engine failed at a moment when the commit may already be durable. Read again to find out.
    #[error("it is not known whether the last change was stored")]
    Unknown(#[source] StoreError),
}

/// The engine could not do its work.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot {doing}")]
pub struct StoreError {
    /// What was asked of it.
    pub doing: &'static str,
    /// Why not.
    #[source]
    pub source: Box<dyn Error + Send + Sync>,
}

impl StoreError {
    /// A transaction that the contract does not allow.
    pub(crate) fn too_large(error: &CommitError) -> Self {
        Self::new("commit", error.to_string())
    }

    /// Content that is not what it should be.
    pub(crate) fn damaged(error: impl Error + Send + Sync + 'static) -> Self {
        Self::new("read its content", error)
    }

    /// A change that did not happen, as far as is known.
    pub(crate) fn not_committed(error: CommitError) -> Self {
        Self::new("commit", error)
    }

    /// Something that must be there is not, or is not what it should be.
    pub(crate) fn missing(doing: &'static str) -> Self {
        Self::new(doing, "the record is missing or damaged; restore the data directory from a backup")
    }

    /// The engine, or a task in front of it, has ended.
    pub(crate) fn ended(doing: &'static str) -> Self {
        Self::new(doing, "the coordinator is stopping")
    }

    /// A record that cannot be read, or was not.
    pub(crate) fn unreadable(why: String) -> Self {
        Self::new("be read", why)
    }

    /// What was asked of the store, and why not.
    pub fn new(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { doing, source: source.into() }
    }
}

/// What a read answers.
pub type Read<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// Keeps entries. See the module's header for what every engine promises.
pub trait Store: Send + Sync + 'static {
    /// The entry at `key`.
    fn get(&self, key: &Key) -> Read<'_, Option<Entry>>;

    /// Several entries, as of one moment.
    fn range(&self, range: Range) -> Read<'_, Vec<Entry>>;

    /// Makes all changes durable if all checks hold, and answers with the version that the written entries now have.
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>>;

    /// Changes whenever an entry whose key equals `prefix`, or starts with it where it ends in '/', may have been
    /// written. Spurious wake-ups are allowed, missed ones are not: read after subscribing.
    fn watch(&self, prefix: &str) -> watch::Receiver<Version>;

    /// All commits from now on to keys that equal one of `prefixes`, or start with it where it ends in '/'. A commit is
    /// in the feed before its caller is answered. A reader that is too slow is told to read everything again.
    fn feed(&self, prefixes: &'static [&'static str]) -> Feed;

    /// Takes or renews the lease `name` for `holder` until `ttl` after `now`, unless another holds it.
    fn lease(&self, name: &str, holder: &str, term: (Timestamp, Duration)) -> Read<'_, LeaseGrant>;

    /// Whether the engine can still commit.
    fn health(&self) -> Read<'_, ()>;
}

/// Gives every entry below `prefix` to `each`, in the order of keys. `page` of them are in memory at once, so each page
/// is of a moment of its own.
///
/// # Errors
/// The engine failed, or `each` did.
pub async fn for_each(
    store: &dyn Store,
    prefix: &str,
    page: usize,
    mut each: impl FnMut(&Entry) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut range = Range::first(prefix, page);
    loop {
        let found = store.range(range.clone()).await?;
        found.iter().try_for_each(&mut each)?;
        let Some(last) = found.last().filter(|_| found.len() == page) else { return Ok(()) };
        range.after = Some(last.key.clone());
    }
}

/// Removes the entries of `range` that `keep` does not want, `range.most` of them in one commit, and counts them.
///
/// # Errors
/// The engine failed; what is left is removed next time.
async fn remove_others(
    store: &dyn Store,
    mut range: Range,
    keep: impl Fn(&Key) -> bool,
) -> Result<usize, CommitError> {
    let mut removed = 0;
    loop {
        let found = store.range(range.clone()).await.map_err(CommitError::Refused)?;
        let Some(last) = found.last() else { return Ok(removed) };
        range.after = Some(last.key.clone());
        let others = found.iter().filter(|entry| !keep(&entry.key));
        let batch = others.fold(Transaction::default(), |batch, entry| batch.delete(entry.key.clone()));
        if !batch.writes.is_empty() {
            removed += batch.writes.len();
            store.commit(batch).await?;
        }
    }
}
