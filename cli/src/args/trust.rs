//! `convoy trust`, as typed.

use std::path::PathBuf;

use clap::Args;

/// `trust`.
#[derive(Debug, Args)]
pub struct Trust {
    /// The directory with fleet.toml.
    pub dir: PathBuf,
    /// Make the truststore of each node below this directory, as NODE/FILE; DIR/files is where the fleet has its files.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// The truststore that came with the product, for nodes whose own is not in the fleet; its password is the product's.
    #[arg(long, value_name = "FILE", requires = "out")]
    pub base: Option<PathBuf>,
    /// A PEM file with certificates that every store gets: a key that is to come, who vouches for a load balancer. May be
    /// repeated.
    #[arg(long, value_name = "FILE", requires = "out")]
    pub add: Vec<PathBuf>,
    /// The values of secrets, for passwords of keystores.
    #[arg(long, value_name = "FILE", requires = "out")]
    pub secrets_file: Option<PathBuf>,
}
