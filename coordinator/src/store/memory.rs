//! The engine for tests and simulations: the same contract, nothing survives the process.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fleet::time::Timestamp;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

use super::{
    CommitError, Entry, Feed, Key, LeaseGrant, Order, Range, Read, Store, Transaction, Version, Write,
    feed::Feeds, lease, watchers::Watchers,
};

/// Entries in a map.
pub struct Memory {
    entries: Mutex<Entries>,
    watchers: Watchers,
    feeds: Feeds,
}

impl Default for Memory {
    fn default() -> Self {
        Self { entries: Mutex::default(), watchers: Watchers::default(), feeds: Feeds::new(0) }
    }
}

#[derive(Default)]
struct Entries {
    version: Version,
    by_key: BTreeMap<String, (Version, Bytes)>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn commit_now(&self, transaction: &Transaction) -> Result<Version, CommitError> {
        transaction.check_bounds()?;
        let mut entries = self.lock();
        for check in &transaction.checks {
            let version = entries.by_key.get(check.key.as_str()).map_or(0, |(version, _)| *version);
            if version != check.version {
                return Err(CommitError::Conflict { key: check.key.clone() });
            }
        }
        entries.version += 1;
        let version = entries.version;
        for write in &transaction.writes {
            match write {
                Write::Put(key, value) => {
                    entries.by_key.insert(key.as_str().to_owned(), (version, value.clone()));
                }
                Write::Delete(key) => {
                    entries.by_key.remove(key.as_str());
                }
            }
        }
        // Within the lock: feeds hold commits in their order.
        self.feeds.publish(&transaction.writes, version);
        drop(entries);
        self.watchers.changed(transaction.writes.iter().map(Write::key), version);
        Ok(version)
    }
}

/// The bounds of the keys that a range asks for; `None` if there can be none between them.
pub(super) fn bounds(range: &Range) -> Option<(Bound<String>, Bound<String>)> {
    let start = range.prefix.clone();
    // Every key is ASCII, so this is beyond all that start with the prefix.
    let end = format!("{}\u{7f}", range.prefix);
    let after = range.after.as_ref().map(|key| key.as_str().to_owned());
    match (range.order, after) {
        (Order::Ascending, Some(after)) => {
            (after < end).then(|| (Bound::Excluded(after.max(start)), Bound::Excluded(end)))
        }
        (Order::Descending, Some(after)) => {
            (start < after).then(|| (Bound::Included(start), Bound::Excluded(after.min(end))))
        }
        (Order::Ascending | Order::Descending, None) => Some((Bound::Included(start), Bound::Excluded(end))),
    }
}

impl Store for Memory {
    fn get(&self, key: &Key) -> Read<'_, Option<Entry>> {
        let found = self.lock().by_key.get(key.as_str()).cloned();
        let entry = found.map(|(version, value)| Entry { key: key.clone(), version, value });
        async move { Ok(entry) }.boxed()
    }

    fn range(&self, range: Range) -> Read<'_, Vec<Entry>> {
        let entry = |(key, (version, value)): (&String, &(Version, Bytes))| Entry {
            key: Key::stored(key),
            version: *version,
            value: value.clone(),
        };
        let found: Vec<Entry> = match bounds(&range) {
            None => Vec::new(),
            Some(bounds) => {
                let entries = self.lock();
                let found = entries.by_key.range(bounds).map(entry);
                match range.order {
                    Order::Ascending => found.take(range.most).collect(),
                    Order::Descending => found.rev().take(range.most).collect(),
                }
            }
        };
        async move { Ok(found) }.boxed()
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        async move { self.commit_now(&transaction) }.boxed()
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<Version> {
        self.watchers.subscribe(prefix)
    }

    fn feed(&self, prefixes: &'static [&'static str]) -> Feed {
        self.feeds.open(prefixes)
    }

    fn lease(&self, name: &str, holder: &str, term: (Timestamp, Duration)) -> Read<'_, LeaseGrant> {
        lease::take(self, name.to_owned(), holder.to_owned(), term).boxed()
    }

    fn health(&self) -> Read<'_, ()> {
        async { Ok(()) }.boxed()
    }
}
