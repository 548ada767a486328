//! TLS of the listener: files of the operator, read again when they change, since certificates are renewed in place.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use rustls::{
    RootCertStore, ServerConfig,
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tracing::warn;

use crate::TlsFiles;

/// Why TLS cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One of two keys.
    #[error("TLS for metrics needs `certificate` and `key` in [metrics]; `{missing}` is missing")]
    Incomplete {
        /// Which is missing.
        missing: &'static str,
    },
    /// A file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it holds.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The library.
    #[error("the TLS library refuses the certificate of the metrics or its key")]
    Refused(#[from] rustls::Error),
    /// The library, of those who vouch for clients.
    #[error("the TLS library refuses the `client_authorities` of the metrics")]
    Verifier(#[from] VerifierBuilderError),
}

/// When each file was last written.
type Times = [Option<SystemTime>; 3];

/// The newest files that can be used.
pub(crate) struct Tls {
    files: TlsFiles,
    newest: Mutex<(Times, Arc<ServerConfig>)>,
}

impl Tls {
    pub(crate) fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let newest = Mutex::new((times(&files), Arc::new(read(&files)?)));
        Ok(Self { files, newest })
    }

    /// For the next connection. Files that cannot be used change nothing, and are told once.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let now = times(&self.files);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.0 != now {
            newest.0 = now;
            match read(&self.files) {
                Ok(config) => newest.1 = Arc::new(config),
                Err(error) => {
                    warn!(%error, "The new TLS files of the metrics cannot be used; the ones before stay");
                }
            }
        }
        newest.1.clone()
    }
}

fn times(files: &TlsFiles) -> Times {
    let time = |path: &Path| fs::metadata(path).and_then(|facts| facts.modified()).ok();
    [time(&files.certificate), time(&files.key), files.client_authorities.as_deref().and_then(time)]
}

fn read(files: &TlsFiles) -> Result<ServerConfig, TlsError> {
    let chain = certificates(&files.certificate)?;
    let key = key(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &files.client_authorities {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let content = |why: String| TlsError::Content { path: path.to_owned(), why };
    let text = bytes(path)?;
    let read = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let read = read.map_err(|error| content(format!("this is no PEM: {error}")))?;
    if read.is_empty() {
        return Err(content("there is no certificate in it; write PEM, with BEGIN CERTIFICATE".to_owned()));
    }
    Ok(read)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let content = |why: String| TlsError::Content { path: path.to_owned(), why };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let facts = fs::metadata(path).map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
        let mode = facts.permissions().mode();
        if mode & 0o077 != 0 {
            let why = format!(
                "others may read this key (mode {:04o}); run: chmod 600 {}",
                mode & 0o7777,
                path.display()
            );
            return Err(content(why));
        }
    }
    // Its own words may quote the file.
    PrivateKeyDer::from_pem_slice(&bytes(path)?)
        .map_err(|_| content("there is no private key in it; write PEM, with BEGIN PRIVATE KEY".to_owned()))
}
