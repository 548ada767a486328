//! Inference that will not fire: `type = "postgresql"` brings neither driver nor URL, because the product's word is
//! `postgre`.

use carbon::{Value, java::substrings_between};

use super::Look;
use crate::{
    finding::names_at_most,
    spec::report::{Report, suggest},
};

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    for (key, value) in look.typed.data.iter() {
        let Value::Text(text) = value else { continue };
        let mapped = look.facts.pack.mappings.get(key).and_then(|targets| targets.first());
        let name = mapped.unwrap_or(key);
        let Some(trigger) = look.facts.pack.inference.trigger_of(name) else { continue };
        let Some(facts) = look.facts.known.get(trigger) else { continue };
        if facts.cases.iter().any(|(case, _)| **case == **text) {
            continue;
        }
        let cases: Vec<&str> = facts.cases.iter().map(|(case, _)| &**case).collect();
        let set: Vec<String> = missing(look, name, trigger, facts.cases.iter().flat_map(|(_, keys)| keys));
        if set.is_empty() {
            continue;
        }
        let is_variable = text.contains("$env{") || text.contains("$sys{") || text.contains("$ref{");
        let is_slip = cases.iter().any(|case| {
            2 < case.len()
                && (case.eq_ignore_ascii_case(text) || text.starts_with(case) || case.starts_with(&**text))
        });
        let is_database = name.starts_with("database.") && name.ends_with(".type");
        if !(is_variable || is_slip || is_database) {
            continue;
        }
        let why = if is_variable {
            format!("{key} comes from a variable, which is filled in after inference")
        } else {
            format!("{key} = \"{text}\" is no case that the product infers from")
        };
        let remedy = if is_variable {
            format!("write {} yourself", list(&set))
        } else {
            format!("{}; or write {} yourself", suggest(text, cases.iter().copied()), list(&set))
        };
        report.warning("CV511", look.place(key), format!("{why}, so it brings no {}", list(&set)), remedy);
    }
}

/// What the trigger would set and the file does not. For a database it is the driver and the like that counts.
fn missing<'k>(
    look: &Look<'_>,
    key: &str,
    trigger: &str,
    keys: impl Iterator<Item = &'k std::sync::Arc<str>>,
) -> Vec<String> {
    let segments: Vec<&str> = key.split('.').collect();
    let mut missing = std::collections::BTreeSet::new();
    for set in keys {
        let mut name = set.to_string();
        for (n, segment) in segments.iter().enumerate() {
            name = name.replace(&format!("${n}"), segment);
        }
        let is_typed = look.typed.data.contains_key(&name.as_str().into());
        let old = look.facts.known.get(&name).map(|facts| facts.mapped_from.as_slice()).unwrap_or_default();
        if !is_typed && !old.iter().any(|old| look.typed.data.contains_key(old)) {
            missing.insert(name);
        }
    }
    let is_reference = |name: &String| substrings_between(name, "$", "").is_empty() || !trigger.is_empty();
    missing.into_iter().filter(is_reference).collect()
}

fn list(names: &[String]) -> String {
    const SHOWN: usize = 4;
    names_at_most(SHOWN, names.iter().map(String::as_str))
}
