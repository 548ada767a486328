//! What is done around a stop that was planned: `before_stop`, and `after_ready` that is owed from then on
//! (docs/decisions/0010-hooks-and-gates.md).
//!
//! Promises: no `before_stop` runs before the journal says that its `after_ready` is owed; never two hooks at once; a
//! server is not stopped on purpose while its `before_stop` runs or after it failed under `abort`; what is owed stays
//! owed over crashes of the agent until it has succeeded.

use std::time::Duration;

use crate::{
    bundle::RunState,
    call::{Hook, HookFailure, HookPoint},
    node::{Action, Clock, Engine, Failure, Out, Placed},
    observed::{ProcessIdentity, RefusalReason, Verdict},
    service::Service,
    time::Instant,
    words::NoticeWord,
};

/// Beyond a hook's own limits, before its outcome counts as lost.
const OUTCOME_MARGIN: Duration = Duration::from_secs(15);
/// Before an `after_ready` that failed runs again.
const OWED_AGAIN: Duration = Duration::from_secs(30);
/// Before a stop that a failed `before_stop` refused is tried again, if it is still wanted.
const STOP_AGAIN: Duration = Duration::from_secs(60);

/// The hook under way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Turn {
    /// None.
    #[default]
    Idle,
    /// `before_stop` of this server.
    Before { process: ProcessIdentity, run: u64, until: Instant },
    /// It is over; the stop may follow.
    Drained { process: ProcessIdentity },
    /// `after_ready`.
    After { run: u64, until: Instant },
}

/// Hooks, as far as they need not survive the agent; what must is [`super::Memory::owed`].
#[derive(Debug, Default)]
pub(super) struct HookWork {
    turn: Turn,
    /// Of the newest run.
    run: u64,
    /// When an `after_ready` that failed runs again.
    again: Option<Instant>,
    /// Stops are refused until then.
    hold: Option<Instant>,
    /// These files are not worth a stop: their `before_stop` failed.
    refused: Option<Placed>,
    /// Why `after_ready` failed last.
    failed: Option<String>,
}

impl HookWork {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let until = match &self.turn {
            Turn::Before { until, .. } | Turn::After { until, .. } => Some(*until),
            Turn::Idle | Turn::Drained { .. } => None,
        };
        [until, self.again, self.hold].into_iter().flatten().min()
    }

    /// Something new is wanted: what was refused may be tried again.
    pub(super) fn forgive(&mut self) {
        self.hold = None;
        self.refused = None;
    }

    /// The server that it was about is gone.
    pub(super) fn on_exit(&mut self) {
        if let Turn::Before { .. } | Turn::Drained { .. } = self.turn {
            self.turn = Turn::Idle;
        }
    }
}

impl Engine {
    /// Whether the server may be stopped now; if not, what must come first has begun, or the stop is refused.
    pub(super) fn may_stop(&mut self, clock: Clock, process: &ProcessIdentity, out: &mut Out) -> bool {
        match &self.hooks.turn {
            Turn::Drained { process: of } if of == process => return true,
            // One at a time: an `after_ready` that ends later would undo what `before_stop` did.
            Turn::Before { .. } | Turn::After { .. } => return false,
            Turn::Drained { .. } | Turn::Idle => {}
        }
        let serves = match &self.service {
            Service::Running { .. } => true,
            // One that somebody else started may serve already.
            Service::Starting { .. } => self.facts.adopted,
            _ => false,
        };
        let hook = self.written().and_then(|(_, bundle)| bundle.hooks.before_stop.clone());
        let Some(hook) = hook.filter(|_| serves) else { return true };
        if self.hooks.hold.is_none_or(|until| until <= clock.now) {
            self.begin_before_stop(clock, process, &hook, out);
        }
        matches!(self.hooks.turn, Turn::Drained { .. })
    }

    /// The stop has begun.
    pub(super) fn stopped_for(&mut self) {
        self.hooks.turn = Turn::Idle;
    }

