//! How long one look of the planner takes over 10,000 nodes, against copying the same rollout in the same run, and how
//! long it takes to decide over alerts of as many nodes.
//!
//! Run with `cargo bench -p convoy-fleet`. Goal: below 20 ms on one core. The ratio says more than the milliseconds: a
//! look returns a rollout of its own, so it cannot be faster than the copy.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads a clock; the library does not"
)]

#[path = "../../carbon/benches/timing/mod.rs"]
mod timing;

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
    time::Duration,
};

use fleet::{
    alert::{
        AlertId, Alerts, Blindness, ChannelRules, FIRST_AFTER, Held, Looks, Place, Rule, Severity, Subject,
    },
    bundle::{Applied, RestartClass},
    ids::{ChannelName, Digest, Generation, GroupName, NodeName, Revision, RolloutId},
    observed::{Attempt, Observed, ServiceState, Stage, Verdict, Vitals},
    rollout::{
        FleetPolicy, FleetView, GroupGoal, NewRollout, NodeGoal, NodeView, Rollout, RolloutPolicy,
        RolloutRules, RunWish, Share, StepRecord, StepState, Target, estimate, plan,
    },
    time::Timestamp,
};
use timing::median;

const RUNS: usize = 15;
const GROUPS: usize = 50;
const NODES: usize = 200;
/// Rollouts that are kept.
const PAST: usize = 10;

struct Node {
    group: GroupName,
    host: String,
    desired: Applied,
    observed: Observed,
}

impl Node {
    fn view(&self) -> NodeView<'_> {
        NodeView {
            group: &self.group,
            host: &self.host,
            zone: None,
            connected: true,
            desired: Some(self.desired),
            wish: RunWish::Running,
            observed: Some(&self.observed),
        }
    }
}

fn target(text: &str) -> Target {
    Target { bundle: Digest::of(text.as_bytes()), content: Digest::of(text.as_bytes()), size: 4000 }
}

fn on(applied: Applied) -> Observed {
    Observed {
        desired: Some(applied),
        attempted: Some(Attempt {
            target: applied,
            stage: Stage::Ready,
            failure: None,
            done: true,
            kept_server: false,
        }),
        written: Some(applied),
        running: Some(applied),
        last_good: Some(applied),
        service: ServiceState::Running,
        service_since: Timestamp(0),
        service_reason: "ready".to_owned(),
        health: Verdict::Healthy,
        health_since: Timestamp(0),
        process: None,
        drift: Vec::new(),
        drift_total: 0,
        starts_total: 1,
        vitals: Vitals::default(),
        pack: None,
        drift_pause: None,
        concerns: Vec::new(),
        key_managers: Vec::new(),
        last_output: Vec::new(),
        original: None,
    }
}

struct Fleet {
    past: BTreeMap<NodeName, StepRecord>,
    nodes: BTreeMap<NodeName, Node>,
    rules: RolloutRules,
}

impl Fleet {
    /// Groups in five layers, each after all of the one before.
    fn new() -> Self {
        let group = |index: usize| GroupName::parse(&format!("group-{index:02}")).unwrap();
        let mut rules = RolloutRules { policy: FleetPolicy::default(), groups: BTreeMap::new() };
        let mut nodes = BTreeMap::new();
        for index in 0..GROUPS {
            let before = (index / 10 * 10).saturating_sub(10)..index / 10 * 10;
            let after: BTreeSet<GroupName> = before.map(group).collect();
            let policy = RolloutPolicy {
                max_unavailable: Share::Percent(10),
                min_healthy_time: Duration::ZERO,
                soak: Duration::ZERO,
                ..RolloutPolicy::default()
            };
            rules.groups.insert(group(index), GroupGoal { policy, after, gates: None });
            for node in 0..NODES {
                let name = NodeName::parse(&format!("group-{index:02}-node-{node:03}")).unwrap();
                let desired = Applied { generation: Generation(1), bundle: target("old").bundle };
                let (host, observed) = (format!("{name}.acme.internal"), on(desired));
                nodes.insert(name, Node { group: group(index), host, desired, observed });
            }
        }
        let mut fleet = Self { past: BTreeMap::new(), nodes, rules };
        fleet.past = fleet.rollout().steps;
        for step in fleet.past.values_mut() {
            step.state = StepState::Ready { generation: Generation(1), at: Timestamp(0), restarted: true };
            step.begun = Some(Timestamp(0));
            step.spent.restarting = Duration::from_secs(60);
        }
        fleet
    }

