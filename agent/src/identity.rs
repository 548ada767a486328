//! Who this agent is: a key that never leaves the host, the certificate for it, and the authority it trusts. Key and
//! certificate are one file, so either both are new or neither is.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fleet::{admission::Fingerprint, service::jitter, time::Timestamp};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData as _};
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
    /// The key of a request that was made before.
    #[error("{} does not hold the key of a request; remove it, then make another request", path.display())]
    DamagedRequest {
        /// Which.
        path: PathBuf,
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
    /// Of its public key.
    pub key: Fingerprint,
}

impl Request {
    /// Makes a key and asks for a certificate in the name of `node`. The authority decides the name by itself.
    ///
    /// # Errors
    /// The random source or the library fails.
    pub fn new(node: &str) -> Result<Self, IdentityError> {
        Self::of(&KeyPair::generate().map_err(IdentityError::Key)?, Some(node))
    }

    /// Makes a key; who this host is says somebody else.
    ///
    /// # Errors
    /// The random source or the library fails.
    pub fn nameless() -> Result<Self, IdentityError> {
        Self::of(&KeyPair::generate().map_err(IdentityError::Key)?, None)
    }

    /// With a key that is there. Without a name, whoever admits it has to say which node is meant.
    fn of(key: &KeyPair, node: Option<&str>) -> Result<Self, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(node) = node {
            params.distinguished_name.push(DnType::CommonName, node);
        }
        let request = params.serialize_request(key).map_err(IdentityError::Key)?;
        let csr_pem = request.pem().map_err(IdentityError::Key)?;
        let fingerprint = Fingerprint::of(&key.subject_public_key_info());
        Ok(Self { key_pem: key.serialize_pem(), csr_pem, key: fingerprint })
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

    fn request_file(&self) -> PathBuf {
        self.dir.join("request.pem")
    }

    /// The request that waits for an answer: its key is kept, so that one which is made again has the same.
    ///
    /// # Errors
    /// The key cannot be made, kept or read.
    pub fn ask(&self, node: Option<&str>) -> Result<Request, IdentityError> {
        if let Some(key) = self.asked_key()? {
            return Request::of(&key, node);
        }
        let request = Request::of(&KeyPair::generate().map_err(IdentityError::Key)?, node)?;
        let path = self.request_file();
        private::write_for_owner(&path, request.key_pem.as_bytes()).map_err(Self::file_error(path))?;
        Ok(request)
    }

    /// The request that waits for an answer, if there is one.
    ///
    /// # Errors
    /// Its key cannot be read.
    pub fn asked(&self) -> Result<Option<Request>, IdentityError> {
        self.asked_key()?.map(|key| Request::of(&key, None)).transpose()
    }

    fn asked_key(&self) -> Result<Option<KeyPair>, IdentityError> {
        let path = self.request_file();
        match fs::read_to_string(&path) {
            Ok(text) => match KeyPair::from_pem(&text) {
                Ok(key) => Ok(Some(key)),
                Err(_) => Err(IdentityError::DamagedRequest { path }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(IdentityError::File { path, source }),
        }
    }

    /// No request waits any more.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn answered(&self) -> Result<(), IdentityError> {
        let path = self.request_file();
        private::remove(&path).map_err(Self::file_error(path))
    }

    /// Whether this certificate is the one in force.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn holds(&self, certificate: &CertificateDer<'_>) -> Result<bool, IdentityError> {
        let path = self.dir.join("node.pem");
        match fs::read(&path) {
            Ok(text) => Ok(CertificateDer::from_pem_slice(&text).is_ok_and(|own| own == *certificate)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(IdentityError::File { path, source }),
        }
    }

    /// The authorities that are trusted now; none before the first enrolment.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn authorities(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let path = self.dir.join("authority.pem");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(IdentityError::File { path, source }),
        };
        CertificateDer::pem_slice_iter(&text)
            .map(|certificate| {
                certificate
                    .map_err(|error| IdentityError::Damaged { path: path.clone(), what: error.to_string() })
            })
            .collect()
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
        let facts = Facts::of(&certificate).map_err(|what| damaged(&what))?;
        let node = facts.node().ok_or_else(|| damaged(&"the certificate names no node"))?.to_owned();
        let (not_before, not_after) = (facts.not_before, facts.not_after);
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
        let authorities = self.authorities()?;
        if authorities.is_empty() {
            let path = self.dir.join("authority.pem");
            return Err(IdentityError::Damaged { path, what: "it holds no authority".to_owned() });
        }
        let mut roots = RootCertStore::empty();
        for certificate in authorities {
            roots.add(certificate).map_err(IdentityError::Tls)?;
        }
        Ok(roots)
    }
}

/// What a node certificate says.
pub struct Facts {
    /// `convoy://FLEET/node/NODE`.
    pub uri: String,
    /// Of its public key.
    pub key: Fingerprint,
    /// Its begin.
    pub not_before: Timestamp,
    /// Its end.
    pub not_after: Timestamp,
}

impl Facts {
    /// Reads a certificate; whether it is to be believed is for others.
    ///
    /// # Errors
    /// It cannot be read, or has no name of Convoy's.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, String> {
        use x509_parser::{extensions::GeneralName, prelude::FromDer as _};
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate)
            .map_err(|error| error.to_string())?;
        let names = parsed.subject_alternative_name().map_err(|error| error.to_string())?;
        let uri = names.and_then(|names| {
            names.value.general_names.iter().find_map(|name| match name {
                GeneralName::URI(uri) => uri.starts_with("convoy://").then(|| (*uri).to_owned()),
                _ => None,
            })
        });
        let validity = parsed.validity();
        let stamp = |seconds: i64| Timestamp(seconds.saturating_mul(1000));
        Ok(Self {
            uri: uri.ok_or("the certificate names no node")?,
            key: Fingerprint::of(parsed.public_key().raw),
            not_before: stamp(validity.not_before.timestamp()),
            not_after: stamp(validity.not_after.timestamp()),
        })
    }

    /// Whose it is.
    pub fn node(&self) -> Option<&str> {
        self.uri.split_once("/node/").map(|(_, node)| node)
    }
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
