use fleet::{
    bundle::{Applied, Assignment, RunState},
    ids::{Digest, FleetEpoch, Revision},
    node::{Failure, Placed, StagedFacts},
    observed::ProcessIdentity,
};

use super::*;

const TRACE: TraceContext = TraceContext { trace: [1; 16], span: [2; 8], sampled: true };

fn applied(generation: u64) -> Applied {
    Applied { generation: Generation(generation), bundle: Digest::of(b"bundle") }
}

fn turn(generation: u64) -> Turn {
    let generation = Generation(generation);
    Turn { generation, trace: TRACE, open: BTreeMap::new(), worked: false, over: false }
}

fn ack(generation: u64, stage: Stage, reason: Option<RefusalReason>) -> Action {
    let refusal = reason.map(|reason| Refusal { reason, detail: "hunter2".to_owned(), still_running: None });
    Action::Ack { generation: Generation(generation), stage, refusal }
}

fn switch(generation: u64) -> Event {
    Event::Switched { target: applied(generation) }
}

fn obtain(generation: u64) -> Action {
    Action::Obtain { target: Placed { applied: applied(generation), content: Digest::of(b"c") }, size: 9 }
}

fn line(span: &Span) -> String {
    assert_eq!((span.parent, span.context.trace), (Some(TRACE.span), TRACE.trace));
    let (name, start, end) = (span.name, span.start.0, span.end.0);
    format!("{name}: {start} to {end}{}", if span.failed { ", failed" } else { "" })
}

#[test]
fn each_part_lasts_from_its_action_to_its_event() {
    let process = ProcessIdentity { pid: 7, start_id: "1".to_owned(), started: Timestamp(0) };
    let obtained_failed = Failure { reason: RefusalReason::ContentUnavailable, detail: "hunter2".to_owned() };
    let mut turn = turn(5);
    turn.begin(Timestamp(1), &obtain(5));
    let failed = Event::ObtainFailed { content: Digest::of(b"c"), failure: obtained_failed };
    let span = turn.on_event(Timestamp(4), &failed).unwrap();
    assert_eq!(line(&span), "fetch bundle: 1 to 4, failed");
    assert!(!format!("{span:?}").contains("hunter2"), "no text of others: {span:?}");

    turn.begin(Timestamp(5), &Action::Stop(process.clone()));
    assert_eq!(turn.on_event(Timestamp(6), &switch(5)), None, "nothing of the kind has begun");
    let ended = Event::Exited { process: process.clone(), how: String::new() };
    assert_eq!(line(&turn.on_event(Timestamp(9), &ended).unwrap()), "stop server: 5 to 9");
    assert_eq!(turn.on_event(Timestamp(9), &ended), None, "each ends once");
    assert_eq!(turn.on_event(Timestamp(12), &Event::Launched(process)), None, "somebody else's launch");
    assert!(turn.open.contains_key(&Part::Health));
}

#[test]
fn what_another_generation_does_is_no_part_of_the_turn() {
    let mut turn = turn(5);
    turn.begin(Timestamp(1), &obtain(4));
    assert!(turn.open.is_empty() && !turn.worked);
    let staged = Event::Staged { target: applied(4), facts: StagedFacts::default() };
    assert_eq!(turn.on_event(Timestamp(2), &staged), None);
}

#[test]
fn a_turn_ends_with_ready_or_a_refusal_that_is_final() {
    let turn = turn(5);
    for (action, expected) in [
        (ack(5, Stage::Ready, None), true),
        (ack(5, Stage::Written, None), false),
        (ack(5, Stage::Staged, Some(RefusalReason::PreflightFailed)), true),
        (ack(5, Stage::Staged, Some(RefusalReason::ContentUnavailable)), false),
        (ack(4, Stage::Ready, None), false),
        (obtain(5), false),
    ] {
        assert_eq!(turn.is_last_word(&action), expected, "{action:?}");
    }
}

#[test]
fn only_after_ready_outlives_the_last_word() {
    let mut spans = Spans { tracer: Tracer::default(), turn: Some(turn(5)) };
    let last = ack(5, Stage::Ready, None);
    spans.turn.as_mut().unwrap().open.insert(Part::AfterReady, Timestamp(1));
    spans.turn.as_mut().unwrap().open.insert(Part::Stop, Timestamp(1));
    spans.on_begun(Timestamp(2), &last);
    let open: Vec<Part> = spans.turn.as_ref().unwrap().open.keys().copied().collect();
    assert_eq!(open, [Part::AfterReady]);
    spans.on_begun(Timestamp(3), &obtain(5));
    spans.on_event(Timestamp(4), &Event::HookDone { run: 1, outcome: Ok(String::new()) });
    assert!(spans.turn.is_none());
}

#[test]
fn without_a_tracer_or_a_trace_no_turn_is_kept() {
    let assignment = Assignment {
        applied: applied(5),
        content: Digest::of(b"c"),
        content_size: 9,
        revision: Revision(1),
        run: RunState::Running,
        why: String::new(),
        trace: Some(TRACE),
    };
    let mut spans = Spans { tracer: Tracer::default(), turn: Some(turn(4)) };
    spans.on_event(Timestamp(1), &Event::Assigned { epoch: FleetEpoch([1; 16]), assignment });
    assert!(spans.turn.is_none());
}
