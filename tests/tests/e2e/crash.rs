//! kill -9 of either side loses nothing and takes no server down.

use std::fs;

use anyhow::{Result, ensure};
use convoy_tests::harness::{LIMIT, until};

use crate::small::{NODES, Small, common, ensure_holds, is_alive, pid};

#[tokio::test]
async fn a_killed_agent_finds_its_server_again_and_repairs_what_happened_meanwhile() -> Result<()> {
    let mut small = Small::open().await?;
    small.apply().await?;
    let server = pid(&small.ready("is-1").await?)?;
    let desired = small.config_text(0)?;

    small.site.agent_of("is-1").kill().await?;
    fs::write(small.config(0), desired.replace("first.example.org", "edited.example.org"))?;
    ensure!(is_alive(server), "the server went with its agent");
    let operator = small.site.operator();
    until("the coordinator to miss the agent", LIMIT, async || {
        let node = operator.node("is-1").await?;
        Ok((node["connected"] == false && node["state"] != "ready").then_some(()))
    })
    .await?;

    small.site.agent_of("is-1").start()?;
    until("the edit to be undone", LIMIT, async || Ok((small.config_text(0)? == desired).then_some(())))
        .await?;
    let node = small.ready("is-1").await?;
    ensure!(pid(&node)? == server && is_alive(server), "the server was not adopted: {node:#}");
    Ok(())
}

#[tokio::test]
async fn agents_go_on_without_their_coordinator_and_it_remembers_everything() -> Result<()> {
    let mut small = Small::open().await?;
    small.apply().await?;
    let mut servers = Vec::new();
    for node in NODES {
        servers.push(pid(&small.ready(node).await?)?);
    }
    let operator = small.site.operator();
    let before = operator.json(["status"]).await?;

    small.site.coordinator.kill().await?;
    let desired = small.config_text(1)?;
    fs::write(small.config(1), desired.replace("first.example.org", "edited.example.org"))?;
    until("the agent to undo the edit by itself", LIMIT, async || {
        Ok((small.config_text(1)? == desired).then_some(()))
    })
    .await?;
    let ran = operator.run(["status"]).await?;
    ensure!(ran.code == 1, "{ran:?}");
    ensure_holds(&ran.said, &["cannot reach the coordinator", "next:"])?;

    small.site.coordinator.restart().await?;
    for (index, node) in NODES.into_iter().enumerate() {
        ensure!(pid(&small.ready(node).await?)? == servers[index], "{node} was restarted");
    }
    let after = operator.json(["status"]).await?;
    ensure!(after["revision"] == before["revision"] && after["fleet"] == before["fleet"], "{after:#}");
    Ok(())
}

#[tokio::test]
async fn a_coordinator_killed_in_a_rollout_finishes_it() -> Result<()> {
    let mut small = Small::open().await?;
    small.apply().await?;
    small.fleet.write("config/common.toml", common("second"))?;
    let operator = small.site.operator();
    operator.done(["apply".as_ref(), small.fleet.arg(), "--yes".as_ref()]).await?;
    until("the first node to have the new file", LIMIT, async || {
        let has = |index| small.config_text(index).is_ok_and(|text| text.contains("second.example.org"));
        Ok((has(0) || has(1)).then_some(()))
    })
    .await?;
    small.site.coordinator.kill().await?;
    small.site.coordinator.restart().await?;
    let ran = operator.run(["rollout", "show", "--wait", "--timeout", "3m"]).await?;
    ensure!(ran.code == 0, "{}{}", ran.out, ran.said);
    for index in 0..2 {
        ensure_holds(&small.config_text(index)?, &["second.example.org"])?;
    }
    Ok(())
}
