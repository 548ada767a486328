//! Secrets within one line of any text: `name = value` in all its spellings, URLs, command lines, HTTP headers.

use std::ops::Range;

use super::names::is_hidden;

/// Where secrets stand in a line, in order; ranges may touch but never overlap.
pub(super) fn spans(line: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    assignments(line, &mut spans);
    schemes(line, &mut spans);
    urls(line, &mut spans);
    webtokens(line, &mut spans);
    merged(spans)
}

/// Sorted, with those that overlap made one.
pub(super) fn merged(mut spans: Vec<Range<usize>>) -> Vec<Range<usize>> {
    spans.retain(|span| span.start < span.end);
    spans.sort_by_key(|span| (span.start, span.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start < last.end => last.end = last.end.max(span.end),
            _ => merged.push(span),
        }
    }
    merged
}

/// A value that says nothing: empty, a switch, or a reference that somebody else resolves.
pub(crate) fn is_open(value: &str) -> bool {
    let value = value.trim().trim_matches(['"', '\'']).trim();
    let is_reference =
        ["$secret{", "$env{", "$ref{", "$sys{", "${"].iter().any(|open| value.starts_with(open))
            && value.ends_with('}')
            && value.matches('}').count() == 1;
    let is_expression = value.starts_with("{{") && value.ends_with("}}");
    let is_switch =
        ["true", "false", "null", "none", "~", "{", "["].contains(&value.to_ascii_lowercase().as_str());
    value.is_empty() || is_reference || is_expression || is_switch || is_block(value)
}

