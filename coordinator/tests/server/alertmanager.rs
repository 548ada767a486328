//! Alerts to a real Alertmanager: each by itself, with an end that stays ahead while it lasts.
//!
//! `ALERTMANAGER_MINUTES` says for how long it has to stay there, as `cargo xtask proof alerts --minutes` does.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    alerts::{FILE, settled},
    support::{PATIENCE, TestCoordinator},
};

/// A real one on a free port of loopback; it ends with the test.
struct Alertmanager {
    child: Child,
    address: String,
    _dir: TempDir,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Alertmanager {
    /// `None`: it is not installed.
    #[expect(clippy::print_stdout, reason = "a test that checks less says so")]
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("am.yml");
        fs::write(&config, "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n").unwrap();
        let log = dir.path().join("am.log");
        let spawned = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--cluster.listen-address="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => {
                println!("NOT EXERCISED: a real prometheus-alertmanager: {error}");
                return None;
            }
        };
        let address = address(&log).await;
        Some(Self { child, address, _dir: dir })
    }

    /// What it takes to be wrong, by the rule's name.
    fn alerts(&self) -> Vec<Value> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET /api/v2/alerts HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address)
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let json = &body[body.find('[').unwrap()..=body.rfind(']').unwrap()];
        serde_json::from_str::<Vec<Value>>(json).unwrap()
    }

    async fn until(&self, what: &str, is: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let alerts = tokio::task::block_in_place(|| self.alerts());
            if is(&alerts) {
                return alerts;
            }
            assert!(begun.elapsed() < PATIENCE, "it never came to this: {what}; it is {alerts:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn address(log: &Path) -> String {
    let begun = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap();
        let line = text.lines().find(|line| line.contains("msg=\"Listening on\""));
        if let Some((_, address)) = line.and_then(|line| line.split_once("address=")) {
            return address.trim().to_owned();
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn named<'a>(alerts: &'a [Value], name: &str) -> Option<&'a Value> {
    alerts.iter().find(|alert| alert["labels"]["alertname"] == name)
}

fn ends_in(alert: &Value) -> i64 {
    let ends: jiff::Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
    ends.as_second() - jiff::Timestamp::now().as_second()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_alertmanager_keeps_what_lasts_and_drops_what_is_over() {
    let Some(alertmanager) = Alertmanager::start().await else { return };
    let channel =
        format!("[alerts.channels.am]\nkind = \"alertmanager\"\nurl = \"http://{}\"\n", alertmanager.address);
    let coordinator = TestCoordinator::start_in(Arc::new(tempfile::tempdir().unwrap()), &channel).await;
    let (mut node, _other) = settled(&coordinator).await;
    node.differs(FILE, "tug-of-war").await;
    let alerts = alertmanager.until("the edit is there", |it| named(it, "tug-of-war").is_some()).await;
    let alert = named(&alerts, "tug-of-war").unwrap();
    assert_eq!((&alert["labels"]["group"], &alert["labels"]["node"]), (&"km".into(), &"is-1".into()));
    assert_eq!(alert["annotations"]["next"], "convoy drift show is-1");
    assert!(named(&alerts, "convoy-watchdog").is_some(), "nobody could report the coordinator's end");
    // Without an end of its own it would be over after five minutes; this one is moved each minute.
    assert!((120..=240).contains(&ends_in(alert)), "{alert}");
    let first = alert["endsAt"].clone();
    let both = |it: &[Value]| it.iter().filter(|it| it["labels"]["alertname"] == "tug-of-war").count() == 2;
    node.says_both(FILE, "repository/conf/other").await;
    let alerts = alertmanager.until("both are there", both).await;
    let of_file = |alerts: &[Value]| {
        let subject = format!("is-1 {FILE}");
        alerts.iter().find(|alert| alert["labels"]["subject"] == subject.as_str()).cloned()
    };
    assert_ne!(of_file(&alerts).unwrap()["endsAt"], first, "its end is not moved");
    let minutes = env::var("ALERTMANAGER_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60 * minutes) {
        // More often than a silent agent is given up.
        tokio::time::sleep(Duration::from_secs(3)).await;
        node.says_both(FILE, "repository/conf/other").await;
        let alerts = tokio::task::block_in_place(|| alertmanager.alerts());
        assert!(both(&alerts), "over after {:?} although it lasts: {alerts:#?}", begun.elapsed());
    }
    node.is_as_declared().await;
    alertmanager.until("all is over", |it| named(it, "tug-of-war").is_none()).await;
    coordinator.stop().await;
}
