//! One message in the forms that receivers take. All of them say the same words.

use std::time::Duration;

use fleet::{
    alert::{Alert, AlertId, AlertPolicy, Item, Message, Part, Place, Severity, Subject},
    ids::{ChannelName, NodeName},
    time::Timestamp,
};
use serde_json::{Value, json};

/// Alerts of one list in a message; the rest is a number.
const ITEMS_MAX: usize = 100;
/// An Alertmanager that hears nothing for so long takes an alert for over.
const INFORMED_FOR: Duration = Duration::from_secs(240);
/// It is told the end of an alert for so long.
const ENDED_FOR: Duration = Duration::from_secs(900);

/// A message, and what can be said of it in one line.
pub(crate) struct Payload {
    fleet: String,
    body: Body,
    facts: Facts,
}

enum Body {
    Message(Message),
    Test { delivery: String, by: String },
}

/// What every channel needs of a message.
pub(crate) struct Facts {
    pub(crate) occasion: &'static str,
    pub(crate) severity: Severity,
    pub(crate) headline: String,
    pub(crate) text: String,
    pub(crate) rules: Vec<&'static str>,
    /// At most [`ITEMS_MAX`].
    pub(crate) subjects: Vec<String>,
}

impl Payload {
    /// A message about alerts.
    pub(crate) fn of(fleet: &str, message: Message) -> Self {
        let items = message.parts.iter().flat_map(|part| part.begun.iter().chain(&part.over));
        let mut rules: Vec<&'static str> = message.parts.iter().map(|part| part.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        let facts = Facts {
            occasion: message.occasion.as_str(),
            severity: message.severity(),
            headline: message.headline(fleet),
            text: message.text(),
            rules,
            subjects: items.take(ITEMS_MAX).map(|item| item.subject.to_string()).collect(),
        };
        Self { fleet: fleet.to_owned(), body: Body::Message(message), facts }
    }

    /// A message that says that the channel works.
    pub(crate) fn test(fleet: &str, delivery: String, by: &str) -> Self {
        let facts = Facts {
            occasion: "test",
            severity: Severity::Info,
            headline: format!("[test] {fleet}: {by} tests this channel"),
            text: "Nothing is wrong. Alerts of this fleet arrive here.\n".to_owned(),
            rules: Vec::new(),
            subjects: Vec::new(),
        };
        Self { fleet: fleet.to_owned(), body: Body::Test { delivery, by: by.to_owned() }, facts }
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    pub(crate) fn delivery(&self) -> &str {
        match &self.body {
            Body::Message(message) => &message.delivery,
            Body::Test { delivery, .. } => delivery,
        }
    }

    /// The names of what it is about.
    pub(super) fn incidents(&self) -> impl Iterator<Item = String> {
        self.parts().iter().map(Part::incident_name)
    }

    fn parts(&self) -> &[Part] {
        match &self.body {
            Body::Message(message) => &message.parts,
            Body::Test { .. } => &[],
        }
    }

    /// The body of a webhook and the input of a command.
    pub(crate) fn json(&self) -> Vec<u8> {
        let body = json!({
            "version": 1,
            "fleet": self.fleet,
            "delivery": self.delivery(),
            "occasion": self.facts.occasion,
            "severity": self.facts.severity.as_str(),
            "headline": self.facts.headline,
            "text": self.facts.text,
            "incidents": self.parts().iter().map(incident).collect::<Vec<_>>(),
        });
        body.to_string().into_bytes()
    }

    /// Slack's incoming webhooks take this. Its marks have a meaning in names and reasons, so those are escaped.
    pub(super) fn slack(&self) -> Vec<u8> {
        let escaped = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let text = format!("*{}*\n{}", escaped(&self.facts.headline), escaped(&self.facts.text));
        json!({ "text": text }).to_string().into_bytes()
    }

    /// Workflows of Teams take this: a message with one Adaptive Card.
    pub(super) fn teams(&self) -> Vec<u8> {
        let color = match (self.facts.occasion, self.facts.severity) {
            ("over" | "test", _) => "Good",
            (_, Severity::Critical) => "Attention",
            (_, Severity::Warning) => "Warning",
            (_, Severity::Info) => "Accent",
        };
        let block = |text: &str, more: Value| {
            let mut block = json!({ "type": "TextBlock", "text": text, "wrap": true });
            if let (Some(block), Value::Object(more)) = (block.as_object_mut(), more) {
                block.extend(more);
            }
            block
        };
        let mut blocks = vec![block(
            &self.facts.headline,
            json!({ "weight": "Bolder", "size": "Medium", "color": color }),
        )];
        blocks.extend(self.facts.text.lines().map(|line| block(line, json!({ "spacing": "Small" }))));
        let card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": blocks,
        });
        let attachment = json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card });
        json!({ "type": "message", "attachments": [attachment] }).to_string().into_bytes()
    }

    /// A test as Alertmanager takes it: an alert that ends by itself. What lasts is told by [`Standing`].
    pub(super) fn alertmanager(&self, now: Timestamp) -> Vec<u8> {
        let by = match &self.body {
            Body::Test { by, .. } => by.as_str(),
            Body::Message(_) => "",
        };
        let alert = json!({
            "labels": { "alertname": "convoy-test", "fleet": self.fleet, "severity": "info" },
            "annotations": { "summary": self.facts.headline, "by": by },
            "startsAt": rfc3339(now),
            "endsAt": rfc3339(now.after(Duration::from_secs(60))),
        });
        Value::Array(vec![alert]).to_string().into_bytes()
    }
}

