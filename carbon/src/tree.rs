//! Ninth phase: flat keys become the tree that templates see.

use std::sync::Arc;

use crate::error::MapperError;
use crate::flatten::Flat;
use crate::template::Val;
use crate::value::{Ordered, Value};

enum Branch {
    Leaf(Val),
    Table(Ordered<Branch>),
}

/// Most segments that a key may have.
pub(crate) const SEGMENTS_MAX: usize = 64;

/// Builds the tree in the order of the flat map. If one key is the parent of another, the later one wins.
pub fn build(data: &Flat) -> Result<Ordered<Val>, MapperError> {
    build_of(data.iter())
}

/// The same of some of the map.
pub(crate) fn build_of<'v>(
    entries: impl Iterator<Item = (&'v Arc<str>, &'v Value)>,
) -> Result<Ordered<Val>, MapperError> {
    Ok(grow(entries)?.map_values(to_val))
}

fn grow<'v>(
    entries: impl Iterator<Item = (&'v Arc<str>, &'v Value)>,
) -> Result<Ordered<Branch>, MapperError> {
    let mut root = Ordered::default();
    for (key, value) in entries {
        let path = segments(key)?;
        let Some((last, parents)) = path.split_last() else {
            // An empty key has no segment: the mapper fails with an index error.
            return Err(MapperError::Limit { what: "an empty key".into(), limit: 0, unit: "segments" });
        };
        if SEGMENTS_MAX < path.len() {
            let what = format!("key {key}");
            return Err(MapperError::Limit { what, limit: SEGMENTS_MAX, unit: "segments" });
        }
        let mut table = &mut root;
        for segment in parents {
            table = descend(table, segment);
        }
        table.put(Arc::from(*last), Branch::Leaf(leaf(value)?));
    }
    Ok(root)
}

fn descend<'t>(table: &'t mut Ordered<Branch>, segment: &str) -> &'t mut Ordered<Branch> {
    match table.get_mut(segment) {
        Some(Branch::Table(_)) => {}
        // A table-valued default that another key reaches into: it grows in place.
        Some(branch @ Branch::Leaf(Val::Map(_))) => {
            if let Branch::Leaf(Val::Map(cell)) = std::mem::replace(branch, Branch::Leaf(Val::Null)) {
                *branch = Branch::Table(cell.0.take().map_values(Branch::Leaf));
            }
        }
        Some(branch) => *branch = Branch::Table(Ordered::default()),
        None => table.put(Arc::from(segment), Branch::Table(Ordered::default())),
    }
    match table.get_mut(segment) {
        Some(Branch::Table(inner)) => inner,
        _ => unreachable!("the segment was made a table above"),
    }
}

/// Maps inside lists are flat too, and grow the same way. Maps of JSON files are taken as they are.
fn leaf(value: &Value) -> Result<Val, MapperError> {
    match value {
        Value::List(items) => {
            let grown = items.iter().map(|item| match item {
                Value::Map(map) => grow(map.iter()).map(|table| Val::map(table.map_values(to_val))),
                other => leaf(other),
            });
            grown.collect::<Result<_, _>>().map(Val::list)
        }
        other => Ok(Val::from_value(other)),
    }
}

fn to_val(branch: Branch) -> Val {
    match branch {
        Branch::Leaf(val) => val,
        Branch::Table(table) => Val::map(table.map_values(to_val)),
    }
}

/// Splits a flat key at dots outside single quotes. A quoted part is one segment, empty segments are dropped.
pub fn segments(key: &Arc<str>) -> Result<Vec<&str>, MapperError> {
    let mut segments = Vec::new();
    let mut rest: &str = key;
    while let Some(open) = rest.find('\'') {
        segments.extend(rest[..open].split('.').filter(|segment| !segment.is_empty()));
        let inner = &rest[open + 1..];
        let Some(close) = inner.find('\'') else { return Err(MapperError::Quote { key: Arc::clone(key) }) };
        segments.push(&inner[..close]);
        rest = &inner[close + 1..];
    }
    segments.extend(rest.split('.').filter(|segment| !segment.is_empty()));
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::Work;

    fn check(data: &[(&str, Value)], expected: &str) {
        let mut flat = Flat::default();
        flat.put_all(data.iter().map(|(key, value)| (Arc::from(*key), value.clone())).collect());
        let shown = match build(&flat) {
            Err(error) => error.to_string(),
            Ok(tree) => Val::map(tree).to_java_string(&Work::default()),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn quoted_segments_stay_whole() {
        check(&[("a.'b.c'.d", Value::Long(1))], "{a={b.c={d=1}}}");
        check(&[("a..b", Value::Long(1))], "{a={b=1}}");
        check(
            &[("a.'b", Value::Long(1))],
            "Couldn't find matching ending \"'\" for sub key in flat key a.'b",
        );
    }

    #[test]
    fn a_value_and_a_table_of_one_name_replace_each_other_in_hash_order() {
        // `a.b` falls into bucket 0 of 4 and `a` into bucket 1, so `a` comes later whatever the file says.
        check(&[("a", Value::Long(1)), ("a.b", Value::Long(2))], "{a=1}");
    }

    #[test]
    fn tables_in_lists_grow_too() {
        let map = Value::Map([(Arc::from("x.y"), Value::Long(1))].into_iter().collect());
        check(&[("l", Value::List(vec![map]))], "{l=[{x={y=1}}]}");
    }
}
