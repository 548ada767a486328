//! The agent's one configuration file: read, checked and typed before anything happens. Every key is documented in
//! docs/agent.md. What it allows, no coordinator can widen.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use exporter::{Listen, TlsFiles};
use fleet::{
    node::{Allowed, Authorities, Event, Limits},
    spec::meant_field,
};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::{
    balancer::{Balancer, BalancerConfig},
    preflight::Site,
    unit::{Units, plain},
};

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// `host:port` of the coordinators, tried in turn. The join token's address if absent.
    #[serde(default)]
    pub coordinators: Vec<String>,
    /// `host:port` of an HTTP proxy that connects to the coordinators; none if absent.
    #[serde(default)]
    pub proxy: Option<String>,
    /// Journal, content, key and console log. Must not be shared with another agent.
    pub data_dir: PathBuf,
    /// CARBON_HOMEs that may be managed, absolute. The home of a load balancer is added.
    #[serde(default)]
    pub homes: Vec<String>,
    /// A load balancer that is looked after.
    #[serde(default)]
    pub balancer: Option<BalancerConfig>,
    /// Start arguments that may be used: exact, or a prefix that ends in `*`.
    #[serde(default = "default_args")]
    pub args: Vec<String>,
    /// JAVA_HOME for bundles that name none.
    #[serde(default)]
    pub java_home: Option<PathBuf>,
    /// The user who owns the home and runs the server, for bundles that name none; needs root.
    #[serde(default)]
    pub run_user: Option<String>,
    /// A listener for Prometheus and for health checks; none if absent.
    #[serde(default)]
    pub metrics: Option<Metrics>,
    /// What is written to standard error.
    #[serde(default)]
    pub log: Log,
    /// Bytes of one console log before it rotates; three older ones are kept.
    #[serde(default = "default_console_bytes")]
    pub console_bytes: u64,
    /// The server's own address that probes dial; for a server that listens on one address only.
    #[serde(default = "default_probe_address")]
    pub probe_address: IpAddr,
    /// Refuse a bundle whose data sources and directories cannot be reached from this host. Turn off where only the
    /// server itself reaches them.
    #[serde(default = "default_check_endpoints")]
    pub check_endpoints: bool,
    /// Tell who wrote a managed file, where the system tells the agent.
    #[serde(default = "default_name_editors")]
    pub name_editors: bool,
    /// What hooks and gates may reach.
    #[serde(default)]
    pub allow: Allow,
    /// Homes whose servers systemd runs, with the name of the unit: the agent asks systemd to start and stop it.
    #[serde(default)]
    pub units: BTreeMap<String, String>,
    /// Where systemd is asked: `system`, `session`, an address, or `peer:` and the address of a socket that is no bus.
    #[serde(default = "default_unit_bus")]
    pub unit_bus: String,
}

/// `[allow]`: what hooks and gates may reach, and which files may be written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Allow {
    /// Programs, absolute.
    pub commands: Vec<String>,
    /// HAProxy runtime sockets: absolute paths or `127.0.0.1:PORT`.
    pub sockets: Vec<String>,
    /// `host:port` or `host:*` of URLs, beside this host itself.
    pub hosts: Vec<String>,
    /// Files below a home that a fleet may write beside configuration and artifacts: exact, or a prefix that ends in `*`.
    pub files: Vec<String>,
    /// PEM file with the authorities that vouch for other hosts' certificates.
    pub authorities: Option<PathBuf>,
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
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: Listen::loopback(7845), certificate: None, key: None, client_authorities: None }
    }
}

impl Metrics {
    /// As the listener takes it.
    ///
    /// # Errors
    /// A key of TLS is missing.
    pub fn listener(&self) -> Result<exporter::Settings, exporter::TlsError> {
        let (key, authorities) = (self.key.as_ref(), self.client_authorities.as_ref());
        let tls = TlsFiles::of(self.certificate.as_ref(), key, authorities)?;
        Ok(exporter::Settings { listen: self.listen.clone(), tls })
    }
}

