//! Views as text for people. Pure: no stream, no clock; every function returns what to print.

use std::path::Path;

use fleet::words::Severity;

use crate::{
    text::{Cell, Style, Table, Tone, ago, count, local, tone, wrap},
    view::{Answer, Event, Finding, JoinToken, Lint, SecretName, TokenFiles, When},
};

mod admission;
mod agents;
mod alert;
mod effects;
mod found;
mod host;
mod node;
mod operators;
mod plan;
mod proposal;
mod revision;
mod rollout;
mod siblings;
mod status;
mod support;

pub use admission::{admission, admitted};
pub use agents::{agent_list, agent_upgraded, upgrade_order, upgrade_stopped};
pub use alert::{alert_detail, alert_list, silence, silence_list};
pub use host::losing;
pub use node::{drift_detail, drift_list, node_detail};
pub use operators::{operator_token, operators};
pub use plan::plan;
pub use proposal::{proposal, proposals, proposed};
pub use revision::{origin, revision, revisions};
pub use rollout::{rollout, rollout_headline, rollout_list, shown_word, verdict};
pub use status::{node_table, status};
pub use support::support_bundle;

/// Findings, each with its place, its line and what to do.
pub fn findings(findings: &[Finding], style: Style) -> String {
    merged_findings(by_nodes(findings).into_iter(), style)
}

fn merged_findings<'a>(findings: impl Iterator<Item = (&'a Finding, Vec<&'a str>)>, style: Style) -> String {
    let mut out = String::new();
    for (finding, nodes) in findings {
        let label = format!("{}[{}]", finding.severity, finding.code);
        out.push_str(&style.paint(tone(&finding.severity), &label));
        out.push_str(&format!(": {}\n", finding.message));
        if let (Some(file), Some(line)) = (finding.shown_file(), finding.line) {
            let column = finding.column.unwrap_or(1);
            out.push_str(&style.paint(Tone::Faint, &format!("  --> {file}:{line}:{column}\n")));
            if let Some(text) = &finding.line_text {
                out.push_str(&format!("{line:>5} | {text}\n"));
                let pad: String =
                    text.chars().take(column as usize - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
                out.push_str(&format!("      | {pad}{}\n", style.paint(Tone::Bad, "^")));
            }
        } else if let Some(file) = finding.shown_file() {
            out.push_str(&style.paint(Tone::Faint, &format!("  --> {file}\n")));
        }
        if !nodes.is_empty() {
            let noun = if nodes.len() == 1 { "node" } else { "nodes" };
            out.push_str(&format!("  {noun}: {}\n", nodes.join(", ")));
        }
        if !finding.remedy.is_empty() {
            out.push_str(&format!("  help: {}\n", finding.remedy));
        }
        out.push('\n');
    }
    out
}

/// Nodes share layers, and so they share findings: each once, with all nodes that it is about.
fn by_nodes(findings: &[Finding]) -> Vec<(&Finding, Vec<&str>)> {
    let mut merged: Vec<(&Finding, Vec<&str>)> = Vec::new();
    for finding in findings {
        let is_same = |other: &Finding| {
            (&other.code, &other.file, other.line, other.column)
                == (&finding.code, &finding.file, finding.line, finding.column)
                && (&other.severity, &other.message, &other.remedy)
                    == (&finding.severity, &finding.message, &finding.remedy)
                && other.node.is_some() == finding.node.is_some()
        };
        match merged.iter_mut().find(|(other, _)| is_same(other)) {
            Some((_, nodes)) => nodes.extend(finding.node.as_deref()),
            None => merged.push((finding, finding.node.as_deref().into_iter().collect())),
        }
    }
    merged
}

/// What is wrong with a fleet directory, or that nothing is.
pub fn lint(lint: &Lint, style: Style) -> String {
    let mut out = findings(&lint.findings, style);
    let summary = findings_summary(&lint.findings);
    let is_bad = lint.findings.iter().any(Finding::is_error);
    let (tone, text) = match (&lint.fleet, is_bad) {
        (Some(fleet), false) => {
            let nodes = count(lint.nodes, "node");
            let also = if summary.is_empty() { "no findings".to_owned() } else { summary };
            (Tone::Good, format!("{fleet}: {nodes}, {also}\n"))
        }
        _ => (Tone::Bad, format!("{summary}\n")),
    };
    out.push_str(&style.paint(tone, &text));
    out
}

