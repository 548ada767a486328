//! A master process and its workers, in /proc.

use std::path::Path;

use fleet::{balancer::Kind, observed::ProcessIdentity};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::process::{alive, children, process_called};

/// The process of this number, if it is one of `program`. Its name is compared: whose program file it is, only its own
/// user may see.
pub(super) fn of(pid: u32, program: &Path) -> Option<ProcessIdentity> {
    let name = program.file_name()?.to_str()?;
    process_called(pid, name)
}

/// Its child processes, with the ticks at which they began.
pub(super) fn workers(master: &ProcessIdentity) -> Vec<(u32, u64)> {
    children(master.pid)
}

/// The signal at which it reads its configuration anew and lets its workers end in peace.
///
/// # Errors
/// It is gone, or of another user.
pub(super) fn signal(master: &ProcessIdentity, kind: Kind) -> Result<(), String> {
    let signal = match kind {
        Kind::Haproxy => Signal::USR2,
        Kind::Nginx => Signal::HUP,
    };
    let failed =
        |error: rustix::io::Errno| format!("cannot signal its master process {}: {error}", master.pid);
    let pid = i32::try_from(master.pid).ok().and_then(Pid::from_raw).ok_or("it has no process number")?;
    let fd = pidfd_open(pid, PidfdFlags::empty()).map_err(failed)?;
    // Opened first, then checked: from here on the number cannot become another process's.
    if alive(master).is_none() {
        return Err(format!("its master process {} has ended", master.pid));
    }
    pidfd_send_signal(&fd, signal).map_err(failed)
}
