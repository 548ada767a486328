//! A stand-in for systemd with one unit: the interfaces of its manager that the agent uses, on a socket of its own, and
//! real processes behind them. Starts, restarts and stops as `Type=simple` with `KillMode=control-group`; a process
//! group stands for the control group.

use std::{
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, getpgid, kill_process_group};
use tokio::{net::UnixListener, process::Command, task::JoinHandle};
use zbus::{
    Connection, Guid, OwnedObjectPath, connection::Builder, fdo, interface, object_server::SignalEmitter,
};

const MANAGER: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "/org/freedesktop/systemd1/unit/the";
const NO_UNIT: &str = "/org/freedesktop/systemd1/unit/none";

/// What the unit file says.
#[derive(Debug, Clone, Default)]
pub struct UnitFile {
    /// E.g. `is.service`.
    pub name: String,
    /// Program and arguments.
    pub exec: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// `Restart=always`, with this `RestartSec`; else `no`.
    pub restart: Option<Duration>,
}

/// systemd, as far as a test needs it. Its processes end with it.
#[derive(Debug)]
pub struct Systemd {
    host: Arc<Host>,
    accepting: JoinHandle<()>,
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.accepting.abort();
        self.host.state().file.restart = None;
        self.host.signal(Signal::KILL);
    }
}

#[derive(Debug)]
struct Host {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: UnitFile,
    active: &'static str,
    sub: &'static str,
    result: &'static str,
    /// Of the newest start; it is also the group.
    pid: u32,
    starts: u8,
    jobs: u32,
    asked: Vec<&'static str>,
    jobs_fail: bool,
}

impl Systemd {
    /// Listens on a socket in `dir`.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn serve(dir: &Path, file: UnitFile) -> Result<Self> {
        let listener = UnixListener::bind(Self::socket(dir)).context("cannot listen as systemd")?;
        let state = State {
            file,
            active: "inactive",
            sub: "dead",
            result: "success",
            pid: 0,
            starts: 0,
            jobs: 0,
            asked: Vec::new(),
            jobs_fail: false,
        };
        let host = Arc::new(Host { state: Mutex::new(state) });
        let serving = host.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let host = serving.clone();
                connections.spawn(async move {
                    if let Ok(connection) = host.greet(stream).await {
                        connection.closed().await;
                    }
                });
            }
        });
        Ok(Self { host, accepting })
    }

    fn socket(dir: &Path) -> std::path::PathBuf {
        dir.join("systemd.sock")
    }

    /// `unit_bus` of an agent that shall speak to the one in `dir`.
    pub fn bus(dir: &Path) -> String {
        format!("peer:unix:path={}", Self::socket(dir).display())
    }

    /// The jobs asked for so far.
    pub fn asked(&self) -> Vec<&'static str> {
        self.host.state().asked.clone()
    }

    /// From now on every job to start ends as `failed`, and nothing is started.
    pub fn fail_jobs(&self, fail: bool) {
        self.host.state().jobs_fail = fail;
    }

    /// Another `RestartSec` from now on; none is `Restart=no`.
    pub fn set_restart(&self, restart: Option<Duration>) {
        self.host.state().file.restart = restart;
    }

    /// As an operator would, past the agent.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_by_hand(&self) -> Result<()> {
        Ok(self.host.start()?)
    }
}

impl Host {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn greet(self: &Arc<Self>, stream: tokio::net::UnixStream) -> zbus::Result<Connection> {
        let stream = stream.into_std()?;
        Builder::unix_stream(stream)
            .server(Guid::generate())
            .p2p()
            .serve_at(MANAGER, Manager(self.clone()))
            .serve_at(UNIT, AnyUnit(Some(self.clone())))
            .serve_at(UNIT, Service(Some(self.clone())))
            .serve_at(NO_UNIT, AnyUnit(None))
            .serve_at(NO_UNIT, Service(None))
            .build()
            .await
    }

    fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let mut state = self.state();
        if state.active != "inactive" && state.active != "failed" && state.sub != "auto-restart" {
            return Ok(());
        }
        let (program, arguments) = state.file.exec.split_first().expect("the unit starts something");
        let mut command = Command::new(program);
        let variables = state.file.environment.iter().filter_map(|line| line.split_once('='));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").envs(variables).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        state.pid = child.id().unwrap_or(0);
        state.starts += 1;
        (state.active, state.sub) = ("active", "running");
        drop(state);
        let host = self.clone();
        tokio::spawn(async move {
            let ended = child.wait().await;
            host.main_ended(ended.is_ok_and(|status| status.success())).await;
        });
        Ok(())
    }

    /// What is left of the group is ended too; then it is started again, if it should be and nobody stopped it.
    async fn main_ended(self: &Arc<Self>, well: bool) {
        self.signal(Signal::TERM);
        while self.lives() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let again = {
            let mut state = self.state();
            let stopped = state.active == "deactivating";
            state.result = if well || stopped { "success" } else { "exit-code" };
            let again = state.file.restart.filter(|_| !stopped);
            (state.active, state.sub) = match again {
                Some(_) => ("activating", "auto-restart"),
                None if well || stopped => ("inactive", "dead"),
                None => ("failed", "failed"),
            };
            again
        };
        if let Some(pause) = again {
            tokio::time::sleep(pause).await;
            if self.state().sub == "auto-restart" {
                // Fails as it would for systemd: the unit stays down.
                drop(self.start());
            }
        }
    }

    fn group(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.state().pid).ok()?)
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group() {
            // None of it may be left.
            kill_process_group(group, signal).ok();
        }
    }

    fn lives(&self) -> bool {
        self.group().is_some_and(|group| rustix::process::test_kill_process_group(group).is_ok())
    }

    fn job(&self, what: &'static str) -> (u32, OwnedObjectPath) {
        let mut state = self.state();
        state.asked.push(what);
        state.jobs += 1;
        let path = format!("{MANAGER}/job/{}", state.jobs);
        (state.jobs, OwnedObjectPath::try_from(path).expect("a path"))
    }

    fn knows(&self, name: &str) -> fdo::Result<()> {
        if self.state().file.name == name {
            return Ok(());
        }
        Err(fdo::Error::Failed(format!("Unit {name} not found.")))
    }
}

struct Manager(Arc<Host>);

impl Manager {
    fn path(&self, name: &str) -> OwnedObjectPath {
        let path = if self.0.knows(name).is_ok() { UNIT } else { NO_UNIT };
        OwnedObjectPath::try_from(path).expect("a path")
    }

    fn run_job(
        &self,
        what: &'static str,
        name: String,
        emitter: SignalEmitter<'static>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.0.knows(&name)?;
        let (id, job) = self.0.job(what);
        let (host, path) = (self.0.clone(), job.clone());
        tokio::spawn(async move {
            if what != "start" {
                host.stop_all().await;
            }
            let fails = host.state().jobs_fail && what != "stop";
            let started = what == "stop" || (!fails && host.start().is_ok());
            if fails {
                (host.state().active, host.state().sub) = ("failed", "failed");
            }
            let result = if started { "done" } else { "failed" };
            // Whoever asked may be gone.
            drop(Self::job_removed(&emitter, id, path, &name, result).await);
        });
        Ok(job)
    }
}

impl Host {
    async fn stop_all(&self) {
        {
            let mut state = self.state();
            if state.active == "activating" {
                (state.active, state.sub) = ("inactive", "dead");
            }
            if state.active != "active" {
                return;
            }
            (state.active, state.sub) = ("deactivating", "stop-sigterm");
        }
        self.signal(Signal::TERM);
        while self.state().active == "deactivating" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        self.path(name)
    }

