//! Whoever has no certificate keeps nobody out who has one, and neither does a node that dials too often.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::support::{TestCoordinator, TestNode};

/// Nothing here may depend on something ending by itself: a handshake has longer than a test.
const TIGHT: &str =
    "[limits]\nconnections = 12\noperators = 4\nstrangers = 4\nhandshakes = 8\nhandshake_timeout = \"10m\"\n";

async fn tight() -> TestCoordinator {
    TestCoordinator::start_in(tempfile::tempdir().unwrap().into(), TIGHT).await
}

async fn is_served(node: &TestNode, coordinator: &TestCoordinator) {
    // Connects, says Hello and waits for the answer.
    assert_eq!(node.epoch(coordinator).await.len(), 16);
}

#[tokio::test]
async fn sockets_that_say_nothing_hold_up_nobody() {
    let coordinator = tight().await;
    let node = coordinator.join("is-1").await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(coordinator.context().address).await.unwrap());
    }
    coordinator.status().await;
    is_served(&node, &coordinator).await;
    coordinator.join("is-2").await;
    drop(silent);
    coordinator.stop().await;
}

#[tokio::test]
async fn strangers_that_stay_hold_up_nobody() {
    let coordinator = tight().await;
    let node = coordinator.join("is-1").await;
    let mut strangers = Vec::new();
    for _ in 0..30 {
        strangers.push(coordinator.raw(None).await);
    }
    coordinator.status().await;
    is_served(&node, &coordinator).await;
    // Another stranger, who wants to enrol, takes the place of one who only sits there.
    coordinator.join("is-2").await;
    drop(strangers);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_node_that_dials_without_end_pushes_out_only_itself() {
    let coordinator = tight().await;
    let (loud, quiet) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let mut session = quiet.session(&coordinator).await.unwrap();
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(coordinator.raw(Some((&loud.reply.certificate_pem, &loud.key_pem))).await);
    }
    is_served(&quiet, &coordinator).await;
    coordinator.status().await;
    is_served(&loud, &coordinator).await;
    // The newer session of the quiet node has replaced this one, with words; its connection was not cut.
    let told = session.until(|message| match message {
        proto::wire::agent::to_agent::Message::Leave(leave) => Some(leave.why),
        _ => None,
    });
    assert!(!told.await.is_empty());
    coordinator.stop().await;
}

/// `STRANGERS` is how many sockets say nothing to a coordinator with its default limits (default 200). How long `status`
/// takes beside them is a figure, not a rule: it is the machine's.
#[tokio::test]
async fn status_is_answered_beside_sockets_that_say_nothing() {
    let count = std::env::var("STRANGERS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let coordinator = TestCoordinator::spawn_in(Arc::new(tempfile::tempdir().unwrap())).await;
    let address = coordinator.context().address;
    let mut silent = Vec::new();
    for _ in 0..count {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let begun = Instant::now();
        coordinator.status().await;
        slowest = slowest.max(begun.elapsed());
    }
    println!("beside {count} silent sockets the slowest of ten `status` took {} ms", slowest.as_millis());
    drop(silent);
    coordinator.kill().await;
}
