//! The status screen. Read at 3 a.m. by somebody who was woken: first whether anything is wrong, then what, then the
//! rest.

use fleet::{
    alert::Severity,
    finding::names_at_most,
    words::{NodeWord, ServiceWord},
};

use crate::{
    text::{Cell, Keep, Style, Table, Tone, ago, count, hanging, lasting, tally, tone},
    view::{DriftEntry, Node, Standing, Status, When},
};

/// More silences than these are counted.
const SILENCES_SHOWN: usize = 5;
/// So are more changes that wait for approval.
const PROPOSALS_SHOWN: usize = 5;

/// Of the most urgent alert. One whose severity is not known may be any.
fn tone_of(worst: Option<&str>) -> Tone {
    match worst.and_then(Severity::parse) {
        Some(Severity::Info) => Tone::Plain,
        Some(Severity::Warning) => Tone::Doubtful,
        Some(Severity::Critical) | None => Tone::Bad,
    }
}

/// The whole screen.
pub fn status(status: &Status, style: Style) -> String {
    let mut out = headline(status, style);
    if let Some(trouble) = &status.store_trouble {
        out.push_str(&style.paint(Tone::Bad, &trouble.to_string()));
        out.push('\n');
    }
    if status.alerts_firing != 0 {
        let verb = if status.alerts_firing == 1 { "fires" } else { "fire" };
        let alerts = count(status.alerts_firing as usize, "alert");
        out.push_str(&format!(
            "{}\n",
            style.paint(
                tone_of(status.alerts_worst.as_deref()),
                &format!("{alerts} {verb}: convoy alert list")
            )
        ));
    }
    if let Some(skew) = super::agents::skew(status) {
        out.push_str(&hanging(&skew, 0, style));
    }
    for silence in status.silences.iter().take(SILENCES_SHOWN) {
        out.push_str(&style.paint(Tone::Doubtful, &super::silence(silence)));
        out.push('\n');
    }
    if let Some(more) = status.silences.len().checked_sub(SILENCES_SHOWN).filter(|more| *more != 0) {
        out.push_str(&format!("and {}: convoy silence list\n", count(more, "more silence")));
    }
    out.push_str(&super::proposal::waiting(&status.proposals, PROPOSALS_SHOWN, style));
    let unfinished = || status.rollouts.iter().filter(|rollout| !rollout.has_ended());
    for rollout in unfinished() {
        out.push('\n');
        out.push_str(&super::rollout(rollout, status.at, style));
    }
    if unfinished().next().is_none()
        && let Some(last) = status.rollouts.iter().max_by_key(|rollout| rollout.id)
    {
        out.push_str(&super::rollout_headline(last, status.at, style));
        if !last.is_done() {
            out.push_str(&super::verdict(last, style));
        }
    }
    if !status.nodes.is_empty() {
        out.push('\n');
        out.push_str(&node_table(&status.nodes, status.at, style));
    }
    out.push_str(&attention(status, style));
    out
}

fn headline(status: &Status, style: Style) -> String {
    let fleet = style.paint(Tone::Strong, &status.fleet);
    let mut revision = match status.revision {
        0 => "nothing applied yet".to_owned(),
        revision => format!("revision {revision}"),
    };
    if let Some(content) = status.content_of {
        revision.push_str(&format!(" (the content of revision {content})"));
    }
    let total = status.nodes.len();
    let ready = status.nodes.iter().filter(|node| node.state.is(NodeWord::Ready)).count();
    let states = tally(status.nodes.iter().map(|node| node.state.as_str()));
    let states = format!("{}: {states}", count(total, "node"));
    let worst = status.nodes.iter().any(|node| tone(&node.state) == Tone::Bad);
    let tone = if worst { Tone::Bad } else { Tone::Doubtful };
    let mut out = match standings(status) {
        // All is never said to be well while a node is not on what the newest revision wants of it.
        Some(standings) => {
            let first = hanging(&format!("{}, {standings}", status.fleet), 0, style);
            let first = first.replacen(&status.fleet, &fleet, 1);
            if ready == total { first } else { first + &style.paint(tone, &states) + "\n" }
        }
        None if total == 0 => {
            let none = style.paint(Tone::Doubtful, "no nodes yet: `convoy apply DIR` makes some");
            format!("{fleet}, {revision}, {none}\n")
        }
        None if ready == total => {
            let all = style.paint(Tone::Good, &format!("all {} ready", count(total, "node")));
            format!("{fleet}, {revision}, {all}\n")
        }
        None => format!("{fleet}, {revision}, {}\n", style.paint(tone, &states)),
    };
    if status.store_older {
        out.push_str(&style.paint(Tone::Bad, "the store is older than its agents: apply again\n"));
    }
    out
}

