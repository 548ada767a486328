//! A server that a systemd unit runs: the agent asks systemd to start and stop it, over D-Bus, and never starts a
//! script itself. What it is asked, and what is made of the answers, is decided elsewhere.
//!
//! Every request has a connection of its own: they are rare, and a bus that was restarted in between is no matter.

#[cfg(target_os = "linux")]
mod bus;
#[cfg(not(target_os = "linux"))]
#[path = "bus_none.rs"]
mod bus;

use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use fleet::preflight::unit::UnitFact;

/// A start waits for the script's first process, and behind a restart that systemd already waits for.
const START_TIME: Duration = Duration::from_secs(120);
/// A reload runs the unit's ExecReload, which checks a configuration and sends a signal.
const RELOAD_TIME: Duration = Duration::from_secs(45);
/// A stop may take as long as the unit's TimeoutStopSec; only its outcome is waited for, not the server's end.
const STOP_TIME: Duration = Duration::from_secs(900);

/// Why systemd did not do or say what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// Nobody answers.
    #[error("cannot reach systemd over D-Bus ({bus})")]
    Unreachable {
        /// As configured.
        bus: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Nobody has allowed the agent's user to manage the unit.
    #[error(
        "the agent's user may not {what} {unit}: give it leave by the polkit rule of docs/agent.md, \"Servers that \
         systemd runs\", with this unit's name"
    )]
    Forbidden {
        /// What was asked.
        what: &'static str,
        /// Of which unit.
        unit: String,
    },
    /// It refuses.
    #[error("systemd does not {what} {unit}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Of which unit.
        unit: String,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The job ended badly.
    #[error("systemd could not {what} {unit}: its job ended as {result:?}")]
    Job {
        /// What was asked.
        what: &'static str,
        /// Of which unit.
        unit: String,
        /// systemd's word.
        result: String,
    },
    /// The job did not end.
    #[error("systemd has not ended its job to {what} {unit} within {} s", limit.as_secs())]
    Slow {
        /// What was asked.
        what: &'static str,
        /// Of which unit.
        unit: String,
        /// How long was waited.
        limit: Duration,
    },
}

/// Which homes are run by units, as the agent's configuration says.
#[derive(Debug, Clone, Default)]
pub struct Units {
    by_home: Arc<BTreeMap<String, Unit>>,
}

/// One unit.
#[derive(Debug, Clone)]
pub struct Unit {
    name: String,
    bus: String,
}

impl Units {
    /// Unit names by home; all on one bus.
    pub fn new(names: &BTreeMap<String, String>, bus: &str) -> Self {
        let unit = |name: &String| Unit { name: name.clone(), bus: bus.to_owned() };
        let by_home = names.iter().map(|(home, name)| (plain(home).to_owned(), unit(name)));
        Self { by_home: Arc::new(by_home.collect()) }
    }

    /// The unit that runs the server of a home, if one does.
    pub fn of(&self, home: &str) -> Option<&Unit> {
        self.by_home.get(plain(home))
    }

    /// The unit whose process this is.
    pub async fn holding(&self, pid: u32) -> Option<&Unit> {
        for unit in self.by_home.values() {
            if unit.holds(pid).await {
                return Some(unit);
            }
        }
        None
    }
}

/// A home as it is compared: with a slash at its end or without is the same.
pub(crate) fn plain(home: &str) -> &str {
    home.trim_end_matches('/')
}

impl Unit {
    /// As systemd knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is and how it is doing.
    ///
    /// # Errors
    /// systemd does not answer.
    pub async fn look(&self) -> Result<UnitFact, UnitError> {
        bus::look(self).await
    }

    /// Starts it and waits until systemd says that it has. One that is active although nothing of it lives, because
    /// its script only began the server and ended, is restarted: starting it would do nothing.
    ///
    /// # Errors
    /// systemd does not, or could not.
    pub async fn start(&self, fact: &UnitFact) -> Result<(), UnitError> {
        let what = if fact.active == "active" && !fact.is_busy() { "restart" } else { "start" };
        bus::job(self, what, START_TIME).await
    }

    /// Has it reload its configuration and waits until systemd says that it has.
    ///
    /// # Errors
    /// systemd does not, or could not.
    pub async fn reload(&self) -> Result<(), UnitError> {
        bus::job(self, "reload", RELOAD_TIME).await
    }

    /// Stops it and waits until systemd says that it has.
    ///
    /// # Errors
    /// systemd does not, or could not.
    pub async fn stop(&self) -> Result<(), UnitError> {
        bus::job(self, "stop", STOP_TIME).await
    }

    /// KILL to all its processes.
    ///
    /// # Errors
    /// systemd does not.
    pub async fn kill(&self) -> Result<(), UnitError> {
        bus::kill(self).await
    }

    /// Whether a process is one of its; no, if systemd does not answer.
    pub async fn holds(&self, pid: u32) -> bool {
        bus::unit_of(self, pid).await.is_ok_and(|name| name == self.name)
    }
}
