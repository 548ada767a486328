//! Whatever a node makes the coordinator say, a terminal shows it and does not act on it.

use proto::wire::agent;

use super::{
    staying::{followed_events, stay},
    *,
};

/// Sets a title, clears the screen, moves the cursor, colours by an 8-bit control, and turns the writing round.
const HOSTILE: &str = "x\u{1b}]0;owned\u{7}\u{1b}[2J\r\u{8}\u{9b}35m\u{202e}y\u{7f}";

fn report() -> agent::Report {
    let text = || HOSTILE.to_owned();
    let applied = agent::Applied { generation: u64::MAX, bundle: vec![7; 32] };
    let refusal = agent::Refusal { reason: text(), detail: text(), still_running: Some(applied.clone()) };
    agent::Report {
        desired: Some(applied.clone()),
        attempted: Some(agent::Attempt {
            target: Some(applied.clone()),
            failure: Some(refusal),
            done: true,
            ..agent::Attempt::default()
        }),
        written: Some(applied.clone()),
        running: Some(applied.clone()),
        last_good: Some(applied),
        service: Some(agent::ServiceState {
            state: text(),
            since_ms: i64::MIN,
            reason: text(),
            exits: u32::MAX,
            until_ms: i64::MAX,
        }),
        health: Some(agent::Verdict { verdict: text(), reason: text(), since_ms: i64::MAX }),
        process: Some(agent::Process { pid: u32::MAX, start_id: text(), started_ms: i64::MIN }),
        drift: vec![agent::Drift {
            path: text(),
            kind: text(),
            action: text(),
            keys: vec![text()],
            at_ms: i64::MIN,
            restored_after_us: u64::MAX,
            detail: text(),
            editors: vec![agent::Editor {
                pid: u32::MAX,
                process: text(),
                user: text(),
                login: text(),
                parent: text(),
                terminal: text(),
                remote: text(),
                server: false,
                circumstances: Some(agent::Circumstances { owner: text(), terminals: vec![text(); 20] }),
            }],
        }],
        drift_total: u32::MAX,
        starts_total: u64::MAX,
        vitals: Some(agent::Vitals {
            rss_bytes: u64::MAX,
            cpu_percent: f32::NAN,
            threads: u32::MAX,
            open_files: u32::MAX,
            disk_free_bytes: u64::MAX,
            logs_bytes: u64::MAX,
        }),
        pack_digest: text(),
        drift_pause: Some(agent::DriftPause { paused: true, reason: text(), until_ms: i64::MAX }),
        original: None,
        concerns: vec![agent::Concern { kind: text(), detail: text(), remedy: text() }],
        key_managers: vec![agent::KeyManagerSeen { name: text(), state: 99, looked_ms: Some(1) }],
        last_output: vec![text()],
    }
}

fn host() -> message::HostReply {
    use agent::found_entry::Found;
    let text = || HOSTILE.to_owned();
    let file = agent::FoundFile {
        digest: vec![7; 32],
        meaning: vec![7; 32],
        size: u64::MAX,
        mode: u32::MAX,
        owner: text(),
        group: text(),
        modified_ms: i64::MAX,
    };
    let all = [None, Some(Found::File(file)), Some(Found::Other(text())), Some(Found::Unreadable(text()))];
    let facts = agent::HostFacts {
        at_ms: i64::MIN,
        home: text(),
        product: Some(agent::FoundProduct { id: text(), name: text(), version: text() }),
        offset: Some(u32::MAX),
        server: Some(agent::FoundServer { state: text(), since_ms: i64::MAX, config_unread: true }),
        started: true,
        keystores: vec![text()],
        entries: all.into_iter().map(|found| agent::FoundEntry { path: text(), found }).collect(),
        original: None,
        allowed: None,
        peers: Vec::new(),
        key_managers: None,
        databases: Vec::new(),
    };
    message::HostReply {
        facts: Some(facts),
        received_ms: i64::MAX,
        not_now: text(),
        config: Some(HOSTILE.as_bytes().to_vec()),
    }
}

