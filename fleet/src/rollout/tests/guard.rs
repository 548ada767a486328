//! What an operator may take down by hand: the planner's own count.

use super::*;

fn taking_down(bench: &Bench, node: &str) -> String {
    let rules = RolloutRules { policy: bench.fleet.clone(), groups: bench.groups.clone() };
    match may_take_down(&rules, bench.rollout.as_ref(), &bench.view(), &name(node)) {
        Ok(()) => "may".to_owned(),
        Err(reason) => reason.to_string(),
    }
}

#[test]
fn an_operator_takes_nodes_down_within_the_same_budget() {
    let mut bench = Bench::new(&[("km", 3, policy("max=2"), &[]), ("gw", 2, policy("max=1"), &[])]);
    bench.node("km-3").connected = false;
    assert_eq!(taking_down(&bench, "km-1"), "may", "two of km may be down");
    bench.node("km-2").observed.health = Verdict::Unhealthy("ports closed".to_owned());
    assert_eq!(taking_down(&bench, "km-1"), "km has 2 down (km-2, km-3) and max_unavailable = 2 allows 2");
    assert_eq!(
        taking_down(&bench, "km-2"),
        "may",
        "it is down already, so a restart takes nobody out of service"
    );
    assert_eq!(taking_down(&bench, "gw-1"), "may");
    bench.fleet.max_unavailable = Some(Share::Count(2));
    assert_eq!(taking_down(&bench, "gw-1"), "gw waits: 2 down in the whole fleet, which allows 2");
    assert_eq!(taking_down(&bench, "gone-1"), "may");
}

#[test]
fn an_operator_waits_for_the_steps_in_flight() {
    let mut bench = Bench::new(&[("km", 2, policy("max=1"), &[])]);
    bench.apply("new", RestartClass::Restart);
    bench.second();
    assert_eq!(taking_down(&bench, "km-2"), "km has 1 down (km-1) and max_unavailable = 1 allows 1");
    assert_eq!(taking_down(&bench, "km-1"), "may", "its own step does not stand in its way");
}

#[test]
fn a_stop_counts_from_its_commit_and_a_restart_from_its_order() {
    let stopped = |node: &mut Node| node.wish = RunWish::Stopped;
    let restarted = |node: &mut Node| {
        let desired = node.desired.unwrap();
        node.desired = Some(Applied { generation: desired.generation.next(), ..desired });
        node.stuck = true;
    };
    for order in [stopped as fn(&mut Node), restarted as fn(&mut Node)] {
        let mut bench = Bench::new(&[("km", 3, policy("max=1"), &[])]);
        assert_eq!(taking_down(&bench, "km-1"), "may");
        bench.apply("new", RestartClass::Restart);
        // Its last report still says that it serves.
        order(bench.node("km-3"));
        let full = "km has 1 down (km-3) and max_unavailable = 1 allows 1";
        assert_eq!(taking_down(&bench, "km-1"), full);
        assert_eq!(bench.waiting(), [full]);
        assert_eq!(bench.log, "");
    }
}
