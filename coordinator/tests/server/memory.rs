//! What large fleet directories leave behind in the memory of the real program.
//!
//! `MEASURED_MIB` is the size of each of four directories that are planned at the same time (default 24). The program is
//! the test's own build unless `MEASURED_PROGRAM` names another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use proto::wire::operator::{FileChunk, Upload, upload::Part};

use crate::{
    fuzz::rss,
    support::{TestCoordinator, small_fleet, upload},
};

const PLANS: usize = 4;
const MIB: usize = 1 << 20;
/// The largest file of a directory.
const FILE: usize = 8 * MIB;
/// As the command sends it.
const CHUNK: usize = 16 * 1024;

/// The messages of a directory with so many bytes of artifacts.
fn messages(bytes: usize, seed: usize) -> impl Iterator<Item = Upload> + Send + 'static {
    let small: BTreeMap<String, String> = small_fleet("a.example");
    let chunks = (0..bytes.div_ceil(FILE)).flat_map(move |file| {
        let size = FILE.min(bytes - file * FILE);
        (0..size.div_ceil(CHUNK)).map(move |chunk| {
            let mut data = vec![u8::try_from(chunk % 251).unwrap(); CHUNK.min(size - chunk * CHUNK)];
            data[0] = u8::try_from(seed % 251).unwrap();
            // One node cannot have more than half of the largest directory.
            let path = format!("files/is-{}/repository/components/lib/{file}.jar", 1 + file % 2);
            let last = size <= (chunk + 1) * CHUNK;
            Upload { part: Some(Part::File(FileChunk { path, data, last })) }
        })
    });
    upload(&small, None).into_iter().chain(chunks)
}

/// What the unit file sets for the program.
fn environment() -> Vec<(String, String)> {
    let unit = include_str!("../../../systemd/convoy-coordinator.service");
    let lines = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    let set: Vec<_> = lines
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(!set.is_empty(), "the unit sets how memory is given back");
    set
}

fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_plans_at_the_same_time_leave_no_memory_behind() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let program =
        std::env::var_os("MEASURED_PROGRAM").unwrap_or(env!("CARGO_BIN_EXE_convoy-coordinator").into());
    let coordinator = TestCoordinator::spawn(dir, program.as_ref(), &environment()).await;
    let size = std::env::var("MEASURED_MIB").ok().and_then(|text| text.parse().ok()).unwrap_or(24) * MIB;
    let before = rss(coordinator.pid());
    let plans = (0..PLANS).map(|seed| {
        let coordinator = &coordinator;
        async move {
            let mut operator = coordinator.operator().await;
            let plan = operator.plan(tokio_stream::iter(messages(size, seed))).await.unwrap().into_inner();
            assert!(!plan.refused && plan.nodes.len() == 2, "{:?}", plan.findings);
        }
    });
    futures::future::join_all(plans).await;
    let (at_once, most) = (rss(coordinator.pid()), peak(coordinator.pid()));
    // What is freed later, by threads that end.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let after = rss(coordinator.pid());
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{PLANS} plans of {} MiB at once: {} MiB resident before, {} at most, {} at the end, {} a second later",
        size / MIB,
        mib(before),
        mib(most),
        mib(at_once),
        mib(after)
    );
    let grown = |bytes: u64| bytes.saturating_sub(before) / size as u64;
    assert!(grown(most) < 6, "they are worked on at the same time");
    assert!(grown(after) < 1, "their memory is kept");
    coordinator.kill().await;
}
