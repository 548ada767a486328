//! From an assignment to files in force, a server that read them, and ready: forward, and back when it fails.

use std::{sync::Arc, time::Duration};

use crate::{
    bundle::{Applied, Assignment, Bundle, RestartClass, RunState},
    ids::{Digest, FleetEpoch, Generation},
    node::{Action, Clock, Engine, Failure, Memory, Move, Out, Phase, Placed, Purpose, StagedFacts},
    observed::{Attempt, Refusal, RefusalReason, Stage, Verdict},
    restart,
    service::Service,
    words::NoticeWord,
};

/// After content could not be had, or the file system refused.
pub(super) const OBTAIN_AGAIN: Duration = Duration::from_secs(30);
/// After the journal could not be written.
const JOURNAL_AGAIN: Duration = Duration::from_secs(5);

fn journal_failure(detail: &str) -> Failure {
    Failure { reason: RefusalReason::IoFailed, detail: format!("the journal cannot be written: {detail}") }
}

impl Engine {
    pub(super) fn on_assigned(&mut self, clock: Clock, epoch: FleetEpoch, new: Assignment, out: &mut Out) {
        let refusal = |reason, detail: String| Failure { reason, detail };
        if let Some(known) = self.memory.epoch
            && known != epoch
        {
            let why = refusal(
                RefusalReason::OtherEpoch,
                format!("the coordinator's store is {epoch}, this agent obeys {known}"),
            );
            return self.refuse(&new, why, out);
        }
        if new.applied.generation == Generation::ORIGINAL {
            let detail = "generation 0 is what lay here before; assignments begin at 1".to_owned();
            return self.refuse(&new, refusal(RefusalReason::OlderGeneration, detail), out);
        }
        if let Some(old) = &self.memory.assignment {
            if new.applied.generation < old.applied.generation {
                let detail = format!("{} is older than {}", new.applied.generation, old.applied.generation);
                return self.refuse(&new, refusal(RefusalReason::OlderGeneration, detail), out);
            }
            if new.applied.generation == old.applied.generation {
                if new.applied != old.applied {
                    let detail = format!("{} is taken by another bundle", new.applied.generation);
                    return self.refuse(&new, refusal(RefusalReason::OlderGeneration, detail), out);
                }
                return self.on_assigned_again(clock, new, out);
            }
        }
        self.memory.epoch = Some(epoch);
        self.exits.forgive();
        self.hooks.forgive();
        self.reload.forgive();
        self.facts.failed_starts = 0;
        let fields = [("generation", new.applied.generation.to_string()), ("why", new.why.clone())];
        self.notice(
            clock,
            NoticeWord::Assigned,
            &format!("generation {} accepted", new.applied.generation),
            &fields,
        );
        out.push(Action::Ack { generation: new.applied.generation, stage: Stage::Received, refusal: None });
        self.memory.assignment = Some(new);
        self.memory.given_up = None;
        if let Service::GaveUp { .. } = self.service {
            self.set_service(clock, Service::Stopped, "a new assignment came");
        }
        // What is not past its switch makes way for the newer.
        if let Phase::Obtaining(_) | Phase::Staging(_) | Phase::Halting(_) = self.phase {
            self.phase = Phase::Idle;
        }
    }

    /// The same files: said again after a reconnect, and so is the answer; or with another wish for the server, which
    /// needs no new number because it is not a way back to other files.
    fn on_assigned_again(&mut self, clock: Clock, new: Assignment, out: &mut Out) {
        let before = self.memory.assignment.replace(new.clone()).map(|old| old.run);
        self.on_wish(before, new.run);
        if before != Some(new.run) {
            self.exits.forgive();
            let text = match new.run {
                RunState::Running => "the server is wanted running",
                RunState::Stopped => "the server is wanted stopped",
            };
            self.notice(clock, NoticeWord::RunState, text, &[("why", new.why)]);
        }
        self.answer_again(out);
    }

    fn refuse(&self, assignment: &Assignment, failure: Failure, out: &mut Out) {
        let still_running = self.memory.running.map(|placed| placed.applied);
        let refusal = Refusal { reason: failure.reason, detail: failure.detail, still_running };
        let generation = assignment.applied.generation;
        out.push(Action::Ack { generation, stage: Stage::Received, refusal: Some(refusal) });
    }

    fn answer_again(&self, out: &mut Out) {
        let Some(assignment) = &self.memory.assignment else { return };
        let generation = assignment.applied.generation;
        let attempt = self.memory.attempted.as_ref().filter(|attempt| attempt.target == assignment.applied);
        let (stage, refusal) =
            attempt.map_or((Stage::Received, None), |attempt| (attempt.stage, attempt.failure.clone()));
        out.push(Action::Ack { generation, stage, refusal });
    }

