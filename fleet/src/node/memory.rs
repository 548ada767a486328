//! What an agent must not forget: everything that a journal write makes durable, as one value.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    bundle::{Applied, Assignment, BUNDLE_SIZE_MAX, HomePath},
    ids::{Digest, FleetEpoch, Generation},
    node::key_managers::Registered,
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

impl Placed {
    /// Whether these are files that were found, not assigned.
    pub fn is_original(&self) -> bool {
        self.applied.generation == Generation::ORIGINAL
    }
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
    /// The server that runs was not launched by this agent, and it read files that mean something else than those in
    /// force. Durable: an agent that dies between the switch and the restart must still restart it.
    pub reads_other: bool,
    /// The newest that became ready.
    pub last_good: Option<Placed>,
    /// Those that became ready before `last_good`, oldest first, each once; kept for going back without the
    /// coordinator's content.
    pub previous_good: VecDeque<Placed>,
    /// `after_ready` is owed: the bundle whose hooks took the server out of service, or whose launch begins it.
    pub owed: Option<Placed>,
    /// The server that runs is to be restarted, for this reason: an operator was promised it, or it hangs. Until its
    /// stop begins.
    pub restart: Option<String>,
    /// Launches since the first start of the agent.
    pub starts_total: u64,
    /// Enforcement paused: reason and end.
    pub pause: Option<(String, Timestamp)>,
    /// Files whose edits are left alone, until when.
    pub accepted: BTreeMap<HomePath, Timestamp>,
    /// Told but not yet received, oldest first.
    pub notices: VecDeque<Notice>,
    /// The number of the next notice.
    pub notice_next: u64,
    /// Commands already done, oldest first.
    pub commands: VecDeque<u64>,
    /// By home: what lay there before the first write. Kept for good.
    pub originals: BTreeMap<String, KeptOriginal>,
    /// The assignment that was given up for the original files, because it failed or an operator asked. Only a newer
    /// assignment replaces them again.
    pub given_up: Option<Generation>,
    /// By name: Key Managers that were begun to be registered, until they are deleted or another node keeps them.
    pub registered: BTreeMap<String, Registered>,
}

/// What lay in a home before the first write, and whether a server belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptOriginal {
    /// Generation 0, and the bundle that stands for it.
    pub placed: Placed,
    /// A server ran with these files, so one should run when they are back.
    pub serves: bool,
}

/// Earlier good bundles whose content is kept besides the last good one.
pub const PREVIOUS_GOOD_MAX: usize = 5;
/// Bytes of content that those may hold together, as each of them counts it by itself. The newest is kept in any case.
pub const BACKUPS_SIZE_MAX: u64 = 2 * BUNDLE_SIZE_MAX;

impl Memory {
    /// Digests of the encoded bundles that must stay in the cache.
    pub fn contents(&self) -> Vec<Digest> {
        let assigned = self.assignment.as_ref().map(Placed::from);
        let single = [assigned, self.switching, self.written, self.running, self.last_good, self.owed];
        let originals = self.originals.values().map(|original| &original.placed);
        let registered = self.registered.values().map(|registered| &registered.by);
        let kept = single.iter().flatten().chain(&self.previous_good).chain(originals).chain(registered);
        let mut contents: Vec<Digest> = kept.map(|placed| placed.content).collect();
        contents.sort_unstable();
        contents.dedup();
        contents
    }

    /// Records that `placed` became ready.
    pub fn good(&mut self, placed: Placed) {
        let before = self.last_good.replace(placed);
        // One that comes back is the last good one now, and not an earlier one as well.
        self.previous_good.retain(|kept| kept.content != placed.content);
        if let Some(before) = before.filter(|before| before.content != placed.content) {
            self.previous_good.retain(|kept| kept.content != before.content);
            self.previous_good.push_back(before);
            if PREVIOUS_GOOD_MAX < self.previous_good.len() {
                self.previous_good.pop_front();
            }
        }
    }

    /// Lets go of the oldest backups until the rest fits [`BACKUPS_SIZE_MAX`]. `size` is that of a bundle's content.
    pub fn bound_backups(&mut self, size: impl Fn(&Digest) -> u64) {
        let mut total = 0_u64;
        let mut kept = VecDeque::new();
        for placed in self.previous_good.iter().rev() {
            total = total.saturating_add(size(&placed.content));
            if BACKUPS_SIZE_MAX < total && !kept.is_empty() {
                break;
            }
            kept.push_front(*placed);
        }
        self.previous_good = kept;
    }
}

/// One switch, recorded before the first of its files is replaced. With the names beside those files it is enough to
/// finish the switch or to undo it, whatever became of everything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchRecord {
    /// What it puts in force.
    pub target: Applied,
    /// Absolute.
    pub home: String,
    /// The files that it replaces.
    pub files: BTreeMap<HomePath, Replaced>,
    /// The files before it were a mix already, so undoing it leads nowhere.
    pub mixed: bool,
}

/// What a file was before a switch, and what it is after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// `None`: there was no file. The digest of nothing stands for a file too large to be read.
    pub old: Option<Digest>,
    /// Its new content; `None`: the file goes.
    pub new: Option<Digest>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(generation: u64, bundle: u8) -> Placed {
        let digest = Digest::of(&[bundle]);
        Placed { applied: Applied { generation: Generation(generation), bundle: digest }, content: digest }
    }

    fn after(bundles: &[u8]) -> Memory {
        let mut memory = Memory::default();
        for (generation, bundle) in (1..).zip(bundles) {
            memory.good(placed(generation, *bundle));
        }
        memory
    }

    fn backups(memory: &Memory) -> Vec<u64> {
        memory.previous_good.iter().map(|placed| placed.applied.generation.0).collect()
    }

    #[test]
    fn five_bundles_are_kept_before_the_last_good_and_one_that_returns_counts_once() {
        assert_eq!(backups(&after(&[1, 2, 3, 4, 5, 6, 7, 8])), [3, 4, 5, 6, 7]);
        let returned = after(&[1, 2, 3, 4, 5, 6, 2, 7]);
        assert_eq!(
            backups(&returned),
            [3, 4, 5, 6, 7],
            "the second is not kept under its first number as well"
        );
        assert_eq!(returned.contents().len(), 6);
        let back = after(&[1, 2, 1]);
        assert_eq!((backups(&back), back.last_good), (vec![2], Some(placed(3, 1))));
    }

    #[test]
    fn backups_are_bounded_by_size_and_the_newest_stays() {
        let mut memory = after(&[1, 2, 3, 4, 5, 6]);
        memory.bound_backups(|_| BACKUPS_SIZE_MAX / 2);
        assert_eq!(backups(&memory), [4, 5]);
        memory.bound_backups(|_| BACKUPS_SIZE_MAX * 2);
        assert_eq!(backups(&memory), [5]);
    }
}
