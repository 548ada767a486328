//! What nodes are asked after a wave, and what follows from their answers.

use super::*;

impl Bench {
    pub(super) fn gates(&mut self, group: &str, gates: &[(&str, GateOn, Option<OnFailure>)]) {
        let gate = |(name, on, on_failure): &(&str, GateOn, Option<OnFailure>)| Gate {
            name: (*name).to_owned(),
            on: *on,
            on_failure: *on_failure,
        };
        let goal = self.groups.get_mut(&GroupName::parse(group).unwrap()).unwrap();
        goal.gates =
            Some(Gates { list: gates.iter().map(gate).collect(), content: Digest::of(b"questions") });
    }

    /// `km` with `count` nodes, one gate, and what fails.
    fn gated(count: usize, how: &str, failing: &[&str]) -> Self {
        let mut bench = Self::new(&[("km", count, policy(how), &[])]);
        bench.gates("km", &[("login", GateOn::Both, None)]);
        bench.failing = failing.iter().map(|what| (*what).to_owned()).collect();
        bench.apply("new", RestartClass::Restart);
        bench
    }

    fn seconds(&mut self, seconds: u64) {
        (0..seconds).for_each(|_| drop(self.second()));
    }
}

#[test]
fn a_wave_is_followed_by_its_gates_on_its_nodes_and_on_one_that_is_not_changed() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=10s min=0s"), &[])]);
    bench.gates(
        "km",
        &[("login", GateOn::Both, None), ("new", GateOn::New, None), ("old", GateOn::Old, None)],
    );
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s km-1 generation 2
         71s gate login km-1
         71s gate login km-2
         72s gate new km-1
         72s gate old km-2
         73s km-2 generation 2
         143s gate login km-2
         143s gate login km-3
         144s gate new km-2
         144s gate old km-3
         145s km-3 generation 2
         215s gate login km-3
         216s gate new km-3
         217s done",
    );
}

#[test]
fn a_failed_gate_is_a_failure_of_its_wave_whoever_failed_it() {
    for node in ["km-1", "km-2"] {
        let mut bench = Bench::gated(2, "max=1 soak=0s min=0s", &[&format!("login {node}")]);
        check(
            &bench.run(600),
            &format!(
                "1s km-1 generation 2
                 62s gate login km-1
                 62s gate login km-2
                 63s km-1 back generation 3
                 63s rolling-back: gate login failed on {node}: status 500
                 123s rolled-back: gate login failed on {node}: status 500"
            ),
        );
    }
}

#[test]
fn a_gate_may_stop_or_be_tolerated_and_a_tolerated_one_is_told_at_the_end() {
    let run = |choice: OnFailure| {
        let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s"), &[])]);
        bench.fleet.failures_max = Some(Share::Count(1));
        bench.gates("km", &[("login", GateOn::New, Some(choice))]);
        bench.failing.insert("login km-1".to_owned());
        bench.apply("new", RestartClass::Restart);
        let log = bench.run(600);
        let updated = log.contains("km-2 generation 2");
        (updated, log.lines().last().unwrap_or_default().to_owned())
    };
    assert_eq!(run(OnFailure::Stop), (false, "63s failed: gate login failed on km-1: status 500".to_owned()));
    assert_eq!(
        run(OnFailure::Continue),
        (true, "125s failed: gate login failed on km-1: status 500".to_owned())
    );
}

#[test]
fn a_gate_that_is_never_answered_fails_after_the_progress_deadline() {
    let mut bench = Bench::gated(2, "max=1 soak=0s min=0s progress=5m", &["? login km-1"]);
    bench.seconds(70);
    assert_eq!(bench.waiting(), ["km wave 1 is ready; gate login is being asked on km-1 for 9s"]);
    let log = bench.run(600);
    assert!(log.contains("rolling-back: gate login failed on km-1: no answer for 5m1s"), "{log}");
}

/// Seed 3476: for one look the rollout waited without a reason, which the bench refuses.
#[test]
fn a_tolerated_gate_that_is_never_answered_is_followed_by_the_next_wave_at_once() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s progress=5m"), &[])]);
    bench.fleet.failures_max = Some(Share::Count(1));
    bench.gates("km", &[("login", GateOn::New, Some(OnFailure::Continue))]);
    bench.failing.insert("? login km-1".to_owned());
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(900),
        "1s km-1 generation 2
         362s km-2 generation 2
         423s gate login km-2
         424s failed: gate login failed on km-1: no answer for 5m1s",
    );
}

