//! The stand-in server under its start scripts, with real processes: what a supervisor would see.

mod config;
mod endpoints;
mod faults;
mod harness;
mod real;
mod scripts;
