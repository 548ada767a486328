//! The guarantees, checked against what is true rather than against what anybody says. Numbers are those of the
//! design.

use std::time::Duration;

use fleet::{
    bundle::Applied,
    ids::Generation,
    node::Memory,
    observed::{Observed, ProcessIdentity, Refusal, ServiceState, Stage},
    rollout::{Phase, Plan, Rollout, Step, StepKind, StepState},
};

use super::{Sim, bundles::HOME};

/// A node that has been down for this long is known to be down, whatever the network does: sessions end after 20 s
/// of silence, reports take 4 s, journals 3 s, the store 4 s, and a disk that refuses writes for 90 s keeps reports back.
const KNOWN_DOWN: u64 = 150_000;

impl Sim {
    /// A journal write is durable. (2) Generations never go backwards, and only what was committed is obeyed.
    pub(super) fn check_journal(&mut self, index: usize, memory: &Memory) {
        let old = self.hosts[index].journal.assignment.as_ref().map(|assignment| assignment.applied);
        let Some(new) = memory.assignment.as_ref().map(|assignment| assignment.applied) else { return };
        if old.is_some_and(|old| new.generation < old.generation) {
            self.broken(&format!("(2) host {index}: generation goes back from {old:?} to {new:?}"));
        }
        if self.numbered.get(&(index, new.generation)) != Some(&new.bundle) {
            self.broken(&format!("(8) host {index} obeys {new:?}, which was never committed"));
        }
    }

    /// A report leaves. (3) It says nothing that a crash now would undo; and what it calls good is good.
    pub(super) fn check_report(&mut self, index: usize, report: &Observed) {
        let host = &self.hosts[index];
        let journal = &host.journal;
        let applied = |placed: fleet::node::Placed| placed.applied;
        let durable = report.desired == journal.assignment.as_ref().map(|assignment| assignment.applied)
            && report.written == journal.written.map(applied)
            && report.last_good == journal.last_good.map(applied)
            && report.attempted == journal.attempted;
        if !durable {
            return self.broken(&format!("(3) host {index} reports what is not durable"));
        }
        if let Some(good) = report.last_good {
            if !self.library.nature(&good.bundle).starts() {
                return self.broken(&format!("host {index} calls a bundle good that no server starts with"));
            }
            self.hosts[index].healthy_on.insert(good.bundle);
        }
        if report.service == ServiceState::Running {
            self.hosts[index].seen_running.clone_from(&report.process);
        }
    }

    /// An acknowledgement leaves. (3)
    pub(super) fn check_ack(
        &mut self,
        index: usize,
        generation: Generation,
        stage: Stage,
        refusal: Option<&Refusal>,
    ) {
        if refusal.is_some() {
            return;
        }
        let journal = &self.hosts[index].journal;
        let known = journal.assignment.as_ref().is_some_and(|it| generation <= it.applied.generation);
        let reached = journal.attempted.as_ref().is_some_and(|attempt| {
            generation < attempt.target.generation
                || (generation == attempt.target.generation && stage <= attempt.stage)
        });
        if !known || !(reached || stage == Stage::Received) {
            self.broken(&format!(
                "(3) host {index} acknowledges {stage:?} of {generation} before it is durable"
            ));
        }
    }

