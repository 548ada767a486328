//! The complete desired content of one node: its files and the settings of its service, content-addressed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use crate::{
    balancer,
    call::Hooks,
    drift::keys::KeyRules,
    host::Original,
    ids::{Digest, Generation, Revision},
    key_manager::KeyManagers,
    time::Timestamp,
    trace::TraceContext,
};

/// A file's content is at most this large; keystores and jars of a few megabytes fit.
pub const FILE_SIZE_MAX: u64 = 8 * 1024 * 1024;
/// All files of one bundle together.
pub const BUNDLE_SIZE_MAX: u64 = 128 * 1024 * 1024;
/// How many files one bundle may hold.
pub const BUNDLE_FILES_MAX: usize = 2_000;

/// A path below a server's home: `/`-separated, relative, without `.`, `..`, empty or Windows-reserved parts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HomePath(String);

/// Why a text is not a path below home.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a path below the server's home: {why}")]
pub struct HomePathError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl HomePath {
    /// # Errors
    /// Absolute paths, `..`, `\`, `:`, control characters and paths over 1,024 bytes are refused.
    pub fn parse(text: &str) -> Result<Self, HomePathError> {
        let refuse = |why| Err(HomePathError { text: text.to_owned(), why });
        if text.is_empty() || 1024 < text.len() {
            return refuse("it is empty or longer than 1024 bytes");
        }
        if text.starts_with('/') {
            return refuse("it is absolute; write it relative to home");
        }
        if text.chars().any(|c| c == '\\' || c == ':' || c.is_control()) {
            return refuse("it holds a backslash, a colon or a control character");
        }
        for part in text.split('/') {
            match part {
                "" | "." => return refuse("it holds an empty part or '.'"),
                ".." => return refuse("it leaves home by '..'"),
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last part.
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl fmt::Display for HomePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for HomePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the agent does about an edit of a managed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum DriftPolicy {
    /// Restore the desired content and report.
    #[default]
    Enforce,
    /// Only report.
    Report,
    /// Neither.
    Ignore,
}

/// What a change asks of the server, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RestartClass {
    /// The server never reads it, or reads the same as before.
    None,
    /// The running server picks it up by itself (`log4j2.properties`).
    Hot,
    /// Read only at start.
    Restart,
    /// Read only at start, and nodes that disagree break each other: switch in phases over the fleet.
    Phased,
}

/// One file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Of the content.
    pub digest: Digest,
    /// Equal meaning: the server reads the same, whatever the bytes. For deployment.toml the digest of its canonical
    /// key-value form, otherwise the content's digest.
    pub meaning: Digest,
    /// Bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    /// What to do about edits.
    pub drift: DriftPolicy,
    /// What a change of meaning asks for.
    pub restart: RestartClass,
    /// Content is never shown.
    pub secret: bool,
    /// There only from right before a launch until the server is up or gone: the secure vault's `password-tmp`.
    pub launch: bool,
}

/// A port that the server opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// As in the product profile: `https`, `http`, `nio-https`.
    pub name: String,
    /// Offset applied.
    pub number: u16,
    /// Must listen before the service counts as ready.
    pub required: bool,
}

/// What a probe's answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeRole {
    /// Failing long enough means the server hangs.
    Liveness,
    /// Passing means it can take traffic.
    Readiness,
}

/// How a body is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyRule {
    /// The status alone decides.
    Any,
    /// The body must hold this text.
    Contains(String),
    /// IS health API: 200 with an empty `health` list is Unknown, because the disabled API answers so.
    HealthApi,
}

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// GET on 127.0.0.1.
    Http {
        /// HTTPS if set; the server's certificate is pinned on first use or by configuration, never trusted blindly.
        tls: bool,
        /// Offset applied.
        port: u16,
        /// Absolute path.
        path: String,
        /// Expected status.
        status: u16,
        /// What the body must be like.
        body: BodyRule,
    },
    /// A TCP connection to this port on 127.0.0.1, offset applied.
    Tcp(u16),
}

/// One probe of a product profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// For people and reasons.
    pub name: String,
    /// What it says.
    pub role: ProbeRole,
    /// What it asks.
    pub kind: ProbeKind,
    /// No answer within this is a failure.
    pub timeout: Duration,
}

/// When a verdict changes, as in Kubernetes probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Between two rounds of probes.
    pub period: Duration,
    /// Failures in a row before Unhealthy.
    pub failure: u32,
    /// Successes in a row before Healthy.
    pub success: u32,
    /// After a start, failures do not count for this long.
    pub grace: Duration,
}

/// How an exit that nobody asked for is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// More exits than this within `window`: give up and say so.
    pub exits_max: u32,
    /// How long an exit counts.
    pub window: Duration,
    /// Before the first restart; doubles with every further exit.
    pub delay: Duration,
    /// Upper bound of the delay.
    pub delay_max: Duration,
}

