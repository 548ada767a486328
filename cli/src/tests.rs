//! Commands against a fake coordinator, as transcripts: what was typed, what was shown, how it ended, what was asked.

#![allow(clippy::disallowed_methods, reason = "a panic of a task fails the test that waits for it")]

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::{Arc, Mutex},
};

use clap::Parser as _;

use super::*;
use crate::{
    client::fake::{self, Script, message},
    screen::Terminal,
};

mod admit;
mod drift;
mod hostile;
mod hosts;
mod plan;
mod rollouts;
mod staying;
mod tokens;
#[cfg(unix)]
mod upgrade;

const NOBODY: Terminal = Terminal { can_ask: false, is_live: false, colour: false, width: None };
const SOMEBODY: Terminal = Terminal { can_ask: true, ..NOBODY };

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Buffer {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

struct Run {
    exit: Exit,
    out: String,
    said: String,
    asked: Vec<String>,
}

impl Run {
    /// All of it, as a reviewer would read it.
    fn transcript(&self) -> String {
        let mut text = format!("{:?}\n", self.exit);
        for (label, part) in [("out", &self.out), ("said", &self.said)] {
            for line in part.lines() {
                writeln!(text, "{label}| {line}").unwrap();
            }
        }
        for asked in &self.asked {
            writeln!(text, "asked| {asked}").unwrap();
        }
        text
    }
}

struct Stage {
    script: Script,
    terminal: Terminal,
    typed_answer: &'static str,
    interrupt: watch::Receiver<bool>,
}

impl Stage {
    fn new(script: Script) -> Self {
        let (sender, interrupt) = watch::channel(false);
        drop(sender);
        Self { script, terminal: NOBODY, typed_answer: "", interrupt }
    }

    async fn run(self, line: &str) -> Run {
        let (client, script) = fake::serve(self.script).await;
        let words = std::iter::once("convoy").chain(line.split(' '));
        let typed = args::Typed::try_parse_from(words).expect("clap accepts it");
        let format = if typed.json { Format::Programs } else { Format::People };
        let (out, said) = (Buffer::default(), Buffer::default());
        let input = Box::new(io::Cursor::new(self.typed_answer));
        let screen =
            Screen::over(Box::new(out.clone()), Box::new(said.clone()), input, self.terminal, format);
        let Ok(Request::Remote(remote)) = Request::meant(typed.command) else {
            panic!("{line} is not remote")
        };
        let now = || When(1_800_000_060_000);
        let mut session =
            Session { client, seen: None, screen, interrupt: Interrupt::Given(self.interrupt), now };
        let exit = execute(remote, &mut session).await;
        let asked = script.lock().unwrap().asked.clone();
        Run { exit, out: out.text(), said: said.text(), asked }
    }
}

fn fleet_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("files")).unwrap();
    std::fs::write(dir.path().join("fleet.toml"), "name = 'acme'\n").unwrap();
    std::fs::write(dir.path().join("files/large.bin"), vec![7; 40_000]).unwrap();
    dir
}

fn changing_plan() -> message::PlanReply {
    let key = |key: &str, old: &str, new: &str, place: &str| message::KeyChange {
        key: key.into(),
        old: old.into(),
        new: new.into(),
        place: place.into(),
    };
    let node = |name: &str| message::NodePlan {
        node: name.into(),
        group: "key-manager".into(),
        change: "update".into(),
        keys: vec![
            key("server.hostname", "\"a\"", "\"b\"", "config/common.toml:3"),
            key("super_admin.password", "********", "********", "config/common.toml:9"),
            key("transport.https.properties.proxyPort", "", "443", "config/key-manager.toml:12"),
        ],
        files: vec![message::FileChange {
            path: "repository/conf/deployment.toml".into(),
            change: "changed".into(),
            old_size: 1200,
            new_size: 1300,
            restart: "restart".into(),
            diff: "@@ -1 +1 @@\n-hostname = \"a\"\n+hostname = \"b\"\n".into(),
            ..message::FileChange::default()
        }],
        restart: "restart".into(),
        restart_why: "deployment.toml is read at start".into(),
        ..message::NodePlan::default()
    };
    message::PlanReply {
        base_revision: 6,
        nodes: vec![node("is-1"), node("is-2")],
        waves: vec!["1. key-manager: is-1, then is-2".into()],
        unchanged: 1,
        estimate: Some(message::Estimate { left_ms: Some(130_000), unknown: 1 }),
        ..message::PlanReply::default()
    }
}

