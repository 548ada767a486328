//! The coordinator's operator API, as views. Only this module and its children name generated types; everything above
//! it sees [`crate::view`] and [`Failure`].

use std::{pin::Pin, time::Duration};

use fleet::{origin::Origin, spec::Sources, time::Timestamp, trace::TraceContext};
use futures::{Stream, StreamExt as _};
use proto::wire::{
    agent::RunState,
    operator::{
        self as wire, alerts_client::AlertsClient, audit_client::AuditClient, logs_client::LogsClient,
        operator_client::OperatorClient, operators_client::OperatorsClient,
        proposals_client::ProposalsClient, revisions_client::RevisionsClient, secrets_client::SecretsClient,
    },
};
use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    context::Context,
    exit::Failure,
    pack::GivenPack,
    request::{DriftAct, NodeAct, Only, Steer},
    view,
};

pub mod admission;
mod alerts;
mod audit;
mod convert;
#[cfg(test)]
pub mod fake;
mod found;
pub mod join;
mod logs;
mod operators;
mod proposals;
mod revisions;
mod secrets;
pub mod tokens;

pub use audit::{AuditQuery, Extent, Heard, Linked};
pub use logs::LogQuery;

/// Content travels in parts of this size.
const CHUNK_SIZE: usize = 16 * 1024;
/// A coordinator that does not accept a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Calls that are not streams end within this.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A plan of a large fleet with key changes and diffs.
const REPLY_SIZE_MAX: usize = 64 * 1024 * 1024;

/// What comes one after the other until somebody stops it.
pub type Updates<T> = Pin<Box<dyn Stream<Item = Result<T, Failure>> + Send>>;

/// A connection to the coordinator.
#[derive(Clone)]
pub struct Client {
    operator: OperatorClient<Channel>,
    secrets: SecretsClient<Channel>,
    operators: OperatorsClient<Channel>,
    audit: AuditClient<Channel>,
    heard: Heard,
    alerts: AlertsClient<Channel>,
    logs: LogsClient<Channel>,
    revisions: RevisionsClient<Channel>,
    proposals: ProposalsClient<Channel>,
    address: String,
    /// The certificate of the coordinator's authority; empty: not known.
    authority_pem: String,
}

/// What lies on a host. No `Debug`: the file may hold passwords.
pub struct HostConfig {
    pub found: view::Found,
    /// deployment.toml.
    pub config: Option<Vec<u8>>,
}

/// What `apply` sends beside the files.
pub struct Change<'a> {
    pub message: &'a str,
    pub parent: Option<u64>,
    /// Ignore maintenance windows, for this reason.
    pub now: Option<&'a str>,
    /// The digest of what nobody declared and may be replaced.
    pub replace_unmanaged: Option<&'a str>,
    /// Which nodes take part.
    pub only: &'a Only,
    /// The commit that the files are at.
    pub origin: Option<&'a Origin>,
    /// Go ahead without approval, for this reason.
    pub break_glass: Option<&'a str>,
    /// As `ssh-keygen` or `minisign` wrote it.
    pub signature: Option<&'a str>,
    /// What the coordinator's part is a part of.
    pub trace: Option<TraceContext>,
}

