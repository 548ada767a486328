//! Transcripts of rollouts over obedient nodes, with what goes wrong said explicitly.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use super::*;
use crate::{
    bundle::{Applied, RestartClass},
    host::Original,
    ids::{Digest, Generation, GroupName, NodeName, Revision, RolloutId, ZoneName},
    observed::{Attempt, Observed, Refusal, RefusalReason, ServiceState, Stage, Verdict, Vitals},
    time::Timestamp,
};

mod budget;
mod due;
mod gates;
mod guard;
mod members;
mod operators;
mod standings;
mod steps;
mod times;
mod unseen;
mod words;
mod zones;

struct Node {
    group: GroupName,
    host: String,
    zone: Option<ZoneName>,
    connected: bool,
    wish: RunWish,
    desired: Option<Applied>,
    observed: Observed,
    /// Seconds from commit to ready.
    start: u64,
    committed: Timestamp,
    /// Its agent is not connected until then.
    away_until: Timestamp,
    /// Its agent has just started and cannot say until then whether the server serves.
    unclear_until: Timestamp,
    /// Bundles that never become ready.
    bad: BTreeSet<Digest>,
    /// It has heard of what it was given, and gets no further.
    stuck: bool,
    /// What its agent kept from before the first apply, to go back to if nothing was ever good.
    kept: Option<Applied>,
}

impl Node {
    fn view(&self) -> NodeView<'_> {
        NodeView {
            group: &self.group,
            host: &self.host,
            zone: self.zone.as_ref(),
            connected: self.connected,
            desired: self.desired,
            wish: self.wish,
            observed: Some(&self.observed),
        }
    }
}

struct Bench {
    now: Timestamp,
    nodes: BTreeMap<NodeName, Node>,
    groups: BTreeMap<GroupName, GroupGoal>,
    fleet: FleetPolicy,
    rollout: Option<Rollout>,
    /// Steps of rollouts before, newest first.
    past: Vec<BTreeMap<NodeName, StepRecord>>,
    log: String,
    /// Gates that fail, as `gate node`; those with `? ` before that are never answered.
    failing: BTreeSet<String>,
}

fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

fn target(text: &str) -> Target {
    Target { bundle: Digest::of(text.as_bytes()), content: Digest::of(text.as_bytes()), size: 1 }
}

