//! Events for operators: those that a filter names, oldest first, and how many are gone.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use fleet::{ids::NodeName, time::Timestamp};
use proto::wire::operator as wire;
use tokio::sync::mpsc;
use tonic::Status;

use super::{
    follow::{expiry, gone},
    status, store_failed,
};
use crate::{
    coordinator::Coordinator,
    events::index,
    identity::OperatorPeer,
    store::{
        Key, Range, StoreError,
        records::{EventRecord, Record as _},
    },
};

/// Events read at once.
const BATCH: usize = 256;

/// What was asked for.
pub(super) struct Query {
    filter: Filter,
    /// Only numbers above this.
    after: u64,
    /// The newest, at most so many; 0: all.
    most: u32,
    /// Also those to come.
    follow: bool,
}

impl Query {
    /// Reads it.
    ///
    /// # Errors
    /// See [`Filter::read`].
    pub(super) async fn read(
        coordinator: &Coordinator,
        request: wire::EventsRequest,
    ) -> Result<Self, Status> {
        let filter = Filter::read(coordinator, &request).await?;
        Ok(Self { filter, after: request.after, most: request.most, follow: request.follow })
    }
}

/// Which events are wanted.
struct Filter {
    /// `None`: of all nodes, and those of none.
    nodes: Option<BTreeSet<NodeName>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Empty: all.
    kinds: BTreeSet<String>,
    /// Empty: of anybody.
    actor: String,
}

impl Filter {
    /// Reads what was asked for.
    ///
    /// # Errors
    /// A node's name that is none, or a group that the newest revision has not.
    pub(super) async fn read(
        coordinator: &Coordinator,
        request: &wire::EventsRequest,
    ) -> Result<Self, Status> {
        let asked = request.filter.clone().unwrap_or_default();
        let node =
            (!request.node.is_empty()).then(|| super::operator::node_name(&request.node)).transpose()?;
        let group = match asked.group.as_str() {
            "" => None,
            group => Some(nodes_of(coordinator, group).await?),
        };
        let nodes = match (node, group) {
            (Some(node), Some(mut group)) => {
                group.retain(|one| *one == node);
                Some(group)
            }
            (Some(node), None) => Some(BTreeSet::from([node])),
            (None, group) => group,
        };
        Ok(Self {
            nodes,
            since: asked.since_ms.map(Timestamp),
            until: asked.until_ms.map(Timestamp),
            kinds: asked.kinds.into_iter().collect(),
            actor: asked.actor,
        })
    }

    fn takes(&self, event: &EventRecord) -> bool {
        let of_node =
            |nodes: &BTreeSet<NodeName>| event.node.as_ref().is_some_and(|node| nodes.contains(node));
        self.nodes.as_ref().is_none_or(of_node)
            && self.since.is_none_or(|since| since <= event.at)
            && self.until.is_none_or(|until| event.at <= until)
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && (self.actor.is_empty() || self.actor == event.actor)
    }

    fn takes_all(&self) -> bool {
        self.nodes.is_none()
            && self.since.is_none()
            && self.until.is_none()
            && self.kinds.is_empty()
            && self.actor.is_empty()
    }
}

async fn nodes_of(coordinator: &Coordinator, group: &str) -> Result<BTreeSet<NodeName>, Status> {
    let snapshot = coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
    let targets = snapshot.revision.iter().flat_map(|revision| &revision.nodes);
    let own = targets.filter(|(_, target)| target.group.as_str() == group);
    let nodes: BTreeSet<NodeName> = own.map(|(name, _)| name.clone()).collect();
    if nodes.is_empty() {
        return Err(Status::not_found(format!("the newest revision has no node in a group {group:?}")));
    }
    Ok(nodes)
}

/// Reads on from a number.
struct Reader {
    coordinator: Arc<Coordinator>,
    filter: Filter,
    /// Read up to here.
    after: u64,
    /// Events that were asked for and removed before they were read, of whatever kind and node.
    missing: u64,
}

impl Reader {
    /// The next events, after the filter; `None`: there are no more for now.
    async fn next(&mut self) -> Result<Option<Vec<EventRecord>>, StoreError> {
        let oldest = index::oldest(&*self.coordinator.store).await?;
        if self.after.saturating_add(1) < oldest {
            self.missing += oldest - 1 - self.after;
            self.after = oldest - 1;
        }
        let found = match &self.filter.nodes {
            Some(nodes) => self.of(nodes).await?,
            None => self.of_all().await?,
        };
        let Some(last) = found.last() else { return Ok(None) };
        self.after = last.seq;
        Ok(Some(found.into_iter().filter(|event| self.filter.takes(event)).collect()))
    }

