//! One stream with the coordinator, from Hello to its end.

use std::time::Duration;

use fleet::{
    bundle::{Assignment, HomePath},
    ids::{Digest, FleetEpoch, Generation},
    logs::LogQuestion,
    node::{Command, Event},
    observed::{Notice, Observed, Refusal, RefusalReason, Stage},
    preflight::facts::ClockSkew,
    time::Timestamp,
};
use prost::Message as _;
use proto::{
    convert::{
        host::LookPart,
        link::{ack_to_wire, epoch_from_wire},
        logs::LOGS_PROTOCOL,
    },
    wire::agent::{
        self as wire, agent_link_client::AgentLinkClient, command::Action, enrolment_client::EnrolmentClient,
        from_agent::Message as From, to_agent::Message as To,
    },
};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Channel};
use tracing::{info, warn};

use super::{
    Order, REDIAL_MAX, Task,
    give::{give, give_host, give_log},
};
use crate::identity;

/// Messages handed to the stream and not sent yet.
const OUTGOING: usize = 16;
/// A coordinator that takes nothing for so long is gone.
const SEND_TIME: Duration = Duration::from_secs(20);
/// From dialling to Welcome.
const WELCOME_TIME: Duration = Duration::from_secs(20);
/// Messages stay below 64 KiB, bytes.
const MESSAGE_MAX: usize = 60 * 1024;
/// Notices in one message.
const NOTICES_MAX: usize = 16;
/// Before a renewal that failed is tried again; earlier if the certificate ends soon.
const RENEW_AGAIN: Duration = Duration::from_secs(600);
/// Answers about the home that are made at the same time; further questions wait in vain.
const ANSWERS_MAX: usize = 8;
/// Parts of logs that are read at the same time; further questions wait in vain.
const LOGS_MAX: usize = 4;
/// Heartbeats unanswered before the stream counts as dead.
const MISSED_MAX: u32 = 4;

/// How a stream ended.
#[derive(Debug)]
pub(super) struct End {
    /// For people.
    pub why: String,
    /// Within which time to come back, drawn by chance; `None` if that no longer matters.
    pub redial: Option<Duration>,
}

fn end(why: impl Into<String>) -> End {
    End { why: why.into(), redial: None }
}

/// A stream that was welcomed.
pub(super) struct Session {
    outgoing: mpsc::Sender<wire::FromAgent>,
    incoming: Streaming<wire::ToAgent>,
    epoch: Option<FleetEpoch>,
    /// Of the newest assignment of this stream.
    nonce: (Generation, u64),
    heartbeat: Heartbeat,
    /// A report was sent on this stream.
    reported: bool,
    renew_at: Instant,
    /// The pack on its way, and what it goes over.
    giving: Option<tokio::task::JoinHandle<()>>,
    /// The question of which further parts are to come.
    asked: Option<LookPart>,
    /// Answers about the home on their way.
    answering: JoinSet<()>,
    /// Parts of logs on their way.
    reading: JoinSet<()>,
    channel: Channel,
}

struct Heartbeat {
    seq: u64,
    answered: u64,
    interval: Duration,
    due: Instant,
    /// The last one said that the journal cannot be written.
    told_trouble: bool,
}

