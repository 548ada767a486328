//! Clients of a load balancer, in the clear or over TLS with its certificate and no other, and many that never pause.

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
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_rustls::TlsConnector;

/// Asks on 127.0.0.1 for what a host of this name serves.
#[derive(Clone)]
pub struct Client {
    host: &'static str,
    tls: Option<TlsConnector>,
    resends: bool,
}

/// A connection that is kept.
type Connection = SendRequest<Full<Bytes>>;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// In capitals.
    pub method: &'a str,
    /// Begins with a slash.
    pub path: &'a str,
    /// The whole header.
    pub authorization: Option<&'a str>,
    /// Its type, and the body; none if it is empty.
    pub body: (&'a str, &'a str),
}

impl<'a> Ask<'a> {
    /// A page.
    pub fn get(path: &'a str) -> Self {
        Self { method: "GET", path, authorization: None, body: ("", "") }
    }
}

impl Client {
    /// In the clear.
    pub const fn plain(host: &'static str) -> Self {
        Self { host, tls: None, resends: false }
    }

    /// Sends a page's request once more on a new connection, if a connection that it had kept is closed under it without
    /// an answer, as HTTP clients do (RFC 9112, 9.3.1).
    #[must_use]
    pub const fn resending(mut self) -> Self {
        self.resends = true;
        self
    }

    /// Over TLS; it trusts this certificate, as PEM, and no other.
    ///
    /// # Errors
    /// It is no certificate.
    pub fn trusting(host: &'static str, pem: &str) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pem.as_bytes())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { host, tls: Some(TlsConnector::from(Arc::new(config))), resends: false })
    }

    /// One request on a connection of its own: status and body.
    ///
    /// # Errors
    /// Nobody answers there, or not in whole.
    pub async fn ask(&self, port: u16, ask: &Ask<'_>) -> Result<(u16, String)> {
        send(&mut self.connect(port).await?, self.host, ask).await
    }

    /// Whether a page is there, on a connection of its own.
    pub async fn finds(&self, port: u16, path: &str) -> bool {
        self.page(&mut None, port, path).await.is_ok()
    }

    /// A page over a connection that is kept, or made if there is none.
    async fn page(&self, connection: &mut Option<Connection>, port: u16, path: &str) -> Result<()> {
        let (kept, is_new) = match connection {
            Some(kept) if !kept.is_closed() => (kept, false),
            _ => (connection.insert(self.connect(port).await?), true),
        };
        let ask = Ask::get(path);
        let (status, _) = match send(kept, self.host, &ask).await {
            Err(error) if self.resends && !is_new && is_closed(&error) => {
                send(connection.insert(self.connect(port).await?), self.host, &ask).await?
            }
            answer => answer?,
        };
        ensure!((200..300).contains(&status), "status {status}");
        Ok(())
    }

    async fn connect(&self, port: u16) -> Result<Connection> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.context("cannot connect")?;
        let Some(tls) = &self.tls else { return spoken(stream).await };
        spoken(tls.connect(ServerName::try_from(self.host)?, stream).await.context("TLS")?).await
    }
}

/// Whether a connection ended before an answer began.
fn is_closed(error: &anyhow::Error) -> bool {
    let lost = |error: &hyper::Error| {
        let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
        let kind = io.map(std::io::Error::kind);
        let is_reset =
            matches!(kind, Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe));
        error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset
    };
    error.chain().find_map(|cause| cause.downcast_ref::<hyper::Error>()).is_some_and(lost)
}

async fn spoken<S>(stream: S) -> Result<Connection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move { drop(driver.await) });
    Ok(sender)
}

async fn send(connection: &mut Connection, host: &str, ask: &Ask<'_>) -> Result<(u16, String)> {
    connection.ready().await?;
    let mut request = http::Request::builder().method(ask.method).uri(ask.path).header("host", host);
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

/// Clients of a load, which send one request after the other.
pub const AT_ONCE: usize = 8;

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
    /// At most `most` requests are answered; each that fails is told.
    pub fn start(
        client: &Client,
        (port, path): (u16, &'static str),
        most: u64,
        tell: fn(&anyhow::Error),
    ) -> Self {
        let (seen, is_over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (seen, is_over, client) = (seen.clone(), is_over.clone(), client.clone());
            clients.spawn(async move {
                let mut connection = None;
                while !is_over.load(Ordering::Relaxed) && seen.answered.load(Ordering::Relaxed) < most {
                    let counter = match client.page(&mut connection, port, path).await {
                        Ok(()) => &seen.answered,
                        Err(error) => {
                            tell(&error);
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

    /// Answered requests so far.
    pub fn answered(&self) -> u64 {
        self.seen.answered.load(Ordering::Relaxed)
    }

    /// Answered and failed requests in the end.
    pub async fn end(mut self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        while self.clients.join_next().await.is_some() {}
        (self.answered(), self.seen.failed.load(Ordering::Relaxed))
    }
}
