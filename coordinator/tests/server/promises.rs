//! What docs/plan.md promises and no other test holds.

use proto::wire::{
    agent::{Report, from_agent},
    operator::{PlanReply, RollbackRequest, StatusReply, Upload, upload::Part},
};

use crate::{
    packs::{asked, chunks, give, pack},
    support::{ScriptedAgent, TestCoordinator, report, small_fleet, upload},
};

async fn plan(coordinator: &TestCoordinator, hostname: &str) -> PlanReply {
    let upload = upload(&small_fleet(hostname), None);
    coordinator.operator().await.plan(tokio_stream::iter(upload)).await.unwrap().into_inner()
}

fn source<'a>(plan: &'a PlanReply, node: &str) -> (&'a str, &'a str) {
    let node = plan.nodes.iter().find(|plan| plan.node == node).unwrap();
    (&node.source, &node.source_why)
}

#[tokio::test]
async fn a_host_that_is_too_old_or_does_not_answer_is_planned_for_without_its_answer() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let old = ScriptedAgent::start(&coordinator, &one).await;
    let silent = two.session_of(&coordinator, 1).await.unwrap();
    silent.say(from_agent::Message::Report(report(None, None))).await;
    let both = |status: &StatusReply| status.nodes.iter().filter(|node| node.connected).count() == 2;
    coordinator.until("both connected", both).await;
    let shown = plan(&coordinator, "one.example").await;
    let (kind, why) = source(&shown, "is-1");
    assert!(kind == "nothing" && why.contains("version test, cannot tell yet"), "{kind}: {why}");
    let (kind, why) = source(&shown, "is-2");
    assert!(kind == "nothing" && why.contains("did not answer within 3 s"), "{kind}: {why}");

    // Once something was assigned to it, that is what its next plan is compared with.
    coordinator.apply(&small_fleet("one.example"), None).await;
    old.assigned.clone().wait_for(|all| !all.is_empty()).await.unwrap();
    let has_it = |status: &StatusReply| status.nodes.iter().any(|node| node.state == "ready");
    coordinator.until("is-1 ready", has_it).await;
    assert_eq!(source(&plan(&coordinator, "two.example").await, "is-1").0, "assigned");
    coordinator.stop().await;
}

#[tokio::test]
async fn an_apply_of_some_nodes_waits_for_the_rollout_of_the_others() {
    let coordinator = TestCoordinator::start().await;
    // Nobody has joined: it stays under way.
    let first = coordinator.apply(&small_fleet("one.example"), None).await;
    assert_eq!((first.revision, first.refused), (1, false), "{first:?}");
    let mut messages: Vec<Upload> = upload(&small_fleet("two.example"), None);
    if let Some(Part::Header(header)) = &mut messages[0].part {
        header.nodes = vec!["is-1".to_owned()];
    }
    let mut operator = coordinator.operator().await;
    let refused = operator.apply(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let why = "rollout 1 is under way and has is-2, which this apply leaves out";
    assert!(refused.refused && refused.refusal.contains(why), "{refused:?}");
    assert_eq!(coordinator.status().await.revision, 1);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_rollback_is_not_held_up_by_findings() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let alone = |hostname: &str| {
        let mut files = small_fleet(hostname);
        let manifest = files.get_mut("fleet.toml").unwrap();
        *manifest = manifest.split("[nodes.is-2]").next().unwrap().to_owned();
        files
    };
    let done = |id: u64| {
        move |status: &StatusReply| status.rollouts.iter().any(|it| it.id == id && it.state == "done")
    };
    let agent = ScriptedAgent::start(&coordinator, &node).await;
    // Its pack is not known yet, so nobody can tell that it takes lower-case names only.
    coordinator.apply(&alone("Upper.example"), None).await;
    coordinator.until("rollout 1 done", done(1)).await;
    coordinator.apply(&alone("lower.example"), None).await;
    coordinator.until("rollout 2 done", done(2)).await;
    agent.kill().await;
    let (digest, content) = pack("h");
    let session = asked(&coordinator, &node, digest).await;
    give(&coordinator, &node, chunks(digest, &content)).await.unwrap();
    session
        .say(from_agent::Message::Report(Report { pack_digest: digest.to_string(), ..report(None, None) }))
        .await;

    let mut operator = coordinator.operator().await;
    let messages = upload(&alone("Upper.example"), None);
    let shown = operator.plan(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let codes: Vec<&str> = shown.findings.iter().map(|finding| finding.code.as_str()).collect();
    assert!(shown.refused && codes.contains(&"CV501"), "{shown:?}");
    let back = RollbackRequest { to_revision: 1, ..RollbackRequest::default() };
    let back = operator.rollback(back).await.unwrap().into_inner();
    assert_eq!((back.revision, back.refused), (3, false), "{back:?}");
    coordinator.stop().await;
}
