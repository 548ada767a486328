use fleet::words::Said;

use super::*;
use crate::{client::fake, view::When};

fn node(name: &str, group: &str, zone: Option<&str>) -> Node {
    let mut node = fake::node(name, group, "ready");
    (node.connected, node.agent_version) = (true, "0.1.0".to_owned());
    node.zone = zone.map(str::to_owned);
    node
}

fn status(nodes: Vec<Node>) -> Status {
    Status { nodes, ..fake::status() }
}

/// With a server as this process.
fn serving(mut node: Node, version: &str, pid: u32, started: i64) -> Node {
    let mut report = fake::report();
    report.process = Some(Process { pid, started: When(started) });
    (node.report, node.agent_version) = (Some(report), version.to_owned());
    node
}

#[test]
fn groups_go_in_the_order_of_the_newest_rollout_and_zones_one_after_the_other() {
    let fleet = status(vec![
        node("gw-1", "gateway", None),
        node("is-1", "km", Some("b")),
        node("is-2", "km", Some("a")),
        node("is-3", "km", Some("b")),
        node("new-1", "added", None),
        Node { agent_version: "0.2.0".to_owned(), ..node("is-4", "km", Some("a")) },
        Node { agent_version: String::new(), ..node("is-5", "km", Some("a")) },
    ]);
    let newest = fake::rollout(&["km", "gateway"]);
    let names = |only: &Only| {
        order(&fleet, Some(&newest), only, "0.2.0").iter().map(|node| node.name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(names(&Only::default()), ["is-2", "is-1", "is-3", "gw-1", "new-1"]);
    let km = fleet::ids::GroupName::parse("km").unwrap();
    assert_eq!(names(&Only { nodes: Vec::new(), groups: vec![km] }), ["is-2", "is-1", "is-3"]);
    let stranger = fleet::ids::NodeName::parse("is-9").unwrap();
    assert_eq!(unknown(&fleet, &Only { nodes: vec![stranger], groups: Vec::new() }), ["node is-9"]);
}

#[test]
fn nothing_begins_where_the_group_could_not_bear_a_loss() {
    let is = |state: &str| Node { state: Said::of(state), ..node("is-2", "km", None) };
    let first = node("is-1", "km", None);
    let held = |fleet: &Status| held_back(fleet, &first);
    for state in ["ready", "stopped", "idle", "not-joined"] {
        assert_eq!(held(&status(vec![first.clone(), is(state)])), None, "{state}");
    }
    for state in ["unreachable", "failed", "updating", "starting", "gliding"] {
        let why = held(&status(vec![first.clone(), is(state)]));
        assert_eq!(why, Some(format!("in its group is-2 is {state}")));
    }
    let elsewhere = Node { group: "gateway".to_owned(), ..is("failed") };
    assert_eq!(held(&status(vec![first.clone(), elsewhere])), None);
    let mut rolling = status(vec![first.clone()]);
    rolling.rollouts = vec![fake::rollout(&["km"])];
    assert_eq!(held(&rolling), Some("rollout 7 is under way".to_owned()));
    rolling.rollouts[0].state = RolloutWord::Paused.into();
    assert_eq!(held(&rolling), None);
    let away = Node { connected: false, ..first.clone() };
    assert_eq!(held_back(&status(vec![away.clone()]), &away), Some("is-1 is not connected".to_owned()));
}

#[test]
fn an_upgrade_is_proved_by_the_same_process_and_nothing_that_is_worse() {
    let before = serving(node("is-1", "km", None), "0.1.0", 40, 5);
    let now = |node: Node| proof(&before, Some(&node), "0.2.0");
    let after = serving(node("is-1", "km", None), "0.2.0", 40, 5);
    assert_eq!(now(after.clone()), Proof::Upgraded);
    let waits = |node: Node, wanted: &str| match now(node) {
        Proof::NotYet(why) => assert!(why.contains(wanted), "{why}"),
        other => panic!("{other:?}, not {wanted}"),
    };
    waits(Node { connected: false, ..after.clone() }, "is not connected");
    waits(Node { agent_version: "0.1.0".to_owned(), ..after.clone() }, "connected as 0.1.0");
    let mut alone = after.clone();
    alone.report.as_mut().unwrap().process = None;
    waits(alone, "not adopted the server, process 40");
    waits(Node { state: NodeWord::Unhealthy.into(), ..after.clone() }, "it was ready and is unhealthy");
    let mut concerned = after.clone();
    let concern =
        crate::view::Concern { kind: "disk-low".into(), detail: "1 MB".into(), remedy: String::new() };
    concerned.report.as_mut().unwrap().concerns = vec![concern];
    waits(concerned, "new concern, disk-low: 1 MB");
    for (pid, started) in [(41, 5), (40, 6)] {
        let other = serving(node("is-1", "km", None), "0.2.0", pid, started);
        assert!(
            matches!(now(other), Proof::Harmed(why) if why.contains("another process")),
            "{pid} {started}"
        );
    }
    assert!(matches!(proof(&before, None, "0.2.0"), Proof::NotYet(_)));
}
