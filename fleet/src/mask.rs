//! Texts as they may be shown: the same lines with every secret value hidden. Used for the lines of findings and for
//! diffs. Line-wise masking alone is not enough: a value may go over several lines, stand in an inline table, or be
//! secret by its table (`[secrets]`).

mod inline;
mod json;
mod names;
mod structure;
mod xml;

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value};

use self::names::{NAMES, VALUES};
pub(crate) use self::{inline::is_open, names::is_hidden};
use crate::{
    finding::{MASK, is_secret_key},
    published::PASSWORDS,
    signature::SigningKey,
};

/// The lines of a TOML text; as many as it has. A text that is not TOML is masked line by line under its headers.
pub(crate) fn toml_lines(text: &str) -> Vec<String> {
    match Document::parse(text) {
        Ok(document) => {
            // A text over several lines may hold anything: XML, a PEM block, a script.
            let mut spans = structure::spans(text);
            collect_table(document.as_table(), "", &mut spans);
            let hidden = inline::merged(spans);
            match public_keys(document.as_table()) {
                Some(shown) => lines(text, &without(&hidden, &shown)),
                None => lines(text, &hidden),
            }
        }
        Err(_) => broken_toml_lines(text),
    }
}

/// Where `keys` of `[signatures]` stands, if it holds public keys and nothing else: whoever reads a finding about them has
/// to see which.
fn public_keys(table: &dyn TableLike) -> Option<Range<usize>> {
    let keys = table.get("signatures")?.as_table_like()?.get("keys")?.as_array()?;
    let is_public = |key: &Value| key.as_str().is_some_and(|key| SigningKey::parse(key).is_ok());
    keys.span().filter(|_| keys.iter().all(is_public))
}

/// The parts of `spans` that are not within `shown`.
fn without(spans: &[Range<usize>], shown: &Range<usize>) -> Vec<Range<usize>> {
    let parts =
        |span: &Range<usize>| [span.start..span.end.min(shown.start), span.start.max(shown.end)..span.end];
    spans.iter().flat_map(parts).filter(|part| part.start < part.end).collect()
}

/// The lines of any other text: properties, XML, YAML, JSON, PEM, scripts.
pub(crate) fn text_lines(text: &str) -> Vec<String> {
    lines(text, &structure::spans(text))
}

/// One line of any text.
pub(crate) fn line(line: &str) -> String {
    let mut shown = line.to_owned();
    for span in structure::spans(line).into_iter().rev() {
        shown.replace_range(span, MASK);
    }
    shown
}

fn lines(text: &str, hidden: &[Range<usize>]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut start = 0;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches('\n').trim_end_matches('\r');
        let end = start + line.len();
        let mut shown = line.to_owned();
        let here = hidden.partition_point(|span| span.end <= start);
        let until = hidden.partition_point(|span| span.start < end);
        for span in hidden.get(here..until).unwrap_or_default().iter().rev() {
            let (from, to) = (span.start.max(start) - start, span.end.min(end) - start);
            let is_quoted = line[from..to].starts_with(['"', '\'']);
            shown.replace_range(from..to, &if is_quoted { format!("\"{MASK}\"") } else { MASK.to_owned() });
        }
        lines.push(shown);
        start += whole.len();
    }
    lines
}

fn broken_toml_lines(text: &str) -> Vec<String> {
    let mut header = String::new();
    let mut closing: Option<&str> = None;
    let mut lines = Vec::new();
    for (line, shown) in text.lines().zip(text_lines(text)) {
        if let Some(mark) = closing {
            closing = closing.filter(|_| !line.contains(mark));
            lines.push(MASK.to_owned());
            continue;
        }
        let trimmed = line.trim();
        if trimmed.starts_with('[') && !trimmed.contains('=') {
            header = trimmed.trim_matches(['[', ']']).trim().to_owned();
        }
        let shown = match line.split_once('=') {
            Some((key, value)) if is_hidden(key) || is_secret_key(&format!("{header}.{}", key.trim())) => {
                closing = closing_mark(value.trim());
                format!("{key}= \"{MASK}\"")
            }
            // An inline table may hide anything behind its first '='.
            Some((key, value)) if value.contains('{') && value.contains('=') => {
                format!("{key}= {{ {MASK} }}")
            }
            _ => shown,
        };
        lines.push(shown);
    }
    lines
}

