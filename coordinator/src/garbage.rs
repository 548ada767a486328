//! Bounds the past: old revisions and rollouts go, and with them the content that nothing names any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet::ids::{Digest, RolloutId};
use proto::convert::bundle::decode_bundle;
use tracing::{info, warn};

use crate::{
    coordinator::Coordinator,
    rpc::chain,
    store::{
        CommitError, Key, LeaseGrant, Range, StoreError, Transaction, blobs, for_each,
        records::{
            Assigned, HostRecord, NodeRecord, ProposalRecord, Record as _, RevisionHead, RevisionRecord,
            RolloutRecord, SeenRecord, ShardRecord,
        },
        revisions,
    },
};

/// Garbage is looked for so often, and soon after each apply.
const EVERY: Duration = Duration::from_secs(3600);
/// After an apply, so that the rollout's first steps are not held up by it.
const AFTER_APPLY: Duration = Duration::from_secs(30);
/// Records of a whole fleet that are in memory at once.
const LARGE_PAGE: usize = 4;
/// Records of a node that are in memory at once.
const SMALL_PAGE: usize = 500;
/// Nobody else collects meanwhile, not even one that was started by mistake.
const LEASE: Duration = Duration::from_secs(300);

/// Runs until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    let mut applied = coordinator.store.watch(Key::REVISIONS);
    loop {
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            _ = applied.changed() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            () = tokio::time::sleep(AFTER_APPLY) => {}
        }
        match coordinator.collect_garbage().await {
            Ok(0) => {}
            Ok(removed) => info!(removed, "Removed old content"),
            Err(error) => warn!(error = chain(&error), "Cannot remove old content; trying again later"),
        }
    }
}

impl Coordinator {
    /// Removes what history does not keep; answers how many pieces of content went.
    ///
    /// # Errors
    /// The store failed; what is left goes next time.
    pub(crate) async fn collect_garbage(&self) -> Result<usize, CommitError> {
        let holder = self.epoch.to_string();
        let term = ((self.clock)(), LEASE);
        let grant = self.store.lease("garbage", &holder, term).await.map_err(CommitError::Refused)?;
        if let LeaseGrant::Taken { .. } = grant {
            return Ok(0);
        }
        let _applying = self.applying.lock().await;
        self.remove_old(Key::REVISIONS, self.history.revisions, |_| true).await?;
        let ended = |entry: &crate::store::Entry| {
            RolloutRecord::read(entry).is_ok_and(|record| record.rollout.phase.is_end())
        };
        self.remove_old(Key::ROLLOUTS, self.history.rollouts, ended).await?;
        self.remove_left_steps().await?;
        let (mut keep, parts) = self.named_content().await.map_err(CommitError::Refused)?;
        revisions::remove_other_parts(&*self.store, &parts).await?;
        keep.extend(self.remove_unused_packs().await?);
        blobs::remove_others(&*self.store, &keep).await
    }

    /// Removes the records of packs that no node reports or runs with; answers the others.
    async fn remove_unused_packs(&self) -> Result<BTreeSet<Digest>, CommitError> {
        let used = self.used_packs().await.map_err(CommitError::Refused)?;
        let kept = self.store.range(Range::first(Key::PACKS, usize::MAX)).await;
        let kept = kept.map_err(CommitError::Refused)?;
        let (kept, unused): (Vec<_>, Vec<_>) = kept
            .into_iter()
            .map(|entry| entry.key)
            .partition(|key| key.pack_digest().is_some_and(|digest| used.contains(&digest)));
        for batch in unused.chunks(64) {
            let removal = batch.iter().cloned().fold(Transaction::default(), Transaction::delete);
            self.store.commit(removal).await?;
        }
        Ok(kept.iter().filter_map(Key::pack_digest).collect())
    }

    async fn remove_old(
        &self,
        prefix: &str,
        keep: usize,
        may_go: impl Fn(&crate::store::Entry) -> bool,
    ) -> Result<(), CommitError> {
        let newest = self.store.range(Range::last(prefix, keep)).await.map_err(CommitError::Refused)?;
        let Some(oldest_kept) = newest.last().filter(|_| newest.len() == keep) else { return Ok(()) };
        let older = Range { after: Some(oldest_kept.key.clone()), ..Range::last(prefix, 64) };
        let older = self.store.range(older).await.map_err(CommitError::Refused)?;
        let removal = older.into_iter().filter(may_go);
        let removal = removal.fold(Transaction::default(), |all, entry| all.delete(entry.key));
        if !removal.writes.is_empty() {
            self.store.commit(removal).await?;
        }
        Ok(())
    }