/// Opens the stream and says Hello.
pub(super) async fn open(task: &Task, channel: Channel) -> Result<Session, String> {
    let (outgoing, sent) = mpsc::channel(OUTGOING);
    let wall_clock = task.settings.wall_clock;
    let epoch = *task.epoch.borrow();
    let hello = wire::Hello {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        platform: format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH),
        fleet_epoch: epoch.map_or_else(Vec::new, |epoch| epoch.0.to_vec()),
        boot_nonce: task.settings.seed,
        home: task.settings.home.clone(),
        wall_clock_ms: wall_clock().0,
        protocol: LOGS_PROTOCOL,
    };
    let greeted_at = wall_clock();
    let first = wire::FromAgent { message: Some(From::Hello(hello)) };
    outgoing.send(first).await.map_err(|_| "the stream closed at once")?;
    let mut client = AgentLinkClient::new(channel.clone()).max_decoding_message_size(64 * 1024);
    let welcomed = tokio::time::timeout(WELCOME_TIME, async {
        let status = |status: tonic::Status| format!("refused: {}", status.message());
        let mut incoming = client.session(ReceiverStream::new(sent)).await.map_err(status)?.into_inner();
        match incoming.message().await.map_err(status)?.and_then(|message| message.message) {
            Some(To::Welcome(welcome)) => Ok((welcome, incoming)),
            Some(To::Leave(leave)) => Err(format!("sent away: {}", leave.why)),
            _ => Err("the coordinator did not say Welcome".to_owned()),
        }
    });
    let (welcome, incoming) = welcomed.await.map_err(|_| "no Welcome in time".to_owned())??;
    let half_way = Timestamp(i64::midpoint(greeted_at.0, wall_clock().0));
    // A coordinator that does not tell its time says 0.
    let told = (welcome.wall_clock_ms != 0).then_some(Timestamp(welcome.wall_clock_ms));
    task.clock.send_replace(told.map(|theirs| ClockSkew::between(half_way, theirs)));
    let interval = Duration::from_millis(welcome.heartbeat_ms.clamp(100, 600_000));
    Ok(Session {
        outgoing,
        incoming,
        epoch: epoch_from_wire(&welcome.fleet_epoch).map_err(|error| error.to_string())?,
        nonce: (Generation(0), 0),
        heartbeat: Heartbeat {
            seq: 0,
            answered: 0,
            interval,
            due: Instant::now() + interval,
            told_trouble: false,
        },
        reported: false,
        renew_at: Instant::now() + identity::until(task.identity.renew_at, wall_clock()),
        giving: None,
        asked: None,
        answering: JoinSet::new(),
        reading: JoinSet::new(),
        channel,
    })
}

enum Input {
    Message(Result<Option<Box<wire::ToAgent>>, tonic::Status>),
    Order(Option<Order>),
    Report,
    Program,
    Heartbeat,
    Renew,
}

impl Session {
    /// Speaks until the stream ends.
    pub(super) async fn run(mut self, task: &mut Task, channel: Channel) -> End {
        // The report of the connection before is told anew by the engine.
        task.report.mark_unchanged();
        if task.journal.borrow().is_some() {
            // No report will come: the coordinator is told why at once.
            task.journal.mark_changed();
        }
        if task.program.borrow().is_some() {
            task.program.mark_changed();
        }
        if task.events.send(Event::Connected).await.is_err() {
            return end("the agent is ending");
        }
        loop {
            let input = self.next_input(task).await;
            let outcome = match input {
                Input::Message(Ok(Some(message))) => self.on_message(task, *message).await,
                Input::Message(Ok(None)) => Err(end("the coordinator closed the stream")),
                Input::Message(Err(status)) => Err(end(format!("the stream broke: {}", status.message()))),
                Input::Order(Some(order)) => self.on_order(order).await,
                Input::Order(None) => Err(end("the agent is ending")),
                Input::Report => {
                    let report = task.report.borrow_and_update().clone();
                    match report {
                        Some(report) => {
                            self.reported = true;
                            self.send(From::Report(bounded(&report))).await
                        }
                        None => Ok(()),
                    }
                }
                Input::Program => {
                    let program = *task.program.borrow_and_update();
                    let sha256 = program.map_or_else(Vec::new, |program| program.0.to_vec());
                    self.send(From::Program(wire::Program { sha256 })).await
                }
                Input::Heartbeat => self.on_heartbeat(task).await,
                Input::Renew => {
                    self.renew(task, channel.clone()).await;
                    Ok(())
                }
            };
            if let Err(end) = outcome {
                // The interval grows with the fleet, so a coordinator that everybody lost is not dialled more often
                // than it is sent heartbeats.
                return End {
                    redial: Some(end.redial.unwrap_or(self.heartbeat.interval.min(REDIAL_MAX))),
                    ..end
                };
            }
        }
    }

