//! What `revision` shows, and where a fleet directory came from.

use serde::Serialize;

use super::When;

/// The commit that a fleet directory was at, by the word of whoever applied it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub commit: String,
    /// The branch that was checked out.
    pub branch: Option<String>,
    /// Of the commit.
    pub author: String,
    /// How many files of the directory were not as committed.
    pub changed: u32,
}

impl From<&fleet::origin::Origin> for Origin {
    fn from(origin: &fleet::origin::Origin) -> Self {
        Self {
            commit: origin.commit().to_owned(),
            branch: origin.branch().map(str::to_owned),
            author: origin.author().to_owned(),
            changed: origin.changed(),
        }
    }
}

/// A revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Revision {
    pub number: u64,
    /// The one it was made on; 0: it is the first.
    pub parent: u64,
    /// Who applied it.
    pub author: String,
    pub message: String,
    pub created: When,
    /// The revision whose content it repeats, if it is a rollback.
    pub rolls_back_to: Option<u64>,
    /// `null`: not known.
    pub origin: Option<Origin>,
    /// What it changed, one sentence; only `revision show` says it.
    pub changed: Option<String>,
    /// Nodes that kept what they had; only `revision show` names them.
    pub left_out: Vec<String>,
    /// Who approved it; `null`: it needed no approval, or did not get it.
    pub approved_by: Option<String>,
    /// The proposal that it was.
    pub proposal: Option<u64>,
    /// Why it went out without the approval that it needed.
    pub broke_glass: Option<String>,
    /// `null`: nobody has signed it.
    pub signature: Option<Signature>,
}

/// A signature that the coordinator verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// As fleet.toml had it, with its comment.
    pub key: String,
    /// What is signed; only `revision show` says it, and `text`.
    pub statement: Option<String>,
    /// As `ssh-keygen` or `minisign` wrote it.
    pub text: Option<String>,
}

impl Signature {
    /// The key, for sentences.
    pub fn by(&self) -> String {
        fleet::signature::SigningKey::parse(&self.key).map_or_else(|_| self.key.clone(), |key| key.name())
    }
}
