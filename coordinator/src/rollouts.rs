//! Executes rollouts: looks, commits what the planner decided, and lets the sessions tell the agents.
//!
//! Level-triggered: whatever happened, the whole fleet is looked at again, in the mirror, unless nothing that the planner
//! looks at has changed since a look that found nothing to do ([`known`], ADR 110). A step exists once the node's
//! new generation and the rollout that sent it are committed together, on the condition that neither had changed; so
//! a crash at any instant neither loses a step nor repeats one. What is down at the moment of a step is guarded by a lock
//! of this process (ADR 16), so one coordinator at a time works on a store.

mod known;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fleet::{
    ids::{Digest, NodeName, Revision},
    reason::Reason,
    rollout::{Phase, Plan, Rollout, Step, StepKind, StepState, plan},
    time::Timestamp,
};
use tokio::time::Instant;
use traces::Tracer;
use tracing::{error, info, warn};

use self::known::{Hints, Known, Moved};
use crate::{
    coordinator::Coordinator,
    events::{APPEND_MAX, Draft, Kind},
    gates::Asking,
    rpc::chain,
    spans::turn,
    store::{
        CommitError, Key, StoreError, TRANSACTION_WRITES_MAX, Transaction,
        records::{Assigned, NodeRecord, Record as _, RolloutRecord, Versioned},
        rollouts::{self, SHARDS_MAX},
    },
    view::Snapshot,
};

/// While a rollout is open somebody looks at the clock so often: it may be set, and questions may have to be asked again.
const TICK: Duration = Duration::from_secs(1);
/// Reports come in bursts; looks are at least so far apart.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Steps of one commit: each writes a node, and the rollout and events take room as well.
const STEPS_MAX: usize = TRANSACTION_WRITES_MAX - APPEND_MAX / 2 - 2;

/// Runs until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    let mut hints = Hints::new(&coordinator);
    let mut looker = Looker { asking: Asking::default(), known: None };
    loop {
        let moved = hints.take(&coordinator);
        let pause = match looker.look(&coordinator, &moved).await {
            Ok(Look::Idle) => {
                looker.asking.end();
                None
            }
            Ok(Look::Open) => Some(TICK),
            Ok(Look::Again) => continue,
            Err(error) => {
                warn!(error = chain(&error), "Cannot execute rollouts; trying again");
                Some(TICK)
            }
        };
        let earliest = Instant::now() + LOOK_PAUSE;
        let changed = async {
            hints.wait(pause).await;
            tokio::time::sleep_until(earliest).await;
        };
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            () = changed => {}
        }
    }
}

/// What one look came to.
enum Look {
    /// No rollout is open: only a hint can change that.
    Idle,
    /// One is open.
    Open,
    /// Something was committed or somebody else was faster: look at once.
    Again,
}

/// What lasts from one look to the next.
struct Looker {
    asking: Asking,
    /// `None`: the last look found something to do, or failed.
    known: Option<Known>,
}

impl Looker {
    async fn look(&mut self, coordinator: &Arc<Coordinator>, moved: &Moved) -> Result<Look, StoreError> {
        let mut known = self.known.take();
        let before = coordinator.snapshot().await?;
        let Some(open) = before.running_rollout() else { return Ok(Look::Idle) };
        let (moved_at, holds) = ((moved, (coordinator.clock)()), Known::still_holds);
        if let Some(known) = known.take_if(|known| holds(known, &before, open, moved_at)) {
            self.asking.ask(coordinator, &open.record.rollout, known.asks.clone());
            self.known = Some(known);
            return Ok(Look::Open);
        }
        drop(before);
        // Until its steps are committed: an operator's restart counts what they take down, and they what it does.
        let _taking_down = coordinator.taking_down.lock().await;
        let snapshot = coordinator.snapshot().await?;
        let Some(open) = snapshot.running_rollout() else { return Ok(Look::Idle) };
        let now = (coordinator.clock)();
        let decided = plan(&open.record.rollout, &snapshot.view(), now);
        if decided.changed {
            return carry_out(coordinator, &snapshot, open, (decided, now)).await;
        }
        self.asking.ask(coordinator, &open.record.rollout, decided.asks.clone());
        self.known = Some(Known::of(&snapshot, open, decided, known));
        Ok(Look::Open)
    }
}

/// Commits what was decided.
async fn carry_out(
    coordinator: &Coordinator,
    snapshot: &Snapshot,
    open: &Versioned<RolloutRecord>,
    (decided, now): (Plan, Timestamp),
) -> Result<Look, StoreError> {
    let decided = within_one_commit(&open.record, decided);
    let events = tell(&open.record.rollout, &decided.rollout, now);
    let tracer = &coordinator.tracer;
    let Some(commit) = commit_of(snapshot, open, &decided.rollout, &decided.steps, tracer) else {
        return Ok(Look::Open);
    };
    match coordinator.events.append(events, commit).await {
        Ok(_) => {
            log(&open.record.rollout, &decided.rollout);
            coordinator.trace_rollout(snapshot, open, &decided.rollout);
            Ok(Look::Again)
        }
        Err(CommitError::Conflict { .. }) => Ok(Look::Again),
        Err(CommitError::Refused(error) | CommitError::Unknown(error)) => Err(error),
        Err(error @ (CommitError::TooLarge { .. } | CommitError::NoRoom(_))) => {
            Err(StoreError::too_large(&error))
        }
    }
}

