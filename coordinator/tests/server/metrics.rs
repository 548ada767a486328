//! What Prometheus reads: documented, moving, and accepted by Prometheus' own checker.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use proto::wire::{
    agent::{Concern, Drift, Notice, Notices, from_agent, to_agent},
    operator::{ControlRolloutRequest, NodeRequest},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{PATIENCE, ScriptedAgent, TestCoordinator, config_text, report, small_fleet};

const PAGE: &str = include_str!("../../../docs/metrics.md");
const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\nnode_labels = true\n";
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";
/// What stands still as long as one coordinator runs.
const CONSTANT: [&str; 3] =
    ["convoy_build_info", "process_start_time_seconds", "convoy_authority_certificate_end_timestamp_seconds"];

async fn metered(more: &str) -> TestCoordinator {
    TestCoordinator::start_in(Arc::new(tempfile::tempdir().unwrap()), &format!("{more}{METRICS}")).await
}

/// Status line, headers and body.
async fn get(coordinator: &TestCoordinator, path: &str, accept: &str) -> (String, String) {
    let address = std::fs::read_to_string(coordinator.data("metrics-address")).unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

async fn scrape(coordinator: &TestCoordinator) -> String {
    let (head, body) = get(coordinator, "/metrics", "*/*").await;
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.contains("version=0.0.4"), "{head}");
    body
}

/// Name of the metric to all its samples.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut metric = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            metric = described.split(' ').next().unwrap().to_owned();
            found.entry(metric.clone()).or_default();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&metric), "{line} stands below {metric}");
            found.get_mut(&metric).unwrap().insert(line.to_owned());
        }
    }
    found
}

/// Metrics of the page's tables.
fn documented() -> BTreeSet<String> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let is_metric = |name: &&str| name.starts_with("convoy_") || name.starts_with("process_");
    rows.map(|(name, _)| name).filter(is_metric).map(str::to_owned).collect()
}

/// Those of the coordinator; `tests/tests/agent/metrics.rs` looks at the others.
fn of_coordinator() -> BTreeSet<String> {
    documented().into_iter().filter(|name| !name.starts_with("convoy_agent_")).collect()
}

fn is(wanted: &str) -> impl Fn(&str) -> bool {
    move |text| text.lines().any(|line| line == wanted)
}

