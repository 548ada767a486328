//! `Alerts`: what is wrong, who was alerted, and whether a channel works.

use std::{sync::Arc, time::Duration};

use fleet::{
    access::{Action, Targets},
    alert::{Alert, AlertId, Hidden, Place, Reach, Rule, Silence, Watch},
    ids::{GroupName, NodeName},
    reason::Reason,
    spec::suggest,
    time::{Human, Timestamp},
};
use proto::wire::operator::{self as wire, alerts_server::Alerts};
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    commit_failed, store_failed,
};
use crate::{
    alerts::{
        Channel, Delivery, Picture, SILENCE_MAX, SILENCES_MAX, SilenceError, TestError, Wanted, targets,
    },
    coordinator::Coordinator,
    view::Snapshot,
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
        let silences = self.coordinator.silences().await.map_err(|error| store_failed(&error))?;
        let picture = self.coordinator.alerts.picture();
        let alerts = picture.alerts.iter().map(|(place, id, alert)| shown(&picture, place, id, alert));
        let channels = self.coordinator.alerts.channels().iter();
        let reply = wire::ListAlertsReply {
            at_ms: (self.coordinator.clock)().0,
            alerts: alerts.collect(),
            channels: channels.map(|channel| channel_shown(&self.coordinator, channel)).collect(),
            silences: silences.iter().map(silence_shown).collect(),
        };
        Ok(Response::new(reply))
    }

    async fn add_silence(
        &self,
        request: Request<wire::AddSilenceRequest>,
    ) -> Result<Response<wire::Silence>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        let wanted = wanted(&snapshot, &request.into_inner());
        let reached = wanted.as_ref().map(|wanted| targets(&wanted.reach, &snapshot)).unwrap_or_default();
        // Whoever may not silence anything learns nothing about what is there.
        let permit = caller.permit(Action::Silence, &reached).await?;
        let added = self.coordinator.add_silence(wanted?, &permit).await;
        Ok(Response::new(silence_shown(&added.map_err(|error| silence_failed(&error))?)))
    }

    async fn remove_silence(
        &self,
        request: Request<wire::RemoveSilenceRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        let id = request.into_inner().id;
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        let silences = self.coordinator.silences().await.map_err(|error| store_failed(&error))?;
        let silence = silences.iter().find(|silence| silence.id == id);
        let reached = silence.map(|silence| targets(&silence.reach, &snapshot)).unwrap_or_default();
        let permit = caller.permit(Action::Silence, &reached).await?;
        let removed = self.coordinator.remove_silence(id, &permit).await;
        removed.map_err(|error| silence_failed(&error))?;
        let detail = format!("silence {id} has ended");
        Ok(Response::new(wire::CommandReply { ok: true, detail, guard: false }))
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

/// Of a reason, characters.
const REASON_MAX: usize = 200;

/// What an operator asks for, understood.
fn wanted(snapshot: &Snapshot, typed: &wire::AddSilenceRequest) -> Result<Wanted, Status> {
    let wrong = |why: String| Err(Status::invalid_argument(why));
    let rule = match typed.rule.as_str() {
        "" => None,
        word => {
            let unknown = || {
                let hint = suggest(word, Rule::ALL.into_iter().map(Rule::as_str));
                Status::invalid_argument(format!("there is no rule {word:?}; {hint}"))
            };
            Some(Rule::parse(word).ok_or_else(unknown)?)
        }
    };
    let lasts = Duration::from_secs(typed.seconds);
    if lasts.is_zero() || SILENCE_MAX < lasts {
        return wrong(format!(
            "a silence lasts at least a second and at most {}",
            Human(SILENCE_MAX).in_days()
        ));
    }
    let reason = typed.reason.trim();
    if reason.is_empty() || REASON_MAX < reason.chars().count() || reason.chars().any(char::is_control) {
        return wrong(format!("a silence needs a reason, one line of at most {REASON_MAX} characters"));
    }
    let reason = reason.to_owned();
    Ok(Wanted { reach: reach(snapshot, &typed.target)?, rule, lasts, reason })
}

/// A node or a group of the newest revision.
fn reach(snapshot: &Snapshot, target: &str) -> Result<Reach, Status> {
    if target.is_empty() {
        return Ok(Reach::Fleet);
    }
    let wanted = |name| snapshot.wanted(name).map(|wanted| (name, &wanted.group));
    let known: Vec<(&NodeName, &GroupName)> = snapshot.names().into_iter().filter_map(wanted).collect();
    let node = known.iter().map(|(node, _)| *node).find(|node| node.as_str() == target);
    let group = known.iter().map(|(_, group)| *group).find(|group| group.as_str() == target);
    match (node, group) {
        (Some(node), None) => Ok(Reach::Node(node.clone())),
        (None, Some(group)) => Ok(Reach::Group(group.clone())),
        (Some(_), Some(_)) => Err(Status::invalid_argument(format!(
            "{target} is a node and a group; silence its nodes one by one"
        ))),
        (None, None) => {
            let names = known.iter().flat_map(|(node, group)| [node.as_str(), group.as_str()]);
            let hint = suggest(target, names);
            Err(Status::not_found(format!("there is no node and no group {target:?}; {hint}")))
        }
    }
}

fn silence_failed(error: &SilenceError) -> Status {
    match error {
        SilenceError::Store(error) => store_failed(error),
        SilenceError::Commit(error) => commit_failed(error),
        SilenceError::TooMany => Status::resource_exhausted(format!(
            "there are {SILENCES_MAX} silences; end some of them with `convoy silence remove`"
        )),
        SilenceError::NoSuch => {
            Status::not_found("no silence has that number, or it has ended; `convoy silence list` has them")
        }
    }
}

/// A silence as clients see it.
pub(super) fn silence_shown(silence: &Silence) -> wire::Silence {
    wire::Silence {
        id: silence.id,
        node: silence.reach.node().map_or_else(String::new, ToString::to_string),
        group: silence.reach.group().map_or_else(String::new, ToString::to_string),
        rule: silence.rule.map_or("", Rule::as_str).to_owned(),
        from_ms: silence.from.0,
        until_ms: silence.until.0,
        reason: silence.reason.clone(),
        by: silence.by.clone(),
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
        severity: picture.policy.severity(id.rule).as_str().to_owned(),
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