    async fn next_input(&mut self, task: &mut Task) -> Input {
        tokio::select! {
            // Cancel-safe: tonic keeps a half-read message in the stream.
            message = self.incoming.message() => Input::Message(message.map(|some| some.map(Box::new))),
            // Cancel-safe: channels.
            order = task.orders.recv() => Input::Order(order),
            changed = task.report.changed() => match changed {
                Ok(()) => Input::Report,
                Err(_) => Input::Order(None),
            },
            changed = task.journal.changed() => match changed {
                Ok(()) => Input::Heartbeat,
                Err(_) => Input::Order(None),
            },
            // What is known does not change any more, so its sender is gone.
            Ok(()) = task.program.changed() => Input::Program,
            () = tokio::time::sleep_until(self.heartbeat.due) => Input::Heartbeat,
            () = tokio::time::sleep_until(self.renew_at) => Input::Renew,
        }
    }

    async fn send(&self, message: From) -> Result<(), End> {
        let message = wire::FromAgent { message: Some(message) };
        match self.outgoing.send_timeout(message, SEND_TIME).await {
            Ok(()) => Ok(()),
            Err(_) => Err(end("the coordinator takes nothing any more")),
        }
    }

    async fn on_message(&mut self, task: &Task, message: wire::ToAgent) -> Result<(), End> {
        let event = match message.message {
            // A message of a later version.
            None => return Ok(()),
            Some(To::Welcome(_)) => return Err(end("the coordinator said Welcome twice")),
            Some(To::Leave(leave)) => {
                let redial = Duration::from_millis(leave.redial_after_ms.min(600_000));
                return Err(End { why: format!("sent away: {}", leave.why), redial: Some(redial) });
            }
            Some(To::Heartbeat(reply)) => {
                self.heartbeat.answered = reply.seq;
                if reply.next_ms != 0 {
                    self.heartbeat.interval = Duration::from_millis(reply.next_ms.clamp(100, 600_000));
                }
                return Ok(());
            }
            Some(To::SendPack(wanted)) => {
                self.give_pack(task, &wanted.digest);
                return Ok(());
            }
            Some(To::Look(look)) => {
                self.on_look(task, look);
                return Ok(());
            }
            Some(To::ReadLog(asked)) => {
                self.on_read_log(task, asked);
                return Ok(());
            }
            Some(To::NoticesReceived(received)) => Event::NoticesReceived(received.up_to),
            Some(To::Assign(assign)) => match self.on_assign(assign).await? {
                Some(event) => event,
                None => return Ok(()),
            },
            Some(To::Command(command)) => match command_from_wire(command) {
                Ok((id, command)) => Event::Commanded { id, command },
                Err((id, detail)) => return self.on_order(Order::CommandDone(id, false, detail)).await,
            },
        };
        task.events.send(event).await.map_err(|_| end("the agent is ending"))
    }

    /// One at a time; the coordinator asks again for what it still lacks.
    fn give_pack(&mut self, task: &Task, digest: &[u8]) {
        if self.giving.as_ref().is_some_and(|giving| !giving.is_finished()) {
            return;
        }
        if let Some(digest) = Digest::from_slice(digest) {
            let at = task.packs.borrow().clone();
            self.giving = Some(crate::task::spawn("pack", give(digest, at, self.channel.clone())));
        }
    }

