//! Putting a node's original files back (generation 0, ADR 0019).

use std::time::Duration;

use fleet::{
    access::Permit,
    ids::NodeName,
    node::Command,
    observed::{Observed, Refusal, RefusalReason},
};

use crate::{
    commands::{Outcome, beyond_budget},
    coordinator::Coordinator,
    events::{Draft, Kind},
    store::StoreError,
    view::Snapshot,
};

/// How long the answer waits for the files to be back; the agent goes on after that.
const RETURN_TIME: Duration = Duration::from_secs(20);

impl Coordinator {
    /// Has a node put its original files back, unless a rollout is changing the node or its server could not be spared.
    ///
    /// # Errors
    /// The store failed.
    pub async fn return_to_original(
        &self,
        node: &NodeName,
        why: &str,
        insist: bool,
        permit: &Permit,
    ) -> Result<Outcome, StoreError> {
        let taking_down = self.taking_down.lock().await;
        let snapshot = self.snapshot().await?;
        if let Some(reason) = kept_from(&snapshot, node) {
            return Ok(Outcome::Guarded(reason));
        }
        if !insist && let Some(reason) = beyond_budget(&snapshot, node) {
            return Ok(Outcome::Guarded(format!(
                "the server of {node} may have to restart for its original files, and one more would be down than the \
                 budget allows: {reason}; wait, or insist with --now"
            )));
        }
        let actor = permit.operator();
        let text = format!("{actor} has the original files of {node} put back: {why}");
        let event = Draft::new((self.clock)(), Kind::OriginalRestored, text).of_node(node).by(actor.as_str());
        let command = Command::RestoreOriginal { why: why.to_owned() };
        let sent = self.hand_over(node, command, (event.clone(), permit)).await;
        drop(taking_down);
        Ok(match self.outcome(node, (event, permit), sent).await {
            Outcome::Done(_) => self.returned(node).await,
            other @ (Outcome::Failed(_) | Outcome::Guarded(_)) => other,
        })
    }

    /// Waits until the node says that the files are back.
    async fn returned(&self, node: &NodeName) -> Outcome {
        let mut changes = self.live.watch();
        let back = async {
            loop {
                let live = self.live.node(node);
                let observed = live.as_ref().and_then(|live| live.observed.as_ref());
                if observed.is_some_and(Observed::is_on_original) || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        match tokio::time::timeout(RETURN_TIME, back).await {
            Ok(()) => Outcome::Done(format!(
                "the original files of {node} are in force again and are left alone; the next apply replaces them"
            )),
            Err(_) => Outcome::Failed(format!(
                "{node} has not put its original files back within {} s; it goes on trying, see `convoy node show {node}`",
                RETURN_TIME.as_secs()
            )),
        }
    }
}

/// Why the original of a node cannot be put back now.
fn kept_from(snapshot: &Snapshot, node: &NodeName) -> Option<String> {
    let open = snapshot.running_rollout().map(|open| &open.record.rollout);
    if let Some(open) = open.filter(|open| open.steps.contains_key(node)) {
        return Some(format!(
            "rollout {} has a step for {node}; wait for its end or abort it (`convoy rollout abort {}`)",
            open.id, open.id
        ));
    }
    let observed = snapshot.observed(node)?;
    (observed.written.is_some() && observed.original.is_none()).then(|| {
        format!(
            "{node} keeps no original: an agent of before version 0.2 wrote there first; `convoy rollback` goes back to an \
             earlier revision"
        )
    })
}

/// What is to be said of a node whose original files are in force.
pub(crate) fn on_original(observed: &Observed) -> Option<OnOriginal> {
    if !observed.is_on_original() {
        return None;
    }
    let failure = observed.attempted.as_ref().and_then(|attempt| attempt.failure.clone());
    Some(match failure {
        Some(failure) if failure.reason != RefusalReason::Withdrawn => OnOriginal::AfterFailure(failure),
        Some(_) | None => OnOriginal::AsAsked,
    })
}

/// Why the original files are in force.
pub(crate) enum OnOriginal {
    /// What was to replace them failed.
    AfterFailure(Refusal),
    /// An operator asked for them.
    AsAsked,
}