fn healthy(applied: Applied) -> Observed {
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
        service_reason: String::new(),
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

impl Bench {
    /// Groups in the form `name:count`, all healthy on bundle "old", generation 1.
    fn new(groups: &[(&str, usize, RolloutPolicy, &[&str])]) -> Self {
        let mut bench = Self {
            now: Timestamp(0),
            nodes: BTreeMap::new(),
            groups: BTreeMap::new(),
            fleet: FleetPolicy::default(),
            rollout: None,
            past: Vec::new(),
            log: String::new(),
            failing: BTreeSet::new(),
        };
        for (group, count, policy, after) in groups {
            let group_name = GroupName::parse(group).unwrap();
            let after = after.iter().map(|name| GroupName::parse(name).unwrap()).collect();
            bench.groups.insert(group_name.clone(), GroupGoal { policy: policy.clone(), after, gates: None });
            for index in 1..=*count {
                let applied = Applied { generation: Generation(1), bundle: target("old").bundle };
                let node = Node {
                    group: group_name.clone(),
                    host: format!("host-{index}"),
                    zone: None,
                    connected: true,
                    wish: RunWish::Running,
                    desired: Some(applied),
                    observed: healthy(applied),
                    start: 60,
                    committed: Timestamp(0),
                    away_until: Timestamp(0),
                    unclear_until: Timestamp(0),
                    bad: BTreeSet::new(),
                    stuck: false,
                    kept: None,
                };
                bench.nodes.insert(name(&format!("{group}-{index}")), node);
            }
        }
        bench
    }

    fn node(&mut self, text: &str) -> &mut Node {
        self.nodes.get_mut(&name(text)).unwrap()
    }

    fn view(&self) -> FleetView<'_> {
        let nodes = self.nodes.iter().map(|(name, node)| (name, node.view())).collect();
        FleetView { nodes, past: self.past.iter().collect() }
    }

    fn apply(&mut self, bundle: &str, restart: RestartClass) {
        let goal = |node: &Node| NodeGoal {
            group: node.group.clone(),
            target: target(bundle),
            restart,
            compared_with: node.observed.running.map(|running| running.bundle),
            last_good: node.observed.last_good.map(|good| Target { bundle: good.bundle, ..target("old") }),
        };
        let new = NewRollout {
            id: RolloutId(1),
            revision: Revision(2),
            at: self.now,
            rules: RolloutRules { policy: self.fleet.clone(), groups: self.groups.clone() },
            nodes: self.nodes.iter().map(|(name, node)| (name.clone(), goal(node))).collect(),
            windows_overridden: None,
        };
        self.rollout = Some(new.create(&self.view()));
    }

    fn rollout(&self) -> &Rollout {
        self.rollout.as_ref().unwrap()
    }

    /// Lets nodes get on with what they were given.
    fn work(&mut self) {
        let now = self.now;
        for node in self.nodes.values_mut() {
            node.connected |= node.away_until == now;
            if node.unclear_until == now && matches!(node.observed.health, Verdict::Unknown(_)) {
                node.observed.health = Verdict::Healthy;
            }
            let Some(desired) = node.desired else { continue };
            if !node.connected
                || node.observed.attempted.as_ref().is_some_and(|it| it.target == desired && it.done)
            {
                continue;
            }
            let elapsed = if node.stuck { 0 } else { now.since(node.committed).as_secs() };
            let same = !node.stuck
                && node.observed.running.is_some_and(|running| {
                    running.bundle == desired.bundle && running.generation != desired.generation
                });
            let bad = node.bad.contains(&desired.bundle);
            let (stage, done) = match elapsed {
                _ if same => (Stage::Ready, true),
                0..1 => (Stage::Received, false),
                1..2 => (Stage::Written, false),
                2.. if elapsed < node.start => (Stage::Restarted, false),
                _ if bad => (Stage::Restarted, true),
                _ => (Stage::Ready, true),
            };
            let seen = &mut node.observed;
            seen.desired = Some(desired);
            let refusal = Refusal {
                reason: RefusalReason::StartDeadline,
                detail: "not ready in time".to_owned(),
                still_running: seen.last_good,
            };
            let failure = (bad && done).then_some(refusal);
            if failure.is_some() {
                let back = seen.last_good.or(node.kept);
                (seen.running, seen.written) = (back, back);
                seen.health = Verdict::Healthy;
            } else {
                seen.written = if Stage::Written <= stage { Some(desired) } else { seen.written };
                seen.running = if Stage::Restarted <= stage { Some(desired) } else { seen.running };
                seen.last_good = if stage == Stage::Ready { Some(desired) } else { seen.last_good };
                seen.health = match stage {
                    Stage::Restarted => Verdict::Unhealthy("ports closed".to_owned()),
                    _ => Verdict::Healthy,
                };
            }
            seen.attempted = Some(Attempt { target: desired, stage, failure, done, kept_server: false });
            if now < node.unclear_until && seen.health == Verdict::Healthy {
                seen.health = Verdict::Unknown("the server is starting".to_owned());
            }
        }
    }

    /// One second passes; what was decided goes to the log.
    fn second(&mut self) -> Vec<WaitReason> {
        self.now = self.now.after(Duration::from_secs(1));
        self.work();
        let plan = plan(self.rollout(), &self.view(), self.now);
        assert!(plan.changed || plan.steps.is_empty());
        assert!(
            plan.rollout.phase.is_end() || !plan.steps.is_empty() || !plan.waiting.is_empty(),
            "an idle rollout says why"
        );
        for step in &plan.steps {
            let way = if step.kind == StepKind::RollBack { " back" } else { "" };
            writeln!(self.log, "{}s {}{way} generation {}", self.now.0 / 1000, step.node, step.generation)
                .unwrap();
            let node = self.nodes.get_mut(&step.node).unwrap();
            node.desired = Some(Applied { generation: step.generation, bundle: step.target.bundle });
            node.committed = self.now;
        }
        let before = self.rollout().word().as_str();
        if before != plan.rollout.word().as_str() {
            let why = plan.rollout.why().map_or(String::new(), |why| format!(": {why}"));
            writeln!(self.log, "{}s {}{why}", self.now.0 / 1000, plan.rollout.word().as_str()).unwrap();
        }
        self.check_due(&plan);
        self.rollout = Some(plan.rollout);
        if !plan.changed {
            self.answer(&plan.asks);
        }
        plan.waiting
    }

    fn answer(&mut self, asks: &[Ask]) {
        for ask in asks {
            let what = format!("{} {}", ask.gate, ask.node);
            if self.failing.contains(&format!("? {what}")) {
                continue;
            }
            let failure = self.failing.contains(&what).then(|| "status 500".to_owned());
            writeln!(self.log, "{}s gate {what}", self.now.0 / 1000).unwrap();
            self.rollout = self.rollout().answer(ask, failure, self.now).or_else(|| self.rollout.take());
        }
    }

    /// Runs until it ends, at most `seconds`.
    fn run(&mut self, seconds: u64) -> String {
        for _ in 0..seconds {
            self.second();
            if self.rollout().phase.is_end() {
                break;
            }
        }
        std::mem::take(&mut self.log)
    }

    fn waiting(&mut self) -> Vec<String> {
        self.second().iter().map(ToString::to_string).collect()
    }
}

