//! Giving the coordinator what is too large for the stream: the home's pack, when it lacks what this node reports, answers
//! about the home, and parts of logs.

use std::time::Duration;

use fleet::{host::HostQuestion, ids::Digest, logs::LogQuestion};
use proto::{
    convert::{host::encode_answer, logs::answer_to_wire, pack::named_pack},
    wire::agent::{HostChunk, PackChunk, agent_link_client::AgentLinkClient},
};
use tonic::transport::Channel;
use tracing::{debug, info};

use crate::{
    files::{PackAt, read_pack},
    logs,
    look::Looker,
};

/// Bytes in one message.
const CHUNK: usize = 16 * 1024;
/// A coordinator that does not take it within this asks again.
const GIVE_TIME: Duration = Duration::from_secs(60);

/// Reads the pack again and sends it if it still is what was asked for; otherwise a report with its new digest is due.
pub(super) async fn give(digest: Digest, at: Option<PackAt>, channel: Channel) {
    let Some(at) = at.filter(|at| at.digest == digest) else {
        debug!(digest = %digest.short(), "The coordinator asks for a pack that is not here any more");
        return;
    };
    match tokio::time::timeout(GIVE_TIME, send(digest, at.home, channel)).await {
        Ok(Ok(bytes)) => info!(digest = %digest.short(), bytes, "Gave the pack to the coordinator"),
        Ok(Err(why)) => debug!(digest = %digest.short(), why, "The pack was not taken"),
        Err(_) => debug!(digest = %digest.short(), "The pack was not taken in time"),
    }
}

/// Looks at the home and sends the answer to question `id`.
pub(super) async fn give_host(id: u64, question: HostQuestion, looker: Looker, channel: Channel) {
    let answer = looker.look(question).await;
    if let Err(why) = &answer {
        debug!(why, "The coordinator's question about the home is refused");
    }
    let encoded = encode_answer(&answer);
    let size = encoded.len();
    let count = size.div_ceil(CHUNK).max(1);
    let chunk = move |index: usize| HostChunk {
        id: if index == 0 { id } else { 0 },
        size: if index == 0 { size as u64 } else { 0 },
        data: encoded[index * CHUNK..size.min((index + 1) * CHUNK)].to_vec(),
        last: index + 1 == count,
    };
    let chunks = tokio_stream::iter((0..count).map(chunk));
    let giving = async { AgentLinkClient::new(channel).give_host(chunks).await };
    match tokio::time::timeout(GIVE_TIME, giving).await {
        Ok(Ok(_)) => debug!(bytes = size, "Told the coordinator what lies in the home"),
        Ok(Err(status)) => debug!(why = status.message(), "The answer about the home was not taken"),
        Err(_) => debug!("The answer about the home was not taken in time"),
    }
}

/// Reads a part of a log and sends it as the answer to question `id`.
pub(super) async fn give_log(id: u64, question: LogQuestion, logs: logs::Reader, channel: Channel) {
    let log = question.log;
    let answer = answer_to_wire(id, logs.read(question).await);
    let giving = async { AgentLinkClient::new(channel).give_log(answer).await };
    match tokio::time::timeout(GIVE_TIME, giving).await {
        Ok(Ok(_)) => debug!(%log, "Gave the coordinator a part of a log"),
        Ok(Err(status)) => debug!(%log, why = status.message(), "A part of a log was not taken"),
        Err(_) => debug!(%log, "A part of a log was not taken in time"),
    }
}

async fn send(digest: Digest, home: String, channel: Channel) -> Result<usize, String> {
    let reading = crate::task::blocking(move || read_pack(&home).map(|pack| named_pack(&pack)));
    let (found, encoded) =
        reading.await.map_err(|error| error.to_string())?.map_err(|error| crate::chain(&error))?;
    if found != digest {
        return Err("it has just changed".to_owned());
    }
    let size = encoded.len();
    let count = size.div_ceil(CHUNK).max(1);
    let chunk = move |index: usize| PackChunk {
        digest: if index == 0 { digest.0.to_vec() } else { Vec::new() },
        size: if index == 0 { size as u64 } else { 0 },
        data: encoded[index * CHUNK..size.min((index + 1) * CHUNK)].to_vec(),
        last: index + 1 == count,
    };
    let chunks = tokio_stream::iter((0..count).map(chunk));
    let given = AgentLinkClient::new(channel).give_pack(chunks).await;
    given.map(|_| size).map_err(|status| status.message().to_owned())
}
