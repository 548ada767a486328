//! What one look at the fleet found.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    rule::Source,
    subject::{AlertId, Place},
};
use crate::{ids::NodeName, time::Timestamp};

/// Something is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Where it is kept and reported.
    pub place: Place,
    /// One sentence for people; never a secret.
    pub reason: String,
}

/// How much is not known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Blindness {
    /// Nothing that its agent would report.
    Report,
    /// Not even whether its agent is there: the coordinator has not been up for long enough.
    Everything,
}

/// What an operator or a rollout does to a node explains its trouble for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// After that, trouble is trouble.
    pub until: Timestamp,
    /// What is being done.
    pub why: String,
}

/// Everything that one look found. What is not listed is in order, unless it is not known.
#[derive(Debug, Clone, Default)]
pub struct Looks {
    held: BTreeMap<AlertId, Held>,
    happened: Vec<(AlertId, Held)>,
    blind: BTreeMap<NodeName, Blindness>,
    unknown: BTreeSet<AlertId>,
    expected: BTreeMap<NodeName, Expected>,
}

/// What is known of one alert's cause.
pub(super) enum Look<'a> {
    Holds(&'a Held),
    Clear,
    Unknown,
}

impl Looks {
    /// Something is wrong.
    pub fn hold(&mut self, id: AlertId, held: Held) {
        self.held.insert(id, held);
    }

    /// Something happened since the last look. To be passed exactly once.
    pub fn happen(&mut self, id: AlertId, held: Held) {
        self.happened.push((id, held));
    }

    /// Nobody can tell whether something is wrong.
    pub fn unknown(&mut self, id: AlertId) {
        self.unknown.insert(id);
    }

    /// Nobody can tell much of a node.
    pub fn blind(&mut self, node: NodeName, blindness: Blindness) {
        self.blind.insert(node, blindness);
    }

    /// Trouble of a node is explained for a while.
    pub fn expect(&mut self, node: NodeName, expected: Expected) {
        self.expected.insert(node, expected);
    }

    pub(super) fn of(&self, id: &AlertId) -> Look<'_> {
        if let Some(held) = self.held.get(id) {
            return Look::Holds(held);
        }
        let blindness = id.subject.node().and_then(|node| self.blind.get(node));
        let is_unknown = match (id.rule.source(), blindness) {
            (Source::Coordinator, _) | (_, None) => false,
            (Source::Report, Some(Blindness::Report | Blindness::Everything)) => true,
            (Source::Session, Some(blindness)) => *blindness == Blindness::Everything,
        };
        if is_unknown || self.unknown.contains(id) { Look::Unknown } else { Look::Clear }
    }

    pub(super) fn held(&self) -> impl Iterator<Item = (&AlertId, &Held)> {
        self.held.iter()
    }

    pub(super) fn happened(&self) -> &[(AlertId, Held)] {
        &self.happened
    }

    /// What explains trouble of this alert at `now`.
    pub(super) fn explanation(&self, id: &AlertId, now: Timestamp) -> Option<&Expected> {
        let expected = self.expected.get(id.subject.node()?)?;
        (id.rule.is_expected_of_own_acts() && now < expected.until).then_some(expected)
    }
}
