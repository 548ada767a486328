//! One TLS connection to a coordinator, as a channel.

use std::{fmt, io, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Error, Uri};

/// From the first packet to a finished handshake.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Between two HTTP/2 pings.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A ping unanswered for so long ends the connection.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);

/// Both directions of a connection.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// The way to a coordinator, below TLS.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// A new connection to a name or address. What takes too long is given up by the caller.
    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Socket>>>;
}

/// The network of this host.
#[derive(Debug)]
pub struct Tcp;

impl Network for Tcp {
    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Socket>)
        }
        .boxed()
    }
}

/// Dials `host:port`. One connection, no second try: waiting is the caller's business.
///
/// # Errors
/// Unreachable, or the handshake failed.
pub(super) async fn dial(
    address: &str,
    tls: Arc<ClientConfig>,
    network: Arc<dyn Network>,
) -> Result<Channel, Error> {
    // TLS is ours, below the channel, so the URI says http.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIME)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIME)
        .keep_alive_while_idle(true);
    let connector = TlsConnector::from(tls);
    let connect = tower::service_fn(move |uri: Uri| {
        let (connector, network) = (connector.clone(), network.clone());
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let stream = network.connect(host.clone(), port).await?;
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = tokio::time::timeout(CONNECT_TIME, connector.connect(name, stream)).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(connect).await
}
