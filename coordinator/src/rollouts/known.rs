//! What the last look at the fleet saw, if it found nothing to do: until something of it differs, or the moment comes
//! that the planner named, no other look is made.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet::{
    ids::{NodeName, RolloutId},
    rollout::{Ask, NodeView, Plan},
    time::Timestamp,
};
use futures::FutureExt as _;
use tokio::{sync::watch, time::Instant};

use crate::{
    coordinator::Coordinator,
    store::{
        Commit, Feed, Key, News, Version,
        records::{NodeRecord, RolloutRecord, SeenRecord, Target, Versioned},
    },
    view::{Facts, Snapshot},
};

/// What looks depend on.
const PREFIXES: &[&str] = &[Key::REVISIONS, Key::NODES, Key::SEEN, Key::ROLLOUTS];
/// The planner's word counts for so long at most: a defect in it must not stop a rollout for ever.
const BELIEVED: Duration = Duration::from_secs(60);

/// What has changed since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// Anything may have.
    Everything,
    /// Only what is known of these nodes.
    Nodes(BTreeSet<NodeName>),
}

/// Tells what has changed.
pub(super) struct Hints {
    feed: Feed,
    live: watch::Receiver<u64>,
    moved: Moved,
}

impl Hints {
    pub(super) fn new(coordinator: &Coordinator) -> Self {
        let (feed, live) = (coordinator.store.feed(PREFIXES), coordinator.live.watch_moved());
        Self { feed, live, moved: Moved::Everything }
    }

    /// Everything that has changed since the last call. Before a look, so that a change during it is told by the next.
    pub(super) fn take(&mut self, coordinator: &Coordinator) -> Moved {
        self.live.mark_unchanged();
        while let Some(news) = self.feed.next().now_or_never() {
            self.moved.note(news);
        }
        let moved = std::mem::replace(&mut self.moved, Moved::Nodes(BTreeSet::new()));
        let of_sessions = coordinator.live.take_moved();
        match moved {
            Moved::Everything => Moved::Everything,
            Moved::Nodes(mut nodes) => {
                nodes.extend(of_sessions);
                Moved::Nodes(nodes)
            }
        }
    }

    /// Until something has changed, or `pause` is over; `None`: nothing but a change counts.
    pub(super) async fn wait(&mut self, pause: Option<Duration>) {
        let due = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = self.feed.next() => self.moved.note(news),
            _ = self.live.changed() => {}
            () = due => {}
        }
    }
}

impl Moved {
    fn note(&mut self, news: News) {
        let Moved::Nodes(nodes) = self else { return };
        match news {
            News::Commits(commits) if commits.iter().all(|commit| add_nodes(nodes, commit)) => {}
            News::Commits(_) | News::Resync => *self = Moved::Everything,
        }
    }
}

/// `false`: it changed more than what is known of nodes.
fn add_nodes(nodes: &mut BTreeSet<NodeName>, commit: &Commit) -> bool {
    let of_node = |key: &Key| key.node_name(Key::NODES).or_else(|| key.node_name(Key::SEEN));
    commit.changes.iter().all(|change| match of_node(&change.key) {
        Some(name) => {
            nodes.insert(name);
            true
        }
        None => false,
    })
}

/// What a look that found nothing to do has seen and said.
pub(super) struct Known {
    rollout: (RolloutId, Version),
    revision: Version,
    nodes: BTreeMap<NodeName, Node>,
    /// What must be being asked meanwhile.
    pub(super) asks: Vec<Ask>,
    due: Option<Timestamp>,
    believed_until: Instant,
}

struct Node {
    record: Option<Arc<Versioned<NodeRecord>>>,
    seen: Option<Arc<Versioned<SeenRecord>>>,
    /// Not its session: that would be copied for each change of it while somebody else holds it.
    is_present: bool,
}

impl Node {
    fn of(facts: Facts<'_>) -> Self {
        let (record, seen) = (facts.record.cloned(), facts.seen.cloned());
        Self { record, seen, is_present: facts.is_present() }
    }

    fn take(&mut self, facts: Facts<'_>) {
        replace(&mut self.record, facts.record);
        replace(&mut self.seen, facts.seen);
        self.is_present = facts.is_present();
    }

    fn view<'a>(&'a self, target: &'a Target) -> NodeView<'a> {
        let facts = Facts { record: self.record.as_ref(), seen: self.seen.as_ref(), live: None };
        NodeView { connected: self.is_present, ..facts.view(target) }
    }
}

