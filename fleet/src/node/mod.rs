//! The agent's engine: every decision about one node, and no effect. The shell in `agent/` turns outcomes into events
//! and performs actions; simulations and transcripts do the same with fakes.
//!
//! Promises: nothing is told to the coordinator, and no file switched, before what led to it is in the journal
//! ([`Action::waits_for_journal`]); a generation never goes backwards; no desired state, or one that
//! cannot be had, changes nothing; one server per home.
//!
//! Every event ends in [`Engine::settle`], which compares what is wanted with what is and asks for the next step:
//! hints and repeated events only wake it.

mod accept;
mod allow;
mod allowed;
mod apply;
mod command;
mod event;
mod generated;
mod hooks;
mod key_managers;
mod launch;
mod memory;
mod original;
mod recover;
mod reload;
mod repair;
mod rotation;
mod supervise;
mod tell;
mod unanswered;
mod vitals;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use self::command::on_checked;
pub use self::{
    allow::Limits,
    allowed::{Allowed, Authorities, FILES_ALLOWED},
    event::{
        Action, Command, Event, Extent, Failure, Keeping, LastOutput, LogSign, Recovery, StagedFacts,
        TakenOriginal, Way,
    },
    key_managers::{REGISTERED_MAX, Registered, TURN_TIMEOUT},
    memory::{
        BACKUPS_SIZE_MAX, COMMANDS_MAX, KeptOriginal, Memory, NOTICES_MAX, PREVIOUS_GOOD_MAX, Placed,
        Replaced, SwitchRecord,
    },
    reload::RELOAD_TIME,
};
use crate::{
    bundle::{Applied, Bundle, RunState},
    drift::Drifts,
    health::Health,
    ids::Digest,
    observed::{Observed, ProcessIdentity, Vitals},
    service::{RestartTracker, Service},
    time::{Instant, Timestamp},
    words::NoticeWord,
};

/// Between two measurements of the server and its host.
const MEASURE_PERIOD: Duration = Duration::from_secs(30);
/// Between two full scans, as backstop for hints that were lost.
const SCAN_PERIOD: Duration = Duration::from_secs(600);

/// What an apply is at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nothing under way.
    Idle,
    /// Waiting for content.
    Obtaining(Move),
    /// Waiting for files beside their targets.
    Staging(Move),
    /// Staged; waits for a starting server to stop, since it may be reading its files right now.
    Halting(Move),
    /// Waiting for the switch.
    Switching(Move),
    /// Waiting for an interrupted switch to this to be finished or undone.
    Recovering(Placed),
}

/// One way from the files in force to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Move {
    to: Placed,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To the assignment.
    Forward,
    /// To the last good bundle, after a failure.
    Back,
    /// Over again what a crash of the agent interrupted.
    Recover,
}

/// When the next of each recurring thing is due.
#[derive(Debug, Clone, Copy, Default)]
struct Timers {
    probe: Option<Instant>,
    measure: Option<Instant>,
    scan: Option<Instant>,
    obtain: Option<Instant>,
    pause: Option<Instant>,
    /// The journal could not be written: tried again then.
    journal: Option<Instant>,
}

/// What was last told, so that only changes are.
#[derive(Debug, Default)]
struct Told {
    observed: Option<Observed>,
    connected: bool,
    health: Option<crate::observed::Verdict>,
    /// Highest notice number handed to the link of this connection.
    notice: u64,
}

/// Facts about the server that are not in its state.
#[derive(Debug, Default)]
struct Facts {
    /// A line said that it has started.
    ready_line: bool,
    /// A line said that it will not.
    config_error: Option<String>,
    /// What the server wrote before it ended, until one is ready again.
    last_output: LastOutput,
    /// Since when all probes pass although no line said so.
    healthy_since: Option<Instant>,
    /// When deployment.toml was changed although no start has read that change; as the first staging found it.
    config_unread: Option<Timestamp>,
    /// The switch that had been interrupted before the one under way began: undone, files are that mix again.
    interrupted: Option<Placed>,
    /// The server was found running, not launched.
    adopted: bool,
    /// The last process whose end was told: a look that was under way may still show it.
    ended: Option<ProcessIdentity>,
    /// Launches that ended before ready, for the current files.
    failed_starts: u32,
    /// Servers were asked for and not answered.
    looking: bool,
    /// The last word on the journal.
    journal_error: Option<String>,
    /// An interrupted switch can neither be finished nor undone: its files are a mix until all are staged anew.
    mixed: bool,
    /// Why the files cannot be recovered or looked at, as last told.
    files_error: Option<String>,
    /// Why the product would refuse deployment.toml as it lies there.
    config_refused: Option<String>,
    /// Why no start was begun, as last told.
    start_held: Option<String>,
    /// The bundle that the newest look at its files was about.
    scanned: Option<Applied>,
    /// Content of the bundle in force that is being fetched again, by the key of the bundle.
    refetching: Option<Digest>,
    /// The host is being shut down; the next one begins with a new agent.
    host_ends: bool,
}

