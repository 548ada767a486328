//! A rollout as it is stored: everything the coordinator persists, and nothing that can be computed from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    gate::{GateVerdict, Gates},
    policy::{FleetPolicy, RolloutPolicy},
};
use crate::{
    bundle::RestartClass,
    ids::{Digest, Generation, GroupName, NodeName, Revision, RolloutId},
    time::Timestamp,
    words::{RolloutWord, StepWord},
};

/// A bundle, and where its content is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Digest of the bundle.
    pub bundle: Digest,
    /// Digest of its encoding, by which agents fetch it.
    pub content: Digest,
    /// Bytes of the encoding.
    pub size: u64,
}

/// One execution of a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Which execution.
    pub id: RolloutId,
    /// Of which revision.
    pub revision: Revision,
    /// When it was created.
    pub started: Timestamp,
    /// When it ended, if it has.
    pub ended: Option<Timestamp>,
    /// What it is doing.
    pub phase: Phase,
    /// Nothing new begins while this is set, whatever the phase.
    pub paused: Option<Pause>,
    /// Maintenance windows are ignored, for this reason (`apply --now --reason`).
    pub windows_overridden: Option<String>,
    /// Limits over all groups.
    pub policy: FleetPolicy,
    /// The groups that take part.
    pub groups: BTreeMap<GroupName, GroupRollout>,
    /// The nodes that take part.
    pub steps: BTreeMap<NodeName, StepRecord>,
}

/// What a rollout is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Giving nodes their new bundles.
    Running,
    /// Nothing new begins; ends when the steps in flight have ended.
    Stopping {
        /// Why.
        why: String,
        /// An operator's wish, not a failure.
        aborted: bool,
    },
    /// Returning the nodes that it changed.
    RollingBack {
        /// Why.
        why: String,
    },
    /// Every node is ready.
    Done,
    /// Ended with nodes that are neither ready nor returned.
    Failed {
        /// Why.
        why: String,
    },
    /// Every node that was changed is back on its last good bundle, and stays there until somebody applies again.
    RolledBack {
        /// Why.
        why: String,
    },
    /// An operator ended it; nodes keep what they have.
    Aborted {
        /// Why.
        why: String,
    },
    /// A newer one took over.
    Superseded {
        /// Which.
        by: RolloutId,
    },
}

impl Phase {
    /// Its word.
    pub fn word(&self) -> RolloutWord {
        match self {
            Phase::Running => RolloutWord::Running,
            Phase::Stopping { .. } => RolloutWord::Stopping,
            Phase::RollingBack { .. } => RolloutWord::RollingBack,
            Phase::Done => RolloutWord::Done,
            Phase::Failed { .. } => RolloutWord::Failed,
            Phase::RolledBack { .. } => RolloutWord::RolledBack,
            Phase::Aborted { .. } => RolloutWord::Aborted,
            Phase::Superseded { .. } => RolloutWord::Superseded,
        }
    }

    /// Nothing follows.
    pub fn is_end(&self) -> bool {
        !matches!(self, Phase::Running | Phase::Stopping { .. } | Phase::RollingBack { .. })
    }
}

/// An operator asked for nothing new to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pause {
    /// Why, in the operator's words.
    pub why: String,
    /// Since when.
    pub at: Timestamp,
}

/// A group's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRollout {
    /// How carefully it goes.
    pub policy: RolloutPolicy,
    /// Groups that must be complete before this one begins. Those that do not take part are complete.
    pub after: BTreeSet<GroupName>,
    /// The wave under way; one past the last when all are through.
    pub wave: u32,
    /// Since when all nodes of the wave under way have been ready and healthy.
    pub wave_ready: Option<Timestamp>,
    /// The newest wave whose soak and promotion an operator cut short.
    pub promoted: Option<u32>,
    /// When a node of this group last got further.
    pub progress: Timestamp,
    /// How long nobody could judge the wave under way, or reach the nodes that are to return.
    pub blind: Blind,
    /// What its nodes are asked after each wave, if anything.
    pub gates: Option<Gates>,
    /// Answers of the wave under way, and failures of earlier ones that were tolerated.
    pub verdicts: Vec<GateVerdict>,
}

