//! Messages of the operator API: findings, plans and rollouts, as the CLI shows them.

use std::{collections::BTreeMap, time::Duration};

use fleet::{
    bundle::{Bundle, DriftPolicy, RestartClass},
    finding::Finding,
    ids::{Digest, GroupName, NodeName},
    observed::Drift,
    plan::{
        Adoption, DerivedChange, Effects, FileChange, FileChangeKind, FileDiff, KeyChange, LineKind,
        NodePlan, Note, RenderedChange, SettingChange, Source, Unmanaged, UnmanagedKind,
    },
    restart,
    rollout::{Estimate, Rollout, StepRecord, StepState, WaitReason, order},
    words::{ChangeWord, FileWord, GroupWord, RestartWord, StepWord},
};

use crate::{convert::bundle::millis, wire::operator as wire};

impl From<&Finding> for wire::Finding {
    fn from(finding: &Finding) -> Self {
        let place = finding.place.as_ref();
        Self {
            code: finding.code.to_owned(),
            severity: finding.severity.as_str().to_owned(),
            file: place.map(|place| place.file.clone()).unwrap_or_default(),
            line: place.map_or(0, |place| place.line),
            column: place.map_or(0, |place| place.column),
            line_text: place.map(|place| place.line_text.clone()).unwrap_or_default(),
            message: finding.message.clone(),
            remedy: finding.remedy.clone(),
            node: finding.node.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }
}

/// The word for a restart class, everywhere that people read one.
pub const fn restart_word(class: RestartClass) -> RestartWord {
    match class {
        RestartClass::None => RestartWord::None,
        RestartClass::Hot => RestartWord::Hot,
        RestartClass::Restart => RestartWord::Restart,
        RestartClass::Phased => RestartWord::Phased,
    }
}

/// The same of a node's plan: where a server restarts, a load balancer reloads.
fn plan_restart_word(plan: &NodePlan) -> RestartWord {
    match restart_word(plan.restart.class) {
        _ if plan.is_balancer && plan.restart.restarts() => RestartWord::Reload,
        word => word,
    }
}

/// The word for a drift policy.
pub const fn drift_word(policy: DriftPolicy) -> &'static str {
    match policy {
        DriftPolicy::Enforce => "enforce",
        DriftPolicy::Report => "report",
        DriftPolicy::Ignore => "ignore",
    }
}

/// Keys that a host keeps, in one plan of a node.
const KEPT_MAX: usize = 200;

/// What changes on one node.
pub fn node_plan_to_wire(node: &NodeName, group: &str, plan: &NodePlan) -> wire::NodePlan {
    let (source_ms, source_why) = match &plan.source {
        Source::Now => (0, ""),
        Source::Seen { at, why } => (at.0, why.as_str()),
        Source::Assigned { why } | Source::Nothing { why } => (0, why.as_str()),
    };
    wire::NodePlan {
        node: node.to_string(),
        group: group.to_owned(),
        change: change_word(plan).to_string(),
        files: plan.files.iter().map(Into::into).collect(),
        keys: plan.keys.iter().map(Into::into).collect(),
        kept: plan.kept.iter().take(KEPT_MAX).map(Into::into).collect(),
        restart: plan_restart_word(plan).to_string(),
        restart_why: plan.restart.why.join("; "),
        settings: plan.settings.iter().map(|change| setting_text(plan.is_new, change)).collect(),
        source: plan.source.word().to_string(),
        source_ms,
        source_why: source_why.to_owned(),
        adoption: plan.adoption.map(Adoption::as_str).unwrap_or_default().to_owned(),
        unmanaged: plan.unmanaged.iter().map(Into::into).collect(),
        unpacked_keys: plan.unpacked.map_or(0, |unpacked| unpacked.keys as u64),
        unpacked_files: plan.unpacked.map_or(0, |unpacked| unpacked.files as u64),
        ..wire::NodePlan::default()
    }
}

impl From<&Unmanaged> for wire::Unmanaged {
    fn from(lost: &Unmanaged) -> Self {
        let (by, reason, until) = match &lost.kind {
            UnmanagedKind::PausedEdit { reason, until, by } => (by.as_deref(), reason.as_str(), until.0),
            UnmanagedKind::AcceptedEdit { by } => (by.as_deref(), "", 0),
            UnmanagedKind::Keys | UnmanagedKind::File | UnmanagedKind::ReportedEdit => (None, "", 0),
        };
        Self {
            path: lost.path.to_string(),
            kind: lost.kind.as_str().to_owned(),
            keys: lost.keys.clone(),
            by: by.unwrap_or_default().to_owned(),
            reason: reason.to_owned(),
            until_ms: until,
        }
    }
}

