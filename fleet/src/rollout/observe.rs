//! What a node's report means for the step that is in flight on it. One step, one node, no side effect.
//!
//! All times are the coordinator's: a node's clock may be wrong, so `min_healthy_time` and the deadlines count from
//! the moment the planner first saw a thing, never from the moment a report says it happened.

use std::time::Duration;

use super::{
    policy::RolloutPolicy,
    state::{Blind, Flight, FlightStage, StepKind, StepRecord, StepState},
    view::{NodeView, RunWish, Serving},
};
use crate::{
    observed::{Attempt, Observed, ServiceState, Stage, Verdict},
    time::{Human, Timestamp},
};

/// The clocks that one look at a step needs.
pub(super) struct Clocks<'a> {
    pub(super) policy: &'a RolloutPolicy,
    /// When a node of the group last got further.
    pub(super) progress: Timestamp,
    pub(super) now: Timestamp,
}

/// Brings `record` up to date. Returns whether it got further.
pub(super) fn observe(record: &mut StepRecord, node: Option<&NodeView<'_>>, clocks: &Clocks<'_>) -> bool {
    let gone = || StepState::Skipped { why: "it is no longer in the fleet".to_owned() };
    let bundle_back = record.way_back();
    match (&mut record.state, node) {
        (StepState::Pending | StepState::InFlight(_), None) => {
            record.state = gone();
            true
        }
        (StepState::InFlight(flight), Some(node)) => {
            let target = match flight.kind {
                StepKind::Update => Some(record.target),
                StepKind::RollBack => bundle_back,
            };
            match follow(flight, node, target.map(|target| target.bundle)) {
                Follow::Same => {}
                Follow::Replaced => {
                    let why = "it was given another bundle outside this rollout".to_owned();
                    record.state = StepState::Skipped { why };
                    return true;
                }
            }
            if node.connected {
                flight.blind.end(clocks.now);
            } else {
                flight.blind.begin(clocks.now);
            }
            let before = flight.stage;
            if let Some(end) = advance(flight, node, clocks) {
                record.state = end;
                return true;
            }
            before < flight.stage
        }
        _ => false,
    }
}

enum Follow {
    Same,
    Replaced,
}

/// A newer commit with the same bundle (a restart that an operator asked for) is followed; another bundle ends this.
fn follow(flight: &mut Flight, node: &NodeView<'_>, bundle: Option<crate::ids::Digest>) -> Follow {
    match node.desired {
        Some(desired) if flight.generation < desired.generation && Some(desired.bundle) == bundle => {
            flight.generation = desired.generation;
            Follow::Same
        }
        Some(desired) if flight.generation < desired.generation => Follow::Replaced,
        _ => Follow::Same,
    }
}

/// The attempt at this flight's generation, if the node reports one.
fn attempt<'a>(flight: &Flight, observed: &'a Observed) -> Option<&'a Attempt> {
    observed.attempted.as_ref().filter(|attempt| attempt.target.generation == flight.generation)
}

fn advance(flight: &mut Flight, node: &NodeView<'_>, clocks: &Clocks<'_>) -> Option<StepState> {
    if let Some(observed) = node.observed {
        // An attempt that is not over (content that may still turn up) has only said what it waits for.
        let over = attempt(flight, observed).filter(|attempt| attempt.done);
        if let Some(refusal) = over.and_then(|attempt| attempt.failure.as_ref()) {
            return Some(failed(flight, clocks.now, format!("{}: {}", refusal.reason, refusal.detail)));
        }
        let stage = reached(flight, node, observed);
        if FlightStage::Written <= stage && flight.written.is_none() {
            flight.written = Some(clocks.now);
            flight.blind = Blind::default();
        }
        if stage != flight.stage {
            flight.stage = stage;
            flight.since = clocks.now;
        }
        if is_complete(flight, node, observed, clocks) {
            let kept = attempt(flight, observed).is_some_and(|attempt| attempt.kept_server);
            return Some(complete(flight, clocks.now, flight.restarts && !kept));
        }
    }
    overdue(flight, node, clocks)
}

/// How far the node is with this flight's generation. May go back: a node that stops being healthy while it is
/// watched is only restarted, not soaking.
fn reached(flight: &Flight, node: &NodeView<'_>, observed: &Observed) -> FlightStage {
    let is = |applied: Option<crate::bundle::Applied>| {
        applied.is_some_and(|applied| applied.generation == flight.generation)
    };
    let attempted = attempt(flight, observed).map(|attempt| attempt.stage);
    if is(observed.running) && node.connected && node.is_healthy() {
        FlightStage::Soaking
    } else if is(observed.running) {
        FlightStage::Restarted
    } else if is(observed.written) || attempted.is_some_and(|stage| Stage::Written <= stage) {
        FlightStage::Written
    } else {
        // What was durable once stays so, even if a report from before overtakes the one that said it.
        flight.stage.min(FlightStage::Written)
    }
}

