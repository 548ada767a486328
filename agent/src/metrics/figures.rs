//! The state of server, files and agent at one moment, as gauges.

use std::sync::atomic::AtomicU64;

use fleet::{
    bundle::Applied,
    observed::{DriftAction, Observed},
    time::Timestamp,
    words::{ServiceWord, VariantArray as _},
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::ConstCounter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{link::LinkState, metrics::Shown};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
    node: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAction {
    action: &'static str,
}

/// Everything that is looked at.
pub(super) fn registry(shown: &Shown, observed: &Observed) -> Registry {
    let mut registry = Registry::default();
    agent(&mut registry, shown);
    server(&mut registry, observed);
    files(&mut registry, observed);
    exporter::of_this_process(&mut registry);
    registry
}

fn agent(registry: &mut Registry, shown: &Shown) {
    // It may have been renewed; the file is a few kilobytes.
    let identity = shown.identity.read(0).ok();
    let build = Family::<Build, Gauge>::default();
    let node = identity.as_ref().map_or_else(String::new, |identity| identity.node.clone());
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION"), node }).set(1);
    registry.register("convoy_agent_build_info", "Which agent this is; always 1", build);
    if let Some(identity) = identity {
        let help = "When the certificate of this node ends";
        precise(registry, "convoy_agent_certificate_end_timestamp", help, seconds(identity.not_after));
    }
    let connected = matches!(&*shown.asking.link.borrow(), LinkState::Connected { .. });
    whole(registry, "convoy_agent_connected", "Whether a coordinator is connected", u64::from(connected));
    let trouble = shown.journal.borrow().is_some();
    let help = "Whether the journal cannot be written, so that nothing is promised to the coordinator";
    whole(registry, "convoy_agent_journal_trouble", help, u64::from(trouble));
}

fn server(registry: &mut Registry, observed: &Observed) {
    let states = Family::<OfState, Gauge>::default();
    let now = observed.service.word();
    for state in ServiceWord::VARIANTS {
        states.get_or_create(&OfState { state: state.as_str() }).set(i64::from(*state == now));
    }
    registry.register("convoy_agent_server_state", "1 for the state that the server is in", states);
    let healthy = u64::from(observed.serves());
    whole(registry, "convoy_agent_server_healthy", "Whether the server runs and is healthy", healthy);
    let starts = ConstCounter::new(observed.starts_total);
    registry.register(
        "convoy_agent_server_starts",
        "Starts of the server since the first on this home",
        starts,
    );
    let vitals = &observed.vitals;
    if observed.process.is_some() {
        let help = "Resident memory of the server's process";
        whole(registry, "convoy_agent_server_resident_memory_bytes", help, vitals.rss);
        let help = "Processor time of the server over the last measurement; 1 is one core";
        let cores = Precise::default();
        cores.set(f64::from(vitals.cpu_percent) / 100.0);
        registry.register("convoy_agent_server_cpu_cores", help, cores);
        whole(registry, "convoy_agent_server_threads", "Threads of the server", vitals.threads.into());
        let help = "Files and sockets that the server has open";
        whole(registry, "convoy_agent_server_open_files", help, vitals.open_files.into());
    }
    whole(
        registry,
        "convoy_agent_disk_free_bytes",
        "Free on the disk of the server's home",
        vitals.disk_free,
    );
    whole(registry, "convoy_agent_logs_bytes", "Size of the server's logs directory", vitals.logs);
}

fn files(registry: &mut Registry, observed: &Observed) {
    let generations = Family::<OfState, Gauge>::default();
    for (state, applied) in [
        ("desired", observed.desired),
        ("written", observed.written),
        ("running", observed.running),
        ("last-good", observed.last_good),
    ] {
        let number = applied.map_or(0, |applied: Applied| applied.generation.0);
        generations.get_or_create(&OfState { state }).set(i64::try_from(number).unwrap_or(i64::MAX));
    }
    registry.register(
        "convoy_agent_generation",
        "Generation that is desired, written, …; 0 if none",
        generations,
    );
    let differences = Family::<OfAction, Gauge>::default();
    for (action, word) in DriftAction::ALL {
        let count = observed.drift.iter().filter(|drift| drift.action == action).count();
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        differences.get_or_create(&OfAction { action: word }).set(count);
    }
    let help = "Managed files that differ, or did lately, by what was done";
    registry.register("convoy_agent_differences", help, differences);
    let help = "What an operator should look at";
    whole(registry, "convoy_agent_concerns", help, observed.concerns.len() as u64);
}

/// Seconds since 1970 and the like need fractions.
type Precise = Gauge<f64, AtomicU64>;

fn whole(registry: &mut Registry, name: &'static str, help: &'static str, value: u64) {
    let gauge: Gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    registry.register(name, help, gauge);
}

fn precise(registry: &mut Registry, name: &'static str, help: &'static str, seconds: f64) {
    let gauge = Precise::default();
    gauge.set(seconds);
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}

/// Since 1970.
fn seconds(at: Timestamp) -> f64 {
    at.0 as f64 / 1000.0
}
