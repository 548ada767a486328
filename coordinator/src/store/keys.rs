//! Where each record lives. Numbers are written with 20 digits so that text order is number order.

use std::fmt;

use fleet::{
    alert::Place,
    ids::{Digest, GroupName, NodeName, OperatorName, ProposalId, Revision, RolloutId},
    spec::SecretName,
};

/// The place of an entry. Made only here, so that a new kind of record has one place to be named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// This is the store's own identity.
    pub const META: &'static str = "meta";
    /// Below this are immutable revisions.
    pub const REVISIONS: &'static str = "revision/";
    /// Below this are the parts of revisions, by digest.
    pub const PARTS: &'static str = "revision-part/";
    /// Below this is what each node should be.
    pub const NODES: &'static str = "node/";
    /// Below this is what each node last said of itself.
    pub const SEEN: &'static str = "seen/";
    /// Below this are rollouts.
    pub const ROLLOUTS: &'static str = "rollout/";
    /// Below this are the steps of rollouts, in shards.
    pub const STEPS: &'static str = "rollout-steps/";
    /// Below this are join tokens, by the hash of their secret.
    pub const TOKENS: &'static str = "token/";
    /// Below this are the sealed values of secrets, by name.
    pub const SECRETS: &'static str = "secret/";
    /// Below this are changes that wait for approval, or waited.
    pub const PROPOSALS: &'static str = "proposal/";
    /// Below this is who may do what.
    pub const OPERATORS: &'static str = "operator/";
    /// Below this is who did what.
    pub const AUDIT: &'static str = "audit/";
    /// Below this are events.
    pub const EVENTS: &'static str = "event/";
    /// Below this are packs of hosts whose content is kept, by digest.
    pub const PACKS: &'static str = "pack/";
    /// Below this is what each host last answered about its home.
    pub const HOSTS: &'static str = "host/";
    /// Below this are alerts, by group.
    pub const ALERTS: &'static str = "alert/";
    /// Below this is content, by digest.
    pub const BLOBS: &'static str = "blob/";

    /// The store's own identity and counters.
    pub fn meta() -> Self {
        Self(Self::META.to_owned())
    }

    /// An applied spec.
    pub fn revision(number: Revision) -> Self {
        Self(format!("{}{:020}", Self::REVISIONS, number.0))
    }

    /// A part of revisions.
    pub fn part(digest: &Digest) -> Self {
        Self(format!("{}{digest}", Self::PARTS))
    }

    /// Which part this is, if it is one.
    pub fn part_digest(&self) -> Option<Digest> {
        Digest::from_hex(self.0.strip_prefix(Self::PARTS)?)
    }

    /// What a node should be; written by operators and rollouts.
    pub fn node(name: &NodeName) -> Self {
        Self(format!("{}{name}", Self::NODES))
    }

    /// What a node last said; written by its session only, so that reports never contend with rollouts.
    pub fn seen(name: &NodeName) -> Self {
        Self(format!("{}{name}", Self::SEEN))
    }

    /// What a node's host last answered about its home; it outlives no enrolment.
    pub fn host(name: &NodeName) -> Self {
        Self(format!("{}{name}", Self::HOSTS))
    }

    /// One execution of a revision.
    pub fn rollout(id: RolloutId) -> Self {
        Self(format!("{}{:020}", Self::ROLLOUTS, id.0))
    }

    /// Whose record this is, if it is a rollout's.
    pub fn rollout_id(&self) -> Option<RolloutId> {
        self.0.strip_prefix(Self::ROLLOUTS)?.parse().ok().map(RolloutId)
    }

    /// Some steps of a rollout.
    pub fn steps(id: RolloutId, shard: u32) -> Self {
        Self(format!("{}{shard:06}", Self::steps_prefix(id)))
    }

    /// All steps of a rollout are below this.
    pub fn steps_prefix(id: RolloutId) -> String {
        format!("{}{:020}/", Self::STEPS, id.0)
    }

    /// Whose steps these are, and which shard of them, if they are steps.
    pub fn shard(&self) -> Option<(RolloutId, u32)> {
        let (id, shard) = self.0.strip_prefix(Self::STEPS)?.split_once('/')?;
        Some((RolloutId(id.parse().ok()?), shard.parse().ok()?))
    }

    /// A join token.
    pub fn token(secret_hash: &Digest) -> Self {
        Self(format!("{}{secret_hash}", Self::TOKENS))
    }

    /// The hash of the secret whose token's record this is, if it is one.
    pub fn token_hash(&self) -> Option<Digest> {
        Digest::from_hex(self.0.strip_prefix(Self::TOKENS)?)
    }

    /// The sealed value of a secret.
    pub fn secret(name: &SecretName) -> Self {
        Self(format!("{}{name}", Self::SECRETS))
    }

    /// A change that waits for approval, or waited.
    pub fn proposal(id: ProposalId) -> Self {
        Self(format!("{}{:020}", Self::PROPOSALS, id.0))
    }

    /// Which proposal this is, if it is one.
    pub fn proposal_id(&self) -> Option<ProposalId> {
        self.0.strip_prefix(Self::PROPOSALS)?.parse().ok().map(ProposalId)
    }

    /// What an operator may do, and which certificate is theirs.
    pub fn operator(name: &OperatorName) -> Self {
        Self(format!("{}{name}", Self::OPERATORS))
    }

    /// Whose record this is, if it is an operator's.
    pub fn operator_name(&self) -> Option<OperatorName> {
        OperatorName::parse(self.0.strip_prefix(Self::OPERATORS)?).ok()
    }

    /// An act.
    pub fn audit(seq: u64) -> Self {
        Self(format!("{}{seq:020}", Self::AUDIT))
    }

    /// The last act. Not below [`Key::AUDIT`], where only acts are.
    pub fn audit_head() -> Self {
        Self("audit-head".to_owned())
    }

    /// Where the acts ended that were removed for their age. Not below [`Key::AUDIT`], where only acts are.
    pub fn audit_removed() -> Self {
        Self("audit-removed".to_owned())
    }

    /// Something that happened.
    pub fn event(seq: u64) -> Self {
        Self(format!("{}{seq:020}", Self::EVENTS))
    }

    /// Events that wait for their numbers. Not below [`Key::EVENTS`], whose last entry is the highest number.
    pub fn untold() -> Self {
        Self("untold".to_owned())
    }

    /// The alerts of one group, or of the fleet.
    pub fn alerts(place: &Place) -> Self {
        match place {
            Place::Fleet => Self(format!("{}fleet", Self::ALERTS)),
            Place::Group(group) => Self(format!("{}group/{group}", Self::ALERTS)),
        }
    }

    /// Whose alerts these are, if they are alerts.
    pub fn alert_place(&self) -> Option<Place> {
        match self.0.strip_prefix(Self::ALERTS)? {
            "fleet" => Some(Place::Fleet),
            group => GroupName::parse(group.strip_prefix("group/")?).ok().map(Place::Group),
        }
    }

    /// Silences of alerts.
    pub fn silences() -> Self {
        Self("silences".to_owned())
    }

    /// Up to where events were looked at for alerts.
    pub fn alert_cursor() -> Self {
        Self("alert-cursor".to_owned())
    }

    /// A pack whose content is kept.
    pub fn pack(digest: &Digest) -> Self {
        Self(format!("{}{digest}", Self::PACKS))
    }

    /// Which pack's record this is, if it is one.
    pub fn pack_digest(&self) -> Option<Digest> {
        Digest::from_hex(self.0.strip_prefix(Self::PACKS)?)
    }

    /// A piece of some content.
    pub fn blob(digest: &Digest, piece: usize) -> Self {
        Self(format!("{}{digest}/{piece:06}", Self::BLOBS))
    }

    /// There once no content is in the clear any more.
    pub fn content_sealed() -> Self {
        Self("content-sealed".to_owned())
    }

    /// Whether its value is a piece of content.
    pub(super) fn is_content(&self) -> bool {
        self.0.starts_with(Self::BLOBS)
    }

    /// Which content a piece belongs to, if it is one.
    pub(super) fn blob_digest(&self) -> Option<Digest> {
        let (digest, _) = self.0.strip_prefix(Self::BLOBS)?.split_once('/')?;
        Digest::from_hex(digest)
    }

    /// The node whose record below `prefix` this is.
    pub fn node_name(&self, prefix: &str) -> Option<NodeName> {
        NodeName::parse(self.0.strip_prefix(prefix)?).ok()
    }

    /// All pieces of some content are below this.
    pub fn blob_prefix(digest: &Digest) -> String {
        format!("{}{digest}/", Self::BLOBS)
    }

    /// Who may do something that only one coordinator should do.
    pub fn lease(name: &str) -> Self {
        Self(format!("lease/{name}"))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Read back from an engine, which holds only keys that were made here.
    pub(super) fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
