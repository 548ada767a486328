//! Reading logs for operators (ADR 0064): a part at a time, on a thread of its own, and nothing is remembered between two
//! parts.
//!
//! The server's own logs are read below its home through the door of all files there: no link, no device. What the
//! server printed and what the agent logged are the agent's own. Every line is masked and made printable here, before it
//! leaves the host; lines are filtered as they are shown, so nobody can search for what is masked.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fleet::{
    bundle::{FILE_SIZE_MAX, HomePath},
    host::CONFIG,
    logs::{
        Begin, FileRole, LINE_MAX, LineTime, Log, LogPart, LogQuestion, PART_MAX, Position, Reached,
        SPAN_MAX, Shown,
    },
    time::Timestamp,
};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    files::{Facts, Home, LastPart, PlaceError, facts_of, open_named},
    look::Looker,
    process::Console,
    telemetry,
};

/// Below home.
const FOLDER: &str = "repository/logs";
/// Names in that directory.
const ENTRIES_MAX: usize = 10_000;
/// Parts of one log, the newest.
const PARTS_MAX: usize = 64;
/// Bytes that one question reads.
const READ_MAX: u64 = 4 << 20;
/// Bytes at the end of a log in which its last lines are looked for.
const LAST_SPAN: u64 = 2 << 20;
/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;
/// Of a longer line only the beginning is kept, bytes.
const LINE_BYTES: usize = 4 * LINE_MAX;
/// A question that takes longer is answered with what was read.
const READ_TIME: Duration = Duration::from_millis(1_500);
/// The coordinator has given up by then.
const ANSWER_TIME: Duration = Duration::from_secs(4);

/// Answers questions about logs.
#[derive(Debug, Clone)]
pub struct Reader {
    /// Knows the homes.
    pub looker: Looker,
    /// Where the agent keeps what the server printed.
    pub console: PathBuf,
    /// Held by the question under way.
    pub turn: Arc<Semaphore>,
}

impl Reader {
    /// For the homes that `looker` may look at, and the agent that keeps its state in `data_dir`.
    pub fn new(looker: &Looker, data_dir: &Path) -> Self {
        Self { looker: looker.clone(), console: Console::folder(data_dir), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Reads one part; or says why not, for people.
    ///
    /// # Errors
    /// No home that can be told, no such log, or one that cannot be read in time.
    pub async fn read(&self, question: LogQuestion) -> Result<LogPart, String> {
        let home = match question.log {
            Log::Agent => return Ok(own(&question)),
            Log::Console | Log::Carbon | Log::Audit => self.looker.home_of(None)?,
        };
        let console = self.console.clone();
        let reading = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| "the agent is ending")?;
            let reading = crate::task::blocking(move || {
                // Held to the end of the reading, however long that takes.
                let _turn = turn;
                part(&Place { home: &home, console: &console }, &question)
            });
            reading.await.map_err(|error| error.to_string())?
        };
        let read = tokio::time::timeout(ANSWER_TIME, reading).await;
        read.map_err(|_| format!("the log was not read within {} s", ANSWER_TIME.as_secs()))?
    }
}

/// Where the files of a log are.
struct Place<'a> {
    home: &'a str,
    console: &'a Path,
}

/// One file of a log, open.
struct Part {
    file: File,
    number: u64,
    size: u64,
    modified: Timestamp,
    role: FileRole,
}

/// The parts of a log, oldest first, and how many are compressed.
struct Parts {
    parts: Vec<Part>,
    compressed: usize,
}

impl Parts {
    fn of(place: &Place<'_>, log: Log) -> Result<Self, String> {
        let found = match log {
            Log::Console => Self::of_console(place.console),
            Log::Carbon | Log::Audit | Log::Agent => Self::of_home(place.home, log),
        };
        let mut found = found?;
        found.parts.sort_by_key(|part| (part.role == FileRole::Current, part.modified));
        let early = found.parts.len().saturating_sub(PARTS_MAX);
        found.parts.drain(..early);
        Ok(found)
    }

