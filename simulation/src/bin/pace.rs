//! Figures of rollouts, from the command line. `cargo xtask bench rollout` calls it.
#![allow(clippy::print_stdout, reason = "a tool for people")]

use std::time::Duration;

use clap::Parser;
use simulation::{Pace, pace};

#[derive(Debug, Parser)]
struct Typed {
    /// Nodes of the fleet.
    #[arg(long, default_value_t = 200)]
    nodes: u64,
    /// Percent of a group that may be down at once.
    #[arg(long, default_value_t = 10)]
    unavailable: u8,
    /// How many fleets, each with start times of its own.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
}

fn main() {
    let typed = Typed::parse();
    let secs = Duration::from_secs;
    for (what, waits) in [
        ("no deliberate waits", (Duration::ZERO, Duration::ZERO)),
        ("default waits (min_healthy_time 10 s, soak 30 s)", (secs(10), secs(30))),
    ] {
        println!("{what}, {} % at once:", typed.unavailable);
        for seed in 0..typed.seeds {
            let pace = pace(seed, typed.nodes, typed.unavailable, waits);
            println!("  seed {seed}: {}", line(&pace));
        }
    }
}

fn line(pace: &Pace) -> String {
    let ratio = |bound: Duration| pace.wall.as_secs_f64() / bound.as_secs_f64();
    format!(
        "{} nodes in {} waves took {:.0} s, at least {:.0} s by their starts: {:.3}; {:.3} with their stops",
        pace.nodes,
        pace.waves,
        pace.wall.as_secs_f64(),
        pace.bound.as_secs_f64(),
        ratio(pace.bound),
        ratio(pace.bound_with_stops)
    )
}
