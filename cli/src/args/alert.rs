//! What is typed about alerts.

use clap::Subcommand;

/// `alert`.
#[derive(Debug, Subcommand)]
pub enum Alert {
    /// What is firing and what is hidden, one line each, and how channels do.
    List {
        /// Also what has not lasted for long enough, and what is over.
        #[arg(long)]
        all: bool,
    },
    /// Everything about the alerts of a node, or of a rule.
    Show {
        /// A node, a rule as in server-down, or a subject as `list` shows it.
        #[arg(value_name = "NODE|RULE")]
        what: String,
    },
    /// Send a message that says that nothing is wrong.
    Test {
        /// The channel, as in [alerts.channels.NAME] of the coordinator's configuration.
        channel: String,
    },
}

/// `silence`.
#[derive(Debug, Subcommand)]
pub enum Silence {
    /// Silence a node, a group or the whole fleet.
    Add {
        /// A node or a group.
        #[arg(value_name = "NODE|GROUP", required_unless_present = "fleet", conflicts_with = "fleet")]
        target: Option<String>,
        /// The whole fleet.
        #[arg(long)]
        fleet: bool,
        /// Only alerts of this rule, as in server-down.
        #[arg(long)]
        rule: Option<String>,
        /// How long; it ends by itself.
        #[arg(long = "for", value_name = "TIME")]
        lasts: String,
        /// Why, for everybody who looks.
        #[arg(long)]
        reason: String,
    },
    /// Silences that have not ended.
    List,
    /// End a silence before its time.
    Remove {
        /// Its number.
        id: u64,
    },
}
