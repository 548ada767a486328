//! What the mirror holds, and how commits change it.

use std::{collections::BTreeMap, sync::Arc};

use fleet::{
    approval::ProposalState,
    ids::{NodeName, OperatorName, ProposalId, RolloutId},
};
use tracing::warn;

use super::PAGE;
use crate::store::{
    Commit, Entry, Key, Range, Store, StoreError, Version, for_each,
    records::{
        Meta, NodeRecord, OperatorRecord, ProposalRecord, RevisionRecord, RolloutRecord, SeenRecord,
        ShardRecord, Versioned,
    },
    revisions,
};

/// Rollouts that have ended and are copied; older ones are read when somebody asks.
const ROLLOUTS_KEPT: usize = 10;
/// Shards of steps, or proposals, that are read together.
const STEPS_PAGE: usize = 32;

type Copied<T> = Arc<Versioned<T>>;

/// The records of one moment. A clone shares the records themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// Every commit up to this one is in it.
    pub version: Version,
    /// The store's identity and counters.
    pub meta: Copied<Meta>,
    /// The newest revision, if anything was applied.
    pub revision: Option<Copied<RevisionRecord>>,
    /// What each node should be. Holds nodes that joined before they were applied, and removed ones.
    pub nodes: BTreeMap<NodeName, Copied<NodeRecord>>,
    /// What each node last said.
    pub seen: BTreeMap<NodeName, Copied<SeenRecord>>,
    /// The newest rollouts, newest first, and every older one that has not ended.
    pub rollouts: Vec<Copied<RolloutRecord>>,
    /// The versions of the shards of these rollouts, and what is in those whose rollout has not begun.
    pub(super) shards: BTreeMap<(RolloutId, u32), Shard>,
    /// Who may do what.
    pub operators: BTreeMap<OperatorName, Copied<OperatorRecord>>,
    /// Changes over which nobody has decided. The others are read when somebody asks.
    pub proposals: BTreeMap<ProposalId, Copied<ProposalRecord>>,
    /// Records that cannot be read, and why.
    unreadable: BTreeMap<Key, String>,
}

/// Steps as they are held.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shard {
    version: Version,
    /// `None`: they are in the rollout.
    waiting: Option<Copied<ShardRecord>>,
}

/// A commit with its records decoded.
pub(super) struct ReadCommit {
    version: Version,
    changes: Vec<ReadChange>,
}

struct ReadChange {
    key: Key,
    /// `None`: it was removed.
    now: Option<Result<Copy, StoreError>>,
}

enum Copy {
    Meta(Copied<Meta>),
    Revision(Copied<RevisionRecord>),
    Node(NodeName, Copied<NodeRecord>),
    Seen(NodeName, Copied<SeenRecord>),
    Rollout(Copied<RolloutRecord>),
    Steps((RolloutId, u32), Copied<ShardRecord>),
    Operator(OperatorName, Copied<OperatorRecord>),
    Proposal(Copied<ProposalRecord>),
}

/// Decodes what commits wrote; the parts of a revision are read from `store`.
pub(super) async fn read_commits(store: &dyn Store, commits: &[Commit]) -> Vec<ReadCommit> {
    let mut read = Vec::with_capacity(commits.len());
    for commit in commits {
        let mut changes = Vec::with_capacity(commit.changes.len());
        for change in &commit.changes {
            let (key, version) = (change.key.clone(), commit.version);
            let entry = change.value.clone().map(|value| Entry { key: key.clone(), version, value });
            changes.push(ReadChange::of(store, key, entry).await);
        }
        read.push(ReadCommit { version: commit.version, changes });
    }
    read
}

impl ReadCommit {
    /// Whether it has a revision that could not be read. Its parts may be readable at the next try.
    pub(super) fn lacks_revision(&self) -> bool {
        let is_lacking = |change: &ReadChange| {
            change.key.as_str().starts_with(Key::REVISIONS) && matches!(change.now, Some(Err(_)))
        };
        self.changes.iter().any(is_lacking)
    }
}