fn node() -> message::Node {
    let text = || HOSTILE.to_owned();
    message::Node {
        name: text(),
        group: text(),
        product: text(),
        host: text(),
        connected: true,
        desired: None,
        desired_revision: u64::MAX,
        last_seen_ms: i64::MAX,
        report: Some(report()),
        state: text(),
        state_why: text(),
        agent_version: text(),
        agent_since_ms: i64::MAX,
        agent_program: vec![0xff; 32],
        certificate_expires_ms: i64::MAX,
        enrolled: true,
        platform: text(),
        revision_in_force: u64::MAX,
        standing: message::Standing::Behind.into(),
        standing_why: text(),
        zone: text(),
    }
}

fn event() -> message::Event {
    let text = || HOSTILE.to_owned();
    message::Event {
        seq: u64::MAX,
        at_ms: i64::MAX,
        kind: text(),
        node: text(),
        text: text(),
        fields: [(text(), text())].into(),
        actor: text(),
        host_at_ms: Some(i64::MIN),
        missing: u64::MAX,
    }
}

fn finding() -> message::Finding {
    let text = || HOSTILE.to_owned();
    message::Finding {
        code: text(),
        severity: text(),
        file: text(),
        line: u32::MAX,
        column: u32::MAX,
        line_text: text(),
        message: text(),
        remedy: text(),
        node: text(),
    }
}

fn plan() -> message::PlanReply {
    let text = || HOSTILE.to_owned();
    let file = message::FileChange {
        path: text(),
        change: text(),
        old_size: u64::MAX,
        new_size: u64::MAX,
        restart: text(),
        diff: format!("@@ -1 +1 @@\n-{HOSTILE}\n+{HOSTILE}\n"),
        restart_why: text(),
        note: text(),
        settings: vec![text()],
    };
    let effects = message::Effects {
        pack_digest: text(),
        pack_before: text(),
        files: vec![message::RenderedFile {
            path: text(),
            change: text(),
            added: u32::MAX,
            removed: u32::MAX,
            diff: format!("-{HOSTILE}\n"),
        }],
        derived: vec![message::DerivedKey { key: text(), old: Some(text()), new: Some(text()), why: text() }],
        unrendered: text(),
        ..message::Effects::default()
    };
    let node = message::NodePlan {
        node: text(),
        group: text(),
        change: text(),
        files: vec![file],
        keys: vec![message::KeyChange { key: text(), old: text(), new: text(), place: text() }],
        kept: vec![message::KeyChange { key: text(), old: text(), new: text(), place: text() }],
        restart: text(),
        restart_why: text(),
        settings: vec![text()],
        effects: Some(effects),
        pack_unknown: text(),
        overwritten: vec![message::Overwritten { path: text(), kind: text() }],
        source: text(),
        source_ms: i64::MIN,
        source_why: text(),
        adoption: text(),
        unmanaged: vec![message::Unmanaged {
            path: text(),
            kind: "paused-edit".into(),
            keys: vec![text()],
            by: text(),
            reason: text(),
            until_ms: i64::MAX,
        }],
        unpacked_keys: u64::MAX,
        unpacked_files: u64::MAX,
    };
    let note = message::PlanNote { kind: text(), node: text(), group: text(), text: text(), change: true };
    message::PlanReply {
        notes: vec![note],
        signers: text(),
        signed_by: text(),
        base_revision: u64::MAX,
        nodes: vec![node],
        findings: vec![finding()],
        waves: vec![text()],
        unchanged: u64::MAX,
        estimate: Some(message::Estimate { left_ms: Some(u64::MAX), unknown: u32::MAX }),
        ..message::PlanReply::default()
    }
}

