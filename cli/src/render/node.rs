//! One node in full, and drift.

use fleet::{
    words::SourceWord,
    words::{RestartWord, Said, ServiceWord},
};

use super::found::found_on_host;
use crate::{
    text::{Cell, Style, Table, Tone, ago, bytes, hanging, lasting, local},
    view::{
        Concern, Differences, DriftEntry, Generation, KeyDifference, Node, NodeDetail, NodeDrift, Report,
        Standing, When,
    },
};

/// Everything known about one node: what is wanted, tried, written, running and was good, kept apart.
pub fn node_detail(detail: &NodeDetail, now: When, style: Style) -> String {
    let node = &detail.node;
    let group = if node.group.is_empty() { String::new() } else { format!(" ({})", node.group) };
    let mut out = format!("{}{group}  {}", style.paint(Tone::Strong, &node.name), style.state(&node.state));
    if !node.state_why.is_empty() {
        out.push_str(&format!(": {}", node.state_why));
    }
    out.push('\n');
    out.push_str(&super::facts(&identity(node, now), style));
    match &node.report {
        Some(report) => {
            // Before the first apply its agent supervises nothing; what was found on the host says more.
            if detail.found.is_some() && report.service.state.is(ServiceWord::Unknown) {
                out.push_str("\n  nothing was applied to it yet, so its agent supervises no server\n");
            } else {
                out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "Configuration")));
                out.push_str(&super::facts(&configuration(node, report), style));
                out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "Server")));
                out.push_str(&super::facts(&server(report, now), style));
            }
            if !report.last_output.is_empty() {
                let title = "What the server wrote before it ended";
                out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, title)));
                out.extend(report.last_output.iter().map(|line| format!("  {line}\n")));
            }
            if !report.key_managers.is_empty() {
                out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "Key Managers")));
                out.push_str(&key_managers(report, now, style));
            }
            if !report.concerns.is_empty() {
                out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "To see to")));
                out.push_str(&concerns(report, style));
            }
            if !report.drift.is_empty() {
                out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "Drift")));
                out.push_str(&entries(None, &report.drift, now, style));
                out.push_str(&editors(&report.drift, style));
                out.push_str(&details(&report.drift, style));
            }
        }
        None => out.push_str("\n  its agent has not reported yet\n"),
    }
    if let Some(found) = &detail.found {
        out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "Found on its host")));
        out.push_str(&found_on_host(&node.name, found, now, style));
    }
    if !detail.files.is_empty() {
        out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "Files")));
        out.push_str(&files(detail, style));
    }
    if !detail.events.is_empty() {
        out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, "Newest events")));
        for event in &detail.events {
            let line = format!("{}  {:<18}  {}", local(event.at), event.kind, event.text);
            if style.width.is_none_or(|width| line.chars().count() + 2 <= width) {
                let time = style.paint(Tone::Faint, &local(event.at));
                out.push_str(&format!("  {time}  {:<18}  {}\n", event.kind, event.text));
            } else {
                let time = style.paint(Tone::Faint, &local(event.at));
                out.push_str(&format!("  {time}  {}\n{}", event.kind, hanging(&event.text, 6, style)));
            }
        }
    }
    out
}

fn identity(node: &Node, now: When) -> Vec<(&'static str, String)> {
    let agent = match (node.connected, node.enrolled) {
        (true, _) => format!("{} on {}, connected", node.agent_version, node.platform),
        (false, true) => {
            format!("{} on {}, last seen {}", node.agent_version, node.platform, ago(now, node.last_seen))
        }
        (false, false) => {
            format!("not enrolled; `convoy token create --node {}` makes a join token", node.name)
        }
    };
    let certificate = if node.certificate_expires.0 == 0 {
        String::new()
    } else {
        format!("valid until {}", local(node.certificate_expires))
    };
    vec![
        ("product", node.product.clone()),
        ("host", node.host.clone()),
        ("zone", node.zone.clone().unwrap_or_default()),
        ("agent", agent),
        ("certificate", certificate),
    ]
}

fn configuration(node: &Node, report: &Report) -> Vec<(&'static str, String)> {
    let attempted = report.attempted.as_ref().map(|attempt| {
        let end = match (&attempt.failure, attempt.done) {
            (Some(failure), _) => {
                format!("failed after {}: {}: {}", attempt.stage, failure.reason, failure.detail)
            }
            (None, true) => "carried out".to_owned(),
            (None, false) => format!("{}, under way", attempt.stage),
        };
        format!("{}, {end}", generation(attempt.target.as_ref()))
    });
    let mut revision = node.revision_in_force.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
    if let Some(standing) = node.standing.filter(|standing| *standing != Standing::OnNewest) {
        revision.push_str(&format!(", {}: {}", standing.as_str(), node.standing_why));
    }
    vec![
        ("revision", revision),
        ("desired", generation(node.desired.as_ref())),
        ("attempted", attempted.unwrap_or_default()),
        ("written", generation(report.written.as_ref())),
        ("running", generation(report.running.as_ref())),
        ("last good", generation(report.last_good.as_ref())),
    ]
}

