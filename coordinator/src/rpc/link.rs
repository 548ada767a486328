//! `AgentLink`: the session stream and content by digest, between messages and domain values.

use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use fleet::{
    admission::Fingerprint,
    bundle::BUNDLE_FILES_MAX,
    foreign::{COUNT_MAX, implausible},
    ids::Digest,
    node::Command,
    observed::Observed,
    time::Timestamp,
};
use futures::{FutureExt as _, Stream, StreamExt as _, future};
use proto::{
    convert::{
        bundle::decode_bundle,
        host::look_to_wire,
        link::{ack_from_wire, assign_to_wire, digests_from_wire, epoch_from_wire, foreign},
        logs::question_to_wire,
    },
    wire::agent::{
        self as wire, Chunk, FetchRequest, agent_link_server::AgentLink, command::Action,
        from_agent::Message as From, to_agent::Message as To,
    },
};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{caller::node_of, chain, store_failed};
use crate::{
    coordinator::Coordinator,
    identity::NodePeer,
    sessions::{FromAgent, Hello, Session, SessionError, ToAgent},
    store::{
        Key, blobs,
        records::{NodeRecord, Record as _, SeenRecord},
    },
};

/// Bytes of content in one message.
const CHUNK: usize = 16 * 1024;
/// Chunks that wait for a slow reader.
const CHUNKS_WAITING: usize = 4;

pub(super) struct Link {
    coordinator: Arc<Coordinator>,
}

impl Link {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AgentLink for Link {
    type SessionStream = Outgoing<wire::ToAgent>;
    type FetchStream = Outgoing<Chunk>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = node_of(&self.coordinator, &request)?;
        let inbound = request.into_inner().filter_map(|message| async {
            match message {
                Ok(message) => from_wire(message).transpose(),
                // The transport is gone: the stream's end follows and says so.
                Err(status) => Some(Err(SessionError::Malformed(status.message().to_owned()))),
            }
        });
        let (outbound, messages) = mpsc::channel(1);
        let session = Session::new(self.coordinator.clone(), peer, Box::pin(inbound), outbound);
        let (end, ended) = oneshot::channel();
        self.coordinator.tasks.spawn("session", async move {
            if let Err(error) = session.run().await {
                // The agent may be gone already.
                drop(end.send(session_status(&error)));
            }
        });
        let messages = ReceiverStream::new(messages).map(|message| Ok(to_wire(*message)));
        // A session that both sides ended says nothing.
        let ended = ended.into_stream().filter_map(|why| future::ready(why.ok().map(Err)));
        Ok(Response::new(Box::pin(messages.chain(ended))))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<Self::FetchStream>, Status> {
        let peer = node_of(&self.coordinator, &request)?;
        let invalid = |error: proto::convert::ConvertError| Status::invalid_argument(error.to_string());
        let wanted = digests_from_wire(request.get_ref()).map_err(invalid)?;
        if BUNDLE_FILES_MAX < wanted.len() {
            return Err(Status::invalid_argument(format!("more than {BUNDLE_FILES_MAX} contents at once")));
        }
        let allowed = allowed_content(&self.coordinator, &peer, &wanted).await?;
        if let Some(other) = wanted.iter().find(|digest| !allowed.contains(digest)) {
            return Err(Status::permission_denied(format!(
                "content {} is not part of what {} should have",
                other.short(),
                peer.name
            )));
        }
        let (chunks, waiting) = mpsc::channel(CHUNKS_WAITING);
        let coordinator = self.coordinator.clone();
        self.coordinator.tasks.spawn("fetch", async move { send_all(&coordinator, &wanted, &chunks).await });
        Ok(Response::new(Box::pin(ReceiverStream::new(waiting))))
    }

    async fn give_pack(
        &self,
        request: Request<Streaming<wire::PackChunk>>,
    ) -> Result<Response<wire::PackReceived>, Status> {
        let peer = node_of(&self.coordinator, &request)?;
        accepted(&self.coordinator, &peer).await?;
        super::pack::receive(&self.coordinator, &peer, request.into_inner()).await
    }

    async fn give_host(
        &self,
        request: Request<Streaming<wire::HostChunk>>,
    ) -> Result<Response<wire::HostReceived>, Status> {
        let peer = node_of(&self.coordinator, &request)?;
        accepted(&self.coordinator, &peer).await?;
        super::host::receive(&self.coordinator, &peer, request.into_inner()).await
    }

