//! Join tokens for many nodes at once: those of a fleet directory that have no certificate.

use std::{collections::BTreeSet, time::Duration};

use fleet::{
    access::Permit,
    ids::NodeName,
    time::Timestamp,
    token::{JoinToken, SECRET_LEN, TokenSecret},
};

use crate::{
    coordinator::Coordinator,
    enrolment::{EnrolError, TOKEN_VALID_MAX, secret_hash},
    events::{Draft, Kind},
    mirror::Records,
    store::{
        Key, Transaction,
        records::{Holder, Record as _, TokenRecord},
    },
};

/// Tokens of one commit. The record of who did what names all of its nodes, and a sentence there has 2000 characters.
const BATCH: usize = 25;

/// Those of `asked` that have no certificate: they never joined, or were revoked since.
pub(crate) fn missing<'a>(
    records: &Records,
    asked: &'a BTreeSet<NodeName>,
) -> impl Iterator<Item = &'a NodeName> {
    let joined = |node: &NodeName| records.nodes.get(node).is_some_and(|known| known.enrolment.is_some());
    asked.iter().filter(move |node| !joined(node))
}

impl Coordinator {
    /// Makes a token for each of these nodes, each for its node alone and for one use within `valid`. Answers with the
    /// tokens and their end.
    ///
    /// # Errors
    /// The store failed. Tokens of a batch before may be stored then; nobody knows their secrets, so they are worth
    /// nothing.
    pub async fn create_tokens(
        &self,
        nodes: &[NodeName],
        valid: Duration,
        permit: &Permit,
    ) -> Result<(Vec<JoinToken>, Timestamp), EnrolError> {
        let now = (self.clock)();
        let expires = now.after(valid.min(TOKEN_VALID_MAX));
        let authority = self.authority.fingerprint();
        let mut tokens = Vec::new();
        for batch in nodes.chunks(BATCH) {
            let mut commit = Transaction::default();
            let mut events = Vec::new();
            for node in batch {
                let secret: [u8; SECRET_LEN] = rand::random();
                let secret = TokenSecret(secret);
                let (holder, created_by) = (Holder::Node(node.clone()), permit.operator().to_string());
                let record = TokenRecord { holder, expires, used: None, created_by };
                commit = commit.replace(Key::token(&secret_hash(&secret)), 0, record.encode());
                let event = Draft::new(now, Kind::TokenCreated, format!("a join token was made for {node}"));
                events.push(event.of_node(node).with("expires_ms", &expires.0));
                tokens.push(JoinToken {
                    node: node.clone(),
                    address: self.address.clone(),
                    authority,
                    secret,
                });
            }
            let names: Vec<&str> = batch.iter().map(NodeName::as_str).collect();
            let told = format!("join tokens were made for {}", names.join(", "));
            let told = Draft::new(now, Kind::TokenCreated, told).with("expires_ms", &expires.0);
            self.act_on_many(permit, told, events, commit).await.map_err(EnrolError::Commit)?;
        }
        self.remove_old_tokens(now).await;
        Ok((tokens, expires))
    }
}
