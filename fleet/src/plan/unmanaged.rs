//! What nobody declared and an apply would replace or remove: keys and files that a person or the product wrote before
//! Convoy came, and edits by hand that stand. It needs an explicit yes.

use super::{
    Base, Desired, Was,
    base::{FileBefore, keys_of},
};
use crate::{
    bundle::{DriftPolicy, FileEntry, HomePath},
    drift::keys::judged_as,
    host::{FoundEntry, HomeHistory},
    ids::{Digest, NodeName},
    observed::{Drift, DriftAction},
    spec::{ComposedNode, canonical},
    time::Timestamp,
};

/// Something on a host that nobody declared and that the apply would replace or remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmanaged {
    /// Which file.
    pub path: HomePath,
    /// What is there.
    pub kind: UnmanagedKind,
    /// Keys of deployment.toml that are lost; empty for other files.
    pub keys: Vec<String>,
    /// Of the file as it lies there, where that is known: another content needs another yes.
    pub digest: Option<Digest>,
}

/// What is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnmanagedKind {
    /// Keys of deployment.toml that nobody declared. They go.
    Keys,
    /// A file that nobody declared. It is replaced.
    File,
    /// An edit that stands while enforcement is paused. It is replaced.
    PausedEdit {
        /// In the words of who paused.
        reason: String,
        /// When the pause ends.
        until: Timestamp,
        /// Who paused, if that is known.
        by: Option<String>,
    },
    /// An edit that somebody accepted. It is replaced.
    AcceptedEdit {
        /// Who, if that is known.
        by: Option<String>,
    },
    /// An edit that is only reported, as the fleet directory says or after a tug-of-war. It is replaced.
    ReportedEdit,
}

impl UnmanagedKind {
    /// The word used in every output.
    pub const fn as_str(&self) -> &'static str {
        match self {
            UnmanagedKind::Keys => "keys",
            UnmanagedKind::File => "file",
            UnmanagedKind::PausedEdit { .. } => "paused-edit",
            UnmanagedKind::AcceptedEdit { .. } => "accepted-edit",
            UnmanagedKind::ReportedEdit => "reported-edit",
        }
    }
}

/// What a yes was said to: the same for the same things on the same nodes. `None`: there is nothing to say yes to.
pub fn digest_of_unmanaged<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a [Unmanaged])>,
) -> Option<Digest> {
    let mut text = String::new();
    for (node, unmanaged) in nodes {
        for lost in unmanaged {
            let digest = lost.digest.map(|digest| digest.to_string()).unwrap_or_default();
            let keys = lost.keys.join("\0");
            text += &format!("{node}\0{}\0{}\0{digest}\0{keys}\n", lost.path, lost.kind.as_str());
        }
    }
    (!text.is_empty()).then(|| Digest::of(text.as_bytes()))
}

/// What came with the product and is replaced in a home that never started. Nobody wrote it, so it needs no yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// Keys of its deployment.toml that go, if it is known.
    pub keys: usize,
    /// Files that are replaced, deployment.toml among them.
    pub files: usize,
}

/// What a node would lose, as [`compare`](super::compare) says it, without the rest of its plan: the differences of a
/// large fleet take more memory than the fleet.
pub fn unmanaged(base: &Base, new: &ComposedNode) -> Vec<Unmanaged> {
    let elsewhere = base.in_another_home(new);
    let there = elsewhere.as_ref().unwrap_or(base);
    found(there, &Desired::over(there, new))
}

/// Everything that needs a yes.
pub(super) fn found(base: &Base, desired: &Desired<'_>) -> Vec<Unmanaged> {
    desired.lasting().filter_map(|(path, entry)| of_file(base, desired, (path, entry))).collect()
}

fn of_file(base: &Base, desired: &Desired<'_>, (path, entry): (&HomePath, &FileEntry)) -> Option<Unmanaged> {
    match base.assigned_file(path) {
        Some(assigned) => edited(base, desired, (path, entry, assigned)),
        None => undeclared(base, desired, (path, entry)),
    }
}

/// A file that was never assigned and lies there.
fn undeclared(
    base: &Base,
    desired: &Desired<'_>,
    (path, entry): (&HomePath, &FileEntry),
) -> Option<Unmanaged> {
    let Was::File(was) = base.was(path) else { return None };
    if desired.means_the_same(&was, path, entry) {
        return None;
    }
    let unmanaged = |kind, keys| Unmanaged { path: path.clone(), kind, keys, digest: Some(was.digest) };
    if !desired.is_config(path) || was.content.is_none() {
        return Some(unmanaged(UnmanagedKind::File, Vec::new()));
    }
    let keys = lost_keys(&was, desired, |_| true);
    (!keys.is_empty()).then(|| unmanaged(UnmanagedKind::Keys, keys))
}

