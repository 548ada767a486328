//! What a fleet costs its coordinator: memory while idle, during and after applies, the work of a look at the fleet with
//! one changed node, and of many who watch the status against one.
//!
//! `cargo xtask bench fleet` runs it against a release build. The coordinator is the real program, as a process of its
//! own; all agents are simulated in this one, each with its own connection, certificate and mutual TLS. They fetch what
//! they are assigned and report it as done at once, so the figures are the coordinator's. With `--coordinator` another
//! build is measured, to compare two on the same work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads clocks, prints, and ends at the first surprise"
)]

mod agents;
mod process;
mod site;

use std::{path::PathBuf, time::Duration};

use agents::{Agents, Change};
use clap::Parser;
use process::Process;
use proto::wire::operator::StatusRequest;
use site::Site;
use tokio::{task::JoinSet, time::Instant};

/// Steps of one rollout at most (ADR 65).
const APPLIED_MAX: usize = 12_800;
/// Watchers of the second measurement of the status.
const VIEWERS: usize = 50;
/// Between two changes: longer than the coordinator's pause between two looks, so that each change is looked at.
const CHANGE_EVERY: Duration = Duration::from_millis(100);
/// Changes that are measured together.
const CHANGES: usize = 50;

#[derive(Debug, Parser)]
struct Typed {
    /// Agents that are connected.
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
    /// Applies to all of them, or to as many as one revision takes.
    #[arg(long, default_value_t = 5)]
    applies: usize,
    /// The coordinator's program; the one that was built with this benchmark if absent.
    #[arg(long)]
    coordinator: Option<PathBuf>,
    /// Cargo says so; it changes nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let typed = Typed::parse();
    let program = typed.coordinator.unwrap_or_else(|| env!("CARGO_BIN_EXE_convoy-coordinator").into());
    let site = Site::make(program, typed.agents).await;
    let process = site.process();
    let empty = process.memory();
    println!("{} agents; the coordinator alone: {empty}", typed.agents);

    let applied = typed.agents.min(APPLIED_MAX);
    let begin = Instant::now();
    let agents = Agents::connect(&site).await;
    println!("connected and reported in {:.1} s", begin.elapsed().as_secs_f64());
    let idle = settled(&process).await;
    let each = idle.resident.saturating_sub(empty.resident) / typed.agents as u64;
    println!("idle: {idle}, {:.1} kB per agent more than without", each as f64 / 1000.0);
    println!("idle CPU: {:.2} % of a core", share(&process, Duration::from_secs(20)).await * 100.0);

    applies(&site, &agents, (applied, typed.applies), idle).await;
    looks(&site, &agents, applied).await;
}

/// After what is under way has ended and idle threads are gone.
async fn settled(process: &Process) -> process::Memory {
    tokio::time::sleep(Duration::from_secs(15)).await;
    process.memory()
}

/// How much of a core it takes.
async fn share(process: &Process, time: Duration) -> f64 {
    let before = process.cpu();
    tokio::time::sleep(time).await;
    (process.cpu() - before).as_secs_f64() / time.as_secs_f64()
}

async fn applies(site: &Site, agents: &Agents, (applied, times): (usize, usize), idle: process::Memory) {
    let process = site.process();
    let (mut peak, begin_cpu) = (0, process.cpu());
    for number in 1..=times {
        let watched = process.watch_peak();
        let begin = Instant::now();
        let revision = site.apply(applied, &format!("{number}.example.org")).await;
        let stored = begin.elapsed();
        agents.until_reached(revision, applied).await;
        site.until_no_rollout().await;
        let done = begin.elapsed();
        peak = peak.max(watched.end());
        println!(
            "apply {number} to {applied} nodes: stored after {:.1} s, everywhere after {:.1} s, then {}",
            stored.as_secs_f64(),
            done.as_secs_f64(),
            process.memory()
        );
    }
    let after = settled(&process).await;
    let times_idle = |bytes: u64| bytes as f64 / idle.resident as f64;
    println!(
        "applies: peak {:.0} MB, {:.2} times idle; after {times} of them {after}, {:.2} times idle; {:.1} s of CPU",
        peak as f64 / 1e6,
        times_idle(peak),
        times_idle(after.resident),
        (process.cpu() - begin_cpu).as_secs_f64()
    );
}

/// With a rollout that waits for one silent node, so that every change is looked at.
async fn looks(site: &Site, agents: &Agents, applied: usize) {
    let process = site.process();
    agents.silence_first();
    let revision = site.apply(applied, "waiting.example.org").await;
    agents.until_reached(revision, applied - 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let quiet = share(&process, Duration::from_secs(20)).await;
    println!("an open rollout that waits: {:.2} % of a core", quiet * 100.0);
    let alone = change_nodes(&process, agents, Change::Concern).await;
    println!("a changed node, nobody watching: {:.2} ms of CPU", alone * 1000.0);
    let looked = change_nodes(&process, agents, Change::Health).await;
    println!("a node whose health changes, nobody watching: {:.2} ms of CPU", looked * 1000.0);
    let mut costs = Vec::new();
    for viewers in [1, VIEWERS] {
        let mut watching = JoinSet::new();
        for _ in 0..viewers {
            let mut operator = site.operator().await;
            watching.spawn(async move {
                let mut stream = operator.watch_status(StatusRequest {}).await.unwrap().into_inner();
                while stream.message().await.unwrap().is_some() {}
            });
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let cost = change_nodes(&process, agents, Change::Concern).await;
        println!("a changed node, {viewers} watching the status: {:.2} ms of CPU", cost * 1000.0);
        costs.push(cost);
        watching.shutdown().await;
    }
    println!("{VIEWERS} viewers cost {:.2} times one", costs[1] / costs[0]);
    println!("at the end: {}", settled(&process).await);
}

/// CPU seconds for each of many changes of one node, spaced so that they are not taken together.
async fn change_nodes(process: &Process, agents: &Agents, change: Change) -> f64 {
    let before = process.cpu();
    let mut every = tokio::time::interval(CHANGE_EVERY);
    for number in 0..CHANGES {
        every.tick().await;
        agents.change(1 + number, change).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    (process.cpu() - before).as_secs_f64() / CHANGES as f64
}
