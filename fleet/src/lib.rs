//! Every decision of Convoy, and no effect: what a fleet should be, what follows from what was observed, in which
//! order things may happen. Called by the coordinator, the agent and the CLI, which do the I/O.
//!
//! Promises: no clock, no randomness, no file, no environment, no runtime. `now` and seeds are arguments; the same
//! input gives the same output, byte for byte. Nothing here logs; reasons are returned as values.
#![deny(missing_docs)]

pub mod access;
pub mod admission;
pub mod alert;
pub mod approval;
pub mod audit;
pub mod balancer;
pub mod bundle;
pub mod call;
pub mod drift;
pub mod editor;
pub mod finding;
pub mod foreign;
pub mod health;
pub mod host;
pub mod ids;
pub mod import;
pub mod key_manager;
pub mod keystore;
pub mod lint;
pub mod logs;
mod mask;
pub mod node;
pub mod observed;
pub mod origin;
pub mod pack;
pub mod panics;
pub mod plan;
pub mod preflight;
pub mod product;
mod published;
pub mod reason;
pub mod restart;
pub mod rollout;
pub mod schema;
pub mod service;
pub mod signature;
pub mod spec;
pub mod time;
pub mod token;
pub mod trace;
pub mod trust;
pub mod words;
