//! What a plan says beyond manifests: each node's deployment.toml looked at with the pack of its own host, and the
//! files that its server will make of it (ADR 0007). Called by `plan` and `apply`; pure but for loading packs.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use fleet::{
    finding::Finding,
    ids::{Digest, NodeName},
    lint::{self, ClearText, PackFacts},
    observed::{Drift, DriftKind},
    plan::{Before, Effects, NodePlan, PlannedNode, effects},
    preflight::databases::DatabaseLimits,
    spec::{ComposedNode, Fleet},
};

use crate::{
    apply::ApplyError, coordinator::Coordinator, packs::Unusable, plan::compare_all, store::StoreError,
    subjects::Subjects, view::Snapshot,
};

/// Packs that an operator gives for products of whose hosts none is known.
#[derive(Default)]
pub struct GivenPacks {
    by_product: BTreeMap<String, PackInUse>,
    /// As they came, for a proposal to keep; empty if they are kept already.
    encoded: BTreeMap<Digest, Vec<u8>>,
}

impl std::fmt::Debug for GivenPacks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.digests()).finish()
    }
}

impl GivenPacks {
    /// One of a product.
    pub(crate) fn put(&mut self, product: String, digest: Digest, facts: Arc<PackFacts>) {
        self.by_product.insert(product, PackInUse { digest, facts, given: true });
    }

    /// What one of them is made of.
    pub(crate) fn encode(&mut self, digest: Digest, encoded: Vec<u8>) {
        self.encoded.insert(digest, encoded);
    }

    /// They are only looked at, not kept: what they are made of takes no memory any longer.
    pub(crate) fn only_loaded(self) -> Self {
        Self { encoded: BTreeMap::new(), ..self }
    }

    fn of(&self, product: &str) -> Option<&PackInUse> {
        self.by_product.get(product)
    }

    /// Which there are, by product.
    pub(crate) fn digests(&self) -> BTreeMap<String, Digest> {
        self.by_product.iter().map(|(product, pack)| (product.clone(), pack.digest)).collect()
    }

    /// What they are made of.
    pub(crate) fn contents(&self) -> BTreeMap<Digest, &[u8]> {
        self.encoded.iter().map(|(digest, encoded)| (*digest, encoded.as_slice())).collect()
    }
}

/// What a defect of ours looks like to an operator.
const CRASHED: &str = "evaluating its pack crashed; this is a defect of Convoy";

/// A pack to evaluate with.
#[derive(Clone)]
pub struct PackInUse {
    /// Of its encoding.
    pub digest: Digest,
    /// Loaded.
    pub facts: Arc<PackFacts>,
    /// From the operator, not from the host.
    pub given: bool,
}

/// The packs of one node.
pub(crate) struct NodePacks {
    /// What it will render with, or why that is not known.
    pub(crate) now: Result<PackInUse, String>,
    /// What its server was rendered with.
    before: Option<PackInUse>,
}

/// What becomes of a node's generated files, and with which packs.
pub struct NodeEffects {
    /// The files and values.
    pub effects: Effects,
    /// What it will render with.
    pub pack: PackInUse,
    /// What it was rendered with; another after an update of the host.
    pub pack_before: Digest,
}

/// Everything that was found out about the nodes of a plan.
pub(crate) struct Plans {
    pub(crate) findings: Vec<Finding>,
    /// Of every node.
    pub(crate) plans: BTreeMap<NodeName, NodePlan>,
    /// Of nodes that change or whose pack did, or why it is not known.
    pub(crate) effects: BTreeMap<NodeName, Result<NodeEffects, String>>,
}

