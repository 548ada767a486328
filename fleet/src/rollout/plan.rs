//! The planner: one look at a rollout and the fleet, and what follows.

mod due;
mod end;
mod gates;
mod soak;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    gate::Ask,
    observe::{Clocks, observe},
    policy::{OnFailure, Promotion},
    state::{Blind, Flight, FlightStage, Phase, Rollout, StepKind, StepRecord, StepState, Target},
    tally::Tally,
    view::{FleetView, NodeView, RunWish, next_at},
    wait::{WaitReason, first_names},
    window::{Overrun, WindowUse},
};
use crate::{
    bundle::RestartClass,
    ids::{Generation, GroupName, NodeName},
    observed::ServiceState,
    time::Timestamp,
};

/// Give a node a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which node.
    pub node: NodeName,
    /// Which way.
    pub kind: StepKind,
    /// What it is given.
    pub target: Target,
    /// Under which number; above everything committed for it before.
    pub generation: Generation,
    /// Whether the server is expected to restart.
    pub restarts: bool,
    /// For people: `revision 7, rollout 3`.
    pub why: String,
}

/// What follows from one look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The rollout as it is now, with `steps` in flight. To be committed in one transaction with the nodes' new
    /// desired state, on the condition that neither changed meanwhile; only then may anything be sent.
    pub rollout: Rollout,
    /// Whether `rollout` differs from what was given; if not, there is nothing to commit.
    pub changed: bool,
    /// What to give to whom. Empty unless `changed`.
    pub steps: Vec<Step>,
    /// What must be being asked of nodes now; asked again if an answer was lost. Of no use while `changed`.
    pub asks: Vec<Ask>,
    /// When to look again although nothing has happened: until then another look at the same rollout and the same fleet
    /// changes nothing. `None`: time alone never does. Of no use while `changed`.
    pub due: Option<Timestamp>,
    /// Why no more is done. Never empty unless the rollout has ended or `steps` is not empty.
    pub waiting: Vec<WaitReason>,
}

/// Looks once. To be called whenever a node is not as it was ([`NodeView::is_as`]), an operator did something, and at
/// the moment that the last look named as [`Plan::due`], since deadlines, soaks and windows are time.
pub fn plan(rollout: &Rollout, view: &FleetView<'_>, now: Timestamp) -> Plan {
    let mut planner = Planner {
        given: rollout,
        view,
        now,
        next: rollout.clone(),
        members: BTreeMap::new(),
        left: BTreeMap::new(),
        steps: Vec::new(),
        asks: Vec::new(),
        waiting: Vec::new(),
    };
    if !rollout.phase.is_end() {
        for (name, record) in &rollout.steps {
            planner.members.entry(&record.group).or_default().push(name);
        }
        planner.look();
        for (record, was) in planner.next.steps.values_mut().zip(rollout.steps.values()) {
            record.leave(&was.state, now);
        }
    }
    let changed = planner.next != *rollout;
    let due = if changed { None } else { planner.due() };
    Plan {
        rollout: planner.next,
        changed,
        due,
        steps: planner.steps,
        asks: planner.asks,
        waiting: planner.waiting,
    }
}

struct Planner<'a> {
    given: &'a Rollout,
    view: &'a FleetView<'a>,
    now: Timestamp,
    next: Rollout,
    members: BTreeMap<&'a GroupName, Vec<&'a NodeName>>,
    /// What each group still has before it, as it is after the reports were read: nothing that one look does changes it.
    left: BTreeMap<&'a GroupName, Left<'a>>,
    steps: Vec<Step>,
    asks: Vec<Ask>,
    waiting: Vec<WaitReason>,
}

/// What a group has before it.
#[derive(Debug, Default)]
struct Left<'a> {
    /// Nodes that are pending or in flight, in the order of their names.
    open: Vec<Open<'a>>,
    last_wave: u32,
}

