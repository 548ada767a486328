//! The whole path: apply, change one node at a time, repair, restart, go back.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, kill, until};

use crate::small::{NODES, Small, common, ensure_holds, pid};

#[tokio::test]
async fn a_fleet_is_brought_up_changed_repaired_and_taken_back() -> Result<()> {
    let small = Small::open().await?;
    let operator = small.site.operator();

    // 1. Nothing is there, so everything is new; secrets are not shown.
    let plan = operator.done(["plan".as_ref(), small.fleet.arg()]).await?;
    ensure_holds(&plan, &["is-1", "is-2", "2 nodes change"])?;
    ensure!(!plan.contains("hunter2"), "the plan shows a secret:\n{plan}");

    // 2. Applied; both come up, and what was composed is what lies on disk.
    small.apply().await?;
    let mut first = Vec::new();
    for (index, node) in NODES.into_iter().enumerate() {
        first.push(pid(&small.ready(node).await?)?);
        ensure_holds(&small.config_text(index)?, &["first.example.org"])?;
    }

    // 3. Applied again, nothing happens.
    let again = small.apply().await?;
    ensure_holds(&again, &["Nothing changes on any node", "nothing to do on any node"])?;

    // 4. A comment changes the file and restarts nothing.
    small.fleet.write("config/common.toml", format!("# A word to colleagues.\n{}", common("first")))?;
    ensure_holds(&small.apply().await?, &["no server restarts"])?;
    ensure_holds(&small.config_text(0)?, &["A word to colleagues"])?;
    for (index, node) in NODES.into_iter().enumerate() {
        ensure!(pid(&small.ready(node).await?)? == first[index], "{node} was restarted for a comment");
    }

    // 5. A new value restarts both, one after the other.
    small.fleet.write("config/common.toml", common("second"))?;
    ensure_holds(&small.apply().await?, &["2 servers restart", "is done: 2 nodes ready"])?;
    for (index, node) in NODES.into_iter().enumerate() {
        ensure!(pid(&small.ready(node).await?)? != first[index], "{node} was not restarted");
        ensure_holds(&small.config_text(index)?, &["second.example.org"])?;
    }

    edit_by_hand(&small).await?;
    kill_the_server(&small).await?;

    // 8. Back to the revision before, as a new one.
    let before = operator.json(["status"]).await?["revision"].as_u64().context("a revision")?;
    operator.done(["rollback", "--yes", "--wait"]).await?;
    let status = operator.json(["status"]).await?;
    ensure!(status["revision"] == before + 1, "{status:#}");
    ensure_holds(&small.config_text(0)?, &["first.example.org"])?;

    // 9. What happened can be read, and holds no secret.
    let events = operator.done(["events", "--last", "500"]).await?;
    ensure!(20 < events.lines().count(), "{events}");
    ensure!(!events.contains("hunter2"), "an event shows a secret");
    for agent in &small.site.agents {
        ensure!(!agent.log().contains("hunter2"), "the log of {} shows a secret", agent.node);
    }
    Ok(())
}

/// 6. An edit by hand is undone, named, and restarts nothing.
async fn edit_by_hand(small: &Small) -> Result<()> {
    let operator = small.site.operator();
    let before = pid(&small.ready("is-2").await?)?;
    let desired = small.config_text(1)?;
    fs::write(small.config(1), desired.replace("second.example.org", "edited.example.org"))?;
    until("the desired content to be back", LIMIT, async || {
        Ok((small.config_text(1)? == desired).then_some(()))
    })
    .await?;
    let entry = until("the edit to be reported", LIMIT, async || {
        let drift = operator.json(["drift", "show", "is-2"]).await?;
        let entries = drift["entries"].as_array().cloned().unwrap_or_default();
        Ok(entries.into_iter().find(|entry| entry["action"] == "restored"))
    })
    .await?;
    ensure!(entry["keys"].to_string().contains("server.hostname"), "{entry:#}");
    ensure!(pid(&small.ready("is-2").await?)? == before, "an edit that was undone restarted the server");
    Ok(())
}

/// 7. A killed server is started again.
async fn kill_the_server(small: &Small) -> Result<()> {
    let before = pid(&small.ready("is-1").await?)?;
    ensure!(kill(u32::try_from(before)?), "cannot kill {before}");
    let operator = small.site.operator();
    until("another process to be ready", LIMIT, async || {
        let node = operator.node("is-1").await?;
        Ok((node["state"] == "ready" && pid(&node).is_ok_and(|pid| pid != before)).then_some(()))
    })
    .await
}

#[tokio::test]
async fn never_both_servers_of_a_group_are_down_for_a_change() -> Result<()> {
    let small = Small::open().await?;
    small.apply().await?;
    let ports: Vec<u16> = (0..2).map(|index| 9443 + small.site.offset(index)).collect();
    let watch = tokio::spawn(async move {
        let (mut most, mut ever) = (0, [false; 2]);
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        loop {
            ticks.tick().await;
            let mut down = 0;
            for (index, port) in ports.iter().enumerate() {
                let is_down = tokio::net::TcpStream::connect(("127.0.0.1", *port)).await.is_err();
                down += usize::from(is_down);
                ever[index] |= is_down;
            }
            most = most.max(down);
            if ever == [true; 2] && down == 0 {
                return most;
            }
        }
    });
    small.fleet.write("config/common.toml", common("second"))?;
    small.apply().await?;
    // Both were seen down, and up again after that.
    let most = tokio::time::timeout(LIMIT, watch).await.context("both servers restart")??;
    ensure!(most == 1, "{most} servers were down at once");
    Ok(())
}
