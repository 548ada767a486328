//! What happened, for `convoy events`: numbered, stored, bounded.
//!
//! One task gives the numbers. A caller may attach a transaction of its own, so that an event and the fact it tells
//! of are stored together or not at all.

use std::{collections::BTreeMap, fmt::Display, sync::Arc};

use fleet::{ids::NodeName, time::Timestamp};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::{
    store::{
        CommitError, Key, Range, Store, StoreError, TRANSACTION_WRITES_MAX, Transaction, Version,
        records::{EventRecord, Record as _},
    },
    tasks::Tasks,
};

/// Events of one call to [`Events::append`].
pub const APPEND_MAX: usize = 64;
/// Calls that wait for their turn; more callers wait for room.
const WAITING_MAX: usize = 256;
/// Old events are removed each time so many new ones have come.
const TRIM_EVERY: u64 = 64;

/// An event without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// When.
    pub at: Timestamp,
    /// Stable word.
    pub kind: String,
    /// The node it concerns, if one.
    pub node: Option<NodeName>,
    /// One sentence for people.
    pub text: String,
    /// For programs; never secrets.
    pub fields: BTreeMap<String, String>,
    /// Who did it, if somebody did.
    pub actor: String,
}

impl Draft {
    /// Something that happened now.
    pub fn new(at: Timestamp, kind: &str, text: impl Into<String>) -> Self {
        let (kind, text) = (kind.to_owned(), text.into());
        Self { at, kind, node: None, text, fields: BTreeMap::new(), actor: String::new() }
    }

    /// Concerning a node.
    #[must_use]
    pub fn of_node(mut self, node: &NodeName) -> Self {
        self.node = Some(node.clone());
        self
    }

    /// Done by somebody.
    #[must_use]
    pub fn by(mut self, actor: &str) -> Self {
        actor.clone_into(&mut self.actor);
        self
    }

    /// With a fact for programs.
    #[must_use]
    pub fn with(mut self, key: &str, value: &dyn Display) -> Self {
        self.fields.insert(key.to_owned(), value.to_string());
        self
    }

    fn numbered(self, seq: u64) -> EventRecord {
        let Draft { at, kind, node, text, fields, actor } = self;
        EventRecord { seq, at, kind, node, text, fields, actor }
    }
}

/// The way to the task that numbers events.
#[derive(Clone)]
pub struct Events {
    appends: mpsc::Sender<Append>,
}

struct Append {
    drafts: Vec<Draft>,
    with: Transaction,
    answer: oneshot::Sender<Result<Version, CommitError>>,
}

impl Events {
    /// Starts the task; it ends when the last clone is dropped.
    ///
    /// # Errors
    /// The store cannot say which event was the last.
    pub async fn start(store: Arc<dyn Store>, keep: usize, tasks: &Tasks) -> Result<Self, StoreError> {
        let next = next_seq(&*store).await?;
        let (appends, waiting) = mpsc::channel(WAITING_MAX);
        let keep = u64::try_from(keep).unwrap_or(u64::MAX);
        let appender = Appender { store, next, keep };
        tasks.until_unused("events", async move {
            appender.run(waiting).await;
            Ok(())
        });
        Ok(Self { appends })
    }

    /// Stores events together with `with`; all of it or nothing. At most [`APPEND_MAX`] events.
    ///
    /// # Errors
    /// As the store's commit; a conflict names a key of `with`.
    pub async fn append(&self, drafts: Vec<Draft>, with: Transaction) -> Result<Version, CommitError> {
        let (answer, outcome) = oneshot::channel();
        let ended = || StoreError::ended("number an event");
        self.appends
            .send(Append { drafts, with, answer })
            .await
            .map_err(|_| CommitError::Refused(ended()))?;
        outcome.await.map_err(|_| CommitError::Unknown(ended()))?
    }

    /// Stores one event of which nothing else depends; a failure is only logged.
    pub async fn record(&self, draft: Draft) {
        let (kind, text) = (draft.kind.clone(), draft.text.clone());
        if let Err(error) = self.append(vec![draft], Transaction::default()).await {
            warn!(%error, kind, text, "Cannot store an event");
        }
    }
}

async fn next_seq(store: &dyn Store) -> Result<u64, StoreError> {
    let last = store.range(Range::last(Key::EVENTS, 1)).await?;
    Ok(last.first().map(EventRecord::read).transpose()?.map_or(1, |event| event.seq + 1))
}

struct Appender {
    store: Arc<dyn Store>,
    next: u64,
    keep: u64,
}

impl Appender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Append>) {
        while let Some(Append { drafts, with, answer }) = waiting.recv().await {
            let outcome = self.append(&drafts, &with).await;
            // The caller may have gone away; the events stand all the same.
            drop(answer.send(outcome));
        }
    }

    async fn append(&mut self, drafts: &[Draft], with: &Transaction) -> Result<Version, CommitError> {
        let version = loop {
            let numbered = drafts.iter().take(APPEND_MAX).zip(self.next..);
            let events = numbered.fold(with.clone(), |all, (draft, seq)| {
                all.replace(Key::event(seq), 0, draft.clone().numbered(seq).encode())
            });
            match self.store.commit(events).await {
                Ok(version) => break version,
                // Another coordinator took the number, or an earlier commit whose answer was lost did happen.
                Err(CommitError::Conflict { key }) if key.as_str().starts_with(Key::EVENTS) => {
                    self.next = next_seq(&*self.store).await.map_err(CommitError::Refused)?;
                }
                Err(error) => return Err(error),
            }
        };
        let before = self.next;
        self.next += drafts.len() as u64;
        if before / TRIM_EVERY != self.next / TRIM_EVERY {
            self.trim().await;
        }
        Ok(version)
    }

    async fn trim(&self) {
        let oldest = self.next.saturating_sub(self.keep);
        let outcome = async {
            let found = self.store.range(Range::first(Key::EVENTS, TRANSACTION_WRITES_MAX)).await;
            let found = found.map_err(CommitError::Refused)?;
            let old = found.into_iter().filter(|entry| entry.key < Key::event(oldest));
            let removal = old.fold(Transaction::default(), |all, entry| all.delete(entry.key));
            if removal.writes.is_empty() { Ok(0) } else { self.store.commit(removal).await }
        };
        if let Err(error) = outcome.await {
            warn!(%error, "Cannot remove old events");
        }
    }
}
