//! From a server's certificate to one of a truststore, as Java goes (`sun.security.validator.PKIXValidator`): a
//! certificate that is held itself, or one with its name and key, counts at once, whatever its dates and extensions are;
//! else signatures are followed. Where the library that follows them is stricter than Java, nothing is claimed.

use std::time::Duration;

use fleet::{
    preflight::{certificate::CertificateFact, peers::Path},
    time::Timestamp,
};
use rustls::{
    CertificateError, Error, RootCertStore, client::verify_server_cert_signed_by_trust_anchor, crypto::ring,
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use super::super::keystore::Anchor;

/// How the chain that a server showed, its own certificate first, hangs together with the anchors.
pub(super) fn path(
    chain: &[CertificateDer<'_>],
    own: &CertificateFact,
    (anchors, now): (&[Anchor], Timestamp),
) -> Path {
    let held = |certificate: &CertificateDer<'_>| {
        anchors.iter().filter(|it| it.is_trusted).find(|anchor| is_same(&anchor.der, certificate))
    };
    let Some(leaf) = chain.first() else { return Path::Unknown };
    if let Some(anchor) = held(leaf) {
        return Path::Held { alias: anchor.alias.clone() };
    }
    let unknown = || match anchors.iter().find(|anchor| !anchor.is_trusted && is_same(&anchor.der, leaf)) {
        Some(anchor) => Path::NotMarked { alias: anchor.alias.clone() },
        None => Path::Unknown,
    };
    // Nobody else signed it.
    if own.issuer == own.subject {
        return unknown();
    }
    // From the first that is held on, the chain does not matter.
    let end = chain.iter().position(|certificate| held(certificate).is_some()).unwrap_or(chain.len());
    let mut roots = RootCertStore::empty();
    let trusted = anchors.iter().filter(|anchor| anchor.is_trusted);
    roots.add_parsable_certificates(trusted.map(|anchor| CertificateDer::from(anchor.der.as_slice())));
    if roots.is_empty() {
        return unknown();
    }
    // The dates of its own certificate are told apart from its path.
    let at = now.0.max(own.not_before.0).min(own.not_after.0);
    let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(at).unwrap_or(0)));
    let verified = ParsedCertificate::try_from(leaf).and_then(|leaf| {
        let between = chain.get(1..end).unwrap_or_default();
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, between, at, algorithms)
    });
    match verified {
        Ok(()) => Path::Signed,
        Err(Error::InvalidCertificate(error)) => refused(&error, unknown),
        Err(error) => Path::Unjudged(error.to_string()),
    }
}

fn refused(error: &CertificateError, unknown: impl Fn() -> Path) -> Path {
    match error {
        CertificateError::UnknownIssuer => unknown(),
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Path::Outdated,
        CertificateError::BadSignature => Path::Broken(
            "its signature does not fit the key of the issuer that is held under that name".to_owned(),
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            Path::Broken("it is not for servers (extended key usage)".to_owned())
        }
        // Old signatures and short keys are Java's own matter (`jdk.certpath.disabledAlgorithms`), and so are the
        // certificates that RFC 5280 does not want to see.
        other => Path::Unjudged(other.to_string()),
    }
}

/// The same certificate, or the same name with the same key.
fn is_same(one: &[u8], other: &CertificateDer<'_>) -> bool {
    if one == other.as_ref() {
        return true;
    }
    let read = |der| X509Certificate::from_der(der).ok().map(|(_, read)| read);
    let (Some(one), Some(other)) = (read(one), read(other.as_ref())) else { return false };
    one.subject().as_raw() == other.subject().as_raw() && one.public_key().raw == other.public_key().raw
}
