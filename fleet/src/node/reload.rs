//! A load balancer takes other files by a reload, not by a restart, and never is the agent's child
//! (docs/decisions/0078-balancers-are-members-of-the-fleet.md).
//!
//! Promises: one reload at a time; the files of the newest switch count as read only once a reload with them has
//! succeeded; a balancer is never stopped because of what it has read.

use std::{sync::Arc, time::Duration};

use crate::{
    bundle::Bundle,
    node::{Action, Clock, Engine, Failure, Out, Phase, Placed},
    observed::{ProcessIdentity, RefusalReason},
    restart,
    service::Service,
    time::Instant,
    words::NoticeWord,
};

/// How long an agent may take over a reload: checks, the signal, and the wait for a new worker.
pub const RELOAD_TIME: Duration = Duration::from_secs(90);
/// Beyond that, before its outcome counts as lost.
const OUTCOME_MARGIN: Duration = Duration::from_secs(15);
/// Before a reload that failed is tried again.
const RELOAD_AGAIN: Duration = Duration::from_secs(30);

/// The reload under way, if any.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The newest.
    run: u64,
    under_way: Option<UnderWay>,
    /// After a failure.
    again: Option<Instant>,
    /// How it failed, as last told.
    failed: Option<String>,
}

#[derive(Debug)]
struct UnderWay {
    process: ProcessIdentity,
    to: Placed,
    until: Instant,
    /// The wish that it answers.
    wish: Option<String>,
}

impl State {
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.under_way.as_ref().map(|it| it.until).or(self.again)
    }

    pub(super) fn on_exit(&mut self) {
        self.under_way = None;
        self.again = None;
    }

    /// Something has changed that may have been the cause of a failure.
    pub(super) fn forgive(&mut self) {
        self.again = None;
        self.failed = None;
    }
}

impl Engine {
    /// Whether what runs on this node is a load balancer.
    pub(super) fn is_balancer(&self) -> bool {
        self.settings().is_some_and(|bundle| bundle.balancer.is_some())
    }

    /// An edit was undone: whoever made it may have loaded it as well.
    pub(super) fn reload_after(&mut self, what: &str) {
        if self.is_balancer() {
            self.memory.restart = Some(format!("{what} was edited and is restored"));
        }
    }

    /// In every state of the balancer: a deadline that is over must not stay.
    pub(super) fn settle_reload_deadlines(&mut self, clock: Clock, out: &mut Out) {
        self.reload.again.take_if(|due| *due <= clock.now);
        if self.reload.under_way.take_if(|it| it.until <= clock.now).is_some() {
            self.reload_failed(clock, "nobody knows how it ended", out);
        }
    }

    /// The files in force are newer than those that the balancer has read, or a reload is wanted.
    pub(super) fn settle_reload(&mut self, clock: Clock, process: ProcessIdentity, out: &mut Out) {
        if self.phase != Phase::Idle || self.reload.under_way.is_some() || self.reload.again.is_some() {
            return;
        }
        let Some((written, new)) = self.written() else { return };
        let is_read = self.memory.running == Some(written);
        if is_read && self.memory.restart.is_none() {
            return;
        }
        if !is_read && self.memory.restart.is_none() && self.reads_same_files(&new) {
            return self.read_same(clock, written);
        }
        self.begin_reload(clock, process, (written, new), out);
    }

    fn reads_same_files(&self, new: &Bundle) -> bool {
        let old = self.bundle(self.memory.running);
        old.is_some_and(|(_, old)| !restart::decide(&old, new).restarts())
    }

    fn begin_reload(
        &mut self,
        clock: Clock,
        process: ProcessIdentity,
        (to, bundle): (Placed, Arc<Bundle>),
        out: &mut Out,
    ) {
        self.reload.run += 1;
        let until = clock.now.after(RELOAD_TIME + OUTCOME_MARGIN);
        let wish = self.memory.restart.clone();
        self.reload.under_way = Some(UnderWay { process: process.clone(), to, until, wish });
        out.push(Action::Reload { run: self.reload.run, process, bundle });
    }

    pub(super) fn on_reloaded(
        &mut self,
        clock: Clock,
        run: u64,
        outcome: Result<String, String>,
        out: &mut Out,
    ) {
        // One that was told too late is done over again.
        if run != self.reload.run {
            return;
        }
        let Some(done) = self.reload.under_way.take() else { return };
        match outcome {
            Ok(detail) => self.reload_done(clock, done, &detail),
            Err(detail) => self.reload_failed(clock, &detail, out),
        }
    }

    fn reload_done(&mut self, clock: Clock, done: UnderWay, detail: &str) {
        self.reload.forgive();
        self.memory.running = Some(done.to);
        if self.memory.restart == done.wish {
            self.memory.restart = None;
        }
        let target = done.to.applied;
        if let Some(attempt) = self.memory.attempted.as_mut().filter(|attempt| attempt.target == target) {
            attempt.kept_server = true;
        }
        let files = if done.to.is_original() {
            "the original files".to_owned()
        } else {
            format!("the files of generation {}", target.generation)
        };
        let why = done.wish.map(|wish| format!(" because {wish}")).unwrap_or_default();
        self.notice(clock, NoticeWord::Reloaded, &format!("reloaded with {files}{why}: {detail}"), &[]);
        // It may have been told to stop meanwhile.
        let serves = matches!(self.service, Service::Starting { .. } | Service::Running { .. });
        if !serves || self.service.process() != Some(&done.process) {
            return;
        }
        let limit = self.settings().map_or(RELOAD_TIME, |bundle| bundle.service.start_deadline);
        let deadline = clock.now.after(limit);
        let service = Service::Starting { process: Some(done.process), deadline, late: false };
        self.set_service(clock, service, "reloaded");
        self.facts.ready_line = true;
        self.facts.healthy_since = None;
        self.health.on_start(clock.now);
        self.timers.probe = Some(clock.now);
    }

    /// The master goes on with what it had; nobody knows what that is.
    fn reload_failed(&mut self, clock: Clock, detail: &str, out: &mut Out) {
        let detail = format!("the reload failed: {detail}");
        self.memory.running = None;
        self.reload.again = Some(clock.now.after(RELOAD_AGAIN));
        if self.reload.failed.as_ref() != Some(&detail) {
            self.notice(clock, NoticeWord::ReloadFailed, &detail, &[]);
        }
        self.reload.failed = Some(detail.clone());
        if self.is_attempting() {
            // What it goes back to was read before, so it is tried at once.
            self.reload.again = None;
            self.fail_start(clock, Failure { reason: RefusalReason::StartFailed, detail }, out);
        }
    }
}
