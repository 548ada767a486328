//! Who may have a certificate: join tokens made by operators, used once, and renewal of a name one already has.

pub(crate) mod admission;
pub mod host;
pub(crate) mod tokens;

use std::time::Duration;

use fleet::{
    access::Permit,
    ids::{Digest, NodeName},
    time::{Human, Timestamp},
    token::{JoinToken, SECRET_LEN, TokenSecret},
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    authority::{AuthorityError, Issued},
    commands::Outcome,
    coordinator::Coordinator,
    events::{Draft, Kind},
    identity::NodePeer,
    rates::Source,
    store::{
        CommitError, Entry, Key, Range, StoreError, Transaction,
        records::{Holder, NodeRecord, Record as _, TokenRecord},
    },
    witness::{Revocable, Revocation},
};

/// A token is valid for at most this long.
pub const TOKEN_VALID_MAX: Duration = Duration::from_secs(30 * 24 * 3600);
/// A token is valid for so long if nobody says otherwise.
pub const TOKEN_VALID: Duration = Duration::from_secs(3600);
/// Tokens that ended are remembered for so long, to say "used" or "expired" instead of "unknown".
pub(crate) const TOKEN_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Tries when somebody else changes the same records.
pub(crate) const TRIES_MAX: usize = 8;

/// Why no certificate was given. Each has its own words on both sides.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No such token was ever made here, or its record was removed long after its end.
    #[error("this join token is not known to this coordinator; create one with `{}`", command(who))]
    Unknown {
        /// Who asked.
        who: Holder,
    },
    /// It worked once before.
    #[error(
        "this join token was used {} ago; a token works once, create another with `{}`",
        Human(*ago), command(who)
    )]
    Used {
        /// Who asked.
        who: Holder,
        /// How long ago it was used.
        ago: Duration,
    },
    /// It worked once before, and the store does not know because it was restored from an older copy.
    #[error(
        "this join token was used or voided before the coordinator's store was restored; create another with `{}`",
        command(who)
    )]
    Restored {
        /// Who asked.
        who: Holder,
    },
    /// Too late.
    #[error(
        "this join token expired {} ago; create another with `{}`",
        Human(*ago), command(who)
    )]
    Expired {
        /// Who asked.
        who: Holder,
        /// How long ago it ended.
        ago: Duration,
    },
    /// Made for somebody else.
    #[error(
        "this join token was made for another {} than {}; create one with `{}`",
        kind(who),
        name(who),
        command(who)
    )]
    Other {
        /// Who asked.
        who: Holder,
    },
    /// The certificate in use is not the node's any more.
    #[error(
        "the certificate of {node} was replaced by a later enrolment or the node was forgotten; enrol again with a new join token"
    )]
    Superseded {
        /// Who asked.
        node: NodeName,
    },
    /// The request.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store, while writing.
    #[error("the certificate could not be recorded, so it was not given out; try again")]
    Commit(#[source] CommitError),
}

/// The command that makes a token for somebody.
fn command(who: &Holder) -> String {
    match who {
        Holder::Node(node) => format!("convoy token create --node {node}"),
        Holder::Operator(operator) => format!("convoy operator add {operator} --again"),
    }
}

fn kind(who: &Holder) -> &'static str {
    match who {
        Holder::Node(_) => "node",
        Holder::Operator(_) => "operator",
    }
}

fn name(who: &Holder) -> &str {
    match who {
        Holder::Node(node) => node.as_str(),
        Holder::Operator(operator) => operator.as_str(),
    }
}

/// Of a token's secret only this is stored. The secret has 256 random bits, so a plain digest gives nothing away, and
/// since only digests are looked up, the time that takes says nothing about a secret either.
pub(crate) fn secret_hash(secret: &TokenSecret) -> Digest {
    Digest::of(&[b"convoy join token ".as_slice(), &secret.0].concat())
}

impl Coordinator {
    /// Makes a token that lets `node` join once within `valid`. Answers with the token and its end.
    ///
    /// # Errors
    /// The store failed; there is no token then.
    pub async fn create_token(
        &self,
        node: &NodeName,
        valid: Duration,
        permit: &Permit,
    ) -> Result<(JoinToken, Timestamp), EnrolError> {
        let now = (self.clock)();
        let secret: [u8; SECRET_LEN] = rand::random();
        let secret = TokenSecret(secret);
        let expires = now.after(valid.min(TOKEN_VALID_MAX));
        let (holder, created_by) = (Holder::Node(node.clone()), permit.operator().to_string());
        let record = TokenRecord { holder, expires, used: None, created_by };
        let put = Transaction::default().replace(Key::token(&secret_hash(&secret)), 0, record.encode());
        let event = Draft::new(now, Kind::TokenCreated, format!("a join token was made for {node}"));
        let event = event.of_node(node).with("expires_ms", &expires.0);
        self.act(permit, event, put).await.map_err(EnrolError::Commit)?;
        self.remove_old_tokens(now).await;
        let authority = self.authority.fingerprint();
        let address = self.address.clone();
        Ok((JoinToken { node: node.clone(), address, authority, secret }, expires))
    }

