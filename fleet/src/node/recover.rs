//! A switch that a crash interrupted is finished or undone before anything else, by what it had recorded and laid
//! beside its files. Nothing is staged for it, so nothing that makes staging fail can leave a node a mix.

use crate::{
    bundle::Applied,
    node::{
        Action, Clock, Engine, Failure, Move, Out, Phase, Placed, Purpose, Recovery, Way, apply::OBTAIN_AGAIN,
    },
    words::NoticeWord,
};

impl Engine {
    pub(super) fn recover(&mut self, to: Placed, out: &mut Out) {
        let refused = self.is_refused(to.applied);
        let way = if refused { Way::Back } else { Way::Forward };
        self.phase = Phase::Recovering(to);
        out.push(Action::Recover { target: to.applied, way });
    }

    /// Whether the attempt for `target` is over without success: the coordinator was told that it is not in force.
    fn is_refused(&self, target: Applied) -> bool {
        let attempt = self.memory.attempted.as_ref().filter(|attempt| attempt.target == target);
        attempt.is_some_and(|attempt| attempt.done && attempt.failure.is_some())
    }

    pub(super) fn on_recovered(&mut self, clock: Clock, target: Applied, state: Recovery, out: &mut Out) {
        let Phase::Recovering(to) = self.phase else { return };
        if to.applied != target {
            return;
        }
        match state {
            Recovery::New => {
                self.phase = Phase::Switching(Move { to, purpose: Purpose::Recover });
                self.on_switched(clock, target, out);
            }
            Recovery::Old => self.on_undone(clock, to, out),
            Recovery::Lost => {
                self.phase = Phase::Idle;
                self.facts.mixed = true;
                if self.is_refused(target) {
                    let before = self.memory.written.or_else(|| self.original_of(to));
                    self.memory.switching = Some(before.unwrap_or(to));
                }
                let text = format!(
                    "the switch to generation {} was interrupted and what it had laid aside is gone: all files are \
                     staged anew",
                    target.generation
                );
                self.notice(clock, NoticeWord::SwitchLost, &text, &[]);
            }
            Recovery::Stuck(failure) => {
                self.phase = Phase::Idle;
                self.timers.obtain = Some(clock.now.after(OBTAIN_AGAIN));
                let text = format!(
                    "the switch to generation {} was interrupted and cannot be finished or undone yet: {}",
                    target.generation, failure.detail
                );
                self.tell_files_error(clock, NoticeWord::SwitchStuck, text, &failure);
            }
        }
    }

    fn on_undone(&mut self, clock: Clock, to: Placed, out: &mut Out) {
        self.phase = Phase::Idle;
        self.memory.switching = None;
        self.facts.mixed = false;
        let generation = to.applied.generation;
        let text = format!(
            "the switch to generation {generation} was interrupted: the files before it are in force"
        );
        self.notice(clock, NoticeWord::SwitchUndone, &text, &[]);
        if let Some((written, bundle)) = self.written() {
            out.push(Action::Watch { target: written.applied, bundle });
        }
        // An attempt that is not over begins again by itself; a way back would not.
        let attempted = self.memory.attempted.as_ref().map(|attempt| attempt.target);
        if attempted != Some(to.applied) && self.memory.last_good == Some(to) {
            self.begin(Move { to, purpose: Purpose::Back }, 0, out);
        }
    }

    /// Told once for each reason, not at each try.
    pub(super) fn tell_files_error(
        &mut self,
        clock: Clock,
        kind: NoticeWord,
        text: String,
        failure: &Failure,
    ) {
        if self.facts.files_error.as_ref() != Some(&text) {
            self.notice(clock, kind, &text, &[("reason", failure.reason.to_string())]);
            self.facts.files_error = Some(text);
        }
    }
}
