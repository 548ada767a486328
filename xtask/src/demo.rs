//! `demo`: builds the programs, then hands over to `convoy-demo`, which lives beside the end-to-end tests and uses
//! the same harness.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{
    cargo::{cargo, step, target},
    packages,
};

/// What the demo is made of.
#[derive(Debug, Args)]
pub struct Demo {
    /// Where everything is put; a new temporary directory without it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Show everything once, then end: 0 if all of it worked, 1 if not.
    #[arg(long)]
    once: bool,
    /// Leave the directory behind.
    #[arg(long)]
    keep: bool,
    /// Optimised programs; the build takes longer.
    #[arg(long)]
    release: bool,
    /// The guide instead, from its first step to a token that opens an API: with a real MariaDB and a real HAProxy,
    /// which are installed by the system's package manager if this is run as root.
    #[arg(long, conflicts_with_all = ["wso2is", "wso2am"])]
    guide: bool,
    /// A real WSO2 Identity Server; it is copied, the original is not touched.
    #[arg(long, value_name = "HOME", requires = "wso2am")]
    wso2is: Option<PathBuf>,
    /// A real WSO2 API Manager; it is copied, the original is not touched.
    #[arg(long, value_name = "HOME", requires = "wso2is")]
    wso2am: Option<PathBuf>,
}

/// Builds and runs it.
pub fn run(demo: &Demo) -> Result<ExitCode> {
    if demo.guide {
        packages::OF_GUIDE.into_iter().try_for_each(packages::install)?;
    }
    let mut build = cargo();
    build.args(["build", "--locked", "--bins"]);
    for package in ["convoy-coordinator", "convoy-agent", "convoy-cli", "convoy-tests"] {
        build.args(["-p", package]);
    }
    let profile = if demo.release { "release" } else { "debug" };
    if demo.release {
        build.arg("--release");
    }
    step("build", &mut build)?;

    let program = target().join(profile).join(format!("convoy-demo{}", std::env::consts::EXE_SUFFIX));
    let mut command = std::process::Command::new(&program);
    command.args(demo.guide.then_some("--guide"));
    command.args(demo.once.then_some("--once")).args(demo.keep.then_some("--keep"));
    for (option, path) in [("--dir", &demo.dir), ("--wso2is", &demo.wso2is), ("--wso2am", &demo.wso2am)] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    let status = command.status().with_context(|| format!("cannot run {}", program.display()))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
