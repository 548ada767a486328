//! A revision before it has a number: from a composed fleet, all of it or the nodes that take part.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    alert::AlertPolicy,
    approval::ApprovalRules,
    ids::{Digest, GroupName, NodeName, Revision},
    origin::Origin,
    rollout::{GroupGoal, RolloutRules},
    signature::{Signature, SignatureRules},
    spec::{ComposedNode, Fleet, Sources},
    time::Timestamp,
};
use proto::convert::bundle::encode_bundle;

use crate::{
    gates::{gates, questions},
    store::records::{RevisionRecord, Sanction, SecretUses, Target},
    view::Snapshot,
};

/// A revision before it has a number.
pub(crate) struct RevisionDraft {
    pub(crate) sources: BTreeMap<String, Digest>,
    pub(crate) nodes: BTreeMap<NodeName, Target>,
    pub(crate) rules: RolloutRules,
    pub(crate) rolls_back_to: Option<Revision>,
    /// Nodes that take no part: they get no step, also if they are behind.
    pub(crate) stays: BTreeSet<NodeName>,
    /// Those of them of which the directory says something else.
    pub(crate) left_out: BTreeSet<NodeName>,
    /// Which secrets reach which nodes; `None`: not known.
    pub(crate) secrets: Option<SecretUses>,
    /// The commit that it came from; `None`: not known.
    pub(crate) origin: Option<Origin>,
    /// Which changes need approval while it is in force.
    pub(crate) approval: ApprovalRules,
    /// What is said of alerts while it is in force.
    pub(crate) alerts: AlertPolicy,
    /// Bytes of the directory; 0: it goes back.
    pub(crate) source_bytes: u64,
    /// Who may sign what follows while it is in force.
    pub(crate) signatures: SignatureRules,
    /// The signature of the upload; of a rollback, the one of what it goes back to.
    pub(crate) signed: Option<Signature>,
}

impl RevisionDraft {
    /// As it is stored, with its number and the one that it is made on.
    pub(crate) fn record(
        &self,
        (number, parent): (Revision, Revision),
        (author, message): (&str, &str),
        created: Timestamp,
    ) -> RevisionRecord {
        RevisionRecord {
            number,
            parent,
            author: author.to_owned(),
            message: message.to_owned(),
            created,
            sources: self.sources.clone(),
            nodes: self.nodes.clone(),
            rolls_back_to: self.rolls_back_to,
            rules: Some(self.rules.clone()),
            left_out: self.left_out.clone(),
            secrets: self.secrets.clone(),
            origin: self.origin.clone(),
            approval: self.approval.clone(),
            alerts: self.alerts.clone(),
            sanction: Sanction::None,
            signatures: self.signatures.clone(),
            signed: self.signed.clone(),
        }
    }

    pub(crate) fn of(fleet: &Fleet, sources: &Sources) -> Self {
        Self {
            sources: sources.0.iter().map(|(path, bytes)| (path.clone(), Digest::of(bytes))).collect(),
            nodes: fleet.nodes.iter().map(|(name, node)| (name.clone(), target_of(node))).collect(),
            rules: rules_of(fleet),
            rolls_back_to: None,
            stays: BTreeSet::new(),
            left_out: BTreeSet::new(),
            secrets: Some(SecretUses::new(
                fleet.nodes.iter().map(|(name, node)| (name.clone(), node.secrets.clone())),
            )),
            origin: None,
            approval: fleet.approval.clone(),
            alerts: fleet.alerts.policy.clone(),
            source_bytes: sources.0.values().map(|bytes| bytes.len() as u64).sum(),
            signatures: fleet.signatures.clone(),
            signed: None,
        }
    }

