use std::{sync::Arc, time::Duration};

use convoy_tests::asked;
use simulation::Chance;

use crate::{
    operator::{IN_FLIGHT, Operator, newest, nodes_in},
    site::{NODES, Order, Site, Weather, simulate},
};

const CALM: Weather = Weather { latency: Duration::from_millis(20), commit: Duration::ZERO };
/// As typed, or the test's own.
fn seed(own: u64) -> u64 {
    asked("NETWORK_SEED").unwrap_or(own)
}

/// Each server was launched once per rollout, and runs what the last one brought.
fn each_once(site: &Site, rollouts: usize, word: &str) {
    for (node, server) in &site.servers {
        let launches = &server.lock().launches;
        assert_eq!(launches.len(), rollouts, "{node}: {launches:#?}");
        assert!(launches.last().unwrap().contains(word), "{node}: {launches:#?}");
    }
    let generations = site.committed.lock().unwrap().clone();
    for node in NODES {
        assert_eq!(generations[node].0, rollouts as u64, "{node}");
    }
}

async fn wait(chance: &mut Chance, from_ms: u64, to_ms: u64) {
    tokio::time::sleep(Duration::from_millis(chance.range(from_ms, to_ms))).await;
}

#[test]
fn a_partition_in_the_middle_of_a_rollout_is_waited_for_by_name() {
    let site = simulate(seed(1), CALM, |site, _| async move {
        let mut operator = Operator::settled(site).await;
        operator.apply("two").await;
        let status = operator.until(|status| {
            let ready = nodes_in(status, &["ready"]);
            !ready.is_empty() && !nodes_in(status, &IN_FLIGHT).is_empty()
        });
        let cut = nodes_in(&status.await, &IN_FLIGHT).remove(0);
        turmoil::partition(cut.as_str(), "coordinator");
        let status = operator
            .until(|status| {
                let gone = status.nodes.iter().any(|node| node.name == cut && !node.connected);
                let named = newest(status).unwrap().waiting.iter().any(|why| why.contains(&cut));
                gone && named
            })
            .await;
        assert_eq!(newest(&status).unwrap().state, "running");
        // Its server is up again by now, and nobody hears of it: the others have to wait all the same.
        tokio::time::sleep(Duration::from_secs(40)).await;
        let launches = operator.site.launches();
        assert!(launches.iter().sum::<usize>() < 8, "{launches:?}");
        turmoil::repair(cut.as_str(), "coordinator");
        operator.done(2).await;
    });
    each_once(&site, 2, "two");
}

#[test]
fn a_node_that_is_cut_off_uses_up_the_budget_though_it_serves() {
    let site = simulate(seed(8), CALM, |site, _| async move {
        let mut operator = Operator::settled(site).await;
        operator.apply("two").await;
        let status = operator.until(|status| {
            !nodes_in(status, &["ready"]).is_empty() && nodes_in(status, &IN_FLIGHT).len() == 1
        });
        let cut = nodes_in(&status.await, &["ready"]).remove(0);
        turmoil::partition(cut.as_str(), "coordinator");
        // What was sent before the silence was noticed is brought to its end; only then does nothing begin.
        operator
            .until(|status| {
                let gone = status.nodes.iter().any(|node| node.name == cut && !node.connected);
                gone && nodes_in(status, &IN_FLIGHT).is_empty()
            })
            .await;
        let before = operator.site.launches();
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(operator.site.launches(), before, "a step began while {cut} was not heard of");
        let status = operator.status().await;
        let waiting = &newest(&status).unwrap().waiting;
        assert!(waiting.iter().any(|why| why.contains(&cut)), "{waiting:#?}");
        turmoil::repair(cut.as_str(), "coordinator");
        operator.done(2).await;
    });
    each_once(&site, 2, "two");
}

/// The coordinator is killed three times while a rollout runs, also in the middle of commits.
fn killed_coordinator(own_seed: u64) {
    let weather = Weather { commit: Duration::from_millis(150), ..CALM };
    let site = simulate(seed(own_seed), weather, |site, mut chance| async move {
        let mut operator = Operator::settled(site.clone()).await;
        operator.apply("two").await;
        for _ in 0..3 {
            wait(&mut chance, 0, 9_000).await;
            site.order(Order::Crash("coordinator"));
            let before: usize = site.launches().iter().sum();
            wait(&mut chance, 500, 15_000).await;
            let after: usize = site.launches().iter().sum();
            // What was sent is brought to its end; nothing else happens.
            assert!(after <= before + 1, "{before} launches, then {after} without a coordinator");
            site.order(Order::Start("coordinator"));
        }
        operator.done(2).await;
    });
    each_once(&site, 2, "two");
}

#[test]
fn a_killed_coordinator_neither_loses_nor_repeats_a_step() {
    killed_coordinator(2);
}

#[test]
fn a_killed_coordinator_neither_loses_nor_repeats_a_step_at_other_moments() {
    killed_coordinator(3);
}

#[test]
fn with_a_store_that_takes_seconds_nothing_is_sent_before_its_commit() {
    let weather = Weather { commit: Duration::from_secs(3), ..CALM };
    let site = simulate(seed(4), weather, |site, _| async move {
        let mut operator = Operator::settled(site).await;
        operator.apply("two").await;
        operator.done(2).await;
    });
    each_once(&site, 2, "two");
}

/// One thing that goes wrong with one node, and its end.
async fn misfortune(site: &Site, chance: &mut Chance) {
    let node = NODES[chance.index(NODES.len())];
    let kind = chance.index(4);
    match kind {
        0 => turmoil::partition(node, "coordinator"),
        1 => turmoil::partition_oneway(node, "coordinator"),
        2 => turmoil::hold(node, "coordinator"),
        _ => site.order(Order::Crash(node)),
    }
    wait(chance, 500, 20_000).await;
    match kind {
        0 => turmoil::repair(node, "coordinator"),
        1 => turmoil::repair_oneway(node, "coordinator"),
        2 => turmoil::release(node, "coordinator"),
        _ => site.order(Order::Start(node)),
    }
    wait(chance, 0, 3_000).await;
}

/// Late, held and lost messages, and agents that die, from the first rollout to the end of the third.
fn bad_weather(own_seed: u64) {
    let weather = Weather { latency: Duration::from_millis(400), commit: Duration::from_millis(20) };
    let site = simulate(seed(own_seed), weather, |site, mut chance| async move {
        let mut operator = Operator::settled(site.clone()).await;
        let storm = tokio::task::spawn_local(storm(site, chance.range(0, u64::MAX - 1)));
        for (word, id) in [("two", 2), ("three", 3)] {
            operator.apply(word).await;
            operator.done(id).await;
        }
        storm.abort();
    });
    each_once(&site, 3, "three");
}

async fn storm(site: Arc<Site>, seed: u64) {
    let mut chance = Chance::new(seed);
    loop {
        misfortune(&site, &mut chance).await;
    }
}

#[test]
fn bad_weather_delays_a_rollout_and_does_nothing_else() {
    bad_weather(5);
}

#[test]
fn bad_weather_of_another_seed() {
    bad_weather(6);
}

#[test]
fn bad_weather_of_a_third_seed() {
    bad_weather(7);
}
