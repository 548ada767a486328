//! Spans of an apply and of its rollout, made of what is recorded: the rollout before and after a commit. Nothing waits in
//! memory for the end of a rollout, which may be hours away; whoever commits the end knows when it began. A crash between
//! a commit and its spans loses those. docs/traces.md lists them all.

use fleet::{
    ids::{Generation, NodeName, RolloutId},
    rollout::{FlightStage, Phase, Rollout, StepKind, StepRecord, StepState},
    time::Timestamp,
    trace::{Span, SpanKind, TraceContext},
};
use tonic::metadata::MetadataMap;
use traces::Tracer;
use tracing::warn;

use crate::{
    apply::{Applied, ApplyError},
    coordinator::Coordinator,
    store::records::{RolloutRecord, Versioned},
    view::Snapshot,
};

/// The call that a trace comes with.
const APPLY: &str = "convoy.operator.v1.Operator/Apply";

/// What sends spans of this process, as its environment says. That it cannot is no reason not to start.
pub fn open() -> Tracer {
    Tracer::from_environment("convoy-coordinator", env!("CARGO_PKG_VERSION")).unwrap_or_else(|why| {
        warn!(why, "Traces are off");
        Tracer::default()
    })
}

/// What a call is a part of, if its caller says so in a way that can be read.
pub fn of_call(metadata: &MetadataMap) -> Option<TraceContext> {
    TraceContext::parse(metadata.get("traceparent")?.to_str().ok()?)
}

/// What a node's turn in a rollout is to its agent.
pub fn turn(
    tracer: &Tracer,
    trace: &TraceContext,
    id: RolloutId,
    (node, generation): (&NodeName, Generation),
) -> TraceContext {
    tracer.within(&tracer.within(trace, &about(id)), &about_turn(node, generation))
}

fn about(id: RolloutId) -> String {
    format!("rollout {id}")
}

fn about_turn(node: &NodeName, generation: Generation) -> String {
    format!("{node} {generation}")
}

/// The parts of an apply, one after the other.
pub struct Stages<'a> {
    coordinator: &'a Coordinator,
    trace: Option<TraceContext>,
    since: Timestamp,
}

impl<'a> Stages<'a> {
    /// The first part begins now.
    pub fn begin(coordinator: &'a Coordinator, trace: Option<TraceContext>) -> Self {
        Self { coordinator, trace, since: (coordinator.clock)() }
    }

    /// One part ends and the next begins.
    pub fn end(&mut self, name: &'static str) {
        let now = (self.coordinator.clock)();
        if let Some(trace) = self.trace.filter(|trace| self.coordinator.tracer.wants(trace)) {
            self.coordinator.tracer.record(Span::part(&trace, name, self.since, now));
        }
        self.since = now;
    }
}

impl Coordinator {
    /// What the parts of an apply are parts of, if its caller named a trace.
    pub fn traced(&self, caller: Option<TraceContext>) -> Option<TraceContext> {
        caller.map(|caller| self.tracer.within(&caller, APPLY))
    }

    /// Records an apply that has been answered.
    pub fn trace_apply(
        &self,
        caller: Option<TraceContext>,
        began: Timestamp,
        applied: &Result<Applied, ApplyError>,
    ) {
        let Some(caller) = caller.filter(|caller| self.tracer.wants(caller)) else { return };
        let outcome = match applied {
            Ok(Applied::Done { .. }) => "applied",
            Ok(Applied::Proposed { .. }) => "proposed",
            Ok(Applied::Refused { .. }) => "refused",
            Err(_) => "failed",
        };
        let span = Span::of(caller.child(APPLY), Some(&caller), APPLY, (began, (self.clock)()))
            .of_kind(SpanKind::Server)
            .with("rpc.system.name", "grpc")
            .with("rpc.method", APPLY)
            .with("convoy.fleet", &self.fleet)
            .with("convoy.outcome", outcome)
            .failed(applied.is_err());
        self.tracer.record(match applied {
            Ok(Applied::Done { revision, .. }) => span.with_number("convoy.revision", revision.0),
            Ok(Applied::Proposed { .. } | Applied::Refused { .. }) | Err(_) => span,
        });
    }

