//! A daemon with a defect: a panic where it cannot go on ends it at once and loudly, and says nothing of what was being
//! worked on; the next one goes on from there.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, process::ExitStatus};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{Daemon, Site};

use crate::small::{Small, ensure_holds};

const CANARY: &str = "C4NARY-of-a-panic";

/// The daemon with its defect (`tests/src/bin/convoy-panicking.rs`), as a program that takes the same arguments.
fn panicking(site: &Site, daemon: &str) -> Result<PathBuf> {
    let program = site.programs().standin.with_file_name("convoy-panicking");
    let script = site.path(&format!("panicking-{daemon}"));
    fs::write(&script, format!("#!/bin/sh\nexec {program:?} {daemon} \"$@\"\n"))?;
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
    Ok(script)
}

async fn ended(daemon: Option<&mut Daemon>) -> Result<(ExitStatus, String)> {
    let daemon = daemon.context("it was started")?;
    Ok((daemon.wait().await?, daemon.output()))
}

fn ensure_loud(status: ExitStatus, log: &str, what: &str) -> Result<()> {
    ensure!(status.code() == Some(1), "it ended with {status}:\n{log}");
    let words = ["a defect of Convoy: panicked at", "convoy-panicking.rs", "a planted defect in", "ERROR"];
    ensure_holds(log, &words)?;
    ensure_holds(log, &[&format!("A task has ended that the {what} cannot go on without")])?;
    ensure!(!log.contains(CANARY), "the log shows what was being worked on:\n{log}");
    Ok(())
}

async fn rollout_is_done(small: &Small) -> Result<()> {
    let shown = small.site.operator().run(["rollout", "show", "--wait", "--timeout", "3m"]).await?;
    ensure!(shown.code == 0, "{}{}", shown.out, shown.said);
    Ok(())
}

#[tokio::test]
async fn a_panic_in_the_coordinator_ends_it_and_the_next_one_goes_on() -> Result<()> {
    let mut small = Small::open().await?;
    let (program, real) = (panicking(&small.site, "coordinator")?, small.site.programs().coordinator.clone());
    let operator = small.site.operator();
    let coordinator = &mut small.site.coordinator;
    coordinator.kill().await?;
    coordinator.set_program(&program);
    coordinator.restart().await?;
    // Its answer may get lost with the process.
    let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--reason".as_ref(), CANARY.as_ref()];
    operator.run(words).await?;
    let (status, log) = ended(coordinator.daemon.as_mut()).await?;
    ensure_loud(status, &log, "coordinator")?;

    coordinator.set_program(&real);
    coordinator.restart().await?;
    rollout_is_done(&small).await?;
    let events = operator.done(["events", "--last", "50"]).await?;
    ensure_holds(&events, &[CANARY])
}

#[tokio::test]
async fn a_panic_in_an_agent_ends_it_and_the_next_one_goes_on() -> Result<()> {
    let mut small = Small::open().await?;
    let (program, real) = (panicking(&small.site, "agent")?, small.site.programs().agent.clone());
    let fleet = small.fleet.read("fleet.toml")?;
    let env = format!("\n[groups.key-manager.env]\nGREETING = \"{CANARY}\"\n");
    small.fleet.write("fleet.toml", fleet + &env)?;
    let agent = small.site.agent_of("is-1");
    agent.kill().await?;
    agent.set_program(&program);
    agent.start()?;
    let operator = small.site.operator();
    operator.done(["apply".as_ref(), small.fleet.arg(), "--yes".as_ref()]).await?;
    let agent = small.site.agent_of("is-1");
    let (status, log) = ended(agent.daemon.as_mut()).await?;
    ensure_loud(status, &log, "agent")?;

    agent.set_program(&real);
    agent.start()?;
    rollout_is_done(&small).await
}
