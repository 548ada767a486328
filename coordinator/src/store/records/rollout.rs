//! A rollout: a head that says how it goes, and shards with its steps (ADR 0065).

use std::collections::BTreeMap;

use fleet::{
    ids::{GroupName, NodeName, Revision},
    rollout::{Rollout, StepRecord},
    trace::TraceContext,
};
use prost::Message as _;
use proto::{
    convert::{
        link::traceparent,
        store::{steps_from_wire, steps_to_wire},
    },
    wire::store as wire,
};

use super::Record;

/// Steps of one shard. A step takes up to 285 bytes, so what one change writes is hardly more than a small rollout.
const SHARD_STEPS: usize = 128;
/// Steps of one rollout at most: the transaction that begins it checks each of its shards, and 128 checks fit.
pub const ROLLOUT_STEPS_MAX: usize = 100 * SHARD_STEPS;

/// One execution of a revision, and who asked for it. Its encoding is the head alone; the steps are [`ShardRecord`]s, put
/// in by whoever reads ([`crate::store::rollouts`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutRecord {
    /// What the planner keeps.
    pub rollout: Rollout,
    /// Who applied its revision.
    pub author: String,
    /// Why, in their words.
    pub message: String,
    /// Set when its revision repeats an older one.
    pub rolls_back_to: Option<Revision>,
    /// In how many records its steps are. 0: it has none, or a version that knew no shards wrote them into the head.
    pub shards: u32,
    /// What it is a part of; see docs/traces.md.
    pub trace: Option<TraceContext>,
}

impl RolloutRecord {
    /// A rollout whose steps are in shards.
    pub fn new(
        rollout: Rollout,
        (author, message): (String, String),
        rolls_back_to: Option<Revision>,
    ) -> Self {
        let shards = u32::try_from(rollout.steps.len().div_ceil(SHARD_STEPS)).unwrap_or(u32::MAX);
        Self { rollout, author, message, rolls_back_to, shards, trace: None }
    }

    /// Its steps as they are stored: in the order of the plan, so that a wave is in few shards. Neither the group nor the
    /// wave of a step ever changes, so a step stays in its shard.
    pub fn shards(&self) -> Vec<Vec<(&NodeName, &StepRecord)>> {
        let planned: Vec<_> = self.planned().into_iter().map(|(_, _, name, step)| (name, step)).collect();
        planned.chunks(SHARD_STEPS).map(<[_]>::to_vec).collect()
    }

    /// In which shard each node's step is.
    pub fn places(&self) -> BTreeMap<&NodeName, u32> {
        let places = self.planned().into_iter().zip(0..);
        places.map(|((_, _, name, _), place)| (name, place / SHARD_STEPS as u32)).collect()
    }

    fn planned(&self) -> Vec<(&GroupName, u32, &NodeName, &StepRecord)> {
        let steps = self.rollout.steps.iter();
        let mut planned: Vec<_> = steps.map(|(name, step)| (&step.group, step.wave, name, step)).collect();
        planned.sort_by_key(|(group, wave, name, _)| (*group, *wave, *name));
        planned
    }
}

impl Record for RolloutRecord {
    type Wire = wire::Rollout;
    const NAME: &'static str = "a rollout";

    fn to_wire(&self) -> wire::Rollout {
        wire::Rollout {
            author: self.author.clone(),
            message: self.message.clone(),
            rolls_back_to: self.rolls_back_to.map_or(0, |revision| revision.0),
            shards: self.shards,
            traceparent: traceparent(self.trace),
            ..wire::Rollout::from(&self.rollout)
        }
    }

    fn from_wire(wire: wire::Rollout) -> Result<Self, String> {
        let (author, message, shards) = (wire.author.clone(), wire.message.clone(), wire.shards);
        let trace = TraceContext::parse(&wire.traceparent);
        let rolls_back_to = Some(Revision(wire.rolls_back_to)).filter(|revision| revision.0 != 0);
        let mut rollout = Rollout::try_from(wire).map_err(|error| error.to_string())?;
        rollout.leave_open_steps();
        Ok(Self { rollout, author, message, rolls_back_to, shards, trace })
    }
}

/// Some steps of a rollout; its key says of which one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ShardRecord(pub BTreeMap<NodeName, StepRecord>);

impl ShardRecord {
    /// The bytes of a record with these steps.
    pub fn encoded(steps: &[(&NodeName, &StepRecord)]) -> Vec<u8> {
        steps_to_wire(steps.iter().copied()).encode_to_vec()
    }
}

impl Record for ShardRecord {
    type Wire = wire::RolloutSteps;
    const NAME: &'static str = "steps of a rollout";

    fn to_wire(&self) -> wire::RolloutSteps {
        steps_to_wire(self.0.iter())
    }

    fn from_wire(wire: wire::RolloutSteps) -> Result<Self, String> {
        steps_from_wire(wire).map(Self).map_err(|error| error.to_string())
    }
}