fn rollout(state: &str, second: &str, detail: &str) -> message::Rollout {
    let node = |name: &str, state: &str, detail: &str| message::RolloutNode {
        node: name.into(),
        state: state.into(),
        detail: detail.into(),
        since_ms: 1_800_000_030_000,
        generation: 9,
        begun_ms: 1_800_000_001_000,
        times: [("sent", 400), ("restarting", 21_300), ("soaking", 10_000)]
            .map(|(state, ms)| message::TimeInState { state: state.into(), ms })
            .to_vec(),
    };
    message::Rollout {
        id: 3,
        revision: 7,
        author: "ops".into(),
        message: "bigger pool".into(),
        started_ms: 1_800_000_000_000,
        ended_ms: if state == "running" { 0 } else { 1_800_000_042_000 },
        state: state.into(),
        groups: vec![message::RolloutGroup {
            group: "key-manager".into(),
            state: if state == "running" { "running" } else { state }.into(),
            nodes: vec![node("is-1", "ready", ""), node("is-2", second, detail)],
        }],
        estimate: (state == "running").then_some(message::Estimate { left_ms: Some(75_000), unknown: 0 }),
        ..message::Rollout::default()
    }
}

fn status_with(rollout: message::Rollout) -> message::StatusReply {
    message::StatusReply {
        fleet: "acme".into(),
        revision: 7,
        at_ms: 1_800_000_060_000,
        rollouts: vec![rollout],
        ..message::StatusReply::default()
    }
}

fn applying() -> Script {
    Script {
        plan: changing_plan(),
        apply: message::ApplyReply { revision: 7, rollout: 3, ..message::ApplyReply::default() },
        rollouts: [(3, rollout("running", "pending", ""))].into(),
        ..Script::default()
    }
}

fn check(run: &Run, expected: &str) {
    let transcript = run.transcript();
    assert!(transcript == expected, "expected:\n{expected}\ngot:\n{transcript}");
}

#[tokio::test]
async fn a_plan_shows_keys_restarts_and_order() {
    let dir = fleet_dir();
    let run = Stage::new(applying()).run(&format!("plan {}", dir.path().display())).await;
    check(
        &run,
        "Done
out| ~ is-1, is-2 (key-manager) restart: deployment.toml is read at start
out|     ~ server.hostname                       \"a\" → \"b\"            config/common.toml:3
out|     ~ super_admin.password                  ******** → ********  config/common.toml:9
out|     + transport.https.properties.proxyPort  443                  config/key-manager.toml:12
out|     ~ repository/conf/deployment.toml  1.2 kB → 1.3 kB
out| 
out| Order
out|   1. key-manager: is-1, then is-2
out|   Takes about 2m10s, as long as nothing fails or waits; 1 node of unknown speed taken for the slowest known.
out| 
out| 2 nodes change, 1 stays as it is; 2 servers restart (against revision 6).
",
    );
}

fn with_effects(node: message::NodePlan, pack_before: &str) -> message::NodePlan {
    let file = |path: &str, diff: &str| message::RenderedFile {
        path: path.into(),
        change: "changed".into(),
        added: 1,
        removed: 1,
        diff: diff.into(),
    };
    let derived = message::DerivedKey {
        key: "database.main.driver".into(),
        old: None,
        new: Some("\"d\"".into()),
        why: "follows from database.main.type = \"h2\"".into(),
    };
    let effects = message::Effects {
        pack_digest: "aaaaaaaaaa".into(),
        pack_before: pack_before.into(),
        rendered: 62,
        files: vec![
            file("conf/a.xml", "@@ -1 +1 @@\n <x>\n-    <h>a</h>\n+    <h>b</h>\n"),
            file("conf/b.xml", ""),
        ],
        derived: vec![derived],
        ..message::Effects::default()
    };
    message::NodePlan { effects: Some(effects), ..node }
}

