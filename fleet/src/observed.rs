//! What a node says of itself. Desired, attempted, written, running and last good are separate facts.

use std::{collections::BTreeMap, fmt, time::Duration};

use crate::{
    bundle::{Applied, HomePath},
    editor::Editor,
    host::Original,
    ids::{Digest, FleetEpoch, Generation},
    key_manager,
    time::Timestamp,
    words::{NoticeWord, Said, ServiceWord, VerdictWord},
};

/// How far an assignment got. Acknowledged in this order, each only once durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The assignment is in the journal.
    Received,
    /// All content is on disk, checked and synced, beside its targets.
    Staged,
    /// The switch is done and durable.
    Written,
    /// The server runs with it (at once, when no restart was needed).
    Restarted,
    /// Ready and soaked.
    Ready,
}

/// Why an assignment was not carried out. The words are stable: programs match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalReason {
    /// Older than one already obeyed.
    OlderGeneration,
    /// From a coordinator store that this agent does not know.
    OtherEpoch,
    /// Content could not be fetched or did not match its digest.
    ContentUnavailable,
    /// The bundle does not parse or breaks a bound.
    BundleInvalid,
    /// The home is not on the agent's allow-list.
    HomeNotAllowed,
    /// A start argument or command is not on the agent's allow-list.
    CommandNotAllowed,
    /// No WSO2 pack (of that product) at home.
    PackMissing,
    /// The start script is not there.
    ScriptMissing,
    /// No JDK, or one outside the product's range.
    JdkUnsuitable,
    /// deployment.toml would not parse as the product parses it.
    ConfigInvalid,
    /// A target is a symlink, a mount, a directory, or otherwise not safe to replace.
    TargetUnsafe,
    /// Home is not owned by the run user.
    WrongOwner,
    /// Too little space for twice the bundle.
    DiskFull,
    /// A file operation failed.
    IoFailed,
    /// The server ended during its start.
    StartFailed,
    /// The server was not ready in time.
    StartDeadline,
    /// The old server did not stop, even killed.
    StopFailed,
    /// Ended too often; nothing is tried until something changes.
    GaveUp,
    /// Another server holds this home.
    ForeignServer,
    /// A preflight check failed.
    PreflightFailed,
    /// A hook failed whose failure means that the step must not go on.
    HookFailed,
    /// An operator had the original files put back instead.
    Withdrawn,
}

impl RefusalReason {
    /// Every reason with its word, for parsing and documentation.
    pub const ALL: [(Self, &'static str); 22] = [
        (Self::OlderGeneration, "older-generation"),
        (Self::OtherEpoch, "other-epoch"),
        (Self::ContentUnavailable, "content-unavailable"),
        (Self::BundleInvalid, "bundle-invalid"),
        (Self::HomeNotAllowed, "home-not-allowed"),
        (Self::CommandNotAllowed, "command-not-allowed"),
        (Self::PackMissing, "pack-missing"),
        (Self::ScriptMissing, "script-missing"),
        (Self::JdkUnsuitable, "jdk-unsuitable"),
        (Self::ConfigInvalid, "config-invalid"),
        (Self::TargetUnsafe, "target-unsafe"),
        (Self::WrongOwner, "wrong-owner"),
        (Self::DiskFull, "disk-full"),
        (Self::IoFailed, "io-failed"),
        (Self::StartFailed, "start-failed"),
        (Self::StartDeadline, "start-deadline"),
        (Self::StopFailed, "stop-failed"),
        (Self::GaveUp, "gave-up"),
        (Self::ForeignServer, "foreign-server"),
        (Self::PreflightFailed, "preflight-failed"),
        (Self::HookFailed, "hook-failed"),
        (Self::Withdrawn, "withdrawn"),
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(reason, _)| *reason == self).map_or("unknown", |(_, word)| word)
    }

    /// The reason of a stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(reason, _)| *reason)
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A refusal or failure: the machine's word, the people's sentence, and what goes on meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: RefusalReason,
    /// For people; never holds a secret.
    pub detail: String,
    /// What the node still runs.
    pub still_running: Option<Applied>,
}

/// The last assignment tried and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// What was tried.
    pub target: Applied,
    /// The furthest stage reached.
    pub stage: Stage,
    /// Set when it ended badly.
    pub failure: Option<Refusal>,
    /// It ended, well or badly.
    pub done: bool,
    /// The server that ran before went on running: it reads the same.
    pub kept_server: bool,
}

impl Attempt {
    /// One that was just heard of.
    pub const fn begin(target: Applied) -> Self {
        Self { target, stage: Stage::Received, failure: None, done: false, kept_server: false }
    }
}

