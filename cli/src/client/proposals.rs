//! Changes that wait for approval.

use fleet::words::Said;
use proto::wire::operator as wire;

use super::{Client, convert, convert::some, revisions::origin, timed};
use crate::{
    exit::Failure,
    view::{self, When},
};

impl Client {
    /// Those that are kept, newest first.
    pub async fn proposals(&mut self) -> Result<Vec<view::Proposal>, Failure> {
        let reply = self.proposals.list(timed(wire::ListProposalsRequest { most: 0 })).await;
        Ok(self.answer("proposal list", reply)?.proposals.into_iter().map(proposal).collect())
    }

    /// One of them, and what it would change.
    pub async fn proposal(&mut self, id: u64) -> Result<view::ShownProposal, Failure> {
        let reply = self.proposals.show(timed(wire::ProposalRequest { proposal: id })).await;
        let reply = self.answer("proposal show", reply)?;
        let shown = reply.proposal.map(proposal).ok_or_else(|| {
            Failure::failed(
                format!("there is no proposal {id}"),
                "`convoy proposal list` shows those that are kept",
            )
        })?;
        let plan =
            reply.plan.map(convert::plan).map(|plan| view::Plan { origin: shown.origin.clone(), ..plan });
        Ok(view::ShownProposal { proposal: shown, plan, approvers: reply.approvers })
    }

    /// Rolls one out that somebody else made.
    pub async fn approve(&mut self, id: u64) -> Result<view::Applied, Failure> {
        let reply = self.proposals.approve(timed(wire::ProposalRequest { proposal: id })).await;
        let applied = convert::applied(self.answer("approve", reply)?);
        applied.map_err(|failure| Failure {
            remedy: format!("look at it: convoy proposal show {id}"),
            ..failure
        })
    }

    /// Ends one.
    pub async fn reject(&mut self, id: u64, reason: String) -> Result<view::Answer, Failure> {
        let reply = self.proposals.reject(timed(wire::RejectProposalRequest { proposal: id, reason })).await;
        let reply = self.answer("reject", reply)?;
        if reply.ok {
            return Ok(view::Answer { ok: true, detail: reply.detail });
        }
        Err(Failure::refused(reply.detail, "`convoy proposal list --all` shows how each of them ended"))
    }
}

pub(super) fn proposal(proposal: wire::Proposal) -> view::Proposal {
    view::Proposal {
        id: proposal.id,
        base: proposal.base,
        author: proposal.author,
        message: proposal.message,
        created: When(proposal.created_ms),
        expires: When(proposal.expires_ms),
        state: Said::of(&proposal.state),
        asked: proposal.asked,
        groups: proposal.groups,
        fleet: proposal.fleet,
        rolls_back_to: Some(proposal.rolls_back_to).filter(|to| *to != 0),
        origin: proposal.origin.map(origin),
        decided_by: some(proposal.decided_by),
        decided: When(proposal.decided_ms),
        reason: some(proposal.reason),
        revision: Some(proposal.revision).filter(|revision| *revision != 0),
        windows_overridden: some(proposal.windows_overridden),
        signed_by: some(proposal.signed_by),
    }
}
