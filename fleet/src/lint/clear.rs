//! Passwords and keys that stand in the file as they are.

use carbon::{Value, flatten::Flattened};

use super::Subject;
use crate::{finding::is_secret_key, published::is_published, spec::report::Report};

pub(super) fn check(subject: &Subject<'_>, typed: &Flattened, report: &mut Report) {
    for (key, value) in typed.data.iter() {
        match value {
            Value::Text(text) => value_of((subject, typed), key, text, report),
            Value::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    let Value::Map(map) = item else { continue };
                    for (sub, value) in map.iter() {
                        if let Value::Text(text) = value {
                            value_of((subject, typed), &format!("{key}[{n}].{sub}"), text, report);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn value_of((subject, typed): (&Subject<'_>, &Flattened), key: &str, text: &str, report: &mut Report) {
    let place = || subject.place(key, typed.positions.get(key).copied());
    if key.starts_with("secrets.") {
        if subject.is_clear(key, text) && text.starts_with('[') && text.ends_with(']') {
            report.warning(
                "CV514",
                place(),
                format!("{key} is still in brackets, which means plain text that is to be encrypted"),
                "run ciphertool on it, or use secret()",
            );
        }
        return;
    }
    // What everybody knows anyway is no secret, and a finding across nodes (CV557).
    let is_secret = is_secret_key(key) && !is_published(key, text);
    if !key.starts_with("runtime_secrets.") && is_secret && subject.is_clear(key, text) {
        report.warning(
            "CV513",
            place(),
            format!("{key} stands here in clear"),
            format!("keep it elsewhere: {key} = \"{{{{ secret('NAME') }}}}\", or $secret{{}} of the server"),
        );
    }
}