fn default_unit_bus() -> String {
    "system".to_owned()
}

fn default_name_editors() -> bool {
    true
}

fn default_check_endpoints() -> bool {
    true
}

/// How to log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `text` or `json`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, or a filter of tracing-subscriber.
    pub level: String,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

fn default_args() -> Vec<String> {
    vec!["-Dprofile=*".to_owned(), "-Dkey.password=true".to_owned()]
}

const fn default_probe_address() -> IpAddr {
    IpAddr::V4(Ipv4Addr::LOCALHOST)
}

fn default_console_bytes() -> u64 {
    10 * 1024 * 1024
}

/// Why a configuration is not used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its text; the source shows line and column.
    #[error("{} is not a configuration of convoy-agent{hint}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// What was probably meant.
        hint: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value.
    #[error("{}: {key} {why}", path.display())]
    Value {
        /// Which.
        path: PathBuf,
        /// Which key.
        key: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Unreadable, not TOML, an unknown key, or a value that cannot be used.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks the text of a file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let mut config: Self = toml::from_str(text).map_err(|source| {
            let hint = meant_field(source.message()).map(|hint| format!("; {hint}")).unwrap_or_default();
            ConfigError::Parse { path: path.to_owned(), hint, source: Box::new(source) }
        })?;
        let refuse =
            |key, why: &str| Err(ConfigError::Value { path: path.to_owned(), key, why: why.to_owned() });
        if let Some(why) = config.balancer.as_ref().and_then(BalancerConfig::refused) {
            return refuse("balancer", &why);
        }
        config.add_balancer();
        if config.homes.is_empty() {
            return refuse("homes", "is empty; name the CARBON_HOME that this agent may manage");
        }
        if config.homes.iter().any(|home| !Path::new(home).is_absolute()) {
            return refuse("homes", "holds a relative path; write it absolute");
        }
        if !config.data_dir.is_absolute() {
            return refuse("data_dir", "is relative; write it absolute");
        }
        let no_port =
            |address: &&String| address.rsplit_once(':').is_none_or(|(_, p)| p.parse::<u16>().is_err());
        if let Some(address) = config.coordinators.iter().find(no_port) {
            return refuse("coordinators", &format!("holds {address:?}; write host:port"));
        }
        if let Some(address) = config.proxy.as_ref().filter(no_port) {
            return refuse("proxy", &format!("is {address:?}; write host:port, without http://"));
        }
        if config.console_bytes < 64 * 1024 {
            return refuse("console_bytes", "is below 65536, too little to explain a failed start");
        }
        let relative = |path: &&String| !Path::new(path.as_str()).is_absolute();
        if let Some(command) = config.allow.commands.iter().find(relative) {
            return refuse("allow.commands", &format!("holds {command:?}; write the whole path"));
        }
        let loopback = |socket: &str| socket.starts_with("127.0.0.1:");
        if let Some(socket) = config.allow.sockets.iter().filter(relative).find(|socket| !loopback(socket)) {
            return refuse(
                "allow.sockets",
                &format!("holds {socket:?}; write a whole path, or 127.0.0.1:PORT"),
            );
        }
        let no_port = |host: &&String| {
            host.rsplit_once(':').is_none_or(|(_, port)| port != "*" && port.parse::<u16>().is_err())
        };
        if let Some(host) = config.allow.hosts.iter().find(no_port) {
            return refuse(
                "allow.hosts",
                &format!("holds {host:?}; write host:port, or host:* for every port"),
            );
        }
        if let Some((key, why)) = config.unit_refused() {
            return refuse(key, &why);
        }
        if let Some(Err(error)) = config.metrics.as_ref().map(|metrics| metrics.listener()?.check()) {
            return refuse("metrics", &format!("cannot be used: {}", crate::chain(&error)));
        }
        Ok(config)
    }

    /// Its home, its file and its unit, beside those of servers.
    fn add_balancer(&mut self) {
        let Some(balancer) = self.balancer.clone() else { return };
        self.homes.push(balancer.home.clone());
        self.allow.files.push(balancer.kind().file().as_str().to_owned());
        if let Some(unit) = balancer.unit {
            self.units.insert(balancer.home, unit);
        }
    }

    /// The load balancer that is looked after; outcomes go to `events`.
    pub(crate) fn balancer(&self, units: &Units, events: &mpsc::Sender<Event>) -> Option<Balancer> {
        let config = self.balancer.as_ref()?;
        let unit = units.of(&config.home).cloned();
        Some(Balancer::new(config, unit, &self.data_dir, events.clone()))
    }

    fn unit_refused(&self) -> Option<(&'static str, String)> {
        if !self.units.is_empty() && !cfg!(target_os = "linux") {
            return Some(("units", "cannot be used here: systemd is of Linux only".to_owned()));
        }
        let listed = |home: &str| self.homes.iter().any(|listed| plain(listed) == plain(home));
        if let Some(home) = self.units.keys().find(|home| !listed(home)) {
            return Some(("units", format!("names {home:?}, which is not among `homes`")));
        }
        let is_name = |name: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || "@:_.-\\".contains(c);
            name.len() <= 255
                && name
                    .strip_suffix(".service")
                    .is_some_and(|stem| !stem.is_empty() && stem.chars().all(allowed))
        };
        if let Some(name) = self.units.values().find(|name| !is_name(name)) {
            return Some((
                "units",
                format!("holds {name:?}; write the whole name of a service, such as \"wso2is.service\""),
            ));
        }
        let address = self.unit_bus.strip_prefix("peer:").unwrap_or(&self.unit_bus);
        let known = ["system", "session"].contains(&self.unit_bus.as_str()) || address.starts_with("unix:");
        (!known).then(|| {
            let why = format!(
                "is {:?}; write system, session, unix:path=/... or peer:unix:path=/...",
                self.unit_bus
            );
            ("unit_bus", why)
        })
    }

    /// Which homes are run by units of systemd.
    pub fn units(&self) -> Units {
        Units::new(&self.units, &self.unit_bus)
    }

    /// What preflight must know of this host. A server that is asked at 127.0.0.1 listens on all addresses.
    pub fn site(&self) -> Site {
        let is_default = self.probe_address == default_probe_address();
        let address = if is_default { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { self.probe_address };
        Site { address, check_endpoints: self.check_endpoints }
    }

    /// The allow-lists.
    pub fn limits(&self) -> Limits {
        let mut allowed = Allowed::default();
        allowed.commands.clone_from(&self.allow.commands);
        allowed.sockets.clone_from(&self.allow.sockets);
        allowed.hosts.extend(self.allow.hosts.iter().cloned());
        allowed.files.clone_from(&self.allow.files);
        if self.allow.authorities.is_some() {
            allowed.authorities = Authorities::Listed;
        }
        Limits { homes: self.homes.clone(), args: self.args.clone(), allowed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On Windows a path is absolute only with a drive.
    fn parse(text: &str) -> Result<Config, String> {
        let text = if cfg!(windows) { text.replace("'/", "'C:/") } else { text.to_owned() };
        Config::parse(Path::new("agent.toml"), &text).map_err(|error| crate::chain(&error))
    }

    #[test]
    fn a_small_configuration_is_enough() {
        let config = parse("data_dir = '/var/lib/convoy'\nhomes = ['/opt/is']\n").unwrap();
        assert_eq!(config.args, ["-Dprofile=*", "-Dkey.password=true"]);
        assert_eq!(config.log.format, LogFormat::Text);
    }

    #[cfg(unix)]
    #[test]
    fn the_example_names_every_key_with_its_default() {
        let example = include_str!("../../examples/agent.toml");
        let shown = parse(example).unwrap();
        let bare = parse("data_dir = '/var/lib/convoy-agent'\nhomes = ['/opt/wso2/wso2is-7.2.0']\n").unwrap();
        assert_eq!(format!("{shown:?}"), format!("{bare:?}"));
        // What has no default stands in a comment, as good as any.
        let whole: String = example
            .lines()
            .map(|line| {
                line.strip_prefix("# ").filter(|line| line.contains(" = ")).unwrap_or(line).to_owned() + "\n"
            })
            .collect();
        let whole = parse(&whole).unwrap();
        assert!(whole.java_home.is_some() && whole.run_user.is_some() && whole.allow.authorities.is_some());
        assert_eq!((whole.units.len(), whole.balancer.is_some()), (2, true));
        let metrics = whole.metrics.unwrap();
        assert_eq!(metrics.listen, Metrics::default().listen);
    }

    #[cfg(unix)]
    #[test]
    fn the_quickstart_has_a_configuration_at_the_paths_of_the_unit() {
        let quickstart = include_str!("../../docs/quickstart.md");
        let block =
            quickstart.split("`/etc/convoy/agent.toml`").nth(1).unwrap().split("```toml\n").nth(1).unwrap();
        let config = parse(block.split("```").next().unwrap()).unwrap();
        let unit = include_str!("../../systemd/convoy-agent.service");
        assert!(unit.contains("--config /etc/convoy/agent.toml"), "{unit}");
        let state = config.data_dir.strip_prefix("/var/lib").unwrap().display().to_string();
        assert!(unit.contains(&format!("StateDirectory={state}\n")), "{state}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let base = "data_dir = '/d'\nhomes = ['/opt/is']\n";
        for (text, expected) in [
            ("data_dir = '/d'\nhomes = []\n".to_owned(), "homes is empty"),
            ("data_dir = '/d'\nhomes = ['opt']\n".to_owned(), "absolute"),
            ("data_dir = 'd'\nhomes = ['/opt']\n".to_owned(), "data_dir is relative"),
            (format!("{base}coordinator = 'x'\n"), "unknown field `coordinator`"),
            (format!("{base}coordinator = 'x'\n"), "did you mean \"coordinators\"?"),
            (format!("{base}[allow]\ncomands = ['/x']\n"), "did you mean \"commands\"?"),
            (format!("{base}coordinators = ['x']\n"), "host:port"),
            (format!("{base}proxy = 'http://proxy.acme'\n"), "without http://"),
            (format!("{base}[log]\nformat = 'xml'\n"), "xml"),
            ("data_dir = ".to_owned(), "line 1"),
            (format!("{base}[allow]\ncommands = ['drain']\n"), "allow.commands"),
            (format!("{base}[allow]\nsockets = ['10.0.0.1:9999']\n"), "allow.sockets"),
            (format!("{base}[allow]\nhosts = ['lb.acme.internal']\n"), "allow.hosts"),
            (format!("{base}[allow]\nshell = true\n"), "unknown field `shell`"),
            #[cfg(target_os = "linux")]
            (format!("{base}units = {{ '/opt/am' = 'am.service' }}\n"), "\"/opt/am\", which is not among"),
            #[cfg(target_os = "linux")]
            (format!("{base}units = {{ '/opt/is/' = 'is' }}\n"), "\"wso2is.service\""),
            (format!("{base}unit_bus = 'tcp:host=elsewhere'\n"), "unit_bus is"),
            (format!("{base}[metrics]\nlisten = 'localhost:7845'\n"), "write \"127.0.0.1:7845\""),
            (format!("{base}[metrics]\ncertificate = '/x.pem'\n"), "metrics cannot be used"),
            (format!("{base}[metrics]\ncertificate = '/x.pem'\n"), "`key` is missing"),
            (format!("{base}[metrics]\ncertificate = '/x.pem'\nkey = '/x.key'\n"), "x.pem"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
