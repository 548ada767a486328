//! Hosts that show a certificate of an authority that the coordinator's owner named (ADR 101): whose certificate it is,
//! whether it counts, and which node it lets the host be. Such a certificate is looked at here and nowhere else; the TLS
//! of the port knows only the fleet's own authority.

mod files;
mod judge;

use std::{sync::Arc, time::Duration};

use fleet::{
    admission::host_statement,
    audit::{Act, COORDINATOR},
    ids::NodeName,
    time::{Human, Timestamp},
};
use hmac::{Hmac, Mac as _};
use rustls::{CertificateError, SignatureScheme, crypto::ring, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use sha2::Sha256;
use tokio::time::Instant;
use tracing::{info, warn};
use webpki::EndEntityCert;

pub use files::{FileError, Files};
use judge::node_of;
pub use judge::{HostCertificate, NoNode};

use crate::{
    audit::Note,
    authority::Issued,
    coordinator::Coordinator,
    enrolment::{
        EnrolError, TRIES_MAX,
        admission::{Place, enrolled, place},
    },
    events::{Draft, Kind},
    rates::Source,
    store::{CommitError, Key, Transaction, records::Record as _},
};

/// What is signed has to come back within this time.
const NONCE_VALID: Duration = Duration::from_secs(60);
/// Random bytes of a challenge.
const NONCE_RANDOM: usize = 16;
/// Certificates that a host shows, its own included.
const CHAIN_MAX: usize = 8;

/// Why a host was not let in. Nothing of this says more to a stranger than what their own certificate says.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Not configured.
    #[error(
        "this coordinator takes no host certificates: its configuration has no [join.pki]; use a token of `convoy token create`"
    )]
    Off,
    /// The challenge is not ours, or old.
    #[error("the challenge that was signed is not this coordinator's, or older than {} s; try again", NONCE_VALID.as_secs())]
    Nonce,
    /// No certificates, or too many.
    #[error("a host shows its certificate and those above it, at most {CHAIN_MAX}")]
    Chain,
    /// The first one cannot be read.
    #[error("the host's certificate cannot be read: {0}")]
    Unreadable(String),
    /// The host has not got the key, or signs with something unknown.
    #[error("the signature is not by the key of the host's certificate")]
    Unproven,
    /// A file of the coordinator's.
    #[error(transparent)]
    File(#[from] FileError),
    /// Another authority.
    #[error("{host} is by no authority of {authorities}")]
    Foreign {
        /// The certificate.
        host: Box<HostCertificate>,
        /// The configured file.
        authorities: String,
    },
    /// It has ended, or TLS's own rules refuse it. Anybody can make such a one: nothing says that it is by an authority.
    #[error("{host}: it {why}")]
    Unbelievable {
        /// The certificate.
        host: Box<HostCertificate>,
        /// What is wrong with it.
        why: String,
    },
    /// It is by an authority, and was revoked or is not for this.
    #[error("{host}: it {why}")]
    Unfit {
        /// The certificate.
        host: Box<HostCertificate>,
        /// What is wrong with it.
        why: String,
    },
    /// Its names lead to no node, or to several.
    #[error("{host}: {why}")]
    NoNode {
        /// The certificate.
        host: Box<HostCertificate>,
        /// Why.
        why: NoNode,
    },
    /// Somebody is this node.
    #[error(
        "{why}. If this host is to take its place, an operator says so: `convoy token create --node {node}`, or \
         `convoy node admit --replace`"
    )]
    Taken {
        /// Which node.
        node: NodeName,
        /// Who, until when.
        why: String,
    },
    /// An operator threw it out.
    #[error(
        "an operator revoked {node} {} ago, and no host certificate lets it in since then; an operator does, with \
         `convoy token create --node {node}` or `convoy node admit`",
        Human(*ago)
    )]
    Barred {
        /// Which node.
        node: NodeName,
        /// Since when.
        ago: Duration,
    },
    /// As for tokens.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

impl HostError {
    /// Whether it is worth an event: strangers cannot cause it, or an operator has to do something.
    fn is_told(&self) -> bool {
        match self {
            Self::Off
            | Self::Nonce
            | Self::Chain
            | Self::Unreadable(_)
            | Self::Unproven
            | Self::Unbelievable { .. }
            | Self::Foreign { .. } => false,
            Self::File(_)
            | Self::Unfit { .. }
            | Self::NoNode { .. }
            | Self::Taken { .. }
            | Self::Barred { .. }
            | Self::Enrol(_) => true,
        }
    }
}

