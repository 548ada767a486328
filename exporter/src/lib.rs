//! The HTTP listener of a daemon for Prometheus and for health checks: `/metrics`, `/livez`, `/readyz`. The coordinator
//! and the agent share it; each brings what it measures as an [`Exposed`]. docs/metrics.md lists every metric.
//!
//! The listener is a port of this host or a Unix socket, with TLS if files for it are configured.

mod classic;
mod process;
mod serve;
mod socket;
mod tls;

use std::{net::SocketAddr, path::PathBuf};

use futures::future::BoxFuture;
use prometheus_client::{
    encoding::text::{encode_eof, encode_registry},
    registry::Registry,
};
use serde::{Deserialize, Deserializer, de::Error as _};

pub use process::of_this_process;
pub use serve::serve;
pub use socket::{BindError, Bound, listen_remedy};
pub use tls::TlsError;

/// What a daemon shows of itself.
pub trait Exposed: Send + Sync + 'static {
    /// All metrics in the OpenMetrics text format, or why there are none.
    fn metrics(&self) -> BoxFuture<'_, Result<String, String>>;
    /// Why the process should be started again; `None` if it works.
    fn not_alive(&self) -> BoxFuture<'_, Option<String>>;
    /// Why it does not do its job now; `None` if it does.
    fn not_ready(&self) -> BoxFuture<'_, Option<String>>;
}

/// What the table `[metrics]` of a daemon's configuration says of its listener.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens.
    pub listen: Listen,
    /// TLS; plain HTTP if absent.
    pub tls: Option<TlsFiles>,
}

/// Files of a listener with TLS, PEM. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, followed by those that lead to its authority.
    pub certificate: PathBuf,
    /// Its key; nobody but its owner may read it.
    pub key: PathBuf,
    /// Who vouches for clients; if absent, clients need no certificate.
    pub client_authorities: Option<PathBuf>,
}

impl TlsFiles {
    /// From the three keys of a configuration.
    ///
    /// # Errors
    /// Some of them are missing; says which.
    pub fn of(
        certificate: Option<&PathBuf>,
        key: Option<&PathBuf>,
        client_authorities: Option<&PathBuf>,
    ) -> Result<Option<Self>, TlsError> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Self {
                certificate: certificate.clone(),
                key: key.clone(),
                client_authorities: client_authorities.cloned(),
            })),
            (Some(_), None) => Err(TlsError::Incomplete { missing: "key" }),
            (None, Some(_)) => Err(TlsError::Incomplete { missing: "certificate" }),
            (None, None) if client_authorities.is_some() => {
                Err(TlsError::Incomplete { missing: "certificate" })
            }
            (None, None) => Ok(None),
        }
    }
}

impl Settings {
    /// Reads the files of TLS, if there are any, as a listener would.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn check(&self) -> Result<(), TlsError> {
        self.tls.as_ref().map_or(Ok(()), |files| tls::Tls::open(files.clone()).map(drop))
    }
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// An address of this host. Port 0 takes a free port.
    Tcp(SocketAddr),
    /// A Unix socket at this absolute path, for its owner and its group.
    Unix(PathBuf),
}

impl Listen {
    /// This port of loopback.
    pub fn loopback(port: u16) -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return match (cfg!(unix), path.is_absolute()) {
                (true, true) => Ok(Self::Unix(path)),
                (false, _) => {
                    Err("Unix sockets cannot be used here; write an address with a port".to_owned())
                }
                (true, false) => {
                    Err(format!("{text:?} names no whole path; write \"unix:/run/convoy/metrics\""))
                }
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            let port = text.rsplit_once(':').map_or(text, |(_, port)| port);
            let port = if port.parse::<u16>().is_ok() { port } else { "9100" };
            format!(
                "{text:?} is no IP address with a port; write \"127.0.0.1:{port}\" for this machine alone, \
                 \"0.0.0.0:{port}\" for all of its addresses, or \"unix:\" and the path of a socket"
            )
        })
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// These metrics as one text of OpenMetrics.
pub fn open_metrics(registries: &[&Registry]) -> String {
    let mut text = String::new();
    for registry in registries {
        encode_registry(&mut text, registry).expect("a String takes any text");
    }
    encode_eof(&mut text).expect("a String takes any text");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_to_listen_is_an_address_or_a_whole_path() {
        assert_eq!(Listen::parse("127.0.0.1:7844"), Ok(Listen::loopback(7844)));
        for (text, said) in [
            ("localhost:7844", "write \"127.0.0.1:7844\""),
            ("7844", "write \"127.0.0.1:7844\""),
            ("everywhere", "\"0.0.0.0:9100\" for all"),
        ] {
            let refused = Listen::parse(text).unwrap_err();
            assert!(refused.contains(said), "{text}: {refused}");
        }
        #[cfg(unix)]
        {
            let socket = Listen::parse("unix:/run/convoy/metrics").unwrap();
            assert_eq!(socket.to_string(), "unix:/run/convoy/metrics");
            assert!(Listen::parse("unix:metrics").unwrap_err().contains("whole path"));
        }
    }

    #[test]
    fn tls_needs_both_files() {
        let (some, none) = (Some(PathBuf::from("/x.pem")), None);
        let missing = |certificate, key, authorities| match TlsFiles::of(certificate, key, authorities) {
            Err(error) => error.to_string(),
            Ok(files) => format!("{}", files.is_some()),
        };
        assert!(missing(some.as_ref(), none.as_ref(), none.as_ref()).contains("`key` is missing"));
        assert!(missing(none.as_ref(), some.as_ref(), none.as_ref()).contains("`certificate` is missing"));
        assert!(missing(none.as_ref(), none.as_ref(), some.as_ref()).contains("`certificate` is missing"));
        assert_eq!(missing(none.as_ref(), none.as_ref(), none.as_ref()), "false");
        assert_eq!(missing(some.as_ref(), some.as_ref(), none.as_ref()), "true");
    }
}
