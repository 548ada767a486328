//! The gRPC face: reads messages, checks who may call, and is the only builder of `Status`.
//!
//! Identity comes from the connection's certificate, put into every request by the listener; what a message says of
//! its sender is never believed. Authorisation is checked per call.

mod admission;
mod alerts;
mod audit;
mod caller;
mod configuration;
mod enrolment;
mod follow;
mod found;
mod history;
mod host;
mod link;
mod logs;
mod operator;
mod operators;
mod pack;
mod proposals;
mod revisions;
mod secrets;
mod status;
mod tokens;
mod upload;

use std::{error::Error, io, mem, sync::Arc, time::Duration};

use futures::Stream;
use proto::wire::{
    agent::{agent_link_server::AgentLinkServer, enrolment_server::EnrolmentServer},
    operator::{
        alerts_server::AlertsServer, audit_server::AuditServer, logs_server::LogsServer,
        operator_server::OperatorServer, operators_server::OperatorsServer,
        proposals_server::ProposalsServer, revisions_server::RevisionsServer, secrets_server::SecretsServer,
    },
};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::{
    Request, Status,
    service::interceptor::InterceptedService,
    transport::{Server, server::Connected},
};
use tonic_health::ServingStatus;
use tracing::{error, info, warn};

pub use upload::Turns;

use crate::{
    coordinator::Coordinator,
    disk::StoreTrouble,
    identity::Peer,
    metrics::CountCalls,
    store::{CommitError, Key, StoreError},
};

/// Of one message of a session; a decode buffer never shrinks, so a large message would cost for ever.
const SESSION_MESSAGE_MAX: usize = 64 * 1024;
/// Of any other request message.
const REQUEST_MAX: usize = 64 * 1024;
/// HTTP/2 pings on idle connections, so that a dead peer is noticed below the heartbeats too.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Calls at once on one connection: a session, fetches, and an operator's few.
const STREAMS_MAX: u32 = 32;

/// Serves connections until the coordinator is told to stop and every stream has ended.
///
/// # Errors
/// The transport failed.
pub async fn serve<I, S>(coordinator: Arc<Coordinator>, incoming: S) -> Result<(), ServeError>
where
    I: AsyncRead + AsyncWrite + Connected<ConnectInfo = Peer> + Unpin + Send + 'static,
    S: Stream<Item = io::Result<I>>,
{
    let (stop, counted) = (coordinator.stop.clone(), coordinator.meters.clone());
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<AgentLinkServer<link::Link>>().await;
    coordinator.tasks.vital("health", watch_health(coordinator.clone(), health));
    let checked = coordinator.clone();
    let for_operators = move |request: Request<()>| {
        caller::may_read_descriptions(&checked, caller::peer_of(&request)).map(|()| request)
    };
    let link = AgentLinkServer::new(link::Link::new(coordinator.clone()));
    let enrolment = EnrolmentServer::new(enrolment::Enrolment::new(coordinator.clone()));
    let shown = follow::Shown::new();
    coordinator.tasks.vital("status", shown.clone().run(coordinator.clone()));
    let operator = OperatorServer::new(operator::Console::new(coordinator.clone()));
    let operator = follow::WithShown {
        inner: operator.max_decoding_message_size(REQUEST_MAX),
        shown,
        coordinator: coordinator.clone(),
    };
    let audit = AuditServer::new(audit::Reader::new(coordinator.clone()));
    let alerts = AlertsServer::new(alerts::Desk::new(coordinator.clone()));
    let logs = LogsServer::new(logs::Reader::new(coordinator.clone()));
    let secrets = SecretsServer::new(secrets::Keeper::new(coordinator.clone()));
    let revisions = RevisionsServer::new(revisions::Shelf::new(coordinator.clone()));
    let operators = OperatorsServer::new(operators::Registry::new(coordinator.clone()));
    let operator = audit::WithHead { inner: operator, coordinator: coordinator.clone() };
    let secrets = audit::WithHead {
        inner: secrets.max_decoding_message_size(REQUEST_MAX),
        coordinator: coordinator.clone(),
    };
    let proposals = ProposalsServer::new(proposals::Tray::new(coordinator.clone()));
    let proposals = audit::WithHead {
        inner: proposals.max_decoding_message_size(REQUEST_MAX),
        coordinator: coordinator.clone(),
    };
    let operators = audit::WithHead {
        inner: operators.max_decoding_message_size(REQUEST_MAX),
        coordinator: coordinator.clone(),
    };
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(STREAMS_MAX)
        .layer(CountCalls(counted))
        .add_service(health_service)
        .add_service(InterceptedService::new(reflection, for_operators))
        .add_service(link.max_decoding_message_size(SESSION_MESSAGE_MAX))
        .add_service(operator)
        .add_service(secrets)
        .add_service(operators)
        .add_service(proposals)
        .add_service(revisions.max_decoding_message_size(REQUEST_MAX))
        .add_service(audit.max_decoding_message_size(REQUEST_MAX))
        .add_service(logs.max_decoding_message_size(REQUEST_MAX))
        .add_service(alerts.max_decoding_message_size(REQUEST_MAX))
        .add_service(enrolment.max_decoding_message_size(REQUEST_MAX))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await?;
    Ok(())
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The connections.
    #[error("the server's transport failed")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptions of the services.
    #[error("the reflection service cannot be built")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// How often the store is asked whether it can still commit.
const HEALTH_EVERY: Duration = Duration::from_secs(10);

async fn watch_health(coordinator: Arc<Coordinator>, health: tonic_health::server::HealthReporter) {
    let mut every = tokio::time::interval(HEALTH_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = coordinator.stop.cancelled() => break,
        }
        let trouble = match coordinator.store.health().await {
            Ok(()) => coordinator.disk.trouble(),
            Err(error) => Some(StoreTrouble::CannotCommit { why: chain(&error) }),
        };
        let before = coordinator.trouble.send_replace(trouble.clone());
        if before.as_ref().map(mem::discriminant) == trouble.as_ref().map(mem::discriminant) {
            continue;
        }
        let serving = match trouble {
            None => {
                info!("The store commits and has room again");
                ServingStatus::Serving
            }
            Some(StoreTrouble::LowRoom { free, reserve }) => {
                error!(free, reserve, "The disk of the data directory is nearly full; applies are refused");
                ServingStatus::Serving
            }
            Some(StoreTrouble::CannotCommit { why }) => {
                error!(error = why, "The store does not commit any more");
                ServingStatus::NotServing
            }
        };
        health.set_service_status("", serving).await;
    }
    health.set_service_status("", ServingStatus::NotServing).await;
}

/// An error and its causes, for the log.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// A failure of the store is nobody's fault who calls; the log gets the causes.
fn store_failed(error: &StoreError) -> Status {
    warn!(error = chain(error), "A call failed at the store");
    Status::unavailable(error.to_string())
}

fn commit_failed(error: &CommitError) -> Status {
    warn!(error = chain(error), "A call failed at the store");
    match error {
        CommitError::Conflict { key } if key.as_str().starts_with(Key::OPERATORS) => {
            Status::aborted("what you may do was changed at this moment, and nothing was done; try again")
        }
        CommitError::Conflict { .. } => Status::aborted(error.to_string()),
        CommitError::TooLarge { .. } | CommitError::NoRoom(_) => {
            Status::resource_exhausted(error.to_string())
        }
        CommitError::Refused(_) | CommitError::Unknown(_) => Status::unavailable(error.to_string()),
    }
}
