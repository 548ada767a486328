//! Packs of hosts: asked for once, taken only from whom they belong to, and used by the next plan.

use fleet::{ids::Digest, pack::Resources};
use prost::Message as _;
use proto::{
    convert::pack::named_pack,
    wire::{
        agent::{
            PackChunk, PackContent, PackFile, Report, agent_link_client::AgentLinkClient, from_agent,
            to_agent,
        },
        operator::PlanReply,
    },
};
use tonic::{Code, Status};

use crate::support::{ScriptedAgent, TestCoordinator, TestNode, TestSession, report, small_fleet, upload};

const ROOT: &str = "repository/resources/conf/";

/// A small pack that prints the host name between `tag`s and takes lower-case names only.
pub fn pack(tag: &str) -> (Digest, Vec<u8>) {
    let template = format!("<a>\n<{tag}>{{{{ server.hostname }}}}</{tag}>\n</a>");
    let rules = ["key-mappings.json", "infer.json", "default.json", "unit-resolve.json"];
    let rules = rules.map(|file| (format!("{ROOT}{file}"), b"{}".to_vec()));
    let more = [
        (format!("{ROOT}validator.json"), br#"{"server.hostname": [{"regex": "[a-z.]+"}]}"#.to_vec()),
        (format!("{ROOT}templates/conf/a.xml.j2"), template.into_bytes()),
    ];
    named_pack(&Resources::new(rules.into_iter().chain(more)).unwrap())
}

pub fn chunks(digest: Digest, content: &[u8]) -> Vec<PackChunk> {
    let parts: Vec<&[u8]> = content.chunks(16 * 1024).collect();
    let count = parts.len();
    let chunk = |(index, data): (usize, &&[u8])| PackChunk {
        digest: if index == 0 { digest.0.to_vec() } else { Vec::new() },
        size: if index == 0 { content.len() as u64 } else { 0 },
        data: data.to_vec(),
        last: index + 1 == count,
    };
    parts.iter().enumerate().map(chunk).collect()
}

pub async fn give(
    coordinator: &TestCoordinator,
    node: &TestNode,
    chunks: Vec<PackChunk>,
) -> Result<(), Status> {
    let mut client = AgentLinkClient::new(node.channel(coordinator).await);
    client.give_pack(tokio_stream::iter(chunks)).await.map(drop)
}

/// A session that reports `digest`, once the coordinator has asked for it.
pub async fn asked(coordinator: &TestCoordinator, node: &TestNode, digest: Digest) -> TestSession {
    let mut session = node.session(coordinator).await.unwrap();
    let report = Report { pack_digest: digest.to_string(), ..report(None, None) };
    session.say(from_agent::Message::Report(report)).await;
    let wanted = session.until(|message| match message {
        to_agent::Message::SendPack(wanted) => Some(wanted.digest),
        _ => None,
    });
    assert_eq!(wanted.await, digest.0.to_vec());
    session
}

async fn plan(coordinator: &TestCoordinator, hostname: &str) -> PlanReply {
    let files = small_fleet(hostname);
    let mut operator = coordinator.operator().await;
    operator.plan(tokio_stream::iter(upload(&files, None))).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_pack_is_asked_for_given_and_used() {
    let coordinator = TestCoordinator::start().await;
    let (digest, content) = pack("h");
    let first = plan(&coordinator, "one.example").await;
    assert!(first.nodes.iter().all(|node| node.effects.is_none()), "{first:?}");
    assert!(first.nodes.iter().all(|node| node.pack_unknown.contains("no agent has reported")), "{first:?}");

    let node = coordinator.join("is-1").await;
    let _session = asked(&coordinator, &node, digest).await;
    let waiting = plan(&coordinator, "one.example").await;
    assert!(waiting.nodes[0].pack_unknown.contains("has not sent it yet"), "{waiting:?}");
    give(&coordinator, &node, chunks(digest, &content)).await.unwrap();
    // Given again it does no harm.
    give(&coordinator, &node, chunks(digest, &content)).await.unwrap();

    let planned = plan(&coordinator, "one.example").await;
    let effects = planned.nodes[0].effects.as_ref().unwrap();
    assert_eq!((effects.rendered, effects.pack_digest.as_str()), (1, digest.to_string().as_str()));
    assert!(planned.nodes[1].pack_unknown.contains("no agent has reported"), "{planned:?}");

    // The mapper would refuse it, so the coordinator does, before anything is written.
    let refused = plan(&coordinator, "UPPER").await;
    assert!(refused.refused, "{refused:?}");
    let finding = refused.findings.iter().find(|finding| finding.code == "CV501").unwrap();
    assert_eq!(
        (finding.node.as_str(), finding.file.as_str(), finding.line),
        ("is-1", "config/common.toml", 2)
    );
    let refused = coordinator.apply(&small_fleet("UPPER"), None).await;
    assert!(refused.refused && refused.findings.iter().any(|finding| finding.code == "CV501"), "{refused:?}");
    assert_eq!(coordinator.status().await.revision, 0);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_pack_is_taken_only_as_announced_and_only_from_its_node() {
    let coordinator = TestCoordinator::start().await;
    let (digest, content) = pack("h");
    let (other, _) = pack("other");
    let node = coordinator.join("is-1").await;
    let stranger = coordinator.join("is-2").await;
    let _session = asked(&coordinator, &node, digest).await;
    let first = |change: fn(&mut PackChunk)| {
        let mut chunks = chunks(digest, &content);
        change(&mut chunks[0]);
        chunks
    };
    let cases = [
        (&stranger, chunks(digest, &content), Code::PermissionDenied, "does not report pack"),
        (&node, chunks(other, &content), Code::PermissionDenied, "does not report pack"),
        (&node, first(|chunk| chunk.data[20] ^= 1), Code::InvalidArgument, "content of pack"),
        (&node, first(|chunk| chunk.size = 9), Code::ResourceExhausted, "longer than announced"),
        (&node, first(|chunk| chunk.size = 1 << 40), Code::ResourceExhausted, "at most"),
        (&node, first(|chunk| chunk.data = vec![0; 20_000]), Code::InvalidArgument, "a part has at most"),
        (&node, first(|chunk| chunk.last = false), Code::InvalidArgument, "ended early"),
        (&node, first(|chunk| chunk.digest.clear()), Code::InvalidArgument, "names the pack's digest"),
        (&node, Vec::new(), Code::InvalidArgument, "at least one part"),
    ];
    for (who, chunks, code, text) in cases {
        let status = give(&coordinator, who, chunks).await.unwrap_err();
        assert!(status.code() == code && status.message().contains(text), "{text}: {status:?}");
    }
    // An operator is no node.
    let context = coordinator.context();
    let channel = coordinator.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap();
    let status = AgentLinkClient::new(channel).give_pack(tokio_stream::iter(chunks(digest, &content))).await;
    assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
    coordinator.stop().await;
}

#[tokio::test]
async fn a_node_that_makes_up_packs_does_not_keep_out_those_of_others() {
    let coordinator = TestCoordinator::start().await;
    let loud = coordinator.join("is-1").await;
    let session = loud.session(&coordinator).await.unwrap();
    let mut refused = None;
    for index in 0..10 {
        let (digest, content) = pack(&format!("junk{index}"));
        let report = Report { pack_digest: digest.to_string(), ..report(None, None) };
        session.say(from_agent::Message::Report(report)).await;
        // It counts once the report has arrived.
        let given = loop {
            match give(&coordinator, &loud, chunks(digest, &content)).await {
                Err(status) if status.code() == Code::PermissionDenied => tokio::task::yield_now().await,
                given => break given,
            }
        };
        if let Err(status) = given {
            refused.get_or_insert((index, status));
        }
    }
    let (index, status) = refused.unwrap();
    assert!(index == 8 && status.message().contains("8 packs of is-1"), "{index}: {status}");
    let quiet = coordinator.join("is-2").await;
    let (digest, content) = pack("h");
    let _session = asked(&coordinator, &quiet, digest).await;
    give(&coordinator, &quiet, chunks(digest, &content)).await.unwrap();
    coordinator.stop().await;
}

#[tokio::test]
async fn what_is_no_pack_is_refused_even_under_its_own_digest() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let file = PackFile { path: "repository/conf/deployment.toml".into(), data: b"a = 1".to_vec() };
    let content = PackContent { files: vec![file] }.encode_to_vec();
    let digest = Digest::of(&content);
    let _session = asked(&coordinator, &node, digest).await;
    let status = give(&coordinator, &node, chunks(digest, &content)).await.unwrap_err();
    assert!(status.message().contains("is no configuration resource"), "{status:?}");
    coordinator.stop().await;
}

#[tokio::test]
async fn an_update_in_place_shows_until_the_server_has_started_with_it() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let (old, old_content) = pack("h");
    let (new, new_content) = pack("host");
    // Something has to be in force to be compared.
    let agent = ScriptedAgent::start(&coordinator, &node).await;
    coordinator.apply(&small_fleet("one.example"), None).await;
    coordinator
        .until("is-1 has the first revision", |status| {
            status.nodes.iter().any(|node| node.name == "is-1" && node.desired_revision == 1)
        })
        .await;
    agent.kill().await;

    let running = |digest: Digest, pid: u32| {
        let process = proto::wire::agent::Process { pid, start_id: "boot".into(), started_ms: 1 };
        let told = report(None, None);
        from_agent::Message::Report(Report {
            pack_digest: digest.to_string(),
            process: Some(process),
            ..told
        })
    };
    let session = asked(&coordinator, &node, old).await;
    give(&coordinator, &node, chunks(old, &old_content)).await.unwrap();
    session.say(running(old, 7)).await;
    planned_until(&coordinator, "nothing is told", |plan| plan.nodes.iter().all(|node| node.node != "is-1"))
        .await;

    // The host is updated; the server goes on with what it rendered.
    session.say(running(new, 7)).await;
    let asked_again = async {
        loop {
            if give(&coordinator, &node, chunks(new, &new_content)).await.is_ok() {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, asked_again).await.unwrap();
    let plan = planned_until(&coordinator, "the update shows", |plan| {
        plan.nodes.iter().any(|node| node.node == "is-1" && node.effects.is_some())
    })
    .await;
    let shown = plan.nodes.iter().find(|node| node.node == "is-1").unwrap();
    let effects = shown.effects.as_ref().unwrap();
    assert_eq!((shown.change.as_str(), effects.files.len()), ("none", 1), "{shown:?}");
    assert!(effects.files[0].diff.contains("-<h>one.example</h>\n+<host>one.example</host>"), "{effects:?}");

    // Another process has rendered with it.
    session.say(running(new, 8)).await;
    planned_until(&coordinator, "it is in force", |plan| plan.nodes.iter().all(|node| node.node != "is-1"))
        .await;
    coordinator.stop().await;
}

/// Reports are stored beside the session, so a plan may be asked for before they are.
async fn planned_until(
    coordinator: &TestCoordinator,
    what: &str,
    is: impl Fn(&PlanReply) -> bool,
) -> PlanReply {
    let wait = async {
        loop {
            let plan = plan(coordinator, "one.example").await;
            if is(&plan) {
                return plan;
            }
            tokio::task::yield_now().await;
        }
    };
    match tokio::time::timeout(crate::support::PATIENCE, wait).await {
        Ok(plan) => plan,
        Err(_) => panic!("it never came to this: {what}; {:#?}", plan(coordinator, "one.example").await),
    }
}
