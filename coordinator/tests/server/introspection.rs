//! What load balancers and `grpcurl` ask.

use crate::support::TestCoordinator;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

#[tokio::test]
async fn health_and_reflection_are_served_without_an_identity() {
    let coordinator = TestCoordinator::start().await;
    let channel = coordinator.channel(None).await.unwrap();

    let mut health = HealthClient::new(channel.clone());
    let request = HealthCheckRequest { service: "convoy.agent.v1.AgentLink".to_owned() };
    let status = health.check(request).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);

    let mut reflection = ServerReflectionClient::new(channel);
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies = reflection.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
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
