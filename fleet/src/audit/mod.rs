//! Who did what, as a chain: each entry's hash covers the one before, so an entry that is changed, removed or moved shows.
//!
//! The coordinator stores an entry in the same transaction as its effect; this module says what an entry is, how its hash
//! is made, and whether a row of entries is whole. A chain alone does not show that its end was cut off: for that somebody
//! has to remember how far it had come ([`Verifier::reaches`]).

pub mod checkpoint;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, net::IpAddr};

use sha2::{Digest as _, Sha256};

use crate::{
    access::Action,
    ids::{FleetEpoch, NodeName},
    time::Timestamp,
};

/// What every hash begins with: a hash of another format never looks like one of this.
const DOMAIN: &[u8] = b"convoy audit v1\0";

/// The hash of an entry and of all before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link(pub [u8; 32]);

impl Link {
    /// Before the first entry.
    pub const NONE: Self = Self([0; 32]);

    /// Reads 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        crate::ids::Digest::from_hex(text).map(|digest| Self(digest.0))
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the entry; 0: none.
    pub seq: u64,
    /// Its hash.
    pub link: Link,
}

impl Head {
    /// Of a chain without entries.
    pub const NONE: Self = Self { seq: 0, link: Link::NONE };
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Act {
    /// Something that a role allows.
    Of(Action),
    /// An operator joined with a token.
    Join,
    /// Any call, with a certificate that counts no longer.
    Call,
    /// The coordinator itself ended a proposal over which nobody had decided in time.
    Expire,
}

/// Who acts, where nobody did and the coordinator did by itself. Such entries name no certificate.
pub const COORDINATOR: &str = "coordinator";

impl Act {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Of(action) => action.as_str(),
            Self::Join => "join",
            Self::Call => "call",
            Self::Expire => "expire",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        let all = Action::ALL.into_iter().map(Self::Of).chain([Self::Join, Self::Call, Self::Expire]);
        all.into_iter().find(|act| act.as_str() == text)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored together with this entry.
    Done,
    /// It was about to be done by somebody else, an agent; another entry says what became of it.
    Ordered,
    /// What became of an order.
    Answered {
        /// The entry of the order.
        order: u64,
        /// Whether it was done.
        result: Answer,
    },
    /// A guard said no.
    Refused {
        /// Why.
        why: String,
    },
    /// They may not do it.
    Denied {
        /// Why, and who may.
        why: String,
    },
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// It was not.
    NotDone {
        /// Why.
        why: String,
    },
    /// Nobody knows.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Outcome {
    /// The stable word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Ordered => "ordered",
            Self::Answered { result: Answer::Done, .. } => "was-done",
            Self::Answered { result: Answer::NotDone { .. }, .. } => "not-done",
            Self::Answered { result: Answer::Unknown { .. }, .. } => "unknown",
            Self::Refused { .. } => "refused",
            Self::Denied { .. } => "denied",
        }
    }

    /// Why, where there is a reason.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Done | Self::Ordered | Self::Answered { result: Answer::Done, .. } => None,
            Self::Answered { result: Answer::NotDone { why } | Answer::Unknown { why }, .. }
            | Self::Refused { why }
            | Self::Denied { why } => Some(why),
        }
    }

    /// The entry of the order that this answers.
    pub const fn order(&self) -> Option<u64> {
        match self {
            Self::Answered { order, .. } => Some(*order),
            Self::Done | Self::Ordered | Self::Refused { .. } | Self::Denied { .. } => None,
        }
    }

    /// From the word and what belongs to it.
    pub fn parse(word: &str, order: u64, why: &str) -> Option<Self> {
        let why = || why.to_owned();
        Some(match word {
            "done" => Self::Done,
            "ordered" => Self::Ordered,
            "was-done" => Self::Answered { order, result: Answer::Done },
            "not-done" => Self::Answered { order, result: Answer::NotDone { why: why() } },
            "unknown" => Self::Answered { order, result: Answer::Unknown { why: why() } },
            "refused" => Self::Refused { why: why() },
            "denied" => Self::Denied { why: why() },
            _ => return None,
        })
    }
}

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// From 1, without gaps.
    pub seq: u64,
    /// When, by the coordinator's clock.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// By which certificate, hexadecimal; empty if by none.
    pub serial: String,
    /// The address that their connection came from; `None`: not known, or nobody acted.
    pub from: Option<IpAddr>,
    /// What.
    pub act: Act,
    /// The node that it is about, if it is about one.
    pub node: Option<NodeName>,
    /// One sentence for people, with their reason. Never a secret.
    pub text: String,
    /// What became of it.
    pub outcome: Outcome,
}

