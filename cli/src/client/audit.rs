//! Who did what, and how far the record of it goes.

use std::sync::{Arc, Mutex, PoisonError};

use fleet::{
    audit::{Entry, Head, Link, checkpoint::Signed},
    ids::FleetEpoch,
};
use futures::StreamExt as _;
use proto::{
    convert::audit::{entry_from_wire, head_from_wire},
    wire::operator as wire,
};
use tonic::metadata::MetadataMap;

use super::{Client, Updates, failure, timed};
use crate::exit::Failure;

/// In every answer of a coordinator: how far its record goes.
const HEAD: &str = "convoy-audit-head";

/// The farthest that answers of this connection went.
#[derive(Clone, Default)]
pub struct Heard(Arc<Mutex<Option<Head>>>);

impl Heard {
    /// Takes note of an answer.
    pub(super) fn note(&self, metadata: &MetadataMap) {
        let text = metadata.get(HEAD).and_then(|value| value.to_str().ok());
        let Some((seq, link)) = text.and_then(|text| text.split_once(' ')) else { return };
        let (Ok(seq), Some(link)) = (seq.parse(), Link::from_hex(link)) else { return };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none_or(|known| known.seq < seq) {
            *known = Some(Head { seq, link });
        }
    }

    /// The farthest; `None` if the coordinator is too old to tell.
    pub fn farthest(&self) -> Option<Head> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which entries are wanted.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// Only the newest of them; 0: all.
    pub most: u32,
    pub since: Option<i64>,
    pub until: Option<i64>,
    pub actor: Option<String>,
    pub act: Option<String>,
    pub node: Option<String>,
}

/// How far the record goes.
pub struct Extent {
    pub head: Head,
    /// Of the store.
    pub epoch: FleetEpoch,
    /// The same, signed; `None`: the coordinator is too old.
    pub checkpoint: Option<Signed>,
    /// Where what was removed for its age ended.
    pub removed: Option<Signed>,
}

/// An entry and its hash.
pub struct Linked {
    pub entry: Entry,
    pub link: Link,
}

impl Client {
    /// Entries in their order.
    pub async fn audit(&mut self, query: AuditQuery) -> Result<Updates<Linked>, Failure> {
        let request = wire::ListAuditRequest {
            after: 0,
            most: query.most,
            since_ms: query.since,
            until_ms: query.until,
            actor: query.actor.unwrap_or_default(),
            act: query.act.unwrap_or_default(),
            node: query.node.unwrap_or_default(),
        };
        let reply = self.audit.list(request).await;
        let address = self.address.clone();
        let entries = self.answer("audit", reply)?;
        Ok(Box::pin(entries.map(move |entry| {
            let entry = entry.map_err(|status| failure("audit", &address, status))?;
            let (entry, link) = entry_from_wire(entry).map_err(|error| {
                Failure::failed(
                    "an entry of the audit record cannot be read",
                    "it was changed, or is of a newer version",
                )
                .because(error)
            })?;
            Ok(Linked { entry, link })
        })))
    }

    /// How far the record goes, and in which store.
    pub async fn audit_extent(&mut self) -> Result<Extent, Failure> {
        let reply = self.audit.head(timed(wire::AuditHeadRequest {})).await;
        let reply = self.answer("audit", reply)?;
        let unreadable = || {
            Failure::failed(
                "the head of the audit record cannot be read",
                "the coordinator is of another version than this command; upgrade the older one",
            )
        };
        let head = head_from_wire(&reply).map_err(|error| unreadable().because(error))?;
        let epoch = reply.fleet_epoch.as_slice().try_into().map_err(|_| unreadable())?;
        let signed = |word: &str| match word {
            "" => Ok(None),
            word => Signed::parse(word).map(Some).ok_or_else(unreadable),
        };
        Ok(Extent {
            head,
            epoch: FleetEpoch(epoch),
            checkpoint: signed(&reply.checkpoint)?,
            removed: signed(&reply.removed)?,
        })
    }
}
