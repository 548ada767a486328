//! The real program under SIGKILL: what it answered is there afterwards, and nothing is half done.

use std::{process::Stdio, sync::Arc, time::Duration};

use proto::wire::operator::ListRolloutsRequest;
use tokio::process::Command;

use crate::support::{Memory, ScriptedAgent, TestCoordinator, small_fleet, upload};

#[tokio::test]
async fn nothing_that_was_answered_is_lost_by_a_kill() {
    let mut dir = Arc::new(tempfile::tempdir().unwrap());
    for round in 1..=6 {
        let coordinator = TestCoordinator::spawn_in(dir).await;
        let joined = coordinator.join(&format!("n-{round}")).await;
        let applied =
            coordinator.apply(&small_fleet(&format!("h{round}.example.org")), Some(round - 1)).await;
        assert_eq!((applied.revision, applied.rollout), (round, round), "{applied:?}");
        dir = coordinator.kill().await;

        let coordinator = TestCoordinator::spawn_in(dir).await;
        let status = coordinator.status().await;
        assert_eq!(status.revision, round);
        assert!(status.nodes.iter().any(|node| node.name == joined.name && node.enrolled), "{status:#?}");
        let mut operator = coordinator.operator().await;
        let list = operator.list_rollouts(ListRolloutsRequest { most: 2 }).await.unwrap().into_inner();
        let states: Vec<&str> = list.rollouts.iter().map(|rollout| rollout.state.as_str()).collect();
        assert_eq!(states, ["running", "superseded"][..states.len()]);
        dir = coordinator.kill().await;
    }
}

#[tokio::test]
async fn a_kill_in_the_middle_leaves_all_of_an_apply_or_none() {
    let mut dir = Arc::new(tempfile::tempdir().unwrap());
    let mut least = 0;
    for round in 0_u64..12 {
        let coordinator = TestCoordinator::spawn_in(dir).await;
        let mut operator = coordinator.operator().await;
        let files = small_fleet(&format!("h{round}.example.org"));
        let apply =
            tokio::spawn(async move { operator.apply(tokio_stream::iter(upload(&files, None))).await });
        // A different instant each round: from before the upload is read to after the commit.
        tokio::time::sleep(Duration::from_millis(round * 4)).await;
        dir = coordinator.kill().await;
        if let Ok(answered) = apply.await.unwrap() {
            least = answered.into_inner().revision;
        }
        let coordinator = TestCoordinator::spawn_in(dir).await;
        let status = coordinator.status().await;
        assert!(least <= status.revision, "round {round}: answered {least}, found {}", status.revision);
        least = status.revision;
        // A revision never stands without its rollout.
        assert_eq!(status.rollouts.first().map_or(0, |rollout| rollout.revision), status.revision);
        dir = coordinator.kill().await;
    }
}

#[tokio::test]
async fn a_step_is_neither_lost_nor_repeated_by_kills() {
    let mut dir = Arc::new(tempfile::tempdir().unwrap());
    let coordinator = TestCoordinator::spawn_in(dir).await;
    let nodes = [coordinator.join("is-1").await, coordinator.join("is-2").await];
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    dir = coordinator.kill().await;
    // An agent that forgot what it runs would rightly fail its step.
    let memories = [Memory::default(), Memory::default()];
    for round in 1_u64.. {
        let coordinator = TestCoordinator::spawn_in(dir).await;
        let one = ScriptedAgent::resume(&coordinator, &nodes[0], memories[0].clone()).await;
        let two = ScriptedAgent::resume(&coordinator, &nodes[1], memories[1].clone()).await;
        if 8 <= round {
            let done = |status: &proto::wire::operator::StatusReply| status.rollouts[0].state == "done";
            let status = coordinator.until("done", done).await;
            // One step each, whatever happened in between.
            for node in &status.nodes {
                assert_eq!(node.desired.as_ref().unwrap().generation, 1, "{status:#?}");
            }
            coordinator.kill().await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        dir = coordinator.kill().await;
        for agent in [one, two] {
            // Nobody is told anything but generation 1.
            assert!(agent.assigned.borrow().iter().all(|generation| *generation == 1));
            agent.task.abort();
        }
    }
}

#[tokio::test]
async fn a_refused_configuration_exits_64_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("coordinator.toml");
    std::fs::write(&config, "fleet = \"acme\"\ndata_dir = \"/nowhere\"\nheartbeats = 5\n").unwrap();
    let run = |more: &'static [&'static str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_convoy-coordinator"));
        command.arg("--config").arg(&config).args(more).stdin(Stdio::null()).output()
    };
    for more in [[].as_slice(), &["--check-config"]] {
        let output = run(more).await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{text}");
        for part in ["coordinator.toml", "line 3", "heartbeats", "docs/coordinator.md"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    std::fs::write(&config, "fleet = \"acme\"\ndata_dir = \"/nowhere\"\n").unwrap();
    assert_eq!(run(&["--check-config"]).await.unwrap().status.code(), Some(0));
    // Files that it names are looked at as well: an upgrade must not find out by a start that fails.
    let authorities = dir.path().join("corp.pem");
    let join =
        format!("fleet = \"acme\"\ndata_dir = \"/nowhere\"\n[join.pki]\nauthorities = {authorities:?}\n");
    std::fs::write(&config, join).unwrap();
    let output = run(&["--check-config"]).await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(64), "{text}");
    for part in ["coordinator.toml", "cannot read", "corp.pem", "[join.pki]"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_coordinator_told_to_stop_says_goodbye_and_exits_0() {
    let coordinator = TestCoordinator::spawn_in(Arc::new(tempfile::tempdir().unwrap())).await;
    let node = coordinator.join("is-1").await;
    let mut session = node.session(&coordinator).await.unwrap();
    session
        .until(|message| matches!(message, proto::wire::agent::to_agent::Message::Welcome(_)).then_some(()))
        .await;
    let pid = coordinator.pid().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let leave = session.until(|message| match message {
        proto::wire::agent::to_agent::Message::Leave(leave) => Some(leave.redial_after_ms),
        _ => None,
    });
    assert_eq!(leave.await, 1000);
    drop(session);
    assert_eq!(coordinator.wait().await, Some(0));
}