/// Leaves what one transaction cannot take for the next look, which decides the same again. What nodes have come to goes
/// first: if not even that fits, it is all that is committed, for as many shards as fit, and the rest of the rollout stays
/// as it was.
fn within_one_commit(before: &RolloutRecord, mut decided: Plan) -> Plan {
    let places = before.places();
    let sent: BTreeSet<&NodeName> = decided.steps.iter().map(|step| &step.node).collect();
    let is_observed = |name: &NodeName| {
        !sent.contains(name) && before.rollout.steps.get(name) != decided.rollout.steps.get(name)
    };
    let mut shards: BTreeSet<u32> =
        places.iter().filter(|(name, _)| is_observed(name)).map(|(_, place)| *place).collect();
    if SHARDS_MAX < shards.len() {
        let first: BTreeSet<u32> = shards.into_iter().take(SHARDS_MAX).collect();
        let mut rollout = before.rollout.clone();
        for (name, step) in &mut rollout.steps {
            let now = decided.rollout.steps.get(name).filter(|_| !sent.contains(name));
            if let Some(now) = now.filter(|_| places.get(name).is_some_and(|place| first.contains(place))) {
                step.clone_from(now);
            }
        }
        return Plan { rollout, steps: Vec::new(), ..decided };
    }
    let mut kept = Vec::new();
    for step in std::mem::take(&mut decided.steps) {
        let place = places.get(&step.node).copied();
        let fits = |place: &u32| shards.contains(place) || shards.len() < SHARDS_MAX;
        if let Some(place) = place.filter(|place| kept.len() < STEPS_MAX && fits(place)) {
            shards.insert(place);
            kept.push(step);
            continue;
        }
        // Its node is as it was before this look.
        let was = before.rollout.steps.get(&step.node).cloned();
        if let Some((step, was)) = decided.rollout.steps.get_mut(&step.node).zip(was) {
            *step = was;
        }
    }
    Plan { steps: kept, ..decided }
}

/// The rollout as it is now, with the nodes' new desired state. `None` if a step names a node that is not there.
fn commit_of(
    snapshot: &Snapshot,
    open: &Versioned<RolloutRecord>,
    next: &Rollout,
    steps: &[Step],
    tracer: &Tracer,
) -> Option<Transaction> {
    let (_, mut commit) = rollouts::replace(open, next.clone());
    for step in steps {
        let known = snapshot.nodes.get(&step.node);
        let version = known.map_or(0, |known| known.version);
        let mut node = known.map_or_else(|| NodeRecord::new(step.node.clone()), |known| known.record.clone());
        let target = snapshot.wanted(&step.node)?.with(&step.target);
        let revision = match step.kind {
            StepKind::Update => next.revision,
            // What it returns to is the content of an older revision, and is called so.
            StepKind::RollBack => revision_of(snapshot, &node, &step.target.bundle).unwrap_or(next.revision),
        };
        let (generation, why) = (step.generation, step.why.clone());
        let trace = open.record.trace.map(|trace| turn(tracer, &trace, next.id, (&step.node, generation)));
        node.assign(Assigned { generation, revision, target, why, trace });
        commit = commit.replace(Key::node(&step.node), version, node.encode());
    }
    Some(commit)
}

/// The revision that a bundle came to a node with.
fn revision_of(snapshot: &Snapshot, node: &NodeRecord, bundle: &Digest) -> Option<Revision> {
    let good = snapshot.seen.get(&node.name).and_then(|seen| seen.last_good.as_ref());
    let known = node.desired.iter().chain(&node.history).chain(good);
    known.into_iter().find(|assigned| assigned.target.bundle == *bundle).map(|assigned| assigned.revision)
}

/// One event for each thing that people ask about.
fn tell(before: &Rollout, after: &Rollout, now: Timestamp) -> Vec<Draft> {
    let mut events = Vec::new();
    for (name, step) in &after.steps {
        let old = before.steps.get(name).map(|step| &step.state);
        let text = match (&step.state, old) {
            (state, Some(old)) if state.word().as_str() == old.word().as_str() => continue,
            (StepState::InFlight(flight), Some(StepState::InFlight(was))) if flight.kind == was.kind => {
                continue;
            }
            (StepState::InFlight(flight), _) => match flight.kind {
                StepKind::Update => format!("{name} is given generation {}", flight.generation),
                StepKind::RollBack => {
                    format!("{name} returns to its last good bundle as generation {}", flight.generation)
                }
            },
            (state, _) => {
                format!("{name} is {}{}", state.word().as_str(), Reason(state.why().unwrap_or_default()))
            }
        };
        let event =
            Draft::new(now, Kind::Step, text).of_node(name).with("state", &step.state.word().as_str());
        events.push(event.with("rollout", &after.id));
    }
    if before.phase != after.phase {
        let why = Reason(after.why().unwrap_or_default());
        let text = format!("rollout {} is {}{why}", after.id, after.phase.word().as_str());
        events.push(
            Draft::new(now, Kind::Rollout, text)
                .with("rollout", &after.id)
                .with("state", &after.phase.word().as_str()),
        );
    }
    events
}

fn log(before: &Rollout, after: &Rollout) {
    for (node, step) in &after.steps {
        let old = before.steps.get(node).map_or("", |step| step.state.word().as_str());
        let new = step.state.word().as_str();
        if old != new {
            let why = step.state.why().unwrap_or_default();
            info!(rollout = after.id.0, %node, from = old, to = new, why, "Step changed state");
        }
    }
    if before.phase != after.phase {
        let (rollout, why) = (after.id.0, after.why().unwrap_or_default());
        match after.phase {
            Phase::Failed { .. } => error!(rollout, why, "A rollout failed"),
            _ => info!(rollout, to = after.phase.word().as_str(), why, "Rollout changed state"),
        }
    }
}

#[cfg(test)]
mod tests;
