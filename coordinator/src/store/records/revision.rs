//! A revision: a head that says what it is, and parts with what grows with the fleet (ADR 0076).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet::{
    alert::{AlertPolicy, Route, Rule, Severity, Tuning},
    approval::ApprovalRules,
    ids::{ChannelName, Digest, GroupName, NodeName, OperatorName, ProposalId, Revision},
    origin::Origin,
    rollout::RolloutRules,
    signature::{Signature, SignatureRules, SigningKey},
    time::Timestamp,
};
use proto::wire::{operator as operator_wire, store as wire};

use super::{Record, SecretUses, Target, digest};

/// Entries of one part on average. A target takes up to 200 bytes, so a change of one node writes some 30 kB.
const PART_ENTRIES: usize = 128;

/// An immutable, applied fleet spec, whole. It is stored as a [`RevisionHead`] and [`RevisionPart`]s
/// ([`crate::store::revisions`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionRecord {
    /// From 1.
    pub number: Revision,
    /// The one it was made on; 0: the first.
    pub parent: Revision,
    /// Who applied it.
    pub author: String,
    /// Why, in their words.
    pub message: String,
    /// When.
    pub created: Timestamp,
    /// The fleet directory: path to content.
    pub sources: BTreeMap<String, Digest>,
    /// What it wants of each node.
    pub nodes: BTreeMap<NodeName, Target>,
    /// Set when it repeats an older revision's content.
    pub rolls_back_to: Option<Revision>,
    /// How it is rolled out; `None` in records of versions that did not keep it.
    pub rules: Option<RolloutRules>,
    /// Nodes that kept what they had because the apply named others (ADR 0021). `nodes` holds what they have.
    pub left_out: BTreeSet<NodeName>,
    /// Which secrets reach which nodes; `None` in records of versions that did not keep it.
    pub secrets: Option<SecretUses>,
    /// The commit that the fleet directory was at; `None`: not known.
    pub origin: Option<Origin>,
    /// Which changes need approval while it is in force.
    pub approval: ApprovalRules,
    /// What is said of alerts while it is in force.
    pub alerts: AlertPolicy,
    /// Who else was for it.
    pub sanction: Sanction,
    /// Who may sign what follows while it is in force.
    pub signatures: SignatureRules,
    /// Its signature; of one that goes back, that of the revision that it repeats.
    pub signed: Option<Signature>,
}

/// Who stands for a revision beside its author.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sanction {
    /// Nobody: it needed no approval.
    #[default]
    None,
    /// Somebody approved it.
    Approved {
        /// Who.
        by: OperatorName,
        /// The proposal that it was.
        proposal: ProposalId,
    },
    /// Nobody, although it needed approval.
    BrokeGlass {
        /// Why, in its author's words.
        reason: String,
    },
}

impl RevisionRecord {
    /// As it is stored: what does not grow with the fleet, and the encoded parts with the rest, by digest.
    ///
    /// Each node and each file of the directory has its place by its name alone, so parts in which nothing changed are
    /// the same in the next revision.
    pub fn split(&self) -> (RevisionHead, BTreeMap<Digest, Vec<u8>>) {
        let entries = self.nodes.len().max(self.sources.len());
        // A power of two, so that a fleet that grows by one node keeps its places.
        let count = entries.div_ceil(PART_ENTRIES).next_power_of_two();
        let mut parts = vec![RevisionPart::default(); count];
        let place = |name: &str| {
            let place = Digest::of(name.as_bytes()).0;
            usize::from(u16::from_be_bytes([place[0], place[1]])) % count
        };
        for (path, digest) in &self.sources {
            parts[place(path)].sources.insert(path.clone(), *digest);
        }
        for (name, target) in &self.nodes {
            let part = &mut parts[place(name.as_str())];
            part.nodes.insert(name.clone(), target.clone());
            part.secrets.keep(name, self.secrets.as_ref());
            if self.left_out.contains(name) {
                part.left_out.insert(name.clone());
            }
        }
        let parts: Vec<(Digest, Vec<u8>)> = parts
            .iter()
            .map(|part| {
                let part = part.encode();
                (Digest::of(&part), part)
            })
            .collect();
        let digests = parts.iter().map(|(digest, _)| *digest).collect();
        let record = Self {
            sources: BTreeMap::new(),
            nodes: BTreeMap::new(),
            left_out: self.left_out.iter().filter(|name| !self.nodes.contains_key(*name)).cloned().collect(),
            secrets: self.secrets.as_ref().map(|_| SecretUses::default()),
            rules: self.rules.clone(),
            author: self.author.clone(),
            message: self.message.clone(),
            origin: self.origin.clone(),
            approval: self.approval.clone(),
            alerts: self.alerts.clone(),
            sanction: self.sanction.clone(),
            signatures: self.signatures.clone(),
            signed: self.signed.clone(),
            ..*self
        };
        let head = RevisionHead { record, parts: digests };
        (head, parts.into_iter().collect())
    }
}

