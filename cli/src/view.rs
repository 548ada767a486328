//! What every output shows, for people and, serialised, for programs. Fields are added, never renamed or removed:
//! `docs/cli.md` documents them. Times are RFC 3339 in UTC, durations milliseconds, absent facts `null`.

mod agents;
mod alert;
mod audit;
mod drift;
mod found;
mod logs;
mod plan;
mod proposal;
mod revision;
mod support;
mod tokens;

use std::collections::BTreeMap;

use fleet::words::{
    GroupWord, NodeWord, RestartWord, RolloutWord, Said, ServiceWord, Severity, StepWord, VerdictWord,
};
use serde::{Serialize, Serializer};

use crate::text::bytes;

pub use self::agents::{Agent, AgentList, AgentUpgraded, Skew, Upgraded};
pub use self::alert::{Alert, AlertChannel, AlertState, Alerts, Delivery, Silence};
pub use self::audit::{AuditEntry, Verified};
pub use self::drift::{DriftEntry, Editor};
pub use self::found::{Found, FoundFile, FoundHost, FoundProduct};
pub use self::logs::{LogLine, LogLines};
pub use self::plan::{
    DerivedKey, Effects, FileChange, KeyChange, NodePlan, Overwritten, Plan, PlanNote, PlanSource,
    RenderedFile, Unmanaged, Unpacked,
};
pub use self::proposal::{Proposal, ShownProposal};
pub use self::revision::{Origin, Revision, Signature};
pub use self::support::{BundlePart, ConfigurationFile, LeftOut, Manifest, SupportBundle};
pub use self::tokens::{Admitted, JoinToken, TokenFile, TokenFiles};

/// A wall-clock time, milliseconds since 1970; zero means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct When(pub i64);

impl When {
    /// The time, unless it is never.
    pub fn known(self) -> Option<jiff::Timestamp> {
        if self.0 == 0 { None } else { jiff::Timestamp::from_millisecond(self.0).ok() }
    }
}

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.known() {
            Some(time) => serializer.collect_str(&format_args!("{time:.3}")),
            None => serializer.serialize_none(),
        }
    }
}

/// One finding of `lint`, `plan` and `apply`.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub code: String,
    pub severity: Said<Severity>,
    /// Below the fleet directory.
    pub file: Option<String>,
    /// The same as it is reached from the working directory; `null`: not a file of the fleet directory.
    pub path: Option<String>,
    pub line: Option<u32>,
    pub column: Option<u32>,
    /// The line itself, secrets masked.
    pub line_text: Option<String>,
    pub node: Option<String>,
    pub message: String,
    pub remedy: String,
}

impl Finding {
    /// Its file for people: where they can open it, if it is one of theirs.
    pub fn shown_file(&self) -> Option<&str> {
        self.path.as_deref().or(self.file.as_deref())
    }

    /// Whether nothing may be sent while it stands.
    pub fn is_error(&self) -> bool {
        self.severity.is(Severity::Error)
    }
}

impl From<fleet::finding::Finding> for Finding {
    fn from(finding: fleet::finding::Finding) -> Self {
        let place = finding.place.as_ref();
        Self {
            code: finding.code.to_owned(),
            severity: finding.severity.into(),
            file: place.map(|place| place.file.clone()),
            path: None,
            line: place.map(|place| place.line),
            column: place.map(|place| place.column),
            line_text: place.map(|place| place.line_text.clone()),
            node: finding.node.map(|node| node.to_string()),
            message: finding.message,
            remedy: finding.remedy,
        }
    }
}

/// Output of `lint`.
#[derive(Debug, Serialize)]
pub struct Lint {
    pub fleet: Option<String>,
    pub nodes: usize,
    pub findings: Vec<Finding>,
}