#[test]
fn a_node_that_is_not_connected_is_not_asked_and_holds_the_wave() {
    let mut bench = Bench::gated(2, "max=1 soak=0s min=0s progress=5m", &["? login km-1"]);
    bench.seconds(65);
    bench.node("km-1").connected = false;
    bench.failing.clear();
    // A wave that is watched waits for whoever is away, once nobody watches it any more for so long as progress may take.
    let promoted = bench.rollout().promote().unwrap();
    assert_eq!(
        bench.waiting(),
        ["km cannot soak: km-1 is not connected; if that lasts, it has failed in 5m"]
    );
    bench.rollout = Some(promoted);
    let cannot = ["km wave 1 is ready; gate login cannot be asked on km-1, not connected for 5s"];
    assert_eq!(bench.waiting(), cannot);
    bench.node("km-1").connected = true;
    bench.second();
    check(&bench.log.clone(), "1s km-1 generation 2\n62s gate login km-2\n68s gate login km-1");
}

#[test]
fn nobody_is_asked_while_it_is_paused_and_nobody_is_blamed_for_that_time() {
    let mut bench = Bench::gated(2, "max=1 soak=0s min=0s progress=5m", &["? login km-1", "? login km-2"]);
    bench.seconds(65);
    bench.rollout = Some(bench.rollout().pause("lunch", bench.now).unwrap());
    bench.seconds(3600);
    assert_eq!(bench.waiting(), ["paused: lunch"]);
    bench.failing.clear();
    bench.rollout = Some(bench.rollout().resume(bench.now).unwrap());
    assert!(bench.run(600).ends_with("done\n"));
}

#[test]
fn a_server_that_is_stopped_on_purpose_is_not_asked() {
    let mut bench = Bench::gated(2, "max=2 soak=0s min=0s", &["login km-1"]);
    bench.node("km-1").wish = RunWish::Stopped;
    let log = bench.run(600);
    assert!(log.contains("gate login km-2") && !log.contains("gate login km-1"), "{log}");
    assert!(log.ends_with("done\n"), "{log}");
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let bench = Bench::gated(2, "max=1 soak=0s min=0s", &[]);
    let ask = |wave, gate: &str| Ask {
        group: GroupName::parse("km").unwrap(),
        wave,
        gate: gate.to_owned(),
        node: name("km-1"),
    };
    let rollout = bench.rollout().clone();
    assert_eq!(rollout.answer(&ask(1, "login"), None, Timestamp(1)), None, "another wave");
    assert_eq!(rollout.answer(&ask(0, "other"), None, Timestamp(1)), None, "no such gate");
    let answered = rollout.answer(&ask(0, "login"), None, Timestamp(1)).unwrap();
    assert_eq!(answered.answer(&ask(0, "login"), Some("x".into()), Timestamp(2)), None, "answered before");
    let aborted = rollout.abort(Abort::Leave, "x").unwrap();
    assert_eq!(aborted.answer(&ask(0, "login"), None, Timestamp(1)), None, "it is over");
}

#[test]
fn gates_come_before_a_manual_promotion_which_skips_none() {
    let asked = || {
        let how = "canary=1 promotion=manual soak=0s min=0s";
        let mut bench = Bench::gated(2, how, &["? login km-1"]);
        bench.seconds(70);
        assert_eq!(bench.waiting(), ["km wave 1 is ready; gate login is being asked on km-1 for 9s"]);
        bench
    };
    let mut bench = asked();
    bench.failing.clear();
    bench.seconds(2);
    assert_eq!(bench.waiting(), ["km: the canary is ready; go on with `convoy rollout promote`"]);

    let mut bench = asked();
    bench.rollout = Some(bench.rollout().promote().unwrap());
    bench.seconds(2);
    assert_eq!(bench.waiting(), ["km wave 1 is ready; gate login is being asked on km-1 for 12s"]);
    bench.failing.clear();
    bench.log.clear();
    check(
        &bench.run(2),
        "75s gate login km-1
         76s km-2 generation 2",
    );
}
