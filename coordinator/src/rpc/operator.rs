//! `Operator`: what people and their programs call. Each call needs an operator's certificate.

use std::{pin::Pin, sync::Arc, time::Duration};

use fleet::{
    access::{Action, Permit, Targets},
    bundle::{HomePath, RunState},
    ids::{NodeName, Revision, RolloutId},
    spec::suggest,
    time::Timestamp,
};
use futures::Stream;
use proto::{
    convert::operator::{
        bundle_files, effects_to_wire, estimate_to_wire, node_plan_to_wire, overwritten_to_wire,
        removed_node_to_wire,
    },
    wire::operator::{self as wire, operator_server::Operator},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    admission,
    caller::{caller, peer_of},
    chain, commit_failed, follow,
    found::{WithConfig, found},
    history::{self, Query},
    operators::validity,
    proposals, status, store_failed, tokens,
    upload::{self, Uploaded},
};
use crate::{
    apply::{Applied, ApplyError, Intent, Selection},
    commands::{Control, ControlFailure, DriftControl, Outcome},
    coordinator::Coordinator,
    differences::Differences,
    effects::GivenPacks,
    events::{Draft, Kind},
    plan::{Planned, PlannedChange},
    secrets::OpenError,
    spans,
    store::{
        Key, Transaction,
        records::{EventRecord, Record as _, RolloutRecord},
        rollouts,
    },
    view::Snapshot,
};

/// Events that `node show` lists.
const NODE_EVENTS_MAX: usize = 20;
/// Rollouts of one list.
const ROLLOUTS_MAX: usize = 100;
/// How long drift enforcement pauses if nobody says otherwise.
const DRIFT_PAUSE: Duration = Duration::from_secs(3600);
/// Bytes of the diffs of rendered files in one plan; the reply of a large fleet stays one that can be sent.
const DIFFS_MAX: usize = 8 * 1024 * 1024;
/// Keys of one look at what differs on a host.
const DIFFERENCES_MAX: usize = 200;
/// Messages that wait for a slow reader of a stream.
const STREAM_WAITING: usize = 8;

pub(super) struct Console {
    coordinator: Arc<Coordinator>,
}

impl Console {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    /// The node that a request names, and everything as it is now.
    async fn known(&self, node: &str) -> Result<(NodeName, Snapshot), Status> {
        let name = node_name(node)?;
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        if !snapshot.names().contains(&name) {
            return Err(Status::not_found(format!("there is no node {name}; see `convoy node list`")));
        }
        Ok((name, snapshot))
    }

    /// What is answered to an act on a node; a refusal of a guard is recorded.
    async fn concluded(
        &self,
        outcome: Outcome,
        (permit, node): (&Permit, &NodeName),
    ) -> Response<wire::CommandReply> {
        if let Outcome::Guarded(why) = &outcome {
            self.coordinator.record_refusal(permit, Some(node), why).await;
        }
        command_reply(outcome)
    }

    async fn rollout_reply(&self, record: &RolloutRecord) -> Result<Response<wire::Rollout>, Status> {
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        let now = (self.coordinator.clock)();
        Ok(Response::new(status::rollout(record, &snapshot.view(), now)))
    }

    /// A warning if something was applied and the node is not part of it: most likely its name is mistyped.
    async fn unknown_node(&self, node: &NodeName) -> Result<Option<String>, Status> {
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        Ok(snapshot.revision.as_ref().filter(|newest| !newest.nodes.contains_key(node)).map(|newest| {
            format!(
                "revision {} has no node {node}; {}. The token is good all the same, for a node that is applied later",
                newest.number,
                suggest(node.as_str(), newest.nodes.keys().map(NodeName::as_str)).trim_end_matches('?')
            )
        }))
    }

