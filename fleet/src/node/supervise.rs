//! Starting, stopping, adopting and judging the server.

use std::{sync::Arc, time::Duration};

use crate::{
    bundle::Bundle,
    health::{self, ProbeResult},
    node::{
        Action, Clock, Engine, Extent, Failure, LogSign, Out, Phase, Placed, Purpose, generated::Startable,
    },
    observed::{ProcessIdentity, RefusalReason, Verdict},
    restart,
    service::{AfterExit, Service, StopStep},
    words::NoticeWord,
};

/// Between two rounds of probes while a server starts.
const PROBE_STARTING: Duration = Duration::from_secs(1);
/// How long healthy probes stand in for a ready line that never comes (a changed log4j2.properties hides it).
const READY_LINE_PATIENCE: Duration = Duration::from_secs(30);
/// From the thread dump to KILL.
const DUMP_TIME: Duration = Duration::from_secs(5);
/// From KILL to saying that it did not help.
const KILL_TIME: Duration = Duration::from_secs(30);
/// Between two looks at a home that others hold.
const FOREIGN_AGAIN: Duration = Duration::from_secs(30);
/// The start of a process is worked out from its age and the clock, so two looks differ by a moment. Its age must not go
/// back because the agent was restarted; a clock that was set since is another matter.
const START_JITTER: Duration = Duration::from_secs(1);
/// Launches that may end early, for one set of files, before they count as bad. A port in TIME_WAIT or a database
/// that was just restarted deserves a second try; an error in the configuration does not.
const STARTS_MAX: u32 = 2;

impl Engine {
    pub(super) fn settle_service(&mut self, clock: Clock, out: &mut Out) {
        match self.service.clone() {
            Service::Unknown => self.look(out),
            Service::Stopped => {
                if self.may_start() {
                    self.owe_after_ready();
                    self.launch_if_startable(clock, out);
                }
            }
            Service::Starting { process, deadline, late } => {
                self.settle_starting(clock, process, (deadline, late), out);
            }
            Service::Running { process } => self.settle_running(clock, process, out),
            Service::Stopping { process, step, until } if until <= clock.now => {
                self.stop_harder(clock, process, step, out);
            }
            Service::BackingOff { until, .. } => {
                if self.wants_stopped() {
                    self.set_service(clock, Service::Stopped, self.stop_reason());
                } else if until <= clock.now && self.may_start() {
                    self.launch_if_startable(clock, out);
                }
            }
            Service::GaveUp { .. } if self.wants_stopped() => {
                self.set_service(clock, Service::Stopped, self.stop_reason());
            }
            Service::Foreign { again } if again <= clock.now => {
                self.service = Service::Foreign { again: clock.now.after(FOREIGN_AGAIN) };
                self.look(out);
            }
            Service::Stopping { .. } | Service::GaveUp { .. } | Service::Foreign { .. } => {}
        }
    }

    /// The bundle that says how the server is run: the one in force, or the one on its way to be the first.
    pub(super) fn settings(&self) -> Option<Arc<Bundle>> {
        let coming = match self.phase {
            Phase::Staging(step) | Phase::Halting(step) | Phase::Switching(step) => Some(step.to),
            Phase::Idle | Phase::Obtaining(_) | Phase::Recovering(_) => None,
        };
        self.written().or_else(|| self.bundle(coming)).map(|(_, bundle)| bundle)
    }

    pub(super) fn look(&mut self, out: &mut Out) {
        if self.facts.looking {
            return;
        }
        if let Some(bundle) = self.settings() {
            self.facts.looking = true;
            out.push(Action::Look { home: bundle.service.home.clone() });
        }
    }

    pub(super) fn may_start(&self) -> bool {
        let free = match self.phase {
            Phase::Idle => true,
            // The old files serve until the new ones are in force, unless they are what has just failed.
            Phase::Obtaining(step) | Phase::Staging(step) => step.purpose == Purpose::Forward,
            Phase::Halting(_) | Phase::Switching(_) | Phase::Recovering(_) => false,
        };
        free && self.memory.switching.is_none() && self.wants_server()
    }

