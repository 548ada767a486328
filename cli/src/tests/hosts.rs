//! What lies on hosts: shown of a node that nothing was assigned to, and imported.

use std::fs;

use proto::wire::agent;

use super::*;

const CONFIG: &str = "repository/conf/deployment.toml";
const TOML: &str =
    "[server]\nhostname = \"iam.example.org\"\noffset = 2\n[super_admin]\npassword = \"tell-nobody\"\n";

fn found() -> fake::message::HostReply {
    let file = agent::FoundFile {
        size: 1200,
        mode: 0o640,
        owner: "wso2".into(),
        group: "wso2".into(),
        modified_ms: 1_800_000_000_000,
        ..agent::FoundFile::default()
    };
    let config =
        agent::FoundEntry { path: CONFIG.into(), found: Some(agent::found_entry::Found::File(file)) };
    let store = agent::FoundEntry { path: "repository/resources/security/a.p12".into(), found: None };
    let facts = agent::HostFacts {
        home: "/opt/wso2/wso2is-7.1.0".into(),
        product: Some(agent::FoundProduct {
            id: "wso2is-7.1".into(),
            name: "WSO2 Identity Server".into(),
            version: "7.1.0".into(),
        }),
        offset: Some(2),
        server: Some(agent::FoundServer {
            state: "running".into(),
            since_ms: 1_800_000_000_000,
            config_unread: true,
        }),
        started: true,
        keystores: vec![store.path.clone()],
        entries: vec![config, store],
        ..agent::HostFacts::default()
    };
    fake::message::HostReply { facts: Some(facts), received_ms: 1_800_000_000_000, ..Default::default() }
}

fn script(host: fake::message::HostReply) -> Script {
    let service = agent::ServiceState { state: "unknown".into(), ..Default::default() };
    let report = agent::Report { service: Some(service), ..Default::default() };
    let node = fake::message::Node {
        name: "is-1".into(),
        state: "idle".into(),
        report: Some(report),
        ..Default::default()
    };
    let reply =
        fake::message::NodeReply { node: Some(node), found: Some(host.clone()), ..Default::default() };
    let status = fake::message::StatusReply { fleet: "acme-prod".into(), ..Default::default() };
    Script { node: reply, host, status, ..Script::default() }
}

#[tokio::test]
async fn a_node_that_was_not_applied_shows_what_was_found_on_its_host() {
    let run = Stage::new(script(found())).run("node show is-1").await;
    for wanted in [
        "Found on its host",
        "/opt/wso2/wso2is-7.1.0, a server has run from it",
        "WSO2 Identity Server 7.1.0 (wso2is-7.1)",
        "deployment.toml was changed since",
        "repository/conf/deployment.toml: 1.2 kB, mode 0640, wso2:wso2",
        "repository/resources/security/a.p12: absent",
        "just now",
        "convoy import is-1 --out DIR",
        "nothing was applied to it yet, so its agent supervises no server",
        "is-1  idle",
    ] {
        assert!(run.out.contains(wanted), "{wanted:?} is not in:\n{}", run.out);
    }
    assert!(!run.out.contains("unknown for"), "{}", run.out);
    let json: serde_json::Value =
        serde_json::from_str(&Stage::new(script(found())).run("node show is-1 --json").await.out).unwrap();
    assert_eq!(json["found"]["host"]["offset"], 2);
    assert_eq!(json["found"]["host"]["files"][1]["kind"], "absent");

    let away = fake::message::HostReply { not_now: "its agent is not connected".into(), ..found() };
    let run = Stage::new(script(away)).run("node show is-1").await;
    assert!(run.out.contains("1m ago: its agent is not connected"), "{}", run.out);
    let unseen = fake::message::HostReply { not_now: "its agent is too old".into(), ..Default::default() };
    let run = Stage::new(script(unseen)).run("node show is-1").await;
    assert!(run.out.contains("its host was not looked at yet: its agent is too old"), "{}", run.out);
}

#[tokio::test]
async fn a_connected_host_becomes_a_fleet_directory_of_the_coordinators_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let (out, secrets) = (dir.path().join("new"), dir.path().join("secrets"));
    let line = format!("import is-1 --out {} --secrets-out {}", out.display(), secrets.display());
    let host = fake::message::HostReply { config: Some(TOML.into()), ..found() };
    let run = Stage::new(script(host)).run(&line).await;
    assert_eq!(run.exit, Exit::Done, "{}{}", run.out, run.said);
    assert!(run.out.contains("proved: the file comes back"), "{}", run.out);
    assert_eq!(run.asked, ["look at is-1 config=true"]);
    let fleet = fs::read_to_string(out.join("fleet.toml")).unwrap();
    for wanted in ["acme-prod", "wso2is-7.1", "/opt/wso2/wso2is-7.1.0", "offset = 2"] {
        assert!(fleet.contains(wanted), "{wanted:?} is not in:\n{fleet}");
    }
    assert!(fs::read_to_string(secrets).unwrap().contains("tell-nobody"));
}

#[tokio::test]
async fn a_host_that_cannot_be_looked_at_now_is_not_imported() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new");
    let line = format!("import is-1 --out {}", out.display());
    let away = fake::message::HostReply {
        not_now: "its agent is not connected".into(),
        config: Some(TOML.into()),
        ..found()
    };
    for (host, why) in [(away, "its agent is not connected"), (found(), "can be read")] {
        let run = Stage::new(script(host)).run(&line).await;
        assert_eq!(run.exit, Exit::Failed);
        assert!(run.said.contains(why) && run.said.contains("convoy node show is-1"), "{}", run.said);
        assert!(!out.exists());
    }
}