fn incident(part: &Part) -> Value {
    let next = part.begun.iter().chain(&part.lasting).next().map(|item| part.rule.remedy(&item.subject));
    json!({
        "incident": part.incident_name(),
        "rule": part.rule.as_str(),
        "severity": part.severity.as_str(),
        "title": part.rule.title(),
        "group": group(&part.place),
        "begun": items(&part.begun),
        "begun_count": part.begun.len(),
        "over": items(&part.over),
        "over_count": part.over.len(),
        "lasting": items(&part.lasting),
        "lasting_count": part.lasting.len(),
        "next": next,
    })
}

fn group(place: &Place) -> Value {
    match place {
        Place::Fleet => Value::Null,
        Place::Group(group) => json!(group.as_str()),
    }
}

fn path(subject: &Subject) -> Option<String> {
    match subject {
        Subject::File { path, .. } => Some(path.to_string()),
        Subject::Node(_)
        | Subject::Rollout(_)
        | Subject::Step { .. }
        | Subject::Proposal(_)
        | Subject::Authority
        | Subject::Coordinator
        | Subject::Channel(_) => None,
    }
}

fn items(items: &[Item]) -> Vec<Value> {
    let item = |item: &Item| {
        json!({
            "subject": item.subject.to_string(),
            "node": item.subject.node().map(NodeName::as_str),
            "path": path(&item.subject),
            "rollout": item.subject.rollout().map(|rollout| rollout.0),
            "reason": item.reason,
            "since_ms": item.since.0,
            "flapping": item.flapping,
        })
    };
    items.iter().take(ITEMS_MAX).map(item).collect()
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0).map(|at| at.to_string()).unwrap_or_default()
}

/// Everything that is wrong now, for a receiver that wants to be told again and again.
pub(crate) struct Standing<'a> {
    pub(crate) fleet: &'a str,
    pub(crate) now: Timestamp,
    pub(crate) alerts: &'a [(Place, AlertId, Alert)],
    pub(crate) policy: &'a AlertPolicy,
}

impl Standing<'_> {
    /// Alertmanager groups, inhibits and repeats by itself, so it gets each alert by itself. It takes an alert that it
    /// has not heard of for a while for over, hence the end that is always a little ahead. The watchdog is wrong all the
    /// time: when it stops, nobody watches any more.
    pub(super) fn alertmanager(&self, channel: &ChannelName, least: Severity) -> Vec<u8> {
        let ahead = rfc3339(self.now.after(INFORMED_FOR));
        let watchdog = json!({
            "labels": { "alertname": "convoy-watchdog", "fleet": self.fleet, "severity": "none" },
            "annotations": { "summary": format!("the coordinator of {} watches", self.fleet) },
            "startsAt": rfc3339(self.now),
            "endsAt": ahead,
        });
        let told = self.alerts.iter().filter(|(place, id, _)| {
            least <= self.policy.severity(id.rule) && self.policy.reaches(channel, place, id.rule)
        });
        let alerts = told.filter_map(|(place, id, alert)| self.alert(place, id, alert, &ahead));
        Value::Array(std::iter::once(watchdog).chain(alerts).collect()).to_string().into_bytes()
    }

    fn alert(&self, place: &Place, id: &AlertId, alert: &Alert, ahead: &str) -> Option<Value> {
        alert.raised?;
        let ends = match alert.ended {
            None if alert.hidden.is_some() => return None,
            None => ahead.to_owned(),
            Some(ended) if self.now.since(ended.at) < ENDED_FOR => rfc3339(ended.at),
            Some(_) => return None,
        };
        let mut labels = json!({
            "alertname": id.rule.as_str(),
            "fleet": self.fleet,
            "severity": self.policy.severity(id.rule).as_str(),
            "subject": id.subject.to_string(),
        });
        if let Some(labels) = labels.as_object_mut() {
            if let Place::Group(group) = place {
                labels.insert("group".to_owned(), json!(group.as_str()));
            }
            if let Some(node) = id.subject.node() {
                labels.insert("node".to_owned(), json!(node.as_str()));
            }
        }
        Some(json!({
            "labels": labels,
            "annotations": {
                "summary": format!("{}: {}", id.rule.title(), id.subject),
                "description": alert.reason,
                "next": id.rule.remedy(&id.subject),
            },
            "startsAt": rfc3339(alert.since),
            "endsAt": ends,
        }))
    }
}