impl From<&Note> for wire::PlanNote {
    fn from(note: &Note) -> Self {
        Self {
            kind: note.kind().to_owned(),
            node: note.node().map(ToString::to_string).unwrap_or_default(),
            group: note.group().map(ToString::to_string).unwrap_or_default(),
            text: note.to_string(),
            change: note.is_change(),
        }
    }
}

/// A node of which nothing changes is told only because its pack did.
fn change_word(plan: &NodePlan) -> ChangeWord {
    match (plan.is_new, plan.is_empty()) {
        (true, _) => ChangeWord::Create,
        (false, true) => ChangeWord::None,
        (false, false) => ChangeWord::Update,
    }
}

/// What its server makes of a node, with the digests of the packs after and before, and whether the pack was given.
pub fn effects_to_wire(effects: &Effects, (after, before): (Digest, Digest), given: bool) -> wire::Effects {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let file = |change: &RenderedChange| wire::RenderedFile {
        path: change.path.clone(),
        change: change.kind.as_str().to_owned(),
        added: count(change.added),
        removed: count(change.removed),
        diff: diff_text(&change.diff),
    };
    let derived = |change: &DerivedChange| wire::DerivedKey {
        key: change.key.clone(),
        old: change.old.clone(),
        new: change.new.clone(),
        why: change.why.clone(),
    };
    wire::Effects {
        pack_digest: after.to_string(),
        pack_before: before.to_string(),
        pack_given: given,
        rendered: count(effects.rendered),
        files: effects.files.iter().map(file).collect(),
        derived: effects.derived.iter().map(derived).collect(),
        derived_omitted: count(effects.derived_omitted),
        unrendered: effects.unrendered.clone().unwrap_or_default(),
    }
}

/// A generated file that somebody changed by hand.
pub fn overwritten_to_wire(drift: &Drift) -> wire::Overwritten {
    wire::Overwritten { path: drift.path.to_string(), kind: drift.kind.as_str().to_owned() }
}

/// A node that the new revision does not name any more.
pub fn removed_node_to_wire(node: &NodeName, group: &str) -> wire::NodePlan {
    wire::NodePlan {
        node: node.to_string(),
        group: group.to_owned(),
        change: ChangeWord::Remove.to_string(),
        restart: restart_word(RestartClass::None).to_string(),
        restart_why: "its server and files are left as they are".to_owned(),
        ..wire::NodePlan::default()
    }
}

fn setting_text(is_new: bool, change: &SettingChange) -> String {
    if is_new {
        return format!("{}: {}", change.setting, change.new);
    }
    let or_unset = |text: &String| if text.is_empty() { "not set".to_owned() } else { text.clone() };
    format!("{}: {} -> {}", change.setting, or_unset(&change.old), or_unset(&change.new))
}

impl From<&FileChange> for wire::FileChange {
    fn from(change: &FileChange) -> Self {
        let same_meaning = change.restart == RestartClass::None;
        let word = match change.kind {
            FileChangeKind::Added => FileWord::Added,
            // It stays on the host, but Convoy lets go of it.
            FileChangeKind::Released => FileWord::Removed,
            FileChangeKind::Changed | FileChangeKind::Settings if same_meaning => FileWord::SameMeaning,
            FileChangeKind::Changed | FileChangeKind::Settings => FileWord::Changed,
        };
        let settings: String = change.settings.iter().map(|line| format!("# {line}\n")).collect();
        Self {
            path: change.path.to_string(),
            change: word.to_string(),
            old_size: change.sizes.old,
            new_size: change.sizes.new,
            restart: restart_word(change.restart).to_string(),
            diff: settings + &diff_text(&change.diff),
            restart_why: restart::because(change.restart).to_owned(),
            note: change.note.clone(),
            settings: change.settings.clone(),
        }
    }
}

fn diff_text(diff: &FileDiff) -> String {
    let FileDiff::Lines { lines, omitted } = diff else { return String::new() };
    let line = |line: &fleet::plan::DiffLine| {
        let sign = match line.kind {
            LineKind::Hunk => "",
            LineKind::Same => " ",
            LineKind::Removed => "-",
            LineKind::Added => "+",
        };
        format!("{sign}{}\n", line.text)
    };
    let text: String = lines.iter().map(line).collect();
    if *omitted == 0 { text } else { format!("{text}# {omitted} more lines\n") }
}

