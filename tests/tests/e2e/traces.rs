//! One trace of an apply, from the command to the last node, as an OpenTelemetry collector sees it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{LIMIT, until};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message as _;
use tokio::net::TcpListener;

use crate::small::{NODES, Small, common};

/// A span, and which program sent it.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    span: Span,
}

impl Seen {
    fn attribute(&self, key: &str) -> Option<String> {
        let found = self.span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.as_ref()?.value.as_ref()? {
            Value::StringValue(text) => Some(text.clone()),
            Value::IntValue(number) => Some(number.to_string()),
            _ => None,
        }
    }
}

/// What the receiver took.
#[derive(Debug, Default)]
struct Taken {
    spans: Mutex<Vec<Seen>>,
    /// Requests are read and never answered.
    is_silent: AtomicBool,
    requests: Mutex<Vec<Bytes>>,
}

impl Taken {
    fn take(&self, body: &Bytes) -> Result<()> {
        let request = ExportTraceServiceRequest::decode(body.clone())?;
        self.requests.lock().expect("whoever holds it does not panic").push(body.clone());
        for of_resource in request.resource_spans {
            let attributes = of_resource.resource.context("a resource")?.attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name");
            let name = name.and_then(|name| name.value?.value).context("a service name")?;
            let Value::StringValue(service) = name else { anyhow::bail!("a service name is a text") };
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans
                    .lock()
                    .expect("whoever holds it does not panic")
                    .push(Seen { service: service.clone(), span });
            }
        }
        Ok(())
    }

    /// The spans of one trace by service and name, checked: no span twice, and each parent is there.
    fn trace(&self, trace: &[u8]) -> Result<BTreeMap<Vec<u8>, Seen>> {
        let all = self.spans.lock().expect("whoever holds it does not panic").clone();
        let mut by_number = BTreeMap::new();
        for seen in all.into_iter().filter(|seen| seen.span.trace_id == trace) {
            let twice = by_number.insert(seen.span.span_id.clone(), seen.clone());
            ensure!(twice.is_none(), "sent twice: {seen:#?}\n{twice:#?}");
        }
        Ok(by_number)
    }
}

/// A collector on this host.
async fn collector() -> Result<(String, Arc<Taken>)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}", listener.local_addr()?);
    let taken = Arc::new(Taken::default());
    let shared = taken.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let taken = shared.clone();
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let taken = taken.clone();
                    async move {
                        assert_eq!(request.uri().path(), "/v1/traces");
                        let body = request.into_body().collect().await.expect("a whole request").to_bytes();
                        if taken.is_silent.load(Ordering::Relaxed) {
                            std::future::pending::<()>().await;
                        }
                        taken.take(&body).expect("spans that can be read");
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
            });
        }
    });
    Ok((address, taken))
}

struct Traced {
    small: Small,
    endpoint: String,
    taken: Arc<Taken>,
}

impl Traced {
    async fn open() -> Result<Self> {
        let (endpoint, taken) = collector().await?;
        let mut small = Small::open().await?;
        let environment = environment(&endpoint);
        small.site.coordinator.kill().await?;
        small.site.coordinator.set_environment(&environment);
        small.site.coordinator.restart().await?;
        for node in NODES {
            let agent = small.site.agent_of(node);
            agent.kill().await?;
            agent.start_with(&environment)?;
        }
        Ok(Self { small, endpoint, taken })
    }

    fn applying(&self) -> tokio::process::Command {
        let words = ["apply".as_ref(), self.small.fleet.arg(), "--yes".as_ref(), "--wait".as_ref()];
        let mut command = self.small.site.operator().command(words);
        command.envs(environment(&self.endpoint));
        command
    }

    /// The number of the newest trace that began with an apply.
    fn newest(&self) -> Option<Vec<u8>> {
        let spans = self.taken.spans.lock().expect("whoever holds it does not panic");
        let root = spans.iter().rev().find(|seen| seen.span.name == "convoy apply");
        root.map(|root| root.span.trace_id.clone())
    }
}

fn environment(endpoint: &str) -> [(&'static str, &str); 2] {
    [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "100")]
}

/// Each span as `service: name < name of its parent`, with the node that it or the parent is about.
fn lines(trace: &BTreeMap<Vec<u8>, Seen>) -> Result<Vec<String>> {
    let line = |seen: &Seen| {
        let parent = trace.get(&seen.span.parent_span_id);
        ensure!(seen.span.parent_span_id.is_empty() || parent.is_some(), "its parent is missing: {seen:#?}");
        let of = parent.map(|parent| format!(" < {}", parent.span.name)).unwrap_or_default();
        let node = seen.attribute("convoy.node").or_else(|| parent?.attribute("convoy.node"));
        let node = node.map(|node| format!(" ({node})")).unwrap_or_default();
        Ok(format!("{}: {}{of}{node}", seen.service, seen.span.name))
    };
    let mut lines = trace.values().map(line).collect::<Result<Vec<_>>>()?;
    lines.sort();
    Ok(lines)
}

