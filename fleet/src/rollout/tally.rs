//! Who is down, and whether one more may be.
//!
//! A node is **down** unless it is available ([`NodeView::is_available`]) and no step of this rollout is in flight on
//! it. It does not matter who took it down, nor whether it takes part.
//!
//! A step that restarts a node is within the budget when both hold, in the node's group and in the fleet:
//! 1. steps in flight that restart, with this one, are at most `max`;
//! 2. if the node may serve, that is unless its own report says that it does not: nodes down, with this one, are at
//!    most `max`. A node that says itself that it does not serve is counted already, and giving it something takes
//!    nobody out of service, so this condition does not apply to it.
//!
//! A step that does not restart the server is always within the budget, but counts as down until its end is seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    create::RolloutRules,
    policy::{FleetPolicy, Share},
    state::{Rollout, StepRecord},
    view::{FleetView, NodeView, next_at},
    wait::{WaitReason, first_names},
};
use crate::ids::{GroupName, NodeName};

/// Whether an operator's own restart or stop of a node is within the budget; otherwise why not. The same rules as for
/// a step: what is down for any reason counts, and so do the steps of the rollout that is under way.
///
/// # Errors
/// The reason a step on this node would wait for.
pub fn may_take_down(
    rules: &RolloutRules,
    under_way: Option<&Rollout>,
    view: &FleetView<'_>,
    name: &NodeName,
) -> Result<(), WaitReason> {
    let Some(node) = view.nodes.get(name) else { return Ok(()) };
    let none = BTreeMap::new();
    let steps = under_way.map_or(&none, |rollout| &rollout.steps);
    let mut tally = Tally::new(steps, view);
    if steps.get(name).and_then(StepRecord::flight).is_some_and(|flight| flight.restarts) {
        // Its own step does not stand in its way.
        tally.replace(view, name);
    }
    let share = rules.groups.get(node.group).map(|group| group.policy.max_unavailable);
    let limits = Limits { fleet: &rules.policy, group: node.group, share: share.unwrap_or_default() };
    tally.within(&limits, name, node)
}

/// What the count is held against.
struct Limits<'a> {
    fleet: &'a FleetPolicy,
    group: &'a GroupName,
    share: Share,
}

#[derive(Debug, Default)]
struct GroupTally<'a> {
    size: usize,
    down: BTreeSet<&'a NodeName>,
    flights: usize,
}

#[derive(Debug)]
pub(super) struct Tally<'a> {
    groups: BTreeMap<&'a GroupName, GroupTally<'a>>,
    size: usize,
    down: usize,
    flights: usize,
    busy_hosts: BTreeMap<&'a str, usize>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(steps: &BTreeMap<NodeName, StepRecord>, view: &'a FleetView<'a>) -> Self {
        let mut tally = Self {
            groups: BTreeMap::new(),
            size: view.nodes.len(),
            down: 0,
            flights: 0,
            busy_hosts: BTreeMap::new(),
        };
        let mut steps = steps.iter().peekable();
        for (name, node) in &view.nodes {
            let flight = next_at(&mut steps, name).and_then(StepRecord::flight);
            let group = tally.groups.entry(node.group).or_default();
            group.size += 1;
            if flight.is_some() || !node.is_available() {
                group.down.insert(name);
                tally.down += 1;
            }
            if flight.is_some_and(|flight| flight.restarts) {
                group.flights += 1;
                tally.flights += 1;
                *tally.busy_hosts.entry(node.host).or_default() += 1;
            }
        }
        tally
    }

    /// Whether a step that restarts `name` is within the budget; otherwise why not.
    pub(super) fn admits(
        &self,
        rollout: &Rollout,
        name: &NodeName,
        node: &NodeView<'_>,
    ) -> Result<(), WaitReason> {
        let Some(record) = rollout.steps.get(name) else { return Ok(()) };
        let share = rollout.groups.get(&record.group).map(|group| group.policy.max_unavailable);
        let limits =
            Limits { fleet: &rollout.policy, group: &record.group, share: share.unwrap_or_default() };
        self.within(&limits, name, node)
    }

    fn within(&self, limits: &Limits<'_>, name: &NodeName, node: &NodeView<'_>) -> Result<(), WaitReason> {
        let (group_name, share) = (limits.group, limits.share);
        let empty = GroupTally::default();
        let group = self.groups.get(group_name).unwrap_or(&empty);
        if limits.fleet.spread_hosts && self.busy_hosts.get(node.host).is_some_and(|busy| 0 < *busy) {
            return Err(WaitReason::Host { node: name.clone(), host: node.host.to_owned() });
        }
        let serves = node.is_healthy();
        // One that is counted as down may still serve: what was committed for it has not happened yet.
        let more = usize::from(!group.down.contains(name));
        let max = share.at_most(group.size);
        if max < group.flights + 1 || (serves && max < group.down.len() + more) {
            let down = first_names(group.down.iter().copied());
            let count = group.down.len();
            return Err(WaitReason::Budget { group: group_name.clone(), down, count, max, share });
        }
        if let Some(share) = limits.fleet.max_unavailable {
            let max = share.at_most(self.size);
            if max < self.flights + 1 || (serves && max < self.down + more) {
                return Err(WaitReason::FleetBudget { group: group_name.clone(), count: self.down, max });
            }
        }
        Ok(())
    }

    /// Counts a step that was just decided.
    pub(super) fn begin(&mut self, view: &'a FleetView<'a>, name: &NodeName, restarts: bool) {
        let Some((name, node)) = view.nodes.get_key_value(name) else { return };
        let group = self.groups.entry(node.group).or_default();
        if group.down.insert(name) {
            self.down += 1;
        }
        if restarts {
            group.flights += 1;
            self.flights += 1;
            *self.busy_hosts.entry(node.host).or_default() += 1;
        }
    }

    /// Takes back the flight that another one on the same node replaces; the node stays down.
    pub(super) fn replace(&mut self, view: &'a FleetView<'a>, name: &NodeName) {
        let Some(node) = view.nodes.get(name) else { return };
        let group = self.groups.entry(node.group).or_default();
        group.flights = group.flights.saturating_sub(1);
        self.flights = self.flights.saturating_sub(1);
        if let Some(busy) = self.busy_hosts.get_mut(node.host) {
            *busy = busy.saturating_sub(1);
        }
    }

    pub(super) fn is_down(&self, group: &GroupName, name: &NodeName) -> bool {
        self.groups.get(group).is_some_and(|group| group.down.contains(name))
    }
}
