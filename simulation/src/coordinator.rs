//! The coordinator's shell: a store with compare-and-swap, sessions, and the real planner.

use std::{collections::BTreeMap, time::Duration};

use fleet::{
    bundle::{Applied, Assignment, RunState},
    ids::{Digest, Revision, RolloutId},
    observed::{Observed, ServiceState, Verdict},
    restart,
    rollout::{self, FleetView, NewRollout, NodeGoal, NodeView, Phase, Plan, Rollout, RolloutRules, Target},
    time::Timestamp,
};

use super::{Bug, Entry, Sim, calls::Asked};

/// Plans that may wait for their commit at once: as many as there might be coordinators.
const PLANNERS: usize = 2;
/// Nothing is due: it might sleep for so long.
const SLEPT: Duration = Duration::from_secs(24 * 3600);
/// See [`Bug::SleepsTooLong`].
const OVERSLEPT: Duration = Duration::from_secs(5);

/// What is durable.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    pub(super) version: u64,
    pub(super) rollout: Option<Rollout>,
    /// What the newest revision wants of each node.
    pub(super) wanted: Vec<Option<Target>>,
    pub(super) nodes: Vec<Record>,
    pub(super) rollouts: u64,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) desired: Option<Applied>,
    last_good: Option<Target>,
    report: Option<Observed>,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    id: u64,
    /// What its agent said in it is stored: only then does the planner look at the present.
    reported: bool,
    stored_at: u64,
    /// Its agent cannot write its journal.
    doubted: bool,
    /// What is stored until then was said before the journal failed.
    stale_until: u64,
}

impl Session {
    fn new(id: u64) -> Self {
        Self { id, reported: false, stored_at: 0, doubted: false, stale_until: 0 }
    }
}

#[derive(Debug, Default)]
pub(super) struct Coordinator {
    pub(super) up: bool,
    pub(super) incarnation: u64,
    pub(super) store: Store,
    pub(super) backup: Option<Store>,
    pub(super) waiting: Vec<String>,
    /// The store takes its time until then.
    pub(super) slow_until: u64,
    sessions: BTreeMap<usize, Session>,
    session_ids: u64,
    committing: usize,
    /// Gates that are being asked, by the number of the question.
    pub(super) asking: BTreeMap<Asked, u64>,
    targets: BTreeMap<Digest, Target>,
}

impl Coordinator {
    pub(super) fn welcome(&mut self, index: usize) -> u64 {
        self.session_ids += 1;
        self.sessions.insert(index, Session::new(self.session_ids));
        self.session_ids
    }

    pub(super) fn hang_up(&mut self, index: usize, session: u64) {
        if self.sessions.get(&index).is_some_and(|live| live.id == session) {
            self.sessions.remove(&index);
        }
    }

    pub(super) fn know(&mut self, target: Target) {
        self.targets.insert(target.bundle, target);
    }

    /// The question of this number, while somebody waits for its answer.
    pub(super) fn asked_as(&self, id: u64) -> Option<Asked> {
        self.asking.iter().find(|(_, open)| **open == id).map(|(asked, _)| asked.clone())
    }

    pub(super) fn session_of(&self, index: usize) -> Option<u64> {
        self.sessions.get(&index).map(|session| session.id)
    }

    pub(super) fn connected(&self, index: usize) -> bool {
        self.sessions.get(&index).is_some_and(|session| session.reported)
    }
}

/// Reports as a planted bug sees them, where it sees other things than were said.
fn misread(bug: Bug, record: &Record) -> Option<Observed> {
    let mut report = record.report.clone()?;
    match bug {
        Bug::StartingCountsAsHealthy if report.service == ServiceState::Starting => {
            (report.service, report.health) = (ServiceState::Running, Verdict::Healthy);
        }
        Bug::UnknownIsFailed => match &report.health {
            Verdict::Unknown(why) => report.health = Verdict::Unhealthy(why.clone()),
            Verdict::Healthy | Verdict::Unhealthy(_) => return None,
        },
        Bug::NumbersFromOldStore => {
            report.desired = record.desired;
            if let (Some(attempt), Some(desired)) = (&mut report.attempted, record.desired) {
                attempt.target.generation = attempt.target.generation.min(desired.generation);
            }
        }
        _ => return None,
    }
    Some(report)
}

impl Sim {
    pub(super) fn tick(&mut self) {
        self.check_frozen();
        self.think();
        self.after(self.look_every(), Entry::Tick);
    }

