//! The link to the coordinator: dials, speaks, renews, fetches. With `journal`, the only part that knows messages.
//!
//! Level-triggered: of the node's report only the newest unsent one is kept. What is lost with a connection is said
//! again by the next: acknowledgements when the assignment comes again, notices until they are received.

mod content;
mod dial;
mod enroll;
mod give;
mod host_key;
mod proxy;
mod session;
mod time;

use std::{sync::Arc, time::Duration};

use fleet::{
    ids::{FleetEpoch, Generation},
    node::{Event, Placed},
    observed::{Notice, Observed, Refusal, Stage},
    preflight::facts::ClockSkew,
    service::full_jitter,
    time::Timestamp,
};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;
use tracing::{error, info, warn};

pub use self::{
    dial::{Network, Socket, Tcp},
    enroll::{EnrollError, enroll},
    host_key::{HostKey, HostKeyError, enroll_host},
    proxy::network,
    time::{Answer, ask_time},
};
use crate::{
    cache::Cache,
    files::PackAt,
    identity::{Identity, IdentityError, Store},
    logs,
    look::Looker,
    program,
    task::Vital,
};

/// Orders that wait for the stream; what does not fit is said again by a later report or connection.
const ORDERS_MAX: usize = 256;
/// Before the second try; doubles.
const REDIAL: Duration = Duration::from_secs(1);
/// Upper bound of the wait.
const REDIAL_MAX: Duration = Duration::from_secs(30);

/// Something to tell the coordinator, besides the report.
#[derive(Debug)]
pub enum Order {
    /// How far an assignment got.
    Ack(Generation, Stage, Option<Refusal>),
    /// What happened.
    Tell(Vec<Notice>),
    /// The answer to a command.
    CommandDone(u64, bool, String),
}

/// What the link needs to know.
#[derive(Debug, Clone)]
pub struct LinkSettings {
    /// `host:port`, tried in turn; the enrolled address if empty.
    pub coordinators: Vec<String>,
    /// For people.
    pub home: String,
    /// Spreads waits.
    pub seed: u64,
    /// The time of day.
    pub wall_clock: fn() -> Timestamp,
    /// The way there.
    pub network: Arc<dyn Network>,
    /// Where it is told how the link is.
    pub state: watch::Sender<LinkState>,
    /// Counts connections that were made.
    pub connections: Counter,
}

/// How the link is, for whoever asks on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// The first try.
    Dialling,
    /// A coordinator has welcomed this agent.
    Connected {
        /// Where.
        address: String,
        /// As whom.
        node: String,
    },
    /// It is tried again.
    Lost {
        /// How the last try or connection ended.
        why: String,
    },
}

/// The agent's end of the link.
#[derive(Debug)]
pub struct Link {
    report: watch::Sender<Option<Box<Observed>>>,
    journal: watch::Sender<Option<String>>,
    epoch: watch::Sender<Option<FleetEpoch>>,
    orders: mpsc::Sender<Order>,
    channel: watch::Receiver<Option<Channel>>,
    clock: watch::Receiver<Option<ClockSkew>>,
    cache: Cache,
    events: mpsc::Sender<Event>,
    obtaining: Option<tokio::task::JoinHandle<()>>,
}

/// What the link's task owns.
struct Task {
    settings: LinkSettings,
    store: Store,
    identity: Identity,
    report: watch::Receiver<Option<Box<Observed>>>,
    /// Why the journal cannot be written.
    journal: watch::Receiver<Option<String>>,
    epoch: watch::Receiver<Option<FleetEpoch>>,
    orders: mpsc::Receiver<Order>,
    channel: watch::Sender<Option<Channel>>,
    clock: watch::Sender<Option<ClockSkew>>,
    /// Where the pack lies that was read last.
    packs: watch::Receiver<Option<PackAt>>,
    looker: Looker,
    /// Reads logs for operators.
    logs: logs::Reader,
    /// The checksum of this program.
    program: program::Own,
    events: mpsc::Sender<Event>,
}

/// What the link takes from the agent's other parts.
#[derive(Debug)]
pub struct Sources {
    /// Content that was fetched.
    pub cache: Cache,
    /// Where the pack lies that was read last.
    pub packs: watch::Receiver<Option<PackAt>>,
    /// Answers questions about the home.
    pub looker: Looker,
    /// Reads logs for operators.
    pub logs: logs::Reader,
    /// The checksum of this program.
    pub program: program::Own,
}

impl Link {
    /// Starts dialling.
    ///
    /// # Errors
    /// This host is not enrolled.
    pub fn start(
        settings: LinkSettings,
        store: Store,
        sources: Sources,
        events: mpsc::Sender<Event>,
        vital: &Vital,
    ) -> Result<Self, IdentityError> {
        let Sources { cache, packs, looker, logs, program } = sources;
        let identity = store.read(settings.seed)?;
        let (report, reports) = watch::channel(None);
        let (journal, journals) = watch::channel(None);
        let (epoch, epochs) = watch::channel(None);
        let (orders, waiting) = mpsc::channel(ORDERS_MAX);
        let (channel, channels) = watch::channel(None);
        let (clock, clocks) = watch::channel(None);
        let task = Task {
            settings,
            store,
            identity,
            report: reports,
            journal: journals,
            epoch: epochs,
            orders: waiting,
            channel,
            clock,
            packs,
            looker,
            logs,
            program,
            events: events.clone(),
        };
        vital.spawn("link", async move {
            task.run().await;
            Ok(())
        });
        Ok(Self {
            report,
            journal,
            epoch,
            orders,
            channel: channels,
            clock: clocks,
            cache,
            events,
            obtaining: None,
        })
    }

