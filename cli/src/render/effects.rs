//! What a plan shows of the files that servers render: few lines by themselves, all of them with `--diff`.

use fleet::words::{ChangeWord, FileWord};

use super::siblings::Own;
use crate::{
    request::Detail,
    text::{Cell, Style, Table, Tone, count, cut},
    view::{DerivedKey, Effects, NodePlan, RenderedFile},
};

/// Changed lines of one file that are shown without `--diff`.
const FILE_LINES_MAX: usize = 4;
/// Changed lines of one node that are shown without `--diff`.
const NODE_LINES_MAX: usize = 12;
/// Rendered files of one node that are named without `--diff`.
const FILES_MAX: usize = 12;
/// Values of one node that are told without `--diff`.
const DERIVED_MAX: usize = 8;
/// Of a digest.
const SHORT: usize = 8;

/// What is known of the node's pack, if there is something to say: that it is not, or that it changed.
pub(super) fn pack_note(node: &NodePlan, style: Style) -> String {
    let line = |tone, text: String| style.paint(tone, &format!("    {text}\n"));
    if let Some(why) = &node.pack_unknown {
        return line(Tone::Doubtful, format!("rendered files are not shown, its pack is not known: {why}"));
    }
    let Some(effects) = &node.effects else { return String::new() };
    let mut out = String::new();
    if effects.pack_given {
        out += &line(Tone::Faint, "with the pack given by --pack; the host's own is not known".to_owned());
    }
    if effects.is_updated() {
        let short = |digest: &str| digest.chars().take(SHORT).collect::<String>();
        let (before, now) = (short(&effects.pack_before), short(&effects.pack));
        let text = format!("its pack was updated on the host since the server started ({before} → {now})");
        out += &line(Tone::Doubtful, text);
    }
    if let Some(why) = &effects.unrendered {
        out += &line(Tone::Doubtful, format!("rendered files cannot be compared: {why}"));
    } else if node.change.is(ChangeWord::Create) {
        out += &line(Tone::Faint, format!("its pack renders {}", count(effects.rendered as usize, "file")));
    } else if effects.files.is_empty() && effects.derived.is_empty() {
        let text = format!("none of its {} changes", count(effects.rendered as usize, "rendered file"));
        out += &line(Tone::Faint, text);
    }
    out
}

/// Generated files that a start does away with, values that follow, and rendered files.
pub(super) fn effects(own: &Own<'_>, of: Option<&Effects>, detail: Detail, style: Style) -> String {
    let mut out = String::new();
    for file in &own.overwritten {
        let text = match file.kind.as_str() {
            "generated-deleted" => format!("{} was removed by hand; a start without it fails", file.path),
            _ => format!("{} was edited by hand; the start overwrites that", file.path),
        };
        out += &style.paint(Tone::Bad, &format!("    ! {text}\n"));
    }
    out += &derived(&own.derived, of, detail, style);
    out + &rendered(&own.rendered, of, detail, style)
}

fn derived(changes: &[&DerivedKey], of: Option<&Effects>, detail: Detail, style: Style) -> String {
    let most = if detail == Detail::Lines { usize::MAX } else { DERIVED_MAX };
    let mut table = Table::indented(4);
    for change in changes.iter().take(most) {
        let absent = || "(nothing)".to_owned();
        let (old, new) =
            (change.old.clone().unwrap_or_else(absent), change.new.clone().unwrap_or_else(absent));
        table.row([
            Cell::toned(Tone::Doubtful, format!("> {}", change.key)),
            Cell::plain(format!("{old} → {new}")),
            Cell::toned(Tone::Faint, change.why.clone()),
        ]);
    }
    let omitted = changes.len().saturating_sub(most) + of.map_or(0, |of| of.derived_omitted as usize);
    table.render(Style { width: None, ..style }) + &more(omitted, "value that nobody typed", 4, style)
}

fn rendered(files: &[&RenderedFile], of: Option<&Effects>, detail: Detail, style: Style) -> String {
    if files.is_empty() {
        return String::new();
    }
    let total = of.map_or(0, |of| of.rendered as usize);
    let verb = if files.len() == 1 { "changes" } else { "change" };
    let mut out = format!("    {} of {total} rendered files {verb}:\n", files.len());
    let most = if detail == Detail::Lines { usize::MAX } else { FILES_MAX };
    let mut room = if detail == Detail::Lines { usize::MAX } else { NODE_LINES_MAX };
    for file in files.iter().take(most) {
        let (sign, tone) = super::plan::sign(&file.change);
        let counts = style.paint(Tone::Faint, &format!("+{} -{}", file.added, file.removed));
        out += &format!("      {}  {counts}\n", style.paint(tone, &format!("{sign} {}", file.path)));
        out += &match detail {
            Detail::Lines => whole(&file.diff, style),
            Detail::Keys => preview(file, &mut room, style),
        };
    }
    out + &more(files.len().saturating_sub(most), "file", 6, style)
}

/// The first changed lines, cut at the terminal's edge. Files that come or go show by their name.
fn preview(file: &RenderedFile, room: &mut usize, style: Style) -> String {
    if !file.change.is(FileWord::Changed) {
        return String::new();
    }
    let changed: Vec<&str> = file.diff.lines().filter(|line| line.starts_with(['+', '-'])).collect();
    let most = FILE_LINES_MAX.min(*room);
    // One line of a pair says little.
    let most = if most < changed.len() { most - most % 2 } else { most };
    let shown = changed.len().min(most);
    *room -= shown;
    let width = style.width.map_or(usize::MAX, |width| width.saturating_sub(10).max(20));
    let mut out = String::new();
    for line in changed.iter().take(shown) {
        let (sign, text) = line.split_at(1);
        out += &format!(
            "          {}\n",
            style.paint(tone(sign), &cut(&format!("{sign} {}", text.trim_start()), width))
        );
    }
    if shown == 0 {
        return out;
    }
    out + &more((file.added + file.removed) as usize - shown, "line", 10, style)
}

/// All lines of a unified diff.
pub(super) fn whole(diff: &str, style: Style) -> String {
    diff.lines().map(|line| format!("      {}\n", style.paint(tone(line), line))).collect()
}

fn tone(line: &str) -> Tone {
    match line.as_bytes().first() {
        Some(b'+') => Tone::Good,
        Some(b'-') => Tone::Bad,
        Some(b'@' | b'#') => Tone::Faint,
        _ => Tone::Plain,
    }
}

fn more(omitted: usize, noun: &str, indent: usize, style: Style) -> String {
    if omitted == 0 {
        return String::new();
    }
    let noun = if omitted == 1 { noun.to_owned() } else { plural(noun) };
    style.paint(Tone::Faint, &format!("{}… {omitted} more {noun}\n", " ".repeat(indent)))
}

fn plural(noun: &str) -> String {
    match noun.split_once(' ') {
        Some((first, rest)) => format!("{first}s {rest}"),
        None => format!("{noun}s"),
    }
}
