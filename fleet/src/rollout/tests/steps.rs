//! What a single step needs to begin, what ends it, and what becomes of its node.

use super::*;

fn in_windows(bench: &mut Bench, window: &Window) {
    bench.groups.values_mut().for_each(|group| group.policy.windows = vec![window.clone()]);
}

#[test]
fn a_step_that_has_begun_ends_and_returns_after_its_window_has_closed() {
    let mut bench = Bench::new(&[("km", 3, policy("max=2 soak=0s min=0s"), &[])]);
    in_windows(&mut bench, &window(1, WindowUse::Any, Overrun::Finish));
    let first = bench.node("km-1");
    first.start = 90;
    first.bad.insert(target("new").bundle);
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "60s km-1 generation 2
         60s km-2 generation 2
         150s km-1 back generation 3
         150s km-2 back generation 3
         150s rolling-back: km-1: start-deadline: not ready in time
         210s rolled-back: km-1: start-deadline: not ready in time",
    );
}

#[test]
fn a_window_for_writes_limits_only_writes() {
    let bench = |restart| {
        let mut bench = Bench::new(&[("km", 1, policy("soak=0s min=0s"), &[])]);
        in_windows(&mut bench, &window(2, WindowUse::Write, Overrun::Finish));
        bench.node("km-1").start = 2;
        bench.apply("new", restart);
        bench
    };
    check(
        &bench(RestartClass::Restart).run(200),
        "1s km-1 generation 2
         3s done",
    );
    let mut writes = bench(RestartClass::None);
    let closed = ["km waits for its maintenance window, which opens at 1970-01-01 00:02 UTC"];
    assert_eq!(writes.waiting(), closed);
    check(
        &writes.run(200),
        "120s km-1 generation 2
         122s done",
    );
}

#[test]
fn what_became_ready_is_kept_if_a_way_back_fails() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
    bench.node("km-2").bad.extend([target("new").bundle, target("old").bundle]);
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "1s km-1 generation 2
         61s km-2 generation 2
         121s km-2 back generation 3
         121s rolling-back: km-2: start-deadline: not ready in time
         122s failed: km-2: start-deadline: not ready in time; 2 could not be returned",
    );
    let states: Vec<&str> = bench.rollout().steps.values().map(|step| step.state.word().as_str()).collect();
    assert_eq!(states, ["ready", "return-failed", "skipped"]);
    assert_eq!(bench.node("km-1").desired.unwrap().bundle, target("new").bundle);
    assert_eq!(bench.run(60), "", "nothing moves until somebody applies");
}

#[test]
fn comments_are_written_at_once_in_the_first_wave_after_the_canary() {
    let mut bench = Bench::new(&[("km", 4, policy("max=1 canary=1 soak=30s min=10s"), &[])]);
    bench.nodes.values_mut().for_each(|node| node.start = 1);
    bench.apply("comments", RestartClass::None);
    check(
        &bench.run(600),
        "1s km-1 generation 2
         3s km-2 generation 2
         3s km-3 generation 2
         3s km-4 generation 2
         5s done",
    );
}

#[test]
fn a_commit_that_is_still_open_on_the_node_makes_the_step_a_restart() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1"), &[])]);
    bench.nodes.values_mut().for_each(|node| node.start = 1);
    let busy = bench.node("km-1");
    busy.stuck = true;
    busy.desired = Some(Applied { generation: Generation(2), bundle: target("old").bundle });
    bench.node("km-3").observed.health = Verdict::Unhealthy("ports closed".to_owned());
    bench.apply("comments", RestartClass::None);
    // Whatever is only written goes at once; a restart has to wait for the budget.
    assert_eq!(bench.waiting(), ["km has 2 down (km-1, km-3) and max_unavailable = 1 allows 1"]);
    check(
        &bench.run(2),
        "1s km-3 generation 2
         1s km-2 generation 2
         3s km-1 generation 3",
    );
    assert!(bench.rollout().steps[&name("km-1")].flight().unwrap().restarts);
}

#[test]
fn a_node_that_is_connected_and_gets_no_further_has_failed_after_the_progress_deadline() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s healthy=60s progress=60s"), &[])]);
    bench.node("km-1").stuck = true;
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(62),
        "1s km-1 generation 2
         62s km-1 back generation 3
         62s rolling-back: km-1: no progress for 1m1s",
    );
    bench.node("km-1").stuck = false;
    check(&bench.run(600), "63s rolled-back: km-1: no progress for 1m1s");

    // One that gets further within that time is progress of the whole group.
    let mut bench = Bench::new(&[("km", 2, policy("max=2 soak=0s min=0s healthy=60s progress=60s"), &[])]);
    bench.node("km-1").stuck = true;
    bench.node("km-2").start = 50;
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(112),
        "1s km-1 generation 2
         1s km-2 generation 2
         112s km-1 back generation 3
         112s km-2 back generation 3
         112s rolling-back: km-1: no progress for 1m1s",
    );
}

#[test]
fn a_node_that_vanishes_in_flight_is_given_nothing_if_it_may_still_serve() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s healthy=60s progress=60s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.second();
    // Its last word was that its server serves with what it had before.
    bench.node("km-1").connected = false;
    check(
        &bench.run(600),
        "1s km-1 generation 2
         62s rolling-back: km-1: not connected, no progress for 1m1s
         123s failed: km-1: not connected, no progress for 1m1s; not connected, so it is not known to be back: km-1",
    );
    assert_eq!(bench.rollout().steps[&name("km-1")].state.word().as_str(), "return-unseen");
    assert_eq!(bench.node("km-1").desired.unwrap().bundle, target("new").bundle);
}
