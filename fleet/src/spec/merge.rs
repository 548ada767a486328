//! Layers into one: tables deeply, scalars and lists replaced, arrays of tables replaced unless the layer or the
//! product says how.

use std::collections::BTreeMap;

use toml_edit::Value;

use super::{
    canonical::join,
    report::Report,
    tree::{Leaf, Node, Notes, Shape, Table},
};

/// Array-of-tables path (without indices) to the key that names an element.
pub(crate) type MergeKeys = BTreeMap<String, String>;

/// What a layer's key asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Default,
    /// `"+name"`: append to the list so far.
    Append,
    /// `"=name"`: replace the list or table so far as a whole.
    Replace,
}

fn how_of(key: &str) -> (How, &str) {
    match (key.strip_prefix('+'), key.strip_prefix('=')) {
        (Some(name), _) if !name.is_empty() => (How::Append, name),
        (_, Some(name)) if !name.is_empty() => (How::Replace, name),
        _ => (How::Default, key),
    }
}

/// Merges `layer` into `base`. `path` is the dotted path of both, empty at the root.
pub(crate) fn merge(base: &mut Table, layer: Table, path: &str, keys: &MergeKeys, report: &mut Report) {
    join_notes(&mut base.notes, &layer.notes);
    if layer.shape == Shape::Header || (base.shape == Shape::Implicit && layer.shape == Shape::Inline) {
        base.shape = layer.shape;
        base.at = layer.at.clone();
    }
    for (key, node) in layer.into_entries() {
        let (how, name) = how_of(&key);
        let path = join(path, name);
        if how == How::Append && !is_list(&node) {
            report.error(
                "CV204",
                node.at().map(super::tree::At::key_place),
                format!("\"+{name}\" appends to a list, but this is {}", node.kind()),
                format!("drop the '+', or write a list or [[\"+{name}\"]]"),
            );
            continue;
        }
        let before = base.take(name).filter(|_| how != How::Replace);
        let merged = match before {
            Some(old) => merge_nodes(old, node, (how, &path), keys, report),
            None => fresh(node, &path, keys, report),
        };
        base.insert(name, merged);
    }
}

fn is_list(node: &Node) -> bool {
    match node {
        Node::Tables(_) => true,
        Node::Leaf(leaf) => leaf.value.is_array(),
        Node::Table(_) => false,
    }
}

fn merge_nodes(
    old: Node,
    new: Node,
    (how, path): (How, &str),
    keys: &MergeKeys,
    report: &mut Report,
) -> Node {
    match (old, new) {
        (Node::Table(mut old), Node::Table(new)) => {
            merge(&mut old, new, path, keys, report);
            Node::Table(old)
        }
        (Node::Tables(mut old), Node::Tables(new)) => {
            let new = fresh_tables(new, path, keys, report);
            match (how, keys.get(&bare_path(path))) {
                (How::Append, _) => {
                    old.extend(new);
                    Node::Tables(old)
                }
                (_, Some(key)) => Node::Tables(merge_keyed(old, new, (key, path), keys, report)),
                (_, None) => Node::Tables(new),
            }
        }
        (Node::Leaf(old), Node::Leaf(new)) => Node::Leaf(merge_leaves(old, new, how)),
        // `x = []` and `[[x]]` are both lists.
        (Node::Leaf(leaf), Node::Tables(new)) if is_empty_array(&leaf) => {
            Node::Tables(fresh_tables(new, path, keys, report))
        }
        (Node::Tables(_), Node::Leaf(leaf)) if is_empty_array(&leaf) => Node::Leaf(leaf),
        (old, new) => {
            let place = new.at().map(super::tree::At::key_place);
            let before = old.at().map(|at| at.source.name.clone()).unwrap_or_default();
            report.warning(
                "CV203",
                place,
                format!("{path} is {} here, but {} in {before}", new.kind(), old.kind()),
                "check the brackets; the later layer replaces the earlier one",
            );
            fresh(new, path, keys, report)
        }
    }
}

fn is_empty_array(leaf: &Leaf) -> bool {
    leaf.value.as_array().is_some_and(toml_edit::Array::is_empty)
}

fn merge_leaves(old: Leaf, mut new: Leaf, how: How) -> Leaf {
    if new.notes == Notes::default() {
        new.notes = old.notes;
    }
    if let (How::Append, Value::Array(before), Value::Array(after)) = (how, old.value, &new.value) {
        let mut all = before;
        all.extend(after.iter().cloned());
        new.value = Value::Array(all);
        new.raw = None;
    }
    new
}

/// Elements with the same key merge, in the place of the earlier one; others are appended.
fn merge_keyed(
    mut old: Vec<Table>,
    new: Vec<Table>,
    (key, path): (&str, &str),
    keys: &MergeKeys,
    report: &mut Report,
) -> Vec<Table> {
    // Two elements of one layer never merge with each other.
    let before = old.len();
    for element in new {
        let id = element_id(&element, key);
        match old[..before].iter_mut().find(|other| id.is_some() && element_id(other, key) == id) {
            Some(same) => merge(same, element, path, keys, report),
            None => old.push(element),
        }
    }
    old
}

fn element_id(element: &Table, key: &str) -> Option<String> {
    match element.get(key)? {
        Node::Leaf(leaf) => Some(super::tree::value_text(&leaf.value)),
        _ => None,
    }
}

/// A part that no earlier layer has: still merged into nothing, so that `"+name"` below it loses its mark.
fn fresh(node: Node, path: &str, keys: &MergeKeys, report: &mut Report) -> Node {
    match node {
        Node::Leaf(leaf) => Node::Leaf(leaf),
        Node::Table(table) => Node::Table(fresh_table(table, path, keys, report)),
        Node::Tables(tables) => Node::Tables(fresh_tables(tables, path, keys, report)),
    }
}

fn fresh_table(table: Table, path: &str, keys: &MergeKeys, report: &mut Report) -> Table {
    let mut empty = Table::empty(table.at.clone(), table.shape);
    merge(&mut empty, table, path, keys, report);
    empty
}

fn fresh_tables(tables: Vec<Table>, path: &str, keys: &MergeKeys, report: &mut Report) -> Vec<Table> {
    tables.into_iter().map(|table| fresh_table(table, path, keys, report)).collect()
}

fn bare_path(path: &str) -> String {
    path.replace('\'', "")
}

fn join_notes(base: &mut Notes, layer: &Notes) {
    if base.above != layer.above && !layer.above.is_empty() {
        if !base.above.is_empty() {
            base.above.push(String::new());
        }
        base.above.extend(layer.above.iter().cloned());
    }
    if layer.beside.is_some() {
        base.beside.clone_from(&layer.beside);
    }
}
