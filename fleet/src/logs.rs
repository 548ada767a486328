//! Logs that an operator reads from the desk (ADR 0064): which there are, what can be asked, and how a line is shown.
//!
//! The agent reads, the coordinator passes on, and nobody keeps anything. A question holds all that the agent has to
//! know, so it remembers nothing between two of them.

use std::fmt;

use crate::{foreign::printable, mask, time::Timestamp};

/// Lines of one question for the last ones.
pub const LAST_MAX: u32 = 2_000;
/// Characters of a line; the rest is counted.
pub const LINE_MAX: usize = 4_000;
/// Bytes of all lines in one part.
pub const PART_MAX: usize = 32 * 1024;
/// Bytes at the end of the logs that a question since a time looks at.
pub const SPAN_MAX: u64 = 64 << 20;
/// Bytes of the text that lines are filtered by.
pub const GREP_MAX: usize = 256;

/// A log of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Log {
    /// What the server printed, as its agent caught it. Empty where systemd starts the server.
    Console,
    /// `repository/logs/wso2carbon.log`.
    Carbon,
    /// `repository/logs/audit.log`: who did what on the server.
    Audit,
    /// The newest lines that the agent logged since it began.
    Agent,
}

impl Log {
    /// Every log.
    pub const ALL: [Self; 4] = [Self::Console, Self::Carbon, Self::Audit, Self::Agent];

    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Carbon => "carbon",
            Self::Audit => "audit",
            Self::Agent => "agent",
        }
    }

    /// The log of that word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|log| log.as_str() == word)
    }

    /// The name of its file without `.log`; `None`: it is no file.
    pub const fn stem(self) -> Option<&'static str> {
        match self {
            Self::Console => Some("server"),
            Self::Carbon => Some("wso2carbon"),
            Self::Audit => Some("audit"),
            Self::Agent => None,
        }
    }

    /// What a name in the directory of the log is.
    pub fn role_of(self, name: &str) -> FileRole {
        let Some(rest) = self.stem().and_then(|stem| name.strip_prefix(stem)) else { return FileRole::Other };
        // wso2carbon.log; wso2carbon-11-29-2026.log, wso2carbon.log.2026-11-29, server.log.1
        let is_numbered = |rest: &str| rest.chars().next().is_some_and(|c| c.is_ascii_digit());
        match rest {
            ".log" => FileRole::Current,
            _ if [".gz", ".zip", ".bz2", ".xz", ".zst"].iter().any(|end| rest.ends_with(end)) => {
                FileRole::Compressed
            }
            _ if rest.strip_prefix(".log.").is_some_and(is_numbered) => FileRole::Rotated,
            _ if rest.ends_with(".log") && rest.strip_prefix('-').is_some_and(is_numbered) => {
                FileRole::Rotated
            }
            _ => FileRole::Other,
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a file in the directory of a log has to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRole {
    /// The server writes to it.
    Current,
    /// An earlier part.
    Rotated,
    /// An earlier part that is not read.
    Compressed,
    /// Another log.
    Other,
}

/// How far the lines with a time were found to be since a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reached {
    /// No line had a time so far: they are shown.
    #[default]
    Untold,
    /// The newest line with a time was too early.
    Early,
    /// All that follows is wanted.
    Yes,
}

/// A place in a log. Only the agent that gave it knows what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Tells the file from its neighbours.
    pub file: u64,
    /// Bytes; of the agent's own log, lines.
    pub offset: u64,
    /// Whether the lines before were early enough to be left out.
    pub reached: Reached,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// At the last lines, so many.
    Last(u32),
    /// At the first line since the question's time, in rotated files too.
    Since,
    /// Where the part before ended.
    After(Position),
}

/// What is asked of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogQuestion {
    /// Which log.
    pub log: Log,
    /// Where to begin.
    pub begin: Begin,
    /// Only lines since then, as far as lines say when they were written.
    pub since: Option<Timestamp>,
    /// Only lines that hold this text as they are shown: what is masked cannot be searched for.
    pub grep: Option<String>,
}

/// One part of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPart {
    /// Lines as they are shown, at most [`PART_MAX`] bytes of them.
    pub lines: Vec<String>,
    /// Where the next part begins.
    pub next: Position,
    /// There is more now.
    pub more: bool,
    /// What a reader should know about what was not read.
    pub notes: Vec<String>,
}

/// When a line says that it was written, in the time zone of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LineTime {
    /// Year, month, day.
    pub date: (i16, i8, i8),
    /// Hour, minute, second.
    pub time: (i8, i8, i8),
}

impl LineTime {
    /// Finds `2026-11-30 05:20:11` or `2026-11-30T05:20:11` near the beginning of a line.
    pub fn of(line: &str) -> Option<Self> {
        const NEAR: usize = 80;
        let bytes = line.as_bytes();
        let last = bytes.len().checked_sub(19)?.min(NEAR);
        (0..=last).find_map(|at| Self::at(&bytes[at..at + 19]))
    }

    fn at(text: &[u8]) -> Option<Self> {
        let number = |from: usize, to: usize| {
            text[from..to]
                .iter()
                .try_fold(0_i16, |sum, c| c.is_ascii_digit().then(|| sum * 10 + i16::from(c - b'0')))
        };
        let small = |from: usize| number(from, from + 2).and_then(|number| i8::try_from(number).ok());
        let marks = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        if !marks.iter().all(|(at, mark)| text[*at] == *mark) || !matches!(text[10], b' ' | b'T') {
            return None;
        }
        let date = (number(0, 4)?, small(5)?, small(8)?);
        Some(Self { date, time: (small(11)?, small(14)?, small(17)?) })
    }
}

