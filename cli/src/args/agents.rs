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
    /// Upgrade agents one after the other by a command of yours, and stop at the first that is not as it was.
    ///
    /// Groups go in the order of the newest rollout. The command runs here, by `sh -c` (`cmd /C` on Windows), once for each
    /// node, with CONVOY_NODE, CONVOY_HOST, CONVOY_GROUP and CONVOY_VERSION in its environment. A node is done when its
    /// agent is connected with the new version, its server is the same process as before, and nothing is worse than it was.
    /// Said again after a stop, it goes on with those that are left.
    Upgrade {
        /// The version that all shall have.
        #[arg(long, value_name = "VERSION")]
        to: String,
        /// What installs it on one host, for example: ssh "$CONVOY_HOST" sudo apt-get install -y
        /// convoy-agent="$CONVOY_VERSION"
        #[arg(long, value_name = "COMMAND")]
        runner: String,
        /// What proves it on the host, for example: ssh "$CONVOY_HOST" sudo convoy-agent doctor --after-upgrade
        #[arg(long, value_name = "COMMAND")]
        check: Option<String>,
        /// Only these nodes.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        node: Vec<String>,
        /// Only the nodes of these groups; with --node: these as well.
        #[arg(long, value_name = "NAME", value_delimiter = ',')]
        group: Vec<String>,
        /// For each of the two commands, and then for the agent to be back: 90s, 5m.
        #[arg(long, value_name = "TIME", default_value = "5m")]
        timeout: String,
        /// Ask nothing.
        #[arg(long)]
        yes: bool,
        /// It always waits; scripts may say so.
        #[arg(long, hide = true)]
        wait: bool,
    },
}
