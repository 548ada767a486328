//! What an agent shows Prometheus and health checks: documented, moving, and accepted by Prometheus' own checker.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    process::{Command as Program, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, until};
use fleet::{bundle::RunState, node::Command, observed::ServiceState};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    rig::{CONFIG, LOGGING, Rig, node},
    supervision::kill,
};

const PAGE: &str = include_str!("../../../docs/metrics.md");
const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:0\"\n";
/// What stands still as long as one agent runs under one certificate.
const CONSTANT: [&str; 2] = ["convoy_agent_build_info", "convoy_agent_certificate_end_timestamp_seconds"];

/// Where the agent's data directory is while its journal cannot be written.
const AWAY: &str = "away";

/// Status and body; nothing while nobody listens.
async fn get(rig: &Rig, path: &str) -> Result<Option<(u16, String)>> {
    let places = [rig.agent.data_dir(), rig.directory().join(AWAY)].map(|dir| dir.join("metrics-address"));
    let Some(address) = places.iter().find_map(|path| fs::read_to_string(path).ok()) else { return Ok(None) };
    let Ok(mut socket) = TcpStream::connect(&address).await else { return Ok(None) };
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await?;
    let (head, body) = text.split_once("\r\n\r\n").context("a head")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok(Some((status, body.to_owned())))
}

/// Waits until the metrics have a line of this kind.
async fn scraped(rig: &Rig, what: &str, is: impl Fn(&str) -> bool) -> Result<String> {
    until(&format!("the metrics to say {what}"), LIMIT, async || {
        let scraped = get(rig, "/metrics").await?.filter(|(status, _)| *status == 200);
        Ok(scraped.map(|(_, text)| text).filter(|text| text.lines().any(&is)))
    })
    .await
    .with_context(|| rig.agent.log())
}

async fn line(rig: &Rig, wanted: &str) -> Result<String> {
    scraped(rig, wanted, |line| line == wanted).await
}

/// Waits until a health check is answered so.
async fn health(rig: &Rig, path: &str, status: u16, said: &str) -> Result<()> {
    until(&format!("{path} to be {status}, {said}"), LIMIT, async || {
        let answered = get(rig, path).await?;
        Ok(answered.is_some_and(|(is, text)| is == status && text.contains(said)).then_some(()))
    })
    .await
}

async fn command(rig: &Rig, command: Command) -> Result<()> {
    let (done, detail) = rig.coordinator.live.command(&node(), command)?.await?;
    ensure!(done, "{detail}");
    Ok(())
}

/// A server through its life, and what was scraped on the way.
async fn life() -> Result<Vec<String>> {
    let mut rig = Rig::open_with("wso2is-7.2", METRICS).await?;
    let mut seen = vec![line(&rig, "convoy_agent_connected 1").await?];
    health(&rig, "/readyz", 200, "ok").await?;
    health(&rig, "/livez", 200, "ok").await?;
    health(&rig, "/", 404, "there are /metrics").await?;
    // A server with something to look at: a secret that others can read.
    let mut wanted = rig.wanted();
    wanted.service.env.insert("DB_PASSWORD".into(), "very-secret".into());
    let wanted = wanted.with_config("\n[custom]\npassword = \"$env{DB_PASSWORD}\"\n");
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let ready = rig.ready(generation).await?;
    seen.push(line(&rig, "convoy_agent_server_healthy 1").await?);
    let measured = |line: &str| {
        line.strip_prefix("convoy_agent_logs_bytes ")
            .is_some_and(|bytes| bytes.parse::<u64>().is_ok_and(|it| 0 < it))
    };
    seen.push(scraped(&rig, "a measurement", measured).await?);
    let references = "repository/resources/conf/.metadata/references.properties";
    fs::set_permissions(rig.path(references), fs::Permissions::from_mode(0o644))?;
    command(&rig, Command::ResumeDrift).await?;
    seen.push(line(&rig, "convoy_agent_concerns 1").await?);
    // An edit that is undone.
    fs::write(rig.path(LOGGING), "rootLogger.level = TRACE\n")?;
    seen.push(line(&rig, "convoy_agent_differences{action=\"restored\"} 1").await?);
    line(&rig, "convoy_agent_actions_total{action=\"restore\"} 1").await?;
    // A journal that cannot be written, as a server ends.
    let (data, away) = (rig.agent.data_dir(), rig.directory().join(AWAY));
    fs::rename(&data, &away)?;
    kill(ready.process.as_ref().context("it runs")?.pid);
    seen.push(line(&rig, "convoy_agent_journal_trouble 1").await?);
    health(&rig, "/readyz", 503, "the journal cannot be written: ").await?;
    fs::rename(&away, &data)?;
    line(&rig, "convoy_agent_journal_trouble 0").await?;
    let up =
        |it: &fleet::observed::Observed| it.service == ServiceState::Running && it.process != ready.process;
    rig.until("another server to run", up).await?;
    seen.push(line(&rig, "convoy_agent_server_starts_total 2").await?);
    // The coordinator is gone, and another agent comes that has not seen it.
    rig.close_coordinator();
    seen.push(line(&rig, "convoy_agent_connected 0").await?);
    health(&rig, "/readyz", 503, "no coordinator: ").await?;
    rig.agent.kill().await?;
    rig.agent.start()?;
    seen.push(line(&rig, "convoy_agent_connections_total 0").await?);
    ensure!(rig.read(CONFIG).contains("$env{DB_PASSWORD}"));
    ensure!(!seen.iter().any(|text| text.contains("very-secret")));
    Ok(seen)
}

/// Name of the metric to all its samples.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut metric = String::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            metric = described.split(' ').next().expect("a name").to_owned();
            found.entry(metric.clone()).or_default();
        } else if !line.starts_with('#') {
            found.get_mut(&metric).expect("it was described").insert(line.to_owned());
        }
    }
    found
}

/// The agent's metrics of the page.
fn documented() -> BTreeSet<String> {
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let is_ours = |name: &&str| name.starts_with("convoy_agent_") || name.starts_with("process_");
    rows.map(|(name, _)| name).filter(is_ours).map(str::to_owned).collect()
}

/// Says so if Prometheus' own checker is not installed.
#[expect(clippy::print_stdout, reason = "a test that checks less says so")]
fn promtool_accepts(text: &str) -> Result<()> {
    let mut checker = Program::new("promtool");
    let checker = checker.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut checker) = checker.stdout(Stdio::piped()).spawn() else {
        println!("NOT EXERCISED: promtool is not installed");
        return Ok(());
    };
    checker.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    let ended = checker.wait_with_output()?;
    let said = String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
    ensure!(ended.status.success() && said.is_empty(), "{said}\n{text}");
    Ok(())
}

#[tokio::test]
async fn every_metric_of_the_agent_is_documented_and_moves() -> Result<()> {
    let seen = life().await?;
    let mut all: BTreeMap<String, BTreeSet<Option<BTreeSet<String>>>> = BTreeMap::new();
    let scrapes: Vec<_> = seen.iter().map(|text| samples(text)).collect();
    for name in scrapes.iter().flat_map(BTreeMap::keys) {
        let values = scrapes.iter().map(|scrape| scrape.get(name).cloned()).collect();
        all.insert(name.clone(), values);
    }
    let shown: BTreeSet<String> = all.keys().cloned().collect();
    assert_eq!(shown, documented(), "docs/metrics.md and the agent differ");
    for (metric, values) in &all {
        let moves = 1 < values.len();
        assert!(moves || CONSTANT.contains(&metric.as_str()), "{metric} never moves: {values:?}");
    }
    for text in &seen {
        promtool_accepts(text)?;
    }
    Ok(())
}
