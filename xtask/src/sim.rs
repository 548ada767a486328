//! `cargo xtask sim`: any number of seeds of the model simulation, optimised. Exit 1 on any violation.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::cargo;

/// How much to simulate; without any, 20,000 seeds.
#[derive(Debug, Args)]
pub struct Sim {
    /// How many seeds.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// One seed, with its transcript.
    #[arg(long)]
    replay: Option<u64>,
    /// Plant a mistake (`all` for each in turn) and count the seeds that find it.
    #[arg(long)]
    bug: Option<String>,
    /// Optimise fully: slow to build, faster to run.
    #[arg(long)]
    release: bool,
}

/// Builds and runs the simulation.
pub fn run(asked: &Sim) -> Result<ExitCode> {
    let mut command = cargo::cargo();
    let profile = if asked.release { "release" } else { "sim" };
    command.args(["run", "--quiet", "--profile", profile, "-p", "convoy-simulation", "--bin", "sim"]);
    command.args(["--", "--seeds", &asked.seeds.to_string(), "--first", &asked.first.to_string()]);
    if let Some(seed) = asked.replay {
        command.args(["--replay", &seed.to_string()]);
    }
    if let Some(bug) = &asked.bug {
        command.args(["--bug", bug]);
    }
    let status = command.status().context("cannot run cargo for the simulation")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
