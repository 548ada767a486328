//! What happened, for `convoy events`: numbered, stored, bounded.
//!
//! One task gives the numbers. A caller may attach a transaction of its own, so that an event and the fact it tells
//! of are stored together or not at all. Calls that wait at the same moment are stored in one commit, if they touch
//! different keys and fit. Events that do not fit into that transaction are stored in it without their
//! numbers, and get those at once afterwards, or after the next start.

pub mod index;
mod kind;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    sync::Arc,
};

use fleet::{ids::NodeName, observed::Notice, time::Timestamp};
pub use kind::Kind;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::{
    metrics::Meters,
    rpc::chain,
    store::{
        CommitError, Key, Range, Store, StoreError, TRANSACTION_BYTES_MAX, TRANSACTION_WRITES_MAX,
        Transaction, VALUE_MAX, Version, Write,
        records::{EventRecord, Record as _, UntoldRecord},
    },
    tasks::Tasks,
};

/// Events that one commit numbers.
pub const APPEND_MAX: usize = 64;
/// Room in a transaction for what the engine and the encoding add, in bytes.
const BYTES_SPARE: usize = 64 * 1024;
/// Calls that wait for their turn; more callers wait for room.
const WAITING_MAX: usize = 256;
/// Old events are removed each time so many new ones have come.
const TRIM_EVERY: u64 = 64;

/// An event without its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// When it happened, or when a node's notice of it was received.
    pub at: Timestamp,
    /// When its host says that it happened, by a clock that may be wrong; `None` for the coordinator's own events.
    pub host_at: Option<Timestamp>,
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
    /// Something that the coordinator knows by itself.
    pub fn new(at: Timestamp, kind: Kind, text: impl Into<String>) -> Self {
        let (kind, text) = (kind.as_str().to_owned(), text.into());
        Self { at, host_at: None, kind, node: None, text, fields: BTreeMap::new(), actor: String::new() }
    }

    /// Something that a node says, received at `at`. A node cannot use the kinds of the coordinator: whoever holds one
    /// node's certificate must not be able to write that an operator did something.
    pub fn said(at: Timestamp, node: &NodeName, notice: Notice) -> Self {
        let Notice { seq: _, at: host_at, kind, text, mut fields } = notice;
        let kind = kind.to_string();
        let kind = if Kind::is_reserved(&kind) {
            fields.insert("claimed_kind".to_owned(), kind);
            Kind::NodeClaimed.as_str().to_owned()
        } else {
            kind
        };
        let (node, host_at) = (Some(node.clone()), Some(host_at));
        Self { at, host_at, kind, node, text, fields, actor: String::new() }
    }

    /// About so many bytes are stored for it.
    pub fn size(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        let node = self.node.as_ref().map_or(0, |node| node.as_str().len());
        64 + self.kind.len() + self.text.len() + self.actor.len() + node + fields
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
        let Draft { at, host_at, kind, node, text, fields, actor } = self;
        EventRecord { seq, at, host_at, kind, node, text, fields, actor }
    }
}

