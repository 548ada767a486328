//! The coordinator's one configuration file: read, checked and turned into typed values before a port is bound.
//! Every key is documented in docs/coordinator.md and examples/coordinator.toml.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use exporter::{Listen, TlsFiles};
use fleet::{ids::FleetName, spec::meant_field, time::parse_duration};
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    alerts::{AlertSettings, ChannelError},
    enrolment::host::{FileError, Files},
};

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The fleet that this coordinator keeps; part of every certificate.
    #[serde(deserialize_with = "fleet_name")]
    pub fleet: FleetName,
    /// Holds the store, the authority's key and the first operator's context. Must not be shared.
    pub data_dir: PathBuf,
    /// Where to listen. Port 0 takes a free one, which `<data_dir>/address` then names.
    #[serde(default = "default_listen", deserialize_with = "listen")]
    pub listen: SocketAddr,
    /// DNS names and addresses under which agents and operators reach it; they go into the server certificate.
    #[serde(default)]
    pub names: Vec<ServerName>,
    /// What tokens and context files tell others to dial; the first of `names` with the port of `listen` if absent.
    #[serde(default, deserialize_with = "address")]
    pub address: Option<String>,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// Liveness.
    #[serde(default)]
    pub heartbeat: Heartbeat,
    /// Lifetimes.
    #[serde(default)]
    pub certificates: Certificates,
    /// How hosts join, beside tokens and requests.
    #[serde(default)]
    pub join: Join,
    /// How much of the past is kept.
    #[serde(default)]
    pub history: History,
    /// What Prometheus reads; nothing if absent.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// Where alerts go.
    #[serde(default)]
    pub alerts: AlertSettings,
    /// What is written to standard error.
    #[serde(default)]
    pub log: Log,
}

/// How hosts join, beside tokens and requests.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Join {
    /// By their own certificates; not at all if absent.
    pub pki: Option<JoinPki>,
}

/// Whose certificates let hosts in (ADR 101).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinPki {
    /// PEM file with the authorities.
    pub authorities: PathBuf,
    /// File with their revocation lists, PEM, or one in DER; nobody counts as revoked if absent.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

impl JoinPki {
    /// The files that are named.
    pub fn files(&self) -> Files {
        Files { authorities: self.authorities.clone(), crl: self.crl.clone() }
    }
}

/// A listener for Prometheus and for health checks.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where it listens.
    pub listen: Listen,
    /// PEM file with its certificate; plain HTTP if absent.
    pub certificate: Option<PathBuf>,
    /// PEM file with the certificate's key.
    pub key: Option<PathBuf>,
    /// PEM file with the authorities that vouch for clients; clients need no certificate if absent.
    pub client_authorities: Option<PathBuf>,
    /// Every node has series of its own.
    pub node_labels: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: Listen::loopback(7844),
            certificate: None,
            key: None,
            client_authorities: None,
            node_labels: false,
        }
    }
}

impl Metrics {
    /// The listener's part.
    ///
    /// # Errors
    /// A key of TLS is missing.
    pub fn listener(&self) -> Result<exporter::Settings, exporter::TlsError> {
        let (key, authorities) = (self.key.as_ref(), self.client_authorities.as_ref());
        let tls = TlsFiles::of(self.certificate.as_ref(), key, authorities)?;
        Ok(exporter::Settings { listen: self.listen.clone(), tls })
    }
}

/// Bounds that keep one peer from hurting the others.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections of agents.
    #[serde(deserialize_with = "positive")]
    pub connections: usize,
    /// Open connections of operators.
    #[serde(deserialize_with = "positive")]
    pub operators: usize,
    /// Open connections of peers without a certificate.
    #[serde(deserialize_with = "positive")]
    pub strangers: usize,
    /// Sockets whose TLS handshake is not done.
    #[serde(deserialize_with = "positive")]
    pub handshakes: usize,
    /// A handshake that takes longer is given up.
    #[serde(deserialize_with = "duration")]
    pub handshake_timeout: Duration,
    /// Bytes of one uploaded fleet directory.
    #[serde(deserialize_with = "positive")]
    pub upload_bytes: usize,
    /// Files of one uploaded fleet directory.
    #[serde(deserialize_with = "positive")]
    pub upload_files: usize,
    /// Bytes that content leaves free on the disk of the data directory.
    pub disk_reserve: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            operators: 256,
            strangers: 512,
            handshakes: 1_024,
            handshake_timeout: Duration::from_secs(10),
            upload_bytes: 256 * 1024 * 1024,
            upload_files: 5_000,
            disk_reserve: 64 * 1024 * 1024,
        }
    }
}