    async fn node_events(&self, node: &NodeName) -> Result<Vec<wire::Event>, Status> {
        let store = &*self.coordinator.store;
        let numbers = self.coordinator.event_index.last(store, node, NODE_EVENTS_MAX).await;
        let mut own = Vec::new();
        for seq in numbers.map_err(|error| store_failed(&error))? {
            let entry = store.get(&Key::event(seq)).await.map_err(|error| store_failed(&error))?;
            let event = entry.as_ref().map(EventRecord::read).transpose();
            own.extend(event.map_err(|error| store_failed(&error))?.map(status::event));
        }
        Ok(own)
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) fn node_name(text: &str) -> Result<NodeName, Status> {
    NodeName::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

pub(super) fn apply_failed(error: &ApplyError) -> Status {
    match error {
        ApplyError::Store(error) => store_failed(error),
        ApplyError::Commit(error) => commit_failed(error),
        ApplyError::Secrets(OpenError::Store(error)) => store_failed(error),
        ApplyError::Denied(denied) => Status::permission_denied(denied.to_string()),
        ApplyError::Removed { .. } => Status::unauthenticated(error.to_string()),
        ApplyError::TooManyNodes { .. }
        | ApplyError::RulesTooLarge { .. }
        | ApplyError::Secrets(OpenError::Sealed { .. }) => Status::failed_precondition(error.to_string()),
        ApplyError::Compose(_) => {
            tracing::error!(error = chain(error), "Composition failed");
            Status::internal(error.to_string())
        }
    }
}

pub(super) fn apply_reply(applied: Applied) -> wire::ApplyReply {
    match applied {
        Applied::Done { revision, rollout, findings } => wire::ApplyReply {
            revision: revision.0,
            rollout: rollout.map_or(0, |rollout| rollout.0),
            findings: findings.iter().map(Into::into).collect(),
            ..wire::ApplyReply::default()
        },
        Applied::Proposed { proposal, approvers, findings } => wire::ApplyReply {
            findings: findings.iter().map(Into::into).collect(),
            refused: true,
            refusal: format!(
                "nothing was applied: {}, so this waits as proposal {} for somebody else's approval",
                proposal.asked, proposal.id
            ),
            proposal: Some(proposals::shown(&proposal, proposal.told().created, proposal.base())),
            approvers: proposals::names(&approvers),
            ..wire::ApplyReply::default()
        },
        Applied::Refused { findings, why } => wire::ApplyReply {
            findings: findings.iter().map(Into::into).collect(),
            refused: true,
            refusal: why,
            ..wire::ApplyReply::default()
        },
    }
}

fn changed_node(name: &NodeName, change: &PlannedChange, budget: &mut usize) -> wire::NodePlan {
    let mut effects = None;
    let mut unknown = String::new();
    match &change.effects {
        Some(Ok(found)) => {
            let packs = (found.pack.digest, found.pack_before);
            let mut told = effects_to_wire(&found.effects, packs, found.pack.given);
            for file in &mut told.files {
                match budget.checked_sub(file.diff.len()) {
                    Some(left) => *budget = left,
                    // How much changes is still told.
                    None => file.diff.clear(),
                }
            }
            effects = Some(told);
        }
        Some(Err(why)) => unknown.clone_from(why),
        None => {}
    }
    wire::NodePlan {
        effects,
        pack_unknown: unknown,
        overwritten: change.overwritten.iter().map(overwritten_to_wire).collect(),
        ..node_plan_to_wire(name, &change.group, &change.plan)
    }
}

pub(super) fn plan_reply(planned: &Planned) -> wire::PlanReply {
    let mut budget = DIFFS_MAX;
    let changed = planned.nodes.iter().map(|(name, change)| changed_node(name, change, &mut budget));
    let removed = planned.removed.iter().map(|(name, group)| removed_node_to_wire(name, group));
    wire::PlanReply {
        base_revision: planned.base.0,
        nodes: changed.chain(removed).collect(),
        findings: planned.findings.iter().map(Into::into).collect(),
        refused: planned.is_refused(),
        waves: planned.waves.clone(),
        unchanged: planned.unchanged as u64,
        estimate: planned.estimate.as_ref().map(estimate_to_wire),
        refusal: planned.refusal.clone().unwrap_or_default(),
        notes: planned.notes.iter().map(Into::into).collect(),
        unmanaged_digest: planned.unmanaged.map(|digest| digest.to_string()).unwrap_or_default(),
        to_revision: 0,
        approval: planned.approval.as_ref().map(ToString::to_string).unwrap_or_default(),
        fleet_epoch: Vec::new(),
        signers: planned.signers.clone().unwrap_or_default(),
        signed_by: planned.signed.as_ref().map(|signed| signed.key.name()).unwrap_or_default(),
    }
}

fn command_reply(outcome: Outcome) -> Response<wire::CommandReply> {
    let (ok, guard, detail) = match outcome {
        Outcome::Done(detail) => (true, false, detail),
        Outcome::Failed(detail) => (false, false, detail),
        Outcome::Guarded(detail) => (false, true, detail),
    };
    Response::new(wire::CommandReply { ok, detail, guard })
}

#[tonic::async_trait]
impl Operator for Console {
    type WatchStatusStream = Outgoing<wire::StatusReply>;
    type EventsStream = Outgoing<wire::Event>;

    async fn plan(
        &self,
        request: Request<Streaming<wire::Upload>>,
    ) -> Result<Response<wire::PlanReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let permit = caller.look().await?;
        let coordinator = &self.coordinator;
        let (limits, turns) = (&coordinator.limits, &coordinator.turns);
        let uploaded = upload::read(request.into_inner(), limits, turns, permit).await?;
        let Uploaded { intent, sources, turn } = uploaded;
        let packs = intent.packs.only_loaded();
        let planned = coordinator.plan(sources, &packs, &intent.only).await;
        drop(turn);
        let planned = planned.map_err(|error| apply_failed(&error))?;
        let fleet_epoch = coordinator.epoch.0.to_vec();
        Ok(Response::new(wire::PlanReply { fleet_epoch, ..plan_reply(&planned) }))
    }

    async fn apply(
        &self,
        request: Request<Streaming<wire::Upload>>,
    ) -> Result<Response<wire::ApplyReply>, Status> {
        let (began, trace) = ((self.coordinator.clock)(), spans::of_call(request.metadata()));
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        // What it changes is judged once that is known.
        let permit = caller.permit(Action::Apply, &Targets::new()).await?;
        let (limits, turns) = (&self.coordinator.limits, &self.coordinator.turns);
        let uploaded = upload::read(request.into_inner(), limits, turns, permit).await?;
        let Uploaded { intent, sources, turn } = uploaded;
        // Once begun, an apply is not undone by a caller who goes away: half of it would be no use to anybody.
        let coordinator = self.coordinator.clone();
        let intent = Intent { trace: coordinator.traced(trace), ..intent };
        let applying = self.coordinator.tasks.spawn("apply", async move {
            let _turn = turn;
            let applied = coordinator.apply(sources, &intent).await;
            coordinator.trace_apply(trace, began, &applied);
            if let Ok(applied) = &applied {
                coordinator.record_refused_change(&intent.permit, applied).await;
            }
            applied
        });
        let applied = applying.await.map_err(|_| Status::internal("the apply ended unexpectedly"))?;
        Ok(Response::new(apply_reply(applied.map_err(|error| apply_failed(&error))?)))
    }

    async fn status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<wire::StatusReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let status = follow::now(&self.coordinator).await.map_err(|error| store_failed(&error))?;
        Ok(Response::new(status))
    }

