//! The server's processes: the script in a session of its own, and the java process that it runs.
//!
//! The script's exit status is never believed; what counts is the java process, known by pid and kernel start time. No
//! pipe, no cgroup and no parenthood ties the server to the agent: it lives on when the agent ends, and is found again.

mod console;
mod drive;
mod environment;
mod holder;
mod spawn;
#[cfg(unix)]
#[path = "stop_unix.rs"]
mod stop;
#[cfg(windows)]
#[path = "stop_windows.rs"]
mod stop;
mod supervise;
mod table;

#[cfg(windows)]
pub use self::stop::{INTERRUPT_COMMAND, interrupt_console};
pub(crate) use self::supervise::wait_for_end;
#[cfg(target_os = "linux")]
pub(crate) use self::table::is_server_of;
#[cfg(target_os = "linux")]
pub use self::table::{RunningHome, children, process_called, running_homes, started};
pub use self::{
    console::Console,
    stop::Stopper,
    supervise::Processes,
    table::{Server, alive, owns_port, servers, threads_and_files},
};
