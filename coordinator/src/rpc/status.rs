//! What `status`, `node` and `rollout` show, from one snapshot.

use fleet::{
    alert::Severity,
    ids::NodeName,
    rollout::{Estimate, FleetView, Standing, estimate, plan},
    time::Timestamp,
};
use proto::{
    convert::operator::rollout_to_wire,
    wire::{agent, operator as wire},
};

use super::alerts::silence_shown;
use crate::{
    alerts::Picture,
    disk::StoreTrouble,
    in_force::Places,
    store::records::{EventRecord, RolloutRecord},
    view::Snapshot,
};

/// What a status shows that is not of the snapshot.
#[derive(Clone, Copy)]
pub(super) struct Moment<'a> {
    pub(super) now: Timestamp,
    /// What is alerted.
    pub(super) alerts: &'a Picture,
}

/// Everything at one moment.
pub(super) fn status(snapshot: &Snapshot, places: &Places, at: Moment<'_>) -> wire::StatusReply {
    let Moment { now, alerts } = at;
    let view = snapshot.view();
    let shown = snapshot.rollouts.iter().enumerate().filter(|(index, rollout)| {
        // Those that have not ended, and the newest in any case.
        *index == 0 || !rollout.record.rollout.phase.is_end()
    });
    wire::StatusReply {
        fleet: snapshot.meta.record.fleet.to_string(),
        revision: snapshot.meta.record.newest_revision.0,
        at_ms: now.0,
        nodes: snapshot.names().into_iter().map(|name| node(snapshot, places, name)).collect(),
        rollouts: shown.map(|(_, shown)| rollout(&shown.record, &view, now)).collect(),
        coordinator_version: env!("CARGO_PKG_VERSION").to_owned(),
        content_of: snapshot.revision.as_ref().and_then(|newest| newest.rolls_back_to).map_or(0, |it| it.0),
        store_older: places.is_store_older(),
        store_trouble: snapshot.trouble.clone().map(trouble),
        alerts_firing: u32::try_from(alerts.firing()).unwrap_or(u32::MAX),
        alerts_worst: alerts.worst().map_or("", Severity::as_str).to_owned(),
        proposals: proposals(snapshot, now),
        silences: alerts.silences.iter().filter(|silence| now < silence.until).map(silence_shown).collect(),
    }
}

/// Those over which nobody has decided.
fn proposals(snapshot: &Snapshot, now: Timestamp) -> Vec<wire::Proposal> {
    let newest = snapshot.meta.record.newest_revision;
    let waiting = snapshot.proposals.values().filter(|it| !it.proposed().is_overdue(now));
    waiting.map(|record| super::proposals::shown(record, now, newest)).collect()
}

fn trouble(trouble: StoreTrouble) -> wire::StoreTrouble {
    let trouble = match trouble {
        StoreTrouble::CannotCommit { why } => wire::store_trouble::Trouble::CannotCommit(why),
        StoreTrouble::LowRoom { free, reserve } => {
            wire::store_trouble::Trouble::LowRoom(wire::LowRoom { free_bytes: free, reserve_bytes: reserve })
        }
    };
    wire::StoreTrouble { trouble: Some(trouble) }
}

/// One rollout, with the reasons that the planner gives for it now.
pub(super) fn rollout(record: &RolloutRecord, view: &FleetView<'_>, now: Timestamp) -> wire::Rollout {
    let waiting = plan(&record.rollout, view, now).waiting;
    let left = estimate(&record.rollout, view, now).and_then(Estimate::of_open);
    wire::Rollout {
        author: record.author.clone(),
        message: record.message.clone(),
        rolls_back_to: record.rolls_back_to.map_or(0, |revision| revision.0),
        windows_overridden: record.rollout.windows_overridden.clone().unwrap_or_default(),
        ..rollout_to_wire(&record.rollout, &waiting, left)
    }
}

/// One node.
pub(super) fn node(snapshot: &Snapshot, places: &Places, name: &NodeName) -> wire::Node {
    let record = snapshot.nodes.get(name).map(|node| &node.record);
    let desired = record.and_then(|record| record.desired.as_ref());
    let target = snapshot.wanted(name).or(desired.map(|desired| &desired.target));
    let enrolment = record.and_then(|record| record.enrolment.as_ref());
    let (live, seen) = (snapshot.live.get(name), snapshot.seen.get(name));
    let state = snapshot.state(name);
    let place = places.of(name);
    let last_seen = live.map(|live| live.last_heard).or(seen.map(|seen| seen.last_seen));
    let text =
        |of_live: Option<&String>, of_seen: Option<&String>| of_live.or(of_seen).cloned().unwrap_or_default();
    let program = seen.and_then(|seen| seen.program);
    wire::Node {
        name: name.to_string(),
        group: target.map(|target| target.group.to_string()).unwrap_or_default(),
        product: target.map(|target| target.product.clone()).unwrap_or_default(),
        host: target.map(|target| target.host.clone()).unwrap_or_default(),
        zone: target.and_then(|target| target.zone.as_ref()).map(ToString::to_string).unwrap_or_default(),
        connected: live.is_some(),
        last_seen_ms: last_seen.map_or(0, |at| at.0),
        desired: desired.map(|desired| agent::Applied::from(&desired.applied())),
        report: snapshot.shown(name).map(|observed| observed.as_ref().into()),
        desired_revision: desired.map_or(0, |desired| desired.revision.0),
        state: state.word().as_str().to_owned(),
        state_why: state.why(),
        agent_version: text(live.map(|live| &live.agent_version), seen.map(|seen| &seen.agent_version)),
        agent_since_ms: seen.map_or(0, |seen| seen.agent_since.0),
        agent_program: program.map_or_else(Vec::new, |program| program.0.to_vec()),
        certificate_expires_ms: enrolment.map_or(0, |own| own.expires.0),
        enrolled: enrolment.is_some(),
        platform: text(live.map(|live| &live.platform), seen.map(|seen| &seen.platform)),
        revision_in_force: place.and_then(|place| place.revision).map_or(0, |revision| revision.0),
        standing: place.map_or(wire::Standing::Unspecified, |place| standing(&place.standing)).into(),
        standing_why: place.map(|place| place.standing.to_string()).unwrap_or_default(),
    }
}

fn standing(standing: &Standing) -> wire::Standing {
    match standing {
        Standing::OnNewest => wire::Standing::OnNewest,
        Standing::UnderWay { .. } => wire::Standing::UnderWay,
        Standing::Behind(_) => wire::Standing::Behind,
        Standing::NotReported => wire::Standing::NotReported,
        Standing::StoreOlder { .. } => wire::Standing::StoreOlder,
    }
}

/// One event.
pub(super) fn event(record: EventRecord) -> wire::Event {
    wire::Event {
        seq: record.seq,
        at_ms: record.at.0,
        host_at_ms: record.host_at.map(|at| at.0),
        missing: 0,
        kind: record.kind,
        node: record.node.map(|node| node.to_string()).unwrap_or_default(),
        text: record.text,
        fields: record.fields,
        actor: record.actor,
    }
}
