//! What several files have in common, taken out of each: the widest common part first. No key is in two layers of one
//! node, so that layers never replace each other's values and an array of tables always stands in one piece.

use crate::spec::tree::{Node, Notes, Table, value_text};

/// A file, or what is left of it: its tree, and the comments at its end.
#[derive(Clone)]
pub(super) struct Rest {
    pub(super) table: Table,
    pub(super) trailing: Vec<String>,
}

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty() && self.trailing.is_empty()
    }

    /// How many keys it has.
    pub(super) fn keys(&self) -> usize {
        count(&self.table)
    }
}

fn count(table: &Table) -> usize {
    table
        .iter()
        .map(|(_, node)| match node {
            Node::Leaf(_) => 1,
            Node::Table(inner) => count(inner),
            Node::Tables(elements) => elements.iter().map(count).sum(),
        })
        .sum()
}

/// Takes out of all `files` what is the same in each.
pub(super) fn shared(files: &mut [&mut Rest]) -> Option<Rest> {
    let trailing = files.first()?.trailing.clone();
    let is_common = files.iter().all(|file| file.trailing == trailing);
    if is_common {
        files.iter_mut().for_each(|file| file.trailing.clear());
    }
    let mut tables: Vec<&mut Table> = files.iter_mut().map(|file| &mut file.table).collect();
    let table = shared_tables(&mut tables)?;
    Some(Rest { table, trailing: if is_common { trailing } else { Vec::new() } })
}

fn shared_tables(tables: &mut [&mut Table]) -> Option<Table> {
    let first = tables.first()?;
    let mut common = Table::empty(first.at.clone(), first.shape);
    let keys: Vec<String> = first.iter().map(|(key, _)| key.to_owned()).collect();
    for key in keys {
        let nodes: Option<Vec<&Node>> = tables.iter().map(|table| table.get(&key)).collect();
        let Some(nodes) = nodes else { continue };
        let all_tables = nodes.iter().all(|node| matches!(node, Node::Table(_)));
        let all_same = nodes.windows(2).all(|pair| same(pair[0], pair[1]));
        if all_tables {
            let mut inner: Vec<&mut Table> = tables
                .iter_mut()
                .filter_map(|table| match table.get_mut(&key) {
                    Some(Node::Table(inner)) => Some(inner),
                    _ => None,
                })
                .collect();
            let Some(taken) = shared_tables(&mut inner) else { continue };
            if taken.is_empty() && !all_same {
                continue;
            }
            inner.iter_mut().for_each(|table| table.notes = Notes::default());
            common.insert(&key, Node::Table(taken));
            for table in tables.iter_mut() {
                if matches!(table.get(&key), Some(Node::Table(inner)) if inner.is_empty()) {
                    table.remove(&key);
                }
            }
        } else if all_same {
            let with_notes = tables.iter().position(|table| table.get(&key).is_some_and(has_notes));
            let mut taken: Vec<Option<Node>> = tables.iter_mut().map(|table| table.remove(&key)).collect();
            if let Some(node) = taken.swap_remove(with_notes.unwrap_or(0)) {
                common.insert(&key, node);
            }
        }
    }
    let notes = tables.iter().map(|table| &table.notes).find(|notes| **notes != Notes::default());
    common.notes = notes.cloned().unwrap_or_default();
    Some(common)
}

fn has_notes(node: &Node) -> bool {
    match node {
        Node::Leaf(leaf) => leaf.notes != Notes::default(),
        Node::Table(table) => {
            table.notes != Notes::default() || table.iter().any(|(_, node)| has_notes(node))
        }
        Node::Tables(elements) => elements.iter().any(|element| has_notes(&Node::Table(element.clone()))),
    }
}

/// Whether two nodes mean the same, comments and spelling aside.
fn same(a: &Node, b: &Node) -> bool {
    match (a, b) {
        (Node::Leaf(a), Node::Leaf(b)) => value_text(&a.value) == value_text(&b.value),
        (Node::Table(a), Node::Table(b)) => same_tables(a, b),
        (Node::Tables(a), Node::Tables(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_tables(a, b))
        }
        _ => false,
    }
}

fn same_tables(a: &Table, b: &Table) -> bool {
    let covered = |a: &Table, b: &Table| a.iter().all(|(key, _)| b.get(key).is_some());
    covered(b, a) && a.iter().all(|(key, node)| b.get(key).is_some_and(|other| same(node, other)))
}