/// When an agent counts as gone.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Heartbeat {
    /// Between two heartbeats of an agent in a small fleet.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// The interval never grows beyond this.
    #[serde(deserialize_with = "duration")]
    pub interval_max: Duration,
    /// Heartbeats that all agents together may send in a second; the interval grows with the fleet to keep it.
    #[serde(deserialize_with = "positive")]
    pub per_second_max: usize,
    /// An agent that was silent for this many intervals is gone.
    #[serde(deserialize_with = "positive")]
    pub missed_max: usize,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            interval_max: Duration::from_secs(60),
            per_second_max: 200,
            missed_max: 3,
        }
    }
}

impl Heartbeat {
    /// The interval that keeps `agents` of them within `per_second_max`.
    pub fn interval_for(&self, agents: usize) -> Duration {
        let needed = Duration::from_secs_f64(agents as f64 / self.per_second_max as f64);
        needed.clamp(self.interval, self.interval_max.max(self.interval))
    }

    /// How long an agent that was told `interval` may be silent.
    pub fn silence_max(&self, interval: Duration) -> Duration {
        interval * u32::try_from(self.missed_max).unwrap_or(u32::MAX)
    }
}

/// How long certificates live. Each is renewed at about half of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Certificates {
    /// Of agents.
    #[serde(deserialize_with = "duration")]
    pub node: Duration,
    /// Of operators.
    #[serde(deserialize_with = "duration")]
    pub operator: Duration,
    /// Of the coordinator itself.
    #[serde(deserialize_with = "duration")]
    pub server: Duration,
}

impl Default for Certificates {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Self { node: days(90), operator: days(365), server: days(90) }
    }
}

/// How much of the past is kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Applied revisions, with all their content.
    #[serde(deserialize_with = "positive")]
    pub revisions: usize,
    /// Finished rollouts.
    #[serde(deserialize_with = "positive")]
    pub rollouts: usize,
    /// Events.
    #[serde(deserialize_with = "positive")]
    pub events: usize,
}

impl Default for History {
    fn default() -> Self {
        Self { revisions: 50, rollouts: 50, events: 20_000 }
    }
}

/// What is written to standard error.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// The least severity that is written.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: LogLevel::Info }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of text.
    Text,
    /// One JSON object per line.
    Json,
}

/// The least severity that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// Surprising, handled.
    Warn,
    /// What an operator did or would ask about.
    Info,
    /// Each reconciliation.
    Debug,
}

/// A DNS name or an IP address of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerName(String);

impl ServerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ServerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match rustls_pki_types::ServerName::try_from(text.as_str()) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(D::Error::custom(format!(
                "{text:?} is neither a DNS name nor an IP address; write it without scheme and port"
            ))),
        }
    }
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7843))
}

fn fleet_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FleetName, D::Error> {
    FleetName::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        let port = text.rsplit_once(':').map_or("", |(_, port)| port);
        let port = if port.parse::<u16>().is_ok() { port } else { "7843" };
        D::Error::custom(format!(
            "{text:?} is no IP address with a port; write \"127.0.0.1:{port}\" for this machine alone or \
             \"0.0.0.0:{port}\" for all of its addresses. Names by which others reach it stand in `names`"
        ))
    })
}

/// A duration, or a number that somebody took for one.
#[derive(Deserialize)]
#[serde(untagged)]
enum DurationText {
    Text(String),
    Whole(i64),
    Fraction(f64),
}

pub(crate) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let no_unit = |number: String| {
        D::Error::custom(format!(
            "{number} has no unit; write it in quotes with ms, s, m, h or d, for example \"{number}s\""
        ))
    };
    let text = match DurationText::deserialize(deserializer) {
        Ok(DurationText::Text(text)) => text,
        Ok(DurationText::Whole(number)) => return Err(no_unit(number.to_string())),
        Ok(DurationText::Fraction(number)) => return Err(no_unit(number.to_string())),
        Err(_) => {
            return Err(D::Error::custom("this is no duration; write one in quotes, for example \"5s\""));
        }
    };
    let duration = parse_duration(&text).map_err(D::Error::custom)?;
    if duration.is_zero() {
        return Err(D::Error::custom("this must be longer than zero, for example \"5s\""));
    }
    Ok(duration)
}

