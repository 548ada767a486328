//! Text for people: columns that line up, colour that says the same as the words, times as people say them.

use std::{fmt::Write as _, time::Duration};

use fleet::{
    time::{Human, Timestamp},
    words::{
        GroupWord, NodeWord, ProposalWord, RolloutWord, Said, ServiceWord, Severity, StepWord, VerdictWord,
        Word,
    },
};

use crate::view::When;

/// What a colour stands for. The words beside it always say it too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Good,
    Doubtful,
    Bad,
    Faint,
    Strong,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Tone::Plain => "",
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
            Tone::Faint => "2",
            Tone::Strong => "1",
        }
    }
}

/// Words that have a tone.
pub trait Toned: Word {
    /// Of the word.
    fn tone(self) -> Tone;
}

/// The tone of what was said; a word of a later version is worth a look.
pub fn tone<T: Toned>(said: &Said<T>) -> Tone {
    said.known().map_or(Tone::Doubtful, Toned::tone)
}

impl Toned for NodeWord {
    fn tone(self) -> Tone {
        match self {
            Self::Ready | Self::Running => Tone::Good,
            Self::Unreachable
            | Self::Unhealthy
            | Self::Failed
            | Self::GaveUp
            | Self::Foreign
            | Self::BackingOff => Tone::Bad,
            Self::Idle | Self::NotInFleet => Tone::Faint,
            Self::NotJoined
            | Self::NeverConnected
            | Self::OtherEpoch
            | Self::StoreOlder
            | Self::Unknown
            | Self::Updating
            | Self::Original
            | Self::Stopped
            | Self::Starting
            | Self::Stopping => Tone::Doubtful,
        }
    }
}

impl Toned for ServiceWord {
    fn tone(self) -> Tone {
        self.of_node().tone()
    }
}

impl Toned for VerdictWord {
    fn tone(self) -> Tone {
        match self {
            Self::Healthy => Tone::Good,
            Self::Unhealthy => Tone::Bad,
            Self::Unknown => Tone::Doubtful,
        }
    }
}

impl Toned for RolloutWord {
    fn tone(self) -> Tone {
        match self {
            Self::Done => Tone::Good,
            Self::Failed | Self::Aborted | Self::RolledBack => Tone::Bad,
            Self::Superseded => Tone::Faint,
            Self::Running | Self::Paused | Self::Stopping | Self::RollingBack => Tone::Doubtful,
        }
    }
}

impl Toned for GroupWord {
    fn tone(self) -> Tone {
        match self {
            Self::Done => Tone::Good,
            Self::Failed => Tone::Bad,
            Self::Pending => Tone::Faint,
            Self::Running => Tone::Doubtful,
        }
    }
}

impl Toned for StepWord {
    fn tone(self) -> Tone {
        match self {
            Self::Ready => Tone::Good,
            Self::Failed | Self::RolledBack | Self::ReturnFailed | Self::ReturnUnseen => Tone::Bad,
            Self::Pending | Self::Skipped => Tone::Faint,
            Self::Sent | Self::Written | Self::Restarting | Self::Soaking | Self::Returning => Tone::Doubtful,
        }
    }
}

impl Toned for ProposalWord {
    fn tone(self) -> Tone {
        match self {
            Self::Expired => Tone::Bad,
            Self::Open | Self::Outdated | Self::Approved | Self::Rejected => Tone::Doubtful,
        }
    }
}

impl Toned for Severity {
    fn tone(self) -> Tone {
        match self {
            Self::Error => Tone::Bad,
            Self::Warning => Tone::Doubtful,
            Self::Info => Tone::Faint,
        }
    }
}

/// Colours, or not.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    /// Terminals only.
    pub colour: bool,
    /// Columns to keep to, if known.
    pub width: Option<usize>,
}

impl Style {
    /// The text in its tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if self.colour && tone != Tone::Plain && !text.is_empty() {
            format!("\x1b[{}m{text}\x1b[0m", tone.code())
        } else {
            text.to_owned()
        }
    }

    /// The word in the tone of its state.
    pub fn state<T: Toned>(self, said: &Said<T>) -> String {
        self.paint(tone(said), said.as_str())
    }
}

/// One field of a table.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// In no particular tone.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Tone::Plain }
    }

    /// In this tone.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }

    /// A state word in its tone.
    pub fn state<T: Toned>(said: &Said<T>) -> Self {
        Self { text: said.to_string(), tone: tone(said) }
    }
}

/// A field longer than this does not widen its column; only its own row gets out of line.
const ALIGNED_MAX: usize = 56;

/// Whether a column stays where the terminal has no room for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Always.
    Always,
    /// It goes where there is no room; the highest number goes first.
    UnlessNarrow(u8),
}

/// Rows under a heading. Columns are as wide as their widest field of up to 56 characters. Where a terminal has no room
/// for all columns, those that matter least go; the last field of a row is wrapped between words, never cut.
pub struct Table {
    indent: usize,
    keep: Vec<Keep>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table with a heading.
    pub fn headed<const N: usize>(titles: [&str; N]) -> Self {
        Self::fitted(titles.map(|title| (title, Keep::Always)))
    }

