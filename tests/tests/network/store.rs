//! The real store with a disk that may be slow, and a note of what reached it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use coordinator::store::{
    CommitError, Entry, Store, Transaction, Version, Write,
    records::{NodeRecord, Record as _},
};
use fleet::ids::Generation;
use futures::{FutureExt as _, future::BoxFuture};

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

impl<S: Store> coordinator::store::Layer for Slow<S> {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        async move {
            tokio::time::sleep(self.delay).await;
            self.note(&transaction);
            self.inner.commit(transaction).await
        }
        .boxed()
    }
}
