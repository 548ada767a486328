//! A coordinator made of prepared answers, over a real connection on loopback: what the commands' tests talk to. It
//! remembers what was asked.

#![allow(clippy::disallowed_methods, reason = "a panic of a task fails the test that waits for it")]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use futures::StreamExt as _;
use proto::wire::{
    agent,
    operator::{
        self as wire, alerts_server, audit_server, logs_server, operator_server, operators_server,
        proposals_server, revisions_server, secrets_server,
    },
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Endpoint};

use super::Client;

pub use proto::wire::operator as message;

/// What the fake answers, and what it was asked.
#[derive(Default)]
pub struct Script {
    pub plan: wire::PlanReply,
    pub apply: wire::ApplyReply,
    pub status: wire::StatusReply,
    /// The status from when a file is there; the last of them counts.
    pub status_from: Vec<(std::path::PathBuf, wire::StatusReply)>,
    /// What a watcher sees one after the other; after the last one the stream stays open.
    pub watched: VecDeque<wire::StatusReply>,
    /// A stream of statuses or events ends after the first one instead, once.
    pub breaks: bool,
    pub node: wire::NodeReply,
    pub host: wire::HostReply,
    pub rollouts: BTreeMap<u64, wire::Rollout>,
    pub command: wire::CommandReply,
    pub differences: wire::DriftReply,
    pub events: Vec<wire::Event>,
    /// Without any, one that ann has set.
    pub secrets: Vec<wire::SecretInfo>,
    pub operators: Vec<wire::OperatorInfo>,
    pub audit: Vec<wire::AuditEntry>,
    pub alerts: wire::ListAlertsReply,
    pub logs: Vec<wire::LogLines>,
    pub revisions: Vec<wire::Revision>,
    pub configuration: wire::ConfigurationReply,
    pub proposals: Vec<wire::Proposal>,
    /// Nodes with a certificate.
    pub joined: Vec<String>,
    pub refusal: Option<Status>,
    /// One line per call that changes something.
    pub asked: Vec<String>,
}

#[derive(Clone)]
struct Fake(Arc<Mutex<Script>>);

/// A node as the status has it.
pub fn node(name: &str, group: &str, state: &str) -> crate::view::Node {
    let (name, group, state) = (name.to_owned(), group.to_owned(), state.to_owned());
    super::convert::node(wire::Node { name, group, state, ..wire::Node::default() })
}

/// A status without nodes.
pub fn status() -> crate::view::Status {
    super::convert::status(wire::StatusReply::default())
}

/// What an agent says that knows of nothing.
pub fn report() -> crate::view::Report {
    let report = Some(agent::Report::default());
    super::convert::node(wire::Node { report, ..wire::Node::default() }).report.unwrap()
}

/// A rollout that is under way through these groups.
pub fn rollout(groups: &[&str]) -> crate::view::Rollout {
    let group =
        |name: &&str| wire::RolloutGroup { group: (*name).to_owned(), ..wire::RolloutGroup::default() };
    let groups = groups.iter().map(group).collect();
    let state = "running".to_owned();
    super::convert::rollout(wire::Rollout { id: 7, state, groups, ..wire::Rollout::default() })
}

/// Serves a script for as long as the test's runtime lives.
pub async fn serve(script: Script) -> (Client, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(script));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = operator_server::OperatorServer::new(Fake(script.clone()));
    let secrets = secrets_server::SecretsServer::new(Fake(script.clone()));
    let alerts = alerts_server::AlertsServer::new(Fake(script.clone()));
    let serving = tonic::transport::Server::builder()
        .add_service(service)
        .add_service(secrets)
        .add_service(audit_server::AuditServer::new(Fake(script.clone())))
        .add_service(operators_server::OperatorsServer::new(Fake(script.clone())))
        .add_service(alerts)
        .add_service(proposals_server::ProposalsServer::new(Fake(script.clone())))
        .add_service(revisions_server::RevisionsServer::new(Fake(script.clone())))
        .add_service(logs_server::LogsServer::new(Fake(script.clone())))
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(serving);
    let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
    (Client::over(channel, address.to_string()), script)
}

impl Fake {
    fn answer<T>(
        &self,
        asked: Option<String>,
        take: impl FnOnce(&mut Script) -> T,
    ) -> Result<Response<T>, Status> {
        let mut script = self.0.lock().unwrap();
        script.asked.extend(asked);
        match &script.refusal {
            Some(refusal) => Err(refusal.clone()),
            None => Ok(Response::new(take(&mut script))),
        }
    }
}

