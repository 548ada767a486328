//! Who may act: operators are added by an admin, join with a token that works once, and are removed at once (ADR 0053).
//! The first operator stands outside of this: its context file lies in the data directory, and it has no record.

use std::time::Duration;

use fleet::{
    access::{Grant, Permit, Principal, Targets},
    audit::Act,
    ids::{Digest, OperatorName},
    time::Timestamp,
    token::{OperatorToken, SECRET_LEN, TokenSecret},
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    access::is_first,
    audit::Note,
    authority::Issued,
    coordinator::Coordinator,
    enrolment::{EnrolError, TOKEN_KEPT, TOKEN_VALID_MAX, check_token, secret_hash},
    events::{Draft, Kind},
    rates::Source,
    store::{
        CommitError, Entry, Key, Range, StoreError, Transaction, for_each,
        records::{Certificate, Holder, OperatorRecord, Record as _, TokenRecord},
    },
    witness::{Revocable, Revocation},
};

/// Operators at most.
const OPERATORS_MAX: usize = 1000;
/// Tries when somebody else changes the same records.
const TRIES_MAX: usize = 8;
/// Records that are read or removed at once.
const PAGE: usize = 100;

/// Why an operator was not added, changed or removed.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The first operator.
    #[error(
        "{name} is the first operator, admin of the whole fleet for ever: who has its context file owns the coordinator's data \
         directory. Give people names of their own"
    )]
    First {
        /// Its name.
        name: OperatorName,
    },
    /// Added before.
    #[error(
        "{name} is {grant} already; `convoy operator set` changes that, and `convoy operator add {name} --again` makes another \
         join token"
    )]
    Known {
        /// Who.
        name: OperatorName,
        /// What they are.
        grant: Grant,
    },
    /// Not added, or removed.
    #[error("there is no operator {name}; `convoy operator list` shows them")]
    Unknown {
        /// Who.
        name: OperatorName,
    },
    /// The bound.
    #[error("there are {OPERATORS_MAX} operators already; remove those who left")]
    TooMany,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store, while writing.
    #[error("the change of the operator could not be stored")]
    Commit(#[source] CommitError),
}

/// What a new token of an operator is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invitation {
    /// Somebody new, with these rights.
    New(Grant),
    /// Somebody who is known: a lost key, or a certificate that ends.
    Again,
}

/// A token, and what its holder will be.
pub struct Invited {
    /// For them alone.
    pub token: OperatorToken,
    /// Its end.
    pub expires: Timestamp,
    /// What they may do.
    pub grant: Grant,
}

impl Coordinator {
    /// The record of an operator, if there is one, as it is stored now.
    async fn operator_entry(
        &self,
        name: &OperatorName,
    ) -> Result<Option<(Entry, OperatorRecord)>, StoreError> {
        let entry = self.store.get(&Key::operator(name)).await?;
        entry.map(|entry| OperatorRecord::read(&entry).map(|record| (entry, record))).transpose()
    }