    fn of_home(home: &str, log: Log) -> Result<Self, String> {
        let told = |error: PlaceError| crate::chain(&error);
        let opened = Home::open(home).map_err(told)?;
        let folder = HomePath::parse(FOLDER).map_err(|error| error.to_string())?;
        let mut found = Self { parts: Vec::new(), compressed: 0 };
        for entry in opened.list(&folder, ENTRIES_MAX).map_err(told)? {
            let role = log.role_of(&entry.name);
            match role {
                FileRole::Current | FileRole::Rotated => {}
                FileRole::Compressed => found.compressed += 1,
                FileRole::Other => continue,
            }
            let Ok(path) = HomePath::parse(&format!("{FOLDER}/{}", entry.name)) else { continue };
            match opened.place(&path, None).and_then(|place| place.open()) {
                Ok((file, facts)) => found.add(file, &facts, role),
                Err(error) if error.is_not_found() => {}
                // A rotated part that cannot be read is one less; the log itself is what was asked for.
                Err(_) if role != FileRole::Current => {}
                Err(error) => return Err(told(error)),
            }
        }
        Ok(found)
    }

    fn of_console(folder: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("the server's output cannot be read: {error}");
        let mut found = Self { parts: Vec::new(), compressed: 0 };
        for entry in std::fs::read_dir(folder).map_err(failed)?.take(ENTRIES_MAX) {
            let name = entry.map_err(failed)?.file_name();
            let role = Log::Console.role_of(&name.to_string_lossy());
            if !matches!(role, FileRole::Current | FileRole::Rotated) {
                continue;
            }
            let file = open_named(&folder.join(&name), LastPart::IsNoLink).map_err(failed)?;
            let facts = facts_of(&file).map_err(failed)?;
            found.add(file, &facts, role);
        }
        Ok(found)
    }

    fn add(&mut self, file: File, facts: &Facts, role: FileRole) {
        if matches!(role, FileRole::Current | FileRole::Rotated) {
            let number = number_of(facts);
            self.parts.push(Part { file, number, size: facts.size, modified: facts.modified(), role });
        }
    }

    /// Where to begin; the index of the part and the bytes before.
    fn begin(
        &self,
        question: &LogQuestion,
        notes: &mut Vec<String>,
    ) -> Result<(usize, u64, Reached), String> {
        let newest = self.parts.len() - 1;
        match question.begin {
            Begin::Last(lines) => {
                let part = &self.parts[newest];
                let from = part.size.saturating_sub(LAST_SPAN);
                let (starts, open) = line_starts(part, from).map_err(|error| error.to_string())?;
                let at = starts.len().saturating_sub(lines as usize);
                Ok((newest, starts.get(at).copied().or(open).unwrap_or(part.size), Reached::Yes))
            }
            Begin::Since => {
                let since = question.since.unwrap_or_default();
                let mut span = 0;
                let mut first = (newest, self.parts[newest].size);
                for (index, part) in self.parts.iter().enumerate().rev() {
                    if part.modified < since && index != newest {
                        break;
                    }
                    let left = SPAN_MAX - span;
                    first = (index, part.size.saturating_sub(left));
                    span += part.size.min(left);
                    if span == SPAN_MAX {
                        notes.push(format!("only the last {} MiB of the log were looked at", SPAN_MAX >> 20));
                        break;
                    }
                }
                if first == (0, 0) && self.compressed != 0 && since < self.parts[0].modified {
                    notes.push(format!("{} compressed parts of the log were not read", self.compressed));
                }
                Ok((first.0, first.1, Reached::Untold))
            }
            Begin::After(position) => Ok(self.after(position, notes)),
        }
    }

    /// Where a reader goes on who had come to `position`.
    fn after(&self, position: Position, notes: &mut Vec<String>) -> (usize, u64, Reached) {
        let Some(index) = self.parts.iter().position(|part| part.number == position.file) else {
            notes.push("the log was removed meanwhile; what it held last was not read".to_owned());
            return (self.parts.len() - 1, 0, position.reached);
        };
        if position.offset <= self.parts[index].size {
            return (index, position.offset, position.reached);
        }
        // It was copied and cut: what was not read yet is in the copy, the newest of the rotated parts.
        let copy = index.checked_sub(1).filter(|copy| position.offset <= self.parts[*copy].size);
        match copy {
            Some(copy) => (copy, position.offset, position.reached),
            None => {
                notes.push("the log was cut meanwhile; what it held last was not read".to_owned());
                (index, 0, position.reached)
            }
        }
    }
}

