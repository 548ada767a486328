//! What can be wrong, and how each of these is reported: how severe it is, how long it must last, and what explains it.

use std::{fmt, time::Duration};

use crate::observed::ConcernKind;

/// How urgent an alert is, least urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// Somebody should look within a day.
    Warning,
    /// Users are hurt, or will be soon. Repeated while it lasts.
    Critical,
}

impl Severity {
    /// Every severity, least urgent first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    /// The severity of a stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == word)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Whether an alert has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// It lasts until it is over, and its end is reported to everybody who was told of it.
    Condition,
    /// It happened. There is no end to report.
    Occurrence,
}

/// Where the knowledge about a rule's subject comes from. If the source is silent, nothing is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The report of a node's agent.
    Report,
    /// Whether a node's agent is connected.
    Session,
    /// What the coordinator itself keeps: rollouts, certificates, what channels were told.
    Coordinator,
}

/// Something that operators are told of. The words are stable: programs match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A managed file differs from what is declared, and stays so.
    DriftFound,
    /// A managed file differed, and the declared content is back.
    DriftRestored,
    /// A file is changed again and again, and the agent has stopped restoring it.
    TugOfWar,
    /// A file that the product generates was edited; the next start overwrites the edit.
    DoomedEdit,
    /// A server does not run although it should.
    ServerDown,
    /// A server has ended so often that its agent does not start it any more.
    CrashLoop,
    /// A server runs and does not do its job.
    Unhealthy,
    /// The agent of a node is not connected.
    NodeSilent,
    /// A rollout failed and left nodes as they were.
    RolloutStopped,
    /// A rollout failed and returned the nodes that it had changed.
    RolledBack,
    /// A rollout makes no progress, and nobody asked it to wait.
    RolloutStalled,
    /// A rollout waits for an operator to promote its canary.
    AwaitingPromotion,
    /// A change waits for somebody else's approval.
    ApprovalWaiting,
    /// A node failed in a rollout that goes on without it.
    StepFailed,
    /// A node did not carry out what it was assigned.
    AssignmentRefused,
    /// An agent cannot write its journal, and therefore reports nothing.
    JournalUnwritable,
    /// The certificate of a node, an operator or the authority ends soon.
    CertificateEnding,
    /// The disk of a node is nearly full.
    DiskLow,
    /// The logs of a server grow without rotation.
    LogsGrowing,
    /// A secret stands in a file that should not hold it.
    SecretResidue,
    /// A start or restart is held back.
    StartHeld,
    /// A Key Manager is not registered as it is declared.
    KeyManager,
    /// Somebody changed a Key Manager in the portal, and it is left so.
    KeyManagerDrift,
    /// The coordinator cannot keep its records, or soon cannot.
    StoreTrouble,
    /// A channel has taken no message for a day.
    AlertsUndelivered,
    /// A change went out without the approval that it needed.
    BreakGlass,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 26] = [
        Self::DriftFound,
        Self::DriftRestored,
        Self::TugOfWar,
        Self::DoomedEdit,
        Self::ServerDown,
        Self::CrashLoop,
        Self::Unhealthy,
        Self::NodeSilent,
        Self::RolloutStopped,
        Self::RolledBack,
        Self::RolloutStalled,
        Self::AwaitingPromotion,
        Self::ApprovalWaiting,
        Self::StepFailed,
        Self::AssignmentRefused,
        Self::JournalUnwritable,
        Self::CertificateEnding,
        Self::DiskLow,
        Self::LogsGrowing,
        Self::SecretResidue,
        Self::StartHeld,
        Self::KeyManager,
        Self::KeyManagerDrift,
        Self::StoreTrouble,
        Self::AlertsUndelivered,
        Self::BreakGlass,
    ];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Rule::DriftFound => "drift-found",
            Rule::DriftRestored => "drift-restored",
            Rule::TugOfWar => "tug-of-war",
            Rule::DoomedEdit => "doomed-edit",
            Rule::ServerDown => "server-down",
            Rule::CrashLoop => "crash-loop",
            Rule::Unhealthy => "unhealthy",
            Rule::NodeSilent => "node-silent",
            Rule::RolloutStopped => "rollout-stopped",
            Rule::RolledBack => "rolled-back",
            Rule::RolloutStalled => "rollout-stalled",
            Rule::AwaitingPromotion => "awaiting-promotion",
            Rule::ApprovalWaiting => "approval-waiting",
            Rule::StepFailed => "step-failed",
            Rule::AssignmentRefused => "assignment-refused",
            Rule::JournalUnwritable => "journal-unwritable",
            Rule::CertificateEnding => "certificate-ending",
            Rule::DiskLow => "disk-low",
            Rule::LogsGrowing => "logs-growing",
            Rule::SecretResidue => "secret-residue",
            Rule::StartHeld => "start-held",
            Rule::KeyManager => "key-manager",
            Rule::KeyManagerDrift => "key-manager-drift",
            Rule::StoreTrouble => "store-trouble",
            Rule::AlertsUndelivered => "alerts-undelivered",
            Rule::BreakGlass => "break-glass",
        }
    }

    /// The rule of a stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == word)
    }

    /// The rule that tells of a concern; `None`: none knows it.
    pub const fn of_concern(kind: &ConcernKind) -> Option<Self> {
        Some(match kind {
            ConcernKind::DiskLow => Rule::DiskLow,
            ConcernKind::LogsGrowing => Rule::LogsGrowing,
            ConcernKind::SecretResidue => Rule::SecretResidue,
            ConcernKind::StartHeld | ConcernKind::RestartHeld => Rule::StartHeld,
            ConcernKind::KeyManager => Rule::KeyManager,
            ConcernKind::KeyManagerDrift => Rule::KeyManagerDrift,
            ConcernKind::JournalUnwritable => Rule::JournalUnwritable,
            ConcernKind::Other(_) => return None,
        })
    }

    /// For people, as the headline of a message.
    pub const fn title(self) -> &'static str {
        match self {
            Rule::DriftFound => "Files differ from what is declared",
            Rule::DriftRestored => "Edited files were restored",
            Rule::TugOfWar => "Files are changed again and again",
            Rule::DoomedEdit => "Generated files were edited by hand",
            Rule::ServerDown => "Server down",
            Rule::CrashLoop => "Server keeps ending and is not started any more",
            Rule::Unhealthy => "Server unhealthy",
            Rule::NodeSilent => "Node silent",
            Rule::RolloutStopped => "Rollout stopped",
            Rule::RolledBack => "Rollout rolled back",
            Rule::RolloutStalled => "Rollout makes no progress",
            Rule::AwaitingPromotion => "Rollout waits for promotion",
            Rule::ApprovalWaiting => "A change waits for approval",
            Rule::StepFailed => "Node failed in a rollout",
            Rule::AssignmentRefused => "Node did not carry out its assignment",
            Rule::JournalUnwritable => "Agent cannot write its journal",
            Rule::CertificateEnding => "Certificate ends soon",
            Rule::DiskLow => "Disk nearly full",
            Rule::LogsGrowing => "Logs grow without rotation",
            Rule::SecretResidue => "A secret stands where it should not",
            Rule::StartHeld => "A start is held back",
            Rule::KeyManager => "Key Manager not registered as declared",
            Rule::KeyManagerDrift => "Key Manager changed in the portal",
            Rule::StoreTrouble => "The coordinator cannot keep its records",
            Rule::AlertsUndelivered => "Alerts are not delivered",
            Rule::BreakGlass => "A change went out without approval",
        }
    }

    /// How urgent it is.
    pub const fn severity(self) -> Severity {
        match self {
            Rule::ServerDown
            | Rule::CrashLoop
            | Rule::Unhealthy
            | Rule::NodeSilent
            | Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::JournalUnwritable
            | Rule::StoreTrouble => Severity::Critical,
            Rule::DriftFound
            | Rule::TugOfWar
            | Rule::DoomedEdit
            | Rule::RolloutStalled
            | Rule::StepFailed
            | Rule::AssignmentRefused
            | Rule::CertificateEnding
            | Rule::DiskLow
            | Rule::LogsGrowing
            | Rule::SecretResidue
            | Rule::StartHeld
            | Rule::KeyManager
            | Rule::KeyManagerDrift
            | Rule::AlertsUndelivered
            | Rule::BreakGlass => Severity::Warning,
            Rule::DriftRestored | Rule::AwaitingPromotion | Rule::ApprovalWaiting => Severity::Info,
        }
    }

    /// Whether it has an end.
    pub const fn nature(self) -> Nature {
        match self {
            Rule::DriftRestored | Rule::BreakGlass => Nature::Occurrence,
            Rule::DriftFound
            | Rule::TugOfWar
            | Rule::DoomedEdit
            | Rule::ServerDown
            | Rule::CrashLoop
            | Rule::Unhealthy
            | Rule::NodeSilent
            | Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::RolloutStalled
            | Rule::AwaitingPromotion
            | Rule::ApprovalWaiting
            | Rule::StepFailed
            | Rule::AssignmentRefused
            | Rule::JournalUnwritable
            | Rule::CertificateEnding
            | Rule::DiskLow
            | Rule::LogsGrowing
            | Rule::SecretResidue
            | Rule::StartHeld
            | Rule::KeyManager
            | Rule::KeyManagerDrift
            | Rule::StoreTrouble
            | Rule::AlertsUndelivered => Nature::Condition,
        }
    }

    /// Who knows about it.
    pub const fn source(self) -> Source {
        match self {
            Rule::DriftFound
            | Rule::TugOfWar
            | Rule::DoomedEdit
            | Rule::ServerDown
            | Rule::CrashLoop
            | Rule::Unhealthy
            | Rule::AssignmentRefused
            | Rule::DiskLow
            | Rule::LogsGrowing
            | Rule::SecretResidue
            | Rule::StartHeld
            | Rule::KeyManager
            | Rule::KeyManagerDrift => Source::Report,
            Rule::NodeSilent | Rule::JournalUnwritable => Source::Session,
            Rule::DriftRestored
            | Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::RolloutStalled
            | Rule::AwaitingPromotion
            | Rule::ApprovalWaiting
            | Rule::StepFailed
            | Rule::CertificateEnding
            | Rule::StoreTrouble
            | Rule::AlertsUndelivered
            | Rule::BreakGlass => Source::Coordinator,
        }
    }

    /// How long it must last before it counts.
    pub const fn hold(self) -> Duration {
        match self {
            // A restore that is under way is a difference, too; the Admin API is looked at once in a while.
            Rule::DriftFound | Rule::KeyManagerDrift => Duration::from_secs(20),
            // An agent that starts the server again within this time has done its job.
            Rule::ServerDown => Duration::from_secs(30),
            Rule::Unhealthy | Rule::JournalUnwritable | Rule::StoreTrouble | Rule::StartHeld => {
                Duration::from_secs(30)
            }
            // The session has been silent for three heartbeats already. The restart of an agent takes seconds.
            Rule::NodeSilent => Duration::from_secs(20),
            // A server that starts is waited for.
            Rule::DiskLow | Rule::LogsGrowing | Rule::KeyManager => Duration::from_secs(300),
            Rule::DriftRestored
            | Rule::TugOfWar
            | Rule::DoomedEdit
            | Rule::CrashLoop
            | Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::RolloutStalled
            | Rule::AwaitingPromotion
            | Rule::ApprovalWaiting
            | Rule::StepFailed
            | Rule::AssignmentRefused
            | Rule::CertificateEnding
            | Rule::SecretResidue
            | Rule::AlertsUndelivered
            | Rule::BreakGlass => Duration::ZERO,
        }
    }

    /// How long it must be over before it counts as over. Shorter interruptions are one alert.
    pub const fn keep(self) -> Duration {
        match self {
            Rule::ServerDown | Rule::Unhealthy | Rule::CrashLoop | Rule::NodeSilent => {
                Duration::from_secs(60)
            }
            // It is not reported: this is how long several edits of one file are one thing that happened.
            Rule::DriftRestored | Rule::DiskLow | Rule::LogsGrowing => Duration::from_secs(300),
            Rule::DriftFound | Rule::TugOfWar | Rule::DoomedEdit | Rule::KeyManagerDrift => {
                Duration::from_secs(5)
            }
            Rule::KeyManager => Duration::from_secs(60),
            Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::RolloutStalled
            | Rule::AwaitingPromotion
            | Rule::ApprovalWaiting
            | Rule::StepFailed
            | Rule::AssignmentRefused
            | Rule::JournalUnwritable
            | Rule::CertificateEnding
            | Rule::SecretResidue
            | Rule::StartHeld
            | Rule::StoreTrouble
            | Rule::AlertsUndelivered
            | Rule::BreakGlass => Duration::ZERO,
        }
    }

    /// An alert of this rule is not reported while one of these is raised for the same node, file or rollout, since
    /// that one explains it.
    pub const fn hidden_by(self) -> &'static [Self] {
        match self {
            Rule::ServerDown => &[Rule::NodeSilent, Rule::JournalUnwritable, Rule::CrashLoop],
            Rule::Unhealthy => {
                &[Rule::NodeSilent, Rule::JournalUnwritable, Rule::CrashLoop, Rule::ServerDown]
            }
            Rule::AssignmentRefused => &[
                Rule::NodeSilent,
                Rule::JournalUnwritable,
                Rule::StepFailed,
                Rule::ServerDown,
                Rule::CrashLoop,
            ],
            Rule::DriftFound => &[Rule::NodeSilent, Rule::JournalUnwritable, Rule::TugOfWar],
            Rule::DriftRestored => &[Rule::TugOfWar],
            Rule::CrashLoop
            | Rule::TugOfWar
            | Rule::DoomedEdit
            | Rule::DiskLow
            | Rule::LogsGrowing
            | Rule::SecretResidue
            | Rule::StartHeld
            | Rule::KeyManagerDrift => &[Rule::NodeSilent, Rule::JournalUnwritable],
            // It is registered by a server that runs.
            Rule::KeyManager => &[
                Rule::NodeSilent,
                Rule::JournalUnwritable,
                Rule::CrashLoop,
                Rule::ServerDown,
                Rule::Unhealthy,
            ],
            Rule::JournalUnwritable => &[Rule::NodeSilent],
            Rule::StepFailed => &[Rule::RolloutStopped, Rule::RolledBack],
            Rule::RolloutStalled => &[Rule::RolloutStopped, Rule::RolledBack, Rule::AwaitingPromotion],
            Rule::NodeSilent
            | Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::AwaitingPromotion
            | Rule::ApprovalWaiting
            | Rule::CertificateEnding
            | Rule::StoreTrouble
            | Rule::AlertsUndelivered
            | Rule::BreakGlass => &[],
        }
    }

    /// Whether a rollout, a restart or a stop that an operator asked for explains it for as long as that may take.
    pub const fn is_expected_of_own_acts(self) -> bool {
        match self {
            Rule::ServerDown | Rule::Unhealthy | Rule::CrashLoop | Rule::DriftFound => true,
            // A node is in flight until it has failed, and a failure ends the flight.
            Rule::AssignmentRefused => true,
            Rule::DriftRestored
            | Rule::TugOfWar
            | Rule::DoomedEdit
            | Rule::NodeSilent
            | Rule::RolloutStopped
            | Rule::RolledBack
            | Rule::RolloutStalled
            | Rule::AwaitingPromotion
            | Rule::ApprovalWaiting
            | Rule::StepFailed
            | Rule::JournalUnwritable
            | Rule::CertificateEnding
            | Rule::DiskLow
            | Rule::LogsGrowing
            | Rule::SecretResidue
            | Rule::StartHeld
            | Rule::KeyManager
            | Rule::KeyManagerDrift
            | Rule::StoreTrouble
            | Rule::AlertsUndelivered
            | Rule::BreakGlass => false,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
