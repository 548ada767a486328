//! What is typed about logs.

use clap::Args;

/// `logs`.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "as they are typed; at most one of the four logs")]
pub struct Logs {
    /// The node.
    pub node: String,
    /// What the server printed, as its agent caught it.
    #[arg(long, conflicts_with_all = ["carbon", "audit", "agent"])]
    pub console: bool,
    /// The server's log, repository/logs/wso2carbon.log; this one if none is named.
    #[arg(long, conflicts_with_all = ["audit", "agent"])]
    pub carbon: bool,
    /// Who did what on the server, repository/logs/audit.log.
    #[arg(long, conflicts_with = "agent")]
    pub audit: bool,
    /// What the agent logged since it began.
    #[arg(long)]
    pub agent: bool,
    /// Stay and print what is written, until Ctrl-C.
    #[arg(long, short)]
    pub follow: bool,
    /// Only since then, in rotated files too: how long ago (`2h`), or a time (`2026-11-29T08:00:00Z`).
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only lines that hold this text, as they are shown.
    #[arg(long, value_name = "TEXT")]
    pub grep: Option<String>,
    /// How many of the newest lines to look at; 200, with --grep 2000, with --since all.
    #[arg(long, value_name = "N")]
    pub last: Option<u32>,
}
