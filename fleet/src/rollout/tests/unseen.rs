//! Nodes whose state is unknown for a while: unknown is neither healthy nor failed, and it is waited for within a bound.

use super::*;

impl Bench {
    fn pass(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| drop(self.second()));
    }

    /// The agent of a node ends, is back `away` seconds later, and can say `unclear` seconds after that how its server is.
    fn agent_restarts(&mut self, node: &str, away: u64, unclear: u64) {
        let now = self.now;
        let node = self.node(node);
        node.connected = false;
        node.away_until = now.after(Duration::from_secs(away));
        node.unclear_until = now.after(Duration::from_secs(away + unclear));
        if node.observed.health == Verdict::Healthy {
            node.observed.health = Verdict::Unknown("the server is starting".to_owned());
        }
    }

    fn upgrade_all_agents(&mut self) {
        let names: Vec<String> = self.nodes.keys().map(ToString::to_string).collect();
        names.iter().for_each(|node| self.agent_restarts(node, 3, 12));
    }
}

#[test]
fn an_agent_that_starts_again_while_its_wave_soaks_is_waited_for() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.pass(70);
    bench.agent_restarts("km-1", 2, 10);
    bench.pass(4);
    let unclear =
        "km cannot soak: km-1 cannot be judged: the server is starting; if that lasts, it has failed in ";
    assert!(bench.waiting()[0].starts_with(unclear), "{:?}", bench.waiting());
    // The soak begins again at second 82, when it is seen to serve.
    check(
        &bench.run(600),
        "1s km-1 generation 2
         112s km-2 generation 2
         202s done",
    );
}

#[test]
fn an_agent_that_starts_again_while_a_gate_is_asked_is_waited_for() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s progress=5m"), &[])]);
    bench.gates("km", &[("login", GateOn::New, None)]);
    bench.failing.insert("? login km-1".to_owned());
    bench.apply("new", RestartClass::Restart);
    bench.pass(70);
    bench.agent_restarts("km-1", 2, 10);
    bench.pass(5);
    bench.failing.clear();
    let log = bench.run(600);
    assert!(log.contains("83s gate login km-1\n84s km-2 generation 2"), "{log}");
    assert!(log.ends_with("done\n"), "{log}");
}

#[test]
fn an_upgrade_of_all_agents_in_the_middle_of_a_rollout_ends_it_well() {
    // While the first node starts, soaks, while the second is at either, and between.
    for second in [30, 61, 75, 100, 140, 175] {
        let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=30s min=10s"), &[])]);
        bench.apply("new", RestartClass::Restart);
        bench.pass(second);
        bench.upgrade_all_agents();
        let log = bench.run(900);
        assert!(log.ends_with("done\n") && !log.contains("back"), "at second {second}:\n{log}");
    }
}

#[test]
fn what_stays_unknown_while_its_wave_soaks_has_failed_in_the_end() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=0s progress=5m"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.pass(70);
    bench.node("km-1").observed.health = Verdict::Unknown("the health API is empty".to_owned());
    let log = bench.run(310);
    let why = "km-1: nobody could tell for 5m1s whether it serves: the health API is empty";
    assert!(log.contains(&format!("rolling-back: {why}")), "{log}");
}

#[test]
fn a_node_that_vanishes_while_its_wave_soaks_or_is_asked_ends_the_rollout() {
    for gated in [false, true] {
        let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=30s min=0s progress=5m"), &[])]);
        if gated {
            bench.gates("km", &[("login", GateOn::New, None)]);
            bench.failing.insert("? login km-1".to_owned());
        }
        bench.apply("new", RestartClass::Restart);
        bench.pass(if gated { 100 } else { 70 });
        bench.node("km-1").connected = false;
        let log = bench.run(1000);
        let why = "km-1: nobody could tell for 5m1s whether it serves: it is not connected";
        assert!(log.contains(&format!("rolling-back: {why}")), "{log}");
        assert!(
            log.ends_with(&format!("failed: {why}; not connected, so it is not known to be back: km-1\n")),
            "{log}"
        );
        // It may serve: its way back was not committed, to take effect at a moment that nobody chose.
        assert_eq!(bench.node("km-1").desired.unwrap().bundle, target("new").bundle);
    }
}