    /// Starts, or starts again, on the way to the assignment.
    pub(super) fn settle_apply(&mut self, clock: Clock, out: &mut Out) {
        if self.timers.obtain.is_some_and(|due| due <= clock.now) {
            self.timers.obtain = None;
        }
        match self.phase {
            Phase::Idle => self.settle_idle(clock, out),
            Phase::Halting(step) => self.settle_halting(clock, step, out),
            Phase::Obtaining(_) | Phase::Staging(_) | Phase::Switching(_) | Phase::Recovering(_) => {}
        }
    }

    fn settle_idle(&mut self, clock: Clock, out: &mut Out) {
        if let Some(to) = self.memory.switching {
            // Files are a mix until this is over.
            if !self.facts.mixed {
                if self.timers.obtain.is_none() {
                    self.recover(to, out);
                }
                return;
            }
            // A newer assignment replaces them all as well.
            let newer = self.memory.attempted.as_ref().map(|attempt| attempt.target)
                != self.memory.assignment.as_ref().map(|assignment| assignment.applied);
            if !newer {
                if self.timers.obtain.is_none() {
                    self.begin(Move { to, purpose: Purpose::Recover }, 0, out);
                }
                return;
            }
        }
        let Some(assignment) = self.memory.assignment.clone() else { return };
        if self.memory.given_up == Some(assignment.applied.generation) {
            return self.settle_given_up(clock, out);
        }
        let attempt = self.memory.attempted.as_ref().filter(|attempt| attempt.target == assignment.applied);
        let in_force = self.memory.written.is_some_and(|placed| placed.applied == assignment.applied);
        let to = Placed::from(&assignment);
        match attempt {
            Some(attempt) if attempt.done || in_force => return self.settle_lost(out),
            Some(_) => {}
            None => {
                self.memory.attempted = Some(Attempt::begin(to.applied));
            }
        }
        if self.timers.obtain.is_some() {
            return;
        }
        let whole = self.memory.switching.is_none();
        let same = self.memory.written.filter(|placed| whole && placed.content == to.content);
        if same.is_some() && self.bundles.contains_key(&to.content) {
            return self.renumber(clock, to, out);
        }
        self.begin(Move { to, purpose: Purpose::Forward }, assignment.content_size, out);
    }

    /// The bundle in force is not in the cache any more. Without it nobody knows how the server is run: after a restart
    /// of the agent it would neither be looked for nor started.
    pub(super) fn settle_lost(&mut self, out: &mut Out) {
        let lost = self.memory.written.filter(|placed| !self.bundles.contains_key(&placed.content));
        // What was found on this host is nowhere else.
        let lost = lost.filter(|placed| !placed.is_original());
        if let Some(to) = lost.filter(|_| self.timers.obtain.is_none()) {
            let size = self.size_of(to);
            self.begin(Move { to, purpose: Purpose::Recover }, size, out);
        }
    }

    /// A new number for the files that are in force already: nothing to write.
    fn renumber(&mut self, clock: Clock, to: Placed, out: &mut Out) {
        self.memory.written = Some(to);
        self.reach(Stage::Written, out);
        self.drifts.reset();
        if let Some((written, bundle)) = self.written() {
            out.push(Action::Watch { target: written.applied, bundle });
        }
        let text = format!("generation {}: the files in force are already these", to.applied.generation);
        self.notice(clock, NoticeWord::Written, &text, &[]);
    }

    pub(super) fn begin(&mut self, step: Move, size: u64, out: &mut Out) {
        match self.bundles.get(&step.to.content).cloned() {
            Some(bundle) if step.purpose != Purpose::Forward => self.stage(step, bundle, out),
            Some(_) | None => {
                self.phase = Phase::Obtaining(step);
                // One fetch at a time: this one replaces any other.
                self.facts.refetching = None;
                out.push(Action::Obtain { target: step.to, size });
            }
        }
    }

    fn stage(&mut self, step: Move, bundle: Arc<Bundle>, out: &mut Out) {
        self.phase = Phase::Staging(step);
        let keep = self.keeping(step, &bundle);
        out.push(Action::Stage { target: step.to.applied, bundle, keep });
    }

