//! Nodes that join, leave, change their group, are forgotten and come back, mostly while a rollout runs.

use fleet::rollout::Share;

use super::{Entry, Sim, coordinator::Record};

impl Sim {
    /// An operator edits `[nodes]` and applies, or forgets a node that is no longer in it.
    pub(super) fn change_members(&mut self) {
        if !self.coordinator.up {
            return;
        }
        let index = self.chance.index(self.hosts.len());
        let members = self.hosts.iter().filter(|host| host.member).count();
        match (self.hosts[index].member, self.chance.range(0, 2)) {
            (false, 0) if self.hosts[index].enrolled => return self.forget(index),
            (false, _) => self.join(index),
            (true, 0) => {
                let group = self.chance.index(self.groups.len());
                self.trace(|| format!("operator: host {index} is to be of g{group}"));
                self.hosts[index].group = group;
            }
            (true, _) if 1 < members => {
                self.trace(|| format!("operator: host {index} is no longer of the fleet"));
                let host = &mut self.hosts[index];
                (host.member, host.taken_down) = (false, false);
            }
            (true, _) => return,
        }
        self.apply_something();
    }

    /// It may have been a node before: then its agent remembers, and the coordinator may not.
    fn join(&mut self, index: usize) {
        self.trace(|| format!("operator: host {index} joins the fleet"));
        let host = &mut self.hosts[index];
        host.member = true;
        if host.enrolled {
            return;
        }
        host.enrolled = true;
        let later = self.chance.range(100, 60_000);
        self.after(later, Entry::AgentStarts { host: index });
    }

    /// The coordinator forgets all about it; its agent and its server go on without.
    fn forget(&mut self, index: usize) {
        self.trace(|| format!("operator: host {index} is forgotten"));
        let store = &mut self.coordinator.store;
        store.nodes[index] = Record::default();
        store.version += 1;
        // What a rollback froze has one node less.
        self.frozen = None;
        self.hosts[index].enrolled = false;
        if let Some(session) = self.hosts[index].session {
            self.coordinator.hang_up(index, session);
            self.hosts[index].session_dead = true;
            let notice = self.chance.range(1, 500);
            self.after(notice, Entry::Lost { host: index, session });
        }
        self.think();
    }

    /// A limit may grow or shrink with the group; what was begun under the larger one was right.
    pub(super) fn note_budgets(&mut self) {
        for (index, (_, goal)) in self.groups.iter().enumerate() {
            let size = self.hosts.iter().filter(|host| host.member && host.group == index).count();
            self.budgets[index] = self.budgets[index].max(goal.policy.max_unavailable.at_most(size));
        }
        self.group_zone_budgets =
            self.groups.iter().map(|(_, goal)| of_zone(goal.policy.max_unavailable_per_zone)).collect();
        self.fleet_zone_budget = of_zone(self.fleet.max_unavailable_per_zone);
        let size = self.hosts.iter().filter(|host| host.member).count();
        let max = self.fleet.max_unavailable.map(|share| share.at_most(size));
        self.fleet_budget = self.fleet_budget.max(max);
    }
}

/// Zones of the simulation are limited by counts, so that their size does not matter.
fn of_zone(share: Option<Share>) -> Option<usize> {
    share.map(|share| share.at_most(usize::MAX))
}
