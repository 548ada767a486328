//! The packs of the fleet's hosts (ADR 0007): asked for once per digest, kept as content, loaded when somebody plans.
//!
//! They are input from hosts. What is stored has the right digest, is canonical and bounded; what it evaluates to is
//! looked at off the runtime's threads, a few at a time, and its refusal is one node's.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet::{
    ids::{Digest, NodeName},
    lint::PackFacts,
};
use proto::convert::pack::decode_pack;
use tokio::{sync::Semaphore, time::Instant};
use tracing::{debug, info, warn};

use crate::{
    coordinator::Coordinator,
    rpc::chain,
    store::{
        CommitError, Key, Range, Store, StoreError, Transaction, blobs,
        records::{PackRecord, Record as _},
    },
};

/// Packs that are kept. A fleet in the middle of an update has two per product.
const PACKS_MAX: usize = 256;
/// Packs of one node that are kept: one that makes up packs must not keep out those of others. What no node uses is
/// removed within the hour, so a host may be updated as often.
const PACKS_OF_NODE_MAX: usize = 8;
/// Loaded ones, some 10 MB each.
const LOADED_MAX: usize = 6;
/// Plans that evaluate packs at the same time.
const EVALUATING_MAX: usize = 2;
/// Packs on their way at the same time; each may need 18 MiB of memory.
const GIVING_MAX: usize = 2;
/// After asking a node in vain, before another is asked.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How often reports are looked through for packs that are not here.
const EVERY: Duration = Duration::from_millis(250);

/// What is loaded, and how much may go on at once.
pub struct Packs {
    loaded: Mutex<Loaded>,
    /// Held while packs are evaluated.
    pub evaluating: Semaphore,
    /// Held while one arrives.
    pub giving: Semaphore,
}

#[derive(Default)]
struct Loaded {
    turn: u64,
    by_digest: BTreeMap<Digest, (u64, Arc<PackFacts>)>,
}

impl Default for Packs {
    fn default() -> Self {
        Self {
            loaded: Mutex::default(),
            evaluating: Semaphore::new(EVALUATING_MAX),
            giving: Semaphore::new(GIVING_MAX),
        }
    }
}

impl Packs {
    fn loaded(&self, digest: &Digest) -> Option<Arc<PackFacts>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.turn += 1;
        let turn = loaded.turn;
        let (used, facts) = loaded.by_digest.get_mut(digest)?;
        *used = turn;
        Some(facts.clone())
    }

    fn keep(&self, digest: Digest, facts: &Arc<PackFacts>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.turn += 1;
        let turn = loaded.turn;
        loaded.by_digest.insert(digest, (turn, facts.clone()));
        if LOADED_MAX < loaded.by_digest.len() {
            let oldest = loaded.by_digest.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                loaded.by_digest.remove(&oldest);
            }
        }
    }
}

/// Why a pack cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    /// Its content is not here.
    Missing,
    /// It cannot be evaluated, and why.
    Broken(String),
}

/// Why a pack is not kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// The bound of its node.
    #[error(
        "{PACKS_OF_NODE_MAX} packs of {0} are kept already; those that nobody uses are removed within the hour"
    )]
    TooManyOfNode(NodeName),
    /// The bound of all.
    #[error("{PACKS_MAX} packs are kept already")]
    TooMany,
    /// It cannot be looked up.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be stored.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// How many packs are kept of whom.
#[derive(Default)]
struct Kept {
    total: usize,
    by_node: BTreeMap<String, usize>,
}

impl Kept {
    async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let mut kept = Self::default();
        for entry in store.range(Range::first(Key::PACKS, usize::MAX)).await? {
            kept.total += 1;
            *kept.by_node.entry(PackRecord::read(&entry)?.node).or_default() += 1;
        }
        Ok(kept)
    }

    fn check_room_for(&self, node: &NodeName) -> Result<(), KeepError> {
        if self.by_node.get(node.as_str()).is_some_and(|own| PACKS_OF_NODE_MAX <= *own) {
            return Err(KeepError::TooManyOfNode(node.clone()));
        }
        if PACKS_MAX <= self.total { Err(KeepError::TooMany) } else { Ok(()) }
    }
}

/// Evaluates encoded resources.
pub(crate) fn load(bytes: &[u8]) -> Result<PackFacts, String> {
    let loading = || {
        let resources = decode_pack(bytes).map_err(|error| chain(&error))?;
        resources.facts().map_err(|error| chain(&error))
    };
    // The content came from a host: a defect that it finds must not take down more than its own pack.
    catch_unwind(AssertUnwindSafe(loading))
        .unwrap_or_else(|_| Err("evaluating it crashed; this is a defect of Convoy".to_owned()))
}

