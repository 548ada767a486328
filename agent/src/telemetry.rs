//! Where log lines go: standard error, as text or JSON; a file where there is no standard error. The newest lines are
//! kept in memory as well, for operators who ask for them (ADR 0064).

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, PoisonError},
};

use fleet::time::Timestamp;
use tracing::error;
use tracing_subscriber::{
    EnvFilter,
    fmt::{MakeWriter, writer::MakeWriterExt as _},
};

use crate::{
    config::{Log, LogFormat},
    wall_clock,
};

/// Lines that are kept for operators who ask for them.
const RECENT_MAX: usize = 2_000;
/// Bytes of a line that are kept.
const RECENT_LINE_MAX: usize = 1_000;

/// A log of an earlier run longer than this makes way, bytes.
#[cfg(windows)]
const FILE_MAX: u64 = 10 * 1024 * 1024;

/// Sets up logging for the process. A level that does not parse means `info`.
pub fn start(log: &Log) {
    start_with(log, io::stderr);
}

/// The same into `agent.log` in the data directory, for a service, which has no standard error. A long log of earlier
/// runs becomes `agent.log.1`.
///
/// # Errors
/// Whatever the file system says.
#[cfg(windows)]
pub fn start_in_file(log: &Log, data_dir: &std::path::Path) -> io::Result<()> {
    crate::private::create_dir(data_dir)?;
    let path = data_dir.join("agent.log");
    if std::fs::metadata(&path).is_ok_and(|facts| FILE_MAX < facts.len()) {
        std::fs::rename(&path, data_dir.join("agent.log.1"))?;
    }
    let file = std::fs::OpenOptions::new().append(true).create(true).open(path)?;
    start_with(log, std::sync::Mutex::new(file));
    Ok(())
}

fn start_with(log: &Log, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let filter = EnvFilter::try_new(&log.level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer.and(Recent));
    let started = match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    tame_panics();
    // Only a second start in one process fails, in tests; the first one serves both.
    drop(started);
}

/// A panic is told by its place and its first words; what it quotes may be anybody's secret.
fn tame_panics() {
    std::panic::set_hook(Box::new(|panic| error!("{}", fleet::panics::line(panic))));
}

/// A line that was logged.
#[derive(Debug, Clone)]
pub struct Logged {
    /// When.
    pub at: Timestamp,
    /// As it was written, cut.
    pub line: String,
}

/// The log of a process is the process's: there is one, however many agents a test runs.
static RECENT: Mutex<Ring> = Mutex::new(Ring { dropped: 0, lines: VecDeque::new() });

struct Ring {
    dropped: u64,
    lines: VecDeque<Logged>,
}

/// The newest lines, and how many were logged before them.
pub fn recent() -> (u64, Vec<Logged>) {
    let ring = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
    (ring.dropped, ring.lines.iter().cloned().collect())
}

/// Keeps what is written to it; the subscriber writes an event at a time.
struct Recent;

impl io::Write for Recent {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let kept = &text[..text.len().min(RECENT_LINE_MAX)];
        let line = String::from_utf8_lossy(kept).trim_end().to_owned();
        let mut ring = RECENT.lock().unwrap_or_else(PoisonError::into_inner);
        if ring.lines.len() == RECENT_MAX {
            ring.lines.pop_front();
            ring.dropped += 1;
        }
        ring.lines.push_back(Logged { at: wall_clock(), line });
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Recent {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn the_newest_lines_are_kept_and_the_others_counted() {
        let (dropped, before) = recent();
        let begin = dropped + before.len() as u64;
        for number in 0..RECENT_MAX + 3 {
            let line = format!("line {number} {}\n", "x".repeat(RECENT_LINE_MAX));
            // At once, as the subscriber does.
            Recent.write_all(line.as_bytes()).unwrap();
        }
        let (dropped, lines) = recent();
        assert_eq!((dropped >= begin + 3, lines.len()), (true, RECENT_MAX));
        assert!(lines.iter().all(|logged| logged.line.len() <= RECENT_LINE_MAX));
        assert!(lines.last().unwrap().line.starts_with(&format!("line {}", RECENT_MAX + 2)));
    }
}
