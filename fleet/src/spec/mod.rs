//! The fleet directory as people type it, to the complete desired content of every node.
//!
//! Owns the format (docs/fleet-format.md is its reference): layers, expressions, product profiles, extra files.
//! Called by the coordinator for `plan` and `apply` and by the CLI for `lint`. Reads no file: the directory comes as a
//! map. Reports everything that is wrong at once, each with its place and remedy.

pub mod canonical;
