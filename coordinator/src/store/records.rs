//! What is stored, as domain values, and its encoding: the wire messages of `store.proto`.
//!
//! A record that cannot be read is an error of the store, never an empty value: an unreadable desired state must not
//! mean "nothing is desired".

mod alert;
mod audit;
mod event;
mod operator;
mod proposal;
mod revision;
mod rollout;
mod secret;
mod silence;

use std::{ops::Deref, sync::Arc, time::Duration};

pub use alert::{CursorRecord, PlaceRecord};
pub use audit::{AuditHeadRecord, AuditRecord, AuditRemovedRecord};
pub use event::{EventRecord, UntoldRecord};
use fleet::{
    admission::Fingerprint,
    bundle::{Applied, Assignment, RunState},
    host::HostFacts,
    ids::{Digest, FleetEpoch, FleetName, Generation, GroupName, NodeName, Revision, RolloutId, ZoneName},
    observed::Observed,
    rollout as fleet_rollout,
    time::Timestamp,
    trace::TraceContext,
};
pub use operator::{Certificate, Holder, OperatorRecord, TokenRecord};
pub use proposal::ProposalRecord;
use prost::Message;
use proto::{
    convert::link::traceparent,
    wire::{agent, store as wire},
};
pub(crate) use revision::signature_to_wire;
pub use revision::{RevisionHead, RevisionPart, RevisionRecord, Sanction};
pub use rollout::{ROLLOUT_STEPS_MAX, RolloutRecord, ShardRecord};
pub use secret::{SecretRecord, SecretUses};
pub use silence::SilencesRecord;

use super::{Entry, StoreError, Version};

/// The format of the store that this version writes. One that is newer is not opened.
pub const FORMAT: u32 = 3;
/// Past assignments that a node's record keeps.
pub const ASSIGNMENTS_KEPT: usize = 8;

/// A record and its encoding.
pub trait Record: Sized {
    /// The message that is stored.
    type Wire: Message + Default;
    /// For errors.
    const NAME: &'static str;

    /// To the message.
    fn to_wire(&self) -> Self::Wire;

    /// From the message; `Err` says what is missing.
    fn from_wire(wire: Self::Wire) -> Result<Self, String>;

    /// The bytes that are stored.
    fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }

    /// Reads a stored entry.
    ///
    /// # Errors
    /// The bytes are not this record.
    fn read(entry: &Entry) -> Result<Self, StoreError> {
        let damaged =
            |why: String| StoreError::new("read a record", format!("{} at {}: {why}", Self::NAME, entry.key));
        let wire = Self::Wire::decode(entry.value.clone()).map_err(|error| damaged(error.to_string()))?;
        Self::from_wire(wire).map_err(damaged)
    }
}

/// A record and the version it was read at.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned<T> {
    /// Of the store; 0: absent.
    pub version: Version,
    /// The record.
    pub record: T,
}

impl<T: Record> Versioned<T> {
    /// Reads a stored entry.
    ///
    /// # Errors
    /// As [`Record::read`].
    pub fn read(entry: &Entry) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { version: entry.version, record: T::read(entry)? }))
    }
}

impl<T> Deref for Versioned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.record
    }
}

/// The store's own identity and counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Made with the store; agents do not obey another.
    pub epoch: FleetEpoch,
    /// The fleet.
    pub fleet: FleetName,
    /// 0: none yet.
    pub newest_revision: Revision,
    /// 0: none yet.
    pub newest_rollout: RolloutId,
    /// SHA-256 of the certificate of the authority that its nodes trust; `None` in a store of 0.1 until the next start.
    pub authority: Option<[u8; 32]>,
    /// Opens only under the key that content is sealed under; `None` until the first start with a key.
    pub key_check: Option<Vec<u8>>,
}

impl Record for Meta {
    type Wire = wire::Meta;
    const NAME: &'static str = "the store's identity";

