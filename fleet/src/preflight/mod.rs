//! Is this host fit to run this server with this bundle? Pure checks over facts that the agent gathered.
//!
//! `convoy-agent doctor` prints them, and the agent runs them before every apply: a `Fail` refuses the bundle while
//! the old one is still in force and its server still runs. Nothing here repairs anything, and nothing here ever
//! holds a password: needs carry them to the agent as [`Password`], outcomes only name keys and files.

mod balancer;
pub mod certificate;
mod checks;
pub mod components;
pub mod databases;
pub mod facts;
pub mod jdk;
pub mod needs;
pub mod peers;
mod trust;
pub mod unit;

pub use balancer::check as check_balancer;
pub use checks::check;
pub use facts::PreflightFacts;
pub use needs::{Endpoint, Keystore, Needs, Password};

use std::fmt;

use crate::observed::RefusalReason;

/// How one check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be, with what was seen.
    Pass(String),
    /// Doubtful; the bundle is applied.
    Warn {
        /// What was seen.
        why: String,
        /// What to do about it.
        remedy: String,
    },
    /// Wrong; the bundle is refused.
    Fail {
        /// What was seen.
        why: String,
        /// What to do about it.
        remedy: String,
        /// The machine's word for the refusal.
        reason: RefusalReason,
    },
    /// Could not be looked at, with the cause. Never counts as good.
    Skipped(String),
}

impl Outcome {
    /// The stable word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Outcome::Pass(_) => "pass",
            Outcome::Warn { .. } => "warn",
            Outcome::Fail { .. } => "fail",
            Outcome::Skipped(_) => "skipped",
        }
    }
}

/// One check of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable word of what is checked, e.g. `jdk`, `port`, `keystore`.
    pub name: &'static str,
    /// Which one, e.g. `https 9443`; empty where there is only one.
    pub subject: String,
    /// How it ended.
    pub outcome: Outcome,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        match &self.outcome {
            Outcome::Pass(seen) => write!(f, ": {seen}"),
            Outcome::Skipped(why) => write!(f, ": not checked, {why}"),
            Outcome::Warn { why, remedy } | Outcome::Fail { why, remedy, .. } => {
                write!(f, ": {why}; {remedy}")
            }
        }
    }
}

/// What is about to happen, and so which failing checks stand against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// Files change and the server is started with them.
    WriteAndStart,
    /// Files change, a running server goes on: a database that is away is no reason to refuse a new log level.
    WriteOnly,
}

impl Check {
    /// Whether it only matters when the server is started.
    fn is_about_start(&self) -> bool {
        ["jdk", "unit", "port", "endpoint", "database", "driver", "keystore", "clock"].contains(&self.name)
    }
}

/// The reason of the first check that stands against `intent` and one sentence per such check, or `None` if nothing
/// does.
pub fn refusal(checks: &[Check], intent: Intent) -> Option<(RefusalReason, String)> {
    let mut reasons = Vec::new();
    let mut sentences = Vec::new();
    for check in checks {
        let Outcome::Fail { reason, .. } = check.outcome else { continue };
        if intent == Intent::WriteAndStart || !check.is_about_start() {
            reasons.push(reason);
            sentences.push(check.to_string());
        }
    }
    Some((*reasons.first()?, sentences.join("; ")))
}

#[cfg(test)]
mod tests;