#[tokio::test]
async fn a_plan_shows_what_servers_will_render_and_says_whose_pack_is_not_known() {
    let dir = fleet_dir();
    let mut plan = changing_plan();
    plan.nodes[0].keys.truncate(1);
    let mut first = with_effects(plan.nodes[0].clone(), "aaaaaaaaaa");
    first
        .overwritten
        .push(message::Overwritten { path: "conf/c.xml".into(), kind: "generated-edited".into() });
    let second = message::NodePlan { node: "is-2".into(), ..first.clone() };
    let unknown = message::NodePlan {
        node: "is-3".into(),
        pack_unknown: "no agent has reported from its host yet".into(),
        ..plan.nodes[0].clone()
    };
    let none = message::NodePlan {
        node: "is-4".into(),
        group: "key-manager".into(),
        change: "none".into(),
        ..message::NodePlan::default()
    };
    plan.nodes = vec![first, second, unknown, with_effects(none, "bbbbbbbbbb")];
    let run = Stage::new(Script { plan, ..applying() }).run(&format!("plan {}", dir.path().display())).await;
    check(
        &run,
        "Done
out| ~ is-1, is-2 (key-manager) restart: deployment.toml is read at start
out|     ~ server.hostname  \"a\" → \"b\"  config/common.toml:3
out|     ~ repository/conf/deployment.toml  1.2 kB → 1.3 kB
out|     ! conf/c.xml was edited by hand; the start overwrites that
out|     > database.main.driver  (nothing) → \"d\"  follows from database.main.type = \"h2\"
out|     2 of 62 rendered files change:
out|       ~ conf/a.xml  +1 -1
out|           - <h>a</h>
out|           + <h>b</h>
out|       ~ conf/b.xml  +1 -1
out| 
out| ~ is-3 (key-manager) restarts: deployment.toml is read at start
out|     rendered files are not shown, its pack is not known: no agent has reported from its host yet
out|     ~ server.hostname  \"a\" → \"b\"  config/common.toml:3
out|     ~ repository/conf/deployment.toml  1.2 kB → 1.3 kB
out| 
out| = is-4 (key-manager) nothing to apply
out|     its pack was updated on the host since the server started (bbbbbbbb → aaaaaaaa)
out|     > database.main.driver  (nothing) → \"d\"  follows from database.main.type = \"h2\"
out|     2 of 62 rendered files change:
out|       ~ conf/a.xml  +1 -1
out|           - <h>a</h>
out|           + <h>b</h>
out|       ~ conf/b.xml  +1 -1
out| 
out| Order
out|   1. key-manager: is-1, then is-2
out|   Takes about 2m10s, as long as nothing fails or waits; 1 node of unknown speed taken for the slowest known.
out| 
out| 3 nodes change, 1 stays as it is; 3 servers restart (against revision 6).
out| 1 node renders other files at its next start: the pack was updated on the host.
",
    );
}

#[tokio::test]
async fn without_a_terminal_nothing_is_applied_unless_told_to() {
    let dir = fleet_dir();
    let run = Stage::new(applying()).run(&format!("apply {}", dir.path().display())).await;
    assert_eq!((run.exit, run.asked.len()), (Exit::Refused, 0), "{}", run.transcript());
    assert!(run.out.contains("2 nodes change") && run.said.contains("--yes was not given"));
}

