//! A store around another one: it says what it does otherwise, and passes the rest on.

use std::time::Duration;

use fleet::time::Timestamp;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::{CommitError, Entry, Feed, Key, LeaseGrant, Range, Read, Store, Transaction, Version};

/// What a store around another does; each verb goes to the inner one unless it is said. Whoever implements it names it by
/// its path: the verbs of both traits in scope at once would be ambiguous.
pub trait Layer: Send + Sync + 'static {
    /// The store that it is around.
    fn inner(&self) -> &dyn Store;

    /// As [`Store::get`].
    fn get(&self, key: &Key) -> Read<'_, Option<Entry>> {
        self.inner().get(key)
    }

    /// As [`Store::range`].
    fn range(&self, range: Range) -> Read<'_, Vec<Entry>> {
        self.inner().range(range)
    }

    /// As [`Store::commit`].
    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        self.inner().commit(transaction)
    }

    /// As [`Store::feed`].
    fn feed(&self, prefixes: &'static [&'static str]) -> Feed {
        self.inner().feed(prefixes)
    }

    /// As [`Store::health`].
    fn health(&self) -> Read<'_, ()> {
        self.inner().health()
    }
}

impl<L: Layer> Store for L {
    fn get(&self, key: &Key) -> Read<'_, Option<Entry>> {
        Layer::get(self, key)
    }

    fn range(&self, range: Range) -> Read<'_, Vec<Entry>> {
        Layer::range(self, range)
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        Layer::commit(self, transaction)
    }

    fn watch(&self, prefix: &str) -> watch::Receiver<Version> {
        self.inner().watch(prefix)
    }

    fn feed(&self, prefixes: &'static [&'static str]) -> Feed {
        Layer::feed(self, prefixes)
    }

    fn lease(&self, name: &str, holder: &str, term: (Timestamp, Duration)) -> Read<'_, LeaseGrant> {
        self.inner().lease(name, holder, term)
    }

    fn health(&self) -> Read<'_, ()> {
        Layer::health(self)
    }
}
