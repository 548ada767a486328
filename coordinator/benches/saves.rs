//! How many reports a second are stored, with an event each, on the store in a file: one session that saves again and
//! again, and 64 that save at once. `cargo xtask bench saves` runs it in a release build.
//!
//! The disk decides, so both are measured in turn, several times, and the figure is the ratio.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads clocks, prints, and ends at the first surprise"
)]

use std::{fs::OpenOptions, sync::Arc, time::Duration};

use coordinator::{
    events::{Draft, Events, Kind},
    store::{
        Embedded, Key, Store, Transaction,
        records::{Record as _, SeenRecord},
    },
    tasks::Tasks,
};
use fleet::{ids::NodeName, time::Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Sessions that save at once.
const SESSIONS: usize = 64;
/// Of one measurement.
const TIME: Duration = Duration::from_secs(3);
/// Measurements of each kind.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.redb");
    let tasks = Tasks::new(CancellationToken::new());
    let open = move || {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).open(&path)
    };
    let store: Arc<dyn Store> = Arc::new(Embedded::open(open, &tasks).unwrap());
    let events = Events::start(store, 20_000, &tasks).await.unwrap();
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let one = rate(&events, 1).await;
        let many = rate(&events, SESSIONS).await;
        println!(
            "one session: {one:.0} saves/s; {SESSIONS} at once: {many:.0} saves/s; {:.1} times",
            many / one
        );
        ratios.push(many / one);
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "median of {ROUNDS} rounds: {SESSIONS} sessions save {:.1} times as much as one",
        ratios[ROUNDS / 2]
    );
}

/// Saves a second of so many sessions together.
async fn rate(events: &Events, sessions: usize) -> f64 {
    let begin = Instant::now();
    let saving = (0..sessions).map(|session| tokio::spawn(save(events.clone(), session, begin + TIME)));
    let saving: Vec<_> = saving.collect();
    let mut saves = 0;
    for session in saving {
        saves += session.await.unwrap();
    }
    saves as f64 / begin.elapsed().as_secs_f64()
}

/// Saves a report and an event, one after the other, and counts them.
async fn save(events: Events, session: usize, until: Instant) -> usize {
    let node = NodeName::parse(&format!("is-{session}")).unwrap();
    let mut saves = 0;
    while Instant::now() < until {
        let seen = SeenRecord { last_seen: Timestamp(saves as i64), ..SeenRecord::default() };
        let event = Draft::new(seen.last_seen, Kind::Health, "its server is healthy").of_node(&node);
        let commit = Transaction::default().put(Key::seen(&node), seen.encode());
        events.append(vec![event], commit).await.unwrap();
        saves += 1;
    }
    saves
}