async fn received(request: Request<Streaming<wire::Upload>>) -> String {
    let mut stream = request.into_inner();
    let mut header = wire::UploadHeader::default();
    let mut files: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(part) = stream.next().await {
        match part.unwrap().part.unwrap() {
            wire::upload::Part::Pack(part) => {
                *files.entry("a pack".to_owned()).or_default() += part.data.len();
            }
            wire::upload::Part::Header(it) => header = it,
            wire::upload::Part::File(chunk) => {
                assert!(chunk.data.len() <= super::CHUNK_SIZE, "{} bytes in one chunk", chunk.data.len());
                *files.entry(chunk.path).or_default() += chunk.data.len();
            }
        }
    }
    let replaced = match header.replace_unmanaged.as_str() {
        "" => String::new(),
        digest => format!(", replace {digest}"),
    };
    let only = [header.nodes, header.groups].concat();
    let only = if only.is_empty() { String::new() } else { format!(", only {}", only.join(" ")) };
    format!("parent {:?}, message {:?}{replaced}{only}, files {files:?}", header.parent, header.message)
}

#[tonic::async_trait]
impl operator_server::Operator for Fake {
    type WatchStatusStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<wire::StatusReply, Status>> + Send>>;
    type EventsStream = std::pin::Pin<Box<dyn futures::Stream<Item = Result<wire::Event, Status>> + Send>>;