/// A node that is pending or in flight.
#[derive(Debug, Clone, Copy)]
struct Open<'a> {
    name: &'a NodeName,
    /// As it was given: of one that is pending it is how it is.
    record: &'a StepRecord,
    node: Option<&'a NodeView<'a>>,
    is_pending: bool,
}

impl Open<'_> {
    fn is_connected(&self) -> bool {
        self.node.is_some_and(|node| node.connected)
    }

    /// Whether this wave is not through because of it. One that is not connected and was given nothing does not hold up
    /// others, except as the canary that vouches for them.
    fn holds(&self, wave: u32, is_canary: bool) -> bool {
        self.record.wave <= wave && (!self.is_pending || is_canary || self.is_connected())
    }
}

impl<'a> Planner<'a> {
    fn look(&mut self) {
        self.observe();
        if self.next.phase == Phase::Running {
            self.advance_waves();
        }
        if let Some(pause) = &self.next.paused {
            let failed = self.count(|state| matches!(state, StepState::Failed { .. }));
            self.waiting.push(WaitReason::Paused { why: pause.why.clone(), failed });
            self.explain_flights();
            return;
        }
        if self.next.phase == Phase::Running {
            self.react_to_failures();
        }
        match self.next.phase {
            Phase::Running => self.send_updates(),
            Phase::RollingBack { .. } => self.send_returns(),
            _ => {}
        }
        self.explain_flights();
        self.conclude();
    }

    fn count(&self, which: impl Fn(&StepState) -> bool) -> usize {
        self.next.steps.values().filter(|record| which(&record.state)).count()
    }

    fn node(&self, name: &NodeName) -> Option<&'a NodeView<'a>> {
        self.view.nodes.get(name)
    }

    fn state(&self, name: &NodeName) -> &StepState {
        &self.next.steps[name].state
    }

    fn observe(&mut self) {
        let Rollout { steps, groups, .. } = &mut self.next;
        let mut further: BTreeSet<&GroupName> = BTreeSet::new();
        let mut nodes = self.view.nodes.iter().map(|(name, node)| (*name, node)).peekable();
        for ((name, record), next) in self.given.steps.iter().zip(steps.values_mut()) {
            let Some(group) = groups.get(&record.group) else { continue };
            let clocks = Clocks { policy: &group.policy, progress: group.progress, now: self.now };
            let node = next_at(&mut nodes, &name);
            if observe(next, node, &clocks) {
                further.insert(&record.group);
            }
            let left = self.left.entry(&record.group).or_default();
            let is_pending = next.state == StepState::Pending;
            if is_pending || matches!(next.state, StepState::InFlight(_)) {
                left.open.push(Open { name, record, node, is_pending });
            }
            left.last_wave = left.last_wave.max(next.wave);
        }
        for name in further {
            if let Some(group) = groups.get_mut(name) {
                group.progress = self.now;
            }
        }
    }

    // --- waves ---

    fn advance_waves(&mut self) {
        let given = self.given;
        for name in given.groups.keys() {
            while self.blocking_group(name).is_none() && self.pass_wave(name) {}
        }
    }

    /// The first group that must be complete before this one begins, and how many of its nodes are open.
    fn blocking_group(&self, name: &GroupName) -> Option<(GroupName, usize)> {
        let group = &self.next.groups[name];
        group.after.iter().find_map(|before| {
            let (other, left) = (self.next.groups.get(before)?, self.left.get(before)?);
            let open = left.open.len();
            (0 < open || other.wave <= left.last_wave).then(|| (before.clone(), open))
        })
    }

    fn last_wave(&self, group: &GroupName) -> u32 {
        self.left.get(group).map_or(0, |left| left.last_wave)
    }