    /// A table with a heading, some of whose columns may go.
    pub fn fitted<const N: usize>(columns: [(&str, Keep); N]) -> Self {
        let titles = columns.map(|(title, _)| Cell::toned(Tone::Faint, title));
        Self { indent: 0, keep: columns.map(|(_, keep)| keep).into(), rows: vec![titles.into()] }
    }

    /// A table without one, moved to the right.
    pub fn indented(indent: usize) -> Self {
        Self { indent, keep: Vec::new(), rows: Vec::new() }
    }

    /// One more row.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// The table as text, ending with a newline unless it is empty.
    pub fn render(&self, style: Style) -> String {
        let fitting = style.width.and_then(|width| self.narrowed(width));
        fitting.as_ref().unwrap_or(self).lay_out(style, |line, (used, _), cell| {
            let width = style.width.unwrap_or(usize::MAX);
            let mut parts = wrap(&cell.text, width.saturating_sub(used).max(WRAP_MIN)).into_iter();
            line.push_str(&style.paint(cell.tone, &parts.next().unwrap_or_default()));
            for part in parts {
                line.push_str(&format!("\n{}{}", " ".repeat(used), style.paint(cell.tone, &part)));
            }
        })
    }

    /// The same without the columns for which there is no room; `None` if all have room.
    fn narrowed(&self, width: usize) -> Option<Self> {
        let mut narrow = Self { indent: self.indent, keep: self.keep.clone(), rows: self.rows.clone() };
        while width < narrow.whole_width() {
            let rank = |keep: &Keep| match keep {
                Keep::Always => 0,
                Keep::UnlessNarrow(rank) => *rank,
            };
            let column = (0..narrow.keep.len()).max_by_key(|column| rank(&narrow.keep[*column]))?;
            if narrow.keep[column] == Keep::Always {
                break;
            }
            narrow.keep.remove(column);
            narrow.rows.iter_mut().filter(|row| column < row.len()).for_each(|row| drop(row.remove(column)));
        }
        (narrow.keep.len() < self.keep.len()).then_some(narrow)
    }

    fn whole_width(&self) -> usize {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let longest = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0)
        };
        self.indent + (0..columns).map(longest).sum::<usize>() + 2 * columns.saturating_sub(1)
    }

    /// The same, and nothing is cut: a last cell for which there is no room moves closer, or to a line of its own.
    pub fn render_whole(&self, style: Style) -> String {
        let room = style.width.unwrap_or(usize::MAX);
        self.lay_out(style, |line, (used, gap), cell| {
            let length = cell.text.chars().count();
            let text = style.paint(cell.tone, &cell.text);
            if room < used + length && self.indent < used {
                line.truncate(line.trim_end_matches(' ').len());
                let closer = used - gap + 2;
                line.push_str(&if closer + length <= room {
                    format!("  {text}")
                } else {
                    format!("\n{}{text}", " ".repeat(self.indent + 4))
                });
            } else {
                line.push_str(&text);
            }
        })
    }

    /// `last` adds the last cell of a row, after what is `used` of the line, its last gap included.
    fn lay_out(&self, style: Style, last: impl Fn(&mut String, (usize, usize), &Cell)) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let lengths = cells.map(|cell| cell.text.chars().count());
            lengths.filter(|length| *length <= ALIGNED_MAX).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = " ".repeat(self.indent);
            let (mut used, mut gap) = (self.indent, 0);
            let filled = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
            for (column, cell) in row.iter().take(filled).enumerate() {
                if column + 1 == filled {
                    last(&mut line, (used, gap), cell);
                } else {
                    let length = cell.text.chars().count();
                    gap = widths[column].saturating_sub(length) + 2;
                    line.push_str(&style.paint(cell.tone, &cell.text));
                    line.extend(std::iter::repeat_n(' ', gap));
                    used += length + gap;
                }
            }
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

