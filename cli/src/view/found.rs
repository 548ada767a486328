//! What lies on a host, as `node show` shows it.

use serde::Serialize;

use super::When;

/// What lies on a node's host, whatever was assigned to it.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// When the coordinator heard of it.
    pub received: When,
    /// Why `host` is of an earlier look, or absent; `null`: it is the host as it is now.
    pub not_now: Option<String>,
    /// `null`: the host was never looked at.
    pub host: Option<FoundHost>,
}

/// A host as its agent sees it.
#[derive(Debug, Clone, Serialize)]
pub struct FoundHost {
    pub home: String,
    pub product: Option<FoundProduct>,
    /// `null`: deployment.toml cannot be read.
    pub offset: Option<u32>,
    /// `running`, `stopped` or `unknown`.
    pub server: String,
    pub server_since: Option<When>,
    /// deployment.toml was changed after the server had started, so the server runs with an earlier one.
    pub config_unread: bool,
    /// A server has run from this home before.
    pub started: bool,
    pub keystores: Vec<String>,
    pub files: Vec<FoundFile>,
}

/// A product as its home names it.
#[derive(Debug, Clone, Serialize)]
pub struct FoundProduct {
    /// `null`: the catalogue has no such product.
    pub id: Option<String>,
    pub name: String,
    pub version: String,
}

/// What lies at a path.
#[derive(Debug, Clone, Serialize)]
pub struct FoundFile {
    pub path: String,
    /// `file`, `absent`, `unreadable`, or what else it is.
    pub kind: String,
    pub size: u64,
    /// Permission bits, octal.
    pub mode: String,
    pub owner: String,
    pub group: String,
    pub modified: Option<When>,
    /// Why it cannot be read.
    pub why: Option<String>,
}
