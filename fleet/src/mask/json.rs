//! Secrets of JSON: values under secret names, whatever they are made of, and values whose name stands beside them.

use std::ops::Range;

use super::{
    inline::is_open,
    names::{NAMES, VALUES, is_hidden, is_hidden_section},
};

/// An object or list that is being read.
#[derive(Default)]
struct Level {
    /// The last name, if its value has not come yet.
    name: Option<String>,
    /// Everything up to the end of this level is secret, from here on.
    hidden_from: Option<usize>,
    /// `"name": "password"` stands in it.
    names_secret: bool,
    /// `"value": …` stands in it.
    value: Option<Range<usize>>,
}

/// Broken JSON is read as far as it goes; lines are looked at one by one besides.
pub(super) fn spans(text: &str, spans: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut levels: Vec<Level> = vec![Level::default()];
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at + 1);
                scalar(text, at + 1..end, &mut levels, spans);
                at = end + 1;
            }
            b'{' | b'[' => {
                let name = levels.last_mut().and_then(|level| level.name.take());
                let is_list = bytes[at] == b'[';
                let hides = |name: &String| is_hidden_section(name) || (is_list && is_hidden(name));
                let hidden_from = name.as_ref().filter(|name| hides(name)).map(|_| at + 1);
                // `"password": {"value": …}`.
                let names_secret = name.is_some_and(|name| is_hidden(&name));
                levels.push(Level { hidden_from, names_secret, ..Level::default() });
                at += 1;
            }
            b'}' | b']' => {
                if let Some(level) = levels.pop() {
                    spans.extend(level.hidden_from.map(|from| trimmed(text, from..at)));
                    spans.extend(level.value.filter(|_| level.names_secret));
                }
                at += 1;
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|byte| byte.is_ascii_alphanumeric() || b"-+.".contains(byte))
                    .count();
                scalar(text, at..at + length, &mut levels, spans);
                at += length;
            }
            _ => at += 1,
        }
        if levels.is_empty() {
            levels.push(Level::default());
        }
    }
    // What was cut off is hidden to its end.
    spans.extend(levels.into_iter().filter_map(|level| level.hidden_from).map(|from| from..text.len()));
}

/// Without the white space at both ends, so that the lines of the braces are shown.
pub(super) fn trimmed(text: &str, span: Range<usize>) -> Range<usize> {
    let inner = text.get(span.clone()).unwrap_or_default();
    let start = span.start + inner.len() - inner.trim_start().len();
    start..start + inner.trim().len()
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// A name or a value.
fn scalar(text: &str, span: Range<usize>, levels: &mut [Level], spans: &mut Vec<Range<usize>>) {
    let Some(level) = levels.last_mut() else { return };
    let (Some(part), Some(after)) = (text.get(span.clone()), text.get(span.end..)) else { return };
    if after.trim_start_matches('"').trim_start().starts_with(':') && level.name.is_none() {
        level.name = Some(part.to_owned());
        return;
    }
    let Some(name) = level.name.take() else { return };
    if NAMES.contains(&name.as_str()) {
        level.names_secret |= is_hidden(part);
    } else if is_hidden(&name) {
        if !is_open(part) {
            spans.push(span);
        }
    } else if VALUES.contains(&name.as_str()) {
        level.value = (!is_open(part)).then_some(span);
    }
}