    pub(super) fn on_obtained(&mut self, clock: Clock, content: Digest, bundle: Arc<Bundle>, out: &mut Out) {
        if self.ends_refetch(content) {
            self.on_refetched(clock, out);
        }
        let Phase::Obtaining(step) = self.phase else { return };
        if step.to.content != content {
            return;
        }
        self.bundles.insert(content, Arc::clone(&bundle));
        let checked = if bundle.origin.is_some() {
            let detail =
                "it says that it was found on this host, and only this agent can know that".to_owned();
            Err(Failure { reason: RefusalReason::BundleInvalid, detail })
        } else if bundle.digest() == step.to.applied.bundle {
            self.limits
                .check(&bundle.service)
                .and_then(|()| self.limits.check_files(&bundle))
                .and_then(|()| self.limits.check_hooks(&bundle.hooks))
        } else {
            let detail = "the bundle is not the one that was assigned: its digest differs".to_owned();
            Err(Failure { reason: RefusalReason::BundleInvalid, detail })
        };
        match checked {
            Ok(()) => self.stage(step, bundle, out),
            Err(failure) => {
                self.phase = Phase::Idle;
                self.fail_attempt(failure, out);
            }
        }
    }

    pub(super) fn on_obtain_failed(
        &mut self,
        clock: Clock,
        content: Digest,
        failure: Failure,
        out: &mut Out,
    ) {
        self.ends_refetch(content);
        let Phase::Obtaining(step) = self.phase else { return };
        if step.to.content != content {
            return;
        }
        self.phase = Phase::Idle;
        self.timers.obtain = Some(clock.now.after(OBTAIN_AGAIN));
        self.fail_move(clock, step, failure, out);
    }

    pub(super) fn on_staged(&mut self, target: Applied, facts: &StagedFacts, out: &mut Out) {
        let Phase::Staging(step) = self.phase else { return };
        if step.to.applied != target {
            return;
        }
        if facts.pack.is_some() {
            self.pack = facts.pack;
        }
        if let Some(taken) = &facts.original {
            self.keep_original(taken);
        }
        let Some((_, bundle)) = self.bundle(Some(step.to)) else { return };
        if self.memory.running.is_none() {
            self.compare_with_disk(&bundle, facts);
        }
        if step.purpose == Purpose::Forward {
            self.reach(Stage::Staged, out);
        }
        self.phase = Phase::Halting(step);
    }

    /// A server that this agent never launched is judged by what it found on disk.
    fn compare_with_disk(&mut self, bundle: &Bundle, facts: &StagedFacts) {
        let restarts = |path| bundle.files.get(path).is_some_and(|f| RestartClass::Restart <= f.restart);
        let differs = facts.differing.iter().any(restarts);
        let is_untouched = self.memory.written.is_none() && self.memory.switching.is_none();
        if bundle.origin.is_some() {
            // It was not restarted since, so it is as it was before.
            self.memory.reads_other = false;
        } else if is_untouched {
            // The disk still holds what the server found there, whatever an earlier staging was compared with.
            self.memory.reads_other = differs;
            self.facts.config_unread = facts.config_unread;
        } else {
            self.memory.reads_other |= differs;
        }
    }

    /// Somebody changed deployment.toml after the server had started: nobody knows what it read.
    fn compare_with_start(&mut self) {
        let Some(changed) = self.facts.config_unread.take() else { return };
        let started = self.service.process().map(|process| process.started);
        self.memory.reads_other |= started.is_some_and(|started| started < changed);
    }

    /// Switches, unless a server is just reading its files: that one is stopped first, since half of the old and half
    /// of the new would be a mix that nobody declared.
    fn settle_halting(&mut self, clock: Clock, step: Move, out: &mut Out) {
        let Some((_, bundle)) = self.bundle(Some(step.to)) else { return };
        if matches!(self.service, Service::Unknown) {
            return;
        }
        self.note_serving(step, &bundle);
        if self.timers.journal.is_some() {
            self.phase = Phase::Idle;
            let detail = self.facts.journal_error.clone().unwrap_or_default();
            return self.fail_move(clock, step, journal_failure(&detail), out);
        }
        self.compare_with_start();
        let reading = matches!(self.service, Service::Starting { .. } | Service::Stopping { .. });
        if reading && self.asks_restart(&bundle) {
            return;
        }
        self.phase = Phase::Switching(step);
        self.facts.interrupted = self.memory.switching;
        self.memory.switching = Some(step.to);
        out.push(Action::Switch { target: step.to.applied, bundle });
    }

