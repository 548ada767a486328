//! Alerts of one place, as they are stored: what was raised, and what channels were told.

use fleet::{
    alert::{Alert, AlertId, Mark, PlaceAlerts, Rule, Span, Subject, Told, ToldKey, Watch},
    bundle::HomePath,
    ids::{ChannelName, NodeName, ProposalId, RolloutId},
    time::Timestamp,
};
use proto::wire::store::{self as wire, alert_subject::Subject as WireSubject};
use tracing::warn;

use super::Record;

/// The alerts of one group, or of the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlaceRecord(pub PlaceAlerts);

impl PlaceRecord {
    /// Without the words of alerts, which the next look gives again: for a place that would not fit a value with them.
    #[must_use]
    pub fn without_reasons(mut self) -> Self {
        self.0.alerts.values_mut().for_each(|alert| alert.reason.clear());
        self
    }
}

impl Record for PlaceRecord {
    type Wire = wire::AlertPlace;
    const NAME: &'static str = "alerts";

    fn to_wire(&self) -> wire::AlertPlace {
        let raised = self.0.alerts.iter().filter_map(|(id, alert)| alert_to_wire(id, alert));
        wire::AlertPlace {
            change: self.0.change,
            alerts: raised.collect(),
            told: self.0.told.iter().map(|(key, told)| told_to_wire(key, told)).collect(),
        }
    }

    fn from_wire(wire: wire::AlertPlace) -> Result<Self, String> {
        let mut place = PlaceAlerts { change: wire.change, ..PlaceAlerts::default() };
        for alert in wire.alerts {
            // Nobody looks here at what a rule of a newer version is about.
            let Some(rule) = known_rule(&alert.rule) else { continue };
            let subject = alert.subject.clone().and_then(|subject| subject.subject).ok_or("no subject")?;
            let id = AlertId { rule, subject: subject_from_wire(subject)? };
            place.alerts.insert(id, alert_from_wire(alert));
        }
        for told in wire.told {
            let Some(rule) = known_rule(&told.rule) else { continue };
            let channel = ChannelName::parse(&told.channel).map_err(|error| error.to_string())?;
            let bundle = Some(told.bundle).filter(|bundle| !bundle.is_empty());
            let (change, at) = (told.change, Timestamp(told.at_ms));
            let told = Told { change, at, open: told.open, incident: told.incident, bundle };
            place.told.insert(ToldKey { rule, channel }, told);
        }
        Ok(Self(place))
    }
}

fn known_rule(word: &str) -> Option<Rule> {
    let rule = Rule::parse(word);
    if rule.is_none() {
        warn!(rule = word, "The store holds alerts of a rule that this version does not know");
    }
    rule
}

fn mark_to_wire(mark: Mark) -> wire::AlertMark {
    wire::AlertMark { change: mark.change, at_ms: mark.at.0 }
}

fn mark_from_wire(mark: wire::AlertMark) -> Mark {
    Mark { change: mark.change, at: Timestamp(mark.at_ms) }
}

fn told_to_wire(key: &ToldKey, told: &Told) -> wire::AlertTold {
    wire::AlertTold {
        rule: key.rule.as_str().to_owned(),
        channel: key.channel.to_string(),
        change: told.change,
        at_ms: told.at.0,
        open: told.open,
        incident: told.incident,
        bundle: told.bundle.clone().unwrap_or_default(),
    }
}

fn alert_to_wire(id: &AlertId, alert: &Alert) -> Option<wire::Alert> {
    Some(wire::Alert {
        rule: id.rule.as_str().to_owned(),
        subject: Some(wire::AlertSubject { subject: Some(subject_to_wire(&id.subject)) }),
        reason: alert.reason.clone(),
        since_ms: alert.since.0,
        raised: Some(mark_to_wire(alert.raised?)),
        ended: alert.ended.map(mark_to_wire),
        flapping: alert.is_flapping(),
        firings_ms: alert.firings.iter().map(|at| at.0).collect(),
        past: alert.past.iter().map(|it| wire::AlertSpan { raised: it.raised, ended: it.ended }).collect(),
    })
}

fn alert_from_wire(wire: wire::Alert) -> Alert {
    let firing = fleet::alert::Firing { over: None, flapping: wire.flapping, shown: true };
    let mut alert = Alert {
        reason: wire.reason,
        since: Timestamp(wire.since_ms),
        watch: Watch::Firing(firing),
        raised: wire.raised.map(mark_from_wire),
        ended: wire.ended.map(mark_from_wire),
        past: wire.past.into_iter().map(|it| Span { raised: it.raised, ended: it.ended }).collect(),
        firings: wire.firings_ms.into_iter().map(Timestamp).collect(),
        hidden: None,
    };
    alert.as_stored();
    alert
}

