//! The whole coordinator inside the test, over real TLS.
#![allow(clippy::unwrap_used, reason = "in a test, a step that fails is the finding")]

mod crash;
mod identity;
mod introspection;
mod operator;
mod packs;
mod rollouts;
mod sizes;
mod support;