fn generation(it: Option<&Generation>) -> String {
    it.map_or_else(
        || "none".to_owned(),
        |it| format!("generation {}, bundle {}", it.generation, it.bundle.get(..12).unwrap_or(&it.bundle)),
    )
}

/// A figure, or that nobody knows it.
fn known(figure: Option<impl std::fmt::Display>) -> String {
    figure.map_or_else(|| "unknown".to_owned(), |figure| figure.to_string())
}

fn server(report: &Report, now: When) -> Vec<(&'static str, String)> {
    let with = |word: &str, since: When, reason: &str| {
        let since = lasting(now, since);
        let since = if since.is_empty() { since } else { format!(" for {since}") };
        if reason.is_empty() { format!("{word}{since}") } else { format!("{word}{since}: {reason}") }
    };
    let vitals = &report.vitals;
    let process = report.process.as_ref().map(|process| {
        format!(
            "pid {}, started {}, memory {}, {} of a core, {} threads, {} open files",
            process.pid,
            local(process.started),
            known(vitals.rss_bytes.map(bytes)),
            known(vitals.cpu_percent.map(|percent| format!("{percent:.0} %"))),
            known(vitals.threads),
            known(vitals.open_files)
        )
    });
    let disk = format!(
        "{} free, logs {}",
        known(vitals.disk_free_bytes.map(bytes)),
        known(vitals.logs_bytes.map(bytes))
    );
    let pause = report.drift_pause.as_ref();
    vec![
        ("state", with(report.service.state.as_str(), report.service_since(), &report.service.reason)),
        ("health", with(report.health.verdict.as_str(), report.health.since, &report.health.reason)),
        ("process", process.unwrap_or_else(|| "none".to_owned())),
        ("starts", report.starts_total.to_string()),
        ("disk", disk),
        (
            "edits",
            pause
                .map(|pause| format!("left alone until {}: {}", local(pause.until), pause.reason))
                .unwrap_or_default(),
        ),
    ]
}

fn files(detail: &NodeDetail, style: Style) -> String {
    let mut table = Table::indented(2);
    for file in &detail.files {
        table.row([
            Cell::plain(file.path.clone()),
            Cell::plain(bytes(file.size)),
            Cell::plain(file.mode.clone()),
            Cell::plain(file.drift.clone()),
            Cell::plain(match &file.restart {
                Said::Word(RestartWord::None) => "no restart",
                other => other.as_str(),
            }),
        ]);
    }
    table.render(style)
}

/// Drift of all nodes, one line per difference.
pub fn drift_list(nodes: &[NodeDrift], now: When, style: Style) -> String {
    let rows: Vec<(&str, &DriftEntry)> =
        nodes.iter().flat_map(|node| node.entries.iter().map(|entry| (node.node.as_str(), entry))).collect();
    let mut out = String::new();
    for node in nodes {
        if let Some(pause) = &node.pause {
            out.push_str(&format!(
                "{}: edits are left alone until {}: {}\n",
                node.node,
                local(pause.until),
                pause.reason
            ));
        }
    }
    if rows.is_empty() {
        out.push_str("No drift: every managed file is as desired.\n");
        return out;
    }
    let mut table = Table::headed(["NODE", "WHEN", "FILE", "WHAT", "ACTION", "BY", "KEYS"]);
    for (node, entry) in rows {
        table.row(row(Some(node), entry, now));
    }
    out + &table.render(style)
}

/// One node's differences in full.
pub fn drift_detail(node: &NodeDrift, now: When, style: Style) -> String {
    let mut out = String::new();
    if let Some(pause) = &node.pause {
        out.push_str(&format!("Edits are left alone until {}: {}\n", local(pause.until), pause.reason));
    }
    if node.entries.is_empty() {
        out.push_str("No drift: every managed file is as desired.\n");
    } else {
        out.push_str(&entries(None, &node.entries, now, style));
        out.push_str(&editors(&node.entries, style));
        out.push_str(&details(&node.entries, style));
    }
    out + &node.differences.as_ref().map_or_else(String::new, |found| differences(found, now, style))
}

