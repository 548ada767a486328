//! What operators say while a rollout runs.

use super::*;

#[test]
fn pausing_stops_what_is_new_and_resuming_goes_on() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.second();
    bench.rollout = Some(bench.rollout().pause("lunch", bench.now).unwrap());
    assert!(bench.rollout().pause("again", bench.now).is_err());
    bench.run(200);
    assert_eq!(bench.waiting(), ["paused: lunch"]);
    assert_eq!(bench.rollout().progress(), (1, 2));
    bench.rollout = Some(bench.rollout().resume(bench.now).unwrap());
    check(
        &bench.run(100),
        "203s km-2 generation 2
         263s done",
    );
    let refused = bench.rollout().abort(Abort::Leave, "late").unwrap_err();
    assert_eq!(refused.to_string(), "rollout 1 has ended: done; apply again to start another");
}

/// It was said of servers that somebody had stopped: "km has 3 down, and max_unavailable = 1 allows 1".
#[test]
fn files_of_servers_that_are_stopped_use_no_budget() {
    let mut bench = Bench::new(&[("km", 4, policy("max=1 wave=100% soak=0s min=0s"), &[])]);
    for node in ["km-1", "km-2", "km-3"] {
        let node = bench.node(node);
        (node.wish, node.observed.service, node.observed.running) =
            (RunWish::Stopped, ServiceState::Stopped, None);
    }
    bench.apply("new", RestartClass::Restart);
    let waiting = bench.waiting();
    assert_eq!(bench.log, "1s km-1 generation 2\n1s km-2 generation 2\n1s km-3 generation 2\n");
    // The one that serves has to wait for those that do not.
    assert_eq!(waiting, ["km has 3 down (km-1, km-2, km-3) and max_unavailable = 1 allows 1"]);
}

#[test]
fn an_abort_leaves_or_returns_by_choice() {
    let abort = |how| {
        let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
        bench.apply("new", RestartClass::Restart);
        bench.run(61);
        bench.log.clear();
        bench.rollout = Some(bench.rollout().abort(how, "wrong file").unwrap());
        bench.run(900)
    };
    check(&abort(Abort::Leave), "121s aborted: wrong file");
    check(
        &abort(Abort::Return),
        "62s km-2 back generation 3
         63s km-1 back generation 3
         123s rolled-back: wrong file",
    );
}

#[test]
fn a_manual_canary_waits_for_its_promotion() {
    let mut bench = Bench::new(&[("km", 2, policy("canary=1 promotion=manual soak=30s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    assert!(bench.rollout().promote().is_err());
    bench.run(200);
    assert_eq!(bench.waiting(), ["km: the canary is ready; go on with `convoy rollout promote`"]);
    bench.rollout = Some(bench.rollout().promote().unwrap());
    check(&bench.run(1), "202s km-2 generation 2");
}

#[test]
fn a_pause_holds_what_follows_from_a_failure_and_a_way_back() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
    bench.node("km-2").bad.insert(target("new").bundle);
    bench.apply("new", RestartClass::Restart);
    bench.run(100);
    bench.rollout = Some(bench.rollout().pause("lunch", bench.now).unwrap());
    check(&bench.run(600), "");
    assert_eq!(bench.rollout().steps[&name("km-2")].state.word().as_str(), "failed");
    assert_eq!(bench.waiting(), ["paused: lunch; 1 failed, which is acted on when it is resumed"]);
    bench.rollout = Some(bench.rollout().resume(bench.now).unwrap());
    let why = "km-2: start-deadline: not ready in time";
    check(&bench.run(1), &format!("702s km-2 back generation 3\n702s rolling-back: {why}"));
    bench.rollout = Some(bench.rollout().pause("coffee", bench.now).unwrap());
    check(&bench.run(600), "");
    assert_eq!(bench.waiting(), ["paused: coffee"]);
    bench.rollout = Some(bench.rollout().resume(bench.now).unwrap());
    check(&bench.run(600), &format!("1304s km-1 back generation 3\n1364s rolled-back: {why}"));
}

#[test]
fn a_promotion_cuts_short_a_soak_and_not_the_budget() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=1h min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.run(70);
    bench.node("km-3").connected = false;
    bench.rollout = Some(bench.rollout().promote().unwrap());
    for _ in 0..2 {
        assert_eq!(bench.waiting(), ["km has 1 down (km-3) and max_unavailable = 1 allows 1"]);
    }
    bench.node("km-3").connected = true;
    check(&bench.run(1), "73s km-2 generation 2");
}
