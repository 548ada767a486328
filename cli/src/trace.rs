//! The trace of an apply: one span for the command, and one for each part of it that takes time. A question that an operator
//! is asked is in no part.

use std::time::Duration;

use fleet::{
    time::Timestamp,
    trace::{Span, SpanKind, TraceContext},
};
use traces::Tracer;

use crate::{
    exit::{Exit, Failure},
    screen::Screen,
};

/// Before the command ends, so long the collector gets to take what is left. What was done is shown already.
const FINISH_TIME: Duration = Duration::from_secs(1);
/// The call that others go on from.
const APPLY: &str = "convoy.operator.v1.Operator/Apply";

/// Spans of one command. Without a collector it does nothing.
pub struct Trace {
    tracer: Tracer,
    /// The command's own span, and what that is a part of.
    whole: Option<(TraceContext, Option<TraceContext>)>,
    began: Timestamp,
    since: Timestamp,
}

impl Trace {
    /// The command begins. A collector that cannot be used is said and otherwise ignored.
    pub fn begin(screen: &mut Screen) -> Self {
        let tracer = Tracer::from_environment("convoy", env!("CARGO_PKG_VERSION")).unwrap_or_else(|why| {
            screen.say(&format!("note: {why}\n"));
            Tracer::default()
        });
        let (whole, began) = (tracer.begin(), now());
        Self { tracer, whole, began, since: began }
    }

    /// A part begins.
    pub fn start(&mut self) {
        self.since = now();
    }

    /// It ends, and the next begins.
    pub fn end(&mut self, name: &'static str) {
        let now = now();
        if let Some((whole, _)) = &self.whole {
            self.tracer.record(Span::part(whole, name, self.since, now));
        }
        self.since = now;
    }

    /// What the coordinator's part is a part of.
    pub fn call(&self) -> Option<TraceContext> {
        self.whole.map(|(whole, _)| whole.child(APPLY))
    }

    /// The coordinator has answered, or not.
    pub fn called(&mut self, answered: bool) {
        let now = now();
        if let Some((whole, _)) = &self.whole {
            let span = Span::of(whole.child(APPLY), Some(whole), APPLY, (self.since, now));
            let span = span.with("rpc.system.name", "grpc").with("rpc.method", APPLY);
            self.tracer.record(span.of_kind(SpanKind::Client).failed(!answered));
        }
        self.since = now;
    }

    /// The command ends.
    pub async fn finish(self, outcome: &Result<Exit, Failure>) {
        if let Some((whole, parent)) = self.whole {
            let exit = match outcome {
                Ok(exit) => *exit,
                Err(failure) => failure.exit,
            };
            let span = Span::of(whole, parent.as_ref(), "convoy apply", (self.began, now()));
            let span = span.with_number("process.exit.code", exit.code().into());
            self.tracer.record(span.failed(!matches!(exit, Exit::Done | Exit::InProgress)));
            self.tracer.finish(FINISH_TIME).await;
        }
    }
}

fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}
