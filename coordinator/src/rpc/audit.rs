//! `Audit`: who did what. Read by everybody who may look, written by nobody from outside.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use fleet::{
    audit::{Act, Head, checkpoint::Meaning},
    ids::NodeName,
    time::Timestamp,
};
use futures::Stream;
use http::HeaderValue;
use proto::{
    convert::audit::entry_to_wire,
    wire::operator::{self as wire, audit_server::Audit},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, body::Body, server::NamedService};
use tower::Service;

use super::{
    caller::{caller, peer_of},
    chain,
    follow::while_welcome,
    store_failed,
};
use crate::{
    coordinator::Coordinator,
    store::{
        Key, Range, StoreError,
        records::{AuditRecord, Record as _},
    },
};

/// Entries read at once.
const BATCH: usize = 256;
/// The newest that may be asked for.
const LAST_MAX: usize = 10_000;
/// Messages that wait for a slow reader.
const WAITING: usize = 64;
/// In every answer to an operator: how far the record goes.
const HEAD: &str = "convoy-audit-head";

pub(super) struct Reader {
    coordinator: Arc<Coordinator>,
}

impl Reader {
    pub(super) fn new(coordinator: Arc<Coordinator>) -> Self {
        Self { coordinator }
    }
}

/// Which entries are wanted.
struct Query {
    after: u64,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    actor: String,
    act: Option<Act>,
    node: Option<NodeName>,
}

impl Query {
    fn read(asked: wire::ListAuditRequest) -> Result<Self, Status> {
        let act = match asked.act.as_str() {
            "" => None,
            word => Some(Act::parse(word).ok_or_else(|| {
                Status::invalid_argument(format!("{word:?} is no action; docs/operators.md lists them"))
            })?),
        };
        let node = match asked.node.as_str() {
            "" => None,
            name => Some(super::operator::node_name(name)?),
        };
        Ok(Self {
            after: asked.after,
            since: asked.since_ms.map(Timestamp),
            until: asked.until_ms.map(Timestamp),
            actor: asked.actor,
            act,
            node,
        })
    }

    fn takes(&self, record: &AuditRecord) -> bool {
        let entry = &record.entry;
        self.since.is_none_or(|since| since <= entry.at)
            && self.until.is_none_or(|until| entry.at <= until)
            && (self.actor.is_empty() || self.actor == entry.actor)
            && self.act.is_none_or(|act| act == entry.act)
            && (self.node.is_none() || self.node == entry.node)
    }
}

/// Reads on, a page at a time. Pages go by keys: what stands in an entry may have been changed.
async fn page(coordinator: &Coordinator, after: &mut Key) -> Result<Vec<AuditRecord>, StoreError> {
    let range = Range { after: Some(after.clone()), ..Range::first(Key::AUDIT, BATCH) };
    let found = coordinator.store.range(range).await?;
    if let Some(last) = found.last() {
        after.clone_from(&last.key);
    }
    found.iter().map(AuditRecord::read).collect()
}

async fn send_all(
    coordinator: Arc<Coordinator>,
    (query, most): (Query, usize),
    sender: mpsc::Sender<Result<wire::AuditEntry, Status>>,
) {
    let mut after = Key::audit(query.after);
    let mut last = VecDeque::new();
    loop {
        let found = match page(&coordinator, &mut after).await {
            Ok(found) if found.is_empty() => break,
            Ok(found) => found,
            Err(error) => return drop(sender.send(Err(store_failed(&error))).await),
        };
        for record in found.into_iter().filter(|record| query.takes(record)) {
            if most == 0 {
                if sender.send(Ok(entry_to_wire(&record.entry, &record.link))).await.is_err() {
                    return;
                }
                continue;
            }
            if last.len() == most {
                last.pop_front();
            }
            last.push_back(record);
        }
    }
    for record in last {
        if sender.send(Ok(entry_to_wire(&record.entry, &record.link))).await.is_err() {
            return;
        }
    }
}

#[tonic::async_trait]
impl Audit for Reader {
    type ListStream = Pin<Box<dyn Stream<Item = Result<wire::AuditEntry, Status>> + Send>>;

    async fn list(
        &self,
        request: Request<wire::ListAuditRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        let caller = caller(&self.coordinator, peer_of(&request)).await?;
        caller.look().await?;
        let request = request.into_inner();
        let most = (request.most as usize).min(LAST_MAX);
        let query = Query::read(request)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let coordinator = self.coordinator.clone();
        self.coordinator.tasks.spawn("audit stream", async move {
            let sending = send_all(coordinator.clone(), (query, most), sender.clone());
            while_welcome(&coordinator, &caller.peer, &sender, sending).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn head(
        &self,
        request: Request<wire::AuditHeadRequest>,
    ) -> Result<Response<wire::AuditHead>, Status> {
        caller(&self.coordinator, peer_of(&request)).await?.look().await?;
        let removed = self.coordinator.removed_entries().await.map_err(|error| store_failed(&error))?;
        let head = self.coordinator.audit.stored_head().await.map_err(|error| store_failed(&error))?;
        let checkpoint = self.coordinator.checkpoint(Meaning::Reached, head).map_err(|error| {
            tracing::error!(error = chain(&error), "Cannot sign a checkpoint of the audit record");
            Status::internal("the coordinator cannot sign how far the record goes; its log says why")
        })?;
        Ok(Response::new(wire::AuditHead {
            seq: head.seq,
            link: head.link.0.to_vec(),
            fleet_epoch: self.coordinator.epoch.0.to_vec(),
            checkpoint: checkpoint.to_string(),
            removed: removed.map(|removed| removed.0.to_string()).unwrap_or_default(),
        }))
    }
}

/// Says in every answer how far the record goes, so that whoever calls notices when it goes back.
#[derive(Clone)]
pub(super) struct WithHead<S> {
    pub(super) inner: S,
    pub(super) coordinator: Arc<Coordinator>,
}

impl<S: NamedService> NamedService for WithHead<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for WithHead<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let (answering, coordinator) = (self.inner.call(request), self.coordinator.clone());
        Box::pin(async move {
            let mut response = answering.await?;
            // An answer with its status in front is an error: strangers are told nothing.
            if !response.headers().contains_key("grpc-status") {
                let Head { seq, link } = coordinator.audit.head();
                if let Ok(value) = HeaderValue::from_str(&format!("{seq} {link}")) {
                    response.headers_mut().insert(HEAD, value);
                }
            }
            Ok(response)
        })
    }
}