/// The record at the key of a revision. It says nothing about nodes until its parts are put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevisionHead {
    /// Without what is in the parts.
    record: RevisionRecord,
    /// The digests of its parts. None: a version that knew no parts wrote everything into the head.
    parts: Vec<Digest>,
}

impl RevisionHead {
    /// Which revision this is.
    pub fn number(&self) -> Revision {
        self.record.number
    }

    /// What is known without its parts: who, when, why and where from, and nothing of nodes and files.
    pub fn told(&self) -> &RevisionRecord {
        &self.record
    }

    /// The parts that have to be read for the whole, by digest.
    pub fn parts(&self) -> &[Digest] {
        &self.parts
    }

    /// The whole, with all parts, each once, in any order.
    pub fn with(self, parts: impl IntoIterator<Item = RevisionPart>) -> RevisionRecord {
        let mut whole = self.record;
        for part in parts {
            let RevisionPart { sources, nodes, left_out, secrets } = part;
            whole.sources.extend(sources);
            whole.nodes.extend(nodes);
            whole.left_out.extend(left_out);
            if let Some(known) = &mut whole.secrets {
                known.extend(secrets);
            }
        }
        whole
    }
}

impl Record for RevisionHead {
    type Wire = wire::Revision;
    const NAME: &'static str = "a revision";

    fn to_wire(&self) -> wire::Revision {
        let Self { record, parts } = self;
        let (approved_by, proposal, broke_glass) = match &record.sanction {
            Sanction::None => (String::new(), 0, String::new()),
            Sanction::Approved { by, proposal } => (by.to_string(), proposal.0, String::new()),
            Sanction::BrokeGlass { reason } => (String::new(), 0, reason.clone()),
        };
        wire::Revision {
            number: record.number.0,
            parent: record.parent.0,
            author: record.author.clone(),
            message: record.message.clone(),
            created_ms: record.created.0,
            sources: record.sources.iter().map(|(path, digest)| (path.clone(), digest.0.to_vec())).collect(),
            nodes: record.nodes.iter().map(|(name, target)| (name.to_string(), target.to_wire())).collect(),
            rolls_back_to: record.rolls_back_to.map_or(0, |revision| revision.0),
            rules: record.rules.as_ref().map(Into::into),
            left_out: record.left_out.iter().map(ToString::to_string).collect(),
            secrets: record.secrets.as_ref().map(SecretUses::to_wire),
            parts: parts.iter().map(|part| part.0.to_vec()).collect(),
            origin: record.origin.as_ref().map(Into::into),
            approval: Some(approval_to_wire(&record.approval)),
            alerts: Some(alerts_to_wire(&record.alerts)),
            approved_by,
            proposal,
            broke_glass,
            signatures: Some(signatures_to_wire(&record.signatures)),
            signature: record.signed.as_ref().map(signature_to_wire),
        }
    }

