//! What is on a host, whatever was assigned to it: the facts that a plan is drawn against, and that an import starts
//! from. The agent collects them ([`HostFacts`] is a value without I/O); the coordinator asks for them and keeps the
//! last answer. See ADR 0017.
//!
//! Content that the product or a person wrote may hold secrets, so [`HostFacts::contents`] is never shown by `Debug`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use crate::{
    bundle::HomePath,
    ids::{Digest, Generation},
    key_manager::found::Registered,
    node::Allowed,
    preflight::{
        databases::DatabaseLimit,
        peers::{PEERS_MAX, Peer, PeerFact},
    },
    time::Timestamp,
};

/// Where every product keeps its configuration, below home.
pub const CONFIG: &str = "repository/conf/deployment.toml";
/// At most this many paths in one question: every file of the largest bundle, and deployment.toml.
pub const LOOK_PATHS_MAX: usize = crate::bundle::BUNDLE_FILES_MAX + 1;
/// At most this many bytes of content in one answer. What does not fit is answered without content.
pub const LOOK_CONTENT_MAX: u64 = 32 * 1024 * 1024;

/// At most this many lines of one list of `[allow]` are answered. An agent with a longer list answers none of them, and
/// what it refuses is then found when it refuses.
pub const ALLOWED_MAX: usize = 256;
/// The longest line of such a list, bytes.
pub const ALLOWED_TEXT_MAX: usize = 512;

/// What a coordinator asks of an agent about its home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostQuestion {
    /// Which of the agent's homes; the one whose files are in force, or the only one, if absent.
    pub home: Option<String>,
    /// Paths below home. deployment.toml and the keystores that it names are looked at in any case.
    pub paths: Vec<HomePath>,
    /// Send the content of regular files as well, except of those whose digest the asker names here.
    pub contents: WantedContents,
    /// TLS connections to try with the truststore that lies there.
    pub peers: Vec<Peer>,
    /// Look at the Admin API too, with what the files in force declare of Key Managers.
    pub key_managers: AskKeyManagers,
    /// Log in to the databases of the files in force and ask what they allow, if those files have `check_databases`.
    pub databases: AskDatabases,
}

/// Whether databases are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskDatabases {
    /// They are.
    Yes,
    /// They are not.
    #[default]
    No,
}

/// Whether the Admin API is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskKeyManagers {
    /// It is.
    Yes,
    /// It is not.
    #[default]
    No,
}

/// Which contents an answer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedContents {
    /// Facts only.
    None,
    /// Of every regular file that is at most [`crate::bundle::FILE_SIZE_MAX`] bytes and not known already.
    Unknown {
        /// Digests that the asker holds.
        known: BTreeSet<Digest>,
    },
}

/// Bytes of paths and digests in one part of a question.
const PART_BYTES: usize = 32 * 1024;

impl HostQuestion {
    /// What lies at `paths`, without content.
    pub fn facts(paths: Vec<HomePath>) -> Self {
        Self::about(paths, WantedContents::None)
    }

    /// What lies at `paths`, with content.
    pub fn contents(paths: Vec<HomePath>) -> Self {
        Self::about(paths, WantedContents::Unknown { known: BTreeSet::new() })
    }

    fn about(paths: Vec<HomePath>, contents: WantedContents) -> Self {
        let (key_managers, databases) = (AskKeyManagers::No, AskDatabases::No);
        Self { home: None, paths, contents, peers: Vec::new(), key_managers, databases }
    }

    /// The question in parts that fit into one message each; [`HostQuestion::extend`] puts them together again.
    pub fn parts(mut self) -> Vec<Self> {
        let mut paths = std::mem::take(&mut self.paths).into_iter().peekable();
        let mut digests = match &mut self.contents {
            WantedContents::None => BTreeSet::new(),
            WantedContents::Unknown { known } => std::mem::take(known),
        }
        .into_iter()
        .peekable();
        let mut parts = Vec::new();
        loop {
            let mut part = self.clone();
            let mut left = PART_BYTES;
            while let Some(path) = paths.next_if(|path| path.as_str().len() <= left) {
                left = left.saturating_sub(path.as_str().len());
                part.paths.push(path);
            }
            if let WantedContents::Unknown { known } = &mut part.contents {
                while digests.next_if(|_| 32 <= left).is_some_and(|digest| known.insert(digest)) {
                    left -= 32;
                }
            }
            parts.push(part);
            // They are few, and all in the first part.
            self.peers.clear();
            self.key_managers = AskKeyManagers::No;
            self.databases = AskDatabases::No;
            if paths.peek().is_none() && digests.peek().is_none() {
                return parts;
            }
        }
    }

    /// Whether an honest asker could ask it.
    pub fn is_bounded(&self) -> bool {
        let known = match &self.contents {
            WantedContents::None => 0,
            WantedContents::Unknown { known } => known.len(),
        };
        self.paths.len() <= LOOK_PATHS_MAX && known <= 2 * LOOK_PATHS_MAX && self.peers.len() <= PEERS_MAX
    }

