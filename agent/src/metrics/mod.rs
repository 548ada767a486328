//! What the agent shows Prometheus and health checks, if its configuration has a table `[metrics]`. docs/metrics.md lists
//! every metric.
//!
//! States are asked of the loop when somebody scrapes, so they are what the engine knows at that moment, connected or
//! not. An agent whose loop does not answer is not alive, and `/livez` says so.

mod figures;
mod meters;

use std::{sync::Arc, time::Duration};

use exporter::{Bound, Exposed, Settings};
use fleet::observed::Observed;
use futures::{FutureExt as _, future::BoxFuture};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use meters::Meters;

use crate::{identity::Store, link::LinkState, private, task::Vital};

/// Scrapes and health checks that wait for the loop; the listener has no more connections.
const ASKS_MAX: usize = 16;
/// The loop never blocks, so an answer that takes longer will not come.
const LOOP_TIME: Duration = Duration::from_secs(5);
/// Until a port that is taken is tried again.
const RETRY_TIME: Duration = Duration::from_secs(30);

/// Somebody who wants to know the node's state.
pub type Ask = oneshot::Sender<Observed>;

/// The loop's end.
#[derive(Debug)]
pub struct Inside {
    /// What is counted.
    pub meters: Arc<Meters>,
    /// Who wants to know the node's state.
    pub asks: mpsc::Receiver<Ask>,
}

/// The listener's end.
#[derive(Debug)]
pub struct Asking {
    asks: mpsc::Sender<Ask>,
    link: watch::Receiver<LinkState>,
}

/// Both ends; `link` says how the link is.
pub fn open(link: &watch::Sender<LinkState>) -> (Inside, Asking) {
    let (sender, asks) = mpsc::channel(ASKS_MAX);
    (Inside { meters: Arc::default(), asks }, Asking { asks: sender, link: link.subscribe() })
}

/// An agent as its metrics show it.
pub struct Shown {
    /// Questions to the loop, and how the link is.
    pub asking: Asking,
    /// Why the journal cannot be written.
    pub journal: watch::Receiver<Option<String>>,
    /// The certificate.
    pub identity: Store,
    /// What is counted.
    pub meters: Arc<Meters>,
}

impl Shown {
    async fn observed(&self) -> Result<Observed, String> {
        let asked = async {
            let (ask, answer) = oneshot::channel();
            // Both fail only while the agent is ending.
            self.asking.asks.send(ask).await.ok()?;
            answer.await.ok()
        };
        match timeout(LOOP_TIME, asked).await {
            Ok(Some(observed)) => Ok(observed),
            Ok(None) => Err("the agent is stopping".to_owned()),
            Err(_) => Err(format!("the agent's loop has not answered for {} s", LOOP_TIME.as_secs())),
        }
    }
}

impl Exposed for Shown {
    fn metrics(&self) -> BoxFuture<'_, Result<String, String>> {
        async {
            let now = figures::registry(self, &self.observed().await?);
            Ok(exporter::open_metrics(&[self.meters.registry(), &now]))
        }
        .boxed()
    }

    fn not_alive(&self) -> BoxFuture<'_, Option<String>> {
        async { self.observed().await.err() }.boxed()
    }

    fn not_ready(&self) -> BoxFuture<'_, Option<String>> {
        async {
            if let Err(why) = self.observed().await {
                return Some(why);
            }
            let (link, journal) = (self.asking.link.borrow().clone(), self.journal.borrow().clone());
            not_ready(&link, journal.as_deref())
        }
        .boxed()
    }
}

/// Why the coordinator is not obeyed at this moment. The server goes on all the same, and drift is still restored.
fn not_ready(link: &LinkState, journal: Option<&str>) -> Option<String> {
    match (journal, link) {
        (Some(why), _) => Some(format!("the journal cannot be written: {why}")),
        (None, LinkState::Connected { .. }) => None,
        (None, LinkState::Dialling) => {
            Some("no coordinator yet: the first connection is being made".to_owned())
        }
        (None, LinkState::Lost { why }) => Some(format!("no coordinator: {why}")),
    }
}

/// Listens for as long as the agent runs. A listener that cannot be had is tried again: without it the server is looked
/// after all the same. Where it listens is in `<data_dir>/metrics-address`.
pub fn start(data_dir: &std::path::Path, settings: Settings, shown: Shown, vital: &Vital) {
    let file = data_dir.join("metrics-address");
    vital.spawn("metrics", async move {
        drop(private::remove(&file));
        let bound = loop {
            match Bound::open(&settings).await {
                Ok(bound) => break bound,
                Err(error) => error!(error = crate::chain(&error), "No metrics; trying again"),
            }
            tokio::time::sleep(RETRY_TIME).await;
        };
        let listen = bound.listen().to_string();
        info!(%listen, "Metrics can be read at /metrics");
        if let Err(error) = private::write(&file, listen.as_bytes()) {
            error!(%error, path = %file.display(), "Cannot say where metrics can be read");
        }
        // Nobody cancels it: the agent's end is the end of its tasks.
        exporter::serve(bound, Arc::new(shown), CancellationToken::new()).await;
        Err("it returned".to_owned())
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_says_why_and_the_journal_comes_first() {
        let connected = LinkState::Connected { address: "c:7843".into(), node: "is-1".into() };
        let lost = LinkState::Lost { why: "c:7843: refused".into() };
        assert_eq!(not_ready(&connected, None), None);
        for (link, journal, said) in [
            (&connected, Some("no space"), "the journal cannot be written: no space"),
            (&lost, Some("no space"), "the journal cannot be written: no space"),
            (&lost, None, "no coordinator: c:7843: refused"),
            (&LinkState::Dialling, None, "no coordinator yet: the first connection is being made"),
        ] {
            assert_eq!(not_ready(link, journal).as_deref(), Some(said));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_whose_loop_hangs_is_not_alive() {
        let (Inside { meters, asks: mut waiting }, asking) = open(&watch::Sender::new(LinkState::Dialling));
        let dir = tempfile::tempdir().unwrap();
        let shown = Shown {
            asking,
            journal: watch::channel(None).1,
            identity: Store::of(dir.path(), crate::wall_clock),
            meters,
        };
        let hangs = shown.not_alive().await;
        assert_eq!(hangs.as_deref(), Some("the agent's loop has not answered for 5 s"));
        let engine = fleet::node::Engine::new(
            fleet::node::Limits::default(),
            fleet::node::Memory::default(),
            std::collections::BTreeMap::new(),
            1,
            fleet::time::Timestamp(0),
        );
        let answers = async {
            // The one that was given up is still there.
            for _ in 0..2 {
                if let Some(ask) = waiting.recv().await {
                    drop(ask.send(engine.observed()));
                }
            }
        };
        let (alive, ()) = tokio::join!(shown.not_alive(), answers);
        assert_eq!(alive, None);
        drop(waiting);
        assert_eq!(shown.not_alive().await.as_deref(), Some("the agent is stopping"));
    }
}
