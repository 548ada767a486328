//! Rollouts through the whole coordinator, with agents that are scripted and otherwise real.

use proto::wire::operator::{
    ControlRolloutRequest, DriftControlRequest, EventsRequest, RestartNodeRequest, RollbackRequest,
    StatusReply,
};

use crate::support::{Manner, ScriptedAgent, TestCoordinator, small_fleet};

fn rollout_is(state: &'static str, id: u64) -> impl Fn(&StatusReply) -> bool {
    move |status| status.rollouts.iter().any(|rollout| rollout.id == id && rollout.state == state)
}

async fn two_agents(coordinator: &TestCoordinator) -> [ScriptedAgent; 2] {
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    [ScriptedAgent::start(coordinator, &one).await, ScriptedAgent::start(coordinator, &two).await]
}

#[tokio::test]
async fn an_applied_change_reaches_every_node_once() {
    let coordinator = TestCoordinator::start().await;
    let agents = two_agents(&coordinator).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    let status = coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    assert!(status.nodes.iter().all(|node| node.state == "ready"), "{status:#?}");
    coordinator.apply(&small_fleet("two.example.org"), None).await;
    coordinator.until("rollout 2 done", rollout_is("done", 2)).await;
    for agent in &agents {
        assert_eq!(*agent.assigned.borrow(), [1, 2]);
    }
    // The same again is nothing to do.
    let again = coordinator.apply(&small_fleet("two.example.org"), None).await;
    assert_eq!((again.revision, again.rollout), (2, 0));
    // Other rules are something to do: guards and rollbacks go by the newest ones.
    let mut other = small_fleet("two.example.org");
    let manifest = other.get_mut("fleet.toml").unwrap();
    *manifest = manifest.replace("soak = \"1ms\"", "soak = \"2ms\"");
    let ruled = coordinator.apply(&other, None).await;
    assert_eq!((ruled.revision, ruled.rollout), (3, 3));
    coordinator.until("rollout 3 done", rollout_is("done", 3)).await;
    for agent in &agents {
        assert_eq!(*agent.assigned.borrow(), [1, 2]);
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn keys_and_what_trusts_them_do_not_change_in_one_go() {
    let coordinator = TestCoordinator::start().await;
    let agents = two_agents(&coordinator).await;
    let with = |key: &str, trust: &str| {
        let mut files = small_fleet("one.example.org");
        let security = "files/km/repository/resources/security";
        files.insert(format!("{security}/wso2carbon.jks"), key.to_owned());
        files.insert(format!("{security}/client-truststore.jks"), trust.to_owned());
        files
    };
    coordinator.apply(&with("k1", "t1"), None).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    let refused = coordinator.apply(&with("k2", "t2"), None).await;
    let codes: Vec<&str> = refused.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert!(refused.refused && codes.contains(&"CV552"), "{refused:?}");
    coordinator.apply(&with("k1", "t12"), None).await;
    coordinator.until("rollout 2 done", rollout_is("done", 2)).await;
    let warned = coordinator.apply(&with("k2", "t12"), None).await;
    let codes: Vec<&str> = warned.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert!(!warned.refused && codes.contains(&"CV553"), "{warned:?}");
    coordinator.until("rollout 3 done", rollout_is("done", 3)).await;
    assert_eq!(*agents[0].assigned.borrow(), [1, 2, 3]);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_node_that_fails_stops_the_rollout_and_what_was_changed_returns() {
    let coordinator = TestCoordinator::start().await;
    let agents = two_agents(&coordinator).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    agents[1].manner.send_replace(Manner::Refuses);
    coordinator.apply(&small_fleet("two.example.org"), None).await;
    let obeys_again = async {
        let mut assigned = agents[1].assigned.clone();
        assigned.wait_for(|all| all.len() == 2).await.unwrap();
        agents[1].manner.send_replace(Manner::Obeys);
    };
    obeys_again.await;
    let status = coordinator.until("rollout 2 rolled back", rollout_is("rolled-back", 2)).await;
    let rollout = status.rollouts.iter().find(|rollout| rollout.id == 2).unwrap();
    assert!(rollout.waiting.iter().any(|why| why.contains("start-failed")), "{rollout:#?}");
    // is-1 went forward and back, each time as a new generation.
    assert_eq!(*agents[0].assigned.borrow(), [1, 2, 3]);
    coordinator.stop().await;
}

#[tokio::test]
async fn going_back_leads_only_to_what_was_healthy_there() {
    let coordinator = TestCoordinator::start().await;
    let agents = two_agents(&coordinator).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    agents[0].manner.send_replace(Manner::Refuses);
    coordinator.apply(&small_fleet("two.example.org"), None).await;
    let mut assigned = agents[0].assigned.clone();
    assigned.wait_for(|all| all.len() == 2).await.unwrap();
    agents[0].manner.send_replace(Manner::Obeys);
    coordinator.until("rollout 2 rolled back", rollout_is("rolled-back", 2)).await;
    coordinator.apply(&small_fleet("three.example.org"), None).await;
    coordinator.until("rollout 3 done", rollout_is("done", 3)).await;

    let mut operator = coordinator.operator().await;
    let to = |to_revision| RollbackRequest { to_revision, ..RollbackRequest::default() };
    let refused = operator.rollback(to(2)).await.unwrap().into_inner();
    assert!(refused.refused && refused.refusal.contains("never healthy on is-1"), "{refused:?}");
    let shown = operator.plan_rollback(to(2)).await.unwrap().into_inner();
    assert!(shown.refusal.contains("never healthy on is-1"), "{shown:?}");
    // Without a number it is the newest that was healthy on all that it changes, and the plan says what that is.
    let shown = operator.plan_rollback(to(0)).await.unwrap().into_inner();
    assert_eq!((shown.base_revision, shown.to_revision, shown.nodes.len()), (3, 1, 2), "{shown:?}");
    let key = shown.nodes[0].keys.iter().find(|key| key.key == "server.hostname").unwrap();
    assert_eq!((key.old.as_str(), key.new.as_str()), ("\"three.example.org\"", "\"one.example.org\""));
    let back = operator.rollback(to(0)).await.unwrap().into_inner();
    assert_eq!((back.revision, back.refused), (4, false), "{back:?}");
    let status = coordinator.until("rollout 4 done", rollout_is("done", 4)).await;
    let rollout = status.rollouts.iter().find(|rollout| rollout.id == 4).unwrap();
    assert_eq!(rollout.rolls_back_to, 1, "{rollout:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn a_restarted_coordinator_goes_on_and_repeats_nothing() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let agent = ScriptedAgent::start(&coordinator, &one).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    // is-1 is through; is-2 is away, so the rollout waits.
    let waits = |status: &StatusReply| {
        let ready = status.nodes.iter().any(|node| node.name == "is-1" && node.state == "ready");
        ready && status.rollouts[0].waiting.iter().any(|why| why.contains("is-2"))
    };
    coordinator.until("is-1 ready, is-2 waited for", waits).await;
    let dir = coordinator.stop().await;
    agent.task.await.unwrap();

    let coordinator = TestCoordinator::start_in(dir, "").await;
    assert_eq!(coordinator.status().await.rollouts[0].state, "running");
    let one = ScriptedAgent::start(&coordinator, &one).await;
    let two = ScriptedAgent::start(&coordinator, &two).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    // It is told its newest assignment again on its new stream, under the old number, and nothing else.
    assert_eq!(*one.assigned.borrow(), [1]);
    assert_eq!(*two.assigned.borrow(), [1]);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_paused_rollout_sends_nothing_until_it_is_resumed() {
    let coordinator = TestCoordinator::start().await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    let mut operator = coordinator.operator().await;
    let control =
        |action: &str| ControlRolloutRequest { rollout: 1, action: action.into(), why: "lunch".into() };
    let paused = operator.control_rollout(control("pause")).await.unwrap().into_inner();
    assert_eq!((paused.state.as_str(), paused.waiting[0].as_str()), ("paused", "paused: lunch"));
    assert!(operator.control_rollout(control("pause")).await.is_err());
    assert!(operator.control_rollout(control("sideways")).await.is_err());
    let agents = two_agents(&coordinator).await;
    coordinator.until("both connected", |status| status.nodes.iter().all(|node| node.connected)).await;
    assert_eq!(*agents[0].assigned.borrow(), [] as [u64; 0]);
    operator.control_rollout(control("resume")).await.unwrap();
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_restart_is_refused_while_another_node_of_the_group_is_down() {
    let coordinator = TestCoordinator::start().await;
    let [one, two] = two_agents(&coordinator).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    let mut operator = coordinator.operator().await;
    let restart = |now| RestartNodeRequest { node: "is-1".into(), why: "test".into(), now };
    assert!(operator.restart_node(restart(false)).await.unwrap().into_inner().ok);
    two.kill().await;
    coordinator.until("is-2 gone", |status| status.nodes.iter().any(|node| !node.connected)).await;
    let guarded = operator.restart_node(restart(false)).await.unwrap().into_inner();
    assert!(guarded.guard && guarded.detail.contains("is-2"), "{guarded:?}");
    assert!(operator.restart_node(restart(true)).await.unwrap().into_inner().ok);
    one.kill().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn an_order_that_the_agent_refuses_is_not_told_as_done() {
    let coordinator = TestCoordinator::start().await;
    let agents = two_agents(&coordinator).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    coordinator.until("rollout 1 done", rollout_is("done", 1)).await;
    let restore = |path: &str| DriftControlRequest {
        node: "is-1".into(),
        action: "restore".into(),
        path: path.into(),
        ..DriftControlRequest::default()
    };
    let mut operator = coordinator.operator().await;
    assert!(operator.drift_control(restore("bin/known.sh")).await.unwrap().into_inner().ok);
    agents[0].manner.send_replace(Manner::Refuses);
    let refused = operator.drift_control(restore("bin/unknown.sh")).await.unwrap().into_inner();
    assert!(!refused.ok && refused.detail == "scripted refusal", "{refused:?}");
    let mut events = operator.events(EventsRequest::default()).await.unwrap().into_inner();
    let mut texts = Vec::new();
    while let Some(event) = events.message().await.unwrap() {
        texts.extend(Some(event).filter(|event| event.kind == "drift-control").map(|event| event.text));
    }
    let order = "admin restores bin/unknown.sh of is-1";
    let refusal = format!("{order}; it was not done: scripted refusal");
    assert_eq!(texts, ["admin restores bin/known.sh of is-1", order, &refusal]);
    coordinator.stop().await;
}

#[tokio::test]
async fn before_the_first_apply_there_is_nothing_to_go_back_to() {
    let coordinator = TestCoordinator::start().await;
    let mut operator = coordinator.operator().await;
    for to_revision in [0, 999] {
        let request = RollbackRequest { to_revision, ..RollbackRequest::default() };
        let shown = operator.plan_rollback(request).await.unwrap().into_inner();
        assert!(shown.refusal.contains("nothing was applied yet"), "{shown:?}");
    }
    coordinator.stop().await;
}
