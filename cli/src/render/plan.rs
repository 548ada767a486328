//! A plan as text: per node what changes key by key, what restarts and why, and in which order.

use fleet::{
    words::Severity,
    words::{ChangeWord, FileWord, RestartWord, Said},
};
use std::{collections::BTreeSet, time::Duration};

use super::{
    effects, host,
    siblings::{self, Alike},
};
use crate::{
    request::Detail,
    text::{Cell, Style, Table, Tone, bytes, coarse, count},
    view::{Estimate, FileChange, Finding, KeyChange, NodePlan, Plan, When},
};

/// How every line begins that stands for others.
const MORE: &str = "… ";
/// Warnings that are shown without `--diff`.
const WARNINGS_MAX: usize = 5;

/// Everything a person needs before saying yes.
pub fn plan(plan: &Plan, detail: Detail, now: When, style: Style) -> String {
    let hints = plan.findings.iter().filter(|finding| finding.severity.is(Severity::Info)).count();
    let mut out = serious(plan, detail, style);
    if plan.refused {
        let summary = super::findings_summary(&plan.findings);
        out.push_str(&style.paint(Tone::Bad, &format!("Nothing can be applied: {summary}.\n")));
        return out;
    }
    let (changing, others): (Vec<&NodePlan>, Vec<&NodePlan>) =
        plan.nodes.iter().partition(|node| node.changes());
    // Nothing is applied to these, and yet their next start makes other files.
    let updated: Vec<&NodePlan> = others.into_iter().filter(|node| node.effects.is_some()).collect();
    for alike in siblings::of(&changing, detail).into_iter().chain(siblings::of(&updated, detail)) {
        out.push_str(&alike_nodes(&alike, detail, style));
        out.push('\n');
    }
    if !changing.is_empty() && !plan.waves.is_empty() {
        out.push_str(&style.paint(Tone::Strong, "Order\n"));
        for wave in &plan.waves {
            out.push_str(&format!("  {wave}\n"));
        }
        if let Some(estimate) = &plan.estimate {
            out.push_str(&format!("  {}\n", takes(estimate)));
        }
        out.push('\n');
    }
    out.push_str(&host::sources(&changing, now, style));
    out.push_str(&host::notes(&plan.notes, detail, style));
    if hints != 0 {
        let text = format!("{}; `convoy lint` shows them\n", count(hints, "hint"));
        out.push_str(&style.paint(Tone::Faint, &text));
    }
    if detail == Detail::Keys && out.contains(MORE) {
        out.push_str(&style.paint(Tone::Faint, "--diff shows every line\n"));
    }
    out.push_str(&host::unmanaged(&changing, detail, style));
    if let Some(why) = &plan.approval {
        out.push_str(&style.paint(Tone::Doubtful, &format!("Needs approval: {why}.\n")));
    }
    if let Some(signers) = &plan.signers {
        out.push_str(&style.paint(Tone::Doubtful, &format!("Needs a signature by {signers}.\n")));
    }
    if let Some(key) = &plan.signed_by {
        out.push_str(&format!("Signed by {key}.\n"));
    }
    if let Some(origin) = &plan.origin {
        let tone = if origin.changed == 0 { Tone::Plain } else { Tone::Doubtful };
        out.push_str(&style.paint(tone, &format!("From {}.\n", super::origin(origin))));
    }
    out.push_str(&summary(plan, &changing, style));
    out.push_str(&updated_summary(&updated, style));
    out
}

/// Every error, and of the warnings first those about what changes: the others stood there yesterday too.
fn serious(plan: &Plan, detail: Detail, style: Style) -> String {
    let changed: BTreeSet<&str> =
        plan.nodes.iter().flat_map(|node| &node.keys).filter_map(|key| key.place.as_deref()).collect();
    let is_old = |finding: &Finding| {
        let place = finding.shown_file().zip(finding.line).map(|(file, line)| format!("{file}:{line}"));
        place.is_some_and(|place| !changed.contains(place.as_str()))
    };
    let mut serious: Vec<Finding> =
        plan.findings.iter().filter(|finding| !finding.severity.is(Severity::Info)).cloned().collect();
    serious.sort_by_key(|finding| (!finding.is_error(), is_old(finding)));
    let merged = super::by_nodes(&serious);
    let errors = merged.iter().filter(|(finding, _)| finding.is_error()).count();
    let most = if detail == Detail::Lines { usize::MAX } else { errors + WARNINGS_MAX };
    let omitted = merged.len().saturating_sub(most);
    let mut out = super::merged_findings(merged.into_iter().take(most), style);
    if omitted != 0 {
        out.push_str(&style.paint(Tone::Faint, &format!("{MORE}{}\n\n", count(omitted, "more warning"))));
    }
    out
}

