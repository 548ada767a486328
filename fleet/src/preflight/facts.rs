//! What the agent found on the host, before anybody judges it. "Could not look" is a fact of its own everywhere:
//! an `Err` holds why, in words, and never counts as good.

use std::time::Duration;

use super::{
    certificate::CertificateFact,
    components::{Component, ComponentFact},
    databases::Looked,
    needs::{Endpoint, Keystore},
    peers::{Peer, PeerFact},
    unit::UnitFact,
};
use crate::{balancer::Kind, time::Timestamp};

/// Something that could be looked at, or why not.
pub type Seen<T> = Result<T, String>;

/// Everything that [`super::check`] judges.
#[derive(Debug, Clone, Default)]
pub struct PreflightFacts {
    /// The JDK that the server would be started with.
    pub java: JavaFact,
    /// Home and what lies in it.
    pub home: HomeFact,
    /// The host around it.
    pub host: HostFact,
    /// Each endpoint of the configuration with the outcome of a TCP connection to it.
    pub endpoints: Vec<(Endpoint, EndpointFact)>,
    /// Each data source with the outcome of a login; none unless the fleet asks for it.
    pub databases: Vec<Looked>,
    /// Each jar and web application that the configuration asks for, with what was found of it.
    pub components: Vec<(Component, ComponentFact)>,
    /// Each keystore of the configuration with the outcome of opening it.
    pub keystores: Vec<(Keystore, KeystoreFact)>,
    /// What is in those that opened, the truststore among them.
    pub stores: Vec<StoreContent>,
    /// Each TLS connection of the configuration with what was shown at its other end.
    pub peers: Vec<(Peer, PeerFact)>,
    /// The server's deployment.toml.
    pub config: ConfigFact,
    /// The systemd unit that runs the server, if one does.
    pub unit: Option<Seen<UnitFact>>,
    /// Whether the server needs files that are there only while it starts.
    pub has_launch_files: bool,
    /// When the look was, for the ends of certificates.
    pub now: Timestamp,
    /// Set for a node that is a load balancer; nothing else is looked at then.
    pub balancer: Option<BalancerFact>,
}

/// A load balancer of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerFact {
    /// What the bundle is for.
    pub wanted: Kind,
    /// What the agent's configuration names at that home.
    pub looked_after: Option<Kind>,
    /// What the program says to the text that is to come.
    pub config: Seen<Judged>,
}

/// What a load balancer's own program says to a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// It takes it, without a word.
    Takes,
    /// It takes it, and has doubts: its words.
    Doubts(String),
    /// It refuses it: its words.
    Refuses(String),
}

/// The deployment.toml that the server would read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConfigFact {
    /// The server's own reader takes it.
    #[default]
    Read,
    /// It could not be looked at: why. Endpoints and keystores are unknown then.
    Unread(String),
    /// The server's own reader refuses it, so no start succeeds: why.
    Refused(String),
}

/// The JDK.
#[derive(Debug, Clone)]
pub struct JavaFact {
    /// JAVA_HOME as set for the service or the agent.
    pub java_home: Option<String>,
    /// What `<java_home>/bin/java -version` printed.
    pub output: Seen<String>,
}

impl Default for JavaFact {
    fn default() -> Self {
        Self { java_home: None, output: Err("not looked for".to_owned()) }
    }
}

/// Home.
#[derive(Debug, Clone)]
pub struct HomeFact {
    /// Content of `bin/version.txt`.
    pub version: Seen<String>,
    /// Whether the start script is a file.
    pub script: Seen<()>,
    /// Who owns home.
    pub owner: Seen<Owner>,
    /// Who would run the server.
    pub run_user: Seen<Owner>,
    /// Below home, what the server must write and somebody else owns; the first few only.
    pub foreign: Vec<String>,
    /// Bytes free on home's file system, for the agent's user.
    pub disk_free: Seen<u64>,
    /// Bytes of the bundle that is to be applied; 0 if there is none.
    pub bundle_size: u64,
}