    pub(super) fn store_takes(&mut self) -> u64 {
        let slow = self.rarely(4) || self.now < self.coordinator.slow_until;
        if slow { self.chance.range(500, 4000) } else { self.chance.range(1, 30) }
    }

    fn view<'a>(&'a self, misread: &'a [Option<Observed>]) -> FleetView<'a> {
        let mut view = FleetView::default();
        for (index, host) in self.hosts.iter().enumerate() {
            let record = &self.coordinator.store.nodes[index];
            let unseen = self.bug == Some(Bug::OnlyConnectedAreSeen) && !self.coordinator.connected(index);
            if unseen || !host.member {
                continue;
            }
            let node = NodeView {
                group: &self.groups[host.group].0,
                host: host.name.as_str(),
                zone: host.zone.as_ref().filter(|_| self.bug != Some(Bug::ZonesAreUnseen)),
                connected: self.coordinator.connected(index),
                desired: record.desired,
                wish: rollout::RunWish::Running,
                observed: misread.get(index).and_then(Option::as_ref).or(record.report.as_ref()),
            };
            view.nodes.insert(&host.name, node);
        }
        view
    }

    /// Plans once, and begins to commit what follows.
    pub(super) fn think(&mut self) {
        if !self.coordinator.up || PLANNERS <= self.coordinator.committing {
            return;
        }
        let Some(rollout) = self.coordinator.store.rollout.clone() else { return };
        if rollout.phase.is_end() {
            return;
        }
        let seen = match self.bug {
            Some(Bug::PauseIsOnlyShown) => Rollout { paused: None, ..rollout },
            _ => rollout,
        };
        let records = &self.coordinator.store.nodes;
        let misread: Vec<_> = match self.bug {
            None => Vec::new(),
            Some(bug) => records.iter().map(|record| misread(bug, record)).collect(),
        };
        let view = self.view(&misread);
        let plan = rollout::plan(&seen, &view, self.wall());
        let sleeps = plan.changed || self.sleeps_until_due(&seen, &view, &plan);
        self.check_plan(&plan);
        if !sleeps {
            self.broken("a look before the moment that the planner named would have found something");
        }
        self.coordinator.waiting = plan.waiting.iter().map(ToString::to_string).collect();
        if !plan.changed {
            return self.ask(plan.rollout.id, plan.asks);
        }
        if self.bug == Some(Bug::SendBeforeCommit) {
            for step in &plan.steps {
                self.send_step(step);
            }
        }
        self.coordinator.committing += 1;
        let delay = self.store_takes();
        let (incarnation, parent) = (self.coordinator.incarnation, self.coordinator.store.version);
        self.after(delay, Entry::Committed { incarnation, parent, plan: Box::new(plan) });
    }

    /// Whether another look at the same fleet, as late as the coordinator sleeps, finds nothing.
    fn sleeps_until_due(&self, seen: &Rollout, view: &FleetView<'_>, plan: &Plan) -> bool {
        let longer = if self.bug == Some(Bug::SleepsTooLong) { OVERSLEPT } else { Duration::ZERO };
        let until = plan.due.map_or_else(|| self.wall().after(SLEPT), |due| Timestamp(due.0 - 1));
        let later = rollout::plan(seen, view, until.after(longer));
        !later.changed && later.asks == plan.asks
    }