    /// Records what ended with a commit that made `before` to `after`.
    pub fn trace_rollout(&self, snapshot: &Snapshot, before: &Versioned<RolloutRecord>, after: &Rollout) {
        let Some(trace) = before.record.trace.filter(|trace| self.tracer.wants(trace)) else { return };
        let now = (self.clock)();
        for (node, span) in ended(&trace, &before.record.rollout, after, now) {
            let zone = node.and_then(|node| snapshot.wanted(node)?.zone.as_ref());
            self.tracer.record(match zone {
                Some(zone) => span.with("convoy.zone", zone),
                None => span,
            });
        }
    }
}

/// What ended between two states of a rollout, with the node that it is about.
fn ended<'a>(
    trace: &TraceContext,
    before: &'a Rollout,
    after: &Rollout,
    now: Timestamp,
) -> Vec<(Option<&'a NodeName>, Span)> {
    let whole = trace.child(&about(before.id));
    let mut spans = Vec::new();
    for (node, step) in &before.steps {
        let next = after.steps.get(node);
        spans.extend(turn_spans(&whole, (node, step), next, now).into_iter().map(|span| (Some(node), span)));
    }
    if !before.phase.is_end() && after.phase.is_end() {
        let span = Span::of(whole, Some(trace), "rollout", (before.started, after.ended.unwrap_or(now)))
            .with_number("convoy.rollout", before.id.0)
            .with_number("convoy.revision", before.revision.0)
            .with_number("convoy.nodes", before.steps.len() as u64)
            .with("convoy.outcome", after.phase.word().as_str())
            .failed(matches!(after.phase, Phase::Failed { .. } | Phase::RolledBack { .. }));
        spans.push((None, span));
    }
    spans
}

/// What ended of a node's turn: the stage that it was in, and perhaps the turn.
fn turn_spans(
    whole: &TraceContext,
    (node, was): (&NodeName, &StepRecord),
    is: Option<&StepRecord>,
    now: Timestamp,
) -> Vec<Span> {
    let (StepState::InFlight(flight), Some(is)) = (&was.state, is) else { return Vec::new() };
    let next = is.flight().filter(|next| next.generation == flight.generation);
    if next.is_some_and(|next| next.stage == flight.stage) {
        return Vec::new();
    }
    let turn = whole.child(&about_turn(node, flight.generation));
    let stage = match flight.stage {
        FlightStage::Sent => "sent",
        FlightStage::Written => "written",
        FlightStage::Restarted => "restarting",
        FlightStage::Soaking => "soaking",
    };
    let mut spans = vec![Span::part(&turn, stage, flight.since, now).with("convoy.node", node)];
    if next.is_some() {
        return spans;
    }
    let name = match flight.kind {
        StepKind::Update => "update node",
        StepKind::RollBack => "roll back node",
    };
    let failed = match is.state {
        StepState::Failed { .. } | StepState::ReturnFailed { .. } | StepState::ReturnUnseen { .. } => true,
        StepState::InFlight(_) => flight.kind == StepKind::Update,
        StepState::Pending
        | StepState::Ready { .. }
        | StepState::RolledBack { .. }
        | StepState::Skipped { .. } => false,
    };
    let span = Span::of(turn, Some(whole), name, (flight.sent, now))
        .with("convoy.node", node)
        .with("convoy.group", &was.group)
        .with_number("convoy.wave", was.wave.into())
        .with_number("convoy.generation", flight.generation.0)
        .with("convoy.outcome", is.state.word().as_str())
        .failed(failed);
    spans.push(span);
    spans
}

#[cfg(test)]
mod tests;