    /// Moves the group to its next wave, if the one under way is ready, soaked and promoted.
    fn pass_wave(&mut self, name: &GroupName) -> bool {
        let group = &self.next.groups[name];
        let (wave, policy) = (group.wave, group.policy.clone());
        if self.last_wave(name) < wave {
            return false;
        }
        let is_canary = wave == 0 && policy.canary.is_some();
        let left = self.left.get(name);
        if left.is_some_and(|left| left.open.iter().any(|open| open.holds(wave, is_canary))) {
            let group = self.group_mut(name);
            (group.wave_ready, group.blind) = (None, Blind::default());
            return false;
        }
        let promoted = group.promoted.is_some_and(|promoted| wave <= promoted);
        let members = self.members.get(name).into_iter().flatten().copied();
        let watched: Vec<&NodeName> = members.filter(|node| self.next.steps[*node].wave == wave).collect();
        if !promoted && !self.soak(name, &watched) {
            return false;
        }
        // Before the promotion: whoever promotes knows that they passed.
        if !self.pass_gates(name, &watched) {
            return false;
        }
        if !promoted && is_canary && self.holds_for_promotion(name, &policy) {
            return false;
        }
        let now = self.now;
        self.group_mut(name).leave_wave(now);
        true
    }

    fn holds_for_promotion(&mut self, name: &GroupName, policy: &super::policy::RolloutPolicy) -> bool {
        let holds = policy.promotion == Promotion::Manual && 0 < self.last_wave(name);
        if holds {
            self.waiting.push(WaitReason::Promotion { group: name.clone() });
        }
        holds
    }

    fn group_mut(&mut self, name: &GroupName) -> &mut super::state::GroupRollout {
        self.next.groups.get_mut(name).expect("members are only listed for groups that take part")
    }

    // --- failures ---

    /// What went wrong so far: the policy that each falls under, and why.
    fn failures(&self) -> Vec<(OnFailure, String)> {
        let steps = self.next.steps.iter().filter_map(|(name, record)| {
            let StepState::Failed { why, .. } = &record.state else { return None };
            Some((self.next.groups[&record.group].policy.on_failure, format!("{name}: {why}")))
        });
        let gates = self.next.groups.values().flat_map(|group| group.gate_failures());
        steps.chain(gates).collect()
    }

    fn react_to_failures(&mut self) {
        let mut tolerated = 0;
        let mut worst: Option<(OnFailure, String)> = None;
        for (policy, why) in self.failures() {
            match (policy, &worst) {
                (OnFailure::Continue, _) => {
                    tolerated += 1;
                    let max = self
                        .next
                        .policy
                        .failures_max
                        .map_or(0, |share| share.tolerated(self.next.steps.len()));
                    if max < tolerated {
                        worst = Some((
                            OnFailure::RollBack,
                            format!("{tolerated} failed, {max} are tolerated; {why}"),
                        ));
                    }
                }
                (OnFailure::RollBack, Some((OnFailure::RollBack, _))) => {}
                (OnFailure::RollBack, _) => worst = Some((OnFailure::RollBack, why)),
                (OnFailure::Stop, None) => worst = Some((OnFailure::Stop, why)),
                (OnFailure::Stop, Some(_)) => {}
            }
        }
        match worst {
            Some((OnFailure::RollBack, why)) => {
                self.next.phase = Phase::RollingBack { why };
                self.next.forget_blind();
            }
            Some((OnFailure::Stop, why)) => self.next.phase = Phase::Stopping { why, aborted: false },
            Some((OnFailure::Continue, _)) | None => {}
        }
    }

    // --- steps ---

    fn send_updates(&mut self) {
        // Most looks have nothing to give to anybody, and count nothing.
        let mut tally = None;
        let given = self.given;
        for name in given.groups.keys() {
            if let Some((after, open)) = self.blocking_group(name) {
                if self.left.get(name).is_some_and(|left| !left.open.is_empty()) {
                    self.waiting.push(WaitReason::Order { group: name.clone(), after, open });
                }
                continue;
            }
            self.send_group(name, &mut tally);
        }
    }

