//! `node admit`.

use std::path::PathBuf;

use clap::Args;

/// `node admit`.
#[derive(Debug, Args)]
pub struct Admit {
    /// What `convoy-agent enroll --request FILE` wrote; `-` is standard input.
    pub file: PathBuf,
    /// Which node it is to be, if the request does not say.
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Also if another host has joined as this node: its certificate ends with that.
    #[arg(long)]
    pub replace: bool,
    /// Where the answer is written. Without it: to standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Do not ask. Compare the key with what the host printed first.
    #[arg(long, short)]
    pub yes: bool,
}
