//! The reference of findings, docs/findings.md, carried in the program: what SARIF rules say, and `convoy explain CODE`.

use fleet::words::Severity;

const TEXT: &str = include_str!("../../docs/findings.md");

/// One finding's entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// `CV502`.
    pub code: &'static str,
    /// The words of its heading.
    pub title: &'static str,
    /// The paragraph below.
    pub text: &'static str,
}

/// The entry of a code.
pub fn find(code: &str) -> Option<Entry> {
    entries().find(|entry| entry.code.eq_ignore_ascii_case(code))
}

/// Whether this is written as the codes of findings are, known or not.
pub fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix("CV").or_else(|| text.strip_prefix("cv"));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Every entry, in order of the page.
pub fn entries() -> impl Iterator<Item = Entry> {
    TEXT.split("\n### ").skip(1).filter_map(|section| {
        let (heading, rest) = section.split_once('\n')?;
        let (code, title) = heading.split_once(' ')?;
        // The next heading of a higher rank ends the paragraph.
        let text = rest.split("\n## ").next().unwrap_or(rest).trim();
        Some(Entry { code, title, text })
    })
}

impl Entry {
    /// By the first word of the paragraph.
    pub fn severity(&self) -> Severity {
        let word = self.text.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        match word {
            "Error" => Severity::Error,
            "Warning" => Severity::Warning,
            _ => Severity::Info,
        }
    }

    /// The heading as one word: `UnknownKey`.
    pub fn name(&self) -> String {
        let words = self.title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.map(|word| word[..1].to_uppercase() + &word[1..]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_says_how_much_it_matters() {
        assert!(70 < entries().count());
        for entry in entries() {
            let begins = ["Error", "Warning", "Info"].iter().any(|word| entry.text.starts_with(word));
            assert!(begins && !entry.name().is_empty(), "{entry:?}");
        }
        let entry = find("cv514").unwrap();
        assert_eq!((entry.code, entry.severity()), ("CV514", Severity::Warning));
    }
}