impl Client {
    /// Dials the coordinator of a context.
    ///
    /// # Errors
    /// A context whose certificates do not parse, or a coordinator that cannot be reached.
    pub async fn connect(context: &Context) -> Result<Self, Failure> {
        let address = context.host_and_port().to_owned();
        let bad = |error: tonic::transport::Error| {
            Failure::failed(
                "the context file does not describe a connection",
                "copy operator/context.toml from the coordinator's data directory again",
            )
            .because(error)
        };
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&context.authority_pem))
            .identity(Identity::from_pem(&context.certificate_pem, &context.key_pem))
            .domain_name(context.expected_name());
        let endpoint = Endpoint::from_shared(context.uri())
            .map_err(bad)?
            .tls_config(tls)
            .map_err(bad)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10));
        let channel = endpoint.connect().await.map_err(|error| unreached(&address, error))?;
        Ok(Self { authority_pem: context.authority_pem.clone(), ..Self::over(channel, address) })
    }

    /// A client over a channel that is already there.
    pub fn over(channel: Channel, address: String) -> Self {
        let operator = OperatorClient::new(channel.clone()).max_decoding_message_size(REPLY_SIZE_MAX);
        let secrets = SecretsClient::new(channel.clone());
        let operators = OperatorsClient::new(channel.clone());
        let alerts = AlertsClient::new(channel.clone()).max_decoding_message_size(REPLY_SIZE_MAX);
        let logs = LogsClient::new(channel.clone());
        let revisions = RevisionsClient::new(channel.clone()).max_decoding_message_size(REPLY_SIZE_MAX);
        let proposals = ProposalsClient::new(channel.clone()).max_decoding_message_size(REPLY_SIZE_MAX);
        let audit = AuditClient::new(channel);
        Self {
            operator,
            secrets,
            operators,
            audit,
            alerts,
            logs,
            revisions,
            proposals,
            heard: Heard::default(),
            address,
            authority_pem: String::new(),
        }
    }

    /// The certificate of the coordinator's authority, as the context has it.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// What applying these files would change.
    pub async fn plan(
        &mut self,
        files: &Sources,
        packs: &[GivenPack],
        only: &Only,
    ) -> Result<view::Plan, Failure> {
        let upload = upload(
            files,
            packs,
            &Change {
                message: "",
                parent: None,
                now: None,
                replace_unmanaged: None,
                only,
                origin: None,
                break_glass: None,
                signature: None,
                trace: None,
            },
        );
        let reply = self.operator.plan(timed(tokio_stream::iter(upload))).await;
        Ok(convert::plan(self.answer("plan", reply)?))
    }

    /// Makes these files the newest revision. A refusal because of findings is not an error: the findings say it.
    pub async fn apply(
        &mut self,
        files: &Sources,
        packs: &[GivenPack],
        change: &Change<'_>,
    ) -> Result<view::Applied, Failure> {
        let upload = upload(files, packs, change);
        let mut request = timed(tokio_stream::iter(upload));
        if let Some(value) = change.trace.and_then(|trace| trace.to_string().parse().ok()) {
            request.metadata_mut().insert("traceparent", value);
        }
        let reply = self.operator.apply(request).await;
        convert::applied(self.answer("apply", reply)?)
    }

    /// What going back would change; without a revision, to the newest that was healthy on every node that it changes.
    pub async fn plan_rollback(&mut self, to: Option<u64>) -> Result<view::Plan, Failure> {
        let to_revision = to.unwrap_or(0);
        let request = wire::RollbackRequest { to_revision, ..wire::RollbackRequest::default() };
        let reply = self.operator.plan_rollback(timed(request)).await;
        Ok(convert::plan(self.answer("rollback", reply)?))
    }

    /// Goes back to an earlier revision as a new one.
    pub async fn rollback(&mut self, to: u64, change: &Change<'_>) -> Result<view::Applied, Failure> {
        let request = wire::RollbackRequest {
            to_revision: to,
            why: change.message.to_owned(),
            parent: change.parent,
            now: change.now.map(str::to_owned),
            replace_unmanaged: change.replace_unmanaged.unwrap_or_default().to_owned(),
            break_glass: change.break_glass.unwrap_or_default().to_owned(),
        };
        let reply = self.operator.rollback(timed(request)).await;
        convert::applied(self.answer("rollback", reply)?)
    }

    /// The fleet as it is now.
    pub async fn status(&mut self) -> Result<view::Status, Failure> {
        let reply = self.operator.status(timed(wire::StatusRequest {})).await;
        Ok(convert::status(self.answer("status", reply)?))
    }

    /// The fleet as it is now, and again whenever that changed.
    pub async fn watch_status(&mut self) -> Result<Updates<view::Status>, Failure> {
        let reply = self.operator.watch_status(wire::StatusRequest {}).await;
        let address = self.address.clone();
        let updates = self.answer("status", reply)?;
        Ok(Box::pin(updates.map(move |update| match update {
            Ok(status) => Ok(convert::status(status)),
            Err(status) => Err(failure("status", &address, status)),
        })))
    }

    /// One node with its files and newest events.
    pub async fn node(&mut self, name: &str) -> Result<view::NodeDetail, Failure> {
        let reply = self.operator.show_node(timed(wire::NodeRequest { node: name.to_owned() })).await;
        convert::node_detail(self.answer("node show", reply)?)
    }

    /// What lies on a node's host, and its deployment.toml if that is known.
    pub async fn host_config(&mut self, name: &str) -> Result<HostConfig, Failure> {
        let request = wire::ShowHostRequest { node: name.to_owned(), config: true };
        let reply = self.operator.show_host(timed(request)).await;
        let mut reply = self.answer("import", reply)?;
        let config = reply.config.take();
        Ok(HostConfig { found: found::host(reply), config })
    }

    /// Acts on one node.
    pub async fn act(&mut self, name: &str, act: NodeAct) -> Result<view::Answer, Failure> {
        let node = name.to_owned();
        let run = |run: RunState, why, now| wire::SetNodeRunRequest {
            node: name.to_owned(),
            run: run.into(),
            why,
            now,
        };
        let (what, reply) = match act {
            NodeAct::Restart { why, now } => {
                let request = wire::RestartNodeRequest { node, why, now };
                ("node restart", self.operator.restart_node(timed(request)).await)
            }
            NodeAct::Stop { why, now } => {
                ("node stop", self.operator.set_node_run(timed(run(RunState::Stopped, why, now))).await)
            }
            NodeAct::Start { why } => {
                ("node start", self.operator.set_node_run(timed(run(RunState::Running, why, false))).await)
            }
            NodeAct::ToOriginal { why, now } => {
                let request = wire::ReturnToOriginalRequest { node, why, now };
                ("rollback", self.operator.return_to_original(timed(request)).await)
            }
            NodeAct::Revoke => {
                ("node revoke", self.operator.revoke_node(timed(wire::NodeRequest { node })).await)
            }
            NodeAct::Forget => {
                ("node forget", self.operator.forget_node(timed(wire::NodeRequest { node })).await)
            }
        };
        convert::answer(self.answer(what, reply)?)
    }

    /// The newest rollouts, newest first.
    pub async fn rollouts(&mut self, most: u32) -> Result<Vec<view::Rollout>, Failure> {
        let reply = self.operator.list_rollouts(timed(wire::ListRolloutsRequest { most })).await;
        let reply = self.answer("rollout list", reply)?;
        Ok(reply.rollouts.into_iter().map(convert::rollout).collect())
    }

    /// One rollout.
    pub async fn rollout(&mut self, rollout: u64) -> Result<view::Rollout, Failure> {
        let reply = self.operator.show_rollout(timed(wire::RolloutRequest { rollout })).await;
        Ok(convert::rollout(self.answer("rollout show", reply)?))
    }

    /// Steers one rollout.
    pub async fn steer(&mut self, rollout: u64, steer: Steer, why: &str) -> Result<view::Rollout, Failure> {
        let action = match steer {
            Steer::Pause => "pause",
            Steer::Resume => "resume",
            Steer::Abort => "abort",
            Steer::AbortAndReturn => "abort-and-return",
            Steer::Promote => "promote",
        };
        let request = wire::ControlRolloutRequest { rollout, action: action.to_owned(), why: why.to_owned() };
        let reply = self.operator.control_rollout(timed(request)).await;
        Ok(convert::rollout(self.answer("rollout", reply)?))
    }

    /// Events after `after`, at most `most` of the newest at first; with `follow` also those to come.
    pub async fn events(&mut self, query: EventQuery) -> Result<Updates<view::Event>, Failure> {
        let request = wire::EventsRequest {
            after: query.after,
            follow: query.follow,
            most: query.most,
            node: query.node.unwrap_or_default(),
            filter: Some(wire::EventFilter {
                since_ms: query.since.map(|at| at.0),
                until_ms: query.until.map(|at| at.0),
                kinds: query.kinds,
                actor: query.actor.unwrap_or_default(),
                group: query.group.unwrap_or_default(),
            }),
        };
        let reply = self.operator.events(request).await;
        let address = self.address.clone();
        let updates = self.answer("events", reply)?;
        Ok(Box::pin(updates.map(move |update| match update {
            Ok(event) => Ok(convert::event(event)),
            Err(status) => Err(failure("events", &address, status)),
        })))
    }

    /// A one-time join token.
    pub async fn create_token(&mut self, node: &str, valid: Duration) -> Result<view::JoinToken, Failure> {
        let request = wire::CreateTokenRequest { node: node.to_owned(), valid_seconds: valid.as_secs() };
        let reply = self.operator.create_token(timed(request)).await;
        let reply = self.answer("token create", reply)?;
        let expires = view::When(reply.expires_ms);
        Ok(view::JoinToken { node: node.to_owned(), token: reply.token, expires, warnings: reply.warnings })
    }

    /// Acts on the drift of one node. `now` turns a length into an end.
    pub async fn drift(
        &mut self,
        node: &str,
        act: DriftAct,
        now: view::When,
    ) -> Result<view::Answer, Failure> {
        let mut request = wire::DriftControlRequest { node: node.to_owned(), ..Default::default() };
        match act {
            DriftAct::Restore { path } => {
                "restore".clone_into(&mut request.action);
                request.path = path.map(|path| path.to_string()).unwrap_or_default();
            }
            DriftAct::Accept { path, duration, .. } => {
                "accept".clone_into(&mut request.action);
                request.path = path.to_string();
                request.until_ms =
                    duration.map_or(0, |duration| fleet::time::Timestamp(now.0).after(duration).0);
            }
            DriftAct::Pause { reason, duration } => {
                "pause".clone_into(&mut request.action);
                request.reason = reason;
                request.until_ms = fleet::time::Timestamp(now.0).after(duration).0;
            }
            DriftAct::Resume => "resume".clone_into(&mut request.action),
        }
        let reply = self.operator.drift_control(timed(request)).await;
        convert::answer(self.answer("drift", reply)?)
    }

    /// What differs on one host; `None` if the coordinator is too old to tell.
    pub async fn differences(&mut self, node: &str) -> Result<Option<view::Differences>, Failure> {
        let reply = self.operator.show_drift(timed(wire::NodeRequest { node: node.to_owned() })).await;
        if reply.as_ref().is_err_and(|status| status.code() == tonic::Code::Unimplemented) {
            return Ok(None);
        }
        Ok(Some(convert::differences(self.answer("drift show", reply)?)))
    }

    /// The farthest that the coordinator's record was said to go, also by answers to come.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }

    fn answer<T>(&self, what: &str, reply: Result<tonic::Response<T>, Status>) -> Result<T, Failure> {
        if let Ok(reply) = &reply {
            self.heard.note(reply.metadata());
        }
        reply.map(tonic::Response::into_inner).map_err(|status| failure(what, &self.address, status))
    }
}