/// Output of `import`.
#[derive(Debug, Serialize)]
pub struct Import {
    pub directory: String,
    pub groups: Vec<ImportedGroup>,
    pub layers: Vec<ImportedLayer>,
    /// How many values became expressions.
    pub expressions: usize,
    /// How many passwords were found.
    pub secrets: usize,
    /// Where they are.
    pub secrets_file: Option<String>,
    /// Keys that nodes of one group do not share.
    pub differences: Vec<ImportedDifference>,
    pub findings: Vec<Finding>,
}

/// A group that `import` made.
#[derive(Debug, Serialize)]
pub struct ImportedGroup {
    pub name: String,
    pub product: String,
    pub nodes: Vec<String>,
}

/// A layer that `import` made.
#[derive(Debug, Serialize)]
pub struct ImportedLayer {
    pub file: String,
    pub keys: usize,
}

/// A key that the nodes of a group do not share.
#[derive(Debug, Serialize)]
pub struct ImportedDifference {
    pub group: String,
    pub key: String,
    /// Those with a value of their own.
    pub nodes: Vec<String>,
    /// Such a key has to differ.
    pub expected: bool,
}

/// What became of an `apply` or `rollback`.
#[derive(Debug, Clone, Serialize)]
pub struct Applied {
    pub revision: u64,
    /// `null`: nothing had to change on any node.
    pub rollout: Option<u64>,
    pub findings: Vec<Finding>,
    /// It waits for approval, and `revision` is 0; `null`: it was rolled out.
    pub proposal: Option<Proposal>,
    /// Who may approve it, at most five.
    pub approvers: Vec<String>,
}

/// Output of `apply` and `rollback`.
#[derive(Debug, Serialize)]
pub struct Outcome {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    pub applied: Option<Applied>,
    /// The rollout as last seen; only with `--wait`.
    pub rollout: Option<Rollout>,
}

/// Output of `status`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub fleet: String,
    pub revision: u64,
    pub at: When,
    pub coordinator_version: String,
    /// The newest revision repeats the content of this one; `null`: it has its own.
    pub content_of: Option<u64>,
    /// An agent has accepted what the store does not know: the store was restored from an older copy.
    pub store_older: bool,
    /// Why the coordinator cannot keep its records, or soon cannot; `null`: it can.
    pub store_trouble: Option<StoreTrouble>,
    /// Alerts that nothing hides; `alert list` has them.
    pub alerts_firing: u32,
    /// The most urgent of them: `info`, `warning` or `critical`; `null`: none fires, or the coordinator is older.
    pub alerts_worst: Option<String>,
    /// Those that have not ended.
    pub silences: Vec<Silence>,
    /// Changes over which nobody has decided: `open` or `outdated`.
    pub proposals: Vec<Proposal>,
    pub nodes: Vec<Node>,
    /// Unfinished ones, and the newest finished one.
    pub rollouts: Vec<Rollout>,
}

/// Whether a node is on the newest revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// What the newest revision wants of it is in force.
    OnNewest,
    /// A rollout is about to change it, or is changing it.
    UnderWay,
    /// Something else is in force, and nobody is changing that.
    Behind,
    /// Its agent never said what is in force.
    NotReported,
    /// Its agent has accepted what the store does not know.
    StoreOlder,
}

impl Standing {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::OnNewest => "on the newest revision",
            Standing::UnderWay => "changing",
            Standing::Behind => "behind",
            Standing::NotReported => "not reported",
            Standing::StoreOlder => "ahead of the store",
        }
    }
}

/// Why the coordinator cannot keep its records, or soon cannot.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StoreTrouble {
    CannotCommit {
        why: String,
    },
    LowRoom {
        free: u64,
        reserve: u64,
    },
    /// Of a later version.
    Other,
}

impl std::fmt::Display for StoreTrouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::CannotCommit { why } => {
                write!(f, "the coordinator cannot store anything, and what is below may be old: {why}")
            }
            Self::LowRoom { free, reserve } => {
                let (free, reserve) = (bytes(*free), bytes(*reserve));
                write!(
                    f,
                    "the coordinator's disk has {free} left; applies are refused below {reserve}, make room"
                )
            }
            Self::Other => {
                f.write_str("the coordinator's store has trouble that only a newer `convoy` can name")
            }
        }
    }
}

