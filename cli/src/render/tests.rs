use fleet::words::*;

use super::*;
use crate::view::*;

const PLAIN: Style = Style { colour: false, width: None };
const NOW: When = When(1_800_000_060_000);

fn ready(name: &str) -> Node {
    let generation = Some(Generation { generation: 9, bundle: "ab".repeat(32) });
    Node {
        name: name.into(),
        group: "key-manager".into(),
        product: "wso2is-7.2".into(),
        host: format!("{name}.acme"),
        zone: None,
        state: NodeWord::Ready.into(),
        state_why: String::new(),
        enrolled: true,
        connected: true,
        last_seen: NOW,
        desired_revision: 7,
        revision_in_force: Some(7),
        standing: Some(Standing::OnNewest),
        standing_why: String::new(),
        desired: generation.clone(),
        report: Some(Report {
            accepted: generation.clone(),
            attempted: None,
            written: generation.clone(),
            running: generation.clone(),
            last_good: generation,
            service: Service {
                state: ServiceWord::Running.into(),
                since: When(NOW.0 - 300_000_000),
                reason: String::new(),
                exits: 0,
            },
            health: Health { verdict: VerdictWord::Healthy.into(), reason: String::new(), since: NOW },
            process: None,
            drift: Vec::new(),
            drift_total: 0,
            drift_pause: None,
            concerns: Vec::new(),
            key_managers: Vec::new(),
            last_output: Vec::new(),
            starts_total: 3,
            vitals: Vitals {
                rss_bytes: None,
                cpu_percent: None,
                threads: None,
                open_files: None,
                disk_free_bytes: None,
                logs_bytes: None,
            },
        }),
        agent_version: "0.1.0".into(),
        agent_since: When(NOW.0 - 3_600_000),
        agent_program: "ab".repeat(32),
        platform: "linux-x86_64".into(),
        certificate_expires: When(0),
    }
}

fn difference() -> DriftEntry {
    DriftEntry {
        path: "repository/conf/deployment.toml".into(),
        kind: "edited".into(),
        action: "reported".into(),
        keys: vec!["server.hostname".into()],
        at: When(NOW.0 - 90_000),
        restored_after_ms: None,
        detail: String::new(),
        editors: Vec::new(),
    }
}

fn status_of(nodes: Vec<Node>) -> Status {
    Status {
        fleet: "acme".into(),
        revision: 7,
        at: NOW,
        coordinator_version: "0.1.0".into(),
        content_of: None,
        store_older: false,
        store_trouble: None,
        alerts_firing: 0,
        alerts_worst: None,
        silences: Vec::new(),
        proposals: Vec::new(),
        nodes,
        rollouts: Vec::new(),
    }
}

fn check(text: &str, expected: &str) {
    assert!(text == expected, "expected:\n{expected}\ngot:\n{text}");
}

#[test]
fn a_coordinator_that_cannot_store_says_so_before_anything_else() {
    let why = "No space left on device".to_owned();
    let mut shown = status_of(vec![ready("is-1")]);
    shown.store_trouble = Some(StoreTrouble::CannotCommit { why });
    let text = status(&shown, PLAIN);
    let second = text.lines().nth(1).unwrap();
    assert!(
        second.starts_with("the coordinator cannot store anything") && second.contains("No space left"),
        "{text}"
    );
    shown.store_trouble = Some(StoreTrouble::LowRoom { free: 3_000_000, reserve: 64_000_000 });
    assert!(status(&shown, PLAIN).contains("3.0 MB left; applies are refused below 64.0 MB"));
}

#[test]
fn only_an_urgent_alert_is_red() {
    let colours = Style { colour: true, width: None };
    for (firing, worst, told) in [
        (1, Some("info"), "\n1 alert fires: convoy alert list\n"),
        (2, Some("warning"), "\n\x1b[33m2 alerts fire: convoy alert list\x1b[0m\n"),
        (2, Some("critical"), "\n\x1b[31m2 alerts fire: convoy alert list\x1b[0m\n"),
        // Of a coordinator that does not say.
        (1, None, "\n\x1b[31m1 alert fires: convoy alert list\x1b[0m\n"),
    ] {
        let mut shown = status_of(vec![ready("is-1")]);
        shown.alerts_firing = firing;
        shown.alerts_worst = worst.map(str::to_owned);
        let text = status(&shown, colours);
        assert!(text.contains(told), "{worst:?}: {text:?}");
    }
}