    /// A start that is known to fail is put off while what it lacks is brought back; should that be impossible, the
    /// product has the word.
    fn launch_if_startable(&mut self, clock: Clock, out: &mut Out) {
        match self.startable(out) {
            Startable::Wait => {}
            Startable::Refused(why) => self.hold_start(clock, why),
            Startable::Yes | Startable::No(_) => self.launch(clock, out),
        }
    }

    fn launch(&mut self, clock: Clock, out: &mut Out) {
        let Some((_, bundle)) = self.written() else { return };
        self.facts.ready_line = false;
        self.facts.config_error = None;
        self.facts.last_output.telling = None;
        self.facts.healthy_since = None;
        self.memory.restart = None;
        if let Some(attempt) = &mut self.memory.attempted {
            attempt.kept_server = false;
        }
        self.launch_files_written();
        self.facts.adopted = false;
        // From now on, not from when it is heard of: a switch in between would be taken for what it has read.
        self.memory.running = self.memory.written;
        let deadline = clock.now.after(bundle.service.start_deadline);
        self.set_service(clock, Service::Starting { process: None, deadline, late: false }, "launched");
        out.push(Action::Launch(bundle));
    }

    /// The launch under way was dropped with what waited for the journal.
    pub(super) fn launch_again(&mut self, out: &mut Out) {
        if let (Service::Starting { process: None, .. }, Some((_, bundle))) = (&self.service, self.written())
        {
            out.push(Action::Launch(bundle));
        }
    }

    fn settle_starting(
        &mut self,
        clock: Clock,
        process: Option<ProcessIdentity>,
        (deadline, late): (crate::time::Instant, bool),
        out: &mut Out,
    ) {
        let Some(process) = process else { return };
        if self.wants_stopped() {
            return self.stop(clock, process, self.stop_reason(), out);
        }
        if self.halts_start() {
            return self.stop(clock, process, "new files replace those that it is reading", out);
        }
        if let Some(why) = self.memory.restart.clone().filter(|_| !self.is_balancer()) {
            return self.stop(clock, process, &why, out);
        }
        // Once more for an attempt that came later and reads the same: without it, that one would never end.
        if deadline <= clock.now && (!late || self.is_attempting()) {
            self.service = Service::Starting { process: Some(process), deadline, late: true };
            self.on_late(clock, out);
        } else {
            self.settle_files_read(clock, process, out);
        }
    }

    fn on_late(&mut self, clock: Clock, out: &mut Out) {
        let reason = match self.health.verdict() {
            Verdict::Healthy => "no ready line".to_owned(),
            Verdict::Unhealthy(reason) | Verdict::Unknown(reason) => reason.clone(),
        };
        let detail = format!("not ready within the start deadline: {reason}");
        self.service_reason.clone_from(&detail);
        if self.is_attempting() {
            self.fail_start(clock, Failure { reason: RefusalReason::StartDeadline, detail }, out);
        } else {
            // Whatever it waits for may come; a restart would not bring it sooner.
            self.notice(clock, NoticeWord::StartLate, &detail, &[]);
        }
    }

    fn settle_running(&mut self, clock: Clock, process: ProcessIdentity, out: &mut Out) {
        if self.wants_stopped() {
            return self.stop(clock, process, self.stop_reason(), out);
        }
        if self.memory.restart.is_some() && !self.is_balancer() && self.may_restart(clock, out) {
            let why = self.memory.restart.clone().unwrap_or_default();
            return self.stop(clock, process, &why, out);
        }
        self.settle_files_read(clock, process, out);
    }