/// What a host shows and signed.
pub struct Shown {
    /// The challenge.
    pub nonce: Vec<u8>,
    /// DER, its own certificate first.
    pub chain: Vec<Vec<u8>>,
    /// As TLS numbers them.
    pub scheme: u16,
    /// Over [`host_statement`].
    pub signature: Vec<u8>,
    /// For the key that is to be certified.
    pub request_pem: String,
    /// Which of the nodes of its host it wants to be.
    pub wanted: Option<NodeName>,
}

/// The configured authorities, and the key of our challenges.
pub struct HostAuthorities {
    files: Files,
    /// Of this run only: a challenge of the run before is asked for again.
    key: [u8; 32],
}

impl HostAuthorities {
    /// Reads the files once, so that a mistake in them shows at the start.
    ///
    /// # Errors
    /// A file cannot be read, or holds something else.
    pub fn open(files: Files, now: Timestamp) -> Result<Self, FileError> {
        files.check()?;
        let trouble = files.lists().map_or_else(Some, |lists| lists.and_then(|lists| lists.ended(now)));
        if let Some(error) = trouble {
            warn!(%error, "No host can join by its own certificate");
        }
        Ok(Self { files, key: rand::random() })
    }

    fn seal(&self, body: &[u8]) -> Hmac<Sha256> {
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&self.key);
        mac.expect("HMAC takes keys of any length").chain_update(body)
    }

    /// Something to sign: the time, randomness, and a seal by which it is known again. Nothing is kept.
    fn challenge(&self, now: Timestamp) -> Vec<u8> {
        let random: [u8; NONCE_RANDOM] = rand::random();
        let mut nonce = now.0.to_be_bytes().to_vec();
        nonce.extend(random);
        let seal = self.seal(&nonce).finalize().into_bytes();
        nonce.extend(seal);
        nonce
    }

    fn is_ours(&self, nonce: &[u8], now: Timestamp) -> bool {
        let Some((body, seal)) = nonce.split_at_checked(size_of::<i64>() + NONCE_RANDOM) else {
            return false;
        };
        let made = body.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        let is_fresh = made <= now.0 && now.since(Timestamp(made)) <= NONCE_VALID;
        is_fresh && self.seal(body).verify_slice(seal).is_ok()
    }

    /// Whose certificate is shown, if its holder signed and it counts now.
    fn verify(
        &self,
        shown: &Shown,
        authority: &[u8; 32],
        now: Timestamp,
    ) -> Result<HostCertificate, HostError> {
        if !self.is_ours(&shown.nonce, now) {
            return Err(HostError::Nonce);
        }
        let chain: Vec<CertificateDer<'_>> =
            shown.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let (own, above) = match chain.split_first() {
            Some((own, above)) if chain.len() <= CHAIN_MAX => (own, above),
            Some(_) | None => return Err(HostError::Chain),
        };
        let host = HostCertificate::read(own).map_err(HostError::Unreadable)?;
        prove(own, shown, authority)?;
        let roots = Arc::new(self.files.roots()?);
        let verifier = |lists: Vec<CertificateRevocationListDer<'static>>| {
            let provider = Arc::new(ring::default_provider());
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider)
                .with_crls(lists)
                .only_check_end_entity_revocation()
                .enforce_revocation_expiration()
                .build()
                .map_err(|error| self.files.refuses(&error))
        };
        let seconds = u64::try_from(now.0 / 1000).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let checked = verifier(Vec::new())?.verify_client_cert(own, above, at);
        checked.map_err(|error| self.unbelievable(&host, &error, now))?;
        host.may_join()
            .map_err(|why| HostError::Unfit { host: Box::new(host.clone()), why: why.to_owned() })?;
        // Last: only who has a good certificate makes anybody read a long list.
        if let Some(lists) = self.files.lists()? {
            lists.covers(&host, now)?;
            let checked = verifier(lists.ders)?.verify_client_cert(own, above, at);
            checked.map_err(|error| listed(&host, &error))?;
        }
        Ok(host)
    }

    fn unbelievable(&self, host: &HostCertificate, error: &rustls::Error, now: Timestamp) -> HostError {
        let host = Box::new(host.clone());
        let why = match error {
            // Bad is what another authority of the same name signed.
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => {
                let authorities = self.files.authorities.display().to_string();
                return HostError::Foreign { host, authorities };
            }
            rustls::Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            ) if host.not_after <= now => format!("ended {} ago", Human(now.since(host.not_after))),
            other => format!("is not taken ({other})"),
        };
        HostError::Unbelievable { host, why }
    }
}

/// What is wrong with a certificate that the authorities vouch for.
fn listed(host: &HostCertificate, error: &rustls::Error) -> HostError {
    let why = match error {
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => {
            "was revoked by its authority".to_owned()
        }
        other => format!("is not taken ({other})"),
    };
    HostError::Unfit { host: Box::new(host.clone()), why }
}

