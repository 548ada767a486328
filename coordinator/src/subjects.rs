//! What the nodes of a plan are compared with: connected hosts are asked in parallel, all within the time of one look;
//! for the others the last answer counts as long as nothing was written after it (ADR 0017).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet::{
    bundle::HomePath,
    host::{AskDatabases, AskKeyManagers, HostFacts, HostQuestion, LOOK_PATHS_MAX, WantedContents},
    ids::{Digest, NodeName},
    key_manager::found::Registered,
    observed::DriftAction,
    plan::{Base, EditPause, Knowledge, OpenEdits, PlannedNode},
    preflight::needs,
    rollout::Rollout,
    spec::ComposedNode,
};

use crate::{
    apply::content::SharedContents,
    commands::{ACCEPT, PAUSE},
    coordinator::Coordinator,
    events::Kind,
    hosts::LookError,
    plan::pending,
    store::{
        Key, Range, StoreError, blobs,
        records::{Assigned, EventRecord, HostRecord, Record as _},
    },
    view::{NodeState, Snapshot},
};

/// Events that are looked through for who let an edit stand.
const EVENTS_SEARCHED: usize = 2_000;

/// All nodes of a fleet.
pub(crate) type Subjects = BTreeMap<NodeName, Subject>;

/// A node of a plan.
pub(crate) struct Subject {
    /// What it is compared with.
    pub(crate) base: Base,
    /// Whether anything is written to it.
    pub(crate) part: Part,
    /// What the Admin API has of the Key Managers that it keeps; `None`: it keeps none, or could not be asked.
    pub(crate) registered: Option<Registered>,
}

/// What a plan does with a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its files are written, whatever lies there.
    Changes,
    /// Nothing is sent to it: it has what is wanted, or is getting it already.
    Stays,
}

/// What is in force on a node as far as is known: what its agent wrote last, or else what was assigned last.
pub(crate) fn in_force<'a>(snapshot: &'a Snapshot, name: &NodeName) -> Option<&'a Assigned> {
    let record = &snapshot.nodes.get(name)?.record;
    let desired = record.desired.as_ref()?;
    let Some(observed) = snapshot.observed(name) else { return Some(desired) };
    let written = observed.written?;
    let known = record.assigned(written.generation).filter(|known| known.applied() == written);
    Some(known.unwrap_or(desired))
}

impl Coordinator {
    /// What each of `nodes` is compared with. Only hosts of those that get something are asked.
    pub(crate) async fn subjects(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        nodes: &BTreeMap<NodeName, ComposedNode>,
        rollout: &Rollout,
    ) -> Result<Subjects, StoreError> {
        let pending = pending(rollout);
        let authors = self.authors(snapshot, &pending).await?;
        let shared = &SharedContents::default();
        let asking = nodes.iter().map(|(name, node)| {
            let part = if pending.contains(name) { Part::Changes } else { Part::Stays };
            let authors = &authors;
            async move {
                let assigned = match part {
                    Part::Changes => in_force(snapshot, name),
                    // It has that, or is about to.
                    Part::Stays => snapshot.nodes.get(name).and_then(|node| node.record.desired.as_ref()),
                };
                let assigned = match assigned {
                    Some(assigned) => self.stored_node(&assigned.target, shared).await?,
                    None => None,
                };
                let host = match part {
                    Part::Changes => self.knowledge(snapshot, (name, node), assigned.as_ref()).await?,
                    Part::Stays => Knowledge::Unknown { why: "nothing is written to it".to_owned() },
                };
                let registered = match (&host, part) {
                    (Knowledge::Now(facts), Part::Changes) => facts.registered.clone(),
                    (Knowledge::Seen { .. } | Knowledge::Unknown { .. }, Part::Changes) => None,
                    (_, Part::Stays) => self.registered(name, node).await,
                };
                let base = Base { assigned, host, edits: authors.edits_of(snapshot, name) };
                Ok((name.clone(), Subject { base, part, registered }))
            }
        });
        futures::future::try_join_all(asking).await.map(BTreeMap::from_iter)
    }

    /// What the Admin API has of the Key Managers that a node keeps whose files stay as they are.
    async fn registered(self: &Arc<Self>, name: &NodeName, node: &ComposedNode) -> Option<Registered> {
        let key_managers = ask_key_managers(node);
        if key_managers == AskKeyManagers::No {
            return None;
        }
        let question = HostQuestion { key_managers, ..HostQuestion::facts(Vec::new()) };
        // Not kept: it says nothing of the files.
        self.ask_host(name, question).await.ok()?.registered
    }

