//! How a rollout ends, and what is still in flight before it does.

use super::Planner;
use crate::{
    observed::Observed,
    rollout::{
        state::{Phase, StepState},
        wait::{Names, WaitReason},
    },
};

impl Planner<'_> {
    pub(super) fn explain_flights(&mut self) {
        for (name, record) in &self.next.steps {
            let Some(flight) = record.flight() else { continue };
            if self.steps.iter().any(|step| step.node == *name) {
                continue;
            }
            self.waiting.push(WaitReason::InFlight {
                node: name.clone(),
                kind: flight.kind,
                stage: flight.stage,
                elapsed: self.now.since(flight.since),
                connected: self.view.nodes.get(name).is_some_and(|node| node.connected),
            });
        }
    }

    /// After a way back: which nodes are not on what they ran before, for the end of a sentence; empty if all are.
    fn not_returned(&self) -> String {
        let (mut left, mut originals, mut returning, mut unseen) = (0, Vec::new(), Vec::new(), Vec::new());
        for (name, record) in &self.next.steps {
            let observed = self.node(name).and_then(|node| node.observed);
            let keeps_original = observed.is_some_and(|observed| observed.original.is_some());
            match &record.state {
                // Its first apply: there is no bundle to go back to, and its agent puts back what lay there before.
                StepState::Failed { .. } if observed.is_some_and(Observed::is_on_original) => {
                    originals.push(name.clone());
                }
                StepState::Failed { .. } if keeps_original && record.way_back().is_none() => {
                    returning.push(name.clone());
                }
                StepState::Failed { .. } | StepState::ReturnFailed { .. } | StepState::Ready { .. } => {
                    left += 1;
                }
                StepState::ReturnUnseen { .. } => unseen.push(name.clone()),
                StepState::Pending
                | StepState::InFlight(_)
                | StepState::RolledBack { .. }
                | StepState::Skipped { .. } => {}
            }
        }
        let mut rest = String::new();
        if 0 < left {
            rest = format!("; {left} could not be returned");
        }
        if !originals.is_empty() {
            rest = format!("{rest}; its original files are in force again: {}", Names(&originals));
        }
        if !returning.is_empty() {
            rest = format!("{rest}; its agent goes back to the original files: {}", Names(&returning));
        }
        if !unseen.is_empty() {
            rest = format!("{rest}; not connected, so it is not known to be back: {}", Names(&unseen));
        }
        rest
    }

    pub(super) fn conclude(&mut self) {
        if self.next.steps.values().any(|record| record.flight().is_some()) {
            return;
        }
        let pending = self.count(|state| *state == StepState::Pending);
        let failed =
            self.count(|state| matches!(state, StepState::Failed { .. } | StepState::ReturnFailed { .. }));
        let end = match &self.next.phase {
            Phase::Running => {
                let waves_left =
                    self.next.groups.keys().any(|name| self.next.groups[name].wave <= self.last_wave(name));
                let gate = self.next.groups.values().find_map(|group| group.gate_failures().next());
                match (failed, gate) {
                    _ if 0 < pending || waves_left => return,
                    (0, None) => Phase::Done,
                    (0, Some((_, why))) => Phase::Failed { why },
                    _ => Phase::Failed { why: format!("{failed} of {} nodes failed", self.next.steps.len()) },
                }
            }
            Phase::Stopping { why, aborted: true } => Phase::Aborted { why: why.clone() },
            Phase::Stopping { why, aborted: false } => Phase::Failed { why: why.clone() },
            Phase::RollingBack { why } => {
                if self.given.steps.keys().any(|name| self.owed(name).is_some()) {
                    return;
                }
                match self.not_returned().as_str() {
                    "" => Phase::RolledBack { why: why.clone() },
                    rest => Phase::Failed { why: format!("{why}{rest}") },
                }
            }
            _ => return,
        };
        for record in self.next.steps.values_mut() {
            if record.state == StepState::Pending {
                record.state = StepState::Skipped {
                    why: format!("the rollout {} before its turn", end.word().as_str()),
                };
            }
        }
        self.waiting.clear();
        self.next.phase = end;
        self.next.ended = Some(self.now);
    }
}
