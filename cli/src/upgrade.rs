//! `agents upgrade`: which agents are upgraded, in which order, and what proves that one was. Pure: the statuses come from
//! the coordinator, and the operator's own command does the work on the host ([`crate::commands`]).

use std::collections::BTreeSet;

use fleet::words::{NodeWord, RolloutWord};

use crate::{
    request::Only,
    view::{Node, Process, Rollout, Status},
};

/// Names that one sentence lists.
const NAMED_MAX: usize = 5;

/// The nodes whose agents are not of version `to`: group after group as rollouts go through them, zone after zone, by
/// name. `newest`: the newest rollout, whose groups are in the order of `after`.
pub fn order<'s>(status: &'s Status, newest: Option<&Rollout>, only: &Only, to: &str) -> Vec<&'s Node> {
    let place = |group: &str| {
        let known = newest.and_then(|newest| newest.groups.iter().position(|known| known.group == group));
        known.unwrap_or(usize::MAX)
    };
    let takes_part = |node: &&Node| {
        let all = only.nodes.is_empty() && only.groups.is_empty();
        let named = only.nodes.iter().any(|name| name.as_str() == node.name);
        all || named || only.groups.iter().any(|group| group.as_str() == node.group)
    };
    let old = status.nodes.iter().filter(|node| !node.agent_version.is_empty() && node.agent_version != to);
    let mut nodes: Vec<&Node> = old.filter(takes_part).collect();
    nodes.sort_by_key(|node| (place(&node.group), &node.group, &node.zone, &node.name));
    nodes
}

/// Names of `only` that the fleet does not have.
pub fn unknown(status: &Status, only: &Only) -> Vec<String> {
    let nodes: BTreeSet<&str> = status.nodes.iter().map(|node| node.name.as_str()).collect();
    let groups: BTreeSet<&str> = status.nodes.iter().map(|node| node.group.as_str()).collect();
    let of_nodes = only.nodes.iter().filter(|name| !nodes.contains(name.as_str()));
    let of_groups = only.groups.iter().filter(|name| !groups.contains(name.as_str()));
    let of_nodes = of_nodes.map(|name| format!("node {name}"));
    of_nodes.chain(of_groups.map(|name| format!("group {name}"))).collect()
}

/// Why the agent of a node is not touched now; `None`: it may be. An upgrade takes no server down if all goes well, and
/// is begun only where the group could bear it if not.
pub fn held_back(status: &Status, node: &Node) -> Option<String> {
    let mut open = status.rollouts.iter().filter(|rollout| !rollout.has_ended());
    if let Some(rollout) = open.find(|rollout| !rollout.state.is(RolloutWord::Paused)) {
        return Some(format!("rollout {} is under way", rollout.id));
    }
    if !node.connected {
        return Some(format!("{} is not connected", node.name));
    }
    let unwell = status
        .nodes
        .iter()
        .filter(|other| other.group == node.group && other.name != node.name && !is_well(other));
    let unwell: Vec<String> = unwell.map(|other| format!("{} is {}", other.name, other.state)).collect();
    if unwell.is_empty() {
        return None;
    }
    let more = unwell.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    let named: Vec<String> = unwell.into_iter().take(NAMED_MAX).collect();
    Some(format!("in its group {}{more}", named.join(", ")))
}

/// Also one whose agent never came: nobody waits for its server.
fn is_well(node: &Node) -> bool {
    node.state.known().is_some_and(|word| word.is_well() || word == NodeWord::NeverConnected)
}

/// What the coordinator's picture says of an upgrade.
#[derive(Debug, PartialEq, Eq)]
pub enum Proof {
    /// The new agent is connected, and everything is as it was.
    Upgraded,
    /// Not yet, for this reason.
    NotYet(String),
    /// It did harm, and nothing will mend that by waiting.
    Harmed(String),
}

/// Judges a node after the operator's command ended, against how it was before.
pub fn proof(before: &Node, now: Option<&Node>, to: &str) -> Proof {
    let Some(now) = now else { return Proof::NotYet("the coordinator does not know it".to_owned()) };
    if !now.connected {
        return Proof::NotYet("its agent is not connected".to_owned());
    }
    if now.agent_version != to {
        return Proof::NotYet(format!("its agent is connected as {}", now.agent_version));
    }
    let Some(report) = &now.report else { return Proof::NotYet("its agent has not reported".to_owned()) };
    let process = |node: &Node| node.report.as_ref().and_then(|report| report.process.clone());
    match (process(before), process(now)) {
        (Some(was), Some(is)) if !is_same(&was, &is) => {
            return Proof::Harmed(format!(
                "its server is another process: it was {} and is {}; the upgrade restarted it",
                was.pid, is.pid
            ));
        }
        (Some(was), None) => {
            return Proof::NotYet(format!("its agent has not adopted the server, process {}", was.pid));
        }
        (Some(_), Some(_)) | (None, _) => {}
    }
    if is_well(before) && !is_well(now) {
        let why = if now.state_why.is_empty() { String::new() } else { format!(": {}", now.state_why) };
        return Proof::NotYet(format!("it was {} and is {}{why}", before.state, now.state));
    }
    let known: BTreeSet<&str> =
        before.report.iter().flat_map(|it| &it.concerns).map(|it| &*it.kind).collect();
    match report.concerns.iter().find(|concern| !known.contains(concern.kind.as_str())) {
        Some(new) => Proof::NotYet(format!("it has a new concern, {}: {}", new.kind, new.detail)),
        None => Proof::Upgraded,
    }
}

fn is_same(was: &Process, is: &Process) -> bool {
    was.pid == is.pid && was.started.0 == is.started.0
}

#[cfg(test)]
mod tests;
