//! What receivers get, and what a command may not do.

use std::{collections::BTreeMap, time::Duration};

use fleet::{
    alert::{
        Alert, AlertId, AlertPolicy, Firing, Hidden, Item, Mark, Message, Occasion, Part, Place, Rule,
        Severity, Subject, Watch,
    },
    ids::{ChannelName, GroupName, NodeName},
    time::Timestamp,
};
use serde_json::Value;

use super::{Channel, ChannelKind, Payload, Standing, command::Program};

const NOW: Timestamp = Timestamp(1_795_921_802_000);

fn subject(name: &str) -> Subject {
    Subject::Node(NodeName::parse(name).unwrap())
}

fn payload() -> Payload {
    let item = |name: &str| Item {
        subject: subject(name),
        reason: "<script> & more".to_owned(),
        since: NOW,
        flapping: false,
    };
    let part = Part {
        rule: Rule::ServerDown,
        severity: Severity::Critical,
        place: Place::Group(GroupName::parse("gateway").unwrap()),
        incident: 12,
        change: 12,
        begun: (0..150).map(|number| item(&format!("gw-{number}"))).collect(),
        over: Vec::new(),
        lasting: Vec::new(),
    };
    let channel = ChannelName::parse("ops").unwrap();
    let message =
        Message { channel, delivery: "d1".to_owned(), occasion: Occasion::Began, parts: vec![part] };
    Payload::of("acme", message)
}

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

#[test]
fn a_list_is_bounded_and_its_count_is_right() {
    let body = read(&payload().json());
    let incident = &body["incidents"][0];
    assert_eq!(incident["begun"].as_array().unwrap().len(), 100);
    assert_eq!(incident["begun_count"], 150);
    assert_eq!((&body["delivery"], &incident["incident"]), (&"d1".into(), &"gateway/server-down/12".into()));
}

#[test]
fn marks_of_slack_have_no_meaning_in_reasons() {
    let body = read(&payload().slack());
    let text = body["text"].as_str().unwrap();
    assert!(text.starts_with("*[critical] acme: Server down: gw-0, "), "{text}");
    assert!(text.contains("&lt;script&gt; &amp; more"), "{text}");
}

#[test]
fn teams_gets_one_card_whose_lines_are_the_message() {
    let body = read(&payload().teams());
    let attachment = &body["attachments"][0];
    assert_eq!(attachment["contentType"], "application/vnd.microsoft.card.adaptive");
    let blocks = attachment["content"]["body"].as_array().unwrap();
    assert_eq!(blocks[0]["color"], "Attention");
    assert_eq!(blocks.len(), 1 + payload().facts().text.lines().count());
}

#[test]
fn an_alertmanager_gets_what_lasts_with_an_end_ahead_and_nothing_that_is_hidden() {
    let mark = |seconds: u64| Some(Mark { change: seconds, at: NOW });
    let alert = |ended: Option<Mark>, hidden: Option<Hidden>| Alert {
        reason: "why".to_owned(),
        since: NOW,
        watch: Watch::Firing(Firing { over: None, flapping: false, shown: true }),
        raised: mark(1),
        ended,
        past: Vec::new(),
        firings: Vec::new(),
        hidden,
    };
    let entry = |name: &str, rule: Rule, alert: Alert| {
        (Place::Fleet, AlertId { rule, subject: subject(name) }, alert)
    };
    let expected = Hidden::Expected { why: String::new(), until: NOW };
    let alerts = [
        entry("lasts", Rule::ServerDown, alert(None, None)),
        entry("hidden", Rule::ServerDown, alert(None, Some(expected))),
        entry("over", Rule::ServerDown, alert(mark(2), None)),
        entry("mild", Rule::AwaitingPromotion, alert(None, None)),
    ];
    let (policy, channel) = (AlertPolicy::default(), ChannelName::parse("am").unwrap());
    let now = NOW.after(Duration::from_secs(60));
    let standing = Standing { fleet: "acme", now, alerts: &alerts, policy: &policy };
    let body = read(&standing.alertmanager(&channel, Severity::Warning));
    let found: BTreeMap<String, String> = body
        .as_array()
        .unwrap()
        .iter()
        .map(|alert| {
            let name = alert["labels"]["node"].as_str().unwrap_or("watchdog").to_owned();
            (name, alert["endsAt"].as_str().unwrap().to_owned())
        })
        .collect();
    let expected = [
        ("lasts", "2026-11-29T03:15:02Z"),
        ("over", "2026-11-29T03:10:02Z"),
        ("watchdog", "2026-11-29T03:15:02Z"),
    ];
    let expected: BTreeMap<String, String> =
        expected.into_iter().map(|(name, end)| (name.to_owned(), end.to_owned())).collect();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_command_gets_the_message_and_its_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let run = |script: String| {
        let kind = ChannelKind::Command(Program {
            program: "/bin/sh".into(),
            args: vec!["-c".to_owned(), script, "sh".to_owned()],
        });
        let channel = Channel {
            name: ChannelName::parse("pager").unwrap(),
            least: Severity::Info,
            first_after: Duration::ZERO,
            kind,
        };
        async move { channel.send(&payload(), NOW).await }
    };
    let script = format!("env > {0}.env; cat > {0}", out.display());
    assert_eq!(run(script).await, Ok(()));
    assert_eq!(read(&std::fs::read(&out).unwrap())["fleet"], "acme");
    let environment = std::fs::read_to_string(dir.path().join("out.env")).unwrap();
    assert!(environment.contains("CONVOY_SEVERITY=critical"), "{environment}");
    assert!(!environment.contains("CARGO"), "nothing of the coordinator's environment: {environment}");
    assert_eq!(run("exit 3".to_owned()).await, Err("exit status 3".to_owned()));
    assert_eq!(run("kill -9 $$".to_owned()).await, Err("ended by a signal".to_owned()));
}
