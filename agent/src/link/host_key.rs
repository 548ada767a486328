//! Joining with the certificate that this host has from another authority (ADR 101): the coordinator's challenge is signed
//! with the host's key, which goes nowhere.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use fleet::{
    admission::{Fingerprint, host_statement},
    ids::NodeName,
};
use proto::wire::agent::{ChallengeRequest, EnrollHostRequest, enrolment_client::EnrolmentClient};
use rustls::{
    SignatureScheme,
    crypto::ring,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    dial::{Network, dial},
    enroll::{EnrollError, keep, pinned},
};
use crate::identity::{Facts, IdentityError, Request, Store};

/// Why a host's certificate cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// A file.
    #[error("cannot read {}; whoever enrols has to be allowed to, mostly root", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content.
    #[error("{} holds no {what} in PEM", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// A key behind a passphrase.
    #[error("the key in {} is encrypted, and nobody is asked for a passphrase; give an unencrypted copy for as long as this takes", path.display())]
    Encrypted {
        /// Which.
        path: PathBuf,
    },
    /// Of another kind.
    #[error("the key in {} cannot sign here; it takes RSA of 2048 bits or more, P-256, P-384 or Ed25519", path.display())]
    Kind {
        /// Which.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Two files that do not belong together.
    #[error("the key in {} is not the one of the certificate in {}", key.display(), certificate.display())]
    OtherKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
}

/// A host's certificate, those above it, and its key.
pub struct HostKey {
    chain: Vec<CertificateDer<'static>>,
    key: Arc<dyn SigningKey>,
}

impl HostKey {
    /// Reads both files, PEM.
    ///
    /// # Errors
    /// They cannot be used, or do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, HostKeyError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| HostKeyError::File { path: path.to_owned(), source })
        };
        let content = |path: &Path, what| HostKeyError::Content { path: path.to_owned(), what };
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(certificate)?).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| content(certificate, "certificate"))?;
        let text = read(key)?;
        if String::from_utf8_lossy(&text).contains("ENCRYPTED") {
            return Err(HostKeyError::Encrypted { path: key.to_owned() });
        }
        let der = PrivateKeyDer::from_pem_slice(&text).map_err(|_| content(key, "private key"))?;
        let signing = ring::sign::any_supported_type(&der)
            .map_err(|source| HostKeyError::Kind { path: key.to_owned(), source })?;
        if CertifiedKey::new(chain.clone(), signing.clone()).keys_match().is_err() {
            let (key, certificate) = (key.to_owned(), certificate.to_owned());
            return Err(HostKeyError::OtherKey { key, certificate });
        }
        Ok(Self { chain, key: signing })
    }

    fn sign(&self, statement: &[u8]) -> Result<(SignatureScheme, Vec<u8>), rustls::Error> {
        let offered = [
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA256,
        ];
        let signer = self.key.choose_scheme(&offered);
        let signer = signer.ok_or_else(|| rustls::Error::General("no scheme for this key".to_owned()))?;
        Ok((signer.scheme(), signer.sign(statement)?))
    }
}

/// Makes a key, has it certified by the coordinator at `address`, whose authority is `pin`, and keeps both. Answers with
/// the node's name.
///
/// # Errors
/// Nothing is kept then; the identity before, if any, is untouched.
pub async fn enroll_host(
    host: &HostKey,
    wanted: Option<&NodeName>,
    pin: Fingerprint,
    (address, network): (&str, Arc<dyn Network>),
    store: &Store,
) -> Result<String, EnrollError> {
    store.prepare()?;
    let request = Request::nameless()?;
    let channel = dial(address, Arc::new(pinned(pin.0, store.clock())), network)
        .await
        .map_err(|source| EnrollError::DialPinned { address: address.to_owned(), source })?;
    let mut client = EnrolmentClient::new(channel);
    let refused = |status: tonic::Status| EnrollError::Refused(status.message().to_owned());
    let nonce = client.challenge(ChallengeRequest {}).await.map_err(refused)?.into_inner().nonce;
    let wanted = wanted.map(NodeName::as_str).unwrap_or_default();
    let own = host.chain.first().map_or(&[][..], |own| own.as_ref());
    let statement = host_statement(&pin.0, &nonce, own, (&request.csr_pem, wanted));
    let (scheme, signature) = host.sign(&statement).map_err(IdentityError::Tls)?;
    let reply = client
        .enroll_host(EnrollHostRequest {
            nonce,
            chain: host.chain.iter().map(|link| link.to_vec()).collect(),
            scheme: u32::from(u16::from(scheme)),
            signature,
            csr_pem: request.csr_pem.clone(),
            node: wanted.to_owned(),
        })
        .await
        .map_err(refused)?
        .into_inner();
    let damaged = |what: String| EnrollError::Refused(format!("its answer cannot be read: {what}"));
    let certificate = CertificateDer::from_pem_slice(reply.certificate_pem.as_bytes());
    let facts = certificate.map_err(|error| error.to_string()).and_then(|own| Facts::of(&own));
    let node = facts.map_err(damaged)?.node().unwrap_or_default().to_owned();
    keep(&request, &reply, pin.0, address, store)?;
    Ok(node)
}
