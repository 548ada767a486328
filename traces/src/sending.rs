//! Spans on their way to the collector: a queue and a thread of OpenTelemetry's SDK, which hands each batch to a task of
//! the Tokio runtime. What `OTEL_BSP_*` and `OTEL_EXPORTER_OTLP_*` set, the SDK reads itself.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use fleet::{
    time::Timestamp,
    trace::{Span, SpanKind, TraceContext, Value},
};
use http::{Request, Response, Uri};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, hyper::HyperClient};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    trace::{
        BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks,
        SpanProcessor as _,
    },
};
use tokio::runtime::Handle;
use tracing::{info, warn};

/// A collector on this host that does not answer within this takes nothing.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Characters of an attribute.
const TEXT_MAX: usize = 256;

/// What sends spans.
#[derive(Clone)]
pub struct Sending {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
}

impl Sending {
    pub fn open(
        (service, version): (&'static str, &'static str),
        (_, endpoint): (&str, String),
        read: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        check(&endpoint, read)?;
        let client = Client {
            inner: HyperClient::with_default_connector(ANSWER_TIME, None),
            runtime: Handle::try_current().map_err(|error| error.to_string())?,
            failing: AtomicBool::new(false),
        };
        let exporter = SpanExporter::builder().with_http().with_http_client(client).build();
        let exporter = exporter.map_err(|error| error.to_string())?;
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        processor.set_resource(&resource(service, version));
        let scope = InstrumentationScope::builder("convoy").with_version(version).build();
        Ok(Self { processor: Arc::new(processor), scope })
    }

    pub fn fresh(&self) -> TraceContext {
        let numbers = RandomIdGenerator::default();
        TraceContext {
            trace: numbers.new_trace_id().to_bytes(),
            span: numbers.new_span_id().to_bytes(),
            sampled: true,
        }
    }

    pub fn record(&self, span: Span) {
        self.processor.on_end(data(span, self.scope.clone()));
    }

    pub async fn finish(self, within: Duration) {
        let Ok(runtime) = Handle::try_current() else { return };
        let ending = runtime.spawn_blocking(move || self.processor.shutdown_with_timeout(within));
        if let Ok(Err(error)) = ending.await {
            warn!(%error, "Not all spans were taken by the collector of traces");
        }
    }
}

/// Only in the clear and only on this host: a collector of this host passes spans on with whatever protection they need.
fn check(endpoint: &str, read: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let uri: Uri = endpoint.trim().parse().map_err(|_| format!("{endpoint:?} is not a URL"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if uri.scheme_str() != Some("http") || !is_here {
        return Err("it has to name a collector on this host, such as http://127.0.0.1:4318; that one passes spans on"
            .to_owned());
    }
    let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let protocol = protocols.into_iter().find_map(|name| read(name).map(|value| (name, value)));
    match protocol {
        Some((name, protocol)) if protocol.trim() != "http/protobuf" => Err(format!(
            "{name} is {protocol:?}, and only \"http/protobuf\" is spoken; the port for it is usually 4318"
        )),
        _ => Ok(()),
    }
}

/// Who sends, as `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say, or else the program's own name.
fn resource(service: &'static str, version: &'static str) -> Resource {
    let given = Resource::builder().build();
    let name = given.get(&"service.name".into()).map(|name| name.to_string());
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version));
    if name.is_some_and(|name| !name.starts_with("unknown_service")) {
        return builder.build();
    }
    builder.with_service_name(service).build()
}

fn data(span: Span, scope: InstrumentationScope) -> SpanData {
    let flags = if span.context.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    let (trace, number) = (TraceId::from_bytes(span.context.trace), SpanId::from_bytes(span.context.span));
    SpanData {
        span_context: SpanContext::new(trace, number, flags, false, TraceState::default()),
        parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
        // Not told apart: most of what has a parent has it in another program.
        parent_span_is_remote: span.kind == SpanKind::Server,
        span_kind: match span.kind {
            SpanKind::Internal => opentelemetry::trace::SpanKind::Internal,
            SpanKind::Client => opentelemetry::trace::SpanKind::Client,
            SpanKind::Server => opentelemetry::trace::SpanKind::Server,
        },
        name: span.name.into(),
        start_time: time(span.start),
        end_time: time(span.end),
        attributes: span
            .attributes
            .into_iter()
            .map(|(key, value)| KeyValue::new(key, shown(value)))
            .collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if span.failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: scope,
    }
}

fn shown(value: Value) -> opentelemetry::Value {
    match value {
        Value::Text(text) => text.chars().take(TEXT_MAX).collect::<String>().into(),
        Value::Number(number) => i64::try_from(number).unwrap_or(i64::MAX).into(),
    }
}

fn time(at: Timestamp) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or_default())
}

/// Sends on the program's runtime, whatever thread asks, and says when the collector goes away and returns.
#[derive(Debug)]
struct Client {
    inner: HyperClient,
    runtime: Handle,
    failing: AtomicBool,
}

impl HttpClient for Client {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let client = self.inner.clone();
            let sent = self.runtime.spawn(async move { client.send_bytes(request).await });
            let answer = sent.await.map_err(HttpError::from).and_then(|answer| answer);
            let trouble = match &answer {
                Ok(answer) if answer.status().is_success() => None,
                Ok(answer) => Some(format!("it answers {}", answer.status())),
                Err(error) => Some(error.to_string()),
            };
            match (&trouble, self.failing.swap(trouble.is_some(), Ordering::Relaxed)) {
                (Some(why), false) => warn!(why, "The collector of traces takes none; spans are dropped"),
                (None, true) => info!("The collector of traces takes spans again"),
                _ => {}
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_to_a_collector_of_this_host_only() {
        let of = |endpoint: &str| check(endpoint, |_| None);
        for good in [
            "http://127.0.0.1:4318",
            "http://localhost:4318/",
            "http://[::1]:4318",
            "http://127.0.0.1:9/v1/traces",
        ] {
            assert_eq!(of(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:4318",
            "https://localhost:4318",
            "http://collector.example:4318",
            "http://10.0.0.7:4318",
            "http://localhost.example",
            "unix:/run/otel.sock",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_one_protocol_is_spoken() {
        let of = |value: &'static str| {
            check("http://localhost:4318", move |name| {
                (name == "OTEL_EXPORTER_OTLP_PROTOCOL").then(|| value.to_owned())
            })
        };
        assert_eq!(of("http/protobuf"), Ok(()));
        assert!(of("grpc").unwrap_err().contains("OTEL_EXPORTER_OTLP_PROTOCOL is \"grpc\""));
        assert!(of("http/json").is_err());
    }

    #[test]
    fn a_span_is_sent_as_it_was_recorded() {
        let context = TraceContext { trace: [1; 16], span: [2; 8], sampled: true };
        let span = Span::part(&context, "write", Timestamp(1_000), Timestamp(1_500))
            .with("convoy.outcome", "x".repeat(1_000))
            .with_number("convoy.generation", 7)
            .failed(true);
        let number = span.context.span;
        let data = data(span, InstrumentationScope::default());
        assert_eq!(data.span_context.trace_id().to_bytes(), [1; 16]);
        assert_eq!(data.span_context.span_id().to_bytes(), number);
        assert_eq!(data.parent_span_id.to_bytes(), [2; 8]);
        assert_eq!(data.end_time.duration_since(data.start_time).unwrap(), Duration::from_millis(500));
        assert_eq!(data.attributes[0].value.as_str().len(), TEXT_MAX);
        assert_eq!(data.attributes[1].value, opentelemetry::Value::I64(7));
        assert!(matches!(data.status, Status::Error { .. }));
    }
}
