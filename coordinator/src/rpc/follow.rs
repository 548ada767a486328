//! Streams to operators: the status whenever it changed, and events as they come. Each ends with the caller's
//! certificate, when nobody listens, or when the coordinator stops.

use std::{sync::Arc, time::Duration};

use proto::wire::operator as wire;
use tokio::{sync::mpsc, time::Instant};
use tonic::Status;

use super::{status, store_failed};
use crate::{
    coordinator::Coordinator,
    identity::OperatorPeer,
    store::{
        Key, Range, StoreError,
        records::{EventRecord, Record as _},
    },
};

/// Between two statuses of one stream.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// Without a change the status is sent again so often: it holds clocks and measurements.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// Events read at once.
const EVENTS_BATCH: usize = 256;
/// Events that are read to find the last ones of one node.
const EVENTS_SEARCHED: usize = 5_000;

fn expiry(coordinator: &Coordinator, operator: &OperatorPeer) -> Instant {
    Instant::now() + operator.not_after.since((coordinator.clock)())
}

/// The status at this moment.
pub(super) async fn now(coordinator: &Coordinator) -> Result<wire::StatusReply, StoreError> {
    let snapshot = coordinator.snapshot().await?;
    let places = coordinator.places(&snapshot).await?;
    Ok(status::status(&snapshot, &places, (coordinator.clock)()))
}

/// Sends the whole status at once, and again when it changed.
pub(super) async fn statuses(
    coordinator: Arc<Coordinator>,
    operator: OperatorPeer,
    sender: mpsc::Sender<Result<wire::StatusReply, Status>>,
) {
    let expires = expiry(&coordinator, &operator);
    let mut store = coordinator.store.watch("");
    let mut live = coordinator.live.watch();
    loop {
        store.mark_unchanged();
        live.mark_unchanged();
        let next = now(&coordinator).await.map_err(|error| store_failed(&error));
        let failed = next.is_err();
        if sender.send(next).await.is_err() || failed {
            return;
        }
        let earliest = Instant::now() + STATUS_PAUSE;
        tokio::select! {
            _ = store.changed() => {}
            _ = live.changed() => {}
            () = tokio::time::sleep(STATUS_EVERY) => {}
            () = tokio::time::sleep_until(expires) => return,
            () = sender.closed() => return,
            () = coordinator.stop.cancelled() => return,
        }
        tokio::time::sleep_until(earliest).await;
    }
}

/// Sends events after a number, then those that come, if they are to be followed.
pub(super) async fn events(
    coordinator: Arc<Coordinator>,
    operator: OperatorPeer,
    request: wire::EventsRequest,
    sender: mpsc::Sender<Result<wire::Event, Status>>,
) {
    let expires = expiry(&coordinator, &operator);
    let mut changes = coordinator.store.watch(Key::EVENTS);
    let mut place = Place { after: request.after, missing: 0 };
    let mut left = if request.most == 0 { u64::MAX } else { u64::from(request.most) };
    if request.after == 0 && request.most != 0 {
        match first_of_last(&coordinator, &request).await {
            Ok(before) => place.after = before,
            Err(error) => return drop(sender.send(Err(store_failed(&error))).await),
        }
        if request.follow {
            // `most` was about the past; what is followed has no end.
            left = u64::MAX;
        }
    }
    loop {
        changes.mark_unchanged();
        match send_after(&coordinator, &request, (&mut place, &mut left), &sender).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return drop(sender.send(Err(store_failed(&error))).await),
        }
        if !request.follow {
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

/// How far a reader has come.
struct Place {
    after: u64,
    /// Events that it asked for and that were removed before they were read, of whatever node.
    missing: u64,
}

impl Place {
    /// Numbers have no gaps except where history was cut.
    fn advance(&mut self, seq: u64) {
        self.missing += seq.saturating_sub(self.after.saturating_add(1));
        self.after = seq;
    }
}

fn concerns(request: &wire::EventsRequest, event: &EventRecord) -> bool {
    request.node.is_empty() || event.node.as_ref().is_some_and(|node| node.as_str() == request.node)
}

/// The number before the first of the last `most` events.
async fn first_of_last(coordinator: &Coordinator, request: &wire::EventsRequest) -> Result<u64, StoreError> {
    let most = request.most as usize;
    let searched = if request.node.is_empty() { most } else { EVENTS_SEARCHED };
    let found = coordinator.store.range(Range::last(Key::EVENTS, searched)).await?;
    let mut first = u64::MAX;
    let mut count = 0;
    for entry in &found {
        let event = EventRecord::read(entry)?;
        if concerns(request, &event) {
            first = event.seq;
            count += 1;
        }
        if count == most {
            break;
        }
    }
    Ok(first.saturating_sub(1).min(found.first().map_or(Ok(0), |e| EventRecord::read(e).map(|e| e.seq))?))
}

/// Sends what there is after `after`; `false` when no more is wanted.
async fn send_after(
    coordinator: &Coordinator,
    request: &wire::EventsRequest,
    (place, left): (&mut Place, &mut u64),
    sender: &mpsc::Sender<Result<wire::Event, Status>>,
) -> Result<bool, StoreError> {
    loop {
        let range = Range { after: Some(Key::event(place.after)), ..Range::first(Key::EVENTS, EVENTS_BATCH) };
        let found = coordinator.store.range(range).await?;
        for entry in &found {
            let event = EventRecord::read(entry)?;
            place.advance(event.seq);
            if !concerns(request, &event) {
                continue;
            }
            if *left == 0 {
                return Ok(false);
            }
            let event = wire::Event { missing: std::mem::take(&mut place.missing), ..status::event(event) };
            if sender.send(Ok(event)).await.is_err() {
                return Ok(false);
            }
            *left -= 1;
        }
        if found.len() < EVENTS_BATCH {
            return Ok(true);
        }
    }
}
