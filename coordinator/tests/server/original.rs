//! What lay on a host before the first apply: an operator has it put back, and may read it.

use proto::{
    convert::host::encode_answer,
    wire::{
        agent::{
            Applied, Assign, CommandResult, Original, Report, agent_link_client::AgentLinkClient, command,
            from_agent, to_agent,
        },
        operator::{CommandReply, EventsRequest, ReturnToOriginalRequest, ShowHostRequest},
    },
};
use tonic::Code;

use crate::{
    hosts::{TOML, chunks, facts},
    support::{PATIENCE, ScriptedAgent, TestCoordinator, TestSession, report, small_fleet},
};

fn wish(node: &str, now: bool) -> ReturnToOriginalRequest {
    ReturnToOriginalRequest { node: node.to_owned(), why: "as it was".to_owned(), now }
}

async fn back(coordinator: &TestCoordinator, node: &str, now: bool) -> CommandReply {
    let mut operator = coordinator.operator().await;
    operator.return_to_original(wish(node, now)).await.unwrap().into_inner()
}

/// What a node reports that keeps an original.
fn keeping(assign: &Assign) -> Report {
    let original = Original { taken_ms: 1, digest: vec![8; 32], before: 1, files: 2, bytes: 3 };
    Report { original: Some(original), ..report(Some(assign), None) }
}

