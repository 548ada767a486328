//! `Proposals`: changes that wait for somebody else's approval.

use std::sync::Arc;

use fleet::{
    access::{Action, Targets},
    approval::ProposalState,
    ids::{OperatorName, ProposalId, Revision},
    time::Timestamp,
    words::ProposalWord,
};
use proto::wire::operator::{self as wire, proposals_server::Proposals};
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    operator::{apply_failed, apply_reply, plan_reply},
    store_failed,
};
use crate::{
    coordinator::Coordinator,
    proposals::{DecideError, REASON_MAX, approvers},
    store::records::ProposalRecord,
    view::Snapshot,
};

pub(super) struct Tray {
    coordinator: Arc<Coordinator>,
}

impl Tray {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    async fn snapshot(&self) -> Result<(Snapshot, Timestamp), Status> {
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        Ok((snapshot, (self.coordinator.clock)()))
    }
}

#[tonic::async_trait]
impl Proposals for Tray {
    async fn list(
        &self,
        request: Request<wire::ListProposalsRequest>,
    ) -> Result<Response<wire::ListProposalsReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let most = match request.get_ref().most as usize {
            0 => usize::MAX,
            most => most,
        };
        let (snapshot, now) = self.snapshot().await?;
        let newest = snapshot.meta.record.newest_revision;
        let kept = self.coordinator.proposals(most).await.map_err(|error| store_failed(&error))?;
        let proposals = kept.iter().map(|record| shown(record, now, newest)).collect();
        Ok(Response::new(wire::ListProposalsReply { proposals }))
    }

    async fn show(
        &self,
        request: Request<wire::ProposalRequest>,
    ) -> Result<Response<wire::ShowProposalReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let record = self.coordinator.proposal(ProposalId(request.get_ref().proposal)).await;
        let record = record.map_err(|error| decide_failed(&error))?;
        let (snapshot, now) = self.snapshot().await?;
        let newest = snapshot.meta.record.newest_revision;
        let (plan, able) = match record.proposed().standing(now, newest) {
            ProposalWord::Open => {
                let turn = self.coordinator.turns.of_size(record.bytes_to_compose()).await?;
                let planned = self.coordinator.plan_proposal(&record).await;
                drop(turn);
                let planned = planned.map_err(|error| apply_failed(&error))?;
                (Some(plan_reply(&planned)), approvers(&snapshot, &record))
            }
            // A plan against what is in force now is not what its author saw, and nobody can roll it out.
            ProposalWord::Outdated
            | ProposalWord::Expired
            | ProposalWord::Approved
            | ProposalWord::Rejected => (None, Vec::new()),
        };
        let proposal = Some(shown(&record, now, newest));
        Ok(Response::new(wire::ShowProposalReply { proposal, plan, approvers: names(&able) }))
    }

    async fn approve(
        &self,
        request: Request<wire::ProposalRequest>,
    ) -> Result<Response<wire::ApplyReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        // What it changes is judged once that is known.
        let permit = caller.permit(Action::Approve, &Targets::new()).await?;
        let id = ProposalId(request.get_ref().proposal);
        let bytes = match self.coordinator.proposal(id).await {
            Ok(record) if record.proposed().may_reject((self.coordinator.clock)()).is_ok() => {
                record.bytes_to_compose()
            }
            // Nothing will be composed.
            Ok(_) | Err(_) => Some(0),
        };
        let turn = self.coordinator.turns.of_size(bytes).await?;
        // As with an apply: once begun, it is not undone by a caller who goes away.
        let coordinator = self.coordinator.clone();
        let approving = self.coordinator.tasks.spawn("approve", async move {
            let _turn = turn;
            coordinator.approve(id, permit).await
        });
        let approved = approving.await.map_err(|_| Status::internal("the approval ended unexpectedly"))?;
        Ok(Response::new(match approved {
            Ok(applied) => apply_reply(applied),
            Err(DecideError::Refused(refusal)) => {
                wire::ApplyReply { refused: true, refusal, ..wire::ApplyReply::default() }
            }
            Err(error) => return Err(decide_failed(&error)),
        }))
    }

    async fn reject(
        &self,
        request: Request<wire::RejectProposalRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let wire::RejectProposalRequest { proposal, reason } = request.into_inner();
        if reason.trim().is_empty() || REASON_MAX < reason.len() {
            return Err(Status::invalid_argument(format!(
                "to reject a proposal, give a reason of at most {REASON_MAX} bytes"
            )));
        }
        let id = ProposalId(proposal);
        let record = self.coordinator.proposal(id).await;
        // Whoever may not reject anything learns nothing about what is there.
        let reached = match &record {
            Ok(record) if record.author != caller.principal.name => record.targets(),
            Ok(_) | Err(_) => Targets::new(),
        };
        let permit = caller.permit(Action::Reject, &reached).await?;
        record.map_err(|error| decide_failed(&error))?;
        match self.coordinator.reject(id, reason.trim(), &permit).await {
            Ok(detail) => Ok(Response::new(wire::CommandReply { ok: true, detail, guard: false })),
            Err(DecideError::Refused(detail)) => {
                self.coordinator.record_refusal(&permit, None, &detail).await;
                Ok(Response::new(wire::CommandReply { ok: false, detail, guard: true }))
            }
            Err(error) => Err(decide_failed(&error)),
        }
    }
}

fn decide_failed(error: &DecideError) -> Status {
    match error {
        DecideError::Unknown(_) => Status::not_found(error.to_string()),
        DecideError::Refused(_) => Status::failed_precondition(error.to_string()),
        DecideError::Apply(error) => apply_failed(error),
    }
}

pub(super) fn names(operators: &[OperatorName]) -> Vec<String> {
    operators.iter().map(ToString::to_string).collect()
}

/// One proposal, as it stands.
pub(super) fn shown(record: &ProposalRecord, now: Timestamp, newest: Revision) -> wire::Proposal {
    let told = record.told();
    let (decided_by, decided_ms, reason, revision) = match &record.state {
        ProposalState::Open | ProposalState::Expired => (String::new(), 0, String::new(), 0),
        ProposalState::Approved { by, at, revision } => (by.to_string(), at.0, String::new(), revision.0),
        ProposalState::Rejected { by, at, reason } => (by.to_string(), at.0, reason.clone(), 0),
    };
    wire::Proposal {
        id: record.id.0,
        base: record.base().0,
        author: told.author.clone(),
        message: told.message.clone(),
        created_ms: told.created.0,
        expires_ms: record.expires.0,
        state: record.proposed().standing(now, newest).as_str().to_owned(),
        asked: record.asked.clone(),
        groups: record.groups.iter().map(ToString::to_string).collect(),
        fleet: record.reaches_fleet,
        rolls_back_to: told.rolls_back_to.map_or(0, |to| to.0),
        origin: told.origin.as_ref().map(Into::into),
        decided_by,
        decided_ms,
        reason,
        revision,
        windows_overridden: record.windows_overridden.clone().unwrap_or_default(),
        signed_by: told.signed.as_ref().map(|signed| signed.key.name()).unwrap_or_default(),
    }
}
