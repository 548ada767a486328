//! Whether a typed value matters at all: it is changed, and what comes out is compared. Products know keys that reach
//! no file: a whole table in default.json lies over them, or no template prints them with the other values as they are.
//!
//! Used by lint and by `convoy explain`. When in doubt a value matters.

use std::sync::Arc;

use crate::alike::{Base, Readers};
use crate::flatten::{Flat, Flattened};
use crate::pack::Pack;
use crate::reference::Inputs;
use crate::value::Value;

/// A file, what the product made of it, and what is known of the product.
#[derive(Clone, Copy)]
pub struct Effects<'a> {
    /// The product's resources.
    pub pack: &'a Pack,
    /// Which of its templates read what.
    pub readers: &'a Readers,
    /// What the render had.
    pub inputs: &'a Inputs,
    /// The file as typed.
    pub typed: &'a Flattened,
    /// What came out.
    pub base: &'a Base,
}

impl Effects<'_> {
    /// Whether any file, or a refusal of the product, depends on the value of a typed key. Elements of arrays are
    /// written `key[].sub`, as in [`written`](crate::flatten::written).
    pub fn matters(&self, key: &str) -> bool {
        let flats: Vec<Flat> = self.changed(key);
        // Where nothing can be changed, nothing can be said.
        flats.is_empty() || flats.into_iter().any(|flat| self.differs(flat))
    }

    /// The file with other values under the key, one after another.
    fn changed(&self, key: &str) -> Vec<Flat> {
        let (list, rest) = match key.split_once("[]") {
            Some((list, rest)) => (list, Some(rest)),
            None => (key, None),
        };
        let Some(value) = self.typed.data.find(list) else { return Vec::new() };
        let with = |value: Value| {
            let mut data = self.typed.data.clone();
            data.put(Arc::from(list), value);
            data
        };
        match rest {
            None => others(value).into_iter().map(with).collect(),
            Some(rest) => (0..OTHERS_MAX).filter_map(|n| in_elements(value, rest, n)).map(with).collect(),
        }
    }

    /// Whether something else comes out of other values. What the product refuses matters, too.
    fn differs(&self, data: Flat) -> bool {
        let typed = Flattened {
            data,
            secrets: self.typed.secrets.clone(),
            runtime_secrets: self.typed.runtime_secrets.clone(),
            positions: self.typed.positions.clone(),
        };
        self.base.differs((self.pack, self.readers), typed, self.inputs).unwrap_or(true)
    }
}

/// Other values for one that are tried at most.
const OTHERS_MAX: usize = 4;

/// Other values of the same kind: one that nobody expects, then those that templates ask for.
fn others(value: &Value) -> Vec<Value> {
    let others = match value {
        Value::Text(text) => {
            let texts = [format!("{text}0"), "true".to_owned(), "false".to_owned(), String::new()];
            texts.iter().filter(|other| **other != **text).map(|other| Value::text(other)).collect()
        }
        Value::Bool(flag) => vec![Value::Bool(!flag)],
        Value::Integer(number) => vec![Value::Integer(number.wrapping_add(1)), Value::Integer(0)],
        Value::Long(number) => vec![Value::Long(number.wrapping_add(1)), Value::Long(0)],
        Value::Double(number) => vec![Value::Double(number + 1.0)],
        Value::List(items) => match items.first() {
            None => vec![Value::List(vec![Value::text("x")])],
            Some(Value::Text(_)) => {
                let longer = items.iter().cloned().chain([Value::text("x")]).collect();
                vec![Value::List(longer), Value::List(Vec::new())]
            }
            Some(_) => vec![Value::List(Vec::new())],
        },
        Value::Null | Value::Time(_) | Value::Map(_) => Vec::new(),
    };
    others.into_iter().filter(|other| other != value).collect()
}

/// A list of tables with the n-th other value under `path` (`.sub`, or `.sub[].deeper`) of each of its elements.
fn in_elements(list: &Value, path: &str, n: usize) -> Option<Value> {
    let Value::List(items) = list else { return None };
    let path = path.strip_prefix('.').unwrap_or(path);
    let (name, rest) = match path.split_once("[]") {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let mut is_changed = false;
    let items = items.iter().map(|item| {
        let Value::Map(table) = item else { return item.clone() };
        let other = table.get(name).and_then(|value| match rest {
            None => others(value).into_iter().nth(n),
            Some(rest) => in_elements(value, rest, n),
        });
        let Some(other) = other else { return item.clone() };
        is_changed = true;
        let mut table = table.clone();
        table.put(Arc::from(name), other);
        Value::Map(table)
    });
    let items = items.collect();
    is_changed.then_some(Value::List(items))
}

/// The whole table in default.json that a key stands in, if there is one: it may lie over what is typed.
pub fn covering_default<'p>(pack: &'p Pack, key: &str) -> Option<&'p Arc<str>> {
    let above = key.rmatch_indices('.').map(|(at, _)| &key[..at]);
    above
        .filter_map(|table| pack.defaults.get_key_value(table))
        .find(|(_, value)| matches!(value, Value::Map(_)))
        .map(|(table, _)| table)
}

/// Whether a text under `key` would reach a file if it were typed in this deployment.toml.
pub fn would_matter((pack, readers): (&Pack, &Readers), toml: &str, inputs: &Inputs, key: &str) -> bool {
    let Ok(mut typed) = crate::flatten::flatten(toml) else { return true };
    if typed.data.find(key).is_none() {
        typed.data.put(Arc::from(key), Value::text("x"));
    }
    let Ok(rendered) = crate::render::render_typed(pack, typed.clone(), inputs) else { return true };
    let base = Base::new(rendered);
    Effects { pack, readers, inputs, typed: &typed, base: &base }.matters(key)
}

#[cfg(test)]
mod tests;
