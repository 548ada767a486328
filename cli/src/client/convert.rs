//! Generated messages to views. Nothing is judged here but what the wire cannot express: absent is `None`.

use fleet::{
    alert::Severity,
    ids::FleetEpoch,
    words::{FileWord, Said},
};
use proto::{
    convert::registered,
    wire::{agent, operator as wire},
};

use crate::{
    exit::{Exit, Failure},
    view::{self, When},
};

pub(super) fn some(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}

fn positive(number: u32) -> Option<u32> {
    if number == 0 { None } else { Some(number) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn finding(finding: wire::Finding) -> view::Finding {
    view::Finding {
        code: finding.code,
        severity: Said::of(&finding.severity),
        file: some(finding.file),
        path: None,
        line: positive(finding.line),
        column: positive(finding.column),
        line_text: some(finding.line_text),
        node: some(finding.node),
        message: finding.message,
        remedy: finding.remedy,
    }
}

pub(super) fn plan(reply: wire::PlanReply) -> view::Plan {
    view::Plan {
        base_revision: reply.base_revision,
        refused: reply.refused,
        nodes: reply.nodes.into_iter().map(node_plan).collect(),
        unchanged: reply.unchanged,
        waves: reply.waves,
        estimate: reply.estimate.map(estimate),
        findings: reply.findings.into_iter().map(finding).collect(),
        refusal: some(reply.refusal),
        notes: reply.notes.into_iter().map(note).collect(),
        unmanaged_digest: some(reply.unmanaged_digest),
        to_revision: (reply.to_revision != 0).then_some(reply.to_revision),
        origin: None,
        approval: some(reply.approval),
        signers: some(reply.signers),
        signed_by: some(reply.signed_by),
        fleet_epoch: reply.fleet_epoch.try_into().ok().map(FleetEpoch),
    }
}

fn note(note: wire::PlanNote) -> view::PlanNote {
    view::PlanNote {
        kind: note.kind,
        node: some(note.node),
        group: some(note.group),
        text: note.text,
        change: note.change,
    }
}

fn unmanaged(lost: wire::Unmanaged) -> view::Unmanaged {
    view::Unmanaged {
        path: lost.path,
        kind: lost.kind,
        keys: lost.keys,
        by: some(lost.by),
        reason: some(lost.reason),
        until: When(lost.until_ms),
    }
}

fn node_plan(node: wire::NodePlan) -> view::NodePlan {
    let unpacked = view::Unpacked { keys: node.unpacked_keys, files: node.unpacked_files };
    view::NodePlan {
        source: view::PlanSource {
            kind: Said::of(&node.source),
            at: When(node.source_ms),
            why: some(node.source_why),
        },
        adoption: some(node.adoption),
        unmanaged: node.unmanaged.into_iter().map(unmanaged).collect(),
        unpacked: (unpacked.files != 0).then_some(unpacked),
        node: node.node,
        group: node.group,
        change: Said::of(&node.change),
        restart: Said::of(&node.restart),
        restart_why: node.restart_why,
        keys: node.keys.into_iter().map(key_change).collect(),
        kept: node.kept.into_iter().map(key_change).collect(),
        files: node.files.into_iter().map(file_change).collect(),
        settings: node.settings,
        effects: node.effects.map(effects),
        pack_unknown: some(node.pack_unknown),
        overwritten: node
            .overwritten
            .into_iter()
            .map(|file| view::Overwritten { path: file.path, kind: file.kind })
            .collect(),
    }
}

pub(super) fn differences(reply: wire::DriftReply) -> view::Differences {
    let plan = reply.plan.unwrap_or_default();
    // The plan leads from what is there to what is wanted.
    let key = |change: wire::KeyChange| {
        let change = key_change(change);
        view::KeyDifference { key: change.key, desired: change.new, found: change.old }
    };
    let keys: Vec<view::KeyDifference> = plan.keys.into_iter().map(key).collect();
    let file = |file: wire::FileChange| {
        let what = match Said::of(&file.change) {
            Said::Word(FileWord::Added) => "missing",
            Said::Word(FileWord::Changed) => "content",
            _ => "settings",
        };
        // Its keys say the same.
        let is_shown = keys.is_empty() || !file.path.ends_with("deployment.toml");
        view::FileDifference {
            what: what.to_owned(),
            path: file.path,
            settings: file.settings,
            diff: if is_shown { file.diff } else { String::new() },
        }
    };
    let counts = |file: &wire::FileChange| {
        !Said::of(&file.change).is(FileWord::SameMeaning) || !file.settings.is_empty()
    };
    view::Differences {
        source: view::PlanSource {
            kind: Said::of(&plan.source),
            at: When(plan.source_ms),
            why: some(plan.source_why),
        },
        unknown: some(reply.unknown),
        files: plan.files.into_iter().filter(counts).map(file).collect(),
        left_to_host: plan.kept.into_iter().map(key).collect(),
        omitted: reply.omitted,
        keys,
    }
}

fn effects(effects: wire::Effects) -> view::Effects {
    let file = |file: wire::RenderedFile| view::RenderedFile {
        path: file.path,
        change: Said::of(&file.change),
        added: file.added,
        removed: file.removed,
        diff: file.diff,
    };
    let derived =
        |key: wire::DerivedKey| view::DerivedKey { key: key.key, old: key.old, new: key.new, why: key.why };
    view::Effects {
        pack: effects.pack_digest,
        pack_before: effects.pack_before,
        pack_given: effects.pack_given,
        rendered: effects.rendered,
        files: effects.files.into_iter().map(file).collect(),
        derived: effects.derived.into_iter().map(derived).collect(),
        derived_omitted: effects.derived_omitted,
        unrendered: some(effects.unrendered),
    }
}

fn key_change(change: wire::KeyChange) -> view::KeyChange {
    view::KeyChange {
        key: change.key,
        old: some(change.old),
        new: some(change.new),
        place: some(change.place),
    }
}

fn file_change(change: wire::FileChange) -> view::FileChange {
    view::FileChange {
        path: change.path,
        change: Said::of(&change.change),
        old_size: change.old_size,
        new_size: change.new_size,
        restart: Said::of(&change.restart),
        restart_why: change.restart_why,
        diff: change.diff,
        note: some(change.note),
        settings: change.settings,
    }
}

/// A refusal by a guard is a failure; one because of findings is an answer.
pub(super) fn applied(reply: wire::ApplyReply) -> Result<view::Applied, Failure> {
    let findings: Vec<view::Finding> = reply.findings.into_iter().map(finding).collect();
    if let Some(proposal) = reply.proposal {
        let (proposal, approvers) = (Some(super::proposals::proposal(proposal)), reply.approvers);
        return Ok(view::Applied { revision: 0, rollout: None, findings, proposal, approvers });
    }
    if reply.refused || !reply.refusal.is_empty() {
        let by_findings = findings.iter().any(view::Finding::is_error);
        let what =
            if reply.refusal.is_empty() { "the coordinator refused".to_owned() } else { reply.refusal };
        let mut failure = Failure::refused(what, "look at `convoy plan DIR` again, then apply again");
        if by_findings {
            failure.exit = Exit::Failed;
            "repair what the findings name; `convoy lint DIR` shows them".clone_into(&mut failure.remedy);
        }
        return Err(failure);
    }
    let rollout = if reply.rollout == 0 { None } else { Some(reply.rollout) };
    let (proposal, approvers) = (None, Vec::new());
    Ok(view::Applied { revision: reply.revision, rollout, findings, proposal, approvers })
}

pub(super) fn silence(wire: wire::Silence) -> view::Silence {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    view::Silence {
        id: wire.id,
        node: given(wire.node),
        group: given(wire.group),
        rule: given(wire.rule),
        from: When(wire.from_ms),
        until: When(wire.until_ms),
        reason: wire.reason,
        by: wire.by,
    }
}

pub(super) fn status(reply: wire::StatusReply) -> view::Status {
    view::Status {
        fleet: reply.fleet,
        revision: reply.revision,
        at: When(reply.at_ms),
        coordinator_version: reply.coordinator_version,
        content_of: Some(reply.content_of).filter(|revision| *revision != 0),
        store_older: reply.store_older,
        store_trouble: reply.store_trouble.map(store_trouble),
        alerts_firing: reply.alerts_firing,
        alerts_worst: Severity::parse(&reply.alerts_worst).map(|worst| worst.as_str().to_owned()),
        silences: reply.silences.into_iter().map(silence).collect(),
        proposals: reply.proposals.into_iter().map(super::proposals::proposal).collect(),
        nodes: reply.nodes.into_iter().map(node).collect(),
        rollouts: reply.rollouts.into_iter().map(rollout).collect(),
    }
}

fn standing(standing: wire::Standing) -> Option<view::Standing> {
    match standing {
        wire::Standing::Unspecified => None,
        wire::Standing::OnNewest => Some(view::Standing::OnNewest),
        wire::Standing::UnderWay => Some(view::Standing::UnderWay),
        wire::Standing::Behind => Some(view::Standing::Behind),
        wire::Standing::NotReported => Some(view::Standing::NotReported),
        wire::Standing::StoreOlder => Some(view::Standing::StoreOlder),
    }
}

fn store_trouble(trouble: wire::StoreTrouble) -> view::StoreTrouble {
    match trouble.trouble {
        Some(wire::store_trouble::Trouble::CannotCommit(why)) => view::StoreTrouble::CannotCommit { why },
        Some(wire::store_trouble::Trouble::LowRoom(room)) => {
            view::StoreTrouble::LowRoom { free: room.free_bytes, reserve: room.reserve_bytes }
        }
        None => view::StoreTrouble::Other,
    }
}

pub(super) fn node(node: wire::Node) -> view::Node {
    view::Node {
        revision_in_force: Some(node.revision_in_force).filter(|revision| *revision != 0),
        standing: standing(node.standing()),
        standing_why: node.standing_why,
        name: node.name,
        group: node.group,
        product: node.product,
        host: node.host,
        zone: Some(node.zone).filter(|zone| !zone.is_empty()),
        state: Said::of(&node.state),
        state_why: node.state_why,
        enrolled: node.enrolled,
        connected: node.connected,
        last_seen: When(node.last_seen_ms),
        desired_revision: node.desired_revision,
        desired: node.desired.as_ref().map(generation),
        report: node.report.map(report),
        agent_version: node.agent_version,
        agent_since: When(node.agent_since_ms),
        agent_program: hex(&node.agent_program),
        platform: node.platform,
        certificate_expires: When(node.certificate_expires_ms),
    }
}

fn generation(applied: &agent::Applied) -> view::Generation {
    view::Generation { generation: applied.generation, bundle: hex(&applied.bundle) }
}

fn report(report: agent::Report) -> view::Report {
    let service = report.service.unwrap_or_default();
    let health = report.health.unwrap_or_default();
    let or_unknown = |word: String| if word.is_empty() { "unknown".to_owned() } else { word };
    let pause = report.drift_pause.filter(|pause| pause.paused);
    view::Report {
        accepted: report.desired.as_ref().map(generation),
        attempted: report.attempted.map(attempt),
        written: report.written.as_ref().map(generation),
        running: report.running.as_ref().map(generation),
        last_good: report.last_good.as_ref().map(generation),
        service: view::Service {
            state: Said::of(&or_unknown(service.state)),
            since: When(service.since_ms),
            reason: service.reason,
            exits: service.exits,
        },
        health: view::Health {
            verdict: Said::of(&or_unknown(health.verdict)),
            reason: health.reason,
            since: When(health.since_ms),
        },
        process: report
            .process
            .map(|process| view::Process { pid: process.pid, started: When(process.started_ms) }),
        drift: report.drift.into_iter().map(drift).collect(),
        drift_total: report.drift_total,
        drift_pause: pause
            .map(|pause| view::DriftPause { reason: pause.reason, until: When(pause.until_ms) }),
        concerns: report.concerns.into_iter().map(concern).collect(),
        key_managers: report.key_managers.into_iter().map(key_manager).collect(),
        last_output: report.last_output,
        starts_total: report.starts_total,
        vitals: vitals(report.vitals.unwrap_or_default()),
    }
}

fn concern(concern: agent::Concern) -> view::Concern {
    view::Concern { kind: concern.kind, detail: concern.detail, remedy: concern.remedy }
}

fn key_manager(seen: agent::KeyManagerSeen) -> view::KeyManager {
    view::KeyManager {
        state: registered::state(seen.state()).to_string(),
        looked: seen.looked_ms.map(When),
        name: seen.name,
    }
}

fn attempt(attempt: agent::Attempt) -> view::Attempt {
    let stage = match attempt.stage() {
        agent::Stage::Unspecified => "none",
        agent::Stage::Received => "received",
        agent::Stage::Staged => "staged",
        agent::Stage::Written => "written",
        agent::Stage::Restarted => "restarted",
        agent::Stage::Ready => "ready",
    };
    view::Attempt {
        stage: stage.to_owned(),
        target: attempt.target.as_ref().map(generation),
        done: attempt.done,
        failure: attempt
            .failure
            .map(|failure| view::Refusal { reason: failure.reason, detail: failure.detail }),
    }
}

fn drift(drift: agent::Drift) -> view::DriftEntry {
    // Restored without a time: the first report of it, before the measurement is complete.
    let is_measured = drift.action == "restored" && drift.restored_after_us != 0;
    // Microseconds to milliseconds: a latency is far below 2^52 of either.
    #[expect(clippy::cast_precision_loss)]
    let after = drift.restored_after_us as f64 / 1000.0;
    view::DriftEntry {
        path: drift.path,
        kind: drift.kind,
        action: drift.action,
        keys: drift.keys,
        at: When(drift.at_ms),
        restored_after_ms: is_measured.then_some(after),
        detail: drift.detail,
        editors: drift.editors.into_iter().map(editor).collect(),
    }
}

fn editor(editor: agent::Editor) -> view::Editor {
    let editor = fleet::editor::Editor::from(editor);
    let some = |word: &str| Some(word.to_owned()).filter(|word| !word.is_empty());
    view::Editor {
        text: editor.to_string(),
        short: editor.short(),
        pid: Some(editor.pid).filter(|pid| *pid != 0),
        process: some(&editor.process),
        user: some(&editor.user),
        login: some(&editor.login),
        parent: some(&editor.parent),
        terminal: some(&editor.terminal),
        remote: some(&editor.remote),
        is_server: editor.is_server,
        owner: editor.circumstances.as_ref().and_then(|found| some(&found.owner)),
        terminals: editor.circumstances.map(|found| found.terminals),
    }
}

/// The agent has measured nothing yet where it says 0: no process has none of these.
fn vitals(vitals: agent::Vitals) -> view::Vitals {
    let some = |bytes: u64| Some(bytes).filter(|bytes| *bytes != 0);
    view::Vitals {
        rss_bytes: some(vitals.rss_bytes),
        cpu_percent: Some(vitals.cpu_percent).filter(|_| vitals.rss_bytes != 0),
        threads: Some(vitals.threads).filter(|threads| *threads != 0),
        open_files: Some(vitals.open_files).filter(|files| *files != 0),
        disk_free_bytes: some(vitals.disk_free_bytes),
        logs_bytes: Some(vitals.logs_bytes).filter(|_| vitals.disk_free_bytes != 0),
    }
}

pub(super) fn node_detail(reply: wire::NodeReply) -> Result<view::NodeDetail, Failure> {
    let found = reply.node.ok_or_else(|| {
        Failure::failed("the coordinator knows no such node", "`convoy node list` shows the names")
    })?;
    Ok(view::NodeDetail {
        node: node(found),
        files: reply.files.into_iter().map(bundle_file).collect(),
        events: reply.events.into_iter().map(event).collect(),
        found: reply.found.map(super::found::host),
    })
}

fn bundle_file(file: wire::BundleFile) -> view::BundleFile {
    view::BundleFile {
        path: file.path,
        size: file.size,
        mode: format!("{:04o}", file.mode),
        drift: file.drift,
        restart: Said::of(&file.restart),
        digest: file.digest,
    }
}

pub(super) fn rollout(rollout: wire::Rollout) -> view::Rollout {
    view::Rollout {
        id: rollout.id,
        revision: rollout.revision,
        author: rollout.author,
        message: rollout.message,
        started: When(rollout.started_ms),
        ended: When(rollout.ended_ms),
        state: Said::of(&rollout.state),
        groups: rollout.groups.into_iter().map(rollout_group).collect(),
        waiting: rollout.waiting,
        rolls_back_to: if rollout.rolls_back_to == 0 { None } else { Some(rollout.rolls_back_to) },
        windows_overridden: some(rollout.windows_overridden),
        estimate: rollout.estimate.map(estimate),
    }
}

fn estimate(estimate: wire::Estimate) -> view::Estimate {
    view::Estimate { left_ms: estimate.left_ms, unknown: estimate.unknown }
}

fn rollout_group(group: wire::RolloutGroup) -> view::RolloutGroup {
    let node = |node: wire::RolloutNode| view::RolloutNode {
        node: node.node,
        state: Said::of(&node.state),
        detail: node.detail,
        since: When(node.since_ms),
        generation: node.generation,
        begun: When(node.begun_ms),
        times: node
            .times
            .into_iter()
            .map(|time| view::TimeInState { state: Said::of(&time.state), ms: time.ms })
            .collect(),
    };
    view::RolloutGroup {
        group: group.group,
        state: Said::of(&group.state),
        nodes: group.nodes.into_iter().map(node).collect(),
    }
}

pub(super) fn event(event: wire::Event) -> view::Event {
    view::Event {
        seq: event.seq,
        at: When(event.at_ms),
        host_at: event.host_at_ms.map(When),
        missing: event.missing,
        kind: event.kind,
        node: some(event.node),
        text: event.text,
        fields: event.fields,
        actor: some(event.actor),
    }
}

/// A command that was refused is a failure: by a guard, or for another reason.
pub(super) fn answer(reply: wire::CommandReply) -> Result<view::Answer, Failure> {
    match (reply.ok, reply.guard) {
        (true, _) => Ok(view::Answer { ok: true, detail: reply.detail }),
        (false, true) => Err(Failure::refused(
            reply.detail,
            "wait until the fleet allows it, or give --now --reason TEXT where the command has it",
        )),
        (false, false) => Err(Failure::failed(reply.detail, "")),
    }
}