fn updated_summary(updated: &[&NodePlan], style: Style) -> String {
    if updated.is_empty() {
        return String::new();
    }
    let nodes = count(updated.len(), "node");
    let (verb, whose) = if updated.len() == 1 { ("renders", "its") } else { ("render", "their") };
    let text =
        format!("{nodes} {verb} other files at {whose} next start: the pack was updated on the host.\n");
    style.paint(Tone::Doubtful, &text)
}

/// How long the rollout is likely to take.
fn takes(estimate: &Estimate) -> String {
    match (estimate.left_ms.map(Duration::from_millis), estimate.unknown) {
        (None, _) => "How long it takes is not known: no restart of these nodes is on record.".to_owned(),
        (Some(left), unknown) if left < Duration::from_secs(1) && unknown == 0 => {
            "Takes a moment.".to_owned()
        }
        (Some(left), 0) => format!("Takes about {}, as long as nothing fails or waits.", coarse(left)),
        (Some(left), unknown) => format!(
            "Takes about {}, as long as nothing fails or waits; {} of unknown speed taken for the slowest known.",
            coarse(left),
            count(unknown as usize, "node")
        ),
    }
}

fn summary(plan: &Plan, changing: &[&NodePlan], style: Style) -> String {
    let against = match plan.base_revision {
        0 => "nothing was applied before".to_owned(),
        base => format!("against revision {base}"),
    };
    if changing.is_empty() {
        let differently = if plan.changes() { "; later rollouts go differently" } else { "" };
        return format!("Nothing changes on any node{differently} ({against}).\n");
    }
    let stops = changing.iter().copied().filter(|node| node.restarts());
    let (starts, restarts): (Vec<&NodePlan>, Vec<&NodePlan>) = stops.partition(|node| node.starts());
    let verb = if changing.len() == 1 { "changes" } else { "change" };
    let restarts = match (restarts.len(), starts.len()) {
        (0, 0) => "no server restarts".to_owned(),
        (0, starts) => servers(starts, "start"),
        (restarts, 0) => servers(restarts, "restart"),
        (restarts, starts) => format!("{}, {}", servers(restarts, "restart"), servers(starts, "start")),
    };
    let reloads = changing.iter().filter(|node| node.restart.is(RestartWord::Reload)).count();
    let reloads = match reloads {
        0 => String::new(),
        1 => ", 1 load balancer reloads".to_owned(),
        more => format!(", {more} load balancers reload"),
    };
    let unchanged = match plan.unchanged {
        0 => String::new(),
        1 => ", 1 stays as it is".to_owned(),
        more => format!(", {more} stay as they are"),
    };
    let nodes = count(changing.len(), "node");
    style.paint(Tone::Strong, &format!("{nodes} {verb}{unchanged}; {restarts}{reloads}"))
        + &format!(" ({against}).\n")
}

/// `1 server restarts`, `2 servers restart`.
fn servers(number: usize, does: &str) -> String {
    let verb = if number == 1 { format!("{does}s") } else { does.to_owned() };
    format!("{} {verb}", count(number, "server"))
}