#[test]
fn a_quiet_fleet_is_a_quiet_screen() {
    check(
        &status(&status_of(vec![ready("is-1"), ready("is-2")]), PLAIN),
        "acme, revision 7, all 2 nodes ready

NODE  GROUP        STATE  SERVER         HEALTH   REVISION  DRIFT  SEEN
is-1  key-manager  ready  running 3d11h  healthy  7         none   now
is-2  key-manager  ready  running 3d11h  healthy  7         none   now
",
    );
}

#[test]
fn what_is_wrong_comes_with_its_reason_and_is_never_cut() {
    let mut gone = ready("is-2");
    gone.state = NodeWord::Unreachable.into();
    gone.state_why = "no heartbeat for 45s; the server was last seen running".into();
    gone.connected = false;
    gone.last_seen = When(NOW.0 - 45_000);
    let mut edited = ready("is-1");
    let report = edited.report.as_mut().unwrap();
    report.drift_total = 2;
    report.drift = vec![difference()];
    let narrow = Style { colour: false, width: Some(60) };
    let text = status(&status_of(vec![edited, gone]), narrow);
    assert!(text.starts_with("acme, revision 7, 2 nodes: 1 ready, 1 unreachable\n"), "{text}");
    let needs = text.split_once("Needs a look\n").map(|(_, rest)| rest).unwrap();
    check(
        needs,
        "  is-1  repository/conf/deployment.toml edited 1m30s ago,
        reported
  is-2  unreachable: no heartbeat for 45s; the server was
        last seen running
  more: convoy node show is-1
",
    );
}

#[test]
fn all_is_not_well_while_a_node_is_behind() {
    let mut behind = ready("is-2");
    behind.revision_in_force = Some(6);
    behind.standing = Some(Standing::Behind);
    behind.standing_why = "rollout 7 was aborted".into();
    let text = status(&status_of(vec![ready("is-1"), behind, ready("is-3")]), PLAIN);
    assert!(
        text.starts_with("acme, 2 of 3 on revision 7; is-2 is behind: rollout 7 was aborted\n"),
        "{text}"
    );
    assert!(text.contains("6, behind") && !text.contains("all 3 nodes ready"), "{text}");
}

#[test]
fn a_restored_older_store_says_what_to_do() {
    let mut node = ready("is-1");
    node.standing = Some(Standing::StoreOlder);
    let status_reply = Status { store_older: true, ..status_of(vec![node]) };
    let text = status(&status_reply, PLAIN);
    assert!(text.contains("the store is older than its agents: apply again\n"), "{text}");
}

#[test]
fn a_node_without_agent_says_how_to_get_one() {
    let mut node = ready("is-1");
    (node.state, node.enrolled, node.connected, node.report) = (NodeWord::Unknown.into(), false, false, None);
    let text = status(&status_of(vec![node]), PLAIN);
    assert!(text.contains("`convoy token create` makes a join token"), "{text}");
}

#[test]
fn json_times_are_rfc_3339_and_never_is_null() {
    let json = serde_json::to_value(ready("is-1")).unwrap();
    assert_eq!(json["last_seen"], "2027-01-15T08:01:00.000Z");
    assert!(json["certificate_expires"].is_null());
}

#[test]
fn what_nobody_has_measured_is_unknown_and_never_0() {
    let mut node = ready("is-1");
    let report = node.report.as_mut().unwrap();
    report.process = Some(Process { pid: 7, started: NOW });
    report.last_output = vec!["INFO - starting".into(), "ERROR - no database".into()];
    let text =
        node_detail(&NodeDetail { node, files: Vec::new(), events: Vec::new(), found: None }, NOW, PLAIN);
    assert!(
        text.contains("memory unknown, unknown of a core, unknown threads, unknown open files"),
        "{text}"
    );
    assert!(text.contains("unknown free, logs unknown"), "{text}");
    assert!(
        text.contains("What the server wrote before it ended\n  INFO - starting\n  ERROR - no database\n"),
        "{text}"
    );
}

