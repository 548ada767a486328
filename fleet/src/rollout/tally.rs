//! Who is down, and whether one more may be.
//!
//! A node is **down** unless it is available ([`NodeView::is_available`]) and no step of this rollout is in flight on
//! it. It does not matter who took it down, nor whether it takes part. A node that was never given anything is missed by
//! nobody and does not count: it may be this very rollout that first starts it, in a wave of its own.
//!
//! A step that restarts a node is within the budget when both hold, in the node's group and in the fleet:
//! 1. steps in flight that restart, with this one, are at most `max`;
//! 2. if the node may serve, that is unless its own report says that it does not: nodes down, with this one, are at
//!    most `max`. A node that says itself that it does not serve is counted already, and giving it something takes
//!    nobody out of service, so this condition does not apply to it.
//!
//! The same holds for the nodes of one zone, of the group and of the fleet, where `max_unavailable_per_zone` says so.
//! Zones go one after the other unless `parallel_zones` says otherwise: while a step that restarts is in flight in one
//! zone, none begins in another, and a node that may serve waits while one of its group is down in another zone.
//!
//! A step that does not restart the server is always within the budget, but counts as down until its end is seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    create::RolloutRules,
    policy::{FleetPolicy, RolloutPolicy, Share},
    state::{Rollout, StepRecord},
    view::{FleetView, NodeView, next_at},
    wait::{OtherZone, WaitReason, ZoneBudget, first_names},
};
use crate::ids::{GroupName, NodeName, ZoneName};

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
    let policy = rules.groups.get(node.group).map(|group| &group.policy);
    let limits = Limits::new(&rules.policy, node.group, policy);
    tally.within(&limits, name, node)
}

/// What the count is held against.
struct Limits<'a> {
    fleet: &'a FleetPolicy,
    group: &'a GroupName,
    share: Share,
    zone_share: Option<Share>,
}

impl<'a> Limits<'a> {
    fn new(fleet: &'a FleetPolicy, group: &'a GroupName, policy: Option<&RolloutPolicy>) -> Self {
        Self {
            fleet,
            group,
            share: policy.map(|policy| policy.max_unavailable).unwrap_or_default(),
            zone_share: policy.and_then(|policy| policy.max_unavailable_per_zone),
        }
    }
}

/// Of a group, of a zone, or of a group's nodes in a zone.
#[derive(Debug, Default)]
struct Count<'a> {
    size: usize,
    down: BTreeSet<&'a NodeName>,
    /// Those of `down` that were given something before: what limits are held against.
    missed: BTreeSet<&'a NodeName>,
    flights: usize,
}

impl Count<'_> {
    /// Whether one more step on `name` keeps within `share`; otherwise how many may be down.
    fn admits(&self, share: Share, name: &NodeName, serves: bool) -> Result<(), usize> {
        let max = share.at_most(self.size);
        // One that is counted as down may still serve: what was committed for it has not happened yet.
        let more = usize::from(!self.missed.contains(name));
        if max < self.flights + 1 || (serves && max < self.missed.len() + more) { Err(max) } else { Ok(()) }
    }
}

