//! The configuration of a load balancer in front of the fleet's servers, made from the fleet alone: the same fleet gives
//! the same text. It is a file of the nodes that a group of that balancer has; without such a group
//! `convoy render DIR --balancer NAME` writes it.
//!
//! Headers, timeouts and stickiness are those of WSO2's guides for NGINX (the project's notes on surroundings, section
//! 4); what is asked of a server's health is its product's readiness probe.

mod haproxy;
mod host;
mod nginx;
pub mod out;

pub use host::{doubts, refusal, states};

use std::{fmt, net::IpAddr, time::Duration};

use crate::{bundle::HomePath, ids::NodeName};

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balancer {
    /// `[balancers.NAME]`.
    pub name: String,
    /// Which program.
    pub kind: Kind,
    /// What clients are shown: a file on the balancer's host. HAProxy reads the key from it, too.
    pub certificate: Option<String>,
    /// Its key, for NGINX.
    pub certificate_key: Option<String>,
    /// Who vouches for the servers' certificates; they are not looked at if nobody does.
    pub server_ca: Option<String>,
    /// HAProxy's runtime socket, which hooks use.
    pub socket: Option<String>,
    /// Where clients connect; every address of its host, if absent.
    pub address: Option<IpAddr>,
    /// What its template makes of it, if it has one.
    pub written: Option<String>,
    /// In the order in which they were typed.
    pub services: Vec<Service>,
}

/// A program that balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HAProxy 2.4 and newer.
    Haproxy,
    /// The free NGINX, 1.18 and newer.
    Nginx,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Haproxy, Self::Nginx];

    /// As typed, and the product of its nodes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Haproxy => "haproxy",
            Kind::Nginx => "nginx",
        }
    }

    /// By its word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// For people.
    pub const fn title(self) -> &'static str {
        match self {
            Kind::Haproxy => "HAProxy",
            Kind::Nginx => "NGINX",
        }
    }

    /// Where the packages of distributions have it read its files.
    pub const fn usual_home(self) -> &'static str {
        match self {
            Kind::Haproxy => "/etc/haproxy",
            Kind::Nginx => "/etc/nginx/conf.d",
        }
    }

    /// The generated file, below the home of its node: Debian's `/etc/haproxy/haproxy.cfg`, or one of the files that
    /// NGINX's own configuration includes from `/etc/nginx/conf.d`.
    ///
    /// # Panics
    /// Never: the names are fixed.
    pub fn file(self) -> HomePath {
        let name = match self {
            Kind::Haproxy => "haproxy.cfg",
            Kind::Nginx => "convoy.conf",
        };
        HomePath::parse(name).expect("a fixed name below home")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What clients reach at one port, by one or several names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Of HAProxy's backend or NGINX's upstream.
    pub name: String,
    /// By node name.
    pub members: Vec<Member>,
    /// What is spoken, on both sides.
    pub transport: Transport,
    /// Where clients connect.
    pub listen: u16,
    /// Lower-case names by which clients ask; any, if there is none.
    pub hosts: Vec<String>,
    /// Which clients stay with their server.
    pub sticky: Stickiness,
    /// A server may think this long about an answer.
    pub timeout: Duration,
}

/// A server behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its node, and HAProxy's name of it.
    pub name: NodeName,
    /// As the balancer reaches it.
    pub host: String,
    /// Offset applied.
    pub port: u16,
    /// What is asked before it gets requests; only the connection, if nothing is.
    pub health: Option<Health>,
}

/// A question about a server's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Absolute path.
    pub path: String,
    /// Offset applied.
    pub port: u16,
    /// HTTPS if set.
    pub tls: bool,
    /// Of a healthy answer.
    pub status: u16,
}

/// What a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// HTTPS; clients' TLS ends at the balancer, which speaks TLS to the servers.
    Https,
    /// HTTP.
    Http,
    /// WebSocket over TLS, for hours.
    SecureWebSocket,
    /// WebSocket, for hours.
    WebSocket,
}

