//! What is typed about a support bundle.

use std::path::PathBuf;

use clap::Args;

/// `support-bundle`.
#[derive(Debug, Args)]
pub struct SupportBundle {
    /// The file to write, which must not be there yet; without it `convoy-support-FLEET-TIME.zip`, here.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Events and audit since then: how long ago (`24h`), or a time (`2026-11-29T08:00:00Z`).
    #[arg(long, value_name = "WHEN", default_value = "24h")]
    pub since: String,
    /// Details, configuration and logs of these nodes, comma-separated; without it of those that do not do their work.
    #[arg(long, value_name = "NODES", value_delimiter = ',')]
    pub node: Vec<String>,
    /// And of the nodes of these groups, comma-separated.
    #[arg(long, value_name = "GROUPS", value_delimiter = ',')]
    pub group: Vec<String>,
    /// Without logs.
    #[arg(long)]
    pub no_logs: bool,
}