/// Hides what must not be shown, and makes the rest printable.
#[derive(Debug, Default)]
pub struct Shown {
    hidden: mask::Hidden,
}

impl Shown {
    /// Also hides, wherever they stand, the secret values of a deployment.toml: a server may log its password under any
    /// name, or none.
    pub fn knowing(config: &str) -> Self {
        let mut hidden = mask::Hidden::default();
        mask::secrets_of(config, &mut hidden);
        Self { hidden }
    }

    /// The same, and hides the secret values of another one.
    #[must_use]
    pub fn and_knowing(mut self, config: &str) -> Self {
        mask::secrets_of(config, &mut self.hidden);
        self
    }

    /// The same, and hides these values wherever they stand.
    #[must_use]
    pub fn hiding<'a>(mut self, values: impl IntoIterator<Item = &'a str>) -> Self {
        values.into_iter().for_each(|value| self.hidden.add(value));
        self
    }

    /// A TOML text as it is shown; as many lines.
    pub fn toml(&self, text: &str) -> String {
        let lines = mask::toml_lines(text);
        lines
            .iter()
            .flat_map(|line| [printable(&self.hidden.hide(line)).into_owned(), "\n".to_owned()])
            .collect()
    }

    /// Lines that follow one another, as they are shown; as many.
    pub fn lines(&self, lines: &[String]) -> Vec<String> {
        let whole: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        // Together, since a key goes over several lines; and each by itself, since the first may be of any form.
        mask::text_lines(&whole).iter().map(|line| self.one(&mask::line(line))).collect()
    }

    fn one(&self, line: &str) -> String {
        if is_block(line) {
            return crate::finding::MASK.to_owned();
        }
        let hidden = self.hidden.hide(line);
        let line = printable(&hidden);
        let mut chars = line.char_indices();
        let Some((cut, _)) = chars.nth(LINE_MAX) else { return line.into_owned() };
        format!("{}… ({} more characters)", &line[..cut], chars.count() + 1)
    }
}

/// A line of a key or a certificate, whose first line may have been read before.
fn is_block(line: &str) -> bool {
    let line = line.trim();
    40 <= line.len() && line.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_log_are_told_from_their_neighbours() {
        use FileRole::{Compressed, Current, Other, Rotated};
        for (log, name, role) in [
            (Log::Carbon, "wso2carbon.log", Current),
            (Log::Carbon, "wso2carbon-11-29-2026.log", Rotated),
            (Log::Carbon, "wso2carbon.log.2026-11-29", Rotated),
            (Log::Carbon, "wso2carbon-11-29-2026.log.gz", Compressed),
            (Log::Carbon, "wso2carbon-trace-messages.log", Other),
            (Log::Carbon, "audit.log", Other),
            (Log::Audit, "audit.log", Current),
            (Log::Audit, "audit-11-29-2026.log", Rotated),
            (Log::Console, "server.log", Current),
            (Log::Console, "server.log.2", Rotated),
            (Log::Console, "server.log.bak", Other),
            (Log::Agent, "agent.log", Other),
        ] {
            assert_eq!(log.role_of(name), role, "{name} of {log}");
        }
        assert!(Log::ALL.iter().all(|log| Log::parse(log.as_str()) == Some(*log)));
    }

    #[test]
    fn the_time_of_a_line_is_found_where_the_products_write_it() {
        let at = LineTime { date: (2026, 11, 30), time: (5, 20, 11) };
        for line in [
            "TID: [-1234] [] [2026-11-30 05:20:11,123]  INFO {org.wso2.carbon.core} - Starting",
            "[2026-11-30 05:20:11,123] []  INFO {x} - y",
            "2026-11-30T05:20:11.123456Z  INFO agent: The agent is up",
            "2026-11-30 05:20:11",
        ] {
            assert_eq!(LineTime::of(line), Some(at), "{line}");
        }
        for line in ["", "\tat org.wso2.Foo.bar(Foo.java:20)", "2026-11-30", "ä2026/11/30 05:20:11"] {
            assert_eq!(LineTime::of(line), None, "{line}");
        }
    }

    #[test]
    fn a_line_shows_neither_secrets_nor_what_moves_a_cursor() {
        let config = "[super_admin]\nusername = 'admin'\npassword = 'Hunter2-x'\n[database.a]\npassword = \"$secret{a}\"\n";
        let shown = Shown::knowing(config);
        let line = |text: &str| shown.lines(&[text.to_owned()]).remove(0);
        assert_eq!(line("login of admin with Hunter2-x failed"), "login of admin with ******** failed");
        assert!(!line("jdbc:mysql://u:p4ssw0rd@db/x").contains("p4ssw0rd"));
        assert!(!line("password=other").contains("other"));
        assert_eq!(line("a\u{1b}[2Jb"), "a\\u001b[2Jb");
        let long = line(&"x".repeat(LINE_MAX + 5).replace("xx", "x y"));
        assert!(long.chars().count() < LINE_MAX + 40 && long.contains("more characters)"), "{long}");
        let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
        assert_eq!(line(key), "********");
        let pem = ["-----BEGIN PRIVATE KEY-----", "short", "-----END PRIVATE KEY-----"].map(str::to_owned);
        assert!(!shown.lines(&pem).concat().contains("short"));
        for count in 0..4 {
            assert_eq!(shown.lines(&vec![String::new(); count]).len(), count);
        }
    }
}