    /// The files in force are newer than those that the server read: restart it if they mean something else to it.
    fn settle_files_read(&mut self, clock: Clock, process: ProcessIdentity, out: &mut Out) {
        if self.is_balancer() {
            return self.settle_reload(clock, process, out);
        }
        if self.phase != Phase::Idle || self.memory.running == self.memory.written || self.is_stop_refused() {
            return;
        }
        let Some((written, new)) = self.written() else { return };
        let old = self.bundle(self.memory.running);
        let why = match (&old, self.memory.running) {
            (Some((_, old)), _) => {
                let decision = restart::decide(old, &new);
                decision.restarts().then(|| decision.why.join("; "))
            }
            (None, None) => self
                .memory
                .reads_other
                .then(|| "it was started by somebody else and read other files".to_owned()),
            (None, Some(_)) => Some("nobody knows any more what it read".to_owned()),
        };
        match why {
            // One that is not up yet serves nobody: it is stopped whatever becomes of the next start.
            Some(why) if matches!(self.service, Service::Starting { .. }) || self.may_restart(clock, out) => {
                self.stop(clock, process, &why, out);
            }
            Some(_) => {}
            None => self.read_same(clock, written),
        }
    }

    pub(super) fn read_same(&mut self, clock: Clock, written: Placed) {
        let is_first = self.memory.running.replace(written).is_none();
        if let Some(attempt) =
            self.memory.attempted.as_mut().filter(|attempt| attempt.target == written.applied)
        {
            attempt.kept_server = true;
        }
        let generation = written.applied.generation;
        let text = if written.is_original() {
            "the original files need no restart: the server reads the same".to_owned()
        } else if is_first {
            format!("adopted, no restart: the files of generation {generation} mean the same to the server")
        } else {
            format!("generation {generation} needs no restart: the server reads the same")
        };
        self.notice(clock, NoticeWord::NoRestart, &text, &[]);
    }

    /// A stop that was planned: after `before_stop`, and not at all if that refuses it.
    pub(super) fn stop(&mut self, clock: Clock, process: ProcessIdentity, why: &str, out: &mut Out) {
        if !self.may_stop(clock, &process, out) {
            return;
        }
        self.stopped_for();
        self.memory.restart = None;
        let deadline =
            self.settings().map_or(Duration::from_secs(120), |bundle| bundle.service.stop_deadline);
        out.push(Action::Stop(process.clone()));
        let until = clock.now.after(deadline);
        self.set_service(clock, Service::Stopping { process, step: StopStep::Asked, until }, why);
    }

    fn stop_harder(&mut self, clock: Clock, process: ProcessIdentity, step: StopStep, out: &mut Out) {
        let (step, time) = match step {
            StopStep::Asked => {
                out.push(Action::Dump(process.clone()));
                (StopStep::Dumped, DUMP_TIME)
            }
            StopStep::Dumped => {
                self.notice(clock, NoticeWord::Killed, "the server did not stop in time and is killed", &[]);
                out.push(Action::Kill(process.clone()));
                (StopStep::Killed, KILL_TIME)
            }
            StopStep::Killed | StopStep::Stuck => {
                let detail = format!("process {} is still there although it was killed", process.pid);
                self.service_reason.clone_from(&detail);
                self.fail_attempt(Failure { reason: RefusalReason::StopFailed, detail }, out);
                out.push(Action::Kill(process.clone()));
                // Should its end have been missed, the process table tells.
                self.facts.looking = false;
                self.look(out);
                (StopStep::Stuck, KILL_TIME)
            }
        };
        self.service = Service::Stopping { process, step, until: clock.now.after(time) };
    }

    pub(super) fn on_found(&mut self, clock: Clock, servers: Vec<ProcessIdentity>, out: &mut Out) {
        self.facts.looking = false;
        if let Service::Stopping { process, step: StopStep::Stuck, .. } = &self.service
            && !servers.contains(process)
        {
            let process = process.clone();
            return self.on_exited(clock, &process, "gone from the process table", out);
        }
        let open = match &self.service {
            Service::Unknown | Service::Foreign { .. } => true,
            Service::Starting { process, .. } => process.is_none(),
            Service::Stopped
            | Service::Running { .. }
            | Service::Stopping { .. }
            | Service::BackingOff { .. }
            | Service::GaveUp { .. } => false,
        };
        if !open {
            return;
        }
        self.take_over(clock, servers, out);
    }

