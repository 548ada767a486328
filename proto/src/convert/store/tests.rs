use std::collections::BTreeSet;

use prost::Message as _;

use fleet::{
    call::{Call, Check, CommandCall, Tries},
    rollout::{Gate, GateOn, GateVerdict, Gates},
};

use super::*;

fn target(text: &str) -> Target {
    Target { bundle: Digest::of(text.as_bytes()), content: Digest::of(b"encoding"), size: 7 }
}

fn gates() -> Gates {
    let gate = |name: &str, on, on_failure| Gate { name: name.to_owned(), on, on_failure };
    Gates {
        list: vec![
            gate("login", GateOn::Both, None),
            gate("token", GateOn::New, Some(OnFailure::Stop)),
            gate("batch", GateOn::Old, Some(OnFailure::Continue)),
        ],
        content: Digest::of(b"questions"),
    }
}

#[test]
fn rules_read_back_with_their_gates_and_those_of_before_have_none() {
    let goal = GroupGoal { gates: Some(gates()), ..GroupGoal::default() };
    let group = GroupName::parse("gateway").unwrap();
    let rules = RolloutRules { groups: BTreeMap::from([(group, goal)]), ..RolloutRules::default() };
    let message = wire::RolloutRules::from(&rules);
    assert_eq!(RolloutRules::try_from(message.clone()).unwrap(), rules);
    let mut older = message;
    older.groups.values_mut().for_each(|group| group.gates = None);
    assert_eq!(RolloutRules::try_from(older).unwrap().groups.values().next().unwrap().gates, None);
}

#[test]
fn a_question_is_found_by_node_and_gate() {
    let node = NodeName::parse("n-1").unwrap();
    let call = Call::Command(CommandCall { program: "/bin/check".to_owned(), args: Vec::new() });
    let tries = Tries { timeout: Duration::from_secs(5), most: 2, interval: Duration::from_secs(1) };
    let check = Check { name: "login".to_owned(), call, tries };
    let bytes = encode_questions(std::iter::once((&node, std::slice::from_ref(&check))));
    assert_eq!(decode_question(&bytes, &node, "login").unwrap(), Some(check));
    assert_eq!(decode_question(&bytes, &node, "other").unwrap(), None);
    assert_eq!(decode_question(&bytes, &NodeName::parse("n-2").unwrap(), "login").unwrap(), None);
    assert!(decode_question(b"\xff", &node, "login").is_err());
}

fn states() -> Vec<StepState> {
    let (generation, at, why) = (Generation(4), Timestamp(9), "because".to_owned());
    let flight = |kind, stage, written| {
        StepState::InFlight(Flight {
            kind,
            generation,
            restarts: true,
            sent: Timestamp(3),
            written,
            stage,
            since: Timestamp(5),
            blind: Blind { since: written, spent: Duration::from_secs(3) },
        })
    };
    vec![
        StepState::Pending,
        flight(StepKind::Update, FlightStage::Sent, None),
        flight(StepKind::RollBack, FlightStage::Soaking, Some(Timestamp(4))),
        StepState::Ready { generation, at, restarted: true },
        StepState::Failed { generation, at, why: why.clone() },
        StepState::RolledBack { generation, at },
        StepState::ReturnFailed { generation, at, why: why.clone() },
        StepState::ReturnUnseen { generation, at, why: why.clone() },
        StepState::Skipped { why },
    ]
}

fn spent() -> Spent {
    Spent {
        sent: Duration::from_millis(1),
        written: Duration::from_millis(2),
        restarting: Duration::from_millis(3),
        soaking: Duration::from_millis(4),
        returning: Duration::from_millis(5),
    }
}

fn rollout(phase: Phase) -> Rollout {
    let group = GroupName::parse("gateway").unwrap();
    let window = Window::new(
        WindowUse::Restart,
        Cron::parse("0 2 * * 1-5").unwrap(),
        Duration::from_secs(3600),
        "UTC",
        Overrun::Fit,
    );
    let policy = RolloutPolicy {
        canary: Some(Share::Count(1)),
        promotion: Promotion::Manual,
        wave: Some(Share::Percent(25)),
        on_failure: OnFailure::Continue,
        windows: vec![window.unwrap()],
        ..RolloutPolicy::default()
    };
    let step = |(index, state): (usize, StepState)| {
        let record = StepRecord {
            group: group.clone(),
            wave: 2,
            target: target("new"),
            restart: RestartClass::Phased,
            compared_with: Some(Digest::of(b"old")),
            last_good: Some(target("old")),
            state,
            begun: Some(Timestamp(5)),
            spent: spent(),
        };
        (NodeName::parse(&format!("n-{index}")).unwrap(), record)
    };
    let progress = GroupRollout {
        policy,
        after: BTreeSet::from([GroupName::parse("key-manager").unwrap()]),
        wave: 1,
        wave_ready: Some(Timestamp(8)),
        promoted: Some(0),
        progress: Timestamp(7),
        blind: Blind { since: Some(Timestamp(6)), spent: Duration::from_secs(2) },
        gates: Some(gates()),
        verdicts: [None, Some("status 500".to_owned())]
            .map(|failure| GateVerdict {
                wave: 1,
                gate: "login".to_owned(),
                node: NodeName::parse("n-1").unwrap(),
                at: Timestamp(9),
                failure,
            })
            .to_vec(),
    };
    Rollout {
        id: RolloutId(3),
        revision: Revision(2),
        started: Timestamp(1),
        ended: phase.is_end().then_some(Timestamp(99)),
        phase,
        paused: Some(Pause { why: "lunch".to_owned(), at: Timestamp(6) }),
        windows_overridden: Some("urgent".to_owned()),
        policy: FleetPolicy {
            max_unavailable: Some(Share::Percent(10)),
            max_unavailable_per_zone: Some(Share::Count(3)),
            parallel_zones: true,
            failures_max: None,
            spread_hosts: true,
        },
        groups: BTreeMap::from([(group.clone(), progress)]),
        steps: states().into_iter().enumerate().map(step).collect(),
    }
}

#[test]
fn a_rollout_reads_back_from_its_bytes_in_every_phase_and_step_state() {
    let why = || "a node failed".to_owned();
    let phases = [
        Phase::Running,
        Phase::Stopping { why: why(), aborted: true },
        Phase::RollingBack { why: why() },
        Phase::Done,
        Phase::Failed { why: why() },
        Phase::RolledBack { why: why() },
        Phase::Aborted { why: why() },
        Phase::Superseded { by: RolloutId(4) },
    ];
    for phase in phases {
        let rollout = rollout(phase);
        let steps = super::steps_to_wire(rollout.steps.iter()).steps;
        let bytes = wire::Rollout { steps, ..wire::Rollout::from(&rollout) }.encode_to_vec();
        let read = wire::Rollout::decode(bytes.as_slice()).unwrap();
        assert_eq!(Rollout::try_from(read).unwrap(), rollout);
    }
}

#[test]
fn a_damaged_rollout_is_an_error_and_never_an_empty_one() {
    let whole = rollout(Phase::Running);
    let steps = super::steps_to_wire(whole.steps.iter()).steps;
    let good = wire::Rollout { steps, ..wire::Rollout::from(&whole) };
    let mut unknown_state = good.clone();
    unknown_state.steps.values_mut().for_each(|step| step.state = "sideways".to_owned());
    let mut no_target = good.clone();
    no_target.steps.values_mut().for_each(|step| step.target = None);
    for damaged in [wire::Rollout { phase: None, ..good }, unknown_state, no_target, wire::Rollout::default()]
    {
        assert!(Rollout::try_from(damaged).is_err());
    }
}
