//! The fleet at one moment: the records of the mirror and who is connected. What rollouts, guards and `status` look at.
//! Whoever decides on it commits with the versions that it holds.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    sync::Arc,
};

use fleet::{
    bundle::RunState,
    ids::{FleetEpoch, Generation, NodeName, Revision},
    observed::{Concern, ConcernKind, Observed, ServiceState, Verdict},
    reason::Reason,
    rollout::{FleetView, NodeView, Position, RunWish, Standing, next_at, standing},
    words::NodeWord,
};

use crate::{
    coordinator::Coordinator,
    disk::StoreTrouble,
    mirror::Records,
    original::{OnOriginal, on_original},
    sessions::{LiveNode, LiveNodes},
    store::{
        StoreError,
        records::{NodeRecord, SeenRecord, Target, Versioned},
    },
};

/// The fleet at one moment: the records, through [`Deref`], and who is connected.
pub struct Snapshot {
    records: Arc<Records>,
    /// Who is connected.
    pub live: Arc<LiveNodes>,
    /// Why records cannot be kept, or soon cannot.
    pub trouble: Option<StoreTrouble>,
}

/// What is known of a node beside what the revision wants of it.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What it should be.
    pub record: Option<&'a Arc<Versioned<NodeRecord>>>,
    /// What it last said.
    pub seen: Option<&'a Arc<Versioned<SeenRecord>>>,
    /// Its session, if it is connected.
    pub live: Option<&'a Arc<LiveNode>>,
}

impl<'a> Facts<'a> {
    /// A session whose report is not stored yet says nothing of the present, and the stored one is of the past.
    pub fn is_present(self) -> bool {
        self.live.is_some_and(|live| live.reported)
    }

    /// As the planner sees it.
    pub fn view(self, target: &'a Target) -> NodeView<'a> {
        let record = self.record.map(|node| &node.record);
        NodeView {
            group: &target.group,
            host: &target.host,
            zone: target.zone.as_ref(),
            connected: self.is_present(),
            desired: record.and_then(|record| record.desired.as_ref()).map(|desired| desired.applied()),
            wish: match record.map_or(RunState::Running, |record| record.run) {
                RunState::Running => RunWish::Running,
                RunState::Stopped => RunWish::Stopped,
            },
            // The stored report, not the live one: only what is durable may move a rollout.
            observed: self.seen.and_then(|seen| seen.observed.as_ref()),
        }
    }
}

impl Deref for Snapshot {
    type Target = Records;

    fn deref(&self) -> &Records {
        &self.records
    }
}

impl Coordinator {
    /// The fleet as it is now; every commit that was answered is in it.
    ///
    /// # Errors
    /// The store failed or holds a record that cannot be read.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        // What agents say is looked at before what is stored: a report counts only if it is stored, and one that obeys in
        // between must not seem to know more than the store.
        let live = self.live.snapshot();
        let records = self.mirror.records().await?;
        Ok(Snapshot { records, live, trouble: self.trouble.borrow().clone() })
    }
}

impl Snapshot {
    /// Every name that is known: of the newest revision, or joined.
    pub fn names(&self) -> BTreeSet<&NodeName> {
        let applied = self.revision.iter().flat_map(|revision| revision.nodes.keys());
        applied.chain(self.nodes.keys()).collect()
    }

    /// What the newest revision wants of a node.
    pub fn wanted(&self, name: &NodeName) -> Option<&Target> {
        self.revision.as_ref()?.nodes.get(name)
    }

