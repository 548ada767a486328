//! Texts as they may be shown: the same lines with every secret value hidden. Used for the lines of findings and for
//! diffs. Line-wise masking alone is not enough: a value may go over several lines, stand in an inline table, or be
//! secret by its table (`[secrets]`).

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value};

use crate::{
    finding::{MASK, is_secret_key, mask_line},
    published::PASSWORDS,
};

/// The lines of a TOML text; as many as it has. A text that is not TOML is masked line by line under its headers.
pub(crate) fn toml_lines(text: &str) -> Vec<String> {
    match Document::parse(text) {
        Ok(document) => {
            let mut spans = Vec::new();
            collect_table(document.as_table(), "", &mut spans);
            spans.sort_by_key(|span| span.start);
            lines(text, &spans)
        }
        Err(_) => broken_toml_lines(text),
    }
}

/// The lines of any other text: properties, XML, YAML.
pub(crate) fn text_lines(text: &str) -> Vec<String> {
    lines(text, &[])
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
            shown.replace_range(from..to, &format!("\"{MASK}\""));
        }
        lines.push(mask_element(&mask_line(&shown)));
        start += whole.len();
    }
    lines
}

fn broken_toml_lines(text: &str) -> Vec<String> {
    let mut header = String::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with('[') && !trimmed.contains('=') {
            header = trimmed.trim_matches(['[', ']']).trim().to_owned();
        }
        let shown = match line.split_once('=') {
            Some((key, _)) if is_secret_key(&format!("{header}.{}", key.trim())) => {
                format!("{key}= \"{MASK}\"")
            }
            // An inline table may hide anything behind its first '='.
            Some((key, value)) if value.contains('{') && value.contains('=') => {
                format!("{key}= {{ {MASK} }}")
            }
            _ => mask_line(line),
        };
        lines.push(shown);
    }
    lines
}

fn collect_table(table: &dyn TableLike, path: &str, spans: &mut Vec<Range<usize>>) {
    for (key, item) in table.iter() {
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

fn collect_value(value: &Value, path: &str, spans: &mut Vec<Range<usize>>) {
    match value {
        Value::InlineTable(inner) => collect_table(inner, path, spans),
        _ if is_secret_key(path) => spans.extend(value.span()),
        Value::Array(array) => array.iter().for_each(|item| collect_value(item, path, spans)),
        _ => {}
    }
}

/// `<Password>x</Password>` and `password: x`, as XML and YAML hold them.
fn mask_element(line: &str) -> String {
    let trimmed = line.trim_start();
    if let Some(inner) = trimmed.strip_prefix('<') {
        let name: String = inner.chars().take_while(|c| c.is_alphanumeric() || "_-.:".contains(*c)).collect();
        let open = line.find('>').map(|at| at + 1);
        if let (true, Some(open)) = (is_secret_key(&name), open) {
            let close = line[open..].find("</").map_or(line.len(), |at| open + at);
            return format!("{}{MASK}{}", &line[..open], &line[close..]);
        }
    }
    match trimmed.split_once(':') {
        Some((key, value)) if is_secret_key(key) && value.starts_with(' ') => {
            let indent = &line[..line.len() - trimmed.len()];
            format!("{indent}{key}: {MASK}")
        }
        _ => line.to_owned(),
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
mod tests {
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