impl Transport {
    /// By the name of a product's port.
    pub fn of(port: &str) -> Self {
        match port {
            "wss" => Transport::SecureWebSocket,
            "ws" => Transport::WebSocket,
            port if port == "https" || port.ends_with("-https") => Transport::Https,
            _ => Transport::Http,
        }
    }

    /// Whether it is inside of TLS.
    pub const fn is_tls(self) -> bool {
        match self {
            Transport::Https | Transport::SecureWebSocket => true,
            Transport::Http | Transport::WebSocket => false,
        }
    }

    /// Whether connections stay open.
    pub const fn is_long(self) -> bool {
        match self {
            Transport::SecureWebSocket | Transport::WebSocket => true,
            Transport::Https | Transport::Http => false,
        }
    }

    /// Consoles and portals of the management port keep sessions in one server; gateways keep none.
    pub fn default_stickiness(self, kind: Kind, port: &str) -> Stickiness {
        match (port, kind) {
            ("https" | "http", Kind::Haproxy) => Stickiness::Cookie,
            ("https" | "http", Kind::Nginx) => Stickiness::Address,
            _ => Stickiness::None,
        }
    }
}

/// Which clients stay with their server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stickiness {
    /// None.
    None,
    /// Those that send the balancer's cookie back.
    Cookie,
    /// Those of one address.
    Address,
}

impl Stickiness {
    /// Every choice with its word.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::None, "none"), (Self::Cookie, "cookie"), (Self::Address, "address")];

    /// The word.
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(choice, _)| *choice == self).map_or("none", |(_, word)| word)
    }
}

impl Member {
    /// `host:port`.
    pub fn address(&self) -> String {
        address(&self.host, self.port)
    }
}

impl Service {
    /// The upstream of NGINX as the generated file has it; `home` as for [`Balancer::generated`].
    pub fn nginx_upstream(&self, home: Option<&str>) -> String {
        nginx::upstream_text(self, home)
    }

    /// What `proxy_pass` of NGINX names: the upstream, or the variable by which its members are taken out.
    pub fn nginx_pool(&self, home: Option<&str>) -> String {
        home.map_or_else(|| self.name.clone(), |_| out::variable(&self.name))
    }
}

impl Balancer {
    /// The whole configuration file, as `convoy render` writes it.
    pub fn text(&self, fleet: &str) -> String {
        self.written.clone().unwrap_or_else(|| self.generated(fleet, None))
    }

    /// What is made of it without a template. `home` is the directory of a node that an agent looks after.
    pub fn generated(&self, fleet: &str, home: Option<&str>) -> String {
        match self.kind {
            Kind::Haproxy => haproxy::text(self, fleet, home),
            Kind::Nginx => nginx::text(self, fleet, home),
        }
    }

    /// What is listened on, `bare` standing before a port without an address.
    fn listens(&self, bare: &str, port: u16) -> String {
        self.address.map_or_else(|| format!("{bare}{port}"), |listen| address(&listen.to_string(), port))
    }

    /// Ports with their services, in order of the ports; of one port those with names first.
    fn ports(&self) -> Vec<(u16, Vec<&Service>)> {
        let mut ports: std::collections::BTreeMap<u16, Vec<&Service>> = std::collections::BTreeMap::new();
        for service in &self.services {
            ports.entry(service.listen).or_default().push(service);
        }
        for services in ports.values_mut() {
            services.sort_by_key(|service| (service.hosts.is_empty(), service.name.clone()));
        }
        ports.into_iter().collect()
    }
}

/// Whether a text can be a host name or address in either language. A wildcard is none.
pub fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 253
        && !text.starts_with(['-', '.'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

/// `host:port`, brackets around an IPv6 address.
fn address(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn head(balancer: &Balancer, (fleet, home): (&str, Option<&str>), check: &str) -> String {
    if home.is_some() {
        return format!(
            "# Balancer {} of fleet {fleet}, kept by convoy-agent: an edit is undone. Change fleet.toml instead.\n",
            balancer.name
        );
    }
    format!(
        "# Made by `convoy render DIR --balancer {}` from fleet {fleet}; make it anew instead of editing it.\n# Check it \
         with `{check}`.\n",
        balancer.name
    )
}

#[cfg(test)]
mod tests;
