//! The agent as a program on a real host: the binary itself, a real link to a coordinator, stand-in servers as real
//! processes, real files. Each test has its own directory, ports and processes, all ended with it.

mod adoption;
mod apply;
mod bench;
#[cfg(unix)]
mod databases;
mod disk;
mod doctor;
mod drift;
#[cfg(target_os = "linux")]
mod edits;
mod faults;
mod generated;
mod hooks;
mod kill;
mod metrics;
mod original;
mod proxy;
mod rig;
mod supervision;
mod traps;
mod truth;
#[cfg(target_os = "linux")]
mod units;
mod vault;
mod watching;
mod windows;
mod writers;