/// What every apply has that restarts the servers of both nodes.
fn expected(restarts: bool) -> Vec<String> {
    const CALL: &str = "convoy.operator.v1.Operator/Apply";
    let mut lines = vec![
        "convoy: convoy apply".to_owned(),
        "convoy: read directory < convoy apply".to_owned(),
        "convoy: plan < convoy apply".to_owned(),
        format!("convoy: {CALL} < convoy apply"),
        "convoy: wait for rollout < convoy apply".to_owned(),
        format!("convoy-coordinator: {CALL} < {CALL}"),
        format!("convoy-coordinator: rollout < {CALL}"),
    ];
    for part in ["compose", "plan", "store content", "commit"] {
        lines.push(format!("convoy-coordinator: {part} < {CALL}"));
    }
    for node in NODES {
        lines.push(format!("convoy-coordinator: update node < rollout ({node})"));
        for stage in ["sent", "restarting", "soaking"] {
            lines.push(format!("convoy-coordinator: {stage} < update node ({node})"));
        }
        for part in
            ["fetch bundle", "check and stage", "write files", "start server", "wait for health", "report"]
        {
            lines.push(format!("convoy-agent: {part} < update node ({node})"));
        }
        if restarts {
            lines.push(format!("convoy-agent: stop server < update node ({node})"));
        }
    }
    lines.sort();
    lines
}

async fn whole(traced: &Traced, expected: &[String]) -> Result<BTreeMap<Vec<u8>, Seen>> {
    let outcome = until("the whole trace", LIMIT, async || {
        let Some(number) = traced.newest() else { return Ok(None) };
        let trace = traced.taken.trace(&number)?;
        // A parent may come after its parts.
        let Ok(mut lines) = lines(&trace) else { return Ok(None) };
        // How long the coordinator sees files in force and the server not launched depends on which report it reads.
        lines.retain(|line| !line.contains(": written < "));
        Ok((lines == expected).then_some(trace))
    })
    .await;
    outcome.with_context(|| {
        let seen = traced.newest().map(|number| traced.taken.trace(&number).and_then(|trace| lines(&trace)));
        format!("seen: {seen:#?}")
    })
}

#[tokio::test]
async fn an_apply_is_one_trace_from_the_command_to_the_last_node() -> Result<()> {
    let mut traced = Traced::open().await?;
    let ran = traced.applying().output().await?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let trace = whole(&traced, &expected(false)).await?;
    let of = |name: &str| {
        let mut found = trace.values().filter(|seen| seen.span.name == name);
        found.next().cloned().context(name.to_owned())
    };
    let rollout = of("rollout")?;
    ensure!(rollout.attribute("convoy.outcome").as_deref() == Some("done"), "{rollout:#?}");
    let turn = of("update node")?;
    ensure!(turn.attribute("convoy.group").as_deref() == Some("key-manager"), "{turn:#?}");
    for seen in trace.values() {
        ensure!(seen.span.start_time_unix_nano <= seen.span.end_time_unix_nano, "{seen:#?}");
        ensure!(seen.span.status.as_ref().is_none_or(|status| status.code == 0), "{seen:#?}");
    }
    let parts = trace.values().filter(|seen| seen.span.parent_span_id == rollout.span.span_id);
    let last = parts.map(|seen| seen.span.end_time_unix_nano).max();
    ensure!(last <= Some(rollout.span.end_time_unix_nano), "the rollout ends with its last node");

    // A coordinator that is killed in the middle goes on in the same trace.
    traced.small.fleet.write("config/common.toml", common("second"))?;
    let applying = traced.applying().spawn()?;
    until("the first node's turn", LIMIT, async || {
        let spans = traced.taken.spans.lock().expect("whoever holds it does not panic");
        let turns = spans.iter().filter(|seen| seen.span.name == "update node");
        Ok((3 <= turns.count()).then_some(()))
    })
    .await?;
    traced.small.site.coordinator.kill().await?;
    traced.small.site.coordinator.restart().await?;
    let ran = applying.wait_with_output().await?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    whole(&traced, &expected(true)).await?;

    let requests = traced.taken.requests.lock().expect("whoever holds it does not panic").concat();
    let text = String::from_utf8_lossy(&requests);
    ensure!(!text.contains("hunter2") && !text.contains("example.org"), "no content is in a span");
    Ok(())
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_nothing_up() -> Result<()> {
    let traced = Traced::open().await?;
    traced.taken.is_silent.store(true, Ordering::Relaxed);
    let ran = traced.applying().output().await?;
    ensure!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    for node in NODES {
        traced.small.ready(node).await?;
    }
    ensure!(
        traced.taken.spans.lock().expect("whoever holds it does not panic").is_empty(),
        "nothing was taken"
    );
    // One that is not there is said in no other way.
    let mut command = traced.applying();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    ensure!(command.output().await?.status.success(), "nothing to do");
    // One that may not be used is.
    let mut command = traced.applying();
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example");
    let ran = command.output().await?;
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    ensure!(ran.status.success() && said.contains("OTEL_EXPORTER_OTLP_ENDPOINT is set, but"), "{said}");
    Ok(())
}
