//! Which revision's content is in force on each node. Only `status` asks: nothing is decided by it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fleet::{
    ids::{Digest, NodeName, Revision},
    rollout::{Lag, Standing, standing},
};

use crate::{
    coordinator::Coordinator,
    store::{Store, StoreError, revisions},
    view::Snapshot,
};

/// Older revisions that are looked through at most: each is a record of the whole fleet.
const LOOKED_AT_MAX: u64 = 20;

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The revision whose content is in force; `None` if that is not known.
    pub revision: Option<Revision>,
    /// Whether it is the newest one's, and if not, why.
    pub standing: Standing,
}

/// The places of all nodes that the newest revision names.
#[derive(Debug, Clone, Default)]
pub struct Places(BTreeMap<NodeName, Place>);

impl Places {
    /// A node's.
    pub fn of(&self, name: &NodeName) -> Option<&Place> {
        self.0.get(name)
    }

    /// An agent knows more than the store does.
    pub fn is_store_older(&self) -> bool {
        self.0.values().any(|place| matches!(place.standing, Standing::StoreOlder { .. }))
    }
}

/// The bundles of revisions before the newest, as far as somebody asked for them. Revisions never change, so what was
/// read once is read no more.
#[derive(Default)]
pub struct OlderBundles {
    by_revision: Mutex<BTreeMap<Revision, Arc<Bundles>>>,
}

/// The bundle of each node that a revision gave one; those that it left out had an older one.
type Bundles = BTreeMap<NodeName, Digest>;

impl OlderBundles {
    /// Those of a revision; `None` if it is not kept any more.
    async fn of(&self, store: &dyn Store, number: Revision) -> Result<Option<Arc<Bundles>>, StoreError> {
        if let Some(known) = self.lock().get(&number) {
            return Ok(Some(known.clone()));
        }
        let Some(mut revision) = revisions::read(store, number).await? else { return Ok(None) };
        revision.nodes.retain(|name, _| !revision.left_out.contains(name));
        let bundles = revision.nodes.into_iter().map(|(name, target)| (name, target.bundle));
        let bundles: Arc<Bundles> = Arc::new(bundles.collect());
        self.lock().insert(number, bundles.clone());
        Ok(Some(bundles))
    }

    fn forget_before(&self, oldest: Revision) {
        self.lock().retain(|number, _| oldest <= *number);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Revision, Arc<Bundles>>> {
        self.by_revision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coordinator {
    /// Where each node of the newest revision stands. Older revisions are read only if a node is not on the newest.
    ///
    /// # Errors
    /// The store failed or holds a record that cannot be read.
    pub async fn places(&self, snapshot: &Snapshot) -> Result<Places, StoreError> {
        let Some(newest) = &snapshot.revision else { return Ok(Places::default()) };
        let mut places = Places::default();
        let mut open: BTreeMap<NodeName, Digest> = BTreeMap::new();
        for name in newest.nodes.keys() {
            let Some(position) = snapshot.position(name) else { continue };
            let is_left_out = newest.left_out.contains(name);
            let standing = match standing(&position) {
                Standing::OnNewest if is_left_out => Standing::Behind(Lag::LeftOut),
                standing => standing,
            };
            let written = position.observed.and_then(|observed| observed.written);
            let revision = written.filter(|it| !is_left_out && it.bundle == position.wanted);
            let revision = revision.map(|_| newest.number);
            if let (Some(written), None) = (written, revision) {
                open.insert(name.clone(), written.bundle);
            }
            places.0.insert(name.clone(), Place { revision, standing });
        }
        let mut number = newest.number;
        let oldest = Revision(newest.number.0.saturating_sub(LOOKED_AT_MAX));
        self.older_bundles.forget_before(oldest);
        while !open.is_empty() && oldest < number {
            number = Revision(number.0 - 1);
            let Some(older) = self.older_bundles.of(&*self.store, number).await? else { break };
            open.retain(|name, bundle| {
                let is_this = older.get(name) == Some(bundle);
                if let (true, Some(place)) = (is_this, places.0.get_mut(name)) {
                    place.revision = Some(number);
                }
                !is_this
            });
        }
        for name in open.keys() {
            if let Some(place) = places.0.get_mut(name) {
                place.revision = snapshot.assigned_revision(name);
            }
        }
        Ok(places)
    }
}