fn is_complete(flight: &Flight, node: &NodeView<'_>, observed: &Observed, clocks: &Clocks<'_>) -> bool {
    let stays_down = node.wish == RunWish::Stopped && observed.service == ServiceState::Stopped;
    let done = attempt(flight, observed).is_some_and(|attempt| attempt.done);
    if stays_down {
        // An operator stopped it: the files are all that can be had.
        return FlightStage::Written <= flight.stage && done;
    }
    if !flight.restarts && FlightStage::Restarted <= flight.stage {
        // The running server counts as running the new bundle without a restart; its health is not this step's doing.
        return done || flight.stage == FlightStage::Soaking;
    }
    let is_ready = attempt(flight, observed)
        .is_some_and(|attempt| attempt.done && attempt.stage == Stage::Ready)
        || observed.last_good.is_some_and(|good| good.generation == flight.generation);
    let healthy_for = clocks.now.since(flight.since);
    flight.stage == FlightStage::Soaking && is_ready && clocks.policy.min_healthy_time <= healthy_for
}

fn complete(flight: &Flight, now: Timestamp, restarted: bool) -> StepState {
    let generation = flight.generation;
    match flight.kind {
        StepKind::Update => StepState::Ready { generation, at: now, restarted },
        StepKind::RollBack => StepState::RolledBack { generation, at: now },
    }
}

fn failed(flight: &Flight, now: Timestamp, why: String) -> StepState {
    let generation = flight.generation;
    match flight.kind {
        StepKind::Update => StepState::Failed { generation, at: now, why },
        StepKind::RollBack => StepState::ReturnFailed { generation, at: now, why },
    }
}

fn overdue(flight: &Flight, node: &NodeView<'_>, clocks: &Clocks<'_>) -> Option<StepState> {
    let policy = clocks.policy;
    if let Some(elapsed) = unhealthy_for(flight, node, clocks) {
        return Some(failed(flight, clocks.now, not_healthy(node, elapsed)));
    }
    let idle = clocks.now.since(flight.since.max(clocks.progress));
    if idle <= policy.progress_deadline {
        return None;
    }
    match (flight.kind, node.connected) {
        (StepKind::RollBack, false) => Some(StepState::ReturnUnseen {
            generation: flight.generation,
            at: clocks.now,
            why: format!(
                "it is not connected; its last good bundle is committed as generation {} and takes effect when it returns",
                flight.generation
            ),
        }),
        (_, true) => Some(failed(flight, clocks.now, format!("no progress for {}", Human(idle)))),
        (_, false) => {
            Some(failed(flight, clocks.now, format!("not connected, no progress for {}", Human(idle))))
        }
    }
}

/// How long a node that is heard has had its files in force without becoming healthy, if that is too long. The time in
/// which it was not connected does not count. A node whose agent cannot say (it was away, or served until a moment ago
/// and its agent has just started) gets as much time again.
fn unhealthy_for(flight: &Flight, node: &NodeView<'_>, clocks: &Clocks<'_>) -> Option<Duration> {
    let (policy, now) = (clocks.policy, clocks.now);
    let elapsed = now.since(flight.written?).saturating_sub(flight.blind.total(now));
    let deadline = policy.healthy_deadline;
    let is_late = match node.serving() {
        Serving::Away => false,
        // Healthy again and again, and never for long enough.
        Serving::Serves if flight.stage == FlightStage::Soaking => {
            deadline * 2 + policy.min_healthy_time < elapsed
        }
        Serving::Unclear(_) if !flight.blind.spent.is_zero() || now.since(flight.since) <= deadline => {
            deadline * 2 < elapsed
        }
        Serving::Serves | Serving::Unclear(_) | Serving::Fails(_) => deadline < elapsed,
    };
    is_late.then_some(elapsed)
}

/// The moments at which time alone may change what [`observe`] makes of a flight.
pub(super) fn moments(flight: &Flight, clocks: &Clocks<'_>) -> impl Iterator<Item = Timestamp> {
    let Clocks { policy, progress, .. } = *clocks;
    let (healthy, minimum) = (policy.healthy_deadline, policy.min_healthy_time);
    let twice = healthy.saturating_mul(2);
    let idle = beyond(flight.since.max(progress), policy.progress_deadline);
    let soaked = (flight.stage == FlightStage::Soaking).then(|| at_least(flight.since, minimum));
    // Its absences do not count; while it is away nothing is decided by it.
    let unhealthy = flight.written.into_iter().flat_map(move |written| {
        let heard = written.after(flight.blind.spent);
        let unclear = beyond(flight.since, healthy);
        [unclear, beyond(heard, healthy), beyond(heard, twice), beyond(heard, twice.saturating_add(minimum))]
    });
    [idle].into_iter().chain(soaked).chain(unhealthy)
}

/// When `duration` has passed.
pub(super) fn at_least(since: Timestamp, duration: Duration) -> Timestamp {
    since.after(duration.saturating_add(Duration::from_nanos(999_999)))
}

/// When more than `duration` has passed.
pub(super) fn beyond(since: Timestamp, duration: Duration) -> Timestamp {
    since.after(duration.saturating_add(Duration::from_millis(1)))
}

fn not_healthy(node: &NodeView<'_>, elapsed: Duration) -> String {
    let health = node.observed.map(|observed| &observed.health);
    let reason = match health {
        Some(Verdict::Unhealthy(why) | Verdict::Unknown(why)) => why.clone(),
        Some(Verdict::Healthy) => {
            node.observed.map_or_else(String::new, |observed| observed.service_reason.clone())
        }
        None => "it never reported".to_owned(),
    };
    format!("not healthy within {} of its files being written: {reason}", Human(elapsed))
}