    /// This host's clock against the coordinator's, as measured by the last greeting.
    pub fn clock(&self) -> watch::Receiver<Option<ClockSkew>> {
        self.clock.clone()
    }

    /// Tells the node's state; only the newest is kept.
    pub fn report(&self, observed: Box<Observed>) {
        self.report.send_replace(Some(observed));
    }

    /// Why the journal cannot be written; `None` if it can. The coordinator hears of a change at once, since until then it
    /// takes the last report for the present.
    pub fn journal_error(&self, error: Option<String>) {
        self.journal.send_if_modified(|known| {
            let changed = *known != error;
            *known = error;
            changed
        });
    }

    /// Why the journal cannot be written, as it changes.
    pub fn journal(&self) -> watch::Receiver<Option<String>> {
        self.journal.subscribe()
    }

    /// Whom the agent obeys.
    pub fn obeys(&self, epoch: Option<FleetEpoch>) {
        self.epoch.send_if_modified(|known| {
            let changed = *known != epoch;
            *known = epoch;
            changed
        });
    }

    /// Tells something else.
    pub fn order(&self, order: Order) {
        if let Err(error) = self.orders.try_send(order) {
            warn!(%error, "The coordinator takes too slowly; it is told again later");
        }
    }

    /// Gets a bundle and its content into the cache. A later call replaces an earlier one.
    pub fn obtain(&mut self, target: Placed, size: u64) {
        if let Some(before) = self.obtaining.take() {
            before.abort();
        }
        let obtaining =
            content::Obtaining { target, size, cache: self.cache.clone(), channel: self.channel.clone() };
        let events = self.events.clone();
        self.obtaining = Some(crate::task::spawn("fetch", async move {
            // Only fails when the agent is ending.
            drop(events.send(obtaining.run().await).await);
        }));
    }
}

/// Where coordinators are: those that are configured, or else the one that this host was enrolled with.
fn addresses<'a>(configured: &'a [String], identity: &'a Identity) -> &'a [String] {
    if configured.is_empty() { identity.address.as_slice() } else { configured }
}

impl Task {
    async fn run(mut self) {
        let mut failures = 0_u32;
        for turn in 0_u64.. {
            let connected = self.connect(turn).await;
            self.channel.send_replace(None);
            let (most, why) = match connected {
                Ok(end) => {
                    failures = 0;
                    drop(self.events.send(Event::Disconnected).await);
                    (end.redial.unwrap_or_default(), end.why)
                }
                Err(why) => {
                    let doubled = REDIAL.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX));
                    failures = (failures + 1).min(16);
                    (doubled.min(REDIAL_MAX), why)
                }
            };
            if self.events.is_closed() {
                return;
            }
            self.settings.state.send_replace(LinkState::Lost { why: why.clone() });
            let wait = full_jitter(most, self.settings.seed, turn);
            match self.identity.check((self.settings.wall_clock)()) {
                Ok(()) => {
                    info!(%why, wait_ms = wait.as_millis(), "No connection to the coordinator; trying again");
                }
                // What the other side said of it may be no more than a closed connection.
                Err(expired) => error!(%expired, %why, "No connection to the coordinator"),
            }
            tokio::time::sleep(wait).await;
            // Renewed meanwhile, or by hand.
            match self.store.read(self.settings.seed) {
                Ok(identity) => self.identity = identity,
                Err(error) => warn!(error = %crate::chain(&error), "Cannot read the identity again"),
            }
        }
    }

    /// One connection, from dialling to its end. An error means that there was none.
    async fn connect(&mut self, turn: u64) -> Result<session::End, String> {
        let address = self.address(turn).ok_or("no coordinator is configured and none was enrolled with")?;
        let channel = dial::dial(&address, Arc::clone(&self.identity.tls), self.settings.network.clone())
            .await
            .map_err(|error| format!("{address}: {}", crate::chain(&error)))?;
        // What was meant for the connection before is said again on this one.
        while self.orders.try_recv().is_ok() {}
        let session =
            session::open(self, channel.clone()).await.map_err(|why| format!("{address}: {why}"))?;
        info!(%address, node = self.identity.node, "Connected to the coordinator");
        let node = self.identity.node.clone();
        self.settings.state.send_replace(LinkState::Connected { address, node });
        self.settings.connections.inc();
        self.channel.send_replace(Some(channel.clone()));
        Ok(session.run(self, channel).await)
    }

    fn address(&self, turn: u64) -> Option<String> {
        let addresses = addresses(&self.settings.coordinators, &self.identity);
        let index = turn.checked_rem(u64::try_from(addresses.len()).ok()?)?;
        addresses.get(usize::try_from(index).ok()?).cloned()
    }
}
