//! The coordinator: keeps the desired state, tells it to the agents that dial in, and serves operators.
pub mod authority;
pub mod config;
pub mod identity;
pub mod listener;
pub mod private;
pub mod store;