/// One node with all that changes, or all nodes that change in the same way as one shown above.
fn alike_nodes(alike: &Alike<'_>, detail: Detail, style: Style) -> String {
    let Some(node) = alike.nodes.first() else { return String::new() };
    let (sign, tone) = sign_of_node(&node.change);
    let does = if node.starts() { "start" } else { "restart" };
    let verb = if alike.nodes.len() == 1 { format!("{does}s") } else { does.to_owned() };
    let restart = match node.restart.known() {
        _ if !node.changes() => style.paint(Tone::Good, "nothing to apply"),
        Some(RestartWord::None | RestartWord::Hot) if node.adoption.as_deref() == Some("adopted") => {
            style.paint(Tone::Good, "adopted, no restart")
        }
        Some(RestartWord::Reload) if node.adoption.as_deref() == Some("started") => {
            style.paint(Tone::Doubtful, "starts")
        }
        Some(RestartWord::Reload) => style.paint(Tone::Good, "reloads, and drops no connection"),
        Some(RestartWord::None) => style.paint(Tone::Good, "no restart"),
        Some(RestartWord::Hot) => style.paint(Tone::Good, "no restart: the server picks it up by itself"),
        Some(RestartWord::Phased) => {
            style.paint(Tone::Bad, &format!("{verb}, and all nodes have to agree on it"))
        }
        _ => style.paint(Tone::Doubtful, &verb),
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
    let sign = if node.change.is(ChangeWord::Create) { PLUS.0 } else { OTHER.0 };
    let own = siblings::own(node, shown, detail);
    let mut out = String::new();
    if shown.is_none() {
        out.push_str(&effects::pack_note(node, style));
        out.push_str(&host::unpacked(node, style));
    }
    out.push_str(&keys(&own.keys, style));
    if shown.is_none() {
        out.push_str(&kept(&node.kept, style));
    }
    for setting in &own.settings {
        out.push_str(&format!("    {sign} service: {setting}\n"));
    }
    out.push_str(&files(&own.files, detail, style));
    out + &effects::effects(&own, node.effects.as_ref(), detail, style)
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
    table.render_whole(style)
}

/// What stays as the host has it, whatever was declared.
fn kept(changes: &[KeyChange], style: Style) -> String {
    let mut table = Table::indented(4);
    for change in changes {
        let found = change.old.as_deref().unwrap_or("absent");
        let declared = change.new.as_deref().unwrap_or("nothing");
        table.row([
            Cell::toned(Tone::Faint, format!("= {}", change.key)),
            Cell::plain(format!("stays {found}")),
            Cell::toned(Tone::Faint, format!("declared: {declared}; [drift.keys] leaves it to the host")),
        ]);
    }
    table.render_whole(style)
}

fn files(changes: &[&FileChange], detail: Detail, style: Style) -> String {
    let mut table = Table::indented(4);
    for change in changes {
        let (sign, tone) = sign(&change.change);
        let asks = matches!(change.restart.known(), Some(RestartWord::Hot | RestartWord::Phased));
        let (size, note) = match change.change.known() {
            Some(FileWord::Added | FileWord::Changed) if asks => {
                (bytes(change.new_size), change.restart_why.clone())
            }
            Some(FileWord::Removed) => (String::new(), "stays on the host; Convoy lets go of it".to_owned()),
            Some(FileWord::SameMeaning) => (String::new(), "the server reads the same as before".to_owned()),
            _ if change.old_size == 0 && change.new_size == 0 => (String::new(), String::new()),
            Some(FileWord::Added) => (bytes(change.new_size), String::new()),
            _ if change.old_size == change.new_size => (bytes(change.new_size), String::new()),
            _ => (format!("{} → {}", bytes(change.old_size), bytes(change.new_size)), String::new()),
        };
        let note: Vec<&str> = std::iter::once(note.as_str())
            .filter(|note| !note.is_empty())
            .chain(change.settings.iter().map(String::as_str))
            .chain(change.note.as_deref())
            .collect();
        let note = note.join("; ");
        table.row([
            Cell::toned(tone, format!("{sign} {}", change.path)),
            Cell::plain(size),
            Cell::toned(Tone::Faint, note),
        ]);
    }
    let mut out = table.render_whole(style);
    if detail == Detail::Lines {
        for change in changes.iter().filter(|change| !change.diff.is_empty()) {
            out.push_str(&format!("      {}\n", style.paint(Tone::Faint, &change.path)));
            out.push_str(&effects::whole(&change.diff, style));
        }
    }
    out
}

const PLUS: (&str, Tone) = ("+", Tone::Good);
const MINUS: (&str, Tone) = ("-", Tone::Bad);
const SAME: (&str, Tone) = ("=", Tone::Faint);
const OTHER: (&str, Tone) = ("~", Tone::Doubtful);

fn sign_of_node(change: &Said<ChangeWord>) -> (&'static str, Tone) {
    match change.known() {
        Some(ChangeWord::Create) => PLUS,
        Some(ChangeWord::Remove) => MINUS,
        Some(ChangeWord::None) => SAME,
        Some(ChangeWord::Update) | None => OTHER,
    }
}

pub(super) fn sign(change: &Said<FileWord>) -> (&'static str, Tone) {
    match change.known() {
        Some(FileWord::Added) => PLUS,
        Some(FileWord::Removed) => MINUS,
        Some(FileWord::SameMeaning) => SAME,
        Some(FileWord::Changed) | None => OTHER,
    }
}