    /// Whether a server that starts must stop before the switch that waits for it.
    pub(super) fn halts_start(&self) -> bool {
        match self.phase {
            Phase::Halting(step) => {
                self.bundle(Some(step.to)).is_some_and(|(_, bundle)| self.asks_restart(&bundle))
            }
            Phase::Idle
            | Phase::Obtaining(_)
            | Phase::Staging(_)
            | Phase::Switching(_)
            | Phase::Recovering(_) => false,
        }
    }

    fn asks_restart(&self, new: &Bundle) -> bool {
        if new.balancer.is_some() {
            return false;
        }
        match self.bundle(self.memory.running) {
            Some((_, old)) => restart::decide(&old, new).restarts(),
            // A server of somebody else's: judged by what it found on disk.
            None => self.memory.running.is_some() || self.memory.reads_other,
        }
    }

    pub(super) fn on_stage_failed(&mut self, clock: Clock, target: Applied, failure: Failure, out: &mut Out) {
        let Phase::Staging(step) = self.phase else { return };
        if step.to.applied != target {
            return;
        }
        self.phase = Phase::Idle;
        self.fail_move(clock, step, failure, out);
    }

    pub(super) fn on_switched(&mut self, clock: Clock, target: Applied, out: &mut Out) {
        let Phase::Switching(step) = self.phase else { return };
        if step.to.applied != target {
            return;
        }
        self.phase = Phase::Idle;
        self.memory.switching = None;
        self.facts.mixed = false;
        self.memory.written = Some(step.to);
        self.memory.written_at = clock.wall;
        self.forget_accepted();
        self.drifts.reset();
        self.facts.config_refused = None;
        self.facts.start_held = None;
        if let Service::GaveUp { .. } = self.service {
            // It gave up on the old files while the new ones were on their way.
            self.exits.forgive();
            self.set_service(clock, Service::Stopped, "other files are in force");
        }
        self.facts.failed_starts = 0;
        self.facts.config_error = None;
        if let Some((written, bundle)) = self.written() {
            out.push(Action::Watch { target: written.applied, bundle });
        }
        let attempted = self.memory.attempted.as_ref().is_some_and(|attempt| attempt.target == target);
        if attempted {
            self.reach(Stage::Written, out);
        }
        out.push(Action::Keep(self.memory.contents()));
        let contents = self.memory.contents();
        self.bundles.retain(|content, _| contents.contains(content));
        let text = if step.to.is_original() {
            "the original files are in force again".to_owned()
        } else {
            format!("files of generation {} are in force", target.generation)
        };
        self.notice(clock, NoticeWord::Written, &text, &[]);
    }

    pub(super) fn on_switch_failed(
        &mut self,
        clock: Clock,
        (target, undone): (Applied, bool),
        failure: Failure,
        out: &mut Out,
    ) {
        let Phase::Switching(step) = self.phase else { return };
        if step.to.applied != target {
            return;
        }
        self.phase = Phase::Idle;
        if undone {
            self.memory.switching = self.facts.interrupted;
        } else {
            // What lies beside the files is the switch's own now, whatever they were before.
            self.facts.mixed = false;
            self.timers.obtain = Some(clock.now.after(OBTAIN_AGAIN));
        }
        self.fail_move(clock, step, failure, out);
    }

    pub(super) fn on_journal_failed(
        &mut self,
        clock: Clock,
        detail: &str,
        (switch_dropped, launch_dropped): (bool, bool),
        out: &mut Out,
    ) {
        // What the journal holds is not what was handed to it, and what waited for it was dropped.
        self.journaled = Memory::default();
        self.told.observed = None;
        self.told.notice = 0;
        self.timers.journal = Some(clock.now.after(JOURNAL_AGAIN));
        self.facts.journal_error = Some(detail.to_owned());
        if let Phase::Switching(step) = self.phase
            && switch_dropped
        {
            // The switch waited for that write, so it has not begun; one that a crash interrupted is still open.
            self.phase = Phase::Idle;
            self.memory.switching = self.facts.interrupted;
            self.fail_move(clock, step, journal_failure(detail), out);
        }
        if launch_dropped {
            self.launch_again(out);
        }
    }

    fn fail_move(&mut self, clock: Clock, step: Move, failure: Failure, out: &mut Out) {
        match step.purpose {
            Purpose::Forward => self.fail_attempt(failure, out),
            Purpose::Back | Purpose::Recover => {
                self.timers.obtain = Some(clock.now.after(OBTAIN_AGAIN));
                let text = if step.to.is_original() {
                    "could not put back the original files".to_owned()
                } else {
                    format!("could not put back generation {}", step.to.applied.generation)
                };
                let fields = [("reason", failure.reason.to_string()), ("detail", failure.detail)];
                self.notice(clock, NoticeWord::BackFailed, &text, &fields);
            }
        }
    }

