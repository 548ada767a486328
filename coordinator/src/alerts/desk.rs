//! One turn of the task: look, decide, store, offer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet::{
    alert::{Alerts, Change, ChangeKind, ChannelRules, Message, Place, Silence},
    ids::ChannelName,
    time::Timestamp,
};
use tokio::{sync::watch, time::Instant};
use tracing::warn;

use super::{
    board::Picture,
    looks::{Circumstances, looks},
};
use crate::{
    coordinator::Coordinator,
    events::{Draft, Kind},
    store::{
        CommitError, Key, Order, Range, StoreError, TRANSACTION_BYTES_MAX, Transaction, VALUE_MAX, Version,
        for_each,
        records::{CursorRecord, EventRecord, PlaceRecord, Record as _},
    },
};

/// Events that one turn looks at; the next turn goes on.
const EVENTS_MAX: usize = 500;
/// Places that one commit writes.
const PLACES_MAX: usize = 32;
/// A record below this leaves room for what the store adds.
const PLACE_BYTES_MAX: usize = VALUE_MAX - 16 * 1024;
/// All records of one commit.
const COMMIT_BYTES_MAX: usize = TRANSACTION_BYTES_MAX - 192 * 1024;
/// Records of places are read in pages of this many.
const PAGE: usize = 8;

/// The way to a channel's task.
#[derive(Clone)]
pub(super) struct Link {
    /// What it is told.
    pub(super) rules: ChannelRules,
    /// The message that is true now, if one is due.
    pub(super) offer: watch::Sender<Option<Message>>,
}

/// What the task works with.
pub(super) struct Desk {
    coordinator: Arc<Coordinator>,
    links: Vec<Link>,
    started: Instant,
    kept: Kept,
    /// What each channel took last.
    arrived: BTreeMap<ChannelName, Message>,
}

/// What is stored, and what is to be.
struct Kept {
    alerts: Alerts,
    versions: BTreeMap<Place, Version>,
    /// Places that are not stored as they are here.
    unstored: BTreeSet<Place>,
    /// Changes that the event log does not have yet.
    untold: Vec<Change>,
    cursor: Cursor,
}

/// Up to where events were looked at.
#[derive(Clone, Copy)]
struct Cursor {
    event: u64,
    /// Up to where it is stored that they were.
    stored: u64,
    version: Version,
}

impl Kept {
    async fn read(coordinator: &Coordinator) -> Result<Self, StoreError> {
        let store = &*coordinator.store;
        let (mut alerts, mut versions) = (Alerts::default(), BTreeMap::new());
        for_each(store, Key::ALERTS, PAGE, |entry| {
            if let Some(place) = entry.key.alert_place() {
                versions.insert(place.clone(), entry.version);
                alerts.places.insert(place, PlaceRecord::read(entry)?.0);
            }
            Ok(())
        })
        .await?;
        let cursor = match store.get(&Key::alert_cursor()).await? {
            Some(entry) => {
                let event = CursorRecord::read(&entry)?.event;
                Cursor { event, stored: event, version: entry.version }
            }
            // The first start: what happened before is no news.
            None => {
                let last = store.range(Range::last(Key::EVENTS, 1)).await?;
                let last = last.first().map(EventRecord::read).transpose()?;
                Cursor { event: last.map_or(0, |event| event.seq), stored: 0, version: 0 }
            }
        };
        Ok(Self { alerts, versions, unstored: BTreeSet::new(), untold: Vec::new(), cursor })
    }
}

impl Desk {
    /// Reads what was alerted before.
    ///
    /// # Errors
    /// The store failed, or holds a record that cannot be read.
    pub(super) async fn open(coordinator: &Arc<Coordinator>, links: &[Link]) -> Result<Self, StoreError> {
        let kept = Kept::read(coordinator).await?;
        let started = Instant::now();
        let arrived = BTreeMap::new();
        Ok(Self { coordinator: coordinator.clone(), links: links.to_vec(), started, kept, arrived })
    }

    /// Looks, decides, stores, and offers what is due. Answers when something will be due.
    ///
    /// # Errors
    /// The store failed. Nobody is told of what is not stored.
    pub(super) async fn turn(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let snapshot = self.coordinator.snapshot().await?;
        let now = (self.coordinator.clock)();
        let events = self.new_events().await?;
        let newest = snapshot.revision.as_ref().map(|newest| newest.alerts.clone());
        self.kept.alerts.policy = newest.unwrap_or_default();
        let rules: Vec<ChannelRules> = self.links.iter().map(|link| link.rules.clone()).collect();
        let heartbeat = &self.coordinator.heartbeat;
        let facts = Circumstances {
            now,
            is_settled: heartbeat.silence_max(heartbeat.interval_max) < self.started.elapsed(),
            certificate_left: self.coordinator.node_certificate / 4,
            authority_ends: self.coordinator.authority.ends(),
            undelivered: self.kept.alerts.undelivered(now, &rules),
        };
        let looks = looks(&snapshot, &events, &facts);
        if let Some(last) = events.last() {
            self.kept.cursor.event = last.seq;
        }
        let silences = self.coordinator.silences().await?;
        let looked = self.kept.alerts.look(now, &looks, &silences);
        self.kept.unstored.extend(looked.places);
        self.kept.untold.extend(looked.changes);
        self.store(now).await?;
        let outbox = self.kept.alerts.messages(now, &rules);
        for link in &self.links {
            let due = outbox.due.iter().find(|message| message.channel == link.rules.name).cloned();
            link.offer.send_if_modified(|offer| {
                let changed = *offer != due;
                *offer = due;
                changed
            });
        }
        self.show(silences);
        Ok(looked.next.into_iter().chain(outbox.next).min())
    }

