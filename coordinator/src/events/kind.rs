//! The kinds of events that only the coordinator writes.

/// What an event of the coordinator's own is about. Kinds of notices are words of the agents, which may be newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The session of an agent ended, and no newer one of its node took over.
    AgentLost,
    /// An agent that was lost is connected again.
    AgentReturned,
    /// An alert is over.
    AlertEnded,
    /// An alert was raised.
    AlertRaised,
    /// An operator applied a spec.
    Applied,
    /// A node refused what it was assigned.
    AssignmentRefused,
    /// An operator changed the fleet without the approval that the change needed.
    BreakGlass,
    /// An operator has a test message sent to a channel of alerts.
    ChannelTested,
    /// The clock of a host differs from the coordinator's.
    ClockSkew,
    /// Something on a node asks for an operator.
    ConcernBegan,
    /// It does not any more.
    ConcernEnded,
    /// An operator paused, resumed, restored or accepted drift.
    DriftControl,
    /// Somebody may not do what they wanted to.
    Denied,
    /// A join token did not work.
    EnrolmentRefused,
    /// More happened at once than can be told one by one.
    EventsSummed,
    /// Sources said more than is kept of one source.
    EventsWithheld,
    /// A gate was answered.
    Gate,
    /// A server became healthy, ceased to be, or is not known to be either.
    Health,
    /// An operator read the deployment.toml of a host.
    HostRead,
    /// An agent cannot write its journal.
    JournalUnwritable,
    /// An agent can write its journal again.
    JournalWritable,
    /// An operator read a log of a node.
    LogRead,
    /// A node used a kind that is the coordinator's.
    NodeClaimed,
    /// A node joined.
    NodeEnrolled,
    /// An operator forgot a node.
    NodeForgotten,
    /// An operator voided the certificate of a node.
    NodeRevoked,
    /// An operator restarted a server.
    NodeRestart,
    /// An operator started or stopped a server.
    NodeRun,
    /// Notices of a node never arrived.
    NoticesLost,
    /// An agent obeys another store.
    OtherEpoch,
    /// An admin added an operator.
    OperatorAdded,
    /// An operator joined with a token.
    OperatorJoined,
    /// An admin removed an operator.
    OperatorRemoved,
    /// An admin gave an operator other rights.
    OperatorSet,
    /// Nobody decided over a proposal in time.
    ProposalExpired,
    /// An operator ended a proposal.
    ProposalRejected,
    /// An operator proposes a change that somebody else has to approve.
    Proposed,
    /// An operator accepted what a loss had left.
    Recovered,
    /// An operator had the original files of a node put back.
    OriginalRestored,
    /// An operator went back to an earlier revision.
    RolledBack,
    /// A rollout changed state.
    Rollout,
    /// An operator controlled a rollout.
    RolloutControl,
    /// An admin said which groups may use a secret.
    SecretGranted,
    /// An operator removed a secret.
    SecretRemoved,
    /// An operator set a secret.
    SecretSet,
    /// An operator silences alerts for a while.
    SilenceAdded,
    /// An operator ended a silence before its time.
    SilenceRemoved,
    /// A step of a rollout changed state.
    Step,
    /// An operator made a join token.
    TokenCreated,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 49] = [
        Self::AgentLost,
        Self::AgentReturned,
        Self::AlertEnded,
        Self::AlertRaised,
        Self::Applied,
        Self::AssignmentRefused,
        Self::BreakGlass,
        Self::ChannelTested,
        Self::ClockSkew,
        Self::ConcernBegan,
        Self::ConcernEnded,
        Self::Denied,
        Self::DriftControl,
        Self::EnrolmentRefused,
        Self::EventsSummed,
        Self::EventsWithheld,
        Self::Gate,
        Self::Health,
        Self::HostRead,
        Self::JournalUnwritable,
        Self::JournalWritable,
        Self::LogRead,
        Self::NodeClaimed,
        Self::NodeEnrolled,
        Self::NodeForgotten,
        Self::NodeRestart,
        Self::NodeRevoked,
        Self::NodeRun,
        Self::NoticesLost,
        Self::OperatorAdded,
        Self::OperatorJoined,
        Self::OperatorRemoved,
        Self::OperatorSet,
        Self::OtherEpoch,
        Self::ProposalExpired,
        Self::ProposalRejected,
        Self::Proposed,
        Self::Recovered,
        Self::OriginalRestored,
        Self::RolledBack,
        Self::Rollout,
        Self::RolloutControl,
        Self::SecretGranted,
        Self::SecretRemoved,
        Self::SecretSet,
        Self::SilenceAdded,
        Self::SilenceRemoved,
        Self::Step,
        Self::TokenCreated,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentLost => "agent-lost",
            Self::AgentReturned => "agent-returned",
            Self::AlertEnded => "alert-ended",
            Self::AlertRaised => "alert-raised",
            Self::Applied => "applied",
            Self::AssignmentRefused => "assignment-refused",
            Self::BreakGlass => "break-glass",
            Self::ChannelTested => "channel-tested",
            Self::ClockSkew => "clock-skew",
            Self::ConcernBegan => "concern-began",
            Self::ConcernEnded => "concern-ended",
            Self::Denied => "denied",
            Self::DriftControl => "drift-control",
            Self::EnrolmentRefused => "enrolment-refused",
            Self::EventsSummed => "events-summed",
            Self::EventsWithheld => "events-withheld",
            Self::Gate => "gate",
            Self::Health => "health",
            Self::HostRead => "host-read",
            Self::JournalUnwritable => "journal-unwritable",
            Self::JournalWritable => "journal-writable",
            Self::LogRead => "log-read",
            Self::NodeClaimed => "node-claimed",
            Self::NodeEnrolled => "node-enrolled",
            Self::NodeForgotten => "node-forgotten",
            Self::NodeRestart => "node-restart",
            Self::NodeRevoked => "node-revoked",
            Self::NodeRun => "node-run",
            Self::NoticesLost => "notices-lost",
            Self::OperatorAdded => "operator-added",
            Self::OperatorJoined => "operator-joined",
            Self::OperatorRemoved => "operator-removed",
            Self::OperatorSet => "operator-set",
            Self::OtherEpoch => "other-epoch",
            Self::ProposalExpired => "proposal-expired",
            Self::ProposalRejected => "proposal-rejected",
            Self::Proposed => "proposed",
            Self::Recovered => "recovered",
            Self::OriginalRestored => "original-restored",
            Self::RolledBack => "rolled-back",
            Self::Rollout => "rollout",
            Self::RolloutControl => "rollout-control",
            Self::SecretGranted => "secret-granted",
            Self::SecretRemoved => "secret-removed",
            Self::SecretSet => "secret-set",
            Self::SilenceAdded => "silence-added",
            Self::SilenceRemoved => "silence-removed",
            Self::Step => "step",
            Self::TokenCreated => "token-created",
        }
    }

    /// Whether a node must not use this word.
    pub fn is_reserved(word: &str) -> bool {
        Self::ALL.iter().any(|kind| kind.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::Kind;

    #[test]
    fn every_kind_is_documented() {
        let page = include_str!("../../../docs/coordinator.md");
        for kind in Kind::ALL {
            assert!(
                page.contains(&format!("`{}`", kind.as_str())),
                "docs/coordinator.md lacks {}",
                kind.as_str()
            );
        }
    }
}
