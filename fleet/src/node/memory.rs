//! What an agent must not forget: everything that a journal write makes durable, as one value.

use std::collections::VecDeque;

use crate::{
    bundle::{Applied, Assignment},
    ids::{Digest, FleetEpoch},
    observed::{Attempt, Notice, ProcessIdentity},
    time::Timestamp,
};

/// Unreceived notices kept at most; the oldest go first, and the gap in their numbers tells.
pub const NOTICES_MAX: usize = 256;
/// Command ids remembered, so that a command told twice is done once.
pub const COMMANDS_MAX: usize = 64;

/// A bundle and where its encoding is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Generation and bundle.
    pub applied: Applied,
    /// Digest of the encoded bundle, its key in the content cache.
    pub content: Digest,
}

impl From<&Assignment> for Placed {
    fn from(assignment: &Assignment) -> Self {
        Self { applied: assignment.applied, content: assignment.content }
    }
}

/// The agent's durable state. Written whole, so it never disagrees with itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// The coordinator store that is obeyed; set by the first assignment.
    pub epoch: Option<FleetEpoch>,
    /// The newest accepted desired state.
    pub assignment: Option<Assignment>,
    /// The last one tried, and how it went.
    pub attempted: Option<Attempt>,
    /// A switch to this was begun and is not known to be over.
    pub switching: Option<Placed>,
    /// Whose files are in force.
    pub written: Option<Placed>,
    /// When that switch was over.
    pub written_at: Timestamp,
    /// Whose files the newest server process read.
    pub running: Option<Placed>,
    /// The newest server process.
    pub process: Option<ProcessIdentity>,
    /// The newest that became ready.
    pub last_good: Option<Placed>,
    /// The one that became ready before `last_good`; kept for going back by hand without the coordinator's content.
    pub previous_good: VecDeque<Placed>,
    /// Launches since the first start of the agent.
    pub starts_total: u64,
    /// Enforcement paused: reason and end.
    pub pause: Option<(String, Timestamp)>,
    /// Told but not yet received, oldest first.
    pub notices: VecDeque<Notice>,
    /// The number of the next notice.
    pub notice_next: u64,
    /// Commands already done, oldest first.
    pub commands: VecDeque<u64>,
}

/// Earlier good bundles whose content is kept besides the last good one.
pub const PREVIOUS_GOOD_MAX: usize = 5;

impl Memory {
    /// Digests of the encoded bundles that must stay in the cache.
    pub fn contents(&self) -> Vec<Digest> {
        let assigned = self.assignment.as_ref().map(Placed::from);
        let single = [assigned, self.switching, self.written, self.running, self.last_good];
        let mut contents: Vec<Digest> =
            single.iter().flatten().chain(&self.previous_good).map(|placed| placed.content).collect();
        contents.sort_unstable();
        contents.dedup();
        contents
    }

    /// Records that `placed` became ready.
    pub fn good(&mut self, placed: Placed) {
        if let Some(before) = self.last_good.replace(placed)
            && before.content != placed.content
        {
            self.previous_good.retain(|kept| kept.content != before.content);
            self.previous_good.push_back(before);
            if PREVIOUS_GOOD_MAX < self.previous_good.len() {
                self.previous_good.pop_front();
            }
        }
    }
}
