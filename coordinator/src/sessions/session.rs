//! The task of one session: one loop, one `select!`, and the store's work beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet::{ids::NodeName, node::Command, time::Timestamp};
use futures::{Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{info, warn};

use super::{
    Asked, CommandAnswer, FromAgent, Hello, LiveNode, SessionError, ToAgent,
    conversation::Conversation,
    live::{JournalError, Question, Seat},
    outbox::Outbox,
};
use crate::{
    coordinator::Coordinator,
    events::{Draft, Kind},
    identity::NodePeer,
    rates::Source,
    store::{
        CommitError, Key, StoreError, Transaction, Version,
        records::{NodeRecord, Record as _, SeenRecord},
    },
};

/// An agent that does not introduce itself within this is not one.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// After saying Leave, so long for what is under way.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// After the store failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// A host's clock may be so wrong before it is told: certificates and times of events are judged by clocks.
const SKEW_MAX: Duration = Duration::from_secs(60);
/// Commands that wait for their answer.
const ANSWERS_MAX: usize = 16;
/// An agent that was replaced by a newer session of its node dials again only after this: two hosts with one
/// certificate must not push each other out in a tight loop.
const SUPERSEDED_REDIAL: Duration = Duration::from_secs(60);
/// After a stop of the coordinator.
const STOP_REDIAL: Duration = Duration::from_secs(1);

/// What a message of the agent is, or why it cannot be read.
pub type Inbound = Result<FromAgent, SessionError>;

/// One stream of one agent.
pub struct Session<I> {
    coordinator: Arc<Coordinator>,
    peer: NodePeer,
    inbound: I,
    outbound: mpsc::Sender<Box<ToAgent>>,
}

impl<I: Stream<Item = Inbound> + Unpin + Send> Session<I> {
    /// A session of an authenticated node.
    pub fn new(
        coordinator: Arc<Coordinator>,
        peer: NodePeer,
        inbound: I,
        outbound: mpsc::Sender<Box<ToAgent>>,
    ) -> Self {
        Self { coordinator, peer, inbound, outbound }
    }

    /// Runs until either side ends it.
    ///
    /// # Errors
    /// Why it ended, unless both sides agreed.
    pub async fn run(mut self) -> Result<(), SessionError> {
        let hello = match tokio::time::timeout(HELLO_TIMEOUT, self.inbound.next()).await {
            Ok(Some(Ok(FromAgent::Hello(hello)))) => hello,
            Ok(Some(Err(error))) => return Err(error),
            _ => return Err(SessionError::NoHello),
        };
        let coordinator = self.coordinator.clone();
        let mut changes = coordinator.store.watch(Key::node(&self.peer.name).as_str());
        changes.mark_unchanged();
        let record = load_node(&coordinator, &self.peer).await?;
        let (seen, seen_version) = load_seen(&coordinator, &self.peer).await?;
        let node = live_node((coordinator.clock)(), &hello);
        let seat = coordinator.live.enter(&self.peer.name, node);
        let name = self.peer.name.clone();
        let seated = Seated { coordinator, name: name.clone(), session: seat.session };
        info!(node = %name, version = hello.agent_version, "An agent connected");
        let mut talk = Talk::new(self, seat, changes, (record, seen, seen_version));
        talk.greet(hello);
        let outcome = talk.run().await;
        drop(seated);
        let why = outcome.as_ref().err().map_or_else(|| "it left".to_owned(), ToString::to_string);
        talk.finish(&why).await;
        info!(node = %name, why, "An agent is gone");
        outcome
    }
}

/// Gives up the seat when it is dropped, so that a panic leaves no node behind that seems to be connected.
struct Seated {
    coordinator: Arc<Coordinator>,
    name: NodeName,
    session: u64,
}

impl Drop for Seated {
    fn drop(&mut self) {
        self.coordinator.live.leave(&self.name, self.session);
    }
}

fn live_node(now: Timestamp, hello: &Hello) -> LiveNode {
    LiveNode {
        since: now,
        last_heard: now,
        observed: None,
        reported: false,
        restarting: false,
        obeys: hello.epoch,
        journal_error: None,
        agent_version: hello.agent_version.clone(),
        protocol: hello.protocol,
        platform: hello.platform.clone(),
    }
}

async fn load_node(coordinator: &Coordinator, peer: &NodePeer) -> Result<NodeRecord, SessionError> {
    let superseded = || SessionError::Superseded(peer.name.clone());
    let entry = coordinator.store.get(&Key::node(&peer.name)).await?.ok_or_else(superseded)?;
    let record = NodeRecord::read(&entry)?;
    if coordinator.speaks_for(&record, peer) { Ok(record) } else { Err(superseded()) }
}

async fn load_seen(
    coordinator: &Coordinator,
    peer: &NodePeer,
) -> Result<(Option<Box<SeenRecord>>, Version), StoreError> {
    let entry = coordinator.store.get(&Key::seen(&peer.name)).await?;
    let version = entry.as_ref().map_or(0, |entry| entry.version);
    Ok((entry.as_ref().map(SeenRecord::read).transpose()?.map(Box::new), version))
}

/// Asks whether one more event of this node is kept.
fn admission<I>(session: &Session<I>) -> impl Fn() -> bool + use<I> {
    let (coordinator, source) = (session.coordinator.clone(), Source::Node(session.peer.name.clone()));
    move || coordinator.rates.admit(&source, Instant::now())
}

/// What the store's work came to.
enum Done {
    Loaded(Result<Box<NodeRecord>, SessionError>),
    Saved(Result<Version, CommitError>),
    Reloaded(Result<(Option<Box<SeenRecord>>, Version), StoreError>),
}

/// What can happen next.
enum Event {
    Said(Option<Inbound>),
    Ordered(Option<Box<(Command, CommandAnswer)>>),
    PackWanted,
    Asked(Box<Asked>),
    RecordChanged,
    Done(Done),
    CanSend,
    Deadline,
    Dismissed,
    Stopping,
    Closed,
}

enum Phase {
    Talking,
    /// Nothing more is listened to; what waits is still sent and stored.
    Leaving,
}

struct Talk<I> {
    session: Session<I>,
    seat: Seat,
    changes: watch::Receiver<Version>,
    conversation: Conversation,
    seen_version: Version,
    received: u64,
    outbox: Outbox,
    answers: BTreeMap<u64, CommandAnswer>,
    /// Restarts that are not answered.
    restarts: BTreeSet<u64>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    loading: bool,
    saving: bool,
    /// Whether a report came in this session, and whether the save under way holds one.
    reported: (bool, bool),
    /// Set while the agent cannot write its journal, as it last said.
    journal_error: Option<JournalError>,
    retry_at: Option<Instant>,
    interval: Duration,
    heard: Instant,
    expires: Instant,
    phase: Phase,
    leave_by: Instant,
}

impl<I: Stream<Item = Inbound> + Unpin + Send> Talk<I> {
    fn new(
        session: Session<I>,
        seat: Seat,
        changes: watch::Receiver<Version>,
        (record, seen, seen_version): (NodeRecord, Option<Box<SeenRecord>>, Version),
    ) -> Self {
        let now = Instant::now();
        let left = session.peer.not_after.since((session.coordinator.clock)());
        let interval = session.coordinator.heartbeat.interval_for(session.coordinator.live.count());
        Self {
            session,
            seat,
            changes,
            conversation: Conversation::new(record, seen.map(|seen| *seen).unwrap_or_default()),
            seen_version,
            received: 0,
            outbox: Outbox::default(),
            answers: BTreeMap::new(),
            restarts: BTreeSet::new(),
            work: FuturesUnordered::new(),
            loading: false,
            saving: false,
            reported: (false, false),
            journal_error: None,
            retry_at: None,
            interval,
            heard: now,
            expires: now + left,
            phase: Phase::Talking,
            leave_by: now,
        }
    }

    fn wall(&self) -> Timestamp {
        (self.session.coordinator.clock)()
    }

    fn greet(&mut self, hello: Hello) {
        let coordinator = &self.session.coordinator;
        if let Some(other) = hello.epoch.filter(|epoch| *epoch != coordinator.epoch) {
            let text =
                format!("its agent obeys store {other}, this one is {}; it will refuse", coordinator.epoch);
            warn!(node = %self.session.peer.name, theirs = %other, ours = %coordinator.epoch,
                "An agent obeys another store; was this one restored or made anew?");
            let event = Draft::new(self.wall(), Kind::OtherEpoch, text).of_node(&self.session.peer.name);
            self.record_of_node(event);
        }
        self.tell_skew(hello.wall_clock);
        let coordinator = &self.session.coordinator;
        self.outbox.put(ToAgent::Welcome {
            epoch: coordinator.epoch,
            fleet: coordinator.fleet.clone(),
            heartbeat: self.interval,
            wall_clock: self.wall(),
        });
        let now = self.wall();
        self.conversation.on_hello(now, hello, admission(&self.session));
        let record = self.conversation.record.clone();
        self.on_record(record);
    }

    /// Beside the session, and within what is kept of one node.
    fn record_of_node(&self, event: Draft) {
        if admission(&self.session)() {
            let events = self.session.coordinator.events.clone();
            self.session.coordinator.tasks.spawn("event", async move { events.record(event).await });
        }
    }

    /// Agents of later versions, and strangers, may not say what time it is with them.
    fn tell_skew(&self, theirs: Timestamp) {
        let ours = self.wall();
        let skew = ours.since(theirs).max(theirs.since(ours));
        if theirs.0 == 0 || skew < SKEW_MAX {
            return;
        }
        let direction = if ours < theirs { "ahead of" } else { "behind" };
        let text = format!("the clock of its host is {} s {direction} the coordinator's", skew.as_secs());
        warn!(node = %self.session.peer.name, seconds = skew.as_secs(), direction, "A host's clock is wrong");
        let event = Draft::new(ours, Kind::ClockSkew, text).of_node(&self.session.peer.name);
        self.record_of_node(event.with("seconds", &skew.as_secs()));
    }

    async fn run(&mut self) -> Result<(), SessionError> {
        loop {
            self.start_work();
            if let Phase::Leaving = self.phase
                && self.outbox.is_empty()
            {
                return Ok(());
            }
            let event = self.next_event().await;
            if !self.handle(event)? {
                return Ok(());
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let silent = self.heard + self.session.coordinator.heartbeat.silence_max(self.interval);
        match self.phase {
            Phase::Talking => [Some(silent), Some(self.expires), self.retry_at]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(silent),
            Phase::Leaving => self.leave_by,
        }
    }

    async fn next_event(&mut self) -> Event {
        let talking = matches!(self.phase, Phase::Talking);
        let stop = &self.session.coordinator.stop;
        let deadline = self.next_deadline();
        // Every arm is cancel-safe: what was not taken is still there at the next turn.
        tokio::select! {
            said = self.session.inbound.next(), if talking && self.conversation.has_room() => Event::Said(said),
            ordered = self.seat.commands.recv(), if talking => Event::Ordered(ordered),
            Some(asked) = self.seat.questions.recv(), if talking => Event::Asked(asked),
            Ok(()) = self.seat.pack.changed(), if talking => Event::PackWanted,
            _ = self.changes.changed(), if talking && !self.loading => Event::RecordChanged,
            Some(done) = self.work.next() => Event::Done(done),
            permit = self.session.outbound.reserve(), if !self.outbox.is_empty() => match permit {
                Ok(permit) => {
                    if let Some(message) = self.outbox.take() {
                        permit.send(message);
                    }
                    Event::CanSend
                }
                Err(_) => Event::Closed,
            },
            () = tokio::time::sleep_until(deadline) => Event::Deadline,
            () = self.seat.dismissed.cancelled(), if talking => Event::Dismissed,
            () = stop.cancelled(), if talking => Event::Stopping,
        }
    }

    /// Answers whether to go on.
    fn handle(&mut self, event: Event) -> Result<bool, SessionError> {
        match event {
            Event::Said(None) | Event::Closed => return Ok(false),
            Event::Said(Some(said)) => self.on_said(said?)?,
            Event::Ordered(Some(ordered)) => {
                let (command, answer) = *ordered;
                self.on_command(command, answer);
            }
            // A seat whose other side is gone was replaced; the dismissal says so.
            Event::Ordered(None) | Event::CanSend => {}
            Event::PackWanted => {
                let wanted = *self.seat.pack.borrow_and_update();
                wanted.into_iter().for_each(|digest| self.outbox.put(ToAgent::SendPack(digest)));
            }
            Event::Asked(asked) => self.on_asked(asked.id, asked.question),
            Event::RecordChanged => self.load(),
            Event::Done(done) => self.on_done(done)?,
            Event::Deadline => return self.on_deadline(),
            Event::Dismissed => {
                let why = self.seat.dismissal.borrow().clone();
                warn!(node = %self.session.peer.name, why, "A session is told to leave");
                self.leave(why, SUPERSEDED_REDIAL);
            }
            Event::Stopping => self.leave("the coordinator is stopping".to_owned(), STOP_REDIAL),
        }
        Ok(true)
    }

    fn on_asked(&mut self, id: u64, question: Question) {
        match question {
            Question::Host(question) => {
                let parts = question.parts();
                let last = parts.len().saturating_sub(1);
                for (index, part) in parts.into_iter().enumerate() {
                    self.outbox.put(ToAgent::Look { id, part, more: index != last });
                }
            }
            Question::Log(question) => self.outbox.put(ToAgent::ReadLog { id, question }),
        }
    }

    fn on_said(&mut self, said: FromAgent) -> Result<(), SessionError> {
        self.heard = Instant::now();
        let now = self.wall();
        let report = match &said {
            FromAgent::Report(observed) => Some(observed.as_ref()),
            _ => None,
        };
        self.session.coordinator.live.heard(&self.session.peer.name, self.seat.session, now, report);
        match said {
            FromAgent::Hello(_) => return Err(SessionError::SecondHello),
            FromAgent::Report(observed) => {
                self.conversation.on_report(now, *observed, admission(&self.session));
                // One that was under way when the journal failed is of before.
                self.reported.0 |= self.journal_error.is_none();
            }
            FromAgent::Ack { generation, stage, refusal } => {
                let admit = admission(&self.session);
                self.conversation.on_ack(now, (generation, stage, refusal), admit);
            }
            FromAgent::Heartbeat { seq, journal_error } => {
                self.on_journal(now, journal_error);
                let coordinator = &self.session.coordinator;
                self.interval = coordinator.heartbeat.interval_for(coordinator.live.count());
                self.outbox.put(ToAgent::HeartbeatReply { seq, next: self.interval });
            }
            FromAgent::Notices(notices) => {
                self.conversation.on_notices(now, notices, admission(&self.session));
                if !self.conversation.has_unsaved() {
                    // All of them are stored already: the earlier answer was lost.
                    self.outbox.put(ToAgent::NoticesReceived(self.conversation.notices_up_to()));
                }
            }
            FromAgent::Program(program) => self.conversation.on_program(program),
            FromAgent::CommandResult { id, ok, detail } => {
                if self.restarts.remove(&id) {
                    self.on_restart_answered(ok);
                }
                if let Some(answer) = self.answers.remove(&id) {
                    // Whoever asked may have given up.
                    drop(answer.send((ok, detail)));
                }
            }
        }
        Ok(())
    }

    fn on_journal(&mut self, now: Timestamp, why: Option<String>) {
        if self.journal_error.as_ref().map(|error| &error.why) == why.as_ref() {
            return;
        }
        let name = &self.session.peer.name;
        match &why {
            Some(why) => {
                warn!(node = %name, why, "An agent cannot write its journal; nothing it reported counts");
                self.reported = (false, false);
            }
            None => info!(node = %name, "An agent can write its journal again"),
        }
        if self.journal_error.is_some() != why.is_some() {
            let admit = admission(&self.session);
            self.conversation.on_journal(now, why.as_deref(), admit);
        }
        let since = self.journal_error.take().map_or(now, |error| error.since);
        self.journal_error = why.map(|why| JournalError { since, why });
        self.session.coordinator.live.journal(name, self.seat.session, self.journal_error.clone());
    }

    fn on_command(&mut self, command: Command, answer: CommandAnswer) {
        self.answers.retain(|_, answer| !answer.is_closed());
        if ANSWERS_MAX <= self.answers.len() {
            if let Command::Restart { .. } = command {
                self.on_restart_answered(false);
            }
            // Of a gate it would be taken for the node's answer; that one is asked again.
            if !matches!(command, Command::Check(_)) {
                drop(answer.send((false, "its agent has not answered earlier commands".to_owned())));
            }
            return;
        }
        let id = rand::random();
        if let Command::Restart { .. } = command {
            self.restarts.insert(id);
        }
        self.answers.insert(id, answer);
        self.outbox.put(ToAgent::Command { id, command });
    }

    /// If it restarts, what it reported before is of the server that ends.
    fn on_restart_answered(&mut self, restarts: bool) {
        if restarts {
            self.reported = (false, false);
        }
        if self.restarts.is_empty() {
            self.session.coordinator.live.restart_answered(&self.session.peer.name, self.seat.session);
        }
    }

    fn on_record(&mut self, record: NodeRecord) {
        if let Some(assign) = self.conversation.on_record(record) {
            self.outbox.put(assign);
        }
    }

    fn load(&mut self) {
        self.loading = true;
        let (coordinator, peer) = (self.session.coordinator.clone(), self.session.peer.clone());
        self.work
            .push(Box::pin(async move { Done::Loaded(load_node(&coordinator, &peer).await.map(Box::new)) }));
    }

    /// Stores what is new, one commit at a time; what comes meanwhile goes into the next.
    fn start_work(&mut self) {
        if self.saving || self.retry_at.is_some() {
            return;
        }
        if !self.conversation.has_unsaved() {
            // A report without news is stored already.
            self.tell_stored(self.reported.0);
            return;
        }
        self.saving = true;
        self.reported.1 = self.reported.0;
        let save = self.conversation.save();
        let key = Key::seen(&self.session.peer.name);
        let commit = Transaction::default().replace(key, self.seen_version, save.seen.encode());
        let events = self.session.coordinator.events.clone();
        self.work.push(Box::pin(async move { Done::Saved(events.append(save.events, commit).await) }));
    }

    fn on_done(&mut self, done: Done) -> Result<(), SessionError> {
        match done {
            Done::Loaded(record) => {
                self.loading = false;
                match record {
                    Ok(record) => self.on_record(*record),
                    Err(SessionError::Store(error)) => {
                        warn!(node = %self.session.peer.name, %error, "Cannot read what is desired");
                        self.retry_at = Some(Instant::now() + RETRY_DELAY);
                    }
                    Err(error) => return Err(error),
                }
            }
            Done::Saved(Ok(version)) => {
                self.saving = false;
                self.seen_version = version;
                self.conversation.on_saved();
                self.tell_stored(self.reported.1);
                if self.received != self.conversation.notices_up_to() {
                    self.received = self.conversation.notices_up_to();
                    self.outbox.put(ToAgent::NoticesReceived(self.received));
                }
            }
            Done::Saved(Err(error)) => {
                warn!(node = %self.session.peer.name, %error, "Cannot store what a node reports; trying again");
                self.reload_seen();
            }
            Done::Reloaded(Ok((stored, version))) => {
                self.saving = false;
                self.seen_version = version;
                self.conversation.on_save_failed(stored.as_deref());
                self.retry_at = Some(Instant::now() + RETRY_DELAY);
            }
            Done::Reloaded(Err(_)) => self.reload_seen(),
        }
        Ok(())
    }

    fn tell_stored(&self, holds_report: bool) {
        if holds_report {
            self.session.coordinator.live.stored(&self.session.peer.name, self.seat.session);
        }
    }

    /// Finds out what the store holds after a commit whose outcome is not known.
    fn reload_seen(&mut self) {
        let (coordinator, peer) = (self.session.coordinator.clone(), self.session.peer.clone());
        self.work.push(Box::pin(async move {
            tokio::time::sleep(RETRY_DELAY).await;
            Done::Reloaded(load_seen(&coordinator, &peer).await)
        }));
    }

    fn on_deadline(&mut self) -> Result<bool, SessionError> {
        let now = Instant::now();
        if let Phase::Leaving = self.phase {
            return Ok(now < self.leave_by);
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.load();
        }
        let silence_max = self.session.coordinator.heartbeat.silence_max(self.interval);
        if silence_max <= now.duration_since(self.heard) {
            return Err(SessionError::Silent(silence_max));
        }
        if self.expires <= now {
            self.leave("its certificate has expired".to_owned(), Duration::ZERO);
        }
        Ok(true)
    }

    fn leave(&mut self, why: String, redial_after: Duration) {
        self.outbox.put(ToAgent::Leave { why, redial_after });
        self.phase = Phase::Leaving;
        self.leave_by = Instant::now() + LEAVE_TIMEOUT;
    }

    /// What was heard is stored before the session is forgotten, if the store lets it.
    async fn finish(&mut self, why: &str) {
        let now = self.wall();
        let goes_on = self.seat.dismissed.is_cancelled() || self.session.coordinator.stop.is_cancelled();
        self.conversation.on_end(now, (!goes_on).then_some(why), admission(&self.session));
        let give_up = tokio::time::sleep(LEAVE_TIMEOUT);
        tokio::pin!(give_up);
        self.retry_at = None;
        loop {
            self.start_work();
            let done = tokio::select! {
                done = self.work.next() => done,
                () = &mut give_up => None,
            };
            match done {
                Some(Done::Saved(Ok(version))) => {
                    self.saving = false;
                    self.seen_version = version;
                    self.conversation.on_saved();
                    if !self.conversation.has_unsaved() {
                        return;
                    }
                }
                Some(Done::Loaded(_)) => {}
                // A newer session of this node writes now, or the store is away: what it has is the truth.
                Some(Done::Saved(Err(_)) | Done::Reloaded(_)) | None => return,
            }
        }
    }
}
