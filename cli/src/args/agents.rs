//! What is typed about agents.

use clap::Subcommand;

/// `agents`.
#[derive(Debug, Subcommand)]
pub enum Agents {
    /// All agents with their versions, and since when.
    List {
        /// Only those whose version is not the coordinator's.
        #[arg(long)]
        outdated: bool,
    },
}
