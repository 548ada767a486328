//! Certificates that are known by something else than the web's authorities. One implementation checks that a server
//! holds the key of its certificate; which certificate it may be is for a [`Judge`].

use std::{fmt::Debug, time::Duration};

use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::Clock;

/// The agent's clock for the TLS library, which would otherwise read the host's: a simulation has its own time.
#[derive(Debug)]
pub struct TlsClock(pub Clock);

impl TimeProvider for TlsClock {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from((self.0)().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(millis)))
    }
}

/// What a server shows.
#[derive(Debug)]
pub struct Shown<'a> {
    /// Its own certificate.
    pub certificate: &'a CertificateDer<'a>,
    /// Those above it.
    pub chain: &'a [CertificateDer<'a>],
    /// By which it was dialled.
    pub name: &'a ServerName<'a>,
    /// Stapled; often empty.
    pub ocsp: &'a [u8],
    /// The time of the check.
    pub now: UnixTime,
}

/// Says whether a certificate is the one that is expected.
pub trait Judge: Debug + Send + Sync {
    /// # Errors
    /// It is not.
    fn judge(&self, shown: &Shown<'_>) -> Result<(), Error>;
}

/// A verifier for rustls: the judge's word, and the handshake's signature by ring.
#[derive(Debug)]
pub struct Judged<J> {
    judge: J,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<J: Judge> Judged<J> {
    /// A verifier that asks `judge`.
    pub fn new(judge: J) -> Self {
        Self { judge, algorithms: ring::default_provider().signature_verification_algorithms }
    }
}

impl<J: Judge> ServerCertVerifier for Judged<J> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge.judge(&Shown { certificate, chain, name, ocsp, now })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