/// What a file keeps under any name: its number; its birth where there is none.
fn number_of(facts: &Facts) -> u64 {
    let (number, _, born) = facts.signature;
    if cfg!(unix) { number } else { u64::try_from(born).unwrap_or(0) }
}

/// Where whole lines begin from `from` on, and where the one begins that is not whole yet. The first one counts only if
/// it begins there.
fn line_starts(part: &Part, from: u64) -> io::Result<(Vec<u64>, Option<u64>)> {
    let mut starts: Vec<u64> = Vec::new();
    let mut at = from;
    let mut start = (from == 0).then_some(from);
    let mut buffer = vec![0; CHUNK];
    let mut file = &part.file;
    file.seek(SeekFrom::Start(from))?;
    while at < part.size {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        for byte in &buffer[..read] {
            at += 1;
            if *byte == b'\n' {
                starts.extend(start.replace(at));
            }
        }
    }
    Ok((starts, start))
}

fn part(place: &Place<'_>, question: &LogQuestion) -> Result<LogPart, String> {
    let parts = Parts::of(place, question.log)?;
    if parts.parts.is_empty() {
        return match (question.log, question.begin) {
            (_, Begin::After(position)) => Ok(LogPart { next: position, ..LogPart::default() }),
            (Log::Console, _) => {
                Err("the agent has not started a server yet, or systemd starts it and keeps its output; \
                                      see --carbon"
                    .to_owned())
            }
            (log, _) => {
                Err(format!("there is no {FOLDER}/{}.log in {}", log.stem().unwrap_or_default(), place.home))
            }
        };
    }
    let mut notes = Vec::new();
    let (index, offset, reached) = parts.begin(question, &mut notes)?;
    let mut reading = Reading {
        question,
        home: place.home,
        shown: None,
        until: Instant::now() + READ_TIME,
        left: READ_MAX,
        room: PART_MAX,
        reached,
        lines: Vec::new(),
    };
    let mut next = (index, offset);
    let more = loop {
        let (index, offset) = next;
        let part = &parts.parts[index];
        let (end, whole) =
            reading.file(part, offset).map_err(|error| format!("the log cannot be read: {error}"))?;
        next = (index, end);
        if !whole {
            break true;
        }
        if index + 1 == parts.parts.len() {
            break false;
        }
        next = (index + 1, 0);
    };
    let position = Position { file: parts.parts[next.0].number, offset: next.1, reached: reading.reached };
    Ok(LogPart { lines: reading.lines, next: position, more, notes })
}

/// The deployment.toml, for the values that must not be shown; without one there are none to know.
fn config_of(home: &str) -> String {
    let read = || {
        let path = HomePath::parse(CONFIG).ok()?;
        Home::open(home).ok()?.read(&path, FILE_SIZE_MAX).ok()?
    };
    read().map(|content| String::from_utf8_lossy(&content.bytes).into_owned()).unwrap_or_default()
}

/// One part of an answer as it is read.
struct Reading<'a> {
    question: &'a LogQuestion,
    home: &'a str,
    /// Made with the first lines: whoever follows a log looks every second, mostly at nothing new.
    shown: Option<Shown>,
    until: Instant,
    /// Bytes that may still be read.
    left: u64,
    /// Bytes of lines that still fit.
    room: usize,
    reached: Reached,
    lines: Vec<String>,
}

/// Lines that were read and not shown yet, with where the line after each begins.
#[derive(Default)]
struct Batch {
    lines: Vec<String>,
    ends: Vec<u64>,
}