#[tokio::test]
async fn a_person_is_asked_after_the_plan_and_only_yes_is_a_yes() {
    for (answer, exit, applied) in [
        ("y\n", Exit::Done, 1),
        ("yes\n", Exit::Done, 1),
        ("\n", Exit::Refused, 0),
        ("j\n", Exit::Refused, 0),
    ] {
        let dir = fleet_dir();
        let stage = Stage { terminal: SOMEBODY, typed_answer: answer, ..Stage::new(applying()) };
        let run = stage.run(&format!("apply {}", dir.path().display())).await;
        assert_eq!((run.exit, run.asked.len()), (exit, applied), "{answer:?} {}", run.transcript());
        assert!(run.said.starts_with("Apply this? [y/N] "), "{}", run.said);
    }
}

#[tokio::test]
async fn what_was_shown_is_what_is_applied() {
    let dir = fleet_dir();
    let run = Stage::new(applying()).run(&format!("apply {} --yes -m because", dir.path().display())).await;
    let files = r#"files {"files/large.bin": 40000, "fleet.toml": 14}"#;
    assert_eq!(run.asked, [format!("apply: parent Some(6), message \"because\", {files}")]);
    assert!(run.out.ends_with("follow it: convoy rollout show 3 --wait\n"), "{}", run.out);

    let run = Stage::new(applying()).run(&format!("apply {} --yes --parent 4", dir.path().display())).await;
    assert!(run.asked[0].starts_with("apply: parent Some(4)"), "{:?}", run.asked);
}

#[tokio::test]
async fn an_apply_that_names_nodes_and_groups_asks_for_those_alone() {
    let dir = fleet_dir();
    let line = format!("apply {} --yes --node is-1,is-2 --group gw", dir.path().display());
    let run = Stage::new(applying()).run(&line).await;
    assert!(run.asked[0].contains(", only is-1 is-2 gw,"), "{:?}", run.asked);
}

/// A plan of two servers that somebody ran before: one would lose what its owner wrote.
fn taking_over() -> Script {
    let mut script = applying();
    let [first, second] = &mut script.plan.nodes[..] else { panic!("two nodes") };
    first.source = "now".into();
    first.adoption = "restarted".into();
    let lost = |kind: &str, keys: &[&str]| message::Unmanaged {
        path: "repository/conf/deployment.toml".into(),
        kind: kind.into(),
        keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..message::Unmanaged::default()
    };
    first.unmanaged = vec![
        lost("keys", &["user_store.type"]),
        message::Unmanaged {
            by: "ann".into(),
            reason: "a trial".into(),
            until_ms: 1_800_000_000_000,
            ..lost("paused-edit", &["server.hostname"])
        },
    ];
    second.source = "seen".into();
    second.source_ms = 1_800_000_060_000 - 3 * 3_600_000;
    second.source_why = "its agent is not connected".into();
    (second.unpacked_keys, second.unpacked_files) = (57, 2);
    script.plan.unmanaged_digest = "abcd".into();
    script.plan.notes = vec![message::PlanNote {
        kind: "window-closed".into(),
        group: "key-manager".into(),
        text: "group key-manager begins at 2027-01-16 02:00 UTC: its maintenance window is closed".into(),
        ..message::PlanNote::default()
    }];
    script
}

