//! `cargo xtask bench agent`: what the agent costs and how fast it is, with a release build. About seven minutes after
//! the build; quiet machines give the figures that count. `cargo xtask bench rollout`: how long a rollout takes in
//! simulated time, against what the servers' starts alone take. `cargo xtask bench fleet`: what many simulated agents cost
//! a release build of the coordinator. `cargo xtask bench saves`: reports that are stored at once, against one after the
//! other.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};

use crate::cargo::{cargo, step, target};

/// What to measure.
#[derive(Debug, Args)]
pub struct Bench {
    #[command(subcommand)]
    part: Part,
}

#[derive(Debug, Subcommand)]
enum Part {
    /// Edits noticed and undone, memory and CPU while idle and beside many connections, scans.
    Agent,
    /// The pace of a rollout over 200 simulated nodes.
    Rollout,
    /// How many reports a second are stored: one session alone, and 64 at once.
    Saves,
    /// Memory and CPU of a coordinator with many simulated agents: idle, applies, looks, viewers of the status. Linux only.
    Fleet {
        /// How many agents.
        #[arg(long, default_value_t = 1_000)]
        agents: usize,
        /// How many applies.
        #[arg(long, default_value_t = 10)]
        applies: usize,
        /// Another build of the coordinator, to compare it with this one.
        #[arg(long, value_name = "PROGRAM")]
        coordinator: Option<PathBuf>,
    },
}

/// Builds and measures.
pub fn run(asked: &Bench) -> Result<ExitCode> {
    match &asked.part {
        Part::Agent => agent(),
        Part::Rollout => rollout(),
        Part::Saves => saves(),
        Part::Fleet { agents, applies, coordinator } => fleet(*agents, *applies, coordinator.as_deref()),
    }
}

fn fleet(agents: usize, applies: usize, coordinator: Option<&Path>) -> Result<ExitCode> {
    let mut measure = cargo();
    // With the allocator of packages: what users run is measured.
    measure.args([
        "bench",
        "--locked",
        "-p",
        "convoy-coordinator",
        "--features",
        "jemalloc",
        "--bench",
        "fleet",
        "--",
    ]);
    measure.args(["--agents", &agents.to_string(), "--applies", &applies.to_string()]);
    if let Some(program) = coordinator {
        let program = std::path::absolute(program).context("where the other build is")?;
        measure.arg("--coordinator").arg(program);
    }
    step("measure", &mut measure)?;
    Ok(ExitCode::SUCCESS)
}

fn saves() -> Result<ExitCode> {
    step("measure", cargo().args(["bench", "--locked", "-p", "convoy-coordinator", "--bench", "saves"]))?;
    Ok(ExitCode::SUCCESS)
}

fn rollout() -> Result<ExitCode> {
    step(
        "rollout",
        cargo().args([
            "run",
            "--quiet",
            "--locked",
            "--profile",
            "sim",
            "-p",
            "convoy-simulation",
            "--bin",
            "pace",
        ]),
    )?;
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
