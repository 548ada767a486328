//! The server's console output: a file of the agent's that the server writes by itself, bounded by rotation, read for
//! telling lines. Never a pipe: a pipe would end with the agent and take the server along.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use fleet::{finding::mask_line, node::LogSign};

use crate::{
    files::{LastPart, open_named},
    private,
};

/// Older logs kept.
const KEPT: u32 = 3;
/// Read at most so much per look, bytes.
const LOOK_MAX: u64 = 256 * 1024;
/// Of which the last lines are shown.
const TAIL_BYTES: u64 = 8 * 1024;
/// What a line says when the configuration cannot be used; see LIFECYCLE of the products: config-mapper and launcher.
const CONFIG_ERRORS: [&str; 7] = [
    "ERROR {org.wso2.config.mapper",
    "org.wso2.config.mapper.ConfigParserException",
    "Error while performing configuration changes",
    "Error while reading metadata",
    "Error while store new configurations",
    "Secret references can't be",
    "requires JDK",
];

/// The console log of one server.
#[derive(Debug, Clone)]
pub struct Console {
    path: PathBuf,
    bytes_max: u64,
}

impl Console {
    /// Opens or creates the log's directory.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(data_dir: &Path, bytes_max: u64) -> io::Result<Self> {
        let dir = data_dir.join("console");
        private::create_dir(&dir)?;
        Ok(Self { path: dir.join("server.log"), bytes_max })
    }

    /// The log that the product writes by itself, where its output goes elsewhere. Only read.
    pub fn of_product(home: &str) -> Self {
        Self { path: Path::new(home).join("repository/logs/wso2carbon.log"), bytes_max: u64::MAX }
    }

    /// A handle for the server to write to, and where its output will begin. Appending, so that cutting the file later
    /// leaves no hole.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn handle(&self) -> io::Result<(File, u64)> {
        self.rotate()?;
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path)?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Cuts the log once it is too long: its content becomes `.1`, the oldest goes.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn rotate(&self) -> io::Result<()> {
        let length = match fs::metadata(&self.path) {
            Ok(facts) => facts.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if length <= self.bytes_max {
            return Ok(());
        }
        for number in (1..KEPT).rev() {
            match fs::rename(self.older(number), self.older(number + 1)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // Copied and cut, not renamed: a running server keeps writing to the same file.
        fs::copy(&self.path, self.older(1))?;
        OpenOptions::new().write(true).open(&self.path)?.set_len(0)
    }

    fn older(&self, number: u32) -> PathBuf {
        self.path.with_extension(format!("log.{number}"))
    }

    /// Bytes in the log now.
    pub fn end(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |facts| facts.len())
    }

    /// A reader from `offset` on.
    pub fn follow(&self, offset: u64, ready_lines: Vec<String>) -> Follower {
        Follower { path: self.path.clone(), offset, rest: String::new(), ready_lines }
    }

    /// The last lines, secrets masked, for the reason of a failed start.
    pub fn tail(&self, lines: usize) -> String {
        let text = (|| {
            let mut file = open_named(&self.path, LastPart::IsNoLink)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
            let mut bytes = Vec::new();
            file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
            io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        })();
        let text = text.unwrap_or_default();
        let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown: Vec<String> =
            all[all.len().saturating_sub(lines)..].iter().map(|line| mask_line(line)).collect();
        shown.join(" | ")
    }
}

/// Reads a log as it grows.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    offset: u64,
    rest: String,
    ready_lines: Vec<String>,
}

impl Follower {
    /// What the new lines say.
    pub fn look(&mut self) -> Vec<LogSign> {
        let Ok(text) = self.read() else { return Vec::new() };
        self.rest.push_str(&text);
        let Some(end) = self.rest.rfind('\n') else {
            // A line without end does not grow without end.
            if LOOK_MAX < self.rest.len() as u64 {
                self.rest.clear();
            }
            return Vec::new();
        };
        let lines: String = self.rest.drain(..=end).collect();
        lines.lines().filter_map(|line| self.sign(line)).collect()
    }

    fn sign(&self, line: &str) -> Option<LogSign> {
        if self.ready_lines.iter().any(|ready| line.contains(ready.as_str())) {
            return Some(LogSign::Ready);
        }
        let bad = CONFIG_ERRORS.iter().any(|error| line.contains(error));
        bad.then(|| LogSign::ConfigError(mask_line(line.trim()).chars().take(500).collect()))
    }

    fn read(&mut self) -> io::Result<String> {
        let mut file = open_named(&self.path, LastPart::IsNoLink)?;
        let length = file.metadata()?.len();
        if length < self.offset {
            // It was cut.
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::new();
        file.take(LOOK_MAX).read_to_end(&mut bytes)?;
        self.offset += bytes.len() as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_told_once_whole_and_secrets_are_masked() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::open(dir.path(), 1024 * 1024).unwrap();
        let (mut file, offset) = console.handle().unwrap();
        let mut follower = console.follow(offset, vec!["WSO2 Carbon started in".into()]);
        write!(file, "INFO - WSO2 Carbon star").unwrap();
        assert_eq!(follower.look(), []);
        writeln!(file, "ted in 3 sec").unwrap();
        assert_eq!(follower.look(), [LogSign::Ready]);
        assert_eq!(follower.look(), []);
        writeln!(file, " ERROR {{org.wso2.config.mapper.TomlParser}} - bad password=hunter2 (line 1)")
            .unwrap();
        let [LogSign::ConfigError(line)] = &follower.look()[..] else { panic!("no error seen") };
        assert!(!line.contains("hunter2"), "{line}");
    }

    #[test]
    fn a_log_stays_bounded_while_the_server_writes() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::open(dir.path(), 100).unwrap();
        let (mut file, _) = console.handle().unwrap();
        for round in 0..10 {
            file.write_all(&[b'x'; 150]).unwrap();
            console.rotate().unwrap();
            assert_eq!(fs::metadata(&console.path).unwrap().len(), 0, "round {round}");
        }
        assert_eq!(fs::read_dir(dir.path().join("console")).unwrap().count(), 1 + KEPT as usize);
    }
}
