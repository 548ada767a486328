//! The fleet directory as people type it, to the complete desired content of every node.
//!
//! Owns the format (docs/fleet-format.md is its reference): layers, expressions, product profiles, extra files.
//! Called by the coordinator for `plan` and `apply` and by the CLI for `lint`. Reads no file: the directory comes as a
//! map. Reports everything that is wrong at once, each with its place and remedy (docs/findings.md).

mod alerts_text;
mod approval_text;
mod balancer_nodes;
mod balancer_template;
mod balancers_text;
mod call_text;
pub mod canonical;
mod check;
mod compose;
mod config;
mod databases_text;
mod drift_text;
mod expression;
mod files;
mod gate_text;
mod key_manager_text;
mod manifest;
mod merge;
mod origins;
pub(crate) mod reader;
pub(crate) mod report;
mod rollout_check;
mod rollout_text;
mod secret;
mod service;
mod signature_text;
pub(crate) mod tree;
mod vault;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    approval::ApprovalRules,
    balancer::Balancer,
    bundle::Bundle,
    call::Check,
    finding::Finding,
    ids::{Digest, FleetName, GroupName, NodeName, ZoneName},
    rollout::{FleetPolicy, Gate, RolloutPolicy, order},
    signature::SignatureRules,
};

pub use alerts_text::FleetAlerts;
pub use compose::{compose, compose_with};
pub use databases_text::DatabaseServer;
pub use manifest::OFFSET_MAX;
pub use origins::Origins;
pub use report::{FINDINGS_MAX, meant_field, suggest, suggest_product};
pub use secret::{Absent, SECRET_NAME_MAX, SECRET_SIZE_MAX, Secret, SecretName, SecretNameError, Secrets};

/// A fleet directory holds at most this many files.
pub const SOURCES_MAX: usize = 5_000;
/// All files of a fleet directory together, bytes.
pub const SOURCES_SIZE_MAX: usize = 256 * 1024 * 1024;
/// A TOML file of a fleet directory is at most this large, bytes.
pub const TOML_SIZE_MAX: usize = 1024 * 1024;

/// A fleet directory: content by path relative to it, '/' between parts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sources(pub BTreeMap<String, Vec<u8>>);

/// Names only: contents hold secrets.
impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Sources {
    /// Whether a path of a fleet directory matters to composition. A directory in Git holds more (README, CI files,
    /// `.git`); the CLI reads and sends only these.
    pub fn wants(path: &str) -> bool {
        let below = |directory: &str| path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'));
        path == "fleet.toml"
            || path == "overrides.toml"
            || below("files")
            || below("balancers")
            || ((below("config") || below("products")) && path.ends_with(".toml"))
    }
}

/// What came of a fleet directory.
#[derive(Debug, Clone)]
pub struct Composition {
    /// The fleet; `None` while any finding is an error.
    pub fleet: Option<Fleet>,
    /// Everything wrong or doubtful, errors first.
    pub findings: Vec<Finding>,
}

/// A composed fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    /// Of fleet.toml.
    pub name: FleetName,
    /// `default_credentials`.
    pub default_credentials: DefaultCredentials,
    /// `[databases]`.
    pub databases: Vec<DatabaseServer>,
    /// `[balancers]`, by name.
    pub balancers: BTreeMap<String, Balancer>,
    /// `[rollout]`.
    pub rollout: FleetPolicy,
    /// `[approval]` and `[groups.NAME.approval]`.
    pub approval: ApprovalRules,
    /// `[alerts]`.
    pub alerts: FleetAlerts,
    /// `[signatures]`.
    pub signatures: SignatureRules,
    /// By name.
    pub groups: BTreeMap<GroupName, Group>,
    /// Why groups come after others where `after` is not typed.
    pub order_reasons: Vec<order::Reason>,
    /// By name.
    pub nodes: BTreeMap<NodeName, ComposedNode>,
}

/// What is said of credentials that every copy of a product ships with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultCredentials {
    /// They are findings.
    #[default]
    Told,
    /// The fleet is for tests.
    Accepted,
}

/// Nodes that do the same job.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// Catalogue id.
    pub product: String,
    /// Groups that must be done before this one begins: as typed in `after`, or else derived.
    pub after: BTreeSet<GroupName>,
    /// `[groups.NAME.rollout]`.
    pub rollout: RolloutPolicy,
    /// `[[groups.NAME.rollout.gates]]`, as the planner knows them.
    pub gates: Vec<Gate>,
    /// Its nodes, sorted.
    pub nodes: Vec<NodeName>,
}

/// Everything that one node should have.
#[derive(Debug, Clone, PartialEq)]
pub struct ComposedNode {
    /// Its group.
    pub group: GroupName,
    /// As other nodes reach it.
    pub host: String,
    /// What it shares its fate with, such as a data centre.
    pub zone: Option<ZoneName>,
    /// Manifest and service settings.
    pub bundle: Bundle,
    /// What it is asked after a wave; secrets stand in it by name.
    pub gates: Vec<Check>,
    /// The content behind every digest of the bundle.
    pub contents: BTreeMap<Digest, Arc<[u8]>>,
    /// The composed deployment.toml; nodes without one have an empty text.
    pub config_text: Arc<str>,
    /// Where each of its keys was typed. Keys that composition itself set (`server.offset`) point at what set them.
    pub origins: Origins,
    /// Keys whose value holds one of `secret()`, written as in `origins`: what stands there in clear was not typed.
    pub secret_keys: BTreeSet<String>,
    /// The secrets that it uses: in its files, and in calls around a stop or after a wave.
    pub secrets: BTreeSet<SecretName>,
}

#[cfg(test)]
mod tests;
