//! Answers requests, a few connections at once, all in the caller's task.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::{
    Exposed, classic,
    socket::{Arrival, Bound},
};

/// Of OpenMetrics 1.0, which Prometheus asks for by itself.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Of the older format, for whoever does not ask for that.
const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Connections at once; whoever scrapes needs one.
const CONNECTIONS_MAX: usize = 16;
/// For a handshake, from the first byte of a request to the end of its head, and between two requests.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// For one connection in all; Prometheus dials again.
const CONNECTION_TIME: Duration = Duration::from_secs(600);
/// After an error that is not the peer's, such as no free descriptor.
const PAUSE: Duration = Duration::from_millis(200);

/// Answers until `stop`. A panic while one connection is answered ends that connection.
pub async fn serve(bound: Bound, exposed: Arc<dyn Exposed>, stop: CancellationToken) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = bound.accept() => match accepted {
                Ok(_) if CONNECTIONS_MAX <= connections.len() => debug!("Too many connections to the metrics"),
                Ok(arrival) => {
                    let answering = connection(arrival, exposed.clone());
                    connections.push(AssertUnwindSafe(answering).catch_unwind());
                }
                Err(error) => {
                    warn!(%error, "Cannot take a connection to the metrics");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(ended) = connections.next() => {
                if ended.is_err() {
                    error!("Answering for metrics panicked; this is a defect of Convoy");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn connection(arrival: Arrival, exposed: Arc<dyn Exposed>) {
    let stream = match timeout(HEAD_TIME, arrival.shake_hands()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return debug!(%error, "A handshake at the metrics failed"),
        Err(_) => return debug!("A handshake at the metrics took too long"),
    };
    let answering = service_fn(move |request: Request<Incoming>| {
        let exposed = exposed.clone();
        async move { Ok::<_, Infallible>(answer(&*exposed, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), answering);
    if let Ok(Err(error)) = timeout(CONNECTION_TIME, connection).await {
        debug!(%error, "A connection to the metrics ended");
    }
}

async fn answer<B>(exposed: &dyn Exposed, request: &Request<B>) -> Response<Full<Bytes>> {
    let text = |status, text: String| with_type(status, "text/plain; charset=utf-8", text);
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned());
    }
    let health = |wrong: Option<String>| match wrong {
        None => text(StatusCode::OK, "ok\n".to_owned()),
        Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.replace(['\n', '\r'], " "))),
    };
    match request.uri().path() {
        "/metrics" => match exposed.metrics().await {
            Ok(metrics) if takes_open_metrics(request) => with_type(StatusCode::OK, OPEN_METRICS, metrics),
            Ok(metrics) => with_type(StatusCode::OK, CLASSIC, classic::from_open_metrics(&metrics)),
            Err(why) => health(Some(why)),
        },
        "/livez" => health(exposed.not_alive().await),
        "/readyz" => health(exposed.not_ready().await),
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
