//! What the plan of one node is drawn against: what lies on its host, as far as that is known, and what was assigned to
//! it last. A value without I/O: the coordinator asks the hosts (ADR 0017) and hands over what came back.

use std::collections::BTreeMap;

use super::PlannedNode;
use crate::{
    bundle::{FileEntry, HomePath},
    host::{FoundEntry, FoundFile, HomeHistory, HostFacts},
    ids::Digest,
    observed::{Drift, DriftAction, DriftKind},
    spec::{
        ComposedNode,
        canonical::{self, Flat},
    },
    time::Timestamp,
    words::SourceWord,
};

/// What the plan of one node is drawn against.
#[derive(Debug, Clone, PartialEq)]
pub struct Base {
    /// What was assigned last, if anything.
    pub assigned: Option<PlannedNode>,
    /// What lies on its host.
    pub host: Knowledge,
    /// Edits by hand that stand.
    pub edits: OpenEdits,
}

/// How well a host is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Knowledge {
    /// It answered just now.
    Now(HostFacts),
    /// It answered once, and nothing was written since; it cannot be asked now.
    Seen {
        /// What it answered.
        facts: HostFacts,
        /// Why it cannot be asked.
        why: String,
    },
    /// Nothing is known of what lies there now.
    Unknown {
        /// Why.
        why: String,
    },
}

/// Which of these a plan rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The host, asked for this plan.
    Now,
    /// The host's last answer.
    Seen {
        /// When it looked.
        at: Timestamp,
        /// Why it was not asked again.
        why: String,
    },
    /// What was assigned last, since nothing newer is known of the host.
    Assigned {
        /// Why nothing is.
        why: String,
    },
    /// Nothing: neither the host nor an assignment is known.
    Nothing {
        /// Why.
        why: String,
    },
}

impl Source {
    /// Its word.
    pub const fn word(&self) -> SourceWord {
        match self {
            Source::Now => SourceWord::Now,
            Source::Seen { .. } => SourceWord::Seen,
            Source::Assigned { .. } => SourceWord::Assigned,
            Source::Nothing { .. } => SourceWord::Nothing,
        }
    }
}

/// Edits by hand that stand on a node, as its last report tells them, with who let them stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenEdits {
    /// Everything that the node reports.
    pub drift: Vec<Drift>,
    /// Enforcement is paused.
    pub pause: Option<EditPause>,
    /// Who accepted the edit of a file, where that is known.
    pub accepted_by: BTreeMap<HomePath, String>,
}

/// Who paused the enforcement of a node, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditPause {
    /// In their words.
    pub reason: String,
    /// The end.
    pub until: Timestamp,
    /// If it is known.
    pub by: Option<String>,
}

impl OpenEdits {
    /// The edit of a file that stands. What is restored at once, or written by the product, is none.
    pub(super) fn of(&self, path: &HomePath) -> Option<&Drift> {
        let by_hand = |kind| match kind {
            DriftKind::Edited | DriftKind::Deleted | DriftKind::Mode | DriftKind::Owner => true,
            DriftKind::ProductOwned | DriftKind::GeneratedEdited | DriftKind::GeneratedDeleted => false,
        };
        let stands = |action| match action {
            DriftAction::Paused | DriftAction::Accepted | DriftAction::Reported | DriftAction::TugOfWar => {
                true
            }
            DriftAction::Restored => false,
        };
        self.drift.iter().find(|drift| drift.path == *path && by_hand(drift.kind) && stands(drift.action))
    }
}

impl Base {
    /// Drawn against what was assigned alone.
    pub fn assigned(assigned: Option<PlannedNode>, why: impl Into<String>) -> Self {
        Self { assigned, host: Knowledge::Unknown { why: why.into() }, edits: OpenEdits::default() }
    }

    /// What it rests on.
    pub fn source(&self) -> Source {
        match (&self.host, &self.assigned) {
            (Knowledge::Now(_), _) => Source::Now,
            (Knowledge::Seen { facts, why }, _) => Source::Seen { at: facts.at, why: why.clone() },
            (Knowledge::Unknown { why }, Some(_)) => Source::Assigned { why: why.clone() },
            (Knowledge::Unknown { why }, None) => Source::Nothing { why: why.clone() },
        }
    }

    /// What is known of the host.
    pub fn facts(&self) -> Option<&HostFacts> {
        match &self.host {
            Knowledge::Now(facts) | Knowledge::Seen { facts, .. } => Some(facts),
            Knowledge::Unknown { .. } => None,
        }
    }

    /// Its home is as it was unpacked: nobody wrote what lies there, and nobody relies on it.
    pub fn is_unpacked(&self) -> bool {
        self.assigned.is_none()
            && self.facts().is_some_and(|facts| facts.history == HomeHistory::NeverStarted)
    }

