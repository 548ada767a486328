//! Agents and their versions.

use std::{fmt, time::Duration};

use serde::Serialize;

use super::{Node, Status, When};

/// Output of `agents list`.
#[derive(Debug, Serialize)]
pub struct AgentList {
    pub coordinator_version: String,
    pub agents: Vec<Agent>,
}

/// The agent of one node. Nodes whose agent never came have none.
#[derive(Debug, Serialize)]
pub struct Agent {
    pub node: String,
    pub group: String,
    pub version: String,
    /// Against the coordinator.
    pub skew: Skew,
    /// When it first came with this version; `null`: before the coordinator noted that.
    pub since: When,
    /// SHA-256 of its program, hexadecimal; empty: it did not say so.
    pub program: String,
    pub platform: String,
    pub connected: bool,
    pub last_seen: When,
}

/// How the version of an agent stands to the coordinator's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skew {
    Same,
    /// It should be upgraded.
    Older,
    /// The coordinator should be upgraded.
    Newer,
    /// The two differ, and at least one is not a version that can be compared.
    Different,
}

impl Skew {
    /// Of an agent against a coordinator.
    pub fn of(agent: &str, coordinator: &str) -> Self {
        if agent == coordinator {
            return Self::Same;
        }
        match (numbers(agent), numbers(coordinator)) {
            (Some(agent), Some(coordinator)) if agent < coordinator => Self::Older,
            (Some(agent), Some(coordinator)) if coordinator < agent => Self::Newer,
            _ => Self::Different,
        }
    }
}

impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Same => "same",
            Self::Older => "older",
            Self::Newer => "newer",
            Self::Different => "different",
        })
    }
}

/// `1.2.3` as numbers; what follows a `-` or `+` cannot be compared.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let parts: Result<Vec<u64>, _> = version.split('.').map(str::parse).collect();
    parts.ok()?.try_into().ok()
}

impl AgentList {
    /// The agents of a fleet: all, or those whose version is not the coordinator's.
    pub fn of(status: &Status, outdated: bool) -> Self {
        let came = status.nodes.iter().filter(|node| !node.agent_version.is_empty());
        let agents = came.map(|node| Agent {
            node: node.name.clone(),
            group: node.group.clone(),
            version: node.agent_version.clone(),
            skew: Skew::of(&node.agent_version, &status.coordinator_version),
            since: node.agent_since,
            program: node.agent_program.clone(),
            platform: node.platform.clone(),
            connected: node.connected,
            last_seen: node.last_seen,
        });
        let agents = agents.filter(|agent| !outdated || agent.skew != Skew::Same).collect();
        Self { coordinator_version: status.coordinator_version.clone(), agents }
    }
}

/// Output of `agents upgrade`.
#[derive(Debug, Serialize)]
pub struct Upgraded {
    pub to: String,
    pub done: Vec<AgentUpgraded>,
    /// `null`: nothing stopped it.
    pub stopped: Option<UpgradeStopped>,
    /// Nodes whose agents were not touched, in their order.
    pub left: Vec<String>,
}

/// One agent that has the new version.
#[derive(Debug, Serialize)]
pub struct AgentUpgraded {
    pub node: String,
    pub group: String,
    pub from: String,
    /// Of its server, the same as before; `null`: none ran.
    pub pid: Option<u32>,
    /// From the start of the command to the proof.
    pub took_ms: u64,
}

/// The node at which an upgrade stopped.
#[derive(Debug, Serialize)]
pub struct UpgradeStopped {
    pub node: String,
    pub why: String,
}

impl Upgraded {
    /// Nothing is done yet.
    pub fn new(to: &str, nodes: &[Node]) -> Self {
        let left = nodes.iter().map(|node| node.name.clone()).collect();
        Self { to: to.to_owned(), done: Vec::new(), stopped: None, left }
    }

    /// Takes up that the agent of a node has the new version.
    pub fn take(&mut self, node: &Node, took: Duration) -> &AgentUpgraded {
        self.left.retain(|name| *name != node.name);
        let process = node.report.as_ref().and_then(|report| report.process.as_ref());
        self.done.push(AgentUpgraded {
            node: node.name.clone(),
            group: node.group.clone(),
            from: node.agent_version.clone(),
            pid: process.map(|process| process.pid),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
        &self.done[self.done.len() - 1]
    }

    /// Takes up that it stopped at a node.
    pub fn stop(&mut self, node: &Node, why: &str) {
        self.left.retain(|name| *name != node.name);
        self.stopped = Some(UpgradeStopped { node: node.name.clone(), why: why.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::Skew;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let table = [
            ("0.1.0", "0.1.0", Skew::Same),
            ("0.1.9", "0.1.10", Skew::Older),
            ("0.2.0", "0.1.10", Skew::Newer),
            ("1.0.0", "0.9.9", Skew::Newer),
            ("0.1.0-rc.1", "0.1.0", Skew::Different),
            ("0.1", "0.1.0", Skew::Different),
            ("dev", "dev", Skew::Same),
            ("", "0.1.0", Skew::Different),
        ];
        for (agent, coordinator, expected) in table {
            assert_eq!(Skew::of(agent, coordinator), expected, "{agent} against {coordinator}");
        }
    }
}
