//! The project's own commands: `cargo xtask test`, `check`, `demo`. They call cargo and the built programs.
//! `test` installs the programs of others that tests run against, as root with the system's package manager; everything
//! else is installed only when asked for (`windows --setup`, `macos --setup`).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people")]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

mod bench;
mod book;
mod cargo;
mod demo;
#[cfg(target_os = "linux")]
mod dist;
mod fixtures;
#[cfg(target_os = "linux")]
mod later;
#[cfg(unix)]
mod macos;
#[cfg(target_os = "linux")]
mod packages;
#[cfg(target_os = "linux")]
mod proof;
mod sim;
mod verify;
#[cfg(unix)]
mod windows;

/// Build, test and show Convoy.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", disable_help_subcommand = true)]
struct Typed {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Everything that has to hold: format, lints, then all tests.
    Test(Filter),
    /// What needs no test run: format, lints, the tidy rules, and cargo-deny where it is installed.
    Check,
    /// A coordinator and three agents on this machine: bring a fleet up, change it, repair it.
    Demo(demo::Demo),
    /// Many seeds of the model simulation.
    Sim(sim::Sim),
    /// Keep what this version stores of a half-done rollout, for later versions to be tried with.
    Fixtures,
    /// Measure a part, built for release.
    Bench(bench::Bench),
    /// The handbook in `docs/` as a site.
    Book,
    /// Packages of the programs: deb, rpm, tar.gz. Linux.
    #[cfg(target_os = "linux")]
    Dist(dist::Dist),
    /// Longer proofs than tests are: the packages on hosts with a systemd of their own. Linux, as root.
    #[cfg(target_os = "linux")]
    Proof(proof::Proof),
    /// Type-check for macOS.
    #[cfg(unix)]
    #[command(name = "macos")]
    MacOs(macos::MacOs),
    /// Build the agent for Windows and run its tests under Wine.
    #[cfg(unix)]
    Windows(windows::Windows),
    /// Run one Windows program under Wine; cargo calls this.
    #[cfg(unix)]
    #[command(hide = true)]
    WindowsRun(windows::WindowsRun),
}

/// Which tests.
#[derive(Debug, Args)]
struct Filter {
    /// Try ten times as much of what is tried at random, and on Linux run everything once more with the clock 400 days
    /// ahead.
    #[arg(long)]
    long: bool,
    /// Handed to the test runner; without any, all tests run.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

fn main() -> ExitCode {
    match run(Typed::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(typed: Typed) -> Result<ExitCode> {
    match typed.task {
        Task::Test(filter) => {
            let ended = verify::test(&filter.words, filter.long)?;
            #[cfg(target_os = "linux")]
            if filter.long {
                return verify::test_later(&filter.words);
            }
            Ok(ended)
        }
        Task::Check => verify::check(),
        Task::Demo(demo) => demo::run(&demo),
        Task::Sim(asked) => sim::run(&asked),
        Task::Fixtures => fixtures::run(),
        Task::Bench(asked) => bench::run(&asked),
        Task::Book => book::build(),
        #[cfg(target_os = "linux")]
        Task::Dist(asked) => dist::run_dist(&asked),
        #[cfg(target_os = "linux")]
        Task::Proof(asked) => proof::prove(&asked),
        #[cfg(unix)]
        Task::MacOs(asked) => macos::run(&asked),
        #[cfg(unix)]
        Task::Windows(asked) => windows::run(&asked),
        #[cfg(unix)]
        Task::WindowsRun(asked) => windows::run_program(&asked),
    }
}
