//! What `audit` shows.

use serde::Serialize;

use super::When;

/// One line of `audit list`.
#[derive(Debug, Serialize)]
pub struct AuditEntry {
    pub seq: u64,
    pub at: When,
    pub actor: String,
    /// The serial number of the certificate; `null`: none was shown.
    pub certificate: Option<String>,
    /// The address that their connection came from; `null`: not known.
    pub from: Option<String>,
    pub action: String,
    pub node: Option<String>,
    pub text: String,
    /// `done`, `ordered`, `was-done`, `not-done`, `unknown`, `refused`, `denied`.
    pub outcome: String,
    /// The entry of the order that this answers.
    pub order: Option<u64>,
    pub why: Option<String>,
    /// SHA-256 over this entry and the link before it.
    pub link: String,
}

/// Output of `audit verify`.
#[derive(Debug, Serialize)]
pub struct Verified {
    pub entries: u64,
    pub link: String,
    /// When the last one was written.
    pub last: Option<When>,
    /// How far this machine had seen it; `null`: not at all.
    pub witnessed: Option<u64>,
    /// Checkpoints in the files of `--checkpoint` that agree, as far as the record still has what they are about.
    pub checkpoints: usize,
    /// Entries up to this one were removed for their age; 0: none were.
    pub removed: u64,
    /// How far it goes, signed now, to be kept elsewhere; `null`: the coordinator is too old.
    pub checkpoint: Option<String>,
}