fn rollout() -> message::Rollout {
    let text = || HOSTILE.to_owned();
    message::Rollout {
        id: 1,
        author: text(),
        message: text(),
        state: text(),
        groups: vec![message::RolloutGroup {
            group: text(),
            state: text(),
            nodes: vec![message::RolloutNode {
                node: text(),
                state: text(),
                detail: text(),
                ..message::RolloutNode::default()
            }],
        }],
        waiting: vec![text()],
        ..message::Rollout::default()
    }
}

fn script() -> Script {
    let text = || HOSTILE.to_owned();
    let (node, event) = (node(), event());
    let rollout = rollout();
    let status = message::StatusReply { fleet: text(), nodes: vec![node.clone()], ..Default::default() };
    Script {
        plan: plan(),
        apply: message::ApplyReply {
            refused: true,
            refusal: text(),
            findings: vec![finding()],
            ..message::ApplyReply::default()
        },
        watched: [status].into(),
        breaks: true,
        status: message::StatusReply {
            fleet: text(),
            nodes: vec![node.clone()],
            rollouts: vec![rollout.clone()],
            coordinator_version: text(),
            proposals: vec![proposal(), message::Proposal { state: "outdated".to_owned(), ..proposal() }],
            store_trouble: Some(message::StoreTrouble {
                trouble: Some(message::store_trouble::Trouble::CannotCommit(text())),
            }),
            ..message::StatusReply::default()
        },
        node: message::NodeReply {
            node: Some(node),
            files: vec![message::BundleFile {
                path: text(),
                drift: text(),
                restart: text(),
                digest: text(),
                ..message::BundleFile::default()
            }],
            events: vec![event.clone()],
            found: Some(host()),
        },
        host: host(),
        rollouts: [(1, rollout)].into(),
        command: message::CommandReply { ok: false, detail: text(), guard: false },
        differences: message::DriftReply {
            plan: plan().nodes.into_iter().next(),
            unknown: String::new(),
            omitted: u64::MAX,
        },
        events: vec![event],
        secrets: vec![secret()],
        operators: vec![operator()],
        audit: vec![audit_entry()],
        alerts: alerts(),
        proposals: vec![proposal()],
        revisions: vec![revision()],
        configuration: configuration(),
        logs: vec![message::LogLines { lines: vec![text()], notes: vec![text()] }],
        ..Script::default()
    }
}

fn alerts() -> message::ListAlertsReply {
    let text = || HOSTILE.to_owned();
    let alert = message::Alert {
        rule: "server-down".into(),
        severity: text(),
        title: text(),
        subject: text(),
        node: text(),
        group: text(),
        state: message::AlertState::Firing.into(),
        reason: text(),
        since_ms: i64::MAX,
        ended_ms: i64::MIN,
        flapping: true,
        hidden: text(),
        next: text(),
        sent_to: vec![text()],
    };
    let channel = message::AlertChannel {
        name: text(),
        kind: text(),
        least: text(),
        arrived_ms: i64::MAX,
        failing_ms: i64::MIN,
        tries: u32::MAX,
        why: text(),
    };
    let silence = message::Silence {
        id: u64::MAX,
        node: text(),
        group: text(),
        rule: text(),
        from_ms: i64::MIN,
        until_ms: i64::MAX,
        reason: text(),
        by: text(),
    };
    message::ListAlertsReply {
        at_ms: i64::MAX,
        alerts: vec![alert],
        channels: vec![channel],
        silences: vec![silence],
    }
}

fn revision() -> message::Revision {
    let text = || HOSTILE.to_owned();
    message::Revision {
        number: u64::MAX,
        parent: u64::MAX,
        author: text(),
        message: text(),
        created_ms: i64::MAX,
        rolls_back_to: u64::MAX,
        origin: Some(message::Origin { commit: text(), branch: text(), author: text(), changed: u32::MAX }),
        changed: text(),
        left_out: vec![text()],
        approved_by: text(),
        proposal: u64::MAX,
        broke_glass: text(),
        signature: Some(message::Signature { key: text(), statement: text(), text: text() }),
    }
}