/// Which events are wanted.
#[derive(Clone, Default)]
pub struct EventQuery {
    pub after: u64,
    pub follow: bool,
    pub most: u32,
    pub node: Option<String>,
    pub group: Option<String>,
    pub kinds: Vec<String>,
    pub actor: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

fn timed<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn upload(files: &Sources, packs: &[GivenPack], change: &Change<'_>) -> Vec<wire::Upload> {
    use wire::upload::Part;
    let header = wire::UploadHeader {
        message: change.message.to_owned(),
        parent: change.parent,
        now: change.now.is_some(),
        reason: change.now.unwrap_or_default().to_owned(),
        replace_unmanaged: change.replace_unmanaged.unwrap_or_default().to_owned(),
        nodes: change.only.nodes.iter().map(ToString::to_string).collect(),
        groups: change.only.groups.iter().map(ToString::to_string).collect(),
        origin: change.origin.map(Into::into),
        break_glass: change.break_glass.unwrap_or_default().to_owned(),
        signature: change.signature.unwrap_or_default().to_owned(),
    };
    let mut parts = vec![Part::Header(header)];
    for (path, content) in &files.0 {
        let file = |(data, last)| Part::File(wire::FileChunk { path: path.clone(), data, last });
        parts.extend(chunks(content).map(file));
    }
    for pack in packs {
        let mut products = pack.products.clone();
        let part =
            |(data, last)| Part::Pack(wire::PackPart { products: std::mem::take(&mut products), data, last });
        parts.extend(chunks(&pack.content).map(part));
    }
    parts.into_iter().map(|part| wire::Upload { part: Some(part) }).collect()
}

/// Parts of some content, and whether each is the last; empty content has one.
fn chunks(content: &[u8]) -> impl Iterator<Item = (Vec<u8>, bool)> {
    let count = content.len().div_ceil(CHUNK_SIZE).max(1);
    (0..count).map(move |at| {
        let end = content.len().min((at + 1) * CHUNK_SIZE);
        (content[at * CHUNK_SIZE..end].to_vec(), at + 1 == count)
    })
}

/// Why there is no connection, as far as the causes say: a wrong authority is repaired elsewhere than a wrong name.
fn unreached(address: &str, error: tonic::transport::Error) -> Failure {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let refused = |why: &str, remedy: String| {
        Failure::failed(format!("the coordinator at {address} answers, and {why}"), remedy)
    };
    let copy = "copy operator/context.toml from that coordinator's data directory again";
    let failure = match Unreached::of(&error) {
        Unreached::Name => Failure::failed(
            format!("this machine does not know the name {host}, by which the context file reaches the coordinator"),
            format!(
                "make {host} resolve here, or write another `address` into the context file and the name in the \
                 coordinator's certificate (`names` of coordinator.toml) as `server_name`"
            ),
        ),
        Unreached::Authority => refused(
            "its certificate is not from the authority that the context file trusts",
            format!("this context is of another coordinator, or its authority was made anew; {copy}"),
        ),
        Unreached::OtherName => refused(
            &format!("its certificate does not carry the name {host}"),
            "add the name to `names` of coordinator.toml, or write one of its names as `server_name` into the \
             context file"
                .to_owned(),
        ),
        Unreached::Expired => refused(
            "its certificate has expired by this machine's clock",
            "compare the clocks of both machines; the coordinator renews its certificate by itself while it runs"
                .to_owned(),
        ),
        Unreached::Early => refused(
            "its certificate is not valid yet by this machine's clock",
            "compare the clocks of both machines".to_owned(),
        ),
        Unreached::Other => unreachable(address),
    };
    failure.because(error)
}

/// Causes of a failed connection that are repaired differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreached {
    /// The name cannot be resolved.
    Name,
    /// The certificate is from somebody else.
    Authority,
    /// The certificate is of another name.
    OtherName,
    /// The certificate has ended.
    Expired,
    /// The certificate has not begun.
    Early,
    Other,
}

