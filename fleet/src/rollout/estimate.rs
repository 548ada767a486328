//! How much longer a rollout is likely to take, from what its nodes took before.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use super::{
    plan::update_restarts,
    state::{Flight, Phase, Rollout, StepRecord, StepState},
    view::FleetView,
};
use crate::{
    ids::{GroupName, NodeName},
    time::Timestamp,
};

/// Less than this is not told.
const TOLD_MIN: Duration = Duration::from_secs(1);

/// What is left of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// From now on, with every restart as long as the longest that is known of its node: rather too long than too short.
    /// `None`: nothing is known of any node that has to restart.
    pub left: Option<Duration>,
    /// Nodes whose restart is still to end and of which none is known. They count like the slowest known node of their
    /// group, or else of the rollout.
    pub unknown: usize,
}

impl Estimate {
    /// As it is told of a rollout that goes on. `None` if what is left has no length of its own, such as a node that is
    /// away or a start that takes longer than ever: "0 s left" would say that it ends now.
    pub fn of_open(self) -> Option<Self> {
        Some(self).filter(|estimate| estimate.left.is_none_or(|left| TOLD_MIN <= left))
    }
}

/// What is left of `rollout`. `None` where time does not tell: it has ended, is paused, stopping or on its way back.
///
/// Counts restarts, the budgets of groups and fleet, soaks, and groups that wait for others. Does not count what has no
/// length of its own: windows, promotions, gates, nodes that are away, failures; nor that groups wait for each other's
/// zones.
pub fn estimate(rollout: &Rollout, view: &FleetView<'_>, now: Timestamp) -> Option<Estimate> {
    if rollout.phase != Phase::Running || rollout.paused.is_some() {
        return None;
    }
    let work = Work::of(rollout, view, now);
    let mut members: Members<'_> = BTreeMap::new();
    for (name, record) in &rollout.steps {
        members.entry(&record.group).or_default().push((name, record));
    }
    let unknown = work.restarts.values().filter(|restart| restart.known.is_none()).count();
    let knows_nothing = unknown == work.restarts.len() && 0 < unknown;
    let mut ends = BTreeMap::new();
    for name in rollout.groups.keys() {
        end_of(name, &work, &members, &mut ends);
    }
    let last = ends.into_values().max().unwrap_or_default();
    // All restarts through the fleet's own limit, if that is what holds them up.
    let all: Duration = work.restarts.keys().map(|node| work.length(node)).sum();
    let limit = rollout.policy.max_unavailable.map(|share| share.at_most(view.nodes.len()));
    let squeezed = limit.and_then(|limit| u32::try_from(limit).ok()).map(|limit| all / limit);
    let left = last.max(squeezed.unwrap_or_default());
    Some(Estimate { left: Some(left).filter(|_| !knows_nothing), unknown })
}

/// Who takes part, by group.
type Members<'a> = BTreeMap<&'a GroupName, Vec<(&'a NodeName, &'a StepRecord)>>;

/// A restart that has not ended.
struct Restart {
    /// How long it takes from its commit, if that is known.
    known: Option<Duration>,
    /// For how long it has been under way.
    elapsed: Duration,
}

struct Work<'a> {
    rollout: &'a Rollout,
    now: Timestamp,
    restarts: BTreeMap<&'a NodeName, Restart>,
    /// The slowest that is known, by group.
    slowest: BTreeMap<&'a GroupName, Duration>,
    sizes: BTreeMap<&'a GroupName, usize>,
}

impl<'a> Work<'a> {
    fn of(rollout: &'a Rollout, view: &'a FleetView<'a>, now: Timestamp) -> Self {
        let mut work = Self {
            rollout,
            now,
            restarts: BTreeMap::new(),
            slowest: BTreeMap::new(),
            sizes: BTreeMap::new(),
        };
        for node in view.nodes.values() {
            *work.sizes.entry(node.group).or_default() += 1;
        }
        for (name, record) in &rollout.steps {
            let Some(node) = view.nodes.get(name) else { continue };
            let known = view.restart_time(name);
            if let Some(known) = known {
                let slowest = work.slowest.entry(&record.group).or_default();
                *slowest = known.max(*slowest);
            }
            let elapsed = match &record.state {
                StepState::Pending if update_restarts(record, node) => Duration::ZERO,
                StepState::InFlight(Flight { restarts: true, sent, .. }) => now.since(*sent),
                _ => continue,
            };
            work.restarts.insert(name, Restart { known, elapsed });
        }
        work
    }

    /// How much longer the restart of a node takes once it may begin.
    fn length(&self, name: &NodeName) -> Duration {
        let Some(restart) = self.restarts.get(name) else { return Duration::ZERO };
        let of_group = || self.slowest.get(&self.rollout.steps[name].group).copied();
        let of_any = || self.slowest.values().max().copied();
        let whole = restart.known.or_else(of_group).or_else(of_any).unwrap_or_default();
        whole.saturating_sub(restart.elapsed)
    }
}

/// When a group is through, from now.
fn end_of<'a>(
    name: &'a GroupName,
    work: &Work<'a>,
    members: &Members<'a>,
    ends: &mut BTreeMap<&'a GroupName, Duration>,
) -> Duration {
    if let Some(end) = ends.get(name) {
        return *end;
    }
    let rollout = work.rollout;
    let Some((name, group)) = rollout.groups.get_key_value(name) else { return Duration::ZERO };
    // Whoever asks again while this is being computed is in a circle, which no revision has.
    ends.insert(name, Duration::ZERO);
    let mut at = Duration::ZERO;
    for before in &group.after {
        if let Some((before, _)) = rollout.groups.get_key_value(before) {
            at = at.max(end_of(before, work, members, ends));
        }
    }
    let mut waves: BTreeMap<u32, Vec<(&NodeName, &StepRecord)>> = BTreeMap::new();
    for &(node, record) in members.get(name).into_iter().flatten() {
        if work.restarts.contains_key(node) || record.wave == group.wave {
            waves.entry(record.wave.max(group.wave)).or_default().push((node, record));
        }
    }
    let slots = group.policy.max_unavailable.at_most(work.sizes.get(name).copied().unwrap_or(1));
    for (wave, nodes) in waves {
        let soaked = group.wave_ready.filter(|_| wave == group.wave).map(|since| work.now.since(since));
        let restarts = nodes.iter().any(|(node, record)| {
            work.restarts.contains_key(node)
                || matches!(record.state, StepState::Ready { restarted: true, .. })
        });
        at += makespan(nodes.into_iter().map(|(node, _)| work.length(node)), slots);
        if restarts {
            at += group.policy.soak.saturating_sub(soaked.unwrap_or_default());
        }
    }
    ends.insert(name, at);
    at
}

/// How long work of these lengths takes, `slots` at a time, each taken up when a slot is free.
fn makespan(lengths: impl Iterator<Item = Duration>, slots: usize) -> Duration {
    let mut free: BinaryHeap<Reverse<Duration>> =
        (0..slots.max(1)).map(|_| Reverse(Duration::ZERO)).collect();
    let mut last = Duration::ZERO;
    for length in lengths {
        let Reverse(at) = free.pop().unwrap_or_default();
        last = last.max(at + length);
        free.push(Reverse(at + length));
    }
    last
}
