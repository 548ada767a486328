//! Gates: a wave is followed by the next only if its nodes do what users need of them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use anyhow::{Result, ensure};
use convoy_tests::harness::{LIMIT, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::small::{NODES, Small, common, ensure_holds, pid};

const SECRET: &str = "gate-secret-4711";

/// Two Identity Servers with a gate of each kind. The command is a script that waits while `hold` exists, and fails
/// while `fail` does; each time it runs it leaves a line in `ran`.
struct Gated {
    small: Small,
    dir: PathBuf,
}

impl Gated {
    async fn open() -> Result<Self> {
        let mut small = Small::open().await?;
        let dir = small.site.path("gate");
        fs::create_dir(&dir)?;
        let script = dir.join("check.sh");
        let text = "#!/bin/sh\necho \"$2\" >> \"$1/ran\"\nwhile [ -e \"$1/hold\" ]; do sleep 0.1; done\n\
                    [ ! -e \"$1/fail\" ] || { echo 'batch is broken'; exit 3; }\n";
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        for agent in &mut small.site.agents {
            agent.kill().await?;
            agent.add_setting(&format!("[allow]\ncommands = [{script:?}]"))?;
            agent.start()?;
        }
        let file = small.site.path("secrets.toml");
        fs::write(&file, format!("\"gate.client\" = {SECRET:?}\n"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        let operator = small.site.operator();
        operator.done(["secret".as_ref(), "set".as_ref(), "--from".as_ref(), file.as_os_str()]).await?;
        let base = "https://localhost:{{ node.port('https') }}";
        let gates = format!(
            "\n[[groups.key-manager.rollout.gates]]\nname = \"login\"\nkind = \"http\"\n\
             url = \"{base}/oauth2/token/.well-known/openid-configuration\"\ncontains = \"issuer\"\n\
             [[groups.key-manager.rollout.gates]]\nname = \"token\"\nkind = \"token\"\n\
             token_url = \"{base}/oauth2/token\"\nclient_id = \"gate\"\n\
             client_secret = \"{{{{ secret('gate.client') }}}}\"\nurl = \"{base}/standin/api\"\ncontains = \"hello\"\n\
             [[groups.key-manager.rollout.gates]]\nname = \"batch\"\nkind = \"command\"\nprogram = {script:?}\n\
             args = [{dir:?}, \"{{{{ node.name }}}}\"]\non = \"new\"\ntimeout = \"2m\"\ntries = 2\ninterval = \"100ms\"\n"
        );
        let plain = small.fleet.read("fleet.toml")?;
        small.fleet.write("fleet.toml", plain + &gates)?;
        Ok(Self { small, dir })
    }

    fn ran(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(self.dir.join("ran"))?.lines().map(str::to_owned).collect())
    }

    async fn events(&self) -> Result<String> {
        self.small.site.operator().done(["events", "--last", "500"]).await
    }
}

#[tokio::test]
async fn a_wave_passes_its_gates_and_one_that_fails_takes_it_back() -> Result<()> {
    let gated = Gated::open().await?;
    let small = &gated.small;
    let operator = small.site.operator();

    // 1. All gates pass, and the second wave follows the first.
    small.apply().await?;
    // Which of them was first connected, and so first given anything, is not known.
    let first = gated.ran()?.len();
    small.fleet.write("config/common.toml", common("second"))?;
    ensure_holds(&small.apply().await?, &["is done: 2 nodes ready"])?;
    let events = gated.events().await?;
    let passed = ["gate login passed on is-1", "gate token passed on is-1", "gate batch passed on is-1"];
    ensure_holds(&events, &passed)?;
    // The one that is not changed yet is asked with the first wave, the changed one with the second.
    ensure!(events.matches("gate login passed on is-2").count() == 3, "{events}");
    ensure!(first == 2 && gated.ran()?[first..] == ["is-1", "is-2"], "{:?}", gated.ran());

    // 2. A gate that fails, at its second try too: the first wave goes back, the second is never touched.
    let untouched = pid(&small.ready("is-2").await?)?;
    fs::write(gated.dir.join("fail"), "")?;
    small.fleet.write("config/common.toml", common("third"))?;
    let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
    let ran = operator.run(words).await?;
    ensure!(ran.code == 1, "{ran:?}");
    ensure_holds(&gated.events().await?, &["gate batch failed on is-1", "batch is broken", "rolled-back"])?;
    ensure!(gated.ran()?[4..] == ["is-1", "is-1"], "{:?}", gated.ran());
    small.ready("is-1").await?;
    ensure!(small.config_text(0)?.contains("second.example.org"), "is-1 did not go back");
    ensure!(pid(&small.ready("is-2").await?)? == untouched, "is-2 was restarted although a gate had failed");

    // 3. Nobody sees the secret.
    let coordinator = fs::read_to_string(small.site.path("coordinator/coordinator.log"))?;
    let logs = small.site.agents.iter().map(convoy_tests::harness::Agent::log).chain([coordinator]);
    for text in logs.chain([gated.events().await?, ran.said]) {
        ensure!(!text.contains(SECRET), "a secret is shown:\n{text}");
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_that_was_lost_with_a_coordinator_is_asked_for_again() -> Result<()> {
    let mut gated = Gated::open().await?;
    gated.small.apply().await?;
    for node in NODES {
        gated.small.ready(node).await?;
    }
    let asked_before = gated.ran()?.len();

    fs::write(gated.dir.join("hold"), "")?;
    gated.small.fleet.write("config/common.toml", common("second"))?;
    let operator = gated.small.site.operator();
    operator.done(["apply".as_ref(), gated.small.fleet.arg(), "--yes".as_ref()]).await?;
    until("a node to be asked", LIMIT, async || Ok((asked_before < gated.ran()?.len()).then_some(())))
        .await?;
    let shown = operator.done(["rollout", "show"]).await?;
    ensure_holds(&shown, &["key-manager wave 1 is ready; gate batch is being asked on is-1"])?;
    gated.small.site.coordinator.kill().await?;
    fs::remove_file(gated.dir.join("hold"))?;
    gated.small.site.coordinator.restart().await?;
    let ran = operator.run(["rollout", "show", "--wait", "--timeout", "3m"]).await?;
    ensure!(ran.code == 0, "{ran:?}");
    let asked = &gated.ran()?[asked_before..];
    ensure!(asked == ["is-1", "is-1", "is-2"], "{asked:?}");
    Ok(())
}

/// A server that speaks the query API of Prometheus: it gives the same value to every query.
struct Metrics {
    port: u16,
    /// `None`: no data.
    value: Arc<Mutex<Option<&'static str>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Metrics {
    async fn serve() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let metrics = Self {
            port: listener.local_addr()?.port(),
            value: Arc::new(Mutex::new(Some("0.01"))),
            asked: Arc::default(),
        };
        let (value, asked) = (Arc::clone(&metrics.value), Arc::clone(&metrics.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 16 * 1024];
                let read = stream.read(&mut request).await.unwrap_or(0);
                asked
                    .lock()
                    .expect("nobody panics")
                    .push(String::from_utf8_lossy(&request[..read]).into_owned());
                let value = *value.lock().expect("nobody panics");
                let samples = value.map_or(String::new(), |value| {
                    format!("{{\"metric\":{{\"job\":\"is\"}},\"value\":[1700000000.1,\"{value}\"]}}")
                });
                let body = format!(
                    "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{samples}]}}}}"
                );
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close", body.len());
                drop(stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await);
            }
        });
        Ok(metrics)
    }

    fn set(&self, value: Option<&'static str>) {
        *self.value.lock().expect("nobody panics") = value;
    }
}

#[tokio::test]
async fn a_gate_asks_prometheus_and_tells_too_much_from_nobody_knows() -> Result<()> {
    let small = Small::open().await?;
    let operator = small.site.operator();
    let metrics = Metrics::serve().await?;
    let gate = format!(
        "\n[[groups.key-manager.rollout.gates]]\nname = \"errors\"\nkind = \"prometheus\"\non = \"new\"\n\
         url = \"http://127.0.0.1:{}\"\nquery = 'rate(errors_total{{instance=\"{{{{ node.name }}}}\"}}[5m])'\n\
         max = 0.05\ntries = 2\ninterval = \"100ms\"\ninconclusive_tries = 3\n",
        metrics.port
    );
    let plain = small.fleet.read("fleet.toml")?;
    small.fleet.write("fleet.toml", plain + &gate)?;
    small.apply().await?;
    let asked = metrics.asked.lock().expect("nobody panics").join("\n");
    ensure_holds(&asked, &["POST /api/v1/query", "instance%3D%22is-1%22", "instance%3D%22is-2%22"])?;

    for (value, why) in [
        (Some("0.2"), "0.2 is above 0.05 (2 tries)"),
        (None, "inconclusive: no data (3 tries)"),
        (Some("NaN"), "inconclusive: NaN, which is no value (3 tries)"),
    ] {
        metrics.set(value);
        small.fleet.write("config/common.toml", common(&format!("bad{}", why.len())))?;
        let words = ["apply".as_ref(), small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
        let ran = operator.run(words).await?;
        ensure!(ran.code == 1, "{value:?}: {ran:?}");
        let events = operator.done(["events", "--last", "100"]).await?;
        ensure_holds(&events, &["gate errors failed on is-", why])?;
    }
    metrics.set(Some("0.05"));
    ensure_holds(&small.apply().await?, &["is done: 2 nodes ready"])?;
    Ok(())
}
