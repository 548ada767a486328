//! A storm of orders: operators who ask for everything at once, against each other. Whatever they order, their guards and
//! the budget hold, and what they wanted last comes about.
//!
//! `STORM_ORDERS` is how many orders are given (default 80), `STORM_SEED` another order of them.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use convoy_tests::{
    asked,
    harness::{LIMIT, until},
};
use simulation::Chance;

use crate::{
    history::{self, History},
    small::{NODES, Small, common, pid},
};

/// Operators at work.
const OPERATORS: usize = 4;

/// One order as it is typed; none of them insists with `--now`.
fn order(chance: &mut Chance) -> Vec<&'static str> {
    let node = NODES[usize::from(chance.percent(50))];
    match chance.range(0, 11) {
        0 | 1 => vec!["node", "restart", node, "--yes"],
        2 => vec!["node", "stop", node, "--yes", "--reason", "storm"],
        3 | 4 => vec!["node", "start", node, "--yes"],
        5 => vec!["rollback", "--yes", "--reason", "storm"],
        6 => vec!["rollout", "pause", "--reason", "storm"],
        7 => vec!["rollout", "resume"],
        8 => vec!["drift", "pause", node, "--reason", "storm", "--for", "1m"],
        9 => vec!["drift", "resume", node],
        10 => vec!["status"],
        _ => vec!["APPLY"],
    }
}

/// Runs an order; the word of its outcome.
async fn give(small: &Small, words: Vec<&'static str>) -> Result<String> {
    let operator = small.site.operator();
    let ran = if words == ["APPLY"] {
        operator.run(["apply".as_ref(), small.fleet.arg(), "--yes".as_ref()]).await?
    } else {
        operator.run(&words).await?
    };
    // Done, failed, refused, or still in progress: all of them are answers.
    if ![0, 1, 3, 4].contains(&ran.code) || ran.said.contains("panicked") {
        bail!("{words:?}: {ran:?}");
    }
    let verb = words.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    Ok(format!("{verb}: {}", ran.code))
}

#[tokio::test]
async fn a_storm_of_orders_takes_down_no_more_than_the_budget_and_the_last_word_counts() -> Result<()> {
    let (orders, seed) = (asked("STORM_ORDERS").unwrap_or(80), asked("STORM_SEED").unwrap_or(4711));
    println!("STORM_SEED={seed}");
    let mut chance = Chance::new(seed);
    let small = Small::open().await?;
    small.apply().await?;
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut given = 0;
    while given < orders {
        small
            .fleet
            .write("config/common.toml", common(if chance.percent(50) { "first" } else { "second" }))?;
        let words: Vec<_> = (0..OPERATORS).map(|_| order(&mut chance)).collect();
        let all = futures::future::try_join_all(words.into_iter().map(|words| give(&small, words))).await?;
        given += all.len() as u64;
        for outcome in all {
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    calm(&small).await?;
    let mut histories = BTreeMap::new();
    for (index, (node, pack)) in NODES.into_iter().zip(&small.packs).enumerate() {
        histories.insert(node.to_owned(), History::read(&pack.carbon_log())?);
        ensure!(small.config_text(index)?.contains("last.example.org"), "{node} has other files");
    }
    let (most, starts) =
        (history::most_down(&histories), histories.values().map(History::starts).sum::<usize>());
    println!("{given} orders, {starts} starts of two servers, at most {most} down at once: {outcomes:#?}");
    ensure!(most <= 1, "both servers were down at once: {histories:#?}");
    ensure!(given < 40 || 4 < starts, "nothing was stormed");
    Ok(())
}

/// Everybody goes home, and one of them says what is to be.
async fn calm(small: &Small) -> Result<()> {
    let operator = small.site.operator();
    for node in NODES {
        operator.run(["drift", "resume", node]).await?;
        until(&format!("{node} to be allowed to start"), LIMIT, async || {
            let ran = operator.run(["node", "start", node, "--yes"]).await?;
            Ok((ran.code == 0).then_some(()))
        })
        .await?;
    }
    small.fleet.write("config/common.toml", common("last"))?;
    small.apply().await?;
    for node in NODES {
        pid(&small.ready(node).await?)?;
    }
    Ok(())
}