    /// What the planner sees: the nodes of the newest revision.
    pub fn view(&self) -> FleetView<'_> {
        self.view_by(self.revision.iter().flat_map(|revision| &revision.nodes))
    }

    /// What the planner would see if `nodes` were the newest revision's.
    pub fn view_of<'a>(&'a self, nodes: &'a BTreeMap<NodeName, Target>) -> FleetView<'a> {
        self.view_by(nodes.iter())
    }

    fn view_by<'a>(&'a self, nodes: impl Iterator<Item = (&'a NodeName, &'a Target)>) -> FleetView<'a> {
        FleetView {
            nodes: self.facts(nodes).map(|(name, target, facts)| (name, facts.view(target))).collect(),
            past: self.rollouts.iter().map(|rollout| &rollout.record.rollout.steps).collect(),
        }
    }

    /// What is known of each of `nodes`, which come in the order of their names: one walk through all records is much
    /// cheaper than to look each of them up.
    pub fn facts<'a>(
        &'a self,
        nodes: impl Iterator<Item = (&'a NodeName, &'a Target)>,
    ) -> impl Iterator<Item = (&'a NodeName, &'a Target, Facts<'a>)> {
        let (mut records, mut seen) = (self.nodes.iter().peekable(), self.seen.iter().peekable());
        let mut live = self.live.iter().peekable();
        nodes.map(move |(name, target)| {
            let (record, seen) = (next_at(&mut records, &name), next_at(&mut seen, &name));
            (name, target, Facts { record, seen, live: next_at(&mut live, &name) })
        })
    }

    /// What is known of a node.
    pub fn facts_of(&self, name: &NodeName) -> Facts<'_> {
        Facts { record: self.nodes.get(name), seen: self.seen.get(name), live: self.live.get(name) }
    }

    /// The newest report, live if there is one.
    pub fn observed(&self, name: &NodeName) -> Option<&Observed> {
        let live = self.live.get(name).and_then(|live| live.observed.as_ref());
        live.or_else(|| self.seen.get(name).and_then(|seen| seen.observed.as_ref()))
    }

    /// The newest report as operators see it. If the agent cannot write its journal it reports nothing: what it said
    /// before is shown with that concern, and without a verdict.
    pub fn shown(&self, name: &NodeName) -> Option<Cow<'_, Observed>> {
        let observed = self.observed(name)?;
        let Some(trouble) = self.live.get(name).and_then(|live| live.journal_error.as_ref()) else {
            return Some(Cow::Borrowed(observed));
        };
        let mut shown = observed.clone();
        let reason = format!("its agent cannot write its journal: {}", trouble.why);
        shown.concerns.push(Concern {
            kind: ConcernKind::JournalUnwritable,
            detail: format!("{reason}; what is shown of the server may be over"),
            remedy: "make room in the agent's data directory, or bring it back".to_owned(),
        });
        (shown.health, shown.health_since) = (Verdict::Unknown(reason), trouble.since);
        Some(Cow::Owned(shown))
    }

    /// A node of the newest revision, as [`standing`] asks for it.
    pub fn position<'a>(&'a self, node: &'a NodeName) -> Option<Position<'a>> {
        let newest = self.revision.as_ref()?;
        let wanted = newest.nodes.get(node)?.bundle;
        let record = self.nodes.get(node).map(|node| &node.record);
        let rollouts = self.rollouts.iter().map(|rollout| &rollout.record.rollout);
        Some(Position {
            node,
            wanted,
            desired: record.and_then(|record| record.desired.as_ref()).map(|desired| desired.applied()),
            observed: self.observed(node),
            rollout: rollouts
                .filter(|rollout| rollout.revision == newest.number)
                .max_by_key(|rollout| rollout.id),
        })
    }

    /// The revision that the files in force on a node were assigned with.
    pub fn assigned_revision(&self, name: &NodeName) -> Option<Revision> {
        let written = self.observed(name)?.written?;
        let assigned = self.nodes.get(name)?.record.assigned(written.generation)?;
        (assigned.target.bundle == written.bundle).then_some(assigned.revision)
    }

    /// One word for people, and why. Unknown is never healthy, and not connected is never ready.
    pub fn state(&self, name: &NodeName) -> NodeState {
        let record = self.nodes.get(name).map(|node| &node.record);
        let joined = record.is_some_and(|record| record.enrolment.is_some());
        if self.wanted(name).is_none() && self.revision.is_some() {
            return NodeState::NotInFleet;
        }
        let Some(live) = self.live.get(name) else {
            return match (joined, self.seen.contains_key(name)) {
                (false, _) => NodeState::NotJoined,
                (true, false) => NodeState::NeverConnected,
                (true, true) => NodeState::Unreachable,
            };
        };
        if let Some(theirs) = live.obeys.filter(|epoch| *epoch != self.meta.record.epoch) {
            return NodeState::OtherEpoch { theirs, ours: self.meta.record.epoch };
        }
        if live.restarting {
            return NodeState::Unknown("it was told to restart a moment ago".to_owned());
        }
        if let Some(trouble) = &live.journal_error {
            let why = format!("its agent cannot write its journal and reports nothing: {}", trouble.why);
            return NodeState::Unknown(why);
        }
        let Some(observed) = &live.observed else {
            return NodeState::Unknown("its agent is connected and has not reported yet".to_owned());
        };
        if let Some(older @ Standing::StoreOlder { .. }) = self.position(name).as_ref().map(standing) {
            return NodeState::StoreOlder(older.to_string());
        }
        let Some(desired) = record.and_then(|record| record.desired.as_ref()) else {
            return NodeState::Idle;
        };
        let attempt = observed.attempted.as_ref();
        let attempt = attempt.filter(|attempt| attempt.target.generation == desired.generation);
        if attempt.is_some_and(|attempt| attempt.done)
            && let Some(why) = on_original(observed)
        {
            return NodeState::on_original(observed, why);
        }
        if let Some(failure) = attempt.and_then(|attempt| attempt.failure.as_ref()) {
            return NodeState::Failed(format!("{}: {}", failure.reason, failure.detail));
        }
        if attempt.is_none_or(|attempt| !attempt.done) && observed.last_good != Some(desired.applied()) {
            return NodeState::Updating { to: desired.generation, why: desired.why.clone() };
        }
        NodeState::of_service(observed)
    }
}

