//! Logs of nodes: asked for part by part, only of an agent that knows how, and ended when the reader may no longer.

use proto::wire::{
    agent::{LogAnswer, LogPosition, ReadLog, agent_link_client::AgentLinkClient, to_agent},
    operator::{LogLines, ReadLogsRequest, logs_client::LogsClient},
};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::{PATIENCE, TestCoordinator, TestNode, TestSession, small_fleet};

/// One call, for the table of who may do what.
pub async fn call(channel: Channel) -> Result<(), Status> {
    let request = ReadLogsRequest { node: "km-1".to_owned(), log: "carbon".to_owned(), ..Default::default() };
    LogsClient::new(channel).read(request).await.map(drop)
}

async fn client(coordinator: &TestCoordinator) -> LogsClient<Channel> {
    let context = coordinator.context();
    let identity = (context.certificate_pem.as_str(), context.key_pem.as_str());
    LogsClient::new(coordinator.channel(Some(identity)).await.unwrap())
}

async fn read(
    coordinator: &TestCoordinator,
    request: ReadLogsRequest,
) -> Result<Streaming<LogLines>, Status> {
    client(coordinator).await.read(request).await.map(tonic::Response::into_inner)
}

fn request(follow: bool) -> ReadLogsRequest {
    ReadLogsRequest { node: "is-1".to_owned(), log: "carbon".to_owned(), follow, ..Default::default() }
}

async fn asked(session: &mut TestSession) -> ReadLog {
    session
        .until(|message| match message {
            to_agent::Message::ReadLog(asked) => Some(asked),
            _ => None,
        })
        .await
}

async fn give(coordinator: &TestCoordinator, node: &TestNode, answer: LogAnswer) -> Result<(), Status> {
    AgentLinkClient::new(node.channel(coordinator).await).give_log(answer).await.map(drop)
}

fn answer(id: u64, line: &str, more: bool) -> LogAnswer {
    let next = Some(LogPosition { file: 7, offset: line.len() as u64, reached: 0 });
    LogAnswer { id, lines: vec![line.to_owned()], next, more, ..LogAnswer::default() }
}

#[tokio::test]
async fn a_log_is_pulled_part_by_part_from_the_node_that_was_asked() {
    let coordinator = TestCoordinator::start().await;
    let (node, stranger) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    let away = read(&coordinator, request(false)).await.unwrap().message().await.err().unwrap();
    assert!(away.code() == Code::FailedPrecondition && away.message().contains("not connected"), "{away:?}");

    let mut old = node.session_of(&coordinator, 1).await.unwrap();
    let too_old = read(&coordinator, request(false)).await.unwrap().message().await.err().unwrap();
    assert!(too_old.message().contains("does not give logs yet; update it"), "{too_old:?}");
    drop(old.listen().await);
    drop(old);

    let mut session = node.session_of(&coordinator, 2).await.unwrap();
    let mut lines = read(&coordinator, request(false)).await.unwrap();
    let first = asked(&mut session).await;
    assert_eq!(
        give(&coordinator, &stranger, answer(first.id, "x", false)).await.unwrap_err().code(),
        Code::NotFound
    );
    give(&coordinator, &node, answer(first.id, "one \u{1b}[2J", true)).await.unwrap();
    assert_eq!(lines.message().await.unwrap().unwrap().lines, ["one \\u001b[2J"]);
    let second = asked(&mut session).await;
    let begin = second.begin.unwrap();
    assert!(format!("{begin:?}").contains("file: 7"), "goes on where the part before ended: {begin:?}");
    give(&coordinator, &node, answer(second.id, "two", false)).await.unwrap();
    assert_eq!(lines.message().await.unwrap().unwrap().lines, ["two"]);
    assert!(lines.message().await.unwrap().is_none());

    let events = coordinator.events(Default::default()).await;
    let told = events.iter().filter(|event| event.kind == "log-read").count();
    assert_eq!(told, 3, "who reads is recorded, and before anything is read");
    coordinator.stop().await;
}

#[tokio::test]
async fn five_cannot_read_one_node_and_a_place_is_free_again_when_a_reader_has_gone() {
    let coordinator = TestCoordinator::start().await;
    let node = coordinator.join("is-1").await;
    coordinator.apply(&small_fleet("a.example.org"), None).await;
    let _session = node.session_of(&coordinator, 2).await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(read(&coordinator, request(true)).await.unwrap());
    }
    let refused = read(&coordinator, request(true)).await.err().unwrap();
    assert!(
        refused.code() == Code::ResourceExhausted && refused.message().contains("4 times"),
        "{refused:?}"
    );
    readers.pop();
    let free = async {
        while read(&coordinator, request(false)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, free).await.expect("the place of the reader that has gone");
    coordinator.stop().await;
}