    async fn watch_status(
        &self,
        request: Request<wire::StatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        // `follow::WithShown` stands in front and answers this call, with what it encodes once for all.
        Err(Status::unimplemented("the status is watched through another service"))
    }

    async fn show_node(
        &self,
        request: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::NodeReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let (name, snapshot) = self.known(&request.get_ref().node).await?;
        let desired = snapshot.nodes.get(&name).and_then(|node| node.record.desired.as_ref());
        let files = match desired {
            Some(desired) => {
                let bundle = self.coordinator.bundle(&desired.target.content).await;
                bundle.map_err(|error| store_failed(&error))?.map(|bundle| bundle_files(&bundle))
            }
            None => None,
        };
        let found = match desired {
            Some(_) => None,
            None => {
                let found = found(&self.coordinator, &name, WithConfig::No).await;
                Some(found.map_err(|error| store_failed(&error))?)
            }
        };
        let events = self.node_events(&name).await?;
        let places = self.coordinator.places(&snapshot).await.map_err(|error| store_failed(&error))?;
        let node = Some(status::node(&snapshot, &places, &name));
        Ok(Response::new(wire::NodeReply { node, files: files.unwrap_or_default(), events, found }))
    }

    async fn show_host(
        &self,
        request: Request<wire::ShowHostRequest>,
    ) -> Result<Response<wire::HostReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        caller.look().await?;
        let request = request.into_inner();
        let (node, _) = self.known(&request.node).await?;
        let config = if request.config { WithConfig::Yes } else { WithConfig::No };
        if config == WithConfig::Yes {
            // It may hold passwords: who reads it is recorded before it leaves.
            let permit = caller.permit_for(Action::ReadHost, &node).await?;
            let text = format!("{} reads deployment.toml of {node}", permit.operator());
            let event = Draft::new((self.coordinator.clock)(), Kind::HostRead, text).of_node(&node);
            let recorded = self.coordinator.act(&permit, event, Transaction::default()).await;
            recorded.map_err(|error| commit_failed(&error))?;
        }
        let found = found(&self.coordinator, &node, config).await;
        Ok(Response::new(found.map_err(|error| store_failed(&error))?))
    }

    async fn restart_node(
        &self,
        request: Request<wire::RestartNodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let node = node_name(&request.node)?;
        let permit = caller.permit_for(Action::Restart, &node).await?;
        let outcome = self.coordinator.restart_node(&node, &request.why, request.now, &permit).await;
        Ok(self.concluded(outcome.map_err(|error| store_failed(&error))?, (&permit, &node)).await)
    }

    async fn return_to_original(
        &self,
        request: Request<wire::ReturnToOriginalRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let node = node_name(&request.node)?;
        let permit = caller.permit_for(Action::ReturnToOriginal, &node).await?;
        let outcome = self.coordinator.return_to_original(&node, &request.why, request.now, &permit).await;
        Ok(self.concluded(outcome.map_err(|error| store_failed(&error))?, (&permit, &node)).await)
    }

    async fn set_node_run(
        &self,
        request: Request<wire::SetNodeRunRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let node = node_name(&request.node)?;
        let run = RunState::try_from(request.run());
        let run = run.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let permit = caller.permit_for(Action::SetRun, &node).await?;
        let outcome = self.coordinator.set_run(&node, run, request.now, (&request.why, &permit)).await;
        Ok(self.concluded(outcome.map_err(|error| commit_failed(&error))?, (&permit, &node)).await)
    }

    async fn forget_node(
        &self,
        request: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let node = node_name(&request.get_ref().node)?;
        let permit = caller.permit_for(Action::Forget, &node).await?;
        let outcome = self.coordinator.forget_node(&node, &permit).await;
        Ok(self.concluded(outcome.map_err(|error| commit_failed(&error))?, (&permit, &node)).await)
    }

    async fn revoke_node(
        &self,
        request: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let node = node_name(&request.get_ref().node)?;
        let permit = caller.permit_for(Action::RevokeNode, &node).await?;
        let (node, _) = self.known(node.as_str()).await?;
        let outcome = self.coordinator.revoke_node(&node, &permit).await;
        Ok(self.concluded(outcome.map_err(|error| commit_failed(&error))?, (&permit, &node)).await)
    }

    async fn list_rollouts(
        &self,
        request: Request<wire::ListRolloutsRequest>,
    ) -> Result<Response<wire::ListRolloutsReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let most = match request.get_ref().most as usize {
            0 => ROLLOUTS_MAX,
            most => most.min(ROLLOUTS_MAX),
        };
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        let (view, now) = (snapshot.view(), (self.coordinator.clock)());
        let found = rollouts::newest(&*self.coordinator.store, most).await;
        let found = found.map_err(|error| store_failed(&error))?;
        let rollouts = found.iter().map(|found| status::rollout(&found.record, &view, now)).collect();
        Ok(Response::new(wire::ListRolloutsReply { rollouts }))
    }

    async fn show_rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Result<Response<wire::Rollout>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let id = RolloutId(request.get_ref().rollout);
        let stored = rollouts::read(&*self.coordinator.store, id).await;
        let stored = stored.map_err(|error| store_failed(&error))?;
        let unknown = || Status::not_found(ControlFailure::Unknown(id).to_string());
        self.rollout_reply(&stored.ok_or_else(unknown)?.record).await
    }

    async fn control_rollout(
        &self,
        request: Request<wire::ControlRolloutRequest>,
    ) -> Result<Response<wire::Rollout>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let control = Control::ALL.iter().find(|(_, word)| *word == request.action);
        let (control, _) = control.ok_or_else(|| {
            let words: Vec<&str> = Control::ALL.iter().map(|(_, word)| *word).collect();
            Status::invalid_argument(format!("{:?} is not one of {}", request.action, words.join(", ")))
        })?;
        let id = RolloutId(request.rollout);
        let reached = self.coordinator.targets_of(id).await.map_err(|error| store_failed(&error))?;
        let permit = caller.permit(Action::ControlRollout, &reached).await?;
        let controlled = self.coordinator.control_rollout(id, *control, (&request.why, &permit)).await;
        if let Err(ControlFailure::Refused(why)) = &controlled {
            self.coordinator.record_refusal(&permit, None, &why.to_string()).await;
        }
        let record = controlled.map_err(|error| match &error {
            ControlFailure::Unknown(_) => Status::not_found(error.to_string()),
            ControlFailure::Refused(_) => Status::failed_precondition(error.to_string()),
            ControlFailure::Store(error) => store_failed(error),
            ControlFailure::Commit(error) => commit_failed(error),
        })?;
        self.rollout_reply(&record).await
    }

    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::ApplyReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let to = Some(Revision(request.to_revision)).filter(|revision| revision.0 != 0);
        let intent = Intent {
            permit: caller.permit(Action::RollBack, &Targets::new()).await?,
            message: request.why,
            parent: request.parent.map(Revision),
            windows_overridden: request.now.filter(|reason| !reason.trim().is_empty()),
            replace_unmanaged: upload::unmanaged_digest(&request.replace_unmanaged)?,
            only: Selection::default(),
            origin: None,
            approval: upload::approval(request.break_glass)?,
            packs: GivenPacks::default(),
            signature: None,
            trace: None,
        };
        let applied = self.coordinator.roll_back(to, &intent).await.map_err(|error| apply_failed(&error))?;
        self.coordinator.record_refused_change(&intent.permit, &applied).await;
        Ok(Response::new(apply_reply(applied)))
    }

    async fn plan_rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::PlanReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let to = Some(Revision(request.get_ref().to_revision)).filter(|revision| revision.0 != 0);
        let (to, planned) = self.coordinator.plan_rollback(to).await.map_err(|error| apply_failed(&error))?;
        Ok(Response::new(wire::PlanReply { to_revision: to.0, ..plan_reply(&planned) }))
    }

    async fn events(
        &self,
        request: Request<wire::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        caller.look().await?;
        let query = Query::read(&self.coordinator, request.into_inner()).await?;
        let (sender, receiver) = mpsc::channel(STREAM_WAITING);
        let events = history::events(self.coordinator.clone(), caller.peer, query, sender);
        self.coordinator.tasks.spawn("event stream", events);
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let node = node_name(&request.node)?;
        let permit = caller.permit_for(Action::MakeToken, &node).await?;
        let valid = validity(request.valid_seconds)?;
        let warnings = self.unknown_node(&node).await?.into_iter().collect();
        let created = self.coordinator.create_token(&node, valid, &permit).await;
        let (token, expires) = created.map_err(|error| super::enrolment::refused(&error))?;
        Ok(Response::new(wire::CreateTokenReply { token: token.to_text(), expires_ms: expires.0, warnings }))
    }

    async fn create_tokens(
        &self,
        request: Request<wire::CreateTokensRequest>,
    ) -> Result<Response<wire::CreateTokensReply>, Status> {
        tokens::create(&self.coordinator, request).await
    }

    async fn admit_node(
        &self,
        request: Request<wire::AdmitNodeRequest>,
    ) -> Result<Response<wire::AdmitNodeReply>, Status> {
        admission::admit(&self.coordinator, request).await
    }

    async fn drift_control(
        &self,
        request: Request<wire::DriftControlRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let request = request.into_inner();
        let node = node_name(&request.node)?;
        let permit = caller.permit_for(Action::ControlDrift, &node).await?;
        let control = drift_control(request, (self.coordinator.clock)())?;
        let outcome = self.coordinator.drift(&node, control, &permit).await;
        Ok(self.concluded(outcome, (&permit, &node)).await)
    }

    async fn show_drift(
        &self,
        request: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::DriftReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let (name, snapshot) = self.known(&request.get_ref().node).await?;
        let differences = self.coordinator.differences(&snapshot, &name).await;
        Ok(Response::new(drift_reply(&name, differences.map_err(|error| apply_failed(&error))?)))
    }
}