impl ReadChange {
    async fn of(store: &dyn Store, key: Key, entry: Option<Entry>) -> Self {
        let now = match &entry {
            Some(entry) if key.as_str().starts_with(Key::REVISIONS) => {
                Some(revisions::whole_of(store, entry).await.map(Copy::Revision))
            }
            entry => entry.as_ref().map(Copy::read),
        };
        Self { key, now }
    }
}

impl Copy {
    /// Of anything but a revision, whose parts have to be read.
    fn read(entry: &Entry) -> Result<Self, StoreError> {
        let name = |prefix| {
            let name = entry.key.node_name(prefix);
            name.ok_or_else(|| StoreError::missing("read a node's name"))
        };
        let text = entry.key.as_str();
        if text.starts_with(Key::NODES) {
            Ok(Self::Node(name(Key::NODES)?, Versioned::read(entry)?))
        } else if text.starts_with(Key::SEEN) {
            Ok(Self::Seen(name(Key::SEEN)?, Versioned::read(entry)?))
        } else if text.starts_with(Key::OPERATORS) {
            let name = entry.key.operator_name();
            let name = name.ok_or_else(|| StoreError::missing("read an operator's name"))?;
            Ok(Self::Operator(name, Versioned::read(entry)?))
        } else if text.starts_with(Key::PROPOSALS) {
            Ok(Self::Proposal(Versioned::read(entry)?))
        } else if text.starts_with(Key::ROLLOUTS) {
            Ok(Self::Rollout(Versioned::read(entry)?))
        } else if text.starts_with(Key::STEPS) {
            let shard = entry.key.shard();
            let shard = shard.ok_or_else(|| StoreError::missing("read which steps these are"))?;
            Ok(Self::Steps(shard, Versioned::read(entry)?))
        } else {
            Ok(Self::Meta(Versioned::read(entry)?))
        }
    }
}

impl Records {
    /// Reads everything, as it is some time after the commit `begun`; answers with the newest version that was read, too.
    pub(super) async fn read(store: &dyn Store, begun: Version) -> Result<(Self, Version), StoreError> {
        let meta = store.get(&Key::meta()).await?;
        let meta = meta.ok_or_else(|| StoreError::missing("read its identity"))?;
        let meta = Versioned::<Meta>::read(&meta)?;
        let revision = store.get(&Key::revision(meta.newest_revision)).await?;
        let mut newest = begun.max(meta.version);
        let mut records = Self {
            version: begun,
            meta,
            revision: None,
            nodes: BTreeMap::new(),
            seen: BTreeMap::new(),
            rollouts: Vec::new(),
            shards: BTreeMap::new(),
            operators: BTreeMap::new(),
            proposals: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        };
        if let Some(entry) = revision {
            newest = newest.max(entry.version);
            let version = entry.version;
            records.take_in_change(ReadChange::of(store, entry.key.clone(), Some(entry)).await, version);
        }
        let mut put = |entry: &Entry| {
            newest = newest.max(entry.version);
            let change = ReadChange { key: entry.key.clone(), now: Some(Copy::read(entry)) };
            records.take_in_change(change, entry.version);
        };
        let heads = store.range(Range::last(Key::ROLLOUTS, ROLLOUTS_KEPT)).await?;
        heads.iter().for_each(&mut put);
        for id in heads.iter().filter_map(|head| head.key.rollout_id()) {
            let put = |entry: &Entry| {
                put(entry);
                Ok(())
            };
            for_each(store, &Key::steps_prefix(id), STEPS_PAGE, put).await?;
        }
        let pages =
            [(Key::NODES, PAGE), (Key::SEEN, PAGE), (Key::OPERATORS, PAGE), (Key::PROPOSALS, STEPS_PAGE)];
        for (prefix, page) in pages {
            let put = |entry: &Entry| {
                put(entry);
                Ok(())
            };
            for_each(store, prefix, page, put).await?;
        }
        Ok((records, newest))
    }

    /// The rollout that has not ended, if there is one.
    pub fn running_rollout(&self) -> Option<&Versioned<RolloutRecord>> {
        self.rollouts.iter().find(|rollout| !rollout.rollout.phase.is_end()).map(Arc::as_ref)
    }