    /// An agent stops a server. (12) Only for a reason, and (5) never more at once than the budget.
    pub(super) fn check_stop(&mut self, index: usize, process: &ProcessIdentity) {
        let now = self.now;
        self.trace(|| format!("host {index}: stops process {}", process.pid));
        let host = &self.hosts[index];
        let Some(live) = host.process.as_ref().filter(|live| live.identity == *process) else { return };
        if !host.serves(now) {
            return;
        }
        let read = self.library.truth(&live.read);
        self.check_drained(index, process);
        let host = &self.hosts[index];
        // What it may be stopped for: files in force that it has not read, or that are about to be.
        let engine = host.agent.as_ref().map(|agent| agent.engine.memory());
        let assigned = engine.and_then(|memory| memory.assignment.as_ref()).map(|it| it.applied.bundle);
        let good = engine.and_then(|memory| memory.last_good).map(|placed| placed.applied.bundle);
        // An assignment that was given up makes way for what a person had written.
        let theirs = engine.filter(|memory| memory.given_up.is_some());
        let theirs =
            theirs.and_then(|memory| memory.originals.get(HOME)).map(|kept| kept.placed.applied.bundle);
        let reasons = [host.files, assigned, good, theirs];
        if reasons.iter().flatten().all(|bundle| self.library.truth(bundle) == read) {
            return self.broken(&format!("(12) host {index} stops a server that reads the same"));
        }
        for host in &mut self.hosts {
            host.taken_down &= !host.serves(now);
        }
        let host = &mut self.hosts[index];
        // A hook that takes it out of service ends its being healthy before the stop does.
        let was_healthy = host.known_healthy(now) || std::mem::take(&mut host.drained_healthy);
        host.taken_down = was_healthy && !host.asked_back;
        let group = self.hosts[index].budget_of;
        // A node counts with its new group from the apply on that moves it, so a step that was committed before is in
        // neither's budget: the old group may go on, and the new one was not asked.
        // One that has left the fleet is in nobody's.
        let stayed = |host: &&super::host::Host| host.member && host.group == host.budget_of;
        let down = self.hosts.iter().filter(stayed).filter(|host| host.taken_down && host.group == group);
        let (down, max) = (down.count(), self.budgets[group]);
        if stayed(&&self.hosts[index]) && max < down {
            return self.broken(&format!("(5) {down} nodes of g{group} are down for steps, {max} may be"));
        }
        let down = self.hosts.iter().filter(|host| host.member && host.taken_down).count();
        if let Some(max) = self.fleet_budget
            && max < down
        {
            return self.broken(&format!("(5) {down} nodes of the fleet are down for steps, {max} may be"));
        }
        self.check_zones(index);
    }

    /// A server was just stopped for a step. (5) Of one group only in one zone, and in no zone more than may be.
    fn check_zones(&mut self, index: usize) {
        let of = &self.hosts[index];
        let stayed = |host: &&super::host::Host| host.member && host.group == host.budget_of;
        let Some(zone) = of.zone.as_ref().filter(|_| of.taken_down && stayed(&of)) else { return };
        let down = || self.hosts.iter().filter(stayed).filter(|host| host.taken_down);
        let in_group = || down().filter(|host| host.group == of.group);
        let elsewhere = in_group().find(|host| host.zone.as_ref().is_some_and(|other| other != zone));
        if let Some(other) = elsewhere.filter(|_| !self.fleet.parallel_zones) {
            let (node, other) = (&of.name, &other.name);
            return self.broken(&format!("(5) {node} is stopped while {other} of another zone is down"));
        }
        let of_group = in_group().filter(|host| host.zone.as_ref() == Some(zone)).count();
        let of_fleet = down().filter(|host| host.zone.as_ref() == Some(zone)).count();
        let limits = [
            (of_group, self.group_zone_budgets.get(of.group).copied().flatten()),
            (of_fleet, self.fleet_zone_budget),
        ];
        for (down, max) in limits {
            if let Some(max) = max.filter(|max| *max < down) {
                return self.broken(&format!("(5) {down} nodes of a zone are down for steps, {max} may be"));
            }
        }
    }

    /// A plan was made. (6) A rollout that does nothing says why.
    pub(super) fn check_plan(&mut self, plan: &Plan) {
        if !plan.rollout.phase.is_end() && plan.steps.is_empty() && plan.waiting.is_empty() {
            self.broken("(6) a rollout waits without a reason");
        }
        if plan.rollout.phase == Phase::Done {
            let bad =
                |state: &StepState| !matches!(state, StepState::Ready { .. } | StepState::Skipped { .. });
            if plan.rollout.steps.values().any(|step| bad(&step.state)) {
                self.broken("a rollout calls itself done with nodes that are not ready");
            }
            for group in plan.rollout.groups.keys() {
                if let Some((node, gate)) = self.gate_owed(&plan.rollout, group, u32::MAX) {
                    self.broken(&format!("a rollout calls itself done, and {node} has not passed {gate}"));
                }
            }
        }
    }