    /// Answers a question about the home once its last part is here.
    fn on_look(&mut self, task: &Task, look: wire::Look) {
        let part = match LookPart::try_from(look) {
            Ok(part) => part,
            Err(error) => {
                return warn!(error = %crate::chain(&error), "A question about the home does not read");
            }
        };
        let whole = match self.asked.take() {
            Some(mut asked) if asked.id == part.id => {
                asked.question.extend(part.question);
                LookPart { more: part.more, ..asked }
            }
            Some(_) | None => part,
        };
        if whole.more && whole.question.is_bounded() {
            self.asked = Some(whole);
            return;
        }
        clear(&mut self.answering);
        if self.answering.len() < ANSWERS_MAX {
            let (looker, channel) = (task.looker.clone(), self.channel.clone());
            self.answering.spawn(give_host(whole.id, whole.question, looker, channel));
        }
    }

    /// Reads a part of a log beside everything else.
    fn on_read_log(&mut self, task: &Task, asked: wire::ReadLog) {
        let id = asked.id;
        let question = match LogQuestion::try_from(asked) {
            Ok(question) => question,
            Err(error) => return warn!(error = %crate::chain(&error), "A question about a log does not read"),
        };
        clear(&mut self.reading);
        if self.reading.len() < LOGS_MAX {
            self.reading.spawn(give_log(id, question, task.logs.clone(), self.channel.clone()));
        }
    }

    async fn on_assign(&mut self, assign: wire::Assign) -> Result<Option<Event>, End> {
        let (generation, nonce) = (Generation(assign.generation), assign.nonce);
        self.nonce = (generation, nonce);
        let assignment = Assignment::try_from(assign);
        match (assignment, self.epoch) {
            (Ok(assignment), Some(epoch)) => Ok(Some(Event::Assigned { epoch, assignment })),
            (Ok(_), None) => Err(end("the coordinator did not say which store it speaks for")),
            (Err(error), _) => {
                let detail = crate::chain(&error);
                warn!(%generation, %detail, "Refused an assignment that does not read");
                let refusal = Refusal { reason: RefusalReason::BundleInvalid, detail, still_running: None };
                let ack = ack_to_wire(nonce, generation, Stage::Received, Some(&refusal));
                self.send(From::Ack(ack)).await.map(|()| None)
            }
        }
    }

    async fn on_order(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::Ack(generation, stage, refusal) => {
                let nonce = if self.nonce.0 == generation { self.nonce.1 } else { 0 };
                self.send(From::Ack(ack_to_wire(nonce, generation, stage, refusal.as_ref()))).await
            }
            Order::Tell(notices) => {
                for notices in notices.chunks(NOTICES_MAX) {
                    self.send(From::Notices(notices_to_wire(notices))).await?;
                }
                Ok(())
            }
            Order::CommandDone(id, ok, detail) => {
                self.send(From::Result(wire::CommandResult { id, ok, detail })).await
            }
        }
    }

    async fn on_heartbeat(&mut self, task: &mut Task) -> Result<(), End> {
        let missed = self.heartbeat.seq.saturating_sub(self.heartbeat.answered);
        if u64::from(MISSED_MAX) <= missed {
            return Err(end(format!("{missed} heartbeats were not answered")));
        }
        self.heartbeat.seq += 1;
        self.heartbeat.due = Instant::now() + self.heartbeat.interval;
        let journal_error = task.journal.borrow_and_update().clone().unwrap_or_default();
        let is_trouble = !journal_error.is_empty();
        let was_trouble = std::mem::replace(&mut self.heartbeat.told_trouble, is_trouble);
        if was_trouble && !is_trouble && self.reported {
            // Reports sent meanwhile did not count.
            task.report.mark_changed();
        }
        self.send(From::Heartbeat(wire::Heartbeat { seq: self.heartbeat.seq, journal_error })).await
    }

    /// A new certificate for a new key. The stream goes on with the old one; the next dial uses the new.
    async fn renew(&mut self, task: &mut Task, channel: Channel) {
        let renewed = async {
            let request =
                identity::Request::new(&task.identity.node).map_err(|error| crate::chain(&error))?;
            let reply = EnrolmentClient::new(channel)
                .renew(wire::RenewRequest { csr_pem: request.csr_pem.clone() })
                .await
                .map_err(|status| status.message().to_owned())?
                .into_inner();
            task.store
                .save(&request, &reply.certificate_pem, &reply.authority_pem, None)
                .and_then(|()| task.store.read(task.settings.seed))
                .map_err(|error| crate::chain(&error))
        };
        let outcome = tokio::time::timeout(SEND_TIME, renewed).await;
        let now = (task.settings.wall_clock)();
        match outcome {
            Ok(Ok(identity)) => {
                info!(node = identity.node, until_ms = identity.not_after.0, "Renewed the certificate");
                // By a clock that runs ahead, a new certificate can be past its middle already: no renewal at once.
                let due = now < identity.renew_at;
                let due = due.then(|| identity::until(identity.renew_at, now));
                self.renew_at = Instant::now() + due.unwrap_or_else(|| renew_again(identity.not_after, now));
                task.identity = identity;
            }
            Ok(Err(error)) => {
                warn!(%error, "The certificate could not be renewed; trying again later");
                self.renew_at = Instant::now() + renew_again(task.identity.not_after, now);
            }
            Err(_) => self.renew_at = Instant::now() + renew_again(task.identity.not_after, now),
        }
    }
}