/// What a node is, in one word for people, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// The newest revision does not name it.
    NotInFleet,
    /// No agent has its certificate.
    NotJoined,
    /// Its agent has a certificate and never came.
    NeverConnected,
    /// Its agent is not connected.
    Unreachable,
    /// Its agent obeys another store, and refuses what this one says.
    OtherEpoch {
        /// The one it obeys.
        theirs: FleetEpoch,
        /// This one.
        ours: FleetEpoch,
    },
    /// The store was restored from an older copy: its agent knows more than the store.
    StoreOlder(String),
    /// Nothing can be said.
    Unknown(String),
    /// Nothing was assigned to it.
    Idle,
    /// The newest assignment ended badly.
    Failed(String),
    /// The newest assignment is being carried out.
    Updating {
        /// Its number.
        to: Generation,
        /// For people.
        why: String,
    },
    /// It serves.
    Ready,
    /// It serves, with the files that lay there before its first apply, as an operator asked.
    Original,
    /// Its server runs and does not do its job.
    Unhealthy(String),
    /// Its server does something else than running.
    Service {
        /// What.
        state: ServiceState,
        /// Why.
        why: String,
    },
}

impl NodeState {
    fn on_original(observed: &Observed, why: OnOriginal) -> Self {
        match why {
            OnOriginal::AfterFailure(failure) => NodeState::Failed(format!(
                "{}: {}; its original files are in force again",
                failure.reason, failure.detail
            )),
            OnOriginal::AsAsked => match NodeState::of_service(observed) {
                NodeState::Ready => NodeState::Original,
                other => other,
            },
        }
    }

    fn of_service(observed: &Observed) -> Self {
        match (&observed.service, &observed.health) {
            (ServiceState::Running, Verdict::Healthy) => NodeState::Ready,
            (ServiceState::Running, Verdict::Unhealthy(why)) => NodeState::Unhealthy(why.clone()),
            (ServiceState::Running, Verdict::Unknown(why)) => NodeState::Unknown(why.clone()),
            (state, _) => NodeState::Service { state: state.clone(), why: observed.service_reason.clone() },
        }
    }

    /// Its word.
    pub fn word(&self) -> NodeWord {
        match self {
            NodeState::NotInFleet => NodeWord::NotInFleet,
            NodeState::NotJoined => NodeWord::NotJoined,
            NodeState::NeverConnected => NodeWord::NeverConnected,
            NodeState::Unreachable => NodeWord::Unreachable,
            NodeState::OtherEpoch { .. } => NodeWord::OtherEpoch,
            NodeState::StoreOlder(_) => NodeWord::StoreOlder,
            NodeState::Unknown(_) => NodeWord::Unknown,
            NodeState::Idle => NodeWord::Idle,
            NodeState::Failed(_) => NodeWord::Failed,
            NodeState::Updating { .. } => NodeWord::Updating,
            NodeState::Ready => NodeWord::Ready,
            NodeState::Original => NodeWord::Original,
            NodeState::Unhealthy(_) => NodeWord::Unhealthy,
            NodeState::Service { state, .. } => state.word().of_node(),
        }
    }

    /// The reason; empty where there is nothing to say.
    pub fn why(&self) -> String {
        match self {
            NodeState::NotInFleet => "the newest revision does not name it".to_owned(),
            NodeState::NotJoined => "no agent has joined as it; see `convoy token create`".to_owned(),
            NodeState::NeverConnected => "its agent has joined and never connected".to_owned(),
            NodeState::Unreachable => "its agent is not connected".to_owned(),
            NodeState::OtherEpoch { theirs, ours } => format!(
                "its agent obeys store {theirs} and refuses this one, {ours}: the store was lost or made anew"
            ),
            NodeState::Idle => "nothing was assigned to it yet".to_owned(),
            NodeState::Updating { to, why } => format!("to generation {to}{}", Reason(why)),
            NodeState::Ready => String::new(),
            NodeState::Original => {
                "its original files are in force, as an operator asked; the next apply replaces them"
                    .to_owned()
            }
            NodeState::StoreOlder(why)
            | NodeState::Unknown(why)
            | NodeState::Failed(why)
            | NodeState::Unhealthy(why)
            | NodeState::Service { why, .. } => why.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet::words::VariantArray as _;

    use super::*;

    #[test]
    fn every_word_of_a_state_is_listed() {
        let why = String::new;
        let (theirs, ours) = (FleetEpoch([1; 16]), FleetEpoch([2; 16]));
        let service = |state| NodeState::Service { state, why: why() };
        let states = [
            NodeState::NotInFleet,
            NodeState::NotJoined,
            NodeState::NeverConnected,
            NodeState::Unreachable,
            NodeState::OtherEpoch { theirs, ours },
            NodeState::StoreOlder(why()),
            NodeState::Unknown(why()),
            NodeState::Idle,
            NodeState::Failed(why()),
            NodeState::Updating { to: Generation(1), why: why() },
            NodeState::Ready,
            NodeState::Original,
            NodeState::Unhealthy(why()),
            service(ServiceState::Stopped),
            service(ServiceState::Starting),
            service(ServiceState::Running),
            service(ServiceState::Stopping),
            service(ServiceState::BackingOff { until: fleet::time::Timestamp(0), exits: 1 }),
            service(ServiceState::GaveUp { exits: 1 }),
            service(ServiceState::Foreign),
            service(ServiceState::Unknown),
        ];
        let words: BTreeSet<NodeWord> = states.iter().map(NodeState::word).collect();
        assert_eq!(words, NodeWord::VARIANTS.iter().copied().collect());
    }
}
