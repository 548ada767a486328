//! `Enrolment`: the only service that a peer without a certificate may call.

use std::sync::Arc;

use fleet::{
    ids::{NodeName, OperatorName},
    token::TokenSecret,
};
use proto::wire::agent::{
    ChallengeReply, ChallengeRequest, EnrollHostRequest, EnrollReply, EnrollRequest, JoinOperatorRequest,
    RenewRequest, enrolment_server::Enrolment as EnrolmentService,
};
use tonic::{Request, Response, Status};

use super::{caller::node_of, commit_failed, store_failed};
use crate::{
    authority::Issued,
    coordinator::Coordinator,
    enrolment::{
        EnrolError,
        host::{HostError, Shown},
    },
};

pub(super) struct Enrolment {
    coordinator: Arc<Coordinator>,
}

impl Enrolment {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }

    fn reply(&self, issued: Issued) -> Response<EnrollReply> {
        Response::new(EnrollReply {
            certificate_pem: issued.pem,
            authority_pem: self.coordinator.authority.pem(),
            fleet: self.coordinator.fleet.to_string(),
        })
    }
}

#[tonic::async_trait]
impl EnrolmentService for Enrolment {
    async fn enroll(&self, request: Request<EnrollRequest>) -> Result<Response<EnrollReply>, Status> {
        let request = request.into_inner();
        let node =
            NodeName::parse(&request.node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let secret = TokenSecret::from_hex(&request.token_secret);
        let issued = self
            .coordinator
            .enroll(&node, secret, &request.csr_pem)
            .await
            .map_err(|error| refused(&error))?;
        Ok(self.reply(issued))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<EnrollReply>, Status> {
        let peer = node_of(&self.coordinator, &request)?;
        let issued = self
            .coordinator
            .renew(&peer, &request.get_ref().csr_pem)
            .await
            .map_err(|error| refused(&error))?;
        Ok(self.reply(issued))
    }

    async fn join_operator(
        &self,
        request: Request<JoinOperatorRequest>,
    ) -> Result<Response<EnrollReply>, Status> {
        let request = request.into_inner();
        let name = OperatorName::parse(&request.operator);
        let name = name.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let secret = TokenSecret::from_hex(&request.token_secret);
        let issued = self.coordinator.join_operator(&name, secret, &request.csr_pem).await;
        Ok(self.reply(issued.map_err(|error| refused(&error))?))
    }

    async fn challenge(&self, _: Request<ChallengeRequest>) -> Result<Response<ChallengeReply>, Status> {
        let nonce = self.coordinator.challenge().map_err(|error| host_refused(&error))?;
        Ok(Response::new(ChallengeReply { nonce }))
    }

    async fn enroll_host(
        &self,
        request: Request<EnrollHostRequest>,
    ) -> Result<Response<EnrollReply>, Status> {
        let request = request.into_inner();
        let wanted = match request.node.as_str() {
            "" => None,
            node => Some(NodeName::parse(node).map_err(|error| Status::invalid_argument(error.to_string()))?),
        };
        let shown = Shown {
            nonce: request.nonce,
            chain: request.chain,
            // What is no scheme of TLS proves nothing.
            scheme: u16::try_from(request.scheme).unwrap_or(0),
            signature: request.signature,
            request_pem: request.csr_pem,
            wanted,
        };
        let issued = self.coordinator.enroll_host(&shown).await;
        Ok(self.reply(issued.map_err(|error| host_refused(&error))?))
    }
}

fn host_refused(error: &HostError) -> Status {
    match error {
        HostError::Off
        | HostError::Nonce
        | HostError::Chain
        | HostError::Unreadable(_)
        | HostError::Unproven
        | HostError::Unbelievable { .. }
        | HostError::File(_)
        | HostError::Foreign { .. }
        | HostError::Unfit { .. }
        | HostError::NoNode { .. }
        | HostError::Taken { .. }
        | HostError::Barred { .. } => Status::permission_denied(super::chain(error)),
        HostError::Enrol(source) => refused(source),
    }
}

pub(super) fn refused(error: &EnrolError) -> Status {
    match error {
        EnrolError::Unknown { .. }
        | EnrolError::Used { .. }
        | EnrolError::Restored { .. }
        | EnrolError::Expired { .. }
        | EnrolError::Other { .. }
        | EnrolError::Superseded { .. } => Status::permission_denied(error.to_string()),
        EnrolError::Authority(_) => Status::invalid_argument(super::chain(error)),
        EnrolError::Store(source) => store_failed(source),
        EnrolError::Commit(source) => commit_failed(source),
    }
}
