//! What Prometheus reads, and what a load balancer or an orchestrator asks about health: a listener of its own, which
//! needs no certificate and therefore tells nothing secret. docs/metrics.md lists every metric.

mod classic;
mod figures;
mod meters;

use std::{convert::Infallible, fmt::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tracing::{debug, warn};

pub use meters::{CountCalls, Metered, Meters};

use crate::{coordinator::Coordinator, disk::StoreTrouble, store::StoreError};

/// Of OpenMetrics 1.0, which Prometheus asks for by itself.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Of the older format, for whoever does not ask for that.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at once; whoever scrapes needs one.
const CONNECTIONS_MAX: usize = 16;
/// From the first byte of a request to the end of its head, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For one connection in all; Prometheus dials again.
const CONNECTION_TIME: Duration = Duration::from_secs(600);
/// After an error that is not the peer's, such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers until the coordinator stops. `node_labels`: every node has series of its own.
pub async fn run(coordinator: Arc<Coordinator>, listener: TcpListener, node_labels: bool) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = coordinator.stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "Cannot take a connection to the metrics");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(turn) = free.clone().try_acquire_owned() else {
            debug!(%peer, "Too many connections to the metrics");
            continue;
        };
        let answering = coordinator.clone();
        coordinator.tasks.spawn("metrics connection", async move {
            serve(answering, (stream, peer), node_labels).await;
            drop(turn);
        });
    }
}

async fn serve(coordinator: Arc<Coordinator>, (stream, peer): (TcpStream, SocketAddr), node_labels: bool) {
    let stop = coordinator.stop.clone();
    let answering = service_fn(move |request: Request<Incoming>| {
        let coordinator = coordinator.clone();
        async move { Ok::<_, Infallible>(answer(&coordinator, &request, node_labels).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), answering);
    let ended = tokio::select! {
        ended = timeout(CONNECTION_TIME, connection) => ended,
        () = stop.cancelled() => return,
    };
    if let Ok(Err(error)) = ended {
        debug!(%peer, %error, "A connection to the metrics ended");
    }
}

async fn answer<B>(
    coordinator: &Coordinator,
    request: &Request<B>,
    node_labels: bool,
) -> Response<Full<Bytes>> {
    let text = |status, text: String| with_type(status, "text/plain; charset=utf-8", text);
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned());
    }
    match request.uri().path() {
        "/metrics" => match exposition(coordinator, node_labels).await {
            Ok(exposition) if takes_open_metrics(request) => {
                with_type(StatusCode::OK, OPEN_METRICS, exposition)
            }
            Ok(exposition) => with_type(StatusCode::OK, CLASSIC, classic::from_open_metrics(&exposition)),
            Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        },
        // It answers, so it lives.
        "/livez" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => match not_ready(coordinator).await {
            None => text(StatusCode::OK, "ok\n".to_owned()),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
        },
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz\n".to_owned()),
    }
}

fn takes_open_metrics<B>(request: &Request<B>) -> bool {
    let mut accepted = request.headers().get_all(header::ACCEPT).iter();
    accepted.any(|it| it.to_str().is_ok_and(|it| it.contains("application/openmetrics-text")))
}

fn with_type(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// Why agents and operators are not served as they should be.
async fn not_ready(coordinator: &Coordinator) -> Option<String> {
    if coordinator.stop.is_cancelled() {
        return Some("the coordinator is stopping".to_owned());
    }
    if let Some(trouble) = &*coordinator.trouble.borrow() {
        return match trouble {
            StoreTrouble::CannotCommit { why } => Some(format!("the store does not commit: {why}")),
            // It serves; applies are refused, and status says so.
            StoreTrouble::LowRoom { .. } => None,
        };
    }
    coordinator.snapshot().await.err().map(|error| format!("the records cannot be read: {error}"))
}

/// Everything that is measured, as text.
async fn exposition(coordinator: &Coordinator, node_labels: bool) -> Result<String, StoreError> {
    let snapshot = coordinator.snapshot().await?;
    let now = figures::registry(coordinator, &snapshot, node_labels);
    let mut text = String::new();
    let written = encode_registry(&mut text, coordinator.meters.registry())
        .and_then(|()| encode_registry(&mut text, &now))
        .and_then(|()| encode_eof(&mut text));
    if written.is_err() {
        // Writing to a string does not fail.
        text.write_str("# EOF\n").ok();
    }
    Ok(text)
}
