//! Nodes of a group mostly change in the same way; a plan says so once, and of each further node only what is its own.

use crate::{
    request::Detail,
    view::{DerivedKey, FileChange, KeyChange, NodePlan, Overwritten, RenderedFile},
};

/// Nodes whose changes are shown together.
#[derive(Debug)]
pub(super) struct Alike<'a> {
    /// At least one; all change in the same way.
    pub nodes: Vec<&'a NodePlan>,
    /// The node above of which these repeat most; `None` if everything is to be shown.
    pub shown: Option<&'a NodePlan>,
}

/// The changes of one node that are to be shown.
#[derive(Debug, Default)]
pub(super) struct Own<'a> {
    pub keys: Vec<&'a KeyChange>,
    pub settings: Vec<&'a String>,
    pub files: Vec<&'a FileChange>,
    pub derived: Vec<&'a DerivedKey>,
    pub rendered: Vec<&'a RenderedFile>,
    pub overwritten: Vec<&'a Overwritten>,
}

impl Own<'_> {
    fn count(&self) -> usize {
        let typed = self.keys.len() + self.settings.len() + self.files.len();
        typed + self.derived.len() + self.rendered.len() + self.overwritten.len()
    }
}

/// The nodes, in their order, put together by likeness to the first of their group.
pub(super) fn of<'a>(nodes: &[&'a NodePlan], detail: Detail) -> Vec<Alike<'a>> {
    let mut shown: Vec<Alike<'a>> = Vec::new();
    for node in nodes {
        let first =
            shown.iter().position(|alike| alike.shown.is_none() && is_same_kind(alike.nodes[0], node));
        let Some(first) = first else {
            shown.push(Alike { nodes: vec![node], shown: None });
            continue;
        };
        let reference = shown[first].nodes[0];
        let own = own(node, Some(reference), detail).count();
        let missing = missing(node, reference);
        match (missing, own) {
            (false, 0) => shown[first].nodes.push(node),
            // More than half of it is its own: the whole list reads better.
            (false, own) if own * 2 <= self::own(node, None, detail).count() => {
                shown.push(Alike { nodes: vec![node], shown: Some(reference) });
            }
            _ => shown.push(Alike { nodes: vec![node], shown: None }),
        }
    }
    shown
}

fn is_same_kind(one: &NodePlan, other: &NodePlan) -> bool {
    one.group == other.group
        && one.change == other.change
        && one.restart == other.restart
        && one.restart_why == other.restart_why
        && one.pack_unknown == other.pack_unknown
        && one.kept == other.kept
        && (&one.adoption, one.unpacked) == (&other.adoption, other.unpacked)
        && packs(one) == packs(other)
}

/// With which packs, and whether they could be compared.
fn packs(node: &NodePlan) -> Option<(&str, &str, Option<&str>)> {
    let effects = node.effects.as_ref()?;
    Some((&effects.pack, &effects.pack_before, effects.unrendered.as_deref()))
}

fn rendered(node: &NodePlan) -> &[RenderedFile] {
    node.effects.as_ref().map(|effects| effects.files.as_slice()).unwrap_or_default()
}

fn derived(node: &NodePlan) -> &[DerivedKey] {
    node.effects.as_ref().map(|effects| effects.derived.as_slice()).unwrap_or_default()
}

/// What changes on `node` and not in the same way on `shown`.
pub(super) fn own<'a>(node: &'a NodePlan, shown: Option<&NodePlan>, detail: Detail) -> Own<'a> {
    let Some(shown) = shown else {
        return Own {
            keys: node.keys.iter().collect(),
            settings: node.settings.iter().collect(),
            files: node.files.iter().collect(),
            derived: derived(node).iter().collect(),
            rendered: rendered(node).iter().collect(),
            overwritten: node.overwritten.iter().collect(),
        };
    };
    let is_told = |change: &KeyChange| shown.keys.contains(change);
    // The keys tell what differs in deployment.toml; its size does not matter beside them.
    let is_same = |one: &FileChange, other: &FileChange| {
        (&one.path, &one.change, &one.restart) == (&other.path, &other.change, &other.restart)
            && (&one.settings, &one.note) == (&other.settings, &other.note)
            && (detail == Detail::Keys || one.diff == other.diff)
    };
    // What the keys of deployment.toml make differ in a rendered file, they tell.
    let is_alike = |one: &RenderedFile, other: &RenderedFile| {
        let counts = |file: &RenderedFile| (file.added, file.removed);
        (&one.path, &one.change, counts(one)) == (&other.path, &other.change, counts(other))
            && (detail == Detail::Keys || one.diff == other.diff)
    };
    let is_rendered = |file: &RenderedFile| rendered(shown).iter().any(|other| is_alike(file, other));
    Own {
        derived: derived(node).iter().filter(|change| !derived(shown).contains(change)).collect(),
        rendered: rendered(node).iter().filter(|file| !is_rendered(file)).collect(),
        overwritten: node.overwritten.iter().filter(|file| !shown.overwritten.contains(file)).collect(),
        keys: node.keys.iter().filter(|change| !is_told(change)).collect(),
        settings: node.settings.iter().filter(|setting| !shown.settings.contains(setting)).collect(),
        files: node
            .files
            .iter()
            .filter(|file| !shown.files.iter().any(|other| is_same(file, other)))
            .collect(),
    }
}