/// What the server of a node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceState {
    /// Not running, as wanted.
    Stopped,
    /// Launched, not yet ready.
    Starting,
    /// Ready once, alive now.
    Running,
    /// Told to stop, not gone yet.
    Stopping,
    /// Ended by itself; the next launch is due at `until`.
    BackingOff {
        /// When.
        until: Timestamp,
        /// Exits that count.
        exits: u32,
    },
    /// Ended too often.
    GaveUp {
        /// Exits that counted.
        exits: u32,
    },
    /// A server that this agent did not start holds the home and could not be adopted.
    Foreign,
    /// The agent has not looked yet.
    Unknown,
}

impl ServiceState {
    /// Its word.
    pub fn word(&self) -> ServiceWord {
        match self {
            ServiceState::Stopped => ServiceWord::Stopped,
            ServiceState::Starting => ServiceWord::Starting,
            ServiceState::Running => ServiceWord::Running,
            ServiceState::Stopping => ServiceWord::Stopping,
            ServiceState::BackingOff { .. } => ServiceWord::BackingOff,
            ServiceState::GaveUp { .. } => ServiceWord::GaveUp,
            ServiceState::Foreign => ServiceWord::Foreign,
            ServiceState::Unknown => ServiceWord::Unknown,
        }
    }
}

impl fmt::Display for ServiceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word().as_str())
    }
}

/// Whether the server does its job. Unknown is never healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All readiness probes pass.
    Healthy,
    /// A probe fails, with which and how.
    Unhealthy(String),
    /// Nothing can be said, with why.
    Unknown(String),
}

impl Verdict {
    /// Its word.
    pub fn word(&self) -> VerdictWord {
        match self {
            Verdict::Healthy => VerdictWord::Healthy,
            Verdict::Unhealthy(_) => VerdictWord::Unhealthy,
            Verdict::Unknown(_) => VerdictWord::Unknown,
        }
    }
}

/// A process that is never confused with a later one of the same number.
#[derive(Debug, Clone)]
pub struct ProcessIdentity {
    /// The java process.
    pub pid: u32,
    /// Opaque start time of the platform; pid and this together name one process.
    pub start_id: String,
    /// When it started, for people; not part of the identity, since a clock that is set moves it.
    pub started: Timestamp,
}

impl PartialEq for ProcessIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.pid == other.pid && self.start_id == other.start_id
    }
}

impl Eq for ProcessIdentity {}

/// What kind of difference was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftKind {
    /// Content differs from desired.
    Edited,
    /// The file is gone.
    Deleted,
    /// Permission bits differ.
    Mode,
    /// Owner or group differ.
    Owner,
    /// Only keys that the product itself writes differ; nobody's mistake.
    ProductOwned,
    /// A file that the product generates was edited; the edit is lost at the next start.
    GeneratedEdited,
    /// A file that the product generates is gone; the next start fails.
    GeneratedDeleted,
}

impl DriftKind {
    /// Every one with its stable word.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Edited, "edited"),
        (Self::Deleted, "deleted"),
        (Self::Mode, "mode"),
        (Self::Owner, "owner"),
        (Self::ProductOwned, "product-owned"),
        (Self::GeneratedEdited, "generated-edited"),
        (Self::GeneratedDeleted, "generated-deleted"),
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("unknown", |(_, word)| word)
    }

    /// The one of a stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(known, _)| *known)
    }
}

/// What was done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriftAction {
    /// The desired content is back, durable.
    Restored,
    /// Left as it is and reported.
    Reported,
    /// Enforcement is paused.
    Paused,
    /// Restored again and again without lasting; left as it is.
    TugOfWar,
    /// An operator wants it left as it is.
    Accepted,
}

impl DriftAction {
    /// Every one with its stable word.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Restored, "restored"),
        (Self::Reported, "reported"),
        (Self::Paused, "paused"),
        (Self::TugOfWar, "tug-of-war"),
        (Self::Accepted, "accepted"),
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("unknown", |(_, word)| word)
    }

    /// The one of a stable word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, known)| *known == word).map(|(known, _)| *known)
    }
}

/// One difference between desired and disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drift {
    /// Which file.
    pub path: HomePath,
    /// What differs.
    pub kind: DriftKind,
    /// What was done.
    pub action: DriftAction,
    /// deployment.toml keys that differ; never values.
    pub keys: Vec<String>,
    /// When it was noticed.
    pub at: Timestamp,
    /// From the first hint to the restored content being durable.
    pub restored_after: Option<Duration>,
    /// For people.
    pub detail: String,
    /// Who wrote it since it was last as desired, newest first, at most [`crate::editor::EDITORS_MAX`]; empty: not known.
    pub editors: Vec<Editor>,
}

/// Measurements of the server and its host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vitals {
    /// Resident memory of the java process, bytes.
    pub rss: u64,
    /// Of one core; 200 means two cores busy.
    pub cpu_percent: f32,
    /// Of the java process.
    pub threads: u32,
    /// Of the java process.
    pub open_files: u32,
    /// On home's file system, bytes.
    pub disk_free: u64,
    /// Of `repository/logs`, bytes.
    pub logs: u64,
}

