//! Logs of nodes.

use serde::Serialize;

/// What came of a log at once.
#[derive(Debug)]
pub struct LogLines {
    pub lines: Vec<String>,
    /// What a reader should know about what was not read.
    pub notes: Vec<String>,
}

/// Output of `logs`, one per line.
#[derive(Debug, Serialize)]
pub struct LogLine {
    pub line: String,
}