/// `2 of 3 on revision 3; is-2 is behind: rollout 3 was aborted`; nothing if every node is on the newest revision.
fn standings(status: &Status) -> Option<String> {
    let named = status.nodes.iter().filter_map(|node| Some((node, node.standing?)));
    let (on, others): (Vec<_>, Vec<_>) = named.partition(|(_, standing)| *standing == Standing::OnNewest);
    if others.is_empty() {
        return None;
    }
    let mut content = String::new();
    if let Some(of) = status.content_of {
        content = format!(" (the content of revision {of})");
    }
    let all = on.len() + others.len();
    let mut text = format!("{} of {all} on revision {}{content}", on.len(), status.revision);
    // Nodes with the same cause share a clause.
    let mut causes: Vec<((Standing, &str), Vec<&str>)> = Vec::new();
    for (node, standing) in others {
        let cause = (standing, node.standing_why.as_str());
        match causes.iter_mut().find(|(known, _)| *known == cause) {
            Some((_, names)) => names.push(&node.name),
            None => causes.push((cause, vec![&node.name])),
        }
    }
    for ((standing, why), names) in causes {
        let verb = if names.len() == 1 { "is" } else { "are" };
        let nodes = names_at_most(NAMES_MAX, names.iter().copied());
        text.push_str(&match standing {
            Standing::OnNewest => String::new(),
            Standing::UnderWay => format!("; {why}"),
            Standing::Behind => format!("; {nodes} {verb} behind: {why}"),
            Standing::NotReported => format!("; {nodes} {verb} unknown: no report yet"),
            // The whole fleet has to act on this one; it has a line of its own.
            Standing::StoreOlder => format!("; {nodes} {verb} ahead of the store"),
        });
    }
    Some(text)
}

/// Names that a headline lists.
const NAMES_MAX: usize = 3;

/// What is wrong or doubtful, each with its reason and the command that says more.
fn attention(status: &Status, style: Style) -> String {
    let mut table = Table::indented(2);
    let mut names = Vec::new();
    for node in &status.nodes {
        for (tone, text) in complaints(node, status.at) {
            table.row([Cell::plain(node.name.clone()), Cell::toned(tone, text)]);
            names.push(node.name.as_str());
        }
    }
    let Some(first) = names.first() else { return String::new() };
    let mut out = format!("\n{}\n", style.paint(Tone::Strong, "Needs a look"));
    // Reasons are wrapped, never cut: at 3 a.m. the end of the line is the part that matters.
    out.push_str(&table.render(style));
    out.push_str(&style.paint(Tone::Faint, &format!("  more: convoy node show {first}\n")));
    out
}

fn complaints(node: &Node, now: When) -> Vec<(Tone, String)> {
    let mut complaints = Vec::new();
    if !node.state.is(NodeWord::Ready) {
        let why = match node.state_why.as_str() {
            "" if !node.enrolled => {
                "no agent has enrolled; `convoy token create` makes a join token".to_owned()
            }
            "" => "the coordinator gives no reason".to_owned(),
            why => why.to_owned(),
        };
        complaints.push((tone(&node.state), format!("{}: {why}", node.state)));
    }
    let Some(report) = &node.report else { return complaints };
    if let Some(failure) = report.attempted.as_ref().and_then(|attempt| attempt.failure.as_ref())
        && !node.state_why.contains(&failure.detail)
    {
        complaints.push((Tone::Bad, format!("{}: {}", failure.reason, failure.detail)));
    }
    if let Some(pause) = &report.drift_pause {
        let text = format!("edits are left alone until {}: {}", super::clock(pause.until), pause.reason);
        complaints.push((Tone::Doubtful, text));
    }
    for concern in &report.concerns {
        complaints.push((Tone::Doubtful, format!("{}: {}", concern.kind, concern.detail)));
    }
    for drift in
        report.drift.iter().filter(|drift| drift.action != "restored" && drift.kind != "product-owned")
    {
        let when = ago(now, drift.at);
        let text = match drift.kind.starts_with("generated-") {
            // What it leads to; `drift show` has the remedy.
            true => format!("{}; seen {when}", drift.detail.split("; ").next().unwrap_or_default()),
            false => format!("{} {} {when}, {}", drift.path, drift.kind, drift.action),
        };
        complaints.push((Tone::Doubtful, text));
    }
    complaints
}

