//! Servers that end, hang, restart themselves or do not want to stop.

use anyhow::Result;
use convoy_tests::standin::{Misbehaviour, Span};
use fleet::{
    bundle::RunState,
    ids::Generation,
    observed::{RefusalReason, ServiceState},
};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, Signal, System};

use crate::rig::{Rig, Wanted};

pub fn kill(pid: u32) {
    let mut system = System::new().expect("processes can be listed");
    let pid = Pid::from_u32(pid);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, ProcessRefreshKind::nothing());
    let killed = system.process(pid).and_then(|process| process.kill_with(Signal::Kill));
    assert_eq!(killed, Some(true), "the server is there to be killed");
}

#[tokio::test]
async fn a_killed_server_is_started_again_although_its_script_ends_with_0() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    let process = before.process.expect("it runs");
    kill(process.pid);
    let after = rig
        .until("another process to run", |observed| {
            observed.service == ServiceState::Running
                && observed.process.as_ref().is_some_and(|now| *now != process)
        })
        .await?;
    assert_eq!(after.starts_total, 2);
    assert_eq!(rig.alive().len(), 2, "one script and one java");
    Ok(())
}

#[tokio::test]
async fn a_server_that_ends_too_often_is_given_up_and_a_new_assignment_tries_again() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let first = rig.assign(&wanted, RunState::Running).await?;
    let process = rig.ready(first).await?.process.expect("it runs");
    rig.pack.misbehave(&Misbehaviour { die_before_pid: true, ..Misbehaviour::default() })?;
    kill(process.pid);
    rig.until("the agent to give up", |observed| matches!(observed.service, ServiceState::GaveUp { .. }))
        .await?;
    assert!(rig.alive().is_empty());
    tries_again(&mut rig, &wanted).await
}

/// The server is well again, and a new assignment brings it up.
async fn tries_again(rig: &mut Rig, wanted: &Wanted) -> Result<()> {
    rig.pack.misbehave(&Misbehaviour::default())?;
    let next = rig.assign(&wanted.with_config("\n# again\n"), RunState::Running).await?;
    rig.ready(next).await?;
    Ok(())
}

#[tokio::test]
async fn a_first_start_that_fails_leaves_the_files_that_were_there_and_a_new_assignment_tries_again()
-> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    rig.pack.misbehave(&Misbehaviour { die_before_pid: true, ..Misbehaviour::default() })?;
    let wanted = rig.wanted();
    rig.assign(&wanted, RunState::Running).await?;
    let observed = rig
        .until("the way back to be over", |observed| {
            observed.service == ServiceState::Stopped
                && observed.attempted.as_ref().is_some_and(|attempt| attempt.failure.is_some())
                && observed.written.is_some_and(|written| written.generation == Generation(0))
        })
        .await?;
    let failure = observed.attempted.and_then(|attempt| attempt.failure).expect("it failed");
    assert!(matches!(failure.reason, RefusalReason::StartFailed | RefusalReason::GaveUp), "{failure:?}");
    assert!(rig.alive().is_empty());
    tries_again(&mut rig, &wanted).await
}

#[tokio::test]
async fn a_restart_from_the_console_is_recognised() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    rig.pack.misbehave(&Misbehaviour {
        exit_121: 1,
        start_delay: Some(Span::millis(500)),
        ..Misbehaviour::default()
    })?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let observed = rig
        .until("the second java of one script", |observed| {
            observed.starts_total == 2 && observed.service == ServiceState::Running
        })
        .await?;
    assert_eq!(observed.running.map(|running| running.generation), Some(generation));
    assert_eq!(rig.alive().len(), 2, "one script and one java");
    Ok(())
}

#[tokio::test]
async fn a_server_that_ignores_term_is_killed_with_its_script() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let mut wanted = rig.wanted();
    wanted.service.stop_deadline = std::time::Duration::from_secs(1);
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    rig.pack.misbehave(&Misbehaviour { ignore_term: true, ..Misbehaviour::default() })?;
    rig.assign(&wanted, RunState::Stopped).await?;
    rig.until("the server to be stopped", |observed| observed.service == ServiceState::Stopped).await?;
    assert!(rig.alive().is_empty());
    Ok(())
}

#[tokio::test]
async fn a_start_that_never_ends_is_told_and_the_last_good_comes_back() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let mut wanted = rig.wanted();
    wanted.service.start_deadline = std::time::Duration::from_secs(4);
    let first = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(first).await?;
    let hang = Misbehaviour {
        needs_two_starts: Some(convoy_tests::standin::FirstStart::Hang),
        ..Misbehaviour::default()
    };
    rig.pack.misbehave(&hang)?;
    let second = rig.assign(&wanted.with_config("\n[hang]\nkey = 1\n"), RunState::Running).await?;
    // A server reads at its start how it misbehaves. Only the second one shall: the third begins as soon as it has failed.
    let log = rig.pack.carbon_log();
    rig.until("the second server to have begun", |_| {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.matches("Starting WSO2 Carbon...").count() >= 2
    })
    .await?;
    rig.pack.misbehave(&Misbehaviour::default())?;
    let observed = rig
        .until("the attempt to be over", |observed| {
            observed.attempted.as_ref().is_some_and(|a| a.done && a.target.generation == second)
        })
        .await?;
    let failure = observed.attempted.and_then(|attempt| attempt.failure).expect("it failed");
    assert_eq!(failure.reason, RefusalReason::StartDeadline);
    rig.until("the first generation to run again", |observed| {
        observed.running.is_some_and(|running| running.generation == first)
            && observed.service == ServiceState::Running
    })
    .await?;
    Ok(())
}
