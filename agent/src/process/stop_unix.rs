//! Ending servers on Unix: signals to java and to the session that its script leads.

use fleet::observed::ProcessIdentity;
use process_wrap::tokio::ChildWrapper;

use super::table;

/// Ends servers.
#[derive(Debug, Clone, Copy)]
pub struct Stopper;

impl Stopper {
    /// TERM to java, which stops gracefully; the script ends by itself after it.
    pub fn stop(self, process: &ProcessIdentity) {
        signal(process, rustix::process::Signal::TERM);
    }

    /// QUIT to java: a thread dump in its output.
    pub fn dump(self, process: &ProcessIdentity) {
        signal(process, rustix::process::Signal::QUIT);
    }

    /// KILL to java and to everything in the session that its script leads.
    pub fn kill(self, process: &ProcessIdentity) {
        let Some(server) = table::alive(process) else { return };
        let own = rustix::process::getpgid(None).map_or(0, |pid| pid.as_raw_nonzero().get());
        let group = i32::try_from(server.group).ok().filter(|&group| 1 < group && group != own);
        // A group led by the script is the one that we made. Any other may hold strangers.
        let ours = group.filter(|_| server.group == server.parent || server.group == process.pid);
        let killed = ours.and_then(rustix::process::Pid::from_raw).is_some_and(|group| {
            rustix::process::kill_process_group(group, rustix::process::Signal::KILL).is_ok()
        });
        if !killed {
            signal(process, rustix::process::Signal::KILL);
        }
    }
}

/// Takes the exit of a script: it is our child, and would stay a zombie.
pub async fn reap(mut child: Box<dyn ChildWrapper>) {
    // How a script ends tells nothing.
    drop(child.wait().await);
}

/// Through a pidfd, so that the signal never reaches a later process of the same number.
#[cfg(target_os = "linux")]
fn signal(process: &ProcessIdentity, signal: rustix::process::Signal) {
    use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return };
    let Ok(fd) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if table::alive(process).is_none() {
        return;
    }
    if let Err(error) = pidfd_send_signal(&fd, signal) {
        tracing::error!(%error, pid = process.pid, "Cannot signal the server");
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
fn signal(process: &ProcessIdentity, signal: rustix::process::Signal) {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw) else { return };
    if table::alive(process).is_none() {
        return;
    }
    if let Err(error) = rustix::process::kill_process(pid, signal) {
        tracing::error!(%error, pid = process.pid, "Cannot signal the server");
    }
}