impl Unreached {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(why) = Self::of_one(error) {
                return why;
            }
            next = error.source();
        }
        Unreached::Other
    }

    fn of_one(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        use rustls::{CertificateError, Error};
        // An I/O error does not name what it wraps as its source, but the source of that.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = wrapped.and_then(|inner| inner.downcast_ref::<Error>());
        let tls = tls.or_else(|| error.downcast_ref::<Error>());
        if error.to_string().contains("failed to lookup address") || error.to_string() == "dns error" {
            return Some(Unreached::Name);
        }
        let Some(Error::InvalidCertificate(why)) = tls else { return None };
        Some(match why {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Unreached::Authority,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Unreached::OtherName
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Unreached::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Unreached::Early,
            // rustls may know more causes than these.
            _ => Unreached::Other,
        })
    }
}

fn unreachable(address: &str) -> Failure {
    Failure::failed(
        format!("cannot reach the coordinator at {address}"),
        "check that it runs, and that --context (or CONVOY_CONTEXT) names the context of this fleet",
    )
}

/// What the coordinator's refusal means for the person who asked. Exhaustive, so that no code is forgotten.
fn failure(what: &str, address: &str, status: Status) -> Failure {
    let text = match status.message() {
        "" => format!("{what}: {}", status.code().description()),
        message => message.to_owned(),
    };
    match status.code() {
        Code::Unavailable => Failure { is_transient: true, ..unreachable(address).because(status) },
        Code::DeadlineExceeded | Code::Cancelled => Failure {
            is_transient: true,
            ..Failure::failed(
                format!("the coordinator at {address} did not answer {what} in time"),
                "look with `convoy status` whether it was carried out, then try again",
            )
        },
        Code::Unauthenticated => Failure::failed(
            text,
            "use an operator context of this fleet that counts; `convoy context list` shows those that are here",
        ),
        // A guard like others: nothing is wrong with the command, and somebody else may give it.
        Code::PermissionDenied => Failure {
            is_denied: true,
            ..Failure::refused(text, "`convoy operator list` shows who may do what")
        },
        Code::FailedPrecondition | Code::Aborted => {
            Failure::refused(text, "look with `convoy status` at what is going on, then try again")
        }
        Code::ResourceExhausted => {
            Failure { is_transient: true, ..Failure::failed(text, "wait a moment, then try again") }
        }
        Code::NotFound => Failure::failed(text, "`convoy status` shows what there is"),
        Code::Unimplemented => Failure::failed(
            format!("the coordinator does not know {what}"),
            "it is of another version than this command; upgrade the older one",
        ),
        Code::InvalidArgument | Code::OutOfRange if matches!(what, "plan" | "apply") => {
            Failure::failed(text, "`convoy lint DIR` names the place; repair it, then try again")
        }
        Code::Ok | Code::InvalidArgument | Code::AlreadyExists | Code::OutOfRange => {
            Failure::failed(text, "")
        }
        Code::Unknown | Code::Internal | Code::DataLoss => {
            Failure::failed(text, "the coordinator's log says more")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use rustls::{CertificateError, Error};

    use super::*;

    #[test]
    fn why_a_coordinator_is_not_reached_is_told_apart() {
        let tls = |why| io::Error::other(Error::InvalidCertificate(why));
        for (error, why) in [
            (tls(CertificateError::UnknownIssuer), Unreached::Authority),
            (tls(CertificateError::NotValidForName), Unreached::OtherName),
            (tls(CertificateError::Expired), Unreached::Expired),
            (tls(CertificateError::NotValidYet), Unreached::Early),
            (io::Error::other("failed to lookup address information: no such host"), Unreached::Name),
            (io::Error::from(io::ErrorKind::ConnectionRefused), Unreached::Other),
        ] {
            assert_eq!(Unreached::of(&error), why, "{error}");
        }
    }
}
