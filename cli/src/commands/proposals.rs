//! `proposal`, `approve` and `reject`: changes that wait for somebody else.

use fleet::words::ProposalWord;

use super::{confirm, finish_apply, show_plan, style};
use crate::{
    Session,
    exit::{Exit, Failure},
    render,
    request::{Confirm, Detail, ProposalAct, Wait},
};

pub(super) async fn proposals(session: &mut Session, act: ProposalAct) -> Result<Exit, Failure> {
    match act {
        ProposalAct::List { all } => {
            let mut found = session.client.proposals().await?;
            found.retain(|one| all || one.state.known().is_some_and(ProposalWord::waits));
            session.screen.programs(&found);
            session.screen.people(&render::proposals(&found, (session.now)(), style(session)));
            Ok(Exit::Done)
        }
        ProposalAct::Show { proposal, diff } => {
            let shown = session.client.proposal(proposal).await?;
            session.screen.programs(&shown);
            session.screen.people(&render::proposal(&shown, style(session)));
            if let Some(plan) = &shown.plan {
                session.screen.people("\n");
                show_plan(session, plan, diff);
            }
            Ok(Exit::Done)
        }
        ProposalAct::Approve { proposal, diff, confirm, wait } => {
            approve(session, proposal, (diff, confirm), wait).await
        }
        ProposalAct::Reject { proposal, reason } => {
            let answer = session.client.reject(proposal, reason).await?;
            session.screen.programs(&answer);
            session.screen.people(&render::answer(&answer));
            Ok(Exit::Done)
        }
    }
}

async fn approve(
    session: &mut Session,
    proposal: u64,
    (diff, given): (Detail, Confirm),
    wait: Option<Wait>,
) -> Result<Exit, Failure> {
    let shown = session.client.proposal(proposal).await?;
    session.screen.people(&format!("{}\n", render::proposal(&shown, style(session))));
    if let Some(plan) = &shown.plan {
        show_plan(session, plan, diff);
        let unmanaged = plan
            .unmanaged_digest
            .as_ref()
            .map(|_| format!(", and replace and remove what nobody declared on {}", render::losing(plan)));
        let question = format!("Approve this{}?", unmanaged.unwrap_or_default());
        confirm(session, given, &question)?;
    }
    // What does not wait any more is refused by the coordinator, with the reason, and recorded.
    let applied = session.client.approve(proposal).await?;
    finish_apply(session, shown.plan, applied, wait).await
}