    /// What changing an operator reaches: what they may do now. Nothing of somebody who is not known.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn targets_of_operator(&self, name: &OperatorName) -> Result<Targets, StoreError> {
        let known = self.operator_entry(name).await?;
        Ok(known.map(|(_, record)| record.grant.scope.as_targets()).unwrap_or_default())
    }

    /// Makes a token that lets an operator join once within `valid`; somebody new is added with it.
    ///
    /// # Errors
    /// See [`OperatorError`]; there is no token then.
    pub async fn invite_operator(
        &self,
        name: &OperatorName,
        invitation: Invitation,
        (valid, permit): (Duration, &Permit),
    ) -> Result<Invited, OperatorError> {
        if is_first(name) {
            return Err(OperatorError::First { name: name.clone() });
        }
        let (now, by) = ((self.clock)(), permit.operator());
        let secret: [u8; SECRET_LEN] = rand::random();
        let secret = TokenSecret(secret);
        let expires = now.after(valid.min(TOKEN_VALID_MAX));
        let holder = Holder::Operator(name.clone());
        let token = TokenRecord { holder, expires, used: None, created_by: by.to_string() };
        let put = Transaction::default().replace(Key::token(&secret_hash(&secret)), 0, token.encode());
        let known = self.operator_entry(name).await?;
        let (put, grant, event) = match (known, invitation) {
            (Some((_, record)), Invitation::New(_)) => {
                return Err(OperatorError::Known { name: name.clone(), grant: record.grant });
            }
            (None, Invitation::Again) => return Err(OperatorError::Unknown { name: name.clone() }),
            (Some((entry, record)), Invitation::Again) => {
                let event =
                    Draft::new(now, Kind::TokenCreated, format!("{by} made another join token for {name}"));
                (put.check(entry.key, entry.version), record.grant, event)
            }
            (None, Invitation::New(grant)) => {
                let all = self.store.range(Range::first(Key::OPERATORS, OPERATORS_MAX)).await?;
                if OPERATORS_MAX <= all.len() {
                    return Err(OperatorError::TooMany);
                }
                let record = OperatorRecord {
                    name: name.clone(),
                    grant: grant.clone(),
                    since: now,
                    by: by.to_string(),
                    certificate: None,
                };
                let event = Draft::new(now, Kind::OperatorAdded, format!("{by} added {name} as {grant}"));
                (put.replace(Key::operator(name), 0, record.encode()), grant, event)
            }
        };
        let event = event.with("operator", name).with("expires_ms", &expires.0);
        self.act(permit, event, put).await.map_err(OperatorError::Commit)?;
        self.remove_old_tokens(now).await;
        let authority = self.authority.fingerprint();
        let token =
            OperatorToken { operator: name.clone(), address: self.address.clone(), authority, secret };
        Ok(Invited { token, expires, grant })
    }

    /// Gives an operator other rights; whether they had others before.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub async fn set_operator(
        &self,
        name: &OperatorName,
        grant: &Grant,
        permit: &Permit,
    ) -> Result<bool, OperatorError> {
        let unknown = || match is_first(name) {
            true => OperatorError::First { name: name.clone() },
            false => OperatorError::Unknown { name: name.clone() },
        };
        let (now, by) = ((self.clock)(), permit.operator());
        let (entry, record) = self.operator_entry(name).await?.ok_or_else(unknown)?;
        if record.grant == *grant {
            return Ok(false);
        }
        let text = format!("{by} made {name} {grant}; before that {name} was {}", record.grant);
        let event = Draft::new(now, Kind::OperatorSet, text).with("operator", name);
        let record = OperatorRecord { grant: grant.clone(), since: now, by: by.to_string(), ..record };
        let put = Transaction::default().replace(entry.key, entry.version, record.encode());
        self.act(permit, event, put).await.map_err(OperatorError::Commit)?;
        Ok(true)
    }

    /// Removes an operator: their certificate and unused tokens count no longer, whatever store is restored.
    ///
    /// # Errors
    /// See [`OperatorError`].
    pub async fn remove_operator(&self, name: &OperatorName, permit: &Permit) -> Result<(), OperatorError> {
        let unknown = || match is_first(name) {
            true => OperatorError::First { name: name.clone() },
            false => OperatorError::Unknown { name: name.clone() },
        };
        let (now, by) = ((self.clock)(), permit.operator());
        let (entry, record) = self.operator_entry(name).await?.ok_or_else(unknown)?;
        let mut revocations = certificate_of(&record);
        let text = format!("{by} removed {name}, who was {}", record.grant);
        let event = Draft::new(now, Kind::OperatorRemoved, text).with("operator", name);
        let delete = Transaction::default().check(entry.key.clone(), entry.version).delete(entry.key);
        self.act(permit, event, delete).await.map_err(OperatorError::Commit)?;
        // Without the record no token of theirs works; those that are left are removed so that none works for a later
        // operator of the same name.
        match self.remove_tokens_of(&Holder::Operator(name.clone())).await {
            Ok(mut tokens) => revocations.append(&mut tokens),
            Err(error) => warn!(%error, operator = %name, "Cannot remove the join tokens of an operator"),
        }
        self.revoke(revocations).await;
        Ok(())
    }

    /// Exchanges a token and a certificate request for the certificate of an operator. The one before counts no longer.
    ///
    /// # Errors
    /// Says which of the token's conditions is not met.
    pub async fn join_operator(
        &self,
        name: &OperatorName,
        secret: Option<TokenSecret>,
        request_pem: &str,
    ) -> Result<Issued, EnrolError> {
        for _ in 0..TRIES_MAX {
            match self.try_join(name, secret, request_pem).await {
                // Somebody changed the token or the operator meanwhile; look again, which tells a used token.
                Err(EnrolError::Commit(CommitError::Conflict { .. })) => {}
                Err(error) => {
                    warn!(operator = %name, error = %error, "Refused to let an operator join");
                    let counts = !matches!(error, EnrolError::Unknown { .. });
                    if counts && self.rates.admit(&Source::Enrolment, Instant::now()) {
                        let event = Draft::new((self.clock)(), Kind::EnrolmentRefused, error.to_string());
                        self.events.record(event.with("operator", name)).await;
                    }
                    return Err(error);
                }
                Ok(issued) => {
                    info!(operator = %name, serial = issued.serial, "An operator joined");
                    return Ok(issued);
                }
            }
        }
        Err(EnrolError::Commit(CommitError::Conflict { key: Key::operator(name) }))
    }

    async fn try_join(
        &self,
        name: &OperatorName,
        secret: Option<TokenSecret>,
        request_pem: &str,
    ) -> Result<Issued, EnrolError> {
        let now = (self.clock)();
        let who = Holder::Operator(name.clone());
        let unknown = || EnrolError::Unknown { who: who.clone() };
        let hash = secret_hash(&secret.ok_or_else(unknown)?);
        let entry = self.store.get(&Key::token(&hash)).await?.ok_or_else(unknown)?;
        let token = TokenRecord::read(&entry)?;
        check_token(&token, &who, now)?;
        if self.witness.is_revoked(&Revocable::Token(hash)) {
            return Err(EnrolError::Restored { who });
        }
        let (own, record) = self.operator_entry(name).await?.ok_or_else(unknown)?;
        let issued = self.authority.sign_operator(name, request_pem, (now, self.operator_certificate))?;
        let mut revocations = certificate_of(&record);
        revocations.push(Revocation { what: Revocable::Token(hash), end: token.expires.after(TOKEN_KEPT) });
        let certificate =
            Certificate { serial: issued.serial.clone(), expires: issued.not_after, joined: now };
        let record = OperatorRecord { certificate: Some(certificate), ..record };
        let used = TokenRecord { used: Some(now), ..token };
        let commit = Transaction::default().replace(entry.key, entry.version, used.encode()).replace(
            own.key,
            own.version,
            record.encode(),
        );
        let text = format!("{name}, {}, joined with a token of {}", record.grant, used.created_by);
        let event = Draft::new(now, Kind::OperatorJoined, text).by(name.as_str()).with("operator", name);
        let (grant, serial) = (record.grant, issued.serial.clone());
        let who = Principal { name: name.clone(), grant, version: 0, serial, from: None };
        let note = Note::of(&who, Act::Join, &event);
        self.audit.record(&note, vec![event], commit).await.map_err(EnrolError::Commit)?;
        self.revoke(revocations).await;
        Ok(issued)
    }

    /// Removes the unused join tokens of somebody, and answers with what keeps them worthless in an older store.
    pub(crate) async fn remove_tokens_of(&self, holder: &Holder) -> Result<Vec<Revocation>, CommitError> {
        let mut found: Vec<(Key, Digest, Timestamp)> = Vec::new();
        let collect = |entry: &Entry| {
            let token = TokenRecord::read(entry)?;
            let hash = entry.key.token_hash().filter(|_| token.holder == *holder && token.used.is_none());
            found.extend(hash.map(|hash| (entry.key.clone(), hash, token.expires)));
            Ok(())
        };
        for_each(&*self.store, Key::TOKENS, PAGE, collect).await.map_err(CommitError::Refused)?;
        for part in found.chunks(PAGE) {
            let removal = part.iter().fold(Transaction::default(), |all, (key, ..)| all.delete(key.clone()));
            self.store.commit(removal).await?;
        }
        let revocation = |(_, hash, expires): (Key, Digest, Timestamp)| Revocation {
            what: Revocable::Token(hash),
            end: expires.after(TOKEN_KEPT),
        };
        Ok(found.into_iter().map(revocation).collect())
    }
}

/// The certificate of an operator, as something to revoke.
fn certificate_of(record: &OperatorRecord) -> Vec<Revocation> {
    let revocation =
        |own: &Certificate| Revocation { what: Revocable::Certificate(own.serial.clone()), end: own.expires };
    record.certificate.iter().map(revocation).collect()
}