/// An assigned file that somebody changed since, with the change standing.
fn edited(
    base: &Base,
    desired: &Desired<'_>,
    (path, entry, assigned): (&HomePath, &FileEntry, &FileEntry),
) -> Option<Unmanaged> {
    let reported = base.edits.of(path);
    let was = base.was(path);
    let on_host = match &was {
        Was::File(was) if was.found.is_some() => Some(was),
        Was::File(_) | Was::Absent | Was::Unusable { .. } => None,
    };
    let (keys, digest) = match (on_host, reported) {
        (Some(was), _) => {
            if !is_edited(base, desired, (path, was, assigned)) || desired.means_the_same(was, path, entry) {
                return None;
            }
            let declared = keys_of(base.declared_text());
            let disk = keys_of(base.config_text(path));
            let is_own = |key: &str| disk.get(key) != declared.get(key);
            let keys = if desired.is_config(path) { changed_keys(was, desired, is_own) } else { Vec::new() };
            (keys, Some(was.digest))
        }
        // Only the report is known.
        (None, Some(drift)) => (drift.keys.clone(), None),
        (None, None) => return None,
    };
    if let Some(kind) = kind_of(base, (path, assigned), reported) {
        return Some(Unmanaged { path: path.clone(), kind, keys, digest });
    }
    // The agent undoes edits of this file, but not of these keys: they stood by a rule that is no more.
    let rules = base.assigned.as_ref().map(|old| &old.bundle.drift_keys)?;
    let disk = keys_of(base.config_text(path));
    let declared = keys_of(base.declared_text());
    let stood = |key: &String| {
        rules.policy_in(&judged_as(key, (&declared, &disk)), assigned.drift) != DriftPolicy::Enforce
    };
    let keys: Vec<String> = keys.into_iter().filter(stood).collect();
    (!keys.is_empty()).then(|| Unmanaged {
        path: path.clone(),
        kind: UnmanagedKind::ReportedEdit,
        keys,
        digest,
    })
}

/// Whether what lies there says something else than what was assigned. What the product itself writes does not count.
fn is_edited(
    base: &Base,
    desired: &Desired<'_>,
    (path, was, assigned): (&HomePath, &FileBefore<'_>, &FileEntry),
) -> bool {
    if was.digest == assigned.digest || was.meaning == assigned.meaning {
        return false;
    }
    if !desired.is_config(path) {
        return true;
    }
    let (disk, declared) = (keys_of(base.config_text(path)), keys_of(base.declared_text()));
    let owned = &desired.node.bundle.service.owned_keys;
    !canonical::differing_keys(&disk, &declared, owned).is_empty()
}

/// Why an edit stands. `None`: it does not, the agent is about to undo it.
fn kind_of(
    base: &Base,
    (path, assigned): (&HomePath, &FileEntry),
    reported: Option<&Drift>,
) -> Option<UnmanagedKind> {
    let accepted = || UnmanagedKind::AcceptedEdit { by: base.edits.accepted_by.get(path).cloned() };
    let paused = || {
        let pause = base.edits.pause.clone()?;
        Some(UnmanagedKind::PausedEdit { reason: pause.reason, until: pause.until, by: pause.by })
    };
    match (reported.map(|drift| drift.action), assigned.drift) {
        (Some(DriftAction::Accepted), _) => Some(accepted()),
        (_, DriftPolicy::Ignore) => None,
        (Some(DriftAction::Paused), _) => paused().or(Some(UnmanagedKind::ReportedEdit)),
        (Some(DriftAction::Reported | DriftAction::TugOfWar), _) => {
            paused().or(Some(UnmanagedKind::ReportedEdit))
        }
        (Some(DriftAction::Restored) | None, DriftPolicy::Report) => {
            paused().or(Some(UnmanagedKind::ReportedEdit))
        }
        (Some(DriftAction::Restored) | None, DriftPolicy::Enforce) => paused(),
    }
}

/// Keys that lie there and are not in what will be written.
fn lost_keys(was: &FileBefore<'_>, desired: &Desired<'_>, counts: impl Fn(&str) -> bool) -> Vec<String> {
    let after = keys_of(Some(&desired.config));
    let before = keys_of(was.content.and_then(|content| std::str::from_utf8(content).ok()));
    before.into_keys().filter(|key| !after.contains_key(key) && counts(key)).collect()
}

/// Keys whose values will not be those that lie there.
fn changed_keys(was: &FileBefore<'_>, desired: &Desired<'_>, counts: impl Fn(&str) -> bool) -> Vec<String> {
    let after = keys_of(Some(&desired.config));
    let before = keys_of(was.content.and_then(|content| std::str::from_utf8(content).ok()));
    let differing = canonical::differing_keys(&before, &after, &[]);
    differing.into_iter().filter(|key| counts(key)).collect()
}

/// What is replaced in a home that nobody used.
pub(super) fn unpacked(base: &Base, desired: &Desired<'_>) -> Option<Unpacked> {
    let facts = base.facts().filter(|facts| facts.history == HomeHistory::NeverStarted)?;
    if base.assigned.is_some() {
        return None;
    }
    let mut unpacked = Unpacked { keys: 0, files: 0 };
    for (path, entry) in desired.lasting() {
        let Some(FoundEntry::File(file)) = facts.entries.get(path) else { continue };
        if file.meaning == desired.meaning(path, entry) {
            continue;
        }
        unpacked.files += 1;
        if desired.is_config(path) {
            let text = facts.contents.get(&file.digest).and_then(|content| std::str::from_utf8(content).ok());
            unpacked.keys = keys_of(text).len();
        }
    }
    (unpacked.files != 0).then_some(unpacked)
}
