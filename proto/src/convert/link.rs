//! Messages of the agent link, both directions.

use std::{collections::BTreeMap, time::Duration};

use fleet::{
    bundle::{Applied, Assignment, HomePath, RunState},
    editor::{Circumstances, EDITORS_MAX, Editor},
    foreign::printable,
    host::Original,
    ids::{Digest, FleetEpoch, Generation, Revision},
    key_manager::KEY_MANAGERS_MAX,
    observed::{
        Attempt, CONCERNS_MAX, Concern, ConcernKind, DRIFT_MAX, Drift, DriftAction, DriftKind, Notice,
        OUTPUT_LINES_MAX, Observed, ProcessIdentity, Refusal, RefusalReason, ServiceState, Stage, Verdict,
        Vitals,
    },
    time::Timestamp,
    trace::TraceContext,
    words::{Said, ServiceWord, VerdictWord},
};

pub use crate::convert::bundle::{decode_bundle, encode_bundle};
use crate::{
    convert::{
        ConvertError,
        bundle::digest,
        invalid,
        registered::{seen_from_wire, seen_to_wire},
        required,
    },
    wire::agent as wire,
};

/// A text of a message is at most this long, in bytes; longer ones are cut, so no message outgrows its bound.
pub const TEXT_MAX: usize = 1024;
/// Keys of one difference.
const KEYS_MAX: usize = 64;
/// Facts of one notice.
const FIELDS_MAX: usize = 16;

