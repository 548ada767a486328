//! What a revision really reaches: an apply or a rollback in scope is judged by that, not by what was asked for.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    access::{Permit, Principal, Target, Targets},
    ids::{GroupName, NodeName},
    rollout::{Rollout, RolloutRules},
    spec::SecretName,
};

use crate::{
    access::principals,
    apply::{ApplyError, RevisionDraft},
    coordinator::Coordinator,
    store::{
        StoreError,
        records::{RevisionRecord, SecretUses},
    },
    view::Snapshot,
};

/// The groups that each secret is granted to.
type Granted = BTreeMap<SecretName, BTreeSet<GroupName>>;

impl Coordinator {
    /// Permits a revision by everything that it changes, as rights are now.
    pub(crate) async fn permit_revision(
        &self,
        snapshot: &Snapshot,
        begun: &Permit,
        (draft, rollout): (&RevisionDraft, &Rollout),
    ) -> Result<Permit, ApplyError> {
        let name = begun.operator();
        let who: Option<Principal> = principals(snapshot).find(|who| who.name == *name);
        let who = who.ok_or_else(|| ApplyError::Removed { name: name.clone() })?;
        let shown = begun.principal();
        let who = Principal { serial: shown.serial.clone(), from: shown.from, ..who };
        let reached = self.reached(snapshot, draft, rollout).await?;
        Ok(self.permit(snapshot, &who, (begun.action(), &reached)).await?)
    }

    /// Everything that a revision and its rollout change.
    pub(crate) async fn reached(
        &self,
        snapshot: &Snapshot,
        draft: &RevisionDraft,
        rollout: &Rollout,
    ) -> Result<Targets, StoreError> {
        let records = self.secret_records().await?;
        let granted = records.into_iter().map(|record| (record.name, record.groups)).collect();
        let newest = snapshot.revision.as_ref().map(|revision| &revision.record);
        let mut reached = reached(newest, draft, &granted);
        reached.extend(groups_of(rollout));
        // The rollout that is under way ends with this one.
        reached
            .extend(snapshot.running_rollout().into_iter().flat_map(|open| groups_of(&open.record.rollout)));
        Ok(reached)
    }
}

fn groups_of(rollout: &Rollout) -> impl Iterator<Item = Target> {
    rollout.steps.values().map(|step| Target::Group(step.group.clone()))
}

/// Nodes, rules and secrets that differ from the newest revision.
fn reached(newest: Option<&RevisionRecord>, draft: &RevisionDraft, granted: &Granted) -> Targets {
    // The first revision makes the rules of the whole fleet.
    let Some(newest) = newest else { return [Target::Fleet].into() };
    let names: BTreeSet<&NodeName> = newest.nodes.keys().chain(draft.nodes.keys()).collect();
    let differing = names.into_iter().map(|name| (newest.nodes.get(name), draft.nodes.get(name)));
    let differing = differing.filter(|(before, after)| before != after);
    let nodes = differing.flat_map(|(before, after)| before.into_iter().chain(after));
    let mut reached: Targets = nodes.map(|target| Target::Group(target.group.clone())).collect();
    reached.extend(rules_reached(newest.rules.as_ref(), &draft.rules));
    reached.extend(newest.approval.reached_by(&draft.approval));
    reached.extend((newest.alerts != draft.alerts).then_some(Target::Fleet));
    reached.extend((newest.signatures != draft.signatures).then_some(Target::Fleet));
    match &draft.secrets {
        Some(uses) => reached.extend(foreign(uses, newest.secrets.as_ref(), draft, granted)),
        // Nobody knows which secrets an old revision holds.
        None => drop(reached.insert(Target::Fleet)),
    }
    reached
}

fn rules_reached(before: Option<&RolloutRules>, after: &RolloutRules) -> Targets {
    let Some(before) = before.filter(|before| before.policy == after.policy) else {
        return [Target::Fleet].into();
    };
    let groups: BTreeSet<&GroupName> = before.groups.keys().chain(after.groups.keys()).collect();
    let differing = groups.into_iter().filter(|group| before.groups.get(*group) != after.groups.get(*group));
    differing.cloned().map(Target::Group).collect()
}

/// Secrets that newly reach a node whose group they were not granted to.
fn foreign(
    uses: &SecretUses,
    before: Option<&SecretUses>,
    draft: &RevisionDraft,
    granted: &Granted,
) -> Targets {
    let mut foreign = Targets::new();
    for (node, secrets) in uses.iter() {
        let Some(target) = draft.nodes.get(node) else { continue };
        for secret in secrets {
            let had = before.is_some_and(|before| before.reaches(secret, node));
            let may = granted.get(secret).is_some_and(|groups| groups.contains(&target.group));
            if !had && !may {
                foreign.insert(Target::ForeignSecret { secret: secret.clone(), group: target.group.clone() });
            }
        }
    }
    foreign
}
