//! What a plan says of hosts: what it was drawn against, what will hold the rollout up, and what nobody declared and
//! the apply would replace or remove.

use std::collections::BTreeMap;

use fleet::{
    finding::names_at_most,
    words::{Said, SourceWord},
};

use crate::{
    request::Detail,
    text::{Cell, Style, Table, Tone, ago, count, local},
    view::{NodePlan, Plan, PlanNote, PlanSource, Unmanaged, When},
};

/// Nodes of one line.
const NAMED_MAX: usize = 8;
/// Keys of one line.
const KEYS_MAX: usize = 8;
/// Notes of one kind.
const NOTES_MAX: usize = 8;

/// What each node was compared with, nodes with the same together.
pub(super) fn sources(changing: &[&NodePlan], now: When, style: Style) -> String {
    let mut nodes: BTreeMap<&PlanSource, Vec<&str>> = BTreeMap::new();
    for node in changing.iter().filter(|node| !node.source.kind.as_str().is_empty()) {
        nodes.entry(&node.source).or_default().push(&node.node);
    }
    if nodes.is_empty() {
        return String::new();
    }
    let mut out = style.paint(Tone::Strong, "Compared with\n");
    for (source, names) in nodes {
        out.push_str(&format!("  {}: {}\n", names_at_most(NAMED_MAX, names), source_text(source, now)));
    }
    out.push('\n');
    out
}

fn source_text(source: &PlanSource, now: When) -> String {
    let why = source.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    match &source.kind {
        Said::Word(SourceWord::Now) => "what lies on the host now".to_owned(),
        Said::Word(SourceWord::Seen) => format!("what lay on the host {}{why}", ago(now, source.at)),
        Said::Word(SourceWord::Assigned) => format!("what was assigned last{why}"),
        Said::Word(SourceWord::Nothing) => format!("nothing, the host is not known{why}"),
        Said::Other(other) => format!("{other}{why}"),
    }
}

/// Sentences, the most of each kind cut.
pub(super) fn notes(notes: &[PlanNote], detail: Detail, style: Style) -> String {
    let mut kinds: Vec<(&str, Vec<&PlanNote>)> = Vec::new();
    for note in notes {
        match kinds.iter_mut().find(|(kind, _)| *kind == note.kind) {
            Some((_, same)) => same.push(note),
            None => kinds.push((&note.kind, vec![note])),
        }
    }
    let most = if detail == Detail::Lines { usize::MAX } else { NOTES_MAX };
    let mut out = String::new();
    for (_, same) in kinds {
        for note in same.iter().take(most) {
            let tone = if note.change { Tone::Plain } else { Tone::Doubtful };
            out.push_str(&format!("{}\n", style.paint(tone, &note.text)));
        }
        if most < same.len() {
            let more = format!("… {} more like this\n", same.len() - most);
            out.push_str(&style.paint(Tone::Faint, &more));
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// One line for a home that nobody has used yet.
pub(super) fn unpacked(node: &NodePlan, style: Style) -> String {
    let Some(unpacked) = node.unpacked else { return String::new() };
    let keys = usize::try_from(unpacked.keys).unwrap_or(usize::MAX);
    let others = usize::try_from(unpacked.files).unwrap_or(usize::MAX).saturating_sub(usize::from(keys != 0));
    let what = match (keys, others) {
        (0, others) => count(others, "unpacked file"),
        (keys, 0) => format!("the unpacked deployment.toml with its {}", count(keys, "key")),
        (keys, others) => {
            let more = count(others, "more unpacked file");
            format!("the unpacked deployment.toml with its {} and {more}", count(keys, "key"))
        }
    };
    let text = format!("    no server ever ran here: replaces {what}, kept as the original\n");
    style.paint(Tone::Faint, &text)
}

/// The nodes on which something goes that nobody declared.
pub fn losing(plan: &Plan) -> String {
    let nodes = plan.nodes.iter().filter(|node| !node.unmanaged.is_empty());
    names_at_most(NAMED_MAX, nodes.map(|node| node.node.as_str()))
}

/// What needs a yes of its own.
pub(super) fn unmanaged(changing: &[&NodePlan], detail: Detail, style: Style) -> String {
    let mut table = Table::indented(2);
    let mut is_empty = true;
    for node in changing {
        for lost in &node.unmanaged {
            is_empty = false;
            table.row([
                Cell::toned(Tone::Strong, &node.node),
                Cell::plain(&lost.path),
                Cell::toned(Tone::Bad, what_goes(lost, detail)),
            ]);
        }
    }
    if is_empty {
        return String::new();
    }
    let head = "Replaced or removed although nobody declared it; this needs --replace-unmanaged\n";
    style.paint(Tone::Bad, head) + &table.render_whole(style) + "\n"
}

fn what_goes(lost: &Unmanaged, detail: Detail) -> String {
    let keys: Vec<&str> = lost.keys.iter().map(String::as_str).collect();
    let most = if detail == Detail::Lines { usize::MAX } else { KEYS_MAX };
    let keys = if keys.is_empty() { String::new() } else { format!(": {}", names_at_most(most, keys)) };
    let by = lost.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    match lost.kind.as_str() {
        "keys" => format!("keys that go{keys}"),
        "file" => "a file that nobody declared".to_owned(),
        "paused-edit" => {
            let reason = lost.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!("an edit under a pause{by} until {}{reason}{keys}", local(lost.until))
        }
        "accepted-edit" => format!("an edit that was accepted{by}{keys}"),
        "reported-edit" => format!("an edit that stands{keys}"),
        other => format!("{other}{keys}"),
    }
}
