//! Going back to an older revision, and what a refusal of a stale parent tells.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet::{
    bundle::Bundle,
    finding::names_at_most,
    ids::{Digest, NodeName, Revision},
    rollout::{RolloutRules, StepRecord, StepState},
    signature::may_follow,
    spec::{Absent, canonical},
};

use crate::{
    apply::{Applied, ApplyError, Intent, RevisionDraft, compose_apart, rules_of},
    coordinator::Coordinator,
    plan::{lost_on_all, lost_unasked},
    signatures::unsigned,
    store::{
        Key, StoreError, blobs, for_each,
        records::{Record as _, RevisionRecord, RolloutRecord, ShardRecord, Target},
        revisions,
    },
    view::Snapshot,
};

const NOTHING_APPLIED: &str = "nothing was applied yet, so there is nothing to go back to";
/// Revisions that a refusal of a stale parent lists.
const LISTED_MAX: usize = 5;
/// Records of rollouts that are in memory at once.
const PAGE: usize = 16;
/// Nodes that such a line names and compares.
const NODES_MAX: usize = 5;
/// Keys and files that such a line names.
const KEYS_MAX: usize = 6;

/// Bundles that became healthy, by node.
pub(crate) struct Proven(BTreeSet<(NodeName, Digest)>);

impl Proven {
    fn holds(&self, node: &NodeName, target: &Target) -> bool {
        self.0.contains(&(node.clone(), target.bundle))
    }
}

impl Coordinator {
    /// Makes a new revision with the content of an older one, and starts its rollout.
    ///
    /// Nodes get the content that was composed then, whatever its secrets are now, in the order and with the limits
    /// that the revision was applied with.
    ///
    /// # Errors
    /// The store failed; see [`ApplyError`].
    pub async fn roll_back(
        self: &Arc<Self>,
        to: Option<Revision>,
        intent: &Intent,
    ) -> Result<Applied, ApplyError> {
        let refused = |why| Ok(Applied::Refused { findings: Vec::new(), why });
        let _applying = self.applying.lock().await;
        let snapshot = self.snapshot().await?;
        let newest = snapshot.meta.record.newest_revision;
        if let Some(parent) = intent.parent.filter(|parent| *parent != newest) {
            return refused(self.stale(parent, newest).await?);
        }
        let draft = match self.way_back(&snapshot, to).await? {
            Ok(draft) => draft,
            Err(why) => return refused(why),
        };
        if let Some(why) = unsigned(&snapshot, &draft) {
            return refused(why);
        }
        let rollout = self.new_rollout(&snapshot, None, &draft, (newest.next(), None)).await?;
        let lost = self.compare_stored(&snapshot, (&draft, &rollout), lost_on_all).await?;
        if let Some(why) = lost_unasked(&lost, intent) {
            return refused(why);
        }
        Ok(self.commit_revision(&draft, None, intent).await?.with(Vec::new()))
    }

    /// The revision that a rollback makes, before it has a number; or why there is none.
    pub(crate) async fn way_back(
        &self,
        snapshot: &Snapshot,
        to: Option<Revision>,
    ) -> Result<Result<RevisionDraft, String>, ApplyError> {
        let proven = self.proven(snapshot).await?;
        let old = match to {
            Some(to) => self.named_revision(snapshot, to, &proven).await?,
            None => self.newest_proven(snapshot, &proven).await?,
        };
        let old = match old {
            Ok(old) => old,
            Err(why) => return Ok(Err(why)),
        };
        let rules = match &old.rules {
            Some(rules) => Some(rules.clone()),
            None => self.recomposed_rules(&old).await?,
        };
        let Some(rules) = rules else {
            return Ok(Err(format!(
                "revision {} was applied by an older version, and its directory does not compose any more, so its \
                 order and limits are not known; apply its directory from Git instead",
                old.number
            )));
        };
        Ok(Ok(RevisionDraft {
            sources: old.sources,
            nodes: old.nodes,
            rules,
            rolls_back_to: Some(old.number),
            stays: BTreeSet::new(),
            left_out: BTreeSet::new(),
            secrets: old.secrets,
            origin: old.origin,
            approval: old.approval,
            alerts: old.alerts,
            source_bytes: 0,
            // Who may sign stays as it is: otherwise going back would bring keys back that were taken off the list.
            signatures: snapshot
                .revision
                .as_ref()
                .map(|newest| newest.signatures.clone())
                .unwrap_or_default(),
            signed: old.signed,
        }))
    }