    async fn plan(
        &self,
        request: Request<Streaming<wire::Upload>>,
    ) -> Result<Response<wire::PlanReply>, Status> {
        received(request).await;
        self.answer(None, |script| script.plan.clone())
    }
    async fn apply(
        &self,
        request: Request<Streaming<wire::Upload>>,
    ) -> Result<Response<wire::ApplyReply>, Status> {
        let asked = format!("apply: {}", received(request).await);
        self.answer(Some(asked), |script| script.apply.clone())
    }
    async fn status(&self, _: Request<wire::StatusRequest>) -> Result<Response<wire::StatusReply>, Status> {
        self.answer(None, |script| {
            let now = script.status_from.iter().rfind(|(file, _)| file.exists());
            now.map_or_else(|| script.status.clone(), |(_, status)| status.clone())
        })
    }
    async fn watch_status(
        &self,
        _: Request<wire::StatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        self.answer(None, |script| {
            let breaks = std::mem::take(&mut script.breaks);
            let most = if breaks { 1.min(script.watched.len()) } else { script.watched.len() };
            let updates: Vec<_> = script.watched.drain(..most).map(Ok).collect();
            let updates = futures::stream::iter(updates);
            let stream: Self::WatchStatusStream =
                if breaks { Box::pin(updates) } else { Box::pin(updates.chain(futures::stream::pending())) };
            stream
        })
    }
    async fn show_node(&self, _: Request<wire::NodeRequest>) -> Result<Response<wire::NodeReply>, Status> {
        self.answer(None, |script| script.node.clone())
    }
    async fn show_host(
        &self,
        request: Request<wire::ShowHostRequest>,
    ) -> Result<Response<wire::HostReply>, Status> {
        let it = request.into_inner();
        self.answer(Some(format!("look at {} config={}", it.node, it.config)), |script| script.host.clone())
    }
    async fn restart_node(
        &self,
        request: Request<wire::RestartNodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        let asked = format!("restart {} now={} {:?}", it.node, it.now, it.why);
        self.answer(Some(asked), |script| script.command.clone())
    }
    async fn return_to_original(
        &self,
        request: Request<wire::ReturnToOriginalRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        let asked = format!("original {} now={} {:?}", it.node, it.now, it.why);
        self.answer(Some(asked), |script| script.command.clone())
    }
    async fn set_node_run(
        &self,
        request: Request<wire::SetNodeRunRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        let word = if it.run() == agent::RunState::Stopped { "stop" } else { "start" };
        self.answer(Some(format!("{word} {} {:?}", it.node, it.why)), |script| script.command.clone())
    }
    async fn forget_node(
        &self,
        request: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        self.answer(Some(format!("forget {}", request.into_inner().node)), |script| script.command.clone())
    }
    async fn revoke_node(
        &self,
        request: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        self.answer(Some(format!("revoke {}", request.into_inner().node)), |script| script.command.clone())
    }
    async fn list_rollouts(
        &self,
        _: Request<wire::ListRolloutsRequest>,
    ) -> Result<Response<wire::ListRolloutsReply>, Status> {
        self.answer(None, |script| {
            let rollouts = script.rollouts.values().rev().cloned().collect();
            wire::ListRolloutsReply { rollouts }
        })
    }
    async fn show_rollout(
        &self,
        request: Request<wire::RolloutRequest>,
    ) -> Result<Response<wire::Rollout>, Status> {
        let id = request.into_inner().rollout;
        let found = self.answer(None, |script| script.rollouts.get(&id).cloned())?;
        let missing = || Status::not_found(format!("there is no rollout {id}"));
        found.into_inner().map(Response::new).ok_or_else(missing)
    }
    async fn control_rollout(
        &self,
        request: Request<wire::ControlRolloutRequest>,
    ) -> Result<Response<wire::Rollout>, Status> {
        let it = request.into_inner();
        let asked = format!("{} rollout {} {:?}", it.action, it.rollout, it.why);
        self.answer(Some(asked), |script| script.rollouts.get(&it.rollout).cloned().unwrap_or_default())
    }
    async fn rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::ApplyReply>, Status> {
        let it = request.into_inner();
        let now = it.now.map(|reason| format!(" now {reason:?}")).unwrap_or_default();
        let replaced = match it.replace_unmanaged.as_str() {
            "" => String::new(),
            digest => format!(" replace {digest}"),
        };
        let asked = format!("rollback to {} parent {:?}{now}{replaced}", it.to_revision, it.parent);
        self.answer(Some(asked), |script| script.apply.clone())
    }
    async fn plan_rollback(
        &self,
        request: Request<wire::RollbackRequest>,
    ) -> Result<Response<wire::PlanReply>, Status> {
        let to = request.into_inner().to_revision;
        self.answer(None, |script| {
            let base_revision = script.status.revision;
            let to_revision = if to == 0 { base_revision.saturating_sub(1) } else { to };
            wire::PlanReply { base_revision, to_revision, ..script.plan.clone() }
        })
    }
    async fn events(
        &self,
        request: Request<wire::EventsRequest>,
    ) -> Result<Response<Self::EventsStream>, Status> {
        let it = request.into_inner();
        let asked = it.follow.then(|| format!("events after {} most {}", it.after, it.most));
        self.answer(asked, |script| {
            let mut events = script.events.clone();
            events.retain(|event| it.after < event.seq);
            let breaks = std::mem::take(&mut script.breaks);
            if breaks {
                events.truncate(1);
            }
            let found = futures::stream::iter(events.into_iter().map(Ok));
            let stream: Self::EventsStream = if it.follow && !breaks {
                Box::pin(found.chain(futures::stream::pending()))
            } else {
                Box::pin(found)
            };
            stream
        })
    }
    async fn create_token(
        &self,
        request: Request<wire::CreateTokenRequest>,
    ) -> Result<Response<wire::CreateTokenReply>, Status> {
        let it = request.into_inner();
        let asked = format!("token for {} valid {} s", it.node, it.valid_seconds);
        self.answer(Some(asked), |_| wire::CreateTokenReply {
            token: "convoy-join-x".to_owned(),
            expires_ms: 5,
            warnings: vec!["revision 7 has no node is-9".to_owned()],
        })
    }
    async fn create_tokens(
        &self,
        request: Request<wire::CreateTokensRequest>,
    ) -> Result<Response<wire::CreateTokensReply>, Status> {
        let it = request.into_inner();
        let what = if it.look_only { "look for" } else { "make" };
        let asked =
            format!("{what} tokens of {} for {} valid {} s", it.fleet, it.nodes.join(" "), it.valid_seconds);
        self.answer(Some(asked), |script| {
            let without = it.nodes.iter().filter(|node| !script.joined.contains(*node));
            let token = |node: &String| {
                let token = if it.look_only { String::new() } else { format!("convoy-join-of-{node}") };
                wire::NodeToken { node: node.clone(), token }
            };
            wire::CreateTokensReply { tokens: without.map(token).collect(), expires_ms: 1_800_000_000_000 }
        })
    }
    async fn admit_node(
        &self,
        request: Request<wire::AdmitNodeRequest>,
    ) -> Result<Response<wire::AdmitNodeReply>, Status> {
        let it = request.into_inner();
        let what = if it.look_only { "look at" } else { "sign" };
        let asked = format!("{what} {:?} for {:?} replace {}", it.csr_pem, it.node, it.replace);
        self.answer(Some(asked), |_| {
            let certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
            wire::AdmitNodeReply {
                node: if it.node.is_empty() { "is-1".to_owned() } else { it.node },
                key_sha256: vec![7; 32],
                certificate_pem: if it.look_only { String::new() } else { certificate.clone() },
                authority_pem: certificate,
                fleet: "acme".to_owned(),
                address: "convoy.acme.internal:7843".to_owned(),
                expires_ms: 1_800_000_000_000,
                replaces: if it.replace { "is-1 joined 1h ago".to_owned() } else { String::new() },
            }
        })
    }
    async fn drift_control(
        &self,
        request: Request<wire::DriftControlRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        let asked =
            format!("drift {} {} {:?} {:?} until {}", it.action, it.node, it.path, it.reason, it.until_ms);
        self.answer(Some(asked), |script| script.command.clone())
    }
    async fn show_drift(
        &self,
        request: Request<wire::NodeRequest>,
    ) -> Result<Response<wire::DriftReply>, Status> {
        let asked = format!("differences {}", request.into_inner().node);
        self.answer(Some(asked), |script| script.differences.clone())
    }
}