impl Default for HomeFact {
    fn default() -> Self {
        let unknown = || "not looked at".to_owned();
        Self {
            version: Err(unknown()),
            script: Err(unknown()),
            owner: Err(unknown()),
            run_user: Err(unknown()),
            foreign: Vec::new(),
            disk_free: Err(unknown()),
            bundle_size: 0,
        }
    }
}

/// A user of the operating system. Where there are no numbers (Windows), `id` is 0 for all and the name decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// Numeric user id.
    pub id: u32,
    /// Name, or the number again where it has none.
    pub name: String,
}

/// The host around home.
#[derive(Debug, Clone)]
pub struct HostFact {
    /// All listening TCP sockets.
    pub sockets: Seen<Vec<Listener>>,
    /// Processes of this server: their sockets are ours.
    pub own_pids: Vec<u32>,
    /// Other WSO2 servers that run on this host.
    pub neighbours: Vec<Neighbour>,
    /// How far this host's clock is ahead of the coordinator's (positive) or behind (negative).
    pub clock_ahead: Seen<ClockSkew>,
    /// Open files, hard limit; the JVM raises its soft limit to it. `None` is unlimited.
    pub open_files: Seen<Option<u64>>,
    /// Processes and threads of the user, soft limit. `None` is unlimited.
    pub processes: Seen<Option<u64>>,
}

impl Default for HostFact {
    fn default() -> Self {
        let unknown = || "not looked at".to_owned();
        Self {
            sockets: Err(unknown()),
            own_pids: Vec::new(),
            neighbours: Vec::new(),
            clock_ahead: Err(unknown()),
            open_files: Err(unknown()),
            processes: Err(unknown()),
        }
    }
}

/// A difference between two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockSkew {
    /// This host's clock shows a later time.
    Ahead(Duration),
    /// This host's clock shows an earlier time.
    Behind(Duration),
}

impl ClockSkew {
    /// Of the clock that shows `here` at the moment when the other shows `there`.
    pub fn between(here: Timestamp, there: Timestamp) -> Self {
        let by = Duration::from_millis(here.0.abs_diff(there.0));
        if here.0 < there.0 { ClockSkew::Behind(by) } else { ClockSkew::Ahead(by) }
    }

    /// Without its direction.
    pub const fn size(self) -> Duration {
        match self {
            ClockSkew::Ahead(by) | ClockSkew::Behind(by) => by,
        }
    }
}

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its port.
    pub port: u16,
    /// Who holds it; `None` where the platform does not tell this user.
    pub pid: Option<u32>,
    /// The holder for people, e.g. `java of /opt/wso2/wso2am-4.5.0`.
    pub holder: String,
}

/// Another WSO2 server on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// Its process.
    pub pid: u32,
    /// Its `-Dcarbon.home=`.
    pub home: String,
    /// Its port offset, from its arguments or its deployment.toml.
    pub offset: Seen<u16>,
}

/// How a TCP connection went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointFact {
    /// Connected after this long.
    Reached(Duration),
    /// Refused, timed out, or the name is unknown: why, in words.
    Unreachable(String),
}

/// What a store that opened holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreContent {
    /// The table that names the store, e.g. `truststore`.
    pub key: String,
    /// Below home, or absolute.
    pub file: String,
    /// In the order of the store. Of a keystore, only the configured alias has a key here.
    pub entries: Vec<Held>,
}

/// An entry of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Its alias.
    pub alias: String,
    /// Whether it is the private key that the server uses.
    pub has_key: bool,
    /// Its certificate, then those that signed it, as far as they are there.
    pub chain: Vec<CertificateFact>,
}

/// How opening a keystore went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeystoreFact {
    /// Opened; everything that was asked for is in it.
    Good,
    /// There is no such file.
    Absent,
    /// The integrity check failed: wrong password, or damaged.
    WrongPassword,
    /// Opened, but holds only these aliases.
    AliasMissing(Vec<String>),
    /// The entry is a certificate without its private key.
    NoPrivateKey,
    /// The store opened, the key in it did not.
    WrongKeyPassword,
    /// Neither format, or broken: why.
    Unreadable(String),
    /// Cannot be opened here: why. E.g. the password lies in the secure vault.
    NotChecked(String),
}
