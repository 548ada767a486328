//! The real coordinator and the real agent over real gRPC and TLS, in a network of our making: partitions, crashes, slow
//! disks. `NETWORK_SEED` repeats one run.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on fails, and says its seed"
)]

mod fixtures;
mod machine;
mod operator;
mod pages;
mod scenarios;
mod site;
mod sockets;
mod store;