    fn send_group(&mut self, name: &GroupName, tally: &mut Option<Tally<'a>>) {
        let wave = self.next.groups[name].wave;
        let open = self.left.get(name).into_iter().flat_map(|left| &left.open).copied();
        let pending = open.filter(|open| open.is_pending && open.record.wave <= wave);
        let (mut due, away): (Vec<Open<'a>>, Vec<Open<'a>>) = pending.partition(Open::is_connected);
        if !away.is_empty() {
            let nodes = first_names(away.iter().map(|open| open.name));
            self.waiting.push(WaitReason::Unreachable { group: name.clone(), nodes, count: away.len() });
        }
        if due.is_empty() {
            return;
        }
        let tally = tally.get_or_insert_with(|| Tally::new(&self.next.steps, self.view));
        // Nodes that are down take nobody out of service, so they come first.
        due.sort_by_cached_key(|open| (!tally.is_down(name, open.name), open.record.wave));
        let mut told = Vec::new();
        for Open { name: node_name, record, node, .. } in due {
            let Some(node) = node else { continue };
            let restarts = update_restarts(record, node);
            let admitted = self.in_window(name, node_name, restarts).and_then(|()| {
                if restarts { tally.admits(&self.next, (node_name, record), node) } else { Ok(()) }
            });
            match admitted {
                Ok(()) => {
                    self.send(node_name, node, StepKind::Update, (record.target, restarts));
                    tally.begin(self.view, node_name, restarts);
                }
                // One of each kind tells enough; hosts are told one by one.
                Err(reason @ WaitReason::Host { .. }) => self.waiting.push(reason),
                Err(reason) => {
                    let kind = std::mem::discriminant(&reason);
                    if !told.contains(&kind) {
                        told.push(kind);
                        self.waiting.push(reason);
                    }
                }
            }
        }
    }

    fn in_window(&self, name: &GroupName, node: &NodeName, restarts: bool) -> Result<(), WaitReason> {
        let policy = &self.next.groups[name].policy;
        let windows = &policy.windows;
        let applies = |for_steps: WindowUse| match for_steps {
            WindowUse::Any => true,
            WindowUse::Restart => restarts,
            WindowUse::Write => !restarts,
        };
        let mut windows = windows.iter().filter(|window| applies(window.for_steps)).peekable();
        if self.next.windows_overridden.is_some() || windows.peek().is_none() {
            return Ok(());
        }
        // A restart of unknown length has ended, well or badly, by its deadline. Writing files takes no time to speak of.
        let known = self.view.restart_time(node);
        let takes = if restarts { known.unwrap_or(policy.healthy_deadline) } else { Duration::ZERO };
        let (mut opens, mut too_short): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        for window in windows {
            let fits = |closes: Timestamp| match window.overrun {
                Overrun::Finish => true,
                Overrun::Fit => self.now.after(takes) <= closes,
            };
            let closes = window.open_until(self.now);
            if closes.is_some_and(fits) {
                return Ok(());
            }
            too_short = too_short.max(closes);
            opens = opens.into_iter().chain(window.opens_next(self.now)).min();
        }
        let group = name.clone();
        Err(match too_short {
            None => WaitReason::Window { group, opens },
            Some(closes) => {
                let (node, left) = (node.clone(), closes.since(self.now));
                WaitReason::WindowTooShort { group, node, takes, is_known: known.is_some(), left, opens }
            }
        })
    }

