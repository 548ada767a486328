//! The listening socket, and what arrives there.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Listen, Settings,
    tls::{Tls, TlsError},
};

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port or the socket.
    #[error("cannot listen for metrics on {listen}: {remedy}")]
    Listen {
        /// Where.
        listen: Listen,
        /// What to do about it.
        remedy: &'static str,
        /// Why.
        source: io::Error,
    },
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// What to do if a `listen` of a configuration cannot be had.
pub fn listen_remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "another process has this port (`ss -ltnp` names it); stop that, or choose another `listen`"
        }
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `listen` takes one of its own, or 0.0.0.0 for all of them"
        }
        io::ErrorKind::PermissionDenied => "choose a port above 1023 for `listen`",
        // Whatever else it is, the operating system's own words say it.
        _ => "choose another `listen`",
    }
}

/// Of a socket in the file system.
#[cfg(unix)]
fn socket_remedy(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "another process listens there; stop that, or choose another `listen`",
        io::ErrorKind::AlreadyExists => "something that is no socket has this name; choose another `listen`",
        io::ErrorKind::NotFound => "its directory does not exist; make it, or choose another `listen`",
        io::ErrorKind::PermissionDenied => {
            "this user may not write in its directory; choose another `listen`"
        }
        // Whatever else it is, the operating system's own words say it.
        _ => "choose another `listen`",
    }
}

/// Either side of a connection, whatever is below it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Socket {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

/// A listening socket. Nothing is taken from it before [`crate::serve`].
pub struct Bound {
    socket: Socket,
    tls: Option<Tls>,
    listen: Listen,
}

impl Bound {
    /// Takes the port or the socket, and reads the files of TLS.
    ///
    /// # Errors
    /// It is taken, or not to be had; or the files cannot be used.
    pub async fn open(settings: &Settings) -> Result<Self, BindError> {
        let tls = settings.tls.clone().map(Tls::open).transpose()?;
        let listen = settings.listen.clone();
        match &settings.listen {
            Listen::Tcp(address) => {
                let failed = |source: io::Error| BindError::Listen {
                    listen: settings.listen.clone(),
                    remedy: listen_remedy(source.kind()),
                    source,
                };
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let listen = Listen::Tcp(listener.local_addr().map_err(failed)?);
                Ok(Self { socket: Socket::Tcp(listener), tls, listen })
            }
            #[cfg(unix)]
            Listen::Unix(path) => {
                let bound = bind_unix(path).await.map_err(|source| BindError::Listen {
                    listen: listen.clone(),
                    remedy: socket_remedy(source.kind()),
                    source,
                })?;
                Ok(Self { socket: Socket::Unix(bound), tls, listen })
            }
            #[cfg(not(unix))]
            Listen::Unix(_) => Err(BindError::Listen {
                listen,
                remedy: "choose another `listen`",
                source: io::ErrorKind::Unsupported.into(),
            }),
        }
    }

    /// Where it really listens: port 0 has become a port.
    pub fn listen(&self) -> &Listen {
        &self.listen
    }

    /// The next connection. The handshake of TLS is still to be done: see [`Arrival::shake_hands`].
    pub(crate) async fn accept(&self) -> io::Result<Arrival> {
        let stream: Box<dyn Stream> = match &self.socket {
            Socket::Tcp(listener) => Box::new(listener.accept().await?.0),
            #[cfg(unix)]
            Socket::Unix(listener) => Box::new(listener.accept().await?.0),
        };
        Ok(Arrival { stream, tls: self.tls.as_ref().map(|tls| TlsAcceptor::from(tls.config())) })
    }
}

#[cfg(unix)]
impl Drop for Bound {
    fn drop(&mut self) {
        if let Listen::Unix(path) = &self.listen {
            // What is left is found by the next start.
            drop(std::fs::remove_file(path));
        }
    }
}

/// A connection as it arrived.
pub(crate) struct Arrival {
    stream: Box<dyn Stream>,
    tls: Option<TlsAcceptor>,
}

impl Arrival {
    /// The stream that requests come over.
    pub(crate) async fn shake_hands(self) -> io::Result<Box<dyn Stream>> {
        match self.tls {
            None => Ok(self.stream),
            Some(acceptor) => Ok(Box::new(acceptor.accept(self.stream).await?)),
        }
    }
}

/// Its owner and its group may connect. A socket that a killed process left is replaced; anything else is not.
#[cfg(unix)]
async fn bind_unix(path: &std::path::Path) -> io::Result<tokio::net::UnixListener> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    match std::fs::symlink_metadata(path) {
        Ok(facts) if !facts.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
        Ok(_) if tokio::net::UnixStream::connect(path).await.is_ok() => {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        Ok(_) => std::fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = tokio::net::UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}
