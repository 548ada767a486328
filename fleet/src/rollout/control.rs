//! What operators do to a rollout: pure transitions, each with the reason it may be refused for. The coordinator
//! commits the result like a plan, then plans.

use super::state::{Blind, Pause, Phase, Rollout, StepState};
use crate::{ids::RolloutId, reason::Reason, time::Timestamp};

/// Why a transition was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlError {
    /// It has ended.
    #[error("rollout {rollout} has ended: {state}; apply again to start another")]
    Ended {
        /// Which.
        rollout: RolloutId,
        /// How.
        state: &'static str,
    },
    /// It is paused already.
    #[error("rollout {rollout} is paused already{}", Reason(.why))]
    Paused {
        /// Which.
        rollout: RolloutId,
        /// The words of whoever paused it.
        why: String,
    },
    /// It is not paused.
    #[error("rollout {rollout} is not paused; it is {state}")]
    NotPaused {
        /// Which.
        rollout: RolloutId,
        /// What it is.
        state: &'static str,
    },
    /// It is on its way back or out already.
    #[error("rollout {rollout} is {state} already{}", Reason(.why))]
    Leaving {
        /// Which.
        rollout: RolloutId,
        /// What it is.
        state: &'static str,
        /// Why.
        why: String,
    },
    /// No group waits for anything that a promotion ends.
    #[error("rollout {rollout} has no group that soaks or waits for promotion")]
    NothingToPromote {
        /// Which.
        rollout: RolloutId,
    },
}

/// What an abort does with nodes that were changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// They keep what they have; steps in flight end by themselves.
    Leave,
    /// They return to their last good bundle.
    Return,
}

impl Rollout {
    fn open(&self) -> Result<(), ControlError> {
        if self.phase.is_end() {
            return Err(ControlError::Ended { rollout: self.id, state: self.phase.word().as_str() });
        }
        Ok(())
    }

    fn forward(&self) -> Result<(), ControlError> {
        self.open()?;
        match &self.phase {
            Phase::Stopping { why, .. } | Phase::RollingBack { why } => Err(ControlError::Leaving {
                rollout: self.id,
                state: self.phase.word().as_str(),
                why: why.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Nothing new begins until it is resumed; steps in flight go on. A rollback can be paused as well.
    ///
    /// # Errors
    /// If it has ended or is paused.
    pub fn pause(&self, why: &str, at: Timestamp) -> Result<Rollout, ControlError> {
        self.open()?;
        if let Some(pause) = &self.paused {
            return Err(ControlError::Paused { rollout: self.id, why: pause.why.clone() });
        }
        Ok(Rollout { paused: Some(Pause { why: why.to_owned(), at }), ..self.clone() })
    }

    /// Goes on. Failures that happened meanwhile take effect.
    ///
    /// # Errors
    /// If it has ended or is not paused.
    pub fn resume(&self, at: Timestamp) -> Result<Rollout, ControlError> {
        self.open()?;
        if self.paused.is_none() {
            return Err(ControlError::NotPaused { rollout: self.id, state: self.phase.word().as_str() });
        }
        let mut next = Rollout { paused: None, ..self.clone() };
        // The progress clock does not blame the nodes for the time in which nobody was allowed to go on.
        next.groups.values_mut().for_each(|group| group.progress = at);
        next.forget_blind();
        Ok(next)
    }

    /// Ends it before its time. Ends a pause as well.
    ///
    /// # Errors
    /// If it has ended, or is on its way back; a rollout that is stopping may still be told to return.
    pub fn abort(&self, how: Abort, why: &str) -> Result<Rollout, ControlError> {
        match how {
            Abort::Leave => self.forward()?,
            Abort::Return if matches!(self.phase, Phase::Stopping { .. }) => {}
            Abort::Return => self.forward()?,
        }
        let why = why.to_owned();
        let phase = match how {
            Abort::Leave => Phase::Stopping { why, aborted: true },
            Abort::Return => Phase::RollingBack { why },
        };
        let mut next = Rollout { phase, paused: None, ..self.clone() };
        next.forget_blind();
        Ok(next)
    }

    /// Forgets for how long groups could not be judged: from now on they are waited for anew.
    pub(super) fn forget_blind(&mut self) {
        self.groups.values_mut().for_each(|group| group.blind = Blind::default());
    }

    /// Cuts short the soak, and the wait for a promotion, of every group whose wave under way is through. Never skips
    /// a step, a failure or the budget.
    ///
    /// # Errors
    /// If it is not going forward, or nothing waits so.
    pub fn promote(&self) -> Result<Rollout, ControlError> {
        self.forward()?;
        let mut next = self.clone();
        let mut promoted = false;
        for (name, group) in &mut next.groups {
            let mut wave = self.steps.values().filter(|step| step.group == *name && step.wave == group.wave);
            let is_through = group.wave_ready.is_some()
                && wave.all(|step| !matches!(step.state, StepState::Pending | StepState::InFlight(_)));
            if is_through && group.promoted != Some(group.wave) {
                group.promoted = Some(group.wave);
                promoted = true;
            }
        }
        if promoted { Ok(next) } else { Err(ControlError::NothingToPromote { rollout: self.id }) }
    }

    /// A newer rollout takes over. Steps in flight are the newer one's to watch or to replace.
    ///
    /// # Errors
    /// If it has ended.
    pub fn supersede(&self, by: RolloutId, at: Timestamp) -> Result<Rollout, ControlError> {
        self.open()?;
        let mut next =
            Rollout { phase: Phase::Superseded { by }, paused: None, ended: Some(at), ..self.clone() };
        next.leave_open_steps();
        Ok(next)
    }

    /// Skips the steps that were open when a newer rollout took over; nothing changes in any other phase. Follows from
    /// the phase alone, so a store need not write the steps again.
    pub fn leave_open_steps(&mut self) {
        let Phase::Superseded { by } = self.phase else { return };
        for record in self.steps.values_mut() {
            if matches!(record.state, StepState::Pending | StepState::InFlight(_)) {
                record.state = StepState::Skipped { why: format!("rollout {by} took over") };
            }
        }
    }
}
