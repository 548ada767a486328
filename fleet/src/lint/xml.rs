//! Values that break the XML they are printed into: a bare `&` in a JDBC URL, a `<` in a password. The mapper prints
//! values as they are, and the server fails later with a parser's message about a generated file.

use std::{collections::BTreeMap, sync::Arc};

use carbon::{Origin, Value, render::Resolved};
use roxmltree::{Document, ParsingOptions};

use super::Look;
use crate::spec::report::Report;

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    let rendered = &look.rendered;
    let suspects = suspects(&rendered.resolved);
    let mut blamed: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (file, text) in rendered.files.iter().filter(|(file, _)| file.ends_with(".xml")) {
        let found = if look.taken.contains(file) {
            look.judged.fault_of_base((look.facts, file), text, fault)
        } else {
            look.judged.fault(text, fault)
        };
        let Some(error) = found else { continue };
        let guilty = suspects.iter().filter(|suspect| text.contains(suspect.text));
        let guilty: Vec<&str> = guilty.map(|suspect| &*suspect.key).collect();
        for key in &guilty {
            blamed.entry(key).or_default().push(file);
        }
        // Without a value of the file's own to blame, the pack's template is broken, which nobody here can mend.
        // What stands in for a refused value may be the cause, too.
        if guilty.is_empty() && !suspects.is_empty() && look.refusals.is_empty() {
            report.info(
                "CV515",
                None,
                format!("{file} is not well-formed XML when rendered: {error}"),
                "look at the file with `convoy render`; no value typed here seems to be the cause",
            );
        }
    }
    for (key, files) in blamed {
        report.error(
            "CV510",
            look.place(key),
            format!("{key} breaks the XML of {}", files.join(", ")),
            "write &amp; for &, &lt; for <; in a secret, choose other characters",
        );
    }
}

fn fault(text: &str) -> Option<roxmltree::Error> {
    // Some files begin with an empty line before the declaration, which Java's readers of them forgive.
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(text.trim_start(), options).err()
}

/// A typed value with characters that XML does not take as they are.
struct Suspect<'r> {
    /// As typed.
    key: Arc<str>,
    text: &'r str,
}

fn suspects(resolved: &Resolved) -> Vec<Suspect<'_>> {
    let mut suspects = Vec::new();
    for (key, value) in resolved.values() {
        if may_break(value)
            && let Some(Origin::User { key: typed, .. }) = resolved.origin(key)
        {
            collect(&typed, value, &mut suspects);
        }
    }
    suspects
}

fn collect<'r>(key: &Arc<str>, value: &'r Value, suspects: &mut Vec<Suspect<'r>>) {
    match value {
        Value::Text(text) if breaks(text) => suspects.push(Suspect { key: Arc::clone(key), text }),
        Value::List(items) => items.iter().for_each(|item| collect(key, item, suspects)),
        Value::Map(map) => map.iter().for_each(|(_, value)| collect(key, value, suspects)),
        _ => {}
    }
}

/// Whether there is a text in it that needs a look.
fn may_break(value: &Value) -> bool {
    match value {
        Value::Text(text) => !is_harmless(text),
        Value::List(items) => items.iter().any(may_break),
        Value::Map(map) => map.iter().any(|(_, value)| may_break(value)),
        _ => false,
    }
}

/// Whether XML takes all of its characters anywhere.
fn is_harmless(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" .,:;/_-+=@()[]{}$?!*#%~|".contains(&byte))
}

/// Whether the text by itself, as the content of an element or an attribute, is no XML.
fn breaks(text: &str) -> bool {
    let attribute = format!("<a b=\"{text}\"/>");
    breaks_element(text) || fault(&attribute).is_some()
}

/// Whether the text by itself, as the content of an element, is no XML.
pub(super) fn breaks_element(text: &str) -> bool {
    fault(&format!("<a>{text}</a>")).is_some()
}