fn configuration() -> message::ConfigurationReply {
    let text = || HOSTILE.to_owned();
    let file = message::ConfigurationFile { path: text(), node: text(), text: text(), left_out: text() };
    let shown = message::ConfigurationFile { left_out: String::new(), ..file.clone() };
    message::ConfigurationReply { revision: u64::MAX, files: vec![file, shown] }
}

fn proposal() -> message::Proposal {
    let text = || HOSTILE.to_owned();
    message::Proposal {
        id: u64::MAX,
        base: u64::MAX,
        author: text(),
        message: text(),
        created_ms: i64::MAX,
        expires_ms: i64::MIN,
        state: text(),
        asked: text(),
        groups: vec![text()],
        fleet: true,
        rolls_back_to: u64::MAX,
        origin: Some(message::Origin { commit: text(), branch: text(), author: text(), changed: u32::MAX }),
        decided_by: text(),
        decided_ms: i64::MAX,
        reason: text(),
        revision: u64::MAX,
        windows_overridden: text(),
        signed_by: text(),
    }
}

fn secret() -> message::SecretInfo {
    let text = || HOSTILE.to_owned();
    message::SecretInfo { name: text(), changed_ms: i64::MAX, changed_by: text(), groups: vec![text()] }
}

fn operator() -> message::OperatorInfo {
    let text = || HOSTILE.to_owned();
    message::OperatorInfo {
        name: text(),
        grant: Some(message::Grant { role: 3, groups: Vec::new() }),
        by: text(),
        since_ms: i64::MAX,
        joined_ms: i64::MIN,
        certificate_expires_ms: i64::MAX,
        you: true,
    }
}

fn audit_entry() -> message::AuditEntry {
    let text = || HOSTILE.to_owned();
    message::AuditEntry {
        seq: u64::MAX,
        at_ms: i64::MAX,
        actor: text(),
        certificate_serial: text(),
        act: "restart".to_owned(),
        node: String::new(),
        text: text(),
        outcome: "denied".to_owned(),
        order: 0,
        why: text(),
        link: vec![1; 32],
        from: "10.0.0.7".to_owned(),
    }
}

/// The output without what our own style may put into it.
fn without_colours(text: &str) -> String {
    ["0", "1", "2", "31", "32", "33"]
        .iter()
        .fold(text.to_owned(), |text, code| text.replace(&format!("\u{1b}[{code}m"), ""))
}

const COMMANDS: [&str; 59] = [
    "status",
    "agents list",
    "agents upgrade --to 9.9.9 --runner true --yes --timeout 1s",
    "node list",
    "node show is-1",
    "node restart is-1 --reason x",
    "drift list",
    "drift show is-1",
    "events",
    "rollout list",
    "rollout show 1",
    "rollout pause 1 --why x",
    "rollout resume 1 --why x",
    "rollout abort 1 --why x",
    "rollout promote 1 --why x",
    "plan DIR",
    "plan DIR --diff",
    "apply DIR --yes",
    "rollback --yes",
    "node stop is-1 --why x --yes",
    "node start is-1",
    "node forget is-1 --yes",
    "drift restore is-1",
    "drift accept is-1 repository/conf/deployment.toml",
    "drift pause is-1 --reason x --for 1h",
    "drift resume is-1",
    "token create --node is-1",
    "secret list",
    "secret set db",
    "secret remove db --yes",
    "secret grant db --group km",
    "operator list",
    "audit list",
    "audit export",
    "audit verify",
    "operator add bob --role viewer",
    "operator set bob --role viewer",
    "operator remove bob --yes",
    "node revoke is-1 --yes",
    "node admit - --yes",
    "import is-1 --out DIR/new",
    "alert list",
    "alert list --all",
    "alert show server-down",
    "alert test ops",
    "silence add is-1 --for 2h --reason x",
    "silence list",
    "silence remove 1",
    "maintenance is-1 --for 2h --reason x",
    "proposal list --all",
    "support-bundle --node is-1 --out DIR/bundle.zip",
    "proposal show 1",
    "approve 1 --yes",
    "reject 1 --reason x",
    "apply DIR --yes --break-glass x",
    "revision list",
    "revision show 1",
    "logs is-1",
    "logs is-1 --audit --since 2h --grep x",
];