/// One node: what is wanted, what was tried, what is on disk, what runs.
#[derive(Debug, Clone, Serialize)]
pub struct Node {
    pub name: String,
    pub group: String,
    pub product: String,
    pub host: String,
    pub zone: Option<String>,
    pub state: Said<NodeWord>,
    pub state_why: String,
    pub enrolled: bool,
    pub connected: bool,
    pub last_seen: When,
    pub desired_revision: u64,
    /// The revision whose content is on the node's disk; `null` if that is not known.
    pub revision_in_force: Option<u64>,
    /// `null` for a node that the newest revision does not name.
    pub standing: Option<Standing>,
    /// Why it is not on the newest revision; empty if it is.
    pub standing_why: String,
    pub desired: Option<Generation>,
    /// The agent's last report; `null` if there never was one.
    pub report: Option<Report>,
    pub agent_version: String,
    /// When it first came with this version.
    pub agent_since: When,
    /// SHA-256 of its program, hexadecimal; empty: it did not say so.
    pub agent_program: String,
    pub platform: String,
    pub certificate_expires: When,
}

/// A bundle at its place in a node's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Generation {
    pub generation: u64,
    /// Digest of the bundle, hexadecimal.
    pub bundle: String,
}

/// What a node's agent said last.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub accepted: Option<Generation>,
    pub attempted: Option<Attempt>,
    pub written: Option<Generation>,
    pub running: Option<Generation>,
    pub last_good: Option<Generation>,
    pub service: Service,
    pub health: Health,
    pub process: Option<Process>,
    pub drift: Vec<DriftEntry>,
    /// All differences seen since the agent's start; `drift` holds the newest.
    pub drift_total: u32,
    pub drift_pause: Option<DriftPause>,
    /// What else an operator should see to.
    pub concerns: Vec<Concern>,
    /// The Key Managers that it keeps at its Admin API.
    pub key_managers: Vec<KeyManager>,
    /// The last lines that the server wrote before it ended; empty once one is ready with what was last assigned.
    pub last_output: Vec<String>,
    pub starts_total: u64,
    pub vitals: Vitals,
}

impl Report {
    /// Since when the server does what it does. One that runs is as old as its process, whoever adopted it when.
    pub fn service_since(&self) -> When {
        let started = self.process.as_ref().map(|process| process.started).filter(|at| at.0 != 0);
        match (self.service.state.as_str(), started) {
            ("running", Some(started)) => started,
            _ => self.service.since,
        }
    }
}

/// One Key Manager that a node keeps at its Admin API.
#[derive(Debug, Clone, Serialize)]
pub struct KeyManager {
    pub name: String,
    /// `registered`, `waiting`, `differs`, `failing`, or `unknown` from an agent of a later version.
    pub state: String,
    /// When the Admin API last answered about it; `null`: not since the agent started.
    pub looked: Option<When>,
}

/// Something that an operator should see to, and that is neither drift of a managed file nor ill health.
#[derive(Debug, Clone, Serialize)]
pub struct Concern {
    /// A stable word; `docs/agent.md` lists them.
    pub kind: String,
    pub detail: String,
    pub remedy: String,
}

/// The last assignment tried.
#[derive(Debug, Clone, Serialize)]
pub struct Attempt {
    pub target: Option<Generation>,
    /// The furthest of `received`, `staged`, `written`, `restarted`, `ready`.
    pub stage: String,
    pub done: bool,
    /// Set when it ended badly.
    pub failure: Option<Refusal>,
}

/// Why an assignment was not carried out.
#[derive(Debug, Clone, Serialize)]
pub struct Refusal {
    /// A stable word; `docs/cli.md` lists them.
    pub reason: String,
    pub detail: String,
}

