//! The long form's second run of all tests: on a day far ahead. A test that depends on the day it was written on fails
//! there long before it fails for whoever checks the project out later.

use std::{env::consts::ARCH, process::Command};

use anyhow::{Context as _, Result};

use crate::packages::{self, Needed};

/// How far ahead: past every certificate and token of a year's life.
const AHEAD: &str = "+400d";
/// Starts a program under another clock.
const FAKETIME: Needed = Needed { program: "faketime", version: "--version", package: "faketime" };

/// Makes `runner` start every test program 400 days ahead. Build before: compilers stand still under another clock.
///
/// Only the time of day is moved. Monotonic clocks stay, because runtimes wait by them.
pub fn move_ahead(runner: &mut Command) -> Result<()> {
    packages::install(FAKETIME).context("the long form runs all tests under another clock")?;
    let target = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", ARCH.to_uppercase());
    let faketime = FAKETIME.program;
    runner.env(target, format!("{faketime} -f {AHEAD}")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    // Files keep the time that the kernel gave them; a program compares them with its own clock.
    runner.env("NO_FAKE_STAT", "1");
    Ok(())
}
