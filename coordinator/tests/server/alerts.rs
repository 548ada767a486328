//! Alerts from what an agent reports to a receiver that the test is.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::wire::{
    agent::{Drift, Editor, FromAgent, Report, ServiceState, Verdict, from_agent, to_agent},
    operator::{
        AlertState, EventsRequest, ListAlertsReply, ListAlertsRequest, TestChannelRequest,
        alerts_client::AlertsClient,
    },
};
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;
use tonic::transport::Channel;

use crate::support::{PATIENCE, ScriptedAgent, TestCoordinator, TestNode, TestSession, report, small_fleet};

/// A request that arrived.
pub struct Arrived {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Arrived {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An HTTP server that takes posts, and answers each with the status that is next.
pub struct Receiver {
    pub address: SocketAddr,
    arrived: mpsc::Receiver<Arrived>,
    answers: mpsc::Sender<u16>,
}

impl Receiver {
    /// Answers 200 unless told otherwise.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived) = mpsc::channel();
        let (answers, next) = mpsc::channel();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Some(request) = read(&stream.unwrap(), &next) else { continue };
                if sender.send(request).is_err() {
                    return;
                }
            }
        });
        Self { address, arrived, answers }
    }

    /// The next request, awaited off the runtime.
    pub async fn next(&mut self) -> Arrived {
        let wait = || self.arrived.recv_timeout(PATIENCE + PATIENCE);
        tokio::task::block_in_place(wait).expect("a message within patience")
    }

    /// Everything that came until now.
    pub fn rest(&self) -> Vec<Arrived> {
        self.arrived.try_iter().collect()
    }
}