    /// Only the chosen nodes get what the directory says. The others keep what the newest revision wants of them, in
    /// the order and with the limits that it has for their groups; those that were never applied stay out.
    pub(crate) fn limited(
        mut self,
        fleet: &Fleet,
        only: &Selection,
        snapshot: &Snapshot,
    ) -> Result<Self, String> {
        if only.is_all() {
            return Ok(self);
        }
        let chosen = only.of(fleet)?;
        if let Some(why) = cut_off(snapshot, &chosen) {
            return Err(why);
        }
        let before = snapshot.revision.as_ref().map(|newest| newest.nodes.clone()).unwrap_or_default();
        let of_chosen: BTreeSet<GroupName> =
            chosen.iter().map(|name| self.nodes[name].group.clone()).collect();
        let all = std::mem::take(&mut self.nodes);
        self.nodes = all
            .iter()
            .filter(|(name, _)| chosen.contains(*name))
            .map(|(name, it)| (name.clone(), it.clone()))
            .collect();
        let uses =
            chosen.iter().filter_map(|name| Some((name.clone(), fleet.nodes.get(name)?.secrets.clone())));
        let mut secrets = SecretUses::new(uses);
        let had = snapshot.revision.as_ref().and_then(|newest| newest.secrets.as_ref());
        for (name, old) in before.into_iter().filter(|(name, _)| !chosen.contains(name)) {
            if all.get(&name) != Some(&old) {
                self.left_out.insert(name.clone());
            }
            secrets.keep(&name, had);
            self.stays.insert(name.clone());
            self.nodes.insert(name, old);
        }
        self.secrets = Some(secrets);
        let old = snapshot.revision.as_ref().and_then(|newest| newest.rules.as_ref());
        for target in self.nodes.values().filter(|target| !of_chosen.contains(&target.group)) {
            if let Some(goal) = old.and_then(|rules| rules.groups.get(&target.group)) {
                self.rules.groups.insert(target.group.clone(), goal.clone());
            } else {
                self.rules.groups.entry(target.group.clone()).or_default();
            }
        }
        // What is everybody's is not for an apply of some nodes to change.
        if let Some(newest) = &snapshot.revision {
            self.alerts.clone_from(&newest.alerts);
            self.signatures.clone_from(&newest.signatures);
        }
        // Rules of groups that take no part stay as well.
        let had = snapshot.revision.as_ref().map(|newest| newest.approval.groups.clone()).unwrap_or_default();
        self.approval.groups.retain(|group| of_chosen.contains(group));
        self.approval.groups.extend(had.into_iter().filter(|group| !of_chosen.contains(group)));
        Ok(self)
    }
}

/// Why a partial apply has to wait: it would end a rollout that nodes are in which it leaves out.
fn cut_off(snapshot: &Snapshot, chosen: &BTreeSet<NodeName>) -> Option<String> {
    let rollout = &snapshot.running_rollout()?.record.rollout;
    let name = rollout.steps.keys().find(|name| !chosen.contains(*name))?;
    Some(format!(
        "rollout {} is under way and has {name}, which this apply leaves out; wait for its end, or abort it first",
        rollout.id
    ))
}

/// Which nodes take part in an apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// These.
    pub nodes: BTreeSet<NodeName>,
    /// And those of these groups. Without any of both: all.
    pub groups: BTreeSet<GroupName>,
}

impl Selection {
    /// Nobody is left out.
    pub fn is_all(&self) -> bool {
        self.nodes.is_empty() && self.groups.is_empty()
    }

    /// The nodes of a fleet that it means.
    fn of(&self, fleet: &Fleet) -> Result<BTreeSet<NodeName>, String> {
        if let Some(name) = self.nodes.iter().find(|name| !fleet.nodes.contains_key(*name)) {
            return Err(format!("the fleet directory has no node {name}"));
        }
        if let Some(name) = self.groups.iter().find(|name| !fleet.groups.contains_key(*name)) {
            return Err(format!("the fleet directory has no group {name}"));
        }
        let of_groups = fleet.nodes.iter().filter(|(_, node)| self.groups.contains(&node.group));
        Ok(self.nodes.iter().chain(of_groups.map(|(name, _)| name)).cloned().collect())
    }
}

/// How a composed fleet wants to be rolled out.
pub(crate) fn rules_of(fleet: &Fleet) -> RolloutRules {
    let questions = questions(fleet);
    let goal = |(name, group): (&GroupName, &fleet::spec::Group)| {
        let gates = gates(group, questions.get(name));
        (name.clone(), GroupGoal { policy: group.rollout.clone(), after: group.after.clone(), gates })
    };
    let groups = fleet.groups.iter().map(goal).collect();
    RolloutRules { policy: fleet.rollout.clone(), groups }
}

fn target_of(node: &ComposedNode) -> Target {
    let encoded = encode_bundle(&node.bundle);
    Target {
        bundle: node.bundle.digest(),
        content: Digest::of(&encoded),
        content_size: encoded.len() as u64,
        group: node.group.clone(),
        host: node.host.clone(),
        zone: node.zone.clone(),
        product: node.bundle.service.product.clone(),
    }
}