impl Coordinator {
    /// The packs of every node of `fleet`.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn node_packs(
        &self,
        snapshot: &Snapshot,
        fleet: &Fleet,
        (subjects, given): (&Subjects, &GivenPacks),
    ) -> Result<BTreeMap<NodeName, NodePacks>, StoreError> {
        let mut all = BTreeMap::new();
        // A load balancer renders nothing.
        for (name, node) in fleet.nodes.iter().filter(|(_, node)| node.bundle.balancer.is_none()) {
            let before = subjects.get(name).and_then(|subject| subject.base.assigned.as_ref());
            let host = match moves(before, node) {
                Some(why) => Err(why),
                None => self.host_pack(snapshot, name).await?,
            };
            let now = host.or_else(|why| given.of(&node.bundle.service.product).cloned().ok_or(why));
            let rendered = snapshot.seen.get(name).and_then(|seen| seen.rendered.as_ref());
            let earlier = match rendered.filter(|_| now.as_ref().is_ok_and(|now| !now.given)) {
                Some(rendered) => self.pack(&rendered.pack).await?.ok().map(|facts| (rendered.pack, facts)),
                None => None,
            };
            let earlier = earlier.map(|(digest, facts)| PackInUse { digest, facts, given: false });
            let before = earlier.or_else(|| now.as_ref().ok().cloned());
            all.insert(name.clone(), NodePacks { now, before });
        }
        Ok(all)
    }

    /// The pack that a node reports, or why it cannot be used.
    async fn host_pack(
        &self,
        snapshot: &Snapshot,
        name: &NodeName,
    ) -> Result<Result<PackInUse, String>, StoreError> {
        let Some(observed) = snapshot.observed(name) else {
            return Ok(Err("no agent has reported from its host yet".to_owned()));
        };
        let Some(digest) = observed.pack else {
            return Ok(Err("its agent has not read a pack; see the agent's log".to_owned()));
        };
        Ok(match self.pack(&digest).await? {
            Ok(facts) => Ok(PackInUse { digest, facts, given: false }),
            Err(Unusable::Missing) => Err("its agent has not sent it yet; try again shortly".to_owned()),
            Err(Unusable::Broken(why)) => Err(format!("it cannot be evaluated: {why}")),
        })
    }

    /// Everything doubtful, seen with the packs.
    ///
    /// # Errors
    /// The evaluation was cut off.
    pub(crate) async fn doubts(
        &self,
        fleet: Fleet,
        mut packs: BTreeMap<NodeName, NodePacks>,
    ) -> Result<(Fleet, Vec<Finding>), ApplyError> {
        let _turn = self.packs.evaluating.acquire().await;
        let looking = crate::tasks::blocking(move || {
            let findings = doubts(&fleet, &mut packs, &DatabaseLimits::new());
            (fleet, findings)
        });
        looking.await.map_err(ApplyError::Compose)
    }

    /// Everything doubtful, what changes on each node, and what its server makes of it.
    ///
    /// # Errors
    /// The evaluation was cut off.
    pub(crate) async fn weigh(
        &self,
        fleet: Fleet,
        subjects: Subjects,
        (mut packs, limits): (BTreeMap<NodeName, NodePacks>, DatabaseLimits),
    ) -> Result<(Fleet, Plans), ApplyError> {
        let _turn = self.packs.evaluating.acquire().await;
        let weighing = crate::tasks::blocking(move || {
            let findings = doubts(&fleet, &mut packs, &limits);
            let plans = compare_all(&fleet.nodes, &subjects);
            let mut effects = BTreeMap::new();
            for (name, node) in &fleet.nodes {
                let (Some(subject), Some(plan)) = (subjects.get(name), plans.get(name)) else { continue };
                let old = subject.base.assigned.as_ref();
                let packs = packs.get(name);
                if let Some(found) = packs.and_then(|packs| node_effects(name, (old, node, plan), packs)) {
                    effects.insert(name.clone(), found);
                }
            }
            (fleet, Plans { findings, plans, effects })
        });
        weighing.await.map_err(ApplyError::Compose)
    }
}

/// A node that gets another home: the pack that is reported is not the one it will have.
fn moves(before: Option<&PlannedNode>, node: &ComposedNode) -> Option<String> {
    let (old, new) = (&before?.bundle.service.home, &node.bundle.service.home);
    (old != new).then(|| format!("its home moves to {new}, whose pack is not read yet"))
}

/// `None` if there is nothing to tell.
fn node_effects(
    name: &NodeName,
    (old, node, plan): (Option<&PlannedNode>, &ComposedNode, &NodePlan),
    packs: &NodePacks,
) -> Option<Result<NodeEffects, String>> {
    let pack = match &packs.now {
        Ok(pack) => pack.clone(),
        Err(why) => return (!plan.is_empty()).then(|| Err(why.clone())),
    };
    let earlier = packs.before.as_ref().unwrap_or(&pack);
    if plan.is_empty() && earlier.digest == pack.digest {
        return None;
    }
    let text = old.and_then(config_text);
    let before = old.zip(text.as_deref()).map(|(old, text)| Before {
        facts: &earlier.facts,
        service: &old.bundle.service,
        text,
    });
    let evaluate = || effects(name, before, (node, &pack.facts));
    let Ok(effects) = catch_unwind(AssertUnwindSafe(evaluate)) else { return Some(Err(CRASHED.to_owned())) };
    Some(Ok(NodeEffects { effects, pack_before: earlier.digest, pack }))
}

fn config_text(node: &PlannedNode) -> Option<String> {
    let entry = node.bundle.files.get(&node.bundle.service.config_path)?;
    String::from_utf8(node.contents.get(&entry.digest)?.to_vec()).ok()
}

/// Findings of all nodes together. Should one pack crash the evaluation, it is left out and told as not known.
fn doubts(fleet: &Fleet, packs: &mut BTreeMap<NodeName, NodePacks>, limits: &DatabaseLimits) -> Vec<Finding> {
    let attempt = |packs: &BTreeMap<NodeName, NodePacks>, only: Option<&NodeName>| {
        let of = |name: &NodeName| packs.get(name).and_then(|packs| packs.now.as_ref().ok());
        let looking = || {
            lint::nodes(
                fleet,
                |name, _| {
                    only.is_none_or(|only| only == name).then(|| of(name)).flatten().map(|pack| &*pack.facts)
                },
                (ClearText::Unknown, limits),
            )
        };
        catch_unwind(AssertUnwindSafe(looking)).ok()
    };
    if let Some(findings) = attempt(packs, None) {
        return findings;
    }
    let names: Vec<NodeName> = packs.keys().cloned().collect();
    let crashing = names.into_iter().filter(|name| attempt(packs, Some(name)).is_none());
    for name in crashing.collect::<Vec<_>>() {
        tracing::error!(node = %name, "Evaluating a node's pack crashed");
        if let Some(node) = packs.get_mut(&name) {
            node.now = Err(CRASHED.to_owned());
        }
    }
    attempt(packs, None).unwrap_or_default()
}

/// Generated files of a node that somebody changed by hand.
pub(crate) fn overwritten(snapshot: &Snapshot, name: &NodeName) -> Vec<Drift> {
    let drift = snapshot.observed(name).map(|observed| observed.drift.as_slice()).unwrap_or_default();
    let by_hand =
        |drift: &&Drift| matches!(drift.kind, DriftKind::GeneratedEdited | DriftKind::GeneratedDeleted);
    drift.iter().filter(by_hand).cloned().collect()
}
