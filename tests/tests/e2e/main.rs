//! End to end: the real coordinator, agents and command, with stand-ins for the WSO2 servers. Each test has a directory
//! and ports of its own and leaves nothing running.

mod crash;
mod enrolment;
mod path;
mod real_fleets;
mod refusals;
mod small;