/// Whether something changes on `shown` that does not change on `node` at all: then "the same as" would say too much.
fn missing(node: &NodePlan, shown: &NodePlan) -> bool {
    let has_key = |key: &KeyChange| node.keys.iter().any(|other| other.key == key.key);
    let has_file = |file: &FileChange| node.files.iter().any(|other| other.path == file.path);
    let has_setting = |setting: &String| node.settings.iter().any(|other| name(other) == name(setting));
    let has_rendered = |file: &RenderedFile| rendered(node).iter().any(|other| other.path == file.path);
    !rendered(shown).iter().all(has_rendered)
        || !shown.overwritten.iter().all(|file| node.overwritten.contains(file))
        || !shown.keys.iter().all(has_key)
        || !shown.files.iter().all(has_file)
        || !shown.settings.iter().all(has_setting)
}

/// `home` of `home: /opt/wso2`.
fn name(setting: &str) -> &str {
    setting.split(':').next().unwrap_or(setting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet::words::{ChangeWord, RestartWord};

    fn key(key: &str, new: &str) -> KeyChange {
        KeyChange { key: key.into(), old: None, new: Some(new.into()), place: None }
    }

    fn node(name: &str, keys: &[(&str, &str)]) -> NodePlan {
        NodePlan {
            node: name.into(),
            group: "gateway".into(),
            change: ChangeWord::Update.into(),
            restart: RestartWord::Restart.into(),
            keys: keys.iter().map(|(name, value)| key(name, value)).collect(),
            ..NodePlan::default()
        }
    }

    /// As `gw-1 gw-2 | gw-3 like gw-1 (1 own)`.
    fn told(nodes: &[NodePlan]) -> String {
        let nodes: Vec<&NodePlan> = nodes.iter().collect();
        let parts = of(&nodes, Detail::Keys).into_iter().map(|alike| {
            let names: Vec<&str> = alike.nodes.iter().map(|node| node.node.as_str()).collect();
            let like = alike.shown.map(|shown| {
                let own = own(alike.nodes[0], Some(shown), Detail::Keys).count();
                format!(" like {} ({own} own)", shown.node)
            });
            names.join(" ") + &like.unwrap_or_default()
        });
        parts.collect::<Vec<_>>().join(" | ")
    }

    #[test]
    fn equal_changes_are_told_once_and_others_by_what_is_their_own() {
        let base = [("a", "1"), ("b", "2"), ("c", "3")];
        let cases = [
            (vec![node("gw-1", &base)], "gw-1"),
            (vec![node("gw-1", &base), node("gw-2", &base)], "gw-1 gw-2"),
            (
                vec![
                    node("gw-1", &base),
                    node("gw-2", &[("a", "9"), ("b", "2"), ("c", "3")]),
                    node("gw-3", &base),
                ],
                "gw-1 gw-3 | gw-2 like gw-1 (1 own)",
            ),
            // Most of it differs.
            (vec![node("gw-1", &base), node("gw-2", &[("a", "9"), ("b", "9"), ("c", "3")])], "gw-1 | gw-2"),
            // Something is not changed here.
            (vec![node("gw-1", &base), node("gw-2", &[("a", "1"), ("b", "2")])], "gw-1 | gw-2"),
        ];
        for (nodes, expected) in cases {
            assert_eq!(told(&nodes), expected);
        }
    }

    #[test]
    fn groups_and_reasons_are_not_mixed() {
        let base = [("a", "1")];
        let other = NodePlan { restart_why: "a file changes".into(), ..node("gw-2", &base) };
        assert_eq!(told(&[node("gw-1", &base), other]), "gw-1 | gw-2");
        let other = NodePlan { group: "key-manager".into(), ..node("is-1", &base) };
        assert_eq!(told(&[node("gw-1", &base), other]), "gw-1 | is-1");
    }
}
