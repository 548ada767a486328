//! Who this agent is: a key that never leaves the host, the certificate for it, and the authority it trusts. Key and
//! certificate are one file, so either both are new or neither is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fleet::{service::jitter, time::Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::{Clock, private, tls::TlsClock};

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Never enrolled.
    #[error(
        "this host is not enrolled; run `convoy-agent enroll --token-file FILE` with what `convoy token create` printed"
    )]
    NotEnrolled,
    /// A file.
    #[error("cannot read or write {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content.
    #[error("{} is damaged: {what}; enrol again", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What does not read.
        what: String,
    },
    /// The TLS library.
    #[error("the TLS library refuses the certificate or its key")]
    Tls(#[source] rustls::Error),
    /// A key or request could not be made.
    #[error("cannot make a key")]
    Key(#[source] rcgen::Error),
}

/// A key made here and the request for its certificate.
pub struct Request {
    /// PKCS#8, PEM. Never sent.
    key_pem: String,
    /// The certificate request, PEM.
    pub csr_pem: String,
}

impl Request {
    /// Makes a key and asks for a certificate in the name of `node`. The authority decides the name by itself.
    ///
    /// # Errors
    /// The random source or the library fails.
    pub fn new(node: &str) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(IdentityError::Key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node);
        let request = params.serialize_request(&key).map_err(IdentityError::Key)?;
        let csr_pem = request.pem().map_err(IdentityError::Key)?;
        Ok(Self { key_pem: key.serialize_pem(), csr_pem })
    }
}

/// The files of an identity.
#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
    clock: Clock,
}

/// An identity as read.
#[derive(Debug)]
pub struct Identity {
    /// The node's name, from the certificate.
    pub node: String,
    /// For the link: TLS 1.3, this certificate, the authority as only root.
    pub tls: Arc<ClientConfig>,
    /// When the certificate is to be renewed: half its life, with jitter.
    pub renew_at: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
    /// Where to dial if the configuration does not say.
    pub address: Option<String>,
}

/// A certificate that has ended. Nobody takes it any more, so it cannot be renewed either.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the certificate of node {node} expired {} ago and cannot be renewed any more; create another token with \
     `convoy token create --node {node}` and run `convoy-agent enroll` here",
    fleet::time::Human(*ago)
)]
pub struct Expired {
    /// Whose.
    pub node: String,
    /// Since when.
    pub ago: Duration,
}

impl Identity {
    /// Whether the certificate has ended, by this host's clock.
    ///
    /// # Errors
    /// It has.
    pub fn check(&self, now: Timestamp) -> Result<(), Expired> {
        if now < self.not_after {
            return Ok(());
        }
        Err(Expired { node: self.node.clone(), ago: now.since(self.not_after) })
    }
}

impl Store {
    /// The identity of a data directory. Certificates of coordinators are judged at the time that `clock` tells.
    pub fn of(data_dir: &Path, clock: Clock) -> Self {
        Self { dir: data_dir.join("identity"), clock }
    }