    /// What there is in the new home of a node that moves, if that is known: nothing that lies there was assigned.
    pub(super) fn in_another_home(&self, new: &ComposedNode) -> Option<Self> {
        let old = &self.assigned.as_ref()?.bundle.service.home;
        let is_known = self.facts().is_some();
        (is_known && *old != new.bundle.service.home).then(|| Self {
            assigned: None,
            host: self.host.clone(),
            edits: OpenEdits::default(),
        })
    }

    /// Host facts that count: those of a home that was only unpacked do not.
    pub(super) fn used(&self) -> Option<&HostFacts> {
        self.facts().filter(|_| !self.is_unpacked())
    }

    /// What was assigned for a file.
    pub(super) fn assigned_file(&self, path: &HomePath) -> Option<&FileEntry> {
        self.assigned.as_ref()?.bundle.files.get(path)
    }

    /// The meaning of a file as the server is believed to have it: as it was assigned, or else as it lies there.
    pub fn meaning(&self, path: &HomePath) -> Option<Digest> {
        if let Some(assigned) = self.assigned_file(path) {
            return Some(assigned.meaning);
        }
        match self.used()?.entries.get(path)? {
            FoundEntry::File(file) => Some(file.meaning),
            FoundEntry::Absent | FoundEntry::Other { .. } | FoundEntry::Unreadable { .. } => None,
        }
    }

    /// What a path held before.
    pub(super) fn was<'a>(&'a self, path: &HomePath) -> Was<'a> {
        let on_host = self.used().and_then(|facts| Some((facts, facts.entries.get(path)?)));
        match on_host {
            Some((facts, FoundEntry::File(file))) => {
                let kept = || self.assigned.as_ref()?.contents.get(&file.digest);
                let content = facts.contents.get(&file.digest).or_else(kept).map(|content| &**content);
                Was::File(FileBefore {
                    digest: file.digest,
                    meaning: file.meaning,
                    size: file.size,
                    content,
                    found: Some(file),
                })
            }
            Some((_, FoundEntry::Other { kind })) => Was::Unusable { why: format!("what lies there {kind}") },
            Some((_, FoundEntry::Unreadable { why })) => {
                Was::Unusable { why: format!("what lies there cannot be read: {why}") }
            }
            Some((_, FoundEntry::Absent)) => Was::Absent,
            // Not asked for, so what was assigned is the next best.
            None => self.was_assigned(path),
        }
    }

    /// What was assigned for a path.
    pub(super) fn was_assigned(&self, path: &HomePath) -> Was<'_> {
        let assigned = self.assigned.as_ref();
        let Some((node, entry)) = assigned.and_then(|node| Some((node, node.bundle.files.get(path)?))) else {
            return Was::Absent;
        };
        Was::File(FileBefore {
            digest: entry.digest,
            meaning: entry.meaning,
            size: entry.size,
            content: node.contents.get(&entry.digest).map(|content| &**content),
            found: None,
        })
    }

    /// The deployment.toml that the plan is drawn against, as text.
    pub fn config_text(&self, path: &HomePath) -> Option<&str> {
        match self.was(path) {
            Was::File(file) => std::str::from_utf8(file.content?).ok(),
            Was::Absent | Was::Unusable { .. } => None,
        }
    }

    /// deployment.toml as it lies on the host. In a home that was only unpacked as well: the agent keeps what belongs to
    /// the host there too.
    pub(super) fn config_on_host(&self, path: &HomePath) -> Option<&str> {
        let facts = self.facts()?;
        if !self.is_unpacked() {
            return self.config_text(path);
        }
        let Some(FoundEntry::File(file)) = facts.entries.get(path) else { return None };
        std::str::from_utf8(facts.contents.get(&file.digest)?).ok()
    }

    /// deployment.toml as it was declared last.
    pub(super) fn declared_text(&self) -> Option<&str> {
        let assigned = self.assigned.as_ref()?;
        let entry = assigned.bundle.files.get(&assigned.bundle.service.config_path)?;
        std::str::from_utf8(assigned.contents.get(&entry.digest)?).ok()
    }
}

/// What a path held before.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Was<'a> {
    /// Nothing.
    Absent,
    /// A regular file.
    File(FileBefore<'a>),
    /// Something that the agent refuses to replace.
    Unusable { why: String },
}

/// A regular file before the change, on its host or as it was assigned.
#[derive(Clone, Copy, PartialEq)]
pub(super) struct FileBefore<'a> {
    pub(super) digest: Digest,
    pub(super) meaning: Digest,
    pub(super) size: u64,
    /// If it is at hand.
    pub(super) content: Option<&'a [u8]>,
    /// As it lies on the host; `None` if only the assignment is known.
    pub(super) found: Option<&'a FoundFile>,
}

impl std::fmt::Debug for FileBefore<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBefore").field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The keys of a text; one that is not TOML has none.
pub(super) fn keys_of(text: Option<&str>) -> Flat {
    text.and_then(|text| canonical::flatten(text).ok()).unwrap_or_default()
}