/// Actions in the making: those allowed now come first, then the journal write, then those that wait for it.
#[derive(Debug, Default)]
struct Out {
    now: Vec<Action>,
    after: Vec<Action>,
}

impl Out {
    fn push(&mut self, action: Action) {
        if action.waits_for_journal() {
            self.after.push(action);
        } else {
            self.now.push(action);
        }
    }
}

/// The moment an event is handled at, on both clocks.
#[derive(Debug, Clone, Copy)]
struct Clock {
    now: Instant,
    wall: Timestamp,
}

/// Every decision about one node.
#[derive(Debug)]
pub struct Engine {
    // Given.
    limits: Limits,
    seed: u64,
    // Durable, and what of it is in the journal already.
    memory: Memory,
    journaled: Memory,
    bundles: BTreeMap<Digest, Arc<Bundle>>,
    // State of the work.
    phase: Phase,
    service: Service,
    service_since: Timestamp,
    service_reason: String,
    health: Health,
    health_since: Timestamp,
    exits: RestartTracker,
    drifts: Drifts,
    generated: generated::State,
    accepts: accept::State,
    launch_files: launch::State,
    facts: Facts,
    hooks: hooks::HookWork,
    rotation: rotation::Rotation,
    key_managers: key_managers::KeyManagerWork,
    reload: reload::State,
    timers: Timers,
    unanswered: unanswered::State,
    // Reported.
    told: Told,
    vitals: Vitals,
    samples: vitals::Samples,
    /// Bytes that `repository/logs` grew by, in how long.
    growth: Option<(u64, Duration)>,
    pack: Option<Digest>,
}

impl Engine {
    /// An engine that remembers `memory`. `bundles` holds the bundles that memory names, by the digest of their
    /// encoding, as far as the cache has them. `seed` spreads delays over nodes.
    pub fn new(
        limits: Limits,
        memory: Memory,
        bundles: BTreeMap<Digest, Arc<Bundle>>,
        seed: u64,
        wall: Timestamp,
    ) -> Self {
        Self {
            limits,
            seed,
            journaled: memory.clone(),
            memory,
            bundles,
            phase: Phase::Idle,
            service: Service::Unknown,
            service_since: wall,
            service_reason: "the agent has just started".to_owned(),
            health: Health::default(),
            health_since: wall,
            exits: RestartTracker::default(),
            drifts: Drifts::default(),
            generated: generated::State::default(),
            accepts: accept::State::default(),
            launch_files: launch::State::default(),
            facts: Facts::default(),
            hooks: hooks::HookWork::default(),
            rotation: rotation::Rotation::default(),
            key_managers: key_managers::KeyManagerWork::default(),
            reload: reload::State::default(),
            timers: Timers::default(),
            unanswered: unanswered::State::default(),
            told: Told::default(),
            vitals: Vitals::default(),
            samples: vitals::Samples::default(),
            growth: None,
            pack: None,
        }
    }

    /// The first actions after a start: finish what a crash interrupted, look for the server, watch the files.
    pub fn start(&mut self, now: Instant, wall: Timestamp) -> Vec<Action> {
        let clock = Clock { now, wall };
        let mut out = Out::default();
        if let Some(to) = self.memory.switching {
            self.recover(to, &mut out);
        } else if let Some((written, bundle)) = self.written() {
            out.push(Action::Watch { target: written.applied, bundle });
        }
        self.settle(clock, &mut out);
        self.finish(clock, out)
    }

    /// Handles one event.
    pub fn handle(&mut self, now: Instant, wall: Timestamp, event: Event) -> Vec<Action> {
        let clock = Clock { now, wall };
        let mut out = Out::default();
        self.dispatch(clock, event, &mut out);
        self.settle(clock, &mut out);
        self.finish(clock, out)
    }