    async fn named_revision(
        &self,
        snapshot: &Snapshot,
        to: Revision,
        proven: &Proven,
    ) -> Result<Result<RevisionRecord, String>, StoreError> {
        let newest = snapshot.meta.record.newest_revision;
        if newest.0 == 0 {
            return Ok(Err(NOTHING_APPLIED.to_owned()));
        }
        if newest < to {
            return Ok(Err(format!(
                "there is no revision {to}: the newest is {newest}; go back to one before it, of those that \
                 `convoy rollout list` shows"
            )));
        }
        if to == newest {
            return Ok(Err(format!("revision {to} is the newest, there is nothing to go back to")));
        }
        if to.0 == 0 {
            return Ok(Err(
                "revisions are counted from 1; without a number the newest good one is chosen".to_owned()
            ));
        }
        let Some(old) = revisions::read(&*self.store, to).await? else {
            return Ok(Err(format!(
                "revision {to} is not kept any more; the newest {} are, so apply its directory from Git instead",
                self.history.revisions
            )));
        };
        let unproven = |(name, target): &(&NodeName, &Target)| {
            let good = snapshot.seen.get(*name).and_then(|seen| seen.last_good.as_ref());
            good.is_some() && !proven.holds(name, target)
        };
        let unproven: Vec<NodeName> =
            old.nodes.iter().filter(unproven).map(|(name, _)| name.clone()).collect();
        if !unproven.is_empty() {
            return Ok(Err(format!(
                "revision {to} was never healthy on {}, and what runs there was; go back further, or apply the \
                 directory of revision {to} from Git if you mean it",
                names(&unproven)
            )));
        }
        Ok(Ok(old))
    }

    /// The newest revision before the newest that was healthy on every node that it changes.
    async fn newest_proven(
        &self,
        snapshot: &Snapshot,
        proven: &Proven,
    ) -> Result<Result<RevisionRecord, String>, StoreError> {
        let newest = snapshot.meta.record.newest_revision;
        let is_good = |(name, target): (&NodeName, &Target)| {
            let has = snapshot.nodes.get(name).and_then(|node| node.record.desired.as_ref());
            has.is_some_and(|has| has.target.bundle == target.bundle) || proven.holds(name, target)
        };
        let running = snapshot.revision.as_ref().map(|revision| &revision.signatures);
        for number in (1..newest.0).rev().map(Revision) {
            let Some(old) = revisions::read(&*self.store, number).await? else { break };
            let signed = old.signed.as_ref().map(|signed| &signed.key);
            if old.nodes.iter().all(is_good) && may_follow(running, signed, Some(number)).is_ok() {
                return Ok(Ok(old));
            }
        }
        Ok(Err(match newest.0 {
            0 => NOTHING_APPLIED.to_owned(),
            1 => format!("there is no revision before the newest, {newest}, to go back to"),
            _ if running.is_some_and(|rules| rules.required) => {
                "no revision that is kept is signed by a key that the fleet lists, and was healthy on every node that going \
                 back to it would change; apply a directory with a signature"
                    .to_owned()
            }
            _ => "no revision that is kept was healthy on every node that going back to it would change; name the one \
                  you mean, or apply a directory"
                .to_owned(),
        }))
    }

    /// What was healthy where, as far as is known.
    async fn proven(&self, snapshot: &Snapshot) -> Result<Proven, StoreError> {
        let mut proven = BTreeSet::new();
        let mut take = |steps: &BTreeMap<NodeName, StepRecord>| {
            for (name, step) in steps {
                let ready = matches!(step.state, StepState::Ready { .. }).then_some(&step.target);
                let good = ready.into_iter().chain(&step.last_good);
                proven.extend(good.map(|target| (name.clone(), target.bundle)));
            }
        };
        for_each(&*self.store, Key::ROLLOUTS, PAGE, |entry| {
            take(&RolloutRecord::read(entry)?.rollout.steps);
            Ok(())
        })
        .await?;
        for_each(&*self.store, Key::STEPS, PAGE, |entry| {
            take(&ShardRecord::read(entry)?.0);
            Ok(())
        })
        .await?;
        for (name, seen) in &snapshot.seen {
            proven.extend(seen.last_good.as_ref().map(|good| (name.clone(), good.target.bundle)));
        }
        Ok(Proven(proven))
    }