    fn begin_before_stop(&mut self, clock: Clock, process: &ProcessIdentity, hook: &Hook, out: &mut Out) {
        if self.timers.journal.is_some() {
            let detail = "the journal cannot be written, so nobody would remember to undo it".to_owned();
            return self.before_stop_over(clock, process.clone(), (hook, Err(detail)), out);
        }
        if let Err(failure) = self.limits.check_call(&hook.call) {
            return self.before_stop_over(clock, process.clone(), (hook, Err(failure.detail)), out);
        }
        self.memory.owed = self.memory.written;
        let (run, until) = self.run_hook(clock, HookPoint::BeforeStop, hook, out);
        self.hooks.turn = Turn::Before { process: process.clone(), run, until };
    }

    fn run_hook(&mut self, clock: Clock, point: HookPoint, hook: &Hook, out: &mut Out) -> (u64, Instant) {
        self.hooks.run += 1;
        let run = self.hooks.run;
        out.push(Action::Hook { run, point, hook: Box::new(hook.clone()) });
        (run, clock.now.after(hook.longest().saturating_add(OUTCOME_MARGIN)))
    }

    pub(super) fn on_hook_done(
        &mut self,
        clock: Clock,
        run: u64,
        outcome: Result<String, String>,
        out: &mut Out,
    ) {
        match self.hooks.turn.clone() {
            Turn::Before { process, run: of, .. } if of == run => {
                self.hooks.turn = Turn::Idle;
                let hook = self.written().and_then(|(_, bundle)| bundle.hooks.before_stop.clone());
                let Some(hook) = hook else {
                    // Other files came into force, which ask for none.
                    self.hooks.turn = Turn::Drained { process };
                    return;
                };
                self.before_stop_over(clock, process, (&hook, outcome), out);
            }
            Turn::After { run: of, .. } if of == run => {
                self.hooks.turn = Turn::Idle;
                self.after_ready_over(clock, outcome, out);
            }
            // Told too late; what is owed runs again.
            Turn::Idle | Turn::Before { .. } | Turn::Drained { .. } | Turn::After { .. } => {}
        }
    }

    fn before_stop_over(
        &mut self,
        clock: Clock,
        process: ProcessIdentity,
        (hook, outcome): (&Hook, Result<String, String>),
        out: &mut Out,
    ) {
        self.tell_hook(clock, HookPoint::BeforeStop, &outcome);
        match (outcome, hook.on_failure) {
            (Ok(_), _) | (Err(_), HookFailure::Continue) => self.hooks.turn = Turn::Drained { process },
            // It ends with its host anyway, and by itself it ends better.
            (Err(_), HookFailure::Abort) if self.ends_with_host().is_some() => {
                self.hooks.turn = Turn::Drained { process };
            }
            (Err(detail), HookFailure::Abort) => self.refuse_stop(clock, &detail, out),
        }
    }

    /// The server goes on; the files go back, since a crash would start it with those that were refused.
    fn refuse_stop(&mut self, clock: Clock, detail: &str, out: &mut Out) {
        self.hooks.hold = Some(clock.now.after(STOP_AGAIN));
        self.hooks.again = None;
        self.memory.restart = None;
        let detail = format!("before_stop failed, so the server is not stopped: {detail}");
        self.notice(clock, NoticeWord::StopRefused, &detail, &[]);
        if self.is_attempting() && !self.wants_stopped() {
            self.hooks.refused = self.memory.written;
            self.fail_attempt(Failure { reason: RefusalReason::HookFailed, detail }, out);
            self.go_back(clock, out);
        }
    }

    /// Whether a restart for the files in force was refused already.
    pub(super) fn is_stop_refused(&self) -> bool {
        self.hooks.refused.is_some() && self.hooks.refused == self.memory.written
    }

    /// A launch that does not answer a crash begins a server that was taken out of service, or never was in it.
    pub(super) fn owe_after_ready(&mut self) {
        let has = self.written().is_some_and(|(_, bundle)| bundle.hooks.after_ready.is_some());
        if has {
            self.memory.owed = self.memory.written;
        }
    }

    /// The `after_ready` to run: of the files in force, or else of those whose `before_stop` ran.
    fn after_ready(&self) -> Option<Hook> {
        let of = |placed| self.bundle(placed).and_then(|(_, bundle)| bundle.hooks.after_ready.clone());
        self.memory.owed?;
        of(self.memory.written).or_else(|| of(self.memory.owed))
    }