fn policy(text: &str) -> RolloutPolicy {
    let mut policy = RolloutPolicy::default();
    for part in text.split_whitespace() {
        let (key, value) = part.split_once('=').unwrap();
        let time = || crate::time::parse_duration(value).unwrap();
        match key {
            "max" => policy.max_unavailable = Share::parse(value).unwrap(),
            "canary" => policy.canary = Some(Share::parse(value).unwrap()),
            "wave" => policy.wave = Some(Share::parse(value).unwrap()),
            "soak" => policy.soak = time(),
            "min" => policy.min_healthy_time = time(),
            "healthy" => policy.healthy_deadline = time(),
            "progress" => policy.progress_deadline = time(),
            "promotion" => policy.promotion = Promotion::Manual,
            "fail" => policy.on_failure = OnFailure::ALL.iter().find(|(_, word)| *word == value).unwrap().0,
            _ => unreachable!("{key}"),
        }
    }
    policy
}

/// One that opens in that minute of every hour, for a minute.
fn window(minute: u32, for_steps: WindowUse, overrun: Overrun) -> Window {
    let cron = Cron::parse(&format!("{minute} * * * *")).unwrap();
    Window::new(for_steps, cron, Duration::from_secs(60), "UTC", overrun).unwrap()
}

fn check(log: &str, expected: &str) {
    let lines =
        |text: &str| text.lines().map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let (log, expected): (Vec<String>, Vec<String>) = (lines(log), lines(expected));
    assert_eq!(log, expected, "\n{}", log.join("\n"));
}

#[test]
fn one_at_a_time_each_ready_and_soaked_before_the_next() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=30s min=10s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s km-1 generation 2
         101s km-2 generation 2
         201s km-3 generation 2
         301s done",
    );
}

#[test]
fn a_canary_goes_alone_then_waves_within_the_budget() {
    let mut bench = Bench::new(&[("gw", 6, policy("canary=1 max=2 wave=4 soak=0s min=0s"), &[])]);
    bench.node("gw-4").start = 10;
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s gw-1 generation 2
         61s gw-2 generation 2
         61s gw-3 generation 2
         121s gw-4 generation 2
         121s gw-5 generation 2
         181s gw-6 generation 2
         241s done",
    );
}

#[test]
fn groups_follow_their_order_and_go_in_parallel_without_one() {
    let fast = || policy("soak=0s min=0s");
    let mut bench = Bench::new(&[
        ("cp", 1, fast(), &[]),
        ("gw", 1, fast(), &["cp", "tm"]),
        ("km", 1, fast(), &[]),
        ("tm", 1, fast(), &["cp"]),
    ]);
    bench.apply("new", RestartClass::Restart);
    assert_eq!(
        bench.waiting()[..2],
        [
            "gw comes after cp, where 1 node is not ready yet",
            "tm comes after cp, where 1 node is not ready yet"
        ]
    );
    check(
        &bench.run(600),
        "1s cp-1 generation 2
         1s km-1 generation 2
         61s tm-1 generation 2
         121s gw-1 generation 2
         181s done",
    );
}

#[test]
fn the_fleet_budget_holds_over_all_groups() {
    let fast = || policy("soak=0s min=0s");
    let mut bench = Bench::new(&[("a", 2, fast(), &[]), ("b", 2, fast(), &[])]);
    bench.fleet.max_unavailable = Some(Share::Count(1));
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s a-1 generation 2
         61s a-2 generation 2
         121s b-1 generation 2
         181s b-2 generation 2
         241s done",
    );
}

#[test]
fn a_node_that_is_down_for_any_reason_uses_the_budget() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.node("km-3").connected = false;
    assert_eq!(bench.waiting(), ["km has 1 down (km-3) and max_unavailable = 1 allows 1"]);
    // Outside the rollout or inside makes no difference, and unknown is not healthy.
    bench.node("km-3").connected = true;
    bench.node("km-3").observed.health = Verdict::Unknown("no probe yet".to_owned());
    let third = bench.rollout().steps[&name("km-3")].wave;
    assert_eq!(third, 2);
    assert!(bench.waiting()[0].contains("km has 1 down (km-3)"));
    bench.node("km-3").observed.health = Verdict::Healthy;
    bench.second();
    check(&bench.log, "3s km-1 generation 2");
}