/// What the server does.
#[derive(Debug, Clone, Serialize)]
pub struct Service {
    pub state: Said<ServiceWord>,
    pub since: When,
    pub reason: String,
    /// Exits that count against the restart policy.
    pub exits: u32,
}

/// Whether the server does its job. Unknown is never healthy.
#[derive(Debug, Clone, Serialize)]
pub struct Health {
    pub verdict: Said<VerdictWord>,
    pub reason: String,
    pub since: When,
}

/// The java process.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    pub pid: u32,
    pub started: When,
}

/// Edits are left alone for a while.
#[derive(Debug, Clone, Serialize)]
pub struct DriftPause {
    pub reason: String,
    pub until: When,
}

/// Measurements of the server and its host.
#[derive(Debug, Clone, Serialize)]
pub struct Vitals {
    pub rss_bytes: Option<u64>,
    pub cpu_percent: Option<f32>,
    pub threads: Option<u32>,
    pub open_files: Option<u32>,
    pub disk_free_bytes: Option<u64>,
    pub logs_bytes: Option<u64>,
}

/// Output of `node show`.
#[derive(Debug, Serialize)]
pub struct NodeDetail {
    pub node: Node,
    pub files: Vec<BundleFile>,
    pub events: Vec<Event>,
    /// Only of a node that nothing was assigned to.
    pub found: Option<Found>,
}

/// One file that the node should have.
#[derive(Debug, Clone, Serialize)]
pub struct BundleFile {
    pub path: String,
    pub size: u64,
    /// Permission bits, octal.
    pub mode: String,
    /// `enforce`, `report` or `ignore`.
    pub drift: String,
    pub restart: Said<RestartWord>,
    pub digest: String,
}

/// One rollout.
#[derive(Debug, Clone, Serialize)]
pub struct Rollout {
    pub id: u64,
    pub revision: u64,
    pub author: String,
    pub message: String,
    pub started: When,
    pub ended: When,
    pub state: Said<RolloutWord>,
    pub groups: Vec<RolloutGroup>,
    /// Why it does not go on just now, as data that people can read.
    pub waiting: Vec<String>,
    /// The revision it goes back to, if it does.
    pub rolls_back_to: Option<u64>,
    /// Why maintenance windows are ignored; `null`: they are not.
    pub windows_overridden: Option<String>,
    /// How much longer it is likely to take; absent where time does not tell.
    pub estimate: Option<Estimate>,
}

/// How long a rollout is likely to take, from what its nodes took before.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Estimate {
    /// Absent: nothing is known of any node that has to restart.
    pub left_ms: Option<u64>,
    /// Nodes that have to restart and of which nothing is known.
    pub unknown: u32,
}

impl Rollout {
    /// Nothing more will happen.
    pub fn has_ended(&self) -> bool {
        self.state.known().is_some_and(RolloutWord::is_end)
    }

    /// It ended, and every node is as it should be.
    pub fn is_done(&self) -> bool {
        self.state.is(RolloutWord::Done)
    }

    /// All its nodes, with their group.
    pub fn nodes(&self) -> impl Iterator<Item = (&RolloutGroup, &RolloutNode)> {
        self.groups.iter().flat_map(|group| group.nodes.iter().map(move |node| (group, node)))
    }
}

/// One group of a rollout.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutGroup {
    pub group: String,
    pub state: Said<GroupWord>,
    pub nodes: Vec<RolloutNode>,
}

/// One node of a rollout.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutNode {
    pub node: String,
    pub state: Said<StepWord>,
    pub detail: String,
    pub since: When,
    pub generation: u64,
    /// When the rollout first gave it something.
    pub begun: When,
    /// How long it was in the states that it has left.
    pub times: Vec<TimeInState>,
}

/// A state that a node has left, and how long it was in it.
#[derive(Debug, Clone, Serialize)]
pub struct TimeInState {
    pub state: Said<StepWord>,
    pub ms: u64,
}