    /// Adds a further part of the same question.
    pub fn extend(&mut self, part: Self) {
        self.paths.extend(part.paths);
        self.peers.extend(part.peers);
        if part.key_managers == AskKeyManagers::Yes {
            self.key_managers = AskKeyManagers::Yes;
        }
        if part.databases == AskDatabases::Yes {
            self.databases = AskDatabases::Yes;
        }
        if let (WantedContents::Unknown { known }, WantedContents::Unknown { known: more }) =
            (&mut self.contents, part.contents)
        {
            known.extend(more);
        }
    }
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
    /// What the agent's own configuration lets a fleet reach and write; `None`: it does not say.
    pub allowed: Option<Allowed>,
    /// What was shown at the other ends of the connections that were asked for; none by agents that do not know the
    /// question.
    pub peers: Vec<(Peer, PeerFact)>,
    /// What the Admin API has of Key Managers; `None`: the files in force have this node keep none, or nobody asked.
    pub registered: Option<Registered>,
    /// What the database servers of the files in force allow; none if nobody asked or nobody was let in.
    pub databases: Vec<DatabaseLimit>,
}

impl HostFacts {
    /// The regular file at a path, if there is one.
    pub fn file(&self, path: &HomePath) -> Option<&FoundFile> {
        match self.entries.get(path)? {
            FoundEntry::File(file) => Some(file),
            FoundEntry::Absent | FoundEntry::Other { .. } | FoundEntry::Unreadable { .. } => None,
        }
    }

    /// The content of the regular file at a path, if the answer holds it.
    pub fn content(&self, path: &HomePath) -> Option<&[u8]> {
        self.contents.get(&self.file(path)?.digest).map(AsRef::as_ref)
    }

    /// Digests of all regular files that were looked at.
    pub fn digests(&self) -> impl Iterator<Item = Digest> + '_ {
        self.entries.values().filter_map(|entry| match entry {
            FoundEntry::File(file) => Some(file.digest),
            FoundEntry::Absent | FoundEntry::Other { .. } | FoundEntry::Unreadable { .. } => None,
        })
    }
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
        /// Which deployment.toml it read.
        config: ConfigRead,
    },
    /// None runs.
    Stopped,
    /// The agent could not tell.
    Unknown,
}

/// Which deployment.toml a running server read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigRead {
    /// The one on disk, as far as anybody can tell.
    OnDisk,
    /// An earlier one: the file was changed after the start, and is not the one that the product recorded then.
    Earlier,
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
    /// Something that is never read and cannot be replaced.
    Other {
        /// What it is.
        kind: OtherKind,
    },
    /// It could not be read, with why.
    Unreadable {
        /// For people.
        why: String,
    },
}

/// What lies at a path where a regular file of the home should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherKind {
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// Neither of those, nor a regular file: a FIFO, a socket, a device.
    Special,
    /// Something that is mounted by itself, and so cannot be replaced as a whole.
    Mount,
    /// The path leads through a symbolic link, or through something that is no directory.
    BehindLink,
}

impl OtherKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Symlink, Self::Directory, Self::Special, Self::Mount, Self::BehindLink];

    /// One word, for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Symlink => "symlink",
            Self::Directory => "directory",
            Self::Special => "special",
            Self::Mount => "mount",
            Self::BehindLink => "behind-link",
        }
    }

    /// What an operator can do about it; follows what it is.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Symlink => {
                "it is neither followed nor replaced, so put the file itself there: \
                 cp --remove-destination \"$(readlink -f FILE)\" FILE"
            }
            Self::Directory => "move it away",
            Self::Special => "it is a pipe, a socket or a device, so remove it",
            Self::Mount => "mount its directory, or nothing",
            Self::BehindLink => "make every directory on its way a real one, or mount the other place there",
        }
    }
}

impl fmt::Display for OtherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Symlink => "is a symlink",
            Self::Directory => "is a directory",
            Self::Special => "is not a regular file",
            Self::Mount => "is mounted by itself and cannot be replaced as a whole",
            Self::BehindLink => "lies behind a symlink or something that is no directory",
        })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_of_any_length_goes_out_in_parts_and_comes_back_whole() {
        let path = |n: usize| HomePath::parse(&format!("{}/{n}", "d".repeat(900))).expect("a plain path");
        let known: BTreeSet<Digest> = (0..3_000_u32).map(|n| Digest::of(&n.to_be_bytes())).collect();
        let question = HostQuestion {
            home: Some("/opt/is".to_owned()),
            paths: (0..LOOK_PATHS_MAX).map(path).collect(),
            contents: WantedContents::Unknown { known },
            peers: Vec::new(),
            key_managers: AskKeyManagers::Yes,
            databases: AskDatabases::Yes,
        };
        let parts = question.clone().parts();
        let bytes = |part: &HostQuestion| part.paths.iter().map(|path| path.as_str().len()).sum::<usize>();
        assert!(1 < parts.len() && parts.iter().all(|part| bytes(part) <= PART_BYTES));
        let whole = parts.into_iter().reduce(|mut whole, part| {
            whole.extend(part);
            whole
        });
        assert_eq!(whole, Some(question));
        let small = HostQuestion::facts(Vec::new());
        assert_eq!(small.clone().parts(), [small]);
    }
}
