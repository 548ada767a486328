//! What an apply would change on a node, as values: files, deployment.toml key by key, service settings, whether the
//! server restarts and why, and what it would replace that nobody declared. Drawn against the host, as far as it is known
//! ([`Base`], ADR 0017). Called by the coordinator for `convoy plan`; printed by the CLI. Never holds a secret: their
//! values are masked here, before anything leaves.

mod adoption;
mod base;
mod diff;
mod effects;
mod note;
mod refused;
mod registered;
mod settings;
mod unmanaged;
mod untrusted;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use adoption::Adoption;
pub use base::{Base, EditPause, Knowledge, OpenEdits, Source};
pub use diff::{DIFF_LINES_MAX, DiffLine, FileDiff, LineKind, Unshown};
pub use effects::{Before, DERIVED_MAX, DerivedChange, Effects, RenderedChange, RenderedKind, effects};
pub use note::{Groups, Note, closed_windows, policy_changes, renamed};
pub use refused::refused_by_agents;
pub use registered::registered;
pub use unmanaged::{Unmanaged, UnmanagedKind, Unpacked, digest_of_unmanaged, unmanaged};
pub use untrusted::untrusted;

use base::{FileBefore, Was, keys_of};
use diff::Side;

use crate::{
    bundle::{Bundle, DriftPolicy, FileEntry, HomePath, RestartClass},
    drift::{self, Occasion, keys::judged_as},
    finding::{MASK, Place, is_hidden_key, mask_line},
    ids::{Digest, GroupName, ZoneName},
    mask,
    restart::RestartDecision,
    spec::{
        ComposedNode, Origins,
        canonical::{self, Flat},
    },
};

/// What the coordinator has stored of a node: the bundle it assigned last, with its contents.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    /// The bundle.
    pub bundle: Bundle,
    /// By digest. Content that is missing is reported as not shown.
    pub contents: BTreeMap<Digest, Arc<[u8]>>,
}

impl PlannedNode {
    /// As a directory would have composed it, but for where its values were typed: nobody knows that any more.
    pub fn composed(self, group: GroupName, host: String, zone: Option<ZoneName>) -> ComposedNode {
        let config = self.bundle.files.get(&self.bundle.service.config_path);
        let text = config.and_then(|entry| self.contents.get(&entry.digest));
        let config_text = text.map(|text| String::from_utf8_lossy(text).into()).unwrap_or_default();
        ComposedNode {
            group,
            host,
            zone,
            config_text,
            bundle: self.bundle,
            gates: Vec::new(),
            contents: self.contents,
            origins: Origins::default(),
            secret_keys: BTreeSet::new(),
            secrets: BTreeSet::new(),
        }
    }
}

/// What happens to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChangeKind {
    /// Nothing lies there, as far as is known.
    Added,
    /// Other content.
    Changed,
    /// Same content; mode, drift policy, restart class or secrecy differ.
    Settings,
    /// No longer managed. The file stays on the host as it is.
    Released,
}

impl FileChangeKind {
    /// The word used in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            FileChangeKind::Added => "added",
            FileChangeKind::Changed => "changed",
            FileChangeKind::Settings => "settings",
            FileChangeKind::Released => "released",
        }
    }
}

/// One file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChange {
    /// Below home.
    pub path: HomePath,
    /// What happens.
    pub kind: FileChangeKind,
    /// What this file's change asks of the server: `None` when only bytes changed and not what the server reads.
    pub restart: RestartClass,
    /// Settings that differ, as `mode 0640 -> 0600`.
    pub settings: Vec<String>,
    /// The lines that differ, masked.
    pub diff: FileDiff,
    /// Bytes before and after; 0: absent, or not known.
    pub sizes: Sizes,
    /// What else there is to say of what lies there, one clause; empty if nothing is.
    pub note: String,
}

/// Bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sizes {
    /// Before.
    pub old: u64,
    /// After.
    pub new: u64,
}

/// One deployment.toml key that differs. Values are TOML text, masked if secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// Flat key, e.g. `event_listener[0].properties.username`.
    pub key: String,
    /// Before; absent if the key is new.
    pub old: Option<String>,
    /// After; absent if the key goes.
    pub new: Option<String>,
    /// The values are hidden.
    pub secret: bool,
    /// Where the new value was typed.
    pub place: Option<Place>,
}

/// One service setting that differs, masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingChange {
    /// As in docs/fleet-format.md: `args`, `env.JAVA_OPTS`, `start_deadline`.
    pub setting: String,
    /// Before; empty if it was not set.
    pub old: String,
    /// After; empty if it is not set any more.
    pub new: String,
}