/// Cuts at a character boundary at or before [`TEXT_MAX`].
pub(crate) fn bounded(text: &str) -> String {
    cut(text).to_owned()
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A text of the other side: of one line, bounded, and nothing that a terminal would act on.
pub fn foreign(text: &str) -> String {
    bounded(&printable(cut(text)))
}

/// 16 bytes; `None` for an empty field.
///
/// # Errors
/// Any other length.
pub fn epoch_from_wire(bytes: &[u8]) -> Result<Option<FleetEpoch>, ConvertError> {
    match bytes.len() {
        0 => Ok(None),
        _ => match bytes.try_into() {
            Ok(bytes) => Ok(Some(FleetEpoch(bytes))),
            Err(_) => Err(invalid("fleet epoch", "bytes", format!("{} of them, not 16", bytes.len()))),
        },
    }
}

impl From<&Applied> for wire::Applied {
    fn from(applied: &Applied) -> Self {
        Self { generation: applied.generation.0, bundle: applied.bundle.0.to_vec() }
    }
}

impl TryFrom<wire::Applied> for Applied {
    type Error = ConvertError;

    fn try_from(applied: wire::Applied) -> Result<Self, ConvertError> {
        let bundle = digest(&applied.bundle, "Applied", "bundle")?;
        Ok(Self { generation: Generation(applied.generation), bundle })
    }
}

fn applied_from_wire(applied: Option<wire::Applied>) -> Result<Option<Applied>, ConvertError> {
    applied.map(Applied::try_from).transpose()
}

impl From<RunState> for wire::RunState {
    fn from(run: RunState) -> Self {
        match run {
            RunState::Running => Self::Running,
            RunState::Stopped => Self::Stopped,
        }
    }
}

impl TryFrom<wire::RunState> for RunState {
    type Error = ConvertError;

    fn try_from(run: wire::RunState) -> Result<Self, ConvertError> {
        match run {
            wire::RunState::Running => Ok(Self::Running),
            wire::RunState::Stopped => Ok(Self::Stopped),
            // Never read as "stop": a state that nobody stated changes nothing.
            wire::RunState::Unspecified => Err(invalid("Assign", "run", "not stated")),
        }
    }
}

/// How a trace travels and is stored; empty if there is none.
pub fn traceparent(trace: Option<TraceContext>) -> String {
    trace.map(|trace| trace.to_string()).unwrap_or_default()
}

/// The message for an assignment; `nonce` is the stream's.
pub fn assign_to_wire(assignment: &Assignment, nonce: u64) -> wire::Assign {
    wire::Assign {
        nonce,
        generation: assignment.applied.generation.0,
        bundle: assignment.applied.bundle.0.to_vec(),
        bundle_content: assignment.content.0.to_vec(),
        bundle_size: assignment.content_size,
        revision: assignment.revision.0,
        run: wire::RunState::from(assignment.run).into(),
        why: bounded(&assignment.why),
        restart_not_before_ms: 0,
        traceparent: traceparent(assignment.trace),
    }
}

impl TryFrom<wire::Assign> for Assignment {
    type Error = ConvertError;

    fn try_from(assign: wire::Assign) -> Result<Self, ConvertError> {
        Ok(Self {
            applied: Applied {
                generation: Generation(assign.generation),
                bundle: digest(&assign.bundle, "Assign", "bundle")?,
            },
            content: digest(&assign.bundle_content, "Assign", "bundle_content")?,
            content_size: assign.bundle_size,
            revision: Revision(assign.revision),
            run: assign.run().try_into()?,
            why: assign.why,
            // One that does not read is as if there was none.
            trace: TraceContext::parse(&assign.traceparent),
        })
    }
}

impl From<Stage> for wire::Stage {
    fn from(stage: Stage) -> Self {
        match stage {
            Stage::Received => Self::Received,
            Stage::Staged => Self::Staged,
            Stage::Written => Self::Written,
            Stage::Restarted => Self::Restarted,
            Stage::Ready => Self::Ready,
        }
    }
}

impl TryFrom<wire::Stage> for Stage {
    type Error = ConvertError;

    fn try_from(stage: wire::Stage) -> Result<Self, ConvertError> {
        match stage {
            wire::Stage::Received => Ok(Self::Received),
            wire::Stage::Staged => Ok(Self::Staged),
            wire::Stage::Written => Ok(Self::Written),
            wire::Stage::Restarted => Ok(Self::Restarted),
            wire::Stage::Ready => Ok(Self::Ready),
            wire::Stage::Unspecified => Err(invalid("Stage", "value", "an unknown stage")),
        }
    }
}

impl From<&Refusal> for wire::Refusal {
    fn from(refusal: &Refusal) -> Self {
        Self {
            reason: refusal.reason.as_str().to_owned(),
            detail: bounded(&refusal.detail),
            still_running: refusal.still_running.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Refusal> for Refusal {
    type Error = ConvertError;

    fn try_from(refusal: wire::Refusal) -> Result<Self, ConvertError> {
        let reason = RefusalReason::parse(&refusal.reason)
            .ok_or_else(|| invalid("Refusal", "reason", format!("{:?} is not known", refusal.reason)))?;
        Ok(Self {
            reason,
            detail: foreign(&refusal.detail),
            still_running: applied_from_wire(refusal.still_running)?,
        })
    }
}

/// The answer to an assignment: how far it got, or why not further.
pub fn ack_to_wire(nonce: u64, generation: Generation, stage: Stage, refusal: Option<&Refusal>) -> wire::Ack {
    wire::Ack {
        nonce,
        generation: generation.0,
        stage: wire::Stage::from(stage).into(),
        refusal: refusal.map(Into::into),
    }
}

/// Generation, stage and refusal of an acknowledgement.
///
/// # Errors
/// An unknown stage or reason.
pub fn ack_from_wire(ack: wire::Ack) -> Result<(Generation, Stage, Option<Refusal>), ConvertError> {
    let stage = ack.stage().try_into()?;
    Ok((Generation(ack.generation), stage, ack.refusal.map(Refusal::try_from).transpose()?))
}

impl From<&Attempt> for wire::Attempt {
    fn from(attempt: &Attempt) -> Self {
        Self {
            target: Some((&attempt.target).into()),
            stage: wire::Stage::from(attempt.stage).into(),
            failure: attempt.failure.as_ref().map(Into::into),
            done: attempt.done,
            kept_server: attempt.kept_server,
        }
    }
}

impl TryFrom<wire::Attempt> for Attempt {
    type Error = ConvertError;

    fn try_from(attempt: wire::Attempt) -> Result<Self, ConvertError> {
        let stage = attempt.stage().try_into()?;
        Ok(Self {
            target: required(attempt.target, "Attempt", "target")?.try_into()?,
            stage,
            failure: attempt.failure.map(Refusal::try_from).transpose()?,
            done: attempt.done,
            kept_server: attempt.kept_server,
        })
    }
}

fn service_to_wire(observed: &Observed) -> wire::ServiceState {
    let (exits, until) = match observed.service {
        ServiceState::BackingOff { until, exits } => (exits, until),
        ServiceState::GaveUp { exits } => (exits, Timestamp(0)),
        ServiceState::Stopped
        | ServiceState::Starting
        | ServiceState::Running
        | ServiceState::Stopping
        | ServiceState::Foreign
        | ServiceState::Unknown => (0, Timestamp(0)),
    };
    wire::ServiceState {
        state: observed.service.word().to_string(),
        since_ms: observed.service_since.0,
        reason: bounded(&observed.service_reason),
        exits,
        until_ms: until.0,
    }
}

fn service_from_wire(service: &wire::ServiceState) -> Result<ServiceState, ConvertError> {
    Ok(match Said::of(&service.state) {
        Said::Word(ServiceWord::Stopped) => ServiceState::Stopped,
        Said::Word(ServiceWord::Starting) => ServiceState::Starting,
        Said::Word(ServiceWord::Running) => ServiceState::Running,
        Said::Word(ServiceWord::Stopping) => ServiceState::Stopping,
        Said::Word(ServiceWord::BackingOff) => {
            ServiceState::BackingOff { until: Timestamp(service.until_ms), exits: service.exits }
        }
        Said::Word(ServiceWord::GaveUp) => ServiceState::GaveUp { exits: service.exits },
        Said::Word(ServiceWord::Foreign) => ServiceState::Foreign,
        Said::Word(ServiceWord::Unknown) => ServiceState::Unknown,
        Said::Other(other) => {
            return Err(invalid("ServiceState", "state", format!("{other:?} is not known")));
        }
    })
}

fn verdict_to_wire(verdict: &Verdict, since: Timestamp) -> wire::Verdict {
    let reason = match verdict {
        Verdict::Healthy => "",
        Verdict::Unhealthy(reason) | Verdict::Unknown(reason) => reason.as_str(),
    };
    wire::Verdict { verdict: verdict.word().to_string(), reason: bounded(reason), since_ms: since.0 }
}

fn verdict_from_wire(verdict: &wire::Verdict) -> Result<Verdict, ConvertError> {
    let reason = foreign(&verdict.reason);
    match Said::of(&verdict.verdict) {
        Said::Word(VerdictWord::Healthy) => Ok(Verdict::Healthy),
        Said::Word(VerdictWord::Unhealthy) => Ok(Verdict::Unhealthy(reason)),
        Said::Word(VerdictWord::Unknown) => Ok(Verdict::Unknown(reason)),
        Said::Other(other) => Err(invalid("Verdict", "verdict", format!("{other:?} is not known"))),
    }
}

impl From<&ProcessIdentity> for wire::Process {
    fn from(process: &ProcessIdentity) -> Self {
        Self { pid: process.pid, start_id: process.start_id.clone(), started_ms: process.started.0 }
    }
}

impl From<wire::Process> for ProcessIdentity {
    fn from(process: wire::Process) -> Self {
        Self {
            pid: process.pid,
            start_id: foreign(&process.start_id),
            started: Timestamp(process.started_ms),
        }
    }
}

impl From<&Drift> for wire::Drift {
    fn from(drift: &Drift) -> Self {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Self {
            path: drift.path.as_str().to_owned(),
            kind: drift.kind.as_str().to_owned(),
            action: drift.action.as_str().to_owned(),
            keys: drift.keys.iter().take(KEYS_MAX).map(|key| bounded(key)).collect(),
            at_ms: drift.at.0,
            // Zero means "not restored", so the shortest time there is counts as one.
            restored_after_us: drift.restored_after.map_or(0, |time| micros(time).max(1)),
            detail: bounded(&drift.detail),
            editors: drift.editors.iter().take(EDITORS_MAX).map(Into::into).collect(),
        }
    }
}

impl TryFrom<wire::Drift> for Drift {
    type Error = ConvertError;

    fn try_from(drift: wire::Drift) -> Result<Self, ConvertError> {
        let unknown = |field, word: &str| invalid("Drift", field, format!("{word:?} is not known"));
        let restored = Some(drift.restored_after_us).filter(|&micros| micros != 0);
        Ok(Self {
            path: HomePath::parse(&drift.path).map_err(|e| invalid("Drift", "path", e.to_string()))?,
            kind: DriftKind::parse(&drift.kind).ok_or_else(|| unknown("kind", &drift.kind))?,
            action: DriftAction::parse(&drift.action).ok_or_else(|| unknown("action", &drift.action))?,
            keys: drift.keys.iter().take(KEYS_MAX).map(|key| foreign(key)).collect(),
            at: Timestamp(drift.at_ms),
            restored_after: restored.map(Duration::from_micros),
            detail: foreign(&drift.detail),
            editors: drift.editors.into_iter().take(EDITORS_MAX).map(Editor::from).collect(),
        })
    }
}

impl From<&Editor> for wire::Editor {
    fn from(editor: &Editor) -> Self {
        let Editor { pid, process, user, login, parent, terminal, remote, is_server, circumstances } =
            editor.clone();
        let circumstances =
            circumstances.map(|it| wire::Circumstances { owner: it.owner, terminals: it.terminals });
        Self { pid, process, user, login, parent, terminal, remote, server: is_server, circumstances }
    }
}

impl From<wire::Editor> for Editor {
    fn from(editor: wire::Editor) -> Self {
        let wire::Editor { pid, process, user, login, parent, terminal, remote, server, circumstances } =
            editor;
        let circumstances =
            circumstances.map(|it| Circumstances { owner: it.owner, terminals: it.terminals });
        Self { pid, process, user, login, parent, terminal, remote, is_server: server, circumstances }
            .bounded()
    }
}

impl From<&Vitals> for wire::Vitals {
    fn from(vitals: &Vitals) -> Self {
        Self {
            rss_bytes: vitals.rss,
            cpu_percent: vitals.cpu_percent,
            threads: vitals.threads,
            open_files: vitals.open_files,
            disk_free_bytes: vitals.disk_free,
            logs_bytes: vitals.logs,
        }
    }
}

impl From<wire::Vitals> for Vitals {
    fn from(vitals: wire::Vitals) -> Self {
        Self {
            rss: vitals.rss_bytes,
            cpu_percent: vitals.cpu_percent,
            threads: vitals.threads,
            open_files: vitals.open_files,
            disk_free: vitals.disk_free_bytes,
            logs: vitals.logs_bytes,
        }
    }
}

impl From<&Concern> for wire::Concern {
    fn from(concern: &Concern) -> Self {
        let Concern { kind, detail, remedy } = concern;
        Self { kind: bounded(kind.as_str()), detail: bounded(detail), remedy: bounded(remedy) }
    }
}

impl From<wire::Concern> for Concern {
    fn from(concern: wire::Concern) -> Self {
        let wire::Concern { kind, detail, remedy } = concern;
        Self { kind: ConcernKind::of(&foreign(&kind)), detail: foreign(&detail), remedy: foreign(&remedy) }
    }
}

impl From<&Observed> for wire::Report {
    fn from(observed: &Observed) -> Self {
        let pause = observed.drift_pause.as_ref();
        Self {
            desired: observed.desired.as_ref().map(Into::into),
            attempted: observed.attempted.as_ref().map(Into::into),
            written: observed.written.as_ref().map(Into::into),
            running: observed.running.as_ref().map(Into::into),
            last_good: observed.last_good.as_ref().map(Into::into),
            service: Some(service_to_wire(observed)),
            health: Some(verdict_to_wire(&observed.health, observed.health_since)),
            process: observed.process.as_ref().map(Into::into),
            drift: observed.drift.iter().take(DRIFT_MAX).map(Into::into).collect(),
            drift_total: observed.drift_total,
            starts_total: observed.starts_total,
            vitals: Some((&observed.vitals).into()),
            pack_digest: observed.pack.map(|digest| digest.to_string()).unwrap_or_default(),
            drift_pause: pause.map(|(reason, until)| wire::DriftPause {
                paused: true,
                reason: bounded(reason),
                until_ms: until.0,
            }),
            concerns: observed.concerns.iter().take(CONCERNS_MAX).map(Into::into).collect(),
            key_managers: observed.key_managers.iter().take(KEY_MANAGERS_MAX).map(seen_to_wire).collect(),
            last_output: observed
                .last_output
                .iter()
                .take(OUTPUT_LINES_MAX)
                .map(|line| bounded(line))
                .collect(),
            original: observed.original.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<wire::Report> for Observed {
    type Error = ConvertError;

    fn try_from(report: wire::Report) -> Result<Self, ConvertError> {
        let service = required(report.service, "Report", "service")?;
        let health = required(report.health, "Report", "health")?;
        if DRIFT_MAX < report.drift.len() {
            return Err(invalid("Report", "drift", format!("more than {DRIFT_MAX} entries")));
        }
        Ok(Self {
            desired: applied_from_wire(report.desired)?,
            attempted: report.attempted.map(Attempt::try_from).transpose()?,
            written: applied_from_wire(report.written)?,
            running: applied_from_wire(report.running)?,
            last_good: applied_from_wire(report.last_good)?,
            service: service_from_wire(&service)?,
            service_since: Timestamp(service.since_ms),
            service_reason: foreign(&service.reason),
            health_since: Timestamp(health.since_ms),
            health: verdict_from_wire(&health)?,
            process: report.process.map(Into::into),
            drift: report.drift.into_iter().map(Drift::try_from).collect::<Result<_, _>>()?,
            drift_total: report.drift_total,
            starts_total: report.starts_total,
            vitals: report.vitals.map(Into::into).unwrap_or_default(),
            // One that does not read is none: packs help people, and nothing else hangs on them.
            pack: Digest::from_hex(&report.pack_digest),
            drift_pause: report
                .drift_pause
                .filter(|pause| pause.paused)
                .map(|pause| (foreign(&pause.reason), Timestamp(pause.until_ms))),
            concerns: report.concerns.into_iter().take(CONCERNS_MAX).map(Into::into).collect(),
            key_managers: report.key_managers.iter().take(KEY_MANAGERS_MAX).map(seen_from_wire).collect(),
            last_output: report.last_output.iter().take(OUTPUT_LINES_MAX).map(|line| foreign(line)).collect(),
            original: report.original.map(Original::try_from).transpose()?,
        })
    }
}

impl From<&Notice> for wire::Notice {
    fn from(notice: &Notice) -> Self {
        let field = |(key, value): (&String, &String)| (bounded(key), bounded(value));
        Self {
            seq: notice.seq,
            at_ms: notice.at.0,
            kind: bounded(notice.kind.as_str()),
            text: bounded(&notice.text),
            fields: notice.fields.iter().take(FIELDS_MAX).map(field).collect::<BTreeMap<_, _>>(),
        }
    }
}

impl From<wire::Notice> for Notice {
    fn from(notice: wire::Notice) -> Self {
        let field = |(key, value): (&String, &String)| (foreign(key), foreign(value));
        Self {
            seq: notice.seq,
            at: Timestamp(notice.at_ms),
            kind: Said::of(&foreign(&notice.kind)),
            text: foreign(&notice.text),
            fields: notice.fields.iter().take(FIELDS_MAX).map(field).collect(),
        }
    }
}

/// The digests of a content request.
///
/// # Errors
/// A digest that is not 32 bytes.
pub fn digests_from_wire(request: &wire::FetchRequest) -> Result<Vec<Digest>, ConvertError> {
    request.digests.iter().map(|bytes| digest(bytes, "FetchRequest", "digests")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn editor() -> Editor {
        Editor {
            pid: 5,
            process: "vim".into(),
            user: "root".into(),
            login: "alice".into(),
            parent: "bash".into(),
            terminal: "pts/1".into(),
            remote: "10.0.0.1".into(),
            is_server: false,
            circumstances: Some(fleet::editor::Circumstances {
                owner: "deploy".into(),
                terminals: vec!["deploy on pts/0".into()],
            }),
        }
    }

    fn observed() -> Observed {
        let applied = |n: u64| Applied { generation: Generation(n), bundle: Digest::of(&n.to_be_bytes()) };
        let refusal = Refusal {
            reason: RefusalReason::StartDeadline,
            detail: "not ready".into(),
            still_running: Some(applied(3)),
        };
        Observed {
            desired: Some(applied(4)),
            attempted: Some(Attempt {
                target: applied(4),
                stage: Stage::Written,
                failure: Some(refusal),
                done: true,
                kept_server: true,
            }),
            written: Some(applied(3)),
            running: Some(applied(3)),
            last_good: None,
            service: ServiceState::BackingOff { until: Timestamp(99), exits: 2 },
            service_since: Timestamp(5),
            service_reason: "ended".into(),
            health: Verdict::Unhealthy("https: refused".into()),
            health_since: Timestamp(6),
            process: Some(ProcessIdentity { pid: 7, start_id: "123".into(), started: Timestamp(4) }),
            drift: vec![Drift {
                path: HomePath::parse("repository/conf/deployment.toml").unwrap(),
                kind: DriftKind::Edited,
                action: DriftAction::TugOfWar,
                keys: vec!["server.offset".into()],
                at: Timestamp(8),
                restored_after: Some(Duration::from_micros(1)),
                detail: String::new(),
                editors: vec![editor()],
            }],
            drift_total: 9,
            starts_total: 2,
            vitals: Vitals { rss: 1, cpu_percent: 2.0, threads: 3, open_files: 4, disk_free: 5, logs: 6 },
            pack: Some(Digest([7; 32])),
            drift_pause: Some(("maintenance".into(), Timestamp(10))),
            key_managers: vec![fleet::key_manager::seen::Seen {
                name: "IS7".to_owned(),
                state: fleet::key_manager::seen::State::Registered,
                looked: Some(Timestamp(9)),
            }],
            concerns: vec![Concern {
                kind: ConcernKind::SecretResidue,
                detail: "env:X".into(),
                remedy: "chmod".into(),
            }],
            last_output: vec!["ERROR - no".to_owned()],
            original: Some(Original {
                taken: Timestamp(1),
                digest: Digest([8; 32]),
                before: Generation(1),
                files: 2,
                bytes: 3,
            }),
        }
    }

    #[test]
    fn a_report_says_the_same_on_both_sides() {
        let states = [
            ServiceState::Stopped,
            ServiceState::Starting,
            ServiceState::Running,
            ServiceState::Stopping,
            ServiceState::BackingOff { until: Timestamp(99), exits: 2 },
            ServiceState::GaveUp { exits: 4 },
            ServiceState::Foreign,
            ServiceState::Unknown,
        ];
        for service in states {
            let observed = Observed { service, ..observed() };
            assert_eq!(Observed::try_from(wire::Report::from(&observed)).unwrap(), observed);
        }
    }

    #[test]
    fn an_assignment_reads_back_and_nothing_unsaid_means_stop() {
        let assignment = Assignment {
            applied: Applied { generation: Generation(7), bundle: Digest::of(b"b") },
            content: Digest::of(b"c"),
            content_size: 12,
            revision: Revision(3),
            run: RunState::Stopped,
            why: "revision 3".into(),
            trace: Some(TraceContext { trace: [7; 16], span: [9; 8], sampled: true }),
        };
        let message = assign_to_wire(&assignment, 5);
        assert_eq!(Assignment::try_from(message.clone()).unwrap(), assignment);
        // A trace never keeps an assignment from being read.
        for traceparent in ["", "00-zz", &"x".repeat(60_000)] {
            let message = wire::Assign { traceparent: traceparent.to_owned(), ..message.clone() };
            assert_eq!(
                Assignment::try_from(message).unwrap(),
                Assignment { trace: None, ..assignment.clone() }
            );
        }
        let unsaid = wire::Assign { run: 0, ..message };
        assert!(Assignment::try_from(unsaid).is_err());
    }

    #[test]
    fn an_acknowledgement_reads_back() {
        let refusal =
            Refusal { reason: RefusalReason::DiskFull, detail: "1 GB missing".into(), still_running: None };
        let ack = ack_to_wire(1, Generation(2), Stage::Staged, Some(&refusal));
        assert_eq!(ack_from_wire(ack).unwrap(), (Generation(2), Stage::Staged, Some(refusal)));
    }

    #[test]
    fn texts_are_cut_at_a_character() {
        let long = "ä".repeat(TEXT_MAX);
        assert_eq!(bounded(&long).len(), TEXT_MAX);
        assert_eq!(bounded(&format!("x{long}")).len(), TEXT_MAX - 1);
    }
}