    fn to_wire(&self) -> wire::Meta {
        wire::Meta {
            fleet_epoch: self.epoch.0.to_vec(),
            fleet: self.fleet.to_string(),
            newest_revision: self.newest_revision.0,
            newest_rollout: self.newest_rollout.0,
            format: FORMAT,
            authority: self.authority.map(Vec::from).unwrap_or_default(),
            key_check: self.key_check.clone().unwrap_or_default(),
        }
    }

    fn from_wire(wire: wire::Meta) -> Result<Self, String> {
        if FORMAT < wire.format {
            return Err(format!(
                "format {} was written by a newer version, and this one knows {FORMAT}; install the newer one again",
                wire.format
            ));
        }
        let authority = match wire.authority.as_slice() {
            [] => None,
            some => Some(some.try_into().map_err(|_| "the authority's digest is not 32 bytes")?),
        };
        Ok(Self {
            authority,
            key_check: Some(wire.key_check).filter(|check| !check.is_empty()),
            epoch: FleetEpoch(wire.fleet_epoch.try_into().map_err(|_| "the epoch is not 16 bytes")?),
            fleet: FleetName::parse(&wire.fleet).map_err(|error| error.to_string())?,
            newest_revision: Revision(wire.newest_revision),
            newest_rollout: RolloutId(wire.newest_rollout),
        })
    }
}

/// What a revision wants of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Digest of the bundle's value.
    pub bundle: Digest,
    /// Digest of its encoding, under which it is kept and fetched.
    pub content: Digest,
    /// Bytes of its encoding.
    pub content_size: u64,
    /// The node's group in that revision.
    pub group: GroupName,
    /// The host it runs on, as typed.
    pub host: String,
    /// The zone it is in, as typed.
    pub zone: Option<ZoneName>,
    /// Catalogue id of the product.
    pub product: String,
}

fn digest(bytes: &[u8], what: &str) -> Result<Digest, String> {
    Digest::from_slice(bytes).ok_or_else(|| format!("{what} is not a digest"))
}

impl Target {
    /// As rollouts name it.
    pub fn for_rollout(&self) -> fleet_rollout::Target {
        fleet_rollout::Target { bundle: self.bundle, content: self.content, size: self.content_size }
    }

    /// Another bundle for the same node.
    #[must_use]
    pub fn with(&self, target: &fleet_rollout::Target) -> Self {
        let fleet_rollout::Target { bundle, content, size } = *target;
        Self { bundle, content, content_size: size, ..self.clone() }
    }

    fn to_wire(&self) -> wire::NodeTarget {
        wire::NodeTarget {
            bundle: self.bundle.0.to_vec(),
            bundle_content: self.content.0.to_vec(),
            bundle_size: self.content_size,
            group: self.group.to_string(),
            host: self.host.clone(),
            product: self.product.clone(),
            zone: self.zone.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    fn from_wire(wire: wire::NodeTarget) -> Result<Self, String> {
        Ok(Self {
            bundle: digest(&wire.bundle, "a target's bundle")?,
            content: digest(&wire.bundle_content, "a target's content")?,
            content_size: wire.bundle_size,
            group: GroupName::parse(&wire.group).map_err(|error| error.to_string())?,
            host: wire.host,
            product: wire.product,
            zone: match wire.zone.as_str() {
                "" => None,
                zone => Some(ZoneName::parse(zone).map_err(|error| error.to_string())?),
            },
        })
    }
}

/// A target at its place in a node's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// The node's number for it.
    pub generation: Generation,
    /// The revision it came from.
    pub revision: Revision,
    /// What is wanted.
    pub target: Target,
    /// For people.
    pub why: String,
    /// What its agent's part is a part of; kept only of the newest.
    pub trace: Option<TraceContext>,
}

impl Assigned {
    /// As agents name it.
    pub fn applied(&self) -> Applied {
        Applied { generation: self.generation, bundle: self.target.bundle }
    }

