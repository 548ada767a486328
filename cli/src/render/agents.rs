//! Agents and their versions as text.

use crate::{
    text::{Cell, Keep, Style, Table, Tone, count, lasting, tally},
    view::{AgentList, Skew, Status, When},
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
            Cell::plain(agent.platform.clone()),
            connected,
        ]);
    }
    out.push('\n');
    out.push_str(&table.render(style));
    out
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