/// How long to wait before another try: so that several fit into what is left of the certificate's life.
fn renew_again(not_after: Timestamp, now: Timestamp) -> Duration {
    let left = identity::until(not_after, now);
    RENEW_AGAIN.min(left / 4).max(Duration::from_secs(1))
}

/// Takes out what has ended.
fn clear(answering: &mut JoinSet<()>) {
    while let Some(ended) = answering.try_join_next() {
        // Where it panicked is in the log already.
        if ended.is_err() {
            tracing::error!("An answer to the coordinator ended in a panic; this is a defect of Convoy");
        }
    }
}

fn notices_to_wire(notices: &[Notice]) -> wire::Notices {
    wire::Notices { notices: notices.iter().map(Into::into).collect() }
}

/// The report, with the oldest differences left out if it would be too long; their count still tells of them.
fn bounded(observed: &Observed) -> wire::Report {
    let mut report = wire::Report::from(observed);
    while MESSAGE_MAX < report.encoded_len() && !report.drift.is_empty() {
        report.drift.remove(0);
    }
    report
}

fn command_from_wire(command: wire::Command) -> Result<(u64, Command), (u64, String)> {
    let id = command.id;
    let command = match command.action {
        None => return Err((id, "this agent does not know the command; upgrade it".to_owned())),
        Some(Action::Restart(restart)) => Command::Restart { why: restart.why },
        Some(Action::PauseDrift(pause)) => {
            Command::PauseDrift { reason: pause.reason, until: Timestamp(pause.until_ms) }
        }
        Some(Action::ResumeDrift(_)) => Command::ResumeDrift,
        Some(Action::RestoreOriginal(restore)) => Command::RestoreOriginal { why: restore.why },
        Some(Action::AcceptDrift(accept)) => match HomePath::parse(&accept.path) {
            Ok(path) => Command::AcceptDrift {
                path,
                until: (accept.until_ms != 0).then_some(Timestamp(accept.until_ms)),
            },
            Err(error) => return Err((id, error.to_string())),
        },
        Some(Action::RestoreDrift(restore)) if restore.path.is_empty() => {
            Command::RestoreDrift { path: None }
        }
        Some(Action::RunCheck(check)) => match check.try_into() {
            Ok(check) => Command::Check(Box::new(check)),
            Err(error) => {
                let error: proto::convert::ConvertError = error;
                return Err((id, crate::chain(&error)));
            }
        },
        Some(Action::RestoreDrift(restore)) => match HomePath::parse(&restore.path) {
            Ok(path) => Command::RestoreDrift { path: Some(path) },
            Err(error) => return Err((id, error.to_string())),
        },
    };
    Ok((id, command))
}
