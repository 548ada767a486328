//! A new rollout: who takes part, and in which wave.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    gate::Gates,
    policy::{FleetPolicy, RolloutPolicy},
    state::{
        Blind, Flight, FlightStage, GroupRollout, Phase, Rollout, Spent, StepKind, StepRecord, StepState,
        Target,
    },
    view::{FleetView, NodeView},
};
use crate::{
    bundle::RestartClass,
    ids::{Digest, GroupName, NodeName, Revision, RolloutId},
    time::Timestamp,
};

/// What a revision wants of one group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupGoal {
    /// How carefully.
    pub policy: RolloutPolicy,
    /// After which groups, typed or derived ([`super::order`]).
    pub after: BTreeSet<GroupName>,
    /// What its nodes are asked after each wave, if anything.
    pub gates: Option<Gates>,
}

/// How a revision is to be rolled out. Kept with it, so that going back to it needs nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RolloutRules {
    /// Limits over all groups.
    pub policy: FleetPolicy,
    /// All groups of the revision.
    pub groups: BTreeMap<GroupName, GroupGoal>,
}

/// What a revision wants of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGoal {
    /// Its group in this revision.
    pub group: GroupName,
    /// What it should run.
    pub target: Target,
    /// What the change from `compared_with` to `target` asks of the server.
    pub restart: RestartClass,
    /// The bundle that the server runs, as `restart` was computed; `None` if unknown, which means a restart.
    pub compared_with: Option<Digest>,
    /// The newest target that became ready on it.
    pub last_good: Option<Target>,
}

/// Everything a new rollout is made of.
#[derive(Debug, Clone)]
pub struct NewRollout {
    /// Its number.
    pub id: RolloutId,
    /// What it executes.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// How, with all groups of the revision.
    pub rules: RolloutRules,
    /// All nodes of the revision; those that already run their target drop out.
    pub nodes: BTreeMap<NodeName, NodeGoal>,
    /// Ignore maintenance windows, for this reason.
    pub windows_overridden: Option<String>,
}

impl NewRollout {
    /// Decides who takes part and in which wave. Only nodes that are not already on their target take part; without
    /// any, the rollout is done at once.
    ///
    /// Waves: the canary of a group is wave 0; the others follow in waves of [`RolloutPolicy::wave_size`]. Within a
    /// group nodes that are connected and down come first, since giving them something takes nobody out of service,
    /// then those that serve, then those that are not connected; then by name. Nodes whose server need not restart
    /// all go in the first wave after the canary.
    pub fn create(self, view: &FleetView<'_>) -> Rollout {
        let mut rollout = Rollout {
            id: self.id,
            revision: self.revision,
            started: self.at,
            ended: None,
            phase: Phase::Running,
            paused: None,
            windows_overridden: self.windows_overridden,
            policy: self.rules.policy,
            groups: BTreeMap::new(),
            steps: BTreeMap::new(),
        };
        for (name, goal) in self.rules.groups {
            let members: BTreeMap<&NodeName, &NodeGoal> =
                self.nodes.iter().filter(|(_, node)| node.group == name).collect();
            let steps = group_steps(&goal.policy, &members, view, self.at);
            if steps.is_empty() {
                continue;
            }
            rollout.steps.extend(steps);
            let group = GroupRollout {
                policy: goal.policy,
                after: goal.after,
                wave: 0,
                wave_ready: None,
                promoted: None,
                progress: self.at,
                blind: Blind::default(),
                gates: goal.gates,
                verdicts: Vec::new(),
            };
            rollout.groups.insert(name, group);
        }
        if rollout.steps.is_empty() {
            rollout.phase = Phase::Done;
            rollout.ended = Some(self.at);
        }
        rollout
    }
}

fn group_steps(
    policy: &RolloutPolicy,
    members: &BTreeMap<&NodeName, &NodeGoal>,
    view: &FleetView<'_>,
    at: Timestamp,
) -> Vec<(NodeName, StepRecord)> {
    let mut queue: Vec<(u8, &NodeName, &NodeGoal, StepState)> = members
        .iter()
        .filter_map(|(name, goal)| {
            let node = view.nodes.get(*name);
            let state = entry_state(goal, node, at)?;
            let rank = match node {
                Some(node) if node.connected && !node.is_available() => 0,
                Some(node) if node.connected => 1,
                _ => 2,
            };
            Some((rank, *name, *goal, state))
        })
        .collect();
    queue.sort_by_key(|(rank, name, _, _)| (*rank, (*name).clone()));
    let canaries = policy.canary.map_or(0, |canary| canary.at_least(queue.len()));
    let first = u32::from(0 < canaries);
    let size = policy.wave_size(members.len());
    let mut restarting = 0;
    let mut steps = Vec::with_capacity(queue.len());
    for (index, (_, name, goal, state)) in queue.into_iter().enumerate() {
        let wave = if index < canaries {
            0
        } else if goal.restart < RestartClass::Restart {
            first
        } else {
            restarting += 1;
            first + u32::try_from((restarting - 1) / size).unwrap_or(u32::MAX)
        };
        let record = StepRecord {
            group: goal.group.clone(),
            wave,
            target: goal.target,
            restart: goal.restart,
            compared_with: goal.compared_with,
            last_good: goal.last_good,
            state,
            begun: None,
            spent: Spent::default(),
        };
        steps.push((name.clone(), record));
    }
    steps
}

/// How a node enters; `None` if it has nothing to do.
fn entry_state(goal: &NodeGoal, node: Option<&NodeView<'_>>, at: Timestamp) -> Option<StepState> {
    let Some(desired) = node.and_then(|node| node.desired) else { return Some(StepState::Pending) };
    if desired.bundle != goal.target.bundle {
        return Some(StepState::Pending);
    }
    let attempt = node.and_then(|node| node.observed).and_then(|observed| observed.attempted.as_ref());
    let attempt = attempt.filter(|attempt| attempt.done && attempt.target.generation == desired.generation);
    match attempt {
        Some(attempt) if attempt.failure.is_none() => None,
        // It was tried and failed; applying again means trying again.
        Some(_) => Some(StepState::Pending),
        // An earlier rollout committed the same bundle and the node has not ended with it: watch that, send nothing.
        None => Some(StepState::InFlight(Flight {
            kind: StepKind::Update,
            generation: desired.generation,
            restarts: true,
            sent: at,
            written: None,
            stage: FlightStage::Sent,
            since: at,
            blind: Blind::default(),
        })),
    }
}
