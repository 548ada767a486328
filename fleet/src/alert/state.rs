//! Alerts from their first sign to their end, and who was told of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    look::{Held, Look, Looks},
    policy::AlertPolicy,
    rule::{Nature, Rule},
    silence::Silence,
    subject::{AlertId, Place},
};
use crate::{ids::ChannelName, time::Timestamp};

/// So many firings within [`FLAP_WINDOW`] are one alert that flaps.
pub(super) const FLAP_FIRINGS: usize = 3;
/// See [`FLAP_FIRINGS`].
pub(super) const FLAP_WINDOW: Duration = Duration::from_secs(3600);
/// An alert that flapped is over once it was over for so long.
pub(super) const SETTLE_TIME: Duration = Duration::from_secs(900);
/// What happens again within this time to one subject is no news of its own.
const AGAIN_TIME: Duration = Duration::from_secs(30);
/// So long for channels that have not been told what happened.
const HAPPENED_TIME: Duration = Duration::from_secs(6 * 3600);
/// Nobody is told of what has been over for longer.
const FORGET_TIME: Duration = Duration::from_secs(24 * 3600);
/// Alerts of one place; more are not taken up while these last. With them a place still fits one stored value.
pub const PLACE_ALERTS_MAX: usize = 2_500;
/// Of a reason, characters.
pub const REASON_MAX: usize = 160;

/// When something happened to an alert: by the clock, for people, and by the count of its place, which no clock can
/// turn back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Number of the change in its place.
    pub change: u64,
    /// By the coordinator's clock.
    pub at: Timestamp,
}

/// An earlier time for which an alert was raised, in changes of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// It was raised with this one.
    pub raised: u64,
    /// It ended with this one.
    pub ended: u64,
}

impl Span {
    const fn holds(self, change: u64) -> bool {
        self.raised <= change && change < self.ended
    }
}

/// One alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// For people.
    pub reason: String,
    /// Since when its cause has lasted.
    pub since: Timestamp,
    /// What its cause does now.
    pub watch: Watch,
    /// When it was last raised: it counted, and nothing hid it. Channels are told of raised alerts only.
    pub raised: Option<Mark>,
    /// When it ended after it had been raised.
    pub ended: Option<Mark>,
    /// Earlier times for which it was raised, as far as a channel was last told of it within one of them.
    pub past: Vec<Span>,
    /// Its firings of the last hour, at most three.
    pub firings: Vec<Timestamp>,
    /// Why it is not reported, if something hides it now.
    pub hidden: Option<Hidden>,
}

/// What the cause of an alert does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Nothing.
    Quiet,
    /// It lasts, but not for long enough.
    Pending {
        /// Since when it has been over, if it is: what comes and goes faster than its rule waits counts as well.
        over: Option<Timestamp>,
    },
    /// It counts.
    Firing(Firing),
}

/// An alert that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing {
    /// Since when its cause has been over, if it is: not for long enough yet.
    pub over: Option<Timestamp>,
    /// It began and ended too often, and counts until it is quiet.
    pub flapping: bool,
    /// It was raised since it began to count.
    pub shown: bool,
}

/// Why an alert is not reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hidden {
    /// Another alert explains it.
    By(AlertId),
    /// Somebody is doing something that explains it.
    Expected {
        /// What.
        why: String,
        /// Until then.
        until: Timestamp,
    },
    /// An operator does not want to hear of it.
    Silenced {
        /// By which silence.
        silence: u64,
        /// Until then.
        until: Timestamp,
    },
}

/// What a channel was last told about one rule in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Everything up to this change.
    pub change: u64,
    /// When.
    pub at: Timestamp,
    /// It was told of alerts that it has not been told the end of.
    pub open: bool,
    /// The change that the first message was about: this names the incident.
    pub incident: u64,
    /// The delivery that reported it together with others, if one did. They also end together.
    pub bundle: Option<String>,
}

/// Whom, and about what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToldKey {
    /// About what.
    pub rule: Rule,
    /// Whom.
    pub channel: ChannelName,
}

/// The alerts of one place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlaceAlerts {
    /// Counts changes.
    pub change: u64,
    /// The alerts.
    pub alerts: BTreeMap<AlertId, Alert>,
    /// What channels were told.
    pub told: BTreeMap<ToldKey, Told>,
}

/// All alerts of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Alerts {
    /// By where they are kept.
    pub places: BTreeMap<Place, PlaceAlerts>,
    /// What the fleet says of its alerts. Not stored with them: it is of the newest revision.
    pub policy: AlertPolicy,
}

