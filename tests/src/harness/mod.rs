//! Real programs for end-to-end tests and the demo: a coordinator, agents and the operator's command, as processes in
//! a directory of their own, ended whatever happens.
//!
//! Everything listens on 127.0.0.1 below port 32768. Nothing here waits for a time; it waits for a state, within a
//! generous limit that only a failure reaches.

mod agent;
mod by_hand;
pub mod client;
mod coordinator;
mod daemon;
#[cfg(unix)]
pub mod database;
mod fleet_dir;
#[cfg(unix)]
pub mod haproxy;
#[cfg(unix)]
pub mod master;
mod operator;
mod programs;
mod site;
#[cfg(target_os = "linux")]
pub mod systemd;
mod until;

pub use agent::Agent;
pub use by_hand::{ByHand, Standing};
pub use coordinator::Coordinator;
pub use daemon::{Daemon, kill, memory};
pub use fleet_dir::FleetDir;
#[cfg(unix)]
pub use haproxy::Haproxy;
pub use operator::{Operator, Ran};
pub use programs::Programs;
pub use site::Site;
pub use until::{LIMIT, until};
