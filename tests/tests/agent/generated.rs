//! Files that the server generates: judged by its own record, and back before a start that would fail without them.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::Result;
use fleet::{
    bundle::{HomePath, RunState},
    node::Command,
    observed::{ConcernKind, Drift, DriftAction, DriftKind, Observed, ServiceState},
};

use crate::{
    rig::{Rig, node},
    supervision::kill,
};

const XML: &str = "repository/conf/carbon.xml";
const RECORD: &str = "repository/resources/conf/.metadata/metadata_config.properties";
const REFERENCES: &str = "repository/resources/conf/.metadata/references.properties";

fn generated(observed: &Observed) -> Option<&Drift> {
    observed.drift.iter().find(|drift| drift.path.as_str() == XML)
}

/// A full scan is due every ten minutes, and whenever an operator resumes enforcement.
async fn scan(rig: &Rig) -> Result<()> {
    command(rig, Command::ResumeDrift).await
}

async fn command(rig: &Rig, command: Command) -> Result<()> {
    let (done, detail) = rig.coordinator.live.command(&node(), command)?.await?;
    anyhow::ensure!(done, "{detail}");
    Ok(())
}

async fn restart(rig: &Rig) -> Result<()> {
    command(rig, Command::Restart { why: "test".into() }).await
}

async fn restarted(rig: &Rig, before: &Observed) -> Result<Observed> {
    rig.until("another process to run", |observed| {
        observed.service == ServiceState::Running
            && observed.process.is_some()
            && observed.process != before.process
    })
    .await
}

#[tokio::test]
async fn an_edit_is_told_as_doomed_and_restored_only_if_asked() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let first = rig.ready(generation).await?;
    // From the second start on, backup/ holds what was recorded.
    restart(&rig).await?;
    restarted(&rig, &first).await?;
    let before = rig.read(XML);
    assert!(!before.is_empty() && rig.path(RECORD).is_file());

    // Nobody asks for a look: the directory is watched.
    fs::write(rig.path(XML), "<edited/>")?;
    let observed = rig.until("the edit to be told", |observed| generated(observed).is_some()).await?;
    let drift = generated(&observed).expect("told");
    assert_eq!((drift.kind, drift.action), (DriftKind::GeneratedEdited, DriftAction::Reported));
    assert!(drift.detail.contains("doomed at next start"), "{drift:?}");
    assert_eq!(rig.read(XML), "<edited/>", "nobody asked for it to be undone");

    command(&rig, Command::RestoreDrift { path: Some(HomePath::parse(XML)?) }).await?;
    rig.until("the difference to be over", |observed| generated(observed).is_none()).await?;
    assert_eq!(rig.read(XML), before);
    Ok(())
}

#[tokio::test]
async fn a_deleted_file_is_back_before_a_restart_and_after_a_crash() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let first = rig.ready(generation).await?;
    let content = rig.read(XML);

    // backup/ is empty after the first start: only a configuration step from nothing helps.
    fs::remove_file(rig.path(XML))?;
    scan(&rig).await?;
    let observed = rig.until("the deletion to be told", |observed| generated(observed).is_some()).await?;
    assert_eq!(generated(&observed).map(|drift| drift.kind), Some(DriftKind::GeneratedDeleted));
    assert!(generated(&observed).is_some_and(|drift| drift.detail.contains("will stop the next start")));
    assert_eq!(observed.process, first.process, "telling is all");
    restart(&rig).await?;
    let second = restarted(&rig, &first).await?;
    assert_eq!(second.starts_total, 2, "it came up at the first try");
    assert_eq!(rig.read(XML), content);

    // Now backup/ has it. Deleted unseen, and java dies: the first start fails, the look that follows finds out.
    fs::remove_file(rig.path(XML))?;
    kill(second.process.as_ref().expect("it runs").pid);
    restarted(&rig, &second).await?;
    assert_eq!(rig.read(XML), content);
    Ok(())
}

#[tokio::test]
async fn values_in_clear_that_others_can_read_are_named_until_they_cannot() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let mut wanted = rig.wanted();
    wanted.service.env.insert("DB_PASSWORD".into(), "very-secret".into());
    let wanted = wanted.with_config("\n[custom]\npassword = \"$env{DB_PASSWORD}\"\n");
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    fs::set_permissions(rig.path(REFERENCES), fs::Permissions::from_mode(0o644))?;
    scan(&rig).await?;
    let observed = rig.until("the residue to be told", |observed| !observed.concerns.is_empty()).await?;
    let concern = &observed.concerns[0];
    assert_eq!(concern.kind, ConcernKind::SecretResidue);
    assert!(concern.detail.contains("env:DB_PASSWORD"), "{concern:?}");
    assert!(!format!("{observed:?}").contains("very-secret"));
    fs::set_permissions(rig.path(REFERENCES), fs::Permissions::from_mode(0o600))?;
    scan(&rig).await?;
    rig.until("the concern to be over", |observed| observed.concerns.is_empty()).await?;
    Ok(())
}

#[tokio::test]
async fn an_update_of_the_product_in_place_is_noticed_by_itself() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    let before = match before.pack {
        Some(pack) => Some(pack),
        None => rig.until("the pack to be read", |observed| observed.pack.is_some()).await?.pack,
    };
    let defaults = "repository/resources/conf/default.json";
    fs::write(rig.path(defaults), rig.read(defaults) + "\n")?;
    let updated = |observed: &Observed| observed.pack.is_some() && observed.pack != before;
    rig.until("the update to be noticed", updated).await?;
    Ok(())
}
