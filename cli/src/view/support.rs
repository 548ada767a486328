//! What is in a support bundle.

use serde::Serialize;

use super::When;

/// Output of `support-bundle`.
#[derive(Debug, Serialize)]
pub struct SupportBundle<'a> {
    pub path: String,
    #[serde(flatten)]
    pub manifest: &'a Manifest,
}

/// `manifest.json` of a support bundle.
#[derive(Debug, Clone, Serialize)]
pub struct Manifest {
    pub fleet: String,
    pub made: When,
    /// Of events and audit.
    pub since: When,
    pub convoy_version: String,
    pub coordinator_version: String,
    pub parts: Vec<BundlePart>,
    pub left_out: Vec<LeftOut>,
}

/// A file of the archive.
#[derive(Debug, Clone, Serialize)]
pub struct BundlePart {
    pub path: String,
    /// In words.
    pub what: String,
    pub bytes: usize,
    /// What a reader should know about what is not in it.
    pub notes: Vec<String>,
}

/// What is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub what: String,
    pub why: String,
}

/// A file of a fleet's configuration, as it may be shown.
#[derive(Debug)]
pub struct ConfigurationFile {
    /// Below the fleet directory, or below the home of the node.
    pub path: String,
    /// What this node was assigned; `None`: of the fleet directory.
    pub node: Option<String>,
    /// The text, or why there is none.
    pub text: Result<String, String>,
}
