//! `Operator.AdmitNode`: signs the request of a host that joins without a token.

use std::sync::Arc;

use fleet::{access::Action, ids::NodeName};
use proto::wire::operator as wire;
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    enrolment::refused,
    operator::node_name,
    store_failed,
};
use crate::{
    access::targets_of_node,
    coordinator::Coordinator,
    enrolment::admission::{AdmissionError, HostRequest, Place},
};

pub(super) async fn admit(
    coordinator: &Arc<Coordinator>,
    request: Request<wire::AdmitNodeRequest>,
) -> Result<Response<wire::AdmitNodeReply>, Status> {
    let caller = caller(coordinator, peer_of(&request)).await?;
    let asked = request.into_inner();
    let said = if asked.node.is_empty() { None } else { Some(node_name(&asked.node)?) };
    let host = HostRequest::parse(&asked.csr_pem).map_err(|error| not_admitted(&error))?;
    let node = host.node(said).map_err(|error| not_admitted(&error))?;
    let snapshot = coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
    let permit = caller.permit(Action::AdmitNode, &targets_of_node(&snapshot, &node)).await?;
    let place = coordinator.place_of(&snapshot, &node).map_err(|error| not_admitted(&error))?;
    let replaces = match place {
        Place::Free => String::new(),
        Place::Taken(why) if asked.replace => why,
        Place::Taken(why) => {
            let refused = AdmissionError::Joined { why };
            if !asked.look_only {
                coordinator.record_refusal(&permit, Some(&node), &refused.to_string()).await;
            }
            return Err(not_admitted(&refused));
        }
    };
    let looked = answer(coordinator, &node, &host, replaces);
    if asked.look_only {
        return Ok(Response::new(looked));
    }
    let issued = coordinator.admit(&node, &host, asked.replace, &permit).await;
    let issued = issued.map_err(|error| not_admitted(&error))?;
    Ok(Response::new(wire::AdmitNodeReply {
        certificate_pem: issued.pem,
        expires_ms: issued.not_after.0,
        ..looked
    }))
}

/// Everything but a certificate.
fn answer(
    coordinator: &Coordinator,
    node: &NodeName,
    host: &HostRequest,
    replaces: String,
) -> wire::AdmitNodeReply {
    wire::AdmitNodeReply {
        node: node.to_string(),
        key_sha256: host.key.0.to_vec(),
        authority_pem: coordinator.authority.pem(),
        fleet: coordinator.fleet.to_string(),
        address: coordinator.address.clone(),
        replaces,
        ..wire::AdmitNodeReply::default()
    }
}

fn not_admitted(error: &AdmissionError) -> Status {
    match error {
        AdmissionError::TooLong
        | AdmissionError::Nameless
        | AdmissionError::BadName { .. }
        | AdmissionError::OtherName { .. } => Status::invalid_argument(super::chain(error)),
        AdmissionError::NotDeclared { .. } | AdmissionError::Joined { .. } => {
            Status::failed_precondition(error.to_string())
        }
        AdmissionError::Enrol(source) => refused(source),
    }
}
