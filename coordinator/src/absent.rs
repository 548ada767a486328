//! Agents that are gone and whose session cannot say so: they were connected when an earlier coordinator ended and did
//! not come back, or the store was away when their session ended (ADR 0045).

use std::{sync::Arc, time::Duration};

use fleet::{
    ids::NodeName,
    time::{Human, Timestamp},
};
use tracing::warn;

use crate::{
    coordinator::Coordinator,
    events::{Draft, Kind},
    rpc::chain,
    store::{
        CommitError, Key, StoreError, Transaction,
        records::{Record as _, SeenRecord, Versioned},
    },
};

/// Looked for so often once the coordinator has been there long enough to know.
const EVERY: Duration = Duration::from_secs(600);
/// Told in one commit.
const TOLD_MAX: usize = 32;

/// Runs until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    // Whoever is alive has come back by then, or is slower than a session may be silent.
    let heartbeat = &coordinator.heartbeat;
    let mut wait = heartbeat.silence_max(heartbeat.interval_max);
    loop {
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        wait = EVERY;
        if let Err(error) = coordinator.tell_absent().await {
            warn!(error = chain(&error), "Cannot tell which agents are lost; trying again later");
        }
    }
}

impl Coordinator {
    /// Tells of every agent that was connected once, is not now, and is not known to be lost. One that comes back in
    /// between wins: its session's commit or this one is refused.
    ///
    /// # Errors
    /// The store failed, or a node changed meanwhile; what is left is told next time.
    pub(crate) async fn tell_absent(&self) -> Result<(), CommitError> {
        let now = (self.clock)();
        let absent = self.absent().await.map_err(CommitError::Refused)?;
        for some in absent.chunks(TOLD_MAX) {
            let events = some.iter().map(|absent| absent.event(now)).collect();
            let commit = some.iter().fold(Transaction::default(), |commit, absent| {
                let lost = SeenRecord { lost: Some(now), ..absent.seen.record.clone() };
                commit.replace(Key::seen(&absent.name), absent.seen.version, lost.encode())
            });
            self.events.append(events, commit).await?;
        }
        Ok(())
    }

    async fn absent(&self) -> Result<Vec<Absent>, StoreError> {
        let records = self.mirror.records().await?;
        let mut absent = Vec::new();
        for (name, seen) in &records.seen {
            if seen.lost.is_some() || seen.last_seen == Timestamp::default() || self.live.node(name).is_some()
            {
                continue;
            }
            if records.nodes.get(name).is_some_and(|node| node.enrolment.is_some()) {
                absent.push(Absent { name: name.clone(), seen: seen.clone() });
            }
        }
        Ok(absent)
    }
}

/// An agent that nobody hears.
struct Absent {
    name: NodeName,
    seen: Arc<Versioned<SeenRecord>>,
}

impl Absent {
    fn event(&self, now: Timestamp) -> Draft {
        let ago = Human(now.since(self.seen.last_seen));
        let text = format!("its agent is not connected; its last session that is known was {ago} ago");
        Draft::new(now, Kind::AgentLost, text).of_node(&self.name)
    }
}