    pub(super) fn settle_hooks(&mut self, clock: Clock, out: &mut Out) {
        for timer in [&mut self.hooks.again, &mut self.hooks.hold] {
            timer.take_if(|due| *due <= clock.now);
        }
        match self.hooks.turn.clone() {
            Turn::Before { run, until, .. } | Turn::After { run, until } if until <= clock.now => {
                self.on_hook_done(clock, run, Err("nobody knows how it ended".to_owned()), out);
            }
            // Nothing wants it stopped any more.
            Turn::Drained { .. } => self.hooks.turn = Turn::Idle,
            Turn::Idle | Turn::Before { .. } | Turn::After { .. } => {}
        }
        if self.memory.owed.is_none() || self.hooks.turn != Turn::Idle || self.hooks.again.is_some() {
            return;
        }
        let ready =
            matches!(self.service, Service::Running { .. }) && *self.health.verdict() == Verdict::Healthy;
        // Put into service for a moment only to be taken out again.
        if !ready || self.memory.restart.is_some() {
            return;
        }
        let Some(hook) = self.after_ready() else {
            self.memory.owed = None;
            return;
        };
        if let Err(failure) = self.limits.check_call(&hook.call) {
            return self.after_ready_over(clock, Err(failure.detail), out);
        }
        let (run, until) = self.run_hook(clock, HookPoint::AfterReady, &hook, out);
        self.hooks.turn = Turn::After { run, until };
    }

    fn after_ready_over(&mut self, clock: Clock, outcome: Result<String, String>, out: &mut Out) {
        let policy = self.after_ready().map(|hook| hook.on_failure).unwrap_or_default();
        // Said once while it fails alike.
        if outcome.is_ok() || self.hooks.failed.as_ref() != outcome.as_ref().err() {
            self.tell_hook(clock, HookPoint::AfterReady, &outcome);
        }
        match outcome {
            Ok(_) => {
                self.memory.owed = None;
                self.hooks.failed = None;
                self.hooks.again = None;
            }
            Err(detail) => {
                self.hooks.again = Some(clock.now.after(OWED_AGAIN));
                self.hooks.failed = Some(detail.clone());
                if policy == HookFailure::Abort && self.is_attempting() {
                    let detail = format!("the server is ready, but after_ready failed: {detail}");
                    self.fail_attempt(Failure { reason: RefusalReason::HookFailed, detail }, out);
                }
            }
        }
    }

    fn tell_hook(&mut self, clock: Clock, point: HookPoint, outcome: &Result<String, String>) {
        let (kind, text) = match outcome {
            Ok(detail) => (NoticeWord::Hook, format!("{point}: {detail}")),
            Err(detail) => (NoticeWord::HookFailed, format!("{point} failed: {detail}")),
        };
        self.notice(clock, kind, &text, &[("hook", point.to_string())]);
    }

    /// Whether it does its job, as told and as counted: a server that a hook holds out of service does not.
    pub(super) fn verdict(&self) -> Verdict {
        let verdict = self.health.verdict();
        if *verdict != Verdict::Healthy {
            return verdict.clone();
        }
        if let Turn::Before { .. } | Turn::Drained { .. } = self.hooks.turn {
            return Verdict::Unknown("before_stop takes it out of service".to_owned());
        }
        if self.memory.restart.is_some() {
            return Verdict::Unknown("it is about to be restarted".to_owned());
        }
        match (self.after_ready(), &self.hooks.failed) {
            (None, _) => self.verdict_in_rotation(),
            (Some(hook), Some(_)) if hook.on_failure == HookFailure::Continue => Verdict::Healthy,
            (Some(_), Some(failed)) => Verdict::Unknown(format!("after_ready failed: {failed}")),
            (Some(_), None) => Verdict::Unknown("after_ready has not run yet".to_owned()),
        }
    }

    /// A hook runs or is owed.
    pub(super) fn is_hook_open(&self) -> bool {
        self.hooks.turn != Turn::Idle || self.memory.owed.is_some()
    }

    /// Another wish for the server than the one that was refused.
    pub(super) fn on_wish(&mut self, before: Option<RunState>, now: RunState) {
        if before != Some(now) {
            self.hooks.forgive();
        }
    }
}
