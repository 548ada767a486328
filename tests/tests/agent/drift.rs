//! Edits of managed files, noticed and undone.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
};

use anyhow::Result;
use fleet::{
    bundle::{DriftPolicy, HomePath, RunState},
    drift::keys::{KeyPattern, KeyRule, KeyRules},
    node::Command,
    observed::{DriftAction, DriftKind},
};

use crate::rig::{CONFIG, LOGGING, Rig, node};

#[tokio::test]
async fn an_edit_is_undone_and_told_with_its_keys() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    let desired = rig.read(CONFIG);
    fs::write(rig.path(CONFIG), format!("{desired}\n[surprise]\nkey = \"secret-value\"\n"))?;
    let observed = rig
        .until("the edit to be undone", |observed| {
            observed.drift.iter().any(|drift| drift.path.as_str() == CONFIG && drift.restored_after.is_some())
        })
        .await?;
    let drift = observed.drift.iter().find(|drift| drift.path.as_str() == CONFIG).expect("told");
    assert_eq!((drift.kind, drift.action), (DriftKind::Edited, DriftAction::Restored));
    assert_eq!(drift.keys, ["surprise.key"]);
    assert!(!format!("{drift:?}").contains("secret-value"));
    assert_eq!(rig.read(CONFIG), desired);
    assert_eq!(observed.process, before.process, "an edit that was undone restarts nothing");
    println!("restored after {:?}", drift.restored_after);
    Ok(())
}

#[tokio::test]
async fn deletion_and_permissions_are_undone_and_comments_are_nobodys_business() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let desired = rig.read(CONFIG);

    fs::write(rig.path(CONFIG), format!("# only a comment\n{desired}"))?;
    fs::remove_file(rig.path(LOGGING))?;
    rig.until("the deleted file to be back", |observed| {
        observed.drift.iter().any(|d| d.kind == DriftKind::Deleted && d.restored_after.is_some())
    })
    .await?;
    assert_eq!(rig.read(LOGGING), "rootLogger.level = INFO\n");
    assert!(rig.read(CONFIG).starts_with("# only a comment"), "a comment means nothing to the server");

    fs::set_permissions(rig.path(LOGGING), fs::Permissions::from_mode(0o666))?;
    let observed = rig
        .until("the mode to be back", |observed| {
            observed.drift.iter().any(|d| d.kind == DriftKind::Mode && d.restored_after.is_some())
        })
        .await?;
    let mode = fs::metadata(rig.path(LOGGING))?.permissions().mode() & 0o777;
    assert_eq!(mode, 0o640);
    assert!(observed.drift.iter().all(|drift| drift.path.as_str() != CONFIG));
    Ok(())
}

#[tokio::test]
async fn what_the_product_writes_is_labelled_and_left() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let generated = format!("{}\n[encryption]\nkey = \"0123456789abcdef\"\n", rig.read(CONFIG));
    // As the product's generator does: temporary file, mode 0600, rename.
    let staged = rig.path("repository/conf/deployment.toml.tmp");
    fs::write(&staged, &generated)?;
    fs::set_permissions(&staged, fs::Permissions::from_mode(0o640))?;
    fs::rename(&staged, rig.path(CONFIG))?;
    let observed = rig
        .until("the generated key to be told", |observed| {
            observed.drift.iter().any(|drift| drift.kind == DriftKind::ProductOwned)
        })
        .await?;
    assert!(observed.drift.iter().all(|drift| drift.kind != DriftKind::Edited));
    assert_eq!(rig.read(CONFIG), generated);

    // A later assignment keeps the key that only the host has.
    let next = rig.assign(&wanted.with_config("\n[later]\nkey = 1\n"), RunState::Running).await?;
    rig.ready(next).await?;
    let after = rig.read(CONFIG);
    assert!(after.contains("0123456789abcdef") && after.contains("[later]"), "{after}");
    Ok(())
}

#[tokio::test]
async fn a_file_whose_policy_is_report_is_told_and_left() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let mut wanted = rig.wanted();
    wanted.files.get_mut(LOGGING).expect("there").1 = DriftPolicy::Report;
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    fs::write(rig.path(LOGGING), "edited = 1\n")?;
    rig.until("the edit to be told", |observed| {
        observed.drift.iter().any(|d| d.action == DriftAction::Reported && d.path.as_str() == LOGGING)
    })
    .await?;
    assert_eq!(rig.read(LOGGING), "edited = 1\n");
    // Undone by hand, it is no difference any more.
    fs::write(rig.path(LOGGING), "rootLogger.level = INFO\n")?;
    rig.until("the difference to be over", |observed| observed.drift.is_empty()).await?;
    Ok(())
}