/// A node's part in a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepRecord {
    /// The node's group in this revision.
    pub group: GroupName,
    /// From 0; the canary is wave 0 of a group that has one.
    pub wave: u32,
    /// What it is given.
    pub target: Target,
    /// What the change asks of the server.
    pub restart: RestartClass,
    /// `restart` was computed against a server that runs this bundle; against any other it is a restart.
    pub compared_with: Option<Digest>,
    /// What it goes back to. `None`: nothing was ever healthy on it.
    pub last_good: Option<Target>,
    /// How far it is.
    pub state: StepState,
    /// When this rollout first gave it something; before that it waited for its turn. `None` also for a step taken over
    /// from an earlier rollout.
    pub begun: Option<Timestamp>,
    /// How long it was in the states that it has left.
    pub spent: Spent,
}

impl StepRecord {
    /// From the commit to ready, as this step took it; `None` unless this rollout gave it, it has restarted a server, and
    /// is ready.
    pub fn took(&self) -> Option<Duration> {
        let whole = self.begun.is_some() && matches!(self.state, StepState::Ready { restarted: true, .. });
        whole.then(|| self.spent.update())
    }

    /// Adds the time in a state that the step had at the last look and has left at `now`.
    pub(super) fn leave(&mut self, was: &StepState, now: Timestamp) {
        let is = match &self.state {
            StepState::InFlight(flight) => Some((flight.kind, flight.stage)),
            _ => None,
        };
        match was {
            StepState::Pending if is.is_some() => self.begun = self.begun.or(Some(now)),
            StepState::InFlight(flight) if is != Some((flight.kind, flight.stage)) => {
                *self.spent.of(flight.kind, flight.stage) += now.since(flight.since);
            }
            _ => {}
        }
    }

    /// What it goes back to, if that is another bundle than the one it was given.
    pub fn way_back(&self) -> Option<Target> {
        self.last_good.filter(|good| good.bundle != self.target.bundle)
    }

    /// The step in flight, if one is.
    pub fn flight(&self) -> Option<&Flight> {
        match &self.state {
            StepState::InFlight(flight) => Some(flight),
            _ => None,
        }
    }
}

/// Which way a step goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StepKind {
    /// To the revision's bundle.
    Update,
    /// To the last good bundle.
    RollBack,
}

/// How far a step in flight is known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FlightStage {
    /// Committed; the node may or may not know of it.
    Sent,
    /// The files are in force on disk.
    Written,
    /// The server was launched with them.
    Restarted,
    /// Healthy, and watched for `min_healthy_time`.
    Soaking,
}

/// How long a step was in each state that it has left, by the coordinator's clock. Visits to one state count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spent {
    /// Committed, and the files not yet in force: the node heard of it, fetched, checked and staged it, and switched.
    pub sent: Duration,
    /// The files in force, and the server not yet launched with them: hooks before the stop, and the stop.
    pub written: Duration,
    /// Launched, not healthy.
    pub restarting: Duration,
    /// Healthy, and watched.
    pub soaking: Duration,
    /// On the way back to the last good bundle, whatever it was at.
    pub returning: Duration,
}

impl Spent {
    /// All of the way to the new bundle.
    pub fn update(&self) -> Duration {
        self.sent + self.written + self.restarting + self.soaking
    }

    fn of(&mut self, kind: StepKind, stage: FlightStage) -> &mut Duration {
        match (kind, stage) {
            (StepKind::RollBack, _) => &mut self.returning,
            (StepKind::Update, FlightStage::Sent) => &mut self.sent,
            (StepKind::Update, FlightStage::Written) => &mut self.written,
            (StepKind::Update, FlightStage::Restarted) => &mut self.restarting,
            (StepKind::Update, FlightStage::Soaking) => &mut self.soaking,
        }
    }

