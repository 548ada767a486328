//! `Logs`: an operator reads a node's log, part by part, as long as they may.

use std::{pin::Pin, sync::Arc, time::Duration};

use fleet::{
    access::{Action, Targets, may},
    ids::NodeName,
    logs::{Begin, LAST_MAX, LogPart, LogQuestion},
    time::Timestamp,
};
use futures::Stream;
use proto::{
    convert::logs::{answer_from_wire, grep_from_wire, log_from_wire},
    wire::{
        agent::{LogAnswer, LogReceived},
        operator::{self as wire, logs_server::Logs},
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    chain, commit_failed,
    follow::{expiry, gone, while_welcome},
    store_failed,
};
use crate::{
    access::targets_of_node,
    coordinator::Coordinator,
    events::{Draft, Kind},
    identity::{NodePeer, OperatorPeer},
    logs::{LogError, Place},
    store::Transaction,
};

/// Lines, if nobody says how many.
const LAST: u32 = 200;
/// Lines of one answer that is not followed.
const LINES_MAX: usize = 20_000;
/// Parts that wait for a slow reader.
const WAITING: usize = 2;
/// Between two looks at a log that is followed.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Reader {
    coordinator: Arc<Coordinator>,
}

impl Reader {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }
}

/// Takes the answer of `peer` to a question that it was asked.
pub(super) fn receive(
    coordinator: &Coordinator,
    peer: &NodePeer,
    answer: LogAnswer,
) -> Result<Response<LogReceived>, Status> {
    let id = answer.id;
    let answer = match answer_from_wire(answer) {
        Ok(answer) => answer.map_err(LogError::Refused),
        Err(error) => Err(LogError::Unusable(chain(&error))),
    };
    if coordinator.logs.questions.answer(id, &peer.name, answer) {
        Ok(Response::new(LogReceived {}))
    } else {
        Err(Status::not_found("nobody waits for this answer any more"))
    }
}

fn question(asked: wire::ReadLogsRequest) -> Result<LogQuestion, Status> {
    let invalid = |error: proto::convert::ConvertError| Status::invalid_argument(error.to_string());
    let since = asked.since_ms.map(Timestamp);
    let begin = match (asked.last, since) {
        (0, Some(_)) => Begin::Since,
        (0, None) => Begin::Last(LAST),
        (lines, _) if lines <= LAST_MAX => Begin::Last(lines),
        (_, _) => {
            return Err(Status::invalid_argument(format!(
                "the last {LAST_MAX} lines can be asked for, or a time since when"
            )));
        }
    };
    let log = log_from_wire(&asked.log).map_err(invalid)?;
    Ok(LogQuestion { log, begin, since, grep: grep_from_wire(asked.grep).map_err(invalid)? })
}

#[tonic::async_trait]
impl Logs for Reader {
    type ReadStream = Pin<Box<dyn Stream<Item = Result<wire::LogLines, Status>> + Send>>;

    async fn read(
        &self,
        request: Request<wire::ReadLogsRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let coordinator = &self.coordinator;
        let caller = caller(coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let node = super::operator::node_name(&request.node)?;
        let permit = caller.permit_for(Action::ReadLogs, &node).await?;
        let snapshot = coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        if !snapshot.names().contains(&node) {
            return Err(Status::not_found(format!("there is no node {node}; see `convoy node list`")));
        }
        let follow = request.follow;
        let question = question(request)?;
        let place = coordinator.logs.enter(&node);
        let place = place.map_err(|error| Status::resource_exhausted(format!("{node}: {error}")))?;
        // Who reads what is recorded before any of it leaves.
        let how = if follow { "follows" } else { "reads" };
        let text = format!("{} {how} the {} log of {node}", permit.operator(), question.log);
        let event = Draft::new((coordinator.clock)(), Kind::LogRead, text).of_node(&node);
        let event = event.with("log", &question.log);
        let recorded = coordinator.act(&permit, event, Transaction::default()).await;
        recorded.map_err(|error| commit_failed(&error))?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let reading = Reading {
            coordinator: coordinator.clone(),
            peer: caller.peer,
            targets: targets_of_node(&snapshot, &node),
            node,
            question,
            follow,
            _place: place,
        };
        coordinator.tasks.spawn("log stream", reading.run(sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// One who reads.
struct Reading {
    coordinator: Arc<Coordinator>,
    peer: OperatorPeer,
    targets: Targets,
    node: NodeName,
    question: LogQuestion,
    follow: bool,
    _place: Place,
}

impl Reading {
    async fn run(self, sender: mpsc::Sender<Result<wire::LogLines, Status>>) {
        let (coordinator, peer) = (self.coordinator.clone(), self.peer.clone());
        let expires = expiry(&coordinator, &peer);
        let sending = self.send(sender.clone());
        let in_time = async { drop(tokio::time::timeout_at(expires, sending).await) };
        while_welcome(&coordinator, &peer, &sender, in_time).await;
    }

    async fn send(mut self, sender: mpsc::Sender<Result<wire::LogLines, Status>>) {
        let (mut lines, mut is_first, mut is_away) = (0, true, false);
        loop {
            if let Err(status) = self.may_go_on() {
                return drop(sender.send(Err(status)).await);
            }
            let part = match self.coordinator.log_part(&self.node, self.question.clone()).await {
                Ok(part) => part,
                // An agent that is away for a moment goes on where it was, for it remembers nothing of this.
                Err(error @ (LogError::NotConnected | LogError::Busy | LogError::TimedOut))
                    if self.follow && !is_first =>
                {
                    let note = format!("{error}; waiting for it");
                    let told = std::mem::replace(&mut is_away, true);
                    if !told && sender.send(Ok(noted(note))).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
                Err(error) => {
                    let status = Status::failed_precondition(format!("{}: {error}", self.node));
                    return drop(sender.send(Err(status)).await);
                }
            };
            (is_first, is_away) = (false, false);
            let LogPart { lines: read, next, more, notes } = part;
            lines += read.len();
            self.question.begin = Begin::After(next);
            if !(read.is_empty() && notes.is_empty())
                && sender.send(Ok(wire::LogLines { lines: read, notes })).await.is_err()
            {
                return;
            }
            if !self.follow && more && LINES_MAX <= lines {
                let note =
                    format!("there is more than {lines} lines; a later --since or --grep shows the rest");
                return drop(sender.send(Ok(noted(note))).await);
            }
            match (more, self.follow) {
                (true, _) => {}
                (false, true) => tokio::time::sleep(PAUSE).await,
                (false, false) => return,
            }
        }
    }

    /// Rights can be taken away while somebody reads.
    fn may_go_on(&self) -> Result<(), Status> {
        let Some(records) = self.coordinator.mirror.held() else { return Ok(()) };
        let principal = self.coordinator.principal(&records, &self.peer).map_err(|why| gone(&why))?;
        let permitted = may(&principal, Action::ReadLogs, &self.targets);
        permitted.map(drop).map_err(|denied| Status::permission_denied(denied.to_string()))
    }
}

fn noted(note: String) -> wire::LogLines {
    wire::LogLines { lines: Vec::new(), notes: vec![note] }
}
