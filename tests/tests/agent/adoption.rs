//! The agent goes, the server stays; the agent comes back and takes it over.

use std::fs;

use anyhow::Result;
use convoy_tests::harness::{ByHand, LIMIT};
use fleet::{bundle::RunState, observed::ServiceState};

use crate::{
    rig::{CONFIG, Rig},
    supervision::kill,
};

#[tokio::test]
async fn a_killed_agent_leaves_the_server_and_adopts_it_again() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    rig.agent.kill().await?;
    assert_eq!(rig.alive().len(), 2, "script and java live on");
    let desired = rig.read(CONFIG);
    fs::write(rig.path(CONFIG), format!("{desired}\n[while]\naway = true\n"))?;
    rig.agent.start()?;
    let after = rig
        .until("the server to be adopted and the edit undone", |observed| {
            observed.service == ServiceState::Running
                && observed.drift.iter().any(|drift| drift.restored_after.is_some())
        })
        .await?;
    assert_eq!(after.process, before.process);
    assert_eq!(after.starts_total, 1);
    assert_eq!(after.running, before.running);
    assert_eq!(rig.read(CONFIG), desired);

    // An adopted server is watched like any other.
    kill(after.process.expect("it runs").pid);
    rig.until("it to be started again", |observed| {
        observed.starts_total == 2 && observed.service == ServiceState::Running
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn an_agent_without_coordinator_keeps_enforcing_after_its_own_restart() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let process = rig.ready(generation).await?.process.expect("it runs");
    rig.agent.kill().await?;
    rig.close_coordinator();
    kill(process.pid);
    let desired = rig.read(CONFIG);
    fs::write(rig.path(CONFIG), "[broken")?;
    rig.agent.start()?;
    convoy_tests::harness::until("file and server to be back", convoy_tests::harness::LIMIT, async || {
        Ok((rig.read(CONFIG) == desired && rig.alive().len() == 2).then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_somebody_else_started_is_adopted_and_never_doubled() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let _child = start_by_hand(&rig).await?;
    // The same configuration as it runs with: nothing to restart for.
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let observed = rig.ready(generation).await?;
    assert_eq!(observed.starts_total, 0, "it was not started by the agent");
    assert!(observed.attempted.is_some_and(|attempt| attempt.kept_server), "and the node says so");
    assert_eq!(rig.alive().len(), 2);
    // Another configuration: stopped and started, still one.
    let next = rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Running).await?;
    let observed = rig.ready(next).await?;
    assert_eq!(observed.starts_total, 1);
    assert_eq!(rig.alive().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_server_that_runs_with_less_than_its_deployment_toml_says_is_restarted_by_the_first_apply()
-> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let _child = start_by_hand(&rig).await?;
    // Edited while it runs; the assignment then says the same as the disk, but not the same as the server read.
    let wanted = rig.wanted().with_config("\n[x]\ny = 1\n");
    fs::write(rig.path(CONFIG), &wanted.files[CONFIG].0)?;
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let observed = rig.ready(generation).await?;
    assert_eq!(observed.starts_total, 1);
    assert!(observed.attempted.is_some_and(|attempt| !attempt.kept_server));
    assert_eq!(rig.alive().len(), 2);
    Ok(())
}

/// The pack's own script, as an administrator starts it.
pub async fn start_by_hand(rig: &Rig) -> Result<tokio::process::Child> {
    ByHand::of(&rig.pack).start(LIMIT).await
}