/// The way to the task that numbers events.
#[derive(Clone)]
pub struct Events {
    appends: mpsc::Sender<Append>,
    meters: Option<Arc<Meters>>,
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
        // An earlier coordinator may have ended between a commit and the numbering of what it left untold.
        let appender = Appender { store, next, keep, untold: true };
        tasks.until_unused("events", async move {
            appender.run(waiting).await;
            Ok(())
        });
        Ok(Self { appends, meters: None })
    }

    /// Counts what is stored from now on.
    #[must_use]
    pub fn counted_by(self, meters: Arc<Meters>) -> Self {
        Self { meters: Some(meters), ..self }
    }

    /// Stores events together with `with`; all of it or nothing.
    ///
    /// # Errors
    /// As the store's commit; a conflict names a key of `with`.
    pub async fn append(&self, drafts: Vec<Draft>, with: Transaction) -> Result<Version, CommitError> {
        let meters = self.meters.iter();
        let counters: Vec<_> =
            meters.flat_map(|meters| drafts.iter().map(|draft| meters.event(&draft.kind))).collect();
        let (answer, outcome) = oneshot::channel();
        let ended = || StoreError::ended("number an event");
        self.appends
            .send(Append { drafts, with, answer })
            .await
            .map_err(|_| CommitError::Refused(ended()))?;
        let stored = outcome.await.map_err(|_| CommitError::Unknown(ended()))?;
        if stored.is_ok() {
            for counter in counters {
                counter.inc();
            }
        }
        stored
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

/// The outcome of a commit, once more.
fn same(outcome: &Result<Version, CommitError>) -> Result<Version, CommitError> {
    match outcome {
        Ok(version) => Ok(*version),
        Err(error) => Err(CommitError::Unknown(StoreError::new("commit", chain(error)))),
    }
}

/// Appends that wait at the same moment and are stored in one commit (ADR 0077). They touch different keys, so each sees
/// the store as if it had been alone.
struct Group {
    appends: Vec<Append>,
    /// What their transactions check or write.
    keys: BTreeSet<Key>,
    drafts: usize,
    checks: usize,
    writes: usize,
    bytes: usize,
}

impl Group {
    fn of(first: Append) -> Self {
        let (appends, keys) = (Vec::new(), BTreeSet::new());
        let mut group = Self { appends, keys, drafts: 0, checks: 0, writes: 0, bytes: BYTES_SPARE };
        group.put(first);
        group
    }

    /// Takes one more, or gives it back if both do not fit into one commit.
    fn take(&mut self, append: Append) -> Result<(), Append> {
        let (drafts, with) = (self.drafts + append.drafts.len(), &append.with);
        let fits = drafts <= APPEND_MAX
            && self.checks + with.checks.len() + drafts <= TRANSACTION_WRITES_MAX
            && self.writes + with.writes.len() + drafts <= TRANSACTION_WRITES_MAX
            && self.bytes + append.bytes() <= TRANSACTION_BYTES_MAX;
        if fits && with.keys().all(|key| !self.keys.contains(key)) {
            self.put(append);
            Ok(())
        } else {
            Err(append)
        }
    }

    fn put(&mut self, append: Append) {
        self.drafts += append.drafts.len();
        self.checks += append.with.checks.len();
        self.writes += append.with.writes.len();
        self.bytes += append.bytes();
        self.keys.extend(append.with.keys().cloned());
        self.appends.push(append);
    }
}

impl Append {
    fn bytes(&self) -> usize {
        bytes_of(&self.with) + self.drafts.iter().map(Draft::size).sum::<usize>()
    }
}

struct Appender {
    store: Arc<dyn Store>,
    next: u64,
    keep: u64,
    /// There may be events in the store without a number.
    untold: bool,
}

/// What one commit numbers, and what it leaves for the next.
struct Portion {
    now: Vec<Draft>,
    later: UntoldRecord,
}

impl Portion {
    fn of(mut drafts: Vec<Draft>, with: &Transaction) -> Self {
        let room = TRANSACTION_WRITES_MAX.saturating_sub(with.writes.len()).min(APPEND_MAX);
        if drafts.len() <= room {
            return Self { now: drafts, later: UntoldRecord::default() };
        }
        let mut later = drafts.split_off(room.saturating_sub(1));
        let taken = bytes_of(with) + drafts.iter().map(Draft::size).sum::<usize>() + BYTES_SPARE;
        let mut left = TRANSACTION_BYTES_MAX.saturating_sub(taken).min(VALUE_MAX - BYTES_SPARE);
        let fitting = later.iter().take_while(|draft| {
            let fits = draft.size() <= left;
            left = left.saturating_sub(draft.size());
            fits
        });
        let fitting = fitting.count();
        if let Some(first) = later.get(fitting) {
            let count = later.len() - fitting;
            let text = format!("{count} more changed at once than can be told one by one");
            let summary = Draft::new(first.at, Kind::EventsSummed, text).with("count", &count);
            later.truncate(fitting);
            later.push(summary);
        }
        let later = later.into_iter().map(|draft| draft.numbered(0)).collect();
        Self { now: drafts, later: UntoldRecord { events: later } }
    }

    fn has_later(&self) -> bool {
        !self.later.events.is_empty()
    }
}

fn bytes_of(transaction: &Transaction) -> usize {
    let bytes = |write: &Write| match write {
        Write::Put(_, value) => value.len(),
        Write::Delete(_) => 0,
    };
    transaction.writes.iter().map(bytes).sum()
}

impl Appender {
    async fn run(mut self, mut waiting: mpsc::Receiver<Append>) {
        if let Err(error) = self.tell_untold().await {
            warn!(%error, "Cannot number events that an earlier coordinator left");
        }
        let mut next = waiting.recv().await;
        while let Some(first) = next.take() {
            let mut group = Group::of(first);
            while let Ok(append) = waiting.try_recv() {
                if let Err(other) = group.take(append) {
                    next = Some(other);
                    break;
                }
            }
            self.append_all(group).await;
            if let Err(error) = self.tell_untold().await {
                warn!(%error, "Cannot number the rest of the events; trying again with the next");
            }
            if next.is_none() {
                next = waiting.recv().await;
            }
        }
    }

    /// Stores the appends of a group in one commit. If that does not happen, each is tried alone: what is wrong with one
    /// of them must not be answered to the others.
    async fn append_all(&mut self, group: Group) {
        let Group { appends, .. } = group;
        if 1 < appends.len() {
            let drafts = appends.iter().flat_map(|append| append.drafts.clone()).collect();
            let with =
                appends.iter().fold(Transaction::default(), |all, append| all.and(append.with.clone()));
            let outcome = self.append(drafts, &with).await;
            if let Ok(_) | Err(CommitError::Unknown(_)) = outcome {
                for append in appends {
                    drop(append.answer.send(same(&outcome)));
                }
                return;
            }
        }
        for Append { drafts, with, answer } in appends {
            let outcome = self.append(drafts, &with).await;
            // The caller may have gone away; the events stand all the same.
            drop(answer.send(outcome));
        }
    }

    async fn append(&mut self, drafts: Vec<Draft>, with: &Transaction) -> Result<Version, CommitError> {
        // The order of what happened is the order of the numbers, and there is one place for what waits.
        self.tell_untold().await?;
        let portion = Portion::of(drafts, with);
        let with = if portion.has_later() {
            self.untold = true;
            with.clone().replace(Key::untold(), 0, portion.later.encode())
        } else {
            with.clone()
        };
        let events = portion.now.into_iter().map(|draft| draft.numbered(0)).collect();
        self.number(events, &with).await
    }

    /// Stores events under the next numbers, together with `with`.
    async fn number(&mut self, events: Vec<EventRecord>, with: &Transaction) -> Result<Version, CommitError> {
        let version = loop {
            let numbered = events.iter().zip(self.next..);
            let commit = numbered.fold(with.clone(), |all, (event, seq)| {
                all.replace(Key::event(seq), 0, EventRecord { seq, ..event.clone() }.encode())
            });
            match self.store.commit(commit).await {
                Ok(version) => break version,
                // Another coordinator took the number, or an earlier commit whose answer was lost did happen.
                Err(CommitError::Conflict { key }) if key.as_str().starts_with(Key::EVENTS) => {
                    self.next = next_seq(&*self.store).await.map_err(CommitError::Refused)?;
                }
                Err(error) => return Err(error),
            }
        };
        let before = self.next;
        self.next += events.len() as u64;
        if before / TRIM_EVERY != self.next / TRIM_EVERY {
            self.trim().await;
        }
        Ok(version)
    }

    /// Numbers what was stored without numbers, in portions.
    async fn tell_untold(&mut self) -> Result<(), CommitError> {
        while self.untold {
            let entry = self.store.get(&Key::untold()).await.map_err(CommitError::Refused)?;
            let Some(entry) = entry else {
                self.untold = false;
                break;
            };
            let mut now = UntoldRecord::read(&entry).map_err(CommitError::Refused)?.events;
            let later = now.split_off(now.len().min(APPEND_MAX));
            let with = if later.is_empty() {
                Transaction::default().check(Key::untold(), entry.version).delete(Key::untold())
            } else {
                let later = UntoldRecord { events: later };
                Transaction::default().replace(Key::untold(), entry.version, later.encode())
            };
            self.number(now, &with).await?;
        }
        Ok(())
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

#[cfg(test)]
mod tests;