    /// The states that it was in and their times, in the order in which a step goes through them.
    pub fn states(&self) -> impl Iterator<Item = (StepWord, Duration)> {
        let all = [
            (StepWord::Sent, self.sent),
            (StepWord::Written, self.written),
            (StepWord::Restarting, self.restarting),
            (StepWord::Soaking, self.soaking),
            (StepWord::Returning, self.returning),
        ];
        all.into_iter().filter(|(_, time)| !time.is_zero())
    }
}

/// A step that was committed and has not ended. Its node counts as down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flight {
    /// Which way.
    pub kind: StepKind,
    /// The node's number for it.
    pub generation: Generation,
    /// Whether it was expected to restart the server.
    pub restarts: bool,
    /// When it was committed.
    pub sent: Timestamp,
    /// When the files were first seen in force; the healthy deadline counts from here.
    pub written: Option<Timestamp>,
    /// How far it is.
    pub stage: FlightStage,
    /// Since when.
    pub since: Timestamp,
    /// How long the node was not connected. The healthy deadline does not count this time.
    pub blind: Blind,
}

impl Flight {
    /// Until when the step explains that the server does not serve. The healthy deadline is the rollout's to notice, so
    /// it gets a little longer.
    pub fn explains_until(&self, healthy_deadline: Duration, now: Timestamp) -> Timestamp {
        let begun = self.written.unwrap_or(self.since);
        begun.after(self.blind.total(now)).after(healthy_deadline).after(NOTICED_WITHIN)
    }
}

/// The rollout's own word about a step comes at most so long after its deadline.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);

/// How long a node's state was unknown. The time is added up over all its absences, so that one that comes and goes
/// cannot hold up a rollout for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Blind {
    /// When the present absence began, if there is one.
    pub since: Option<Timestamp>,
    /// The absences before it.
    pub spent: Duration,
}

impl Blind {
    /// An absence begins or goes on.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    /// The absence is over, if there was one.
    pub(super) fn end(&mut self, now: Timestamp) {
        if let Some(since) = self.since.take() {
            self.spent += now.since(since);
        }
    }

    /// All absences up to now.
    pub(super) fn total(&self, now: Timestamp) -> Duration {
        self.spent + self.since.map_or(Duration::ZERO, |since| now.since(since))
    }
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Begun.
    InFlight(Flight),
    /// Runs the new bundle and was healthy for `min_healthy_time`.
    Ready {
        /// The node's number for it.
        generation: Generation,
        /// Since when.
        at: Timestamp,
        /// Whether the server was restarted for it.
        restarted: bool,
    },
    /// Did not get there. The agent went back to its last good bundle by itself, if it could.
    Failed {
        /// The node's number for it.
        generation: Generation,
        /// When.
        at: Timestamp,
        /// Why, for people.
        why: String,
    },
    /// Runs its last good bundle again, as a new generation.
    RolledBack {
        /// The node's number for it.
        generation: Generation,
        /// Since when.
        at: Timestamp,
    },
    /// Not even the way back worked; an operator must look.
    ReturnFailed {
        /// The node's number for it.
        generation: Generation,
        /// When.
        at: Timestamp,
        /// Why, for people.
        why: String,
    },
    /// It should return and is not connected. Nobody knows what it runs, so the rollout ends without it.
    ReturnUnseen {
        /// The node's number for what was last committed for it.
        generation: Generation,
        /// When the rollout stopped waiting for it.
        at: Timestamp,
        /// What it has and what happens when it is back, for people.
        why: String,
    },
    /// Takes no part any more.
    Skipped {
        /// Why, for people.
        why: String,
    },
}

