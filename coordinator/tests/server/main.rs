//! The whole coordinator inside the test, over real TLS.
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the finding")]
#![allow(clippy::disallowed_methods, reason = "a panic of a task fails the test that awaits it")]

mod absent;
mod admission;
mod alertmanager;
mod alerts;
mod alerts_at_scale;
mod alerts_over_time;
mod approvals;
mod audit;
mod calls;
mod crash;
mod ends;
mod fuzz;
mod host_certificates;
mod hostile;
mod hosts;
mod identity;
mod introspection;
mod logs;
mod looks;
mod mail;
mod memory;
mod metrics;
mod operator;
mod operators;
mod original;
mod packs;
mod plans;
mod promises;
mod recovery;
mod rollouts;
mod signatures;
mod sizes;
mod standings;
mod strangers;
mod support;
mod tokens;
