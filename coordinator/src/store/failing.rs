//! A store that misbehaves on request, for tests of everything above it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};

use super::{CommitError, Key, Store, StoreError, Transaction, Version};

/// What goes wrong with one commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Another writer was faster.
    Conflict,
    /// The engine is away; nothing is written.
    Outage,
    /// The commit happens and its answer is lost.
    LostReply,
    /// The commit happens after this long.
    Slow(Duration),
}

/// Passes everything to `inner`, except that each commit meets the next fault of the script.
pub struct Failing<S> {
    inner: S,
    script: Mutex<VecDeque<Fault>>,
}

impl<S: Store> Failing<S> {
    /// Behaves well until [`Failing::script`] says otherwise.
    pub fn new(inner: S) -> Self {
        Self { inner, script: Mutex::default() }
    }

    /// Appends what happens to the next commits, one fault each.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).extend(faults);
    }

    fn next_fault(&self) -> Fault {
        let mut script = self.script.lock().unwrap_or_else(PoisonError::into_inner);
        script.pop_front().unwrap_or(Fault::None)
    }
}

fn outage() -> StoreError {
    StoreError::new("commit", "an outage was scripted")
}

impl<S: Store> super::Layer for Failing<S> {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        async move {
            match self.next_fault() {
                Fault::None => self.inner.commit(transaction).await,
                Fault::Conflict => {
                    let key = transaction.checks.first().map_or_else(Key::meta, |check| check.key.clone());
                    Err(CommitError::Conflict { key })
                }
                Fault::Outage => Err(CommitError::Refused(outage())),
                Fault::LostReply => {
                    self.inner.commit(transaction).await?;
                    Err(CommitError::Unknown(outage()))
                }
                Fault::Slow(delay) => {
                    tokio::time::sleep(delay).await;
                    self.inner.commit(transaction).await
                }
            }
        }
        .boxed()
    }
}