    /// A plan is committed. (2) (5) (7) (8)
    pub(super) fn check_commit(&mut self, steps: &[Step], rollout: &Rollout) {
        let store = &self.coordinator.store;
        if steps.is_empty() {
            return;
        }
        let Some(current) = &store.rollout else { return };
        if current.paused.is_some() {
            return self.broken("a step begins in a paused rollout");
        }
        if current.id != rollout.id || current.phase.is_end() {
            return self.broken("(7) a step begins in a rollout that is over");
        }
        for step in steps {
            let Some(index) = self.hosts.iter().position(|host| host.name == step.node) else { continue };
            let applied = Applied { generation: step.generation, bundle: step.target.bundle };
            let host = &self.hosts[index];
            if step.kind == StepKind::RollBack && !host.healthy_on.contains(&applied.bundle) {
                return self.broken(&format!("(7) host {index} goes back to what was never healthy on it"));
            }
            self.number(index, applied);
            self.hosts[index].budget_of = self.hosts[index].group;
            if step.kind == StepKind::Update {
                self.check_gates(step, rollout);
                if step.restarts {
                    self.check_known_down(index);
                }
            }
        }
    }

    /// A node that was ready fails only if its server stopped serving, or if nobody could tell for as long as is allowed.
    pub(super) fn check_failed_in_soak(&mut self, rollout: &Rollout) {
        let Some(current) = self.coordinator.store.rollout.as_ref().filter(|it| it.id == rollout.id) else {
            return;
        };
        for (name, step) in &rollout.steps {
            let StepState::Failed { why, .. } = &step.state else { continue };
            let Some(before) = current.steps.get(name) else { continue };
            let StepState::Ready { at, .. } = before.state else { continue };
            let Some(host) = self.hosts.iter().find(|host| host.name == *name) else { continue };
            let ready = u64::try_from(at.0).unwrap_or(0);
            let served = host.served_since().is_some_and(|since| since <= ready);
            let group = &current.groups[&before.group];
            let blind =
                group.blind.spent + group.blind.since.map_or(Duration::ZERO, |it| self.wall().since(it));
            if served && host.lies_until < ready && blind <= group.policy.progress_deadline {
                let text = format!("{name} served all the time while its wave soaked, and is failed: {why}");
                return self.broken(&text);
            }
        }
    }

    /// A step begins: what came before it has passed its gates, whoever says so.
    fn check_gates(&mut self, step: &Step, rollout: &Rollout) {
        let Some(record) = rollout.steps.get(&step.node) else { return };
        let after = rollout.groups[&record.group].after.iter().map(|group| (group, u32::MAX));
        for (group, before) in after.chain([(&record.group, record.wave)]) {
            if let Some((node, gate)) = self.gate_owed(rollout, group, before) {
                return self
                    .broken(&format!("{} is given a step, and {node} has not passed {gate}", step.node));
            }
        }
    }

    /// (5) A node that serves is given something while others are known to be down.
    fn check_known_down(&mut self, index: usize) {
        let (now, host) = (self.now, &self.hosts[index]);
        // One that is being stopped is down, and its agent says so: also where an operator has the original put back.
        let says_it_serves = host.agent.as_ref().is_some_and(|agent| agent.engine.observed().serves());
        if !host.serves(now) || !host.known_healthy(now) || !says_it_serves || host.taken_down {
            return;
        }
        // One that was never given anything is missed by nobody.
        let given = |index: usize| self.coordinator.store.nodes[index].desired.is_some();
        let known_down = |(index, host): &(usize, &super::host::Host)| {
            let since = host.down_since.filter(|_| given(*index) && !host.serves(now));
            since.is_some_and(|since| KNOWN_DOWN < now - since.min(now))
        };
        let group = host.group;
        let all = self.hosts.iter().enumerate();
        let members: Vec<_> = all.filter(|(_, host)| host.member && host.group == group).collect();
        let max = self.groups[group].1.policy.max_unavailable.at_most(members.len());
        let down = members.into_iter().filter(known_down).count();
        if max < down + 1 {
            self.broken(&format!(
                "(5) host {index} serves and is given a step while {down} of g{group} are down"
            ));
        }
    }

