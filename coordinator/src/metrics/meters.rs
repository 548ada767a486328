//! What is counted while the coordinator runs, from its start on. Whatever is a state is looked at when it is asked for
//! (`figures`), so that it can never differ from what `convoy status` says.

use std::{
    collections::BTreeSet,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures::{FutureExt as _, future::BoxFuture};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::{
    events::Kind,
    store::{CommitError, Store, Transaction, Version},
};

/// Upper bounds of the buckets of a commit's time, seconds: from a fast disk to one that is in trouble.
const COMMIT_BUCKETS: [f64; 8] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 5.0];

/// What agents tell, whatever they call it.
const NOTICE: &str = "notice";

/// Of an event: its kind, or [`NOTICE`] for everything that agents tell, whose words may be newer than this program.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommitLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    method: String,
    code: &'static str,
}

/// Everything that is counted.
pub struct Meters {
    registry: Registry,
    events: Family<EventLabels, Counter>,
    commits: Family<CommitLabels, Counter>,
    commit_time: Histogram,
    calls: Family<CallLabels, Counter>,
    /// Paths of the methods that are served: what peers ask for beside these must not make series.
    methods: BTreeSet<String>,
}

impl Default for Meters {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("convoy");
        let meters = Self {
            events: Family::default(),
            commits: Family::default(),
            commit_time: Histogram::new(COMMIT_BUCKETS),
            calls: Family::default(),
            methods: methods(),
            registry: Registry::default(),
        };
        // A series that is not there yet cannot be told from one that never will be.
        for kind in Kind::ALL {
            meters.event(kind.as_str());
        }
        meters.event(NOTICE);
        for outcome in
            [CommitOutcome::Done, CommitOutcome::Conflict, CommitOutcome::Refused, CommitOutcome::Unknown]
        {
            drop(meters.commits.get_or_create(&CommitLabels { outcome: outcome.as_str() }));
        }
        registry.register("events", "Events stored since the start", meters.events.clone());
        registry.register("store_commits", "Commits of the store since the start", meters.commits.clone());
        let time = meters.commit_time.clone();
        registry.register_with_unit("store_commit", "How long commits took", Unit::Seconds, time);
        registry.register("calls", "Calls answered since the start", meters.calls.clone());
        Self { registry, ..meters }
    }
}

impl Meters {
    /// What is counted, for a scrape.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Counts events of this kind.
    pub fn event(&self, word: &str) -> Counter {
        let kind = Kind::ALL.iter().map(|kind| kind.as_str()).find(|known| *known == word);
        self.events.get_or_create_owned(&EventLabels { kind: kind.unwrap_or(NOTICE) })
    }
}

/// `/package.Service/Method` of everything in the descriptions that reflection serves.
fn methods() -> BTreeSet<String> {
    let described = [proto::DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET];
    let files = described.into_iter().filter_map(|set| FileDescriptorSet::decode(set).ok());
    let mut paths = BTreeSet::new();
    for file in files.flat_map(|set| set.file) {
        for service in &file.service {
            for method in &service.method {
                paths.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    paths
}

/// How a commit ended.
#[derive(Debug, Clone, Copy)]
enum CommitOutcome {
    Done,
    Conflict,
    Refused,
    Unknown,
}

impl CommitOutcome {
    fn of(ended: &Result<Version, CommitError>) -> Self {
        match ended {
            Ok(_) => Self::Done,
            Err(CommitError::Conflict { .. }) => Self::Conflict,
            Err(CommitError::TooLarge { .. } | CommitError::NoRoom(_) | CommitError::Refused(_)) => {
                Self::Refused
            }
            Err(CommitError::Unknown(_)) => Self::Unknown,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// Counts the commits of a store.
pub struct Metered {
    /// Does the work.
    pub inner: Arc<dyn Store>,
    /// Where it is counted.
    pub meters: Arc<Meters>,
}

impl crate::store::Layer for Metered {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        async move {
            let begun = Instant::now();
            let ended = self.inner.commit(transaction).await;
            self.meters.commit_time.observe(begun.elapsed().as_secs_f64());
            let outcome = CommitOutcome::of(&ended).as_str();
            self.meters.commits.get_or_create(&CommitLabels { outcome }).inc();
            ended
        }
        .boxed()
    }
}

/// Counts the calls of agents and operators. A stream counts when it begins; how it ends later is not seen here.
#[derive(Clone)]
pub struct CountCalls(pub Arc<Meters>);

impl<S> Layer<S> for CountCalls {
    type Service = Counting<S>;

    fn layer(&self, inner: S) -> Counting<S> {
        Counting { inner, meters: self.0.clone() }
    }
}

/// A service whose calls are counted.
#[derive(Clone)]
pub struct Counting<S> {
    inner: S,
    meters: Arc<Meters>,
}

impl<S, Q, R> Service<http::Request<Q>> for Counting<S>
where
    S: Service<http::Request<Q>, Response = http::Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Q>) -> Self::Future {
        let method = self.meters.methods.get(request.uri().path()).cloned();
        let meters = self.meters.clone();
        let answering = self.inner.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            // Only a refusal that comes before everything else is in the head.
            let status = Status::from_header_map(answer.headers());
            let code = name_of(status.map_or(Code::Ok, |status| status.code()));
            let method = method.unwrap_or_else(|| "unknown".to_owned());
            meters.calls.get_or_create(&CallLabels { method, code }).inc();
            Ok(answer)
        })
    }
}

/// As gRPC's own documentation writes it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
