//! What load balancers and `grpcurl` ask.

use std::sync::Arc;

use coordinator::store::{Read, Store, StoreError};
use futures::FutureExt as _;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::support::{PATIENCE, TestCoordinator};

#[tokio::test]
async fn health_is_served_to_everybody_and_reflection_to_operators() {
    let coordinator = TestCoordinator::start().await;
    let channel = coordinator.channel(None).await.unwrap();

    let mut health = HealthClient::new(channel.clone());
    let request = HealthCheckRequest { service: "convoy.agent.v1.AgentLink".to_owned() };
    let status = health.check(request).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);

    let ask = || {
        tokio_stream::once(ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        })
    };
    let refused = ServerReflectionClient::new(channel).server_reflection_info(ask()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    let node = coordinator.join("is-1").await.channel(&coordinator).await;
    let refused = ServerReflectionClient::new(node).server_reflection_info(ask()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");

    let context = coordinator.context();
    let identity = Some((context.certificate_pem.as_str(), context.key_pem.as_str()));
    let mut reflection = ServerReflectionClient::new(coordinator.channel(identity).await.unwrap());
    let mut replies = reflection.server_reflection_info(ask()).await.unwrap().into_inner();
    let reply = replies.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(listed) = reply else {
        panic!("another answer than the services: {reply:?}");
    };
    let names: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for wanted in ["AgentLink", "Enrolment", "Operator", "Secrets", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name.ends_with(wanted)), "{wanted} is not in {names:?}");
    }
    coordinator.stop().await;
}

/// A store that does not commit any more, and says so.
struct Sick {
    inner: Arc<dyn Store>,
}

impl coordinator::store::Layer for Sick {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn health(&self) -> Read<'_, ()> {
        async { Err(StoreError::new("commit", "the disk is gone")) }.boxed()
    }
}

#[tokio::test]
async fn a_store_that_does_not_commit_is_told_by_health_and_status() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let coordinator = TestCoordinator::start_on(dir, "", |inner| Arc::new(Sick { inner })).await;
    let mut health = HealthClient::new(coordinator.channel(None).await.unwrap());
    let mut told = health.watch(HealthCheckRequest { service: String::new() }).await.unwrap().into_inner();
    let until_told = async {
        while told.message().await.unwrap().expect("it goes on").status() != ServingStatus::NotServing {}
    };
    tokio::time::timeout(PATIENCE, until_told).await.unwrap();
    let status = coordinator.until("status to say so", |status| status.store_trouble.is_some()).await;
    let said = format!("{:?}", status.store_trouble);
    assert!(said.contains("the disk is gone"), "{said}");
    coordinator.stop().await;
}