    /// Removes the steps of rollouts that were removed, and of those that were prepared and never began.
    async fn remove_left_steps(&self) -> Result<(), CommitError> {
        let mut shards: BTreeMap<RolloutId, u32> = BTreeMap::new();
        let heads = for_each(&*self.store, Key::ROLLOUTS, LARGE_PAGE, |entry| {
            let head = RolloutRecord::read(entry)?;
            shards.insert(head.rollout.id, head.shards);
            Ok(())
        });
        heads.await.map_err(CommitError::Refused)?;
        let mut left: Vec<Key> = Vec::new();
        let steps = for_each(&*self.store, Key::STEPS, LARGE_PAGE, |entry| {
            let place = entry.key.shard();
            let gone = place.filter(|(id, shard)| shards.get(id).is_none_or(|kept| kept <= shard));
            left.extend(gone.map(|_| entry.key.clone()));
            Ok(())
        });
        steps.await.map_err(CommitError::Refused)?;
        for batch in left.chunks(64) {
            let removal = batch.iter().cloned().fold(Transaction::default(), Transaction::delete);
            self.store.commit(removal).await?;
        }
        Ok(())
    }

    /// What the proposals would become that wait for a decision, and their packs.
    async fn waiting_proposals(&self) -> Result<(Vec<RevisionHead>, BTreeSet<Digest>), StoreError> {
        let (now, mut heads, mut packs) = ((self.clock)(), Vec::new(), BTreeSet::new());
        for_each(&*self.store, Key::PROPOSALS, LARGE_PAGE, |entry| {
            let proposal = ProposalRecord::read(entry)?;
            if proposal.proposed().may_reject(now).is_ok() {
                packs.extend(proposal.packs.values().copied());
                heads.push(proposal.head);
            }
            Ok(())
        })
        .await?;
        Ok((heads, packs))
    }

    /// Everything that a revision, a node or a rollout can still ask for, and the parts of revisions. An unreadable record
    /// keeps everything.
    async fn named_content(&self) -> Result<(BTreeSet<Digest>, BTreeSet<Digest>), StoreError> {
        let (mut sources, mut bundles) = (BTreeSet::new(), BTreeSet::new());
        let mut parts: BTreeSet<Digest> = BTreeSet::new();
        let mut take = |revision: RevisionRecord| {
            sources.extend(revision.sources.values().copied());
            bundles.extend(revision.nodes.values().map(|target| target.content));
            let groups = revision.rules.iter().flat_map(|rules| rules.groups.values());
            sources.extend(groups.filter_map(|group| Some(group.gates.as_ref()?.content)));
        };
        for_each(&*self.store, Key::REVISIONS, LARGE_PAGE, |entry| {
            let head = RevisionHead::read(entry)?;
            parts.extend(head.parts());
            take(head.with([]));
            Ok(())
        })
        .await?;
        let (waiting, packs) = self.waiting_proposals().await?;
        for head in waiting {
            parts.extend(head.parts());
            take(head.with([]));
        }
        // Revisions share the parts in which they do not differ.
        for digest in &parts {
            let part = revisions::part(&*self.store, digest).await?;
            sources.extend(part.sources());
            bundles.extend(part.bundles());
        }
        let content = |assigned: &Assigned| assigned.target.content;
        for_each(&*self.store, Key::NODES, SMALL_PAGE, |entry| {
            let node = NodeRecord::read(entry)?;
            bundles.extend(node.desired.iter().chain(&node.history).map(content));
            Ok(())
        })
        .await?;
        for_each(&*self.store, Key::SEEN, SMALL_PAGE, |entry| {
            bundles.extend(SeenRecord::read(entry)?.last_good.iter().map(content));
            Ok(())
        })
        .await?;
        for_each(&*self.store, Key::ROLLOUTS, LARGE_PAGE, |entry| {
            let rollout = RolloutRecord::read(entry)?.rollout;
            let targets = rollout.steps.values().flat_map(|step| step.last_good.iter().chain([&step.target]));
            bundles.extend(targets.map(|target| target.content));
            let gates = rollout.groups.values().filter_map(|group| group.gates.as_ref());
            sources.extend(gates.map(|gates| gates.content));
            Ok(())
        })
        .await?;
        for_each(&*self.store, Key::STEPS, LARGE_PAGE, |entry| {
            let steps = ShardRecord::read(entry)?.0;
            let targets = steps.values().flat_map(|step| step.last_good.iter().chain([&step.target]));
            bundles.extend(targets.map(|target| target.content));
            Ok(())
        })
        .await?;
        let mut keep = sources;
        keep.extend(packs);
        for_each(&*self.store, Key::HOSTS, SMALL_PAGE, |entry| {
            keep.extend(HostRecord::read(entry)?.facts.digests());
            Ok(())
        })
        .await?;
        for content in bundles {
            keep.insert(content);
            if let Some(bytes) = blobs::get(&*self.store, &content).await? {
                let bundle = decode_bundle(&bytes).map_err(StoreError::damaged)?;
                keep.extend(bundle.files.values().map(|file| file.digest));
            }
        }
        Ok((keep, parts))
    }
}