    /// A server where none is known to live: it is taken over, so that it is never doubled.
    pub(super) fn on_seen(&mut self, clock: Clock, mut servers: Vec<ProcessIdentity>, out: &mut Out) {
        let known_down = match &self.service {
            Service::Stopped | Service::BackingOff { .. } | Service::GaveUp { .. } => true,
            // Looked for, or looked after, already.
            Service::Unknown
            | Service::Starting { .. }
            | Service::Running { .. }
            | Service::Stopping { .. }
            | Service::Foreign { .. } => false,
        };
        servers.retain(|server| self.facts.ended.as_ref() != Some(server));
        if known_down && !servers.is_empty() {
            // Nobody wrote its launch files.
            self.warn_of_empty_vault(clock);
            self.take_over(clock, servers, out);
        }
    }

    fn take_over(&mut self, clock: Clock, servers: Vec<ProcessIdentity>, out: &mut Out) {
        let mut servers = servers.into_iter();
        match (servers.next(), servers.next()) {
            (None, _) => {
                self.memory.restart = None;
                if self.memory.process.take().is_some() {
                    self.notice(
                        clock,
                        NoticeWord::ServerGone,
                        "the server ended while the agent was away",
                        &[],
                    );
                }
                self.health.on_down(Verdict::Unknown("no server runs".to_owned()));
                self.set_service(clock, Service::Stopped, "no server lives on the home");
            }
            (Some(process), None) => self.adopt(clock, process, out),
            (Some(first), Some(second)) => {
                let why = format!("several servers hold the home: {}, {} ...", first.pid, second.pid);
                self.set_service(clock, Service::Foreign { again: clock.now.after(FOREIGN_AGAIN) }, &why);
                self.health.on_down(Verdict::Unknown(why.clone()));
                self.fail_attempt(Failure { reason: RefusalReason::ForeignServer, detail: why }, out);
            }
        }
    }

    fn adopt(&mut self, clock: Clock, process: ProcessIdentity, out: &mut Out) {
        let Some(bundle) = self.settings() else { return };
        let known = self.memory.process.as_ref() == Some(&process);
        let process = match &self.memory.process {
            Some(before) if known && before.started.apart(process.started) < START_JITTER => before.clone(),
            Some(_) | None => process,
        };
        if !known {
            // Another server than the one that was to be restarted.
            self.memory.restart = None;
        } else if self.memory.restart.is_some() {
            self.look_before_restart(clock, out);
        }
        if !known && self.memory.written.is_some() && self.memory.written_at <= process.started {
            // Started after the last switch, so it read those files, whoever launched it.
            self.memory.running = self.memory.written;
        }
        if !known {
            // Launched right before the agent died, or by somebody else: nobody remembers whether it was put into service.
            self.owe_after_ready();
        }
        self.memory.process = Some(process.clone());
        self.facts.ready_line = true;
        self.facts.adopted = true;
        let text = format!("process {} of this home is adopted", process.pid);
        self.notice(clock, NoticeWord::Adopted, &text, &[("pid", process.pid.to_string())]);
        out.push(Action::Adopt { process: process.clone(), bundle: Arc::clone(&bundle) });
        let was_ready =
            known && self.memory.running.is_some() && self.memory.running == self.memory.last_good;
        let service = if was_ready {
            Service::Running { process }
        } else {
            let deadline = clock.now.after(bundle.service.start_deadline);
            Service::Starting { process: Some(process), deadline, late: false }
        };
        self.set_service(clock, service, "adopted");
        self.health.on_start(clock.now);
        self.timers.probe = Some(clock.now);
    }

