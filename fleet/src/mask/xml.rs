//! Secrets of XML: elements and attributes that are named as secrets, and values whose name stands beside them.
//!
//! No parser: files that are edited by hand are often broken, and then nothing may be shown that would be hidden.

use std::ops::Range;

use super::{
    inline::is_open,
    json::trimmed,
    names::{NAMES, VALUES, is_hidden, is_hidden_section},
};

pub(super) fn spans(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut at = 0;
    // `<name>password</name><value>…</value>`.
    let mut is_named = false;
    while let Some(found) = text[at..].find('<') {
        let open = at + found;
        let rest = &text[open + 1..];
        // What a comment or CDATA holds is looked at like everything else.
        let Some(tag) = Tag::read(text, open).filter(|_| rest.starts_with(char::is_alphabetic)) else {
            at = open + 1;
            continue;
        };
        at = tag.end;
        let names_secret = tag.attributes(text, spans);
        if tag.is_empty {
            continue;
        }
        let local = tag.local();
        let is_pair = is_named && matches!(local, "value" | "param-value" | "property-value");
        if matches!(local, "name" | "key" | "param-name" | "property-name") && is_name(text, &tag) {
            is_named = true;
        } else if names_secret || is_hidden(local) || is_pair {
            let content = at..content_end(text, at, tag.name);
            is_named = false;
            // `<OTP>` with elements of its own is a section; each of them has a name that decides.
            if !is_hidden_section(local) && text[content.clone()].contains("</") {
                // `<Password><value>…</value></Password>`.
                is_named = is_hidden(local);
                continue;
            }
            at = content.end;
            if !is_open(&text[content.clone()]) {
                spans.push(trimmed(text, content));
            }
        }
    }
}

/// Whether the content of the tag is the name of a secret.
fn is_name(text: &str, tag: &Tag<'_>) -> bool {
    let rest = &text[tag.end..];
    rest.find('<').is_some_and(|end| is_hidden(rest[..end].trim()))
}

/// Where the content that begins at `from` ends: at the closing tag of that name, or else nowhere.
fn content_end(text: &str, from: usize, name: &str) -> usize {
    let (mut at, mut depth) = (from, 0_usize);
    while let Some(found) = text[at..].find('<') {
        let open = at + found;
        let rest = &text[open + 1..];
        let is_same = |rest: &str| {
            rest.strip_prefix(name)
                .is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || "_-.:".contains(c)))
        };
        if let Some(closing) = rest.strip_prefix('/') {
            if is_same(closing) {
                if depth == 0 {
                    return open;
                }
                depth -= 1;
            }
        } else if is_same(rest) && Tag::read(text, open).is_some_and(|tag| !tag.is_empty) {
            depth += 1;
        }
        at = open + 1;
    }
    text.len()
}

/// No tag is longer than this, in characters.
const TAG_MAX: usize = 4 * 1024;

struct Tag<'a> {
    name: &'a str,
    /// Where its attributes begin and end.
    inside: Range<usize>,
    /// Behind its `>`.
    end: usize,
    is_empty: bool,
}

impl<'a> Tag<'a> {
    /// The tag whose `<` stands at `open`.
    fn read(text: &'a str, open: usize) -> Option<Self> {
        let mut rest = &text[open + 1..];
        if let Some((end, _)) = rest.char_indices().nth(TAG_MAX) {
            rest = &rest[..end];
        }
        let length = rest.find(|c: char| c.is_whitespace() || "/>".contains(c))?;
        let (mut quote, mut close) = (None, None);
        for (at, c) in rest[length..].char_indices() {
            match (quote, c) {
                (None, '>') => {
                    close = Some(length + at);
                    break;
                }
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if open == c => quote = None,
                _ => {}
            }
        }
        let close = close?;
        Some(Self {
            name: &rest[..length],
            inside: open + 1 + length..open + 1 + close,
            end: open + 1 + close + 1,
            is_empty: rest[..close].ends_with('/'),
        })
    }

    fn local(&self) -> &'a str {
        self.name.rsplit(':').next().unwrap_or(self.name)
    }

    /// Adds the attributes that are secret; whether another one names the element's value as a secret.
    fn attributes(&self, text: &str, spans: &mut Vec<Range<usize>>) -> bool {
        let mut found: Vec<Attribute<'_>> = Vec::new();
        let mut at = self.inside.start;
        while let Some(sign) = text[at..self.inside.end].find('=') {
            let sign = at + sign;
            let name = text[at..sign].trim().rsplit(char::is_whitespace).next().unwrap_or_default();
            let rest = &text[sign + 1..self.inside.end];
            let gap = rest.len() - rest.trim_start().len();
            let start = sign + 1 + gap + 1;
            let Some(quote) = rest.trim_start().chars().next().filter(|c| matches!(c, '"' | '\'')) else {
                break;
            };
            let end = text[start..self.inside.end].find(quote).map_or(self.inside.end, |end| start + end);
            found.push(Attribute { name: name.rsplit(':').next().unwrap_or(name), value: start..end });
            at = (end + 1).min(self.inside.end);
        }
        let names_secret = found
            .iter()
            .any(|attribute| NAMES.contains(&attribute.name) && is_hidden(&text[attribute.value.clone()]));
        // A `key` beside a value or before a content is a name; alone it may be a key.
        let has_value = !self.is_empty || found.iter().any(|attribute| VALUES.contains(&attribute.name));
        for Attribute { name, value } in found {
            let is_secret = (is_hidden(name) && !(has_value && NAMES.contains(&name)))
                || (names_secret && VALUES.contains(&name));
            if is_secret && !is_open(&text[value.clone()]) {
                spans.push(value);
            }
        }
        names_secret
    }
}

struct Attribute<'a> {
    name: &'a str,
    value: Range<usize>,
}
