//! What the task has found and told, for those who ask: calls and the status.

use std::{collections::BTreeMap, sync::Arc};

use fleet::{
    access::Permit,
    alert::{Alert, AlertId, AlertPolicy, Place, Severity, Silence, Told, ToldKey},
    audit::Answer,
    ids::ChannelName,
    time::Timestamp,
};
use tokio::sync::watch;

use super::channels::{Channel, Payload};
use crate::{
    coordinator::Coordinator,
    events::{Draft, Kind},
    store::CommitError,
};

/// The alerts of one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    /// Every alert, with its place.
    pub(crate) alerts: Vec<(Place, AlertId, Alert)>,
    /// What channels were told.
    pub(crate) told: Vec<(Place, ToldKey, Told)>,
    /// Silences that have not ended.
    pub(crate) silences: Vec<Silence>,
    /// What the fleet says of them.
    pub(crate) policy: AlertPolicy,
}

impl Picture {
    /// Whether `other` says the same to somebody who is told what is wrong.
    pub(crate) fn says(&self, other: &Self) -> bool {
        let said = |(_, id, alert): &'_ (Place, AlertId, Alert)| {
            let open = alert.is_open() && alert.hidden.is_none();
            (id.clone(), open, alert.ended)
        };
        self.policy == other.policy && self.alerts.iter().map(said).eq(other.alerts.iter().map(said))
    }

    /// How many are open and not hidden.
    pub(crate) fn firing(&self) -> usize {
        self.open().count()
    }

    /// The most urgent of those; `None`: there are none.
    pub(crate) fn worst(&self) -> Option<Severity> {
        self.open().map(|id| self.policy.severity(id.rule)).max()
    }

    fn open(&self) -> impl Iterator<Item = &AlertId> {
        let open = self.alerts.iter().filter(|(_, _, alert)| alert.is_open() && alert.hidden.is_none());
        open.map(|(_, id, _)| id)
    }
}

/// How a channel does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// Nothing was sent since the start.
    #[default]
    Idle,
    /// The last message arrived.
    Arrived(Timestamp),
    /// The last message did not arrive.
    Failing {
        /// Since when.
        since: Timestamp,
        /// So many tries.
        tries: u32,
        /// Why the last one failed.
        why: String,
    },
}

/// The alerts as everybody may see them.
pub struct Board {
    channels: Vec<Arc<Channel>>,
    picture: watch::Sender<Arc<Picture>>,
    deliveries: watch::Sender<BTreeMap<ChannelName, Delivery>>,
}

impl Board {
    /// Nothing is known yet.
    pub fn new(channels: Vec<Channel>) -> Self {
        Self {
            channels: channels.into_iter().map(Arc::new).collect(),
            picture: watch::Sender::default(),
            deliveries: watch::Sender::default(),
        }
    }

    /// Where alerts go.
    pub(crate) fn channels(&self) -> &[Arc<Channel>] {
        &self.channels
    }

    pub(crate) fn picture(&self) -> Arc<Picture> {
        self.picture.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<Picture>> {
        self.picture.subscribe()
    }

    pub(super) fn show(&self, picture: Picture) {
        self.picture.send_replace(Arc::new(picture));
    }

    pub(crate) fn delivery(&self, channel: &ChannelName) -> Delivery {
        self.deliveries.borrow().get(channel).cloned().unwrap_or_default()
    }

    pub(super) fn delivered(&self, channel: &ChannelName, outcome: Result<(), &str>, now: Timestamp) {
        self.deliveries.send_modify(|deliveries| {
            let delivery = deliveries.entry(channel.clone()).or_default();
            *delivery = match (outcome, &delivery) {
                (Ok(()), _) => Delivery::Arrived(now),
                (Err(why), Delivery::Failing { since, tries, .. }) => {
                    Delivery::Failing { since: *since, tries: tries.saturating_add(1), why: why.to_owned() }
                }
                (Err(why), Delivery::Idle | Delivery::Arrived(_)) => {
                    Delivery::Failing { since: now, tries: 1, why: why.to_owned() }
                }
            };
        });
    }
}

/// Why a test message was not sent.
pub(crate) enum TestError {
    /// There is no such channel; these are there.
    Unknown(Vec<String>),
    /// It cannot be recorded that somebody tests the channel, so nothing was sent.
    Commit(CommitError),
    /// It did not arrive.
    Failed(String),
}

impl Coordinator {
    /// Sends a test message to a channel, at once.
    pub(crate) async fn test_channel(&self, name: &str, permit: &Permit) -> Result<(), TestError> {
        let channels = self.alerts.channels();
        let Some(channel) = channels.iter().find(|channel| channel.name.as_str() == name) else {
            let names = channels.iter().map(|channel| channel.name.to_string());
            return Err(TestError::Unknown(names.collect()));
        };
        let now = (self.clock)();
        let text = format!("{} tests the channel {name}", permit.operator());
        let event = Draft::new(now, Kind::ChannelTested, text).with("channel", &channel.name);
        let order = self.order(permit, event.clone()).await.map_err(TestError::Commit)?;
        let payload =
            Payload::test(self.fleet.as_str(), format!("test-{}", now.0), permit.operator().as_str());
        let outcome = channel.send(&payload, now).await;
        let answer = match &outcome {
            Ok(()) => Answer::Done,
            Err(why) => Answer::NotDone { why: why.clone() },
        };
        self.record_answer(permit, order, &event, answer).await;
        outcome.map_err(TestError::Failed)
    }
}
