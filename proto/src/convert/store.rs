//! Records of the store that are domain values of `fleet`: rollouts. The coordinator's own records are converted
//! where they are defined.

mod gates;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet::{
    bundle::RestartClass,
    ids::{Digest, Generation, GroupName, NodeName, Revision, RolloutId},
    rollout::{
        Blind, Cron, FleetPolicy, Flight, FlightStage, GroupGoal, GroupRollout, OnFailure, Overrun, Pause,
        Phase, Promotion, Rollout, RolloutPolicy, RolloutRules, Share, Spent, StepKind, StepRecord,
        StepState, Target, Window, WindowUse,
    },
    time::Timestamp,
    words::{RolloutWord, Said, StepWord},
};

pub use self::gates::{decode_question, encode_questions};
use self::gates::{gates_from_wire, gates_to_wire, verdict_from_wire, verdict_to_wire};
use crate::{
    convert::{
        ConvertError,
        bundle::{digest, millis},
        invalid, required,
    },
    wire::{bundle as bundle_wire, store as wire},
};

/// Zero stands for "not yet" in every time of these records.
fn time_or_zero(at: Option<Timestamp>) -> i64 {
    at.map_or(0, |at| at.0)
}

fn time_from_zero(ms: i64) -> Option<Timestamp> {
    Some(Timestamp(ms)).filter(|at| at.0 != 0)
}

