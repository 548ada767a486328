//! The keystore password of a secure vault: there for a launch, and never longer.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use anyhow::Result;
use convoy_tests::{
    harness::{LIMIT, until},
    standin::{Misbehaviour, Span},
};
use fleet::{
    bundle::{DriftPolicy, RestartClass, RunState},
    observed::{RefusalReason, ServiceState},
};

use crate::{
    rig::{Rig, Wanted},
    supervision::kill,
};

const PASSWORD: &str = "pass-word-of-the-store";

/// A server that cannot start without its password, and a fleet that gives it one.
pub fn locked(rig: &Rig) -> Wanted {
    let secrets = "\n[secrets]\ndb = \"aW4gdGhlIHZhdWx0\"\n\n[custom]\npassword = \"$secret{db}\"\n";
    let mut wanted = rig.wanted().with_config(secrets);
    let file = (format!("{PASSWORD}\n"), DriftPolicy::Ignore, RestartClass::None);
    wanted.files.insert("password-tmp".to_owned(), file);
    wanted
}

/// Every file directly in the home that holds the password, whatever its name.
fn holders(rig: &Rig) -> Vec<PathBuf> {
    let entries = fs::read_dir(&rig.pack.home).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(PASSWORD))).collect()
}

pub async fn gone(rig: &Rig) -> Result<()> {
    until("the password to be gone", LIMIT, async || Ok(holders(rig).is_empty().then_some(()))).await
}

#[tokio::test]
async fn every_launch_gets_a_password_and_none_stays() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = locked(&rig);
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    gone(&rig).await?;
    // After a crash too.
    kill(before.process.expect("it runs").pid);
    rig.until("it to be up again", |observed| {
        observed.starts_total == 2 && observed.service == ServiceState::Running
    })
    .await?;
    gone(&rig).await?;
    assert!(!rig.agent.log().contains(PASSWORD), "no log holds it");
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_killed_before_the_server_has_read_it_takes_it_away_when_it_is_back() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    // It dies before it reads anything.
    rig.pack.misbehave(&Misbehaviour {
        start_delay: Some(Span(Duration::from_secs(600))),
        ..Misbehaviour::default()
    })?;
    let wanted = locked(&rig);
    rig.assign(&wanted, RunState::Running).await?;
    let starting = rig.until("java to be there", |observed| observed.process.is_some()).await?;
    let held = holders(&rig);
    for path in &held {
        assert_eq!(fs::metadata(path)?.permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    rig.agent.kill().await?;
    kill(starting.process.expect("it runs").pid);
    // Whatever the server did with the first one: this is what a crash right after the writing leaves.
    fs::write(rig.path("password-tmp"), PASSWORD)?;
    until("the server to be gone", LIMIT, async || Ok(rig.alive().is_empty().then_some(()))).await?;
    rig.pack.misbehave(&Misbehaviour::default())?;
    rig.assign(&wanted, RunState::Stopped).await?;
    rig.agent.start()?;
    gone(&rig).await
}

#[tokio::test]
async fn a_launch_that_fails_or_is_late_leaves_none() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    rig.pack.misbehave(&Misbehaviour { die_before_pid: true, ..Misbehaviour::default() })?;
    let wanted = locked(&rig);
    rig.assign(&wanted, RunState::Running).await?;
    rig.until("the start to fail", |observed| {
        observed.service == ServiceState::Stopped
            && observed.attempted.as_ref().is_some_and(|attempt| attempt.failure.is_some())
    })
    .await?;
    gone(&rig).await?;

    rig.pack.misbehave(&Misbehaviour { never_ready: true, ..Misbehaviour::default() })?;
    let mut late = wanted.with_config("\n# again\n[x]\ny = 1\n");
    late.service.start_deadline = Duration::from_secs(3);
    rig.assign(&late, RunState::Running).await?;
    rig.until("the start deadline to pass", |observed| {
        let failure = observed.attempted.as_ref().and_then(|attempt| attempt.failure.as_ref());
        failure.is_some_and(|failure| failure.reason == RefusalReason::StartDeadline)
    })
    .await?;
    gone(&rig).await
}
