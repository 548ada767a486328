//! Agents that are lost, and come back: both are told, whoever died meanwhile.

use std::{sync::Arc, time::Duration};

use proto::wire::{
    agent::{Heartbeat, Notice, Notices, from_agent, to_agent},
    operator::{Event, EventsRequest},
};

use crate::support::{PATIENCE, TestCoordinator};

/// A session may be silent for 300 ms; scripted agents say nothing by themselves.
const HASTY: &str = "[heartbeat]\ninterval = \"100ms\"\ninterval_max = \"100ms\"\n";

/// Waits until so many events of that kind are there.
async fn until_told(coordinator: &TestCoordinator, kind: &str, count: usize) -> Vec<Event> {
    let told = async {
        loop {
            let mut events =
                coordinator.events(EventsRequest { most: 1000, ..EventsRequest::default() }).await;
            events.retain(|event| event.kind == kind);
            if count <= events.len() {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap_or_else(|_| panic!("{count} events of kind {kind}"))
}

#[tokio::test]
async fn an_agent_that_goes_is_told_of_once_and_its_return_too() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let session = node.session(&coordinator).await.unwrap();
    coordinator.until("connected", |status| status.nodes.iter().any(|node| node.connected)).await;
    drop(session);
    let lost = until_told(&coordinator, "agent-lost", 1).await;
    assert_eq!((lost[0].node.as_str(), lost.len()), ("is-1", 1));
    let _session = node.session(&coordinator).await.unwrap();
    let back = until_told(&coordinator, "agent-returned", 1).await;
    assert!(back[0].text.starts_with("its agent is connected again, after "), "{}", back[0].text);
    coordinator.stop().await;
}

#[tokio::test]
async fn an_agent_that_does_not_come_back_after_a_kill_of_the_coordinator_is_told_of() {
    let killed = TestCoordinator::spawn_in(Arc::new(tempfile::tempdir().unwrap())).await;
    let (gone, back) = (killed.join("gone").await, killed.join("back").await);
    let mut sessions = [gone.session(&killed).await.unwrap(), back.session(&killed).await.unwrap()];
    // What is received is stored, and so is that they were there.
    for session in &mut sessions {
        let notice = Notice { seq: 1, kind: "service-state".into(), text: "up".into(), ..Notice::default() };
        session.say(from_agent::Message::Notices(Notices { notices: vec![notice] })).await;
        session.until(|message| matches!(message, to_agent::Message::NoticesReceived(_)).then_some(())).await;
    }
    let dir = killed.kill().await;
    // What a killed one left behind names a port where nobody listens.
    std::fs::remove_file(dir.path().join("data/address")).unwrap();

    let coordinator = TestCoordinator::start_in(dir, HASTY).await;
    let session = back.session(&coordinator).await.unwrap();
    let beats = tokio::spawn(async move {
        for seq in 1.. {
            let beat = Heartbeat { seq, ..Default::default() };
            session.say(from_agent::Message::Heartbeat(beat)).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    });
    let lost = until_told(&coordinator, "agent-lost", 1).await;
    assert_eq!(lost.iter().map(|event| event.node.as_str()).collect::<Vec<_>>(), ["gone"]);
    beats.abort();
    coordinator.stop().await;
}