/// What would change on one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePlan {
    /// Nothing was ever assigned to this node.
    pub is_new: bool,
    /// What it was drawn against.
    pub source: Source,
    /// Sorted by path.
    pub files: Vec<FileChange>,
    /// Sorted by key.
    pub keys: Vec<KeyChange>,
    /// Keys that the host has otherwise and keeps, by `[drift.keys]`; sorted. What was declared is the new value.
    pub kept: Vec<KeyChange>,
    /// Sorted by name.
    pub settings: Vec<SettingChange>,
    /// Whether the server restarts, and why.
    pub restart: RestartDecision,
    /// It is a load balancer, which reloads where a server restarts.
    pub is_balancer: bool,
    /// What becomes of the server that this node has before Convoy manages it; `None` if Convoy does already, or if
    /// its host is not known.
    pub adoption: Option<Adoption>,
    /// What nobody declared and the apply would replace or remove. Needs an explicit yes.
    pub unmanaged: Vec<Unmanaged>,
    /// What came with the product and is replaced in a home that never started.
    pub unpacked: Option<Unpacked>,
}

impl NodePlan {
    /// Nothing at all would change. Where the files on the host say already what is wanted, the server may still have
    /// to read them.
    pub fn is_empty(&self) -> bool {
        let is_read = self.restart.class < RestartClass::Restart;
        !self.is_new && self.files.is_empty() && self.settings.is_empty() && is_read
    }

    /// Of a node that takes no part: whatever lies on its host stays as it is.
    pub fn untouched(base: &Base) -> Self {
        Self {
            is_new: false,
            source: base.source(),
            files: Vec::new(),
            keys: Vec::new(),
            kept: Vec::new(),
            settings: Vec::new(),
            restart: RestartDecision { class: RestartClass::None, why: Vec::new() },
            is_balancer: false,
            adoption: None,
            unmanaged: Vec::new(),
            unpacked: None,
        }
    }
}

/// Compares what a node has with what its fleet directory asks for.
pub fn compare(base: &Base, new: &ComposedNode) -> NodePlan {
    let judged = adoption::judge(base, &Desired::over(base, new));
    let elsewhere = base.in_another_home(new);
    let there = elsewhere.as_ref().unwrap_or(base);
    let desired = Desired::over(there, new);
    NodePlan {
        is_balancer: new.bundle.balancer.is_some(),
        is_new: base.assigned.is_none(),
        source: base.source(),
        settings: settings::changes(base.assigned.as_ref().map(|old| &old.bundle), &new.bundle),
        restart: judged.restart,
        adoption: judged.adoption,
        unmanaged: unmanaged::found(there, &desired),
        unpacked: unmanaged::unpacked(there, &desired),
        files: file_changes(there, &desired),
        keys: key_changes(there, &desired),
        kept: kept_keys(&desired),
    }
}

/// What differs on a host from what was assigned to it, where edits are not ignored: as a plan that would put it right.
pub fn drifted(assigned: &ComposedNode, base: &Base) -> NodePlan {
    let mut plan = compare(base, assigned);
    let is_ignored = |path: &HomePath| {
        let config = *path == assigned.bundle.service.config_path && !assigned.bundle.drift_keys.is_empty();
        !config && assigned.bundle.files.get(path).is_some_and(|entry| entry.drift == DriftPolicy::Ignore)
    };
    if is_ignored(&assigned.bundle.service.config_path) {
        plan.keys.clear();
    }
    plan.files.retain(|change| !is_ignored(&change.path));
    plan
}

/// What a node is to have, as it will be written over what lies there: keys of deployment.toml that the product itself
/// wrote are carried over.
struct Desired<'a> {
    node: &'a ComposedNode,
    /// deployment.toml as it will be written.
    config: String,
    config_digest: Digest,
    config_meaning: Digest,
}

impl<'a> Desired<'a> {
    fn over(base: &Base, node: &'a ComposedNode) -> Self {
        let service = &node.bundle.service;
        let disk = base.config_on_host(&service.config_path);
        let config = match disk {
            Some(disk) => {
                let over = (&node.bundle, Occasion::Order);
                drift::written_over(&node.config_text, disk, base.declared_text(), over)
            }
            None => node.config_text.to_string(),
        };
        let (config_digest, config_meaning) = (Digest::of(config.as_bytes()), canonical::meaning(&config));
        Self { node, config, config_digest, config_meaning }
    }

    fn is_config(&self, path: &HomePath) -> bool {
        *path == self.node.bundle.service.config_path
    }

    fn digest(&self, path: &HomePath, entry: &FileEntry) -> Digest {
        if self.is_config(path) { self.config_digest } else { entry.digest }
    }

    fn meaning(&self, path: &HomePath, entry: &FileEntry) -> Digest {
        if self.is_config(path) { self.config_meaning } else { entry.meaning }
    }

    fn side(&self, path: &HomePath, entry: &FileEntry) -> Side<'_> {
        let is_config = self.is_config(path);
        let content = self.node.contents.get(&entry.digest).map(|content| &**content);
        Side {
            digest: self.digest(path, entry),
            size: if is_config { self.config.len() as u64 } else { entry.size },
            secret: entry.secret,
            content: if is_config { Some(self.config.as_bytes()) } else { content },
        }
    }

    /// Whether a file that was there means the same as the one that is to be.
    fn means_the_same(&self, was: &FileBefore<'_>, path: &HomePath, entry: &FileEntry) -> bool {
        was.digest == self.digest(path, entry) || was.meaning == self.meaning(path, entry)
    }

    /// Files that are written and stay: those that exist only while the server starts are the agent's own.
    fn lasting(&self) -> impl Iterator<Item = (&'a HomePath, &'a FileEntry)> {
        self.node.bundle.files.iter().filter(|(_, entry)| !entry.launch)
    }
}