    fn from_wire(wire: wire::Revision) -> Result<Self, String> {
        let sanction = match (wire.approved_by.as_str(), wire.broke_glass.as_str()) {
            ("", "") => Sanction::None,
            ("", reason) => Sanction::BrokeGlass { reason: reason.to_owned() },
            (by, _) => Sanction::Approved { by: operator(by)?, proposal: ProposalId(wire.proposal) },
        };
        let record = RevisionRecord {
            number: Revision(wire.number),
            parent: Revision(wire.parent),
            author: wire.author,
            message: wire.message,
            created: Timestamp(wire.created_ms),
            sources: sources(wire.sources)?,
            nodes: nodes(wire.nodes)?,
            rolls_back_to: Some(Revision(wire.rolls_back_to)).filter(|revision| revision.0 != 0),
            rules: wire
                .rules
                .map(RolloutRules::try_from)
                .transpose()
                .map_err(|error: proto::convert::ConvertError| error.to_string())?,
            left_out: names(&wire.left_out)?,
            secrets: wire.secrets.map(SecretUses::from_wire).transpose()?,
            origin: wire
                .origin
                .map(|origin| Origin::try_from(&origin))
                .transpose()
                .map_err(|error| error.to_string())?,
            approval: wire.approval.as_ref().map(approval_from_wire).transpose()?.unwrap_or_default(),
            alerts: wire.alerts.as_ref().map(alerts_from_wire).transpose()?.unwrap_or_default(),
            sanction,
            signatures: wire.signatures.as_ref().map(signatures_from_wire).transpose()?.unwrap_or_default(),
            signed: wire.signature.map(signature_from_wire).transpose()?,
        };
        let parts = wire.parts.iter().map(|part| digest(part, "a part of a revision"));
        Ok(Self { record, parts: parts.collect::<Result<_, _>>()? })
    }
}

/// Some nodes and files of a revision; its key is its digest.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevisionPart {
    sources: BTreeMap<String, Digest>,
    nodes: BTreeMap<NodeName, Target>,
    left_out: BTreeSet<NodeName>,
    secrets: SecretUses,
}

impl RevisionPart {
    /// The contents of its files of the fleet directory.
    pub fn sources(&self) -> impl Iterator<Item = Digest> {
        self.sources.values().copied()
    }

    /// The encoded bundles of its nodes.
    pub fn bundles(&self) -> impl Iterator<Item = Digest> {
        self.nodes.values().map(|target| target.content)
    }
}

impl Record for RevisionPart {
    type Wire = wire::RevisionPart;
    const NAME: &'static str = "a part of a revision";

    fn to_wire(&self) -> wire::RevisionPart {
        wire::RevisionPart {
            sources: self.sources.iter().map(|(path, digest)| (path.clone(), digest.0.to_vec())).collect(),
            nodes: self.nodes.iter().map(|(name, target)| (name.to_string(), target.to_wire())).collect(),
            left_out: self.left_out.iter().map(ToString::to_string).collect(),
            secrets: Some(self.secrets.to_wire()),
        }
    }

    fn from_wire(wire: wire::RevisionPart) -> Result<Self, String> {
        Ok(Self {
            sources: sources(wire.sources)?,
            nodes: nodes(wire.nodes)?,
            left_out: names(&wire.left_out)?,
            secrets: SecretUses::from_wire(wire.secrets.unwrap_or_default())?,
        })
    }
}

fn approval_to_wire(rules: &ApprovalRules) -> wire::ApprovalRules {
    wire::ApprovalRules {
        fleet: rules.fleet,
        groups: rules.groups.iter().map(ToString::to_string).collect(),
        expires_ms: u64::try_from(rules.expires.as_millis()).unwrap_or(u64::MAX),
    }
}

fn approval_from_wire(wire: &wire::ApprovalRules) -> Result<ApprovalRules, String> {
    let groups = wire.groups.iter().map(|group| GroupName::parse(group).map_err(|error| error.to_string()));
    Ok(ApprovalRules {
        fleet: wire.fleet,
        groups: groups.collect::<Result<_, _>>()?,
        expires: Duration::from_millis(wire.expires_ms),
    })
}

