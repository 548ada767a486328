//! What comes from outside, made harmless where it is read in: texts that a terminal may show, numbers that can be
//! counted on from.
//!
//! A node's texts reach the terminal of an operator, and its numbers reach arithmetic that decides. Neither is trusted:
//! whoever holds one node's certificate must not move an operator's cursor, nor make a counter overflow.

use std::{borrow::Cow, fmt::Write as _};

use crate::observed::Observed;

/// The greatest generation, or number of a notice, that is believed. No node gets there by counting, and the next one is
/// always a number too.
pub const COUNT_MAX: u64 = 1 << 53;

/// Characters that a terminal would act on, or that make a text look like another one: control characters, and those
/// that change the direction of writing.
fn is_active(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped<'a>(text: &'a str, is_kept: impl Fn(char) -> bool) -> Cow<'a, str> {
    let is_bad = |c: char| is_active(c) && !is_kept(c);
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) {
            // Writing to a text does not fail. The form is JSON's, so that JSON stays JSON and means the same.
            let _infallible = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// One line of text that a terminal shows and does not act on. Line ends and tabs become spaces; other characters that
/// do something are spelled out, as in `\u001b`.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r', '\t']) {
        let spaced = text.replace("\r\n", " ").replace(['\n', '\r', '\t'], " ");
        return Cow::Owned(escaped(&spaced, |_| false).into_owned());
    }
    escaped(text, |_| false)
}

/// Lines of text that a terminal shows and does not act on: as [`printable`], but line ends and tabs stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// Why a report cannot be believed; `None`: it can.
pub fn implausible(observed: &Observed) -> Option<String> {
    let attempted = observed.attempted.as_ref();
    let failure = attempted.and_then(|attempt| attempt.failure.as_ref());
    let applied = [
        observed.desired,
        observed.written,
        observed.running,
        observed.last_good,
        attempted.map(|attempt| attempt.target),
        failure.and_then(|failure| failure.still_running),
    ];
    let greatest = applied.iter().flatten().map(|applied| applied.generation.0).max().unwrap_or(0);
    (COUNT_MAX < greatest).then(|| format!("generation {greatest} is beyond any that was ever given out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_and_does_nothing() {
        assert_eq!(printable("plain, ä, 日本"), "plain, ä, 日本");
        assert_eq!(printable("\u{1b}]0;owned\u{7}"), "\\u001b]0;owned\\u0007");
        assert_eq!(printable("one\r\ntwo\tthree\rfour"), "one two three four");
        assert_eq!(printable("\u{9b}31m \u{202e}abc \u{7f}"), "\\u009b31m \\u202eabc \\u007f");
        assert_eq!(printable_lines("a\n\tb\u{1b}[2J\r"), "a\n\tb\\u001b[2J\\u000d");
    }
}
