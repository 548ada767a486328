//! Where a node stands: whether what the newest revision wants of it is in force, and if not, what is in the way.
//! `status` prints this; it decides nothing.

use std::fmt;

use super::state::{Phase, Rollout, StepRecord, StepState};
use crate::{
    bundle::Applied,
    ids::{Digest, Generation, NodeName, RolloutId},
    observed::Observed,
    words::StandingWord,
};

/// What is known of one node that the newest revision names.
#[derive(Debug, Clone, Copy)]
pub struct Position<'a> {
    /// Which node.
    pub node: &'a NodeName,
    /// The bundle that the newest revision wants on it.
    pub wanted: Digest,
    /// What was last committed for it.
    pub desired: Option<Applied>,
    /// Its newest report, however old.
    pub observed: Option<&'a Observed>,
    /// The newest rollout of the newest revision, if there was one.
    pub rollout: Option<&'a Rollout>,
}

/// Whether a node is on the newest revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// What the newest revision wants is in force, whoever put it there.
    OnNewest,
    /// A rollout is about to change it, or is changing it.
    UnderWay {
        /// Which one.
        rollout: RolloutId,
    },
    /// Something else is in force, and nobody is changing that.
    Behind(Lag),
    /// Its agent never said what is in force.
    NotReported,
    /// Its agent has obeyed orders that the store does not know.
    StoreOlder {
        /// What the agent has accepted.
        accepted: Generation,
        /// What the store last committed.
        committed: Option<Generation>,
    },
}

/// Why a node is behind, and stays behind until somebody acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lag {
    /// An operator paused the rollout.
    Paused(RolloutId),
    /// An operator ended the rollout.
    Aborted(RolloutId),
    /// The rollout took back what it had changed.
    RolledBack(RolloutId),
    /// The rollout failed.
    Failed(RolloutId),
    /// A newer rollout took over.
    Superseded {
        /// The one that ended.
        rollout: RolloutId,
        /// The one that took over.
        by: RolloutId,
    },
    /// The rollout left this node out.
    Skipped {
        /// Which one.
        rollout: RolloutId,
        /// Why.
        why: String,
    },
    /// The files are in force, and the server still runs with those before.
    NotRestarted,
    /// The files that lay there before the first apply are in force.
    OnOriginal,
    /// No rollout of the newest revision has this node.
    NoRollout,
    /// The newest revision was applied to other nodes only, and this one was to stay as it was.
    LeftOut,
}

/// Where a node stands now.
pub fn standing(position: &Position<'_>) -> Standing {
    if let Some(older) = store_older(position) {
        return older;
    }
    let Some(observed) = position.observed else { return Standing::NotReported };
    let is_wanted = |applied: Option<Applied>| applied.is_some_and(|it| it.bundle == position.wanted);
    let is_written = is_wanted(observed.written);
    if is_written && (observed.running.is_none() || is_wanted(observed.running)) {
        return Standing::OnNewest;
    }
    let step = position.rollout.and_then(|rollout| Some((rollout, rollout.steps.get(position.node)?)));
    let standing = match step {
        Some((rollout, step)) => of_step(rollout, step, is_written),
        None if is_written => Standing::Behind(Lag::NotRestarted),
        None => Standing::Behind(Lag::NoRollout),
    };
    match standing {
        Standing::Behind(_) if observed.is_on_original() => Standing::Behind(Lag::OnOriginal),
        other => other,
    }
}

/// An agent accepts only what was committed before. If it knows more than the store, the store was restored.
fn store_older(position: &Position<'_>) -> Option<Standing> {
    let accepted = position.observed?.desired?;
    let known = position
        .desired
        .is_some_and(|desired| accepted == desired || accepted.generation < desired.generation);
    let committed = position.desired.map(|desired| desired.generation);
    (!known).then_some(Standing::StoreOlder { accepted: accepted.generation, committed })
}

fn of_step(rollout: &Rollout, step: &StepRecord, is_written: bool) -> Standing {
    let id = rollout.id;
    if rollout.paused.is_some() && !rollout.phase.is_end() {
        return Standing::Behind(Lag::Paused(id));
    }
    let lag = match (&rollout.phase, &step.state) {
        (Phase::Aborted { .. }, _) => Lag::Aborted(id),
        (Phase::RolledBack { .. }, _) => Lag::RolledBack(id),
        (Phase::Failed { .. }, _) => Lag::Failed(id),
        (Phase::Superseded { by }, _) => Lag::Superseded { rollout: id, by: *by },
        (_, StepState::Skipped { why }) => Lag::Skipped { rollout: id, why: why.clone() },
        (Phase::Running | Phase::Stopping { .. } | Phase::RollingBack { .. }, _) => {
            return Standing::UnderWay { rollout: id };
        }
        (Phase::Done, _) if is_written => Lag::NotRestarted,
        (Phase::Done, _) => Lag::NoRollout,
    };
    Standing::Behind(lag)
}

impl Standing {
    /// Its word.
    pub const fn word(&self) -> StandingWord {
        match self {
            Standing::OnNewest => StandingWord::OnNewest,
            Standing::UnderWay { .. } => StandingWord::UnderWay,
            Standing::Behind(_) => StandingWord::Behind,
            Standing::NotReported => StandingWord::NotReported,
            Standing::StoreOlder { .. } => StandingWord::StoreOlder,
        }
    }
}

/// Why the node is not on the newest revision; nothing if it is.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Standing::OnNewest => Ok(()),
            Standing::UnderWay { rollout } => write!(f, "rollout {rollout} is under way"),
            Standing::Behind(lag) => lag.fmt(f),
            Standing::NotReported => f.write_str("its agent has not reported yet"),
            Standing::StoreOlder { accepted, committed: Some(committed) } if accepted == committed => write!(
                f,
                "its agent has accepted another generation {accepted} than the store has: the store is older than its \
                 agents; apply again"
            ),
            Standing::StoreOlder { accepted, committed: Some(committed) } => write!(
                f,
                "its agent has accepted generation {accepted}, and the store knows only {committed}: the store is \
                 older than its agents; apply again"
            ),
            Standing::StoreOlder { accepted, committed: None } => write!(
                f,
                "its agent has accepted generation {accepted}, and the store knows none: the store is older than its \
                 agents; apply again"
            ),
        }
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lag::LeftOut => f.write_str("the apply left it out"),
            Lag::Paused(rollout) => write!(f, "rollout {rollout} is paused"),
            Lag::Aborted(rollout) => write!(f, "rollout {rollout} was aborted"),
            Lag::RolledBack(rollout) => write!(f, "rollout {rollout} was rolled back"),
            Lag::Failed(rollout) => write!(f, "rollout {rollout} failed"),
            Lag::Superseded { rollout, by } => write!(f, "rollout {rollout} was superseded by rollout {by}"),
            Lag::Skipped { rollout, why } => write!(f, "rollout {rollout} left it out: {why}"),
            Lag::NotRestarted => f.write_str("its server has not restarted with it"),
            Lag::OnOriginal => f.write_str("its original files are in force"),
            Lag::NoRollout => f.write_str("no rollout is bringing it there"),
        }
    }
}