    async fn give_log(
        &self,
        request: Request<wire::LogAnswer>,
    ) -> Result<Response<wire::LogReceived>, Status> {
        let peer = node_of(&self.coordinator, &request)?;
        accepted(&self.coordinator, &peer).await?;
        super::logs::receive(&self.coordinator, &peer, request.into_inner())
    }
}

/// Sends until done, refused, or nobody listens any more.
async fn send_all(
    coordinator: &Coordinator,
    wanted: &[Digest],
    chunks: &mpsc::Sender<Result<Chunk, Status>>,
) {
    for digest in wanted {
        let content = match blobs::get(&*coordinator.store, digest).await {
            Ok(Some(content)) => content,
            Ok(None) => {
                let missing = Status::not_found(format!("content {} is not kept here", digest.short()));
                drop(chunks.send(Err(missing)).await);
                return;
            }
            Err(error) => {
                drop(chunks.send(Err(store_failed(&error))).await);
                return;
            }
        };
        for chunk in chunks_of(digest, &content) {
            if chunks.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
    }
}

fn chunks_of(digest: &Digest, content: &Bytes) -> impl Iterator<Item = Chunk> {
    let count = content.len().div_ceil(CHUNK).max(1);
    (0..count).map(move |index| Chunk {
        digest: if index == 0 { Bytes::copy_from_slice(&digest.0) } else { Bytes::new() },
        data: content.slice(index * CHUNK..content.len().min((index + 1) * CHUNK)),
        last: index + 1 == count,
    })
}

/// The caller's record, if the certificate it calls with still is the node's.
async fn accepted(coordinator: &Coordinator, peer: &NodePeer) -> Result<NodeRecord, Status> {
    let superseded = || session_status(&SessionError::Superseded(peer.name.clone()));
    let entry = coordinator.store.get(&Key::node(&peer.name)).await.map_err(|error| store_failed(&error))?;
    let record = NodeRecord::read(&entry.ok_or_else(superseded)?).map_err(|error| store_failed(&error))?;
    if coordinator.speaks_for(&record, peer) { Ok(record) } else { Err(superseded()) }
}

/// The encodings of the caller's desired and last good bundles, and the files that those name.
async fn allowed_content(
    coordinator: &Coordinator,
    peer: &NodePeer,
    wanted: &[Digest],
) -> Result<BTreeSet<Digest>, Status> {
    let store = &*coordinator.store;
    let record = accepted(coordinator, peer).await?;
    let seen = store.get(&Key::seen(&peer.name)).await.map_err(|error| store_failed(&error))?;
    let seen = seen.as_ref().map(SeenRecord::read).transpose().map_err(|error| store_failed(&error))?;
    let last_good = seen.and_then(|seen| seen.last_good);
    let bundles: BTreeSet<Digest> =
        record.desired.iter().chain(&last_good).map(|assigned| assigned.target.content).collect();
    let mut allowed = bundles.clone();
    if wanted.iter().all(|digest| bundles.contains(digest)) {
        return Ok(allowed);
    }
    for content in &bundles {
        let bytes = blobs::get(store, content).await.map_err(|error| store_failed(&error))?;
        let bundle = bytes.and_then(|bytes| decode_bundle(&bytes).ok());
        allowed.extend(bundle.iter().flat_map(|bundle| bundle.files.values().map(|file| file.digest)));
    }
    Ok(allowed)
}

/// `None` for a message of a later version that this one does not know.
fn from_wire(message: wire::FromAgent) -> Result<Option<FromAgent>, SessionError> {
    let malformed = |error: proto::convert::ConvertError| SessionError::Malformed(chain(&error));
    Ok(Some(match message.message {
        None => return Ok(None),
        Some(From::Hello(hello)) => FromAgent::Hello(Hello {
            agent_version: foreign(&hello.agent_version),
            platform: foreign(&hello.platform),
            epoch: epoch_from_wire(&hello.fleet_epoch).map_err(malformed)?,
            wall_clock: Timestamp(hello.wall_clock_ms),
            protocol: hello.protocol,
        }),
        Some(From::Program(program)) => {
            let sha256 = program.sha256.try_into();
            let malformed = |_| SessionError::Malformed("Program: a SHA-256 has 32 bytes".to_owned());
            FromAgent::Program(Fingerprint(sha256.map_err(malformed)?))
        }
        Some(From::Report(report)) => {
            let observed = Observed::try_from(report).map_err(malformed)?;
            if let Some(why) = implausible(&observed) {
                return Err(SessionError::Malformed(format!("Report: {why}")));
            }
            FromAgent::Report(Box::new(observed))
        }
        Some(From::Ack(ack)) => {
            let (generation, stage, refusal) = ack_from_wire(ack).map_err(malformed)?;
            if COUNT_MAX < generation.0 {
                return Err(SessionError::Malformed(format!(
                    "Ack: generation {generation} was never given out"
                )));
            }
            FromAgent::Ack { generation, stage, refusal }
        }
        Some(From::Heartbeat(heartbeat)) => FromAgent::Heartbeat {
            seq: heartbeat.seq,
            journal_error: (!heartbeat.journal_error.is_empty()).then(|| foreign(&heartbeat.journal_error)),
        },
        Some(From::Notices(notices)) => {
            if let Some(notice) = notices.notices.iter().find(|notice| COUNT_MAX < notice.seq) {
                return Err(SessionError::Malformed(format!("Notices: nobody counts up to {}", notice.seq)));
            }
            FromAgent::Notices(notices.notices.into_iter().map(Into::into).collect())
        }
        Some(From::Result(result)) => {
            FromAgent::CommandResult { id: result.id, ok: result.ok, detail: foreign(&result.detail) }
        }
    }))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn to_wire(message: ToAgent) -> wire::ToAgent {
    let message = match message {
        ToAgent::Welcome { epoch, fleet, heartbeat, wall_clock } => To::Welcome(wire::Welcome {
            fleet_epoch: epoch.0.to_vec(),
            fleet: fleet.to_string(),
            heartbeat_ms: millis(heartbeat),
            wall_clock_ms: wall_clock.0,
        }),
        ToAgent::Assign { nonce, assignment } => To::Assign(assign_to_wire(&assignment, nonce)),
        ToAgent::HeartbeatReply { seq, next } => {
            To::Heartbeat(wire::HeartbeatReply { seq, next_ms: millis(next) })
        }
        ToAgent::Command { id, command } => {
            To::Command(wire::Command { id, action: Some(action_to_wire(command)) })
        }
        ToAgent::Leave { why, redial_after } => {
            To::Leave(wire::Leave { why, redial_after_ms: millis(redial_after) })
        }
        ToAgent::NoticesReceived(up_to) => To::NoticesReceived(wire::NoticesReceived { up_to }),
        ToAgent::Look { id, part, more } => To::Look(look_to_wire(id, &part, more)),
        ToAgent::ReadLog { id, question } => To::ReadLog(question_to_wire(id, &question)),
        ToAgent::SendPack(digest) => To::SendPack(wire::SendPack { digest: digest.0.to_vec() }),
    };
    wire::ToAgent { message: Some(message) }
}

fn action_to_wire(command: Command) -> Action {
    match command {
        Command::Restart { why } => Action::Restart(wire::RestartService { why }),
        Command::PauseDrift { reason, until } => {
            Action::PauseDrift(wire::PauseDrift { reason, until_ms: until.0 })
        }
        Command::ResumeDrift => Action::ResumeDrift(wire::ResumeDrift {}),
        Command::AcceptDrift { path, until } => Action::AcceptDrift(wire::AcceptDrift {
            path: path.to_string(),
            until_ms: until.map_or(0, |until| until.0),
        }),
        Command::RestoreDrift { path } => {
            let path = path.map(|path| path.to_string()).unwrap_or_default();
            Action::RestoreDrift(wire::RestoreDrift { path })
        }
        Command::RestoreOriginal { why } => Action::RestoreOriginal(wire::RestoreOriginal { why }),
        Command::Check(check) => Action::RunCheck(check.as_ref().into()),
    }
}

fn session_status(error: &SessionError) -> Status {
    match error {
        SessionError::NoHello | SessionError::SecondHello | SessionError::Malformed(_) => {
            Status::invalid_argument(error.to_string())
        }
        SessionError::Superseded(_) => Status::permission_denied(error.to_string()),
        SessionError::Silent(_) => Status::deadline_exceeded(error.to_string()),
        SessionError::Store(source) => store_failed(source),
    }
}
