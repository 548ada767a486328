//! Second phase: key-mappings.json renames keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::MapperError;
use crate::flatten::Flat;
use crate::java;
use crate::value::{Ordered, Table, Value};
use crate::work::Work;

/// key-mappings.json: old key to new keys, in file order.
#[derive(Debug, Default)]
pub struct Mappings {
    targets: Ordered<Target>,
}

#[derive(Debug)]
struct Target {
    keys: Vec<Arc<str>>,
    /// Java prints a list-valued mapping as a list in its errors.
    text: String,
}

/// Names before mapping, by the name after it.
pub type Renamed = BTreeMap<Arc<str>, Arc<str>>;

impl Mappings {
    /// Takes the file's object. Values that are neither text nor list make their key vanish, as in the mapper.
    pub fn new(object: &Table) -> Self {
        let targets = object.iter().map(|(key, value)| {
            let keys = match value {
                Value::Text(text) => vec![Arc::clone(text)],
                Value::List(items) => items.iter().map(|item| Arc::from(item.to_java_string())).collect(),
                _ => Vec::new(),
            };
            (Arc::clone(key), Target { keys, text: value.to_java_string() })
        });
        Self { targets: targets.collect() }
    }

    /// Old names with their new ones.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &[Arc<str>])> {
        self.targets.iter().map(|(key, target)| (key, target.keys.as_slice()))
    }

    /// New names of `key`; `None` means that it keeps its own.
    pub fn get(&self, key: &str) -> Option<&[Arc<str>]> {
        self.targets.get(key).map(|target| target.keys.as_slice())
    }

    /// Renames in place. On a collision the later key in Java's order wins.
    pub fn apply(&self, data: &mut Flat, work: &Work) -> Result<Renamed, MapperError> {
        let mut mapped = Table::default();
        let mut renamed = Renamed::new();
        for (key, value) in data.iter() {
            match self.targets.get(key) {
                None => {
                    renamed.remove(key);
                    mapped.put(Arc::clone(key), value.clone());
                }
                Some(target) => {
                    work.take(target.keys.len().saturating_mul(value.weight()))?;
                    for new in &target.keys {
                        renamed.insert(Arc::clone(new), Arc::clone(key));
                        mapped.put(Arc::clone(new), value.clone());
                    }
                }
            }
        }
        self.rename_in_arrays(&mut mapped, work)?;
        data.clear();
        data.put_all(mapped.into_entries());
        Ok(renamed)
    }

    /// Keys of the form `array:old` rename inside the maps of a list.
    fn rename_in_arrays(&self, mapped: &mut Table, work: &Work) -> Result<(), MapperError> {
        for (key, target) in self.targets.iter() {
            let parts = java::split(key, ':');
            match parts[..] {
                [array, old] => {
                    let Some(Value::List(items)) = mapped.get_mut(array) else { continue };
                    for item in items {
                        work.take(1)?;
                        if let Value::Map(map) = item {
                            target.rename(map, old, work)?;
                        }
                    }
                }
                [] | [_] => {}
                _ => return Err(MapperError::MappingKey { key: key.to_string() }),
            }
        }
        Ok(())
    }
}

impl Target {
    fn rename(&self, map: &mut Table, old: &str, work: &Work) -> Result<(), MapperError> {
        let Some(value) = map.remove(old) else { return Ok(()) };
        if value == Value::Null {
            return Ok(());
        }
        work.take(map.len() + self.keys.len().saturating_mul(value.weight()))?;
        for new in &self.keys {
            let [_, new] = java::split(new, ':')[..] else {
                return Err(MapperError::MappingValue { value: self.text.clone() });
            };
            map.put(Arc::from(new), value.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mappings: &[(&str, &str)], data: &[(&str, Value)], expected: &str) {
        let object: Table = mappings
            .iter()
            .map(|(old, new)| {
                let targets: Vec<Value> = new.split('|').map(Value::text).collect();
                let value = if targets.len() == 1 { targets[0].clone() } else { Value::List(targets) };
                (Arc::from(*old), value)
            })
            .collect();
        let mut flat = Flat::default();
        flat.put_all(data.iter().map(|(key, value)| (Arc::from(*key), value.clone())).collect());
        let shown = match Mappings::new(&object).apply(&mut flat, &Work::default()) {
            Err(error) => error.to_string(),
            Ok(_) => {
                let mut lines: Vec<String> =
                    flat.iter().map(|(key, value)| format!("{key}={}", value.to_java_string())).collect();
                lines.sort();
                lines.join(" ")
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn keys_are_renamed_copied_or_left() {
        check(
            &[("a", "x"), ("b", "y|z")],
            &[("a", Value::Long(1)), ("b", Value::Long(2)), ("c", Value::Long(3))],
            "c=3 x=1 y=2 z=2",
        );
    }

    #[test]
    fn colon_keys_rename_inside_tables_of_arrays() {
        let map: Table = [(Arc::from("old"), Value::text("v")), (Arc::from("kept"), Value::text("k"))]
            .into_iter()
            .collect();
        let list = Value::List(vec![Value::Map(map)]);
        check(&[("arr:old", "arr:new")], &[("arr", list.clone())], "arr=[{kept=k, new=v}]");
        check(
            &[("arr:old", "new")],
            &[("arr", list.clone())],
            "Unknown key mapping value with multiple array elements: new",
        );
        check(
            &[("a:b:c", "x")],
            &[("arr", list)],
            "Unknown key mapping key with multiple array elements: a:b:c",
        );
    }
}
