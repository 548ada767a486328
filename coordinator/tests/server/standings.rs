//! What `status` says of each node against the newest revision, through the whole coordinator.

use std::{fs, path::Path, sync::Arc};

use proto::wire::operator::{RollbackRequest, Standing, StatusReply};

use crate::support::{Manner, Memory, ScriptedAgent, TestCoordinator, small_fleet};

fn rollout_is(state: &'static str, id: u64) -> impl Fn(&StatusReply) -> bool {
    move |status| status.rollouts.iter().any(|rollout| rollout.id == id && rollout.state == state)
}

/// One line for each node: the revision in force, where it stands, and why.
fn lines(status: &StatusReply) -> Vec<String> {
    let line = |node: &proto::wire::operator::Node| {
        let (name, revision, why) = (&node.name, node.revision_in_force, &node.standing_why);
        format!("{name} {revision} {} {why}", node.standing().as_str_name()).trim_end().to_owned()
    };
    status.nodes.iter().map(line).collect()
}

#[tokio::test]
async fn a_node_is_called_by_the_revision_whose_content_it_has() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let one = ScriptedAgent::start(&coordinator, &one).await;
    let two = ScriptedAgent::start(&coordinator, &two).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    let status = coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    assert_eq!(lines(&status), ["is-1 1 STANDING_ON_NEWEST", "is-2 1 STANDING_ON_NEWEST"]);

    // The rollout of revision 2 takes back what it did: both have the content of revision 1.
    two.manner.send_replace(Manner::Refuses);
    coordinator.apply(&small_fleet("two.example.org"), None).await;
    let mut assigned = two.assigned.clone();
    assigned.wait_for(|all| all.len() == 2).await.unwrap();
    two.manner.send_replace(Manner::Obeys);
    let status = coordinator.until("rollout 2 rolled back", rollout_is("rolled-back", 2)).await;
    let why = "STANDING_BEHIND rollout 2 was rolled back";
    assert_eq!(lines(&status), [format!("is-1 1 {why}"), format!("is-2 1 {why}")]);
    assert_eq!(status.nodes[0].desired_revision, 1, "what it returned to is the content of revision 1");
    assert_eq!(*one.assigned.borrow(), [1, 2, 3]);

    // An operator goes back: a revision of its own, that repeats the content of revision 1.
    let mut operator = coordinator.operator().await;
    let back = RollbackRequest { to_revision: 1, ..RollbackRequest::default() };
    assert_eq!(operator.rollback(back).await.unwrap().into_inner().revision, 3);
    let status = coordinator.until("rollout 3 done", |status| rollout_is("done", 3)(status)).await;
    assert_eq!(lines(&status), ["is-1 3 STANDING_ON_NEWEST", "is-2 3 STANDING_ON_NEWEST"]);
    assert_eq!((status.revision, status.content_of, status.store_older), (3, 1, false));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_restored_older_store_says_so_until_somebody_applies_again() {
    let coordinator = TestCoordinator::start().await;
    let nodes = [coordinator.join("is-1").await, coordinator.join("is-2").await];
    let memories = [Memory::default(), Memory::default()];
    for (node, memory) in nodes.iter().zip(&memories) {
        ScriptedAgent::resume(&coordinator, node, memory.clone()).await;
    }
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    let dir = coordinator.stop().await;
    let (data, saved) = (dir.path().join("data"), dir.path().join("saved"));
    copy(&data, &saved);

    let coordinator = TestCoordinator::start_in(dir, "").await;
    for (node, memory) in nodes.iter().zip(&memories) {
        ScriptedAgent::resume(&coordinator, node, memory.clone()).await;
    }
    coordinator.apply(&small_fleet("two.example.org"), None).await;
    coordinator.until("rollout 2 done", rollout_is("done", 2)).await;
    let dir = coordinator.stop().await;
    fs::remove_dir_all(&data).unwrap();
    copy(&saved, &data);
    drop(fs::remove_file(data.join("address")));

    let coordinator = TestCoordinator::start_in(Arc::clone(&dir), "").await;
    for (node, memory) in nodes.iter().zip(&memories) {
        ScriptedAgent::resume(&coordinator, node, memory.clone()).await;
    }
    let is_older = |status: &StatusReply| status.nodes.iter().all(|node| node.state == "store-older");
    let status = coordinator.until("the store is older", is_older).await;
    assert!(status.store_older);
    let why = "STANDING_STORE_OLDER its agent has accepted generation 2, and the store knows only 1: the store is \
               older than its agents; apply again";
    assert_eq!(lines(&status), [format!("is-1 0 {why}"), format!("is-2 0 {why}")]);
    assert_eq!(status.nodes[0].standing(), Standing::StoreOlder);

    coordinator.apply(&small_fleet("three.example.org"), None).await;
    let status = coordinator.until("rollout 2 done", rollout_is("done", 2)).await;
    assert_eq!(lines(&status), ["is-1 2 STANDING_ON_NEWEST", "is-2 2 STANDING_ON_NEWEST"]);
    assert!(!status.store_older);
    coordinator.stop().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}
