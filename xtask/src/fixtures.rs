//! `cargo xtask fixtures`: keeps what this version stores of a half-done rollout, for later versions to be tried with.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::cargo;

/// Writes `tests/fixtures/state-MAJOR.MINOR`, unless it is there.
pub fn run() -> Result<ExitCode> {
    let mut command = cargo::cargo();
    command.args(["test", "-p", "convoy-tests", "--test", "network", "--", "what_this_version_writes"]);
    let status = command.arg("--nocapture").env("CONVOY_WRITE_FIXTURES", "1").status();
    let status = status.context("cannot run cargo for the test that writes it")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
