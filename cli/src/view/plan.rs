//! What a plan shows.

use fleet::{
    ids::FleetEpoch,
    words::SourceWord,
    words::{ChangeWord, FileWord, RestartWord, Said},
};
use serde::Serialize;

use super::{Estimate, Finding, Origin, When};

/// Output of `plan`, and part of `apply`.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// What the changes are against; 0 if nothing was applied yet.
    pub base_revision: u64,
    /// Findings hold at least one error: nothing would be applied.
    pub refused: bool,
    pub nodes: Vec<NodePlan>,
    pub unchanged: u64,
    /// The order, for people.
    pub waves: Vec<String>,
    /// How long it is likely to take; absent if no node changes.
    pub estimate: Option<Estimate>,
    pub findings: Vec<Finding>,
    /// Why nothing can be applied, if it is not for the findings.
    pub refusal: Option<String>,
    pub notes: Vec<PlanNote>,
    /// Of a rollback: the revision that it goes back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_revision: Option<u64>,
    /// What an apply has to be given with `--replace-unmanaged`; `null`: nothing undeclared is replaced or removed.
    pub unmanaged_digest: Option<String>,
    /// The commit that the directory is at; `null`: it is in no Git repository, or nobody could ask Git.
    pub origin: Option<Origin>,
    /// Why an apply would only be proposed; `null`: it would be rolled out.
    pub approval: Option<String>,
    /// Who may sign it, as an apply is refused without a signature; `null`: it needs none.
    pub signers: Option<String>,
    /// Of a rollback or a proposal: the key that has signed it.
    pub signed_by: Option<String>,
    /// Of the coordinator's store; a part of what is signed.
    #[serde(skip)]
    pub fleet_epoch: Option<FleetEpoch>,
}

impl Plan {
    /// Whether an apply would change anything, be it only how later rollouts go.
    pub fn changes(&self) -> bool {
        self.nodes.iter().any(NodePlan::changes) || self.notes.iter().any(|note| note.change)
    }
}

/// How a rollout will go differently from the last one, or what will hold it up.
#[derive(Debug, Clone, Serialize)]
pub struct PlanNote {
    /// `policy`, `group-renamed`, `window-closed`, `node-paused`, `node-unreachable`, `node-behind` or `node-stays`.
    pub kind: String,
    pub node: Option<String>,
    pub group: Option<String>,
    /// One sentence without a full stop.
    pub text: String,
    /// It changes something although no node changes.
    pub change: bool,
}

/// What nobody declared and an apply would replace or remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unmanaged {
    pub path: String,
    /// `keys`, `file`, `paused-edit`, `accepted-edit` or `reported-edit`.
    pub kind: String,
    /// Of deployment.toml.
    pub keys: Vec<String>,
    /// Who paused or accepted.
    pub by: Option<String>,
    /// Of the pause.
    pub reason: Option<String>,
    /// End of the pause.
    pub until: When,
}

/// What a node's plan was drawn against.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PlanSource {
    /// Empty if the coordinator is older.
    pub kind: Said<SourceWord>,
    /// When the host was seen.
    pub at: When,
    /// Why it is not the host as it is now.
    pub why: Option<String>,
}

/// What came with the product and is replaced in a home that never started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unpacked {
    /// Of its deployment.toml.
    pub keys: u64,
    pub files: u64,
}

/// What changes on one node.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NodePlan {
    pub node: String,
    pub group: String,
    pub change: Said<ChangeWord>,
    pub restart: Said<RestartWord>,
    pub restart_why: String,
    pub keys: Vec<KeyChange>,
    /// Keys that the host has otherwise (`old`) than declared (`new`) and keeps, by `[drift.keys]`.
    pub kept: Vec<KeyChange>,
    pub files: Vec<FileChange>,
    /// Service settings that change, for people.
    pub settings: Vec<String>,
    /// What becomes of the files that its server renders; `null` if its pack is not known or nothing changes.
    pub effects: Option<Effects>,
    /// Why its pack is not known, if it is not.
    pub pack_unknown: Option<String>,
    /// Generated files that somebody changed by hand, if the server restarts.
    pub overwritten: Vec<Overwritten>,
    /// What it was drawn against.
    pub source: PlanSource,
    /// `adopted`, `restarted` or `started`: what becomes of the server that Convoy finds at the first apply.
    pub adoption: Option<String>,
    pub unmanaged: Vec<Unmanaged>,
    pub unpacked: Option<Unpacked>,
}

/// What becomes of the files that a server renders at its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effects {
    /// Digest of the pack that it renders with, hexadecimal.
    pub pack: String,
    /// Of the one that it was rendered with; another after an update of the host.
    pub pack_before: String,
    /// The pack is the one given by `--pack`.
    pub pack_given: bool,
    /// How many files it renders.
    pub rendered: u32,
    pub files: Vec<RenderedFile>,
    /// Values that change although nobody typed them.
    pub derived: Vec<DerivedKey>,
    pub derived_omitted: u32,
    /// Why nothing can be compared.
    pub unrendered: Option<String>,
}

impl Effects {
    /// Whether the host has another pack than its server started with.
    pub fn is_updated(&self) -> bool {
        self.pack != self.pack_before
    }
}

/// A rendered file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RenderedFile {
    pub path: String,
    pub change: Said<FileWord>,
    /// Lines.
    pub added: u32,
    pub removed: u32,
    /// Unified, secrets masked.
    pub diff: String,
}

/// A value that changes although nobody typed another one. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DerivedKey {
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
    /// What sets it now.
    pub why: String,
}

/// A generated file that somebody changed by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Overwritten {
    pub path: String,
    /// `generated-edited` or `generated-deleted`.
    pub kind: String,
}

impl NodePlan {
    /// Whether anything changes.
    pub fn changes(&self) -> bool {
        !self.change.is(ChangeWord::None) && !self.change.as_str().is_empty()
    }

    /// Whether the server goes down for it.
    pub fn restarts(&self) -> bool {
        self.restart.known().is_some_and(RestartWord::restarts)
    }

    /// Whether no server runs yet, so that it is started and not restarted.
    pub fn starts(&self) -> bool {
        self.restarts() && self.adoption.as_deref() == Some("started")
    }
}

/// A configuration key whose value changes. Secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyChange {
    pub key: String,
    pub old: Option<String>,
    pub new: Option<String>,
    /// `file:line` of the new value.
    pub place: Option<String>,
}

/// A file that changes.
#[derive(Debug, Clone, Serialize)]
pub struct FileChange {
    pub path: String,
    pub change: Said<FileWord>,
    pub old_size: u64,
    pub new_size: u64,
    pub restart: Said<RestartWord>,
    /// One clause.
    pub restart_why: String,
    /// Unified, secrets masked; empty for binary and secret files.
    pub diff: String,
    /// What else there is to say of what lies there, one clause.
    pub note: Option<String>,
    /// Mode, owner and the like that change.
    pub settings: Vec<String>,
}
