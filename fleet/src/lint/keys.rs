//! Keys that the product does not know, and brackets that make it look elsewhere. WSO2 says nothing about either.

use std::collections::{BTreeMap, BTreeSet};

use carbon::{Value, template::ReadKind, toml::Position};

use super::Look;
use crate::spec::report::Report;

/// Tables that the mapper itself reads, whatever the pack says.
const MAPPER_TABLES: [&str; 2] = ["secrets.", "runtime_secrets."];

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    let written = carbon::flatten::written(&look.typed.positions);
    let strange = strange_tables(look, &written);
    let mut told = BTreeSet::new();
    for (key, position) in &written {
        if MAPPER_TABLES.iter().any(|table| key.starts_with(table)) {
            continue;
        }
        let top = top_table(key);
        if strange.contains(top) {
            if told.insert(top) {
                report.warning(
                    "CV502",
                    look.subject.place(&first_element(key), Some(*position)),
                    format!("this product has no [{top}]; everything in it is ignored (a jar of your own may read it)"),
                    "remove it, or move it to the nodes of the product that it is meant for",
                );
            }
            continue;
        }
        if let Some((table, wanted)) = wrong_brackets(look, key) {
            if told.insert(table) {
                brackets(look, (key, *position), (table, wanted), report);
            }
            continue;
        }
        // An array of tables is told by its keys.
        let elements = format!("{key}[].");
        let has_elements =
            written.range(elements.clone()..).next().is_some_and(|(next, _)| next.starts_with(&elements));
        if !has_elements && !look.facts.known.contains(key) {
            unknown(look, key, *position, report);
        }
    }
    scalars(look, report);
}

/// Top-level tables of the file that the product knows nothing of.
fn strange_tables<'k>(look: &Look<'_>, written: &'k BTreeMap<String, Position>) -> BTreeSet<&'k str> {
    let tables = written.keys().filter(|key| key.contains('.')).map(|key| top_table(key));
    tables
        .filter(|table| {
            !look.facts.tables.contains(*table) && look.judged.nearest(look.facts, table).is_none()
        })
        .collect()
}

pub(super) fn top_table(key: &str) -> &str {
    let end = key.find(['.', '[']).unwrap_or(key.len());
    &key[..end]
}

/// `a[].b` as the first element is written in places.
fn first_element(key: &str) -> String {
    key.replace("[]", "[0]")
}

fn unknown(look: &Look<'_>, key: &str, position: Position, report: &mut Report) {
    let nearest = look.judged.nearest(look.facts, key);
    let remedy = match nearest {
        Some(nearest) => format!("did you mean {nearest}?"),
        None => "remove it, or correct its table and name; `convoy explain` looks keys up".to_owned(),
    };
    report.warning(
        "CV502",
        look.subject.place(&first_element(key), Some(position)),
        format!(
            "this product does not know {key}; the server itself ignores it (a jar of your own may read it)"
        ),
        remedy,
    );
}

/// What should stand around a table's name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// `[[name]]`.
    List,
    /// `[name]`.
    Table,
}

/// The table on the way to `key` that is bracketed wrongly: the key is known only with the other brackets.
fn wrong_brackets<'k>(look: &Look<'_>, key: &'k str) -> Option<(&'k str, Wanted)> {
    let known = &look.facts.known;
    for (at, _) in key.match_indices('.') {
        let (before, rest) = (&key[..at], &key[at + 1..]);
        if let Some(table) = before.strip_suffix("[]") {
            let meant = format!("{table}.{rest}");
            if !known.contains(key) && known.get(&meant).is_some() {
                return Some((table, Wanted::Table));
            }
        } else {
            // A table is looped over by its values, so `[a.one]` is an element of `a` and `[a]` itself is not.
            let meant = format!("{before}[].{rest}");
            let shape = known.shape(before);
            if shape.list_of_tables && known.get(&meant).is_some() && known.get(key).is_none() {
                return Some((before, Wanted::List));
            }
        }
    }
    None
}

fn brackets(
    look: &Look<'_>,
    (key, position): (&str, Position),
    (table, wanted): (&str, Wanted),
    report: &mut Report,
) {
    let place = look.subject.place(&first_element(key), Some(position));
    let (message, remedy) = match wanted {
        Wanted::List => (
            format!("{table} is a list of tables for this product; as one table nothing of it is used"),
            format!("write [[{table}]]"),
        ),
        Wanted::Table => (
            format!("{table} is one table for this product; as a list of tables nothing of it is used"),
            format!("write [{table}]"),
        ),
    };
    report.warning("CV503", place, message, remedy);
}

/// A plain value where the product looks for tables.
fn scalars(look: &Look<'_>, report: &mut Report) {
    for (key, value) in look.typed.data.iter() {
        let shape = look.facts.known.shape(key);
        let is_plain = match value {
            Value::List(items) => {
                !items.is_empty() && !items.iter().any(|item| matches!(item, Value::Map(_)))
            }
            _ => true,
        };
        let facts = look.facts.known.get(key);
        let is_printed = facts.is_some_and(|facts| facts.uses.iter().any(|usage| is_plain_use(usage.kind)));
        let is_empty = matches!(value, Value::List(items) if items.is_empty());
        if is_plain && shape.list_of_tables && !is_printed && !is_empty {
            report.warning(
                "CV503",
                look.place(key),
                format!("{key} is a list of tables for this product; a plain value is not used"),
                format!("write [[{key}]]"),
            );
        }
    }
}

/// Whether a template does something with the value itself and not only with its elements.
fn is_plain_use(kind: ReadKind) -> bool {
    matches!(kind, ReadKind::Printed | ReadKind::Whole | ReadKind::Items)
}
