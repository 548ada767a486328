//! `Revisions`: which there are, who made them, and where they came from.

use std::sync::Arc;

use fleet::ids::Revision;
use proto::wire::operator::{self as wire, revisions_server::Revisions};
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    configuration,
    operator::{apply_failed, node_name},
    store_failed,
};
use crate::{
    coordinator::Coordinator,
    store::{
        Key, Range,
        records::{Record as _, RevisionHead, RevisionRecord, Sanction, signature_to_wire},
        revisions,
    },
};

/// Revisions of one reply; a head takes at most some 10 kB.
const MOST: usize = 500;

pub(super) struct Shelf {
    coordinator: Arc<Coordinator>,
}

impl Shelf {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    async fn one(&self, number: Revision) -> Result<wire::Revision, Status> {
        let found = revisions::read(&*self.coordinator.store, number).await;
        let found = found.map_err(|error| store_failed(&error))?;
        let found = found.ok_or_else(|| {
            Status::not_found(format!(
                "revision {number} is not kept; `convoy revision list` shows those that are"
            ))
        })?;
        let changed =
            self.coordinator.changed_by(&found).await.map_err(|error| apply_failed(&error.into()))?;
        Ok(wire::Revision {
            changed: changed.trim_start_matches(", and ").to_owned(),
            left_out: found.left_out.iter().map(ToString::to_string).collect(),
            signature: found.signed.as_ref().map(signature_to_wire),
            ..shown(&found)
        })
    }
}

#[tonic::async_trait]
impl Revisions for Shelf {
    async fn configuration(
        &self,
        request: Request<wire::ConfigurationRequest>,
    ) -> Result<Response<wire::ConfigurationReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let nodes = &request.get_ref().nodes;
        if configuration::NODES_MAX < nodes.len() {
            let most = configuration::NODES_MAX;
            return Err(Status::invalid_argument(format!("at most {most} nodes can be asked for")));
        }
        let nodes = nodes.iter().map(|node| node_name(node)).collect::<Result<Vec<_>, _>>()?;
        let reply = configuration::configuration(&self.coordinator, &nodes).await;
        reply.map(Response::new).map_err(|error| apply_failed(&error))
    }

    async fn list(
        &self,
        request: Request<wire::ListRevisionsRequest>,
    ) -> Result<Response<wire::ListRevisionsReply>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let request = request.into_inner();
        if request.revision != 0 {
            let revision = self.one(Revision(request.revision)).await?;
            return Ok(Response::new(wire::ListRevisionsReply { revisions: vec![revision] }));
        }
        let most = match request.most as usize {
            0 => MOST,
            most => most.min(MOST),
        };
        let entries = self.coordinator.store.range(Range::last(Key::REVISIONS, most)).await;
        let entries = entries.map_err(|error| store_failed(&error))?;
        let heads = entries.iter().map(|entry| RevisionHead::read(entry).map(|head| shown(head.told())));
        let revisions = heads.collect::<Result<_, _>>().map_err(|error| store_failed(&error))?;
        Ok(Response::new(wire::ListRevisionsReply { revisions }))
    }
}

fn shown(revision: &RevisionRecord) -> wire::Revision {
    let (approved_by, proposal, broke_glass) = match &revision.sanction {
        Sanction::None => (String::new(), 0, String::new()),
        Sanction::Approved { by, proposal } => (by.to_string(), proposal.0, String::new()),
        Sanction::BrokeGlass { reason } => (String::new(), 0, reason.clone()),
    };
    wire::Revision {
        number: revision.number.0,
        parent: revision.parent.0,
        author: revision.author.clone(),
        message: revision.message.clone(),
        created_ms: revision.created.0,
        rolls_back_to: revision.rolls_back_to.map_or(0, |to| to.0),
        origin: revision.origin.as_ref().map(Into::into),
        approved_by,
        proposal,
        broke_glass,
        // Of a list without what it takes to verify it: that is up to 20 KiB.
        signature: revision
            .signed
            .as_ref()
            .map(|signed| wire::Signature { key: signed.key.to_string(), ..wire::Signature::default() }),
        ..wire::Revision::default()
    }
}
