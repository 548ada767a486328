//! Proposals over which nobody decided in time: their end is an event and an entry of the record (ADR 0089).

use std::{sync::Arc, time::Duration};

use fleet::{
    approval::ProposalState,
    audit::{Act, COORDINATOR},
    reason::Reason,
    time::{Human, Timestamp},
};
use tracing::{info, warn};

use crate::{
    audit::Note,
    coordinator::Coordinator,
    events::{Draft, Kind},
    rpc::chain,
    store::{
        CommitError, Key, Transaction,
        records::{ProposalRecord, Record as _},
    },
};

/// Without a change somebody looks so often: clocks can be set.
const EVERY: Duration = Duration::from_secs(60);
/// After the store failed.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    let mut changed = coordinator.store.watch(Key::PROPOSALS);
    loop {
        changed.mark_unchanged();
        let wait = match coordinator.end_overdue().await {
            Ok(next) => next.map_or(EVERY, |next| next.since((coordinator.clock)()).min(EVERY)),
            Err(error) => {
                warn!(error = chain(&error), "Cannot end proposals over which nobody decided; trying again");
                RETRY
            }
        };
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            _ = changed.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Coordinator {
    /// Ends every proposal whose time is over; answers when the next one ends. Whoever decides at the same moment wins, or
    /// is told that it was too late.
    ///
    /// # Errors
    /// The store failed; what is left is ended next time.
    pub(crate) async fn end_overdue(&self) -> Result<Option<Timestamp>, CommitError> {
        let records = self.mirror.records().await.map_err(CommitError::Refused)?;
        let now = (self.clock)();
        for proposal in records.proposals.values().filter(|it| it.proposed().is_overdue(now)) {
            let (id, key) = (proposal.id, Key::proposal(proposal.id));
            let ended = ProposalRecord { state: ProposalState::Expired, ..proposal.record.clone() };
            let commit = Transaction::default().replace(key.clone(), proposal.version, ended.encode());
            let event = expired(proposal, now);
            match self.audit.record(&Note::own(COORDINATOR, Act::Expire, &event), vec![event], commit).await {
                Ok(_) => info!(proposal = id.0, "A proposal has expired"),
                // Somebody decided at this moment.
                Err(CommitError::Conflict { key: conflict }) if conflict == key => {}
                Err(error) => return Err(error),
            }
        }
        let left = records.proposals.values().filter(|it| !it.proposed().is_overdue(now));
        Ok(left.map(|it| it.expires).min())
    }
}

fn expired(record: &ProposalRecord, now: Timestamp) -> Draft {
    let told = record.told();
    let waited = Human(record.expires.since(told.created));
    let text = format!(
        "proposal {} of {} has expired: nobody decided in {waited}{}",
        record.id,
        record.author,
        Reason(&told.message)
    );
    let event = Draft::new(now, Kind::ProposalExpired, text);
    event.with("proposal", &record.id).with("author", &record.author)
}
