//! Ending servers on Windows. There is no signal that a JVM without a console answers and that safe Rust can send, so
//! a stop is abrupt: docs/windows.md says what that means for sessions.

use std::collections::BTreeSet;

use fleet::observed::ProcessIdentity;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use super::table;

/// Ends servers.
#[derive(Debug, Clone, Copy)]
pub struct Stopper;

impl Stopper {
    /// Ends java; its script ends by itself after it, since the exit status is not 121.
    pub fn stop(self, process: &ProcessIdentity) {
        if table::alive(process).is_some() {
            end(&BTreeSet::from([Pid::from_u32(process.pid)]));
        }
    }

    /// A thread dump needs a console that the agent does not share.
    pub fn dump(self, process: &ProcessIdentity) {
        tracing::warn!(pid = process.pid, "No thread dump on Windows; use jcmd <pid> Thread.print");
    }

    /// Ends java, its script, and everything that either started.
    pub fn kill(self, process: &ProcessIdentity) {
        let Some(server) = table::alive(process) else { return };
        let mut all = BTreeSet::from([Pid::from_u32(process.pid)]);
        // The parent is the script, cmd.exe; a java started by hand has a shell that is not ours.
        if table::is_script(server.parent) {
            all.insert(Pid::from_u32(server.parent));
        }
        let Ok(mut system) = System::new() else { return };
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing());
        loop {
            let children = system.processes().values().filter(|child| {
                child.parent().is_some_and(|parent| all.contains(&parent)) && !all.contains(&child.pid())
            });
            let children: Vec<Pid> = children.map(sysinfo::Process::pid).collect();
            if children.is_empty() {
                break;
            }
            all.extend(children);
        }
        end(&all);
    }
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