fn alerts_to_wire(policy: &AlertPolicy) -> wire::AlertPolicy {
    let tuned = policy.tuned.iter().map(|(rule, tuning)| wire::AlertTuning {
        rule: rule.to_string(),
        hold_ms: tuning.hold.map(|hold| u64::try_from(hold.as_millis()).unwrap_or(u64::MAX)),
        severity: tuning.severity.map_or("", Severity::as_str).to_owned(),
    });
    let routes = policy.routes.iter().map(|route| wire::AlertRoute {
        channels: route.channels.iter().map(ToString::to_string).collect(),
        groups: route.groups.iter().map(ToString::to_string).collect(),
        rules: route.rules.iter().map(ToString::to_string).collect(),
        least: route.least.as_str().to_owned(),
    });
    wire::AlertPolicy { tuned: tuned.collect(), routes: routes.collect() }
}

/// Rules that this program does not know are of a later one: what is said of them changes nothing here.
fn alerts_from_wire(wire: &wire::AlertPolicy) -> Result<AlertPolicy, String> {
    let severity = |word: &str| match word {
        "" => Ok(None),
        word => Severity::parse(word).map(Some).ok_or_else(|| format!("{word:?} is no severity")),
    };
    let mut policy = AlertPolicy::default();
    for tuned in &wire.tuned {
        let hold = tuned.hold_ms.map(Duration::from_millis);
        let tuning = Tuning { hold, severity: severity(&tuned.severity)? };
        policy.tuned.extend(Rule::parse(&tuned.rule).map(|rule| (rule, tuning)));
    }
    for route in &wire.routes {
        let rules: BTreeSet<Rule> = route.rules.iter().filter_map(|rule| Rule::parse(rule)).collect();
        if rules.is_empty() && !route.rules.is_empty() {
            continue;
        }
        let channels = route.channels.iter().map(|name| ChannelName::parse(name));
        let groups = route.groups.iter().map(|name| GroupName::parse(name));
        policy.routes.push(Route {
            channels: channels.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            groups: groups.collect::<Result<_, _>>().map_err(|error| error.to_string())?,
            rules,
            least: severity(&route.least)?.unwrap_or(Severity::Info),
        });
    }
    Ok(policy)
}

fn signatures_to_wire(rules: &SignatureRules) -> wire::SignatureRules {
    let keys = rules.keys.iter().map(ToString::to_string).collect();
    wire::SignatureRules { required: rules.required, keys }
}

fn signatures_from_wire(wire: &wire::SignatureRules) -> Result<SignatureRules, String> {
    let keys = wire.keys.iter().map(|text| signing_key(text));
    Ok(SignatureRules { required: wire.required, keys: keys.collect::<Result<_, _>>()? })
}

/// A signature, as it is stored and as it is told.
pub(crate) fn signature_to_wire(signature: &Signature) -> operator_wire::Signature {
    operator_wire::Signature {
        key: signature.key.to_string(),
        statement: signature.statement.clone(),
        text: signature.text.clone(),
    }
}

fn signature_from_wire(wire: operator_wire::Signature) -> Result<Signature, String> {
    Ok(Signature { key: signing_key(&wire.key)?, statement: wire.statement, text: wire.text })
}

fn signing_key(text: &str) -> Result<SigningKey, String> {
    SigningKey::parse(text).map_err(|error| error.to_string())
}

pub(super) fn operator(name: &str) -> Result<OperatorName, String> {
    OperatorName::parse(name).map_err(|error| error.to_string())
}

fn sources(wire: BTreeMap<String, Vec<u8>>) -> Result<BTreeMap<String, Digest>, String> {
    wire.into_iter().map(|(path, bytes)| digest(&bytes, &path).map(|digest| (path, digest))).collect()
}

fn nodes(wire: BTreeMap<String, wire::NodeTarget>) -> Result<BTreeMap<NodeName, Target>, String> {
    wire.into_iter().map(|(node, target)| Ok((name(&node)?, Target::from_wire(target)?))).collect()
}

pub(super) fn names(wire: &[String]) -> Result<BTreeSet<NodeName>, String> {
    wire.iter().map(|node| name(node)).collect()
}

fn name(node: &str) -> Result<NodeName, String> {
    NodeName::parse(node).map_err(|error| error.to_string())
}