/// They ask no coordinator.
const LOCAL: [&str; 10] = [
    "lint",
    "render",
    "explain",
    "schema",
    "trust",
    "completions",
    "man",
    "join",
    "context list",
    "context use",
];

/// Every command by its words: `rollout show`.
fn leaves(command: &clap::Command, above: &str) -> Vec<String> {
    let below = |child: &clap::Command| leaves(child, format!("{above} {}", child.get_name()).trim());
    if command.get_subcommands().next().is_none() {
        return vec![above.to_owned()];
    }
    command.get_subcommands().flat_map(below).collect()
}

#[test]
fn every_command_that_asks_a_coordinator_is_tried() {
    let all = leaves(&<args::Typed as clap::CommandFactory>::command(), "");
    assert!(all.contains(&"rollout promote".to_owned()), "{all:?}");
    let is_tried = |leaf: &String| {
        LOCAL.contains(&leaf.as_str())
            || COMMANDS.iter().any(|tried| format!("{tried} ").starts_with(&format!("{leaf} ")))
    };
    let missing: Vec<&String> = all.iter().filter(|leaf| !is_tried(leaf)).collect();
    assert_eq!(missing, [""; 0]);
}

#[tokio::test]
async fn no_command_shows_a_terminal_anything_that_it_would_act_on() {
    let dir = fleet_dir();
    let coloured = Terminal { colour: true, width: Some(100), ..NOBODY };
    for command in COMMANDS {
        for (terminal, json) in [(NOBODY, ""), (coloured, ""), (NOBODY, " --json")] {
            let run = Stage { terminal, typed_answer: "value\n", ..Stage::new(script()) }
                .run(&format!("{}{json}", command.replace("DIR", dir.path().to_str().unwrap())))
                .await;
            assert!(!run.out.is_empty() || !run.said.is_empty(), "{command} says nothing");
            let shown = without_colours(&format!("{}{}", run.out, run.said));
            let bad = shown.chars().find(|&c| {
                c.is_control() && c != '\n' && c != '\t' || ('\u{202a}'..='\u{202e}').contains(&c)
            });
            assert_eq!(bad, None, "{command}{json}: {shown:?}");
            if command == "node show is-1" && !json.is_empty() {
                let value: serde_json::Value = serde_json::from_str(&run.out).unwrap();
                assert!(value.to_string().contains("owned"));
            }
        }
    }
}

#[tokio::test]
async fn a_watched_status_shows_a_terminal_nothing_that_it_would_act_on() {
    let run = stay(script(), Remote::Status { watch: true }, "owned").await;
    let bad = run.out.chars().find(|&c| c.is_control() && c != '\n' && c != '\t');
    assert_eq!(bad, None, "{:?}", run.out);
}

#[tokio::test]
async fn followed_events_show_a_terminal_nothing_that_it_would_act_on() {
    let run = stay(script(), followed_events(), "owned").await;
    let bad = run.out.chars().find(|&c| c.is_control() && c != '\n' && c != '\t');
    assert_eq!(bad, None, "{:?}", run.out);
}

#[tokio::test]
async fn a_refusal_of_the_coordinator_is_shown_and_does_nothing() {
    let script = Script { refusal: Some(tonic::Status::internal(HOSTILE)), ..Script::default() };
    let run = Stage::new(script).run("status").await;
    assert!(!run.said.contains('\u{1b}') && !run.out.contains('\u{1b}'), "{:?}", run.said);
}