    /// The clock by which certificates are judged.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    fn file_error(path: PathBuf) -> impl FnOnce(io::Error) -> IdentityError {
        move |source| IdentityError::File { path, source }
    }

    /// Makes sure that an identity can be kept here, before a token is spent on one.
    ///
    /// # Errors
    /// It cannot: the data directory is another user's, read-only or full.
    pub fn prepare(&self) -> Result<(), IdentityError> {
        let data_dir = self.dir.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(data_dir)
            .and_then(|()| private::create_dir_in(data_dir, &self.dir))
            .and_then(|()| private::probe(&self.dir))
            .map_err(Self::file_error(self.dir.clone()))
    }

    /// Keeps a certificate with the key it was asked for, the authority, and, at enrolment, the address.
    ///
    /// # Errors
    /// Whatever the file system says; the identity before is in force then.
    pub fn save(
        &self,
        request: &Request,
        certificate_pem: &str,
        authority_pem: &str,
        address: Option<&str>,
    ) -> Result<(), IdentityError> {
        self.prepare()?;
        let write = |name: &str, text: &str| {
            let path = self.dir.join(name);
            private::write_for_owner(&path, text.as_bytes()).map_err(Self::file_error(path))
        };
        write("authority.pem", authority_pem)?;
        if let Some(address) = address {
            write("address", address)?;
        }
        write("node.pem", &format!("{}{certificate_pem}", request.key_pem))
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.dir.join("node.pem").is_file()
    }

    /// Reads the identity. `seed` spreads renewals.
    ///
    /// # Errors
    /// None was made yet, or it is damaged.
    pub fn read(&self, seed: u64) -> Result<Identity, IdentityError> {
        let path = self.dir.join("node.pem");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityError::NotEnrolled),
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        let damaged = |what: &dyn std::fmt::Display| IdentityError::Damaged {
            path: path.clone(),
            what: what.to_string(),
        };
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| damaged(&error))?;
        let certificate = CertificateDer::from_pem_slice(&text).map_err(|error| damaged(&error))?;
        let (node, not_before, not_after) = facts(&certificate).map_err(|what| damaged(&what))?;
        let roots = self.roots()?;
        let tls = client_config(roots, self.clock)
            .with_client_auth_cert(vec![certificate], key)
            .map_err(IdentityError::Tls)?;
        let half = not_after.since(not_before) / 2;
        Ok(Identity {
            node,
            tls: Arc::new(with_h2(tls)),
            renew_at: not_before.after(jitter(half, seed, not_before.0.unsigned_abs()).min(half * 5 / 4)),
            not_after,
            address: fs::read_to_string(self.dir.join("address")).ok().map(|text| text.trim().to_owned()),
        })
    }

    fn roots(&self) -> Result<RootCertStore, IdentityError> {
        let path = self.dir.join("authority.pem");
        let text = fs::read(&path).map_err(Self::file_error(path.clone()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate
                .map_err(|error| IdentityError::Damaged { path: path.clone(), what: error.to_string() })?;
            roots.add(certificate).map_err(IdentityError::Tls)?;
        }
        Ok(roots)
    }
}

/// Name and validity of a node certificate.
fn facts(certificate: &CertificateDer<'_>) -> Result<(String, Timestamp, Timestamp), String> {
    use x509_parser::{extensions::GeneralName, prelude::FromDer as _};
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
        .map_err(|error| error.to_string())?;
    let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
    let uri = names.and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::URI(uri) => uri.strip_prefix("convoy://").map(str::to_owned),
            _ => None,
        })
    });
    let node = uri.as_deref().and_then(|uri| uri.split_once("/node/")).map(|(_, node)| node.to_owned());
    let validity = parsed.validity();
    let stamp = |seconds: i64| Timestamp(seconds.saturating_mul(1000));
    Ok((
        node.ok_or("the certificate names no node")?,
        stamp(validity.not_before.timestamp()),
        stamp(validity.not_after.timestamp()),
    ))
}

/// TLS 1.3 only, with these roots, at the time that `clock` tells.
pub fn client_config(
    roots: RootCertStore,
    clock: Clock,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    ClientConfig::builder_with_details(
        Arc::new(rustls::crypto::ring::default_provider()),
        Arc::new(TlsClock(clock)),
    )
    .with_protocol_versions(&[&rustls::version::TLS13])
    .expect("ring speaks TLS 1.3")
    .with_root_certificates(roots)
}

/// HTTP/2 by ALPN, as gRPC needs.
pub fn with_h2(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

/// How long until `at`, by the wall clock; at least a second.
pub fn until(at: Timestamp, now: Timestamp) -> Duration {
    at.since(now).max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_does_not_hold_the_key() {
        let request = Request::new("is-1").unwrap();
        assert!(request.key_pem.contains("PRIVATE KEY") && request.csr_pem.contains("CERTIFICATE REQUEST"));
        assert!(!request.csr_pem.contains("PRIVATE KEY"));
    }

    #[test]
    fn a_certificate_that_has_ended_is_said_as_such() {
        let tls = client_config(RootCertStore::empty(), || Timestamp(0)).with_no_client_auth();
        let end = Timestamp(1_800_000_000_000);
        let identity = Identity {
            node: "is-1".to_owned(),
            tls: Arc::new(tls),
            renew_at: Timestamp(0),
            not_after: end,
            address: None,
        };
        assert_eq!(identity.check(Timestamp(end.0 - 1)), Ok(()));
        let expired = identity.check(Timestamp(end.0 + 7_200_000)).unwrap_err().to_string();
        assert_eq!(
            expired,
            "the certificate of node is-1 expired 2h ago and cannot be renewed any more; create another token with \
             `convoy token create --node is-1` and run `convoy-agent enroll` here"
        );
    }
}
