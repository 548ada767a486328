//! Asking the server on 127.0.0.1 whether it does its job, and only believing what its own process answers.
//!
//! HTTPS is pinned: WSO2 ships a self-signed certificate for `localhost`, so no root vouches for it. The certificate
//! seen first for a set of keystores is kept and from then on the only one accepted. A keystore or deployment.toml of
//! another meaning starts anew.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use fleet::{
    bundle::{BodyRule, Probe, ProbeKind},
    health::{Answer, ProbeResult},
    observed::ProcessIdentity,
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{client::danger::ServerCertVerifier as _, crypto::ring};
use rustls_pki_types::ServerName;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::{
    private,
    process::owns_port,
    tls::{Judge, Judged, Shown},
};

/// A body longer than this is not a health answer, bytes.
const BODY_MAX: usize = 64 * 1024;

/// Certificates seen first, by port and what the server's keystores are.
#[derive(Debug, Clone)]
pub struct Pins {
    path: PathBuf,
    known: Arc<Mutex<BTreeMap<String, [u8; 32]>>>,
}

impl Pins {
    /// The pins of a data directory. A file that cannot be read counts as empty: the next answers are pinned anew.
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join("pins.json");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let known: BTreeMap<String, String> = serde_json::from_str(&text).unwrap_or_default();
        let known = known
            .into_iter()
            .filter_map(|(key, hex)| Some((key, fleet::ids::Digest::from_hex(&hex)?.0)))
            .collect();
        Self { path, known: Arc::new(Mutex::new(known)) }
    }

    /// Whether `digest` is the certificate of `key`, pinning it if there was none.
    fn accepts(&self, key: &str, digest: [u8; 32]) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pinned) = known.get(key) {
            return *pinned == digest;
        }
        // Pins of other keystores of the same port serve no more.
        let port = key.split(' ').next().unwrap_or(key).to_owned();
        known.retain(|other, _| other.split(' ').next() != Some(port.as_str()));
        known.insert(key.to_owned(), digest);
        let text: BTreeMap<&String, String> =
            known.iter().map(|(key, digest)| (key, fleet::ids::Digest(*digest).to_string())).collect();
        let saved = serde_json::to_vec(&text).map_err(std::io::Error::other);
        if let Err(error) = saved.and_then(|bytes| private::write(&self.path, &bytes)) {
            tracing::warn!(%error, "Cannot keep a pinned certificate");
        }
        true
    }
}

/// One round: all probes at once.
pub async fn round(
    probes: Vec<Probe>,
    address: IpAddr,
    process: ProcessIdentity,
    pins: Pins,
    keystores: String,
) -> Vec<ProbeResult> {
    let asked = probes.into_iter().map(|probe| {
        let (process, pins, keystores) = (process.clone(), pins.clone(), keystores.clone());
        async move {
            let answer = match tokio::time::timeout(
                probe.timeout,
                ask(&probe.kind, address, &process, pins, &keystores),
            )
            .await
            {
                Ok(answer) => answer,
                Err(_) => Answer::Failed(format!("no answer within {} ms", probe.timeout.as_millis())),
            };
            ProbeResult { name: probe.name, role: probe.role, answer }
        }
    });
    futures::future::join_all(asked).await
}

async fn ask(
    kind: &ProbeKind,
    address: IpAddr,
    process: &ProcessIdentity,
    pins: Pins,
    keystores: &str,
) -> Answer {
    let port = match kind {
        ProbeKind::Tcp(port) | ProbeKind::Http { port, .. } => *port,
    };
    let stream = match TcpStream::connect((address, port)).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Failed(format!("port {port}: {error}")),
    };
    let owner = crate::task::blocking({
        let process = process.clone();
        move || owns_port(&process, port)
    });
    // Another server on our port answers just as well; it must not pass for ours.
    if matches!(owner.await, Ok(Some(false))) {
        return Answer::Failed(format!("port {port} belongs to another process"));
    }
    match kind {
        ProbeKind::Tcp(_) => Answer::Passed,
        ProbeKind::Http { tls: false, path, status, body, .. } => {
            get(stream, port, path, (*status, body)).await
        }
        ProbeKind::Http { tls: true, path, status, body, .. } => {
            let trust = Trust::FirstUse { pins, key: format!("{port} {keystores}") };
            match secure(stream, trust, "localhost").await {
                Ok(stream) => get(stream, port, path, (*status, body)).await,
                Err(error) => Answer::Failed(format!("port {port}: {}", crate::chain(&error))),
            }
        }
    }
}

