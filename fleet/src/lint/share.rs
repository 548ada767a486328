//! One finding where many nodes share it. A group of a hundred nodes with one mistake gets one finding, not a hundred;
//! nodes that are alone with theirs keep it, with its own place.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    finding::{Finding, names},
    ids::{GroupName, NodeName},
    spec::{Fleet, report::Found},
};

/// What findings must have in common to become one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Alike {
    code: &'static str,
    message: String,
    remedy: String,
}

impl Alike {
    fn of(finding: &Finding) -> Self {
        Self { code: finding.code, message: finding.message.clone(), remedy: finding.remedy.clone() }
    }
}

/// Findings of nodes with those that whole groups share told once.
pub(super) fn shared(found: Vec<Found>, fleet: &Fleet) -> Vec<Finding> {
    let mut members: BTreeMap<&GroupName, BTreeSet<&NodeName>> = BTreeMap::new();
    for (name, node) in &fleet.nodes {
        members.entry(&node.group).or_default().insert(name);
    }
    members.retain(|_, nodes| 1 < nodes.len());
    let mut everybody: BTreeMap<Alike, BTreeSet<NodeName>> = BTreeMap::new();
    for one in found.iter().filter(|one| !one.nodes.is_empty()) {
        everybody.entry(Alike::of(&one.finding)).or_default().extend(one.nodes.iter().cloned());
    }
    let mut told = BTreeSet::new();
    let mut findings = Vec::new();
    for Found { mut finding, mut nodes } in found {
        let alike = Alike::of(&finding);
        let all = everybody.get(&alike);
        let whole = |nodes: &&BTreeSet<&NodeName>| {
            all.is_some_and(|all| nodes.iter().all(|node| all.contains(*node)))
        };
        let groups: BTreeMap<&GroupName, &BTreeSet<&NodeName>> =
            members.iter().filter(|(_, nodes)| whole(nodes)).map(|(name, nodes)| (*name, nodes)).collect();
        let of_groups: BTreeSet<&NodeName> =
            groups.values().flat_map(|nodes| nodes.iter().copied()).collect();
        let is_shared = nodes.iter().any(|node| of_groups.contains(node));
        nodes.retain(|node| !of_groups.contains(node));
        if is_shared {
            if told.insert(alike) {
                let text = |(name, nodes): (&&GroupName, &&BTreeSet<&NodeName>)| {
                    format!("all {} nodes of {name}", nodes.len())
                };
                let whose = names(groups.iter().map(text).collect::<Vec<_>>().iter().map(String::as_str));
                let message = format!("{} ({whose})", finding.message);
                findings.push(Finding { node: None, message, ..finding.clone() });
            }
            if nodes.is_empty() {
                continue;
            }
        }
        finding.node = nodes.first().cloned().or(finding.node);
        if 1 < nodes.len() {
            finding.message += &format!(" ({})", names(nodes.iter().map(NodeName::as_str)));
        }
        findings.push(finding);
    }
    findings
}
