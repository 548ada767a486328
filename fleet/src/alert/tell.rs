//! What each channel is to be told now: the difference between what it was last told and what is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    message::{Item, Message, Occasion, Part},
    policy::AlertPolicy,
    rule::{Nature, Rule, Severity},
    state::{Alert, Alerts, Mark, PlaceAlerts, Told, ToldKey},
    subject::{AlertId, Place},
};
use crate::{
    ids::{ChannelName, Digest},
    time::Timestamp,
};

/// From the first sign of an incident to its first message, unless somebody says otherwise.
pub const FIRST_AFTER: Duration = Duration::from_secs(10);
/// Between two messages of one incident.
pub(super) const CHANGES_EVERY: Duration = Duration::from_secs(300);
/// Between two messages of a critical incident in which nothing changes.
pub(super) const REPEAT_EVERY: Duration = Duration::from_secs(4 * 3600);
/// More incidents than these at once are one message.
pub(super) const APART_MAX: usize = 3;
/// A channel that has taken nothing for so long does not deliver.
pub(super) const UNDELIVERED_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Not without another change.
const NEVER: Timestamp = Timestamp(i64::MAX);

/// A channel, as far as it matters for what it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelRules {
    /// Which.
    pub name: ChannelName,
    /// It is not told of what is less urgent.
    pub least: Severity,
    /// From the first sign of an incident to its first message, so that what belongs together is in it.
    pub first_after: Duration,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outbox {
    /// Now.
    pub due: Vec<Message>,
    /// When something else will be due, if nothing happens before.
    pub next: Option<Timestamp>,
}

/// One rule in one place, as one channel sees it.
struct Incident<'a> {
    place: &'a Place,
    rule: Rule,
    severity: Severity,
    told: Option<&'a Told>,
    first_after: Duration,
    /// The newest change of any of its alerts, also of those that began and ended without being reported.
    change: u64,
    begun: Vec<(&'a AlertId, &'a Alert, Mark)>,
    over: Vec<(&'a AlertId, &'a Alert, Mark)>,
    lasting: Vec<(&'a AlertId, &'a Alert)>,
}

/// How soon a message is due.
#[derive(Clone, Copy)]
enum Due {
    /// It begins or ends an incident.
    Soon(Timestamp),
    /// It can wait for its turn.
    Later(Timestamp),
}

impl Due {
    const fn at(self) -> Timestamp {
        match self {
            Due::Soon(at) | Due::Later(at) => at,
        }
    }
}