/// At most `room` characters, with a sign where something is missing. For lines of files, which wrapping would change.
pub fn cut(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A wrapped part is not narrower than this, whatever the terminal.
const WRAP_MIN: usize = 24;

/// The text in lines of at most `room` characters, broken between words only: a longer word has a line of its own.
pub fn wrap(text: &str, room: usize) -> Vec<String> {
    if text.chars().count() <= room {
        return vec![text.to_owned()];
    }
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= room => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A paragraph that begins at `indent` and goes on two further to the right, ending with a newline.
pub fn hanging(text: &str, indent: usize, style: Style) -> String {
    let room = style.width.map_or(usize::MAX, |width| width.saturating_sub(indent + 2).max(WRAP_MIN));
    let mut out = String::new();
    for (n, line) in wrap(text, room).iter().enumerate() {
        let indent = if n == 0 { indent } else { indent + 2 };
        out.push_str(&format!("{}{line}\n", " ".repeat(indent)));
    }
    out
}

/// How long ago, as people say it; whole units only, so that columns stay quiet.
pub fn ago(now: When, then: When) -> String {
    if then.0 == 0 {
        return "never".to_owned();
    }
    let gone = Timestamp(now.0).since(Timestamp(then.0));
    format!("{} ago", coarse(gone))
}

/// For how long, as people say it.
pub fn lasting(now: When, since: When) -> String {
    if since.0 == 0 {
        return String::new();
    }
    coarse(Timestamp(now.0).since(Timestamp(since.0)))
}

/// Two units at most, nothing below a second.
pub fn coarse(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..86_400 => Human(Duration::from_secs(seconds)).to_string().replace("0ms", "0s"),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// In the reader's own time zone.
pub fn local(time: When) -> String {
    match time.known() {
        Some(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        None => "never".to_owned(),
    }
}

/// Bytes as people say them.
#[expect(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
pub fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// `1 node`, `2 nodes`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Counts per word in order of first appearance: `2 ready, 1 updating`.
pub fn tally<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for word in words {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let mut out = String::new();
    for (word, count) in counts {
        let comma = if out.is_empty() { "" } else { ", " };
        write!(out, "{comma}{count} {word}").expect("a String takes any text");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Style = Style { colour: false, width: None };

    #[test]
    fn what_has_no_room_moves_closer_or_to_a_line_of_its_own() {
        let mut table = Table::indented(2);
        table.row([Cell::plain("+ a"), Cell::plain("1"), Cell::plain("x.toml:1")]);
        table.row([Cell::plain("+ a.long.key"), Cell::plain("12345"), Cell::plain("x.toml:2")]);
        table.row([
            Cell::plain("+ a.long.key"),
            Cell::plain("a value of 24 characters"),
            Cell::plain("x.toml:3"),
        ]);
        let narrow = "  + a           1  x.toml:1\n  + a.long.key  12345  x.toml:2\n  + a.long.key  a value of 24 \
                      characters\n      x.toml:3\n";
        assert_eq!(table.render_whole(Style { colour: false, width: Some(42) }), narrow);
        let all = table.render_whole(PLAIN);
        assert!(all.lines().all(|line| line.find("x.toml") == Some(42)), "{all}");
    }

    #[test]
    fn columns_line_up_and_lines_have_no_trailing_space() {
        let mut table = Table::headed(["NODE", "STATE", "WHY"]);
        table.row([Cell::plain("is-1"), Cell::state(&NodeWord::Ready.into()), Cell::plain("")]);
        table.row([
            Cell::plain("gateway-1"),
            Cell::state(&NodeWord::Updating.into()),
            Cell::plain("restarting since 3s"),
        ]);
        assert_eq!(
            table.render(PLAIN),
            "NODE       STATE     WHY\nis-1       ready\ngateway-1  updating  restarting since 3s\n"
        );
        let narrow = Style { colour: false, width: Some(46) };
        table.row([
            Cell::plain("is-2"),
            Cell::state(&NodeWord::Failed.into()),
            Cell::plain("no JDK in the range of this product"),
        ]);
        assert!(
            table.render(narrow).ends_with(
                "is-2       failed    no JDK in the range of\n                     this product\n"
            ),
            "{}",
            table.render(narrow)
        );
    }

    #[test]
    fn columns_that_matter_least_go_first_and_only_where_there_is_no_room() {
        let mut table = Table::fitted([
            ("NODE", Keep::Always),
            ("GROUP", Keep::UnlessNarrow(1)),
            ("HEALTH", Keep::UnlessNarrow(2)),
            ("SEEN", Keep::Always),
        ]);
        let cells = ["gateway-1", "gateway", "healthy", "now"];
        table.row(cells.map(Cell::plain));
        let at = |width| table.render(Style { colour: false, width: Some(width) });
        let all = "NODE       GROUP    HEALTH   SEEN\ngateway-1  gateway  healthy  now\n";
        assert_eq!(at(33), all);
        assert_eq!(at(32), "NODE       GROUP    SEEN\ngateway-1  gateway  now\n");
        assert_eq!(at(20), "NODE       SEEN\ngateway-1  now\n");
        assert_eq!(table.render(PLAIN), all, "a pipe has room for everything");
    }

    #[test]
    fn a_word_is_never_broken() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        let narrow = Style { colour: false, width: Some(28) };
        assert_eq!(hanging("one two three four five six", 2, narrow), "  one two three four five\n    six\n");
        assert_eq!(hanging("one two", 2, PLAIN), "  one two\n");
        assert_eq!(wrap("a repository/conf/deployment.toml", 10), ["a", "repository/conf/deployment.toml"]);
    }

    #[test]
    fn colour_changes_no_column() {
        let mut table = Table::indented(2);
        table.row([Cell::state(&NodeWord::Ready.into()), Cell::plain("x")]);
        let coloured = table.render(Style { colour: true, width: None });
        assert_eq!(coloured, "  \x1b[32mready\x1b[0m  x\n");
    }

    #[test]
    fn times_are_said_in_whole_units() {
        let at = |seconds: i64| When(1_000_000 + seconds * 1000);
        assert_eq!(ago(at(0), at(0)), "0s ago");
        assert_eq!(ago(at(90), at(0)), "1m30s ago");
        assert_eq!(ago(at(200_000), at(0)), "2d7h ago");
        assert_eq!(ago(at(0), When(0)), "never");
    }
}
