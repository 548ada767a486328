//! Gates: what the nodes of a wave must answer before the next one begins, beyond being ready
//! (docs/decisions/0006-gates.md).
//!
//! After ready and soak every gate is asked of every changed node of the wave and of one node of the group that is not
//! changed yet, since both serve side by side until the end. The planner says what must be being asked; whoever asks
//! commits the answer with [`Rollout::answer`]. An answer that was lost is asked for again.

use super::{
    policy::OnFailure,
    state::{Blind, GroupRollout, Phase, Rollout},
};
use crate::{
    ids::{Digest, GroupName, NodeName},
    time::Timestamp,
};

/// Failures that were tolerated and that a group keeps; the oldest go first.
pub(super) const VERDICTS_MAX: usize = 64;
/// Gates of one group.
pub const GATES_MAX: usize = 16;
/// The longest name of a gate, bytes.
pub const GATE_NAME_MAX: usize = 64;

/// Whom a gate is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GateOn {
    /// The changed nodes of the wave, and one that is not changed yet.
    #[default]
    Both,
    /// The changed nodes of the wave: for what only the new configuration can do.
    New,
    /// One node that is not changed yet: for what the change of others must not break.
    Old,
}

impl GateOn {
    /// Every choice with its word in fleet.toml.
    pub const ALL: [(Self, &'static str); 3] = [(Self::Both, "both"), (Self::New, "new"), (Self::Old, "old")];
}

/// A gate of a group, as far as the planner needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Unique in its group.
    pub name: String,
    /// Whom it is asked.
    pub on: GateOn,
    /// What a failure means; as the group's `on_failure` if absent.
    pub on_failure: Option<OnFailure>,
}

/// The gates of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gates {
    /// In the order in which they are asked.
    pub list: Vec<Gate>,
    /// The content of the store that holds every question for every node, expressions evaluated.
    pub content: Digest,
}

/// What a node answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateVerdict {
    /// In which wave.
    pub wave: u32,
    /// To which gate.
    pub gate: String,
    /// Which node.
    pub node: NodeName,
    /// When.
    pub at: Timestamp,
    /// Why it did not pass; `None`: it did.
    pub failure: Option<String>,
}

/// A question that must be being asked now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ask {
    /// Of which group.
    pub group: GroupName,
    /// In which wave.
    pub wave: u32,
    /// Which gate.
    pub gate: String,
    /// Whom.
    pub node: NodeName,
}

impl Rollout {
    /// Notes an answer. `None`: nobody waits for it any more.
    pub fn answer(&self, ask: &Ask, failure: Option<String>, at: Timestamp) -> Option<Rollout> {
        if self.phase != Phase::Running {
            return None;
        }
        let mut next = self.clone();
        let group = next.groups.get_mut(&ask.group)?;
        let known = group.gates.iter().any(|gates| gates.list.iter().any(|gate| gate.name == ask.gate));
        let answered = group.verdicts.iter().any(|verdict| verdict.is_of(ask));
        if !known || answered || group.wave != ask.wave {
            return None;
        }
        let (wave, gate, node) = (ask.wave, ask.gate.clone(), ask.node.clone());
        group.verdicts.push(GateVerdict { wave, gate, node, at, failure });
        Some(next)
    }
}

impl GateVerdict {
    /// Whether it answers this question.
    pub fn is_of(&self, ask: &Ask) -> bool {
        self.wave == ask.wave && self.gate == ask.gate && self.node == ask.node
    }
}

impl GroupRollout {
    /// What went wrong at its gates: the policy that each falls under, and why.
    pub(super) fn gate_failures(&self) -> impl Iterator<Item = (OnFailure, String)> {
        self.verdicts.iter().filter_map(|verdict| {
            let why = verdict.failure.as_ref()?;
            let text = format!("gate {} failed on {}: {why}", verdict.gate, verdict.node);
            Some((self.policy_of(&verdict.gate), text))
        })
    }

    fn policy_of(&self, gate: &str) -> OnFailure {
        let mut gates = self.gates.iter().flat_map(|gates| &gates.list);
        let own = gates.find(|known| known.name == gate).and_then(|gate| gate.on_failure);
        own.unwrap_or(self.policy.on_failure)
    }

    /// The first gate that a node has not answered. `Err`: it failed one that is not tolerated.
    pub(super) fn next_gate(
        &self,
        (group, node): (&GroupName, &NodeName),
        is_new: bool,
    ) -> Result<Option<Ask>, ()> {
        let not_asked = if is_new { GateOn::Old } else { GateOn::New };
        for gate in self.gates.iter().flat_map(|gates| &gates.list).filter(|gate| gate.on != not_asked) {
            let (group, node) = (group.clone(), node.clone());
            let ask = Ask { group, wave: self.wave, gate: gate.name.clone(), node };
            match self.verdicts.iter().find(|verdict| verdict.is_of(&ask)) {
                None => return Ok(Some(ask)),
                Some(GateVerdict { failure: None, .. }) => {}
                Some(_) if self.policy_of(&gate.name) == OnFailure::Continue => {}
                Some(_) => return Err(()),
            }
        }
        Ok(None)
    }

    /// Since when it is its gates that the wave waits for, as far as that is known.
    pub(super) fn gates_since(&self, now: Timestamp) -> Timestamp {
        let soaked = self.wave_ready.map(|ready| ready.after(self.policy.soak));
        let answered = self.verdicts.iter().map(|verdict| verdict.at).max();
        let since = [soaked, answered].into_iter().flatten().chain([self.progress]).max();
        since.unwrap_or(now).min(now)
    }

    /// Leaves a wave: what was passed in it is of no more use.
    pub(super) fn leave_wave(&mut self, now: Timestamp) {
        self.wave += 1;
        self.wave_ready = None;
        self.blind = Blind::default();
        self.progress = now;
        self.verdicts.retain(|verdict| verdict.failure.is_some());
        let surplus = self.verdicts.len().saturating_sub(VERDICTS_MAX);
        self.verdicts.drain(..surplus);
    }
}
