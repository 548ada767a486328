//! A plan as text: per node what changes key by key, what restarts and why, and in which order.

use super::siblings::{self, Alike};
use crate::{
    request::Detail,
    text::{Cell, Style, Table, Tone, bytes, count},
    view::{FileChange, Finding, KeyChange, NodePlan, Plan},
};

/// Everything a person needs before saying yes.
pub fn plan(plan: &Plan, detail: Detail, style: Style) -> String {
    let (hints, serious): (Vec<Finding>, Vec<Finding>) =
        plan.findings.iter().cloned().partition(|finding| finding.severity == "info");
    let mut out = super::findings(&serious, style);
    if plan.refused {
        let summary = super::findings_summary(&plan.findings);
        out.push_str(&style.paint(Tone::Bad, &format!("Nothing can be applied: {summary}.\n")));
        return out;
    }
    let changing: Vec<&NodePlan> = plan.nodes.iter().filter(|node| node.changes()).collect();
    for alike in siblings::of(&changing, detail) {
        out.push_str(&alike_nodes(&alike, detail, style));
        out.push('\n');
    }
    if !changing.is_empty() && !plan.waves.is_empty() {
        out.push_str(&style.paint(Tone::Strong, "Order\n"));
        for wave in &plan.waves {
            out.push_str(&format!("  {wave}\n"));
        }
        out.push('\n');
    }
    if !hints.is_empty() {
        let text = format!("{}; `convoy lint` shows them\n", count(hints.len(), "hint"));
        out.push_str(&style.paint(Tone::Faint, &text));
    }
    out.push_str(&summary(plan, &changing, style));
    out
}

fn summary(plan: &Plan, changing: &[&NodePlan], style: Style) -> String {
    let against = match plan.base_revision {
        0 => "nothing was applied before".to_owned(),
        base => format!("against revision {base}"),
    };
    if changing.is_empty() {
        return format!("Nothing changes on any node ({against}).\n");
    }
    let restarts = changing.iter().filter(|node| node.restarts()).count();
    let verb = if changing.len() == 1 { "changes" } else { "change" };
    let restarts = match restarts {
        0 => "no server restarts".to_owned(),
        1 => "1 server restarts".to_owned(),
        more => format!("{more} servers restart"),
    };
    let unchanged = match plan.unchanged {
        0 => String::new(),
        1 => ", 1 stays as it is".to_owned(),
        more => format!(", {more} stay as they are"),
    };
    let nodes = count(changing.len(), "node");
    style.paint(Tone::Strong, &format!("{nodes} {verb}{unchanged}; {restarts}")) + &format!(" ({against}).\n")
}

/// One node with all that changes, or all nodes that change in the same way as one shown above.
fn alike_nodes(alike: &Alike<'_>, detail: Detail, style: Style) -> String {
    let Some(node) = alike.nodes.first() else { return String::new() };
    let (sign, tone) = sign(&node.change);
    let verb = if alike.nodes.len() == 1 { "restarts" } else { "restart" };
    let restart = match node.restart.as_str() {
        "none" | "" => style.paint(Tone::Good, "no restart"),
        "hot" => style.paint(Tone::Good, "no restart: the server picks it up by itself"),
        "phased" => style.paint(Tone::Bad, &format!("{verb}, in phases over the fleet")),
        _ => style.paint(Tone::Doubtful, verb),
    };
    let why = if node.restart_why.is_empty() { String::new() } else { format!(": {}", node.restart_why) };
    let names: Vec<String> = alike.nodes.iter().map(|node| style.paint(Tone::Strong, &node.node)).collect();
    let head = format!("{} {} ({}) {restart}{why}", style.paint(tone, sign), names.join(", "), node.group);
    let Some(shown) = alike.shown else { return head + "\n" + &lines(node, None, detail, style) };
    let own = lines(node, Some(shown), detail, style);
    let more = if own.is_empty() { "" } else { ", besides" };
    head + &format!("\n    the same as {}{more}\n", shown.node) + &own
}

/// What changes on a node; without what is shown of `shown` already.
fn lines(node: &NodePlan, shown: Option<&NodePlan>, detail: Detail, style: Style) -> String {
    let sign = if node.change == "create" { "+" } else { "~" };
    let own = siblings::own(node, shown, detail);
    let mut out = keys(&own.keys, style);
    for setting in own.settings {
        out.push_str(&format!("    {sign} service: {setting}\n"));
    }
    out + &files(&own.files, detail, style)
}

fn keys(changes: &[&KeyChange], style: Style) -> String {
    let mut table = Table::indented(4);
    for change in changes {
        let (sign, tone, value) = match (&change.old, &change.new) {
            (Some(old), Some(new)) => ("~", Tone::Doubtful, format!("{old} → {new}")),
            (None, Some(new)) => ("+", Tone::Good, new.clone()),
            (Some(old), None) => ("-", Tone::Bad, old.clone()),
            (None, None) => ("~", Tone::Doubtful, String::new()),
        };
        let place = change.place.clone().unwrap_or_default();
        // One column for sign and key: two spaces after a one-letter sign would tear them apart.
        table.row([
            Cell::toned(tone, format!("{sign} {}", change.key)),
            Cell::plain(value),
            Cell::toned(Tone::Faint, place),
        ]);
    }
    table.render(Style { width: None, ..style })
}

fn files(changes: &[&FileChange], detail: Detail, style: Style) -> String {
    let mut table = Table::indented(4);
    for change in changes {
        let (sign, tone) = sign(&change.change);
        let (size, note) = match change.change.as_str() {
            "removed" => (String::new(), "stays on the host; Convoy lets go of it".to_owned()),
            "same-meaning" => (String::new(), "the server reads the same as before".to_owned()),
            _ if change.old_size == 0 && change.new_size == 0 => (String::new(), String::new()),
            "added" => (bytes(change.new_size), String::new()),
            _ if change.old_size == change.new_size => (bytes(change.new_size), String::new()),
            _ => (format!("{} → {}", bytes(change.old_size), bytes(change.new_size)), String::new()),
        };
        table.row([
            Cell::toned(tone, format!("{sign} {}", change.path)),
            Cell::plain(size),
            Cell::toned(Tone::Faint, note),
        ]);
    }
    let mut out = table.render(Style { width: None, ..style });
    if detail == Detail::Lines {
        for change in changes.iter().filter(|change| !change.diff.is_empty()) {
            out.push_str(&format!("      {}\n", style.paint(Tone::Faint, &change.path)));
            for line in change.diff.lines() {
                let tone = match line.as_bytes().first() {
                    Some(b'+') => Tone::Good,
                    Some(b'-') => Tone::Bad,
                    Some(b'@') => Tone::Faint,
                    _ => Tone::Plain,
                };
                out.push_str(&format!("      {}\n", style.paint(tone, line)));
            }
        }
    }
    out
}

fn sign(change: &str) -> (&'static str, Tone) {
    match change {
        "create" | "added" => ("+", Tone::Good),
        "remove" | "removed" => ("-", Tone::Bad),
        "same-meaning" | "none" => ("=", Tone::Faint),
        _ => ("~", Tone::Doubtful),
    }
}
