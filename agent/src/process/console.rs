//! The server's console output: a file of the agent's that the server writes by itself, bounded by rotation, read for
//! telling lines. Never a pipe: a pipe would end with the agent and take the server along.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use fleet::{
    finding::mask_line,
    node::{LastOutput, LogSign},
    observed::{OUTPUT_LINE_MAX, OUTPUT_LINES_MAX},
};

use crate::{
    files::{LastPart, open_named},
    private,
};

/// Older logs kept.
const KEPT: u32 = 3;
/// Read at most so much per look, bytes.
const LOOK_MAX: u64 = 256 * 1024;
/// Read at most so much of what a server wrote before it ended, bytes.
const OUTPUT_BYTES: u64 = 64 * 1024;
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
    /// The directory of the logs of what servers print.
    pub fn folder(data_dir: &Path) -> PathBuf {
        data_dir.join("console")
    }

    /// Opens or creates the log's directory.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(data_dir: &Path, bytes_max: u64) -> io::Result<Self> {
        let dir = Self::folder(data_dir);
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

    /// The end of what was written since `from`, secrets masked.
    pub fn last_output(&self, from: u64) -> LastOutput {
        let text = (|| {
            let mut file = open_named(&self.path, LastPart::IsNoLink)?;
            let length = file.metadata()?.len();
            // A log that was cut in between begins anew.
            let from = if length < from { 0 } else { from };
            file.seek(SeekFrom::Start(from.max(length.saturating_sub(OUTPUT_BYTES))))?;
            let mut bytes = Vec::new();
            file.take(OUTPUT_BYTES).read_to_end(&mut bytes)?;
            io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
        })();
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let shown =
            |line: &&str| mask_line(line.trim_end()).chars().take(OUTPUT_LINE_MAX).collect::<String>();
        LastOutput {
            telling: telling(&lines).map(|line| shown(&line).trim().to_owned()),
            lines: lines[lines.len().saturating_sub(OUTPUT_LINES_MAX)..].iter().map(shown).collect(),
        }
    }
}

/// The line that says most about an end: the first error or exception, else the last word. Lines of a stack trace say
/// where, not what.
fn telling<'a>(lines: &[&'a str]) -> Option<&'a str> {
    let is_stack = |line: &str| {
        let line = line.trim_start();
        line.starts_with("at ") || (line.starts_with("... ") && line.ends_with(" more"))
    };
    let is_error = |line: &str| {
        // As the products, log4j and the JVM begin such lines.
        ["ERROR", "FATAL", "SEVERE"].iter().any(|word| line.contains(word))
            || line.split_whitespace().any(|word| {
                word.trim_end_matches(':').ends_with("Exception")
                    || word.trim_end_matches(':').ends_with("Error")
            })
    };
    let mut said = lines.iter().filter(|line| !is_stack(line));
    said.clone().find(|line| is_error(line)).or_else(|| said.next_back()).copied()
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
    fn the_line_that_says_most_is_the_first_error_and_no_line_of_a_stack() {
        let trace = [
            "JAVA_HOME environment variable is set to /opt/java",
            "TID: [-1234] INFO {CarbonCoreActivator} - Starting WSO2 Carbon",
            "TID: [-1234] ERROR {DataSourceManager} - cannot connect to jdbc:mysql://db with password=hunter2",
            "java.sql.SQLException: Access denied",
            "\tat com.mysql.jdbc.Error.create(Error.java:3)",
            "Caused by: java.net.ConnectException: refused",
            "\t... 12 more",
        ];
        assert_eq!(telling(&trace), Some(trace[2]));
        assert_eq!(telling(&trace[3..]), Some(trace[3]));
        assert_eq!(telling(&trace[4..]), Some(trace[5]));
        assert_eq!(telling(&trace[..2]), Some(trace[1]), "no error: its last word");
        assert_eq!(telling(&[]), None);
    }

    #[test]
    fn what_a_server_wrote_is_told_from_its_launch_on_and_masked() {
        let dir = tempfile::tempdir().unwrap();
        let console = Console::open(dir.path(), 1024 * 1024).unwrap();
        let (mut file, _) = console.handle().unwrap();
        writeln!(file, "ERROR of the server before").unwrap();
        let (mut file, from) = console.handle().unwrap();
        (0..40).for_each(|n| writeln!(file, "line {n}").unwrap());
        writeln!(file, "ERROR - bad password=hunter2\n\n\tat x.Y.z(Y.java:1)").unwrap();
        let output = console.last_output(from);
        let telling = output.telling.unwrap();
        assert!(telling.starts_with("ERROR - bad") && !telling.contains("hunter2"), "{telling}");
        assert_eq!((output.lines.len(), output.lines[0].as_str()), (OUTPUT_LINES_MAX, "line 22"));
        assert!(!output.lines.concat().contains("hunter2"));
    }

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