    fn dispatch(&mut self, clock: Clock, event: Event, out: &mut Out) {
        match event {
            Event::HostEnds => self.on_host_ends(clock),
            Event::Connected => self.on_connected(),
            Event::Disconnected => self.told.connected = false,
            Event::Assigned { epoch, assignment } => self.on_assigned(clock, epoch, assignment, out),
            Event::Commanded { id, command } => self.on_command(clock, id, command, out),
            Event::NoticesReceived(up_to) => self.memory.notices.retain(|notice| up_to < notice.seq),
            Event::Obtained { content, bundle } => self.on_obtained(clock, content, bundle, out),
            Event::ObtainFailed { content, failure } => self.on_obtain_failed(clock, content, failure, out),
            Event::Staged { target, facts } => self.on_staged(target, &facts, out),
            Event::StageFailed { target, failure } => self.on_stage_failed(clock, target, failure, out),
            Event::Switched { target } => self.on_switched(clock, target, out),
            Event::SwitchFailed { target, undone, failure } => {
                self.on_switch_failed(clock, (target, undone), failure, out);
            }
            Event::Recovered { target, state } => self.on_recovered(clock, target, state, out),
            Event::ScanFailed { target, failure } => self.on_scan_failed(clock, target, &failure),
            Event::JournalFailed { detail, switch_dropped, launch_dropped } => {
                self.on_journal_failed(clock, &detail, (switch_dropped, launch_dropped), out);
            }
            Event::FileHint => out.push(Action::Scan(Extent::Hinted)),
            Event::GeneratedHint => out.push(Action::Scan(Extent::Generated)),
            Event::Scanned { target, looked, found } => {
                self.on_scanned(clock, target, (&looked, &found), out);
            }
            Event::Generated(looked) => self.on_generated(clock, looked),
            Event::Mended { restored, dropped, trouble } => {
                self.on_mended(clock, &restored, dropped, trouble);
            }
            Event::Edited { path, editors, restored } => self.on_edited(clock, (&path, restored), editors),
            Event::Restored { path, took } => self.on_restored(clock, &path, took),
            // A difference that was known and is over is told by the next look.
            Event::AsDesired { path } => self.drifts.as_desired(&path),
            Event::RestoreOvertaken { path } => self.on_restore_overtaken(&path, out),
            Event::RestoreFailed { path, failure } => {
                self.on_restore_failed(clock, &path, &failure, out);
            }
            Event::PackRead(pack) => self.pack = pack,
            Event::Found(servers) => self.on_found(clock, servers, out),
            Event::Seen(servers) => self.on_seen(clock, servers, out),
            Event::LaunchFilesCleared(result) => self.on_launch_files_cleared(clock, result),
            Event::Launched(process) => self.on_launched(clock, process),
            Event::LaunchFailed(failure) => self.on_launch_failed(clock, &failure, out),
            Event::Replaced(process) => self.on_replaced(clock, process),
            Event::Exited { process, how } => self.on_exited(clock, &process, &how, out),
            Event::Logged(sign) => self.on_logged(clock, sign),
            Event::Probed(results) => self.on_probed(clock, &results),
            Event::HookDone { run, outcome } => self.on_hook_done(clock, run, outcome, out),
            Event::Checked { id, outcome } => on_checked(id, outcome, out),
            Event::Rotation(answer) => self.on_rotation(answer),
            Event::KeyManagerDone { run, outcome } => self.on_key_manager(clock, run, outcome),
            Event::Reloaded { run, outcome } => self.on_reloaded(clock, run, outcome, out),
            Event::Measured(vitals) => self.on_measured(clock, vitals),
            Event::Timer => {}
        }
    }

    /// Compares what is wanted with what is, and asks for the next step of each.
    fn settle(&mut self, clock: Clock, out: &mut Out) {
        if self.timers.journal.is_some_and(|due| due <= clock.now) {
            self.timers.journal = None;
        }
        self.settle_pause(clock, out);
        self.settle_look(clock);
        self.settle_accepted(clock, out);
        self.settle_reload_deadlines(clock, out);
        self.settle_apply(clock, out);
        self.settle_service(clock, out);
        self.settle_unanswered(clock, out);
        self.settle_launch_files(clock, out);
        self.settle_hooks(clock, out);
        self.settle_rotation(clock, out);
        self.settle_key_managers(clock, out);
        self.settle_attempt(clock, out);
        self.settle_timers(clock, out);
    }

    /// Adds the journal write and the report, if there is anything new to write or to say.
    fn finish(&mut self, clock: Clock, mut out: Out) -> Vec<Action> {
        self.tell(clock, &mut out);
        let mut actions = out.now;
        if self.timers.journal.is_some_and(|due| clock.now < due) {
            // What would wait for the journal cannot happen; the state is told in whole once it can be written again. But
            // a full disk must not keep a server down.
            actions.extend(out.after.into_iter().filter(|action| matches!(action, Action::Launch(_))));
            return actions;
        }
        if self.memory != self.journaled {
            self.journaled = self.memory.clone();
            actions.push(Action::Journal(Box::new(self.memory.clone())));
        }
        actions.extend(out.after);
        actions
    }