    fn view(&self) -> FleetView<'_> {
        FleetView {
            nodes: self.nodes.iter().map(|(name, node)| (name, node.view())).collect(),
            past: vec![&self.past; PAST],
        }
    }

    fn rollout(&self) -> Rollout {
        let goal = |node: &Node| NodeGoal {
            group: node.group.clone(),
            target: target("new"),
            restart: RestartClass::Restart,
            compared_with: Some(node.desired.bundle),
            last_good: Some(target("old")),
        };
        let new = NewRollout {
            id: RolloutId(1),
            revision: Revision(2),
            at: Timestamp(0),
            rules: self.rules.clone(),
            nodes: self.nodes.iter().map(|(name, node)| (name.clone(), goal(node))).collect(),
            windows_overridden: None,
        };
        new.create(&self.view())
    }
}

/// Channels that alerts are decided for.
const CHANNELS: [&str; 3] = ["ops", "pager", "log"];

/// What one look at alerts costs while so many nodes are silent: the look itself, and what each channel is told.
fn alerts(fleet: &Fleet, silent: usize) {
    let second = |second: u64| Timestamp(0).after(Duration::from_secs(second));
    let mut looks = Looks::default();
    for (name, node) in fleet.nodes.iter().take(silent) {
        let place = Place::Group(node.group.clone());
        let id = |rule| AlertId { rule, subject: Subject::Node(name.clone()) };
        looks.hold(id(Rule::NodeSilent), Held { place, reason: "not heard".to_owned() });
        looks.blind(name.clone(), Blindness::Report);
    }
    let channel = |name: &&str| ChannelRules {
        name: ChannelName::parse(name).unwrap(),
        least: Severity::Info,
        first_after: FIRST_AFTER,
    };
    let channels: Vec<ChannelRules> = CHANNELS.iter().map(channel).collect();
    let mut alerts = Alerts::default();
    let mut now = 0;
    let mut look = |alerts: &mut Alerts, tells: bool| {
        now += 10;
        black_box(alerts.look(second(now), black_box(&looks), &[]));
        let outbox = black_box(alerts.messages(second(now), &channels));
        for message in outbox.due.iter().filter(|_| tells) {
            alerts.told(message, second(now));
        }
    };
    let first = median(1, || look(&mut alerts, true));
    // Until everybody was told: from then on a look finds what it found before.
    for _ in 0..10 {
        look(&mut alerts, true);
    }
    let again = median(RUNS, || look(&mut alerts, false));
    println!(
        "alerts, {silent} of {} nodes silent, {} channels: the first look {:.2} ms, each one after that {:.2} ms",
        fleet.nodes.len(),
        CHANNELS.len(),
        first.as_secs_f64() * 1e3,
        again.as_secs_f64() * 1e3
    );
}

fn main() {
    let mut fleet = Fleet::new();
    for silent in [0, 100, 1_000, 10_000] {
        alerts(&fleet, silent);
    }
    let mut rollout = fleet.rollout();
    let mut now = Timestamp(0);
    let mut told = BTreeSet::new();
    // Until half of it is done: everything that was given is ready at once.
    loop {
        let (ready, of) = rollout.progress();
        let step = ready * 4 / of;
        if told.insert(step) || ready * 2 >= of {
            measure(&fleet, &rollout, now, ready);
        }
        if ready * 2 >= of {
            return;
        }
        now = now.after(Duration::from_secs(15));
        let next = plan(&rollout, &fleet.view(), now);
        for step in &next.steps {
            let node = fleet.nodes.get_mut(&step.node).unwrap();
            node.desired = Applied { generation: step.generation, bundle: step.target.bundle };
            node.observed = on(node.desired);
        }
        rollout = next.rollout;
    }
}

fn measure(fleet: &Fleet, rollout: &Rollout, now: Timestamp, ready: usize) {
    let view = fleet.view();
    let look = median(RUNS, || drop(black_box(plan(black_box(rollout), &view, now))));
    let copy = median(RUNS, || drop(black_box(black_box(rollout).clone())));
    let guess = median(RUNS, || {
        black_box(estimate(black_box(rollout), &view, now));
    });
    println!(
        "{} nodes in {GROUPS} groups, {ready} ready: one look {:.2} ms, a copy of the rollout {:.2} ms: {:.1}; an \
         estimate {:.2} ms",
        view.nodes.len(),
        look.as_secs_f64() * 1e3,
        copy.as_secs_f64() * 1e3,
        look.as_secs_f64() / copy.as_secs_f64(),
        guess.as_secs_f64() * 1e3
    );
}