    /// Exchanges a token and a certificate request for a certificate. The token is marked used in the commit that
    /// records the certificate, so it cannot work twice, and a certificate that was not recorded is not given out.
    ///
    /// # Errors
    /// Says which of the token's conditions is not met.
    pub async fn enroll(
        &self,
        node: &NodeName,
        secret: Option<TokenSecret>,
        request_pem: &str,
    ) -> Result<Issued, EnrolError> {
        for _ in 0..TRIES_MAX {
            match self.try_enroll(node, secret, request_pem).await {
                // Somebody changed the token or the node meanwhile; look again, which tells a used token.
                Err(EnrolError::Commit(CommitError::Conflict { .. })) => {}
                Err(error) => {
                    warn!(%node, error = %error, "Refused an enrolment");
                    // Anybody can try tokens that were never made; they shall not push real events out of history.
                    let counts = !matches!(error, EnrolError::Unknown { .. });
                    if counts && self.rates.admit(&Source::Enrolment, Instant::now()) {
                        let event = Draft::new((self.clock)(), Kind::EnrolmentRefused, error.to_string());
                        self.events.record(event.of_node(node)).await;
                    }
                    return Err(error);
                }
                Ok(issued) => {
                    info!(%node, serial = issued.serial, "A node joined");
                    // Whoever still speaks for the node with an older certificate does so no longer.
                    self.live.dismiss(node, "the node was enrolled again");
                    return Ok(issued);
                }
            }
        }
        Err(EnrolError::Commit(CommitError::Conflict { key: Key::node(node) }))
    }

    async fn try_enroll(
        &self,
        node: &NodeName,
        secret: Option<TokenSecret>,
        request_pem: &str,
    ) -> Result<Issued, EnrolError> {
        let now = (self.clock)();
        let who = Holder::Node(node.clone());
        let unknown = || EnrolError::Unknown { who: who.clone() };
        let key = Key::token(&secret_hash(&secret.ok_or_else(unknown)?));
        let entry = self.store.get(&key).await?.ok_or_else(unknown)?;
        let token = TokenRecord::read(&entry)?;
        check_token(&token, &who, now)?;
        let spent = Revocable::Token(secret_hash(&secret.ok_or_else(unknown)?));
        if self.witness.is_revoked(&spent) {
            return Err(EnrolError::Restored { who });
        }
        let issued = self.authority.sign_node(node, request_pem, (now, self.node_certificate))?;
        let (mut record, version) = self.node_or_new(node).await?;
        let mut revocations = admission::enrolled(&mut record, &issued, now);
        revocations.push(Revocation { what: spent, end: token.expires.after(TOKEN_KEPT) });
        let used = TokenRecord { used: Some(now), ..token };
        let commit = Transaction::default()
            .replace(key, entry.version, used.encode())
            .replace(Key::node(node), version, record.encode())
            // What the node said before it was set up anew is not true any more, its numbering of notices included.
            .delete(Key::seen(node))
            .delete(Key::host(node));
        let event =
            Draft::new(now, Kind::NodeEnrolled, format!("{node} joined with a token of {}", used.created_by));
        self.events.append(vec![event.of_node(node)], commit).await.map_err(EnrolError::Commit)?;
        self.revoke(revocations).await;
        Ok(issued)
    }

    /// Whether a node's certificate still is its node's.
    pub(crate) fn speaks_for(&self, record: &NodeRecord, peer: &NodePeer) -> bool {
        let certificate = Revocable::Certificate(peer.serial.clone());
        record.accepts(&peer.serial) && !self.witness.is_revoked(&certificate)
    }

