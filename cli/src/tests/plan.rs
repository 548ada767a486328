//! What a plan leaves out unless it is asked for.

use super::*;

#[tokio::test]
async fn of_many_warnings_five_are_shown_and_first_those_about_what_changes() {
    let warning = |line: u32| message::Finding {
        code: "CV557".into(),
        severity: "warning".into(),
        file: "config/common.toml".into(),
        line,
        message: format!("about line {line}"),
        ..message::Finding::default()
    };
    // The last one is about a key that the plan changes.
    let mut findings: Vec<message::Finding> = (20..26).map(warning).collect();
    findings.push(warning(3));
    // The same of another node is no other warning.
    findings.extend(["is-1", "is-2"].map(|node| message::Finding { node: node.into(), ..warning(20) }));
    let dir = fleet_dir();
    let shown = async |more: &str| {
        let plan = message::PlanReply { findings: findings.clone(), ..changing_plan() };
        let line = format!("plan {}{more}", dir.path().display());
        Stage::new(Script { plan, ..Script::default() }).run(&line).await.out
    };
    let some = shown("").await;
    assert_eq!(some.matches("warning[CV557]").count(), 5, "{some}");
    assert_eq!(some.find("about line 3"), some.find("about line"), "the first is about what changes: {some}");
    assert!(some.contains("more warnings"), "{some}");
    let all = shown(" --diff").await;
    assert!((20..26).all(|line| all.contains(&format!("about line {line}"))), "{all}");
    assert!(!all.contains("more warning"), "{all}");
}
