//! The state of fleet, rollouts, store and process at one moment, as gauges.

use std::{collections::BTreeMap, fs, sync::atomic::AtomicU64};

use fleet::{
    observed::DriftAction,
    time::Timestamp,
    words::{NodeWord, StepWord, VariantArray as _},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{coordinator::Coordinator, disk::StoreTrouble, view::Snapshot};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfGroup {
    group: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    group: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAction {
    group: String,
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNode {
    group: String,
    node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Word {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    fleet: String,
}

/// Seconds since 1970 and the like need fractions.
type Precise = Gauge<f64, AtomicU64>;

/// Everything that is looked at.
pub fn registry(coordinator: &Coordinator, snapshot: &Snapshot, node_labels: bool) -> Registry {
    let mut registry = Registry::default();
    let build = Family::<Build, Gauge>::default();
    let (version, fleet) = (env!("CARGO_PKG_VERSION"), coordinator.fleet.to_string());
    build.get_or_create(&Build { version, fleet }).set(1);
    registry.register("convoy_build_info", "Which coordinator this is; always 1", build);
    groups(&mut registry, snapshot);
    if node_labels {
        nodes(&mut registry, snapshot);
    }
    rollout(&mut registry, snapshot);
    store(&mut registry, coordinator, snapshot);
    exporter::of_this_process(&mut registry);
    registry
}

/// The group that the newest revision puts a node in; empty for one that it does not name.
fn group_of(snapshot: &Snapshot, node: &fleet::ids::NodeName) -> String {
    snapshot.wanted(node).map_or_else(String::new, |target| target.group.to_string())
}

#[derive(Default)]
struct Group {
    states: BTreeMap<&'static str, i64>,
    connected: i64,
    healthy: i64,
    differences: BTreeMap<&'static str, i64>,
    concerns: i64,
    starts: u64,
}

fn groups(registry: &mut Registry, snapshot: &Snapshot) {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for name in snapshot.names() {
        let group = groups.entry(group_of(snapshot, name)).or_default();
        *group.states.entry(snapshot.state(name).word().as_str()).or_default() += 1;
        group.connected += i64::from(snapshot.live.contains_key(name));
        if let Some(observed) = snapshot.shown(name) {
            group.healthy += i64::from(observed.serves() && snapshot.live.contains_key(name));
            for difference in &observed.drift {
                *group.differences.entry(difference.action.as_str()).or_default() += 1;
            }
            group.concerns += count(observed.concerns.len());
            group.starts += observed.starts_total;
        }
    }
    let states = Family::<OfState, Gauge>::default();
    let by_group = || Family::<OfGroup, Gauge>::default();
    let (connected, healthy, concerns) = (by_group(), by_group(), by_group());
    let differences = Family::<OfAction, Gauge>::default();
    let starts = by_group();
    for (group, figures) in groups {
        for state in NodeWord::VARIANTS.iter().map(|word| word.as_str()) {
            let of = OfState { group: group.clone(), state };
            states.get_or_create(&of).set(figures.states.get(state).copied().unwrap_or(0));
        }
        for (_, action) in DriftAction::ALL {
            let of = OfAction { group: group.clone(), action };
            differences.get_or_create(&of).set(figures.differences.get(action).copied().unwrap_or(0));
        }
        let of = OfGroup { group };
        connected.get_or_create(&of).set(figures.connected);
        healthy.get_or_create(&of).set(figures.healthy);
        concerns.get_or_create(&of).set(figures.concerns);
        starts.get_or_create(&of).set(i64::try_from(figures.starts).unwrap_or(i64::MAX));
    }
    registry.register("convoy_nodes", "Nodes by the state that `convoy status` shows", states);
    registry.register("convoy_nodes_connected", "Nodes whose agent is connected", connected);
    registry.register("convoy_nodes_healthy", "Connected nodes whose server runs and is healthy", healthy);
    registry.register(
        "convoy_differences",
        "Managed files that differ, or did, by what was done",
        differences,
    );
    registry.register("convoy_concerns", "What agents say an operator should look at", concerns);
    let help =
        "Starts of servers, as their agents have counted them over all time; falls when a node is forgotten";
    registry.register("convoy_server_starts", help, starts);
}

fn nodes(registry: &mut Registry, snapshot: &Snapshot) {
    let by_node = || Family::<OfNode, Gauge>::default();
    let (connected, healthy, differences) = (by_node(), by_node(), by_node());
    for name in snapshot.names() {
        let of = OfNode { group: group_of(snapshot, name), node: name.to_string() };
        let is_connected = snapshot.live.contains_key(name);
        connected.get_or_create(&of).set(i64::from(is_connected));
        let observed = snapshot.shown(name);
        let serves = observed.as_ref().is_some_and(|observed| observed.serves());
        healthy.get_or_create(&of).set(i64::from(is_connected && serves));
        let open = observed.as_ref().map_or(0, |observed| {
            observed.drift.iter().filter(|it| it.action != DriftAction::Restored).count()
        });
        differences.get_or_create(&of).set(count(open));
    }
    registry.register("convoy_node_connected", "Whether the agent of the node is connected", connected);
    registry.register("convoy_node_healthy", "Whether its server runs and is healthy", healthy);
    registry.register("convoy_node_differences", "Its managed files that differ now", differences);
}

fn rollout(registry: &mut Registry, snapshot: &Snapshot) {
    let revision = snapshot.revision.as_ref().map_or(0, |revision| revision.number.0);
    gauge(registry, ("convoy_revision", "The newest revision; 0 before the first apply"), revision);
    let newest = snapshot.rollouts.iter().map(|rollout| &rollout.record.rollout).max_by_key(|it| it.id);
    let open = snapshot.rollouts.iter().filter(|it| !it.record.rollout.phase.is_end()).count();
    gauge(registry, ("convoy_rollouts_open", "Rollouts that have not ended"), open as u64);
    let paused = newest.is_some_and(|rollout| rollout.paused.is_some() && !rollout.phase.is_end());
    gauge(registry, ("convoy_rollout_paused", "Whether the newest rollout is paused"), u64::from(paused));
    let steps = Family::<Word, Gauge>::default();
    // Each word has a series, so that they add up to the nodes of the rollout.
    for state in StepWord::VARIANTS.iter().map(|word| word.as_str()) {
        let of_state = |rollout: &&fleet::rollout::Rollout| {
            rollout.steps.values().filter(|step| step.state.word().as_str() == state).count()
        };
        steps.get_or_create(&Word { state }).set(count(newest.as_ref().map_or(0, of_state)));
    }
    registry.register(
        "convoy_rollout_steps",
        "Nodes of the newest rollout by the state of their step",
        steps,
    );
    if let Some(rollout) = newest {
        let help = "When the newest rollout began";
        precise(registry, "convoy_rollout_begun_timestamp", help, seconds(rollout.started));
    }
}

fn store(registry: &mut Registry, coordinator: &Coordinator, snapshot: &Snapshot) {
    let trouble = Family::<Word, Gauge>::default();
    for state in ["cannot-commit", "low-room"] {
        let holds = match &snapshot.trouble {
            Some(StoreTrouble::CannotCommit { .. }) => state == "cannot-commit",
            Some(StoreTrouble::LowRoom { .. }) => state == "low-room",
            None => false,
        };
        trouble.get_or_create(&Word { state }).set(i64::from(holds));
    }
    registry.register("convoy_store_trouble", "Why records cannot be kept, or soon cannot", trouble);
    let dir = &coordinator.disk.dir;
    if let Ok(file) = fs::metadata(dir.join("store.redb")) {
        gauge(registry, ("convoy_store_file_bytes", "Size of the store's file"), file.len());
    }
    if let Some(free) = coordinator.disk.room() {
        gauge(registry, ("convoy_disk_free_bytes", "Free on the disk of the data directory"), free);
    }
    if let Some(ends) = coordinator.authority.ends() {
        let help = "When the certificate of the fleet's authority ends";
        precise(registry, "convoy_authority_certificate_end_timestamp", help, seconds(ends));
    }
}

fn gauge(registry: &mut Registry, (name, help): (&'static str, &'static str), value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn precise(registry: &mut Registry, name: &'static str, help: &'static str, seconds: f64) {
    let gauge = Precise::default();
    gauge.set(seconds);
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}

fn count(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

/// Since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}
