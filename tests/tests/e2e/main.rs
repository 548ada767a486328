//! End to end: the real coordinator, agents and command, with stand-ins for the WSO2 servers. Each test has a directory
//! and ports of its own and leaves nothing running.
#![allow(clippy::print_stdout, reason = "helpers of tests fail and speak like tests")]

mod adopted;
mod agents_upgrade;
mod alerts;
mod balancer;
mod canary;
mod checkpoints;
mod crash;
mod databases;
mod enrolment;
mod four_eyes;
mod gates;
mod going_back;
mod history;
mod host_certificates;
mod key_managers;
mod keys;
mod keystores;
mod kills;
mod logs;
mod managed_balancer;
mod nginx_members;
mod operators;
mod origins;
mod panics;
mod path;
mod quickstart;
mod real_fleets;
mod refusals;
mod rendered_balancer;
mod requests;
mod setting_up;
mod signatures;
mod small;
mod storm;
mod support_bundle;
mod taking_over;
mod traces;
mod trust_stores;
