//! Entries of the audit record, in the store and on the wire alike.

use fleet::{
    audit::{Act, Entry, Head, Link, Outcome},
    ids::NodeName,
    time::Timestamp,
};

use super::{ConvertError, invalid};
use crate::wire::operator as wire;

/// An entry and its hash.
pub fn entry_to_wire(entry: &Entry, link: &Link) -> wire::AuditEntry {
    wire::AuditEntry {
        seq: entry.seq,
        at_ms: entry.at.0,
        actor: entry.actor.clone(),
        certificate_serial: entry.serial.clone(),
        act: entry.act.as_str().to_owned(),
        node: entry.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        text: entry.text.clone(),
        outcome: entry.outcome.as_str().to_owned(),
        order: entry.outcome.order().unwrap_or(0),
        why: entry.outcome.why().unwrap_or_default().to_owned(),
        link: link.0.to_vec(),
        from: entry.from.map(|from| from.to_string()).unwrap_or_default(),
    }
}

/// The same read back.
///
/// # Errors
/// It was changed, or a newer version wrote it.
pub fn entry_from_wire(wire: wire::AuditEntry) -> Result<(Entry, Link), ConvertError> {
    const NAME: &str = "AuditEntry";
    let act = Act::parse(&wire.act).ok_or_else(|| invalid(NAME, "act", wire.act.clone()))?;
    let outcome = Outcome::parse(&wire.outcome, wire.order, &wire.why);
    let outcome = outcome.ok_or_else(|| invalid(NAME, "outcome", wire.outcome.clone()))?;
    let node = match wire.node.as_str() {
        "" => None,
        node => Some(NodeName::parse(node).map_err(|error| invalid(NAME, "node", error.to_string()))?),
    };
    let from = match wire.from.as_str() {
        "" => None,
        from => Some(from.parse().map_err(|_| invalid(NAME, "from", from))?),
    };
    let link = Link::from_slice(&wire.link).ok_or_else(|| invalid(NAME, "link", "not 32 bytes"))?;
    let entry = Entry {
        seq: wire.seq,
        at: Timestamp(wire.at_ms),
        actor: wire.actor,
        serial: wire.certificate_serial,
        from,
        act,
        node,
        text: wire.text,
        outcome,
    };
    Ok((entry, link))
}

/// A place in the chain, read.
///
/// # Errors
/// Its hash is none.
pub fn head_from_wire(wire: &wire::AuditHead) -> Result<Head, ConvertError> {
    let link = Link::from_slice(&wire.link).ok_or_else(|| invalid("AuditHead", "link", "not 32 bytes"))?;
    Ok(Head { seq: wire.seq, link })
}
