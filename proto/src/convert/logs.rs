//! Questions about logs and their answers (ADR 0064).

use fleet::{
    foreign::printable,
    logs::{Begin, GREP_MAX, LAST_MAX, LINE_MAX, Log, LogPart, LogQuestion, PART_MAX, Position, Reached},
    time::Timestamp,
};

use crate::{
    convert::{ConvertError, invalid, link::foreign, required},
    wire::agent::{self as wire, read_log::Begin as From},
};

/// The protocol number from which on an agent reads its logs for operators.
pub const LOGS_PROTOCOL: u32 = 2;
/// Notes of one part.
const NOTES_MAX: usize = 8;
/// Room for what a bounded line says of its rest, characters.
const REST: usize = 64;

/// The question, with the number that pairs the answer.
pub fn question_to_wire(id: u64, question: &LogQuestion) -> wire::ReadLog {
    let begin = match question.begin {
        Begin::Last(lines) => From::Last(lines),
        Begin::Since => From::SinceBegin(true),
        Begin::After(position) => From::After(position_to_wire(position)),
    };
    wire::ReadLog {
        id,
        log: question.log.to_string(),
        begin: Some(begin),
        since_ms: question.since.map(|since| since.0),
        grep: question.grep.clone().unwrap_or_default(),
    }
}

/// A log's word.
///
/// # Errors
/// It is none.
pub fn log_from_wire(word: &str) -> Result<Log, ConvertError> {
    let words = || Log::ALL.map(Log::as_str).join(", ");
    Log::parse(word).ok_or_else(|| invalid("ReadLog", "log", format!("{word:?} is not one of {}", words())))
}

/// What lines must hold; `None` for every line.
///
/// # Errors
/// It is too long.
pub fn grep_from_wire(grep: String) -> Result<Option<String>, ConvertError> {
    if GREP_MAX < grep.len() {
        return Err(invalid("ReadLog", "grep", format!("it has more than {GREP_MAX} bytes")));
    }
    Ok(Some(grep).filter(|grep| !grep.is_empty()))
}

impl TryFrom<wire::ReadLog> for LogQuestion {
    type Error = ConvertError;

    fn try_from(asked: wire::ReadLog) -> Result<Self, ConvertError> {
        let begin = match required(asked.begin, "ReadLog", "begin")? {
            From::Last(lines) => Begin::Last(lines.min(LAST_MAX)),
            From::SinceBegin(_) => Begin::Since,
            From::After(position) => Begin::After(position.into()),
        };
        Ok(Self {
            log: log_from_wire(&asked.log)?,
            begin,
            since: asked.since_ms.map(Timestamp),
            grep: grep_from_wire(asked.grep)?,
        })
    }
}

fn position_to_wire(position: Position) -> wire::LogPosition {
    let reached = match position.reached {
        Reached::Untold => wire::LogReached::Unspecified,
        Reached::Early => wire::LogReached::Early,
        Reached::Yes => wire::LogReached::Yes,
    };
    wire::LogPosition { file: position.file, offset: position.offset, reached: reached.into() }
}

impl std::convert::From<wire::LogPosition> for Position {
    fn from(position: wire::LogPosition) -> Self {
        let reached = match position.reached() {
            wire::LogReached::Unspecified => Reached::Untold,
            wire::LogReached::Early => Reached::Early,
            wire::LogReached::Yes => Reached::Yes,
        };
        Self { file: position.file, offset: position.offset, reached }
    }
}

/// The answer to question `id`: lines, or why there are none.
pub fn answer_to_wire(id: u64, answer: Result<LogPart, String>) -> wire::LogAnswer {
    match answer {
        Ok(part) => wire::LogAnswer {
            id,
            refused: String::new(),
            lines: part.lines,
            next: Some(position_to_wire(part.next)),
            more: part.more,
            notes: part.notes,
        },
        Err(why) => wire::LogAnswer { id, refused: foreign(&why), ..wire::LogAnswer::default() },
    }
}

/// Reads an answer; every text of it is made printable once more.
///
/// # Errors
/// It is longer than agents make them.
pub fn answer_from_wire(answer: wire::LogAnswer) -> Result<Result<LogPart, String>, ConvertError> {
    if !answer.refused.is_empty() {
        return Ok(Err(foreign(&answer.refused)));
    }
    let bytes: usize = answer.lines.iter().map(String::len).sum();
    if 2 * PART_MAX < bytes || NOTES_MAX < answer.notes.len() {
        return Err(invalid("LogAnswer", "lines", "there are more than an agent sends at once"));
    }
    let line = |line: String| printable(&line).chars().take(LINE_MAX + REST).collect();
    Ok(Ok(LogPart {
        lines: answer.lines.into_iter().map(line).collect(),
        next: required(answer.next, "LogAnswer", "next")?.into(),
        more: answer.more,
        notes: answer.notes.iter().map(|note| foreign(note)).collect(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_arrive_as_they_were_sent() {
        let position = Position { file: 7, offset: 9, reached: Reached::Early };
        for begin in [Begin::Last(5), Begin::Since, Begin::After(position)] {
            let question =
                LogQuestion { log: Log::Audit, begin, since: Some(Timestamp(5)), grep: Some("x".to_owned()) };
            assert_eq!(LogQuestion::try_from(question_to_wire(1, &question)).unwrap(), question);
        }
        let part = LogPart {
            lines: vec!["a".into(), String::new()],
            next: position,
            more: true,
            notes: vec!["n".into()],
        };
        assert_eq!(answer_from_wire(answer_to_wire(1, Ok(part.clone()))).unwrap(), Ok(part));
        assert_eq!(answer_from_wire(answer_to_wire(1, Err("no".into()))).unwrap(), Err("no".to_owned()));
        let next = Some(wire::LogPosition::default());
        let loud = wire::LogAnswer { lines: vec!["\u{1b}[2J".into()], next, ..Default::default() };
        assert_eq!(answer_from_wire(loud.clone()).unwrap().unwrap().lines, ["\\u001b[2J"]);
        let long = wire::LogAnswer { lines: vec!["x".repeat(2 * PART_MAX + 1)], ..loud };
        assert!(answer_from_wire(long).is_err());
    }
}