    /// A new certificate for the name that the caller already has. The one in use stays valid until its end.
    ///
    /// # Errors
    /// The caller's certificate is not the node's any more, or the request is not valid.
    pub async fn renew(&self, peer: &NodePeer, request_pem: &str) -> Result<Issued, EnrolError> {
        for _ in 0..TRIES_MAX {
            let now = (self.clock)();
            let superseded = || EnrolError::Superseded { node: peer.name.clone() };
            let (mut record, version) = self.node_or_new(&peer.name).await?;
            if !self.speaks_for(&record, peer) {
                warn!(node = %peer.name, serial = peer.serial, "Refused a renewal with a replaced certificate");
                return Err(superseded());
            }
            let issued = self.authority.sign_node(&peer.name, request_pem, (now, self.node_certificate))?;
            let enrolment = record.enrolment.as_mut().ok_or_else(superseded)?;
            enrolment.previous_serial = Some(peer.serial.clone());
            enrolment.serial.clone_from(&issued.serial);
            enrolment.expires = issued.not_after;
            let commit = Transaction::default().replace(Key::node(&peer.name), version, record.encode());
            match self.store.commit(commit).await {
                Ok(_) => {
                    info!(node = %peer.name, serial = issued.serial, "Renewed a certificate");
                    return Ok(issued);
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(EnrolError::Commit(error)),
            }
        }
        Err(EnrolError::Commit(CommitError::Conflict { key: Key::node(&peer.name) }))
    }

    /// Voids the certificate and the unused join tokens of a node. Its files and its server stay as they are.
    ///
    /// # Errors
    /// The store failed.
    pub async fn revoke_node(&self, node: &NodeName, permit: &Permit) -> Result<Outcome, CommitError> {
        for _ in 0..TRIES_MAX {
            let entry = self.store.get(&Key::node(node)).await.map_err(CommitError::Refused)?;
            let record = entry.as_ref().map(NodeRecord::read).transpose().map_err(CommitError::Refused)?;
            let Some((entry, mut record)) =
                entry.zip(record).filter(|(_, record)| record.enrolment.is_some())
            else {
                return Ok(Outcome::Failed(format!(
                    "{node} has no certificate: it has not joined, or was revoked before"
                )));
            };
            // First: a token that is used a moment later would give a certificate again.
            let mut revocations = self.remove_tokens_of(&Holder::Node(node.clone())).await?;
            revocations.append(&mut revocations_of(&record));
            record.enrolment = None;
            record.revoked = Some((self.clock)());
            let commit = Transaction::default().replace(entry.key, entry.version, record.encode());
            let text = format!("{} revoked the certificate of {node}", permit.operator());
            let event = Draft::new((self.clock)(), Kind::NodeRevoked, text).of_node(node);
            match self.act(permit, event, commit).await {
                Ok(_) => {
                    self.revoke(revocations).await;
                    self.live.dismiss(node, "its certificate was revoked");
                    return Ok(Outcome::Done(format!(
                        "the certificate of {node} is revoked; its agent goes on enforcing what it has, and joins again with \
                         `convoy token create --node {node}`"
                    )));
                }
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(CommitError::Conflict { key: Key::node(node) })
    }

    pub(crate) async fn node_or_new(&self, node: &NodeName) -> Result<(NodeRecord, u64), StoreError> {
        let entry = self.store.get(&Key::node(node)).await?;
        let version = entry.as_ref().map_or(0, |entry| entry.version);
        let record = entry.as_ref().map(NodeRecord::read).transpose()?;
        Ok((record.unwrap_or_else(|| NodeRecord::new(node.clone())), version))
    }

    pub(crate) async fn remove_old_tokens(&self, now: Timestamp) {
        let outcome = async {
            let found =
                self.store.range(Range::first(Key::TOKENS, 100)).await.map_err(CommitError::Refused)?;
            let old = |entry: &Entry| {
                TokenRecord::read(entry).is_ok_and(|token| TOKEN_KEPT < now.since(token.expires))
            };
            let removal = found.into_iter().filter(old);
            let removal = removal.fold(Transaction::default(), |all, entry| {
                all.check(entry.key.clone(), entry.version).delete(entry.key)
            });
            if removal.writes.is_empty() { Ok(0) } else { self.store.commit(removal).await }
        };
        if let Err(error) = outcome.await {
            warn!(%error, "Cannot remove old join tokens");
        }
    }
}

/// Every certificate of a node that is valid now.
pub(crate) fn revocations_of(record: &NodeRecord) -> Vec<Revocation> {
    let Some(own) = &record.enrolment else { return Vec::new() };
    let serials = own.previous_serial.iter().chain([&own.serial]);
    let revocation =
        |serial: &String| Revocation { what: Revocable::Certificate(serial.clone()), end: own.expires };
    serials.map(revocation).collect()
}

pub(crate) fn check_token(token: &TokenRecord, who: &Holder, now: Timestamp) -> Result<(), EnrolError> {
    let who = who.clone();
    if token.holder != who {
        return Err(EnrolError::Other { who });
    }
    if let Some(used) = token.used {
        return Err(EnrolError::Used { who, ago: now.since(used) });
    }
    if token.expires <= now {
        return Err(EnrolError::Expired { who, ago: now.since(token.expires) });
    }
    Ok(())
}
