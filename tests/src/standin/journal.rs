//! Lines as the product writes them: wso2carbon.log, patches.log and the console, each in its layout.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::descriptor::Role;

/// Severity, printed as `%5p`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warn,
    Error,
}

impl Level {
    fn padded(self) -> &'static str {
        match self {
            Level::Info => " INFO",
            Level::Warn => " WARN",
            Level::Error => "ERROR",
        }
    }
}

/// The open log files of one launch. Writing never fails a server: a full disk loses lines, as it does for real.
pub struct Journal {
    carbon: File,
    patches: File,
    role: Role,
}

impl Journal {
    /// Opens the files below `<home>/repository/logs`, which is made if missing.
    pub fn open(home: &Path, role: Role) -> io::Result<Journal> {
        let logs = home.join("repository/logs");
        fs::create_dir_all(&logs)?;
        let append = |name: &str| OpenOptions::new().create(true).append(true).open(logs.join(name));
        Ok(Journal { carbon: append("wso2carbon.log")?, patches: append("patches.log")?, role })
    }

    /// A line of the configuration step: the launcher's own layout, the same in file and console.
    pub fn mapper(&self, level: Level, class: &str, message: &str) {
        let line = format!("[{}] {} {{org.wso2.config.mapper.{class}}} - {message}\n", now(), level.padded());
        write_all(&self.carbon, &line);
        console(&line);
    }

    /// The launcher's report (java.util.logging) that the configuration step failed, with its cause.
    pub fn configuration_failed(&self, cause: &str) {
        let line = format!(
            "[{}] SEVERE {{org.wso2.carbon.server.Main handleConfiguration}} - Error while performing configuration \
             changes\norg.wso2.config.mapper.ConfigParserException: {cause}\n\
             \tat org.wso2.config.mapper.ConfigParser.parse(ConfigParser.java)\n\
             \tat org.wso2.carbon.server.Main.handleConfiguration(Main.java)\n\
             \tat org.wso2.carbon.server.Main.main(Main.java)\n",
            now()
        );
        write_all(&self.patches, &line);
        console(&line);
    }

    /// A line of the running server.
    pub fn line(&self, level: Level, class: &str, message: &str) {
        let (now, level) = (now(), level.padded());
        let short = class.rsplit('.').next().unwrap_or(class);
        if self.role.is_apim() {
            write_all(&self.carbon, &format!("TID: [-1234] [] [{now}] {level} {{{class}}} - {message}\n"));
            console(&format!("[{now}] {level} - {short} {message}\n"));
        } else {
            write_all(&self.carbon, &format!("TID: [-1234] [] [{now}] [] {level} {{{class}}} - {message}\n"));
            console(&format!("[{now}] [] {level} {{{class}}} - {message}\n"));
        }
    }

    /// Shorthand for the commonest line.
    pub fn info(&self, class: &str, message: &str) {
        self.line(Level::Info, class, message);
    }
}

/// Text for the JVM's standard output.
pub fn console(text: &str) {
    write_all(io::stdout(), text);
}

fn write_all(mut to: impl Write, text: &str) {
    // Nobody can be told: the log itself is what could not be written.
    drop(to.write_all(text.as_bytes()).and_then(|()| to.flush()));
}

fn now() -> String {
    jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S,%3f").to_string()
}