    pub(super) fn on_launched(&mut self, clock: Clock, process: ProcessIdentity) {
        let Service::Starting { process: None, deadline, late } = self.service else { return };
        self.memory.starts_total += 1;
        self.memory.process = Some(process.clone());
        self.memory.reads_other = false;
        self.service = Service::Starting { process: Some(process), deadline, late };
        self.health.on_start(clock.now);
        self.timers.probe = Some(clock.now.after(PROBE_STARTING));
    }

    /// The script ran java again by itself: a new process that has read the files in force.
    pub(super) fn on_replaced(&mut self, clock: Clock, process: ProcessIdentity) {
        let Some((_, bundle)) = self.written() else { return };
        if let Service::Stopping { step, until, .. } = self.service {
            self.service = Service::Stopping { process: process.clone(), step, until };
            self.memory.process = Some(process);
            return;
        }
        self.memory.running = self.memory.written;
        self.facts.ready_line = false;
        self.facts.healthy_since = None;
        let deadline = clock.now.after(bundle.service.start_deadline);
        let text = format!("the server restarted itself as process {}", process.pid);
        self.warn_of_empty_vault(clock);
        self.notice(clock, NoticeWord::SelfRestart, &text, &[("pid", process.pid.to_string())]);
        self.set_service(
            clock,
            Service::Starting { process: None, deadline, late: false },
            "restarted itself (exit 121)",
        );
        self.on_launched(clock, process);
    }

    pub(super) fn on_launch_failed(&mut self, clock: Clock, failure: &Failure, out: &mut Out) {
        let Service::Starting { process: None, .. } = self.service else { return };
        let failure = Failure { detail: self.with_telling(&failure.detail), ..failure.clone() };
        self.crashed(clock, &failure, out);
    }

    pub(super) fn on_exited(&mut self, clock: Clock, process: &ProcessIdentity, how: &str, out: &mut Out) {
        if self.service.process() != Some(process) {
            return;
        }
        self.memory.process = None;
        self.memory.restart = None;
        self.facts.ended = Some(process.clone());
        self.hooks.on_exit();
        self.reload.on_exit();
        if let Service::Stopping { .. } = self.service {
            let verdict = if self.wants_stopped() {
                Verdict::Unknown(self.stop_reason().to_owned())
            } else {
                Verdict::Unhealthy("the server is being restarted".to_owned())
            };
            self.health.on_down(verdict);
            let why = std::mem::take(&mut self.service_reason);
            return self.set_service(clock, Service::Stopped, &why);
        }
        let detail = self.with_telling(how);
        self.crashed(clock, &Failure { reason: RefusalReason::StartFailed, detail }, out);
    }

    /// How it ended, with the one line of its output that says why.
    fn with_telling(&self, how: &str) -> String {
        let line = self.facts.config_error.as_ref().or(self.facts.last_output.telling.as_ref());
        line.map_or_else(|| how.to_owned(), |line| format!("{how}; it said: {line}"))
    }

    /// It ended and nobody had asked for it.
    fn crashed(&mut self, clock: Clock, failure: &Failure, out: &mut Out) {
        let starting = matches!(self.service, Service::Starting { .. });
        self.health.on_down(Verdict::Unhealthy(format!("the server is not running: {}", failure.detail)));
        self.notice(clock, NoticeWord::ServerExit, &failure.detail, &[]);
        if self.wants_stopped() {
            return self.set_service(clock, Service::Stopped, self.stop_reason());
        }
        if starting {
            // Perhaps a generated file is gone: the next launch would fail alike.
            out.push(Action::Scan(Extent::All));
            self.facts.failed_starts += 1;
            let hopeless = self.facts.config_error.is_some() || failure.reason != RefusalReason::StartFailed;
            if self.is_attempting() && (hopeless || STARTS_MAX <= self.facts.failed_starts) {
                self.fail_start(clock, failure.clone(), out);
            }
        }
        if let Phase::Staging(step) | Phase::Obtaining(step) = self.phase
            && step.purpose == Purpose::Back
        {
            return self.set_service(clock, Service::Stopped, &failure.detail);
        }
        self.answer_exit(clock, failure, out);
    }

