//! The simulated network in the places where the programs have a port and a dialler.

use std::{io, net::SocketAddr, sync::Arc};

use agent::link::{Network, Socket};
use coordinator::listener::Listen;
use futures::{FutureExt as _, future::BoxFuture};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use turmoil::net::{TcpListener, TcpStream};

/// A port of a simulated host.
pub struct Port(pub TcpListener);

impl Listen for Port {
    type Socket = TcpStream;

    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.0.accept().await
    }
}

/// The simulated network as an agent sees it.
#[derive(Debug)]
pub struct Simulated;

impl Network for Simulated {
    fn connect(&self, host: String, port: u16) -> BoxFuture<'static, io::Result<Box<dyn Socket>>> {
        async move { Ok(Box::new(TcpStream::connect((host, port)).await?) as Box<dyn Socket>) }.boxed()
    }
}

/// Dials as an operator does.
pub async fn dial(host: &'static str, port: u16, tls: Arc<ClientConfig>) -> Result<Channel, Error> {
    let connect = tower::service_fn(move |_: Uri| {
        let tls = TlsConnector::from(tls.clone());
        async move {
            let stream = TcpStream::connect((host, port)).await?;
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            Ok::<_, io::Error>(TokioIo::new(tls.connect(name, stream).await?))
        }
    });
    Endpoint::from_static("http://coordinator")
        .connect_timeout(super::site::CALL_TIME)
        .timeout(super::site::CALL_TIME)
        .connect_with_connector(connect)
        .await
}