/// Something that changed, for the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What.
    pub kind: ChangeKind,
    /// Of which alert.
    pub id: AlertId,
    /// Where.
    pub place: Place,
    /// Its words.
    pub reason: String,
}

/// What an alert did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// It was raised.
    Raised,
    /// It is over.
    Ended,
}

impl Alert {
    fn new(held: &Held, now: Timestamp) -> Self {
        Self {
            reason: bounded(&held.reason),
            since: now,
            watch: Watch::Pending { over: None },
            raised: None,
            ended: None,
            past: Vec::new(),
            firings: Vec::new(),
            hidden: None,
        }
    }

    /// It was raised and has not ended.
    pub fn is_open(&self) -> bool {
        self.raised.is_some() && self.ended.is_none()
    }

    /// Whether it was open after that change: what a channel believes that was last told then.
    pub(super) fn was_open(&self, change: u64) -> bool {
        let ended = self.ended.map_or(u64::MAX, |ended| ended.change);
        let newest = self.raised.map(|raised| Span { raised: raised.change, ended });
        newest.iter().chain(&self.past).any(|span| span.holds(change))
    }

    /// Makes it what can be known of it after a restart: whether its cause lasts is for the next look to say.
    pub fn as_stored(&mut self) {
        let flapping = self.is_flapping();
        self.hidden = None;
        self.watch = if self.is_open() {
            Watch::Firing(Firing { over: None, flapping, shown: true })
        } else {
            Watch::Quiet
        };
    }

    /// It begins and ends too often.
    pub fn is_flapping(&self) -> bool {
        matches!(self.watch, Watch::Firing(Firing { flapping: true, .. }))
    }

    fn holds(&mut self, (rule, hold): (Rule, Duration), reason: &str, now: Timestamp) {
        self.reason = bounded(reason);
        match &mut self.watch {
            Watch::Quiet => (self.watch, self.since) = (Watch::Pending { over: None }, now),
            Watch::Pending { over } => *over = None,
            Watch::Firing(firing) => firing.over = None,
        }
        let is_pending = matches!(self.watch, Watch::Pending { .. });
        if is_pending && hold <= now.since(self.since) {
            self.firings.retain(|at| now.since(*at) < FLAP_WINDOW);
            self.firings.push(now);
            let surplus = self.firings.len().saturating_sub(FLAP_FIRINGS);
            self.firings.drain(..surplus);
            let flapping = rule.nature() == Nature::Condition && FLAP_FIRINGS <= self.firings.len();
            self.watch = Watch::Firing(Firing { over: None, flapping, shown: false });
        }
    }

    /// Answers whether an alert that had been raised has ended.
    fn is_clear(&mut self, (rule, hold): (Rule, Duration), now: Timestamp) -> bool {
        match &mut self.watch {
            Watch::Quiet => false,
            Watch::Pending { over } => {
                if hold <= now.since(*over.get_or_insert(now)) {
                    self.watch = Watch::Quiet;
                }
                false
            }
            Watch::Firing(firing) => {
                let keep = if firing.flapping { SETTLE_TIME } else { rule.keep() };
                if now.since(*firing.over.get_or_insert(now)) < keep {
                    return false;
                }
                let shown = firing.shown;
                self.watch = Watch::Quiet;
                shown
            }
        }
    }

    /// Times that a clock was set back behind count from now on.
    fn not_after(&mut self, now: Timestamp) {
        let mut clamp = |at: &mut Timestamp| *at = (*at).min(now);
        clamp(&mut self.since);
        self.firings.iter_mut().for_each(&mut clamp);
        self.raised.iter_mut().chain(&mut self.ended).for_each(|mark| clamp(&mut mark.at));
        match &mut self.watch {
            Watch::Firing(Firing { over: Some(over), .. }) | Watch::Pending { over: Some(over) } => {
                clamp(over);
            }
            Watch::Firing(Firing { over: None, .. }) | Watch::Pending { over: None } | Watch::Quiet => {}
        }
    }
}

fn bounded(reason: &str) -> String {
    match reason.char_indices().nth(REASON_MAX) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}

/// What a look changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Looked {
    /// For the event log.
    pub changes: Vec<Change>,
    /// Places whose record is not what it was.
    pub places: BTreeSet<Place>,
    /// Look again then, if nothing happens before.
    pub next: Option<Timestamp>,
}

