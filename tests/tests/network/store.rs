//! The real store with a disk that may be slow, and a note of what reached it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use coordinator::store::{
    CommitError, Entry, Feed, Key, LeaseGrant, Range, Read, Store, Transaction, Version, Write,
    records::{NodeRecord, Record as _},
};
use fleet::{ids::Generation, time::Timestamp};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::watch;

/// Generations of each node that were handed to the disk.
pub type Committed = Arc<Mutex<BTreeMap<String, Generation>>>;

/// Passes everything on, each commit after a while.
pub struct Slow<S> {
    pub inner: S,
    /// Before each commit.
    pub delay: Duration,
    pub committed: Committed,
}

impl<S: Store> Slow<S> {
    fn note(&self, transaction: &Transaction) {
        for write in &transaction.writes {
            let Write::Put(key, value) = write else { continue };
            let Some(node) = key.as_str().strip_prefix("node/") else { continue };
            let entry = Entry { key: key.clone(), version: 0, value: value.clone() };
            let record = NodeRecord::read(&entry).unwrap();
            if let Some(desired) = record.desired {
                self.committed.lock().unwrap().insert(node.to_owned(), desired.generation);
            }
        }
    }
}

impl<S: Store> Store for Slow<S> {
    fn get(&self, key: &Key) -> Read<'_, Option<Entry>> {
        self.inner.get(key)
    }

    fn range(&self, range: Range) -> Read<'_, Vec<Entry>> {
        self.inner.range(range)
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        async move {
            tokio::time::sleep(self.delay).await;
            self.note(&transaction);
            self.inner.commit(transaction).await
        }
        .boxed()
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<Version> {
        self.inner.watch(prefix)
    }

    fn feed(&self, prefixes: &'static [&'static str]) -> Feed {
        self.inner.feed(prefixes)
    }

    fn lease(&self, name: &str, holder: &str, term: (Timestamp, Duration)) -> Read<'_, LeaseGrant> {
        self.inner.lease(name, holder, term)
    }

    fn health(&self) -> Read<'_, ()> {
        self.inner.health()
    }
}