async fn until(coordinator: &TestCoordinator, is: impl Fn(&str) -> bool) -> String {
    let wait = async {
        loop {
            let text = scrape(coordinator).await;
            if is(&text) {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(text) => text,
        Err(_) => panic!("it never came to this:\n{}", scrape(coordinator).await),
    }
}

/// A fleet through its life, and what was scraped on the way.
async fn life() -> Vec<String> {
    let coordinator = metered("").await;
    let mut seen = vec![scrape(&coordinator).await];
    let mut agents = Vec::new();
    for name in ["is-1", "is-2"] {
        let node = coordinator.join(name).await;
        agents.push(ScriptedAgent::start(&coordinator, &node).await);
    }
    seen.push(until(&coordinator, is("convoy_nodes_connected{group=\"\"} 2")).await);
    coordinator.apply(&small_fleet("one.example.org"), None).await;
    seen.push(until(&coordinator, is("convoy_rollout_steps{state=\"ready\"} 2")).await);
    seen.push(until(&coordinator, is("convoy_nodes{group=\"km\",state=\"ready\"} 2")).await);
    // A rollout that is paused.
    let mut slow = small_fleet("two.example.org");
    let manifest = slow.get_mut("fleet.toml").unwrap();
    *manifest = manifest.replace("soak = \"1ms\"", "soak = \"1h\"");
    coordinator.apply(&slow, None).await;
    let pause = ControlRolloutRequest { rollout: 2, action: "pause".into(), why: "lunch".into() };
    coordinator.operator().await.control_rollout(pause).await.unwrap();
    seen.push(until(&coordinator, is("convoy_rollout_paused 1")).await);
    // Its server fails, a file differs and its agent asks for help.
    let node = coordinator.join("is-3").await;
    let session = node.session(&coordinator).await.unwrap();
    let mut sick = report(None, None);
    sick.starts_total = 7;
    sick.concerns = vec![Concern { kind: "disk".into(), ..Concern::default() }];
    sick.drift = vec![Drift {
        path: "repository/conf/deployment.toml".into(),
        kind: "edited".into(),
        action: "reported".into(),
        ..Drift::default()
    }];
    session.say(from_agent::Message::Report(sick)).await;
    seen.push(until(&coordinator, is("convoy_concerns{group=\"\"} 1")).await);
    // A call that is refused, and one that nobody serves.
    let nobody = NodeRequest { node: "is-9".into() };
    coordinator.operator().await.show_node(nobody).await.unwrap_err();
    seen.push(scrape(&coordinator).await);
    coordinator.stop().await;
    seen
}

#[tokio::test]
async fn every_metric_is_documented_and_moves() {
    let mut seen = life().await;
    // A disk with less room than is asked for.
    let full = metered("[limits]\ndisk_reserve = 1000000000000000000\n").await;
    seen.push(until(&full, is("convoy_store_trouble{state=\"low-room\"} 1")).await);
    full.stop().await;
    let mut all: BTreeMap<String, Vec<BTreeSet<String>>> = BTreeMap::new();
    for text in &seen {
        for (metric, samples) in samples(text) {
            all.entry(metric).or_default().push(samples);
        }
    }
    let told: BTreeSet<String> = all.keys().cloned().collect();
    assert_eq!(told, of_coordinator(), "docs/metrics.md and the program differ");
    for (metric, scrapes) in &all {
        let different: BTreeSet<_> = scrapes.iter().filter(|samples| !samples.is_empty()).collect();
        let moves = 1 < different.len();
        assert!(moves || CONSTANT.contains(&metric.as_str()), "{metric} never moves: {different:?}");
    }
    let last = &seen[seen.len() - 2];
    for wanted in [
        "convoy_server_starts{group=\"\"} 7",
        "convoy_differences{group=\"\",action=\"reported\"} 1",
        "convoy_node_differences{group=\"\",node=\"is-3\"} 1",
        "convoy_calls_total{method=\"/convoy.operator.v1.Operator/ShowNode\",code=\"NOT_FOUND\"} 1",
        "convoy_events_total{kind=\"node-enrolled\"} 3",
        "convoy_revision 2",
    ] {
        assert!(is(wanted)(last), "{wanted} is not in\n{last}");
    }
}

#[tokio::test]
async fn both_formats_and_health_are_answered() {
    let coordinator = metered("").await;
    let (head, open) = get(&coordinator, "/metrics", OPEN_METRICS).await;
    assert!(head.contains("application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(open.ends_with("# EOF\n") && open.contains("# TYPE convoy_events counter\n"), "{open}");
    for (path, status, body) in [
        ("/livez", "200 OK", "ok\n"),
        ("/readyz", "200 OK", "ok\n"),
        ("/", "404 Not Found", "there are /metrics, /livez and /readyz\n"),
    ] {
        let (head, answered) = get(&coordinator, path, "*/*").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {head}");
        assert_eq!(answered, body, "{path}");
    }
    coordinator.stop().await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_serves_as_well_as_a_port() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metrics");
    let table = format!("[metrics]\nlisten = \"unix:{}\"\n", path.display());
    let coordinator = TestCoordinator::start_in(Arc::new(tempfile::tempdir().unwrap()), &table).await;
    let named = std::fs::read_to_string(coordinator.data("metrics-address")).unwrap();
    assert_eq!(named, format!("unix:{}", path.display()));
    let mut socket = tokio::net::UnixStream::connect(&path).await.unwrap();
    socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, socket.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("ok\n"), "{text}");
    coordinator.stop().await;
    assert!(!path.exists(), "the socket is left");
}

#[tokio::test]
async fn what_no_method_is_called_makes_no_series() {
    let coordinator = metered("").await;
    for index in 0..20 {
        let path = format!("/convoy.operator.v1.Operator/Guess{index}");
        let path: http::uri::PathAndQuery = path.parse().unwrap();
        let mut raw = tonic::client::Grpc::new(coordinator.channel(None).await.unwrap());
        raw.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<NodeRequest, NodeRequest>::default();
        let request = tonic::Request::new(NodeRequest::default());
        raw.unary(request, path, codec).await.unwrap_err();
    }
    let text = scrape(&coordinator).await;
    assert!(is("convoy_calls_total{method=\"unknown\",code=\"UNIMPLEMENTED\"} 20")(&text), "{text}");
    assert!(!text.contains("Guess"), "{text}");
    coordinator.stop().await;
}

/// Everything before the value of each sample.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

#[tokio::test]
async fn a_thousand_events_make_no_series_whatever_agents_call_them() {
    let coordinator = metered("").await;
    let mut session = coordinator.join("is-1").await.session(&coordinator).await.unwrap();
    session.say(from_agent::Message::Report(report(None, None))).await;
    let before = series(&until(&coordinator, is("convoy_nodes_connected{group=\"\"} 1")).await);
    let notice = |seq| Notice { seq, at_ms: 1, kind: format!("guess-{seq}"), ..Notice::default() };
    let notices = Notices { notices: (1..=1_000).map(notice).collect() };
    session.say(from_agent::Message::Notices(notices)).await;
    session
        .until(|message| match message {
            to_agent::Message::NoticesReceived(received) if received.up_to == 1_000 => Some(()),
            _ => None,
        })
        .await;
    let text = scrape(&coordinator).await;
    let told = text.lines().find_map(|line| line.strip_prefix("convoy_events_total{kind=\"notice\"} "));
    assert!(told.is_some_and(|count| 500 <= count.parse::<u32>().unwrap()), "{text}");
    let made: Vec<_> = series(&text).difference(&before).cloned().collect();
    // Calls have a series from the first of their kind on.
    let made: Vec<_> = made.iter().filter(|series| !series.starts_with("convoy_calls_total")).collect();
    assert!(made.is_empty(), "{made:?}");
    coordinator.stop().await;
}

/// Says so and answers false if Prometheus' own checker is not installed.
#[expect(clippy::print_stdout, reason = "a test that checks less says so")]
fn has_promtool() -> bool {
    let has = Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let has = has.is_ok_and(|status| status.success());
    if !has {
        println!("NOT EXERCISED: promtool is not installed");
    }
    has
}

#[tokio::test]
async fn prometheus_accepts_metrics_and_rules() {
    if !has_promtool() {
        return;
    }
    for text in life().await {
        let mut checker = Command::new("promtool");
        let checker = checker.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut checker = checker.stdout(Stdio::piped()).spawn().unwrap();
        checker.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let ended = checker.wait_with_output().unwrap();
        let said =
            String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success() && said.is_empty(), "{said}\n{text}");
    }
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/observability");
    for words in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]] {
        let ended = Command::new("promtool").args(words).current_dir(&rules).output().unwrap();
        assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    }
}

#[tokio::test]
async fn a_taken_port_is_told_before_anything_is_begun() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let text = config_text(&dir, &format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n"));
    let config = coordinator::config::Config::parse(&text).unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let refused = coordinator::run_on(config, stop, |store| store).await.unwrap_err().to_string();
    assert!(
        refused.contains("cannot listen for metrics") && refused.contains("another process"),
        "{refused}"
    );
    for file in ["operator/context.toml", "address", "metrics-address"] {
        assert!(!dir.path().join("data").join(file).exists(), "{file} was made");
    }
}

/// Every metric that rules and dashboard ask for.
#[test]
fn rules_and_dashboard_ask_for_what_there_is() {
    let known = documented();
    let texts = [
        include_str!("../../../docs/observability/alerts.yml"),
        include_str!("../../../docs/observability/dashboard.json"),
    ];
    for text in texts {
        if let Ok(dashboard) = serde_json::from_str::<serde_json::Value>(text) {
            assert!(dashboard["panels"].is_array());
        }
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let asked: BTreeSet<&str> = words.filter(|word| word.starts_with("convoy_")).collect();
        assert!(4 < asked.len(), "{asked:?}");
        for word in asked {
            let base = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(known.contains(base), "{word} is no metric");
        }
    }
}