    /// A rollout of those that are held.
    pub fn rollout(&self, id: RolloutId) -> Option<&Versioned<RolloutRecord>> {
        self.place_of(id).ok().and_then(|place| self.rollouts.get(place)).map(Arc::as_ref)
    }

    /// Makes the changes of commits, in their order.
    pub(super) fn take_in(&mut self, commits: Vec<ReadCommit>) {
        for commit in commits {
            for change in commit.changes {
                self.take_in_change(change, commit.version);
            }
            self.version = self.version.max(commit.version);
        }
    }

    fn take_in_change(&mut self, change: ReadChange, version: Version) {
        // While everything is read, the feed may lag behind what was read.
        if version <= self.version_of(&change.key) {
            return;
        }
        self.unreadable.remove(&change.key);
        match change.now {
            Some(Ok(copy)) => self.put(copy),
            // Nothing that runs rests on what was only proposed.
            Some(Err(error)) if change.key.proposal_id().is_some() => {
                warn!(key = %change.key, error = crate::rpc::chain(&error), "Cannot read a proposal");
                self.remove(&change.key);
            }
            Some(Err(error)) => drop(self.unreadable.insert(change.key, crate::rpc::chain(&error))),
            None => self.remove(&change.key),
        }
    }

    fn put(&mut self, copy: Copy) {
        match copy {
            Copy::Meta(meta) => self.meta = meta,
            Copy::Node(name, node) => drop(self.nodes.insert(name, node)),
            Copy::Seen(name, seen) => drop(self.seen.insert(name, seen)),
            Copy::Operator(name, operator) => drop(self.operators.insert(name, operator)),
            Copy::Proposal(proposal) => match proposal.state {
                ProposalState::Open => drop(self.proposals.insert(proposal.id, proposal)),
                ProposalState::Approved { .. } | ProposalState::Rejected { .. } | ProposalState::Expired => {
                    self.proposals.remove(&proposal.id);
                }
            },
            Copy::Revision(revision) => {
                if self.revision.as_ref().is_none_or(|newest| newest.number <= revision.number) {
                    // Nobody needs an older one, whether it can be read or not.
                    let newest = Key::revision(revision.number);
                    let is_older = |key: &Key| key.as_str().starts_with(Key::REVISIONS) && *key < newest;
                    self.unreadable.retain(|key, _| !is_older(key));
                    self.revision = Some(revision);
                }
            }
            Copy::Steps(place, shard) => self.put_steps(place, shard),
            Copy::Rollout(head) => {
                let rollout = self.with_steps(head);
                match self.place_of(rollout.rollout.id) {
                    Ok(known) => self.rollouts[known] = rollout,
                    Err(place) => self.rollouts.insert(place, rollout),
                }
                while ROLLOUTS_KEPT < self.rollouts.len()
                    && self.rollouts.last().is_some_and(|oldest| oldest.rollout.phase.is_end())
                {
                    self.rollouts.pop();
                }
                let oldest = self.rollouts.last().map_or(RolloutId(0), |oldest| oldest.rollout.id);
                self.shards.retain(|(id, _), _| oldest <= *id);
            }
        }
    }

    /// A head with the steps of its rollout, as far as they are held. Those that it changed come after it in its commit.
    fn with_steps(&mut self, mut head: Copied<RolloutRecord>) -> Copied<RolloutRecord> {
        if head.shards == 0 {
            return head;
        }
        let id = head.rollout.id;
        let whole = &mut Arc::make_mut(&mut head).record.rollout;
        if let Some(known) = self.place_of(id).ok().and_then(|place| self.rollouts.get(place)) {
            whole.steps.clone_from(&known.rollout.steps);
        }
        for (_, shard) in self.shards.range_mut((id, 0)..=(id, u32::MAX)) {
            if let Some(waiting) = shard.waiting.take() {
                whole.steps.extend(waiting.0.clone());
            }
        }
        whole.leave_open_steps();
        head
    }

