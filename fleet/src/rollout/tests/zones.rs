//! Zones: never two at once unless said so, and limits of their own.

use super::*;

/// `km-1` and `km-2` in dc1, the others in dc2; the gateways alternate.
fn two_zones(rules: &str) -> Bench {
    let mut bench = Bench::new(&[("km", 4, policy(rules), &[]), ("gw", 2, policy("soak=0s min=0s"), &[])]);
    for (node, zone) in [("km-1", 1), ("km-2", 1), ("km-3", 2), ("km-4", 2), ("gw-1", 1), ("gw-2", 2)] {
        bench.node(node).zone = Some(ZoneName::parse(&format!("dc{zone}")).unwrap());
    }
    bench
}

#[test]
fn one_zone_soaks_before_the_next_begins_also_for_another_group() {
    let mut bench = two_zones("soak=30s min=0s max=2");
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(400),
        "1s gw-1 generation 2
         1s km-1 generation 2
         1s km-2 generation 2
         61s gw-2 generation 2
         91s km-3 generation 2
         91s km-4 generation 2
         181s done",
    );
}

#[test]
fn zones_go_side_by_side_if_said_so() {
    let mut bench = two_zones("soak=0s min=0s max=4");
    bench.fleet.parallel_zones = true;
    bench.apply("new", RestartClass::Restart);
    bench.second();
    let begun = bench.log.lines().filter(|line| line.contains("generation 2")).count();
    assert_eq!(begun, 5, "four of km, one of gw: {}", bench.log);
}

#[test]
fn a_node_that_serves_waits_while_one_of_its_group_is_down_in_another_zone() {
    let mut bench = two_zones("soak=0s min=0s max=2");
    bench.node("km-3").observed.health = Verdict::Unhealthy("ports closed".to_owned());
    let rules = RolloutRules { policy: bench.fleet.clone(), groups: bench.groups.clone() };
    let taking_down =
        |node| may_take_down(&rules, None, &bench.view(), &name(node)).map_err(|why| why.to_string());
    let words = "km-1 of zone dc1 waits for zone dc2, which has 1 down (km-3): zones go one after the other";
    assert_eq!(taking_down("km-1"), Err(words.to_owned()));
    assert_eq!(taking_down("km-3"), Ok(()), "it serves nobody");
    assert_eq!(taking_down("km-4"), Ok(()), "its own zone is the one that is not whole, and two may be down");
    assert_eq!(taking_down("gw-1"), Ok(()), "another group's trouble");
}

#[test]
fn a_zone_has_limits_of_its_own() {
    let mut bench = two_zones("soak=0s min=0s max=4");
    bench.fleet.parallel_zones = true;
    bench
        .groups
        .values_mut()
        .for_each(|group| group.policy.max_unavailable_per_zone = Some(Share::Percent(50)));
    bench.apply("new", RestartClass::Restart);
    bench.second();
    let begun: Vec<&str> = bench.log.split_whitespace().filter(|word| word.starts_with("km-")).collect();
    assert_eq!(begun, ["km-1", "km-3"]);
    let waiting = bench.waiting().join("\n");
    let words = "zone dc1 of km has 1 down (km-1) and max_unavailable_per_zone = 50% allows 1";
    assert!(waiting.contains(words), "{waiting}");

    let mut bench = two_zones("soak=0s min=0s max=4");
    bench.fleet.max_unavailable_per_zone = Some(Share::Count(2));
    bench.apply("new", RestartClass::Restart);
    bench.second();
    let words = "zone dc1 has 2 down (gw-1, km-1) and max_unavailable_per_zone = 2 allows 2";
    assert!(bench.waiting().join("\n").contains(words), "{:?}", bench.waiting());
}

#[test]
fn what_restarts_nothing_and_nodes_without_a_zone_are_in_nobodys_way() {
    let mut bench = two_zones("soak=0s min=0s max=1");
    bench.apply("comments", RestartClass::None);
    bench.second();
    assert_eq!(bench.log.lines().count(), 6, "{}", bench.log);

    let mut bench = two_zones("soak=0s min=0s max=1");
    bench.node("gw-1").zone = None;
    bench.apply("new", RestartClass::Restart);
    bench.second();
    assert!(bench.log.contains("gw-1") && bench.log.contains("km-1"), "{}", bench.log);
}

#[test]
fn a_wait_for_another_zone_names_its_node_for_as_long_as_that_is_down() {
    let mut bench = two_zones("soak=0s min=0s max=2 progress=600s");
    let stopped = bench.node("km-3");
    (stopped.wish, stopped.observed.service, stopped.observed.running) =
        (RunWish::Stopped, ServiceState::Stopped, None);
    bench.apply("new", RestartClass::Restart);
    bench.run(5_000);
    let words = "km-1 of zone dc1 waits for zone dc2, which has 1 down (km-3): zones go one after the other";
    assert_eq!(bench.waiting(), [words], "{}", bench.log);
    assert!(!bench.rollout().phase.is_end(), "whoever stopped it decides, and not the time");
    bench.rollout = Some(bench.rollout().abort(Abort::Leave, "enough").unwrap());
    bench.run(10);
    assert_eq!(bench.rollout().phase.word().as_str(), "aborted");
}

#[test]
fn a_wait_for_another_zone_has_no_deadline() {
    let mut bench = two_zones("soak=0s min=0s max=2 healthy=60s progress=60s");
    bench.apply("new", RestartClass::Restart);
    bench.node("km-3").connected = false;
    check(
        &bench.run(5000),
        "1s gw-1 generation 2
         61s gw-2 generation 2",
    );
    let words = "km-1 of zone dc1 waits for zone dc2, which has 1 down (km-3): zones go one after the other";
    assert_eq!(bench.waiting(), [words]);
    bench.node("km-3").connected = true;
    assert!(bench.run(600).ends_with("done\n"));
}

/// The exceptions that docs/rollouts.md names: they restart one after the other all the same.
#[test]
fn a_canary_and_a_late_node_may_share_a_wave_with_another_zone_and_restart_alone() {
    let mut bench = two_zones("soak=0s min=0s max=4 canary=3");
    bench.apply("new", RestartClass::Restart);
    let waves: Vec<u32> = bench.rollout().steps.values().skip(2).map(|step| step.wave).collect();
    assert_eq!(waves, [0, 0, 0, 1], "the third of the canary is in the other zone");
    let log = bench.run(100);
    assert!(log.contains("1s km-2 generation 2") && log.contains("61s km-3 generation 2"), "{log}");

    let mut bench = two_zones("soak=0s min=0s max=4");
    bench.apply("new", RestartClass::Restart);
    bench.node("km-1").connected = false;
    bench.run(100);
    // dc2, whose wave is under way by then, waits for the rest of dc1.
    bench.node("km-1").away_until = Timestamp(130_000);
    check(
        &bench.run(600),
        "130s km-1 generation 2
         190s km-3 generation 2
         190s km-4 generation 2
         250s done",
    );
    let waves: Vec<u32> = bench.rollout().steps.values().skip(2).map(|step| step.wave).collect();
    assert_eq!(waves, [1, 0, 1, 1]);
}
