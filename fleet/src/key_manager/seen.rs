//! What the agent that keeps a Key Manager says of it, for people who ask how it stands.

use std::fmt;

use crate::time::Timestamp;

/// How the registration of one Key Manager stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As declared when it was last looked at.
    Registered,
    /// Not written yet, or written anew soon.
    Waiting,
    /// Somebody or something has it otherwise, and it was left so.
    Differs,
    /// It could not be written or looked at; the concern of its name says why.
    Failing,
    /// An agent of a later version says something that this one does not know.
    Unknown,
}

impl State {
    /// Every one with its stable word.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Registered, "registered"),
        (Self::Waiting, "waiting"),
        (Self::Differs, "differs"),
        (Self::Failing, "failing"),
        (Self::Unknown, "unknown"),
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("unknown", |(_, word)| word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One Key Manager that the files in force have this node keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// As declared.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// When the Admin API last answered about it, by the agent's clock; `None`: not since the agent started.
    pub looked: Option<Timestamp>,
}