impl Alerts {
    /// Takes what a look found.
    pub fn look(&mut self, now: Timestamp, looks: &Looks, silences: &[Silence]) -> Looked {
        let mut looked = Looked::default();
        self.take_up(looks, now);
        for (place, kept) in &mut self.places {
            if kept.observe(now, (looks, &self.policy), place, &mut looked) {
                looked.places.insert(place.clone());
            }
        }
        for (id, held) in looks.happened() {
            self.happened(id, held, now, &mut looked);
        }
        self.hide(now, looks, silences);
        for (place, kept) in &mut self.places {
            if kept.raise(now, looks, place, &mut looked) | kept.forget(now) {
                looked.places.insert(place.clone());
            }
        }
        let deadlines = self.places.values().flat_map(|kept| kept.alerts.iter());
        let policy = &self.policy;
        let due = |(id, alert): (&AlertId, &Alert)| deadline((id.rule, policy.hold(id.rule)), alert);
        looked.next = deadlines.filter_map(due).min();
        looked
    }

    /// Every alert, with its place.
    pub fn all(&self) -> impl Iterator<Item = (&Place, &AlertId, &Alert)> {
        self.places
            .iter()
            .flat_map(|(place, kept)| kept.alerts.iter().map(move |(id, alert)| (place, id, alert)))
    }

    fn take_up(&mut self, looks: &Looks, now: Timestamp) {
        for (id, held) in looks.held() {
            // An alert stays where it began, also if its node changes its group.
            let kept = self.places.entry(held.place.clone()).or_default();
            if kept.alerts.contains_key(id) || self.places.values().any(|kept| kept.alerts.contains_key(id)) {
                continue;
            }
            let kept = self.places.entry(held.place.clone()).or_default();
            if kept.alerts.len() < PLACE_ALERTS_MAX {
                kept.alerts.insert(id.clone(), Alert::new(held, now));
            }
        }
    }

    fn happened(&mut self, id: &AlertId, held: &Held, now: Timestamp, looked: &mut Looked) {
        let kept = self.places.entry(held.place.clone()).or_default();
        if PLACE_ALERTS_MAX <= kept.alerts.len() && !kept.alerts.contains_key(id) {
            return;
        }
        let alert = kept.alerts.entry(id.clone()).or_insert_with(|| Alert::new(held, now));
        alert.reason = bounded(&held.reason);
        let again = alert.raised.is_some_and(|raised| now.since(raised.at) < AGAIN_TIME);
        if !again {
            alert.since = now;
        }
        alert.watch = Watch::Firing(Firing { over: None, flapping: false, shown: again });
        looked.places.insert(held.place.clone());
    }

    /// Decided for all alerts of one look together, so that no message depends on the order of what was found.
    fn hide(&mut self, now: Timestamp, looks: &Looks, silences: &[Silence]) {
        let lasting = |alert: &Alert| alert.watch != Watch::Quiet;
        let mut explaining: BTreeMap<Rule, Vec<AlertId>> = BTreeMap::new();
        for (_, id, alert) in self.all() {
            if lasting(alert) && Rule::ALL.iter().any(|rule| rule.hidden_by().contains(&id.rule)) {
                explaining.entry(id.rule).or_default().push(id.clone());
            }
        }
        let by_subject = Explanations::new(explaining);
        for (place, kept) in &mut self.places {
            for (id, alert) in &mut kept.alerts {
                let silence = silences.iter().filter(|silence| silence.covers(id, place, now));
                let expected = looks.explanation(id, now);
                alert.hidden = if let Some(hider) = by_subject.of(id) {
                    Some(Hidden::By(hider.clone()))
                } else if let Some(expected) = expected {
                    Some(Hidden::Expected { why: expected.why.clone(), until: expected.until })
                } else {
                    let silence = silence.max_by_key(|silence| silence.until);
                    silence.map(|silence| Hidden::Silenced { silence: silence.id, until: silence.until })
                };
            }
        }
    }
}

/// The alerts that may explain others, found by node and by rollout.
struct Explanations {
    by_node: BTreeMap<String, Vec<AlertId>>,
    by_rollout: BTreeMap<u64, Vec<AlertId>>,
}

impl Explanations {
    fn new(explaining: BTreeMap<Rule, Vec<AlertId>>) -> Self {
        let mut found = Self { by_node: BTreeMap::new(), by_rollout: BTreeMap::new() };
        for id in explaining.into_values().flatten() {
            if let Some(node) = id.subject.node() {
                found.by_node.entry(node.to_string()).or_default().push(id.clone());
            }
            if let Some(rollout) = id.subject.rollout() {
                found.by_rollout.entry(rollout.0).or_default().push(id);
            }
        }
        found
    }

    fn of(&self, id: &AlertId) -> Option<&AlertId> {
        let rules = id.rule.hidden_by();
        if rules.is_empty() {
            return None;
        }
        let by_node = id.subject.node().and_then(|node| self.by_node.get(node.as_str()));
        let by_rollout = id.subject.rollout().and_then(|rollout| self.by_rollout.get(&rollout.0));
        let mut known = by_node.into_iter().chain(by_rollout).flatten();
        known.find(|hider| rules.contains(&hider.rule) && hider.subject.explains(&id.subject))
    }
}

