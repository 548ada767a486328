//! Alerts: one task looks at the fleet, decides what to tell whom, and stores it; each channel has a task that sends
//! (ADR 56). The decisions are `fleet::alert`'s.
//!
//! What changed is stored before anybody is told of it, and that somebody was told is stored after it arrived. So a
//! message is lost by no crash, and one that is sent again has the same delivery id. There is no queue: a channel is
//! offered the one message that is true now, and whoever is slow gets a newer one.

mod board;
mod channel_names;
mod channels;
mod desk;
mod looks;
mod silences;

use std::{sync::Arc, time::Duration};

use fleet::alert::Message;
use tokio::{sync::mpsc, sync::watch, time::Instant};
use tracing::{info, warn};

pub use self::{
    board::Board,
    channels::{AlertSettings, ChannelError},
};
pub(crate) use self::{
    board::{Delivery, Picture, TestError},
    channels::Channel,
    silences::{SILENCE_MAX, SILENCES_MAX, SilenceError, Wanted, targets},
};
use self::{
    channels::{Payload, Standing},
    desk::{Desk, Link},
};
use crate::{coordinator::Coordinator, rpc::chain, store::Key};

/// Without any change somebody looks so often: deadlines of rollouts and certificates are time.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Reports come in bursts; looks are at least so far apart.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// After the store failed.
const RETRY: Duration = Duration::from_secs(5);
/// After a message did not arrive; doubled each time.
const SEND_AGAIN: Duration = Duration::from_secs(10);
/// See [`SEND_AGAIN`].
const SEND_AGAIN_MAX: Duration = Duration::from_secs(300);
/// An Alertmanager is told what is wrong at least so often.
const INFORM_EVERY: Duration = Duration::from_secs(60);
/// Arrivals that wait to be stored.
const ARRIVALS_MAX: usize = 64;

/// Runs until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    let (arrived, mut arrivals) = mpsc::channel(ARRIVALS_MAX);
    let links = start_channels(&coordinator, &arrived);
    let Some(mut desk) = opened(&coordinator, links).await else { return };
    let mut changes = coordinator.mirror.changes();
    let mut live = coordinator.live.watch();
    let mut events = coordinator.store.watch(Key::EVENTS);
    loop {
        changes.mark_seen();
        live.mark_unchanged();
        events.mark_unchanged();
        let wait = match desk.turn().await {
            Ok(next) => next.map_or(LOOK_EVERY, |next| next.since((coordinator.clock)()).min(LOOK_EVERY)),
            Err(error) => {
                warn!(error = chain(&error), "Cannot look for alerts; trying again");
                RETRY
            }
        };
        let (earliest, latest) = (Instant::now() + LOOK_PAUSE, Instant::now() + wait);
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            () = changes.changed() => {}
            _ = live.changed() => {}
            _ = events.changed() => {}
            Some(message) = arrivals.recv() => desk.arrived(&message),
            () = tokio::time::sleep_until(latest) => {}
        }
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            () = tokio::time::sleep_until(earliest) => {}
        }
        while let Ok(message) = arrivals.try_recv() {
            desk.arrived(&message);
        }
    }
}

