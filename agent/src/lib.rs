//! The agent of one host: performs what the engine in `fleet::node` decides, and tells it what came of it.
//!
//! [`run`] is everything but arguments; [`run_in`] is the same in any surroundings. Nothing here decides: no policy on
//! restarts, drift, health or order of steps.
//! It listens on no port unless its configuration has a table `[metrics]`; it dials the coordinator and its own server's ports on 127.0.0.1. On Unix it has a socket in its
//! data directory, [`door`], for its own host.

pub mod admission;
pub mod arguments;
mod balancer;
pub mod cache;
pub mod call;
pub mod config;
pub mod doctor;
#[cfg(unix)]
pub mod door;
pub mod editors;
pub mod files;
pub mod identity;
pub mod journal;
pub mod key_manager;
pub mod link;
pub mod logs;
pub mod look;
mod metrics;
pub mod outside;
pub mod platform;
pub mod preflight;
pub mod private;
pub mod probe;
pub mod process;
pub mod program;
#[cfg(windows)]
pub mod service;
#[cfg(target_os = "linux")]
pub mod setup;
mod spans;
pub mod step;
mod task;
pub mod telemetry;
pub mod tls;
pub mod unit;
#[cfg(target_os = "linux")]
pub mod upgraded;
pub mod vitals;
pub mod watch;
pub mod world;

mod run;

pub use run::{RunError, run, run_in};

/// An error and all its sources, outermost first, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Tells the time of day: [`wall_clock`], or a simulation's.
pub type Clock = fn() -> fleet::time::Timestamp;

/// The wall clock, read here and nowhere else.
pub fn wall_clock() -> fleet::time::Timestamp {
    fleet::time::Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Threads that wait for something that does not come get this long when the agent ends.
pub const SHUTDOWN_TIME: std::time::Duration = std::time::Duration::from_millis(200);

/// What everything runs on.
///
/// # Errors
/// The system gives no threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
