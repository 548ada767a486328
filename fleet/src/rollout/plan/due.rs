//! When to look again if nothing happens. It repeats what the rest of the planner compares with `now`, so it is held
//! against that: the model simulation looks once more just before each of these moments, and nothing may have changed.

use super::{
    super::{
        observe::{Clocks, at_least, beyond, moments},
        state::GroupRollout,
    },
    Planner,
};
use crate::time::Timestamp;

impl Planner<'_> {
    /// The first moment at which time alone may change something. Rather too early than too late.
    pub(super) fn due(&self) -> Option<Timestamp> {
        if self.next.phase.is_end() {
            return None;
        }
        let mut due = Due { now: self.now, first: None };
        for record in self.next.steps.values() {
            let Some((flight, group)) = record.flight().zip(self.next.groups.get(&record.group)) else {
                continue;
            };
            let clocks = Clocks { policy: &group.policy, progress: group.progress, now: self.now };
            moments(flight, &clocks).for_each(|moment| due.take(moment));
        }
        for (name, group) in &self.next.groups {
            due.take_group(group);
            if self.left.get(name).is_some_and(|left| !left.open.is_empty()) {
                group
                    .policy
                    .windows
                    .iter()
                    .filter_map(|it| it.opens_next(self.now))
                    .for_each(|at| due.take(at));
            }
        }
        due.first
    }
}

struct Due {
    now: Timestamp,
    first: Option<Timestamp>,
}

impl Due {
    /// What has passed was looked at.
    fn take(&mut self, moment: Timestamp) {
        if self.now < moment {
            self.first = Some(self.first.map_or(moment, |first| first.min(moment)));
        }
    }

    fn take_group(&mut self, group: &GroupRollout) {
        let policy = &group.policy;
        if let Some(ready) = group.wave_ready {
            self.take(at_least(ready, policy.soak));
        }
        if let Some(since) = group.blind.since {
            self.take(beyond(since, policy.progress_deadline.saturating_sub(group.blind.spent)));
        }
        if group.gates.is_some() {
            self.take(beyond(group.gates_since(self.now), policy.progress_deadline));
        }
    }
}