/// `|`, `>-` and their like, with which YAML says that the value stands below.
pub(super) fn is_block(value: &str) -> bool {
    value.strip_prefix(['|', '>']).is_some_and(|rest| {
        rest.len() <= 2 && rest.bytes().all(|byte| matches!(byte, b'+' | b'-' | b'1'..=b'9'))
    })
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// `name = value`, `"name": "value"`, `name => value`, `--name value`.
fn assignments(line: &str, spans: &mut Vec<Range<usize>>) {
    let bytes = line.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !is_word(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        let word = &line[start..at];
        // `key="…"` within a tag is the name of something more often than a key; the tag is looked at as a whole.
        let is_attribute = word == "key" && line[..start].contains('<');
        let value = match separator(bytes, at) {
            Some(after) if is_hidden(word) && !is_attribute => Some(value(line, start, after)),
            Some(_) => None,
            None => argument(line, word, at),
        };
        if let Some(value) = value
            && !is_open(&line[value.clone()])
        {
            at = at.max(value.end);
            spans.push(value);
        }
    }
}

/// Where the value begins after a name that ends at `at`, if something assigns one.
fn separator(bytes: &[u8], mut at: usize) -> Option<usize> {
    let skip = |at: usize, wanted: &[u8]| {
        let count = bytes[at..].iter().take_while(|byte| wanted.contains(byte)).count();
        at + count
    };
    // A quoted name, perhaps inside a quoted text.
    at = skip(at, b"\\\"']");
    at = skip(at, b" \t");
    let (sign, rest) = bytes[at..].split_first()?;
    let is_assignment = match sign {
        b'=' => rest.first() != Some(&b'='),
        b':' => !rest.starts_with(b"//") && rest.first() != Some(&b':'),
        _ => false,
    };
    if !is_assignment {
        return None;
    }
    at += 1;
    if bytes.get(at) == Some(&b'>') || bytes.get(at) == Some(&b'=') {
        at += 1;
    }
    Some(skip(at, b" \t"))
}

/// The value at `at`: a quoted text, the rest of the line if the name begins it, or one word.
fn value(line: &str, name: usize, at: usize) -> Range<usize> {
    let rest = &line[at..];
    for quote in ["\\\"", "\"\"\"", "'''", "\"", "'", "`"] {
        if let Some(inner) = rest.strip_prefix(quote) {
            let start = at + quote.len();
            return start..start + closing(inner, quote);
        }
    }
    let begins = line[..name]
        .trim_start_matches("export ")
        .trim()
        .trim_start_matches(['-', '+', '#', '/', '<', '!', ';', '"', '\'']);
    // An option such as `-Dpassword=x` may begin a list of arguments.
    if begins.trim().is_empty() && !rest_is_arguments(line, name) {
        return at..at + rest.trim_end().len();
    }
    let end = rest.find(|c: char| c.is_whitespace() || "&;,<>\"'`)}]|".contains(c)).unwrap_or(rest.len());
    at..at + end
}

fn rest_is_arguments(line: &str, name: usize) -> bool {
    line[name..].starts_with('-')
}

/// The length of what stands before a closing quote that is not escaped.
fn closing(inner: &str, quote: &str) -> usize {
    let mut from = 0;
    while let Some(found) = inner[from..].find(quote) {
        let at = from + found;
        let is_escaped =
            quote == "\"" && inner[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        if !is_escaped {
            return at;
        }
        from = at + 1;
    }
    inner.len()
}

/// `--password value`, `-storepass value`, and the password of `-u name:password`.
fn argument(line: &str, word: &str, at: usize) -> Option<Range<usize>> {
    let rest = &line[at..];
    let gap = rest.len() - rest.trim_start().len();
    if gap == 0 || !word.starts_with('-') {
        return None;
    }
    let start = at + gap;
    let value = &line[start..];
    let value = &value[..value.find(char::is_whitespace).unwrap_or(value.len())];
    if matches!(word, "-u" | "--user" | "--proxy-user" | "-U") {
        let colon = value.find(':')?;
        return Some(start + colon + 1..start + value.trim_end_matches(['"', '\'']).len());
    }
    let is_value = !value.starts_with('-') && is_hidden(word.trim_start_matches('-'));
    is_value.then(|| start..start + value.len())
}

/// `Basic …` and `Bearer …`, in headers and wherever else.
fn schemes(line: &str, spans: &mut Vec<Range<usize>>) {
    let lower = line.to_ascii_lowercase();
    for scheme in ["basic ", "bearer "] {
        for (found, _) in lower.match_indices(scheme) {
            let start = found + scheme.len();
            let is_token = |c: char| c.is_ascii_alphanumeric() || "+/=._~-".contains(c);
            let end = start + line[start..].find(|c: char| !is_token(c)).unwrap_or(line.len() - start);
            let word = &line[start..end];
            let is_mixed = word.bytes().any(|byte| !byte.is_ascii_lowercase());
            let is_inside = line[..found].ends_with(|c: char| c.is_ascii_alphanumeric());
            if !is_inside && 6 <= word.len() && is_mixed {
                spans.push(start..end);
            }
        }
    }
}

/// The password of `scheme://user:password@host`.
fn urls(line: &str, spans: &mut Vec<Range<usize>>) {
    for (at, _) in line.match_indices("://") {
        let start = at + 3;
        let length = line[start..].find(['/', '"', '\'', ' ', ',', '?', '<']).unwrap_or(line.len() - start);
        let authority = &line[start..start + length];
        if let Some((user, _)) = authority.rsplit_once('@')
            && let Some(colon) = user.find(':')
            && !is_open(&user[colon + 1..])
        {
            spans.push(start + colon + 1..start + user.len());
        }
    }
}

/// Three parts of Base64 with dots between: a JSON web token.
fn webtokens(line: &str, spans: &mut Vec<Range<usize>>) {
    let mut from = 0;
    while let Some(found) = line[from..].find("eyJ") {
        let start = from + found;
        let is_token = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
        let end = start + line[start..].find(|c: char| !is_token(c)).unwrap_or(line.len() - start);
        if 1 < line[start..end].matches('.').count() {
            spans.push(start..end);
        }
        from = end;
    }
}