fn read(mut stream: &TcpStream, answers: &mpsc::Receiver<u16>) -> Option<Arrived> {
    let mut reader = std::io::BufReader::new(stream);
    let (mut line, mut headers) = (String::new(), BTreeMap::new());
    reader.read_line(&mut line).ok().filter(|read| *read != 0)?;
    assert!(line.starts_with("POST /hook HTTP/1.1"), "{line}");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = vec![0; headers.get("content-length")?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    let status = answers.try_recv().unwrap_or(200);
    write!(stream, "HTTP/1.1 {status} whatever\r\ncontent-length: 0\r\n\r\n").ok()?;
    let body = String::from_utf8(body).unwrap();
    (status == 200).then_some(Arrived { headers, body })
}

pub fn private(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

pub fn channel(address: SocketAddr, more: &str) -> String {
    format!(
        "[alerts]\nfirst_after = \"300ms\"\n[alerts.channels.ops]\nkind = \"webhook\"\n\
         url = \"http://{address}/hook\"\n{more}\n"
    )
}

pub async fn alerts(coordinator: &TestCoordinator) -> AlertsClient<Channel> {
    let context = coordinator.context();
    let channel = coordinator.channel(Some((&context.certificate_pem, &context.key_pem))).await.unwrap();
    AlertsClient::new(channel)
}

/// A node that has what was applied, and says itself what it reports from now on.
pub struct Reporting {
    session: TestSession,
    pub report: Report,
}

impl Reporting {
    pub async fn start(coordinator: &TestCoordinator, node: &TestNode) -> Self {
        let mut session = node.session(coordinator).await.unwrap();
        session.say(from_agent::Message::Report(report(None, None))).await;
        let assign = session.until(|message| match message {
            to_agent::Message::Assign(assign) => Some(assign),
            _ => None,
        });
        let report = report(Some(&assign.await), None);
        session.say(from_agent::Message::Report(report.clone())).await;
        Self { session, report }
    }

    /// Connects again and says what it said last.
    pub async fn resume(coordinator: &TestCoordinator, node: &TestNode, report: Report) -> Self {
        let session = node.session(coordinator).await.unwrap();
        session.say(from_agent::Message::Report(report.clone())).await;
        Self { session, report }
    }

    /// Where its words go.
    pub fn sender(&self) -> tokio::sync::mpsc::Sender<FromAgent> {
        self.session.sender.clone()
    }

    /// Reports another state of its server.
    pub async fn serves(&mut self, state: &str, verdict: &str) {
        self.report.service = Some(ServiceState { state: state.into(), ..ServiceState::default() });
        self.report.health = Some(Verdict { verdict: verdict.into(), ..Verdict::default() });
        self.session.say(from_agent::Message::Report(self.report.clone())).await;
    }

    pub async fn differs(&mut self, path: &str, action: &str) {
        self.report.drift = vec![drift(path, action)];
        self.session.say(from_agent::Message::Report(self.report.clone())).await;
    }

    /// Two files that nobody restores any more.
    pub async fn says_both(&mut self, one: &str, other: &str) {
        self.report.drift = vec![drift(one, "tug-of-war"), drift(other, "tug-of-war")];
        self.session.say(from_agent::Message::Report(self.report.clone())).await;
    }

    pub async fn is_as_declared(&mut self) {
        self.report.drift.clear();
        self.session.say(from_agent::Message::Report(self.report.clone())).await;
    }
}

fn drift(path: &str, action: &str) -> Drift {
    Drift {
        path: path.into(),
        kind: "edited".into(),
        action: action.into(),
        keys: vec!["server.hostname".into(), "super_admin.password".into()],
        detail: "password = canary-of-this-test".into(),
        editors: vec![Editor {
            pid: 812,
            process: "sed".into(),
            user: "root".into(),
            login: "alice".into(),
            ..Editor::default()
        }],
        ..Drift::default()
    }
}

/// Both nodes have what was applied; the first reports by hand.
pub async fn settled(coordinator: &TestCoordinator) -> (Reporting, ScriptedAgent) {
    let [first, second] = [coordinator.join("is-1").await, coordinator.join("is-2").await];
    assert!(!coordinator.apply(&small_fleet("a.example.org"), None).await.refused);
    let second = ScriptedAgent::start(coordinator, &second).await;
    let first = Reporting::start(coordinator, &first).await;
    coordinator.until("all ready", |status| status.nodes.iter().all(|node| node.state == "ready")).await;
    (first, second)
}

/// Waits until it is stored that somebody was told.
pub async fn until_told(coordinator: &TestCoordinator, rule: &str) -> ListAlertsReply {
    let mut client = alerts(coordinator).await;
    let told = async {
        loop {
            let shown = client.list(ListAlertsRequest {}).await.unwrap().into_inner();
            if shown.alerts.iter().any(|alert| alert.rule == rule && !alert.sent_to.is_empty()) {
                return shown;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("somebody is told")
}

pub const FILE: &str = "repository/conf/deployment.toml";

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_is_told_once_signed_by_both_secrets_and_its_end_too() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start();
    let (new, old) = (private(&dir, "new", "s3cr3t-new\n"), private(&dir, "old", "s3cr3t-old"));
    let more = format!("secret_file = {new:?}\nprevious_secret_file = {old:?}");
    let coordinator = TestCoordinator::start_in(dir, &channel(receiver.address, &more)).await;
    let (mut node, _other) = settled(&coordinator).await;
    node.differs(FILE, "tug-of-war").await;
    let told = receiver.next().await;

    let message = told.json();
    let incident = &message["incidents"][0];
    assert_eq!(message["occasion"], "began");
    assert_eq!((&incident["rule"], &incident["group"]), (&Value::from("tug-of-war"), &Value::from("km")));
    assert_eq!(incident["begun"][0]["path"], FILE);
    let text = message["text"].as_str().unwrap();
    for part in [
        "is-1",
        FILE,
        "server.hostname",
        "left alone",
        "by alice as root with sed (process 812)",
        "next: convoy drift show is-1",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!told.body.contains("canary"), "values are not for alerts: {}", told.body);
    let signature = &told.headers["convoy-signature"];
    let at = signature.split(',').next().unwrap().strip_prefix("t=").unwrap();
    for secret in ["s3cr3t-new", "s3cr3t-old"] {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(format!("{at}.{}", told.body).as_bytes());
        let mine: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(signature.contains(&format!("v1={mine}")), "{signature}");
    }

    let shown = until_told(&coordinator, "tug-of-war").await;
    let shown_alert = shown.alerts.iter().find(|alert| alert.rule == "tug-of-war").unwrap();
    assert_eq!(
        (shown_alert.state(), shown_alert.sent_to.as_slice()),
        (AlertState::Firing, &["ops".to_owned()][..])
    );
    assert_eq!(shown.channels[0].name, "ops");
    coordinator.until("counted", |status| status.alerts_firing == 1).await;

    node.is_as_declared().await;
    let over = receiver.next().await.json();
    assert_eq!(
        (&over["occasion"], &over["incidents"][0]["incident"]),
        (&Value::from("over"), &incident["incident"])
    );
    let kinds: Vec<String> = coordinator
        .events(EventsRequest { most: 1000, ..EventsRequest::default() })
        .await
        .into_iter()
        .map(|event| event.kind)
        .filter(|kind| kind.starts_with("alert-"))
        .collect();
    assert_eq!(kinds, ["alert-raised", "alert-ended"]);
    assert_eq!(receiver.rest().len(), 0);
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_answers_500_is_tried_again_and_a_test_says_so_at_once() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start();
    let coordinator = TestCoordinator::start_in(dir, &channel(receiver.address, "")).await;
    let mut client = alerts(&coordinator).await;
    receiver.answers.send(500).unwrap();
    let test = |channel: &str| TestChannelRequest { channel: channel.to_owned() };
    let failed = client.test(test("ops")).await.unwrap().into_inner();
    assert!(!failed.ok && failed.detail.contains("status 500"), "{failed:?}");
    let taken = client.test(test("ops")).await.unwrap().into_inner();
    assert!(taken.ok, "{taken:?}");
    let message = receiver.next().await.json();
    assert_eq!(
        (&message["occasion"], &message["incidents"]),
        (&Value::from("test"), &Value::Array(Vec::new()))
    );
    let unknown = client.test(test("opps")).await.unwrap_err();
    assert!(unknown.message().contains("did you mean \"ops\"?"), "{unknown}");

    let (mut node, _other) = settled(&coordinator).await;
    receiver.answers.send(500).unwrap();
    node.differs(FILE, "tug-of-war").await;
    let failing = async {
        loop {
            let shown = client.list(ListAlertsRequest {}).await.unwrap().into_inner();
            if shown.channels[0].failing_ms != 0 {
                return shown.channels[0].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let failing = tokio::time::timeout(PATIENCE, failing).await.unwrap();
    assert_eq!((failing.tries, failing.why.as_str()), (1, "status 500"));
    assert_eq!(receiver.next().await.json()["occasion"], "began");
    coordinator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_coordinator_is_no_news() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start();
    let more = channel(receiver.address, "");
    let coordinator = TestCoordinator::start_in(dir, &more).await;
    let (mut node, other) = settled(&coordinator).await;
    node.differs(FILE, "tug-of-war").await;
    let first = receiver.next().await.json();
    // The answer to the message is stored before the coordinator stops.
    until_told(&coordinator, "tug-of-war").await;
    drop((node, other));
    let coordinator = TestCoordinator::start_in(coordinator.stop().await, &more).await;
    let mut client = alerts(&coordinator).await;
    // Both nodes are away, and it looks again and again: what it knew stays, and nothing is added.
    let before = coordinator.events(EventsRequest { most: 1000, ..EventsRequest::default() }).await.len();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let shown = client.list(ListAlertsRequest {}).await.unwrap().into_inner();
    let open: Vec<(&str, &str)> =
        shown.alerts.iter().map(|alert| (alert.rule.as_str(), alert.subject.as_str())).collect();
    assert_eq!(open, [("tug-of-war", format!("is-1 {FILE}").as_str())]);
    assert_eq!(shown.alerts[0].sent_to, ["ops"]);
    let after = coordinator.events(EventsRequest { most: 1000, ..EventsRequest::default() }).await.len();
    assert_eq!((before, receiver.rest().len()), (after, 0), "after {first}");
    coordinator.stop().await;
}

/// Kills of the coordinator while it alerts.
fn kills() -> u64 {
    std::env::var("ALERT_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_message_and_what_is_sent_twice_has_one_id() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut receiver = Receiver::start();
    let more = channel(receiver.address, "");
    let mut coordinator = TestCoordinator::spawn_with(dir, &more).await;
    let (first, second) = (coordinator.join("is-1").await, coordinator.join("is-2").await);
    assert!(!coordinator.apply(&small_fleet("a.example.org"), None).await.refused);
    let mut doubles = 0;
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    for round in 0..kills() {
        let memory = crate::support::Memory::default();
        let second = ScriptedAgent::resume(&coordinator, &second, memory).await;
        let mut node = Reporting::start(&coordinator, &first).await;
        // Each round edits another file, so each has a message of its own; the kill is at another instant each time.
        let path = format!("repository/conf/file-{round}");
        node.differs(&path, "tug-of-war").await;
        tokio::time::sleep(Duration::from_millis(900 + round * 137 % 1_500)).await;
        drop((node, second));
        coordinator = TestCoordinator::spawn_with(coordinator.kill().await, &more).await;
        let mut node = Reporting::start(&coordinator, &first).await;
        node.differs(&path, "tug-of-war").await;
        let mut client = alerts(&coordinator).await;
        let told = async {
            loop {
                let shown = client.list(ListAlertsRequest {}).await.unwrap().into_inner();
                let subject = format!("is-1 {path}");
                if shown.alerts.iter().any(|alert| alert.subject == subject && !alert.sent_to.is_empty()) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, told)
            .await
            .unwrap_or_else(|_| panic!("round {round}: nobody was told"));
        node.is_as_declared().await;
        loop {
            let message = receiver.next().await.json();
            let delivery = message["delivery"].as_str().unwrap().to_owned();
            let over = message["occasion"] == "over";
            if let Some(before) = known.insert(delivery, message["incidents"].clone()) {
                doubles += 1;
                assert_eq!(before, message["incidents"], "one id for two messages");
            }
            if over {
                break;
            }
        }
    }
    println!("{} kills, {} messages, {doubles} of them twice", kills(), known.len());
    let begun = known.values().flat_map(|incidents| incidents.as_array().unwrap());
    let begun: usize = begun.filter(|incident| incident["begun_count"] == 1).count();
    assert_eq!(u64::try_from(begun).unwrap(), kills());
    drop(coordinator.kill().await);
}

const MAIL: &str = "kind = \"mail\"\nserver = \"mx.example\"\nfrom = \"a@b.c\"\nto = [\"ops@b.c\"]\n";

#[test]
fn a_channel_that_cannot_work_is_refused_with_what_to_write_instead() {
    let dir = tempfile::tempdir().unwrap();
    let open = private(&dir, "open", "x");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let empty = private(&dir, "empty", "\n");
    let kept = private(&dir, "kept", "s3cr3t");
    let table = [
        ("kind = \"webhok\"\nurl = \"http://x/\"".to_owned(), "expected one of `webhook`"),
        ("kind = \"webhook\"".to_owned(), "needs `url`"),
        (
            "kind = \"webhook\"\nurl = \"ops.example.org/hook\"".to_owned(),
            "write it as \"https://host/path\"",
        ),
        (
            "kind = \"webhook\"\nurl = \"http://x/\"\nsecret_fil = \"y\"".to_owned(),
            "did you mean \"secret_file\"?",
        ),
        (format!("kind = \"webhook\"\nurl = \"http://x/\"\nsecret_file = {open:?}"), "chmod 600"),
        (format!("kind = \"slack\"\nurl_file = {empty:?}"), "is empty"),
        (format!("kind = \"slack\"\nurl_file = {:?}", dir.path().join("none")), "cannot read"),
        ("kind = \"log\"\nurl = \"http://x/\"".to_owned(), "a log has no `url`"),
        ("kind = \"command\"\nprogram = \"page\"".to_owned(), "an absolute path"),
        ("kind = \"log\"\nseverity = \"bad\"".to_owned(), "expected one of `info`"),
        ("kind = \"mail\"\nserver = \"mx\"\nfrom = \"a@b.c\"".to_owned(), "a mail needs `to`"),
        (format!("{MAIL}user = \"x\""), "`user` and `password_file` come together"),
        (format!("{MAIL}tls = \"none\"\nuser = \"x\"\npassword_file = {kept:?}"), "a password needs `tls"),
        (format!("{MAIL}user = \"x\"\npassword_file = {open:?}"), "chmod 600"),
        (MAIL.replace("mx.example", "smtp://mx"), "is not a mail server"),
        (MAIL.replace("ops@b.c", "ops"), "is not a mail address"),
        (format!("{MAIL}authorities = {empty:?}"), "it has no certificate"),
        ("kind = \"webhook\"\nurl = \"http://x/\"\nurl_file = \"y\"".to_owned(), "keep one of them"),
    ];
    for (text, expected) in table {
        let file = dir.path().join("coordinator.toml");
        let whole = format!("fleet = \"acme\"\ndata_dir = \"/tmp/x\"\n[alerts.channels.ops]\n{text}\n");
        std::fs::write(&file, &whole).unwrap();
        let refused = coordinator::config::Config::read(&file).unwrap_err();
        let told = coordinator::error_chain(&refused);
        assert!(told.contains(expected), "{text}\n{told}");
    }
}

#[test]
fn the_page_says_of_every_rule_what_the_code_does() {
    use fleet::{alert::Rule, time::Human};
    let page = include_str!("../../../docs/alerts.md");
    let rows: Vec<Vec<&str>> = page.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    for rule in Rule::ALL {
        let name = format!("`{rule}`");
        let row = rows.iter().find(|row| row.get(1) == Some(&name.as_str()));
        let row = row.unwrap_or_else(|| panic!("docs/alerts.md has no row for {rule}"));
        assert_eq!(row[2], rule.severity().as_str(), "{rule}");
        let hold = if rule.hold().is_zero() { "0".to_owned() } else { Human(rule.hold()).to_string() };
        assert_eq!(row[3], hold, "{rule}");
        let hiders = rule.hidden_by().iter().map(|hider| format!("`{hider}`"));
        let own = rule.is_expected_of_own_acts().then(|| "own acts".to_owned());
        let hidden: Vec<String> = hiders.chain(own).collect();
        assert_eq!(row[5], hidden.join(", "), "{rule}");
    }
}
