//! Exchanging a join token for a certificate. The first connection is already to the right coordinator: the token pins
//! its authority.

use std::sync::Arc;

use fleet::token::JoinToken;
use proto::wire::agent::{EnrollReply, EnrollRequest, enrolment_client::EnrolmentClient};
use rustls::{
    ClientConfig, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    crypto::ring,
};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sha2::{Digest as _, Sha256};

use super::dial::{Network, dial};
use crate::{
    Clock,
    identity::{IdentityError, Request, Store, with_h2},
    tls::{Judge, Judged, Shown, TlsClock},
};

/// Why a host could not be enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// No connection, or the wrong coordinator.
    #[error("cannot reach the coordinator at {address}; is it running, and is the token from it?")]
    Dial {
        /// From the token.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// No connection, or the wrong coordinator.
    #[error("cannot reach the coordinator at {address}; is it running, and is --ca-pin its authority?")]
    DialPinned {
        /// As typed.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The coordinator said no.
    #[error("the coordinator refuses: {0}")]
    Refused(String),
    /// The answer is not from the pinned authority.
    #[error(
        "the coordinator answered with another authority than the one that is pinned; nothing was stored"
    )]
    OtherAuthority,
    /// The key or its file.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Makes a key, has it certified by the coordinator of `token` at `address`, and keeps both.
///
/// # Errors
/// Nothing is kept then; the identity before, if any, is untouched.
pub async fn enroll(
    token: &JoinToken,
    (address, network): (&str, Arc<dyn Network>),
    store: &Store,
) -> Result<(), EnrollError> {
    store.prepare()?;
    let request = Request::new(token.node.as_str())?;
    let channel = dial(address, Arc::new(pinned(token.authority, store.clock())), network)
        .await
        .map_err(|source| EnrollError::Dial { address: address.to_owned(), source })?;
    let reply = EnrolmentClient::new(channel)
        .enroll(EnrollRequest {
            node: token.node.to_string(),
            token_secret: token.secret.to_hex(),
            csr_pem: request.csr_pem.clone(),
        })
        .await
        .map_err(|status| EnrollError::Refused(status.message().to_owned()))?
        .into_inner();
    keep(&request, &reply, token.authority, address, store)
}

/// Keeps what a coordinator answered, if it is of the pinned authority.
pub(super) fn keep(
    request: &Request,
    reply: &EnrollReply,
    authority: [u8; 32],
    address: &str,
    store: &Store,
) -> Result<(), EnrollError> {
    let pinned = CertificateDer::pem_slice_iter(reply.authority_pem.as_bytes())
        .filter_map(Result::ok)
        .any(|certificate| fingerprint(&certificate) == authority);
    if !pinned {
        return Err(EnrollError::OtherAuthority);
    }
    store.save(request, &reply.certificate_pem, &reply.authority_pem, Some(address))?;
    // Read back: an identity that cannot be used is better known now than at the next start.
    store.read(0)?;
    Ok(())
}

fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

pub(super) fn pinned(authority: [u8; 32], clock: Clock) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(TlsClock(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judged::new(PinnedAuthority(authority))))
        .with_no_client_auth();
    with_h2(config)
}

/// Accepts a chain that ends in the one authority whose digest is known, checked as any chain.
#[derive(Debug)]
struct PinnedAuthority([u8; 32]);

impl Judge for PinnedAuthority {
    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        let unknown =
            || rustls::Error::General("the server's authority is not the one that is pinned".to_owned());
        let root = shown.chain.iter().find(|link| fingerprint(link) == self.0).ok_or_else(unknown)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let Shown { certificate, chain, name, ocsp, now } = shown;
        verifier.verify_server_cert(certificate, chain, name, ocsp, *now).map(drop)
    }
}
