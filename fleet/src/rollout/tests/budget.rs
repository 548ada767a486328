//! Who counts as down, how long that is waited for, and shares of a group.

use super::*;

#[test]
fn a_wait_for_the_budget_has_no_deadline() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s healthy=60s progress=60s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.node("km-2").connected = false;
    check(&bench.run(5000), "");
    assert_eq!(bench.waiting(), ["km has 1 down (km-2) and max_unavailable = 1 allows 1"]);
    bench.node("km-2").connected = true;
    check(
        &bench.run(600),
        "5002s km-1 generation 2
         5062s km-2 generation 2
         5122s done",
    );
}

#[test]
fn a_node_that_takes_no_part_is_counted_like_those_that_do() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
    let there = Applied { generation: Generation(1), bundle: target("new").bundle };
    let third = bench.node("km-3");
    (third.desired, third.observed) = (Some(there), healthy(there));
    third.observed.health = Verdict::Unhealthy("ports closed".to_owned());
    bench.apply("new", RestartClass::Restart);
    let taking_part: Vec<&str> = bench.rollout().steps.keys().map(NodeName::as_str).collect();
    assert_eq!(taking_part, ["km-1", "km-2"]);
    assert_eq!(bench.waiting(), ["km has 1 down (km-3) and max_unavailable = 1 allows 1"]);
    bench.node("km-3").observed.health = Verdict::Healthy;
    check(
        &bench.run(600),
        "2s km-1 generation 2
         62s km-2 generation 2
         122s done",
    );
}

#[test]
fn shares_of_a_group_are_rounded_to_the_careful_side_where_they_are_used() {
    let rules = "canary=25% max=25% wave=50% soak=0s min=0s fail=continue";
    let mut bench = Bench::new(&[("km", 7, policy(rules), &[])]);
    bench.fleet.failures_max = Some(Share::Percent(25));
    for node in ["km-1", "km-2"] {
        bench.node(node).bad.insert(target("new").bundle);
    }
    bench.apply("new", RestartClass::Restart);
    let waves: Vec<u32> = bench.rollout().steps.values().map(|step| step.wave).collect();
    assert_eq!(waves, [0, 0, 1, 1, 1, 2, 2]);
    assert_eq!(bench.waiting(), ["km has 1 down (km-1) and max_unavailable = 25% allows 1"]);
    check(
        &bench.run(600),
        "1s km-1 generation 2
         61s km-2 generation 2
         121s km-1 back generation 3
         121s km-2 back generation 3
         121s rolling-back: 2 failed, 1 are tolerated; km-2: start-deadline: not ready in time
         122s rolled-back: 2 failed, 1 are tolerated; km-2: start-deadline: not ready in time",
    );
}
