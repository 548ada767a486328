//! Passwords and keys that stand in the file as they are.

use carbon::Value;

use super::Look;
use crate::{finding::is_secret_key, spec::report::Report};

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    for (key, value) in look.typed.data.iter() {
        match value {
            Value::Text(text) => value_of(look, key, text, report),
            Value::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    let Value::Map(map) = item else { continue };
                    for (sub, value) in map.iter() {
                        if let Value::Text(text) = value {
                            value_of(look, &format!("{key}[{n}].{sub}"), text, report);
                        }
                    }
                }
            }
            _ => {}
        }
    }
}

fn value_of(look: &Look<'_>, key: &str, text: &str, report: &mut Report) {
    if key.starts_with("secrets.") {
        if look.subject.is_clear(text) && text.starts_with('[') && text.ends_with(']') {
            report.warning(
                "CV514",
                look.place(key),
                format!("{key} is still in brackets, which means plain text that is to be encrypted"),
                "run ciphertool on it, or use secret()",
            );
        }
        return;
    }
    if !key.starts_with("runtime_secrets.") && is_secret_key(key) && look.subject.is_clear(text) {
        report.warning(
            "CV513",
            look.place(key),
            format!("{key} stands here in clear"),
            format!("keep it elsewhere: {key} = \"{{{{ secret('NAME') }}}}\", or $secret{{}} of the server"),
        );
    }
}
