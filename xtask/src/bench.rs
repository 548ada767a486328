//! `cargo xtask bench agent`: what the agent costs and how fast it is, with a release build. About seven minutes after
//! the build; quiet machines give the figures that count. `cargo xtask bench rollout`: how long a rollout takes in
//! simulated time, against what the servers' starts alone take.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use crate::cargo::{cargo, step, target};

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    part: Part,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    /// Edits noticed and undone, memory and CPU while idle and beside many connections, scans.
    Agent,
    /// The pace of a rollout over 200 simulated nodes.
    Rollout,
}

/// Builds and measures.
pub fn run(asked: &Bench) -> Result<ExitCode> {
    match asked.part {
        Part::Agent => agent(),
        Part::Rollout => rollout(),
    }
}

fn rollout() -> Result<ExitCode> {
    step("rollout", cargo().args(["run", "--quiet", "--locked", "-p", "convoy-tests", "--bin", "bench"]))?;
    Ok(ExitCode::SUCCESS)
}

fn agent() -> Result<ExitCode> {
    step("release build", cargo().args(["build", "--release", "--locked", "-p", "convoy-agent"]))?;
    let program = std::path::absolute(target().join("release/convoy-agent")).context("where it was built")?;
    let mut measure = cargo();
    measure.env("CONVOY_BENCH_AGENT", program);
    measure.args([
        "test",
        "--workspace",
        "--locked",
        "--test",
        "agent",
        "--",
        "--nocapture",
        "--test-threads=1",
        "bench::",
    ]);
    step("measure", &mut measure)?;
    step("scan", cargo().args(["bench", "--locked", "-p", "convoy-agent", "--bench", "scan"]))?;
    Ok(ExitCode::SUCCESS)
}
