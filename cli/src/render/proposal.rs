//! Changes that wait for approval, as text.

use fleet::{reason::Reason, words::ProposalWord};

use super::origin;
use crate::{
    text::{Cell, Keep, Style, Table, Tone, count, hanging, lasting, local},
    view::{Proposal, ShownProposal, When},
};

fn reaches(proposal: &Proposal) -> String {
    let fleet = proposal.fleet.then_some("the whole fleet");
    let reached: Vec<&str> = fleet.into_iter().chain(proposal.groups.iter().map(String::as_str)).collect();
    reached.join(", ")
}

fn why(proposal: &Proposal) -> String {
    let back = proposal.rolls_back_to.map(|to| format!("back to revision {to}"));
    let why: Vec<&str> = back
        .as_deref()
        .into_iter()
        .chain([proposal.message.as_str()])
        .filter(|text| !text.is_empty())
        .collect();
    why.join(": ")
}

/// One line each.
pub fn proposals(proposals: &[Proposal], now: When, style: Style) -> String {
    if proposals.is_empty() {
        return "Nothing waits for approval.\n".to_owned();
    }
    let mut table = Table::fitted([
        ("PROPOSAL", Keep::Always),
        ("STATE", Keep::Always),
        ("BY", Keep::Always),
        ("CHANGES", Keep::Always),
        ("ENDS", Keep::UnlessNarrow(1)),
        ("WHY", Keep::Always),
    ]);
    for one in proposals {
        let waits = one.state.known().is_some_and(ProposalWord::waits);
        let ends = match (waits, &one.decided_by) {
            (true, _) => format!("in {}", lasting(one.expires, now)),
            (false, Some(by)) => format!("by {by}"),
            (false, None) => local(one.expires),
        };
        table.row([
            Cell::plain(one.id.to_string()),
            Cell::state(&one.state),
            Cell::plain(&one.author),
            Cell::plain(reaches(one)),
            Cell::plain(ends),
            Cell::plain(why(one)),
        ]);
    }
    table.render(style)
}

/// What `status` says of those over which nobody has decided.
pub(super) fn waiting(proposals: &[Proposal], most: usize, style: Style) -> String {
    let mut out = String::new();
    for one in proposals.iter().take(most) {
        let why = Reason(&why(one)).to_string();
        let text = match one.state.known() {
            Some(ProposalWord::Outdated) => format!(
                "proposal {} of {} is outdated, something else was applied since{why}: convoy proposal show {}",
                one.id, one.author, one.id
            ),
            _ => format!(
                "proposal {} of {} waits for approval until {}{why}: convoy proposal show {}",
                one.id,
                one.author,
                local(one.expires),
                one.id
            ),
        };
        out.push_str(&style.paint(Tone::Doubtful, hanging(&text, 0, style).trim_end()));
        out.push('\n');
    }
    if let Some(more) = proposals.len().checked_sub(most).filter(|more| *more != 0) {
        out.push_str(&format!("and {}: convoy proposal list\n", count(more, "more proposal")));
    }
    out
}

/// Everything about one but its plan.
pub fn proposal(shown: &ShownProposal, style: Style) -> String {
    let one = &shown.proposal;
    let on = match one.base {
        0 => "the first".to_owned(),
        base => format!("on revision {base}"),
    };
    let state = style.state(&one.state);
    let mut out = format!("proposal {} by {}, {}, {on}: {state}\n", one.id, one.author, local(one.created));
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            out.push_str(&hanging(&format!("{name}: {text}"), 2, style));
        }
    };
    line("why", &why(one));
    line("from", &one.origin.as_ref().map(origin).unwrap_or_default());
    line("signed by", one.signed_by.as_deref().unwrap_or_default());
    line("changes", &reaches(one));
    line("needs approval", &one.asked);
    if let Some(reason) = &one.windows_overridden {
        line("maintenance windows are ignored", reason);
    }
    match (one.state.as_str(), &one.decided_by) {
        ("approved", Some(by)) => {
            let became = one.revision.map(|revision| format!(", as revision {revision}")).unwrap_or_default();
            line("approved", &format!("by {by}, {}{became}", local(one.decided)));
        }
        ("rejected", Some(by)) => {
            let reason = one.reason.as_deref().unwrap_or_default();
            line("rejected", &format!("by {by}, {}: {reason}", local(one.decided)));
        }
        ("outdated", _) => {
            line("outdated", "something else was applied since; its author can propose it again");
        }
        ("expired", _) => {
            line("expired", &format!("{}; its author can propose it again", local(one.expires)));
        }
        _ => {
            line("ends", &local(one.expires));
            line("may approve", &approvers(&shown.approvers));
        }
    }
    out
}

/// Who may approve, or how to get somebody who may.
fn approvers(names: &[String]) -> String {
    match names {
        [] => "nobody; an admin adds somebody with `convoy operator add NAME --role operator`".to_owned(),
        names => names.join(", "),
    }
}

/// After an apply that became a proposal.
pub fn proposed(proposal: &Proposal, able: &[String], style: Style) -> String {
    let id = proposal.id;
    let mut out =
        format!("Nothing is applied yet: this waits as proposal {id} until {}.\n", local(proposal.expires));
    out.push_str(&hanging(&format!("needs approval: {}", proposal.asked), 2, style));
    out.push_str(&hanging(&format!("may approve: {}", approvers(able)), 2, style));
    out.push_str(&format!("  they look: convoy proposal show {id}\n  and approve: convoy approve {id}\n"));
    out
}