#[tokio::test]
async fn an_accepted_edit_stays_and_is_told_as_the_change_of_a_layer() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let command = |command| rig.coordinator.live.command(&node(), command);
    let until = coordinator::wall_clock().after(std::time::Duration::from_secs(600));
    command(Command::PauseDrift { reason: "an incident".into(), until })?.await?;
    let edited = format!("{}\n[incident]\npool = 80\npassword = \"geheim\"\n", rig.read(CONFIG));
    fs::write(rig.path(CONFIG), &edited)?;
    let accept = Command::AcceptDrift { path: HomePath::parse(CONFIG)?, until: None };
    let (done, detail) = command(accept)?.await?;
    assert!(done && detail.contains("incident.pool = 80"), "{detail}");
    assert!(detail.contains("incident.password") && !detail.contains("geheim"), "{detail}");
    command(Command::ResumeDrift)?.await?;
    rig.until("it to be told as accepted", |observed| {
        observed.drift_pause.is_none()
            && observed.drift.iter().any(|drift| drift.action == DriftAction::Accepted)
    })
    .await?;
    assert_eq!(rig.read(CONFIG), edited, "enforcement is on and leaves it alone");
    let next = rig.assign(&wanted.with_config("\n[incident]\npool = 80\n"), RunState::Running).await?;
    rig.ready(next).await?;
    assert!(!rig.read(CONFIG).contains("geheim"), "an apply decides anew");
    Ok(())
}

#[tokio::test]
async fn a_key_that_is_left_to_the_host_outlives_a_restore_and_an_apply() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let plain = rig.wanted();
    let mut wanted = plain.with_config("\n[cache]\nsize = 1\nttl = 5\n[later]\nkey = 1\n");
    let rule = |text: &str, policy| Ok(KeyRule { pattern: KeyPattern::parse(text)?, policy });
    let rules: Result<Vec<KeyRule>> =
        [rule("cache", DriftPolicy::Ignore), rule("later", DriftPolicy::Report)].into_iter().collect();
    wanted.drift_keys = KeyRules::of_scopes([rules?]);
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    // One key of each kind is edited at once: only the enforced one is undone.
    let edited = rig.read(CONFIG).replace("size = 1", "size = 99").replace("key = 1", "key = 7");
    fs::write(rig.path(CONFIG), format!("{edited}\n[surprise]\nkey = 1\n"))?;
    let told = rig
        .until("the reported key to be told", |observed| {
            observed
                .drift
                .iter()
                .any(|drift| drift.action == DriftAction::Reported && drift.keys == ["later.key"])
        })
        .await?;
    assert!(told.drift.iter().all(|drift| !drift.keys.iter().any(|key| key.starts_with("cache"))));
    let restored = rig.read(CONFIG);
    assert!(restored.contains("size = 99") && restored.contains("key = 7"), "{restored}");
    assert!(!restored.contains("surprise"), "{restored}");
    // What an operator restores is as declared, but for what belongs to the host.
    let restore = Command::RestoreDrift { path: Some(HomePath::parse(CONFIG)?) };
    let (done, detail) = rig.coordinator.live.command(&node(), restore)?.await?;
    assert!(done, "{detail}");
    rig.until("the reported edit to be undone", |observed| {
        observed.drift.iter().all(|drift| drift.action == DriftAction::Restored)
    })
    .await?;
    let restored = rig.read(CONFIG);
    assert!(restored.contains("size = 99") && restored.contains("key = 1"), "{restored}");
    // An apply that declares another value for it, and a new key beside it.
    let mut next = plain.with_config("\n[cache]\nsize = 2\nttl = 6\n");
    next.drift_keys = wanted.drift_keys;
    let generation = rig.assign(&next, RunState::Running).await?;
    rig.ready(generation).await?;
    let applied = rig.read(CONFIG);
    assert!(applied.contains("size = 99") && applied.contains("ttl = 6"), "{applied}");
    assert!(!applied.contains("[later]"), "{applied}");
    Ok(())
}

#[tokio::test]
async fn a_restore_of_a_file_that_is_as_declared_writes_and_tells_nothing() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    let before = fs::metadata(rig.path(LOGGING))?.ino();
    let restore = Command::RestoreDrift { path: Some(HomePath::parse(LOGGING)?) };
    let (done, detail) = rig.coordinator.live.command(&node(), restore)?.await?;
    assert!(done && detail.contains("has no known difference"), "{detail}");
    // Files are worked on one after the other: once another one is restored, so is this one.
    fs::remove_file(rig.path(CONFIG))?;
    let observed = rig
        .until("the deleted file to be back", |observed| {
            observed.drift.iter().any(|drift| drift.restored_after.is_some())
        })
        .await?;
    assert!(observed.drift.iter().all(|drift| drift.path.as_str() == CONFIG), "{:?}", observed.drift);
    assert_eq!(fs::metadata(rig.path(LOGGING))?.ino(), before, "it was written anew");
    Ok(())
}
