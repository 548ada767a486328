//! What lies on a host: asked for when a node joins, taken only from the node that was asked, and kept.

use std::{collections::BTreeMap, sync::Arc};

use fleet::{
    bundle::HomePath,
    host::{CONFIG, FoundEntry, FoundFile, FoundServer, HomeHistory, HostFacts},
    ids::Digest,
    time::Timestamp,
};
use proto::{
    convert::host::encode_answer,
    wire::{
        agent::{HostChunk, Look, agent_link_client::AgentLinkClient, to_agent},
        operator::ShowHostRequest,
    },
};
use tonic::{Code, Status};

use crate::support::{PATIENCE, TestCoordinator, TestNode, TestSession};

pub const TOML: &[u8] = b"[server]\noffset = 3\n";

pub fn facts() -> HostFacts {
    let file = FoundFile {
        digest: Digest::of(TOML),
        meaning: Digest::of(b"meaning"),
        size: TOML.len() as u64,
        mode: 0o600,
        owner: "wso2".to_owned(),
        group: "wso2".to_owned(),
        modified: Timestamp(1),
    };
    HostFacts {
        at: Timestamp(2),
        home: "/opt/is".to_owned(),
        product: None,
        offset: Some(3),
        server: FoundServer::Stopped,
        history: HomeHistory::NeverStarted,
        keystores: Vec::new(),
        entries: BTreeMap::from([(HomePath::parse(CONFIG).unwrap(), FoundEntry::File(file))]),
        contents: BTreeMap::from([(Digest::of(TOML), Arc::from(TOML))]),
        original: None,
        allowed: None,
        peers: Vec::new(),
        registered: None,
        databases: Vec::new(),
    }
}

pub fn chunks(id: u64, answer: &[u8]) -> Vec<HostChunk> {
    let parts: Vec<&[u8]> = answer.chunks(16 * 1024).collect();
    let count = parts.len();
    let chunk = |(index, data): (usize, &&[u8])| HostChunk {
        id: if index == 0 { id } else { 0 },
        size: if index == 0 { answer.len() as u64 } else { 0 },
        data: data.to_vec(),
        last: index + 1 == count,
    };
    parts.iter().enumerate().map(chunk).collect()
}

async fn give(coordinator: &TestCoordinator, node: &TestNode, chunks: Vec<HostChunk>) -> Result<(), Status> {
    let mut client = AgentLinkClient::new(node.channel(coordinator).await);
    client.give_host(tokio_stream::iter(chunks)).await.map(drop)
}

async fn asked(session: &mut TestSession) -> Look {
    session
        .until(|message| match message {
            to_agent::Message::Look(look) => Some(look),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_host_that_joins_is_looked_at_and_only_its_own_answer_counts() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let stranger = coordinator.join("is-2").await;
    let mut session = node.session_of(&coordinator, 1).await.unwrap();
    let look = asked(&mut session).await;
    assert!(look.contents && !look.more && look.known.is_empty(), "{look:?}");

    let answer = encode_answer(&Ok(facts()));
    for (from, id) in [(&stranger, look.id), (&node, look.id ^ 1)] {
        let status = give(&coordinator, from, chunks(id, &answer)).await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
        assert!(status.message().contains("nobody waits"), "{status:?}");
    }

    give(&coordinator, &node, chunks(look.id, &answer)).await.unwrap();
    let again = give(&coordinator, &node, chunks(look.id, &answer)).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound, "a question is answered once");

    // Kept: the next session's question says that the content is here.
    loop {
        drop(session);
        session = node.session_of(&coordinator, 1).await.unwrap();
        let look = asked(&mut session).await;
        if look.known == [Digest::of(TOML).0.to_vec()] {
            break;
        }
    }
    coordinator.stop().await;
}

/// An answer, how its first part is spoilt, and what is said about it.
struct Bad<'a> {
    answer: &'a [u8],
    change: fn(&mut HostChunk),
    code: Code,
    text: &'static str,
}

#[tokio::test]
async fn whoever_asks_learns_at_once_of_an_answer_that_cannot_be_used() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    let mut session = node.session_of(&coordinator, 1).await.unwrap();
    let answer = encode_answer(&Ok(facts()));
    let first = asked(&mut session).await;
    give(&coordinator, &node, chunks(first.id, &answer)).await.unwrap();

    let mut foreign = facts();
    foreign.contents.insert(Digest::of(b"more"), Arc::from(&b"more"[..]));
    let foreign = encode_answer(&Ok(foreign));
    let bad = |answer, change, code, text| Bad { answer, change, code, text };
    let cases = [
        bad(&answer, |chunk| chunk.size -= 1, Code::ResourceExhausted, "longer than announced"),
        bad(&answer, |chunk| chunk.size = u64::MAX, Code::ResourceExhausted, "at most"),
        bad(&answer, |chunk| chunk.last = false, Code::InvalidArgument, "ended early"),
        bad(&foreign, |_| {}, Code::InvalidArgument, "contents"),
    ];
    for Bad { answer, change, code, text } in cases {
        let mut operator = coordinator.operator().await;
        let wish = ShowHostRequest { node: "is-1".to_owned(), config: false };
        let asking = tokio::spawn(async move { operator.show_host(wish).await.unwrap().into_inner() });
        let look = asked(&mut session).await;
        let mut chunks = chunks(look.id, answer);
        change(&mut chunks[0]);
        let status = give(&coordinator, &node, chunks).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(text), "{status:?}");
        let reply = tokio::time::timeout(PATIENCE, asking).await.unwrap().unwrap();
        // Not that it has not answered, which would be said after a while.
        let why = format!("the answer of its agent cannot be used: {}", status.message());
        assert!(reply.not_now.contains(&why), "{reply:?}");
    }
    coordinator.stop().await;
}