/// What ends a value that goes on below its line.
fn closing_mark(value: &str) -> Option<&'static str> {
    let quote = ["\"\"\"", "'''"].into_iter().find(|quote| value.starts_with(quote));
    match quote {
        Some(quote) => (value.matches(quote).count() == 1).then_some(quote),
        None => (value.starts_with('[') && !value.contains(']')).then_some("]"),
    }
}

fn collect_table(table: &dyn TableLike, path: &str, spans: &mut Vec<Range<usize>>) {
    let names_secret = NAMES.iter().any(|name| table.get(name).and_then(Item::as_str).is_some_and(is_hidden));
    for (key, item) in table.iter() {
        if names_secret && VALUES.contains(&key) {
            spans.extend(item.as_value().and_then(hidden_span));
        }
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        match item {
            Item::None => {}
            Item::Table(inner) => collect_table(inner, &path, spans),
            Item::ArrayOfTables(elements) => {
                elements.iter().for_each(|element| collect_table(element, &path, spans));
            }
            Item::Value(value) => collect_value(value, &path, spans),
        }
    }
}

/// Where a value stands that is a secret; a switch or a reference says nothing.
fn hidden_span(value: &Value) -> Option<Range<usize>> {
    let is_open = value.is_bool() || value.as_str().is_some_and(inline::is_open);
    value.span().filter(|_| !is_open)
}

fn collect_value(value: &Value, path: &str, spans: &mut Vec<Range<usize>>) {
    match value {
        Value::InlineTable(inner) => collect_table(inner, path, spans),
        _ if is_hidden(path) => spans.extend(hidden_span(value)),
        Value::Array(array) => array.iter().for_each(|item| collect_value(item, path, spans)),
        _ => {}
    }
}

/// Values that must not be shown wherever they stand: a template prints a secret under any name.
#[derive(Debug, Default)]
pub(crate) struct Hidden(Vec<String>);

impl Hidden {
    /// One more value; of several lines each by itself, as it is and as XML holds it.
    pub(crate) fn add(&mut self, value: &str) {
        for line in value.lines().map(str::trim) {
            // Hiding what everybody knows would only blur names such as `admin`.
            if line.is_empty() || PASSWORDS.contains(&line) {
                continue;
            }
            for form in [line.to_owned(), escaped(line)] {
                if !self.0.contains(&form) {
                    self.0.push(form);
                }
            }
        }
        // The longest first: one secret may be part of another.
        self.0.sort_by_key(|form| std::cmp::Reverse(form.len()));
    }

    /// The line without them.
    pub(crate) fn hide(&self, line: &str) -> String {
        self.0.iter().fold(line.to_owned(), |line, secret| hide_one(&line, secret))
    }
}

/// Adds the secret values of a TOML text, as far as it can be read.
pub(crate) fn secrets_of(text: &str, hidden: &mut Hidden) {
    let Ok(document) = Document::parse(text) else { return };
    let mut spans = Vec::new();
    collect_table(document.as_table(), "", &mut spans);
    for value in spans.into_iter().filter_map(|span| text.get(span)) {
        let read = value.parse::<Value>();
        let value = read.as_ref().ok().and_then(Value::as_str).unwrap_or(value);
        hidden.add(value);
    }
}

/// A short secret is hidden only where it stands by itself: `1` is part of every port.
fn hide_one(line: &str, secret: &str) -> String {
    const SHORT: usize = 4;
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(secret) {
        let end = at + secret.len();
        let joins = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let part = joins(rest[..at].chars().next_back()) || joins(rest[end..].chars().next());
        out.push_str(&rest[..at]);
        out.push_str(if secret.len() < SHORT && part { secret } else { MASK });
        rest = &rest[end..];
    }
    out + rest
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod hidden_tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_under_any_name_and_names_are_not_blurred() {
        let mut hidden = Hidden::default();
        ["hunter2", "a&b<c>", "pin", "admin", "hunter2-longer"].iter().for_each(|secret| hidden.add(secret));
        let table = [
            ("<Property name=\"x\">hunter2</Property>", "<Property name=\"x\">********</Property>"),
            ("<a>a&amp;b&lt;c&gt;</a> a&b<c>", "<a>********</a> ********"),
            ("pin=pin, pinning, 'pin'", "********=********, pinning, '********'"),
            ("<AdminRole>admin</AdminRole>", "<AdminRole>admin</AdminRole>"),
            ("hunter2-longer!", "********!"),
        ];
        for (line, expected) in table {
            assert_eq!(hidden.hide(line), expected);
        }
    }
}
