//! Who did what, and how far that goes.

use fleet::audit::{Entry, Head, Link, checkpoint::Signed};
use proto::{
    convert::audit::{entry_from_wire, entry_to_wire, head_from_wire},
    wire::operator as wire,
};

use super::Record;

/// One act and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// The act.
    pub entry: Entry,
    /// Covers it and all before it.
    pub link: Link,
}

impl Record for AuditRecord {
    type Wire = wire::AuditEntry;
    const NAME: &'static str = "an audit entry";

    fn to_wire(&self) -> wire::AuditEntry {
        entry_to_wire(&self.entry, &self.link)
    }

    fn from_wire(wire: wire::AuditEntry) -> Result<Self, String> {
        let (entry, link) = entry_from_wire(wire).map_err(|error| error.to_string())?;
        Ok(Self { entry, link })
    }
}

/// The last act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditHeadRecord(pub Head);

impl Record for AuditHeadRecord {
    type Wire = wire::AuditHead;
    const NAME: &'static str = "the head of the audit record";

    fn to_wire(&self) -> wire::AuditHead {
        wire::AuditHead { seq: self.0.seq, link: self.0.link.0.to_vec(), ..wire::AuditHead::default() }
    }

    fn from_wire(wire: wire::AuditHead) -> Result<Self, String> {
        head_from_wire(&wire).map(Self).map_err(|error| error.to_string())
    }
}

/// Where the entries ended that were removed for their age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRemovedRecord(pub Signed);

impl Record for AuditRemovedRecord {
    type Wire = wire::AuditRemoved;
    const NAME: &'static str = "where the audit record begins";

    fn to_wire(&self) -> wire::AuditRemoved {
        wire::AuditRemoved { checkpoint: self.0.to_string() }
    }

    fn from_wire(wire: wire::AuditRemoved) -> Result<Self, String> {
        Signed::parse(&wire.checkpoint).map(Self).ok_or_else(|| "its checkpoint is none".to_owned())
    }
}