impl Alerts {
    /// What `channels` are to be told at `now`.
    pub fn messages(&self, now: Timestamp, channels: &[ChannelRules]) -> Outbox {
        let mut outbox = Outbox::default();
        for channel in channels {
            let mut incidents: Vec<(Due, Incident<'_>)> = Vec::new();
            for (place, kept) in &self.places {
                incidents.extend(kept.incidents(place, channel, &self.policy));
            }
            hold_bundles_together(&mut incidents);
            let is_due = |due: &Due| due.at() <= now;
            let soon = incidents.iter().filter(|(due, _)| matches!(due, Due::Soon(_))).count();
            let flood = APART_MAX < soon
                && incidents.iter().any(|(due, _)| matches!(due, Due::Soon(_)) && is_due(due));
            let (send, wait): (Vec<_>, Vec<_>) = incidents
                .into_iter()
                .partition(|(due, _)| is_due(due) || (flood && matches!(due, Due::Soon(_))));
            let later = wait.iter().map(|(due, _)| due.at()).filter(|at| *at != NEVER);
            outbox.next = later.chain(outbox.next).min();
            let parts: Vec<Part> = send.iter().map(|(_, incident)| incident.part()).collect();
            let repeats = send.iter().filter(|(_, incident)| incident.is_repeat());
            let repeats: BTreeMap<String, Timestamp> = repeats
                .filter_map(|(_, incident)| Some((incident.part().incident_name(), incident.told?.at)))
                .collect();
            if APART_MAX < parts.len() {
                outbox.due.push(message(channel, parts, &repeats));
            } else {
                outbox.due.extend(parts.into_iter().map(|part| message(channel, vec![part], &repeats)));
            }
        }
        outbox
    }

    /// Notes that a message arrived; answers the places whose records have changed.
    pub fn told(&mut self, message: &Message, now: Timestamp) -> BTreeSet<Place> {
        let bundle = Some(&message.delivery).filter(|_| 1 < message.parts.len());
        let mut changed = BTreeSet::new();
        for part in &message.parts {
            let Some(kept) = self.places.get_mut(&part.place) else { continue };
            let key = ToldKey { rule: part.rule, channel: message.channel.clone() };
            let open = part.rule.nature() == Nature::Condition && !part.is_over();
            let bundle = match kept.told.get(&key) {
                Some(told) if told.open => told.bundle.clone(),
                Some(_) | None => bundle.cloned(),
            };
            let told = Told { change: part.change, at: now, open, incident: part.incident, bundle };
            kept.told.insert(key, told);
            changed.insert(part.place.clone());
        }
        changed
    }

    /// Channels that have owed a message for a day, and since when.
    pub fn undelivered(&self, now: Timestamp, channels: &[ChannelRules]) -> BTreeMap<ChannelName, Timestamp> {
        let mut owing = BTreeMap::new();
        for channel in channels {
            let due =
                self.places.iter().flat_map(|(place, kept)| kept.incidents(place, channel, &self.policy));
            // What only repeats or adds to what the channel knows is owed by a channel that works, too.
            let oldest = due.filter(|(due, _)| matches!(due, Due::Soon(_))).map(|(due, _)| due.at()).min();
            if let Some(oldest) = oldest.filter(|oldest| UNDELIVERED_AFTER <= now.since(*oldest)) {
                owing.insert(channel.name.clone(), oldest);
            }
        }
        owing
    }
}

/// Incidents that were reported together end together: their ends are due once all of them have ended, or as late as
/// a change is due after the first of them.
fn hold_bundles_together(incidents: &mut [(Due, Incident<'_>)]) {
    let is_over = |incident: &Incident<'_>| incident.begun.is_empty() && incident.lasting.is_empty();
    let bundle =
        |incident: &Incident<'_>| incident.told.filter(|told| told.open).and_then(|told| told.bundle.clone());
    let lasting = incidents.iter().filter(|(_, incident)| !is_over(incident));
    let lasting: BTreeSet<String> = lasting.filter_map(|(_, incident)| bundle(incident)).collect();
    let mut first_ends: BTreeMap<String, Timestamp> = BTreeMap::new();
    let over =
        |incident: &Incident<'_>| bundle(incident).filter(|own| is_over(incident) && lasting.contains(own));
    for (due, incident) in incidents.iter() {
        if let Some(bundle) = over(incident) {
            let first = first_ends.entry(bundle).or_insert(due.at());
            *first = due.at().min(*first);
        }
    }
    for (due, incident) in incidents {
        if let Some(first) = over(incident).and_then(|bundle| first_ends.get(&bundle)) {
            *due = Due::Later(first.after(CHANGES_EVERY));
        }
    }
}

impl PlaceAlerts {
    /// What differs, or lasts, for `channel`, with when it is to hear of it. Incidents that will never be due without
    /// another change are due at the end of time.
    fn incidents<'a>(
        &'a self,
        place: &'a Place,
        channel: &ChannelRules,
        policy: &AlertPolicy,
    ) -> Vec<(Due, Incident<'a>)> {
        let mut incidents: BTreeMap<Rule, Incident<'a>> = BTreeMap::new();
        for (id, alert) in &self.alerts {
            let own = matches!(&id.subject, super::Subject::Channel(name) if *name == channel.name);
            let severity = policy.severity(id.rule);
            let told = self.told.get(&ToldKey { rule: id.rule, channel: channel.name.clone() });
            let hears = channel.least <= severity && policy.reaches(&channel.name, place, id.rule);
            // Whoever heard of the beginning hears of the end, whatever the fleet says by then.
            if own || !(hears || told.is_some_and(|told| told.open)) {
                continue;
            }
            let incident = incidents.entry(id.rule).or_insert_with(|| {
                let first_after = channel.first_after;
                let (begun, over, lasting) = (Vec::new(), Vec::new(), Vec::new());
                let rule = id.rule;
                Incident { place, rule, severity, told, first_after, change: 0, begun, over, lasting }
            });
            incident.add(id, alert);
        }
        incidents.into_values().filter_map(|incident| Some((incident.due()?, incident))).collect()
    }
}

impl<'a> Incident<'a> {
    fn add(&mut self, id: &'a AlertId, alert: &'a Alert) {
        let Some(raised) = alert.raised else { return };
        let newest = alert.ended.map_or(raised.change, |ended| ended.change.max(raised.change));
        self.change = self.change.max(newest);
        match self.rule.nature() {
            Nature::Occurrence => {
                if self.told.is_none_or(|told| told.change < raised.change) {
                    self.begun.push((id, alert, raised));
                }
            }
            Nature::Condition => {
                let believed = self.told.is_some_and(|told| alert.was_open(told.change));
                match (believed, alert.ended) {
                    (false, None) => self.begun.push((id, alert, raised)),
                    (true, None) => self.lasting.push((id, alert)),
                    (true, Some(ended)) => self.over.push((id, alert, ended)),
                    (false, Some(_)) => {}
                }
            }
        }
    }

    /// Nothing of it is new or over.
    fn is_repeat(&self) -> bool {
        self.begun.is_empty() && self.over.is_empty()
    }

    fn due(&self) -> Option<Due> {
        let first = self.begun.iter().map(|(_, _, raised)| raised.at).min();
        let last = self.over.iter().map(|(_, _, ended)| ended.at).max();
        match (self.told, first, last) {
            (None | Some(Told { open: false, .. }), None, _) => None,
            (None, Some(first), _) => Some(Due::Soon(first.after(self.first_after))),
            (Some(Told { open: false, at, .. }), Some(first), _) => {
                // What happens again and again is told every few minutes.
                let pace = match self.rule.nature() {
                    Nature::Occurrence => at.after(CHANGES_EVERY),
                    Nature::Condition => *at,
                };
                Some(Due::Soon(first.after(self.first_after).max(pace)))
            }
            (Some(_), None, Some(last)) if self.lasting.is_empty() => {
                Some(Due::Soon(last.after(self.first_after)))
            }
            (Some(told), Some(_), _) | (Some(told), None, Some(_)) => {
                Some(Due::Later(told.at.after(CHANGES_EVERY)))
            }
            (Some(told), None, None) => (!self.lasting.is_empty()).then(|| {
                let is_hidden = self.lasting.iter().all(|(_, alert)| alert.hidden.is_some());
                match self.severity {
                    Severity::Critical if !is_hidden => Due::Later(told.at.after(REPEAT_EVERY)),
                    // Listed, since a bundle has to know that it lasts; never due by itself.
                    Severity::Critical | Severity::Warning | Severity::Info => Due::Later(NEVER),
                }
            }),
        }
    }

    fn part(&self) -> Part {
        let change = self.told.map_or(0, |told| told.change).max(self.change);
        let incident = match self.told {
            Some(told) if told.open => told.incident,
            Some(_) | None => change,
        };
        let item = |id: &AlertId, alert: &Alert| Item {
            subject: id.subject.clone(),
            reason: alert.reason.clone(),
            since: alert.since,
            flapping: alert.is_flapping(),
        };
        Part {
            rule: self.rule,
            severity: self.severity,
            place: self.place.clone(),
            incident,
            change,
            begun: self.begun.iter().map(|(id, alert, _)| item(id, alert)).collect(),
            over: self.over.iter().map(|(id, alert, _)| item(id, alert)).collect(),
            lasting: self.lasting.iter().map(|(id, alert)| item(id, alert)).collect(),
        }
    }
}

fn message(channel: &ChannelRules, parts: Vec<Part>, repeats: &BTreeMap<String, Timestamp>) -> Message {
    let known: BTreeSet<String> = repeats.keys().cloned().collect();
    let names: Vec<String> = parts
        .iter()
        .map(|part| {
            let name = part.incident_name();
            let repeat = repeats.get(&name).map(|at| format!("+{}", at.0)).unwrap_or_default();
            format!("{name}@{}{repeat}", part.change)
        })
        .collect();
    let delivery = Digest::of(format!("{} {}", channel.name, names.join(" ")).as_bytes());
    let occasion = occasion(&parts, &known);
    Message {
        channel: channel.name.clone(),
        delivery: delivery.to_string()[..16].to_owned(),
        occasion,
        parts,
    }
}

fn occasion(parts: &[Part], repeats: &BTreeSet<String>) -> Occasion {
    if parts.iter().all(Part::is_over) {
        return Occasion::Over;
    }
    if parts.iter().all(|part| repeats.contains(&part.incident_name())) {
        return Occasion::Repeated;
    }
    let is_first = |part: &Part| !part.begun.is_empty() && part.lasting.is_empty() && part.over.is_empty();
    if parts.iter().any(is_first) { Occasion::Began } else { Occasion::Changed }
}