/// Bounded: what is left out is counted.
fn drift_reply(name: &NodeName, differences: Differences) -> wire::DriftReply {
    let plan = match differences {
        Differences::Known(plan) => plan,
        Differences::Unknown { why } => {
            return wire::DriftReply { unknown: why, ..wire::DriftReply::default() };
        }
    };
    let mut told = node_plan_to_wire(name, "", &plan);
    let shown = told.keys.len().min(DIFFERENCES_MAX) + told.kept.len();
    told.keys.truncate(DIFFERENCES_MAX);
    let mut room = DIFFS_MAX;
    for file in &mut told.files {
        match room.checked_sub(file.diff.len()) {
            Some(left) => room = left,
            None => file.diff.clear(),
        }
    }
    let omitted = (plan.keys.len() + plan.kept.len()).saturating_sub(shown) as u64;
    wire::DriftReply { plan: Some(told), unknown: String::new(), omitted }
}

fn drift_control(request: wire::DriftControlRequest, now: Timestamp) -> Result<DriftControl, Status> {
    match request.action.as_str() {
        "pause" if request.reason.trim().is_empty() => {
            Err(Status::invalid_argument("to pause drift enforcement, give a reason"))
        }
        "pause" => {
            let until = match request.until_ms {
                0 => now.after(DRIFT_PAUSE),
                until => Timestamp(until),
            };
            if until <= now {
                return Err(Status::invalid_argument("the end of the pause lies in the past"));
            }
            Ok(DriftControl::Pause { reason: request.reason, until })
        }
        "accept" => {
            let path = HomePath::parse(&request.path);
            let path = path.map_err(|error| Status::invalid_argument(error.to_string()))?;
            let until = (request.until_ms != 0).then_some(Timestamp(request.until_ms));
            if until.is_some_and(|until| until <= now) {
                return Err(Status::invalid_argument("the end lies in the past"));
            }
            Ok(DriftControl::Accept { path, until })
        }
        "resume" => Ok(DriftControl::Resume),
        "restore" => {
            let path = Some(request.path).filter(|path| !path.is_empty());
            let path = path.map(|path| HomePath::parse(&path)).transpose();
            let path = path.map_err(|error| Status::invalid_argument(error.to_string()))?;
            Ok(DriftControl::Restore { path })
        }
        other => {
            Err(Status::invalid_argument(format!("{other:?} is not one of pause, resume, restore, accept")))
        }
    }
}