#[tokio::test]
async fn a_plan_says_what_it_was_compared_with_and_ends_with_what_nobody_declared() {
    let dir = fleet_dir();
    let run = Stage::new(taking_over()).run(&format!("plan {}", dir.path().display())).await;
    let until = text::local(When(1_800_000_000_000));
    for line in [
        "    no server ever ran here: replaces the unpacked deployment.toml with its 57 keys and 1 more unpacked file, \
         kept as the original\n",
        "Compared with\n  is-1: what lies on the host now\n  is-2: what lay on the host 3h ago: its agent is not \
         connected\n\n",
        "group key-manager begins at 2027-01-16 02:00 UTC: its maintenance window is closed\n\n",
    ] {
        assert!(run.out.contains(line), "{line:?} is not in\n{}", run.out);
    }
    let end = format!(
        "Replaced or removed although nobody declared it; this needs --replace-unmanaged\n  \
         is-1  repository/conf/deployment.toml  keys that go: user_store.type\n  \
         is-1  repository/conf/deployment.toml  an edit under a pause by ann until {until} (a trial): server.hostname\n\n\
         2 nodes change, 1 stays as it is; 2 servers restart (against revision 6).\n"
    );
    assert!(run.out.ends_with(&end), "{}", run.out);
    let run = Stage::new(taking_over()).run(&format!("--json plan {}", dir.path().display())).await;
    let plan: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!(plan["unmanaged_digest"], "abcd");
    assert_eq!(plan["nodes"][0]["unmanaged"][1]["by"], "ann");
    assert_eq!(plan["nodes"][1]["source"]["kind"], "seen");
}

#[tokio::test]
async fn a_yes_to_the_plan_is_no_yes_to_losing_what_nobody_declared() {
    let dir = fleet_dir();
    let line = |more: &str| format!("apply {}{more}", dir.path().display());
    for words in [" --yes", ""] {
        let run = Stage::new(taking_over()).run(&line(words)).await;
        assert_eq!((run.exit, run.asked.len()), (Exit::Refused, 0), "{}", run.transcript());
        assert!(run.said.contains("is-1 would lose what nobody declared"), "{}", run.said);
    }
    let run = Stage::new(taking_over()).run(&line(" --yes --replace-unmanaged")).await;
    assert!(run.asked[0].contains(", replace abcd,"), "{}", run.transcript());
    for (answers, exit, applied) in
        [("y\ny\n", Exit::Done, 1), ("y\n\n", Exit::Refused, 0), ("\n", Exit::Refused, 0)]
    {
        let stage = Stage { terminal: SOMEBODY, typed_answer: answers, ..Stage::new(taking_over()) };
        let run = stage.run(&line("")).await;
        assert_eq!((run.exit, run.asked.len()), (exit, applied), "{answers:?} {}", run.transcript());
        assert!(
            run.said.starts_with("Replace and remove what nobody declared on is-1? [y/N] "),
            "{}",
            run.said
        );
    }
}

#[tokio::test]
async fn the_exit_code_of_a_plan_tells_changes_from_none_if_asked_to() {
    let dir = fleet_dir();
    let run = async |plan: message::PlanReply, flag: &str| {
        let script = Script { plan, ..applying() };
        Stage::new(script).run(&format!("plan {}{flag}", dir.path().display())).await.exit
    };
    let nothing = message::PlanReply { base_revision: 6, unchanged: 2, ..message::PlanReply::default() };
    let note = |change| message::PlanNote { kind: "policy".into(), change, ..message::PlanNote::default() };
    let noted = |change| message::PlanReply { notes: vec![note(change)], ..nothing.clone() };
    let refused = message::PlanReply { refused: true, ..changing_plan() };
    assert_eq!(run(changing_plan(), "").await, Exit::Done);
    assert_eq!(run(changing_plan(), " --exit-code").await, Exit::Changes);
    assert_eq!(run(nothing.clone(), " --exit-code").await, Exit::Done);
    assert_eq!(run(noted(true), " --exit-code").await, Exit::Changes);
    assert_eq!(run(noted(false), " --exit-code").await, Exit::Done);
    assert_eq!(run(refused, " --exit-code").await, Exit::Failed);
    let other = message::PlanReply { refusal: "this directory is fleet b".into(), ..changing_plan() };
    assert_eq!(run(other, "").await, Exit::Refused);
}

