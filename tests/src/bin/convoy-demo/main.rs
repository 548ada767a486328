//! The demo behind `cargo xtask demo`: takes over a server that runs already and gives it back as it was, then brings up two Identity Servers and an API Manager under a coordinator and three
//! agents, changes the fleet, damages it, and shows what happens, with figures measured from outside.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

mod first_day;
mod guide;
mod outside;
mod packs;
mod scenes;
mod talk;

/// What the demo is made of.
#[derive(Debug, Parser)]
#[command(name = "convoy-demo")]
struct Typed {
    /// Where everything is put; a new temporary directory without it.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Show everything once, then end: 0 if all of it worked, 1 if not.
    #[arg(long)]
    once: bool,
    /// Leave the directory behind.
    #[arg(long)]
    keep: bool,
    /// The guide instead, from its first step to a token that opens an API: with a real MariaDB and a real HAProxy.
    #[arg(long, conflicts_with_all = ["wso2is", "wso2am"])]
    guide: bool,
    /// A real WSO2 Identity Server; it is copied, the original is not touched.
    #[arg(long, value_name = "HOME", requires = "wso2am")]
    wso2is: Option<PathBuf>,
    /// A real WSO2 API Manager; it is copied, the original is not touched.
    #[arg(long, value_name = "HOME", requires = "wso2is")]
    wso2am: Option<PathBuf>,
}

/// Whether to end after the scenes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stay {
    UntilInterrupted,
    No,
}

#[tokio::main]
async fn main() -> ExitCode {
    let typed = Typed::parse();
    match show(typed).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nThe demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the scenes, or ends early on a signal. Either way everything started is gone when this returns: the site ends
/// it when it is dropped.
async fn show(typed: Typed) -> Result<()> {
    let temporary =
        tempfile::Builder::new().prefix("convoy-demo-").tempdir().context("no temporary directory")?;
    let directory = match &typed.dir {
        Some(dir) => {
            let is_empty = !dir.exists() || fs::read_dir(dir)?.next().is_none();
            ensure!(is_empty, "{} is not empty; name a new directory", dir.display());
            fs::create_dir_all(dir)?;
            dir.canonicalize()?
        }
        None => temporary.path().canonicalize()?,
    };
    let stay = if typed.once { Stay::No } else { Stay::UntilInterrupted };
    let packs = match (&typed.wso2is, &typed.wso2am) {
        (Some(is), Some(am)) => packs::Source::Real { is: is.clone(), am: am.clone() },
        _ => packs::Source::StandIns,
    };
    let playing = async {
        if typed.guide {
            guide::play(&directory, stay).await
        } else {
            scenes::play(&directory, &packs, stay).await
        }
    };
    let outcome = tokio::select! {
        outcome = playing => outcome,
        name = interrupted() => {
            println!("\n{}: stopping everything.", name?);
            match stay {
                Stay::UntilInterrupted => Ok(()),
                Stay::No => Err(anyhow::anyhow!("interrupted before everything was shown")),
            }
        }
    };
    finish(typed.keep, typed.dir.is_some(), temporary, &directory);
    outcome
}

async fn interrupted() -> Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended.map(|()| "Ctrl-C").context("cannot wait for Ctrl-C"),
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = hangup.recv() => Ok("SIGHUP"),
    }
}

fn finish(keep: bool, is_given: bool, temporary: tempfile::TempDir, directory: &Path) {
    if keep && !is_given {
        drop(temporary.keep());
    }
    if keep || is_given {
        println!("Everything is left in {}; nothing runs any more.", directory.display());
    } else {
        println!("Nothing runs any more, and nothing is left behind.");
    }
}
