//! Who calls, and whether they may: the certificate says who, the store says what they may do.

use std::sync::Arc;

use fleet::{
    access::{Action, Grant, Permit, Principal, Role, Scope, Targets},
    audit::Act,
    ids::NodeName,
};
use tonic::{Request, Status};

use super::store_failed;
use crate::{
    access::targets_of_node,
    coordinator::Coordinator,
    identity::{NodePeer, OperatorPeer, Peer},
    mirror::Records,
};

/// An operator whose certificate counts, and what they may do.
pub(super) struct Caller {
    coordinator: Arc<Coordinator>,
    records: Arc<Records>,
    pub(super) principal: Principal,
    pub(super) peer: OperatorPeer,
}

/// Who is at the other end of the request's connection.
pub(super) fn peer_of<T>(request: &Request<T>) -> Peer {
    request.extensions().get::<Peer>().cloned().unwrap_or(Peer::Anonymous)
}

/// The node that calls.
pub(super) fn node_of<T>(coordinator: &Coordinator, request: &Request<T>) -> Result<NodePeer, Status> {
    match peer_of(request) {
        Peer::Node(node) if (coordinator.clock)() < node.not_after => Ok(node),
        Peer::Node(_) => {
            Err(Status::unauthenticated("the certificate of this connection has expired; dial again"))
        }
        Peer::Operator(operator) => Err(Status::permission_denied(format!(
            "this call is for agents, and {} is an operator",
            operator.name
        ))),
        Peer::Anonymous => Err(Status::unauthenticated(
            "this call needs an agent's certificate; run `convoy-agent enroll` first",
        )),
    }
}

/// The operator whose certificate a connection shows, whether it still counts or not.
fn operator_peer(coordinator: &Coordinator, peer: Peer) -> Result<OperatorPeer, Status> {
    match peer {
        Peer::Operator(operator) if (coordinator.clock)() < operator.not_after => Ok(operator),
        Peer::Operator(_) => Err(Status::unauthenticated(
            "the certificate of this connection has expired; get a new context file",
        )),
        Peer::Node(node) => {
            Err(Status::permission_denied(format!("this call is for operators, and {} is a node", node.name)))
        }
        Peer::Anonymous => Err(Status::unauthenticated(
            "this call needs an operator's certificate; use `convoy --context FILE`",
        )),
    }
}

/// The operator who calls.
pub(super) async fn caller(coordinator: &Arc<Coordinator>, peer: Peer) -> Result<Caller, Status> {
    let peer = operator_peer(coordinator, peer)?;
    let records = coordinator.mirror.records().await.map_err(|error| store_failed(&error))?;
    match coordinator.principal(&records, &peer) {
        Ok(principal) => Ok(Caller { coordinator: coordinator.clone(), records, principal, peer }),
        Err(unwelcome) => {
            let nobody = Grant { role: Role::Viewer, scope: Scope::Fleet };
            let (name, serial, from) = (peer.name, peer.serial, peer.from);
            let who = Principal { name, grant: nobody, version: 0, serial, from };
            coordinator.note_refusal(&who, Act::Call, &unwelcome.to_string()).await;
            Err(Status::unauthenticated(unwelcome.to_string()))
        }
    }
}

/// Whether descriptions of the services may be shown, which say a stranger what to attack.
pub(super) fn may_read_descriptions(coordinator: &Coordinator, peer: Peer) -> Result<(), Status> {
    let peer = operator_peer(coordinator, peer)?;
    let records = coordinator.mirror.held();
    let records = records.ok_or_else(|| Status::unavailable("the records cannot be read"))?;
    let principal = coordinator.principal(&records, &peer);
    principal.map(drop).map_err(|unwelcome| Status::unauthenticated(unwelcome.to_string()))
}

impl Caller {
    /// Lets them do something to all of these.
    pub(super) async fn permit(&self, action: Action, targets: &Targets) -> Result<Permit, Status> {
        let permitted = self.coordinator.permit(&self.records, &self.principal, (action, targets)).await;
        permitted.map_err(|denied| Status::permission_denied(denied.to_string()))
    }

    /// Lets them do something to a node.
    pub(super) async fn permit_for(&self, action: Action, node: &NodeName) -> Result<Permit, Status> {
        let snapshot = self.coordinator.snapshot().await.map_err(|error| store_failed(&error))?;
        self.permit(action, &targets_of_node(&snapshot, node)).await
    }

    /// Lets them look.
    pub(super) async fn look(&self) -> Result<Permit, Status> {
        self.permit(Action::Look, &Targets::new()).await
    }
}