/// Whether the holder of the certificate's key signed this.
fn prove(own: &CertificateDer<'_>, shown: &Shown, authority: &[u8; 32]) -> Result<(), HostError> {
    let certificate =
        EndEntityCert::try_from(own).map_err(|error| HostError::Unreadable(error.to_string()))?;
    let scheme = SignatureScheme::from(shown.scheme);
    let known = ring::default_provider().signature_verification_algorithms.mapping;
    let is_modern = matches!(
        scheme,
        SignatureScheme::ECDSA_NISTP256_SHA256
            | SignatureScheme::ECDSA_NISTP384_SHA384
            | SignatureScheme::ED25519
            | SignatureScheme::RSA_PSS_SHA256
            | SignatureScheme::RSA_PSS_SHA384
            | SignatureScheme::RSA_PSS_SHA512
    );
    let algorithm = known.iter().find(|(known, _)| *known == scheme).and_then(|(_, first)| first.first());
    let algorithm = algorithm.filter(|_| is_modern).ok_or(HostError::Unproven)?;
    let wanted = shown.wanted.as_ref().map_or("", NodeName::as_str);
    let statement = host_statement(authority, &shown.nonce, own, (&shown.request_pem, wanted));
    certificate.verify_signature(*algorithm, &statement, &shown.signature).map_err(|_| HostError::Unproven)
}

impl Coordinator {
    /// Something for a host to sign.
    ///
    /// # Errors
    /// Host certificates are not taken here.
    pub fn challenge(&self) -> Result<Vec<u8>, HostError> {
        let authorities = self.host_authorities.as_ref().ok_or(HostError::Off)?;
        Ok(authorities.challenge((self.clock)()))
    }

    /// Lets a host be the node that its own certificate names.
    ///
    /// # Errors
    /// Says what is wrong with the certificate, or who is this node now.
    pub async fn enroll_host(&self, shown: &Shown) -> Result<Issued, HostError> {
        match self.try_enroll_host(shown).await {
            Ok((node, issued)) => {
                info!(%node, serial = issued.serial, "A node joined by its host's certificate");
                Ok(issued)
            }
            Err(error) => {
                warn!(error = %error, "Refused a host's certificate");
                if error.is_told() && self.rates.admit(&Source::Enrolment, Instant::now()) {
                    let event = Draft::new((self.clock)(), Kind::EnrolmentRefused, error.to_string());
                    self.events.record(event).await;
                }
                Err(error)
            }
        }
    }

    async fn try_enroll_host(&self, shown: &Shown) -> Result<(NodeName, Issued), HostError> {
        let authorities = self.host_authorities.as_ref().ok_or(HostError::Off)?;
        let host = authorities.verify(shown, &self.authority.fingerprint(), (self.clock)())?;
        for _ in 0..TRIES_MAX {
            let now = (self.clock)();
            let snapshot = self.snapshot().await.map_err(EnrolError::Store)?;
            let declared = snapshot.revision.iter().flat_map(|newest| &newest.nodes);
            let hosts = declared.map(|(node, target)| (node, target.host.as_str()));
            let node = node_of(&host.names, hosts, shown.wanted.as_ref())
                .map_err(|why| HostError::NoNode { host: Box::new(host.clone()), why })?;
            let (mut record, version) = self.node_or_new(&node).await.map_err(EnrolError::Store)?;
            if let Some(revoked) = record.revoked {
                return Err(HostError::Barred { ago: now.since(revoked), node });
            }
            let is_connected = self.live.node(&node).is_some();
            if let Place::Taken(why) = place(&node, record.enrolment.as_ref(), is_connected, now) {
                return Err(HostError::Taken { node, why });
            }
            let validity = (now, self.node_certificate);
            let issued = self.authority.sign_node(&node, &shown.request_pem, validity);
            let issued = issued.map_err(EnrolError::Authority)?;
            let revocations = enrolled(&mut record, &issued, now);
            let commit = Transaction::default()
                .replace(Key::node(&node), version, record.encode())
                .delete(Key::seen(&node))
                .delete(Key::host(&node));
            let event = Draft::new(now, Kind::NodeEnrolled, format!("{node} joined by {host}"));
            let event = event.of_node(&node).with("serial", &issued.serial);
            let note = Note::own(COORDINATOR, Act::Join, &event);
            match self.audit.record(&note, vec![event], commit).await {
                Ok(_) => {
                    self.revoke(revocations).await;
                    return Ok((node, issued));
                }
                // Somebody else joined as this node at the same moment: look again.
                Err(CommitError::Conflict { key }) if key == Key::node(&node) => {}
                Err(error) => return Err(EnrolError::Commit(error).into()),
            }
        }
        Err(EnrolError::Commit(CommitError::Conflict { key: Key::audit_head() }).into())
    }
}

#[cfg(test)]
mod tests;