/// How the service of a node is run and judged. Everything here comes from the product profile and the fleet spec,
/// already resolved for this node.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Catalogue id of the product, e.g. `wso2is-7.2`.
    pub product: String,
    /// Absolute path of CARBON_HOME on the node.
    pub home: String,
    /// Below home, e.g. `bin/wso2server.sh`.
    pub script_unix: HomePath,
    /// Below home, e.g. `bin/wso2server.bat`.
    pub script_windows: HomePath,
    /// deployment.toml, below home.
    pub config_path: HomePath,
    /// Start arguments; the agent's allow-list has the last word.
    pub args: Vec<String>,
    /// Environment of the server on top of the agent's fixed minimum.
    pub env: BTreeMap<String, String>,
    /// JAVA_HOME; the agent's own setting if absent.
    pub java_home: Option<String>,
    /// The user who owns home and runs the server; the agent's own user if absent.
    pub run_user: Option<String>,
    /// `[server] offset` as composed.
    pub offset: u16,
    /// Ports with the offset applied.
    pub ports: Vec<Port>,
    /// Probes with the offset applied.
    pub probes: Vec<Probe>,
    /// Any of these in a log line since this start says that the server has started.
    pub ready_lines: Vec<String>,
    /// From launch to ready.
    pub start_deadline: Duration,
    /// From TERM to KILL.
    pub stop_deadline: Duration,
    /// When the verdict changes.
    pub thresholds: Thresholds,
    /// How exits are answered.
    pub restart_policy: RestartPolicy,
    /// Restart a server that stays Unhealthy; off by default, since a restart drops sessions.
    pub unhealthy_restarts: bool,
    /// Preflight logs in to the databases of MySQL, MariaDB and PostgreSQL; off by default.
    pub check_databases: bool,
    /// deployment.toml keys (`encryption.key`) or tables (`secrets.*`) that the product itself writes.
    pub owned_keys: Vec<String>,
    /// Supported JDK feature versions, both ends included; no upper bound if `None`.
    pub jdk: (u32, Option<u32>),
}

/// The digest of a bundle rests on this text, so what is said of an earlier version's settings must not change: a field
/// that is added is said only where it is not as it always was. Logs show bundles, which leave the text out.
impl fmt::Debug for ServiceSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = f.debug_struct("ServiceSettings");
        text.field("product", &self.product)
            .field("home", &self.home)
            .field("script_unix", &self.script_unix)
            .field("script_windows", &self.script_windows)
            .field("config_path", &self.config_path)
            .field("args", &self.args)
            .field("env", &self.env)
            .field("java_home", &self.java_home)
            .field("run_user", &self.run_user)
            .field("offset", &self.offset)
            .field("ports", &self.ports)
            .field("probes", &self.probes)
            .field("ready_lines", &self.ready_lines)
            .field("start_deadline", &self.start_deadline)
            .field("stop_deadline", &self.stop_deadline)
            .field("thresholds", &self.thresholds)
            .field("restart_policy", &self.restart_policy)
            .field("unhealthy_restarts", &self.unhealthy_restarts);
        if self.check_databases {
            text.field("check_databases", &true);
        }
        text.field("owned_keys", &self.owned_keys).field("jdk", &self.jdk).finish()
    }
}

impl ServiceSettings {
    /// The start script for the platform that this is built for.
    pub const fn script(&self) -> &HomePath {
        if cfg!(windows) { &self.script_windows } else { &self.script_unix }
    }

    /// The same service with another `[server] offset`: its ports and probes move along.
    #[must_use]
    pub fn with_offset(mut self, offset: u16) -> Self {
        let (before, after) = (self.offset, offset);
        // A port that was typed as it is and lies below the offset stays.
        let moved =
            |port: u16| port.checked_sub(before).and_then(|port| port.checked_add(after)).unwrap_or(port);
        for port in &mut self.ports {
            port.number = moved(port.number);
        }
        for probe in &mut self.probes {
            match &mut probe.kind {
                ProbeKind::Http { port, .. } | ProbeKind::Tcp(port) => *port = moved(*port),
            }
        }
        self.offset = offset;
        self
    }
}

/// The complete desired content of one node.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// By path.
    pub files: BTreeMap<HomePath, FileEntry>,
    /// How the server is run and judged.
    pub service: ServiceSettings,
    /// What is done around a stop that was planned. The agent's own: a change restarts nothing.
    pub hooks: Hooks,
    /// Set by an agent for what it found on its host (generation 0); a composed bundle has none.
    pub origin: Option<Origin>,
    /// Which keys of deployment.toml may be edited on the host. The agent's own: a change restarts nothing.
    pub drift_keys: KeyRules,
    /// The agent does not ask who wrote a file. The agent's own: a change restarts nothing.
    pub unnamed_editors: bool,
    /// What its API Manager shall know. The agent's own: a change restarts nothing.
    pub key_managers: KeyManagers,
    /// What runs there is no server but a load balancer, which is reloaded and never started by the agent
    /// (docs/decisions/0078-balancers-are-members-of-the-fleet.md).
    pub balancer: Option<balancer::Kind>,
}