    fn to_wire(&self) -> wire::Assigned {
        wire::Assigned {
            generation: self.generation.0,
            revision: self.revision.0,
            target: Some(self.target.to_wire()),
            why: self.why.clone(),
        }
    }

    fn from_wire(wire: wire::Assigned) -> Result<Self, String> {
        Ok(Self {
            generation: Generation(wire.generation),
            revision: Revision(wire.revision),
            target: Target::from_wire(wire.target.ok_or("an assignment has no target")?)?,
            why: wire.why,
            trace: None,
        })
    }
}

/// A certificate that a node may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// When the node joined with the present host.
    pub enrolled: Timestamp,
    /// Of the newest certificate.
    pub serial: String,
    /// Of the one before a renewal, which stays valid.
    pub previous_serial: Option<String>,
    /// When the newest certificate ends.
    pub expires: Timestamp,
}

/// What a node should be. Written by operators and rollouts, never by its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Which.
    pub name: NodeName,
    /// The newest assignment; `None` until a rollout reached it.
    pub desired: Option<Assigned>,
    /// What is wanted of the server.
    pub run: RunState,
    /// Who may speak for it; `None` until it has joined.
    pub enrolment: Option<Enrolment>,
    /// Assignments before `desired`, newest first, at most [`ASSIGNMENTS_KEPT`].
    pub history: Vec<Assigned>,
    /// When an operator voided its certificate, if none let somebody in since then: no host certificate does either.
    pub revoked: Option<Timestamp>,
}

impl NodeRecord {
    /// A node that nothing is known of.
    pub fn new(name: NodeName) -> Self {
        Self {
            name,
            desired: None,
            run: RunState::Running,
            enrolment: None,
            history: Vec::new(),
            revoked: None,
        }
    }

    /// The number of the next assignment. Never given twice: it only grows, and is committed before it is sent.
    pub fn next_generation(&self) -> Generation {
        self.desired.as_ref().map_or(Generation(1), |desired| desired.generation.next())
    }

    /// Makes `next` the newest assignment.
    pub fn assign(&mut self, next: Assigned) {
        if let Some(previous) = self.desired.replace(next) {
            self.history.insert(0, Assigned { trace: None, ..previous });
            self.history.truncate(ASSIGNMENTS_KEPT);
        }
    }

    /// The assignment of that number, if it is still known.
    pub fn assigned(&self, generation: Generation) -> Option<&Assigned> {
        self.desired.iter().chain(&self.history).find(|assigned| assigned.generation == generation)
    }

    /// What its agent is told.
    pub fn assignment(&self) -> Option<Assignment> {
        self.desired.as_ref().map(|desired| Assignment {
            applied: desired.applied(),
            content: desired.target.content,
            content_size: desired.target.content_size,
            revision: desired.revision,
            run: self.run,
            why: desired.why.clone(),
            trace: desired.trace,
        })
    }

    /// Whether a certificate with this serial number may speak for it.
    pub fn accepts(&self, serial: &str) -> bool {
        self.enrolment
            .as_ref()
            .is_some_and(|own| own.serial == serial || own.previous_serial.as_deref() == Some(serial))
    }
}

impl Record for NodeRecord {
    type Wire = wire::Node;
    const NAME: &'static str = "a node";

    fn to_wire(&self) -> wire::Node {
        let enrolment = self.enrolment.as_ref();
        let desired = self.desired.as_ref();
        wire::Node {
            name: self.name.to_string(),
            desired: desired.map(|desired| (&desired.applied()).into()),
            desired_revision: desired.map_or(0, |desired| desired.revision.0),
            target: desired.map(|desired| desired.target.to_wire()),
            run: agent::RunState::from(self.run).into(),
            enrolled_ms: enrolment.map_or(0, |own| own.enrolled.0),
            certificate_expires_ms: enrolment.map_or(0, |own| own.expires.0),
            certificate_serial: enrolment.map(|own| own.serial.clone()).unwrap_or_default(),
            previous_serial: enrolment.and_then(|own| own.previous_serial.clone()).unwrap_or_default(),
            history: self.history.iter().map(Assigned::to_wire).collect(),
            why: desired.map(|desired| desired.why.clone()).unwrap_or_default(),
            traceparent: traceparent(desired.and_then(|desired| desired.trace)),
            revoked_ms: self.revoked.map_or(0, |at| at.0),
        }
    }