    /// What is known of the host of `node`, which has `assigned` in force: it is asked now if it can be.
    pub(crate) async fn knowledge(
        self: &Arc<Self>,
        snapshot: &Snapshot,
        (name, node): (&NodeName, &ComposedNode),
        assigned: Option<&PlannedNode>,
    ) -> Result<Knowledge, StoreError> {
        let own = [Some(&node.contents), assigned.map(|assigned| &assigned.contents)];
        let error = match self.look(name, question(node, assigned)).await {
            Ok(mut facts) => {
                // What is known is not sent.
                let missing: BTreeSet<Digest> =
                    facts.digests().filter(|digest| !facts.contents.contains_key(digest)).collect();
                let find = |digest: Digest| {
                    let content = own.iter().flatten().find_map(|contents| contents.get(&digest))?;
                    Some((digest, content.clone()))
                };
                facts.contents.extend(missing.into_iter().filter_map(find));
                return Ok(Knowledge::Now(facts));
            }
            Err(error) => error,
        };
        let why = match (&error, snapshot.state(name)) {
            (
                LookError::NotConnected,
                state @ (NodeState::NotJoined | NodeState::NeverConnected | NodeState::Unreachable),
            ) => state.why(),
            _ => error.to_string(),
        };
        let kept = self.last_look(name).await?;
        let desired = snapshot.nodes.get(name).and_then(|node| node.record.desired.as_ref());
        let desired = desired.map(|desired| desired.generation);
        // Facts of before the newest assignment may be of files that it has replaced.
        let usable =
            kept.filter(|kept| kept.written == desired && kept.facts.home == node.bundle.service.home);
        match usable {
            Some(kept) => Ok(Knowledge::Seen { facts: self.with_contents(kept, node).await?, why }),
            None => Ok(Knowledge::Unknown { why }),
        }
    }

    /// The last answer with those contents that a comparison needs.
    async fn with_contents(&self, kept: HostRecord, node: &ComposedNode) -> Result<HostFacts, StoreError> {
        let mut facts = HostFacts { at: kept.received, ..kept.facts };
        let needed: BTreeSet<Digest> =
            node.bundle.files.keys().filter_map(|path| facts.file(path).map(|file| file.digest)).collect();
        for digest in needed {
            if let Some(content) = blobs::get(&*self.store, &digest).await? {
                facts.contents.insert(digest, Arc::from(content.as_ref()));
            }
        }
        Ok(facts)
    }

    /// Who let edits stand, if any stand on these nodes.
    async fn authors(&self, snapshot: &Snapshot, nodes: &BTreeSet<&NodeName>) -> Result<Authors, StoreError> {
        let mut authors = Authors::default();
        let is_open = |name: &&&NodeName| {
            snapshot.observed(name).is_some_and(|observed| {
                let is_accepted = |action| action == DriftAction::Accepted;
                observed.drift_pause.is_some() || observed.drift.iter().any(|drift| is_accepted(drift.action))
            })
        };
        let open: BTreeSet<&NodeName> = nodes.iter().filter(is_open).copied().collect();
        if open.is_empty() {
            return Ok(authors);
        }
        for entry in self.store.range(Range::last(Key::EVENTS, EVENTS_SEARCHED)).await? {
            let event = EventRecord::read(&entry)?;
            let node =
                event.node.filter(|node| event.kind == Kind::DriftControl.as_str() && open.contains(node));
            let Some(node) = node else { continue };
            match event.fields.get("action").map(String::as_str) {
                Some(PAUSE) => {
                    authors.paused.entry(node).or_insert(event.actor);
                }
                Some(ACCEPT) => {
                    let path = event.fields.get("path").and_then(|path| HomePath::parse(path).ok());
                    if let Some(path) = path {
                        authors.accepted.entry(node).or_default().entry(path).or_insert(event.actor);
                    }
                }
                Some(_) | None => {}
            }
        }
        Ok(authors)
    }
}

/// What is asked of the host of a node that changes.
fn question(node: &ComposedNode, assigned: Option<&PlannedNode>) -> HostQuestion {
    let lasting = node.bundle.files.iter().filter(|(_, entry)| !entry.launch);
    let known = node.contents.keys().chain(assigned.iter().flat_map(|assigned| assigned.contents.keys()));
    let service = &node.bundle.service;
    let needs = needs::read(&node.config_text, &service.product, &service.env);
    HostQuestion {
        home: Some(node.bundle.service.home.clone()),
        paths: lasting.map(|(path, _)| path.clone()).collect(),
        contents: WantedContents::Unknown { known: known.take(LOOK_PATHS_MAX).copied().collect() },
        peers: needs.map(|needs| needs.peers).unwrap_or_default(),
        key_managers: ask_key_managers(node),
        databases: AskDatabases::No,
    }
}

fn ask_key_managers(node: &ComposedNode) -> AskKeyManagers {
    if node.bundle.key_managers.kept.is_empty() { AskKeyManagers::No } else { AskKeyManagers::Yes }
}

/// Who let edits stand, newest first.
#[derive(Default)]
struct Authors {
    paused: BTreeMap<NodeName, String>,
    accepted: BTreeMap<NodeName, BTreeMap<HomePath, String>>,
}

impl Authors {
    fn edits_of(&self, snapshot: &Snapshot, name: &NodeName) -> OpenEdits {
        let Some(observed) = snapshot.observed(name) else { return OpenEdits::default() };
        let pause = observed.drift_pause.clone().map(|(reason, until)| EditPause {
            reason,
            until,
            by: self.paused.get(name).cloned(),
        });
        OpenEdits {
            drift: observed.drift.clone(),
            pause,
            accepted_by: self.accepted.get(name).cloned().unwrap_or_default(),
        }
    }
}
