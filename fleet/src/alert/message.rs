//! What a channel is told, as a value and as text. Every channel prints the same words.

use std::{fmt, fmt::Write as _};

use super::{
    rule::{Rule, Severity},
    subject::{AlertId, Place, Subject},
};
use crate::{ids::ChannelName, rollout::utc, time::Timestamp};

/// Names that one message lists; the rest is a number.
pub const NAMES_MAX: usize = 10;

/// What a message says of one rule in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What is wrong.
    pub rule: Rule,
    /// How urgent it is in this fleet.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// Names the incident from its first message to its last.
    pub incident: u64,
    /// Everything up to this change is in the message.
    pub change: u64,
    /// What began since the channel was last told.
    pub begun: Vec<Item>,
    /// What ended since then, of what the channel was told.
    pub over: Vec<Item>,
    /// What the channel knows already, and lasts.
    pub lasting: Vec<Item>,
}

impl Part {
    /// The incident is over with this message.
    pub fn is_over(&self) -> bool {
        self.begun.is_empty() && self.lasting.is_empty()
    }

    /// What names the incident in every channel.
    pub fn incident_name(&self) -> String {
        format!("{}/{}/{}", self.place, self.rule, self.incident)
    }
}

/// Lines of one message.
const LINES_MAX: usize = 60;

/// One alert in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// With what.
    pub subject: Subject,
    /// For people.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// It begins and ends too often, and is reported as one.
    pub flapping: bool,
}

/// Why a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Occasion {
    /// Something began that the channel has not heard of.
    Began,
    /// More began, or some of it ended.
    Changed,
    /// Nothing changed: it is critical and still lasts.
    Repeated,
    /// All of it is over.
    Over,
}

impl Occasion {
    /// The stable word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Occasion::Began => "began",
            Occasion::Changed => "changed",
            Occasion::Repeated => "repeated",
            Occasion::Over => "over",
        }
    }
}

/// One message to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// To whom.
    pub channel: ChannelName,
    /// The same text has the same id, also after a crash: a receiver can drop what it has seen.
    pub delivery: String,
    /// Why.
    pub occasion: Occasion,
    /// What it says: several parts if very much happened at once.
    pub parts: Vec<Part>,
}

impl Message {
    /// The most urgent rule in it.
    pub fn severity(&self) -> Severity {
        self.parts.iter().map(|part| part.severity).max().unwrap_or(Severity::Info)
    }

    /// One line: `[critical] acme-prod: Server down: gw-1, gw-2 (gateway)`.
    pub fn headline(&self, fleet: &str) -> String {
        let word = match self.occasion {
            Occasion::Over => "over",
            Occasion::Began | Occasion::Changed | Occasion::Repeated => self.severity().as_str(),
        };
        let what = match self.parts.as_slice() {
            [part] => {
                let still = if self.occasion == Occasion::Repeated { "still: " } else { "" };
                let items = if part.is_over() {
                    &part.over
                } else if part.begun.is_empty() {
                    &part.lasting
                } else {
                    &part.begun
                };
                format!("{still}{}: {}{}", part.rule.title(), Names(items), At(part))
            }
            parts => {
                let count: usize = parts.iter().map(|part| self.of_occasion(part).count()).sum();
                format!("{count} alerts: {}", Titles(parts))
            }
        };
        format!("[{word}] {fleet}: {what}")
    }

    fn of_occasion<'a>(&self, part: &'a Part) -> impl Iterator<Item = &'a Item> + use<'a> {
        let over = self.occasion == Occasion::Over;
        let (ended, lasting) = if over { (Some(&part.over), None) } else { (None, Some(&part.lasting)) };
        let begun = Some(&part.begun).filter(|_| !over);
        ended.into_iter().chain(begun).chain(lasting).flatten()
    }

    /// The whole text: what began, what ended and what lasts, each with its reason and the next command.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for part in &self.parts {
            if 1 < self.parts.len() {
                line(&mut text, &format!("{}{}", part.rule.title(), At(part)));
            }
            list(&mut text, part.rule, "", &part.begun);
            let over = if part.begun.is_empty() && part.lasting.is_empty() { "" } else { "over: " };
            list(&mut text, part.rule, over, &part.over);
            let known = if part.begun.is_empty() && part.over.is_empty() { "" } else { "still: " };
            list(&mut text, part.rule, known, &part.lasting);
            let next = part.begun.iter().chain(&part.lasting).next();
            if let Some(next) = next {
                line(&mut text, &format!("next: {}", part.rule.remedy(&next.subject)));
            }
        }
        match text.lines().count().saturating_sub(LINES_MAX) {
            0 => text,
            more => {
                let shown: Vec<&str> = text.lines().take(LINES_MAX).collect();
                format!("{}\nand {more} more lines: convoy alert list\n", shown.join("\n"))
            }
        }
    }
}

fn line(text: &mut String, words: &str) {
    text.push_str(words);
    text.push('\n');
}

fn list(text: &mut String, rule: Rule, before: &str, items: &[Item]) {
    for item in items.iter().take(NAMES_MAX) {
        let flapping = if item.flapping { "begins and ends again and again: " } else { "" };
        let reason = if item.reason.is_empty() { rule.title() } else { &item.reason };
        let since = utc(item.since);
        line(text, &format!("{before}{}: {flapping}{reason} (since {since})", item.subject));
    }
    if NAMES_MAX < items.len() {
        line(text, &format!("{before}and {} more", items.len() - NAMES_MAX));
    }
}

/// At most ten names, then a count.
struct Names<'a>(&'a [Item]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().take(NAMES_MAX).enumerate() {
            if index != 0 {
                f.write_str(", ")?;
            }
            item.subject.fmt(f)?;
        }
        match self.0.len().saturating_sub(NAMES_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// ` (gateway)`; nothing where no group is concerned.
struct At<'a>(&'a Part);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.place {
            Place::Fleet => Ok(()),
            Place::Group(group) => write!(f, " ({group})"),
        }
    }
}

/// `Node silent in gateway, key-manager; Server down in gateway`.
struct Titles<'a>(&'a [Part]);

impl fmt::Display for Titles<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules: Vec<Rule> = self.0.iter().map(|part| part.rule).collect();
        rules.sort();
        rules.dedup();
        for (index, rule) in rules.iter().enumerate() {
            let places: Vec<&Place> =
                self.0.iter().filter(|part| part.rule == *rule).map(|part| &part.place).collect();
            let mut names = String::new();
            for (index, place) in places.iter().take(NAMES_MAX).enumerate() {
                write!(names, "{}{place}", if index == 0 { "" } else { ", " })?;
            }
            let more = places.len().saturating_sub(NAMES_MAX);
            let more = if more == 0 { String::new() } else { format!(" and {more} more groups") };
            write!(f, "{}{} in {names}{more}", if index == 0 { "" } else { "; " }, rule.title())?;
        }
        Ok(())
    }
}

impl Part {
    /// Every alert that the message names as new or as lasting.
    pub fn open(&self) -> impl Iterator<Item = AlertId> {
        let items = self.begun.iter().chain(&self.lasting);
        items.map(|item| AlertId { rule: self.rule, subject: item.subject.clone() })
    }
}