/// The word of `value` in a table of words.
fn word<T: PartialEq>(table: &[(T, &'static str)], value: &T) -> String {
    table.iter().find(|(known, _)| known == value).map_or("", |(_, word)| *word).to_owned()
}

/// The value of a word in a table of words.
fn value<T: Copy>(
    table: &[(T, &'static str)],
    text: &str,
    (message, field): (&'static str, &'static str),
) -> Result<T, ConvertError> {
    let known = table.iter().find(|(_, word)| *word == text).map(|(value, _)| *value);
    known.ok_or_else(|| invalid(message, field, format!("{text:?} is not known")))
}

const WINDOW_USES: [(WindowUse, &str); 3] =
    [(WindowUse::Any, "any"), (WindowUse::Restart, "restart"), (WindowUse::Write, "write")];
/// The state of a step that is on its way; how far it is stands in its flight.
const IN_FLIGHT: &str = "in-flight";
const OVERRUNS: [(Overrun, &str); 2] = [(Overrun::Finish, "finish"), (Overrun::Fit, "fit")];
const STAGES: [(FlightStage, &str); 4] = [
    (FlightStage::Sent, "sent"),
    (FlightStage::Written, "written"),
    (FlightStage::Restarted, "restarted"),
    (FlightStage::Soaking, "soaking"),
];

fn name<T>(parsed: Result<T, fleet::ids::NameError>, message: &'static str) -> Result<T, ConvertError> {
    parsed.map_err(|error| invalid(message, "name", error.to_string()))
}

/// The rollout without its steps ([`steps_to_wire`]) and without who asked for it: the caller fills in `author`, `message`
/// and `rolls_back_to`.
impl From<&Rollout> for wire::Rollout {
    fn from(rollout: &Rollout) -> Self {
        let group = |(name, group): (&GroupName, &GroupRollout)| (name.to_string(), group_to_wire(group));
        Self {
            id: rollout.id.0,
            revision: rollout.revision.0,
            author: String::new(),
            message: String::new(),
            started_ms: rollout.started.0,
            ended_ms: time_or_zero(rollout.ended),
            phase: Some(phase_to_wire(&rollout.phase)),
            pause: rollout
                .paused
                .as_ref()
                .map(|pause| wire::Pause { why: pause.why.clone(), at_ms: pause.at.0 }),
            windows_overridden: rollout.windows_overridden.clone(),
            policy: Some(fleet_policy_to_wire(&rollout.policy)),
            groups: rollout.groups.iter().map(group).collect(),
            steps: BTreeMap::new(),
            rolls_back_to: 0,
            shards: 0,
            traceparent: String::new(),
        }
    }
}

/// Some steps of a rollout.
pub fn steps_to_wire<'a>(steps: impl Iterator<Item = (&'a NodeName, &'a StepRecord)>) -> wire::RolloutSteps {
    wire::RolloutSteps { steps: steps.map(|(name, step)| (name.to_string(), step_to_wire(step))).collect() }
}

/// The steps that [`steps_to_wire`] encoded.
///
/// # Errors
/// A name or a step is not one.
pub fn steps_from_wire(steps: wire::RolloutSteps) -> Result<BTreeMap<NodeName, StepRecord>, ConvertError> {
    let step = |(text, step): (String, wire::Step)| {
        Ok::<_, ConvertError>((name(NodeName::parse(&text), "Rollout")?, step_from_wire(step)?))
    };
    steps.steps.into_iter().map(step).collect()
}

impl TryFrom<wire::Rollout> for Rollout {
    type Error = ConvertError;

    fn try_from(rollout: wire::Rollout) -> Result<Self, ConvertError> {
        let policy = required(rollout.policy, "Rollout", "policy")?;
        let group = |(text, group): (String, wire::GroupRollout)| {
            Ok::<_, ConvertError>((name(GroupName::parse(&text), "Rollout")?, group_from_wire(group)?))
        };
        Ok(Self {
            id: RolloutId(rollout.id),
            revision: Revision(rollout.revision),
            started: Timestamp(rollout.started_ms),
            ended: time_from_zero(rollout.ended_ms),
            phase: phase_from_wire(required(rollout.phase, "Rollout", "phase")?)?,
            paused: rollout.pause.map(|pause| Pause { why: pause.why, at: Timestamp(pause.at_ms) }),
            windows_overridden: rollout.windows_overridden,
            policy: fleet_policy_from_wire(&policy)?,
            groups: rollout.groups.into_iter().map(group).collect::<Result<BTreeMap<_, _>, _>>()?,
            steps: steps_from_wire(wire::RolloutSteps { steps: rollout.steps })?,
        })
    }
}

fn fleet_policy_to_wire(policy: &FleetPolicy) -> wire::FleetPolicy {
    wire::FleetPolicy {
        max_unavailable: policy.max_unavailable.map(share_to_wire),
        max_unavailable_per_zone: policy.max_unavailable_per_zone.map(share_to_wire),
        parallel_zones: policy.parallel_zones,
        failures_max: policy.failures_max.map(share_to_wire),
        spread_hosts: policy.spread_hosts,
    }
}

fn fleet_policy_from_wire(policy: &wire::FleetPolicy) -> Result<FleetPolicy, ConvertError> {
    Ok(FleetPolicy {
        max_unavailable: share_from_wire(policy.max_unavailable)?,
        max_unavailable_per_zone: share_from_wire(policy.max_unavailable_per_zone)?,
        parallel_zones: policy.parallel_zones,
        failures_max: share_from_wire(policy.failures_max)?,
        spread_hosts: policy.spread_hosts,
    })
}

impl From<&RolloutRules> for wire::RolloutRules {
    fn from(rules: &RolloutRules) -> Self {
        let group = |(name, goal): (&GroupName, &GroupGoal)| {
            let after = after_to_wire(&goal.after);
            let (policy, gates) =
                (Some(policy_to_wire(&goal.policy)), goal.gates.as_ref().map(gates_to_wire));
            (name.to_string(), wire::GroupRules { policy, after, gates })
        };
        Self {
            policy: Some(fleet_policy_to_wire(&rules.policy)),
            groups: rules.groups.iter().map(group).collect(),
        }
    }
}

impl TryFrom<wire::RolloutRules> for RolloutRules {
    type Error = ConvertError;

    fn try_from(rules: wire::RolloutRules) -> Result<Self, ConvertError> {
        let group = |(text, group): (String, wire::GroupRules)| {
            let policy = policy_from_wire(&required(group.policy, "GroupRules", "policy")?)?;
            let after = after_from_wire(&group.after, "GroupRules")?;
            let goal = GroupGoal { policy, after, gates: group.gates.map(gates_from_wire).transpose()? };
            Ok::<_, ConvertError>((name(GroupName::parse(&text), "RolloutRules")?, goal))
        };
        Ok(Self {
            policy: fleet_policy_from_wire(&required(rules.policy, "RolloutRules", "policy")?)?,
            groups: rules.groups.into_iter().map(group).collect::<Result<_, _>>()?,
        })
    }
}

fn after_to_wire(after: &BTreeSet<GroupName>) -> Vec<String> {
    after.iter().map(ToString::to_string).collect()
}

fn after_from_wire(after: &[String], message: &'static str) -> Result<BTreeSet<GroupName>, ConvertError> {
    after.iter().map(|text| name(GroupName::parse(text), message)).collect()
}

fn phase_to_wire(phase: &Phase) -> wire::Phase {
    let word = phase.word().to_string();
    let (why, aborted, by) = match phase {
        Phase::Running | Phase::Done => ("", false, 0),
        Phase::Stopping { why, aborted } => (why.as_str(), *aborted, 0),
        Phase::RollingBack { why }
        | Phase::Failed { why }
        | Phase::RolledBack { why }
        | Phase::Aborted { why } => (why.as_str(), false, 0),
        Phase::Superseded { by } => ("", false, by.0),
    };
    wire::Phase { phase: word, why: why.to_owned(), aborted, superseded_by: by }
}

fn phase_from_wire(phase: wire::Phase) -> Result<Phase, ConvertError> {
    let why = phase.why;
    Ok(match Said::of(&phase.phase) {
        Said::Word(RolloutWord::Running) => Phase::Running,
        Said::Word(RolloutWord::Stopping) => Phase::Stopping { why, aborted: phase.aborted },
        Said::Word(RolloutWord::RollingBack) => Phase::RollingBack { why },
        Said::Word(RolloutWord::Done) => Phase::Done,
        Said::Word(RolloutWord::Failed) => Phase::Failed { why },
        Said::Word(RolloutWord::RolledBack) => Phase::RolledBack { why },
        Said::Word(RolloutWord::Aborted) => Phase::Aborted { why },
        Said::Word(RolloutWord::Superseded) => Phase::Superseded { by: RolloutId(phase.superseded_by) },
        // A pause is stored beside the phase.
        other @ (Said::Word(RolloutWord::Paused) | Said::Other(_)) => {
            return Err(invalid("Phase", "phase", format!("{:?} is not known", other.as_str())));
        }
    })
}

fn share_to_wire(share: Share) -> wire::Share {
    let share = match share {
        Share::Count(count) => wire::share::Share::Count(count),
        Share::Percent(percent) => wire::share::Share::Percent(percent.into()),
    };
    wire::Share { share: Some(share) }
}

fn share_from_wire(share: Option<wire::Share>) -> Result<Option<Share>, ConvertError> {
    let share = share.and_then(|share| share.share);
    Ok(match share {
        None => None,
        Some(wire::share::Share::Count(count)) => Some(Share::Count(count)),
        Some(wire::share::Share::Percent(percent)) => {
            let percent = u8::try_from(percent).ok().filter(|percent| *percent <= 100);
            Some(Share::Percent(percent.ok_or_else(|| invalid("Share", "percent", "more than 100"))?))
        }
    })
}

fn policy_to_wire(policy: &RolloutPolicy) -> wire::GroupPolicy {
    wire::GroupPolicy {
        canary: policy.canary.map(share_to_wire),
        promotion: word(&Promotion::ALL, &policy.promotion),
        max_unavailable: Some(share_to_wire(policy.max_unavailable)),
        max_unavailable_per_zone: policy.max_unavailable_per_zone.map(share_to_wire),
        wave: policy.wave.map(share_to_wire),
        soak_ms: millis(policy.soak),
        min_healthy_time_ms: millis(policy.min_healthy_time),
        healthy_deadline_ms: millis(policy.healthy_deadline),
        progress_deadline_ms: millis(policy.progress_deadline),
        on_failure: word(&OnFailure::ALL, &policy.on_failure),
        windows: policy.windows.iter().map(window_to_wire).collect(),
    }
}

fn policy_from_wire(policy: &wire::GroupPolicy) -> Result<RolloutPolicy, ConvertError> {
    let of = |field| ("GroupPolicy", field);
    let max_unavailable = share_from_wire(policy.max_unavailable)?;
    Ok(RolloutPolicy {
        canary: share_from_wire(policy.canary)?,
        promotion: value(&Promotion::ALL, &policy.promotion, of("promotion"))?,
        max_unavailable: required(max_unavailable, "GroupPolicy", "max_unavailable")?,
        max_unavailable_per_zone: share_from_wire(policy.max_unavailable_per_zone)?,
        wave: share_from_wire(policy.wave)?,
        soak: Duration::from_millis(policy.soak_ms),
        min_healthy_time: Duration::from_millis(policy.min_healthy_time_ms),
        healthy_deadline: Duration::from_millis(policy.healthy_deadline_ms),
        progress_deadline: Duration::from_millis(policy.progress_deadline_ms),
        on_failure: value(&OnFailure::ALL, &policy.on_failure, of("on_failure"))?,
        windows: policy.windows.iter().map(window_from_wire).collect::<Result<_, _>>()?,
    })
}

fn window_to_wire(window: &Window) -> wire::Window {
    wire::Window {
        for_steps: word(&WINDOW_USES, &window.for_steps),
        opens: window.opens.to_string(),
        duration_ms: millis(window.duration),
        zone: window.zone.clone(),
        overrun: word(&OVERRUNS, &window.overrun),
    }
}

fn window_from_wire(window: &wire::Window) -> Result<Window, ConvertError> {
    let refused = |error: fleet::rollout::window::WindowError| invalid("Window", "opens", error.to_string());
    let opens = Cron::parse(&window.opens).map_err(refused)?;
    let for_steps = value(&WINDOW_USES, &window.for_steps, ("Window", "for_steps"))?;
    let overrun = value(&OVERRUNS, &window.overrun, ("Window", "overrun"))?;
    Window::new(for_steps, opens, Duration::from_millis(window.duration_ms), &window.zone, overrun)
        .map_err(refused)
}

fn group_to_wire(group: &GroupRollout) -> wire::GroupRollout {
    wire::GroupRollout {
        policy: Some(policy_to_wire(&group.policy)),
        after: after_to_wire(&group.after),
        wave: group.wave,
        wave_ready_ms: time_or_zero(group.wave_ready),
        promoted: group.promoted,
        progress_ms: group.progress.0,
        blind: blind_to_wire(&group.blind),
        gates: group.gates.as_ref().map(gates_to_wire),
        verdicts: group.verdicts.iter().map(verdict_to_wire).collect(),
    }
}

fn group_from_wire(group: wire::GroupRollout) -> Result<GroupRollout, ConvertError> {
    Ok(GroupRollout {
        policy: policy_from_wire(&required(group.policy, "GroupRollout", "policy")?)?,
        after: after_from_wire(&group.after, "GroupRollout")?,
        wave: group.wave,
        wave_ready: time_from_zero(group.wave_ready_ms),
        promoted: group.promoted,
        progress: Timestamp(group.progress_ms),
        blind: blind_from_wire(group.blind.as_ref()),
        gates: group.gates.map(gates_from_wire).transpose()?,
        verdicts: group.verdicts.into_iter().map(verdict_from_wire).collect::<Result<_, _>>()?,
    })
}

fn target_to_wire(target: &Target) -> wire::StepTarget {
    wire::StepTarget {
        bundle: target.bundle.0.to_vec(),
        content: target.content.0.to_vec(),
        size: target.size,
    }
}

fn target_from_wire(target: &wire::StepTarget) -> Result<Target, ConvertError> {
    Ok(Target {
        bundle: digest(&target.bundle, "StepTarget", "bundle")?,
        content: digest(&target.content, "StepTarget", "content")?,
        size: target.size,
    })
}

fn step_to_wire(step: &StepRecord) -> wire::Step {
    let mut message = wire::Step {
        group: step.group.to_string(),
        wave: step.wave,
        target: Some(target_to_wire(&step.target)),
        restart: restart_to_wire(step.restart).into(),
        compared_with: step.compared_with.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        last_good: step.last_good.as_ref().map(target_to_wire),
        state: step.state.word().to_string(),
        generation: step.state.generation().map_or(0, |generation| generation.0),
        at_ms: time_or_zero(step.state.since()),
        why: step.state.why().unwrap_or_default().to_owned(),
        restarted: matches!(step.state, StepState::Ready { restarted: true, .. }),
        flight: None,
        begun_ms: time_or_zero(step.begun),
        spent: (step.spent != Spent::default()).then(|| spent_to_wire(&step.spent)),
    };
    if let Some(flight) = step.flight() {
        message.state = IN_FLIGHT.to_owned();
        message.flight = Some(wire::Flight {
            returns: flight.kind == StepKind::RollBack,
            restarts: flight.restarts,
            sent_ms: flight.sent.0,
            written_ms: time_or_zero(flight.written),
            stage: word(&STAGES, &flight.stage),
            since_ms: flight.since.0,
            blind: blind_to_wire(&flight.blind),
        });
    }
    message
}

fn step_from_wire(step: wire::Step) -> Result<StepRecord, ConvertError> {
    let restart = step.restart();
    let compared_with = Some(step.compared_with.as_slice()).filter(|bytes| !bytes.is_empty());
    let compared_with: Option<Digest> =
        compared_with.map(|bytes| digest(bytes, "Step", "compared_with")).transpose()?;
    let target = required(step.target.as_ref(), "Step", "target")?;
    Ok(StepRecord {
        group: name(GroupName::parse(&step.group), "Step")?,
        wave: step.wave,
        target: target_from_wire(target)?,
        restart: restart_from_wire(restart)?,
        compared_with,
        last_good: step.last_good.as_ref().map(target_from_wire).transpose()?,
        begun: time_from_zero(step.begun_ms),
        spent: step.spent.as_ref().map(spent_from_wire).unwrap_or_default(),
        state: state_from_wire(step)?,
    })
}

fn blind_to_wire(blind: &Blind) -> Option<wire::Blind> {
    (*blind != Blind::default())
        .then(|| wire::Blind { since_ms: time_or_zero(blind.since), spent_ms: millis(blind.spent) })
}

fn blind_from_wire(blind: Option<&wire::Blind>) -> Blind {
    blind.map_or_else(Blind::default, |blind| Blind {
        since: time_from_zero(blind.since_ms),
        spent: Duration::from_millis(blind.spent_ms),
    })
}

fn spent_to_wire(spent: &Spent) -> wire::Spent {
    wire::Spent {
        sent_ms: millis(spent.sent),
        written_ms: millis(spent.written),
        restarting_ms: millis(spent.restarting),
        soaking_ms: millis(spent.soaking),
        returning_ms: millis(spent.returning),
    }
}

fn spent_from_wire(spent: &wire::Spent) -> Spent {
    Spent {
        sent: Duration::from_millis(spent.sent_ms),
        written: Duration::from_millis(spent.written_ms),
        restarting: Duration::from_millis(spent.restarting_ms),
        soaking: Duration::from_millis(spent.soaking_ms),
        returning: Duration::from_millis(spent.returning_ms),
    }
}

fn state_from_wire(step: wire::Step) -> Result<StepState, ConvertError> {
    let (generation, at, why) = (Generation(step.generation), Timestamp(step.at_ms), step.why);
    if step.state == IN_FLIGHT {
        let flight = required(step.flight, "Step", "flight")?;
        return Ok(StepState::InFlight(Flight {
            kind: if flight.returns { StepKind::RollBack } else { StepKind::Update },
            generation,
            restarts: flight.restarts,
            sent: Timestamp(flight.sent_ms),
            written: time_from_zero(flight.written_ms),
            stage: value(&STAGES, &flight.stage, ("Flight", "stage"))?,
            since: Timestamp(flight.since_ms),
            blind: blind_from_wire(flight.blind.as_ref()),
        }));
    }
    Ok(match Said::of(&step.state) {
        Said::Word(StepWord::Pending) => StepState::Pending,
        Said::Word(StepWord::Ready) => StepState::Ready { generation, at, restarted: step.restarted },
        Said::Word(StepWord::Failed) => StepState::Failed { generation, at, why },
        Said::Word(StepWord::RolledBack) => StepState::RolledBack { generation, at },
        Said::Word(StepWord::ReturnFailed) => StepState::ReturnFailed { generation, at, why },
        Said::Word(StepWord::ReturnUnseen) => StepState::ReturnUnseen { generation, at, why },
        Said::Word(StepWord::Skipped) => StepState::Skipped { why },
        other => return Err(invalid("Step", "state", format!("{:?} is not known", other.as_str()))),
    })
}

fn restart_to_wire(restart: RestartClass) -> bundle_wire::RestartClass {
    match restart {
        RestartClass::None => bundle_wire::RestartClass::None,
        RestartClass::Hot => bundle_wire::RestartClass::Hot,
        RestartClass::Restart => bundle_wire::RestartClass::Restart,
        RestartClass::Phased => bundle_wire::RestartClass::Phased,
    }
}

fn restart_from_wire(restart: bundle_wire::RestartClass) -> Result<RestartClass, ConvertError> {
    match restart {
        bundle_wire::RestartClass::None => Ok(RestartClass::None),
        bundle_wire::RestartClass::Hot => Ok(RestartClass::Hot),
        bundle_wire::RestartClass::Restart => Ok(RestartClass::Restart),
        bundle_wire::RestartClass::Phased => Ok(RestartClass::Phased),
        bundle_wire::RestartClass::Unspecified => Err(invalid("Step", "restart", "not stated")),
    }
}

#[cfg(test)]
mod tests;