impl Reading<'_> {
    /// Reads whole lines from `offset`; where it came to, and whether that is the end of what is whole. A rotated part
    /// ends with its last byte, whether that ends a line or not.
    fn file(&mut self, part: &Part, offset: u64) -> io::Result<(u64, bool)> {
        let mut file = &part.file;
        file.seek(SeekFrom::Start(offset))?;
        let (mut line, mut batch) = (Vec::new(), Batch::default());
        let (mut at, mut done) = (offset, offset);
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = file.read(&mut buffer)?;
            for byte in &buffer[..read] {
                at += 1;
                if *byte != b'\n' {
                    if line.len() < LINE_BYTES {
                        line.push(*byte);
                    }
                    continue;
                }
                batch.push(std::mem::take(&mut line), at);
            }
            let ended = read == 0;
            if ended && part.role == FileRole::Rotated && !line.is_empty() {
                batch.push(std::mem::take(&mut line), at);
            }
            self.left = self.left.saturating_sub(read as u64);
            if let Some(end) = batch.ends.last().copied() {
                if let Some(full) = self.take(&mut batch, done) {
                    return Ok((full, false));
                }
                done = end;
            }
            if ended {
                return Ok((done, true));
            }
            if self.left == 0 || self.until <= Instant::now() {
                // A line longer than all that is read at once is passed over, or nobody would ever get beyond it.
                return Ok((if done == offset { at } else { done }, false));
            }
        }
    }

    /// Takes what is wanted of a batch that begins at `start`; where to go on if there is no room for all of it. The first
    /// line of a part always fits: the longest one is shorter than a part.
    fn take(&mut self, batch: &mut Batch, start: u64) -> Option<u64> {
        let Batch { lines, ends } = std::mem::take(batch);
        let home = self.home;
        let shown = self.shown.get_or_insert_with(|| Shown::knowing(&config_of(home))).lines(&lines);
        let mut taken = start;
        for ((line, shown), end) in lines.iter().zip(shown).zip(ends) {
            let reached = self.reached;
            if self.wants(line, &shown) {
                if self.room < shown.len() + 1 {
                    self.reached = reached;
                    return Some(taken);
                }
                self.room -= shown.len() + 1;
                self.lines.push(shown);
            }
            taken = end;
        }
        None
    }

    fn wants(&mut self, line: &str, shown: &str) -> bool {
        if let (Some(since), Some(time)) = (self.question.since, LineTime::of(line))
            && self.reached != Reached::Yes
        {
            let is_early = utc(time).is_some_and(|at| at < since);
            self.reached = if is_early { Reached::Early } else { Reached::Yes };
        }
        self.reached != Reached::Early && self.question.grep.as_ref().is_none_or(|text| shown.contains(text))
    }
}

impl Batch {
    fn push(&mut self, mut line: Vec<u8>, end: u64) {
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.lines.push(String::from_utf8_lossy(&line).into_owned());
        self.ends.push(end);
    }
}

/// A time in the zone of this host; to the second, which counts as wholly past.
fn utc(at: LineTime) -> Option<Timestamp> {
    let ((year, month, day), (hour, minute, second)) = (at.date, at.time);
    let civil =
        jiff::civil::DateTime::new(year, month, day, hour, minute, second.min(59), 999_000_000).ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    Some(Timestamp(zoned.timestamp().as_millisecond()))
}

/// The agent's own log.
fn own(question: &LogQuestion) -> LogPart {
    let (first, logged) = telemetry::recent();
    let end = first + logged.len() as u64;
    let begin = match question.begin {
        Begin::Last(lines) => end.saturating_sub(u64::from(lines)),
        Begin::Since => first,
        // Of the agent before: its numbers began anew.
        Begin::After(position) if end < position.offset => first,
        Begin::After(position) => position.offset,
    };
    let mut part = LogPart::default();
    if begin < first && !matches!(question.begin, Begin::Last(_)) {
        part.notes.push(format!("{} lines are not kept any more", first - begin));
    }
    let shown = Shown::default();
    let (mut next, mut room) = (begin.max(first), PART_MAX);
    for logged in logged.into_iter().skip(usize::try_from(next - first).unwrap_or(usize::MAX)) {
        let line = shown.lines(&[logged.line]).concat();
        let is_wanted = question.since.is_none_or(|since| since <= logged.at)
            && question.grep.as_ref().is_none_or(|text| line.contains(text));
        if is_wanted {
            if room < line.len() + 1 {
                part.more = true;
                break;
            }
            room -= line.len() + 1;
            part.lines.push(line);
        }
        next += 1;
    }
    part.next = Position { file: 0, offset: next, reached: Reached::Yes };
    part
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