fn file_changes(base: &Base, desired: &Desired<'_>) -> Vec<FileChange> {
    let mut changes = BTreeMap::new();
    for (path, entry) in &desired.node.bundle.files {
        changes.extend(file_change(base, desired, (path, entry)).map(|change| (path.clone(), change)));
    }
    for (path, file) in base.assigned.iter().flat_map(|old| &old.bundle.files) {
        if !desired.node.bundle.files.contains_key(path) {
            let change = FileChange {
                path: path.clone(),
                kind: FileChangeKind::Released,
                restart: file.restart,
                settings: Vec::new(),
                diff: FileDiff::Unshown(Unshown::Released),
                sizes: Sizes { old: file.size, new: 0 },
                note: String::new(),
            };
            changes.insert(path.clone(), change);
        }
    }
    changes.into_values().collect()
}

fn file_change(
    base: &Base,
    desired: &Desired<'_>,
    (path, entry): (&HomePath, &FileEntry),
) -> Option<FileChange> {
    let assigned = base.assigned_file(path);
    // What exists only while a server starts is compared with what was assigned: the host has nothing to show.
    let was = if entry.launch { base.was_assigned(path) } else { base.was(path) };
    let side = desired.side(path, entry);
    let secret = entry.secret || assigned.is_some_and(|assigned| assigned.secret);
    let (before, note) = match was {
        Was::Absent if assigned.is_some() => (None, "is missing on the host".to_owned()),
        Was::Absent => (None, String::new()),
        Was::File(before) => (Some(before), String::new()),
        Was::Unusable { why } => (None, format!("{why}, and the agent replaces regular files only")),
    };
    let found = before.and_then(|before| before.found);
    let settings = match before {
        Some(_) => {
            let owner = desired.node.bundle.service.run_user.as_deref();
            settings::of_file(assigned, found, entry, owner)
        }
        None => Vec::new(),
    };
    let kind = match before {
        None => FileChangeKind::Added,
        Some(before) if before.digest != side.digest => FileChangeKind::Changed,
        Some(_) if settings.is_empty() && assigned.is_none_or(|assigned| same_settings(assigned, entry)) => {
            return None;
        }
        Some(_) => FileChangeKind::Settings,
    };
    let means_the_same = before.is_some_and(|before| desired.means_the_same(&before, path, entry));
    let old = before.map(|before| Side {
        digest: before.digest,
        size: before.size,
        secret,
        content: before.content,
    });
    let size = |size: u64| if entry.launch { 0 } else { size };
    Some(FileChange {
        path: path.clone(),
        kind,
        restart: if means_the_same { RestartClass::None } else { entry.restart },
        settings,
        diff: diff::of_file(path, old, Some(side)),
        sizes: Sizes { old: size(old.map_or(0, |old| old.size)), new: size(side.size) },
        note,
    })
}

/// Whether nothing but the content of a file may differ.
fn same_settings(old: &FileEntry, new: &FileEntry) -> bool {
    let of = |entry: &FileEntry| FileEntry {
        digest: new.digest,
        meaning: new.meaning,
        size: new.size,
        ..entry.clone()
    };
    of(old) == of(new)
}

fn key_changes(base: &Base, desired: &Desired<'_>) -> Vec<KeyChange> {
    let before = keys_of(base.config_text(&desired.node.bundle.service.config_path));
    changes_between(&before, &keys_of(Some(&desired.config)), desired)
}

/// Keys that the host keeps. What the product wrote is no choice of the host's, unless a rule makes it one.
fn kept_keys(desired: &Desired<'_>) -> Vec<KeyChange> {
    let rules = &desired.node.bundle.drift_keys;
    if rules.is_empty() {
        return Vec::new();
    }
    let (host, declared) = (keys_of(Some(&desired.config)), keys_of(Some(&desired.node.config_text)));
    let mut kept = changes_between(&host, &declared, desired);
    kept.retain(|change| rules.leaves(&judged_as(&change.key, (&host, &declared))));
    kept
}

fn changes_between(before: &Flat, after: &Flat, desired: &Desired<'_>) -> Vec<KeyChange> {
    canonical::differing_keys(before, after, &[])
        .into_iter()
        .map(|key| {
            let secret = is_hidden_key(&key);
            let shown = |value: Option<&String>| value.map(|value| shown_value(&key, value, secret));
            KeyChange {
                old: shown(before.get(&key)),
                new: shown(after.get(&key)),
                secret,
                place: after.get(&key).and_then(|_| desired.node.origins.get(&key)),
                key,
            }
        })
        .collect()
}

/// A reference such as `"$secret{db}"` is no secret, and seeing one take the place of a password is the point.
fn shown_value(key: &str, value: &str, secret: bool) -> String {
    if secret {
        return if mask::is_open(value) { value.to_owned() } else { MASK.to_owned() };
    }
    let line = mask_line(&format!("{key} = {value}"));
    line.strip_prefix(&format!("{key} = ")).map_or(line.clone(), str::to_owned)
}

#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod tests;