fn positive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(D::Error::custom("this must be at least 1; leave the key out for the default")),
        number => Ok(number),
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        rustls_pki_types::ServerName::try_from(host.trim_matches(['[', ']'])).is_ok()
            && port.parse::<u16>().is_ok()
    });
    if valid { Ok(Some(text)) } else { Err(D::Error::custom("write this as \"host:port\"")) }
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a configuration.
    #[error("{}: {refusal}", path.display())]
    Refused {
        /// Which file.
        path: PathBuf,
        /// Line, key and remedy.
        refusal: Refusal,
    },
    /// A channel of alerts cannot be used.
    #[error("{}: this channel of alerts cannot be used", path.display())]
    Channel {
        /// Which file.
        path: PathBuf,
        /// Which channel, and why.
        source: ChannelError,
    },
    /// The authorities of hosts, or their revocation lists, cannot be used.
    #[error("{}: the authorities of hosts cannot be used", path.display())]
    HostAuthorities {
        /// The configuration file.
        path: PathBuf,
        /// Why not.
        source: FileError,
    },
    /// The files of TLS for metrics cannot be used.
    #[error("{}: [metrics] cannot be used", path.display())]
    Metrics {
        /// Which file.
        path: PathBuf,
        /// Which file of TLS, and why.
        source: exporter::TlsError,
    },
}

/// Line, the line itself, what is wrong with it and what to do.
#[derive(Debug)]
pub struct Refusal {
    what: String,
    page: &'static str,
}

/// Where most keys are documented.
const PAGE: &str = "docs/coordinator.md";