#[tonic::async_trait]
impl logs_server::Logs for Fake {
    type ReadStream = std::pin::Pin<Box<dyn futures::Stream<Item = Result<wire::LogLines, Status>> + Send>>;

    async fn read(
        &self,
        request: Request<wire::ReadLogsRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let asked = format!("{:?}", request.into_inner());
        self.answer(Some(asked), |script| {
            let parts: Vec<_> = script.logs.iter().cloned().map(Ok).collect();
            Box::pin(tokio_stream::iter(parts)) as Self::ReadStream
        })
    }
}

#[tonic::async_trait]
impl alerts_server::Alerts for Fake {
    async fn list(
        &self,
        _: Request<wire::ListAlertsRequest>,
    ) -> Result<Response<wire::ListAlertsReply>, Status> {
        self.answer(None, |script| script.alerts.clone())
    }
    async fn add_silence(
        &self,
        request: Request<wire::AddSilenceRequest>,
    ) -> Result<Response<wire::Silence>, Status> {
        let wire::AddSilenceRequest { target, rule, seconds, reason } = request.into_inner();
        let asked = format!("silence {target:?} {rule:?} {seconds}s {reason:?}");
        let added = wire::Silence { id: 3, node: target, rule, reason, ..wire::Silence::default() };
        self.answer(Some(asked), |script| script.alerts.silences.first().cloned().unwrap_or(added))
    }
    async fn remove_silence(
        &self,
        request: Request<wire::RemoveSilenceRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let asked = format!("end silence {}", request.into_inner().id);
        self.answer(Some(asked), |script| script.command.clone())
    }
    async fn test(
        &self,
        request: Request<wire::TestChannelRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let asked = format!("test channel {}", request.into_inner().channel);
        self.answer(Some(asked), |script| script.command.clone())
    }
}

#[tonic::async_trait]
impl proposals_server::Proposals for Fake {
    async fn list(
        &self,
        _: Request<wire::ListProposalsRequest>,
    ) -> Result<Response<wire::ListProposalsReply>, Status> {
        self.answer(None, |script| wire::ListProposalsReply { proposals: script.proposals.clone() })
    }
    async fn show(
        &self,
        _: Request<wire::ProposalRequest>,
    ) -> Result<Response<wire::ShowProposalReply>, Status> {
        self.answer(None, |script| wire::ShowProposalReply {
            proposal: script.proposals.first().cloned(),
            plan: Some(script.plan.clone()),
            approvers: vec!["bob".to_owned()],
        })
    }
    async fn approve(
        &self,
        request: Request<wire::ProposalRequest>,
    ) -> Result<Response<wire::ApplyReply>, Status> {
        let asked = format!("approve {}", request.into_inner().proposal);
        self.answer(Some(asked), |script| script.apply.clone())
    }
    async fn reject(
        &self,
        request: Request<wire::RejectProposalRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        let asked = format!("reject {} {:?}", it.proposal, it.reason);
        self.answer(Some(asked), |script| script.command.clone())
    }
}

