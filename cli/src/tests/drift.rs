//! What differs on a host, with values.

use super::*;

#[tokio::test]
async fn drift_show_tells_the_values_that_differ_and_what_is_left_to_the_host() {
    let key = |key: &str, old: &str, new: &str| message::KeyChange {
        key: key.into(),
        old: old.into(),
        new: new.into(),
        place: String::new(),
    };
    let plan = message::NodePlan {
        source: "now".into(),
        keys: vec![
            key("server.hostname", "\"found\"", "\"declared\""),
            key("super_admin.password", "********", "********"),
            key("surprise.key", "1", ""),
        ],
        kept: vec![key("cache.size", "99", "10")],
        files: vec![message::FileChange {
            path: "repository/conf/log4j2.properties".into(),
            change: "changed".into(),
            settings: vec!["mode 0666 -> 0640".into()],
            diff: "-level = DEBUG\n+level = INFO\n".into(),
            ..message::FileChange::default()
        }],
        ..message::NodePlan::default()
    };
    let script = |differences| Script {
        status: message::StatusReply {
            nodes: vec![message::Node { name: "is-1".into(), ..message::Node::default() }],
            ..message::StatusReply::default()
        },
        differences,
        ..Script::default()
    };
    let known = message::DriftReply { plan: Some(plan), omitted: 3, ..message::DriftReply::default() };
    let run = Stage::new(script(known.clone())).run("drift show is-1").await;
    assert_eq!((run.exit, run.asked), (Exit::Done, vec!["differences is-1".to_owned()]), "{}", run.said);
    let shown = "No drift: every managed file is as desired.\n\nOn the host now\n  \
        server.hostname       desired \"declared\"  found \"found\"\n  \
        super_admin.password  desired ********    found ********\n  \
        surprise.key          not declared        found 1\n  \
        repository/conf/log4j2.properties has another content; mode 0666 -> 0640\n      \
        -level = DEBUG\n      +level = INFO\n\n\
        Left to the host by [drift.keys]\n  cache.size  desired 10  found 99\n  and 3 more keys\n";
    assert_eq!(run.out, shown);
    let run = Stage::new(script(known)).run("--json drift show is-1").await;
    let document: serde_json::Value = serde_json::from_str(&run.out).unwrap();
    let differences = &document["differences"];
    assert_eq!(differences["keys"][2]["desired"], serde_json::Value::Null);
    assert_eq!(differences["left_to_host"][0]["found"], "99");
    assert_eq!(differences["files"][0]["what"], "content");
    let unknown = message::DriftReply { unknown: "its agent is not connected".into(), ..Default::default() };
    let run = Stage::new(script(unknown)).run("drift show is-1").await;
    assert!(
        run.out.ends_with("What lies on the host is not known: its agent is not connected.\n"),
        "{}",
        run.out
    );
}