    /// How a revision of before rules were kept is rolled out: its sources say it, if they still compose.
    async fn recomposed_rules(&self, old: &RevisionRecord) -> Result<Option<RolloutRules>, ApplyError> {
        let sources = self.stored_sources(old).await?;
        let secrets = self.secrets(Absent::Placeholder).await?;
        let (_, composition) = compose_apart(sources, secrets).await?;
        Ok(composition.fleet.as_ref().map(rules_of))
    }

    /// Who changed what since `parent`.
    pub(crate) async fn stale(&self, parent: Revision, newest: Revision) -> Result<String, ApplyError> {
        let mut text = format!("this change was made on revision {parent}, and the newest is {newest};");
        let mut listed = 0;
        let mut number = newest;
        while parent < number && listed < LISTED_MAX {
            if let Some(between) = revisions::read(&*self.store, number).await? {
                let changed = self.changed_by(&between).await?;
                text +=
                    &format!(" revision {number} is by {} ({:?}){changed};", between.author, between.message);
                listed += 1;
            }
            number = Revision(number.0 - 1);
        }
        text += " look at what they changed, then apply on top of it";
        Ok(text)
    }

    /// `, and changed is-1, is-2: server.hostname`; empty if the revision before is not kept.
    pub(crate) async fn changed_by(&self, revision: &RevisionRecord) -> Result<String, StoreError> {
        let before = match revisions::read(&*self.store, revision.parent).await? {
            Some(before) => before.nodes,
            None if revision.parent.0 == 0 => BTreeMap::new(),
            None => return Ok(String::new()),
        };
        let differs = |(name, target): &(&NodeName, &Target)| {
            before.get(*name).is_none_or(|old| old.bundle != target.bundle)
        };
        let nodes: Vec<NodeName> =
            revision.nodes.iter().filter(differs).map(|(name, _)| name.clone()).collect();
        let gone: Vec<NodeName> =
            before.keys().filter(|name| !revision.nodes.contains_key(*name)).cloned().collect();
        let mut keys = BTreeSet::new();
        for (old, new) in
            nodes.iter().take(NODES_MAX).filter_map(|name| before.get(name).zip(revision.nodes.get(name)))
        {
            keys.append(&mut self.changed_keys(old, new).await?);
        }
        let mut text =
            if nodes.is_empty() { String::new() } else { format!(", and changed {}", names(&nodes)) };
        if !keys.is_empty() {
            let shown: Vec<&str> = keys.iter().take(KEYS_MAX).map(String::as_str).collect();
            let more = if shown.len() < keys.len() { ", ..." } else { "" };
            text += &format!(": {}{more}", shown.join(", "));
        }
        if !gone.is_empty() {
            text += &format!(", and removed {}", names(&gone));
        }
        Ok(text)
    }

    /// The keys of deployment.toml and the other files that differ. Never a value.
    async fn changed_keys(&self, old: &Target, new: &Target) -> Result<BTreeSet<String>, StoreError> {
        let bundles = (self.bundle(&old.content).await?, self.bundle(&new.content).await?);
        let (Some(old), Some(new)) = bundles else { return Ok(BTreeSet::new()) };
        let mut changed = BTreeSet::new();
        let paths: BTreeSet<_> = old.files.keys().chain(new.files.keys()).collect();
        for path in paths {
            let digest = |bundle: &Bundle| bundle.files.get(path).map(|file| file.digest);
            let (was, is) = (digest(&old), digest(&new));
            if was == is {
                continue;
            }
            let keys = match (was, is, path.file_name()) {
                (Some(was), Some(is), "deployment.toml") => self.differing_keys(&was, &is).await?,
                _ => None,
            };
            changed.extend(keys.unwrap_or_else(|| [path.to_string()].into()));
        }
        if old.service != new.service {
            changed.insert("service settings".to_owned());
        }
        Ok(changed)
    }

    async fn differing_keys(
        &self,
        old: &Digest,
        new: &Digest,
    ) -> Result<Option<BTreeSet<String>>, StoreError> {
        let flat =
            |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| canonical::flatten(text).ok());
        let old = blobs::get(&*self.store, old).await?;
        let new = blobs::get(&*self.store, new).await?;
        let flats = old.and_then(|old| flat(&old)).zip(new.and_then(|new| flat(&new)));
        Ok(flats.map(|(old, new)| {
            let keys = old.keys().chain(new.keys());
            keys.filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
        }))
    }
}

fn names(nodes: &[NodeName]) -> String {
    names_at_most(NODES_MAX, nodes.iter().map(NodeName::as_str))
}