#[derive(Debug)]
pub(super) struct Tally<'a> {
    groups: BTreeMap<&'a GroupName, Count<'a>>,
    zones: BTreeMap<&'a ZoneName, Count<'a>>,
    group_zones: BTreeMap<(&'a GroupName, &'a ZoneName), Count<'a>>,
    fleet: Count<'a>,
    busy_hosts: BTreeMap<&'a str, usize>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(steps: &BTreeMap<NodeName, StepRecord>, view: &'a FleetView<'a>) -> Self {
        let mut tally = Self {
            groups: BTreeMap::new(),
            zones: BTreeMap::new(),
            group_zones: BTreeMap::new(),
            fleet: Count::default(),
            busy_hosts: BTreeMap::new(),
        };
        let mut steps = steps.iter().peekable();
        for (name, node) in &view.nodes {
            let flight = next_at(&mut steps, name).and_then(StepRecord::flight);
            let is_down = flight.is_some() || !node.is_available();
            let restarts = flight.is_some_and(|flight| flight.restarts);
            tally.each(node, |count| {
                count.size += 1;
                count.flights += usize::from(restarts);
                if is_down {
                    count.down.insert(name);
                }
                if is_down && node.desired.is_some() {
                    count.missed.insert(name);
                }
            });
            if restarts {
                *tally.busy_hosts.entry(node.host).or_default() += 1;
            }
        }
        tally
    }

    /// Every count that the node is in.
    fn each(&mut self, node: &NodeView<'a>, mut change: impl FnMut(&mut Count<'a>)) {
        change(&mut self.fleet);
        change(self.groups.entry(node.group).or_default());
        if let Some(zone) = node.zone {
            change(self.zones.entry(zone).or_default());
            change(self.group_zones.entry((node.group, zone)).or_default());
        }
    }

    /// Whether a step that restarts `name` is within the budget; otherwise why not.
    pub(super) fn admits(
        &self,
        rollout: &Rollout,
        (name, record): (&NodeName, &StepRecord),
        node: &NodeView<'_>,
    ) -> Result<(), WaitReason> {
        let policy = rollout.groups.get(&record.group).map(|group| &group.policy);
        let limits = Limits::new(&rollout.policy, &record.group, policy);
        self.within(&limits, name, node)
    }

    fn within(&self, limits: &Limits<'_>, name: &NodeName, node: &NodeView<'_>) -> Result<(), WaitReason> {
        let (group_name, share) = (limits.group, limits.share);
        let empty = Count::default();
        let group = self.groups.get(group_name).unwrap_or(&empty);
        if limits.fleet.spread_hosts && self.busy_hosts.get(node.host).is_some_and(|busy| 0 < *busy) {
            return Err(WaitReason::Host { node: name.clone(), host: node.host.to_owned() });
        }
        let serves = node.is_healthy();
        if let Err(max) = group.admits(share, name, serves) {
            let down = first_names(group.missed.iter().copied());
            let count = group.missed.len();
            return Err(WaitReason::Budget { group: group_name.clone(), down, count, max, share });
        }
        self.within_zone(limits, name, node)?;
        if let Some(share) = limits.fleet.max_unavailable
            && let Err(max) = self.fleet.admits(share, name, serves)
        {
            let count = self.fleet.missed.len();
            return Err(WaitReason::FleetBudget { group: group_name.clone(), count, max });
        }
        Ok(())
    }

    fn within_zone(
        &self,
        limits: &Limits<'_>,
        name: &NodeName,
        node: &NodeView<'_>,
    ) -> Result<(), WaitReason> {
        let Some(zone) = node.zone else { return Ok(()) };
        let serves = node.is_healthy();
        let mut counts = self.group_zones.iter();
        let of_group = counts.find(|((group, of), _)| *group == limits.group && *of == zone);
        let scopes = [
            (Some(limits.group), limits.zone_share, of_group.map(|(_, count)| count)),
            (None, limits.fleet.max_unavailable_per_zone, self.zones.get(zone)),
        ];
        for (group, share, count) in scopes {
            let (Some(share), Some(count)) = (share, count) else { continue };
            let Err(max) = count.admits(share, name, serves) else { continue };
            return Err(WaitReason::ZoneBudget(ZoneBudget {
                group: group.cloned(),
                zone: zone.clone(),
                down: first_names(count.missed.iter().copied()),
                count: count.missed.len(),
                max,
                share,
            }));
        }
        if limits.fleet.parallel_zones {
            return Ok(());
        }
        let in_flight = self.zones.iter().find(|(other, count)| **other != zone && 0 < count.flights);
        let down = || {
            let mut counts =
                self.group_zones.iter().filter(|((group, _), _)| serves && *group == limits.group);
            counts.find(|((_, other), count)| *other != zone && !count.missed.is_empty())
        };
        let busy = in_flight.map(|(other, count)| (*other, count));
        let Some((other, count)) = busy.or_else(|| down().map(|((_, other), count)| (*other, count))) else {
            return Ok(());
        };
        Err(WaitReason::OtherZone(OtherZone {
            node: name.clone(),
            zone: zone.clone(),
            other: other.clone(),
            down: first_names(count.missed.iter().copied()),
            count: count.missed.len(),
        }))
    }

    /// Counts a step that was just decided.
    pub(super) fn begin(&mut self, view: &'a FleetView<'a>, name: &NodeName, restarts: bool) {
        let Some((name, node)) = view.nodes.get_key_value(name) else { return };
        self.each(node, |count| {
            count.down.insert(name);
            count.missed.insert(name);
            count.flights += usize::from(restarts);
        });
        if restarts {
            *self.busy_hosts.entry(node.host).or_default() += 1;
        }
    }

    /// Takes back the flight that another one on the same node replaces; the node stays down.
    pub(super) fn replace(&mut self, view: &'a FleetView<'a>, name: &NodeName) {
        let Some(node) = view.nodes.get(name) else { return };
        self.each(node, |count| count.flights = count.flights.saturating_sub(1));
        if let Some(busy) = self.busy_hosts.get_mut(node.host) {
            *busy = busy.saturating_sub(1);
        }
    }

    pub(super) fn is_down(&self, group: &GroupName, name: &NodeName) -> bool {
        self.groups.get(group).is_some_and(|group| group.down.contains(name))
    }
}
