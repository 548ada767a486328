//! What is known about each pack version, as data: start script, ports, probes, ready lines, restart classes, keys
//! that the product writes itself. Built-in profiles stand beside this file; a fleet adds or overrides them by
//! `products/*.toml` in the same format (docs/fleet-format.md).

mod pattern;
mod read;

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use crate::bundle::{BodyRule, DriftPolicy, HomePath, ProbeRole, RestartClass};

pub(crate) use read::{FileRuleText, file_rule, read_products};

/// One profile.
#[derive(Debug, Clone, PartialEq)]
pub struct Product {
    /// Catalogue id, e.g. `wso2is-7.2`.
    pub id: String,
    /// For people.
    pub title: String,
    /// Below home.
    pub script_unix: HomePath,
    /// Below home.
    pub script_windows: HomePath,
    /// deployment.toml, below home.
    pub config_path: HomePath,
    /// Start arguments before those of the fleet.
    pub args: Vec<String>,
    /// Supported JDK feature versions, both ends included.
    pub jdk: (u32, Option<u32>),
    /// deployment.toml keys that the product itself writes.
    pub owned_keys: Vec<String>,
    /// Array-of-tables path to the key that names an element.
    pub merge_keys: BTreeMap<String, String>,
    /// Log lines of a finished start.
    pub ready_lines: Vec<String>,
    /// From launch to ready.
    pub start_deadline: Duration,
    /// From TERM to KILL.
    pub stop_deadline: Duration,
    /// Ports at offset 0.
    pub ports: Vec<ProductPort>,
    /// Probes at offset 0.
    pub probes: Vec<ProductProbe>,
    /// Defaults for files; later rules win.
    pub files: Vec<FileRule>,
}

/// A port of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductPort {
    /// As in `port("https")`.
    pub name: String,
    /// At offset 0.
    pub number: u16,
    /// Must listen before the service counts as ready.
    pub required: bool,
    /// Moves with `[server] offset`.
    pub offset: bool,
    /// Opened at all without further configuration; a closed one can still be named in `port()`.
    pub open: bool,
}

impl ProductPort {
    /// The number with the offset applied, if it still is a port.
    pub fn at(&self, offset: u16) -> Option<u16> {
        if self.offset { self.number.checked_add(offset) } else { Some(self.number) }
    }
}

/// A probe of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductProbe {
    /// For people and reasons.
    pub name: String,
    /// What it says.
    pub role: ProbeRole,
    /// Name of the port it asks.
    pub port: String,
    /// HTTPS if set.
    pub tls: bool,
    /// Absolute path; a bare TCP connection if absent.
    pub path: Option<String>,
    /// Expected status.
    pub status: u16,
    /// What the body must be like.
    pub body: BodyRule,
    /// No answer within this is a failure.
    pub timeout: Duration,
    /// A deployment.toml key that must be `true` for the probe to apply.
    pub when: Option<String>,
}

/// Settings of the files that a glob matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRule {
    /// Below home, `*` within a part, `**` across parts.
    pub path: String,
    /// Permission bits.
    pub mode: Option<u32>,
    /// What to do about edits.
    pub drift: Option<DriftPolicy>,
    /// What a change asks for.
    pub restart: Option<RestartClass>,
    /// Content is never shown.
    pub secret: Option<bool>,
}

impl FileRule {
    /// Whether the rule is about the file at `path`, below home.
    pub fn matches(&self, path: &HomePath) -> bool {
        pattern::matches(&self.path, path.as_str())
    }
}

/// Profiles by id.
pub type Catalogue = BTreeMap<String, Product>;

const BUILT_IN: [(&str, &str); 2] =
    [("wso2is.toml", include_str!("wso2is.toml")), ("wso2am.toml", include_str!("wso2am.toml"))];

/// The built-in profiles.
pub fn built_in() -> &'static Catalogue {
    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(read::built_in);
    &CATALOGUE
}

#[cfg(test)]
mod tests;
