use std::fmt::Write as _;

use fleet::{
    rollout::{Blind, Flight},
    trace::Value,
};

use super::*;
use crate::store::rollouts::tests::{node, rollout};

const TRACE: TraceContext = TraceContext { trace: [1; 16], span: [2; 8], sampled: true };

fn flight(kind: StepKind, stage: FlightStage, since: i64) -> StepState {
    StepState::InFlight(Flight {
        kind,
        generation: Generation(if kind == StepKind::Update { 5 } else { 6 }),
        restarts: true,
        sent: Timestamp(10),
        written: None,
        stage,
        since: Timestamp(since),
        blind: Blind::default(),
    })
}

/// The spans of a rollout of one node whose step went from one state to the next, one a line.
fn check(was: StepState, is: StepState, phase: Phase) -> String {
    let mut before = rollout(3, 1).rollout;
    before.started = Timestamp(1);
    before.steps.get_mut(&node(0)).unwrap().state = was;
    let mut after = before.clone();
    after.steps.get_mut(&node(0)).unwrap().state = is;
    after.ended = phase.is_end().then_some(Timestamp(40));
    after.phase = phase;
    let mut text = String::new();
    let whole = TRACE.child("rollout 3");
    let turns = [5, 6].map(|number| whole.child(&format!("{} {number}", node(0))));
    for (about, span) in ended(&TRACE, &before, &after, Timestamp(30)) {
        let parent = span.parent.unwrap();
        let parent = match parent {
            parent if parent == TRACE.span => "apply".to_owned(),
            parent if parent == whole.span => "rollout".to_owned(),
            parent => format!("turn {}", 5 + turns.iter().position(|turn| turn.span == parent).unwrap()),
        };
        let (start, end) = (span.start.0, span.end.0);
        write!(text, "{} of {parent}: {start} to {end}", span.name).unwrap();
        assert_eq!(about.is_some(), span.name != "rollout");
        for (key, value) in &span.attributes {
            match value {
                Value::Text(_) if ["convoy.node", "convoy.group"].contains(key) => {}
                Value::Text(word) => write!(text, ", {key} {word}").unwrap(),
                Value::Number(number) => write!(text, ", {key} {number}").unwrap(),
            }
        }
        text.push_str(if span.failed { ", failed\n" } else { "\n" });
    }
    text
}

#[test]
fn a_stage_is_told_when_it_ends_and_a_turn_with_its_last_stage() {
    use FlightStage::{Restarted, Sent, Soaking, Written};
    use StepKind::{RollBack, Update};
    let (generation, at) = (Generation(5), Timestamp(30));
    assert_eq!(check(StepState::Pending, flight(Update, Sent, 10), Phase::Running), "");
    assert_eq!(check(flight(Update, Sent, 10), flight(Update, Sent, 10), Phase::Running), "");
    assert_eq!(
        check(flight(Update, Sent, 10), flight(Update, Written, 30), Phase::Running),
        "sent of turn 5: 10 to 30\n"
    );
    assert_eq!(
        check(
            flight(Update, Soaking, 20),
            StepState::Ready { generation, at, restarted: true },
            Phase::Running
        ),
        "soaking of turn 5: 20 to 30\n\
         update node of rollout: 10 to 30, convoy.wave 0, convoy.generation 5, convoy.outcome ready\n"
    );
    // The way back is a turn of its own, and what it returns from has failed.
    assert_eq!(
        check(
            flight(Update, Restarted, 20),
            flight(RollBack, Sent, 30),
            Phase::RollingBack { why: "x".into() }
        ),
        "restarting of turn 5: 20 to 30\n\
         update node of rollout: 10 to 30, convoy.wave 0, convoy.generation 5, convoy.outcome returning, failed\n"
    );
    assert_eq!(
        check(
            flight(RollBack, Written, 20),
            StepState::RolledBack { generation: Generation(6), at },
            Phase::RolledBack { why: "hunter2".into() }
        ),
        "written of turn 6: 20 to 30\n\
         roll back node of rollout: 10 to 30, convoy.wave 0, convoy.generation 6, convoy.outcome rolled-back\n\
         rollout of apply: 1 to 40, convoy.rollout 3, convoy.revision 3, convoy.nodes 1, convoy.outcome rolled-back, failed\n"
    );
}

#[test]
fn what_a_newer_rollout_takes_over_has_ended_and_not_failed() {
    let text = check(
        flight(StepKind::Update, FlightStage::Written, 20),
        StepState::Skipped { why: "rollout 4 took over".into() },
        Phase::Superseded { by: RolloutId(4) },
    );
    assert_eq!(
        text,
        "written of turn 5: 20 to 30\n\
         update node of rollout: 10 to 30, convoy.wave 0, convoy.generation 5, convoy.outcome skipped\n\
         rollout of apply: 1 to 40, convoy.rollout 3, convoy.revision 3, convoy.nodes 1, convoy.outcome superseded\n"
    );
}

#[test]
fn a_call_names_a_trace_or_is_as_if_it_did_not() {
    let of = |value: Option<&'static str>| {
        let mut metadata = MetadataMap::new();
        if let Some(value) = value {
            metadata.insert("traceparent", value.parse().unwrap());
        }
        of_call(&metadata).map(|trace| trace.to_string())
    };
    let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    assert_eq!(of(Some(text)).as_deref(), Some(text));
    assert_eq!((of(None), of(Some("00-x")), of(Some(""))), (None, None, None));
}

#[test]
fn a_coordinator_that_records_nothing_passes_the_trace_on() {
    let id = RolloutId(3);
    assert_eq!(turn(&Tracer::default(), &TRACE, id, (&node(0), Generation(5))), TRACE);
}
