//! What an alert is about. Rule and subject together are the identity of an alert; its words are not.

use std::fmt;

use super::rule::Rule;
use crate::{
    bundle::HomePath,
    ids::{ChannelName, GroupName, NodeName, ProposalId, RolloutId},
};

/// One thing that can be in order or not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A node.
    Node(NodeName),
    /// A file on a node.
    File {
        /// Which node.
        node: NodeName,
        /// Which file.
        path: HomePath,
    },
    /// A rollout.
    Rollout(RolloutId),
    /// A node's part in a rollout.
    Step {
        /// Which rollout.
        rollout: RolloutId,
        /// Which node.
        node: NodeName,
    },
    /// A change that waits for approval.
    Proposal(ProposalId),
    /// The authority that signs all certificates.
    Authority,
    /// The coordinator.
    Coordinator,
    /// A channel that carries alerts.
    Channel(ChannelName),
}

impl Subject {
    /// The node that it is about, if it is about one.
    pub const fn node(&self) -> Option<&NodeName> {
        match self {
            Subject::Node(node) | Subject::File { node, .. } | Subject::Step { node, .. } => Some(node),
            Subject::Rollout(_)
            | Subject::Proposal(_)
            | Subject::Authority
            | Subject::Coordinator
            | Subject::Channel(_) => None,
        }
    }

    /// The rollout that it is about, if it is about one.
    pub const fn rollout(&self) -> Option<RolloutId> {
        match self {
            Subject::Rollout(rollout) | Subject::Step { rollout, .. } => Some(*rollout),
            Subject::Node(_)
            | Subject::File { .. }
            | Subject::Proposal(_)
            | Subject::Authority
            | Subject::Coordinator
            | Subject::Channel(_) => None,
        }
    }

    /// Whether trouble with `self` can explain trouble with `other`.
    pub(super) fn explains(&self, other: &Self) -> bool {
        if let (Subject::File { path, node }, Subject::File { path: other_path, node: other_node }) =
            (self, other)
        {
            return (node, path) == (other_node, other_path);
        }
        let same_node = self.node().is_some() && self.node() == other.node();
        same_node || (self.rollout().is_some() && self.rollout() == other.rollout())
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Node(node) | Subject::Step { node, .. } => f.pad(node.as_str()),
            Subject::File { node, path } => write!(f, "{node} {path}"),
            Subject::Rollout(rollout) => write!(f, "rollout {rollout}"),
            Subject::Proposal(proposal) => write!(f, "proposal {proposal}"),
            Subject::Authority => f.pad("authority"),
            Subject::Coordinator => f.pad("coordinator"),
            Subject::Channel(channel) => write!(f, "channel {channel}"),
        }
    }
}

/// Which alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertId {
    /// What is wrong.
    pub rule: Rule,
    /// With what.
    pub subject: Subject,
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rule, self.subject)
    }
}

/// Where an alert is kept and with what it is reported: its node's group, or the fleet as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// What concerns no single group.
    Fleet,
    /// The nodes of one group.
    Group(GroupName),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Fleet => f.pad("fleet"),
            Place::Group(group) => f.pad(group.as_str()),
        }
    }
}

impl Rule {
    /// What a person does next about it.
    pub fn remedy(self, subject: &Subject) -> String {
        let node = subject.node().map_or("NODE", NodeName::as_str);
        let rollout = subject.rollout().unwrap_or_default();
        match self {
            Rule::DriftFound | Rule::TugOfWar | Rule::DoomedEdit | Rule::DriftRestored => {
                format!("convoy drift show {node}")
            }
            Rule::ServerDown
            | Rule::CrashLoop
            | Rule::Unhealthy
            | Rule::NodeSilent
            | Rule::AssignmentRefused
            | Rule::JournalUnwritable
            | Rule::DiskLow
            | Rule::LogsGrowing
            | Rule::SecretResidue
            | Rule::StartHeld
            | Rule::KeyManager
            | Rule::KeyManagerDrift => format!("convoy node show {node}"),
            Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::RolloutStalled
            | Rule::StepFailed
            | Rule::BreakGlass => format!("convoy rollout show {rollout}"),
            Rule::AwaitingPromotion => format!("convoy rollout promote {rollout}"),
            Rule::ApprovalWaiting => match subject {
                Subject::Proposal(proposal) => format!("convoy proposal show {proposal}"),
                Subject::Node(_)
                | Subject::File { .. }
                | Subject::Rollout(_)
                | Subject::Step { .. }
                | Subject::Authority
                | Subject::Coordinator
                | Subject::Channel(_) => "convoy proposal list".to_owned(),
            },
            Rule::CertificateEnding => match subject {
                Subject::Node(node) => format!("convoy node show {node}"),
                Subject::File { .. }
                | Subject::Rollout(_)
                | Subject::Step { .. }
                | Subject::Proposal(_)
                | Subject::Authority
                | Subject::Coordinator
                | Subject::Channel(_) => "convoy status".to_owned(),
            },
            Rule::StoreTrouble => "convoy status".to_owned(),
            Rule::AlertsUndelivered => match subject {
                Subject::Channel(channel) => format!("convoy alert test {channel}"),
                Subject::Node(_)
                | Subject::File { .. }
                | Subject::Rollout(_)
                | Subject::Step { .. }
                | Subject::Proposal(_)
                | Subject::Authority
                | Subject::Coordinator => "convoy alert list".to_owned(),
            },
        }
    }
}
