//! Revisions as text, and where they came from.

use crate::{
    text::{Cell, Keep, Style, Table, Tone, count, hanging, local},
    view::{Origin, Revision},
};

/// Digits of a commit that people need.
const COMMIT_SHOWN: usize = 12;

fn short(commit: &str) -> &str {
    commit.get(..COMMIT_SHOWN).unwrap_or(commit)
}

/// `commit 1a2b3c4d5e6f on main by Ann <ann@example.org>, clean`.
pub fn origin(origin: &Origin) -> String {
    let branch = origin.branch.as_deref().map(|branch| format!(" on {branch}")).unwrap_or_default();
    let author = if origin.author.is_empty() { String::new() } else { format!(" by {}", origin.author) };
    let state = match origin.changed {
        0 => "clean".to_owned(),
        1 => "with 1 file that is not as committed".to_owned(),
        more => format!("with {} that are not as committed", count(more as usize, "file")),
    };
    format!("commit {}{branch}{author}, {state}", short(&origin.commit))
}

/// One line each.
pub fn revisions(revisions: &[Revision], style: Style) -> String {
    if revisions.is_empty() {
        return "Nothing was applied yet.\n".to_owned();
    }
    let mut table = Table::fitted([
        ("REVISION", Keep::Always),
        ("WHEN", Keep::Always),
        ("BY", Keep::Always),
        ("COMMIT", Keep::Always),
        ("BRANCH", Keep::UnlessNarrow(1)),
        ("WHY", Keep::Always),
    ]);
    for revision in revisions {
        let origin = revision.origin.as_ref();
        let commit = origin.map_or_else(
            || Cell::toned(Tone::Faint, "-"),
            |origin| match origin.changed {
                0 => Cell::plain(short(&origin.commit)),
                _ => Cell::toned(Tone::Doubtful, format!("{} + changes", short(&origin.commit))),
            },
        );
        let back = revision.rolls_back_to.map(|to| format!("back to revision {to}"));
        let why = [back.as_deref().unwrap_or_default(), &revision.message];
        let why: Vec<&str> = why.into_iter().filter(|text| !text.is_empty()).collect();
        table.row([
            Cell::plain(revision.number.to_string()),
            Cell::plain(local(revision.created)),
            match &revision.signature {
                Some(_) => Cell::plain(format!("{} (signed)", revision.author)),
                None => Cell::plain(&revision.author),
            },
            commit,
            Cell::plain(origin.and_then(|origin| origin.branch.as_deref()).unwrap_or("-")),
            Cell::plain(why.join(": ")),
        ]);
    }
    table.render(style)
}

/// Everything about one.
pub fn revision(revision: &Revision, style: Style) -> String {
    let on = match revision.parent {
        0 => "the first".to_owned(),
        parent => format!("on revision {parent}"),
    };
    let mut out =
        format!("revision {} by {}, {}, {on}\n", revision.number, revision.author, local(revision.created));
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            out.push_str(&hanging(&format!("{name}: {text}"), 2, style));
        }
    };
    line("why", &revision.message);
    if let Some(to) = revision.rolls_back_to {
        line("repeats", &format!("the content of revision {to}"));
    }
    match &revision.origin {
        Some(from) => {
            line("from", &origin(from));
            line("commit", &from.commit);
        }
        None => line("from", "no commit is known"),
    }
    if let Some(signature) = &revision.signature {
        line("signed", &format!("by {}", signature.by()));
    }
    if let Some(by) = &revision.approved_by {
        let of = revision.proposal.map(|proposal| format!(" as proposal {proposal}")).unwrap_or_default();
        line("approved", &format!("by {by}{of}"));
    }
    if let Some(reason) = &revision.broke_glass {
        line("not approved", &format!("went out by --break-glass: {reason}"));
    }
    let changed = revision.changed.as_deref().unwrap_or_default();
    line("changed", changed.strip_prefix("changed ").unwrap_or(changed));
    line("left as they were", &revision.left_out.join(", "));
    out
}
