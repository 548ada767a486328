//! Generation 0: what lay in a home before the first write into it. It is kept before the first switch, and put back
//! after a first apply that fails or when an operator asks for it. See ADR 0019.
//!
//! While it is in force nothing is enforced: the files are whoever's who writes them. The assignment that was given up
//! for it is not tried again; a newer one keeps what lies there by then as the new original.

use std::sync::Arc;

use crate::{
    bundle::{Applied, Assignment, Bundle},
    host::Original,
    ids::Generation,
    node::{Clock, Engine, Keeping, KeptOriginal, Move, Out, Phase, Placed, Purpose, TakenOriginal},
    observed::{Refusal, RefusalReason},
    words::NoticeWord,
};

impl Engine {
    fn original_at(&self, home: &str) -> Option<(KeptOriginal, Arc<Bundle>)> {
        let kept = self.memory.originals.get(home)?;
        self.bundles.get(&kept.placed.content).map(|bundle| (*kept, Arc::clone(bundle)))
    }

    /// Of the home whose files are in force; the only one before that.
    fn original(&self) -> Option<(KeptOriginal, Arc<Bundle>)> {
        match (self.written(), self.memory.originals.len()) {
            (Some((_, bundle)), _) => self.original_at(&bundle.service.home),
            (None, 1) => self.memory.originals.keys().next().and_then(|home| self.original_at(home)),
            (None, _) => None,
        }
    }

    /// The original of the home that `placed` is for.
    pub(super) fn original_of(&self, placed: Placed) -> Option<Placed> {
        let bundle = self.bundles.get(&placed.content)?;
        self.original_at(&bundle.service.home).map(|(kept, _)| kept.placed)
    }

    pub(super) fn kept_original(&self) -> Option<Original> {
        let (kept, bundle) = self.original()?;
        bundle.original(kept.placed.applied.bundle)
    }

    /// Whether a server ran with the original files.
    pub(super) fn original_serves(&self) -> bool {
        self.original().is_some_and(|(kept, _)| kept.serves)
    }

    /// Whether everything at the home of `bundle` is somebody else's: nothing was ever written there, or the original
    /// is in force.
    fn is_theirs(&self, bundle: &Bundle) -> bool {
        let home = &bundle.service.home;
        let found = match (self.memory.written, self.written()) {
            (None, _) => true,
            (Some(written), _) if written.is_original() => true,
            (Some(_), Some((_, old))) => {
                old.service.home != *home && !self.memory.originals.contains_key(home)
            }
            (Some(_), None) => false,
        };
        // Files of an interrupted switch are nobody's.
        found && self.memory.switching.is_none()
    }

    /// What the staging of `bundle` has to keep.
    pub(super) fn keeping(&self, step: Move, bundle: &Bundle) -> Keeping {
        if step.purpose != Purpose::Forward {
            return Keeping::Nothing;
        }
        let earlier = self.original_at(&bundle.service.home).map(|(_, original)| original);
        if self.is_theirs(bundle) {
            return Keeping::All { earlier };
        }
        match (earlier, self.written()) {
            (Some(original), Some((_, in_force))) => Keeping::Added { original, in_force },
            // An agent that kept none has written there: what it replaced is gone.
            (None, _) | (_, None) => Keeping::Nothing,
        }
    }

    /// The original is in the cache, durable: it is named from now on.
    pub(super) fn keep_original(&mut self, taken: &TakenOriginal) {
        let home = taken.bundle.service.home.clone();
        // Of files that nobody has replaced yet it is found out anew.
        let serves =
            self.memory.written.is_some() && self.memory.originals.get(&home).is_some_and(|kept| kept.serves);
        let applied = Applied { generation: Generation::ORIGINAL, bundle: taken.bundle.digest() };
        let placed = Placed { applied, content: taken.content };
        self.bundles.insert(taken.content, Arc::clone(&taken.bundle));
        self.memory.originals.insert(home, KeptOriginal { placed, serves });
    }

    /// Before the switch from somebody else's files, and before a server that is starting is stopped for it: whether one
    /// runs with them.
    pub(super) fn note_serving(&mut self, step: Move, bundle: &Bundle) {
        if step.purpose != Purpose::Forward || self.service.process().is_none() || !self.is_theirs(bundle) {
            return;
        }
        if let Some(kept) = self.memory.originals.get_mut(&bundle.service.home) {
            kept.serves = true;
        }
    }

