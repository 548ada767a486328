//! Traps of a server's life (docs/traps.md) that only the real agent with real processes can be caught in.

use std::{cell::RefCell, collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::standin::{Misbehaviour, Span};
use fleet::{bundle::RunState, observed::ServiceState};

use crate::{rig::Rig, supervision::kill};

#[tokio::test]
async fn killing_only_the_script_neither_stops_nor_doubles_the_server() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let java = rig.ready(generation).await?.process.context("it runs")?;
    let script: Vec<u32> = rig.alive().into_iter().filter(|pid| *pid != java.pid).collect();
    ensure!(script.len() == 1, "one script: {script:?}");
    kill(script[0]);
    // The next assignment finds the same java, orphaned, and stops it before it starts another.
    let next = rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Running).await?;
    let after = rig.ready(next).await?;
    ensure!(after.starts_total == 2, "started {} times", after.starts_total);
    ensure!(after.process.as_ref() != Some(&java), "the orphan still runs");
    ensure!(!rig.alive().contains(&java.pid), "the orphan is left behind");
    ensure!(rig.alive().len() == 2, "one script and one java: {:?}", rig.alive());
    Ok(())
}

#[tokio::test]
async fn a_slow_stop_is_waited_for_and_never_overlaps_with_the_next_start() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    rig.pack.misbehave(&Misbehaviour { stop_delay: Some(Span::millis(3_000)), ..Misbehaviour::default() })?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?.process.context("it runs")?;
    let next = rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Running).await?;
    // Its ports close first; whoever looks at ports would start the next one now.
    rig.until("the server to be stopping", |observed| observed.service == ServiceState::Stopping).await?;
    let together = RefCell::new(BTreeSet::new());
    let next_one = rig.until("the next one to be there", |observed| {
        together.borrow_mut().insert(servers(&rig).len());
        observed.starts_total == 2 && observed.process.is_some()
    });
    let after = next_one.await?;
    ensure!(after.process.as_ref() != Some(&before), "another process");
    let together = together.into_inner();
    ensure!(together.iter().all(|count| *count <= 1), "two servers of one home at once: {together:?}");
    rig.ready(next).await?;
    Ok(())
}

/// All live servers of the home, found as the agent finds them.
fn servers(rig: &Rig) -> Vec<agent::process::Server> {
    agent::process::servers(&rig.pack.home.display().to_string())
}

#[tokio::test]
async fn the_agents_environment_does_not_reach_the_server() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    rig.agent.kill().await?;
    let leaks = [
        ("CONVOY_TEST_SECRET", "leaked-value"),
        ("JAVA_OPTS", "-Dleaked=1"),
        ("CARBON_HOME", "/nowhere"),
        ("LD_LIBRARY_PATH", "/nowhere"),
    ];
    rig.agent.start_with(&leaks)?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let java = rig.ready(generation).await?.process.context("it runs")?;
    for pid in rig.alive() {
        let text = String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/environ"))?).into_owned();
        ensure!(!text.contains("leaked"), "process {pid} (java is {}) has {text:?}", java.pid);
        ensure!(!text.contains("/nowhere"), "process {pid} (java is {}) has {text:?}", java.pid);
    }
    Ok(())
}

#[tokio::test]
async fn an_upgraded_agent_takes_over_the_state_and_the_server() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    // Another file of the same program, as a package manager puts it in place while the old one runs.
    rig.agent.replace_program()?;
    let mut old = rig.agent.daemon.take().context("it runs")?;
    old.terminate().await?;
    ensure!(rig.alive().len() == 2, "script and java live on");
    rig.agent.start()?;
    let after = rig
        .until("the server to be adopted", |observed| {
            observed.service == ServiceState::Running && observed.process == before.process
        })
        .await?;
    ensure!(after.starts_total == 1, "started {} times", after.starts_total);
    // It is watched like any other, and its next start has the arguments of the bundle again.
    let next = rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Running).await?;
    let restarted = rig.ready(next).await?;
    ensure!(restarted.starts_total == 2, "started {} times", restarted.starts_total);
    Ok(())
}

#[tokio::test]
async fn a_server_whose_start_never_ends_is_stopped_only_for_other_files() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    rig.pack.misbehave(&Misbehaviour { never_ready: true, ..Misbehaviour::default() })?;
    let mut wanted = rig.wanted();
    wanted.service.start_deadline = Duration::from_secs(2);
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let observed = rig
        .until("the attempt to be over", |observed| {
            observed.attempted.as_ref().is_some_and(|it| it.done && it.target.generation == generation)
        })
        .await?;
    // There is nothing good to go back to: it is left alone, since whatever it waits for may come.
    ensure!(observed.process.is_some() && rig.alive().len() == 2, "{observed:#?}");
    rig.pack.misbehave(&Misbehaviour::default())?;
    let next = rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Running).await?;
    let after = rig.ready(next).await?;
    ensure!(after.starts_total == 2 && rig.alive().len() == 2, "{after:#?}");
    Ok(())
}
