//! What people and units type after `convoy-coordinator`, exactly as they type it. The program is in `main.rs`; tests read
//! the documentation with these definitions.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use fleet::ids::{FleetEpoch, FleetName};

/// Keeps the desired state of a fleet of WSO2 servers and tells it to their agents.
#[derive(Parser)]
#[command(name = "convoy-coordinator", version)]
pub struct Arguments {
    /// The configuration file; docs/coordinator.md explains every key.
    #[arg(long, value_name = "FILE", default_value = "/etc/convoy/coordinator.toml")]
    pub config: PathBuf,
    /// Check the configuration and exit: 0 if it is usable, 64 if not.
    #[arg(long)]
    pub check_config: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do, if not to run.
#[derive(Subcommand)]
pub enum Command {
    /// Set this host up: write the configuration, start the unit, wait until the coordinator answers. What is right already
    /// is kept; a second run repairs, or does nothing.
    Setup(Setup),
    /// Go on after a loss, with the coordinator stopped; docs/coordinator.md has the steps.
    Recover {
        /// What was lost.
        #[command(subcommand)]
        loss: Loss,
    },
    /// Write the manual page into a directory.
    #[command(hide = true)]
    Man {
        /// It is made if it is not there.
        #[arg(long, default_value = "man")]
        out: PathBuf,
    },
    /// Print a completion script for a shell.
    #[command(hide = true)]
    Completions {
        /// Which.
        shell: clap_complete::Shell,
    },
}

/// How to set a host up.
#[derive(Args)]
pub struct Setup {
    /// The fleet that it keeps, as fleet.toml names it. It cannot be changed later.
    #[arg(long, value_name = "NAME", value_parser = fleet_name)]
    pub fleet: Option<FleetName>,
    /// A DNS name or address under which agents and operators reach it; may be repeated. Without it: this host's own name.
    #[arg(long, value_name = "NAME")]
    pub name: Vec<String>,
    /// Where to listen, in a configuration that is written; 0.0.0.0:7843 if nothing is said.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where it keeps its state, in a configuration that is written; the unit needs the default.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/convoy-coordinator")]
    pub data_dir: PathBuf,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// One JSON object instead of lines.
    #[arg(long)]
    pub json: bool,
    /// Where the files of the host begin.
    #[arg(long, hide = true, default_value = "/")]
    pub root: PathBuf,
}

/// What was lost.
#[derive(Subcommand)]
pub enum Loss {
    /// The store is lost and there is no copy: make an empty one that the agents obey.
    NewStore {
        /// Epoch that the agents obey, 32 hexadecimal digits; without it the one in witness.toml.
        #[arg(long, value_parser = epoch)]
        epoch: Option<FleetEpoch>,
    },
    /// The authority's key is lost and there is no copy: make another one, and void every certificate and token.
    NewAuthority,
    /// The key of content and secrets is lost and there is no copy: go on without them.
    NewKey,
    /// The store was restored from an older copy: accept it, void unused tokens, keep revocations.
    RestoredStore,
}

fn fleet_name(text: &str) -> Result<FleetName, String> {
    FleetName::parse(text).map_err(|error| error.to_string())
}

fn epoch(text: &str) -> Result<FleetEpoch, &'static str> {
    FleetEpoch::from_hex(text).ok_or("an epoch has 32 hexadecimal digits")
}