    pub(super) fn committed(&mut self, incarnation: u64, parent: u64, plan: Plan) {
        let alive = self.coordinator.up && incarnation == self.coordinator.incarnation;
        if alive {
            self.coordinator.committing -= 1;
        } else if self.chance.percent(50) {
            // The coordinator died before its store had the commit.
            return;
        }
        if self.coordinator.store.version != parent && self.bug != Some(Bug::NoCompareAndSwap) {
            self.trace(|| "coordinator: commit refused, somebody was faster".to_owned());
            return self.think();
        }
        let (steps, rollout) = (plan.steps, plan.rollout);
        let before = self.coordinator.store.rollout.as_ref().map(|rollout| rollout.word().as_str());
        if before != Some(rollout.word().as_str()) {
            let why = rollout.why().unwrap_or_default().to_owned();
            self.trace(|| {
                format!("coordinator: rollout {} is {} {why}", rollout.id, rollout.word().as_str())
            });
            if rollout.phase.is_end() {
                *self.outcome.rollouts.entry(rollout.phase.word().as_str()).or_default() += 1;
            }
        }
        self.check_commit(&steps, &rollout);
        self.check_failed_in_soak(&rollout);
        let rolled_back = matches!(rollout.phase, Phase::RolledBack { .. });
        self.coordinator.store.rollout = Some(rollout);
        self.coordinator.store.version += 1;
        for step in &steps {
            let Some(index) = self.hosts.iter().position(|host| host.name == step.node) else { continue };
            let desired = Applied { generation: step.generation, bundle: step.target.bundle };
            self.outcome.steps += 1;
            let seen = self.coordinator.store.nodes[index].report.as_ref();
            let seen = seen.map_or(String::new(), |seen| format!("{} {:?}", seen.service, seen.health));
            self.trace(|| {
                format!("coordinator: {} {:?} {desired:?} committed, was {seen}", step.node, step.kind)
            });
            let record = &mut self.coordinator.store.nodes[index];
            record.desired = Some(desired);
            if self.bug == Some(Bug::LastDesiredIsGood) {
                record.last_good = Some(step.target);
            }
            if alive {
                self.assign(index);
            }
        }
        self.spring_ambush();
        self.check_frozen();
        if rolled_back && self.bug == Some(Bug::RollbackIsUndone) {
            self.give_newest_again();
        }
        self.think();
    }

    fn give_newest_again(&mut self) {
        for index in 0..self.hosts.len() {
            let record = &mut self.coordinator.store.nodes[index];
            if let (Some(wanted), Some(desired)) = (self.coordinator.store.wanted[index], record.desired) {
                let desired = Applied { generation: desired.generation.next(), bundle: wanted.bundle };
                record.desired = Some(desired);
                self.number(index, desired);
                self.assign(index);
            }
        }
    }

    fn send_step(&mut self, step: &rollout::Step) {
        let Some(index) = self.hosts.iter().position(|host| host.name == step.node) else { return };
        let applied = Applied { generation: step.generation, bundle: step.target.bundle };
        self.send(index, applied);
    }

    /// Sends a node's newest desired state, if it is connected.
    pub(super) fn assign(&mut self, index: usize) {
        if let Some(desired) = self.coordinator.store.nodes[index].desired {
            self.send(index, desired);
        }
    }

    fn send(&mut self, index: usize, applied: Applied) {
        let Some(session) = self.coordinator.sessions.get(&index).map(|session| session.id) else { return };
        let assignment = Assignment {
            applied,
            content: applied.bundle,
            content_size: 200,
            revision: Revision(1),
            run: RunState::Running,
            why: String::new(),
            trace: None,
        };
        // Said twice now and then, and not always in order.
        for _ in 0..if self.rarely(5) { 2 } else { 1 } {
            let slow = self.rarely(5);
            let delay = if slow { self.chance.range(200, 6000) } else { self.chance.range(1, 80) };
            let assignment = Box::new(assignment.clone());
            self.after(delay, Entry::ToAgent { host: index, session, assignment });
        }
    }

    pub(super) fn coordinator_hears(&mut self, index: usize, session: u64, report: Observed) {
        if self.hosts[index].session_dead || !self.coordinator.up {
            return;
        }
        let early = self.bug == Some(Bug::ReportCountsUnstored);
        // That bug matters only while the store lags behind with what agents say.
        let delay = self.store_takes() + if early { 20_000 } else { 0 };
        let now = self.now;
        let Some(live) = self.coordinator.sessions.get_mut(&index).filter(|live| live.id == session) else {
            return;
        };
        live.reported |= early;
        // One after another.
        live.stored_at = live.stored_at.max(now + delay);
        let (delay, incarnation) = (live.stored_at - now, self.coordinator.incarnation);
        let report = Box::new(report);
        self.after(delay, Entry::Stored { incarnation, host: index, session, report });
    }

    /// A heartbeat says whether the agent's journal can be written.
    pub(super) fn coordinator_doubts(&mut self, index: usize, session: u64, doubted: bool) {
        if self.hosts[index].session_dead || !self.coordinator.up {
            return;
        }
        let now = self.now;
        let Some(live) = self.coordinator.sessions.get_mut(&index).filter(|live| live.id == session) else {
            return;
        };
        live.doubted = doubted;
        if doubted {
            live.reported = false;
            live.stale_until = live.stored_at.max(now);
            live.stored_at = live.stale_until + 1;
        }
    }