#[test]
fn a_server_is_as_old_as_its_process_whoever_adopted_it_when() {
    let mut node = ready("is-1");
    let report = node.report.as_mut().unwrap();
    report.service.since = When(NOW.0 - 5_000);
    report.process = Some(Process { pid: 7, started: When(NOW.0 - 3_600_000 * 30) });
    assert!(node_table(&[node.clone()], NOW, PLAIN).contains("running 1d6h"), "{node:?}");
    node.report.as_mut().unwrap().service.state = ServiceWord::Stopping.into();
    assert!(node_table(&[node.clone()], NOW, PLAIN).contains("stopping 5s"), "{node:?}");
}

#[test]
fn repairs_age_away_and_open_differences_do_not() {
    let repaired = |hours: i64, action: &str| DriftEntry {
        action: action.into(),
        at: When(NOW.0 - hours * 3_600_000),
        ..difference()
    };
    let shown = |entries: Vec<DriftEntry>| {
        let mut node = ready("is-1");
        let report = node.report.as_mut().unwrap();
        (report.drift_total, report.drift) = (9, entries);
        let table = node_table(&[node], NOW, PLAIN);
        table.lines().nth(1).unwrap().to_owned()
    };
    assert!(shown(vec![repaired(2, "restored"), repaired(30, "restored")]).contains("1 repaired"));
    assert!(shown(vec![repaired(30, "restored")]).contains("none"));
    assert!(shown(vec![repaired(30, "reported")]).contains("1 open"));
}

#[test]
fn who_did_it_is_said_once() {
    let of = |text: &str| Event {
        seq: 1,
        at: NOW,
        host_at: None,
        kind: "node-restart".into(),
        node: None,
        text: text.into(),
        fields: std::collections::BTreeMap::new(),
        actor: Some("admin".into()),
        missing: 0,
    };
    let said = |text: &str| event(&of(text), PLAIN);
    assert!(said("admin restarts is-1: a trial").ends_with("  admin restarts is-1: a trial\n"));
    assert!(said("admin: pause rollout 3").ends_with("  admin: pause rollout 3\n"));
    assert!(said("applied revision 3").ends_with("  applied revision 3 (by admin)\n"));
    assert!(said("administrators are told").ends_with("(by admin)\n"));
}

#[test]
fn agents_of_other_versions_are_told_in_the_status_and_listed() {
    let mut old = ready("is-2");
    old.agent_version = "0.0.9".into();
    (old.agent_since, old.agent_program) = (When(0), String::new());
    let mut never = ready("is-3");
    never.agent_version = String::new();
    let fleet = status_of(vec![ready("is-1"), old, never]);
    let text = status(&fleet, PLAIN);
    let line = "1 agent is of another version than the coordinator (0.1.0): convoy agents list --outdated";
    assert_eq!(text.lines().nth(1), Some(line), "{text}");
    check(
        &agent_list(&AgentList::of(&fleet, false), NOW, PLAIN),
        "coordinator 0.1.0; 2 agents: 1 same, 1 older

NODE  GROUP        AGENT  COORDINATOR HAS  SINCE  PROGRAM       PLATFORM      CONNECTED
is-1  key-manager  0.1.0  the same         1h     abababababab  linux-x86_64  yes
is-2  key-manager  0.0.9  a newer one      -      -             linux-x86_64  yes
",
    );
    let outdated = AgentList::of(&fleet, true);
    assert_eq!(outdated.agents.iter().map(|agent| agent.node.as_str()).collect::<Vec<_>>(), ["is-2"]);
    let none = AgentList::of(&status_of(vec![ready("is-1")]), true);
    check(&agent_list(&none, NOW, PLAIN), "coordinator 0.1.0; nothing to list\n");
}
