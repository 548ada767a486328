//! What happened, as it is stored: with its number, or waiting for it.

use std::collections::BTreeMap;

use fleet::{ids::NodeName, time::Timestamp};
use proto::wire::store as wire;

use super::Record;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// From 1, without gaps except where history was cut.
    pub seq: u64,
    /// When it happened, or when a node's notice of it was received.
    pub at: Timestamp,
    /// When its host says that it happened; `None` for the coordinator's own, and in records of 0.1.
    pub host_at: Option<Timestamp>,
    /// Stable word.
    pub kind: String,
    /// The node it concerns, if one.
    pub node: Option<NodeName>,
    /// One sentence for people.
    pub text: String,
    /// For programs; never secrets.
    pub fields: BTreeMap<String, String>,
    /// Who did it, if somebody did.
    pub actor: String,
}

impl Record for EventRecord {
    type Wire = wire::Event;
    const NAME: &'static str = "an event";

    fn to_wire(&self) -> wire::Event {
        wire::Event {
            seq: self.seq,
            at_ms: self.at.0,
            host_at_ms: self.host_at.map(|at| at.0),
            kind: self.kind.clone(),
            node: self.node.as_ref().map(ToString::to_string).unwrap_or_default(),
            text: self.text.clone(),
            fields: self.fields.clone(),
            actor: self.actor.clone(),
        }
    }

    fn from_wire(wire: wire::Event) -> Result<Self, String> {
        let node = Some(wire.node).filter(|node| !node.is_empty());
        Ok(Self {
            seq: wire.seq,
            at: Timestamp(wire.at_ms),
            host_at: wire.host_at_ms.map(Timestamp),
            kind: wire.kind,
            node: node.map(|node| NodeName::parse(&node)).transpose().map_err(|error| error.to_string())?,
            text: wire.text,
            fields: wire.fields,
            actor: wire.actor,
        })
    }
}

/// Events that were stored together with what they tell of and wait for their numbers; their `seq` is 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UntoldRecord {
    /// In the order of what happened.
    pub events: Vec<EventRecord>,
}

impl Record for UntoldRecord {
    type Wire = wire::Untold;
    const NAME: &'static str = "events without a number";

    fn to_wire(&self) -> wire::Untold {
        wire::Untold { events: self.events.iter().map(Record::to_wire).collect() }
    }

    fn from_wire(wire: wire::Untold) -> Result<Self, String> {
        let events = wire.events.into_iter().map(EventRecord::from_wire).collect::<Result<_, _>>()?;
        Ok(Self { events })
    }
}
