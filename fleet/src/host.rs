//! What is on a host, whatever was assigned to it: the facts that a plan is drawn against, and that an import starts
//! from. The agent collects them ([`HostFacts`] is a value without I/O); the coordinator asks for them and keeps the
//! last answer. See ADR 0017.
//!
//! Content that the product or a person wrote may hold secrets, so [`HostFacts::contents`] is never shown by `Debug`.

use std::{collections::BTreeMap, fmt, sync::Arc};

use crate::{
    bundle::HomePath,
    ids::{Digest, Generation},
    time::Timestamp,
};

/// At most this many paths in one question: every file of the largest bundle, and deployment.toml.
pub const LOOK_PATHS_MAX: usize = crate::bundle::BUNDLE_FILES_MAX + 1;
/// At most this many bytes of content in one answer. What does not fit is answered without content.
pub const LOOK_CONTENT_MAX: u64 = 32 * 1024 * 1024;

/// What a coordinator asks of an agent about its home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostQuestion {
    /// Paths below home. deployment.toml and the keystores that it names are looked at in any case.
    pub paths: Vec<HomePath>,
    /// Send the content of regular files as well, except of those whose digest the asker names here.
    pub contents: WantedContents,
}

/// Which contents an answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedContents {
    /// Facts only.
    None,
    /// Of every regular file that is at most [`crate::bundle::FILE_SIZE_MAX`] bytes and not known already.
    Unknown {
        /// Digests that the asker holds.
        known: std::collections::BTreeSet<Digest>,
    },
}

/// The answer of one agent about one home.
#[derive(Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// When the agent looked, by its own clock.
    pub at: Timestamp,
    /// The home that was looked at.
    pub home: String,
    /// The product that the home holds, if it is one that Convoy can tell.
    pub product: Option<FoundProduct>,
    /// `[server] offset` of the deployment.toml on disk; 0 if it names none; `None` if it cannot be read.
    pub offset: Option<u16>,
    /// Whether a server runs from this home.
    pub server: FoundServer,
    /// Whether a server ever ran from this home. A home that never started is new: what its unpacked
    /// deployment.toml holds was written by nobody.
    pub history: HomeHistory,
    /// Keystores and truststores that the deployment.toml on disk names, below home.
    pub keystores: Vec<HomePath>,
    /// What lies at each path that was asked for, at deployment.toml and at the keystores.
    pub entries: BTreeMap<HomePath, FoundEntry>,
    /// Contents by digest, as far as they were asked for and fit.
    pub contents: BTreeMap<Digest, Arc<[u8]>>,
    /// What the agent keeps of the time before Convoy.
    pub original: Option<Original>,
}

impl fmt::Debug for HostFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFacts")
            .field("at", &self.at)
            .field("home", &self.home)
            .field("product", &self.product)
            .field("server", &self.server)
            .field("entries", &self.entries)
            .field("contents", &self.contents.len())
            .finish_non_exhaustive()
    }
}

/// A product as the home itself names it (version file, carbon.xml, script).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundProduct {
    /// Catalogue id if the catalogue knows it, e.g. `wso2is-7.2`.
    pub id: Option<String>,
    /// The product's own name for itself, e.g. `WSO2 Identity Server`.
    pub name: String,
    /// As the home says it, e.g. `7.2.0`.
    pub version: String,
}

/// Whether a server runs from a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundServer {
    /// A process with this home runs since then.
    Running {
        /// By the host's clock.
        since: Timestamp,
    },
    /// None runs.
    Stopped,
    /// The agent could not tell.
    Unknown,
}

/// Whether a home was ever used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HomeHistory {
    /// No record of generated files, no log, no process: as it was unpacked.
    NeverStarted,
    /// A server ran from it.
    Started,
}

/// What lies at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundEntry {
    /// Nothing.
    Absent,
    /// A regular file.
    File(FoundFile),
    /// A link, a directory, a device, a FIFO or a mount: never read.
    Other {
        /// One word: `symlink`, `directory`, `fifo`, `device`, `socket`, `mount`.
        kind: String,
    },
    /// It could not be read, with why.
    Unreadable {
        /// For people.
        why: String,
    },
}

/// A regular file on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFile {
    /// Of the content.
    pub digest: Digest,
    /// Equal meaning, as in [`crate::bundle::FileEntry::meaning`].
    pub meaning: Digest,
    /// Bytes.
    pub size: u64,
    /// Permission bits; 0 where the platform has none.
    pub mode: u32,
    /// Owner by name, or by number if the host knows no name for it.
    pub owner: String,
    /// Group likewise.
    pub group: String,
    /// When it was last changed, by the host's clock.
    pub modified: Timestamp,
}

/// What the agent keeps of a home from before its first write ("generation 0").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Original {
    /// When it was taken.
    pub taken: Timestamp,
    /// Digest of its manifest; the same original has the same one.
    pub digest: Digest,
    /// The first generation that was written over it.
    pub before: Generation,
    /// How many files it holds, absent ones included.
    pub files: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}
