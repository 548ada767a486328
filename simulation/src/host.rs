//! A host: its disk, its server, and the agent's shell around the real engine.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use fleet::{
    bundle::{Applied, Bundle, Probe},
    health::{Answer, ProbeResult},
    ids::{Digest, NodeName, ZoneName},
    node::{Action, Allowed, Engine, Event, Failure, Limits, Memory, Recovery, Way},
    observed::{ProcessIdentity, RefusalReason, Verdict},
    time::{Instant, Timestamp},
};

use super::{
    Bug, Entry, Sim,
    bundles::HOME,
    calls::{HookRun, PROGRAM},
    originals::ByHand,
    server::Process,
};

/// Sessions end after 20 s of silence, and a report takes a few: some of its way to the coordinator, some to the store.
/// An agent whose journal cannot be written says so as soon.
const KNOWN: Duration = Duration::from_secs(40);

/// A machine with one server.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: NodeName,
    /// Of the newest revision that names it.
    pub(super) group: usize,
    /// If the fleet has zones.
    pub(super) zone: Option<ZoneName>,
    /// The newest revision names it.
    pub(super) member: bool,
    /// Its agent may connect.
    pub(super) enrolled: bool,
    /// From launch to ready, milliseconds.
    pub(super) start: u64,
    /// How long its newest stop took, milliseconds.
    pub(super) stopped_in: u64,
    /// How wrong its clock is, milliseconds.
    pub(super) skew: i64,
    // What survives a crash of the agent.
    pub(super) journal: Memory,
    pub(super) cache: BTreeMap<Digest, Arc<Bundle>>,
    /// The bundle that is in force; `None`: what a person had written.
    pub(super) files: Option<Digest>,
    pub(super) half_switched: bool,
    pub(super) by_hand: ByHand,
    pub(super) process: Option<Process>,
    pub(super) pids: u32,
    // What does not.
    pub(super) agent: Option<Agent>,
    pub(super) incarnation: u64,
    pub(super) session: Option<u64>,
    // Faults.
    pub(super) powered: bool,
    pub(super) cut_until: u64,
    /// The session is dead although neither side knows yet.
    pub(super) session_dead: bool,
    pub(super) disk_fails_until: u64,
    pub(super) lies_until: u64,
    // The load balancer in front of it, and the hook that tells it something.
    pub(super) in_service: bool,
    pub(super) hook: Option<HookRun>,
    // What only the simulation knows.
    /// Before the event that is being handled.
    pub(super) was_known_healthy: bool,
    /// When its newest hook began.
    pub(super) drained_healthy: bool,
    /// The newest server that its agent has called running.
    pub(super) seen_running: Option<ProcessIdentity>,
    pub(super) healthy_on: BTreeSet<Digest>,
    /// An apply stopped its server while it served, and it does not serve again yet.
    pub(super) taken_down: bool,
    /// Whose budget its newest step was committed in.
    pub(super) budget_of: usize,
    pub(super) down_since: Option<u64>,
    /// An operator wants its original back, so a stop is nobody's step.
    pub(super) asked_back: bool,
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) engine: Engine,
    /// Writes under way and what waits for them, in order.
    held: VecDeque<Held>,
    /// Counts generations of the queue: a failed write empties it.
    writes: u64,
    written_at: u64,
    told_at: u64,
    timer: Option<u64>,
    /// It has said on this session that its journal cannot be written.
    is_doubted: bool,
    /// The newest report of this session.
    pub(super) reported: Option<Box<fleet::observed::Observed>>,
}

#[derive(Debug)]
enum Held {
    Write { durable: bool },
    Act(Action),
}

impl Host {
    pub(super) fn new(index: usize, name: NodeName, group: usize, start: u64, skew: i64) -> Self {
        Self {
            name,
            group,
            zone: None,
            member: true,
            enrolled: true,
            start,
            stopped_in: 0,
            skew,
            journal: Memory::default(),
            cache: BTreeMap::new(),
            files: None,
            half_switched: false,
            by_hand: ByHand::new(index),
            process: None,
            pids: 100,
            agent: None,
            incarnation: 0,
            session: None,
            powered: true,
            cut_until: 0,
            session_dead: false,
            disk_fails_until: 0,
            lies_until: 0,
            in_service: false,
            hook: None,
            was_known_healthy: false,
            drained_healthy: false,
            seen_running: None,
            healthy_on: BTreeSet::new(),
            taken_down: false,
            budget_of: group,
            down_since: Some(0),
            asked_back: false,
        }
    }

