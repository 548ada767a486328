//! The model simulation from the command line: `--seeds N --first SEED`, `--bug NAME` with one of the planted ones,
//! `--replay SEED` for a transcript. Exit 1 on any violation. `cargo xtask sim` calls it.
#![allow(clippy::print_stdout, reason = "a tool for people")]

use std::{collections::BTreeMap, process::ExitCode};

use clap::Parser;
use simulation::Bug;

#[derive(Debug, Parser)]
struct Typed {
    /// How many seeds.
    #[arg(long, default_value_t = 20_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// One seed with its transcript.
    #[arg(long)]
    replay: Option<u64>,
    /// Plant a mistake, and count the seeds that find it; `all` for each in turn.
    #[arg(long)]
    bug: Option<String>,
}

fn main() -> ExitCode {
    let typed = Typed::parse();
    let bugs: Vec<Bug> = Bug::ALL
        .into_iter()
        .filter(|bug| typed.bug.as_deref().is_some_and(|name| name == "all" || format!("{bug:?}") == name))
        .collect();
    if let Some(seed) = typed.replay {
        let outcome = simulation::replay(seed, bugs.first().copied());
        println!("{}", outcome.transcript.join("\n"));
        return if outcome.violation.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if typed.bug.is_some() {
        for bug in bugs {
            count(&typed, bug);
        }
        return ExitCode::SUCCESS;
    }
    let mut broken = 0_u64;
    simulation::sweep(typed.first..typed.first + typed.seeds, None, |seed, outcome| {
        if let Some(violation) = &outcome.violation {
            broken += 1;
            match broken {
                1 => println!("{}", outcome.tale(seed)),
                _ => println!("seed {seed}: {violation}"),
            }
        }
    });
    println!("{} seeds, {broken} broke a guarantee", typed.seeds);
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn count(typed: &Typed, bug: Bug) {
    let mut found: BTreeMap<u64, String> = BTreeMap::new();
    simulation::sweep(typed.first..typed.first + typed.seeds, Some(bug), |seed, outcome| {
        found.extend(outcome.violation.map(|what| (seed, what)));
    });
    match found.first_key_value() {
        Some((seed, what)) => println!("{bug:?}: {} of {}, first {seed}: {what}", found.len(), typed.seeds),
        None => println!("{bug:?}: not found in {}", typed.seeds),
    }
}
