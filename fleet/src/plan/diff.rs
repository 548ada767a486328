//! Line diffs of files, masked. Lines are compared as they are and masked only when shown, so a changed password
//! shows as a change of masked lines.

use similar::{Algorithm, DiffOp, capture_diff_slices, group_diff_ops};

use crate::{bundle::HomePath, ids::Digest, mask};

/// A diff shows at most this many lines; what is beyond is counted.
pub const DIFF_LINES_MAX: usize = 400;
/// Texts with more lines are not compared: the time would not be bounded.
const COMPARED_LINES_MAX: usize = 20_000;
/// Unchanged lines around a change.
const CONTEXT: usize = 3;

/// What can be shown of a file's change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDiff {
    /// The lines, with headers between hunks.
    Lines {
        /// In order.
        lines: Vec<DiffLine>,
        /// How many more there are.
        omitted: usize,
    },
    /// Nothing, and why.
    Unshown(Unshown),
}

/// Why no lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unshown {
    /// The content did not change.
    SameContent,
    /// The file is marked as secret.
    Secret,
    /// Not text; sizes in bytes.
    Binary {
        /// Before.
        old: u64,
        /// After.
        new: u64,
    },
    /// Too many lines.
    TooLarge,
    /// The file is no longer managed and stays as it is.
    Released,
    /// The stored content is not at hand.
    Missing,
}

/// What a line of a diff is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// `@@ -1,3 +1,4 @@`.
    Hunk,
    /// In both.
    Same,
    /// Only before.
    Removed,
    /// Only after.
    Added,
}

/// One line, without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffLine {
    /// What it is.
    pub kind: LineKind,
    /// Masked.
    pub text: String,
}

/// A file before or after a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) digest: Digest,
    pub(super) size: u64,
    /// Marked as secret: never shown.
    pub(super) secret: bool,
    /// If it is at hand.
    pub(super) content: Option<&'a [u8]>,
}

pub(super) fn of_file(path: &HomePath, old: Option<Side<'_>>, new: Option<Side<'_>>) -> FileDiff {
    if old.is_some_and(|old| new.is_some_and(|new| old.digest == new.digest)) {
        return FileDiff::Unshown(Unshown::SameContent);
    }
    let sides = || old.into_iter().chain(new);
    if sides().any(|side| side.secret) {
        return FileDiff::Unshown(Unshown::Secret);
    }
    if sides().any(|side| side.content.is_none()) {
        return FileDiff::Unshown(Unshown::Missing);
    }
    let text = |side: Option<Side<'_>>| {
        let bytes = side.and_then(|side| side.content).unwrap_or_default();
        std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).map(str::to_owned)
    };
    let (Some(old_text), Some(new_text)) = (text(old), text(new)) else {
        let size = |side: Option<Side<'_>>| side.map_or(0, |side| side.size);
        return FileDiff::Unshown(Unshown::Binary { old: size(old), new: size(new) });
    };
    let shown = if path.as_str().ends_with(".toml") { mask::toml_lines } else { mask::text_lines };
    of_texts(&old_text, &new_text, shown).0
}

/// The lines that differ, as `shown` shows the lines of a text, and how many are added and removed.
pub(super) fn of_texts(
    old: &str,
    new: &str,
    shown: impl Fn(&str) -> Vec<String>,
) -> (FileDiff, (usize, usize)) {
    let (old_lines, new_lines): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    if COMPARED_LINES_MAX < old_lines.len() + new_lines.len() {
        return (FileDiff::Unshown(Unshown::TooLarge), (new_lines.len(), old_lines.len()));
    }
    let (old_shown, new_shown) = (shown(old), shown(new));
    let (mut out, mut added, mut removed) = (Vec::new(), 0, 0);
    for group in group_diff_ops(capture_diff_slices(Algorithm::Myers, &old_lines, &new_lines), CONTEXT) {
        out.push(hunk(&group));
        for op in &group {
            let mut push = |kind, lines: &[String]| {
                out.extend(lines.iter().map(|text| DiffLine { kind, text: text.clone() }));
            };
            if matches!(op, DiffOp::Equal { .. }) {
                push(LineKind::Same, &new_shown[op.new_range()]);
            } else {
                push(LineKind::Removed, &old_shown[op.old_range()]);
                push(LineKind::Added, &new_shown[op.new_range()]);
                (added, removed) = (added + op.new_range().len(), removed + op.old_range().len());
            }
        }
    }
    let omitted = out.len().saturating_sub(DIFF_LINES_MAX);
    out.truncate(DIFF_LINES_MAX);
    (FileDiff::Lines { lines: out, omitted }, (added, removed))
}

fn hunk(group: &[DiffOp]) -> DiffLine {
    let range = |of: fn(&DiffOp) -> std::ops::Range<usize>| {
        let start = group.first().map_or(0, |op| of(op).start);
        let end = group.last().map_or(0, |op| of(op).end);
        // An empty side is numbered by the line before it, as diff does.
        let first = if start == end { start } else { start + 1 };
        format!("{first},{}", end - start)
    };
    let text = format!("@@ -{} +{} @@", range(DiffOp::old_range), range(DiffOp::new_range));
    DiffLine { kind: LineKind::Hunk, text }
}
