//! The model simulation over many seeds. `SIM_SEED=n` replays one with its transcript, `SIM_SEEDS=n` runs that many.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use convoy_tests::sim::{self, Bug, Outcome};

/// Seeds in an ordinary run.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs seeds `0..count` on two threads, largest runs spread by chance.
fn sweep(count: u64) -> Vec<(u64, Outcome)> {
    let next = AtomicU64::new(0);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if count <= seed {
                return outcomes;
            }
            outcomes.push((seed, sim::run(seed, None)));
        }
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(work);
        let mut outcomes = work();
        outcomes.extend(other.join().expect("a simulation does not panic"));
        outcomes
    })
}

#[test]
fn no_seed_breaks_a_guarantee() {
    if let Some(seed) = number("SIM_SEED") {
        let outcome = sim::replay(seed, None);
        println!("{}", outcome.transcript.join("\n"));
        assert_eq!(outcome.violation, None, "seed {seed}");
        return;
    }
    let outcomes = sweep(number("SIM_SEEDS").unwrap_or(SEEDS));
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let mut broken = Vec::new();
    for (seed, outcome) in &outcomes {
        let counts = [
            ("entries", outcome.entries),
            ("steps", outcome.steps),
            ("launches", outcome.launches),
            ("faults", outcome.faults),
            ("hosts", outcome.hosts as u64),
        ];
        for (what, count) in counts.into_iter().chain(outcome.rollouts.iter().map(|(what, n)| (*what, *n))) {
            *totals.entry(what).or_default() += count;
        }
        if let Some(violation) = &outcome.violation {
            broken.push(format!("seed {seed}: {violation}"));
        }
    }
    println!("{} seeds: {totals:?}", outcomes.len());
    if let Some((seed, outcome)) = outcomes.iter().find(|(_, outcome)| outcome.violation.is_some()) {
        let lines = &outcome.transcript;
        println!("{}", lines[lines.len().saturating_sub(200)..].join("\n"));
        println!("replay: SIM_SEED={seed} cargo test -p convoy-tests --test sim");
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    // A sweep that never gets anywhere proves nothing.
    for what in ["done", "failed", "rolled-back", "aborted", "superseded"] {
        assert!(
            outcomes.len() < 500 || totals.get(what).is_some_and(|count| 10 < *count),
            "{what}: {totals:?}"
        );
    }
}

#[test]
fn a_seed_means_the_same_run_for_ever() {
    for seed in 0..20 {
        assert_eq!(sim::replay(seed, None), sim::replay(seed, None), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let found = (0..3000).find_map(|seed| sim::run(seed, Some(bug)).violation.map(|what| (seed, what)));
        let (seed, what) = found.unwrap_or_else(|| panic!("{bug:?} was not found in 3000 seeds"));
        println!("{bug:?}: seed {seed}: {what}");
    }
}
