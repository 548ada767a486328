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
    ids::{Digest, GroupName, NodeName, Revision, RolloutId, ZoneName},
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
    /// all go in the first wave after the canary. Unless zones may go side by side, those that restart go zone by zone,
    /// and no wave after the canary holds two zones.
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
            let zones = if rollout.policy.parallel_zones { Zones::Together } else { Zones::OneByOne };
            let nodes = self.nodes.iter().filter(|(_, node)| node.group == name).collect();
            let steps = Members { policy: &goal.policy, zones, nodes }.steps(view, self.at);
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

/// Whether the nodes of two zones may be in one wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Zones {
    OneByOne,
    Together,
}

/// The nodes of one group that the revision names.
struct Members<'a> {
    policy: &'a RolloutPolicy,
    zones: Zones,
    nodes: BTreeMap<&'a NodeName, &'a NodeGoal>,
}

impl Members<'_> {
    fn steps(&self, view: &FleetView<'_>, at: Timestamp) -> Vec<(NodeName, StepRecord)> {
        let mut queue: Vec<(u8, &NodeName, &NodeGoal, StepState)> = self
            .nodes
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
        let zone_of = |name: &NodeName| {
            view.nodes.get(name).and_then(|node| node.zone).filter(|_| self.zones == Zones::OneByOne)
        };
        // A zone comes as early as the first of its nodes would.
        let mut first_of: BTreeMap<Option<&ZoneName>, u8> = BTreeMap::new();
        for (rank, name, _, _) in &queue {
            let first = first_of.entry(zone_of(name)).or_insert(*rank);
            *first = (*first).min(*rank);
        }
        queue.sort_by_key(|(rank, name, _, _)| {
            let zone = zone_of(name);
            (first_of.get(&zone).copied(), zone, *rank, *name)
        });
        let canaries = self.policy.canary.map_or(0, |canary| canary.at_least(queue.len()));
        let first = u32::from(0 < canaries);
        let size = self.policy.wave_size(self.nodes.len());
        let mut waves = Waves { next: first, left: 0, size, zone: None };
        let mut steps = Vec::with_capacity(queue.len());
        for (index, (_, name, goal, state)) in queue.into_iter().enumerate() {
            let wave = if index < canaries {
                0
            } else if goal.restart < RestartClass::Restart {
                first
            } else {
                waves.wave_of(zone_of(name))
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
}

/// Hands out waves to nodes that restart, in the order in which they go.
struct Waves<'a> {
    next: u32,
    /// How many more the wave before `next` takes.
    left: usize,
    size: usize,
    zone: Option<&'a ZoneName>,
}

impl<'a> Waves<'a> {
    fn wave_of(&mut self, zone: Option<&'a ZoneName>) -> u32 {
        if self.left == 0 || self.zone != zone {
            (self.next, self.left, self.zone) = (self.next.saturating_add(1), self.size, zone);
        }
        self.left = self.left.saturating_sub(1);
        self.next.saturating_sub(1)
    }
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