impl From<&KeyChange> for wire::KeyChange {
    fn from(change: &KeyChange) -> Self {
        let place = change.place.as_ref();
        Self {
            key: change.key.clone(),
            old: change.old.clone().unwrap_or_default(),
            new: change.new.clone().unwrap_or_default(),
            place: place.map(|place| format!("{}:{}", place.file, place.line)).unwrap_or_default(),
        }
    }
}

/// The manifest of a bundle, for `node show`.
pub fn bundle_files(bundle: &Bundle) -> Vec<wire::BundleFile> {
    let file = |(path, file): (&fleet::bundle::HomePath, &fleet::bundle::FileEntry)| wire::BundleFile {
        path: path.to_string(),
        // Length and digest of a password would help to guess it.
        size: if file.launch { 0 } else { file.size },
        mode: file.mode,
        drift: drift_word(file.drift).to_owned(),
        restart: restart_word(file.restart).to_string(),
        digest: if file.launch { String::new() } else { file.digest.to_string() },
    };
    bundle.files.iter().map(file).collect()
}

/// A rollout as people see it; the caller fills in author, message and `rolls_back_to`.
pub fn rollout_to_wire(
    rollout: &Rollout,
    waiting: &[WaitReason],
    estimate: Option<Estimate>,
) -> wire::Rollout {
    let mut members: BTreeMap<&GroupName, Vec<(&NodeName, &StepRecord)>> = BTreeMap::new();
    for (name, step) in &rollout.steps {
        members.entry(&step.group).or_default().push((name, step));
    }
    let after = rollout.groups.iter().map(|(name, group)| (name, &group.after)).collect();
    let groups = order::sorted(&after).into_iter().filter_map(|name| members.remove_entry(name));
    wire::Rollout {
        id: rollout.id.0,
        revision: rollout.revision.0,
        started_ms: rollout.started.0,
        ended_ms: rollout.ended.map_or(0, |ended| ended.0),
        state: rollout.word().to_string(),
        groups: groups.map(|(name, steps)| group_to_wire(name, &steps)).collect(),
        waiting: reasons(rollout, waiting),
        estimate: estimate.map(|estimate| estimate_to_wire(&estimate)),
        ..wire::Rollout::default()
    }
}

/// How long it is likely to take.
pub fn estimate_to_wire(estimate: &Estimate) -> wire::Estimate {
    wire::Estimate {
        left_ms: estimate.left.map(millis),
        unknown: u32::try_from(estimate.unknown).unwrap_or(u32::MAX),
    }
}

/// Why it waits, or why it ended.
fn reasons(rollout: &Rollout, waiting: &[WaitReason]) -> Vec<String> {
    let why = rollout.why().map(|why| format!("{}: {why}", rollout.phase.word()));
    why.into_iter().chain(waiting.iter().map(ToString::to_string)).collect()
}

fn time_in_state(state: StepWord, time: Duration) -> wire::TimeInState {
    wire::TimeInState { state: state.to_string(), ms: millis(time) }
}

fn group_to_wire(name: &GroupName, steps: &[(&NodeName, &StepRecord)]) -> wire::RolloutGroup {
    let is = |which: fn(&StepState) -> bool| steps.iter().filter(|(_, step)| which(&step.state)).count();
    let failed = is(|state| {
        matches!(
            state,
            StepState::Failed { .. } | StepState::ReturnFailed { .. } | StepState::ReturnUnseen { .. }
        )
    });
    let pending = is(|state| matches!(state, StepState::Pending));
    let flying = is(|state| matches!(state, StepState::InFlight(_)));
    let state = match (failed, pending, flying) {
        (1.., _, _) => GroupWord::Failed,
        (0, 0, 0) => GroupWord::Done,
        (0, pending, 0) if pending == steps.len() => GroupWord::Pending,
        (0, _, _) => GroupWord::Running,
    };
    let node = |(name, step): &(&NodeName, &StepRecord)| wire::RolloutNode {
        node: name.to_string(),
        state: step.state.word().to_string(),
        detail: step.state.detail().unwrap_or_default().to_owned(),
        since_ms: step.state.since().map_or(0, |since| since.0),
        generation: step.state.generation().map_or(0, |generation| generation.0),
        begun_ms: step.begun.map_or(0, |begun| begun.0),
        times: step.spent.states().map(|(state, time)| time_in_state(state, time)).collect(),
    };
    wire::RolloutGroup {
        group: name.to_string(),
        state: state.to_string(),
        nodes: steps.iter().map(node).collect(),
    }
}