    /// Whether the original was in force after the last good files were, or nothing ever was good.
    pub(super) fn is_original_newest(&self) -> bool {
        let Some((_, bundle)) = self.original() else { return false };
        match (self.memory.last_good, bundle.origin.as_ref()) {
            (None, _) => true,
            (Some(good), Some(origin)) => {
                let same_home = self
                    .bundles
                    .get(&good.content)
                    .is_none_or(|good| good.service.home == bundle.service.home);
                same_home && good.applied.generation < origin.before
            }
            (Some(_), None) => false,
        }
    }

    /// After a failure. Should a crash interrupt it, [`Engine::settle_given_up`] begins it again.
    pub(super) fn go_back_to_original(&mut self, clock: Clock, out: &mut Out) {
        let (Some(attempt), Some((kept, _))) = (&self.memory.attempted, self.original()) else { return };
        let generation = attempt.target.generation;
        self.memory.given_up = Some(generation);
        self.exits.forgive();
        let server = if kept.serves { ", and its server is started again" } else { "" };
        let text = format!("generation {generation} failed: going back to the original files{server}");
        self.notice(clock, NoticeWord::GoingBack, &text, &[]);
        self.begin(Move { to: kept.placed, purpose: Purpose::Back }, 0, out);
    }

    /// An operator wants the original back.
    ///
    /// # Errors
    /// There is none, for people.
    pub(super) fn restore_original(&mut self, clock: Clock, why: &str) -> Result<String, String> {
        let Some(written) = self.memory.written else {
            return Err("nothing was written on this node yet: its files are the original ones".to_owned());
        };
        if self.memory.switching.is_some() {
            return Err("files are being switched at this moment; try again when that is over".to_owned());
        }
        let Some(assignment) = self.memory.assignment.clone() else {
            return Err("nothing was assigned yet".to_owned());
        };
        let Some((kept, _)) = self.original() else {
            return Err("no original is kept of this home: an agent of before version 0.2 wrote there first"
                .to_owned());
        };
        let generation = assignment.applied.generation;
        self.memory.given_up = Some(generation);
        self.withdraw(&assignment, why);
        if written.is_original() {
            return Ok("the original files are in force already".to_owned());
        }
        let serves = kept.serves || self.wants_server();
        for kept in self.memory.originals.values_mut().filter(|other| other.placed == kept.placed) {
            kept.serves = serves;
        }
        self.exits.forgive();
        if let Phase::Obtaining(_) | Phase::Staging(_) | Phase::Halting(_) = self.phase {
            self.phase = Phase::Idle;
        }
        self.timers.obtain = None;
        let text =
            format!("an operator asked for the original files instead of generation {generation}: {why}");
        self.notice(clock, NoticeWord::GoingBack, &text, &[]);
        Ok("the original files are being put back".to_owned())
    }

    /// The attempt is over, so that whoever applies the same again tries it again.
    fn withdraw(&mut self, assignment: &Assignment, why: &str) {
        let still_running = self.service.process().and(self.memory.running).map(|placed| placed.applied);
        let detail = format!("an operator asked for the original files: {why}");
        let refusal = Refusal { reason: RefusalReason::Withdrawn, detail, still_running };
        let mut attempt = self
            .memory
            .attempted
            .take()
            .filter(|attempt| attempt.target == assignment.applied)
            .unwrap_or_else(|| crate::observed::Attempt::begin(assignment.applied));
        attempt.done = true;
        attempt.failure = Some(refusal);
        self.memory.attempted = Some(attempt);
    }

    /// The assignment was given up for the original files: nothing else leads anywhere.
    pub(super) fn settle_given_up(&mut self, clock: Clock, out: &mut Out) {
        let written = self.memory.written;
        if written.is_none_or(|written| written.is_original()) {
            return self.settle_lost(out);
        }
        if self.timers.obtain.is_some() {
            return;
        }
        match self.original() {
            Some((kept, _)) => self.begin(Move { to: kept.placed, purpose: Purpose::Back }, 0, out),
            None => {
                self.memory.given_up = None;
                self.notice(clock, NoticeWord::BackFailed, "the original files are not kept any more", &[]);
            }
        }
    }
}
