//! What the agent costs beside a healthy server under the default probes and heartbeats: first on a quiet host, then
//! beside many established connections, a large part of them the server's own. Both in one run, so that the ratio says
//! something whatever the machine is.

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{Daemon, LIMIT, until};
use fleet::{
    bundle::{RestartClass, RunState, Thresholds},
    observed::{ServiceState, Verdict},
};
use rustix::process::{Resource, getrlimit};
use tokio::time::{Instant, sleep};

use super::Scale;
use crate::rig::{Heartbeats, Rig};

/// As a fleet has them that sets nothing.
const THRESHOLDS: Thresholds =
    Thresholds { period: Duration::from_secs(10), failure: 3, success: 1, grace: Duration::from_secs(60) };
/// Descriptors that a process needs beside connections.
const SPARE: u64 = 1_000;
/// How many connections among strangers the helper process makes.
const STRANGERS: &str = "CONVOY_BENCH_STRANGERS";

/// What was used in a stretch of time.
struct Cost {
    cpu_a_minute: f64,
    resident_mib: f64,
}

/// CPU time of the threads of a process, in nanoseconds. Threads come and go, so they are looked at all the time.
#[derive(Default)]
struct Threads(BTreeMap<String, u64>);

impl Threads {
    fn look(&mut self, pid: u32) -> Result<u64> {
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let entry = entry?;
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let ran = text.split(' ').next().context("three numbers")?.parse()?;
            self.0.insert(entry.file_name().to_string_lossy().into_owned(), ran);
        }
        Ok(self.0.values().sum())
    }
}

async fn measure(pid: u32, time: Duration) -> Result<Cost> {
    let mut threads = Threads::default();
    let (begun, before) = (Instant::now(), threads.look(pid)?);
    while begun.elapsed() < time {
        sleep(Duration::from_millis(250)).await;
        threads.look(pid)?;
    }
    let used = threads.look(pid)? - before;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("its memory")?;
    let kib: f64 = resident.split_whitespace().next().context("a number")?.parse()?;
    Ok(Cost { cpu_a_minute: used as f64 / 1e9 / minutes, resident_mib: kib / 1024.0 })
}

/// Connections of this process to one port, as many as asked for.
fn connect(port: u16, count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|n| TcpStream::connect(("127.0.0.1", port)).with_context(|| format!("connection {n}")))
        .collect()
}

/// Connections to one port as clients of other hosts would have them: from addresses of their own. From ours they would
/// take most of the local ports that lead there, and every probe would pay for the kernel's search for one that is left;
/// it was two thirds of what the agent used then.
async fn connect_as_clients(port: u16, count: usize) -> Result<Vec<tokio::net::TcpStream>> {
    /// Of one address there are 28,232 local ports by default.
    const OF_ONE_ADDRESS: usize = 10_000;
    let mut held = Vec::with_capacity(count);
    for n in 0..count {
        let client = u8::try_from(2 + n / OF_ONE_ADDRESS)?;
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, client), 0).into())?;
        let stream = socket.connect((Ipv4Addr::LOCALHOST, port).into()).await;
        held.push(stream.with_context(|| format!("connection {n}"))?);
    }
    Ok(held)
}

/// Established connections of this machine.
fn established() -> Result<usize> {
    let mut count = 0;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        count += text.lines().filter(|line| line.split_whitespace().nth(3) == Some("01")).count();
    }
    Ok(count)
}

/// Connections that have nothing to do with agent and server. The benchmark starts this test as a process beside it, which
/// then holds as many as it says until its input ends; among the tests it makes two.
#[test]
fn strangers() -> Result<()> {
    let asked = env::var(STRANGERS).ok();
    let count: usize = asked.as_deref().unwrap_or("2").parse()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let pairs: Result<Vec<_>> = (0..count).map(|_| Ok((connect(port, 1)?, listener.accept()?))).collect();
    let pairs = pairs?;
    ensure!(pairs.len() == count && 2 * count <= established()?, "{} pairs", pairs.len());
    if asked.is_some() {
        std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    }
    Ok(())
}

#[tokio::test]
async fn connections_of_the_host_cost_the_agent_nothing() -> Result<()> {
    let (scale, program) = Scale::asked();
    let mut rig = Rig::open_beating("wso2is-7.2", Heartbeats::Default).await?;
    if let Some(program) = &program {
        rig.agent.kill().await?;
        rig.agent.set_program(program);
        rig.agent.start()?;
    }
    let mut wanted = rig.wanted();
    wanted.service.thresholds = THRESHOLDS;
    for (path, content) in super::files(scale.files) {
        if path != crate::rig::CONFIG {
            wanted = wanted.with_file(&path, &String::from_utf8(content)?, RestartClass::Hot);
        }
    }
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let server = rig.ready(generation).await?.process.context("it runs")?.pid;
    let pid = rig.agent.daemon.as_ref().and_then(Daemon::pid).context("it runs")?;
    sleep(scale.idle.min(Duration::from_secs(20))).await;
    let quiet = measure(pid, scale.idle).await?;

    // Both ends are on this machine, so each connection counts twice.
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let own = scale.connections.min(usize::try_from(limit.saturating_sub(SPARE))?) / 2 * 2;
    let held = connect_as_clients(9443 + rig.offset, own).await?;
    let mut strangers = Command::new(env::current_exe()?);
    strangers.args(["--exact", "bench::busy::strangers", "--nocapture"]);
    strangers
        .env(STRANGERS, (scale.connections - own).to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let mut strangers = strangers.spawn()?;
    let owned = || fs::read_dir(format!("/proc/{server}/fd")).map(Iterator::count).unwrap_or_default();
    until("the connections", LIMIT, async || {
        Ok((own <= owned() && 2 * scale.connections <= established()?).then_some(()))
    })
    .await?;
    sleep(scale.idle.min(Duration::from_secs(20))).await;
    let busy = measure(pid, scale.idle).await?;

    let seen = rig.observed().context("it is connected")?;
    ensure!(seen.service == ServiceState::Running && seen.health == Verdict::Healthy, "{seen:#?}");
    println!(
        "healthy server, default probes, {} files: quiet {:.3} CPU seconds a minute, {:.1} MiB; beside {} established \
         connections, {} of them the server's: {:.3} CPU seconds a minute, {:.1} MiB (goals 0.05 and 12)",
        scale.files,
        quiet.cpu_a_minute,
        quiet.resident_mib,
        established()?,
        owned(),
        busy.cpu_a_minute,
        busy.resident_mib,
    );
    println!(
        "ratio: CPU {:.2}, memory {:.2} (goal within 1.10)",
        busy.cpu_a_minute / quiet.cpu_a_minute,
        busy.resident_mib / quiet.resident_mib
    );
    ensure!(busy.resident_mib < quiet.resident_mib * 1.25, "memory grows with the connections of the host");
    drop(held);
    drop(strangers.stdin.take());
    ensure!(strangers.wait()?.success(), "the strangers");
    Ok(())
}
