//! From what happens on a host to the receiver of its alert: a real agent, a stand-in server, and an HTTP server that is
//! the test. Waits that operators configure are as short as they can be, so what is measured is Convoy's own part.
//!
//! `CONVOY_ROUNDS` says how often, as `cargo xtask proof alerts` does.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use convoy_tests::{
    harness::{Agent, FleetDir, LIMIT, Operator, Programs, kill, until},
    pack::{self, OffsetLease, Pack, PackSpec, Teardown},
};
use coordinator::{RunError, config::Config};
use fleet::time::Timestamp;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::small::CONFIG;

const ROUNDS: usize = 3;
/// Files that are edited in turn: one that is restored too often would be a tug-of-war.
const FILES: usize = 40;
const NODE: &str = "is-1";
/// Longer than anything that is counted over time: flaps, and what happens again.
const LATER: Duration = Duration::from_secs(2 * 3600);

fn rounds() -> usize {
    env::var("CONVOY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS)
}

/// How far the clock of each test's coordinator is ahead of the machine's, milliseconds. It jumps between rounds and runs
/// as any other within them.
static AHEAD: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
const EDITS: usize = 0;
const DEATHS: usize = 1;

fn clock<const OF: usize>() -> Timestamp {
    coordinator::wall_clock().after(Duration::from_millis(AHEAD[OF].load(Ordering::SeqCst)))
}

fn jump<const OF: usize>(time: Duration) {
    AHEAD[OF].fetch_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
}

/// A message, and when it was there.
struct Arrived {
    at: Instant,
    body: String,
}

impl Arrived {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).context("a message is JSON")
    }
}

struct Receiver {
    address: SocketAddr,
    arrived: mpsc::Receiver<Arrived>,
}

impl Receiver {
    fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, arrived) = mpsc::channel();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().filter_map(Result::ok) {
                if let Ok(message) = take(&stream)
                    && sender.send(message).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { address, arrived })
    }

    /// The next message about this rule that says this.
    async fn next(&self, rule: &str, occasion: &str) -> Result<Arrived> {
        until(&format!("a message: {rule} {occasion}"), LIMIT, async || {
            for arrived in self.arrived.try_iter() {
                let message = arrived.json()?;
                let rules = message["incidents"].as_array().context("incidents")?;
                if rules.iter().any(|it| it["rule"] == rule) {
                    ensure!(message["occasion"] == occasion, "{message:#}");
                    return Ok(Some(arrived));
                }
            }
            Ok(None)
        })
        .await
    }
}

fn take(mut stream: &TcpStream) -> Result<Arrived> {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
            Some(_) => {}
            None if line.starts_with("POST") => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let at = Instant::now();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    Ok(Arrived { at, body: String::from_utf8(body)? })
}

/// A coordinator in this process, an agent and its server. Fields are dropped in order.
struct World {
    agent: Agent,
    operator: Operator,
    pack: Pack,
    receiver: Receiver,
    stop: CancellationToken,
    coordinator: JoinHandle<Result<(), RunError>>,
    _teardown: Teardown,
    _lease: OffsetLease,
    _directory: tempfile::TempDir,
}

fn file(index: usize) -> String {
    format!("repository/conf/edits/{index}.properties")
}

impl World {
    async fn open<const OF: usize>() -> Result<Self> {
        let (programs, lease) = (Programs::locate()?, OffsetLease::take()?);
        let directory = tempfile::Builder::new().prefix("convoy-alerts-").tempdir()?;
        let teardown = Teardown::of(directory.path());
        let receiver = Receiver::start()?;
        let data = directory.path().join("coordinator");
        let text = format!(
            "fleet = \"told\"\ndata_dir = {data:?}\nlisten = \"127.0.0.1:0\"\nnames = [\"127.0.0.1\"]\n\
             [heartbeat]\ninterval = \"1s\"\n[alerts]\nfirst_after = \"1ms\"\n\
             [alerts.channels.test]\nkind = \"webhook\"\nurl = \"http://{}/hook\"\n",
            receiver.address
        );
        let config = Config::parse(&text).map_err(|error| anyhow::anyhow!("{error}"))?;
        let stop = CancellationToken::new();
        let coordinator = tokio::spawn(coordinator::run_by(config, stop.clone(), clock::<OF>, |store| store));
        until("the coordinator", LIMIT, async || Ok(data.join("address").exists().then_some(()))).await?;
        let operator = Operator::new(programs.convoy.clone(), data.join("operator/context.toml"));
        let product = "wso2is-7.2".parse()?;
        let mut spec = PackSpec::new(product, &programs.standin);
        spec.offset = lease.offset(0);
        let pack = pack::generate(&directory.path().join("node"), &spec)?;
        let mut agent =
            Agent::configure(&programs, &directory.path().join("agent"), NODE, &pack.home, &pack.java_home)?;
        agent.enrol(&operator).await?;
        agent.start()?;
        let fleet = FleetDir::create(&directory.path().join("fleet"))?;
        write_fleet(&fleet, &pack, lease.offset(0))?;
        operator.done(["apply".as_ref(), fleet.arg(), "--yes".as_ref(), "--wait".as_ref()]).await?;
        let world = Self {
            agent,
            operator,
            pack,
            receiver,
            stop,
            coordinator,
            _teardown: teardown,
            _lease: lease,
            _directory: directory,
        };
        world.pid(None).await?;
        Ok(world)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.pack.home.join(below)
    }

