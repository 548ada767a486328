//! The status for operators, whenever it changed. The stream ends with the caller's certificate, when nobody listens, or
//! when the coordinator stops.

use std::{sync::Arc, time::Duration};

use proto::wire::operator as wire;
use tokio::{sync::mpsc, time::Instant};
use tonic::Status;

use super::{status, store_failed};
use crate::{coordinator::Coordinator, identity::OperatorPeer, store::StoreError};

/// Between two statuses of one stream.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// Without a change the status is sent again so often: it holds clocks and measurements.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// When a stream of this operator ends at the latest.
pub(super) fn expiry(coordinator: &Coordinator, operator: &OperatorPeer) -> Instant {
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
    let mut trouble = coordinator.trouble.subscribe();
    loop {
        store.mark_unchanged();
        trouble.mark_unchanged();
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
            _ = trouble.changed() => {}
            () = tokio::time::sleep(STATUS_EVERY) => {}
            () = tokio::time::sleep_until(expires) => return,
            () = sender.closed() => return,
            () = coordinator.stop.cancelled() => return,
        }
        tokio::time::sleep_until(earliest).await;
    }
}
