//! One long-lived process with its output in a file. Ended when dropped.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, Signal, System};
use tokio::process::{Child, Command};

/// A running process.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it; standard output and error are appended to `log`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let open = || -> Result<File> {
            let file = OpenOptions::new().create(true).append(true).open(log);
            file.with_context(|| format!("cannot write {}", log.display()))
        };
        let what = format!("{:?}", command.as_std().get_program());
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?).kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("cannot start {what}"))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("cannot ask after a child")
    }

    /// Gone when this returns, by itself.
    ///
    /// # Errors
    /// It goes on for longer than anything may take.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(super::LIMIT, self.child.wait()).await;
        ended.context("it does not end")?.context("cannot wait for a child")
    }

    /// SIGKILL, and gone when this returns.
    ///
    /// # Errors
    /// It cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("cannot kill a child")
    }

    /// SIGTERM, and gone when this returns.
    ///
    /// # Errors
    /// It did not end in time.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.pid() {
            signal(pid, Signal::Term);
        }
        let ended = tokio::time::timeout(super::LIMIT, self.child.wait()).await;
        ended.context("it does not end on SIGTERM")?.context("cannot wait for a child")
    }

    /// What it wrote so far.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of what it wrote, for the message of a failure.
    pub fn last_lines(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

/// SIGKILL for a process that is not our child; whether it was there.
pub fn kill(pid: u32) -> bool {
    signal(pid, Signal::Kill)
}

/// Sends a signal to a process if it is there.
fn signal(pid: u32, signal: Signal) -> bool {
    let Ok(mut system) = System::new() else { return false };
    let pid = Pid::from_u32(pid);
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, ProcessRefreshKind::nothing());
    system.process(pid).and_then(|process| process.kill_with(signal)).unwrap_or(false)
}

/// Resident memory of a process in bytes, if it is there.
pub fn memory(pid: u32) -> Option<u64> {
    let mut system = System::new().ok()?;
    let pid = Pid::from_u32(pid);
    let what = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
    system.process(pid).map(sysinfo::Process::memory)
}