impl Known {
    /// Of a look at `open` and `snapshot` that came to `plan`, which changes nothing. What was `known` before is replaced
    /// where it differs.
    pub(super) fn of(
        snapshot: &Snapshot,
        open: &Versioned<RolloutRecord>,
        plan: Plan,
        known: Option<Self>,
    ) -> Self {
        let revision = revision_of(snapshot);
        let facts = snapshot.facts(snapshot.revision.iter().flat_map(|revision| &revision.nodes));
        let nodes = match known {
            Some(mut known) if known.revision == revision => {
                known.nodes.values_mut().zip(facts).for_each(|(node, (_, _, facts))| node.take(facts));
                known.nodes
            }
            Some(_) | None => facts.map(|(name, _, facts)| (name.clone(), Node::of(facts))).collect(),
        };
        Self {
            rollout: (open.rollout.id, open.version),
            revision,
            nodes,
            asks: plan.asks,
            due: plan.due,
            believed_until: Instant::now() + BELIEVED,
        }
    }

    /// Whether a look would find nothing to do again: only `moved` differs from what was seen then, and to the planner
    /// that looks the same.
    pub(super) fn still_holds(
        &self,
        snapshot: &Snapshot,
        open: &Versioned<RolloutRecord>,
        (moved, now): (&Moved, Timestamp),
    ) -> bool {
        let Moved::Nodes(moved) = moved else { return false };
        let is_due = self.due.is_some_and(|due| due <= now) || self.believed_until <= Instant::now();
        let is_other =
            self.rollout != (open.rollout.id, open.version) || self.revision != revision_of(snapshot);
        !is_due && !is_other && moved.iter().all(|name| self.is_as_known(snapshot, name))
    }

    fn is_as_known(&self, snapshot: &Snapshot, name: &NodeName) -> bool {
        // What the revision does not name is no member of the fleet.
        let Some(target) = snapshot.wanted(name) else { return true };
        let known = self.nodes.get(name);
        known.is_some_and(|known| snapshot.facts_of(name).view(target).is_as(&known.view(target)))
    }
}

/// 0: none was applied.
fn revision_of(snapshot: &Snapshot) -> Version {
    snapshot.revision.as_ref().map_or(0, |revision| revision.version)
}

/// Most are what they were: those cost a comparison.
fn replace<T>(known: &mut Option<Arc<T>>, now: Option<&Arc<T>>) {
    let is_same = match (&known, now) {
        (Some(known), Some(now)) => Arc::ptr_eq(known, now),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    if !is_same {
        *known = now.cloned();
    }
}

#[cfg(test)]
mod tests {
    use fleet::ids::Revision;

    use super::*;
    use crate::store::{Memory, Store as _, Transaction};

    async fn moved_by(keys: &[Key]) -> Moved {
        let store = Memory::new();
        let mut feed = store.feed(PREFIXES);
        let commit = keys.iter().fold(Transaction::default(), |all, key| all.put(key.clone(), Vec::new()));
        store.commit(commit).await.unwrap();
        let mut moved = Moved::Nodes(BTreeSet::new());
        while let Some(news) = feed.next().now_or_never() {
            moved.note(news);
        }
        moved
    }

    #[tokio::test]
    async fn a_report_concerns_its_node_and_a_rollout_or_a_revision_everything() {
        let node = |text: &str| NodeName::parse(text).unwrap();
        let (first, second) = (node("is-1"), node("is-2"));
        let nodes = [Key::seen(&first), Key::node(&second), Key::seen(&second), Key::host(&first)];
        assert_eq!(moved_by(&nodes).await, Moved::Nodes(BTreeSet::from([first.clone(), second])));
        for whole in [Key::rollout(RolloutId(1)), Key::revision(Revision(1))] {
            assert_eq!(moved_by(&[Key::seen(&first), whole]).await, Moved::Everything);
        }
        assert_eq!(moved_by(&[Key::meta()]).await, Moved::Nodes(BTreeSet::new()));
    }

    #[test]
    fn news_that_were_lost_concern_everything_and_what_follows_does_not_take_that_back() {
        let mut moved = Moved::Nodes(BTreeSet::new());
        moved.note(News::Resync);
        moved.note(News::Commits(Vec::new()));
        assert_eq!(moved, Moved::Everything);
    }
}
