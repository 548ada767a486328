//! Work that was asked for and is never answered, because a queue was full or a task ended, is asked for again. Nothing
//! waits for an outcome without a deadline.

use std::time::Duration;

use crate::{
    node::{Action, Clock, Engine, Out, Phase, Placed},
    service::Service,
    time::{Human, Instant},
    words::NoticeWord,
};

/// Longer than any job takes that will be answered: a preflight, staging 128 MiB on a slow disk. Fetching may take longer
/// while there is no connection; asking again then costs nothing.
const JOB_TIME: Duration = Duration::from_secs(600);
/// Longer than a look at the process table takes.
const LOOK_TIME: Duration = Duration::from_secs(60);
/// Longer than it takes from a script's start to java, or to saying that java does not come.
const LAUNCH_TIME: Duration = Duration::from_secs(180);

/// What is waited for, and since when it was last asked for.
#[derive(Debug, Default)]
pub(super) struct State {
    job: Option<Asked>,
    look: Option<Instant>,
    launch: Option<Instant>,
    /// Since when the files in force are not looked at.
    watch: Option<Instant>,
}

#[derive(Debug)]
struct Asked {
    phase: Phase,
    at: Instant,
}

impl State {
    /// When something is asked for again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let job = self.job.as_ref().map(|asked| asked.at.after(JOB_TIME));
        let look = self.look.map(|at| at.after(LOOK_TIME));
        let launch = self.launch.map(|at| at.after(LAUNCH_TIME));
        let watch = self.watch.map(|at| at.after(JOB_TIME));
        [job, look, launch, watch].into_iter().flatten().min()
    }
}

impl Engine {
    pub(super) fn settle_unanswered(&mut self, clock: Clock, out: &mut Out) {
        self.settle_job(clock, out);
        self.settle_unanswered_launch(clock, out);
        self.settle_unanswered_look(clock, out);
        self.settle_unanswered_watch(clock, out);
    }

    fn settle_job(&mut self, clock: Clock, out: &mut Out) {
        let waits = match self.phase {
            Phase::Idle | Phase::Halting(_) => false,
            Phase::Obtaining(_) | Phase::Staging(_) | Phase::Switching(_) | Phase::Recovering(_) => true,
        };
        if !waits {
            self.unanswered.job = None;
            return;
        }
        match &self.unanswered.job {
            Some(asked) if asked.phase == self.phase => {
                if JOB_TIME <= clock.now.since(asked.at) {
                    self.ask_again(clock, out);
                    self.unanswered.job = Some(Asked { phase: self.phase.clone(), at: clock.now });
                }
            }
            Some(_) | None => {
                self.unanswered.job = Some(Asked { phase: self.phase.clone(), at: clock.now });
            }
        }
    }

    fn ask_again(&mut self, clock: Clock, out: &mut Out) {
        let (what, to) = match self.phase {
            Phase::Idle | Phase::Halting(_) => return,
            Phase::Obtaining(step) => {
                // It may just be waiting for a connection, so nobody is told.
                return out.push(Action::Obtain { target: step.to, size: self.size_of(step.to) });
            }
            Phase::Staging(step) => {
                let Some((_, bundle)) = self.bundle(Some(step.to)) else { return };
                let keep = self.keeping(step, &bundle);
                out.push(Action::Stage { target: step.to.applied, bundle, keep });
                ("staging", step.to)
            }
            Phase::Switching(step) => {
                let Some((_, bundle)) = self.bundle(Some(step.to)) else { return };
                out.push(Action::Switch { target: step.to.applied, bundle });
                ("the switch", step.to)
            }
            Phase::Recovering(to) => {
                self.recover(to, out);
                ("the recovery", to)
            }
        };
        let text = format!(
            "{what} of generation {} was not answered within {} and is asked for again",
            to.applied.generation,
            Human(JOB_TIME)
        );
        self.notice(clock, NoticeWord::AskedAgain, &text, &[]);
    }

    /// Bytes of a bundle's encoding, as far as known.
    pub(super) fn size_of(&self, placed: Placed) -> u64 {
        let assigned = self.memory.assignment.as_ref().filter(|it| it.content == placed.content);
        assigned.map_or(0, |assignment| assignment.content_size)
    }

    fn settle_unanswered_look(&mut self, clock: Clock, out: &mut Out) {
        if !self.facts.looking {
            self.unanswered.look = None;
            return;
        }
        let asked = *self.unanswered.look.get_or_insert(clock.now);
        if LOOK_TIME <= clock.now.since(asked) {
            self.unanswered.look = Some(clock.now);
            self.facts.looking = false;
            self.look(out);
        }
    }

    /// A watch begins with a look. Without one nobody sees edits.
    fn settle_unanswered_watch(&mut self, clock: Clock, out: &mut Out) {
        let unseen = self.written().filter(|(written, _)| self.facts.scanned != Some(written.applied));
        let Some((written, bundle)) = unseen else {
            self.unanswered.watch = None;
            return;
        };
        let asked = *self.unanswered.watch.get_or_insert(clock.now);
        if JOB_TIME <= clock.now.since(asked) {
            self.unanswered.watch = Some(clock.now);
            out.push(Action::Watch { target: written.applied, bundle });
        }
    }

    /// Neither a process nor a failure: whether a server lives is looked up.
    fn settle_unanswered_launch(&mut self, clock: Clock, out: &mut Out) {
        let Service::Starting { process: None, .. } = self.service else {
            self.unanswered.launch = None;
            return;
        };
        let asked = *self.unanswered.launch.get_or_insert(clock.now);
        if LAUNCH_TIME <= clock.now.since(asked) {
            self.unanswered.launch = None;
            self.set_service(clock, Service::Unknown, "the launch was never answered");
            self.look(out);
        }
    }
}