/// Which certificate of a server is accepted.
#[derive(Debug, Clone)]
pub(crate) enum Trust {
    /// The one that was seen first for `key`.
    FirstUse {
        /// Those seen.
        pins: Pins,
        /// Port, and what its certificate depends on.
        key: String,
    },
    /// The one with this SHA-256.
    Exactly([u8; 32]),
    /// One that these vouch for, for the name that was dialled.
    Authorities(Arc<rustls::client::WebPkiServerVerifier>),
}

/// TLS over `stream` with the server that `name` is.
pub(crate) async fn secure(
    stream: TcpStream,
    trust: Trust,
    name: &str,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, std::io::Error> {
    let provider = Arc::new(ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(std::io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judged::new(trust)))
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

impl Judge for Trust {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let digest: [u8; 32] = Sha256::digest(shown.certificate).into();
        let (accepted, why) = match self {
            Trust::FirstUse { pins, key } => {
                (pins.accepts(key, digest), "its certificate is not the one that was pinned at first use")
            }
            Trust::Exactly(expected) => {
                (*expected == digest, "its certificate is not the one that was named")
            }
            Trust::Authorities(verifier) => {
                let Shown { certificate, chain, name, ocsp, now } = shown;
                return verifier.verify_server_cert(certificate, chain, name, ocsp, *now).map(drop);
            }
        };
        if accepted {
            return Ok(());
        }
        Err(rustls::Error::General(why.to_owned()))
    }
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    port: u16,
    path: &str,
    (status, rule): (u16, &BodyRule),
) -> Answer {
    let failed = |what: &str, error: &dyn std::error::Error| {
        Answer::Failed(format!("port {port}: {what}: {}", crate::chain(error)))
    };
    let (mut sender, connection) = match hyper::client::conn::http1::handshake(TokioIo::new(stream)).await {
        Ok(parts) => parts,
        Err(error) => return failed("no HTTP", &error),
    };
    let driver = crate::task::spawn("connection of a probe", connection);
    let request = http::Request::get(path)
        .header("host", format!("localhost:{port}"))
        .header("connection", "close")
        .body(Empty::<Bytes>::new());
    let answer = match request {
        Err(error) => failed("bad path", &error),
        Ok(request) => match sender.send_request(request).await {
            Err(error) => failed("no answer", &error),
            Ok(response) => {
                let got = response.status().as_u16();
                match Limited::new(response.into_body(), BODY_MAX).collect().await {
                    _ if got != status => Answer::Failed(format!("port {port}: status {got}, not {status}")),
                    Err(error) => failed("no body", &*error),
                    Ok(body) => judge(rule, &body.to_bytes(), port),
                }
            }
        },
    };
    driver.abort();
    answer
}

fn judge(rule: &BodyRule, body: &[u8], port: u16) -> Answer {
    match rule {
        BodyRule::Any => Answer::Passed,
        BodyRule::Contains(text) => {
            if String::from_utf8_lossy(body).contains(text.as_str()) {
                Answer::Passed
            } else {
                Answer::Failed(format!("port {port}: the answer does not hold the expected text"))
            }
        }
        BodyRule::HealthApi => {
            let value: Option<serde_json::Value> = serde_json::from_slice(body).ok();
            match value.as_ref().and_then(|value| value.get("health")?.as_array()) {
                Some(list) if list.is_empty() => {
                    Answer::Unknown("the health API is switched off and always answers 200".to_owned())
                }
                Some(_) => Answer::Passed,
                None => Answer::Failed(format!("port {port}: not an answer of the health API")),
            }
        }
    }
}

/// The longest that a round can take.
pub fn longest(probes: &[Probe]) -> Duration {
    probes.iter().map(|probe| probe.timeout).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_health_list_is_unknown() {
        let judge = |text: &str| judge(&BodyRule::HealthApi, text.as_bytes(), 1);
        assert!(matches!(judge("{\"health\":[]}"), Answer::Unknown(_)));
        assert_eq!(judge("{\"health\":[{\"key\":\"a\",\"value\":\"b\"}]}"), Answer::Passed);
        assert!(matches!(judge("<html>"), Answer::Failed(_)));
    }

    #[test]
    fn the_first_certificate_is_kept_until_the_keystores_change() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::open(dir.path());
        assert!(pins.accepts("9443 a", [1; 32]));
        assert!(!pins.accepts("9443 a", [2; 32]));
        let again = Pins::open(dir.path());
        assert!(!again.accepts("9443 a", [2; 32]) && again.accepts("9443 a", [1; 32]));
        assert!(again.accepts("9443 b", [2; 32]));
    }
}