    pub(super) fn stored(&mut self, incarnation: u64, (index, session): (usize, u64), report: Observed) {
        // A session that has ended still stores what it heard, unless a newer one has begun or the node is forgotten.
        let newest = self.coordinator.sessions.get(&index).is_none_or(|live| live.id == session);
        if incarnation != self.coordinator.incarnation || !newest || !self.hosts[index].enrolled {
            return;
        }
        let now = self.now;
        if let Some(live) = self.coordinator.sessions.get_mut(&index) {
            live.reported |= !live.doubted && live.stale_until < now;
        }
        let record = &mut self.coordinator.store.nodes[index];
        if let Some(good) = report.last_good
            && self.bug != Some(Bug::LastDesiredIsGood)
        {
            record.last_good = self.coordinator.targets.get(&good.bundle).copied();
        }
        record.report = Some(report);
        self.think();
    }

    /// An operator applies: `targets` per node become a revision and a rollout.
    pub(super) fn apply(&mut self, targets: &[Target]) {
        if !self.coordinator.up {
            return;
        }
        let view = self.view(&[]);
        let goal = |index: usize| {
            let (host, record) = (&self.hosts[index], &self.coordinator.store.nodes[index]);
            let running =
                record.report.as_ref().and_then(|report| report.running).map(|applied| applied.bundle);
            let old = running.and_then(|running| self.library.bundle(&running));
            let new = self.library.bundle(&targets[index].bundle);
            let class = old.zip(new).map(|(old, new)| restart::decide(old, new).class);
            NodeGoal {
                group: self.groups[host.group].0.clone(),
                target: targets[index],
                restart: class.unwrap_or(fleet::bundle::RestartClass::Restart),
                compared_with: running,
                last_good: record.last_good,
            }
        };
        let id = RolloutId(self.coordinator.store.rollouts + 1);
        let new = NewRollout {
            id,
            revision: Revision(id.0),
            at: self.wall(),
            rules: RolloutRules { policy: self.fleet.clone(), groups: self.groups.iter().cloned().collect() },
            nodes: (0..self.hosts.len())
                .filter(|index| self.hosts[*index].member)
                .map(|index| (self.hosts[index].name.clone(), goal(index)))
                .collect(),
            windows_overridden: None,
        };
        let rollout = new.create(&view);
        self.note_budgets();
        self.trace(|| format!("operator: applies rollout {id} for {} nodes", rollout.steps.len()));
        let store = &mut self.coordinator.store;
        if store.rollout.as_ref().is_some_and(|old| !old.phase.is_end()) {
            *self.outcome.rollouts.entry("superseded").or_default() += 1;
        }
        *self.outcome.rollouts.entry("begun").or_default() += 1;
        store.rollouts += 1;
        store.version += 1;
        store.wanted = targets.iter().zip(&self.hosts).map(|(it, host)| host.member.then_some(*it)).collect();
        if rollout.phase.is_end() {
            *self.outcome.rollouts.entry(rollout.phase.word().as_str()).or_default() += 1;
        }
        store.rollout = Some(rollout);
        self.think();
    }

    pub(super) fn control(
        &mut self,
        what: &str,
        change: impl Fn(&Rollout) -> Result<Rollout, rollout::ControlError>,
    ) {
        if !self.coordinator.up {
            return;
        }
        let Some(rollout) = &self.coordinator.store.rollout else { return };
        if let Ok(next) = change(rollout) {
            self.trace(|| format!("operator: {what}"));
            self.coordinator.store.rollout = Some(next);
            self.coordinator.store.version += 1;
            self.think();
        }
    }

    /// Everything that is not in the store is gone; agents notice after a while.
    pub(super) fn coordinator_dies(&mut self) {
        self.trace(|| "coordinator: dies".to_owned());
        self.coordinator.up = false;
        self.coordinator.incarnation += 1;
        self.coordinator.committing = 0;
        self.coordinator.asking.clear();
        self.coordinator.sessions.clear();
        for index in 0..self.hosts.len() {
            if let Some(session) = self.hosts[index].session {
                self.hosts[index].session_dead = true;
                let delay = self.chance.range(10, 15_000);
                self.after(delay, Entry::Lost { host: index, session });
            }
        }
    }

    pub(super) fn coordinator_starts(&mut self) {
        self.trace(|| "coordinator: starts".to_owned());
        self.coordinator.up = true;
        self.think();
    }
}
