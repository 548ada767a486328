//! Checkpoints of the record: how far it had come, signed by the coordinator, as a word that fits into a line of a log
//! (ADR 0094). A chain does not show that its end was cut off; a log that is kept elsewhere does, if a checkpoint is in it.
//!
//! What was removed for its age leaves such a word as well: the record goes on from there. Whether a signature fits is
//! verified by whoever has the coordinator's certificate.

#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

use super::{Head, Link};
use crate::{ids::FleetEpoch, time::Timestamp};

/// What every checkpoint begins with.
const PREFIX: &str = "convoy-audit-v1.";
/// Characters of a checkpoint, more than any has.
const LENGTH_MAX: usize = 1024;
/// A checkpoint is due after so many entries.
pub const ENTRIES: u64 = 100;
/// And for fewer entries after this time.
pub const EVERY: Duration = Duration::from_hours(1);
/// How long entries are kept: 400 days, so that a year can be looked at after its end.
pub const KEPT: Duration = Duration::from_hours(400 * 24);

/// What a checkpoint says of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The record goes this far.
    Reached,
    /// Everything up to here was removed for its age.
    Removed,
}

impl Meaning {
    const ALL: [Self; 2] = [Self::Reached, Self::Removed];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Reached => "reached",
            Self::Removed => "removed",
        }
    }
}

/// A place in the record, to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// What is said of it.
    pub meaning: Meaning,
    /// Of the store.
    pub epoch: FleetEpoch,
    /// The place.
    pub head: Head,
    /// When it was signed, by the coordinator's clock.
    pub at: Timestamp,
}

/// What is signed. It never is what else the authority signs: certificates begin with another byte.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { meaning, epoch, head, at } = self;
        write!(f, "{PREFIX}{}.{epoch}.{}.{}.{}", meaning.as_str(), head.seq, head.link, at.0)
    }
}

/// A checkpoint with its signature, which is not verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// By the coordinator's authority over the text of the checkpoint: ECDSA with SHA-256, ASN.1.
    pub signature: Vec<u8>,
}

/// One word: the checkpoint, a dot and the signature in hexadecimal digits.
impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.checkpoint)?;
        self.signature.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Signed {
    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        let mut parts = word.strip_prefix(PREFIX)?.split('.');
        let mut next = || parts.next();
        let word = next()?;
        let meaning = Meaning::ALL.into_iter().find(|meaning| meaning.as_str() == word)?;
        let epoch = FleetEpoch::from_hex(next()?)?;
        let head = Head { seq: next()?.parse().ok()?, link: Link::from_hex(next()?)? };
        let at = Timestamp(next()?.parse().ok()?);
        let signature = bytes(next()?)?;
        let checkpoint = Checkpoint { meaning, epoch, head, at };
        parts.next().is_none().then_some(Self { checkpoint, signature })
    }

    /// All that are somewhere in a text, such as a log in any format.
    pub fn in_text(text: &str) -> impl Iterator<Item = Self> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        text.match_indices(PREFIX).filter_map(move |(at, _)| {
            let rest = &text[at..];
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            // A sentence may end with it.
            let word = rest[..end].trim_end_matches('.');
            (word.len() <= LENGTH_MAX).then(|| Self::parse(word)).flatten()
        })
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Whether another checkpoint is due. `last` is the entry and the time of the last one since the start; the first one of
/// a start is due at once.
pub fn is_due(last: Option<(u64, Timestamp)>, reached: u64, now: Timestamp) -> bool {
    let Some((seq, at)) = last else { return reached != 0 };
    match reached.saturating_sub(seq) {
        0 => false,
        // A clock that was set back does not put it off for ever.
        fewer if fewer < ENTRIES => now < at || at.after(EVERY) <= now,
        _ => true,
    }
}

/// The last entry that may be removed for its age, of the oldest ones in their order; `None`: none may.
///
/// Time goes only as far as the newest entry, so that a clock that jumps does not remove a year; and what stands behind an
/// entry that is young enough stays, so that the record has no holes.
pub fn removable(
    oldest: impl IntoIterator<Item = (u64, Timestamp)>,
    newest: Timestamp,
    now: Timestamp,
) -> Option<u64> {
    let limit = now.min(newest);
    let is_old = |(_, at): &(u64, Timestamp)| at.after(KEPT) < limit;
    oldest.into_iter().take_while(is_old).map(|(seq, _)| seq).last()
}
