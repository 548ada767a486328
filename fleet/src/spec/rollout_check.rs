//! Rollout settings that contradict the fleet they are for. Each parses, and none of them would do what it says.

use std::{collections::BTreeMap, time::Duration};

use super::{ComposedNode, Group, manifest::Manifest, report::Report};
use crate::{
    bundle::Bundle,
    ids::{GroupName, NodeName},
    rollout::{RolloutPolicy, Share},
    time::Human,
};

/// One complaint: what is wrong, and what to write.
struct Complaint {
    text: String,
    remedy: String,
}

/// The policy of a group as it is obeyed: a deadline that nobody chose is never shorter than what its nodes may take.
pub(super) fn effective<'a>(
    policy: &RolloutPolicy,
    members: impl Iterator<Item = &'a ComposedNode>,
) -> RolloutPolicy {
    let default = RolloutPolicy::default();
    let mut effective = policy.clone();
    let needed = members.map(|node| restart_limit(&node.bundle)).max().unwrap_or_default();
    if policy.healthy_deadline == default.healthy_deadline {
        effective.healthy_deadline = policy.healthy_deadline.max(needed);
    }
    if policy.progress_deadline == default.progress_deadline {
        effective.progress_deadline = policy.progress_deadline.max(effective.healthy_deadline);
    }
    effective
}

pub(super) fn policies(
    manifest: &Manifest<'_>,
    groups: &BTreeMap<GroupName, Group>,
    nodes: &BTreeMap<NodeName, ComposedNode>,
    report: &mut Report,
) {
    for (name, text) in &manifest.groups {
        let Some(group) = groups.get(name).filter(|group| !group.nodes.is_empty()) else { continue };
        let members: BTreeMap<&NodeName, &Bundle> = nodes
            .iter()
            .filter(|(node, _)| group.nodes.contains(node))
            .map(|(node, composed)| (node, &composed.bundle))
            .collect();
        let counts = counts(name, &group.rollout, members.len());
        for complaint in counts.into_iter().chain(deadlines(name, &group.rollout, &members)) {
            report.error("CV012", Some(text.at.key_place()), complaint.text, complaint.remedy);
        }
    }
    let fleet = &manifest.rollout;
    for (key, share) in [("max_unavailable", fleet.max_unavailable), ("failures_max", fleet.failures_max)] {
        if let Some(complaint) = beyond(key, share, "the fleet", nodes.len()) {
            report.error("CV012", None, format!("[rollout]: {}", complaint.text), complaint.remedy);
        }
    }
}

fn counts(name: &GroupName, policy: &RolloutPolicy, members: usize) -> Vec<Complaint> {
    let group = format!("group {name}");
    [("canary", policy.canary), ("max_unavailable", Some(policy.max_unavailable)), ("wave", policy.wave)]
        .into_iter()
        .filter_map(|(key, share)| beyond(key, share, &group, members))
        .collect()
}

/// A count that is larger than what it counts.
fn beyond(key: &str, share: Option<Share>, of: &str, nodes: usize) -> Option<Complaint> {
    match share {
        Some(Share::Count(count)) if 0 < nodes && nodes < count as usize => Some(Complaint {
            text: format!("{key} = {count}, and {of} has {nodes} node{}", if nodes == 1 { "" } else { "s" }),
            remedy: format!("write at most {nodes}, or a percentage such as \"25%\""),
        }),
        Some(Share::Count(_) | Share::Percent(_)) | None => None,
    }
}

fn deadlines(
    name: &GroupName,
    policy: &RolloutPolicy,
    members: &BTreeMap<&NodeName, &Bundle>,
) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let slowest = members.iter().map(|(node, bundle)| (restart_limit(bundle), node)).max();
    if let Some((needed, node)) = slowest.filter(|(needed, _)| policy.healthy_deadline < *needed) {
        complaints.push(Complaint {
            text: format!(
                "group {name}: healthy_deadline is {}, but stop_deadline, start_deadline and hooks of {node} allow a restart \
                 to take {}, so a step would fail while its server starts as it may",
                Human(policy.healthy_deadline),
                Human(needed)
            ),
            remedy: format!("set healthy_deadline to at least {}, or lower the others", Human(needed)),
        });
    }
    if policy.progress_deadline < policy.healthy_deadline {
        complaints.push(Complaint {
            text: format!(
                "group {name}: progress_deadline is {}, which ends a step before its healthy_deadline of {}",
                Human(policy.progress_deadline),
                Human(policy.healthy_deadline)
            ),
            remedy: "set progress_deadline to at least healthy_deadline".to_owned(),
        });
    }
    complaints
}

/// The longest that a restart of this node may take by its own settings.
fn restart_limit(bundle: &Bundle) -> Duration {
    let hooks: Duration = bundle.hooks.named().map(|(_, hook)| hook.longest()).sum();
    bundle.service.stop_deadline.saturating_add(bundle.service.start_deadline).saturating_add(hooks)
}
