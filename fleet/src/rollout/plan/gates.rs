//! What must be being asked, and whether a wave has passed.

use std::time::Duration;

use super::{
    super::{
        gate::{Ask, GateVerdict},
        state::StepState,
        view::{NodeView, RunWish},
        wait::{WaitReason, first_names},
    },
    Planner,
};
use crate::{
    ids::{GroupName, NodeName},
    time::Human,
};

impl<'a> Planner<'a> {
    /// Asks what is not answered yet. `true`: everybody passed, or failed where that is tolerated.
    pub(super) fn pass_gates(&mut self, name: &GroupName, watched: &[&'a NodeName]) -> bool {
        let group = &self.next.groups[name];
        if group.gates.is_none() {
            return true;
        }
        // Nobody is blamed for the time in which nobody asks.
        if self.next.paused.is_some() {
            return false;
        }
        let runs = |name: &&NodeName| self.node(name).is_some_and(|node| node.wish == RunWish::Running);
        let is_new = |name: &&&'a NodeName| matches!(self.state(name), StepState::Ready { .. }) && runs(name);
        let new: Vec<&NodeName> = watched.iter().filter(is_new).copied().collect();
        if new.is_empty() {
            return true;
        }
        let old = self.unchanged_node(name).map(|node| (node, false));
        let mut open = Vec::new();
        for (node, is_new) in new.into_iter().map(|node| (node, true)).chain(old) {
            // One after the other on each node.
            match group.next_gate((name, node), is_new) {
                Ok(ask) => open.extend(ask),
                Err(()) => return false,
            }
        }
        let Some(first) = open.first() else { return true };
        let elapsed = self.now.since(group.gates_since(self.now));
        if group.policy.progress_deadline < elapsed {
            let verdict = GateVerdict {
                wave: group.wave,
                gate: first.gate.clone(),
                node: first.node.clone(),
                at: self.now,
                failure: Some(format!("no answer for {}", Human(elapsed))),
            };
            self.group_mut(name).verdicts.push(verdict);
            // What follows from it is seen in the same look: a tolerated one leaves the others to be asked, or the wave.
            return self.pass_gates(name, watched);
        }
        self.explain_gates(open, elapsed);
        false
    }

    /// Tells nodes that can be asked from those that cannot.
    fn explain_gates(&mut self, open: Vec<Ask>, elapsed: Duration) {
        let connected = |ask: &Ask| self.node(&ask.node).is_some_and(|node| node.connected);
        let (asks, away): (Vec<Ask>, Vec<Ask>) = open.into_iter().partition(connected);
        for (asked, list) in [(true, &asks), (false, &away)] {
            let Some(first) = list.first() else { continue };
            self.waiting.push(WaitReason::Gate {
                group: first.group.clone(),
                wave: first.wave + 1,
                gate: first.gate.clone(),
                nodes: first_names(list.iter().map(|ask| &ask.node)),
                count: list.len(),
                elapsed,
                connected: asked,
            });
        }
        self.asks.extend(asks);
    }

    /// A node of the group that serves as it did before this rollout, if there is one.
    fn unchanged_node(&self, group: &GroupName) -> Option<&'a NodeName> {
        let members = self.members.get(group).into_iter().flatten().copied();
        let mut unchanged = members.filter(|name| *self.state(name) == StepState::Pending);
        unchanged.find(|name| self.node(name).is_some_and(NodeView::is_available))
    }
}