impl Entry {
    /// Its fields, each with its length before it, so that no two entries have the same bytes.
    fn canonical(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut number = |value: u64| bytes.extend_from_slice(&value.to_be_bytes());
        number(self.seq);
        number(u64::from_be_bytes(self.at.0.to_be_bytes()));
        number(self.outcome.order().unwrap_or(0));
        let node = self.node.as_ref().map_or("", NodeName::as_str);
        let why = self.outcome.why().unwrap_or("");
        let texts = [
            self.actor.as_str(),
            self.serial.as_str(),
            self.act.as_str(),
            node,
            self.text.as_str(),
            self.outcome.as_str(),
            why,
        ];
        // Entries of before this field are as they were; with one more field none has the bytes of another.
        let from = self.from.map(|from| from.to_string());
        for text in texts.into_iter().chain(from.as_deref()) {
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes
    }
}

/// The hash of an entry, which covers all before it, in the store of this epoch.
pub fn link(epoch: FleetEpoch, previous: &Link, entry: &Entry) -> Link {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(epoch.0);
    hash.update(previous.0);
    hash.update(entry.canonical());
    Link(hash.finalize().into())
}

/// Why a row of entries is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Entries are missing, or stand in another order.
    #[error("after entry {after} comes entry {found}; {} should", after + 1)]
    Order {
        /// The last one that is whole.
        after: u64,
        /// The one that follows.
        found: u64,
    },
    /// An entry is not what was written, or what was before it is not.
    #[error("entry {seq} was changed, or something before it was")]
    Changed {
        /// Which.
        seq: u64,
    },
    /// The end is missing.
    #[error(
        "the record ends at entry {last}, and entry {seen} was seen before: what came after {last} is lost"
    )]
    Cut {
        /// The last one that is there.
        last: u64,
        /// The one that somebody remembers.
        seen: u64,
    },
    /// It was written anew from somewhere on.
    #[error("entry {seq} is another one than was seen before: the record was written anew")]
    Rewritten {
        /// The one that somebody remembers.
        seq: u64,
    },
}

/// Goes through a chain, entry by entry.
#[derive(Debug, Clone)]
pub struct Verifier {
    epoch: FleetEpoch,
    from: Head,
    last: Head,
    /// What somebody remembers of the chain: numbers, each with every hash that it was said to have.
    seen: BTreeSet<(u64, Link)>,
}

impl Verifier {
    /// Begins after `from`: [`Head::NONE`], or the last entry that was removed for its age. `seen` is what somebody
    /// remembers; what they remember of entries before `from` cannot be compared any more.
    pub fn new(epoch: FleetEpoch, from: Head, seen: impl IntoIterator<Item = Head>) -> Self {
        let seen = seen.into_iter().map(|head| (head.seq, head.link)).collect();
        Self { epoch, from, last: from, seen }
    }

    /// The last entry that was whole.
    pub fn last(&self) -> Head {
        self.last
    }

    /// Takes the next entry with the hash that is stored beside it.
    ///
    /// # Errors
    /// It is not the next one, or not what was written.
    pub fn take(&mut self, entry: &Entry, stored: &Link) -> Result<(), Broken> {
        if entry.seq != self.last.seq + 1 {
            return Err(Broken::Order { after: self.last.seq, found: entry.seq });
        }
        let link = link(self.epoch, &self.last.link, entry);
        if link != *stored {
            return Err(Broken::Changed { seq: entry.seq });
        }
        self.last = Head { seq: entry.seq, link };
        self.is_as_seen(self.last)
    }

    /// Whether a place has the hash that it is remembered with.
    fn is_as_seen(&self, head: Head) -> Result<(), Broken> {
        let mut seen = self.seen.range((head.seq, Link::NONE)..=(head.seq, Link([0xff; 32])));
        if seen.any(|(_, link)| *link != head.link) {
            Err(Broken::Rewritten { seq: head.seq })
        } else {
            Ok(())
        }
    }

    /// Whether the chain comes as far as somebody remembers, after all its entries were taken, and begins where they do.
    ///
    /// # Errors
    /// Its end is missing, or it goes on from something else.
    pub fn reaches(&self) -> Result<(), Broken> {
        self.is_as_seen(self.from)?;
        match self.seen.last() {
            Some((seen, _)) if self.last.seq < *seen => Err(Broken::Cut { last: self.last.seq, seen: *seen }),
            Some(_) | None => Ok(()),
        }
    }
}
