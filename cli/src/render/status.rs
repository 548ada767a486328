//! The status screen. Read at 3 a.m. by somebody who was woken: first whether anything is wrong, then what, then the
//! rest.

use crate::{
    text::{Cell, Style, Table, Tone, ago, count, lasting, tally},
    view::{Node, Status, When},
};

/// The whole screen.
pub fn status(status: &Status, style: Style) -> String {
    let mut out = headline(status, style);
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
    let revision = match status.revision {
        0 => "nothing applied yet".to_owned(),
        revision => format!("revision {revision}"),
    };
    let total = status.nodes.len();
    let ready = status.nodes.iter().filter(|node| node.state == "ready").count();
    let summary = if total == 0 {
        style.paint(Tone::Doubtful, "no nodes yet: `convoy apply DIR` makes some")
    } else if ready == total {
        style.paint(Tone::Good, &format!("all {} ready", count(total, "node")))
    } else {
        let states = tally(status.nodes.iter().map(|node| node.state.as_str()));
        let worst = status.nodes.iter().any(|node| Tone::of_state(&node.state) == Tone::Bad);
        style.paint(
            if worst { Tone::Bad } else { Tone::Doubtful },
            &format!("{}: {states}", count(total, "node")),
        )
    };
    format!("{fleet}, {revision}, {summary}\n")
}

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
    // Reasons are not cut: at 3 a.m. the end of the line is the part that matters.
    out.push_str(&table.render(Style { width: None, ..style }));
    out.push_str(&style.paint(Tone::Faint, &format!("  more: convoy node show {first}\n")));
    out
}

fn complaints(node: &Node, now: When) -> Vec<(Tone, String)> {
    let mut complaints = Vec::new();
    if node.state != "ready" {
        let why = match node.state_why.as_str() {
            "" if !node.enrolled => {
                "no agent has enrolled; `convoy token create` makes a join token".to_owned()
            }
            "" => "the coordinator gives no reason".to_owned(),
            why => why.to_owned(),
        };
        complaints.push((Tone::of_state(&node.state), format!("{}: {why}", node.state)));
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
    let mut table = Table::headed([
        "NODE",
        "GROUP",
        "STATE",
        "SERVER",
        "HEALTH",
        "REVISION",
        "GENERATION",
        "DRIFT",
        "SEEN",
    ]);
    for node in nodes {
        let report = node.report.as_ref();
        let server = report.map_or_else(
            || Cell::toned(Tone::Faint, "-"),
            |report| {
                let state = &report.service.state;
                let since = lasting(now, report.service.since);
                Cell::toned(Tone::of_state(state), format!("{state} {since}").trim_end())
            },
        );
        let health = report
            .map_or_else(|| Cell::toned(Tone::Faint, "-"), |report| Cell::state(&report.health.verdict));
        let revision =
            if node.desired_revision == 0 { "-".to_owned() } else { node.desired_revision.to_string() };
        table.row([
            Cell::plain(node.name.clone()),
            Cell::plain(node.group.clone()),
            Cell::state(&node.state),
            server,
            health,
            Cell::plain(revision),
            generation(node),
            drift(node),
            seen(node, now),
        ]);
    }
    table.render(style)
}

/// What it runs, and what it should run where that differs.
fn generation(node: &Node) -> Cell {
    let desired = node.desired.as_ref().map(|desired| desired.generation);
    let running = node.report.as_ref().and_then(|report| report.running.as_ref()).map(|it| it.generation);
    match (running, desired) {
        (Some(running), Some(desired)) if running == desired => Cell::plain(running.to_string()),
        (Some(running), Some(desired)) => Cell::toned(Tone::Doubtful, format!("{running} → {desired}")),
        (None, Some(desired)) => Cell::toned(Tone::Doubtful, format!("- → {desired}")),
        (Some(running), None) => Cell::plain(running.to_string()),
        (None, None) => Cell::toned(Tone::Faint, "-"),
    }
}

fn drift(node: &Node) -> Cell {
    let Some(report) = &node.report else { return Cell::toned(Tone::Faint, "-") };
    let standing = report
        .drift
        .iter()
        .filter(|drift| drift.action != "restored" && drift.kind != "product-owned")
        .count();
    if report.drift_pause.is_some() {
        Cell::toned(Tone::Doubtful, "paused")
    } else if 0 < standing {
        Cell::toned(Tone::Doubtful, format!("{standing} open"))
    } else if 0 < report.drift_total {
        Cell::plain(format!("{} repaired", report.drift_total))
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