    fn send(&mut self, name: &NodeName, node: &NodeView<'_>, kind: StepKind, what: (Target, bool)) {
        let (target, restarts) = what;
        let generation = node.next_generation();
        let Some(record) = self.next.steps.get_mut(name) else { return };
        if let Some(group) = self.next.groups.get(&record.group).filter(|_| kind == StepKind::Update) {
            // Whoever was away in its own wave joins the one under way, or makes one more: it soaks and is asked the
            // gates like any other.
            record.wave = record.wave.max(group.wave);
        }
        record.state = StepState::InFlight(Flight {
            kind,
            generation,
            restarts,
            sent: self.now,
            written: None,
            stage: FlightStage::Sent,
            since: self.now,
            blind: Blind::default(),
        });
        if let Some(group) = self.next.groups.get_mut(&record.group) {
            group.progress = self.now;
        }
        let back = match kind {
            StepKind::Update => "",
            StepKind::RollBack => ", back to last good",
        };
        let why = format!("revision {}, rollout {}{back}", self.next.revision, self.next.id);
        self.steps.push(Step { node: name.clone(), kind, target, generation, restarts, why });
    }

    // --- the way back ---

    /// The bundle that a node still has to be given back, if any.
    fn owed(&self, name: &NodeName) -> Option<Target> {
        let record = &self.next.steps[name];
        let changed = match &record.state {
            StepState::InFlight(flight) => flight.kind == StepKind::Update,
            StepState::Failed { .. } | StepState::Ready { .. } => true,
            StepState::Pending
            | StepState::RolledBack { .. }
            | StepState::ReturnFailed { .. }
            | StepState::ReturnUnseen { .. }
            | StepState::Skipped { .. } => false,
        };
        // What became ready is not given up for a bundle that has just failed to come back elsewhere.
        let keeps = matches!(record.state, StepState::Ready { .. }) && self.return_failed();
        record.way_back().filter(|_| changed && !keeps)
    }

    fn return_failed(&self) -> bool {
        self.next.steps.values().any(|record| matches!(record.state, StepState::ReturnFailed { .. }))
    }

