//! Placeholders that stay as they are typed, because the mapper does not look where they stand, and secrets that
//! nobody defined.

use std::collections::BTreeSet;

use carbon::{MapperError, Value, java::substrings_between};

use super::Look;
use crate::spec::report::Report;

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    for (key, value) in look.typed.data.iter() {
        match value {
            Value::Map(_) => nested(look, key, value, report),
            Value::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    if !matches!(item, Value::Text(_)) {
                        nested(look, &format!("{key}[{n}]"), item, report);
                    }
                }
            }
            _ => {}
        }
    }
    secrets(look, report);
}

/// Values inside an element of a list.
fn nested(look: &Look<'_>, key: &str, value: &Value, report: &mut Report) {
    match value {
        Value::Map(map) => {
            map.iter().for_each(|(sub, value)| nested(look, &format!("{key}.{sub}"), value, report));
        }
        Value::List(items) => items.iter().for_each(|item| nested(look, key, item, report)),
        Value::Text(text) => {
            if text.contains("$ref{") {
                report.error(
                    "CV506",
                    look.place(key),
                    format!("{key} stands in a list of tables, where $ref{{}} stays as it is typed"),
                    "write the value itself, or derive it with an expression {{ }}",
                );
            }
            let variable = ["$env{", "$sys{"].into_iter().find(|open| text.contains(open));
            if let Some(open) = variable.filter(|_| !look.facts.pack.dialect.resolves_variables_in_tables()) {
                report.error(
                    "CV507",
                    look.place(key),
                    format!(
                        "{key} stands in a list of tables, where this version leaves {open}}} as it is typed"
                    ),
                    "write the value itself, or derive it with an expression {{ }}",
                );
            }
        }
        _ => {}
    }
}

/// The mapper stops looking after the first value with a good alias; the server then fails at run time.
fn secrets(look: &Look<'_>, report: &mut Report) {
    let at_run_time = look.typed.data.get(&"runtime_secrets.enable".into());
    if look.facts.pack.dialect.knows_runtime_secrets()
        && at_run_time.is_some_and(|value| value.to_java_string() == "true")
    {
        return;
    }
    let refused = look.refusals.iter().filter_map(|error| match error {
        MapperError::SecretMissing { alias, .. } => Some(alias.clone()),
        _ => None,
    });
    let mut told: BTreeSet<String> = refused.collect();
    for (key, value) in look.typed.data.iter() {
        let text = value.to_java_string();
        for alias in substrings_between(&text, "$secret{", "}") {
            if look.typed.secrets.contains_key(alias) || !told.insert(alias.to_owned()) {
                continue;
            }
            report.error(
                "CV508",
                look.place(key),
                format!("{key} uses $secret{{{alias}}}, and [secrets] has no {alias}; the server may start and fail later"),
                format!("add {alias} to [secrets]"),
            );
        }
    }
}
