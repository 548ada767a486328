//! Begins TLS with everything that the server will begin TLS with, and keeps the certificates that are shown. The
//! handshake is completed, whatever they are, and the connection closed: nothing is sent over it, and the other side has
//! no failure in its log. What the certificates are worth is told afterwards, by the server's own truststore.

mod path;

use std::{
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use fleet::{
    preflight::{
        certificate::{AltName, CertificateFact},
        needs::Address,
        peers::{Peer, PeerFact, Shown},
    },
    time::Timestamp,
};
use rustls::{ClientConfig, crypto::ring};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::TlsConnector;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _};

use super::keystore::Truststore;
use crate::tls::{Judge, Judged, Shown as ShownTls};

/// Certificates of one server that are looked at; RFC 5280 paths are shorter.
const CHAIN_MAX: usize = 10;
/// Names of one certificate that are kept.
const NAMES_MAX: usize = 100;
/// Of a name of the other side, characters.
const TEXT_MAX: usize = 256;

/// What the other side of one connection showed, its own certificate first; or why it showed nothing.
pub(crate) type Tried = Result<Vec<CertificateDer<'static>>, String>;

/// All at the same time, in their order.
pub(crate) async fn try_all(peers: Vec<Peer>, limit: Duration) -> Vec<(Peer, Tried)> {
    let mut attempts = JoinSet::new();
    for (place, peer) in peers.into_iter().enumerate() {
        attempts.spawn(async move {
            let tried = match tokio::time::timeout(limit, try_one(&peer.address)).await {
                Ok(tried) => tried,
                Err(_) => Err(format!("no answer within {} s", limit.as_secs())),
            };
            (place, (peer, tried))
        });
    }
    let mut tried = attempts.join_all().await;
    tried.sort_by_key(|(place, _)| *place);
    tried.into_iter().map(|(_, tried)| tried).collect()
}

async fn try_one(address: &Address) -> Tried {
    let name = ServerName::try_from(address.host.clone()).map_err(|error| error.to_string())?;
    let recorder = Recorder::default();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Judged::new(recorder.clone())))
        .with_no_client_auth();
    let stream = TcpStream::connect((address.host.as_str(), address.port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let ended = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    // One that asks for a certificate of ours, or has a key that is not read here, has shown its own before.
    match (recorder.0.get(), ended) {
        (Some(chain), _) => Ok(chain.clone()),
        (None, Ok(_)) => Err("it shows no certificate".to_owned()),
        (None, Err(error)) => Err(format!("no TLS: {error}")),
    }
}

/// Takes every certificate, and notes it.
#[derive(Debug, Default, Clone)]
struct Recorder(Arc<OnceLock<Vec<CertificateDer<'static>>>>);

impl Judge for Recorder {
    fn judge(&self, shown: &ShownTls<'_>) -> Result<(), rustls::Error> {
        let chain = std::iter::once(shown.certificate).chain(shown.chain).take(CHAIN_MAX);
        self.0.get_or_init(|| chain.map(|one| one.clone().into_owned()).collect());
        Ok(())
    }
}

/// What the server's truststore makes of what was shown.
pub(crate) fn judge(tried: Vec<(Peer, Tried)>, trust: &Truststore, now: Timestamp) -> Vec<(Peer, PeerFact)> {
    let fact = |tried: Tried| {
        let chain = match tried {
            Ok(chain) => chain,
            Err(why) => return PeerFact::Unreached(why),
        };
        let anchors = match &trust.anchors {
            Ok(anchors) => anchors,
            Err(why) => {
                return PeerFact::NotTried(format!("the truststore {} was not read: {why}", trust.file));
            }
        };
        let Some(certificate) = chain.first().and_then(|own| fact(own)) else {
            return PeerFact::Unreached("its certificate cannot be read".to_owned());
        };
        let path = path::path(&chain, &certificate, (anchors, now));
        PeerFact::Shown(Shown { certificate, path, truststore: trust.file.clone() })
    };
    tried.into_iter().map(|(peer, tried)| (peer, fact(tried))).collect()
}

/// What is judged of a certificate; `None` if it cannot be read.
pub(super) fn fact(der: &[u8]) -> Option<CertificateFact> {
    let (_, read) = x509_parser::certificate::X509Certificate::from_der(der).ok()?;
    let names = read.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(AltName::Dns(plain(name))),
        GeneralName::IPAddress(bytes) => Some(AltName::Ip(address(bytes)?)),
        _ => None,
    });
    let common_name = read.subject().iter_common_name().last().and_then(|name| name.as_str().ok());
    // As Java and keytool write names.
    let written = p12_keystore::Certificate::from_der(der).ok()?;
    let millis = |at: x509_parser::time::ASN1Time| Timestamp(at.timestamp().saturating_mul(1_000));
    Some(CertificateFact {
        digest: fleet::ids::Digest::of(der),
        subject: plain(written.subject()),
        issuer: plain(written.issuer()),
        common_name: common_name.map(plain),
        names: names.take(NAMES_MAX).collect(),
        not_before: millis(read.validity().not_before),
        not_after: millis(read.validity().not_after),
    })
}

/// What others wrote, printable and of a length that people read.
pub(super) fn plain(text: &str) -> String {
    fleet::foreign::printable(text).chars().take(TEXT_MAX).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests;