#[tokio::test]
async fn errors_in_the_directory_end_before_anything_is_applied() {
    let finding = message::Finding {
        code: "CV101".into(),
        severity: "error".into(),
        file: "config/common.toml".into(),
        line: 3,
        column: 5,
        line_text: "x = = 1".into(),
        message: "expected a value".into(),
        remedy: "write a value".into(),
        ..message::Finding::default()
    };
    let plan = message::PlanReply { refused: true, findings: vec![finding], ..changing_plan() };
    let dir = fleet_dir();
    let run =
        Stage::new(Script { plan, ..applying() }).run(&format!("apply {} --yes", dir.path().display())).await;
    check(
        &run,
        "Failed
out| error[CV101]: expected a value
out|   --> config/common.toml:3:5
out|     3 | x = = 1
out|       |     ^
out|   help: write a value
out| 
out| Nothing can be applied: 1 error.
",
    );
}

#[tokio::test]
async fn a_stale_parent_is_a_guards_refusal() {
    let refusal = "revision 7 by eve was applied after revision 6";
    let apply =
        message::ApplyReply { refused: true, refusal: refusal.into(), ..message::ApplyReply::default() };
    let dir = fleet_dir();
    let run = Stage::new(Script { apply, ..applying() })
        .run(&format!("apply {} --yes", dir.path().display()))
        .await;
    assert_eq!(run.exit, Exit::Refused);
    assert!(run.said.starts_with(&format!("error: {refusal}\n  next: ")), "{}", run.said);
}

#[tokio::test]
async fn waiting_prints_each_change_once_and_the_end() {
    let mut waiting = rollout("running", "pending", "");
    waiting.waiting = vec!["is-1 soaks for another 20s".into()];
    let watched = [
        waiting.clone(),
        waiting,
        rollout("running", "restarting", "generation 9"),
        rollout("done", "ready", ""),
    ];
    let script = Script { watched: watched.map(status_with).into(), ..applying() };
    let dir = fleet_dir();
    let run = Stage::new(script).run(&format!("apply {} --yes --wait", dir.path().display())).await;
    // Elapsed times differ from run to run.
    let lines: Vec<&str> = run.out.lines().skip_while(|line| !line.starts_with("Revision")).collect();
    let lines: Vec<&str> =
        lines.iter().map(|line| line.split_once("s  ").map_or(*line, |(_, rest)| rest)).collect();
    assert_eq!(
        lines,
        [
            "Revision 7, rollout 3",
            "is-1 (key-manager): ready",
            "rollout 3: waits: is-1 soaks for another 20s",
            "is-2 (key-manager): restarting, generation 9",
            "is-2 (key-manager): ready",
            "Rollout 3 is done: 2 nodes ready after 42s.",
        ]
    );
    assert_eq!(run.exit, Exit::Done);
}

#[tokio::test]
async fn a_failed_rollout_ends_with_why_and_what_next() {
    let failed = rollout("rolled-back", "failed", "start-deadline: not ready within 5m");
    let script = Script { watched: [status_with(failed)].into(), ..applying() };
    let run = Stage::new(script).run("rollout show 3 --wait").await;
    assert_eq!(run.exit, Exit::Failed);
    let end = "Rollout 3 ended as rolled-back.
  is-2 (key-manager) failed: start-deadline: not ready within 5m
  next: every changed node is back on what it ran before; repair the cause, then apply again
";
    assert!(run.out.ends_with(end), "{}", run.out);
}

#[tokio::test]
async fn a_coordinator_that_goes_away_is_waited_for() {
    let script = Script { breaks: true, ..applying() };
    let (client, shared) = fake::serve(script).await;
    let out = Buffer::default();
    let input = Box::new(io::empty());
    let screen = Screen::over(Box::new(out.clone()), Box::new(io::sink()), input, NOBODY, Format::People);
    let interrupt = Interrupt::Given(watch::channel(false).1);
    let mut session = Session { client, seen: None, screen, interrupt, now: || When(1_800_000_060_000) };
    // By the second look the rollout has ended.
    let ending = tokio::spawn(async move {
        while shared.lock().unwrap().breaks {
            tokio::task::yield_now().await;
        }
        shared.lock().unwrap().rollouts.insert(3, rollout("done", "ready", ""));
    });
    let exit = execute(
        Remote::Rollout { rollout: Some(3), wait: Some(request::Wait { timeout: None }) },
        &mut session,
    );
    assert_eq!(exit.await, Exit::Done);
    ending.await.unwrap();
    assert!(out.text().contains("coordinator: the coordinator does not answer just now"), "{}", out.text());
}