impl PlaceAlerts {
    /// Whether something that is stored has changed.
    fn observe(
        &mut self,
        now: Timestamp,
        (looks, policy): (&Looks, &AlertPolicy),
        place: &Place,
        looked: &mut Looked,
    ) -> bool {
        let change = self.change + 1;
        let mut changed = false;
        for (id, alert) in &mut self.alerts {
            alert.not_after(now);
            let timing = (id.rule, policy.hold(id.rule));
            match looks.of(id) {
                Look::Holds(held) => alert.holds(timing, &held.reason, now),
                Look::Unknown => {}
                Look::Clear => {
                    if alert.is_clear(timing, now) {
                        alert.ended = Some(Mark { change, at: now });
                        changed = true;
                        if id.rule.nature() == Nature::Condition {
                            looked.changes.push(alert.change(ChangeKind::Ended, id, place));
                        }
                    }
                }
            }
        }
        for told in self.told.values_mut() {
            told.at = told.at.min(now);
        }
        if changed {
            self.change = change;
        }
        changed
    }

    fn raise(&mut self, now: Timestamp, looks: &Looks, place: &Place, looked: &mut Looked) -> bool {
        let change = self.change + 1;
        let mut changed = false;
        for (id, alert) in &mut self.alerts {
            let Watch::Firing(firing) = &mut alert.watch else { continue };
            // What hid it may be out of sight as well: nobody can tell whether it still lasts, or whether it is expected.
            let is_unknown = matches!(looks.of(id), Look::Unknown);
            if firing.shown || firing.over.is_some() || alert.hidden.is_some() || is_unknown {
                continue;
            }
            firing.shown = true;
            if let (Some(raised), Some(ended)) = (alert.raised, alert.ended) {
                alert.past.push(Span { raised: raised.change, ended: ended.change });
            }
            (alert.raised, alert.ended) = (Some(Mark { change, at: now }), None);
            changed = true;
            looked.changes.push(alert.change(ChangeKind::Raised, id, place));
        }
        if changed {
            self.change = change;
        }
        changed
    }

    /// Drops what is over and of use to nobody; whether something that is stored was dropped.
    fn forget(&mut self, now: Timestamp) -> bool {
        let told = &self.told;
        let before = self.alerts.len();
        let mut stored = false;
        self.alerts.retain(|id, alert| {
            let believed =
                |span: &Span| told.iter().any(|(key, told)| key.rule == id.rule && span.holds(told.change));
            alert.past.retain(believed);
            let keep = alert.watch != Watch::Quiet || is_of_use(id, alert, told, now);
            stored |= !keep && alert.raised.is_some();
            keep
        });
        stored && self.alerts.len() < before
    }
}

/// Whether a channel is still to hear of the end, or it may turn out to flap.
fn is_of_use(id: &AlertId, alert: &Alert, told: &BTreeMap<ToldKey, Told>, now: Timestamp) -> bool {
    let (Some(_), Some(ended)) = (alert.raised, alert.ended) else { return alert.raised.is_some() };
    if FORGET_TIME <= now.since(ended.at) {
        return false;
    }
    if id.rule.nature() == Nature::Occurrence {
        return now.since(ended.at) < HAPPENED_TIME;
    }
    let recent = alert.firings.iter().any(|at| now.since(*at) < FLAP_WINDOW);
    let believed = |(key, told): (&ToldKey, &Told)| key.rule == id.rule && alert.was_open(told.change);
    recent || told.iter().any(believed)
}

impl Alert {
    fn change(&self, kind: ChangeKind, id: &AlertId, place: &Place) -> Change {
        Change { kind, id: id.clone(), place: place.clone(), reason: self.reason.clone() }
    }
}

/// When time alone changes an alert.
fn deadline((rule, hold): (Rule, Duration), alert: &Alert) -> Option<Timestamp> {
    let hidden = match &alert.hidden {
        Some(Hidden::Expected { until, .. } | Hidden::Silenced { until, .. }) => Some(*until),
        Some(Hidden::By(_)) | None => None,
    };
    let own = match alert.watch {
        Watch::Quiet => None,
        Watch::Pending { over: None } => Some(alert.since.after(hold)),
        Watch::Pending { over: Some(over) } => Some(over.after(hold)),
        Watch::Firing(firing) => {
            firing.over.map(|over| over.after(if firing.flapping { SETTLE_TIME } else { rule.keep() }))
        }
    };
    own.into_iter().chain(hidden).min()
}