#[test]
fn a_node_that_is_down_already_is_repaired_first_whatever_the_others_do() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
    for node in ["km-2", "km-3"] {
        bench.node(node).observed.health = Verdict::Unhealthy("ports closed".to_owned());
    }
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s km-2 generation 2
         61s km-3 generation 2
         121s km-1 generation 2
         181s done",
    );
}

#[test]
fn a_failed_step_returns_what_was_changed_and_stays_returned() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
    bench.node("km-2").bad.insert(target("new").bundle);
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s km-1 generation 2
         61s km-2 generation 2
         121s km-2 back generation 3
         121s rolling-back: km-2: start-deadline: not ready in time
         122s km-1 back generation 3
         182s rolled-back: km-2: start-deadline: not ready in time",
    );
    assert_eq!(bench.rollout().steps[&name("km-3")].state.word().as_str(), "skipped");
    assert_eq!(bench.run(60), "");
}

#[test]
fn dependents_return_before_what_they_depend_on() {
    let fast = || policy("soak=0s min=0s");
    let mut bench =
        Bench::new(&[("cp", 1, fast(), &[]), ("gw", 2, fast(), &["tm"]), ("tm", 1, fast(), &["cp"])]);
    bench.node("gw-2").bad.insert(target("new").bundle);
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(900),
        "1s cp-1 generation 2
         61s tm-1 generation 2
         121s gw-1 generation 2
         181s gw-2 generation 2
         241s gw-2 back generation 3
         241s rolling-back: gw-2: start-deadline: not ready in time
         242s gw-1 back generation 3
         302s tm-1 back generation 3
         362s cp-1 back generation 3
         422s rolled-back: gw-2: start-deadline: not ready in time",
    );
}

#[test]
fn nothing_is_returned_to_what_was_never_healthy() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s"), &[])]);
    for node in ["km-1", "km-2"] {
        bench.node(node).observed.last_good = None;
    }
    bench.node("km-2").bad.insert(target("new").bundle);
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s km-1 generation 2
         61s km-2 generation 2
         121s failed: km-2: start-deadline: not ready in time; 2 could not be returned",
    );
}

#[test]
fn a_first_apply_that_fails_says_what_becomes_of_the_original() {
    let own = Applied { generation: Generation::ORIGINAL, bundle: target("own").bundle };
    let kept =
        Original { taken: Timestamp(0), digest: own.bundle, before: Generation(2), files: 1, bytes: 219 };
    let failed = |is_back: bool| {
        let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s"), &[])]);
        let node = bench.node("km-1");
        node.observed.last_good = None;
        node.observed.original = Some(kept.clone());
        node.kept = is_back.then_some(own);
        node.bad.insert(target("new").bundle);
        bench.apply("new", RestartClass::Restart);
        bench.run(600)
    };
    // The failure is told before its agent has gone back, or after.
    check(
        &failed(false),
        "1s km-1 generation 2
         61s failed: km-1: start-deadline: not ready in time; its agent goes back to the original files: km-1",
    );
    check(
        &failed(true),
        "1s km-1 generation 2
         61s failed: km-1: start-deadline: not ready in time; its original files are in force again: km-1",
    );
}

#[test]
fn stop_leaves_everything_and_continue_goes_on_within_the_failure_budget() {
    let run = |text: &str, failures_max: Option<Share>| {
        let mut bench = Bench::new(&[("km", 3, policy(text), &[])]);
        bench.fleet.failures_max = failures_max;
        bench.node("km-1").bad.insert(target("new").bundle);
        bench.apply("new", RestartClass::Restart);
        bench.run(900)
    };
    check(
        &run("soak=0s min=0s fail=stop", None),
        "1s km-1 generation 2
         61s failed: km-1: start-deadline: not ready in time",
    );
    check(
        &run("soak=0s min=0s fail=continue", Some(Share::Count(1))),
        "1s km-1 generation 2
         61s km-2 generation 2
         121s km-3 generation 2
         181s failed: 1 of 3 nodes failed",
    );
    check(
        &run("soak=0s min=0s fail=continue", None),
        "1s km-1 generation 2
         61s km-1 back generation 3
         61s rolling-back: 1 failed, 0 are tolerated; km-1: start-deadline: not ready in time
         62s rolled-back: 1 failed, 0 are tolerated; km-1: start-deadline: not ready in time",
    );
}

