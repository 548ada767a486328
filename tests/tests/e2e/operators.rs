//! What operators do to single nodes.

use std::fs;

use anyhow::{Result, ensure};
use convoy_tests::harness::{LIMIT, until};

use crate::small::{NODES, Small, ensure_holds, is_alive, pid};

#[tokio::test]
async fn a_second_server_of_a_group_is_stopped_only_by_insisting() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    let operator = small.site.operator();
    for node in NODES {
        small.ready(node).await?;
    }
    let second = pid(&small.ready("is-2").await?)?;

    let first = operator.run(["node", "stop", "is-1", "--yes", "--reason", "disk"]).await?;
    ensure!(first.code == 0, "{first:?}");
    until("is-1 to be stopped", LIMIT, async || {
        let node = operator.node("is-1").await?;
        Ok((node["report"]["service"]["state"] == "stopped").then_some(()))
    })
    .await?;
    let refused = operator.run(["node", "stop", "is-2", "--yes"]).await?;
    ensure!(refused.code == 3, "{refused:?}");
    ensure_holds(&refused.said, &["1 down (is-1)", "max_unavailable = 1", "--now"])?;
    let refused = operator.run(["node", "restart", "is-2", "--yes"]).await?;
    ensure!(refused.code == 3 && is_alive(second), "{refused:?}");

    let insisted = operator.run(["node", "stop", "is-2", "--yes", "--now", "--reason", "move"]).await?;
    ensure!(insisted.code == 0, "{insisted:?}");
    until("is-2 to be stopped", LIMIT, async || Ok((!is_alive(second)).then_some(()))).await?;
    let events = operator.run(["events"]).await?;
    ensure_holds(&events.out, &["wants is-2 to be stopped, whatever else is down: move"])?;
    Ok(())
}

#[tokio::test]
async fn of_two_restarts_at_the_same_moment_one_is_refused() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    let mut pids = Vec::new();
    for node in NODES {
        pids.push(pid(&small.ready(node).await?)?);
    }
    let operator = small.site.operator();
    let restart = |node| operator.run(["node", "restart", node, "--yes"]);
    let (one, other) = tokio::join!(restart("is-1"), restart("is-2"));
    let (one, other) = (one?, other?);
    let (refused, spared) = if one.code == 0 { (other, 1) } else { (one, 0) };
    ensure!(refused.code == 3, "{refused:?}");
    ensure_holds(&refused.said, &["max_unavailable = 1", "--now"])?;
    ensure!(!refused.said.contains("is ready"), "{refused:?}");
    let went = NODES[1 - spared];
    until("a new server of the other", LIMIT, async || {
        let node = operator.node(went).await?;
        Ok((node["state"] == "ready" && pid(&node)? != pids[1 - spared]).then_some(()))
    })
    .await?;
    ensure!(is_alive(pids[spared]), "both went down");
    let events = operator.run(["events"]).await?;
    ensure!(!events.out.contains(&format!("restarts {}", NODES[spared])), "{}", events.out);
    Ok(())
}

#[tokio::test]
async fn what_was_edited_in_a_pause_is_restored_on_request() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    small.ready("is-1").await?;
    let operator = small.site.operator();
    let desired = small.config_text(0)?;
    operator.done(["drift", "pause", "is-1", "--reason", "a trial", "--for", "1h"]).await?;
    fs::write(small.config(0), desired.replace("first.example.org", "edited.example.org"))?;
    until("the edit to be told", LIMIT, async || {
        let node = operator.node("is-1").await?;
        let told = node["report"]["drift"]
            .as_array()
            .is_some_and(|drift| drift.iter().any(|difference| difference["action"] == "paused"));
        Ok(told.then_some(()))
    })
    .await?;
    ensure!(small.config_text(0)? != desired, "the edit was undone in spite of the pause");

    operator.done(["drift", "restore", "is-1"]).await?;
    until("the edit to be undone", LIMIT, async || Ok((small.config_text(0)? == desired).then_some(())))
        .await?;
    Ok(())
}
