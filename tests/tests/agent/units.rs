//! Servers that systemd runs: the real agent speaks D-Bus to a stand-in for systemd, which starts real processes.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{
        LIMIT, Programs,
        systemd::{Systemd, UnitFile},
        until,
    },
    standin::Misbehaviour,
};
use fleet::{
    bundle::{RestartClass, RunState},
    observed::{Observed, RefusalReason, ServiceState},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::{
    rig::{LOGGING, Rig, Wanted},
    supervision::kill,
    vault,
};

const UNIT: &str = "is.service";

struct Host {
    rig: Rig,
    systemd: Systemd,
}

/// A node whose agent drives a unit; `change` is made to the unit file that would be right.
async fn host(change: impl FnOnce(&mut UnitFile)) -> Result<Host> {
    let directory = tempfile::Builder::new().prefix("convoy-unit-").tempdir()?;
    let bus_dir = directory.path().to_owned();
    let mut systemd = None;
    let rig = Rig::open_in(directory, &Programs::locate()?, "wso2is-7.2", |pack, agent| {
        let mut file = UnitFile {
            name: UNIT.to_owned(),
            exec: vec!["/bin/sh".to_owned(), pack.script().display().to_string()],
            environment: vec![format!("JAVA_HOME={}", pack.java_home.display())],
            restart: None,
        };
        change(&mut file);
        systemd = Some(Systemd::serve(&bus_dir, file)?);
        agent.add_setting(&format!("unit_bus = {:?}", Systemd::bus(&bus_dir)))?;
        agent.add_setting(&format!("units = {{ {:?} = {UNIT:?} }}", pack.home))
    })
    .await?;
    Ok(Host { rig, systemd: systemd.context("systemd plays along")? })
}

impl Host {
    async fn up(&mut self, wanted: &Wanted) -> Result<u32> {
        let generation = self.rig.assign(wanted, RunState::Running).await?;
        Ok(self.rig.ready(generation).await?.process.context("it runs")?.pid)
    }
}

#[tokio::test]
async fn systemd_starts_restarts_and_stops_the_server_and_the_agent_never_does() -> Result<()> {
    let mut host = host(|_| ()).await?;
    let wanted = host.rig.wanted();
    let first = host.up(&wanted).await?;
    assert_eq!(host.systemd.asked(), ["start"]);
    assert_eq!(host.rig.alive().len(), 2, "one script and one java");

    // The agent's end is nothing to the unit; the next agent takes it over.
    host.rig.agent.kill().await?;
    host.rig.agent.start()?;
    let with_hot = wanted.with_file(LOGGING, "rootLogger.level = WARN\n", RestartClass::Hot);
    assert_eq!(host.up(&with_hot).await?, first);
    assert_eq!(host.systemd.asked(), ["start"]);

    let second = host.up(&wanted.with_config("\n[x]\ny = 1\n")).await?;
    assert_ne!(first, second);
    assert_eq!(host.systemd.asked(), ["start", "stop", "start"]);
    assert_eq!(host.rig.alive().len(), 2);

    host.rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Stopped).await?;
    host.rig.until("the server to stop", |observed| observed.service == ServiceState::Stopped).await?;
    assert_eq!(host.systemd.asked(), ["start", "stop", "start", "stop"]);
    assert_eq!(host.rig.alive(), [0; 0]);

    // Somebody starts it past the agent: seen, and stopped again as wanted.
    host.systemd.start_by_hand()?;
    until("the stranger to be stopped", LIMIT, async || {
        let stopped = host.systemd.asked().len() == 5 && host.rig.alive().is_empty();
        Ok(stopped.then_some(()))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_restart_by_systemd_itself_is_seen_and_counted_and_never_doubled() -> Result<()> {
    // systemd is quicker than the agent, which waits before it would start it.
    let mut host = host(|unit| unit.restart = Some(Duration::from_millis(1500))).await?;
    let mut wanted = host.rig.wanted();
    wanted.service.restart_policy.delay = Duration::from_secs(20);
    wanted.service.restart_policy.delay_max = Duration::from_secs(20);
    let first = host.up(&wanted).await?;
    kill(first);
    let counted = host
        .rig
        .until("the exit to be counted", |observed| {
            matches!(observed.service, ServiceState::BackingOff { exits: 1, .. })
        })
        .await?;
    assert!(counted.service_reason.contains("by itself (Restart=always)"), "{}", counted.service_reason);
    let after = host
        .rig
        .until("systemd's own start to be taken over", |observed| {
            observed.service == ServiceState::Running
                && observed.process.as_ref().is_some_and(|process| process.pid != first)
        })
        .await?;
    assert_eq!(after.starts_total, 1, "the agent has not started it");

    // So quickly that nobody sees it down: no restart from the console, but another end that counts.
    host.systemd.set_restart(Some(Duration::ZERO));
    let second = after.process.context("it runs")?.pid;
    kill(second);
    let after = host
        .rig
        .until("another server", |observed| {
            observed.service == ServiceState::Running
                && observed.process.as_ref().is_some_and(|process| process.pid != second)
        })
        .await?;
    host.systemd.set_restart(None);
    kill(after.process.context("it runs")?.pid);
    host.rig
        .until("three ends to be counted", |observed| {
            matches!(observed.service, ServiceState::BackingOff { exits: 3, .. })
        })
        .await?;
    assert_eq!(host.systemd.asked(), ["start"]);
    assert_eq!(host.rig.alive(), [0; 0]);
    Ok(())
}

#[tokio::test]
async fn where_the_agent_is_quicker_its_start_and_that_of_systemd_are_one() -> Result<()> {
    let mut host = host(|unit| unit.restart = Some(Duration::from_secs(3))).await?;
    let wanted = host.rig.wanted();
    let first = host.up(&wanted).await?;
    kill(first);
    host.rig
        .until("another server", |observed| {
            observed.service == ServiceState::Running
                && observed.process.as_ref().is_some_and(|process| process.pid != first)
        })
        .await?;
    assert_eq!(host.systemd.asked(), ["start", "start"]);
    assert_eq!(host.rig.alive().len(), 2);
    Ok(())
}

#[tokio::test]
async fn a_unit_of_another_home_is_refused_and_nothing_is_started() -> Result<()> {
    let mut host = host(|unit| {
        unit.exec = vec!["/bin/sh".to_owned(), "/opt/other/bin/wso2server.sh".to_owned()];
    })
    .await?;
    let wanted = host.rig.wanted();
    host.rig.assign(&wanted, RunState::Running).await?;
    let observed = host
        .rig
        .until("a refusal", |observed| {
            observed.attempted.as_ref().is_some_and(|attempt| attempt.failure.is_some())
        })
        .await?;
    let refusal = observed.attempted.and_then(|attempt| attempt.failure).context("a refusal")?;
    assert_eq!(refusal.reason, RefusalReason::PreflightFailed);
    assert!(refusal.detail.contains("of is.service names"), "{}", refusal.detail);
    assert_eq!(host.systemd.asked(), [""; 0]);
    assert_eq!(host.rig.alive(), [0; 0]);
    Ok(())
}

#[tokio::test]
async fn a_job_that_fails_counts_as_a_failed_start_and_no_script_is_started_in_its_place() -> Result<()> {
    let mut host = host(|_| ()).await?;
    host.systemd.fail_jobs(true);
    let wanted = host.rig.wanted();
    host.rig.assign(&wanted, RunState::Running).await?;
    let observed = host
        .rig
        .until("the start to fail", |observed| {
            observed.service == ServiceState::Stopped
                && observed.attempted.as_ref().is_some_and(|attempt| attempt.failure.is_some())
        })
        .await?;
    let failure = observed.attempted.and_then(|attempt| attempt.failure).expect("it failed");
    assert!(failure.detail.contains("its job ended as \"failed\""), "{failure:?}");
    // A home that nothing ran in goes back to what lay there, and stays as it was.
    let asked = host.systemd.asked();
    assert!(!asked.is_empty() && asked.iter().all(|asked| *asked == "start"), "{asked:?}");
    assert_eq!(host.rig.alive(), [0; 0]);
    // Another try, when the cause is gone.
    host.systemd.fail_jobs(false);
    host.up(&wanted.with_config("\n[x]\ny = 1\n")).await?;
    Ok(())
}

#[tokio::test]
async fn a_server_that_ignores_its_stop_is_killed_by_its_unit() -> Result<()> {
    let mut host = host(|_| ()).await?;
    host.rig.pack.misbehave(&Misbehaviour { ignore_term: true, ..Misbehaviour::default() })?;
    let mut wanted = host.rig.wanted();
    wanted.service.stop_deadline = Duration::from_secs(1);
    host.up(&wanted).await?;
    host.rig.assign(&wanted, RunState::Stopped).await?;
    host.rig.until("the server to be gone", |observed| observed.service == ServiceState::Stopped).await?;
    assert_eq!(host.systemd.asked(), ["start", "stop", "kill"]);
    assert_eq!(host.rig.alive(), [0; 0]);
    Ok(())
}

#[tokio::test]
async fn a_password_file_is_there_for_the_units_start_and_gone_after_it() -> Result<()> {
    let mut host = host(|_| ()).await?;
    let wanted = vault::locked(&host.rig);
    // The stand-in opens its vault or does not become ready.
    let process = host.up(&wanted).await?;
    vault::gone(&host.rig).await?;
    kill(process);
    host.rig.until("it to be up again", |observed| observed.starts_total == 2).await?;
    host.rig.until("it to be ready", |observed| observed.service == ServiceState::Running).await?;
    vault::gone(&host.rig).await
}

/// Asked to end, so that it ends what it has started (a message bus as well); killed it would leave that behind.
struct Manager(Child);

impl Manager {
    async fn end(mut self) -> Result<()> {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        kill_process(pid.context("it runs")?, Signal::TERM)?;
        tokio::time::timeout(LIMIT, self.0.wait()).await.context("systemd does not end")??;
        Ok(())
    }
}

/// A manager of systemd's own for this test, or why there is none. It believes that the host was started by systemd
/// only in a mount namespace of its own.
async fn real_manager(dir: &Path, unit: &str) -> Result<Manager> {
    let units = dir.join("home/.config/systemd/user");
    fs::create_dir_all(&units)?;
    fs::write(units.join(UNIT), unit)?;
    let runtime = dir.join("xdg");
    fs::create_dir_all(&runtime)?;
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700))?;
    let program = ["/lib/systemd/systemd", "/usr/lib/systemd/systemd"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    let program = program.context("systemd is not installed")?;
    let script =
        format!("mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec {program} --user");
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).env_clear().kill_on_drop(true);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", dir.join("home"));
    command.env("XDG_RUNTIME_DIR", &runtime).stdin(Stdio::null()).stdout(Stdio::null());
    let manager = command.stderr(fs::File::create(dir.join("systemd.log"))?).spawn().context("no unshare")?;
    let mut manager = Manager(manager);
    until("systemd to listen, or to end", LIMIT, async || {
        Ok((runtime.join("bus").exists() || manager.0.try_wait()?.is_some()).then_some(()))
    })
    .await?;
    let said = fs::read_to_string(dir.join("systemd.log"))?;
    ensure!(manager.0.try_wait()?.is_none(), "it does not run here: {}", said.trim());
    Ok(manager)
}

#[tokio::test]
async fn a_real_systemd_starts_restarts_and_stops_the_server() -> Result<()> {
    let directory = tempfile::Builder::new().prefix("convoy-systemd-").tempdir()?;
    let dir = directory.path().to_owned();
    let mut unit = String::new();
    let mut rig = Rig::open_in(directory, &Programs::locate()?, "wso2is-7.2", |pack, agent| {
        unit = format!(
            "[Service]\nExecStart=/bin/sh {}\nEnvironment=JAVA_HOME={}\nRestart=always\nRestartSec=1\n\
             TimeoutStopSec=60\n",
            pack.script().display(),
            pack.java_home.display()
        );
        agent.add_setting(&format!("unit_bus = \"unix:path={}/xdg/bus\"", dir.display()))?;
        agent.add_setting(&format!("units = {{ {:?} = {UNIT:?} }}", pack.home))
    })
    .await?;
    let manager = match real_manager(rig.directory(), &unit).await {
        Ok(manager) => manager,
        Err(why) => {
            println!("NOT EXERCISED: a real systemd: {why:#}");
            return Ok(());
        }
    };
    let mut wanted = rig.wanted();
    wanted.service.restart_policy.delay = Duration::from_secs(20);
    wanted.service.restart_policy.delay_max = Duration::from_secs(20);
    let generation = rig.assign(&wanted, RunState::Running).await?;
    let first = rig.ready(generation).await?.process.context("it runs")?.pid;
    assert_eq!(rig.alive().len(), 2, "one script and one java");

    kill(first);
    let other = |observed: &Observed, before: u32| {
        observed.service == ServiceState::Running
            && observed.process.as_ref().is_some_and(|process| process.pid != before)
    };
    let after = rig.until("systemd's own start to be taken over", |observed| other(observed, first)).await?;
    let second = after.process.context("it runs")?.pid;
    assert_eq!((after.starts_total, rig.alive().len()), (1, 2));

    let generation = rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Running).await?;
    let after = rig.ready(generation).await?;
    assert!(other(&after, second));
    assert_eq!((after.starts_total, rig.alive().len()), (2, 2));

    rig.assign(&wanted.with_config("\n[x]\ny = 1\n"), RunState::Stopped).await?;
    rig.until("the server to stop", |observed| observed.service == ServiceState::Stopped).await?;
    assert_eq!(rig.alive(), [0; 0]);
    assert!(!rig.agent.log().contains("ERROR"), "{}", rig.agent.log());
    manager.end().await
}
