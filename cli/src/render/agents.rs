//! Agents and their versions as text.

use std::time::Duration;

use crate::{
    text::{Cell, Keep, Style, Table, Tone, coarse, count, lasting, tally},
    view::{AgentList, AgentUpgraded, Node, Skew, Status, Upgraded, When},
};

/// All agents, one line each.
pub fn agent_list(list: &AgentList, now: When, style: Style) -> String {
    let words: Vec<String> = list.agents.iter().map(|agent| agent.skew.to_string()).collect();
    let versions = match list.agents.len() {
        0 => "nothing to list".to_owned(),
        number => format!("{}: {}", count(number, "agent"), tally(words.iter().map(String::as_str))),
    };
    let mut out = format!("coordinator {}; {versions}\n", list.coordinator_version);
    if list.agents.is_empty() {
        return out;
    }
    let mut table = Table::fitted([
        ("NODE", Keep::Always),
        ("GROUP", Keep::UnlessNarrow(1)),
        ("AGENT", Keep::Always),
        ("COORDINATOR HAS", Keep::Always),
        ("SINCE", Keep::UnlessNarrow(3)),
        ("PROGRAM", Keep::UnlessNarrow(4)),
        ("PLATFORM", Keep::UnlessNarrow(2)),
        ("CONNECTED", Keep::Always),
    ]);
    for agent in &list.agents {
        let since = lasting(now, agent.since);
        let connected = if agent.connected { Cell::plain("yes") } else { Cell::toned(Tone::Bad, "no") };
        table.row([
            Cell::plain(agent.node.clone()),
            Cell::plain(agent.group.clone()),
            Cell::plain(agent.version.clone()),
            against(agent.skew),
            Cell::plain(if since.is_empty() { "-".to_owned() } else { since }),
            Cell::plain(program(&agent.program)),
            Cell::plain(agent.platform.clone()),
            connected,
        ]);
    }
    out.push('\n');
    out.push_str(&table.render(style));
    out
}

/// The beginning of a checksum: enough to tell programs apart; `--json` has all of it.
fn program(sha256: &str) -> String {
    let begin: String = sha256.chars().take(12).collect();
    if begin.is_empty() { "-".to_owned() } else { begin }
}

/// Which agents are upgraded, in which order.
pub fn upgrade_order(nodes: &[Node], to: &str, style: Style) -> String {
    let mut out = format!("{} to {to}, in this order:\n", count(nodes.len(), "agent"));
    let mut table = Table::indented(2);
    for (number, node) in nodes.iter().enumerate() {
        table.row([
            Cell::plain((number + 1).to_string()),
            Cell::toned(Tone::Strong, node.name.clone()),
            Cell::plain(node.group.clone()),
            Cell::plain(format!("from {}", node.agent_version)),
            Cell::state(&node.state),
        ]);
    }
    out.push_str(&table.render(style));
    out
}

/// One that is done.
pub fn agent_upgraded(done: &AgentUpgraded, style: Style) -> String {
    let took = coarse(Duration::from_millis(done.took_ms));
    let server = match done.pid {
        Some(pid) => format!("its server is still process {pid}"),
        None => "no server ran".to_owned(),
    };
    let name = style.paint(Tone::Good, &done.node);
    format!("  {name} ({}): upgraded from {} in {took}; {server}\n", done.group, done.from)
}

/// Where it stopped, and what to do.
pub fn upgrade_stopped(outcome: &Upgraded, style: Style) -> String {
    let Some(stopped) = &outcome.stopped else { return String::new() };
    let left = match outcome.left.len() {
        0 => "no other is left".to_owned(),
        left => format!("{} not touched", count(left, "agent")),
    };
    let head = format!("Stopped at {}: {}", stopped.node, stopped.why);
    format!(
        "{}\n  {} upgraded before it, {left}\n  next: look at `convoy node show {}` and its host, then say the same \
         again: it goes on with those that are left\n",
        style.paint(Tone::Bad, &head),
        outcome.done.len(),
        stopped.node
    )
}

/// The coordinator's version against the agent's.
fn against(skew: Skew) -> Cell {
    match skew {
        Skew::Same => Cell::plain("the same"),
        Skew::Older => Cell::toned(Tone::Doubtful, "a newer one"),
        Skew::Newer => Cell::toned(Tone::Bad, "an older one"),
        Skew::Different => Cell::toned(Tone::Doubtful, "another one"),
    }
}

/// A line for the status if versions differ.
pub fn skew(status: &Status) -> Option<String> {
    let differing = AgentList::of(status, true).agents.len();
    let verb = if differing == 1 { "is" } else { "are" };
    (differing != 0).then(|| {
        format!(
            "{} {verb} of another version than the coordinator ({}): convoy agents list --outdated",
            count(differing, "agent"),
            status.coordinator_version
        )
    })
}