    pub(super) fn serves(&self, now: u64) -> bool {
        self.powered
            && self.process.as_ref().and_then(|process| process.ready_at).is_some_and(|ready| ready <= now)
    }

    /// Since when its server has been serving without a break; `None`: it does not.
    pub(super) fn served_since(&self) -> Option<u64> {
        self.process.as_ref().filter(|_| self.powered).and_then(|process| process.ready_at)
    }

    /// Its own agent has called it healthy for so long that everybody knows, were a session dead meanwhile. A server
    /// that its agent calls unhealthy is down, whatever it could do in truth.
    pub(super) fn known_healthy(&self, now: u64) -> bool {
        let wall = Timestamp(i64::try_from(now).unwrap_or(0) + self.skew);
        let observed = self.agent.as_ref().map(|agent| agent.engine.observed());
        observed.is_some_and(|it| it.health == Verdict::Healthy && KNOWN < wall.since(it.health_since))
    }
}

impl Sim {
    pub(super) fn agent_starts(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        if host.agent.is_some() || !host.powered || (!host.enrolled && host.incarnation == 0) {
            return;
        }
        host.incarnation += 1;
        let incarnation = host.incarnation;
        if self.bug == Some(Bug::OwedIsForgotten) {
            host.journal.owed = None;
        }
        let allowed = Allowed { commands: vec![PROGRAM.to_owned()], ..Allowed::default() };
        let limits = Limits { homes: vec![HOME.to_owned()], allowed, ..Limits::default() };
        let wall = Timestamp(i64::try_from(self.now).unwrap_or(0) + host.skew);
        let mut engine = Engine::new(limits, host.journal.clone(), host.cache.clone(), index as u64, wall);
        let actions = engine.start(Instant(self.now), wall);
        host.agent = Some(Agent {
            engine,
            held: VecDeque::new(),
            writes: 0,
            written_at: 0,
            told_at: 0,
            timer: None,
            is_doubted: false,
            reported: None,
        });
        self.trace(|| format!("host {index}: agent starts"));
        self.perform(index, actions);
        let dial = self.chance.range(10, 3000);
        self.after(dial, Entry::Dial { host: index, incarnation });
    }

    pub(super) fn timer(&mut self, index: usize, incarnation: u64) {
        let host = &mut self.hosts[index];
        if incarnation != host.incarnation {
            return;
        }
        let Some(agent) = &mut host.agent else { return };
        agent.timer = None;
        if agent.engine.next_deadline().is_some_and(|due| due.0 <= self.now) {
            self.deliver(index, incarnation, Event::Timer);
        } else {
            self.arm(index);
        }
    }

    fn arm(&mut self, index: usize) {
        let now = self.now;
        let host = &mut self.hosts[index];
        let incarnation = host.incarnation;
        let Some(agent) = &mut host.agent else { return };
        let Some(due) = agent.engine.next_deadline() else { return };
        let due = due.0.max(now + 1);
        if agent.timer.is_some_and(|timer| timer <= due) {
            return;
        }
        agent.timer = Some(due);
        self.after(due - now, Entry::Timer { host: index, incarnation });
    }

    /// Hands an event to the engine, unless it was meant for an agent that has died since.
    pub(super) fn deliver(&mut self, index: usize, incarnation: u64, event: Event) {
        let now = self.now;
        let host = &mut self.hosts[index];
        if incarnation != host.incarnation {
            return;
        }
        let wall = Timestamp(i64::try_from(now).unwrap_or(0) + host.skew);
        if self.library.hooks.before_stop.is_some() {
            host.was_known_healthy = host.known_healthy(now);
        }
        let Some(agent) = &mut host.agent else { return };
        if self.traced && !matches!(event, Event::Timer | Event::Probed(_) | Event::Scanned { .. }) {
            let text = format!("{event:?}");
            let line = format!("host {index}: <- {}", text.chars().take(150).collect::<String>());
            self.outcome.transcript.push(format!("{:>9.3}s {line}", now as f64 / 1000.0));
        }
        let actions = agent.engine.handle(Instant(now), wall, event);
        self.perform(index, actions);
    }