    fn put_steps(&mut self, (id, number): (RolloutId, u32), steps: Copied<ShardRecord>) {
        let version = steps.version;
        let known = self.place_of(id).ok().and_then(|place| self.rollouts.get_mut(place));
        let waiting = match known {
            Some(known) if number < known.shards => {
                let rollout = &mut Arc::make_mut(known).record.rollout;
                rollout.steps.extend(steps.0.clone());
                rollout.leave_open_steps();
                None
            }
            Some(_) => None,
            None => Some(steps),
        };
        self.shards.insert((id, number), Shard { version, waiting });
    }

    /// A rollout some of whose steps are not held.
    fn torn(&self) -> Option<RolloutId> {
        let is_torn = |rollout: &&Copied<RolloutRecord>| {
            let id = rollout.rollout.id;
            let held = self.shards.range((id, 0)..(id, rollout.shards)).count();
            held < rollout.shards as usize
        };
        self.rollouts.iter().find(is_torn).map(|rollout| rollout.rollout.id)
    }

    fn remove(&mut self, key: &Key) {
        if let Some(name) = key.node_name(Key::NODES) {
            self.nodes.remove(&name);
        } else if let Some(name) = key.node_name(Key::SEEN) {
            self.seen.remove(&name);
        } else if let Some(name) = key.operator_name() {
            self.operators.remove(&name);
        } else if let Some(id) = key.proposal_id() {
            self.proposals.remove(&id);
        }
        if let Some(shard) = key.shard() {
            self.shards.remove(&shard);
        }
        self.rollouts.retain(|rollout| Key::rollout(rollout.rollout.id) != *key);
        self.revision.take_if(|revision| Key::revision(revision.number) == *key);
    }

    fn place_of(&self, id: RolloutId) -> Result<usize, usize> {
        self.rollouts.binary_search_by(|known| id.cmp(&known.rollout.id))
    }

    /// 0: it is not held.
    fn version_of(&self, key: &Key) -> Version {
        if let Some(name) = key.node_name(Key::NODES) {
            return self.nodes.get(&name).map_or(0, |node| node.version);
        }
        if let Some(name) = key.node_name(Key::SEEN) {
            return self.seen.get(&name).map_or(0, |seen| seen.version);
        }
        if let Some(name) = key.operator_name() {
            return self.operators.get(&name).map_or(0, |operator| operator.version);
        }
        if let Some(id) = key.proposal_id() {
            return self.proposals.get(&id).map_or(0, |proposal| proposal.version);
        }
        if let Some(shard) = key.shard() {
            return self.shards.get(&shard).map_or(0, |shard| shard.version);
        }
        let rollout = self.rollouts.iter().find(|rollout| Key::rollout(rollout.rollout.id) == *key);
        let revision = self.revision.iter().find(|revision| Key::revision(revision.number) == *key);
        let meta = Some(self.meta.version).filter(|_| *key == Key::meta());
        let others = rollout.map(|it| it.version).or(revision.map(|it| it.version)).or(meta);
        others.unwrap_or(0)
    }

    /// The versions of all records below [`Key::NODES`], [`Key::SEEN`] or [`Key::OPERATORS`].
    pub(super) fn versions(&self, prefix: &str) -> BTreeMap<Key, Version> {
        let nodes = self.nodes.iter().map(|(name, node)| (Key::node(name), node.version));
        let seen = self.seen.iter().map(|(name, seen)| (Key::seen(name), seen.version));
        let operators = self.operators.iter().map(|(name, record)| (Key::operator(name), record.version));
        nodes.chain(seen).chain(operators).filter(|(key, _)| key.as_str().starts_with(prefix)).collect()
    }

    /// These, unless one of them cannot be read: an unreadable desired state must not mean that nothing is desired.
    pub(super) fn all_readable(self: Arc<Self>) -> Result<Arc<Self>, StoreError> {
        if let Some(why) = self.unreadable.values().next() {
            return Err(StoreError::unreadable(why.clone()));
        }
        match self.torn() {
            Some(id) => Err(StoreError::unreadable(format!("some steps of rollout {id} are missing"))),
            None => Ok(self),
        }
    }
}
