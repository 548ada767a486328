//! What an apply would change on a node, as values: files, deployment.toml key by key, service settings, and whether
//! the server restarts and why. Called by the coordinator for `convoy plan`; printed by the CLI. Never holds a secret:
//! their values are masked here, before anything leaves.

mod diff;
mod effects;
mod settings;

use std::{collections::BTreeMap, sync::Arc};

pub use diff::{DIFF_LINES_MAX, DiffLine, FileDiff, LineKind, Unshown};
pub use effects::{Before, DERIVED_MAX, DerivedChange, Effects, RenderedChange, RenderedKind, effects};

use crate::{
    bundle::{Bundle, FileEntry, HomePath, RestartClass},
    finding::{MASK, Place, is_secret_key, mask_line},
    ids::Digest,
    restart::{self, RestartDecision},
    spec::{ComposedNode, canonical},
};

/// What the coordinator has stored of a node: the bundle it assigned last, with its contents.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedNode {
    /// The bundle.
    pub bundle: Bundle,
    /// By digest. Content that is missing is reported as not shown.
    pub contents: BTreeMap<Digest, Arc<[u8]>>,
}

/// What happens to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChangeKind {
    /// Not managed before.
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
    /// Sorted by path.
    pub files: Vec<FileChange>,
    /// Sorted by key.
    pub keys: Vec<KeyChange>,
    /// Sorted by name.
    pub settings: Vec<SettingChange>,
    /// Whether the server restarts, and why.
    pub restart: RestartDecision,
}

impl NodePlan {
    /// Nothing at all would change.
    pub fn is_empty(&self) -> bool {
        !self.is_new && self.files.is_empty() && self.settings.is_empty()
    }
}

/// Compares what is stored of a node with what its fleet directory asks for.
pub fn compare(old: Option<&PlannedNode>, new: &ComposedNode) -> NodePlan {
    let restart = match old {
        Some(old) => restart::decide(&old.bundle, &new.bundle),
        None => RestartDecision {
            class: RestartClass::Restart,
            why: vec!["nothing was assigned to this node before".to_owned()],
        },
    };
    NodePlan {
        is_new: old.is_none(),
        files: file_changes(old, new),
        keys: key_changes(old, new),
        settings: settings::changes(old.map(|old| &old.bundle), &new.bundle),
        restart,
    }
}

fn file_changes(old: Option<&PlannedNode>, new: &ComposedNode) -> Vec<FileChange> {
    let before = |path: &HomePath| old.and_then(|old| old.bundle.files.get(path));
    let text = |entry: Option<&FileEntry>, contents: Option<&BTreeMap<Digest, Arc<[u8]>>>| {
        entry.and_then(|entry| contents?.get(&entry.digest).cloned())
    };
    let mut changes = BTreeMap::new();
    for (path, file) in &new.bundle.files {
        let was = before(path);
        let kind = match was {
            Some(was) if was == file => continue,
            Some(was) if was.digest == file.digest => FileChangeKind::Settings,
            Some(_) => FileChangeKind::Changed,
            None => FileChangeKind::Added,
        };
        let means_the_same = was.is_some_and(|was| was.meaning == file.meaning);
        let contents = (text(was, old.map(|old| &old.contents)), text(Some(file), Some(&new.contents)));
        let change = FileChange {
            path: path.clone(),
            kind,
            restart: if means_the_same { RestartClass::None } else { file.restart },
            settings: was.map(|was| settings::of_file(was, file)).unwrap_or_default(),
            diff: diff::of_file(path, (was, contents.0.as_deref()), (Some(file), contents.1.as_deref())),
        };
        changes.insert(path, change);
    }
    for (path, file) in old.iter().flat_map(|old| &old.bundle.files) {
        if !new.bundle.files.contains_key(path) {
            let change = FileChange {
                path: path.clone(),
                kind: FileChangeKind::Released,
                restart: file.restart,
                settings: Vec::new(),
                diff: FileDiff::Unshown(Unshown::Released),
            };
            changes.insert(path, change);
        }
    }
    changes.into_values().collect()
}

fn key_changes(old: Option<&PlannedNode>, new: &ComposedNode) -> Vec<KeyChange> {
    let before = old.and_then(stored_config).unwrap_or_default();
    let after = canonical::flatten(&new.config_text).unwrap_or_default();
    canonical::differing_keys(&before, &after, &[])
        .into_iter()
        .map(|key| {
            let secret = is_secret_key(&key);
            let shown = |value: Option<&String>| value.map(|value| shown_value(&key, value, secret));
            KeyChange {
                old: shown(before.get(&key)),
                new: shown(after.get(&key)),
                secret,
                place: after.get(&key).and_then(|_| new.origins.get(&key).cloned()),
                key,
            }
        })
        .collect()
}

fn stored_config(old: &PlannedNode) -> Option<canonical::Flat> {
    let entry = old.bundle.files.get(&old.bundle.service.config_path)?;
    let content = old.contents.get(&entry.digest)?;
    canonical::flatten(std::str::from_utf8(content).ok()?).ok()
}

/// A reference such as `"$secret{db}"` is no secret, and seeing one take the place of a password is the point.
fn shown_value(key: &str, value: &str, secret: bool) -> String {
    let inner = value.trim_matches('"');
    let reference = ["$secret{", "$env{", "$sys{", "$ref{", "${"]
        .iter()
        .any(|start| inner.starts_with(start) && inner.ends_with('}') && inner.matches('}').count() == 1);
    if secret {
        return if reference { value.to_owned() } else { MASK.to_owned() };
    }
    let line = mask_line(&format!("{key} = {value}"));
    line.strip_prefix(&format!("{key} = ")).map_or(line.clone(), str::to_owned)
}

#[cfg(test)]
mod tests;
