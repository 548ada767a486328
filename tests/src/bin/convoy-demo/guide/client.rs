//! Clients of the load balancer: over TLS, with its certificate and no other, and many that never pause.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;

/// The name that the balancer's certificate is for.
pub const NAME: &str = "localhost";

/// Speaks to whoever shows the one certificate.
#[derive(Clone)]
pub struct Client {
    tls: TlsConnector,
}

/// A connection that is kept.
pub type Connection = SendRequest<Full<Bytes>>;

/// What is asked: method, path, `authorization`, and a body with its type.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub authorization: Option<&'a str>,
    pub body: (&'a str, &'a str),
}

impl<'a> Ask<'a> {
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, authorization: None, body: ("", "") }
    }
}

impl Client {
    /// One that trusts this certificate, as PEM.
    pub fn trusting(pem: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    async fn connect(&self, port: u16) -> Result<Connection> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("cannot connect")?;
        let stream = self.tls.connect(ServerName::try_from(NAME)?, stream).await.context("TLS")?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { drop(driver.await) });
        Ok(sender)
    }

    /// One request on a connection of its own: status and body.
    pub async fn ask(&self, port: u16, ask: &Ask<'_>) -> Result<(u16, String)> {
        send(&mut self.connect(port).await?, ask).await
    }
}

async fn send(connection: &mut Connection, ask: &Ask<'_>) -> Result<(u16, String)> {
    connection.ready().await?;
    let mut request = http::Request::builder().method(ask.method).uri(ask.path).header("host", NAME);
    if let Some(authorization) = ask.authorization {
        request = request.header("authorization", authorization);
    }
    let (kind, body) = ask.body;
    if !body.is_empty() {
        request = request.header("content-type", kind);
    }
    let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes())))?;
    let answer = connection.send_request(request).await.context("no answer")?;
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.context("half an answer")?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Clients at once.
const AT_ONCE: usize = 8;
/// Most requests of one load.
const REQUESTS_MAX: u64 = 200_000;

/// What clients saw.
#[derive(Debug, Default)]
struct Seen {
    answered: AtomicU64,
    failed: AtomicU64,
}

/// Clients that ask for one page without a pause until they are stopped.
pub struct Load {
    seen: Arc<Seen>,
    is_over: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Load {
    pub fn start(client: &Client, port: u16, path: &'static str) -> Self {
        let (seen, is_over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (seen, is_over, client) = (seen.clone(), is_over.clone(), client.clone());
            clients.spawn(async move {
                let mut connection = None;
                while !is_over.load(Ordering::Relaxed) && seen.answered.load(Ordering::Relaxed) < REQUESTS_MAX
                {
                    let counter = match once(&client, &mut connection, port, path).await {
                        Ok(()) => &seen.answered,
                        Err(error) => {
                            println!("   a request failed: {error:#}");
                            connection = None;
                            &seen.failed
                        }
                    };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { seen, is_over, clients }
    }

    /// Answered and failed requests in the end.
    pub async fn end(mut self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        (self.seen.answered.load(Ordering::Relaxed), self.seen.failed.load(Ordering::Relaxed))
    }
}

async fn once(client: &Client, connection: &mut Option<Connection>, port: u16, path: &str) -> Result<()> {
    let kept = match connection {
        Some(kept) if !kept.is_closed() => kept,
        _ => connection.insert(client.connect(port).await?),
    };
    let (status, _) = send(kept, &Ask::get(path)).await?;
    ensure!((200..300).contains(&status), "status {status}");
    Ok(())
}
