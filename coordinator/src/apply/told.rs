//! What is told of an apply or a rollback, in events and the audit.

use fleet::{access::Permit, approval::Asked, rollout::Rollout};

use super::{Intent, RevisionDraft};
use crate::{
    events::{Draft, Kind},
    proposals::Approval,
    signatures::signed_by,
    store::records::Sanction,
};

/// Who stands for a revision beside its author. `unapproved`: why it needed an approval that it has not.
pub(super) fn sanction(intent: &Intent, permit: &Permit, unapproved: Option<&Asked>) -> Sanction {
    match (&intent.approval, unapproved) {
        (Approval::Given(approved), _) => {
            Sanction::Approved { by: permit.operator().clone(), proposal: approved.id() }
        }
        (Approval::BreakGlass(reason), Some(_)) => Sanction::BrokeGlass { reason: reason.clone() },
        (Approval::Ask | Approval::BreakGlass(_), _) => Sanction::None,
    }
}

/// That a revision was applied.
pub(super) fn applied_event(
    draft: &RevisionDraft,
    (intent, sanction): (&Intent, &Sanction),
    rollout: &Rollout,
) -> Draft {
    let what = match draft.rolls_back_to {
        Some(to) => format!("went back to revision {to} as revision {}", rollout.revision),
        None => format!("applied revision {}", rollout.revision),
    };
    let kind = if draft.rolls_back_to.is_some() { Kind::RolledBack } else { Kind::Applied };
    // Before the message, which may be long enough to be cut off in the record.
    let stands = match (sanction, &intent.approval) {
        (Sanction::Approved { by: _, proposal }, Approval::Given(approved)) => {
            format!("approved proposal {proposal} of {} and ", approved.author())
        }
        (Sanction::BrokeGlass { reason }, _) => format!("broke the glass ({reason}) and "),
        (Sanction::None | Sanction::Approved { .. }, _) => String::new(),
    };
    let message = if intent.message.is_empty() { "(no message)" } else { &intent.message };
    let origin = draft.origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default();
    let key = signed_by(draft.signed.as_ref());
    let mut text =
        format!("{stands}{what}{origin}{key}: {message}; nodes that change: {}", rollout.steps.len());
    if let Some(reason) = &intent.windows_overridden {
        text.push_str(&format!("; maintenance windows are ignored: {reason}"));
    }
    let mut event = Draft::new(rollout.started, kind, text);
    event = event.with("revision", &rollout.revision).with("rollout", &rollout.id);
    if let Some(origin) = &draft.origin {
        event = event.with("commit", &origin.commit()).with("files_changed", &origin.changed());
    }
    if let Some(signed) = &draft.signed {
        event = event.with("signed_by", &signed.key);
    }
    if let Approval::Given(approved) = &intent.approval {
        event = event.with("proposal", &approved.id()).with("author", approved.author());
    }
    match &intent.windows_overridden {
        Some(reason) => event.with("windows_overridden", reason),
        None => event,
    }
}

/// That somebody went ahead without the approval that it needed.
pub(super) fn glass_event(
    sanction: &Sanction,
    permit: &Permit,
    unapproved: Option<&Asked>,
    rollout: &Rollout,
) -> Option<Draft> {
    let Sanction::BrokeGlass { reason } = sanction else { return None };
    let why = unapproved.map(|asked| format!("; {asked}")).unwrap_or_default();
    let (who, revision) = (permit.operator(), rollout.revision);
    let text = format!("{who} applied revision {revision} without the approval that it needs: {reason}{why}");
    let event = Draft::new(rollout.started, Kind::BreakGlass, text);
    Some(event.with("revision", &revision).with("rollout", &rollout.id).with("reason", reason))
}
