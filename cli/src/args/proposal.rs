//! What is typed about changes that wait for approval.

use clap::{Args, Subcommand};

/// `proposal`.
#[derive(Debug, Subcommand)]
pub enum Proposal {
    /// Changes that wait for approval, one line each, newest first.
    List {
        /// Also those that were approved, rejected or not decided in time.
        #[arg(long)]
        all: bool,
    },
    /// One of them, and what it would change.
    Show {
        /// Its number.
        proposal: u64,
        /// Also show the files that change, line by line.
        #[arg(long)]
        diff: bool,
    },
}

/// `approve`.
#[derive(Debug, Args)]
pub struct Approve {
    /// The number of the proposal, as `convoy proposal list` shows it.
    pub proposal: u64,
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Also show the files that change, line by line.
    #[arg(long)]
    pub diff: bool,
    /// Stay until the rollout has ended, showing its progress.
    #[arg(long, short)]
    pub wait: bool,
    /// With --wait: stop waiting after this long; the rollout goes on.
    #[arg(long, value_name = "DURATION", requires = "wait")]
    pub timeout: Option<String>,
}

/// `reject`.
#[derive(Debug, Args)]
pub struct Reject {
    /// The number of the proposal.
    pub proposal: u64,
    /// Why, for its author.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}
