//! Ending servers on Windows: Ctrl-C in the server's own hidden console, by a small process of ours, since a process
//! can be attached to one console only; then the job, and whatever of the tree is not in it.

use std::{collections::BTreeSet, io, os::windows::process::CommandExt as _, process::Stdio, time::Duration};

use fleet::observed::ProcessIdentity;
use process_wrap::tokio::ChildWrapper;
use send_ctrlc::Interruptible;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::sync::Notify;

use super::table;

/// The hidden subcommand of `convoy-agent` that calls [`interrupt_console`].
pub const INTERRUPT_COMMAND: &str = "interrupt-console";
/// Without a console of its own, so that it can attach to the server's.
const DETACHED_PROCESS: u32 = 0x0000_0008;
/// Handlers run in threads of the receivers; the sender stays attached for so long.
const DELIVERY_TIME: Duration = Duration::from_millis(200);

/// Told when everything in the jobs of this agent's launches has to end.
static END_JOBS: Notify = Notify::const_new();

/// Ends servers.
#[derive(Debug, Clone, Copy)]
pub struct Stopper;

impl Stopper {
    /// Ctrl-C in the console of java, which then stops gracefully; its script ends by itself after it, since the exit
    /// status is not 121.
    pub fn stop(self, process: &ProcessIdentity) {
        if table::alive(process).is_none() {
            return;
        }
        let pid = process.pid;
        match start_interrupter(pid) {
            Ok(mut interrupter) => {
                std::thread::spawn(move || match interrupter.wait() {
                    Ok(status) if status.success() => {}
                    ended => tracing::error!(pid, ?ended, "The server's console took no Ctrl-C"),
                });
            }
            Err(error) => tracing::error!(%error, pid, "Cannot send Ctrl-C to the server"),
        }
    }

    /// A thread dump is asked for by Ctrl-Break, which the start script takes as well and ends by.
    pub fn dump(self, process: &ProcessIdentity) {
        tracing::warn!(pid = process.pid, "No thread dump on Windows; use jcmd <pid> Thread.print");
    }

    /// Ends the job of the launch, and java, its script, and everything that either started: an adopted server has no
    /// job of ours.
    pub fn kill(self, process: &ProcessIdentity) {
        let Some(server) = table::alive(process) else { return };
        END_JOBS.notify_waiters();
        let mut roots = BTreeSet::from([Pid::from_u32(process.pid)]);
        // The parent is the script, cmd.exe; a java started by hand has a shell that is not ours.
        if table::is_script(server.parent) {
            roots.insert(Pid::from_u32(server.parent));
        }
        end(&with_descendants(roots));
    }
}

fn with_descendants(mut all: BTreeSet<Pid>) -> BTreeSet<Pid> {
    let Ok(mut system) = System::new() else { return all };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing());
    // Windows keeps the number of a parent that is gone, and gives it to others: they are younger than the child.
    let is_child = |child: &&sysinfo::Process, all: &BTreeSet<Pid>| {
        let parent = child.parent().filter(|parent| all.contains(parent));
        let parent = parent.and_then(|parent| system.process(parent));
        parent.is_some_and(|parent| parent.start_time() <= child.start_time()) && !all.contains(&child.pid())
    };
    loop {
        let children = system.processes().values().filter(|child| is_child(child, &all));
        let children: Vec<Pid> = children.map(sysinfo::Process::pid).collect();
        if children.is_empty() {
            return all;
        }
        all.extend(children);
    }
}

/// Waits for the end of everything in the script's job, and ends it when a server is killed.
pub async fn reap(mut child: Box<dyn ChildWrapper>) {
    let killed = tokio::select! {
        _ = child.wait() => false,
        () = END_JOBS.notified() => true,
    };
    if killed && let Err(error) = child.start_kill() {
        tracing::error!(%error, "Cannot end the server's job");
    }
}

fn start_interrupter(pid: u32) -> io::Result<std::process::Child> {
    std::process::Command::new(std::env::current_exe()?)
        .args([INTERRUPT_COMMAND, "--pid", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .creation_flags(DETACHED_PROCESS)
        .spawn()
}

/// Everyone who is attached to this process's console.
struct OwnConsole;

impl Interruptible for OwnConsole {
    fn pid(&mut self) -> io::Result<Option<u32>> {
        // Group 0 is all groups of the console. A group of the server's own would not do: it switches Ctrl-C off.
        Ok(Some(0))
    }
}

/// Attaches this process to the console of `pid` and sends Ctrl-C to all who are attached to it, itself included.
///
/// # Errors
/// There is no such process, it has no console, or this process has one already.
pub async fn interrupt_console(pid: u32) -> io::Result<()> {
    let failed = |error: winsafe::co::ERROR| {
        io::Error::from_raw_os_error(i32::try_from(error.raw()).unwrap_or(i32::MAX))
    };
    winsafe::AttachConsole(winsafe::PidParent::Pid(pid)).map_err(failed)?;
    // After attaching, which forgets earlier handlers: this process survives its own Ctrl-C.
    let mut own = tokio::signal::windows::ctrl_c()?;
    OwnConsole.interrupt()?;
    drop(tokio::time::timeout(DELIVERY_TIME, own.recv()).await);
    Ok(())
}

fn end(pids: &BTreeSet<Pid>) {
    let Ok(mut system) = System::new() else { return };
    let wanted: Vec<Pid> = pids.iter().copied().collect();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&wanted), true, ProcessRefreshKind::nothing());
    for pid in wanted {
        if system.process(pid).is_some_and(|process| !process.kill()) {
            tracing::error!(pid = pid.as_u32(), "Cannot end a process of the server");
        }
    }
}
