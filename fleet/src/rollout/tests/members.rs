//! Nodes that take part, come late, leave, or are still busy with an older rollout.

use super::*;

#[test]
fn a_node_that_returns_late_goes_when_its_wave_was_due_and_one_that_leaves_is_skipped() {
    let mut bench = Bench::new(&[("km", 4, policy("max=2 wave=1 soak=0s min=0s"), &[])]);
    bench.node("km-2").connected = false;
    bench.apply("new", RestartClass::Restart);
    bench.run(1000);
    assert_eq!(bench.waiting(), ["km: not connected: km-2"]);
    assert_eq!(bench.rollout().progress(), (3, 4));
    bench.log.clear();
    let day = 24 * 3600 * 1000;
    bench.now = Timestamp(3 * day);
    bench.node("km-2").connected = true;
    check(
        &bench.run(100),
        "259201s km-2 generation 2
         259261s done",
    );

    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.second();
    bench.nodes.remove(&name("km-1"));
    bench.run(100);
    assert_eq!(bench.rollout().phase, Phase::Done);
    assert_eq!(bench.rollout().steps[&name("km-1")].state.why(), Some("it is no longer in the fleet"));
}

#[test]
fn only_nodes_that_differ_or_failed_take_part() {
    let mut bench = Bench::new(&[("km", 3, policy("soak=0s min=0s"), &[])]);
    bench.apply("old", RestartClass::None);
    assert_eq!((bench.rollout().phase.clone(), bench.rollout().steps.len()), (Phase::Done, 0));
    let failure = Refusal { reason: RefusalReason::StartFailed, detail: String::new(), still_running: None };
    bench.node("km-2").observed.attempted.as_mut().unwrap().failure = Some(failure);
    bench.apply("old", RestartClass::Restart);
    assert_eq!(bench.rollout().steps.keys().map(NodeName::as_str).collect::<Vec<_>>(), ["km-2"]);
}

#[test]
fn a_newer_rollout_watches_what_an_older_one_sent() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1 soak=0s min=0s"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.run(10);
    let old = bench.rollout().supersede(RolloutId(2), bench.now).unwrap();
    assert_eq!(old.word().as_str(), "superseded");
    bench.log.clear();
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(600),
        "61s km-2 generation 2
         121s done",
    );
    // Another bundle replaces what is in flight, counting it as down meanwhile.
    bench.apply("newer", RestartClass::Restart);
    bench.run(10);
    bench.apply("newest", RestartClass::Restart);
    bench.log.clear();
    let log = bench.run(600);
    assert!(log.starts_with("132s km-1 generation 4\n192s km-2 generation 3"), "{log}");
}

#[test]
fn a_number_is_never_given_twice_even_by_an_older_store() {
    let mut bench = Bench::new(&[("km", 1, policy("max=1"), &[])]);
    let newer = Applied { generation: Generation(9), bundle: target("newer").bundle };
    bench.node("km-1").observed.desired = Some(newer);
    bench.apply("new", RestartClass::Restart);
    check(&bench.run(1), "1s km-1 generation 10");
}

/// A simulated rollout waited for ever: "g0 has 1 down (g0-n4) and max_unavailable allows 1", and g0-n4 was to be started by
/// a later wave of that very rollout.
#[test]
fn a_new_node_that_is_not_there_yet_holds_up_nobody_and_comes_last() {
    let mut bench = Bench::new(&[("km", 3, policy("max=1 soak=0s min=0s"), &[])]);
    let new = bench.node("km-3");
    (new.desired, new.connected, new.away_until) = (None, false, Timestamp(20_000));
    (new.observed.attempted, new.observed.written, new.observed.running) = (None, None, None);
    (new.observed.last_good, new.observed.desired) = (None, None);
    (new.observed.service, new.observed.health) =
        (ServiceState::Running, Verdict::Unknown("not probed yet".to_owned()));
    let rules = RolloutRules { policy: bench.fleet.clone(), groups: bench.groups.clone() };
    assert_eq!(may_take_down(&rules, None, &bench.view(), &name("km-1")), Ok(()), "nobody misses it");
    bench.apply("new", RestartClass::Restart);
    check(
        &bench.run(400),
        "1s km-1 generation 2
         61s km-2 generation 2
         121s km-3 generation 1
         181s done",
    );
}

#[test]
fn a_node_that_is_away_holds_up_whoever_follows_the_canary_or_comes_after_its_group() {
    let bench = |rules: &str| {
        let mut bench = Bench::new(&[
            ("gw", 1, policy("soak=0s min=0s"), &["km"]),
            ("km", 3, policy(&format!("{rules} soak=0s min=0s")), &[]),
        ]);
        bench.apply("new", RestartClass::Restart);
        bench.node("km-1").connected = false;
        bench
    };
    let mut canary = bench("canary=1 max=2 wave=2");
    check(&canary.run(500), "");
    let away = "km: not connected: km-1";
    assert_eq!(canary.waiting(), ["gw comes after km, where 3 nodes are not ready yet", away]);

    let mut waves = bench("max=2 wave=1");
    check(
        &waves.run(500),
        "1s km-2 generation 2
         61s km-3 generation 2",
    );
    assert_eq!(waves.waiting(), ["gw comes after km, where 1 node is not ready yet", away]);
    waves.node("km-1").connected = true;
    check(
        &waves.run(500),
        "502s km-1 generation 2
         562s gw-1 generation 2
         622s done",
    );
}

#[test]
fn a_late_node_joins_the_wave_under_way_and_its_soak_and_gates() {
    let mut bench = Bench::new(&[("km", 4, policy("max=2 wave=1 soak=30s min=0s"), &[])]);
    bench.gates("km", &[("login", GateOn::New, None)]);
    bench.apply("new", RestartClass::Restart);
    bench.node("km-1").connected = false;
    bench.node("km-1").away_until = Timestamp(21_000);
    check(
        &bench.run(112),
        "1s km-2 generation 2
         21s km-1 generation 2
         111s gate login km-1
         111s gate login km-2
         112s km-3 generation 2",
    );
}

#[test]
fn a_node_that_changes_its_group_counts_and_goes_with_the_new_one() {
    let rules = || policy("max=1 soak=0s min=0s");
    let mut bench = Bench::new(&[("a", 2, rules(), &[]), ("b", 2, rules(), &[])]);
    let moved = bench.node("a-2");
    (moved.group, moved.connected) = (GroupName::parse("b").unwrap(), false);
    bench.apply("new", RestartClass::Restart);
    assert_eq!(bench.waiting(), ["b has 1 down (a-2) and max_unavailable = 1 allows 1"]);
    bench.node("a-2").connected = true;
    check(
        &bench.run(600),
        "1s a-1 generation 2
         2s b-1 generation 2
         62s b-2 generation 2
         122s a-2 generation 2
         182s done",
    );
}