#[tonic::async_trait]
impl revisions_server::Revisions for Fake {
    async fn list(
        &self,
        _: Request<wire::ListRevisionsRequest>,
    ) -> Result<Response<wire::ListRevisionsReply>, Status> {
        self.answer(None, |script| wire::ListRevisionsReply { revisions: script.revisions.clone() })
    }

    async fn configuration(
        &self,
        _: Request<wire::ConfigurationRequest>,
    ) -> Result<Response<wire::ConfigurationReply>, Status> {
        self.answer(None, |script| script.configuration.clone())
    }
}

#[tonic::async_trait]
impl secrets_server::Secrets for Fake {
    async fn set(
        &self,
        request: Request<wire::SetSecretRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        let asked = format!("set secret {} to {:?}", it.name, it.value);
        self.answer(Some(asked), |script| script.command.clone())
    }
    async fn list(
        &self,
        _: Request<wire::ListSecretsRequest>,
    ) -> Result<Response<wire::ListSecretsReply>, Status> {
        let secret = wire::SecretInfo {
            name: "db".into(),
            changed_ms: 1_800_000_000_000,
            changed_by: "ann".into(),
            groups: Vec::new(),
        };
        self.answer(None, |script| wire::ListSecretsReply {
            secrets: if script.secrets.is_empty() { vec![secret] } else { script.secrets.clone() },
        })
    }
    async fn remove(
        &self,
        request: Request<wire::RemoveSecretRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let asked = format!("remove secret {}", request.into_inner().name);
        self.answer(Some(asked), |script| script.command.clone())
    }
    async fn grant(
        &self,
        request: Request<wire::GrantSecretRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        self.answer(Some(format!("grant {} to {:?}", it.name, it.groups)), |script| script.command.clone())
    }
}

#[tonic::async_trait]
impl operators_server::Operators for Fake {
    async fn add(
        &self,
        request: Request<wire::AddOperatorRequest>,
    ) -> Result<Response<wire::AddOperatorReply>, Status> {
        let it = request.into_inner();
        let asked = format!("add {} {:?} again={} valid {} s", it.name, it.grant, it.again, it.valid_seconds);
        let grant = it.grant.unwrap_or(wire::Grant { role: 3, groups: Vec::new() });
        self.answer(Some(asked), |_| wire::AddOperatorReply {
            token: "convoy-operator-x".to_owned(),
            expires_ms: 5,
            warnings: vec!["revision 7 has no group kn".to_owned()],
            grant: Some(grant),
        })
    }
    async fn list(
        &self,
        _: Request<wire::ListOperatorsRequest>,
    ) -> Result<Response<wire::ListOperatorsReply>, Status> {
        self.answer(None, |script| wire::ListOperatorsReply { operators: script.operators.clone() })
    }
    async fn set(
        &self,
        request: Request<wire::SetOperatorRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let it = request.into_inner();
        self.answer(Some(format!("set {} {:?}", it.name, it.grant)), |script| script.command.clone())
    }
    async fn remove(
        &self,
        request: Request<wire::RemoveOperatorRequest>,
    ) -> Result<Response<wire::CommandReply>, Status> {
        let asked = format!("remove operator {}", request.into_inner().name);
        self.answer(Some(asked), |script| script.command.clone())
    }
}

#[tonic::async_trait]
impl audit_server::Audit for Fake {
    type ListStream = std::pin::Pin<Box<dyn futures::Stream<Item = Result<wire::AuditEntry, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<wire::ListAuditRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let it = request.into_inner();
        let asked = format!("audit most {} of {:?} {:?} {:?}", it.most, it.actor, it.act, it.node);
        self.answer(Some(asked), |script| {
            let entries = script.audit.clone().into_iter().map(Ok);
            Box::pin(futures::stream::iter(entries)) as Self::ListStream
        })
    }
    async fn head(&self, _: Request<wire::AuditHeadRequest>) -> Result<Response<wire::AuditHead>, Status> {
        self.answer(None, |script| {
            let last = script.audit.last();
            wire::AuditHead {
                seq: last.map_or(0, |last| last.seq),
                link: last.map_or_else(|| vec![0; 32], |last| last.link.clone()),
                fleet_epoch: vec![7; 16],
                ..wire::AuditHead::default()
            }
        })
    }
}