/// What differs on the host, with values.
fn differences(found: &Differences, now: When, style: Style) -> String {
    let head = match (&found.unknown, found.source.kind.is(SourceWord::Now)) {
        (Some(why), _) => return format!("\nWhat lies on the host is not known: {why}.\n"),
        (None, true) => "On the host now".to_owned(),
        (None, false) => format!(
            "On the host as it was seen {}, since {}",
            ago(now, found.source.at),
            found.source.why.as_deref().unwrap_or("it was not asked")
        ),
    };
    let mut out = String::new();
    if !(found.keys.is_empty() && found.files.is_empty()) {
        out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, &head)));
        out.push_str(&values(&found.keys, style));
    }
    for file in &found.files {
        let settings = file.settings.join("; ");
        let what = match file.what.as_str() {
            "missing" => "is missing".to_owned(),
            "content" if settings.is_empty() => "has another content".to_owned(),
            "content" => format!("has another content; {settings}"),
            _ => settings,
        };
        out.push_str(&format!("  {} {what}\n", file.path));
        if !file.diff.is_empty() {
            out.push_str(&super::effects::whole(&file.diff, style));
        }
    }
    if !found.left_to_host.is_empty() {
        let head = style.paint(Tone::Strong, "Left to the host by [drift.keys]");
        out.push_str(&format!("\n{head}\n{}", values(&found.left_to_host, style)));
    }
    if found.omitted != 0 {
        out.push_str(&format!("  and {} more keys\n", found.omitted));
    }
    out
}

fn values(keys: &[KeyDifference], style: Style) -> String {
    let mut table = Table::indented(2);
    for key in keys {
        let desired =
            key.desired.as_ref().map_or("not declared".to_owned(), |value| format!("desired {value}"));
        let found = key.found.as_ref().map_or("not there".to_owned(), |value| format!("found {value}"));
        table.row([Cell::plain(key.key.clone()), Cell::plain(desired), Cell::toned(Tone::Doubtful, found)]);
    }
    table.render_whole(style)
}

fn details(entries: &[DriftEntry], style: Style) -> String {
    let entries = entries.iter().filter(|entry| !entry.detail.is_empty());
    let line = |entry: &DriftEntry| match entry.detail.starts_with(&entry.path) {
        true => hanging(&entry.detail, 2, style),
        false => hanging(&format!("{}: {}", entry.path, entry.detail), 2, style),
    };
    entries.map(line).collect()
}

/// Who wrote what, in full.
fn editors(entries: &[DriftEntry], style: Style) -> String {
    let one = |entry: &DriftEntry| {
        let words: Vec<&str> = entry.editors.iter().map(|editor| editor.text.as_str()).collect();
        (!words.is_empty())
            .then(|| hanging(&format!("{}: by {}", entry.path, words.join("; before that ")), 2, style))
    };
    entries.iter().filter_map(one).collect()
}

/// The newest of those who wrote, and how many more.
fn short(entry: &DriftEntry) -> String {
    match entry.editors.as_slice() {
        [] if entry.kind == "product-owned" => String::new(),
        [] => "unknown".to_owned(),
        [one] => one.short.clone(),
        [newest, earlier @ ..] => format!("{} and {} more", newest.short, earlier.len()),
    }
}

fn key_managers(report: &Report, now: When, style: Style) -> String {
    let mut table = Table::indented(2);
    for one in &report.key_managers {
        let tone = match one.state.as_str() {
            "registered" => Tone::Good,
            "failing" => Tone::Bad,
            _ => Tone::Doubtful,
        };
        let looked = match one.looked {
            Some(at) => format!("last looked at {}", ago(now, at)),
            None => "not looked at since its agent started".to_owned(),
        };
        table.row(vec![
            Cell::plain(&one.name),
            Cell::toned(tone, &one.state),
            Cell::toned(Tone::Faint, looked),
        ]);
    }
    table.render(style)
}

fn concerns(report: &Report, style: Style) -> String {
    let one = |concern: &Concern| {
        let what = hanging(&format!("{}: {}", concern.kind, concern.detail), 2, style);
        what + &hanging(&format!("remedy: {}", concern.remedy), 6, style)
    };
    report.concerns.iter().map(one).collect()
}

fn entries(node: Option<&str>, entries: &[DriftEntry], now: When, style: Style) -> String {
    let mut table = Table::indented(2);
    for entry in entries {
        table.row(row(node, entry, now));
    }
    table.render(style)
}

fn row(node: Option<&str>, entry: &DriftEntry, now: When) -> Vec<Cell> {
    let action = match entry.restored_after_ms {
        Some(after) => format!("{} after {after:.1} ms", entry.action),
        None => entry.action.clone(),
    };
    let tone = if entry.action == "restored" { Tone::Good } else { Tone::Doubtful };
    let mut cells: Vec<Cell> = node.into_iter().map(Cell::plain).collect();
    cells.extend([
        Cell::toned(Tone::Faint, ago(now, entry.at)),
        Cell::plain(entry.path.clone()),
        Cell::plain(entry.kind.clone()),
        Cell::toned(tone, action),
        Cell::plain(short(entry)),
        Cell::plain(entry.keys.join(", ")),
    ]);
    cells
}