#[test]
fn a_node_that_is_back_in_time_returns_with_the_others() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=0s progress=5m"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.pass(70);
    bench.agent_restarts("km-1", 400, 0);
    bench.node("km-1").observed.health = Verdict::Healthy;
    let log = bench.run(1000);
    assert!(log.contains("470s km-1 back generation 3\n") && log.contains("rolled-back: km-1"), "{log}");
}

#[test]
fn the_time_of_a_pause_is_not_counted_against_nodes_that_cannot_be_judged() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=0s progress=5m"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.pass(70);
    bench.node("km-1").connected = false;
    bench.rollout = Some(bench.rollout().pause("lunch", bench.now).unwrap());
    bench.pass(3600);
    bench.rollout = Some(bench.rollout().resume(bench.now).unwrap());
    bench.pass(10);
    bench.node("km-1").connected = true;
    assert!(bench.run(600).ends_with("done\n"));
}

#[test]
fn an_agent_that_ends_again_and_again_does_not_hold_up_a_rollout_for_ever() {
    let soaks = "max=1 soak=30s min=0s progress=5m";
    let starts = "max=1 soak=0s min=30s healthy=100s progress=5m";
    for (how, why) in [(soaks, "nobody could tell for 5m"), (starts, "not healthy within 3m")] {
        let mut bench = Bench::new(&[("km", 2, policy(how), &[])]);
        bench.apply("new", RestartClass::Restart);
        bench.pass(65);
        for _ in 0..40 {
            bench.agent_restarts("km-1", 10, 5);
            bench.pass(20);
        }
        assert!(bench.log.contains("rolling-back: km-1: ") && bench.log.contains(why), "{}", bench.log);
    }
}

#[test]
fn the_time_away_does_not_count_against_a_node_that_is_back() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=10s healthy=2m progress=30m"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.pass(50);
    bench.agent_restarts("km-1", 1200, 15);
    let log = bench.run(3000);
    assert!(!log.contains("back") && log.ends_with("done\n"), "{log}");
}

#[test]
fn a_rollback_names_the_node_that_may_still_have_the_new_files() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s progress=5m"), &[])]);
    bench.node("km-2").bad.insert(target("new").bundle);
    bench.apply("new", RestartClass::Restart);
    bench.pass(100);
    bench.node("km-1").connected = false;
    let log = bench.run(1000);
    let why = "km-2: start-deadline: not ready in time";
    let end = format!("failed: {why}; not connected, so it is not known to be back: km-1\n");
    assert!(log.ends_with(&end), "{log}");
    assert_eq!(bench.rollout().steps[&name("km-1")].state.word().as_str(), "return-unseen");

    // The same for one that was given its way back, and then vanished.
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s progress=5m"), &[])]);
    bench.node("km-1").bad.insert(target("new").bundle);
    bench.apply("new", RestartClass::Restart);
    bench.pass(61);
    bench.node("km-1").connected = false;
    let log = bench.run(1000);
    assert!(log.ends_with("not known to be back: km-1\n"), "{log}");
}

#[test]
fn a_restart_that_an_operator_asked_for_while_a_wave_soaks_is_no_failure() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=30s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.pass(70);
    let seen = &mut bench.node("km-1").observed;
    (seen.service, seen.service_reason) = (ServiceState::Stopping, "restart: heap dump".to_owned());
    bench.pass(5);
    let seen = &mut bench.node("km-1").observed;
    (seen.service, seen.health) =
        (ServiceState::Starting, Verdict::Unknown("the server is being restarted".into()));
    bench.pass(60);
    let seen = &mut bench.node("km-1").observed;
    (seen.service, seen.health) = (ServiceState::Running, Verdict::Healthy);
    assert!(bench.run(600).ends_with("done\n"));
}
