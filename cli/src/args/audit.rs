//! What is typed about the record of who did what.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `audit`.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// The newest entries, oldest first.
    List {
        /// Which entries.
        #[command(flatten)]
        filter: AuditFilter,
        /// How many of the newest; 50.
        #[arg(long, value_name = "N")]
        last: Option<u32>,
    },
    /// Check that no entry was changed, removed or added, and that the end is the one that this machine has seen.
    Verify {
        /// A log of the coordinator, or `-`: the record is held against the signed checkpoints in it. May be repeated.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
    },
    /// All entries as lines of JSON, with the hash that covers each and all before it.
    Export {
        /// Which entries.
        #[command(flatten)]
        filter: AuditFilter,
    },
}

// No doc comment: clap would take it for the help of each command that is filtered.
#[derive(Debug, Args)]
pub struct AuditFilter {
    /// Only since then: how long ago (`2h`), or a time (`2026-11-29T08:00:00Z`).
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only until then: how long ago, or a time.
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only what this operator did or tried.
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Only this: apply, restart and so on.
    #[arg(long, value_name = "WORD")]
    pub action: Option<String>,
    /// Only of this node.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
}