    async fn start_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.run_job("start", name, emitter.to_owned())
    }

    async fn restart_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.run_job("restart", name, emitter.to_owned())
    }

    async fn stop_unit(
        &self,
        name: String,
        _mode: String,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> fdo::Result<OwnedObjectPath> {
        self.run_job("stop", name, emitter.to_owned())
    }

    fn kill_unit(&self, name: &str, _whom: &str, signal: i32) -> fdo::Result<()> {
        self.0.knows(name)?;
        self.0.state().asked.push("kill");
        self.0.signal(Signal::from_named_raw(signal).unwrap_or(Signal::TERM));
        Ok(())
    }

    #[zbus(name = "GetUnitByPID")]
    fn get_unit_by_pid(&self, pid: u32) -> fdo::Result<OwnedObjectPath> {
        let group = i32::try_from(pid).ok().and_then(Pid::from_raw).and_then(|pid| getpgid(Some(pid)).ok());
        if group.is_some() && group == self.0.group() {
            return Ok(OwnedObjectPath::try_from(UNIT).expect("a path"));
        }
        Err(fdo::Error::Failed(format!("PID {pid} does not belong to any loaded unit.")))
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

struct AnyUnit(Option<Arc<Host>>);

impl AnyUnit {
    fn of<T: Default>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.0.as_ref().map_or_else(T::default, |host| read(&host.state()))
    }
}

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl AnyUnit {
    #[zbus(property)]
    fn id(&self) -> String {
        self.of(|state| state.file.name.clone())
    }

    #[zbus(property)]
    fn load_state(&self) -> String {
        if self.0.is_some() { "loaded".to_owned() } else { "not-found".to_owned() }
    }

    #[zbus(property)]
    fn active_state(&self) -> String {
        self.of(|state| state.active.to_owned())
    }

    #[zbus(property)]
    fn sub_state(&self) -> String {
        self.of(|state| state.sub.to_owned())
    }

    #[zbus(property, name = "InvocationID")]
    fn invocation_id(&self) -> Vec<u8> {
        self.of(|state| vec![state.starts; 16])
    }
}

struct Service(Option<Arc<Host>>);

impl Service {
    fn of<T: Default>(&self, read: impl FnOnce(&State) -> T) -> T {
        self.0.as_ref().map_or_else(T::default, |host| read(&host.state()))
    }
}

/// As the agent's `Exec`.
type Exec = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl Service {
    #[zbus(property)]
    fn result(&self) -> String {
        self.of(|state| state.result.to_owned())
    }

    #[zbus(property, name = "MainPID")]
    fn main_pid(&self) -> u32 {
        self.of(|state| if state.active == "active" { state.pid } else { 0 })
    }

    #[zbus(property, name = "ControlPID")]
    fn control_pid(&self) -> u32 {
        0
    }

    #[zbus(property, name = "Type")]
    fn kind(&self) -> String {
        "simple".to_owned()
    }

    #[zbus(property)]
    fn exec_start(&self) -> Vec<Exec> {
        self.of(|state| {
            vec![(state.file.exec[0].clone(), state.file.exec.clone(), false, 0, 0, 0, 0, state.pid, 0, 0)]
        })
    }

    #[zbus(property)]
    fn environment(&self) -> Vec<String> {
        self.of(|state| state.file.environment.clone())
    }

    #[zbus(property)]
    fn environment_files(&self) -> Vec<(String, bool)> {
        Vec::new()
    }

    #[zbus(property)]
    fn user(&self) -> String {
        String::new()
    }

    #[zbus(property)]
    fn working_directory(&self) -> String {
        String::new()
    }

    #[zbus(property)]
    fn kill_mode(&self) -> String {
        "control-group".to_owned()
    }

    #[zbus(property)]
    fn restart(&self) -> String {
        self.of(|state| if state.file.restart.is_some() { "always" } else { "no" }.to_owned())
    }

    #[zbus(property, name = "TimeoutStopUSec")]
    fn timeout_stop(&self) -> u64 {
        600_000_000
    }
}