    /// A channel has taken a message.
    pub(super) fn arrived(&mut self, message: &Message) {
        let now = (self.coordinator.clock)();
        self.kept.unstored.extend(self.kept.alerts.told(message, now));
        self.arrived.insert(message.channel.clone(), message.clone());
    }

    /// Takes what is stored for what is. That a message arrived may not have been stored.
    async fn read_again(&mut self) -> Result<(), StoreError> {
        self.kept = Kept::read(&self.coordinator).await?;
        let now = (self.coordinator.clock)();
        for message in self.arrived.values() {
            self.kept.unstored.extend(self.kept.alerts.told(message, now));
        }
        Ok(())
    }

    async fn new_events(&self) -> Result<Vec<EventRecord>, StoreError> {
        let range = Range {
            prefix: Key::EVENTS.to_owned(),
            after: Some(Key::event(self.kept.cursor.event)),
            most: EVENTS_MAX,
            order: Order::Ascending,
        };
        let found = self.coordinator.store.range(range).await?;
        found.iter().map(EventRecord::read).collect()
    }

    /// Stores what has changed, with its events. A conflict means that another coordinator was faster, and so do
    /// commits that may or may not have happened: what is stored counts.
    async fn store(&mut self, now: Timestamp) -> Result<(), StoreError> {
        while !self.kept.unstored.is_empty() || !self.kept.untold.is_empty() || self.kept.is_cursor_due() {
            let portion = self.kept.portion(now);
            match self.coordinator.events.append(portion.events, portion.commit).await {
                Ok(version) => self.kept.stored(portion.places, version),
                Err(CommitError::Refused(error)) => {
                    // Nothing happened: the same is tried again.
                    self.kept.untold.extend(portion.changes);
                    return Err(error);
                }
                Err(CommitError::Conflict { key }) => {
                    warn!(%key, "Alerts were changed by somebody else; reading them again");
                    self.read_again().await?;
                }
                Err(CommitError::Unknown(error)) => {
                    self.read_again().await?;
                    return Err(error);
                }
                Err(error @ (CommitError::TooLarge { .. } | CommitError::NoRoom(_))) => {
                    self.kept.untold.extend(portion.changes);
                    return Err(StoreError::too_large(&error));
                }
            }
        }
        Ok(())
    }

    fn show(&self, silences: Vec<Silence>) {
        let alerts = &self.kept.alerts;
        let all = alerts.all().map(|(place, id, alert)| (place.clone(), id.clone(), alert.clone()));
        let told = alerts.places.iter().flat_map(|(place, kept)| {
            kept.told.iter().map(|(key, told)| (place.clone(), key.clone(), told.clone()))
        });
        let policy = alerts.policy.clone();
        self.coordinator.alerts.show(Picture {
            alerts: all.collect(),
            told: told.collect(),
            silences,
            policy,
        });
    }
}

/// What one commit stores.
struct Portion {
    commit: Transaction,
    events: Vec<Draft>,
    changes: Vec<Change>,
    places: Vec<Place>,
}

impl Kept {
    /// A cursor that moved over events without an alert is stored with the next alert, or after so many events.
    fn is_cursor_due(&self) -> bool {
        let behind = self.cursor.event.saturating_sub(self.cursor.stored);
        self.cursor.version == 0 || EVENTS_MAX as u64 <= behind
    }

    fn portion(&mut self, now: Timestamp) -> Portion {
        let (mut commit, mut places, mut bytes) = (Transaction::default(), Vec::new(), 0);
        for place in self.unstored.iter().take(PLACES_MAX) {
            let value = self.encoded(place);
            bytes += value.len();
            if COMMIT_BYTES_MAX < bytes && !places.is_empty() {
                break;
            }
            let version = self.versions.get(place).copied().unwrap_or(0);
            commit = commit.replace(Key::alerts(place), version, value);
            places.push(place.clone());
        }
        // What happened is past only when all that follows from it is stored.
        if places.len() == self.unstored.len() {
            let record = CursorRecord { event: self.cursor.event };
            commit = commit.replace(Key::alert_cursor(), self.cursor.version, record.encode());
        }
        let changes = std::mem::take(&mut self.untold);
        let events = changes.iter().map(|change| draft(change, now)).collect();
        Portion { commit, events, changes, places }
    }

    fn encoded(&self, place: &Place) -> Vec<u8> {
        let record = PlaceRecord(self.alerts.places.get(place).cloned().unwrap_or_default());
        let value = record.encode();
        if value.len() <= PLACE_BYTES_MAX { value } else { record.without_reasons().encode() }
    }

    fn stored(&mut self, places: Vec<Place>, version: Version) {
        if places.len() == self.unstored.len() {
            (self.cursor.version, self.cursor.stored) = (version, self.cursor.event);
        }
        for place in places {
            self.unstored.remove(&place);
            self.versions.insert(place, version);
        }
    }
}

fn draft(change: &Change, now: Timestamp) -> Draft {
    let Change { kind, id, reason, .. } = change;
    let (kind, text) = match kind {
        ChangeKind::Raised => {
            let why = fleet::reason::Reason(reason);
            (Kind::AlertRaised, format!("{}: {}{why}", id.rule.title(), id.subject))
        }
        ChangeKind::Ended => (Kind::AlertEnded, format!("over: {}: {}", id.rule.title(), id.subject)),
    };
    let event = Draft::new(now, kind, text).with("rule", &id.rule).with("subject", &id.subject);
    match id.subject.node() {
        Some(node) => event.of_node(node),
        None => event,
    }
}