    /// The process of a server that is ready and is another than this one.
    async fn pid(&self, other_than: Option<u32>) -> Result<u32> {
        until("a server that is ready", LIMIT, async || {
            let node = self.operator.node(NODE).await?;
            let pid = node["report"]["process"]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
            Ok(pid.filter(|pid| node["state"] == "ready" && Some(*pid) != other_than))
        })
        .await
        .with_context(|| self.agent.log())
    }

    /// Waits until it is stored that the channel was told: a clock that jumps before counts from after the jump.
    async fn stored(&self, rule: &str, subject: &str) -> Result<()> {
        until("the arrival to be stored", LIMIT, async || {
            let alerts = self.operator.json(["alert", "list", "--all"]).await?;
            let all = alerts["alerts"].as_array().context("alerts")?;
            let alert = all.iter().find(|it| it["rule"] == rule && it["subject"] == subject);
            Ok(alert.filter(|it| it["sent_to"][0] == "test").map(|_| ()))
        })
        .await
    }

    async fn close(self) -> Result<()> {
        self.stop.cancel();
        Ok(self.coordinator.await??)
    }
}

fn write_fleet(fleet: &FleetDir, pack: &Pack, offset: u16) -> Result<()> {
    let mut text = format!(
        "name = \"told\"\n[service]\nprobe_period = \"1s\"\nprobe_grace = \"30s\"\nrestart_delay = \"1s\"\n\
         restart_delay_max = \"1s\"\nexits_window = \"10s\"\n\
         [alerts.rules.server-down]\nfor = \"0s\"\n\
         [groups.key-manager]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
         [groups.key-manager.rollout]\nsoak = \"1s\"\nmin_healthy_time = \"1s\"\n\
         [nodes.{NODE}]\ngroup = \"key-manager\"\nhost = \"127.0.0.1\"\nhome = {:?}\noffset = {offset}\n",
        pack.home
    );
    text.push_str("[[files]]\npath = \"repository/conf/edits/*\"\nrestart = \"hot\"\n");
    fleet.write("fleet.toml", text)?;
    fleet.write("config/common.toml", crate::small::common("first"))?;
    for index in 0..FILES {
        fleet.write(&format!("files/key-manager/{}", file(index)), format!("line = {index}\n"))?;
    }
    Ok(())
}

/// The figures of a run, for people.
fn figures(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1].as_secs_f64();
    println!(
        "{what}: {} times, p50 {:.2} s, p99 {:.2} s, at most {:.2} s",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_edit_reaches_the_receiver_by_name_and_without_its_values() -> Result<()> {
    let world = World::open::<EDITS>().await?;
    let mut times = Vec::new();
    for round in 0..rounds() {
        jump::<EDITS>(LATER);
        // The first is of deployment.toml, whose keys are named.
        let below = if round == 0 { CONFIG.to_owned() } else { file(round % FILES) };
        let before = fs::read_to_string(world.path(&below))?;
        let canary = format!("C4NARY-{round}");
        let begun = Instant::now();
        fs::write(world.path(&below), format!("{before}\n[canary]\npassword = \"{canary}\"\n"))?;
        let told = world.receiver.next("drift-restored", "began").await.with_context(|| world.agent.log())?;
        times.push(told.at.saturating_duration_since(begun));
        let message = told.json()?;
        let begun = &message["incidents"][0]["begun"];
        ensure!(message["incidents"][0]["begun_count"] == 1, "{message:#}");
        ensure!(begun[0]["node"] == NODE && begun[0]["path"] == below.as_str(), "{message:#}");
        let text = message["text"].as_str().context("a text")?;
        ensure!(text.contains("next: convoy drift show is-1"), "{text}");
        ensure!(round != 0 || text.contains("canary.password"), "its keys are not named: {text}");
        ensure!(!told.body.contains("C4NARY"), "values are not for alerts: {}", told.body);
        ensure!(fs::read_to_string(world.path(&below))? == before, "it is not restored");
        world.stored("drift-restored", &format!("{NODE} {below}")).await?;
    }
    figures("from an edit to its alert", times);
    world.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_death_of_a_server_reaches_the_receiver_and_so_does_its_return() -> Result<()> {
    let world = World::open::<DEATHS>().await?;
    let mut times = Vec::new();
    let mut pid = world.pid(None).await?;
    for _ in 0..rounds() {
        jump::<DEATHS>(LATER);
        let begun = Instant::now();
        if !kill(pid) {
            bail!("process {pid} is not there");
        }
        let told = world.receiver.next("server-down", "began").await.with_context(|| world.agent.log())?;
        times.push(told.at.saturating_duration_since(begun));
        let message = told.json()?;
        world.stored("server-down", NODE).await?;
        ensure!(message["severity"] == "critical", "{message:#}");
        ensure!(message["incidents"][0]["begun"][0]["node"] == NODE, "{message:#}");
        pid = world.pid(Some(pid)).await?;
        // It is over once it has been over for a minute.
        until("its return to be seen", LIMIT, async || {
            jump::<DEATHS>(Duration::from_secs(60));
            tokio::time::sleep(Duration::from_secs(1)).await;
            let alerts = world.operator.json(["alert", "list"]).await?;
            let open = alerts["alerts"].as_array().context("alerts")?;
            let down = open.iter().any(|it| it["rule"] == "server-down" && it["state"] == "firing");
            Ok((!down).then_some(()))
        })
        .await?;
        world.receiver.next("server-down", "over").await?;
    }
    figures("from the death of a server to its alert", times);
    world.close().await
}
