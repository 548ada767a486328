//! What is typed about revisions.

use clap::Subcommand;

/// `revision`.
#[derive(Debug, Subcommand)]
pub enum Revision {
    /// The newest revisions, one line each, with the commits that they came from.
    List {
        /// How many.
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: u32,
    },
    /// Who made a revision, from which commit, why, and what it changed.
    Show {
        /// Its number.
        revision: u64,
    },
}