async fn assigned(session: &mut TestSession) -> Assign {
    session
        .until(|message| match message {
            to_agent::Message::Assign(assign) => Some(assign),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn an_operator_has_the_original_put_back_and_is_answered_once_it_is_in_force() {
    let coordinator = TestCoordinator::start().await;
    let (one, two) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let _other = ScriptedAgent::start(&coordinator, &two).await;
    let mut session = one.session(&coordinator).await.unwrap();
    session.say(from_agent::Message::Report(report(None, None))).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    let assign = assigned(&mut session).await;
    session.say(from_agent::Message::Report(keeping(&assign))).await;
    let done = |status: &proto::wire::operator::StatusReply| {
        status.rollouts.iter().any(|rollout| rollout.state == "done")
    };
    coordinator.until("rollout 1 done", done).await;

    let asked = tokio::spawn({
        let mut operator = coordinator.operator().await;
        async move { operator.return_to_original(wish("is-1", false)).await.unwrap().into_inner() }
    });
    let (id, why) = session
        .until(|message| match message {
            to_agent::Message::Command(command) => match command.action {
                Some(command::Action::RestoreOriginal(restore)) => Some((command.id, restore.why)),
                _ => None,
            },
            _ => None,
        })
        .await;
    assert_eq!(why, "as it was");
    let result = CommandResult { id, ok: true, detail: "the original files are being put back".into() };
    session.say(from_agent::Message::Result(result)).await;
    // Until it says that they are in force, nobody is told so.
    coordinator.status().await;
    assert!(!asked.is_finished(), "the answer came before the files");
    let original = Applied { generation: 0, bundle: vec![8; 32] };
    let there = Report { written: Some(original.clone()), running: Some(original), ..keeping(&assign) };
    session.say(from_agent::Message::Report(there)).await;
    let reply = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap();
    assert!(reply.ok && reply.detail.contains("are in force again"), "{reply:?}");

    let status =
        coordinator.until("is-1 on its original", |status| status.nodes[0].state == "original").await;
    assert!(status.nodes[0].state_why.contains("next apply"), "{:?}", status.nodes[0].state_why);
    let events = coordinator.events(EventsRequest::default()).await;
    let event = events.iter().find(|event| event.kind == "original-restored").expect("it is recorded");
    assert_eq!((event.node.as_str(), event.actor.as_str()), ("is-1", "admin"));
    assert!(event.text.contains("as it was"), "{event:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn an_original_is_refused_where_it_would_do_harm_or_is_not_there() {
    let coordinator = TestCoordinator::start().await;
    let unknown = back(&coordinator, "nobody", false).await;
    assert!(!unknown.ok && unknown.detail.contains("nobody"), "{unknown:?}");
    let one = coordinator.join("is-1").await;
    let away = back(&coordinator, "is-1", false).await;
    assert!(!away.ok && away.detail.contains("is-1"), "{away:?}");

    // Its agent is of an earlier version: it kept nothing.
    let other = ScriptedAgent::start(&coordinator, &one).await;
    let two = coordinator.join("is-2").await;
    let mut session = two.session(&coordinator).await.unwrap();
    session.say(from_agent::Message::Report(report(None, None))).await;
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    let assign = assigned(&mut session).await;

    // While a rollout has a step for a node, that node is the rollout's.
    let open = back(&coordinator, "is-2", true).await;
    assert!(open.guard && open.detail.contains("rollout 1 has a step for is-2"), "{open:?}");
    session.say(from_agent::Message::Report(keeping(&assign))).await;
    coordinator.until("rollout 1 done", |status| status.rollouts.iter().any(|it| it.state == "done")).await;
    let none = back(&coordinator, "is-1", true).await;
    assert!(none.guard && none.detail.contains("is-1 keeps no original"), "{none:?}");

    // The other one of the group is down: nobody may take this one down as well, unless somebody insists.
    other.kill().await;
    coordinator.until("is-1 gone", |status| !status.nodes[0].connected).await;
    let spared = back(&coordinator, "is-2", false).await;
    assert!(spared.guard && spared.detail.contains("--now"), "{spared:?}");
    let events = coordinator.events(EventsRequest::default()).await;
    assert!(events.iter().all(|event| event.kind != "original-restored"), "what is refused is not ordered");
    coordinator.stop().await;
}

#[tokio::test]
async fn who_reads_the_configuration_of_a_host_is_recorded() {
    let coordinator = TestCoordinator::start().await;
    let mut operator = coordinator.operator().await;
    let ask = |config| ShowHostRequest { node: "is-1".to_owned(), config };
    assert_eq!(operator.show_host(ask(true)).await.unwrap_err().code(), Code::NotFound);
    let node = coordinator.join("is-1").await;
    let reply = operator.show_host(ask(true)).await.unwrap().into_inner();
    assert!(reply.facts.is_none() && reply.not_now.contains("not connected"), "{reply:?}");

    let mut session = node.session_of(&coordinator, 1).await.unwrap();
    let mut client = AgentLinkClient::new(node.channel(&coordinator).await);
    // Asked when it joins, and by the operator.
    let answers = tokio::spawn(async move {
        while let Some(message) = session.listen().await {
            if let to_agent::Message::Look(look) = message {
                let answer = encode_answer(&Ok(facts()));
                drop(client.give_host(tokio_stream::iter(chunks(look.id, &answer))).await);
            }
        }
    });
    let reply = loop {
        let reply = operator.show_host(ask(true)).await.unwrap().into_inner();
        if reply.not_now.is_empty() {
            break reply;
        }
    };
    assert_eq!(reply.config.as_deref(), Some(TOML));
    assert_eq!(reply.facts.unwrap().home, "/opt/is");
    let plain = operator.show_host(ask(false)).await.unwrap().into_inner();
    assert!(plain.facts.is_some() && plain.config.is_none(), "content only for who asks for it");
    let node = proto::wire::operator::NodeRequest { node: "is-1".to_owned() };
    let shown =
        operator.show_node(node).await.unwrap().into_inner().found.expect("nothing was assigned to it");
    assert!(shown.facts.is_some() && shown.config.is_none());

    let events = coordinator.events(EventsRequest::default()).await;
    let read: Vec<_> = events.iter().filter(|event| event.kind == "host-read").collect();
    assert!(2 <= read.len() && read.iter().all(|event| event.actor == "admin" && event.node == "is-1"));
    answers.abort();
    coordinator.stop().await;
}