impl StepState {
    /// Its word.
    pub fn word(&self) -> StepWord {
        match self {
            StepState::Pending => StepWord::Pending,
            StepState::InFlight(flight) => match (flight.kind, flight.stage) {
                (StepKind::RollBack, _) => StepWord::Returning,
                (StepKind::Update, FlightStage::Sent) => StepWord::Sent,
                (StepKind::Update, FlightStage::Written) => StepWord::Written,
                (StepKind::Update, FlightStage::Restarted) => StepWord::Restarting,
                (StepKind::Update, FlightStage::Soaking) => StepWord::Soaking,
            },
            StepState::Ready { .. } => StepWord::Ready,
            StepState::Failed { .. } => StepWord::Failed,
            StepState::RolledBack { .. } => StepWord::RolledBack,
            StepState::ReturnFailed { .. } => StepWord::ReturnFailed,
            StepState::ReturnUnseen { .. } => StepWord::ReturnUnseen,
            StepState::Skipped { .. } => StepWord::Skipped,
        }
    }

    /// Since when, where that is known.
    pub fn since(&self) -> Option<Timestamp> {
        match self {
            StepState::Pending | StepState::Skipped { .. } => None,
            StepState::InFlight(flight) => Some(flight.since),
            StepState::Ready { at, .. }
            | StepState::Failed { at, .. }
            | StepState::RolledBack { at, .. }
            | StepState::ReturnFailed { at, .. }
            | StepState::ReturnUnseen { at, .. } => Some(*at),
        }
    }

    /// The generation it was last given by this rollout.
    pub fn generation(&self) -> Option<Generation> {
        match self {
            StepState::Pending | StepState::Skipped { .. } => None,
            StepState::InFlight(flight) => Some(flight.generation),
            StepState::Ready { generation, .. }
            | StepState::Failed { generation, .. }
            | StepState::RolledBack { generation, .. }
            | StepState::ReturnFailed { generation, .. }
            | StepState::ReturnUnseen { generation, .. } => Some(*generation),
        }
    }

    /// What there is to say besides the state: why it is so, or what became of the server.
    pub fn detail(&self) -> Option<&str> {
        match self {
            StepState::Ready { restarted: false, .. } => Some("no restart"),
            StepState::Ready { restarted: true, .. }
            | StepState::Pending
            | StepState::InFlight(_)
            | StepState::Failed { .. }
            | StepState::RolledBack { .. }
            | StepState::ReturnFailed { .. }
            | StepState::ReturnUnseen { .. }
            | StepState::Skipped { .. } => self.why(),
        }
    }

    /// Why it is so, where there is a why.
    pub fn why(&self) -> Option<&str> {
        match self {
            StepState::Failed { why, .. }
            | StepState::ReturnFailed { why, .. }
            | StepState::ReturnUnseen { why, .. }
            | StepState::Skipped { why } => Some(why),
            StepState::Pending
            | StepState::InFlight(_)
            | StepState::Ready { .. }
            | StepState::RolledBack { .. } => None,
        }
    }
}

impl Rollout {
    /// Its word: a pause hides a phase that goes on afterwards.
    pub fn word(&self) -> RolloutWord {
        if self.paused.is_some() && !self.phase.is_end() { RolloutWord::Paused } else { self.phase.word() }
    }

    /// Why it is in that phase, where there is a why.
    pub fn why(&self) -> Option<&str> {
        match &self.phase {
            Phase::Stopping { why, .. }
            | Phase::RollingBack { why }
            | Phase::Failed { why }
            | Phase::RolledBack { why }
            | Phase::Aborted { why } => Some(why),
            Phase::Running | Phase::Done | Phase::Superseded { .. } => None,
        }
    }

    /// Nodes that have reached their end, and all nodes.
    pub fn progress(&self) -> (usize, usize) {
        let open = |step: &&StepRecord| matches!(step.state, StepState::Pending | StepState::InFlight(_));
        (self.steps.len() - self.steps.values().filter(open).count(), self.steps.len())
    }

    /// How long it took, or has been taking until `now`.
    pub fn duration(&self, now: Timestamp) -> Duration {
        self.ended.unwrap_or(now).since(self.started)
    }
}