#[tokio::test]
async fn a_timeout_and_ctrl_c_leave_the_rollout_alone() {
    let run = Stage::new(applying()).run("rollout show 3 --wait --timeout 1s").await;
    assert_eq!(run.exit, Exit::InProgress);
    assert!(run.said.contains("Rollout 3 has not ended yet; it goes on."), "{}", run.said);

    let (sender, interrupt) = watch::channel(true);
    let run = Stage { interrupt, ..Stage::new(applying()) }.run("rollout show 3 --wait").await;
    drop(sender);
    assert_eq!(run.exit, Exit::InProgress);
    assert!(run.said.contains("follow it: convoy rollout show 3 --wait"), "{}", run.said);
    assert!(run.asked.is_empty());
}

#[tokio::test]
async fn acts_on_nodes_say_what_they_mean() {
    let command = message::CommandReply { ok: true, detail: "restarting".into(), guard: false };
    for (line, asked) in [
        ("node restart is-1 --yes --reason test", "restart is-1 now=false \"test\""),
        ("node restart is-1 --yes --now --reason fire", "restart is-1 now=true \"fire\""),
        ("node stop is-1 --yes", "stop is-1 \"\""),
        ("node start is-1", "start is-1 \"\""),
        ("node forget is-1 --yes", "forget is-1"),
        ("rollback --node is-1 --to original --yes --message why", "original is-1 now=false \"why\""),
        ("rollback --node is-1 --to original --yes --now busy", "original is-1 now=true \"busy\""),
        ("drift restore is-1 bin/x.sh", "drift restore is-1 \"bin/x.sh\" \"\" until 0"),
        ("drift pause is-1 --reason trial --for 2m", "drift pause is-1 \"\" \"trial\" until 1800000180000"),
        ("drift resume is-1", "drift resume is-1 \"\" \"\" until 0"),
        ("rollout abort 3 --return", "abort-and-return rollout 3 \"\""),
        ("rollout pause 3 --reason lunch", "pause rollout 3 \"lunch\""),
        ("token create --node is-1", "token for is-1 valid 3600 s"),
    ] {
        let run = Stage::new(Script { command: command.clone(), ..Script::default() }).run(line).await;
        assert_eq!((run.exit, run.asked), (Exit::Done, vec![asked.to_owned()]), "{line}: {}", run.said);
    }
}

#[tokio::test]
async fn a_budgets_refusal_ends_with_3_and_says_so_to_programs_too() {
    let command = message::CommandReply { ok: false, detail: "is-2 is down".into(), guard: true };
    let run = Stage::new(Script { command, ..Script::default() }).run("--json node restart is-1 --yes").await;
    assert_eq!(run.exit, Exit::Refused);
    let problem: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    assert_eq!((problem["error"].as_str(), problem["exit"].as_u64()), (Some("is-2 is down"), Some(3)));
}

#[tokio::test]
async fn refusals_of_the_coordinator_end_with_what_to_do_next() {
    use tonic::Status;
    for (status, exit, next) in [
        (Status::unauthenticated("the certificate has expired"), Exit::Failed, "operator context"),
        (Status::failed_precondition("a rollout is under way"), Exit::Refused, "convoy status"),
        (Status::unavailable("stopping"), Exit::Failed, "check that it runs"),
        (Status::internal("store"), Exit::Failed, "coordinator's log"),
    ] {
        let script = Script { refusal: Some(status.clone()), ..Script::default() };
        let run = Stage::new(script).run("status").await;
        assert_eq!(run.exit, exit, "{status}");
        assert!(run.said.contains("next: ") && run.said.contains(next), "{status}: {}", run.said);
    }
}