    fn from_wire(wire: wire::Node) -> Result<Self, String> {
        let run = RunState::try_from(wire.run()).map_err(|error| error.to_string())?;
        let desired = match (wire.desired, wire.target) {
            (Some(applied), Some(target)) => Some(Assigned {
                generation: Generation(applied.generation),
                revision: Revision(wire.desired_revision),
                target: Target::from_wire(target)?,
                why: wire.why,
                trace: TraceContext::parse(&wire.traceparent),
            }),
            (None, None) => None,
            _ => return Err("it has half of a desired state".to_owned()),
        };
        let enrolment = Some(wire.certificate_serial).filter(|serial| !serial.is_empty());
        Ok(Self {
            name: NodeName::parse(&wire.name).map_err(|error| error.to_string())?,
            desired,
            run,
            enrolment: enrolment.map(|serial| Enrolment {
                enrolled: Timestamp(wire.enrolled_ms),
                serial,
                previous_serial: Some(wire.previous_serial).filter(|serial| !serial.is_empty()),
                expires: Timestamp(wire.certificate_expires_ms),
            }),
            history: wire.history.into_iter().map(Assigned::from_wire).collect::<Result<_, _>>()?,
            revoked: Some(wire.revoked_ms).filter(|at| *at != 0).map(Timestamp),
        })
    }
}

/// What a node last said of itself. Written by its session only.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SeenRecord {
    /// The last report that mattered.
    pub observed: Option<Observed>,
    /// When it came.
    pub reported: Timestamp,
    /// Notices up to this number are events.
    pub notices_up_to: u64,
    /// Of the agent.
    pub agent_version: String,
    /// When the agent first came with this version; zero: not known.
    pub agent_since: Timestamp,
    /// SHA-256 of the agent's program, if it said so.
    pub program: Option<Fingerprint>,
    /// `linux-x86_64`.
    pub platform: String,
    /// What `observed.last_good` names, with its target: what an automatic rollback returns to.
    pub last_good: Option<Assigned>,
    /// When its last session began or ended.
    pub last_seen: Timestamp,
    /// The pack that its server began with, as far as known.
    pub rendered: Option<RenderedWith>,
    /// Since when its agent is known to be lost: told as an event, whose end is told as well (ADR 0045).
    pub lost: Option<Timestamp>,
}

/// Servers render their files at the start, with the pack that lies there then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedWith {
    /// Of its encoding.
    pub pack: Digest,
    /// Of the server, with `start_id`.
    pub pid: u32,
    /// Of the server.
    pub start_id: String,
}

impl RenderedWith {
    fn from_wire(wire: wire::Rendered) -> Result<Self, String> {
        let pack = Digest::from_slice(&wire.pack).ok_or("the digest of a pack is not 32 bytes")?;
        Ok(Self { pack, pid: wire.pid, start_id: wire.start_id })
    }

    fn to_wire(&self) -> wire::Rendered {
        wire::Rendered { pack: self.pack.0.to_vec(), pid: self.pid, start_id: self.start_id.clone() }
    }
}

impl Record for SeenRecord {
    type Wire = wire::Seen;
    const NAME: &'static str = "a node's report";

    fn to_wire(&self) -> wire::Seen {
        wire::Seen {
            report: self.observed.as_ref().map(Into::into),
            reported_ms: self.reported.0,
            notices_up_to: self.notices_up_to,
            agent_version: self.agent_version.clone(),
            agent_since_ms: self.agent_since.0,
            agent_program: self.program.map_or_else(Vec::new, |program| program.0.to_vec()),
            platform: self.platform.clone(),
            last_good: self.last_good.as_ref().map(Assigned::to_wire),
            last_seen_ms: self.last_seen.0,
            rendered: self.rendered.as_ref().map(RenderedWith::to_wire),
            lost_ms: self.lost.map(|at| at.0),
        }
    }