/// What kind of thing an operator should see to. The words are stable: programs and rules of alerts match on them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConcernKind {
    /// A secret lies in a generated file that others may read.
    SecretResidue,
    /// The server would be restarted, and is not.
    RestartHeld,
    /// The server would be started, and is not.
    StartHeld,
    /// Little room is left on the home's file system.
    DiskLow,
    /// The logs will have filled the disk soon.
    LogsGrowing,
    /// A Key Manager is not registered as declared.
    KeyManager,
    /// Somebody changed a Key Manager at the Admin API.
    KeyManagerDrift,
    /// The agent cannot write its journal; the coordinator's own word.
    JournalUnwritable,
    /// The word of an agent of a later version.
    Other(String),
}

impl ConcernKind {
    /// Every one that this version knows, with its stable word.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::SecretResidue, "secret-residue"),
        (Self::RestartHeld, "restart-held"),
        (Self::StartHeld, "start-held"),
        (Self::DiskLow, "disk-low"),
        (Self::LogsGrowing, "logs-growing"),
        (Self::KeyManager, "key-manager"),
        (Self::KeyManagerDrift, "key-manager-drift"),
        (Self::JournalUnwritable, "journal-unwritable"),
    ];

    /// The stable word.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Other(word) => word,
            known => Self::ALL.iter().find(|(kind, _)| kind == known).map_or("unknown", |(_, word)| word),
        }
    }

    /// The one of a word.
    pub fn of(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|(_, known)| *known == word);
        known.map_or_else(|| Self::Other(word.to_owned()), |(kind, _)| kind)
    }
}

impl fmt::Display for ConcernKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Something on a node that an operator should see to, and that is neither drift of a managed file nor ill health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// What it is about.
    pub kind: ConcernKind,
    /// For people; never holds a secret.
    pub detail: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything a node says of itself now.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// Newest accepted assignment.
    pub desired: Option<Applied>,
    /// The last one tried.
    pub attempted: Option<Attempt>,
    /// Whose files are in force on disk.
    pub written: Option<Applied>,
    /// Whose files the running server read.
    pub running: Option<Applied>,
    /// The newest that became ready.
    pub last_good: Option<Applied>,
    /// The server.
    pub service: ServiceState,
    /// Since when.
    pub service_since: Timestamp,
    /// Why the service is in that state, for people.
    pub service_reason: String,
    /// Does it do its job.
    pub health: Verdict,
    /// Since when.
    pub health_since: Timestamp,
    /// The java process.
    pub process: Option<ProcessIdentity>,
    /// At most [`DRIFT_MAX`] newest differences that stand or were repaired lately.
    pub drift: Vec<Drift>,
    /// All differences seen since the agent's start.
    pub drift_total: u32,
    /// Launches of the server since the agent's first start on this home.
    pub starts_total: u64,
    /// Measurements.
    pub vitals: Vitals,
    /// What the configuration resources of its home are known by ([`crate::pack`]), if they were read.
    pub pack: Option<Digest>,
    /// Enforcement paused: reason and end.
    pub drift_pause: Option<(String, Timestamp)>,
    /// At most [`CONCERNS_MAX`].
    pub concerns: Vec<Concern>,
    /// The Key Managers that the files in force have it keep, at most [`crate::key_manager::KEY_MANAGERS_MAX`].
    pub key_managers: Vec<key_manager::seen::Seen>,
    /// The last lines that the server wrote before it ended, secrets masked; empty once one is ready with what was last
    /// assigned. At most [`OUTPUT_LINES_MAX`].
    pub last_output: Vec<String>,
    /// What the agent keeps of the time before its first write into the home.
    pub original: Option<Original>,
}

impl Observed {
    /// Whether its server runs and does its job. Unknown is not healthy.
    pub fn serves(&self) -> bool {
        self.service == ServiceState::Running && self.health == Verdict::Healthy
    }

    /// Whether the files in force are those that lay there before the first generation.
    pub fn is_on_original(&self) -> bool {
        self.written.is_some_and(|written| written.generation == Generation::ORIGINAL)
    }
}

/// Upper bound of the lines of output in one report.
pub const OUTPUT_LINES_MAX: usize = 20;
/// Upper bound of one such line, characters.
pub const OUTPUT_LINE_MAX: usize = 500;

/// Upper bound of concerns in one report.
pub const CONCERNS_MAX: usize = 20;

/// Upper bound of drift entries in one report.
pub const DRIFT_MAX: usize = 50;

/// Something that happened on a node, told to the coordinator until it says it has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Counts from the agent's first start, never reused.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What it is about.
    pub kind: Said<NoticeWord>,
    /// One sentence for people.
    pub text: String,
    /// For programs; never secrets.
    pub fields: BTreeMap<String, String>,
}

/// What an agent remembers of whom it obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allegiance {
    /// The store whose generations count.
    pub epoch: Option<FleetEpoch>,
}
