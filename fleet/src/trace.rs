//! Traces of a change: the context that one program hands to the next (W3C Trace Context, version 00), and spans as
//! values. Nothing here knows OpenTelemetry; whoever records something makes spans of it, and the crate `traces` sends
//! them.
//!
//! The number of a span is a digest of its parent's and of what it is about. So a program that was restarted goes on
//! with the same spans, and no number has to be stored.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::time::Timestamp;

/// Characters of a `traceparent` of version 00.
const TEXT_LEN: usize = 55;
/// Longer ones are not looked at, in characters. Later versions of the format may append fields.
const TEXT_MAX: usize = 256;

/// A span as others name it: the trace it belongs to, its number, and whether anybody wants to see it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceContext {
    /// Of the trace; never all zero.
    pub trace: [u8; 16],
    /// Of the span; never all zero.
    pub span: [u8; 8],
    /// Whether spans of this trace are recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// What a `traceparent` says; `None` if it is malformed, which is to be treated as if it was absent.
    pub fn parse(text: &str) -> Option<Self> {
        if TEXT_MAX < text.len() || !text.is_ascii() {
            return None;
        }
        let (own, rest) = text.split_at_checked(TEXT_LEN)?;
        let mut parts = own.split('-');
        let mut next = || parts.next();
        let (version, trace, span, flags) = (next()?, next()?, next()?, next()?);
        let [version] = hex(version)?;
        let is_known = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let (trace, span, [flags]) = (hex(trace)?, hex(span)?, hex(flags)?);
        let is_whole = is_known && parts.next().is_none() && trace != [0; 16] && span != [0; 8];
        is_whole.then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// The part of this span that is about `what`, always with the same number.
    #[must_use]
    pub fn child(&self, what: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.trace);
        hash.update(self.span);
        hash.update(what);
        let mut span = [0; 8];
        span.copy_from_slice(&hash.finalize()[..8]);
        if span == [0; 8] {
            span[7] = 1;
        }
        Self { span, ..*self }
    }
}

/// As a `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("-")?;
        self.span.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        write!(f, "-{:02x}", u8::from(self.sampled))
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Exactly `N` bytes in lower-case hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Something that took time and is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its own.
    pub context: TraceContext,
    /// The number of the span that it is a part of; `None`: the trace begins with it.
    pub parent: Option<[u8; 8]>,
    /// One of few; what it is about is in the attributes.
    pub name: &'static str,
    /// Its part in a call.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// Names by the conventions of OpenTelemetry, or `convoy.`. Names, words and numbers only: never a text that
    /// somebody typed, never content.
    pub attributes: Vec<(&'static str, Value)>,
    /// It did not do what it was to do.
    pub failed: bool,
}

/// The part of a span in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// None.
    Internal,
    /// It calls.
    Client,
    /// It answers.
    Server,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A name or a word.
    Text(String),
    /// A number.
    Number(u64),
}

impl Span {
    /// A part of `parent` that has no parts itself.
    pub fn part(parent: &TraceContext, name: &'static str, start: Timestamp, end: Timestamp) -> Self {
        Self::of(parent.child(&format!("{name} {} {}", start.0, end.0)), Some(parent), name, (start, end))
    }

    /// The span `context`, which is a part of `parent`.
    pub fn of(
        context: TraceContext,
        parent: Option<&TraceContext>,
        name: &'static str,
        (start, end): (Timestamp, Timestamp),
    ) -> Self {
        Self {
            context,
            parent: parent.map(|parent| parent.span),
            name,
            kind: SpanKind::Internal,
            start,
            end: end.max(start),
            attributes: Vec::new(),
            failed: false,
        }
    }

    /// With a name or a word that says more.
    #[must_use]
    pub fn with(mut self, key: &'static str, text: impl fmt::Display) -> Self {
        self.attributes.push((key, Value::Text(text.to_string())));
        self
    }

    /// With a number that says more.
    #[must_use]
    pub fn with_number(mut self, key: &'static str, number: u64) -> Self {
        self.attributes.push((key, Value::Number(number)));
        self
    }

    /// With its outcome.
    #[must_use]
    pub fn failed(self, failed: bool) -> Self {
        Self { failed, ..self }
    }

    /// As a part of a call.
    #[must_use]
    pub fn of_kind(self, kind: SpanKind) -> Self {
        Self { kind, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let context = TraceContext::parse(TEXT).unwrap();
        assert_eq!((context.to_string().as_str(), context.sampled), (TEXT, true));
        let unwanted = TraceContext::parse(&TEXT.replace("-01", "-00")).unwrap();
        assert!(!unwanted.sampled && unwanted.to_string().ends_with("-00"));
        // Only the lowest flag is known; a later version may say more.
        let more = format!("cc{}-anything", &TEXT[2..]);
        assert_eq!(TraceContext::parse(&more), Some(context));
        assert!(TraceContext::parse(&TEXT.replace("-01", "-03")).unwrap().sampled);
    }

    #[test]
    fn a_malformed_traceparent_is_as_if_there_was_none() {
        let long = format!("01{}-{}", &TEXT[2..], "x".repeat(300));
        for bad in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\n",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e47360-0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6-3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902bé-01",
            &long,
        ] {
            assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_child_is_of_the_same_trace_and_always_has_the_same_number() {
        let context = TraceContext::parse(TEXT).unwrap();
        let child = context.child("rollout 7");
        assert_eq!(child, context.child("rollout 7"));
        assert_eq!((child.trace, child.sampled), (context.trace, true));
        assert_ne!(child.span, context.span);
        assert_ne!(child.span, context.child("rollout 8").span);
        assert_ne!(child.child("x").span, context.child("x").span);
    }

    #[test]
    fn a_span_does_not_end_before_it_begins() {
        let context = TraceContext::parse(TEXT).unwrap();
        let span = Span::part(&context, "write", Timestamp(9), Timestamp(4));
        assert_eq!((span.start, span.end, span.parent), (Timestamp(9), Timestamp(9), Some(context.span)));
    }
}
