//! Agents upgraded one after the other, by commands that stand for the operator's.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use proto::wire::agent;

use super::*;

/// Two nodes with a server each; the agents of `upgraded` have the new version.
fn status(upgraded: &[&str], restarted: bool) -> message::StatusReply {
    let node = |name: &str| {
        let is_new = upgraded.contains(&name);
        let process = agent::Process {
            pid: if is_new && restarted { 99 } else { 40 },
            started_ms: 5,
            ..agent::Process::default()
        };
        let report = agent::Report { process: Some(process), ..agent::Report::default() };
        message::Node {
            name: name.into(),
            group: "km".into(),
            host: format!("{name}.acme"),
            state: "ready".into(),
            connected: true,
            enrolled: true,
            agent_version: if is_new { "0.2.0" } else { "0.1.0" }.into(),
            report: Some(report),
            ..message::Node::default()
        }
    };
    message::StatusReply { nodes: vec![node("is-1"), node("is-2")], ..message::StatusReply::default() }
}

/// A program that notes for whom it ran, and then does `more`.
fn program(dir: &Path, name: &str, more: &str) -> String {
    let path = dir.join(name);
    let text = format!(
        "#!/bin/sh\ncd {}\necho \"{name} $CONVOY_NODE $CONVOY_HOST $CONVOY_GROUP $CONVOY_VERSION\" >> ran\n{more}\n",
        dir.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn ran(dir: &Path) -> String {
    fs::read_to_string(dir.join("ran")).unwrap_or_default()
}

fn script(dir: &Path, restarted: bool) -> Script {
    Script {
        status: status(&[], false),
        status_from: vec![
            (dir.join("done-is-1"), status(&["is-1"], restarted)),
            (dir.join("done-is-2"), status(&["is-1", "is-2"], restarted)),
        ],
        ..Script::default()
    }
}

#[tokio::test]
async fn each_is_upgraded_proved_and_checked_before_the_next_begins() {
    let dir = tempfile::tempdir().unwrap();
    let runner = program(dir.path(), "install", "touch done-$CONVOY_NODE");
    let check = program(dir.path(), "check", "");
    let line = format!("agents upgrade --to 0.2.0 --runner {runner} --check {check} --yes --wait");
    let run = Stage::new(script(dir.path(), false)).run(&line).await;
    assert_eq!(run.exit, Exit::Done, "{}{}", run.out, run.said);
    assert_eq!(
        ran(dir.path()),
        "install is-1 is-1.acme km 0.2.0\ncheck is-1 is-1.acme km 0.2.0\n\
         install is-2 is-2.acme km 0.2.0\ncheck is-2 is-2.acme km 0.2.0\n"
    );
    assert!(
        run.out.contains("is-2 (km): upgraded from 0.1.0") && run.out.contains("still process 40"),
        "{}",
        run.out
    );
    assert!(run.out.ends_with("2 agents upgraded to 0.2.0.\n"), "{}", run.out);

    // Said again there is nothing to do, and a program reads the same.
    let run = Stage::new(script(dir.path(), false)).run(&format!("--json {line}")).await;
    let told: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(
        (run.exit, &told["stopped"], told["done"].as_array().map(Vec::len)),
        (Exit::Done, &serde_json::Value::Null, Some(0))
    );
}

#[tokio::test]
async fn it_stops_at_the_first_whose_command_fails_and_says_its_last_words() {
    let dir = tempfile::tempdir().unwrap();
    let runner = program(dir.path(), "install", "echo 'no such version' >&2; exit 7");
    let line = format!("agents upgrade --to 0.2.0 --runner {runner} --yes");
    let run = Stage::new(script(dir.path(), false)).run(&line).await;
    assert_eq!((run.exit, ran(dir.path()).lines().count()), (Exit::Failed, 1));
    let told = "Stopped at is-1: --runner ended with exit status: 7\n    no such version\n  \
                0 upgraded before it, 1 agent not touched\n";
    assert!(run.out.contains(told), "{}", run.out);
    assert!(run.out.contains("convoy node show is-1"), "{}", run.out);
}

#[tokio::test]
async fn it_stops_where_the_server_was_restarted_and_where_nothing_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let runner = program(dir.path(), "install", "touch done-$CONVOY_NODE");
    let line = format!("agents upgrade --to 0.2.0 --runner {runner} --yes");
    let run = Stage::new(script(dir.path(), true)).run(&line).await;
    let told = "Stopped at is-1: its server is another process: it was 40 and is 99";
    assert!(run.exit == Exit::Failed && run.out.contains(told), "{}", run.out);
    assert_eq!(ran(dir.path()).lines().count(), 1);

    let nothing = tempfile::tempdir().unwrap();
    let runner = program(nothing.path(), "install", "");
    let line = format!("agents upgrade --to 0.2.0 --runner {runner} --yes --timeout 1s");
    let run = Stage::new(script(nothing.path(), false)).run(&line).await;
    let told = "Stopped at is-1: its agent is connected as 0.1.0, 1s after --runner ended";
    assert!(run.exit == Exit::Failed && run.out.contains(told), "{}", run.out);
}

#[tokio::test]
async fn without_a_yes_nothing_runs_and_strangers_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let runner = program(dir.path(), "install", "");
    let run = Stage::new(script(dir.path(), false))
        .run(&format!("agents upgrade --to 0.2.0 --runner {runner}"))
        .await;
    assert_eq!((run.exit, ran(dir.path()).as_str()), (Exit::Refused, ""));
    assert!(
        run.out.contains("2 agents to 0.2.0, in this order:\n  1  is-1  km  from 0.1.0  ready\n"),
        "{}",
        run.out
    );
    let line = format!("agents upgrade --to 0.2.0 --runner {runner} --node is-7 --yes");
    let run = Stage::new(script(dir.path(), false)).run(&line).await;
    assert!(run.exit == Exit::Failed && ran(dir.path()).is_empty(), "{}", run.said);
}