/// All nodes, one line each.
pub fn node_table(nodes: &[Node], now: When, style: Style) -> String {
    let mut table = Table::fitted([
        ("NODE", Keep::Always),
        ("GROUP", Keep::UnlessNarrow(2)),
        ("STATE", Keep::Always),
        ("SERVER", Keep::UnlessNarrow(1)),
        ("HEALTH", Keep::UnlessNarrow(4)),
        ("REVISION", Keep::Always),
        ("DRIFT", Keep::UnlessNarrow(3)),
        ("SEEN", Keep::Always),
    ]);
    for node in nodes {
        let report = node.report.as_ref();
        let health = report
            .map_or_else(|| Cell::toned(Tone::Faint, "-"), |report| Cell::state(&report.health.verdict));
        table.row([
            Cell::plain(node.name.clone()),
            Cell::plain(node.group.clone()),
            Cell::state(&node.state),
            server(node, now),
            health,
            revision(node),
            drift(node, now),
            seen(node, now),
        ]);
    }
    table.render(style)
}

/// What the server does, and since when.
fn server(node: &Node, now: When) -> Cell {
    let Some(report) = &node.report else { return Cell::toned(Tone::Faint, "-") };
    let state = &report.service.state;
    // Since when nobody knows is the age of the agent, not of anything about the server.
    let since =
        if state.is(ServiceWord::Unknown) { String::new() } else { lasting(now, report.service_since()) };
    Cell::toned(tone(state), format!("{state} {since}").trim_end())
}

/// The revision whose content is in force, and whether the node should be on another.
fn revision(node: &Node) -> Cell {
    let known = node.revision_in_force.map(|revision| revision.to_string());
    let revision = known.unwrap_or_else(|| "unknown".to_owned());
    match node.standing {
        Some(Standing::OnNewest) => Cell::plain(revision),
        Some(standing @ (Standing::Behind | Standing::UnderWay)) => {
            Cell::toned(Tone::Doubtful, format!("{revision}, {}", standing.as_str()))
        }
        // The store is what is behind here.
        Some(Standing::StoreOlder | Standing::NotReported) => Cell::toned(Tone::Doubtful, revision),
        None if node.revision_in_force.is_some() => Cell::plain(revision),
        None => Cell::toned(Tone::Faint, "-"),
    }
}

/// A repair that is older than this is history: `drift list` and events have it.
const REPAIR_SHOWN_MS: i64 = 24 * 3600 * 1000;

fn drift(node: &Node, now: When) -> Cell {
    let Some(report) = &node.report else { return Cell::toned(Tone::Faint, "-") };
    let is_open = |drift: &&DriftEntry| drift.action != "restored" && drift.kind != "product-owned";
    let standing = report.drift.iter().filter(is_open).count();
    let repaired = report.drift.iter().filter(|drift| drift.action == "restored");
    let repaired = repaired.filter(|drift| now.0 - drift.at.0 < REPAIR_SHOWN_MS).count();
    if report.drift_pause.is_some() {
        Cell::toned(Tone::Doubtful, "paused")
    } else if 0 < standing {
        Cell::toned(Tone::Doubtful, format!("{standing} open"))
    } else if 0 < repaired {
        Cell::plain(format!("{repaired} repaired"))
    } else {
        Cell::toned(Tone::Faint, "none")
    }
}

fn seen(node: &Node, now: When) -> Cell {
    match (node.connected, node.enrolled) {
        (true, _) => Cell::plain("now"),
        (false, true) => Cell::toned(Tone::Bad, ago(now, node.last_seen)),
        (false, false) => Cell::toned(Tone::Faint, "not enrolled"),
    }
}