/// What an agent notes of files that it found, beside what every bundle says of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// When they were looked at.
    pub taken: Timestamp,
    /// The first generation that was written over them.
    pub before: Generation,
    /// Permissions of each file of the bundle.
    pub standing: BTreeMap<HomePath, Standing>,
    /// Paths where nothing lay.
    pub absent: BTreeSet<HomePath>,
}

/// Permissions of a file as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// All mode bits; [`FileEntry::mode`] has the permission bits only.
    pub mode: u32,
    /// Who owned it; `None` where the platform does not tell.
    pub owner: Option<OwnerIds>,
}

/// User and group of a file, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerIds {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// For logs: values of the environment, arguments, and bodies of hooks may be secrets.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("product", &self.service.product)
            .field("home", &self.service.home)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Bundle {
    /// The digest of everything in it, over a canonical text form that does not depend on the wire.
    pub fn digest(&self) -> Digest {
        use fmt::Write as _;
        let mut text = String::from("convoy-bundle-1\n");
        for (path, file) in &self.files {
            // Writing to a String cannot fail.
            writeln!(
                text,
                "file {path:?} {} {} {} {:o} {:?} {:?} {}",
                file.digest, file.meaning, file.size, file.mode, file.drift, file.restart, file.secret
            )
            .expect("a String takes any text");
            // Said only where it is so: bundles without such files keep their digests.
            if file.launch {
                text.push_str("launch\n");
            }
        }
        writeln!(text, "service {:?}", self.service).expect("a String takes any text");
        // Only if there are some: a bundle of a version that knew none keeps its digest.
        if let Some(hooks) = self.hooks.canonical() {
            writeln!(text, "hooks {hooks}").expect("a String takes any text");
        }
        if let Some(origin) = &self.origin {
            writeln!(text, "origin {origin:?}").expect("a String takes any text");
        }
        if let Some(rules) = self.drift_keys.canonical() {
            writeln!(text, "drift keys {rules}").expect("a String takes any text");
        }
        if self.unnamed_editors {
            text.push_str("unnamed editors\n");
        }
        if let Some(key_managers) = self.key_managers.canonical() {
            writeln!(text, "key managers {key_managers}").expect("a String takes any text");
        }
        if let Some(kind) = self.balancer {
            writeln!(text, "balancer {kind}").expect("a String takes any text");
        }
        Digest::of(text.as_bytes())
    }

    /// The files that are there only while a server starts.
    pub fn launch_files(&self) -> impl Iterator<Item = (&HomePath, &FileEntry)> {
        self.files.iter().filter(|(_, file)| file.launch)
    }

    /// Whether there are any.
    pub fn has_launch_files(&self) -> bool {
        self.launch_files().next().is_some()
    }

    /// Bytes of all files together.
    pub fn size(&self) -> u64 {
        self.files.values().map(|file| file.size).sum()
    }

    /// Its summary, if it stands for what an agent found on its host. `digest` is its own.
    pub fn original(&self, digest: Digest) -> Option<Original> {
        let origin = self.origin.as_ref()?;
        Some(Original {
            taken: origin.taken,
            digest,
            before: origin.before,
            files: self.files.len() + origin.absent.len(),
            bytes: self.size(),
        })
    }
}

/// A bundle at its place in a node's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The node's number for it.
    pub generation: Generation,
    /// Which bundle.
    pub bundle: Digest,
}

/// What an operator wants of a node's server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// It should run, and be started again when it ends.
    Running,
    /// It should not run.
    Stopped,
}

/// The newest desired state of a node, as the coordinator sends it and the agent keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Generation and bundle.
    pub applied: Applied,
    /// Digest of the encoded bundle, under which it is fetched.
    pub content: Digest,
    /// Bytes of the encoded bundle.
    pub content_size: u64,
    /// The revision it came from; informational.
    pub revision: Revision,
    /// What is wanted of the server.
    pub run: RunState,
    /// For people: `revision 7, rollout 3`.
    pub why: String,
    /// What the agent's part in it is a part of. Nothing is decided by it.
    pub trace: Option<TraceContext>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_home() {
        for good in ["a", "repository/conf/deployment.toml", "bin/my script.sh", "..a/b"] {
            assert!(HomePath::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["", "/etc/passwd", "..", "a/../b", "a//b", "./a", "a\\b", "C:/x", "a\nb", &"x/".repeat(600)]
        {
            assert!(HomePath::parse(bad).is_err(), "{bad}");
        }
    }
}
