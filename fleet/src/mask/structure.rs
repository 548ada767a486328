//! Secrets that go over several lines or stand apart from their name: PEM, XML, JSON, YAML and properties.

use std::ops::Range;

use super::{
    inline::{self, is_block, is_open},
    names::{NAMES, VALUES, is_hidden},
};

/// Where secrets stand in a text, in order.
pub(super) fn spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    pem(text, &mut spans);
    // Templates and scripts hold XML too.
    if text.contains("</") || text.contains("/>") || text.trim_start().starts_with('<') {
        super::xml::spans(text, &mut spans);
    }
    if text.trim_start().starts_with(['{', '[']) {
        super::json::spans(text, &mut spans);
    }
    if !is_markup(text) {
        blocks(text, &mut spans);
    }
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        spans.extend(inline::spans(line).into_iter().map(|span| start + span.start..start + span.end));
        start += line.len();
    }
    inline::merged(spans)
}

/// XML, JSON, or a template of either. What is indented there belongs to its element, not to the line above.
fn is_markup(text: &str) -> bool {
    let text = text.trim_start();
    let is_template = text.starts_with("{%") || text.starts_with("{{") || text.starts_with("{#");
    text.starts_with(['<', '{']) && (!is_template || text.contains("</"))
}

/// What stands between the marks of a PEM block, on lines of its own or in one line with `\n`.
fn pem(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut from = 0;
    while let Some(found) = text[from..].find("-----BEGIN ") {
        let begin = from + found;
        let after = begin + "-----BEGIN ".len();
        let Some(mark) = text[after..].find("-----") else { return };
        let start = after + mark + 5;
        let end = text[start..].find("-----END ").map_or(text.len(), |end| start + end);
        spans.push(start..end);
        from = end;
    }
}

/// What a line said that the next ones depend on.
enum Open {
    Nothing,
    /// A secret name without a value of its own: more deeply indented lines belong to it.
    Indented(usize),
    /// A value that ended in a backslash.
    Continued,
    /// A text in three quotes.
    Quoted(&'static str),
}

/// Block scalars and nested values of YAML, continued lines of properties, pairs of `name:` and `value:`.
fn blocks(text: &str, spans: &mut Vec<Range<usize>>) {
    let mut blocks = Blocks { open: Open::Nothing, is_named: false, value: None };
    let mut start = 0;
    for whole in text.split_inclusive('\n') {
        let line = whole.trim_end_matches(['\n', '\r']);
        spans.extend(blocks.line(start, line));
        start += whole.len();
    }
}

struct Blocks {
    open: Open,
    /// The line before named a secret, as `name: DB_PASSWORD` does for the `value:` below.
    is_named: bool,
    /// The value of the line before, if its name may stand in this one.
    value: Option<Range<usize>>,
}

impl Blocks {
    /// What is secret in the next line because of those before.
    fn line(&mut self, start: usize, line: &str) -> Option<Range<usize>> {
        let value = self.value.take();
        let end = start + line.len();
        let indent = line.len() - line.trim_start().len();
        let is_blank = line.trim().is_empty();
        match self.open {
            // YAML lets a list stand at the indent of its name.
            Open::Indented(name)
                if is_blank || name < indent || (name == indent && line[indent..].starts_with("- ")) =>
            {
                return Some(start + indent..end);
            }
            Open::Continued => {
                if !line.ends_with('\\') {
                    self.open = Open::Nothing;
                }
                return Some(start + indent..end);
            }
            Open::Quoted(quote) => {
                if line.contains(quote) {
                    self.open = Open::Nothing;
                }
                return Some(start..end);
            }
            Open::Indented(_) | Open::Nothing => {}
        }
        self.open = Open::Nothing;
        let pair = Pair::of(line)?;
        match pair.name {
            name if NAMES.contains(&name) => {
                self.is_named = is_hidden(pair.value.trim_matches(['"', '\'']));
                value.filter(|_| self.is_named)
            }
            name if VALUES.contains(&name) => {
                let value = (!is_open(pair.value)).then_some(start + pair.at..end);
                if std::mem::take(&mut self.is_named) {
                    if is_block(pair.value) {
                        self.open = Open::Indented(pair.indent);
                    }
                    return value;
                }
                self.value = value;
                None
            }
            _ => {
                self.open = pair.opens();
                None
            }
        }
    }
}

/// Which of them stands between name and value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    Colon,
    Equals,
}

/// `name: value` or `name = value` at the beginning of a line.
struct Pair<'a> {
    name: &'a str,
    value: &'a str,
    /// Where the value begins in the line.
    at: usize,
    sign: Sign,
    /// Of the name; the dash of a list counts as white space.
    indent: usize,
}

impl<'a> Pair<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let name_at = line.find(|c: char| !c.is_whitespace() && c != '-')?;
        let rest = &line[name_at..];
        let sign = rest.find([':', '='])?;
        let name = rest[..sign].trim().trim_matches(['"', '\'']);
        if name.contains(char::is_whitespace) {
            return None;
        }
        let after = &rest[sign + 1..];
        let value = after.trim();
        let at = name_at + sign + 1 + (after.len() - after.trim_start().len());
        let sign = if rest[sign..].starts_with(':') { Sign::Colon } else { Sign::Equals };
        Some(Self { name, value, at, sign, indent: name_at })
    }

    /// What the lines below belong to, if the name is one of a secret.
    fn opens(&self) -> Open {
        if !is_hidden(self.name) {
            return Open::Nothing;
        }
        for quote in ["\"\"\"", "'''"] {
            if self.value.starts_with(quote) && self.value.matches(quote).count() == 1 {
                return Open::Quoted(quote);
            }
        }
        if self.value.ends_with('\\') {
            Open::Continued
        } else if self.value.is_empty()
            || is_block(self.value)
            // A value of YAML goes on in the lines that are indented more deeply.
            || (self.sign == Sign::Colon && !is_open(self.value))
        {
            Open::Indented(self.indent)
        } else {
            Open::Nothing
        }
    }
}