/// `2 errors, 1 warning`, or nothing.
pub fn findings_summary(findings: &[Finding]) -> String {
    let of = |severity| findings.iter().filter(|finding| finding.severity.is(severity)).count();
    let parts =
        [(of(Severity::Error), "error"), (of(Severity::Warning), "warning"), (of(Severity::Info), "hint")];
    let parts: Vec<String> =
        parts.iter().filter(|(number, _)| *number != 0).map(|(number, noun)| count(*number, noun)).collect();
    parts.join(", ")
}

/// One event: on one line if there is room, else with its text wrapped below.
pub fn event(event: &Event, style: Style) -> String {
    let node = event.node.as_deref().unwrap_or("-");
    let mut text = event.text.clone();
    if let Some(actor) = event.actor.as_deref().filter(|actor| !begins_with(&text, actor)) {
        text.push_str(&format!(" (by {actor})"));
    }
    let head = format!("{}  {node:<12}  {:<18}", local(event.at), event.kind);
    let width = style.width.unwrap_or(usize::MAX);
    let time = style.paint(Tone::Faint, &local(event.at));
    let missing = match event.missing {
        0 => String::new(),
        missing => format!("({missing} earlier events are not kept any more)\n"),
    };
    let head_painted = format!("{time}  {node:<12}  {:<18}", event.kind);
    if head.chars().count() + 2 + text.chars().count() <= width {
        return format!("{missing}{head_painted}  {text}\n");
    }
    // Where one line has no room for it, the text stands whole below.
    let indent = " ".repeat(EVENT_INDENT);
    let lines = wrap(&text, width.saturating_sub(EVENT_INDENT));
    let lines: String = lines.iter().map(|line| format!("{indent}{line}\n")).collect();
    format!("{missing}{}\n{lines}", head_painted.trim_end())
}

/// Whether a sentence says who did it, as in `admin restarts is-1`.
fn begins_with(text: &str, actor: &str) -> bool {
    text.strip_prefix(actor).is_some_and(|rest| rest.starts_with([' ', ':']))
}

/// How far the text of an event that has lines of its own is moved to the right.
const EVENT_INDENT: usize = 4;

/// What an act on a node led to.
pub fn answer(answer: &Answer) -> String {
    if answer.detail.is_empty() { "done\n".to_owned() } else { format!("{}\n", answer.detail) }
}

/// A new join token and how to use it. The token alone is on the last line, for `| tail -1`.
pub fn token(token: &JoinToken) -> (String, String) {
    let hint = format!(
        "Join token for {}, for one use until {}. On the node, give it to `convoy-agent enroll`:\n",
        token.node,
        local(token.expires)
    );
    (hint, format!("{}\n", token.token))
}

/// Where join tokens lie, and how they are used.
pub fn token_files(made: &TokenFiles, out: &Path) -> String {
    let joined = made.nodes - made.files.len();
    let Some(first) = made.files.first() else {
        return format!(
            "Nobody is missing: {} joined before, and no token was made.\n",
            count(made.nodes, "node")
        );
    };
    let mut text = format!(
        "{} in {}, each for one use until {}. On its host, give each to `convoy-agent setup --token-file`.\n",
        count(made.files.len(), "join token"),
        out.display(),
        local(first.expires)
    );
    if 0 < joined {
        text.push_str(&format!(
            "Of {} in the directory, {joined} joined before.\n",
            count(made.nodes, "node")
        ));
    }
    text
}

/// The names of secrets.
pub fn secrets(secrets: &[SecretName], now: When, style: Style) -> String {
    let mut table = Table::headed(["SECRET", "SET", "BY", "GRANTED TO"]);
    for secret in secrets {
        let changed = ago(now, secret.changed);
        let groups = if secret.groups.is_empty() { "-".to_owned() } else { secret.groups.join(", ") };
        table.row([&secret.name, &changed, &secret.changed_by, &groups].map(Cell::plain));
    }
    if secrets.is_empty() { "no secrets\n".to_owned() } else { table.render(style) }
}

/// `12:01:05`, for screens that are redrawn.
pub fn clock(time: When) -> String {
    let text = local(time);
    text.split(' ').next_back().unwrap_or("").to_owned()
}

/// Key and value on lines that line up.
fn facts(rows: &[(&str, String)], style: Style) -> String {
    let mut table = Table::indented(2);
    for (name, value) in rows.iter().filter(|(_, value)| !value.is_empty()) {
        table.row([Cell::toned(Tone::Faint, *name), Cell::plain(value.clone())]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests;
