//! What is counted while the agent runs, from its start on.

use std::time::Duration;

use fleet::node::Action;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds of the buckets of a write of the journal, seconds: from a fast disk to one that is in trouble.
const JOURNAL_BUCKETS: [f64; 8] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Meters {
    registry: Registry,
    actions: Family<ActionLabels, Counter>,
    connections: Counter,
    journal_time: Histogram,
    journal_failures: Counter,
}

impl Default for Meters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("convoy_agent");
        let actions = Family::<ActionLabels, Counter>::default();
        // A series that is not there yet cannot be told from one that never will be.
        for action in COUNTED {
            drop(actions.get_or_create(&ActionLabels { action }));
        }
        registry.register("actions", "What the agent began to do, by what it is", actions.clone());
        let connections = Counter::default();
        registry.register("connections", "Connections to a coordinator that were made", connections.clone());
        let journal_time = Histogram::new(JOURNAL_BUCKETS);
        let help = "How long writes of the journal took, durable on disk";
        registry.register_with_unit("journal_write", help, Unit::Seconds, journal_time.clone());
        let journal_failures = Counter::default();
        registry.register("journal_failures", "Writes of the journal that failed", journal_failures.clone());
        Self { registry, actions, connections, journal_time, journal_failures }
    }
}

impl Meters {
    /// What is counted, for a scrape.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts an action that is begun.
    pub fn action(&self, action: &Action) {
        if let Some(action) = word(action) {
            self.actions.get_or_create(&ActionLabels { action }).inc();
        }
    }

    /// Where the link counts its connections.
    pub fn connections(&self) -> Counter {
        self.connections.clone()
    }

    /// Counts a write of the journal.
    pub fn journal(&self, took: Duration, is_durable: bool) {
        self.journal_time.observe(took.as_secs_f64());
        if !is_durable {
            self.journal_failures.inc();
        }
    }
}

/// What [`word`] answers.
const COUNTED: [&str; 15] = [
    "obtain", "stage", "switch", "recover", "scan", "restore", "mend", "launch", "adopt", "stop", "kill",
    "reload", "probe", "hook", "gate",
];

/// What operators know an action by; `None` for what is the agent's own bookkeeping.
fn word(action: &Action) -> Option<&'static str> {
    Some(match action {
        Action::Obtain { .. } => "obtain",
        Action::Stage { .. } => "stage",
        Action::Switch { .. } => "switch",
        Action::Recover { .. } => "recover",
        Action::Scan(_) => "scan",
        Action::Restore { .. } => "restore",
        Action::Mend { .. } => "mend",
        Action::Launch(_) => "launch",
        Action::Adopt { .. } => "adopt",
        Action::Stop(_) => "stop",
        Action::Kill(_) => "kill",
        Action::Reload { .. } => "reload",
        Action::Probe { .. } => "probe",
        Action::Hook { .. } => "hook",
        Action::Check { .. } => "gate",
        Action::Journal(_)
        | Action::Ack { .. }
        | Action::Report(_)
        | Action::Tell(_)
        | Action::CommandDone { .. }
        | Action::Keep(_)
        | Action::Watch { .. }
        | Action::Look { .. }
        | Action::ClearLaunchFiles(_)
        | Action::Dump(_)
        | Action::AskRotation(_)
        | Action::KeyManager { .. }
        | Action::Measure { .. } => return None,
    })
}
