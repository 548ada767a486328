//! One task per connected agent: tells it what is desired, notes what it reports, answers its heartbeats, and decides
//! when it is gone.
//!
//! Level-triggered both ways. Nothing is queued but the newest unsent message of each kind; a store that is slow or
//! away delays what is stored, never the heartbeats. Acknowledgements and reports reach rollouts only through the
//! store, after they are durable there.

mod changes;
mod conversation;
mod live;
mod outbox;
mod session;

use std::time::Duration;

use fleet::{
    admission::Fingerprint,
    bundle::Assignment,
    host::HostQuestion,
    ids::{Digest, FleetEpoch, FleetName, Generation, NodeName},
    logs::LogQuestion,
    node::Command,
    observed::{Notice, Observed, Refusal, Stage},
    time::Timestamp,
};

pub use live::{Asked, CommandAnswer, CommandRefused, Live, LiveNode, LiveNodes, Question};
pub use session::Session;

use crate::store::StoreError;

/// What an agent says.
#[derive(Debug, Clone, PartialEq)]
pub enum FromAgent {
    /// First, and only first.
    Hello(Hello),
    /// Everything it knows of itself now.
    Report(Box<Observed>),
    /// A stage of an assignment was reached, or refused.
    Ack {
        /// Which assignment.
        generation: Generation,
        /// How far.
        stage: Stage,
        /// Why not further.
        refusal: Option<Refusal>,
    },
    /// It is alive.
    Heartbeat {
        /// Pairs the reply.
        seq: u64,
        /// Why its journal cannot be written, if it cannot: it reports nothing until then.
        journal_error: Option<String>,
    },
    /// What happened there; resent until received.
    Notices(Vec<Notice>),
    /// Which program it runs, by its checksum.
    Program(Fingerprint),
    /// The outcome of a command.
    CommandResult {
        /// Which.
        id: u64,
        /// Done or not.
        ok: bool,
        /// For people.
        detail: String,
    },
}

/// How an agent introduces itself. Who it is says its certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Of the agent.
    pub agent_version: String,
    /// `linux-x86_64`.
    pub platform: String,
    /// The store it obeyed last.
    pub epoch: Option<FleetEpoch>,
    /// Its clock.
    pub wall_clock: Timestamp,
    /// What it can do beyond the agents of 0.1, which say 0.
    pub protocol: u32,
}

/// What an agent is told.
#[derive(Debug, Clone, PartialEq)]
pub enum ToAgent {
    /// Answers Hello.
    Welcome {
        /// Of our store.
        epoch: FleetEpoch,
        /// Ours.
        fleet: FleetName,
        /// Until its next heartbeat.
        heartbeat: Duration,
        /// Our clock.
        wall_clock: Timestamp,
    },
    /// The newest desired state.
    Assign {
        /// Of this stream.
        nonce: u64,
        /// What is desired.
        assignment: Assignment,
    },
    /// Answers a heartbeat.
    HeartbeatReply {
        /// Which one.
        seq: u64,
        /// Until the next.
        next: Duration,
    },
    /// Something done once.
    Command {
        /// Pairs the answer.
        id: u64,
        /// What.
        command: Command,
    },
    /// Finish what is under way, then dial again.
    Leave {
        /// For people.
        why: String,
        /// When.
        redial_after: Duration,
    },
    /// Notices up to this number are stored.
    NoticesReceived(u64),
    /// The pack that it reports is not here: give it.
    SendPack(Digest),
    /// A question about its home, or one part of a long one.
    Look {
        /// Pairs the answer.
        id: u64,
        /// What is asked.
        part: HostQuestion,
        /// Further parts of it follow.
        more: bool,
    },
    /// A question about a log.
    ReadLog {
        /// Pairs the answer.
        id: u64,
        /// What is asked.
        question: LogQuestion,
    },
}

/// Why a session ended other than by agreement.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The first message was something else or did not come.
    #[error("the first message of a session is Hello, within {} seconds", session::HELLO_TIMEOUT.as_secs())]
    NoHello,
    /// Hello came again.
    #[error("Hello comes once")]
    SecondHello,
    /// The certificate is not the node's any more.
    #[error(
        "the certificate of {0} was replaced by a later enrolment or the node was forgotten; enrol again with a new join token"
    )]
    Superseded(NodeName),
    /// A message that cannot be read; the text says which field.
    #[error("{0}")]
    Malformed(String),
    /// Nothing was heard for too long.
    #[error("nothing was heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// The store failed at the start.
    #[error(transparent)]
    Store(#[from] StoreError),
}
