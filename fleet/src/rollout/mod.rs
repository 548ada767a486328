//! Which node may go next, and why nothing may. Called by the coordinator, which commits what is decided here before
//! it sends anything; called by the simulation, which tries to break it.

pub mod policy;
pub mod window;

pub use policy::{FleetPolicy, OnFailure, Promotion, RolloutPolicy, Share};
pub use window::{Cron, Overrun, Window, WindowUse};
