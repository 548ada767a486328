//! `java.util.Properties` text, read as `Properties.load` reads it.

use std::collections::BTreeMap;

/// The pairs of a properties text; of equal keys the last wins. The file's bytes are ISO 8859-1 when Java wrote them
/// through a stream: decode byte for byte before.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    logical_lines(text).iter().map(|line| pair(line)).collect()
}

/// Lines with continuations joined; comments and blank lines gone. A comment is never continued.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut continues = false;
    for line in text.split(['\n', '\r']) {
        let line = line.trim_start_matches([' ', '\t', '\u{c}']);
        if !continues && (line.is_empty() || line.starts_with(['#', '!'])) {
            continue;
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let open = backslashes % 2 == 1;
        let content = if open { &line[..line.len() - 1] } else { line };
        match lines.last_mut() {
            Some(last) if continues => last.push_str(content),
            _ => lines.push(content.to_owned()),
        }
        continues = open;
    }
    lines
}

/// The key ends at the first unescaped `=`, `:` or white space.
fn pair(line: &str) -> (String, String) {
    let mut escaped = false;
    let mut end = line.len();
    for (at, character) in line.char_indices() {
        if escaped {
            escaped = false;
        } else if character == '\\' {
            escaped = true;
        } else if matches!(character, '=' | ':' | ' ' | '\t' | '\u{c}') {
            end = at;
            break;
        }
    }
    let blank = [' ', '\t', '\u{c}'];
    let rest = line[end..].trim_start_matches(blank);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start_matches(blank);
    (unescape(&line[..end]), unescape(rest))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('t') => out.push('\t'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let code: String = characters.by_ref().take(4).collect();
                let read = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                out.push(read.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_java_reads_is_read() {
        let text = "# comment \\\n! another\n\n  a = 1\nb:2\nc 3\nd\\ e\\:f\\=g = \\ x\\ty \nh = one, \\\n    two\n\
                    i\\u00e4=\\u00fc\nj=k=l\nm\nn = c:\\\\dir\\\\\na = 4\r\no = p\r\n";
        let pairs = parse(text);
        let expected = [
            ("a", "4"),
            ("b", "2"),
            ("c", "3"),
            ("d e:f=g", " x\ty "),
            ("h", "one, two"),
            ("iä", "ü"),
            ("j", "k=l"),
            ("m", ""),
            ("n", "c:\\dir\\"),
            ("o", "p"),
        ];
        let expected: BTreeMap<String, String> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(pairs, expected);
    }
}