    /// When [`Event::Timer`] is due at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let service = match &self.service {
            Service::Starting { process: Some(_), deadline, late: false } => Some(*deadline),
            // A launch that something else holds up is not waited for by time.
            Service::BackingOff { until, .. } => {
                let is_free = self.may_start() && !self.is_mending() && !self.is_start_held();
                let is_due = is_free || self.wants_stopped();
                Some(*until).filter(|_| is_due)
            }
            Service::Stopping { until, .. } => Some(*until),
            Service::Foreign { again } => Some(*again),
            Service::Unknown
            | Service::Stopped
            | Service::Starting { .. }
            | Service::Running { .. }
            | Service::GaveUp { .. } => None,
        };
        let timers = self.timers;
        let hooks = self.hooks.next_deadline();
        [
            service,
            hooks,
            self.rotation.next_deadline(),
            self.key_managers.next_deadline(),
            self.reload.next_deadline(),
            self.look_deadline(),
            self.unanswered.next_deadline(),
            self.drifts.hold_deadline(),
            self.launch_files_deadline(),
            self.accept_deadline(),
            timers.probe,
            timers.measure,
            timers.scan,
            timers.obtain,
            timers.journal,
            timers.pause,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is durable or about to be.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    fn bundle(&self, placed: Option<Placed>) -> Option<(Placed, Arc<Bundle>)> {
        let placed = placed?;
        self.bundles.get(&placed.content).map(|bundle| (placed, Arc::clone(bundle)))
    }

    /// The bundle whose files are in force.
    fn written(&self) -> Option<(Placed, Arc<Bundle>)> {
        self.bundle(self.memory.written)
    }

    /// Whether a server should run. No assignment, or none whose files are in force, never means "stop".
    fn wants_server(&self) -> bool {
        !self.facts.host_ends && self.is_meant_to_run()
    }

    /// Whether a server should run while the host does.
    fn is_meant_to_run(&self) -> bool {
        self.memory.assignment.as_ref().is_some_and(|assignment| assignment.run == RunState::Running)
            && self.memory.written.is_some_and(|written| !written.is_original() || self.original_serves())
    }

    /// Whether the server should be stopped: only an operator's word and the end of the host stop it.
    fn wants_stopped(&self) -> bool {
        self.is_meant_to_stop() || (self.facts.host_ends && self.is_meant_to_run())
    }

    /// Whether an operator has stopped the server.
    fn is_meant_to_stop(&self) -> bool {
        self.memory.assignment.as_ref().is_some_and(|assignment| assignment.run == RunState::Stopped)
    }

    /// Why it should be.
    fn stop_reason(&self) -> &'static str {
        if self.is_meant_to_stop() { "stopped as wanted" } else { "the host shuts down" }
    }

    /// The home whose server is being stopped, or is down for good, because the host ends.
    pub fn ends_with_host(&self) -> Option<&str> {
        if !self.facts.host_ends || !self.is_meant_to_run() {
            return None;
        }
        // A change that moves the server to another home may be under way; what stops is where it runs.
        let stopping = self.service.process().and(self.memory.running).or(self.memory.written)?;
        self.bundles.get(&stopping.content).map(|bundle| bundle.service.home.as_str())
    }

    fn on_host_ends(&mut self, clock: Clock) {
        if std::mem::replace(&mut self.facts.host_ends, true) || !self.is_meant_to_run() {
            return;
        }
        // Whatever refused a stop is over: without one the server is killed a little later.
        self.hooks.forgive();
        self.notice(clock, NoticeWord::HostShutdown, "the host shuts down, so its server is stopped", &[]);
    }

    fn settle_timers(&mut self, clock: Clock, out: &mut Out) {
        let Some((_, bundle)) = self.written() else { return };
        if self.timers.measure.is_none_or(|due| due <= clock.now) {
            self.timers.measure = Some(clock.now.after(MEASURE_PERIOD));
            let process = self.service.process().cloned();
            out.push(Action::Measure { process, home: bundle.service.home.clone() });
        }
        match self.timers.scan {
            Some(due) if clock.now < due => {}
            Some(_) => {
                self.timers.scan = Some(clock.now.after(SCAN_PERIOD));
                out.push(Action::Scan(Extent::All));
            }
            // A watch begins with a scan of its own.
            None => self.timers.scan = Some(clock.now.after(SCAN_PERIOD)),
        }
        self.settle_probes(clock, &bundle, out);
    }
}

#[cfg(test)]
mod tests;
