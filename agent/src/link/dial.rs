//! One TLS connection to a coordinator, as a channel.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Error, Uri};

/// From the first packet to a finished handshake.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Between two HTTP/2 pings.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A ping unanswered for so long ends the connection.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);

/// Dials `host:port`. One connection, no second try: waiting is the caller's business.
///
/// # Errors
/// Unreachable, or the handshake failed.
pub(super) async fn dial(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, Error> {
    // TLS is ours, below the channel, so the URI says http.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIME)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE_TIME)
        .keep_alive_while_idle(true);
    let connector = TlsConnector::from(tls);
    let connect = tower::service_fn(move |uri: Uri| {
        let connector = connector.clone();
        async move {
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
            let port = uri.port_u16().unwrap_or(443);
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let stream = tokio::time::timeout(CONNECT_TIME, connector.connect(name, stream)).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok::<_, io::Error>(TokioIo::new(stream))
        }
    });
    endpoint.connect_with_connector(connect).await
}