    fn send_returns(&mut self) {
        let mut tally = Tally::new(&self.next.steps, self.view);
        let given = self.given;
        let owed: Vec<(&'a NodeName, Target)> =
            given.steps.keys().filter_map(|name| self.owed(name).map(|target| (name, target))).collect();
        // Nodes that are in trouble go first and in any order; those that serve return after their dependents.
        let (serving, troubled): (Vec<_>, Vec<_>) =
            owed.into_iter().partition(|(name, _)| self.may_serve(name));
        for (name, target) in troubled {
            self.send_return(name, target, &mut tally);
        }
        let dependents = self.dependents();
        let mut away: BTreeMap<&GroupName, Vec<&NodeName>> = BTreeMap::new();
        for (name, target) in serving {
            let group = &given.steps[name].group;
            let before = dependents.get(group).into_iter().flatten().find(|group| self.is_returning(group));
            if let Some(before) = before {
                self.wait_once(WaitReason::ReturnOrder { group: group.clone(), before: (*before).clone() });
            } else if self.node(name).is_some_and(|node| node.connected) {
                self.send_return(name, target, &mut tally);
            } else {
                // It may well serve. Committed now, its return would happen whenever it is heard again, perhaps
                // together with others: it waits for its turn like any node that serves.
                away.entry(group).or_default().push(name);
            }
        }
        self.wait_for_return(&away);
    }

    /// Whether a node that is to return may be serving with its new bundle: it was ready, or it vanished while its
    /// last word was that it serves.
    fn may_serve(&self, name: &NodeName) -> bool {
        match self.state(name) {
            StepState::Ready { .. } => true,
            StepState::Failed { .. } => {
                self.node(name).is_some_and(|node| !node.connected && node.is_healthy())
            }
            StepState::Pending
            | StepState::InFlight(_)
            | StepState::RolledBack { .. }
            | StepState::ReturnFailed { .. }
            | StepState::ReturnUnseen { .. }
            | StepState::Skipped { .. } => false,
        }
    }

    /// Waits for nodes that are to return and are not connected, each group as long as its progress may take.
    fn wait_for_return(&mut self, away: &BTreeMap<&'a GroupName, Vec<&'a NodeName>>) {
        let (given, now) = (self.given, self.now);
        for name in given.groups.keys() {
            let group = self.group_mut(name);
            let Some(nodes) = away.get(name) else {
                group.blind.end(now);
                continue;
            };
            group.blind.begin(now);
            if group.blind.total(now) <= group.policy.progress_deadline {
                let nodes_named = first_names(nodes.iter().copied());
                self.waiting.push(WaitReason::Unreachable {
                    group: name.clone(),
                    nodes: nodes_named,
                    count: nodes.len(),
                });
                continue;
            }
            for node in nodes {
                let Some(record) = self.next.steps.get_mut(*node) else { continue };
                let generation = record.state.generation().unwrap_or_default();
                let why = format!(
                    "it is not connected and keeps generation {generation} of this rollout until somebody applies again"
                );
                record.state = StepState::ReturnUnseen { generation, at: now, why };
            }
        }
    }

    fn send_return(&mut self, name: &'a NodeName, target: Target, tally: &mut Tally<'a>) {
        let Some(node) = self.node(name) else { return };
        let restarts = return_restarts(&self.next.steps[name], node, target);
        if self.next.steps[name].flight().is_some_and(|flight| flight.restarts) {
            tally.replace(self.view, name);
        } else if restarts && let Err(reason) = tally.admits(&self.next, (name, &self.next.steps[name]), node)
        {
            self.wait_once(reason);
            return;
        }
        self.send(name, node, StepKind::RollBack, (target, restarts));
        tally.begin(self.view, name, restarts);
    }

    fn wait_once(&mut self, reason: WaitReason) {
        if !self.waiting.contains(&reason) {
            self.waiting.push(reason);
        }
    }

    /// A group of which a node is on its way back, or still has to go.
    fn is_returning(&self, group: &GroupName) -> bool {
        self.members.get(group).into_iter().flatten().any(|name| {
            self.owed(name).is_some()
                || self.next.steps[*name].flight().is_some_and(|flight| flight.kind == StepKind::RollBack)
        })
    }

    /// For every group those that come after it, at any distance.
    fn dependents(&self) -> BTreeMap<&'a GroupName, BTreeSet<&'a GroupName>> {
        let groups = &self.given.groups;
        let mut dependents: BTreeMap<&GroupName, BTreeSet<&GroupName>> = BTreeMap::new();
        for (name, group) in groups {
            let mut open: Vec<&GroupName> = group.after.iter().collect();
            while let Some(before) = open.pop() {
                if dependents.entry(before).or_default().insert(name)
                    && let Some(group) = groups.get(before)
                {
                    open.extend(&group.after);
                }
            }
        }
        dependents
    }
}

/// Whether giving the node its target restarts the server, judged by what the server runs now. In doubt it does.
pub(super) fn update_restarts(record: &StepRecord, node: &NodeView<'_>) -> bool {
    let running = node.observed.and_then(|observed| observed.running).map(|running| running.bundle);
    if stays_down(node) {
        return false;
    }
    if !node.is_settled() || running.is_none() {
        return true;
    }
    let same = running == Some(record.target.bundle);
    let harmless = record.restart < RestartClass::Restart && running == record.compared_with;
    !(same || harmless)
}

/// An operator has stopped its server: files are written, and no server is touched, so no budget is used.
fn stays_down(node: &NodeView<'_>) -> bool {
    let is_stopped = node.observed.is_some_and(|observed| observed.service == ServiceState::Stopped);
    node.wish == RunWish::Stopped && is_stopped && node.is_settled()
}

fn return_restarts(record: &StepRecord, node: &NodeView<'_>, good: Target) -> bool {
    let running = node.observed.and_then(|observed| observed.running).map(|running| running.bundle);
    if stays_down(node) {
        return false;
    }
    if !node.is_settled() || running.is_none() {
        return true;
    }
    let same = running == Some(good.bundle);
    let harmless = record.restart < RestartClass::Restart
        && running == Some(record.target.bundle)
        && record.compared_with == Some(good.bundle);
    !(same || harmless)
}