impl Coordinator {
    /// A pack, loaded.
    ///
    /// # Errors
    /// The store failed. That the pack cannot be used is an answer.
    pub(crate) async fn pack(&self, digest: &Digest) -> Result<Result<Arc<PackFacts>, Unusable>, StoreError> {
        if let Some(facts) = self.packs.loaded(digest) {
            return Ok(Ok(facts));
        }
        let Some(bytes) = blobs::get(&*self.store, digest).await? else { return Ok(Err(Unusable::Missing)) };
        let loading = crate::tasks::blocking(move || load(&bytes)).await;
        let loaded = loading.unwrap_or_else(|error| Err(error.to_string()));
        Ok(match loaded {
            Ok(facts) => {
                let facts = Arc::new(facts);
                self.packs.keep(*digest, &facts);
                Ok(facts)
            }
            Err(why) => Err(Unusable::Broken(why)),
        })
    }

    /// Keeps what was checked against its digest; durable on return.
    ///
    /// # Errors
    /// There are too many packs of this node or at all, or the store failed.
    pub(crate) async fn keep_pack(
        &self,
        digest: Digest,
        bytes: &[u8],
        node: &NodeName,
    ) -> Result<(), KeepError> {
        // Nobody may remove content as garbage between its being stored and its record.
        let _applying = self.applying.lock().await;
        Kept::read(&*self.store).await?.check_room_for(node)?;
        self.keep_content(&BTreeMap::from([(digest, bytes)])).await?;
        let record = PackRecord { size: bytes.len() as u64, stored: (self.clock)(), node: node.to_string() };
        self.store.commit(Transaction::default().put(Key::pack(&digest), record.encode())).await?;
        info!(%node, digest = %digest.short(), bytes = bytes.len(), "Keeps a pack");
        Ok(())
    }

    /// Packs that a node reports, or that its server began with.
    pub(crate) async fn used_packs(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let mut used: BTreeSet<Digest> = self.live.packs().into_keys().collect();
        for seen in self.mirror.records().await?.seen.values() {
            used.extend(seen.observed.as_ref().and_then(|observed| observed.pack));
            used.extend(seen.rendered.as_ref().map(|rendered| rendered.pack));
        }
        Ok(used)
    }
}

/// Asks for what is lacking, until the coordinator stops.
pub async fn run(coordinator: Arc<Coordinator>) {
    let mut changed = coordinator.live.watch();
    let mut asking = Asking::default();
    loop {
        match asking.turn(&coordinator).await {
            Ok(()) => {}
            Err(error) => debug!(error = chain(&error), "Cannot look for packs"),
        }
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        tokio::select! {
            () = coordinator.stop.cancelled() => return,
            _ = changed.changed() => {}
            () = tokio::time::sleep(ASK_AGAIN) => {}
        }
    }
}

#[derive(Default)]
struct Asking {
    /// Here, as far as is known.
    here: BTreeSet<Digest>,
    /// Who was asked when.
    asked: BTreeMap<Digest, (Instant, NodeName)>,
    full: bool,
}

impl Asking {
    async fn turn(&mut self, coordinator: &Coordinator) -> Result<(), StoreError> {
        let reported = coordinator.live.packs();
        self.here.retain(|digest| reported.contains_key(digest));
        self.asked.retain(|digest, _| reported.contains_key(digest));
        for (digest, nodes) in reported {
            if self.here.contains(&digest) {
                continue;
            }
            if coordinator.store.get(&Key::pack(&digest)).await?.is_some() {
                self.here.insert(digest);
                continue;
            }
            let last = self.asked.get(&digest);
            if last.is_some_and(|(at, _)| at.elapsed() < ASK_AGAIN) {
                continue;
            }
            let kept = Kept::read(&*coordinator.store).await?;
            let has_room = |node: &&NodeName| kept.check_room_for(node).is_ok();
            // Another one than the last time, if there is one.
            let after = last.and_then(|(_, node)| {
                nodes.range(node.clone()..).find(|next| *next != node && has_room(next))
            });
            let Some(node) = after.or_else(|| nodes.iter().find(has_room)) else {
                if !std::mem::replace(&mut self.full, true) {
                    warn!(
                        most = PACKS_MAX,
                        most_of_a_node = PACKS_OF_NODE_MAX,
                        "No more packs are kept; plans show no rendered files for the others"
                    );
                }
                continue;
            };
            coordinator.live.want_pack(node, digest);
            self.asked.insert(digest, (Instant::now(), node.clone()));
        }
        Ok(())
    }
}
