//! Silences: alerts that operators do not want to hear of for a while. The alerts themselves go on.

use std::fmt;

use super::{
    rule::Rule,
    subject::{AlertId, Place},
};
use crate::{
    ids::{GroupName, NodeName},
    time::Timestamp,
};

/// Whose alerts a silence covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// All of them.
    Fleet,
    /// Those of one group's nodes.
    Group(GroupName),
    /// Those of one node.
    Node(NodeName),
}

/// A silence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Its number.
    pub id: u64,
    /// Whose alerts.
    pub reach: Reach,
    /// Only alerts of this rule; `None`: of every rule.
    pub rule: Option<Rule>,
    /// From when.
    pub from: Timestamp,
    /// It has no effect from then on.
    pub until: Timestamp,
    /// Why, in the operator's words.
    pub reason: String,
    /// Who made it.
    pub by: String,
}

impl Reach {
    /// The one node, if it is one.
    pub fn node(&self) -> Option<&NodeName> {
        match self {
            Reach::Node(node) => Some(node),
            Reach::Fleet | Reach::Group(_) => None,
        }
    }

    /// The one group, if it is one.
    pub fn group(&self) -> Option<&GroupName> {
        match self {
            Reach::Group(group) => Some(group),
            Reach::Fleet | Reach::Node(_) => None,
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::Fleet => f.pad("the whole fleet"),
            Reach::Group(group) => write!(f, "group {group}"),
            Reach::Node(node) => f.pad(node.as_str()),
        }
    }
}

impl Silence {
    /// Whether it covers an alert at `now`.
    pub fn covers(&self, id: &AlertId, place: &Place, now: Timestamp) -> bool {
        let reaches = match &self.reach {
            Reach::Fleet => true,
            Reach::Group(group) => matches!(place, Place::Group(of) if of == group),
            Reach::Node(node) => id.subject.node() == Some(node),
        };
        reaches && self.rule.is_none_or(|rule| rule == id.rule) && now < self.until
    }
}
