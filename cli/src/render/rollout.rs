//! Rollouts as text.

use std::time::Duration;

use fleet::words::{RolloutWord, Said, StepWord};

use crate::{
    text::{Cell, Style, Table, Tone, coarse, count, hanging, lasting, local, tone},
    view::{Estimate, Rollout, RolloutNode, When},
};

/// Number, revision, state and how long.
pub fn rollout_headline(rollout: &Rollout, now: When, style: Style) -> String {
    let end = if rollout.ended.0 == 0 { now } else { rollout.ended };
    let took = lasting(end, rollout.started);
    let when = match (rollout.has_ended(), rollout.ended.0) {
        (false, _) => format!(" for {took}"),
        (true, 0) => String::new(),
        (true, _) => format!(" after {took}, at {}", local(rollout.ended)),
    };
    let message =
        if rollout.message.is_empty() { String::new() } else { format!(", \"{}\"", rollout.message) };
    let author = if rollout.author.is_empty() { String::new() } else { format!(", by {}", rollout.author) };
    let back = rollout.rolls_back_to.map(|to| format!(", back to revision {to}")).unwrap_or_default();
    let state = style.state(&rollout.state);
    format!("rollout {} of revision {}{message}{author}{back}: {state}{when}\n", rollout.id, rollout.revision)
}

/// The headline, its groups with their nodes, and why it does not go on just now.
pub fn rollout(rollout: &Rollout, now: When, style: Style) -> String {
    let mut out = rollout_headline(rollout, now, style);
    let mut table = Table::indented(2);
    for group in &rollout.groups {
        let ready = group.nodes.iter().filter(|node| node.state.is(StepWord::Ready)).count();
        let progress = format!("{ready} of {}", group.nodes.len());
        table.row([
            Cell::toned(Tone::Strong, group.group.clone()),
            Cell::state(&group.state),
            Cell::plain(progress),
        ]);
        for node in &group.nodes {
            let since = if node.has_ended() { times(node) } else { lasting(now, node.since) };
            let detail = match (since.as_str(), node.detail.as_str()) {
                ("", detail) => detail.to_owned(),
                (since, "") => since.to_owned(),
                (since, detail) => format!("{since}, {detail}"),
            };
            table.row([
                Cell::plain(format!("  {}", node.node)),
                shown_state(&node.state),
                Cell::toned(if node.has_failed() { Tone::Bad } else { Tone::Plain }, detail),
            ]);
        }
    }
    out.push_str(&table.render(style));
    if let Some(reason) = &rollout.windows_overridden {
        out.push_str(&format!("  maintenance windows are ignored: {reason}\n"));
    }
    // Of one that ended these are the reasons of its end, which belong to the verdict.
    for reason in rollout.waiting.iter().filter(|_| !rollout.has_ended()) {
        let line = hanging(&format!("waits: {reason}"), 2, style);
        out.push_str(&line.replacen("waits:", &style.paint(Tone::Doubtful, "waits:"), 1));
    }
    if let Some(estimate) = &rollout.estimate {
        out.push_str(&format!("  {}\n", left(estimate)));
    }
    out
}

/// `34s: restarting 21s, settling 10s`; states of less than a second are left out.
fn times(node: &RolloutNode) -> String {
    let ms = |ms: u64| coarse(Duration::from_millis(ms));
    let total: u64 = node.times.iter().map(|time| time.ms).sum();
    let long = node.times.iter().filter(|time| 1000 <= time.ms);
    let long: Vec<String> = long.map(|time| format!("{} {}", shown_word(&time.state), ms(time.ms))).collect();
    if long.is_empty() { String::new() } else { format!("{}: {}", ms(total), long.join(", ")) }
}

/// How much longer, in a few words.
fn left(estimate: &Estimate) -> String {
    match (estimate.left_ms.map(Duration::from_millis), estimate.unknown) {
        (None, _) => "how much longer is not known: no restart of these nodes is on record".to_owned(),
        (Some(left), 0) => format!("about {} left", coarse(left)),
        (Some(left), unknown) => {
            let nodes = count(unknown as usize, "node");
            format!("about {} left, with {nodes} of unknown speed taken for the slowest known", coarse(left))
        }
    }
}

/// A node's state. Programs know the wait of one healthy node for `min_healthy_time` as `soaking`; people know that word
/// for the soak of a wave.
pub fn shown_word(state: &Said<StepWord>) -> &str {
    if state.is(StepWord::Soaking) { "settling" } else { state.as_str() }
}

fn shown_state(state: &Said<StepWord>) -> Cell {
    Cell::toned(tone(state), shown_word(state))
}

/// Rollouts, one line each.
pub fn rollout_list(rollouts: &[Rollout], now: When, style: Style) -> String {
    if rollouts.is_empty() {
        return "No rollout yet: `convoy apply DIR` starts one.\n".to_owned();
    }
    let mut table =
        Table::headed(["ROLLOUT", "REVISION", "STATE", "NODES", "STARTED", "TOOK", "BY", "MESSAGE"]);
    for rollout in rollouts {
        let total = rollout.nodes().count();
        let ready = rollout.nodes().filter(|(_, node)| node.state.is(StepWord::Ready)).count();
        let end = if rollout.ended.0 == 0 { now } else { rollout.ended };
        table.row([
            Cell::plain(rollout.id.to_string()),
            Cell::plain(rollout.revision.to_string()),
            Cell::state(&rollout.state),
            Cell::plain(format!("{ready} of {total}")),
            Cell::plain(local(rollout.started)),
            Cell::plain(lasting(end, rollout.started)),
            Cell::plain(rollout.author.clone()),
            Cell::plain(rollout.message.clone()),
        ]);
    }
    table.render(style)
}

/// How a rollout ended, why, and what to do next.
pub fn verdict(rollout: &Rollout, style: Style) -> String {
    let total = rollout.nodes().count();
    let took = lasting(rollout.ended, rollout.started);
    if rollout.is_done() {
        let text = format!("Rollout {} is done: {} ready after {took}.\n", rollout.id, count(total, "node"));
        return style.paint(Tone::Good, &text);
    }
    let mut out = style.paint(Tone::Bad, &format!("Rollout {} ended as {}.\n", rollout.id, rollout.state));
    for (group, node) in rollout.nodes().filter(|(_, node)| node.has_failed()) {
        let detail = if node.detail.is_empty() { "no reason was given" } else { &node.detail };
        out.push_str(&format!("  {} ({}) {}: {detail}\n", node.node, group.group, node.state));
    }
    for reason in &rollout.waiting {
        out.push_str(&format!("  {reason}\n"));
    }
    let next = match rollout.state.known() {
        Some(RolloutWord::RolledBack) => {
            "every changed node is back on what it ran before; repair the cause, then apply again"
        }
        Some(RolloutWord::Superseded) => "a newer revision took over; look at `convoy rollout list`",
        Some(RolloutWord::Aborted) => {
            "nodes already changed stay changed; go on with `convoy apply`, or back with `convoy rollback`"
        }
        _ => "look at `convoy status`, repair the cause and apply again, or go back with `convoy rollback`",
    };
    out.push_str(&format!("  next: {next}\n"));
    out
}