    fn perform(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            let Some(agent) = self.hosts[index].agent.as_mut() else { return };
            if let Action::Journal(memory) = action {
                agent.held.push_back(Held::Write { durable: false });
                self.write(index, memory);
            } else if action.waits_for_journal() && !agent.held.is_empty() && !self.early(&action) {
                if let Some(agent) = self.hosts[index].agent.as_mut() {
                    agent.held.push_back(Held::Act(action));
                }
            } else {
                self.act(index, action);
            }
        }
        self.arm(index);
    }

    fn early(&self, action: &Action) -> bool {
        match self.bug {
            Some(Bug::AckBeforeSync) => !matches!(action, Action::Switch { .. }),
            Some(Bug::SwitchBeforeJournal) => matches!(action, Action::Switch { .. }),
            _ => false,
        }
    }

    fn write(&mut self, index: usize, memory: Box<Memory>) {
        let takes = if self.rarely(3) { self.chance.range(100, 3000) } else { self.chance.range(1, 20) };
        let now = self.now;
        let host = &mut self.hosts[index];
        let durable = host.disk_fails_until <= now;
        let incarnation = host.incarnation;
        let Some(agent) = &mut host.agent else { return };
        // One write after another.
        agent.written_at = agent.written_at.max(now) + takes;
        let (writes, delay) = (agent.writes, agent.written_at - now);
        self.after(delay, Entry::Journaled { host: index, incarnation, writes, memory, durable });
    }

    pub(super) fn journaled(
        &mut self,
        index: usize,
        incarnation: u64,
        (writes, durable): (u64, bool),
        memory: Memory,
    ) {
        let host = &mut self.hosts[index];
        if incarnation != host.incarnation {
            return;
        }
        let Some(agent) = &mut host.agent else { return };
        if agent.writes != writes {
            return;
        }
        if !durable {
            agent.writes += 1;
            agent.is_doubted = true;
            self.tell_doubt(index);
            let Some(agent) = self.hosts[index].agent.as_mut() else { return };
            let dropped = std::mem::take(&mut agent.held);
            let was_dropped = |is: fn(&Held) -> bool| dropped.iter().any(is);
            let failed = Event::JournalFailed {
                detail: "no space".to_owned(),
                switch_dropped: was_dropped(|held| matches!(held, Held::Act(Action::Switch { .. }))),
                launch_dropped: was_dropped(|held| matches!(held, Held::Act(Action::Launch(_)))),
            };
            return self.deliver(index, incarnation, failed);
        }
        let ahead = agent.held.iter_mut().find_map(|held| match held {
            Held::Write { durable: durable @ false } => Some(durable),
            _ => None,
        });
        if let Some(durable) = ahead {
            *durable = true;
        }
        self.check_journal(index, &memory);
        self.hosts[index].journal = memory;
        loop {
            let Some(agent) = self.hosts[index].agent.as_mut() else { return };
            match agent.held.front() {
                Some(Held::Write { durable: true } | Held::Act(_)) => {}
                _ => break,
            }
            if let Some(Held::Act(action)) = agent.held.pop_front() {
                self.act(index, action);
            }
        }
        let Some(agent) = self.hosts[index].agent.as_mut() else { return };
        if std::mem::take(&mut agent.is_doubted) {
            self.tell_doubt(index);
            self.tell_again(index);
        }
    }

    /// A heartbeat beside the others, because the journal cannot be written any more, or can be again.
    pub(super) fn tell_doubt(&mut self, index: usize) {
        if self.bug == Some(Bug::JournalIsSilent) {
            return;
        }
        let delay = self.chance.range(1, 80);
        let now = self.now;
        let host = &mut self.hosts[index];
        let (Some(session), Some(agent)) = (host.session, &mut host.agent) else { return };
        agent.told_at = agent.told_at.max(now + delay);
        let (delay, doubted) = (agent.told_at - now, agent.is_doubted);
        self.after(delay, Entry::Doubt { host: index, session, doubted });
    }

    /// Reports sent while the journal could not be written did not count.
    fn tell_again(&mut self, index: usize) {
        let Some(report) = self.hosts[index].agent.as_mut().and_then(|agent| agent.reported.clone()) else {
            return;
        };
        self.tell(index, report);
    }

    pub(super) fn later(&mut self, index: usize, (low, high): (u64, u64), event: Event) {
        let (delay, incarnation) = (self.chance.range(low, high), self.hosts[index].incarnation);
        self.after(delay, Entry::Node { host: index, incarnation, event: Box::new(event) });
    }

    fn act(&mut self, index: usize, action: Action) {
        match action {
            Action::Report(report) => {
                self.check_report(index, &report);
                self.tell(index, report);
            }
            Action::Ack { generation, stage, refusal } => {
                self.check_ack(index, generation, stage, refusal.as_ref());
            }
            Action::Tell(notices) => {
                if let Some(newest) = notices.last().filter(|_| self.hosts[index].session.is_some()) {
                    self.later(index, (5, 200), Event::NoticesReceived(newest.seq));
                }
            }
            Action::Keep(contents) => {
                let host = &mut self.hosts[index];
                let newest = host.agent.as_ref().map(|agent| agent.engine.memory().contents());
                let newest = newest.unwrap_or_default();
                let forgets = self.bug == Some(Bug::OriginalIsGarbage);
                host.cache.retain(|content, bundle| {
                    let named = contents.contains(content) || newest.contains(content);
                    named && !(forgets && bundle.origin.is_some())
                });
            }
            Action::Obtain { target, .. } => self.obtain(index, target.content),
            Action::Stage { target, bundle, keep } => self.stage(index, target, &bundle, &keep),
            Action::Switch { target, .. } => self.switch(index, target),
            Action::Recover { target, way } => self.recover(index, target, way),
            Action::Watch { target, .. } => {
                self.later(
                    index,
                    (1, 30),
                    Event::Scanned { target, looked: BTreeSet::new(), found: BTreeMap::new() },
                );
            }
            Action::Look { .. } => self.look(index),
            Action::Launch(bundle) => self.launch(index, &bundle),
            Action::Stop(process) => {
                self.check_stop(index, &process);
                let slow = self.rarely(3);
                let delay = if slow { 40_000 } else { self.chance.range(200, 5000) };
                self.hosts[index].stopped_in = delay;
                self.after(delay, Entry::Ends { host: index, process, how: "ended by TERM" });
            }
            Action::Kill(process) => self.after(100, Entry::Ends { host: index, process, how: "killed" }),
            Action::Hook { run, point, .. } => self.hook(index, run, point),
            Action::Check { id, .. } => self.check(index, id),
            Action::CommandDone { id, done, detail } => {
                self.answer(index, id, (!done).then_some(detail));
            }
            Action::Probe { probes, process } => self.probe(index, probes, &process),
            Action::Journal(_)
            | Action::Scan(_)
            | Action::Restore { .. }
            | Action::Mend { .. }
            | Action::ClearLaunchFiles(_)
            | Action::Adopt { .. }
            | Action::Dump(_)
            // No hook of these bundles speaks to HAProxy.
            | Action::AskRotation(_)
            // These bundles declare none.
            | Action::KeyManager { .. }
            // None of them is a load balancer.
            | Action::Reload { .. }
            | Action::Measure { .. } => {}
        }
    }

    fn probe(&mut self, index: usize, probes: Vec<Probe>, process: &ProcessIdentity) {
        let serves = self.serves_as(index, process);
        let lies = self.now < self.hosts[index].lies_until && self.chance.percent(50);
        let result = |probe: Probe| ProbeResult {
            name: probe.name,
            role: probe.role,
            answer: match (serves, lies) {
                (true, false) => Answer::Passed,
                (true, true) => Answer::Failed("timed out".to_owned()),
                (false, _) => Answer::Failed("refused".to_owned()),
            },
        };
        let results = probes.into_iter().map(result).collect();
        self.later(index, (2, 300), Event::Probed(results));
    }

    fn tell(&mut self, index: usize, report: Box<fleet::observed::Observed>) {
        let delay = if self.rarely(5) { self.chance.range(200, 4000) } else { self.chance.range(1, 80) };
        let now = self.now;
        let host = &mut self.hosts[index];
        let (Some(session), Some(agent)) = (host.session, &mut host.agent) else { return };
        // A stream keeps its order.
        agent.told_at = agent.told_at.max(now + delay);
        agent.reported = Some(report.clone());
        let delay = agent.told_at - now;
        self.after(delay, Entry::FromAgent { host: index, session, report });
    }

    fn obtain(&mut self, index: usize, content: Digest) {
        let connected = self.hosts[index].session.is_some() && !self.hosts[index].session_dead;
        let known = self.library.bundle(&content).filter(|_| connected && self.coordinator.up).cloned();
        let event = match known {
            Some(bundle) => {
                self.hosts[index].cache.insert(content, Arc::clone(&bundle));
                Event::Obtained { content, bundle }
            }
            None => {
                let detail = "not connected".to_owned();
                let reason = RefusalReason::ContentUnavailable;
                Event::ObtainFailed { content, failure: Failure { reason, detail } }
            }
        };
        self.later(index, (10, 800), event);
    }

    fn switch(&mut self, index: usize, target: Applied) {
        if let Some(failure) = self.refuses_switch(index) {
            return self.later(index, (1, 5), Event::SwitchFailed { target, undone: true, failure });
        }
        let takes = self.chance.range(5, 200);
        let fails = self.now < self.hosts[index].disk_fails_until;
        let host = &mut self.hosts[index];
        host.half_switched = true;
        let incarnation = host.incarnation;
        if self.healed.is_none() && self.chance.percent(2) {
            let at = self.chance.range(0, takes + 10);
            self.after(at, Entry::AgentDies { host: index, incarnation });
        }
        self.after(takes, Entry::Switched { host: index, incarnation, target, fails });
    }

    pub(super) fn switched(&mut self, index: usize, incarnation: u64, target: Applied, fails: bool) {
        let host = &mut self.hosts[index];
        if incarnation != host.incarnation || host.agent.is_none() {
            return;
        }
        host.half_switched = false;
        let event = if fails {
            let detail = "read-only".to_owned();
            let failure = Failure { reason: RefusalReason::IoFailed, detail };
            Event::SwitchFailed { target, undone: true, failure }
        } else {
            host.files = Some(target.bundle);
            if self.library.is_original(&target.bundle) {
                self.check_returned(index, &target.bundle);
            } else {
                self.hosts[index].asked_back = false;
            }
            Event::Switched { target }
        };
        self.deliver(index, incarnation, event);
    }

    /// What lies beside the files of an interrupted switch leads to either side, unless the disk refuses.
    fn recover(&mut self, index: usize, target: Applied, way: Way) {
        let lost = self.healed.is_none() && self.chance.percent(5);
        let host = &mut self.hosts[index];
        let state = if self.now < host.disk_fails_until {
            let (reason, detail) = (RefusalReason::IoFailed, "read-only".to_owned());
            Recovery::Stuck(Failure { reason, detail })
        } else if !host.half_switched {
            if host.files == Some(target.bundle) { Recovery::New } else { Recovery::Old }
        } else if lost {
            Recovery::Lost
        } else {
            host.half_switched = false;
            if way == Way::Back {
                Recovery::Old
            } else {
                host.files = Some(target.bundle);
                Recovery::New
            }
        };
        self.later(index, (5, 200), Event::Recovered { target, state });
    }

    /// The agent dies with everything that is not on disk; the server lives on.
    pub(super) fn agent_dies(&mut self, index: usize) {
        self.cut_hook(index);
        let host = &mut self.hosts[index];
        host.agent = None;
        host.incarnation += 1;
        if let Some(session) = host.session.take() {
            self.coordinator.hang_up(index, session);
        }
        self.trace(|| format!("host {index}: agent dies"));
    }

    /// The same, at the worst moment.
    pub(super) fn agent_crashes(&mut self, index: usize, incarnation: u64) {
        if incarnation == self.hosts[index].incarnation {
            self.agent_dies(index);
            let back = self.chance.range(100, 30_000);
            self.after(back, Entry::AgentStarts { host: index });
        }
    }

    pub(super) fn host_starts(&mut self, index: usize) {
        self.hosts[index].powered = true;
        self.agent_starts(index);
    }

    pub(super) fn dial(&mut self, index: usize, incarnation: u64) {
        let now = self.now;
        let host = &mut self.hosts[index];
        if host.incarnation != incarnation || host.agent.is_none() || host.session.is_some() {
            return;
        }
        if now < host.cut_until || !self.coordinator.up || !host.enrolled {
            let (low, high) = if host.enrolled { (500, 4000) } else { (20_000, 40_000) };
            let again = self.chance.range(low, high);
            return self.after(again, Entry::Dial { host: index, incarnation });
        }
        let session = self.coordinator.welcome(index);
        let host = &mut self.hosts[index];
        host.session = Some(session);
        host.session_dead = false;
        if let Some(agent) = &mut host.agent {
            agent.reported = None;
        }
        self.deliver(index, incarnation, Event::Connected);
        if self.hosts[index].agent.as_ref().is_some_and(|agent| agent.is_doubted) {
            self.tell_doubt(index);
        }
        if self.bug != Some(Bug::NoResend) {
            self.assign(index);
        }
    }

    pub(super) fn lost(&mut self, index: usize, session: u64) {
        self.coordinator.hang_up(index, session);
        let host = &mut self.hosts[index];
        if host.session != Some(session) {
            return;
        }
        host.session = None;
        host.session_dead = false;
        let incarnation = host.incarnation;
        self.trace(|| format!("host {index}: session {session} is over"));
        self.deliver(index, incarnation, Event::Disconnected);
        let again = self.chance.range(200, 4000);
        self.after(again, Entry::Dial { host: index, incarnation });
        self.think();
    }

    pub(super) fn agent_hears(&mut self, index: usize, session: u64, assignment: fleet::bundle::Assignment) {
        let host = &self.hosts[index];
        if host.session != Some(session) || host.session_dead {
            return;
        }
        let incarnation = host.incarnation;
        self.deliver(index, incarnation, Event::Assigned { epoch: super::EPOCH, assignment });
    }
}
