//! `Operator.CreateTokens`: join tokens for those nodes of a fleet directory that have no certificate.

use std::{collections::BTreeSet, sync::Arc};

use fleet::{
    access::{Action, Targets},
    ids::NodeName,
};
use proto::wire::operator as wire;
use tonic::{Request, Response, Status};

use super::{
    caller::{caller, peer_of},
    enrolment::refused,
    operator::node_name,
    operators::validity,
    store_failed,
};
use crate::{access::targets_of_node, coordinator::Coordinator, enrolment::tokens::missing};

/// Nodes of one call; whoever has more calls again.
const NODES_MAX: usize = 500;

pub(super) async fn create(
    coordinator: &Arc<Coordinator>,
    request: Request<wire::CreateTokensRequest>,
) -> Result<Response<wire::CreateTokensReply>, Status> {
    let caller = caller(coordinator, peer_of(&request)).await?;
    let request = request.into_inner();
    let asked = asked(coordinator, &request)?;
    let snapshot = coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
    let targets: Targets = asked.iter().flat_map(|node| targets_of_node(&snapshot, node)).collect();
    let permit = caller.permit(Action::MakeToken, &targets).await?;
    let valid = validity(request.valid_seconds)?;
    let records = coordinator.mirror.records().await.map_err(|error| store_failed(&error))?;
    let missing: Vec<NodeName> = missing(&records, &asked).cloned().collect();
    if request.look_only {
        let named = |node: NodeName| wire::NodeToken { node: node.to_string(), token: String::new() };
        let tokens = missing.into_iter().map(named).collect();
        return Ok(Response::new(wire::CreateTokensReply { tokens, expires_ms: 0 }));
    }
    let created = coordinator.create_tokens(&missing, valid, &permit).await;
    let (tokens, expires) = created.map_err(|error| refused(&error))?;
    let told =
        tokens.iter().map(|token| wire::NodeToken { node: token.node.to_string(), token: token.to_text() });
    Ok(Response::new(wire::CreateTokensReply { tokens: told.collect(), expires_ms: expires.0 }))
}

/// The nodes that a request names, if the directory that it was made from is this fleet's.
fn asked(
    coordinator: &Coordinator,
    request: &wire::CreateTokensRequest,
) -> Result<BTreeSet<NodeName>, Status> {
    if request.fleet != coordinator.fleet.as_str() {
        return Err(Status::failed_precondition(format!(
            "this coordinator keeps the fleet {}, and the directory is of {:?}",
            coordinator.fleet, request.fleet
        )));
    }
    if request.nodes.is_empty() || NODES_MAX < request.nodes.len() {
        let count = request.nodes.len();
        return Err(Status::invalid_argument(format!("{count} nodes are named; name 1 to {NODES_MAX}")));
    }
    request.nodes.iter().map(|node| node_name(node)).collect()
}