    /// The current attempt reached `stage`: recorded, and told once durable.
    pub(super) fn reach(&mut self, stage: Stage, out: &mut Out) {
        let Some(attempt) = &mut self.memory.attempted else { return };
        if attempt.done || stage <= attempt.stage {
            return;
        }
        attempt.stage = stage;
        attempt.failure = None;
        out.push(Action::Ack { generation: attempt.target.generation, stage, refusal: None });
    }

    /// The current attempt has failed: told with the stage that it did not reach.
    pub(super) fn fail_attempt(&mut self, failure: Failure, out: &mut Out) {
        let still_running = self.service.process().and(self.memory.running).map(|placed| placed.applied);
        let Some(attempt) = &mut self.memory.attempted else { return };
        if attempt.done {
            return;
        }
        let refusal = Refusal { reason: failure.reason, detail: failure.detail, still_running };
        // Content may turn up later: that attempt is not over, only told.
        attempt.done = failure.reason != RefusalReason::ContentUnavailable;
        let known = attempt.failure.replace(refusal.clone()).is_some_and(|known| known == refusal);
        if !known {
            let stage = match attempt.stage {
                Stage::Received => Stage::Staged,
                Stage::Staged => Stage::Written,
                Stage::Written => Stage::Restarted,
                Stage::Restarted | Stage::Ready => Stage::Ready,
            };
            let generation = attempt.target.generation;
            out.push(Action::Ack { generation, stage, refusal: Some(refusal) });
        }
    }

    /// The server did not come up with the new files: back to the last good ones, or to the original.
    pub(super) fn fail_start(&mut self, clock: Clock, failure: Failure, out: &mut Out) {
        let Some(attempt) = self.memory.attempted.clone() else { return };
        let text = format!("generation {} did not start: {}", attempt.target.generation, failure.detail);
        self.notice(clock, NoticeWord::StartFailed, &text, &[("reason", failure.reason.to_string())]);
        self.fail_attempt(failure, out);
        self.go_back(clock, out);
    }

    /// To the last good files, or to the original if those came later; unless they are in force.
    pub(super) fn go_back(&mut self, clock: Clock, out: &mut Out) {
        if self.memory.written.is_none_or(|written| written.is_original()) {
            return;
        }
        if self.is_original_newest() {
            return self.go_back_to_original(clock, out);
        }
        let Some(good) = self.memory.last_good else { return };
        if self.memory.written.is_some_and(|written| written.content == good.content) {
            return;
        }
        self.exits.forgive();
        let text = format!("going back to generation {}", good.applied.generation);
        self.notice(clock, NoticeWord::GoingBack, &text, &[]);
        self.begin(Move { to: good, purpose: Purpose::Back }, 0, out);
    }

    /// Whether the attempt for the files in force still waits for its server.
    pub(super) fn is_attempting(&self) -> bool {
        let written = self.memory.written.map(|placed| placed.applied);
        let attempt = self.memory.attempted.as_ref();
        attempt.is_some_and(|attempt| !attempt.done && Some(attempt.target) == written)
    }

    /// Moves the attempt on as the server does.
    pub(super) fn settle_attempt(&mut self, clock: Clock, out: &mut Out) {
        if self.phase != Phase::Idle {
            return;
        }
        let running = self.memory.running.filter(|placed| Some(*placed) == self.memory.written);
        if let (Some(placed), Service::Running { .. }) = (running, &self.service)
            && self.verdict() == Verdict::Healthy
            && self.memory.last_good != Some(placed)
            && !placed.is_original()
        {
            self.memory.good(placed);
            let bundles = &self.bundles;
            self.memory.bound_backups(|content| bundles.get(content).map_or(0, |bundle| bundle.size()));
        }
        if !self.is_attempting() {
            return;
        }
        if self.is_meant_to_stop() && matches!(self.service, Service::Stopped) {
            if let Some(attempt) = &mut self.memory.attempted {
                attempt.done = true;
            }
            return;
        }
        if running.is_none() || self.service.process().is_none() {
            return;
        }
        self.reach(Stage::Restarted, out);
        if matches!(self.service, Service::Running { .. }) && self.verdict() == Verdict::Healthy {
            self.reach(Stage::Ready, out);
            if let Some(attempt) = &mut self.memory.attempted {
                attempt.done = true;
                let text = format!("generation {} is ready", attempt.target.generation);
                self.notice(clock, NoticeWord::Ready, &text, &[]);
            }
        }
    }
}
