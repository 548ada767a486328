//! What `alert` shows.

use serde::Serialize;

use super::When;

/// Output of `alert list` and `alert show`.
#[derive(Debug, Serialize)]
pub struct Alerts {
    pub at: When,
    pub alerts: Vec<Alert>,
    pub channels: Vec<AlertChannel>,
    pub silences: Vec<Silence>,
}

/// Alerts that are not reported for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Silence {
    pub id: u64,
    /// `null`: a group's or all.
    pub node: Option<String>,
    /// `null`: one node's or all.
    pub group: Option<String>,
    /// `null`: every rule.
    pub rule: Option<String>,
    pub from: When,
    pub until: When,
    pub reason: String,
    pub by: String,
}

impl Silence {
    /// Whose alerts.
    pub fn of(&self) -> String {
        match (&self.node, &self.group) {
            (Some(node), _) => node.clone(),
            (None, Some(group)) => format!("group {group}"),
            (None, None) => "the whole fleet".to_owned(),
        }
    }
}

/// What an alert does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlertState {
    /// It counts and is reported.
    Firing,
    /// It counts and is not reported: `hidden` says why.
    Hidden,
    /// It has not lasted for long enough.
    Pending,
    /// It is over.
    Ended,
    /// A newer coordinator says something else.
    Other,
}

impl AlertState {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Firing => "firing",
            AlertState::Hidden => "hidden",
            AlertState::Pending => "pending",
            AlertState::Ended => "over",
            AlertState::Other => "unknown",
        }
    }
}

/// One alert.
#[derive(Debug, Serialize)]
pub struct Alert {
    pub rule: String,
    /// `critical`, `warning` or `info`.
    pub severity: String,
    pub title: String,
    pub subject: String,
    pub node: Option<String>,
    /// `null`: it concerns no single group.
    pub group: Option<String>,
    pub state: AlertState,
    pub reason: String,
    pub since: When,
    pub ended: When,
    /// It begins and ends too often, and is reported as one.
    pub flapping: bool,
    /// Why it is not reported; `null`: nothing hides it.
    pub hidden: Option<String>,
    /// The command to go on with.
    pub next: String,
    /// The channels that have taken a message about it.
    pub sent_to: Vec<String>,
}

/// A channel.
#[derive(Debug, Serialize)]
pub struct AlertChannel {
    pub name: String,
    pub kind: String,
    /// It carries nothing less severe.
    pub least: String,
    pub delivery: Delivery,
}

/// How a channel does since the coordinator's start.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum Delivery {
    /// Nothing was sent.
    Idle,
    /// The last message arrived.
    Arrived { at: When },
    /// The last message did not arrive.
    Failing { since: When, tries: u32, why: String },
}
