//! One POST over HTTP/1.1, with or without TLS: what webhooks, Slack, Teams and Alertmanager have in common. Redirects
//! are not followed, and a connection serves one request.

use std::{fmt, path::Path, sync::Arc};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sha2::Sha256;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::rpc::chain;

/// Where a channel posts to. Its path may be a secret, as with Slack, so it is never shown.
#[derive(Clone)]
pub(crate) struct Endpoint {
    uri: http::Uri,
    tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

/// A header of a request.
pub(crate) struct Header {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

impl Endpoint {
    /// Checks a URL. `authorities` is a PEM file of whom to trust besides the system's own.
    ///
    /// # Errors
    /// What is wrong with either, without the URL.
    pub(crate) fn parse(url: &str, authorities: Option<&Path>) -> Result<Self, String> {
        let wrong = || "this is no URL; write it as \"https://host/path\"".to_owned();
        let uri: http::Uri = url.trim().parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("https") => Some(Arc::new(trusting(authorities)?)),
            Some("http") => None,
            Some(_) | None => return Err(wrong()),
        };
        if uri.host().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self { uri, tls })
    }

    /// The same host, at `path` below the path that was given.
    pub(crate) fn below(self, path: &str) -> Result<Self, String> {
        let whole = format!("{}{path}", self.uri.to_string().trim_end_matches('/'));
        let uri = whole.parse().map_err(|_| "this is no URL".to_owned())?;
        Ok(Self { uri, ..self })
    }

    /// Scheme and host.
    pub(crate) fn shown(&self) -> String {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        format!("{scheme}://{}/…", self.uri.authority().map_or("", http::uri::Authority::as_str))
    }
}

/// The certificates of a PEM file, at least one.
pub(super) fn authorities_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unreadable = |error: &dyn fmt::Display| format!("cannot read {}: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
    let found: Result<Vec<_>, _> = found.collect();
    match found {
        Ok(found) if found.is_empty() => Err(unreadable(&"it has no certificate")),
        Ok(found) => Ok(found),
        Err(error) => Err(unreadable(&error)),
    }
}

fn trusting(authorities: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            for certificate in authorities_of(path)? {
                let added = roots.add(certificate);
                added.map_err(|error| format!("cannot trust {}: {error}", path.display()))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return Err("there is no authority to trust; install the system's certificates, or name a file by \
                    `authorities`"
            .to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Posts JSON; any status of the 200s is success.
///
/// # Errors
/// Why it did not arrive.
pub(super) async fn post(endpoint: &Endpoint, headers: &[Header], body: Vec<u8>) -> Result<(), String> {
    let host = endpoint.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = endpoint.uri.port_u16().unwrap_or(if endpoint.tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await;
    let stream = stream.map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
    match &endpoint.tls {
        None => exchange(endpoint, headers, body, stream).await,
        Some(config) => {
            let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
            let stream = TlsConnector::from(config.clone()).connect(name, stream).await;
            let stream = stream.map_err(|error| format!("no TLS with {host}:{port}: {error}"))?;
            exchange(endpoint, headers, body, stream).await
        }
    }
}

async fn exchange(
    endpoint: &Endpoint,
    headers: &[Header],
    body: Vec<u8>,
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<(), String> {
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| format!("no HTTP: {}", chain(&error)))?;
    let path = endpoint.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let authority = endpoint.uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let mut request = http::Request::builder()
        .method("POST")
        .uri(path)
        .header("host", authority)
        .header("content-type", "application/json")
        .header("user-agent", concat!("convoy/", env!("CARGO_PKG_VERSION")))
        .header("connection", "close");
    for header in headers {
        request = request.header(header.name, &header.value);
    }
    let request = request.body(Full::new(Bytes::from(body))).map_err(|error| error.to_string())?;
    // The answer's body is of no use, so it is not read; the connection ends with this call. A receiver may close it
    // right after its answer, which is then there all the same.
    let mut sending = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        biased;
        answer = &mut sending => answer,
        ended = connection => match ended {
            Ok(()) => sending.await,
            Err(error) => return Err(format!("no answer: {}", chain(&error))),
        },
    };
    let status = answer.map_err(|error| format!("no answer: {}", chain(&error)))?.status();
    if status.is_success() { Ok(()) } else { Err(format!("status {}", status.as_u16())) }
}

/// HMAC-SHA256 in hexadecimal digits.
pub(super) fn hmac_hex(key: &[u8], parts: &[&[u8]]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
