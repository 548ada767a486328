//! `standin.toml` in the server's home: how this node misbehaves.
//!
//! Read at each start; the keys marked *live* are read again while the server runs, so a test can make a
//! healthy node sick without a restart. Unknown keys are refused: a typo must not pass as good behaviour.

use std::net::Ipv4Addr;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::duration::Span;

/// Name of the file below the home.
pub const FILE: &str = "standin.toml";

/// What goes wrong, and when. The default is a server without fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Misbehaviour {
    /// Exits 1 at once, before the pid file is written.
    pub die_before_pid: bool,
    /// Time between the launch and the pid file (the old one stays until then).
    pub pid_delay: Option<Span>,
    /// Writes `[encryption] key` into deployment.toml before reading it, as API Manager 4.7's generator does.
    pub writes_encryption_key: bool,
    /// The configuration step fails while deployment.toml holds this text.
    pub start_fails_if_toml_contains: Option<String>,
    /// Extra time between the `Repository` and the port lines.
    pub start_delay: Option<Span>,
    /// Alive, but the start never ends; no port is opened.
    pub never_ready: bool,
    /// As `never_ready`, with the lines of an unreachable database.
    pub db_down: bool,
    /// How often the `Waiting for required` lines come; 60 s unless given, like the product.
    pub waiting_interval: Option<Span>,
    /// Ports (before the offset) that behave as though another program held them.
    pub port_taken: Vec<u16>,
    /// So many launches end with status 121 after the start, as a restart from the console does.
    pub exit_121: u32,
    /// What the first start with a changed deployment.toml does; the second one is good.
    pub needs_two_starts: Option<FirstStart>,
    /// *live* Ends without a line, so long after the launch.
    pub crash_after: Option<Span>,
    /// Status of that crash; 1 unless given.
    pub crash_exit_code: Option<u8>,
    /// Only so many launches crash; all of them unless given.
    pub crash_times: Option<u32>,
    /// *live* SIGTERM does nothing.
    pub ignore_term: bool,
    /// *live* Extra time between SIGTERM and the end.
    pub stop_delay: Option<Span>,
    /// *live* Health endpoints answer that the server is ill.
    pub unhealthy: bool,
    /// *live* The same, from so long after `started in`.
    pub unhealthy_after: Option<Span>,
    /// *live* The same, while the configuration that the server runs on holds this text.
    pub unhealthy_if_toml_contains: Option<String>,
    /// *live* The Admin API answers 404, as while its web application is deployed.
    pub admin_api_away: bool,
    /// *live* Time that every answer takes; connections are accepted at once.
    pub answer_delay: Option<Span>,
    /// How long after `started in` the gateway's startup check turns from 500 to 200; 200 ms unless given.
    pub gateway_ready_after: Option<Span>,
    /// *live* ERROR lines for the log, written every `log_errors_interval`.
    pub log_errors: Vec<String>,
    /// The loopback address of its ports; 127.0.0.1 unless given. Nodes with the same ports then fit on one machine.
    pub bind: Option<Ipv4Addr>,
    /// 1 s unless given.
    pub log_errors_interval: Option<Span>,
    /// The process ends by itself after this time so that none stays behind; 1 h unless given.
    pub lifetime_max: Option<Span>,
}

/// How a first start with a new configuration goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FirstStart {
    /// It comes up, on the configuration before (as `[system.parameter]` once did, product-apim#8663).
    Stale,
    /// It exits 1.
    Exit,
    /// It never ends its start.
    Hang,
}

/// Why `standin.toml` cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MisbehaviourError {
    #[error("cannot read {FILE}")]
    Read(#[source] io::Error),
    #[error("{FILE} is not valid")]
    Parse(#[source] toml::de::Error),
}

impl Misbehaviour {
    /// Reads the file below `home`; a home without one behaves well.
    pub fn read(home: &Path) -> Result<Misbehaviour, MisbehaviourError> {
        match fs::read_to_string(home.join(FILE)) {
            Ok(text) => toml::from_str(&text).map_err(MisbehaviourError::Parse),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Misbehaviour::default()),
            Err(error) => Err(MisbehaviourError::Read(error)),
        }
    }

    /// Writes the file below `home` by rename, so that a running server never reads half of it.
    pub fn write(&self, home: &Path) -> io::Result<()> {
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let staged = home.join(".standin.toml.new");
        fs::write(&staged, text)?;
        fs::rename(staged, home.join(FILE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused() {
        let error = toml::from_str::<Misbehaviour>("neverready = true").expect_err("a typo");
        assert!(error.message().contains("unknown field `neverready`"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let home = tempfile::tempdir().expect("a directory");
        let written = Misbehaviour {
            start_delay: Some(Span::secs(2)),
            needs_two_starts: Some(FirstStart::Hang),
            port_taken: vec![9443],
            ..Misbehaviour::default()
        };
        written.write(home.path()).expect("written");
        assert_eq!(Misbehaviour::read(home.path()).expect("read"), written);
    }
}
