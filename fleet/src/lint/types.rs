//! Values of another kind than the product tests for.

use carbon::{Value, known::Facts, template::ReadKind};

use super::Look;
use crate::spec::report::Report;

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    for (key, value) in look.typed.data.iter() {
        check_value(look, (key, key), value, report);
        let Value::List(items) = value else { continue };
        for (n, item) in items.iter().enumerate() {
            let Value::Map(map) = item else { continue };
            for (sub, value) in map.iter() {
                let (pattern, typed) = (format!("{key}[].{sub}"), format!("{key}[{n}].{sub}"));
                check_value(look, (&pattern, &typed), value, report);
            }
        }
    }
}

fn check_value(look: &Look<'_>, (pattern, typed): (&str, &str), value: &Value, report: &mut Report) {
    let known = &look.facts.known;
    let Some((name, facts)) = known.find(pattern) else { return };
    let targets = facts.mapped_to.iter().filter_map(|target| known.get(target));
    for facts in std::iter::once(facts).chain(targets) {
        let Some((code, message, remedy)) = doubt(typed, value, facts) else { continue };
        // A pattern with a hole says nothing about the default of what falls into it.
        if code == "CV505" && name.contains('$') {
            continue;
        }
        report.warning(code, look.place(typed), message, remedy);
        return;
    }
}

fn doubt(key: &str, value: &Value, facts: &Facts) -> Option<(&'static str, String, String)> {
    let wants_boolean = matches!(facts.default, Some(Value::Bool(_)));
    match value {
        Value::Text(text) if is_boolean(text) && facts.wants_boolean() => {
            let file = facts.uses.iter().find(|usage| usage.kind == ReadKind::Identity);
            let file = file.map_or_else(String::new, |usage| format!(" ({})", usage.file));
            Some((
                "CV504",
                format!("{key} is tested for the boolean {text}, and \"{text}\" in quotes is none{file}"),
                format!("write {key} = {} without quotes", text.to_lowercase()),
            ))
        }
        Value::Text(text) if wants_boolean && !is_boolean(text) && !text.contains('$') => Some((
            "CV505",
            format!("{key} is true or false by default, and here it is another text"),
            "write true or false".to_owned(),
        )),
        Value::Long(_) | Value::Double(_) if wants_boolean => Some((
            "CV505",
            format!("{key} is true or false by default, and here it is a number"),
            "write true or false".to_owned(),
        )),
        Value::List(_) if is_one_value(facts) => Some((
            "CV505",
            format!(
                "{key} is one value by default, and here it is a list, which is printed with its brackets"
            ),
            "write one value; several often go into one text, separated by commas".to_owned(),
        )),
        _ => None,
    }
}

/// Whether templates print the value as it is; one that joins or loops takes a list as well.
fn is_one_value(facts: &Facts) -> bool {
    matches!(facts.default, Some(Value::Text(_) | Value::Bool(_) | Value::Double(_)))
        && !facts.uses.is_empty()
        && facts.uses.iter().all(|usage| usage.kind == ReadKind::Printed)
}

fn is_boolean(text: &str) -> bool {
    text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
}
