//! `Operator`: what people and their programs call. Each call needs an operator's certificate.

use std::{pin::Pin, sync::Arc, time::Duration};

use fleet::ids::NodeName;
use futures::Stream;
use proto::wire::operator::{self as wire, operator_server::Operator};
use tonic::{Request, Response, Status, Streaming};

use super::operator_of;
use crate::{coordinator::Coordinator, enrolment::TOKEN_VALID};

pub(super) struct Console {
    coordinator: Arc<Coordinator>,
}

impl Console {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }
}

type Outgoing<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn node_name(text: &str) -> Result<NodeName, Status> {
    NodeName::parse(text).map_err(|error| Status::invalid_argument(error.to_string()))
}

fn later() -> Status {
    Status::unimplemented("this version does not do that yet")
}

#[tonic::async_trait]
impl Operator for Console {
    type WatchStatusStream = Outgoing<wire::StatusReply>;
    type EventsStream = Outgoing<wire::Event>;

    async fn plan(&self, _: Request<Streaming<wire::Upload>>) -> Result<Response<wire::PlanReply>, Status> {
        Err(later())
    }

    async fn apply(&self, _: Request<Streaming<wire::Upload>>) -> Result<Response<wire::ApplyReply>, Status> {
        Err(later())
    }

    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        Err(later())
    }

    async fn watch_status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        Err(later())
    }

    async fn show_node(&self, _: Request<wire::NodeRequest>) -> Result<Response<wire::NodeReply>, Status> {
        Err(later())
    }

    async fn restart_node(
        &self,
        _: Request<wire::RestartNodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        Err(later())
    }

    async fn set_node_run(
        &self,
        _: Request<wire::SetNodeRunRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        Err(later())
    }

    async fn forget_node(
        &self,
        _: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        Err(later())
    }

    async fn list_rollouts(
        &self,
        _: Request<wire::ListRolloutsRequest>,
    ) -> Result<Response<wire::ListRolloutsReply>, Status> {
        Err(later())
    }

    async fn show_rollout(
        &self,
        _: Request<wire::RolloutRequest>,
    ) -> Result<Response<wire::Rollout>, Status> {
        Err(later())
    }

    async fn control_rollout(
        &self,
        _: Request<wire::ControlRolloutRequest>,
    ) -> Result<Response<wire::Rollout>, Status> {
        Err(later())
    }

    async fn rollback(
        &self,
        _: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::ApplyReply>, Status> {
        Err(later())
    }

    async fn events(&self, _: Request<wire::EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        Err(later())
    }

    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenReply>, Status> {
        let operator = operator_of(&self.coordinator, &request)?;
        let request = request.into_inner();
        let node = node_name(&request.node)?;
        let valid = match request.valid_seconds {
            0 => TOKEN_VALID,
            seconds => Duration::from_secs(seconds),
        };
        let created = self.coordinator.create_token(&node, valid, &operator.name).await;
        let (token, expires) = created.map_err(|error| super::enrolment::refused(&error))?;
        Ok(Response::new(wire::CreateTokenReply { token: token.to_text(), expires_ms: expires.0 }))
    }

    async fn drift_control(
        &self,
        _: Request<wire::DriftControlRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        Err(later())
    }
}