    fn answer_exit(&mut self, clock: Clock, failure: &Failure, out: &mut Out) {
        let Some(bundle) = self.settings() else { return };
        match self.exits.on_exit(&bundle.service.restart_policy, clock.now, self.seed) {
            AfterExit::Restart { after, exits } => {
                let service = Service::BackingOff {
                    until: clock.now.after(after),
                    due: clock.wall.after(after),
                    exits,
                };
                self.set_service(clock, service, &failure.detail);
            }
            AfterExit::GiveUp { exits } => {
                self.set_service(clock, Service::GaveUp { exits }, &failure.detail);
                let detail = format!("ended {exits} times: {}", failure.detail);
                if self.is_attempting() {
                    self.fail_start(clock, Failure { reason: RefusalReason::GaveUp, detail }, out);
                }
            }
        }
    }

    pub(super) fn on_logged(&mut self, clock: Clock, sign: LogSign) {
        let is_starting = matches!(self.service, Service::Starting { .. });
        match sign {
            LogSign::Ended(output) => self.facts.last_output = output,
            LogSign::Ready | LogSign::ConfigError(_) if !is_starting => {}
            LogSign::Ready => {
                self.facts.ready_line = true;
                // The line is no proof; ask at once.
                self.timers.probe = Some(clock.now);
            }
            LogSign::ConfigError(line) => {
                self.facts.config_error.get_or_insert(line);
            }
        }
    }

    pub(super) fn on_probed(&mut self, clock: Clock, results: &[ProbeResult]) {
        let Some((_, bundle)) = self.written() else { return };
        let service = &bundle.service;
        let Some(process) = self.service.process().cloned() else { return };
        if let Service::Stopping { .. } = self.service {
            return;
        }
        self.health.on_round(&service.thresholds, clock.now, results);
        let healthy = *self.health.verdict() == Verdict::Healthy;
        if !healthy {
            self.facts.healthy_since = None;
        } else if let Service::Starting { .. } = self.service {
            let since = *self.facts.healthy_since.get_or_insert(clock.now);
            let said = self.facts.ready_line || service.ready_lines.is_empty();
            if said || READY_LINE_PATIENCE <= clock.now.since(since) {
                self.set_service(clock, Service::Running { process }, "ready");
                // What the start has generated is looked at once.
                self.timers.scan = Some(clock.now);
            }
        } else if self.is_attempting() {
            // Probes of the new bundle pass on a server that needed no restart.
            self.facts.failed_starts = 0;
        }
        let hangs = service.unhealthy_restarts && self.health.hangs(&service.thresholds);
        if hangs && matches!(self.service, Service::Running { .. }) {
            self.memory.restart =
                Some("it does not answer, and the fleet asks for a restart then".to_owned());
        }
    }

    pub(super) fn settle_probes(&mut self, clock: Clock, bundle: &Bundle, out: &mut Out) {
        let (process, period) = match &self.service {
            Service::Starting { process: Some(process), .. } => (process.clone(), PROBE_STARTING),
            Service::Running { process } => (process.clone(), bundle.service.thresholds.period),
            Service::Unknown
            | Service::Stopped
            | Service::Starting { process: None, .. }
            | Service::Stopping { .. }
            | Service::BackingOff { .. }
            | Service::GaveUp { .. }
            | Service::Foreign { .. } => {
                self.timers.probe = None;
                return;
            }
        };
        if self.timers.probe.is_none_or(|due| due <= clock.now) {
            let period = period.min(bundle.service.thresholds.period).max(Duration::from_millis(100));
            self.timers.probe = Some(clock.now.after(period));
            out.push(Action::Probe { probes: health::probes(&bundle.service), process });
        }
    }
}