    fn from_wire(wire: wire::Seen) -> Result<Self, String> {
        Ok(Self {
            observed: wire.report.map(Observed::try_from).transpose().map_err(|error| error.to_string())?,
            reported: Timestamp(wire.reported_ms),
            notices_up_to: wire.notices_up_to,
            agent_version: wire.agent_version,
            agent_since: Timestamp(wire.agent_since_ms),
            program: wire.agent_program.try_into().ok().map(Fingerprint),
            platform: wire.platform,
            last_good: wire.last_good.map(Assigned::from_wire).transpose()?,
            last_seen: Timestamp(wire.last_seen_ms),
            rendered: wire.rendered.map(RenderedWith::from_wire).transpose()?,
            lost: wire.lost_ms.map(Timestamp),
        })
    }
}

/// A pack whose content is kept (ADR 0007); its key is its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRecord {
    /// Of its encoding, bytes.
    pub size: u64,
    /// When it came.
    pub stored: Timestamp,
    /// Whose agent gave it.
    pub node: String,
}

impl Record for PackRecord {
    type Wire = wire::Pack;
    const NAME: &'static str = "a pack";

    fn to_wire(&self) -> wire::Pack {
        wire::Pack { size: self.size, stored_ms: self.stored.0, node: self.node.clone() }
    }

    fn from_wire(wire: wire::Pack) -> Result<Self, String> {
        Ok(Self { size: wire.size, stored: Timestamp(wire.stored_ms), node: wire.node })
    }
}

/// An answer of a host that says the same as the one before is kept only if that one is older than this.
const HOST_FRESH: Duration = Duration::from_secs(60);

/// What a host last answered about its home (ADR 0017), without contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRecord {
    /// What lies there.
    pub facts: HostFacts,
    /// When the answer came, by the coordinator's clock.
    pub received: Timestamp,
    /// Whose files were in force then, as its agent had reported; `None`: none that Convoy had written.
    pub written: Option<Generation>,
}

impl HostRecord {
    /// Says the same as a newer one that came hardly later.
    pub fn is_as_good_as(&self, newer: &Self) -> bool {
        let facts =
            HostFacts { at: newer.facts.at, contents: newer.facts.contents.clone(), ..self.facts.clone() };
        let is_late = self.received.after(HOST_FRESH) < newer.received;
        !is_late && facts == newer.facts && self.written == newer.written
    }
}

impl Record for HostRecord {
    type Wire = wire::Host;
    const NAME: &'static str = "what lies on a host";

    fn to_wire(&self) -> wire::Host {
        wire::Host {
            facts: Some((&self.facts).into()),
            received_ms: self.received.0,
            written: self.written.map(|written| written.0),
        }
    }

    fn from_wire(wire: wire::Host) -> Result<Self, String> {
        let facts = wire.facts.ok_or("no facts")?;
        Ok(Self {
            facts: facts.try_into().map_err(|error: proto::convert::ConvertError| error.to_string())?,
            received: Timestamp(wire.received_ms),
            written: wire.written.map(Generation),
        })
    }
}

/// Who holds a lease, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRecord {
    /// Who.
    pub holder: String,
    /// Until when.
    pub until: Timestamp,
}

impl Record for LeaseRecord {
    type Wire = wire::Lease;
    const NAME: &'static str = "a lease";

    fn to_wire(&self) -> wire::Lease {
        wire::Lease { holder: self.holder.clone(), until_ms: self.until.0 }
    }

    fn from_wire(wire: wire::Lease) -> Result<Self, String> {
        Ok(Self { holder: wire.holder, until: Timestamp(wire.until_ms) })
    }
}