/// `None`: the coordinator stops.
async fn opened(coordinator: &Arc<Coordinator>, links: Vec<Link>) -> Option<Desk> {
    loop {
        let error = match Desk::open(coordinator, &links).await {
            Ok(desk) => return Some(desk),
            Err(error) => error,
        };
        warn!(error = chain(&error), "Cannot read what was alerted before; trying again");
        tokio::select! {
            () = coordinator.stop.cancelled() => return None,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

fn start_channels(coordinator: &Arc<Coordinator>, arrived: &mpsc::Sender<Message>) -> Vec<Link> {
    let mut links = Vec::new();
    for channel in coordinator.alerts.channels() {
        let (coordinator, channel) = (coordinator.clone(), channel.clone());
        if channel.takes_standing() {
            coordinator.tasks.clone().vital("alert channel", keep_informed(coordinator, channel));
            continue;
        }
        let (offer, offered) = watch::channel(None);
        links.push(Link { rules: channel.rules(), offer });
        let sender = Sender { coordinator: coordinator.clone(), channel, arrived: arrived.clone() };
        coordinator.tasks.vital("alert channel", sender.run(offered));
    }
    links
}

/// The task of a channel that is told what changes.
struct Sender {
    coordinator: Arc<Coordinator>,
    channel: Arc<Channel>,
    arrived: mpsc::Sender<Message>,
}

impl Sender {
    async fn run(self, mut offered: watch::Receiver<Option<Message>>) {
        let stop = self.coordinator.stop.clone();
        let (mut pause, mut sent) = (SEND_AGAIN, String::new());
        loop {
            let offer = offered.borrow_and_update().clone();
            // Until its arrival is stored the same message is still offered.
            let offer = offer.filter(|message| message.delivery != sent);
            let wait = match offer {
                None => None,
                Some(message) => match self.send(&message).await {
                    Ok(()) => {
                        (pause, sent) = (SEND_AGAIN, message.delivery.clone());
                        // The task that takes it ends only with the coordinator.
                        drop(self.arrived.send(message).await);
                        continue;
                    }
                    Err(()) => {
                        let wait = pause;
                        pause = (pause * 2).min(SEND_AGAIN_MAX);
                        Some(wait)
                    }
                },
            };
            let again = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = again => {}
                // While it fails, only time brings the next try: a receiver that is down is not asked at each change.
                changed = offered.changed(), if wait.is_none() => {
                    if changed.is_err() {
                        stop.cancelled().await;
                        return;
                    }
                }
            }
        }
    }

    async fn send(&self, message: &Message) -> Result<(), ()> {
        let now = (self.coordinator.clock)();
        let payload = Payload::of(self.coordinator.fleet.as_str(), message.clone());
        let outcome = tokio::select! {
            outcome = self.channel.send(&payload, now) => outcome,
            () = self.coordinator.stop.cancelled() => return Err(()),
        };
        note(&self.coordinator, &self.channel, outcome)
    }
}

/// The task of a channel that is told what is wrong now.
async fn keep_informed(coordinator: Arc<Coordinator>, channel: Arc<Channel>) {
    let mut picture = coordinator.alerts.watch();
    loop {
        let current = picture.borrow_and_update().clone();
        let (fleet, now) = (coordinator.fleet.as_str(), (coordinator.clock)());
        let standing = Standing { fleet, now, alerts: &current.alerts, policy: &current.policy };
        let outcome = tokio::select! {
            outcome = channel.keep_informed(&standing) => outcome,
            () = coordinator.stop.cancelled() => return,
        };
        let wait = match note(&coordinator, &channel, outcome) {
            Ok(()) => INFORM_EVERY,
            Err(()) => SEND_AGAIN,
        };
        let again = Instant::now() + wait;
        loop {
            tokio::select! {
                () = coordinator.stop.cancelled() => return,
                () = tokio::time::sleep_until(again) => break,
                changed = picture.changed() => {
                    let newer = picture.borrow_and_update().clone();
                    if changed.is_err() {
                        // The coordinator is gone.
                        return;
                    }
                    if newer.says(&current) {
                        continue;
                    }
                    // What changes at once is told at once.
                    tokio::time::sleep(LOOK_PAUSE).await;
                    break;
                }
            }
        }
    }
}

/// Logs and shows how a channel does: once when it begins to fail, once when it works again.
fn note(coordinator: &Coordinator, channel: &Channel, outcome: Result<(), String>) -> Result<(), ()> {
    let before = coordinator.alerts.delivery(&channel.name);
    let now = (coordinator.clock)();
    coordinator.alerts.delivered(&channel.name, outcome.as_ref().map(|&()| ()).map_err(String::as_str), now);
    let was_failing = matches!(before, Delivery::Failing { .. });
    match outcome {
        Ok(()) => {
            if was_failing {
                info!(channel = %channel.name, "The channel takes alerts again");
            }
            Ok(())
        }
        Err(why) => {
            if !was_failing {
                warn!(channel = %channel.name, why, "The channel does not take alerts; trying again");
            }
            Err(())
        }
    }
}