impl RolloutNode {
    /// It is not what it should be, and nothing more is tried.
    pub fn has_failed(&self) -> bool {
        self.state.known().is_some_and(StepWord::has_failed)
    }

    /// Nothing more will happen to it.
    pub fn has_ended(&self) -> bool {
        self.state.known().is_some_and(StepWord::is_end)
    }
}

/// One event.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    pub seq: u64,
    /// When it happened, or when the node's notice of it was received.
    pub at: When,
    /// When its host says that it happened, by the host's clock; `null`: the coordinator's own.
    pub host_at: Option<When>,
    /// So many earlier events, asked for, are not kept any more.
    pub missing: u64,
    pub kind: String,
    /// `null`: the coordinator's own.
    pub node: Option<String>,
    pub text: String,
    pub fields: BTreeMap<String, String>,
    /// Who caused it, if somebody did.
    pub actor: Option<String>,
}

/// Output of commands that act on one node.
#[derive(Debug, Serialize)]
pub struct Answer {
    pub ok: bool,
    pub detail: String,
}

/// One line of `secret list`.
#[derive(Debug, Serialize)]
pub struct SecretName {
    pub name: String,
    pub changed: When,
    pub changed_by: String,
    /// Whose operators may let it reach their nodes.
    pub groups: Vec<String>,
}

/// One line of `operator list`.
#[derive(Debug, Serialize)]
pub struct Operator {
    pub name: String,
    /// `viewer`, `operator`, `admin`.
    pub role: String,
    /// Empty: the whole fleet.
    pub groups: Vec<String>,
    /// Of these rights; `null`: from the beginning.
    pub since: Option<When>,
    pub by: Option<String>,
    /// `null`: not yet, or from the beginning.
    pub joined: Option<When>,
    pub certificate_expires: Option<When>,
    /// Whoever asks.
    pub you: bool,
}

/// Output of `operator add`.
#[derive(Debug, Serialize)]
pub struct OperatorToken {
    pub operator: String,
    pub role: String,
    pub groups: Vec<String>,
    pub token: String,
    pub expires: When,
    pub warnings: Vec<String>,
}

/// Output of `join`.
#[derive(Debug, Serialize)]
pub struct Joined {
    pub fleet: String,
    pub operator: String,
    pub context: String,
    pub path: String,
    /// The context is in use.
    pub current: bool,
}

/// One line of `drift list`.
#[derive(Debug, Serialize)]
pub struct NodeDrift {
    pub node: String,
    pub total: u32,
    pub pause: Option<DriftPause>,
    pub entries: Vec<DriftEntry>,
    /// Of `drift show` only; `null` if the coordinator cannot tell.
    pub differences: Option<Differences>,
}

/// What differs on a host from what was assigned to it, with values. Secrets are masked.
#[derive(Debug, Serialize)]
pub struct Differences {
    /// Whether the host was asked now.
    pub source: PlanSource,
    /// Why nothing is known.
    pub unknown: Option<String>,
    pub keys: Vec<KeyDifference>,
    /// Keys that `[drift.keys]` leaves to the host.
    pub left_to_host: Vec<KeyDifference>,
    pub files: Vec<FileDifference>,
    /// Keys that are left out.
    pub omitted: u64,
}

/// One key of deployment.toml.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyDifference {
    pub key: String,
    /// `null`: nobody declared it.
    pub desired: Option<String>,
    /// `null`: it is not there.
    pub found: Option<String>,
}

/// One file, deployment.toml among them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileDifference {
    pub path: String,
    /// `missing`, `content`, `settings`.
    pub what: String,
    /// Mode and owner, from what is there to what is wanted.
    pub settings: Vec<String>,
    /// From what is there to what is wanted; empty for secret and binary files.
    pub diff: String,
}

/// What a failed command prints with `--json`.
#[derive(Debug, Serialize)]
pub struct Problem {
    pub error: String,
    pub causes: Vec<String>,
    pub remedy: String,
    pub exit: u8,
}
