//! Spans of this agent's part in a traced rollout, made of the engine's events and actions as they pass. The engine knows
//! nothing of them. What an agent did not see begin, since it was started again in between, has no span.
//!
//! A turn begins with the assignment of a generation and ends with its last acknowledgement. At most one span of each
//! kind is open, so what is kept is bounded.

use std::collections::BTreeMap;

use fleet::{
    call::HookPoint,
    ids::Generation,
    node::{Action, Event},
    observed::{Refusal, RefusalReason, Stage},
    time::Timestamp,
    trace::{Span, TraceContext},
};
use traces::Tracer;

/// Recorder of spans.
#[derive(Default)]
pub struct Spans {
    tracer: Tracer,
    turn: Option<Turn>,
}

/// A generation under way.
struct Turn {
    generation: Generation,
    trace: TraceContext,
    open: BTreeMap<Part, Timestamp>,
    /// Something was done for it. An assignment that was said again is only answered again.
    worked: bool,
    /// The last acknowledgement is out, and only `after_ready` may still run.
    over: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Fetch,
    Stage,
    Write,
    BeforeStop,
    Stop,
    Start,
    Health,
    AfterReady,
    Report,
}

impl Part {
    /// A hook's.
    fn of(point: HookPoint) -> Self {
        match point {
            HookPoint::BeforeStop => Part::BeforeStop,
            HookPoint::AfterReady => Part::AfterReady,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Part::Fetch => "fetch bundle",
            Part::Stage => "check and stage",
            Part::Write => "write files",
            Part::BeforeStop => "before_stop",
            Part::Stop => "stop server",
            Part::Start => "start server",
            Part::Health => "wait for health",
            Part::AfterReady => "after_ready",
            Part::Report => "report",
        }
    }
}

/// How a part ended.
#[derive(Clone, Copy)]
enum Outcome {
    Done,
    Failed(Option<RefusalReason>),
}

impl Outcome {
    fn of<T, E>(result: &Result<T, E>) -> Self {
        if result.is_ok() { Outcome::Done } else { Outcome::Failed(None) }
    }
}

impl Spans {
    /// A recorder that hands spans to `tracer`.
    pub fn new(tracer: Tracer) -> Self {
        Self { tracer, turn: None }
    }

    /// Something has happened, and the engine is about to be told.
    pub fn on_event(&mut self, now: Timestamp, event: &Event) {
        if let Event::Assigned { assignment, .. } = event {
            let (generation, trace) = (assignment.applied.generation, assignment.trace);
            let trace = trace.filter(|trace| self.tracer.wants(trace));
            if self.turn.as_ref().is_none_or(|turn| turn.generation != generation) {
                self.turn = trace.map(|trace| Turn {
                    generation,
                    trace,
                    open: BTreeMap::new(),
                    worked: false,
                    over: false,
                });
            }
            return;
        }
        let Some(turn) = &mut self.turn else { return };
        let span = turn.on_event(now, event);
        self.turn.take_if(|turn| turn.over && turn.open.is_empty());
        span.into_iter().for_each(|span| self.tracer.record(span));
    }

    /// The engine asks for something, which may have to wait for the journal.
    pub fn on_ordered(&mut self, now: Timestamp, action: &Action) {
        if let Some(turn) = &mut self.turn
            && turn.worked
            && !turn.over
            && turn.is_last_word(action)
        {
            turn.open.insert(Part::Report, now);
        }
    }

    /// It is begun.
    pub fn on_begun(&mut self, now: Timestamp, action: &Action) {
        let Some(turn) = self.turn.as_mut().filter(|turn| !turn.over) else { return };
        if turn.is_last_word(action) {
            let health = match action {
                Action::Ack { refusal: Some(refusal), .. } => Outcome::Failed(Some(refusal.reason)),
                _ => Outcome::Done,
            };
            let spans = [turn.end(now, Part::Health, health), turn.end(now, Part::Report, Outcome::Done)];
            turn.over = true;
            turn.open.retain(|part, _| *part == Part::AfterReady);
            self.turn.take_if(|turn| turn.open.is_empty());
            spans.into_iter().flatten().for_each(|span| self.tracer.record(span));
        } else {
            turn.begin(now, action);
        }
    }
}

impl Turn {
    /// The acknowledgement that says how it ended.
    fn is_last_word(&self, action: &Action) -> bool {
        match action {
            Action::Ack { generation, stage, refusal } => {
                // Content may turn up later: that attempt is only told, not over.
                let is_over = |refusal: &Refusal| refusal.reason != RefusalReason::ContentUnavailable;
                *generation == self.generation && refusal.as_ref().map_or(*stage == Stage::Ready, is_over)
            }
            _ => false,
        }
    }

    fn begin(&mut self, now: Timestamp, action: &Action) {
        let is_own = |generation: Generation| generation == self.generation;
        let part = match action {
            Action::Obtain { target, .. } if is_own(target.applied.generation) => Part::Fetch,
            Action::Stage { target, .. } if is_own(target.generation) => Part::Stage,
            Action::Switch { target, .. } if is_own(target.generation) => Part::Write,
            Action::Hook { point, .. } => Part::of(*point),
            Action::Stop(_) => Part::Stop,
            Action::Launch(_) => Part::Start,
            // What is not about this turn, or takes no time of it.
            _ => return,
        };
        self.worked = true;
        self.open.insert(part, now);
    }

    /// The part that an event ends.
    fn on_event(&mut self, now: Timestamp, event: &Event) -> Option<Span> {
        let (part, outcome) = match event {
            Event::Obtained { .. } => (Part::Fetch, Outcome::Done),
            Event::ObtainFailed { failure, .. } => (Part::Fetch, Outcome::Failed(Some(failure.reason))),
            Event::Staged { .. } => (Part::Stage, Outcome::Done),
            Event::StageFailed { failure, .. } => (Part::Stage, Outcome::Failed(Some(failure.reason))),
            Event::Switched { .. } => (Part::Write, Outcome::Done),
            Event::SwitchFailed { failure, .. } => (Part::Write, Outcome::Failed(Some(failure.reason))),
            Event::HookDone { outcome, .. } => {
                let is_before = self.open.contains_key(&Part::BeforeStop);
                (if is_before { Part::BeforeStop } else { Part::AfterReady }, Outcome::of(outcome))
            }
            Event::Exited { .. } => (Part::Stop, Outcome::Done),
            Event::Launched(_) => {
                if !self.over {
                    self.open.insert(Part::Health, now);
                }
                (Part::Start, Outcome::Done)
            }
            Event::LaunchFailed(failure) => (Part::Start, Outcome::Failed(Some(failure.reason))),
            _ => return None,
        };
        self.end(now, part, outcome)
    }

    fn end(&mut self, now: Timestamp, part: Part, outcome: Outcome) -> Option<Span> {
        let since = self.open.remove(&part)?;
        let span = Span::part(&self.trace, part.name(), since, now)
            .with_number("convoy.generation", self.generation.0);
        Some(match outcome {
            Outcome::Done => span,
            Outcome::Failed(Some(reason)) => span.with("error.type", reason).failed(true),
            Outcome::Failed(None) => span.failed(true),
        })
    }
}

#[cfg(test)]
mod tests;
