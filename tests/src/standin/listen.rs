//! Listening sockets: bind on loopback, speak TLS where the port does, hand requests to `endpoints`.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::descriptor::PortKind;
use super::endpoints::{self, Asked, View};

/// Certificate and key of a pack, below the home.
pub const TLS_FILE: &str = "repository/resources/security/standin-tls.pem";

/// Connections served at once per port; more wait in the listen queue. As many as a busy gateway holds.
const CONNECTIONS_MAX: usize = 30_000;

/// Bytes of a request that are read.
const BODY_MAX: usize = 64 * 1024;

/// Gives the present state for each request.
pub type Viewer = Arc<dyn Fn() -> View + Send + Sync>;

/// Reads the TLS side of a pack.
pub fn acceptor(home: &Path) -> io::Result<TlsAcceptor> {
    let pem = std::fs::read(home.join(TLS_FILE))?;
    let certificates: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(io::Error::other)?;
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, key))
            .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A self-signed `localhost` certificate with its key, as one PEM text; what the real packs ship in a keystore.
pub fn self_signed() -> Result<String, rcgen::Error> {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    Ok(format!("{}{}", certified.cert.pem(), certified.signing_key.serialize_pem()))
}

/// Accepts until the task is dropped.
pub async fn serve(listener: TcpListener, kind: PortKind, tls: Option<TlsAcceptor>, viewer: Viewer) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        // A failed accept concerns one client (or a passing shortage of descriptors), never the port.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let (tls, viewer) = (tls.clone(), viewer.clone());
        connections.spawn(async move {
            match tls {
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        converse(stream, kind, viewer).await;
                    }
                }
                None => converse(stream, kind, viewer).await,
            }
        });
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    kind: PortKind,
    viewer: Viewer,
) {
    if !kind.is_http() {
        return hold(stream).await;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let view = viewer();
        async move {
            tokio::time::sleep(view.delay).await;
            let authorization = request.headers().get(header::AUTHORIZATION);
            let authorization = authorization.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let (path, method) = (request.uri().path().to_owned(), request.method().clone());
            let asked = Asked {
                path: &path,
                method: &method,
                authorization: authorization.as_deref(),
                body: &body(request).await,
            };
            Ok::<_, Infallible>(response(endpoints::answer(kind, &asked, &view)))
        }
    });
    // A client that hangs up mid-way is no concern of ours.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

/// What was sent, as far as it is worth reading.
async fn body(request: Request<Incoming>) -> String {
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await;
    body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned()).unwrap_or_default()
}

fn response(answer: endpoints::Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(answer.content_type));
    if let Some(location) = answer.location.and_then(|location| location.parse().ok()) {
        headers.insert(header::LOCATION, location);
    }
    response
}

/// Reads and ignores until the client goes, like a broker that waits for a handshake.
async fn hold(mut stream: impl AsyncRead + Unpin) {
    let mut ignored = [0_u8; 256];
    while matches!(stream.read(&mut ignored).await, Ok(count) if 0 < count) {}
}
