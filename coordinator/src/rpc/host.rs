//! An answer about a host as it arrives from a node: only to a question that waits, bounded, and checked before anybody
//! relies on it.

use std::time::Duration;

use fleet::{foreign::printable, host::HostFacts};
use proto::{
    convert::host::{ANSWER_SIZE_MAX, decode_answer},
    wire::agent::{HostChunk, HostReceived},
};
use tonic::{Response, Status, Streaming};

use super::chain;
use crate::{
    coordinator::Coordinator,
    hosts::{LOOK_TIME, LookError},
    identity::NodePeer,
};

/// A node that sends nothing for so long is given up.
const CHUNK_TIME: Duration = Duration::from_secs(10);
/// Bytes in one message.
const CHUNK: usize = 16 * 1024;

/// Takes the answer of `peer` to a question that it was asked. Whoever asked learns at once of an answer that cannot be
/// used.
pub(super) async fn receive(
    coordinator: &Coordinator,
    peer: &NodePeer,
    mut stream: Streaming<HostChunk>,
) -> Result<Response<HostReceived>, Status> {
    let first = next(&mut stream).await?;
    let first = first.ok_or_else(|| Status::invalid_argument("an answer has at least one part"))?;
    let id = first.id;
    let unasked = || Status::not_found("nobody waits for this answer any more");
    if !coordinator.hosts.questions.waits(id, &peer.name) {
        return Err(unasked());
    }
    let answer = match take(coordinator, first, &mut stream).await {
        Ok(answer) => answer.map_err(LookError::Refused),
        Err(status) => {
            let why = LookError::Unusable(printable(status.message()).into_owned());
            coordinator.hosts.questions.answer(id, &peer.name, Err(why));
            return Err(status);
        }
    };
    if coordinator.hosts.questions.answer(id, &peer.name, answer) {
        Ok(Response::new(HostReceived {}))
    } else {
        Err(unasked())
    }
}

/// The whole answer; what the agent says if it could not look is an answer as well.
async fn take(
    coordinator: &Coordinator,
    first: HostChunk,
    stream: &mut Streaming<HostChunk>,
) -> Result<Result<HostFacts, String>, Status> {
    let announced = usize::try_from(first.size).unwrap_or(usize::MAX);
    if ANSWER_SIZE_MAX < announced {
        return Err(Status::resource_exhausted(format!("an answer has at most {ANSWER_SIZE_MAX} bytes")));
    }
    let _room = coordinator.hosts.room(announced).await;
    let bytes = tokio::time::timeout(LOOK_TIME, read(first, announced, stream)).await;
    // The room is for answers that somebody waits for; one that comes in drops would hold it for hours.
    let bytes = bytes.map_err(|_| Status::deadline_exceeded("the answer took too long"))??;
    let decoded = crate::tasks::blocking(move || decode_answer(&bytes)).await;
    decoded
        .map_err(|_| Status::internal("the answer could not be read; this is a defect of Convoy"))?
        .map_err(|error| Status::invalid_argument(chain(&error)))
}

async fn next(stream: &mut Streaming<HostChunk>) -> Result<Option<HostChunk>, Status> {
    let part = tokio::time::timeout(CHUNK_TIME, stream.message()).await;
    part.map_err(|_| Status::deadline_exceeded("nothing came in time"))?
}

async fn read(
    first: HostChunk,
    announced: usize,
    stream: &mut Streaming<HostChunk>,
) -> Result<Vec<u8>, Status> {
    let (mut bytes, mut part) = (Vec::new(), first);
    loop {
        if CHUNK < part.data.len() {
            return Err(Status::invalid_argument(format!("a part has at most {CHUNK} bytes")));
        }
        bytes.extend_from_slice(&part.data);
        if announced < bytes.len() {
            return Err(Status::resource_exhausted("the answer is longer than announced"));
        }
        if part.last {
            return Ok(bytes);
        }
        let more = next(stream).await?;
        part = more.ok_or_else(|| Status::invalid_argument("the answer ended early"))?;
    }
}