#[test]
fn a_change_without_effect_on_the_server_takes_no_budget_and_no_soak() {
    let mut bench = Bench::new(&[("km", 4, policy("max=1 soak=30s min=10s"), &[])]);
    bench.node("km-4").observed.health = Verdict::Unhealthy("ports closed".to_owned());
    bench.apply("comments", RestartClass::None);
    for node in bench.nodes.values_mut() {
        node.start = 1;
    }
    let log = bench.run(600);
    assert!(
        log.starts_with("1s km-4 generation 2\n1s km-1 generation 2\n1s km-2 generation 2\n1s km-3"),
        "{log}"
    );
    assert!(log.contains("3s done") || log.contains("2s done"), "{log}");
}

#[test]
fn a_server_that_runs_something_else_than_was_compared_counts_as_restarting() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1"), &[])]);
    bench.apply("comments", RestartClass::None);
    bench.node("km-2").observed.running =
        Some(Applied { generation: Generation(1), bundle: Digest::of(b"other") });
    bench.second();
    assert_eq!(bench.log, "1s km-1 generation 2\n");
}

#[test]
fn a_wave_that_loses_a_node_while_it_soaks_has_failed() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.run(70);
    bench.node("km-1").observed.health = Verdict::Unhealthy("heap exhausted".to_owned());
    check(
        &bench.run(1),
        "71s km-1 back generation 3
         71s rolling-back: km-1: stopped being healthy while its wave soaked: heap exhausted",
    );
}

#[test]
fn a_wave_cannot_soak_unseen() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.run(70);
    bench.node("km-1").connected = false;
    assert_eq!(
        bench.waiting(),
        ["km cannot soak: km-1 is not connected; if that lasts, it has failed in 30m"]
    );
    bench.node("km-1").connected = true;
    bench.log.clear();
    check(&bench.run(40), "102s km-2 generation 2");
}

#[test]
fn the_healthy_deadline_counts_only_against_nodes_that_are_heard() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s healthy=40s progress=300s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(44),
        "1s km-1 generation 2
         43s km-1 back generation 3
         43s rolling-back: km-1: not healthy within 41s of its files being written: ports closed",
    );
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s healthy=40s progress=300s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.run(3);
    bench.node("km-1").connected = false;
    let log = bench.run(400);
    assert!(log.contains("rolling-back: km-1: not connected, no progress for 5m1s"), "{log}");
    // Its way back is committed at once; it takes effect whenever the node returns.
    assert!(bench.node("km-1").desired.is_some_and(|desired| desired.bundle == target("old").bundle));
    let log = bench.run(400);
    assert!(log.ends_with("not connected, so it is not known to be back: km-1\n"), "{log}");
}

#[test]
fn steps_begin_only_in_their_window_unless_overridden() {
    let mut bench = Bench::new(&[("km", 1, policy("soak=0s min=0s"), &[])]);
    let group = GroupName::parse("km").unwrap();
    bench.groups.get_mut(&group).unwrap().policy.windows =
        vec![window(2, WindowUse::Restart, Overrun::Finish)];
    bench.apply("new", RestartClass::Restart);
    assert_eq!(bench.waiting(), ["km waits for its maintenance window, which opens at 1970-01-01 00:02 UTC"]);
    check(
        &bench.run(300),
        "120s km-1 generation 2
         180s done",
    );

    // A write needs no window that is for restarts; a step that would not fit does not begin.
    let mut bench = Bench::new(&[("km", 1, policy("soak=0s min=0s"), &[])]);
    bench.groups.get_mut(&group).unwrap().policy.windows = vec![window(0, WindowUse::Restart, Overrun::Fit)];
    bench.apply("comments", RestartClass::None);
    check(&bench.run(1), "1s km-1 generation 2");
    bench.apply("new", RestartClass::Restart);
    bench.log.clear();
    assert!(bench.waiting()[0].contains("opens at 1970-01-01 01:00 UTC"));
    bench.rollout.as_mut().unwrap().windows_overridden = Some("outage 4711".to_owned());
    bench.second();
    assert!(bench.log.contains("km-1 generation 3"), "{}", bench.log);
}

#[test]
fn two_nodes_of_one_host_are_kept_apart_on_request() {
    let mut bench =
        Bench::new(&[("a", 1, policy("soak=0s min=0s"), &[]), ("b", 1, policy("soak=0s min=0s"), &[])]);
    bench.fleet.spread_hosts = true;
    bench.apply("new", RestartClass::Restart);
    assert_eq!(bench.waiting(), ["b-1 waits for another node of host host-1"]);
    check(
        &bench.run(300),
        "1s a-1 generation 2
         61s b-1 generation 2
         121s done",
    );
}