fn subject_to_wire(subject: &Subject) -> WireSubject {
    match subject {
        Subject::Node(node) => WireSubject::Node(node.to_string()),
        Subject::File { node, path } => {
            WireSubject::File(wire::AlertFile { node: node.to_string(), path: path.to_string() })
        }
        Subject::Rollout(rollout) => WireSubject::Rollout(rollout.0),
        Subject::Step { rollout, node } => {
            WireSubject::Step(wire::AlertStep { rollout: rollout.0, node: node.to_string() })
        }
        Subject::Channel(channel) => WireSubject::Channel(channel.to_string()),
        Subject::Proposal(proposal) => WireSubject::Proposal(proposal.0),
        Subject::Authority => WireSubject::Own(wire::AlertOwn::Authority.into()),
        Subject::Coordinator => WireSubject::Own(wire::AlertOwn::Coordinator.into()),
    }
}

fn subject_from_wire(subject: WireSubject) -> Result<Subject, String> {
    let node = |name: &str| NodeName::parse(name).map_err(|error| error.to_string());
    Ok(match subject {
        WireSubject::Node(name) => Subject::Node(node(&name)?),
        WireSubject::File(file) => {
            let path = HomePath::parse(&file.path).map_err(|error| error.to_string())?;
            Subject::File { node: node(&file.node)?, path }
        }
        WireSubject::Rollout(rollout) => Subject::Rollout(RolloutId(rollout)),
        WireSubject::Proposal(proposal) => Subject::Proposal(ProposalId(proposal)),
        WireSubject::Step(step) => {
            Subject::Step { rollout: RolloutId(step.rollout), node: node(&step.node)? }
        }
        WireSubject::Channel(channel) => {
            Subject::Channel(ChannelName::parse(&channel).map_err(|error| error.to_string())?)
        }
        WireSubject::Own(own) => match wire::AlertOwn::try_from(own) {
            Ok(wire::AlertOwn::Coordinator) => Subject::Coordinator,
            Ok(wire::AlertOwn::Authority) => Subject::Authority,
            Ok(wire::AlertOwn::Unspecified) | Err(_) => return Err(format!("subject {own} is not known")),
        },
    })
}

/// Up to where events were looked at for alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CursorRecord {
    /// The number of the last one.
    pub event: u64,
}

impl Record for CursorRecord {
    type Wire = wire::AlertCursor;
    const NAME: &'static str = "what was looked at for alerts";

    fn to_wire(&self) -> wire::AlertCursor {
        wire::AlertCursor { event: self.event }
    }

    fn from_wire(wire: wire::AlertCursor) -> Result<Self, String> {
        Ok(Self { event: wire.event })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::store::{Entry, Key};

    #[test]
    fn alerts_of_every_subject_read_back() {
        let node = NodeName::parse("is-1").unwrap();
        let subjects = [
            Subject::Node(node.clone()),
            Subject::File { node: node.clone(), path: HomePath::parse("repository/conf/a").unwrap() },
            Subject::Rollout(RolloutId(3)),
            Subject::Proposal(ProposalId(4)),
            Subject::Step { rollout: RolloutId(3), node },
            Subject::Authority,
            Subject::Coordinator,
            Subject::Channel(ChannelName::parse("ops").unwrap()),
        ];
        let mark = |change| Some(Mark { change, at: Timestamp(i64::try_from(change).unwrap() * 10) });
        let mut place = PlaceAlerts { change: 9, ..PlaceAlerts::default() };
        for (subject, rule) in subjects.into_iter().zip(Rule::ALL) {
            let mut alert = Alert {
                reason: "why".to_owned(),
                since: Timestamp(1),
                watch: Watch::Quiet,
                raised: mark(4),
                ended: mark(5).filter(|_| rule == Rule::TugOfWar),
                past: vec![Span { raised: 1, ended: 3 }],
                firings: vec![Timestamp(2)],
                hidden: None,
            };
            alert.as_stored();
            place.alerts.insert(AlertId { rule, subject }, alert);
        }
        let key = ToldKey { rule: Rule::ServerDown, channel: ChannelName::parse("ops").unwrap() };
        let bundle = Some("a1".to_owned());
        place.told.insert(key, Told { change: 4, at: Timestamp(7), open: true, incident: 4, bundle });
        let value = Bytes::from(PlaceRecord(place.clone()).encode());
        let entry = Entry { key: Key::alerts(&fleet::alert::Place::Fleet), version: 1, value };
        assert_eq!(PlaceRecord::read(&entry).unwrap(), PlaceRecord(place));
    }
}
