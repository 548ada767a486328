//! A difference between desired and disk, and who made it.

use serde::Serialize;

use super::When;

/// One process that wrote a file.
#[derive(Debug, Clone, Serialize)]
pub struct Editor {
    /// All of it, as one clause.
    pub text: String,
    /// `null`: it cannot be seen from the agent.
    pub pid: Option<u32>,
    /// Name of the program; `null`: it had ended before it could be looked at.
    pub process: Option<String>,
    /// With whose rights it wrote.
    pub user: Option<String>,
    /// Who had logged in; `null`: nobody.
    pub login: Option<String>,
    pub parent: Option<String>,
    pub terminal: Option<String>,
    /// Address that the session came from.
    pub remote: Option<String>,
    /// It is the WSO2 server of the home.
    pub is_server: bool,
    /// Where nobody could be seen writing: who owned the file as it was found. It names nobody who wrote.
    pub owner: Option<String>,
    /// Where nobody could be seen writing: the terminals that were open then.
    pub terminals: Option<Vec<String>>,
    /// Login or user, and the program.
    #[serde(skip)]
    pub short: String,
}

/// One difference between desired and disk.
#[derive(Debug, Clone, Serialize)]
pub struct DriftEntry {
    pub path: String,
    /// `edited`, `deleted`, `mode`, `owner`, `product-owned`, `generated-edited` or `generated-deleted`.
    pub kind: String,
    /// `restored`, `reported`, `paused` or `tug-of-war`.
    pub action: String,
    /// deployment.toml keys that differ; never values.
    pub keys: Vec<String>,
    pub at: When,
    /// From noticed to durable, milliseconds; `null` unless restored.
    pub restored_after_ms: Option<f64>,
    pub detail: String,
    /// Who wrote it since it was last as desired, newest first; empty: not known.
    pub editors: Vec<Editor>,
}
