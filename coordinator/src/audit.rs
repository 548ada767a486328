//! The record of who did what (ADR 0054): an entry is stored in the transaction of its effect, so that neither is without
//! the other, and covers by its hash all entries before it ([`fleet::audit`]).
//!
//! What cannot be recorded is not done. Who is refused is recorded too, as far as that is not too often.

pub(crate) mod checkpoints;
#[cfg(test)]
mod tests;

use std::{net::IpAddr, sync::Arc};

use fleet::{
    access::{Permit, Principal},
    audit::{Act, Answer, Entry, Head, Outcome, link},
    ids::{FleetEpoch, NodeName},
    time::Timestamp,
};
use tokio::{sync::watch, time::Instant};
use tracing::error;

use crate::{
    coordinator::Coordinator,
    events::{Draft, Events},
    rates::Source,
    rpc::chain,
    store::{
        CommitError, Entry as Stored, Key, Store, StoreError, Transaction,
        records::{AuditHeadRecord, AuditRecord, Record as _},
    },
};

/// Tries when another coordinator records something at the same moment.
const TRIES_MAX: usize = 16;
/// Characters of a sentence that are kept.
const TEXT_MAX: usize = 2000;

/// An entry without its number.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    at: Timestamp,
    actor: String,
    serial: String,
    from: Option<IpAddr>,
    act: Act,
    node: Option<NodeName>,
    text: String,
    outcome: Outcome,
}

impl Note {
    /// What somebody does, as its event tells it.
    pub(crate) fn of(who: &Principal, act: Act, event: &Draft) -> Self {
        Self {
            at: event.at,
            actor: who.name.to_string(),
            serial: who.serial.clone(),
            from: who.from,
            act,
            node: event.node.clone(),
            text: bounded(&event.text),
            outcome: Outcome::Done,
        }
    }

    /// What the coordinator does by itself, under this name.
    pub(crate) fn own(actor: &str, act: Act, event: &Draft) -> Self {
        Self {
            at: event.at,
            actor: actor.to_owned(),
            serial: String::new(),
            from: None,
            act,
            node: event.node.clone(),
            text: bounded(&event.text),
            outcome: Outcome::Done,
        }
    }

    /// With another outcome.
    pub(crate) fn with(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    fn numbered(&self, seq: u64) -> Entry {
        let Self { at, actor, serial, from, act, node, text, outcome } = self.clone();
        Entry { seq, at, actor, serial, from, act, node, text, outcome }
    }
}

fn bounded(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// The only writer of the record.
pub struct Audit {
    store: Arc<dyn Store>,
    epoch: FleetEpoch,
    events: Events,
    /// Entries are written one after the other: two at once would only undo each other.
    turn: tokio::sync::Mutex<()>,
    head: watch::Sender<Head>,
}

impl Audit {
    /// Reads how far the record goes.
    ///
    /// # Errors
    /// The store failed.
    pub async fn start(store: Arc<dyn Store>, epoch: FleetEpoch, events: Events) -> Result<Self, StoreError> {
        let (_, head) = stored_head(&*store).await?;
        let head = watch::Sender::new(head);
        Ok(Self { store, epoch, events, turn: tokio::sync::Mutex::new(()), head })
    }

    /// The last entry that this coordinator knows of.
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// The last entry that this coordinator knows of, and each that follows.
    pub(crate) fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// The last entry that is stored.
    ///
    /// # Errors
    /// The store failed.
    pub async fn stored_head(&self) -> Result<Head, StoreError> {
        Ok(stored_head(&*self.store).await?.1)
    }

    /// Stores an entry, events and an effect together, or nothing; answers with the number of the entry.
    ///
    /// # Errors
    /// As the store's commit. Nothing was done then, unless it says that this is not known.
    pub(crate) async fn record(
        &self,
        note: &Note,
        events: Vec<Draft>,
        with: Transaction,
    ) -> Result<u64, CommitError> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES_MAX {
            let (version, last) = stored_head(&*self.store).await.map_err(CommitError::Refused)?;
            let entry = note.numbered(last.seq.saturating_add(1));
            let head = Head { seq: entry.seq, link: link(self.epoch, &last.link, &entry) };
            let record = AuditRecord { entry, link: head.link };
            let commit = with
                .clone()
                .replace(Key::audit_head(), version, AuditHeadRecord(head).encode())
                .replace(Key::audit(head.seq), 0, record.encode());
            match self.events.append(events.clone(), commit).await {
                Ok(_) => {
                    self.head.send_replace(head);
                    return Ok(head.seq);
                }
                // Another coordinator recorded something: this comes after it.
                Err(CommitError::Conflict { key })
                    if key == Key::audit_head() || key.as_str().starts_with(Key::AUDIT) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Conflict { key: Key::audit_head() })
    }
}

async fn stored_head(store: &dyn Store) -> Result<(u64, Head), StoreError> {
    let entry: Option<Stored> = store.get(&Key::audit_head()).await?;
    let head = entry.as_ref().map(AuditHeadRecord::read).transpose()?;
    Ok((entry.map_or(0, |entry| entry.version), head.map_or(Head::NONE, |head| head.0)))
}

impl Coordinator {
    /// Records what became of an order. The effect is an agent's and cannot be taken back, so a failure is only logged.
    pub(crate) async fn record_answer(&self, permit: &Permit, order: u64, event: &Draft, result: Answer) {
        let act = Act::Of(permit.action());
        let note = Note::of(permit.principal(), act, event).with(Outcome::Answered { order, result });
        let note = Note { at: (self.clock)(), ..note };
        if let Err(error) = self.audit.record(&note, Vec::new(), Transaction::default()).await {
            error!(error = chain(&error), order, "Cannot record what became of an order");
        }
    }

    /// Records that a guard refused something, as far as that is not too often.
    pub(crate) async fn record_refusal(&self, permit: &Permit, node: Option<&NodeName>, why: &str) {
        let who = permit.principal();
        if !self.rates.admit(&Source::Refused(who.name.clone()), Instant::now()) {
            return;
        }
        let note = Note {
            at: (self.clock)(),
            actor: who.name.to_string(),
            serial: who.serial.clone(),
            from: who.from,
            act: Act::Of(permit.action()),
            node: node.cloned(),
            text: format!("{} was refused", permit.action().doing()),
            outcome: Outcome::Refused { why: bounded(why) },
        };
        if let Err(error) = self.audit.record(&note, Vec::new(), Transaction::default()).await {
            error!(error = chain(&error), operator = %who.name, "Cannot record a refusal");
        }
    }
}
