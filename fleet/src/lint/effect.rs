//! Keys that the product knows and that do nothing here: their value is changed, and no file changes.

use std::cell::LazyCell;

use carbon::{
    Value,
    alike::Base,
    effect::{Effects, covering_default},
};

use super::{Look, dead};
use crate::spec::report::Report;

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    // What stands in for a refused value says nothing of the others.
    if !look.refusals.is_empty() {
        return;
    }
    let inputs = look.subject.inputs();
    // Most questions were answered for another node.
    let base = LazyCell::new(|| Base::new(look.rendered.clone()));
    let effects = || Effects {
        pack: &look.facts.pack,
        readers: &look.facts.readers,
        inputs: &inputs,
        typed: &look.typed,
        base: &base,
    };
    let context = context(look);
    for key in carbon::flatten::written(&look.typed.positions).into_keys() {
        if is_elsewhere(look, &key)
            || look.judged.matters((look.facts, &context), &key, || effects().matters(&key))
        {
            continue;
        }
        let place = look.place(&key.replace("[]", "[0]"));
        // What is wrong with the value is mostly why it does nothing.
        if place.as_ref().is_some_and(|place| report.is_told(place)) {
            continue;
        }
        match covering_default(&look.facts.pack, &key) {
            Some(table) => report.warning(
                "CV558",
                place,
                format!(
                    "{key} reaches no file: the product's default for the whole table {table} lies over it"
                ),
                "remove it: in this version no value typed here changes anything",
            ),
            None => report.info(
                "CV559",
                place,
                format!("no file depends on {key} as the other values are"),
                "often a switch beside it is off; a component may still read it while the server runs",
            ),
        }
    }
}

/// What other findings are about, and what the mapper itself reads.
fn is_elsewhere(look: &Look<'_>, key: &str) -> bool {
    let of_mapper = ["secrets.", "runtime_secrets."].iter().any(|table| key.starts_with(table));
    of_mapper || !look.facts.known.contains(key) || dead::is_dead(look, key) || is_table(look, key)
}

/// A list of tables, which is judged by what is in its tables.
fn is_table(look: &Look<'_>, key: &str) -> bool {
    let is_map = |item: &Value| matches!(item, Value::Map(_));
    matches!(look.typed.data.find(key), Some(Value::List(items)) if items.iter().any(is_map))
}

/// What decides whether a key matters: which keys are there, and what their switches say. Addresses and names differ
/// from node to node and decide nothing.
fn context(look: &Look<'_>) -> String {
    let mut entries: Vec<String> = look.typed.data.iter().map(|(key, value)| switch(key, value)).collect();
    entries.sort_unstable();
    entries.join("\n")
}

fn switch(key: &str, value: &Value) -> String {
    match value {
        Value::Bool(_) => format!("{key}={}", value.to_java_string()),
        Value::Text(text) if matches!(&**text, "true" | "false") => format!("{key}={text}"),
        Value::List(items) => {
            let of = |item: &Value| match item {
                Value::Map(table) => table.iter().map(|(key, value)| switch(key, value)).collect::<String>(),
                _ => String::new(),
            };
            format!("{key}[{}]", items.iter().map(of).collect::<Vec<_>>().join(","))
        }
        _ => key.to_owned(),
    }
}
