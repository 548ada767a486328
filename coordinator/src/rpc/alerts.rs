//! `Alerts`: what is wrong, who was alerted, and whether a channel works.

use std::sync::Arc;

use fleet::{
    access::{Action, Targets},
    alert::{Alert, AlertId, Hidden, Place, Watch},
    ids::NodeName,
    reason::Reason,
    spec::suggest,
    time::Timestamp,
};
use proto::wire::operator::{self as wire, alerts_server::Alerts};
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    commit_failed,
};
use crate::{
    alerts::{Channel, Delivery, Picture, TestError},
    coordinator::Coordinator,
};

pub(super) struct Desk {
    coordinator: Arc<Coordinator>,
}

impl Desk {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }
}

#[tonic::async_trait]
impl Alerts for Desk {
    async fn list(
        &self,
        request: Request<wire::ListAlertsRequest>,
    ) -> Result<Response<wire::ListAlertsReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let picture = self.coordinator.alerts.picture();
        let alerts = picture.alerts.iter().map(|(place, id, alert)| shown(&picture, place, id, alert));
        let channels = self.coordinator.alerts.channels().iter();
        let reply = wire::ListAlertsReply {
            at_ms: (self.coordinator.clock)().0,
            alerts: alerts.collect(),
            channels: channels.map(|channel| channel_shown(&self.coordinator, channel)).collect(),
        };
        Ok(Response::new(reply))
    }

    async fn test(
        &self,
        request: Request<wire::TestChannelRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let permit = caller.permit(Action::TestChannel, &Targets::new()).await?;
        let channel = request.into_inner().channel;
        match self.coordinator.test_channel(&channel, &permit).await {
            Ok(()) => {
                let detail = format!("{channel} has taken a test message");
                Ok(Response::new(wire::CommandReply { ok: true, detail, guard: false }))
            }
            Err(TestError::Failed(why)) => {
                let detail = format!("{channel} has not taken the test message: {why}");
                Ok(Response::new(wire::CommandReply { ok: false, detail, guard: false }))
            }
            Err(TestError::Commit(error)) => Err(commit_failed(&error)),
            Err(TestError::Unknown(known)) if known.is_empty() => Err(Status::not_found(
                "the coordinator has no channels; add [alerts.channels.NAME] to its configuration, as docs/alerts.md says",
            )),
            Err(TestError::Unknown(known)) => {
                let hint = suggest(&channel, known.iter().map(String::as_str));
                Err(Status::not_found(format!("there is no channel {channel:?}; {hint}")))
            }
        }
    }
}

fn channel_shown(coordinator: &Coordinator, channel: &Channel) -> wire::AlertChannel {
    let shown = wire::AlertChannel {
        name: channel.name.to_string(),
        kind: channel.kind.as_str().to_owned(),
        least: channel.least.as_str().to_owned(),
        ..wire::AlertChannel::default()
    };
    match coordinator.alerts.delivery(&channel.name) {
        Delivery::Idle => shown,
        Delivery::Arrived(at) => wire::AlertChannel { arrived_ms: at.0, ..shown },
        Delivery::Failing { since, tries, why } => {
            wire::AlertChannel { failing_ms: since.0, tries, why, ..shown }
        }
    }
}

fn shown(picture: &Picture, place: &Place, id: &AlertId, alert: &Alert) -> wire::Alert {
    let raised = alert.raised.filter(|_| alert.is_open());
    let told = raised.into_iter().flat_map(|raised| {
        let of_place = picture.told.iter().filter(move |(of, key, _)| of == place && key.rule == id.rule);
        of_place
            .filter(move |(_, _, told)| raised.change <= told.change)
            .map(|(_, key, _)| key.channel.to_string())
    });
    wire::Alert {
        rule: id.rule.as_str().to_owned(),
        severity: id.rule.severity().as_str().to_owned(),
        title: id.rule.title().to_owned(),
        subject: id.subject.to_string(),
        node: id.subject.node().map_or("", NodeName::as_str).to_owned(),
        group: match place {
            Place::Fleet => String::new(),
            Place::Group(group) => group.to_string(),
        },
        state: state(alert).into(),
        reason: alert.reason.clone(),
        since_ms: alert.since.0,
        ended_ms: alert.ended.map_or(0, |ended| ended.at.0),
        flapping: alert.is_flapping(),
        hidden: alert.hidden.as_ref().map(hidden).unwrap_or_default(),
        next: id.rule.remedy(&id.subject),
        sent_to: told.collect(),
    }
}

fn state(alert: &Alert) -> wire::AlertState {
    match (alert.watch, &alert.hidden) {
        (Watch::Pending { .. }, _) => wire::AlertState::Pending,
        (Watch::Firing(_), Some(_)) => wire::AlertState::Hidden,
        (Watch::Firing(_), None) => wire::AlertState::Firing,
        (Watch::Quiet, _) => wire::AlertState::Ended,
    }
}

fn hidden(hidden: &Hidden) -> String {
    match hidden {
        Hidden::By(other) => format!("explained by {} of {}", other.rule, other.subject),
        Hidden::Expected { why, until } => format!("expected until {}{}", utc(*until), Reason(why)),
        Hidden::Silenced { silence, until } => format!("silence {silence} until {}", utc(*until)),
    }
}

fn utc(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|at| at.strftime("%H:%M UTC").to_string()).unwrap_or_default()
}
