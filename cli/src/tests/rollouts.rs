//! Going back, looking at rollouts, and steering them.

use super::*;

#[tokio::test]
async fn a_rollback_shows_its_plan_and_names_what_it_goes_back_to_and_from_where() {
    let script = || Script { status: status_with(rollout("done", "ready", "")), ..applying() };
    let run = Stage::new(script()).run("rollback --yes").await;
    assert_eq!(run.asked, ["rollback to 6 parent Some(7)"]);
    let head = "acme: revision 7 is in force; the content of revision 6 becomes revision 8.\n\n~ is-1, is-2";
    assert!(run.out.starts_with(head), "{}", run.out);
    let run = Stage::new(script()).run("rollback 5 --yes --now --reason outage").await;
    assert_eq!(run.asked, ["rollback to 5 parent Some(7) now \"outage\""]);
    let stage = Stage { terminal: SOMEBODY, typed_answer: "\n", ..Stage::new(script()) };
    let run = stage.run("rollback").await;
    assert_eq!((run.exit, run.asked.len()), (Exit::Refused, 0), "{}", run.transcript());

    let nothing = message::PlanReply { refusal: "there is no revision before".into(), ..changing_plan() };
    let run = Stage::new(Script { plan: nothing, ..script() }).run("rollback --yes").await;
    assert_eq!((run.exit, run.asked.len()), (Exit::Refused, 0));
    let lossy = taking_over().plan;
    let run = Stage::new(Script { plan: lossy.clone(), ..script() }).run("rollback --yes").await;
    assert_eq!((run.exit, run.asked.len()), (Exit::Refused, 0), "{}", run.transcript());
    let run = Stage::new(Script { plan: lossy, ..script() }).run("rollback --yes --replace-unmanaged").await;
    assert_eq!(run.asked, ["rollback to 6 parent Some(7) replace abcd"]);
}

#[tokio::test]
async fn a_rollback_that_leaves_a_server_down_is_not_done() {
    let with = |state: &str| {
        let mut status = status_with(rollout("done", "ready", ""));
        let node = |name: &str, state: &str| message::Node {
            name: name.into(),
            state: state.into(),
            state_why: "start-failed: no JDK".into(),
            ..message::Node::default()
        };
        status.nodes = vec![node("is-1", "ready"), node("is-2", state)];
        let apply = message::ApplyReply { revision: 8, rollout: 0, ..message::ApplyReply::default() };
        Script { status, apply, ..applying() }
    };
    for (state, exit) in [("ready", Exit::Done), ("stopped", Exit::Done), ("failed", Exit::Failed)] {
        let run = Stage::new(with(state)).run("rollback --yes").await;
        assert_eq!(run.exit, exit, "{state}: {}", run.transcript());
        let is_named = run.said.contains("is-2 is failed: start-failed: no JDK");
        assert_eq!(is_named, exit == Exit::Failed, "{}", run.said);
    }
}

#[tokio::test]
async fn a_rollout_shows_times_what_is_left_and_what_it_ignores() {
    let mut open = rollout("running", "pending", "");
    open.windows_overridden = "outage".into();
    let script = |open: message::Rollout| Script {
        rollouts: [(3, open.clone())].into(),
        status: status_with(open),
        ..applying()
    };
    let run = Stage::new(script(open.clone())).run("rollout show 3").await;
    for wanted in ["restarting 21s", "settling 10s", "left", "maintenance windows are ignored: outage"] {
        assert!(run.out.contains(wanted), "{wanted}: {}", run.out);
    }
    let run = Stage::new(script(open.clone())).run("--json rollout show 3").await;
    assert!(run.out.contains("\"soaking\"") && run.out.contains("21300"), "{}", run.out);
    open.estimate = Some(message::Estimate { left_ms: None, unknown: 2 });
    let run = Stage::new(script(open)).run("rollout show 3").await;
    assert!(run.out.contains("how much longer is not known"), "{}", run.out);
}

#[tokio::test]
async fn steering_without_a_number_means_the_one_under_way() {
    let script = Script { status: status_with(rollout("running", "pending", "")), ..applying() };
    assert_eq!(Stage::new(script).run("rollout pause").await.asked, ["pause rollout 3 \"\""]);
    let script = Script { status: status_with(rollout("done", "ready", "")), ..applying() };
    let run = Stage::new(script).run("rollout pause").await;
    assert_eq!((run.exit, run.asked.len()), (Exit::Refused, 0));
}
