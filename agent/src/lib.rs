//! (header to be written)

pub mod platform;
pub mod preflight;