/// Where the keys are documented of the table that is open at `place`, in bytes from the beginning of `text`.
fn page_of(text: &str, place: usize) -> &'static str {
    let end = text[place.min(text.len())..].find('\n').map_or(text.len(), |rest| place + rest);
    let table = text[..end].lines().rev().find(|line| line.trim_start().starts_with('['));
    match table.map(|line| line.trim_start_matches([' ', '\t', '['])) {
        Some(name) if name.starts_with("alerts") => "docs/alerts.md",
        Some(name) if name.starts_with("metrics") => "docs/metrics.md",
        Some(_) | None => PAGE,
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  help: every key with its default and unit is in {}", self.what.trim_end(), self.page)
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Names file, line and key, shows the line and says what to write instead.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let config =
            Self::parse(&text).map_err(|refusal| ConfigError::Refused { path: path.to_owned(), refusal })?;
        // Opened again when the coordinator starts; here it is checked before anything is touched.
        if let Err(source) = config.alerts.open() {
            return Err(ConfigError::Channel { path: path.to_owned(), source });
        }
        let metrics = config.metrics.as_ref().map_or(Ok(()), |metrics| metrics.listener()?.check());
        metrics.map_err(|source| ConfigError::Metrics { path: path.to_owned(), source })?;
        let authorities = config.join.pki.as_ref().map_or(Ok(()), |pki| pki.files().check());
        authorities.map_err(|source| ConfigError::HostAuthorities { path: path.to_owned(), source })?;
        Ok(config)
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// As for [`Config::read`], without the file's name.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let hint = meant_field(error.message()).map(|hint| format!("\n  {hint}")).unwrap_or_default();
            let page = error.span().map_or(PAGE, |place| page_of(text, place.start));
            Refusal { what: format!("{}{hint}", error.to_string().trim_end()), page }
        })?;
        if config.listen.ip().is_unspecified() && config.names.is_empty() {
            let what = format!(
                "listen = \"{}\" takes connections on every address, but `names` lists none of them, so no agent \
                 could check who answers; add names = [\"convoy.example.com\"]",
                config.listen
            );
            return Err(Refusal { what, page: PAGE });
        }
        Ok(config)
    }

    /// What others dial, once the port is known.
    pub fn dial_address(&self, bound: SocketAddr) -> String {
        match (&self.address, self.names.first()) {
            (Some(address), _) => address.clone(),
            (None, Some(ServerName(name))) if name.contains(':') => format!("[{name}]:{}", bound.port()),
            (None, Some(ServerName(name))) => format!("{name}:{}", bound.port()),
            (None, None) => bound.to_string(),
        }
    }

    /// Every name that the server certificate must carry.
    pub fn server_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.names.iter().map(|name| name.0.clone()).collect();
        let dialled = self.address.as_ref().and_then(|address| address.rsplit_once(':'));
        names.extend(dialled.map(|(host, _)| host.trim_matches(['[', ']']).to_owned()));
        if !self.listen.ip().is_unspecified() {
            names.push(self.listen.ip().to_string());
        }
        if self.listen.ip().is_loopback() || self.listen.ip().is_unspecified() {
            names.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        }
        names.sort();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: &str = "fleet = \"acme\"\ndata_dir = \"/tmp/x\"\n";

    #[test]
    fn a_configuration_error_names_line_key_and_remedy() {
        let table = [
            ("", "missing field `fleet`"),
            ("fleet = \"Acme\"\n", "line 1"),
            ("fleet = \"acme.prod\"\n", "as in \"acme-prod\""),
            ("flet = 1\n", "unknown field `flet`"),
            ("flet = 1\n", "did you mean \"fleet\"?"),
            ("[heartbeat]\nintervall = \"5s\"\n", "did you mean \"interval\"?"),
            ("[heartbeat]\ninterval = 5\n", "for example \"5s\""),
            ("[heartbeat]\ninterval = 5\n", "line 4"),
            ("[heartbeat]\ninterval = true\n", "write one in quotes"),
            ("listen = \"localhost:7900\"\n", "write \"127.0.0.1:7900\""),
            ("listen = \"localhost\"\n", "\"0.0.0.0:7843\" for all"),
            ("[limits]\nconnections = 0\n", "line 4"),
            ("[heartbeat]\ninterval = \"5\"\n", "as in \"30s\""),
            ("names = [\"https://x\"]\n", "without scheme and port"),
            ("listen = \"0.0.0.0:7843\"\n", "add names"),
            ("address = \"x\"\n", "host:port"),
            ("[log]\nformat = \"xml\"\n", "expected `text` or `json`"),
            ("[log]\nformat = \"xml\"\n", "is in docs/coordinator.md"),
            ("[alerts.channels.ops]\nkind = \"pager\"\n", "is in docs/alerts.md"),
            ("[alerts]\nfirst_afer = \"5s\"\n", "is in docs/alerts.md"),
            ("[metrics]\nlisten = 9100\n", "is in docs/metrics.md"),
            ("[metrics]\nlisten = \"localhost:9100\"\n", "write \"127.0.0.1:9100\""),
            ("[metrics]\nlisten = \"unix:metrics\"\n", "names no whole path"),
        ];
        for (text, expected) in table {
            let whole = match text.starts_with("fleet") || text.is_empty() {
                true => text.to_owned(),
                false => format!("{LEAST}{text}"),
            };
            let refusal = Config::parse(&whole).unwrap_err().to_string();
            assert!(refusal.contains(expected), "{text:?}: {refusal}");
        }
    }

    #[test]
    fn the_least_configuration_is_a_loopback_coordinator() {
        let config = Config::parse(LEAST).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7843");
        assert_eq!(config.server_names(), ["127.0.0.1", "localhost"]);
        assert_eq!(config.dial_address(config.listen), "127.0.0.1:7843");
    }

    #[test]
    fn the_example_is_a_valid_configuration() {
        Config::parse(include_str!("../../examples/coordinator.toml")).unwrap();
        let quickstart = include_str!("../../docs/quickstart.md");
        let block = quickstart.split("`/etc/convoy/coordinator.toml`:\n```toml\n").nth(1).unwrap();
        let config = Config::parse(block.split("```").next().unwrap()).unwrap();
        let unit = include_str!("../../systemd/convoy-coordinator.service");
        assert!(unit.contains("--config /etc/convoy/coordinator.toml"), "{unit}");
        let state = config.data_dir.strip_prefix("/var/lib").unwrap().display().to_string();
        assert!(unit.contains(&format!("StateDirectory={state}\n")), "{state}");
    }

    #[test]
    fn heartbeats_slow_down_as_the_fleet_grows() {
        let heartbeat = Heartbeat::default();
        assert_eq!(heartbeat.interval_for(1), Duration::from_secs(5));
        assert_eq!(heartbeat.interval_for(4_000), Duration::from_secs(20));
        assert_eq!(heartbeat.interval_for(1_000_000), Duration::from_secs(60));
    }
}
