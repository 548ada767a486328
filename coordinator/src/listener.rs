//! The one port: accepts, shakes hands outside the accept loop, learns who the peer is, and passes the connection on.
//!
//! Nobody waits for anybody: sockets without a finished handshake, strangers, agents and operators have places of their
//! own, which are shared fairly among addresses and names (see [`shares`]). A handshake that takes too long is dropped.

mod shares;
mod warnings;

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use fleet::ids::FleetName;
use rustls::{
    RootCertStore, ServerConfig,
    server::{VerifierBuilderError, WebPkiClientVerifier},
    time_provider::TimeProvider,
};
use rustls_pki_types::UnixTime;
use shares::{Held, Holder, Shares};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::{debug, warn};
use warnings::Warnings;

use crate::{
    Clock,
    authority::{Authority, IssuedPair},
    config::Limits,
    identity::{Peer, peer_of},
    tasks::Tasks,
};

/// Connections whose handshake is done and that the server has not taken yet.
const READY_MAX: usize = 64;
/// Who has no certificate has this long on one connection: enough to enrol, too little to fill the place.
const ANONYMOUS_MAX: Duration = Duration::from_secs(60);
/// After the signal to stop, an enrolment that is under way has this long to end.
const ANONYMOUS_STOP: Duration = Duration::from_secs(1);
/// After its certificate has ended a connection is cut; until then its session may say goodbye.
const EXPIRY_GRACE: Duration = Duration::from_secs(10);
/// Of one address, before its handshakes are done: many agents may stand behind one.
const HANDSHAKES_OF_ONE_MAX: usize = 256;
/// Of one address, without a certificate.
const STRANGERS_OF_ONE_MAX: usize = 64;
/// Of one node: an agent has one, and dials another before the old one is known to be dead.
const CONNECTIONS_OF_NODE_MAX: usize = 8;
/// Of one operator, who may be a pipeline with many jobs.
const CONNECTIONS_OF_OPERATOR_MAX: usize = 128;
/// After a failed accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Makes the TLS settings of one server certificate. The chain includes the authority's own certificate, because a
/// joining agent knows nothing but its digest. Certificates of clients are judged at the time that `clock` tells.
///
/// # Errors
/// The verifier or the key is refused by the TLS library.
pub fn tls_config(
    authority: &Authority,
    server: &IssuedPair,
    clock: Clock,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()?;
    let chain = vec![server.certificate.clone(), authority.certificate().clone()];
    let mut config = ServerConfig::builder_with_details(provider, Arc::new(TlsClock(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, server.private_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Agents dial rarely; a ticket store would only cost memory per connection.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The coordinator's clock for the TLS library, which would otherwise read the host's: a simulation has its own time.
#[derive(Debug)]
struct TlsClock(Clock);

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from((self.0)().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Versions, key or certificate.
    #[error("the TLS library refuses the server certificate")]
    Refused(#[from] rustls::Error),
    /// The authority's certificate.
    #[error("the TLS library refuses the authority as a root of client certificates")]
    Verifier(#[from] VerifierBuilderError),
}

/// Where sockets come from: a port of the host, or of a network that a test makes up.
pub trait Listen: Send + Sync + 'static {
    /// Both directions of one connection.
    type Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// The next connection and whence it comes. Cancelled at will: a socket that was not returned must not be lost.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;
}

impl Listen for TcpListener {
    type Socket = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let (socket, address) = TcpListener::accept(self).await?;
        if let Err(error) = socket.set_nodelay(true) {
            debug!(%error, %address, "Cannot set TCP_NODELAY");
        }
        Ok((socket, address))
    }
}

/// A connection with a known peer.
pub struct Connection<S> {
    stream: TlsStream<S>,
    peer: Peer,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    // Held as long as the connection lives, which is what bounds their number.
    _place: Held,
}

impl<S> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts until `stop`, then drops the listener. Connections that were passed on live on.
pub struct Acceptor<L> {
    /// Where.
    pub listener: L,
    /// Swapped when a certificate is renewed; connections that exist keep theirs.
    pub tls: Arc<ArcSwap<ServerConfig>>,
    /// Whose certificates count.
    pub fleet: FleetName,
    /// The wall clock, for the end of certificates.
    pub clock: Clock,
    /// Bounds.
    pub limits: Limits,
}

impl<L: Listen> Acceptor<L> {
    /// Starts accepting; the answer is the stream of connections that tonic serves.
    pub fn start(self, tasks: &Tasks) -> mpsc::Receiver<io::Result<Connection<L::Socket>>> {
        let (ready, connections) = mpsc::channel(READY_MAX);
        tasks.vital("connections", self.accept_all(tasks.clone(), ready));
        connections
    }

    async fn accept_all(self, tasks: Tasks, ready: mpsc::Sender<io::Result<Connection<L::Socket>>>) {
        let places = Arc::new(Places::new(&self.limits));
        while let Some((socket, address)) = self.next_socket(tasks.stop()).await {
            let Some(place) = places.waiting.take(&Holder::at(address)) else {
                places.warn(address, "no place is left for another handshake");
                continue;
            };
            let handshake = Handshake {
                tls: self.tls.load_full(),
                fleet: self.fleet.clone(),
                clock: self.clock,
                timeout: self.limits.handshake_timeout,
                stop: tasks.stop().clone(),
                places: places.clone(),
                place,
            };
            let ready = ready.clone();
            tasks.spawn("handshake", async move {
                if let Some(connection) = handshake.run(socket, address).await {
                    // The server has ended: the connection goes with it.
                    drop(ready.send(Ok(connection)).await);
                }
            });
        }
    }

    /// The next socket; `None` when it is time to stop.
    async fn next_socket(&self, stop: &CancellationToken) -> Option<(L::Socket, SocketAddr)> {
        loop {
            tokio::select! {
                () = stop.cancelled() => return None,
                // Cancel-safe: a socket that was not accepted stays in the kernel's queue.
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => return Some(accepted),
                    Err(error) => {
                        warn!(%error, "Cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// The places of each kind of peer.
struct Places {
    /// Handshakes that are not done.
    waiting: Arc<Shares>,
    strangers: Arc<Shares>,
    nodes: Arc<Shares>,
    operators: Arc<Shares>,
    warnings: Warnings,
}

impl Places {
    fn new(limits: &Limits) -> Self {
        Self {
            waiting: Shares::new(limits.handshakes, HANDSHAKES_OF_ONE_MAX),
            strangers: Shares::new(limits.strangers, STRANGERS_OF_ONE_MAX),
            nodes: Shares::new(limits.connections, CONNECTIONS_OF_NODE_MAX),
            operators: Shares::new(limits.operators, CONNECTIONS_OF_OPERATOR_MAX),
            warnings: Warnings::default(),
        }
    }

    /// A place for as long as the connection lives.
    fn take(&self, peer: &Peer, address: SocketAddr) -> Option<Held> {
        match peer {
            Peer::Anonymous => self.strangers.take(&Holder::at(address)),
            Peer::Node(node) => self.nodes.take(&Holder::Node(node.name.clone())),
            Peer::Operator(operator) => self.operators.take(&Holder::Operator(operator.name.to_string())),
        }
    }

    fn warn(&self, address: SocketAddr, why: impl std::fmt::Display) {
        if let Some(more) = self.warnings.due(&Holder::at(address), Instant::now()) {
            warn!(%address, %why, more_since_the_last = more, "Refused a connection");
        }
    }
}

struct Handshake {
    tls: Arc<ServerConfig>,
    fleet: FleetName,
    clock: Clock,
    timeout: Duration,
    stop: CancellationToken,
    places: Arc<Places>,
    place: Held,
}

impl Handshake {
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        socket: S,
        address: SocketAddr,
    ) -> Option<Connection<S>> {
        let shaken = async {
            let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
            // Who has begun is not pushed out by those who come and say nothing.
            self.place.be_busy();
            hello.into_stream(self.tls.clone()).await
        };
        let stream = tokio::select! {
            stream = tokio::time::timeout(self.timeout, shaken) => stream,
            () = self.place.cut().cancelled() => {
                self.places.warn(address, "it said nothing, and others needed its place");
                return None;
            }
        };
        let stream = match stream {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                self.places.warn(address, format_args!("the TLS handshake failed: {error}"));
                return None;
            }
            Err(_) => {
                self.places.warn(address, "the TLS handshake took too long");
                return None;
            }
        };
        let peer = match peer_of(stream.get_ref().1.peer_certificates(), &self.fleet) {
            Ok(peer) => peer.at(address.ip()),
            Err(error) => {
                self.places.warn(address, format_args!("its certificate names nobody here: {error}"));
                return None;
            }
        };
        let Some(place) = self.places.take(&peer, address) else {
            self.places.warn(address, "no place is left for another connection of its kind");
            return None;
        };
        let end = self.end_of(&peer, place.cut().clone());
        Some(Connection { stream, peer, end, _place: place })
    }
}

impl Handshake {
    /// When a connection is cut, whatever is under way on it.
    fn end_of(&self, peer: &Peer, cut: CancellationToken) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let not_after = match peer {
            Peer::Node(node) => node.not_after,
            Peer::Operator(operator) => operator.not_after,
            Peer::Anonymous => {
                let stop = self.stop.clone();
                return Box::pin(async move {
                    // A stop waits for agents and operators, who close idle connections when they are asked to.
                    // A stranger may never do so.
                    let stopped = async {
                        stop.cancelled().await;
                        tokio::time::sleep(ANONYMOUS_STOP).await;
                    };
                    let ended = async {
                        tokio::select! {
                            () = stopped => {}
                            () = cut.cancelled() => {}
                        }
                    };
                    drop(tokio::time::timeout(ANONYMOUS_MAX, ended).await);
                });
            }
        };
        let left = not_after.since((self.clock)()) + EXPIRY_GRACE;
        Box::pin(async move {
            drop(tokio::time::timeout(left, cut.cancelled()).await);
        })
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the connection's time is up")));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