    async fn of(&self, nodes: &BTreeSet<NodeName>) -> Result<Vec<EventRecord>, StoreError> {
        let store = &*self.coordinator.store;
        let mut found = Vec::new();
        for seq in self.coordinator.event_index.after(store, nodes, (self.after, BATCH)).await? {
            // What was cut just now is counted at the next turn.
            if let Some(entry) = store.get(&Key::event(seq)).await? {
                found.push(EventRecord::read(&entry)?);
            }
        }
        Ok(found)
    }

    async fn of_all(&self) -> Result<Vec<EventRecord>, StoreError> {
        let range = Range { after: Some(Key::event(self.after)), ..Range::first(Key::EVENTS, BATCH) };
        self.coordinator.store.range(range).await?.iter().map(EventRecord::read).collect()
    }

    /// Goes to where the last `most` begin.
    async fn go_to_last(&mut self, most: usize) -> Result<(), StoreError> {
        let mut taken = VecDeque::new();
        let first = self.coordinator.store.range(Range::first(Key::EVENTS, 1)).await?;
        let first = first.first().map(EventRecord::read).transpose()?;
        // Whoever asks since a time may miss what was cut; whoever asks for the last ones does not.
        let is_cut = self.filter.since.zip(first).is_some_and(|(since, first)| since < first.at);
        if self.filter.takes_all() {
            let found = self.coordinator.store.range(Range::last(Key::EVENTS, most)).await?;
            taken.extend(found.last().map(EventRecord::read).transpose()?.map(|event| event.seq));
        } else {
            while let Some(found) = self.next().await? {
                taken.extend(found.iter().map(|event| event.seq));
                taken.drain(..taken.len().saturating_sub(most));
            }
        }
        // Without a match only those to come are left.
        self.after = taken.front().map_or(self.after, |first| first.saturating_sub(1));
        if !is_cut || taken.len() == most {
            self.missing = 0;
        }
        Ok(())
    }
}

/// Sends the events that are asked for, then those that come, if they are to be followed; no longer than the operator
/// counts.
pub(super) async fn events(
    coordinator: Arc<Coordinator>,
    operator: OperatorPeer,
    query: Query,
    sender: mpsc::Sender<Result<wire::Event, Status>>,
) {
    tokio::select! {
        () = send_events(coordinator.clone(), operator.clone(), query, sender.clone()) => {}
        why = coordinator.unwelcome(&operator) => drop(sender.try_send(Err(gone(&why)))),
    }
}

async fn send_events(
    coordinator: Arc<Coordinator>,
    operator: OperatorPeer,
    query: Query,
    sender: mpsc::Sender<Result<wire::Event, Status>>,
) {
    let expires = expiry(&coordinator, &operator);
    let mut changes = coordinator.store.watch(Key::EVENTS);
    let Query { filter, after, most, follow } = query;
    let mut left = if most == 0 { u64::MAX } else { u64::from(most) };
    let mut reader = Reader { coordinator: coordinator.clone(), filter, after, missing: 0 };
    if after == 0 && most != 0 {
        if let Err(error) = reader.go_to_last(most as usize).await {
            return drop(sender.send(Err(store_failed(&error))).await);
        }
        if follow {
            // `most` was about the past; what is followed has no end.
            left = u64::MAX;
        }
    }
    loop {
        changes.mark_unchanged();
        match send_all(&mut reader, &mut left, &sender).await {
            Ok(Sent::All) => {}
            Ok(Sent::Enough) => return,
            Err(error) => return drop(sender.send(Err(store_failed(&error))).await),
        }
        if !follow {
            return;
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep_until(expires) => return,
            () = sender.closed() => return,
            () = coordinator.stop.cancelled() => return,
        }
    }
}

/// How far sending came.
enum Sent {
    /// Everything that there is.
    All,
    /// No more is wanted.
    Enough,
}

async fn send_all(
    reader: &mut Reader,
    left: &mut u64,
    sender: &mpsc::Sender<Result<wire::Event, Status>>,
) -> Result<Sent, StoreError> {
    while let Some(found) = reader.next().await? {
        for event in found {
            if *left == 0 {
                return Ok(Sent::Enough);
            }
            let event = wire::Event { missing: std::mem::take(&mut reader.missing), ..status::event(event) };
            if sender.send(Ok(event)).await.is_err() {
                return Ok(Sent::Enough);
            }
            *left -= 1;
        }
    }
    Ok(Sent::All)
}