    /// (2) (8) A number means one bundle, for ever, and numbers only grow.
    pub(super) fn number(&mut self, index: usize, applied: Applied) {
        if let Some(bundle) = self.numbered.insert((index, applied.generation), applied.bundle)
            && bundle != applied.bundle
        {
            self.broken(&format!("(2) host {index}: {} is given twice", applied.generation));
        }
        let seen =
            self.hosts[index].journal.assignment.as_ref().map(|assignment| assignment.applied.generation);
        if self.coordinator.connected(index) && seen.is_some_and(|seen| applied.generation < seen) {
            self.broken(&format!("(2) host {index} is given {} after {seen:?}", applied.generation));
        }
    }

    /// (7) What was rolled back stays so until somebody applies.
    pub(super) fn check_frozen(&mut self) {
        let desired = || self.coordinator.store.nodes.iter().map(|record| record.desired).collect::<Vec<_>>();
        let over =
            self.coordinator.store.rollout.as_ref().filter(|it| matches!(it.phase, Phase::RolledBack { .. }));
        match (over.map(|rollout| rollout.id), &self.frozen) {
            (None, _) => self.frozen = None,
            (Some(id), Some((frozen, then))) if id == *frozen => {
                if desired() != *then {
                    self.broken("(7) what was rolled back does not stay so");
                }
            }
            (Some(id), _) => self.frozen = Some((id, desired())),
        }
    }

    /// Once faults have ended: what is still not as it should be.
    pub(super) fn unsettled(&mut self) -> Option<String> {
        self.help();
        let now = self.now;
        let store = &self.coordinator.store;
        for (index, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.enrolled) {
            if !self.coordinator.connected(index) {
                return Some(format!("host {index} is not connected"));
            }
            let record = &store.nodes[index];
            let Some(desired) = record.desired else { continue };
            let attempt = host.journal.attempted.as_ref().filter(|it| it.done && it.target == desired);
            let Some(attempt) = attempt else { return Some(format!("host {index} is not on {desired:?}")) };
            let read = host.process.as_ref().map(|process| self.library.truth(&process.read));
            if attempt.failure.is_none() {
                if host.files != Some(desired.bundle) {
                    return Some(format!("host {index} has other files than {desired:?}"));
                }
                let hooked = self.library.hooks.after_ready.is_some();
                if hooked && !host.in_service {
                    return Some(format!("host {index} serves, and the load balancer does not send to it"));
                }
                if read != Some(self.library.truth(&desired.bundle)) || !host.serves(now) {
                    return Some(format!("host {index} does not serve {desired:?}"));
                }
            }
        }
        let rollout = store.rollout.as_ref().filter(|rollout| !rollout.phase.is_end())?;
        // A server that nothing can start holds the budget, and the other zones, for good; that is what these are for, and
        // it is said.
        let in_flight = rollout.steps.values().any(|step| step.flight().is_some());
        let given = |index: usize| store.nodes[index].desired.is_some();
        let mut hosts = self.hosts.iter().enumerate();
        let down = hosts.any(|(index, host)| host.member && given(index) && !host.serves(now));
        let limits = ["max_unavailable", "fleet", "zones go one after the other"];
        let says = |why: &String| limits.iter().any(|limit| why.contains(limit));
        let told = self.coordinator.waiting.iter().any(says);
        (in_flight || !down || !told).then(|| format!("rollout: {}", self.coordinator.waiting.join("; ")))
    }
}
