//! The status for operators, whenever it changed. It is made once, however many watch it, and only while somebody does.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{BufMut as _, Bytes};
use futures::Stream;
use prost::Message as _;
use proto::wire::operator as wire;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, NamedService, ServerStreamingService},
};
use tower::Service;

use super::{
    caller::{caller, peer_of},
    status, store_failed,
};
use crate::{access::Unwelcome, coordinator::Coordinator, identity::OperatorPeer, store::StoreError};

/// Between two statuses.
const STATUS_PAUSE: Duration = Duration::from_millis(250);
/// Without a change the status is sent again so often: it holds clocks and measurements.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// When a stream of this operator ends at the latest.
pub(super) fn expiry(coordinator: &Coordinator, operator: &OperatorPeer) -> Instant {
    Instant::now() + operator.not_after.since((coordinator.clock)())
}

/// Tells whoever reads a stream why it ends.
pub(super) fn gone(why: &Unwelcome) -> Status {
    Status::unauthenticated(why.to_string())
}

/// Fills a stream by `work` until it ends for another reason: the operator counts no longer, nobody listens, or the
/// coordinator stops.
pub(super) async fn while_welcome<T>(
    coordinator: &Coordinator,
    operator: &OperatorPeer,
    sender: &mpsc::Sender<Result<T, Status>>,
    work: impl Future<Output = ()>,
) {
    tokio::select! {
        () = work => {}
        why = coordinator.unwelcome(operator) => drop(sender.try_send(Err(gone(&why)))),
        () = sender.closed() => {}
        () = coordinator.stop.cancelled() => {}
    }
}

/// The status at this moment.
pub(super) async fn now(coordinator: &Coordinator) -> Result<wire::StatusReply, StoreError> {
    let snapshot = coordinator.snapshot().await?;
    let places = coordinator.places(&snapshot).await?;
    let now = (coordinator.clock)();
    let alerts = coordinator.alerts.picture();
    Ok(status::status(&snapshot, &places, status::Moment { now, alerts: &alerts }))
}

/// The newest status, encoded, for all who watch.
pub(super) struct Shown {
    newest: watch::Sender<Option<Result<Bytes, Status>>>,
    /// Somebody has begun to watch.
    wanted: Notify,
}

impl Shown {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { newest: watch::Sender::new(None), wanted: Notify::new() })
    }

    /// Keeps the status current while somebody watches it, until the coordinator stops.
    pub(super) async fn run(self: Arc<Self>, coordinator: Arc<Coordinator>) {
        let mut records = coordinator.mirror.changes();
        let mut live = coordinator.live.watch();
        let mut trouble = coordinator.trouble.subscribe();
        loop {
            if self.newest.receiver_count() == 0 {
                // Whoever comes next is not shown an old one.
                self.newest.send_replace(None);
                tokio::select! {
                    () = self.wanted.notified() => {}
                    () = coordinator.stop.cancelled() => return,
                }
            }
            records.mark_seen();
            live.mark_unchanged();
            trouble.mark_unchanged();
            let status = now(&coordinator).await.map_err(|error| store_failed(&error));
            self.newest.send_replace(Some(status.map(|status| status.encode_to_vec().into())));
            let earliest = Instant::now() + STATUS_PAUSE;
            tokio::select! {
                () = records.changed() => {}
                _ = live.changed() => {}
                _ = trouble.changed() => {}
                () = tokio::time::sleep(STATUS_EVERY) => {}
                () = coordinator.stop.cancelled() => return,
            }
            tokio::time::sleep_until(earliest).await;
        }
    }

    /// Sends every status until the stream ends: with the caller's certificate, when nobody listens, with a failure, or
    /// when the coordinator stops.
    async fn send_all(
        self: Arc<Self>,
        coordinator: Arc<Coordinator>,
        operator: OperatorPeer,
        sender: mpsc::Sender<Result<Bytes, Status>>,
    ) {
        let expires = expiry(&coordinator, &operator);
        let unwelcome = coordinator.unwelcome(&operator);
        tokio::pin!(unwelcome);
        let mut newest = self.newest.subscribe();
        // One that is there already is sent at once.
        newest.mark_changed();
        self.wanted.notify_one();
        loop {
            tokio::select! {
                _ = newest.changed() => {}
                () = tokio::time::sleep_until(expires) => return,
                why = &mut unwelcome => return drop(sender.try_send(Err(gone(&why)))),
                () = sender.closed() => return,
                () = coordinator.stop.cancelled() => return,
            }
            let Some(status) = newest.borrow_and_update().clone() else { continue };
            let failed = status.is_err();
            if sender.send(status).await.is_err() || failed {
                return;
            }
        }
    }
}

const WATCH_STATUS: &str = "/convoy.operator.v1.Operator/WatchStatus";

/// Answers `WatchStatus` with what is encoded already; the other calls are for `inner`.
#[derive(Clone)]
pub(super) struct WithShown<S> {
    pub(super) inner: S,
    pub(super) shown: Arc<Shown>,
    pub(super) coordinator: Arc<Coordinator>,
}

impl<S: NamedService> NamedService for WithShown<S> {
    const NAME: &'static str = S::NAME;
}

type Answering = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl<S> Service<http::Request<Body>> for WithShown<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Answering {
        if request.uri().path() != WATCH_STATUS {
            return Box::pin(self.inner.call(request));
        }
        let (shown, coordinator) = (self.shown.clone(), self.coordinator.clone());
        Box::pin(async move {
            let watching = Watching { shown, coordinator };
            Ok(Grpc::new(Encoded).server_streaming(watching, request).await)
        })
    }
}

struct Watching {
    shown: Arc<Shown>,
    coordinator: Arc<Coordinator>,
}

type Statuses = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl ServerStreamingService<wire::StatusRequest> for Watching {
    type Response = Bytes;
    type ResponseStream = Statuses;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Statuses>, Status>> + Send>>;

    fn call(&mut self, request: Request<wire::StatusRequest>) -> Self::Future {
        let (shown, coordinator, peer) = (self.shown.clone(), self.coordinator.clone(), peer_of(&request));
        Box::pin(async move {
            let caller = caller(&coordinator, peer).await?;
            caller.look().await?;
            let (sender, receiver) = mpsc::channel(1);
            let sending = shown.send_all(coordinator.clone(), caller.peer, sender);
            coordinator.tasks.spawn("status stream", sending);
            Ok(Response::new(Box::pin(ReceiverStream::new(receiver)) as Statuses))
        })
    }
}

/// Messages that are encoded already.
#[derive(Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = wire::StatusRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = wire::StatusRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<wire::StatusRequest>, Status> {
        let request = wire::StatusRequest::decode(buffer);
        request.map(Some).map_err(|error| Status::invalid_argument(error.to_string()))
    }
}
