//! What is believed of a node whose agent cannot keep its promises.

use std::fs;

use agent::cache::Cache;
use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, until};
use fleet::{
    bundle::{RestartClass, RunState},
    ids::Digest,
    node::Command,
    observed::{ConcernKind, ServiceState},
};

use crate::{
    rig::{LOGGING, Rig, node},
    supervision::kill,
};

async fn until_state(rig: &Rig, wanted: &str) -> Result<String> {
    let state = async || {
        let snapshot = rig.coordinator.snapshot().await?;
        let state = snapshot.state(&node());
        Ok((state.word().as_str() == wanted).then(|| state.why()))
    };
    until(&format!("the node to be {wanted}"), LIMIT, state).await.with_context(|| rig.agent.log())
}

#[tokio::test]
async fn a_node_whose_agent_cannot_write_its_journal_is_unknown() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = rig.wanted();
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let before = rig.ready(generation).await?;
    until_state(&rig, "ready").await?;

    // As if it had been deleted. The server ends, and its agent can record nothing.
    let (data, away) = (rig.agent.data_dir(), rig.directory().join("away"));
    fs::rename(&data, &away)?;
    kill(before.process.as_ref().context("it runs")?.pid);
    let why = until_state(&rig, "unknown").await?;
    ensure!(why.contains("cannot write its journal"), "{why}");
    let snapshot = rig.coordinator.snapshot().await?;
    ensure!(!snapshot.live[&node()].reported, "what it said before is no news of the present");
    let shown = snapshot.shown(&node()).context("it reported once")?;
    ensure!(shown.concerns.iter().any(|concern| concern.kind == ConcernKind::JournalUnwritable), "{shown:?}");
    let refused = rig.coordinator.command(&node(), Command::ResumeDrift).await;
    let refused = format!("{refused:?}");
    ensure!(refused.contains("cannot write its journal"), "{refused}");

    fs::rename(&away, &data)?;
    until_state(&rig, "ready").await?;
    let observed = rig.until("it to be up again", |it| it.service == ServiceState::Running).await?;
    ensure!(observed.process != before.process, "it is another server");
    Ok(())
}

#[tokio::test]
async fn a_file_whose_content_is_gone_from_the_cache_is_restored_all_the_same() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let text = "rootLogger.level = WARN\n";
    let wanted = rig.wanted().with_file(LOGGING, text, RestartClass::Hot);
    let generation = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(generation).await?;
    fs::remove_file(Cache::open(&rig.agent.data_dir())?.path(&Digest::of(text.as_bytes())))?;
    fs::write(rig.path(LOGGING), "rootLogger.level = TRACE\n")?;
    rig.until("the edit to be undone", |it| it.drift.iter().any(|drift| drift.restored_after.is_some()))
        .await?;
    ensure!(rig.read(LOGGING) == text);
    Ok(())
}
