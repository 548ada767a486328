//! What end-to-end and simulation tests share; the only crate that may see both daemons.

pub mod harness;
pub mod pack;
pub mod sim;
pub mod standin;
