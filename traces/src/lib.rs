//! Sends spans to an OpenTelemetry collector (OTLP over HTTP), if the environment names one and the program was built
//! with the Cargo feature `otel`. docs/traces.md is for people.
//!
//! Whoever records a span is never held up by it: spans wait in a bounded queue and are dropped when that is full or the
//! collector does not take them.

#[cfg(not(feature = "otel"))]
mod absent;
#[cfg(feature = "otel")]
mod sending;

use std::time::Duration;

#[cfg(not(feature = "otel"))]
use absent::Sending;
use fleet::trace::{Span, TraceContext};
#[cfg(feature = "otel")]
use sending::Sending;

/// Where the collector is, in the order in which they count.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Takes spans. Without a collector it does nothing.
#[derive(Clone, Default)]
pub struct Tracer(Option<Sending>);

impl Tracer {
    /// A tracer for the collector that the environment of this process names; one that does nothing if it names none.
    /// `service` is the program, unless `OTEL_SERVICE_NAME` says otherwise. To be called within a Tokio runtime, which
    /// does the sending.
    ///
    /// # Errors
    /// A collector is named and nothing can be sent to it; says what to do, for people.
    pub fn from_environment(service: &'static str, version: &'static str) -> Result<Self, String> {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let Some(endpoint) = endpoint(read) else { return Ok(Self::default()) };
        let (name, _) = endpoint;
        let sending = Sending::open((service, version), endpoint, read);
        let sending = sending.map_err(|why| format!("{name} is set, but no traces are sent: {why}"))?;
        Ok(Self(Some(sending)))
    }

    /// Whether spans of this trace go anywhere.
    pub fn wants(&self, trace: &TraceContext) -> bool {
        self.0.is_some() && trace.sampled
    }

    /// What parts of `what` are parts of: a span that this program records itself, or else `parent`, so that nobody
    /// names a parent that is never seen.
    #[must_use]
    pub fn within(&self, parent: &TraceContext, what: &str) -> TraceContext {
        if self.wants(parent) { parent.child(what) } else { *parent }
    }

    /// A span that begins a trace, with the number of its parent if `TRACEPARENT` names one; `None` if nobody wants it.
    pub fn begin(&self) -> Option<(TraceContext, Option<TraceContext>)> {
        let sending = self.0.as_ref()?;
        let fresh = sending.fresh();
        let parent = std::env::var("TRACEPARENT").ok().and_then(|text| TraceContext::parse(&text));
        Some(match parent {
            Some(parent) => {
                (TraceContext { trace: parent.trace, sampled: parent.sampled, ..fresh }, Some(parent))
            }
            None => (fresh, None),
        })
    }

    /// Takes a span, or drops it. Does not wait.
    pub fn record(&self, span: Span) {
        if let Some(sending) = self.0.as_ref().filter(|_| span.context.sampled) {
            sending.record(span);
        }
    }

    /// Sends what still waits, for at most so long. Nothing can be recorded afterwards.
    pub async fn finish(self, within: Duration) {
        if let Some(sending) = self.0 {
            sending.finish(within).await;
        }
    }
}

/// The variable that names a collector, and what it says.
fn endpoint(read: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let is = |name: &str, value: &str| read(name).is_some_and(|set| set.trim().eq_ignore_ascii_case(value));
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return None;
    }
    ENDPOINTS.into_iter().find_map(|name| read(name).map(|value| (name, value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_collector_or_none() {
        let of = |set: &[(&str, &str)]| {
            let value =
                |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            endpoint(value).map(|(name, value)| format!("{name}={value}"))
        };
        let (all, traces) = (ENDPOINTS[1], ENDPOINTS[0]);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("OTEL_SERVICE_NAME", "x")]), None);
        assert_eq!(of(&[(all, "a")]), Some(format!("{all}=a")));
        assert_eq!(of(&[(all, "a"), (traces, "b")]), Some(format!("{traces}=b")));
        assert_eq!(of(&[(all, "a"), ("OTEL_TRACES_EXPORTER", "none")]), None);
        assert_eq!(of(&[(all, "a"), ("OTEL_SDK_DISABLED", "TRUE")]), None);
        assert_eq!(of(&[(all, "a"), ("OTEL_SDK_DISABLED", "false")]), Some(format!("{all}=a")));
    }

    #[test]
    fn without_a_collector_others_are_given_the_parent_that_somebody_records() {
        let parent = TraceContext { trace: [1; 16], span: [2; 8], sampled: true };
        let tracer = Tracer::default();
        assert!(!tracer.wants(&parent) && tracer.begin().is_none());
        assert_eq!(tracer.within(&parent, "rollout 7"), parent);
    }
}
