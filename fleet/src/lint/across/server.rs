//! One server among others: what its configuration says, as far as that can be known, and where URLs lead.

use std::collections::BTreeSet;

use carbon::{Value, flatten::Flattened, java::substrings_between, value::Table};

pub(super) use crate::preflight::needs::is_loopback;
use crate::{
    finding::Place,
    ids::NodeName,
    lint::{PackFacts, Subject, documented, workers},
    product::built_in,
    spec::{ComposedNode, Fleet, report::Report},
};

/// References that lead to references that lead on: more than this is a circle.
const REFERENCES_MAX: usize = 8;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Identity,
    Apim,
}

/// What a server does (CONFIG 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Identity,
    /// A key manager that knows the keys of API Manager: the prepackaged one of 3.0 and 3.1, or a separate one.
    KeyManager,
    AllInOne,
    ControlPlane,
    TrafficManager,
    Gateway,
}

impl Role {
    /// Whether it keeps APIs, and so tells gateways of them.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Role::AllInOne | Role::ControlPlane)
    }
}

/// What a key is set to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setting {
    /// Neither typed nor by default.
    Absent,
    /// Something that only the server's own surroundings tell: a variable, a secret, a placeholder.
    Unknown,
    Is(String),
}

impl Setting {
    pub(super) fn known(self) -> Option<String> {
        match self {
            Setting::Is(text) => Some(text),
            Setting::Absent | Setting::Unknown => None,
        }
    }
}

/// A server.
pub(super) struct Server<'f> {
    pub(super) name: &'f NodeName,
    pub(super) node: &'f ComposedNode,
    pub(super) family: Family,
    pub(super) version: (u32, u32),
    pub(super) role: Role,
    pub(super) facts: Option<&'f PackFacts>,
    pub(super) typed: Flattened,
    subject: Subject<'f>,
    /// Asked for every URL of every node, so it is looked up once.
    address: Address,
}

/// How URLs of others lead to a server.
struct Address {
    node_ip: Option<String>,
    hostname: Setting,
    ports: BTreeSet<u16>,
}

/// One table of an array of tables.
pub(super) struct Element<'s> {
    server: &'s Server<'s>,
    /// `key[0]`.
    pub(super) key: String,
    pub(super) table: &'s Table,
}

impl Element<'_> {
    pub(super) fn text(&self, name: &str) -> Setting {
        self.table.get(name).map_or(Setting::Absent, |value| self.server.resolve(&value.to_java_string(), 0))
    }

    pub(super) fn is(&self, name: &str, wanted: &str) -> bool {
        self.text(name) == Setting::Is(wanted.to_owned())
    }

    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        self.table.get(name).map(|value| self.server.flat_texts(value)).unwrap_or_default()
    }

    pub(super) fn key_of(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }
}

/// The pack of a node, where it is known.
pub(super) type PackOf<'c, 'f> = dyn Fn(&NodeName, &ComposedNode) -> Option<&'f PackFacts> + 'c;

/// Every server of a known product whose file reads.
pub(super) fn all<'f>(fleet: &'f Fleet, pack_of: &PackOf<'_, 'f>) -> Vec<Server<'f>> {
    let nodes: Vec<_> = fleet.nodes.iter().map(|(name, node)| (name, node, pack_of(name, node))).collect();
    let servers = workers::each(&nodes, |(name, node, facts)| Server::new(name, node, *facts));
    servers.into_iter().flatten().collect()
}

impl<'f> Server<'f> {
    fn new(name: &'f NodeName, node: &'f ComposedNode, facts: Option<&'f PackFacts>) -> Option<Self> {
        let id = node.bundle.service.product.as_str();
        let (family, rest) = match (id.strip_prefix("wso2is-"), id.strip_prefix("wso2am-")) {
            (Some(rest), _) => (Family::Identity, rest),
            (None, Some(rest)) => (Family::Apim, rest),
            (None, None) => return None,
        };
        let mut server = Self {
            name,
            node,
            family,
            version: rest.split('-').find_map(version)?,
            role: Role::AllInOne,
            facts,
            typed: carbon::flatten::flatten(&node.config_text).ok()?,
            subject: Subject::composed(name, node, crate::lint::ClearText::Tell),
            address: Address { node_ip: None, hostname: Setting::Absent, ports: BTreeSet::new() },
        };
        server.role = server.role_of(rest);
        server.address = Address {
            node_ip: server.typed.data.find("server.node_ip").map(Value::to_java_string),
            hostname: server.text("server.hostname"),
            ports: server.ports().collect(),
        };
        Some(server)
    }

    /// From the pack's name, then from what the file says, then from what it holds.
    fn role_of(&self, rest: &str) -> Role {
        let is = |part: &str| rest.starts_with(part) || rest.ends_with(part);
        let said = self.text("server.server_role").known().unwrap_or_default();
        match said.as_str() {
            _ if self.family == Family::Identity && is("km-") => Role::KeyManager,
            _ if self.family == Family::Identity => Role::Identity,
            _ if is("-key-manager") => Role::KeyManager,
            _ if is("universal-gw-") || is("-gateway-worker") => Role::Gateway,
            _ if is("tm-") || is("-traffic-manager") => Role::TrafficManager,
            role if role.starts_with("api-key-manager") => Role::KeyManager,
            _ if is("acp-") || is("-control-plane") || is("-api-publisher") => Role::ControlPlane,
            "gateway-worker" | "gateway" => Role::Gateway,
            "traffic-manager" => Role::TrafficManager,
            "control-plane" | "api-publisher" | "api-devportal" => Role::ControlPlane,
            _ if self.has("database.apim_db") || self.has("apim.gateway.environment") => Role::AllInOne,
            _ if self.has("apim.sync_runtime_artifacts.gateway") => Role::Gateway,
            _ => Role::AllInOne,
        }
    }

    /// Whether it reads the keys of API Manager.
    pub(super) fn is_apim(&self) -> bool {
        self.family == Family::Apim || self.role == Role::KeyManager
    }

    /// Whether the key, or any below it, was typed.
    pub(super) fn has(&self, key: &str) -> bool {
        self.typed.data.iter().any(|(typed, _)| {
            typed.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Whether what its pack says is known.
    pub(super) fn has_pack(&self) -> bool {
        self.facts.is_some()
    }

    /// What the key is set to as far as that is known of every server: as typed, else by the documented default.
    pub(super) fn without_pack(&self, key: &str) -> Setting {
        if self.typed.data.find(key).is_some() {
            return self.text(key);
        }
        documented::default_of(key).map_or(Setting::Absent, |default| self.resolve(default, 0))
    }

    /// What was typed.
    pub(super) fn typed_text(&self, key: &str) -> Setting {
        self.typed.data.find(key).map_or(Setting::Absent, |value| self.resolve(&value.to_java_string(), 0))
    }

    /// What the key is set to: as typed, else by the pack's default, else by the documented one.
    pub(super) fn text(&self, key: &str) -> Setting {
        self.text_at(key, 0)
    }

    fn text_at(&self, key: &str, depth: usize) -> Setting {
        if let Some(value) = self.typed.data.find(key) {
            return self.resolve(&value.to_java_string(), depth);
        }
        let of_pack = self.facts.and_then(|facts| facts.pack.defaults.get(key));
        if let Some(value) = of_pack {
            return self.resolve(&value.to_java_string(), depth);
        }
        documented::default_of(key).map_or(Setting::Absent, |default| self.resolve(default, depth))
    }

    /// A text with the references and variables that can be known replaced.
    pub(super) fn resolve(&self, text: &str, depth: usize) -> Setting {
        if text.contains("$secret{") || text.contains("placeholder-for-") || REFERENCES_MAX < depth {
            return Setting::Unknown;
        }
        let mut out = text.to_owned();
        for (open, kind) in [("$ref{", 0), ("$env{", 1), ("$sys{", 2), ("${", 3)] {
            for name in substrings_between(text, open, "}") {
                let value = match kind {
                    0 => self.text_at(name, depth + 1),
                    1 => {
                        self.node.bundle.service.env.get(name).cloned().map_or(Setting::Unknown, Setting::Is)
                    }
                    2 => Setting::Unknown,
                    _ => self.carbon(name, depth),
                };
                let Setting::Is(value) = value else { return Setting::Unknown };
                out = out.replace(&format!("{open}{name}}}"), &value);
            }
        }
        Setting::Is(out)
    }

    /// What Carbon itself fills in at run time.
    fn carbon(&self, name: &str, depth: usize) -> Setting {
        let port = |name: &str| {
            let ports = &self.node.bundle.service.ports;
            let port = ports.iter().find(|port| port.name == name);
            port.map_or(Setting::Unknown, |port| Setting::Is(port.number.to_string()))
        };
        match name {
            "admin.username" => self.text_at("super_admin.username", depth + 1),
            "admin.password" => self.text_at("super_admin.password", depth + 1),
            "mgt.transport.https.port" | "carbon.management.port" => port("https"),
            "https.nio.port" => port("gateway-https"),
            "http.nio.port" => port("gateway-http"),
            "jms.port" => port("amqp"),
            "carbon.local.ip" => Setting::Is("localhost".to_owned()),
            "carbon.context" => Setting::Is("/".to_owned()),
            "carbon.protocol" => Setting::Is("https".to_owned()),
            "carbon.host" => self.text_at("server.hostname", depth + 1),
            _ => Setting::Unknown,
        }
    }

    /// The texts of a typed list, or the one text; those that cannot be known are left out.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.typed.data.find(key).map(|value| self.flat_texts(value)).unwrap_or_default()
    }

    fn flat_texts(&self, value: &Value) -> Vec<String> {
        match value {
            Value::List(items) => items.iter().flat_map(|item| self.flat_texts(item)).collect(),
            // One text may name several, as traffic_manager_urls = "tcp://a:9611,tcp://b:9611" does.
            Value::Text(text) => {
                let known = self.resolve(text, 0).known();
                let parts = known.iter().flat_map(|text| text.split(','));
                parts.map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The tables of a typed array of tables.
    pub(super) fn elements<'s>(&'s self, key: &str) -> Vec<Element<'s>> {
        let Some(Value::List(items)) = self.typed.data.find(key) else { return Vec::new() };
        let table = |(n, item): (usize, &'s Value)| match item {
            Value::Map(table) => Some(Element { server: self, key: format!("{key}[{n}]"), table }),
            _ => None,
        };
        items.iter().enumerate().filter_map(table).collect()
    }

    /// Where a key was typed, else where its table was.
    pub(super) fn place(&self, key: &str) -> Option<Place> {
        let at = |key: &str| self.subject.place(key, self.typed.positions.get(key).copied());
        let beside = || {
            let (table, _) = key.rsplit_once('.')?;
            let inside =
                self.typed.positions.iter().filter(|(typed, _)| typed.starts_with(&format!("{table}.")));
            let (first, _) = inside.min_by_key(|(_, position)| **position)?;
            at(first)
        };
        at(key).or_else(beside)
    }

    /// Every port that it may listen on.
    fn ports(&self) -> impl Iterator<Item = u16> {
        let service = &self.node.bundle.service;
        let open = service.ports.iter().map(|port| port.number);
        let profile = built_in().get(&service.product);
        let closed = profile.into_iter().flat_map(|product| &product.ports);
        open.chain(closed.filter_map(|port| port.at(service.offset)))
    }

    pub(super) fn port(&self, name: &str) -> Option<u16> {
        self.node.bundle.service.ports.iter().find(|port| port.name == name).map(|port| port.number)
    }

    pub(super) fn is_at(&self, host: &str) -> bool {
        let ip = self.address.node_ip.as_ref();
        self.node.host.eq_ignore_ascii_case(host) || ip.is_some_and(|ip| ip == host && !is_loopback(host))
    }

    /// Tells a warning about this server.
    pub(super) fn warn(
        &self,
        report: &mut Report,
        (code, key): (&'static str, &str),
        (what, remedy): (String, String),
    ) {
        report.node = Some(self.name.clone());
        report.warning(code, self.place(key), what, remedy);
        report.node = None;
    }

    /// Tells an error about this server: it certainly fails.
    pub(super) fn fail(
        &self,
        report: &mut Report,
        (code, key): (&'static str, &str),
        (what, remedy): (String, String),
    ) {
        report.node = Some(self.name.clone());
        report.error(code, self.place(key), what, remedy);
        report.node = None;
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}

/// A URL of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path: String,
}

impl Endpoint {
    /// `scheme://[user@]host[:port][/path]`; nothing else, and no JDBC URL, is one.
    pub(super) fn parse(url: &str) -> Option<Self> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let default = match scheme {
            "https" | "wss" => 443,
            "http" | "ws" => 80,
            "tcp" | "ssl" => 0,
            _ => return None,
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit('@').next()?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, default),
        };
        let known = !host.is_empty() && !host.contains(['$', '{', ' ']);
        known.then(|| Self { scheme: scheme.to_owned(), host: host.to_owned(), port, path: path.to_owned() })
    }
}

/// Where an endpoint leads.
pub(super) enum Target<'s, 'f> {
    /// To one of these, by name and port.
    Nodes(Vec<&'s Server<'f>>),
    /// To these by name, but none of them has the port.
    WrongPort(Vec<&'s Server<'f>>),
    /// To the name that these share: a load balancer's, most likely.
    Balancer(Vec<&'s Server<'f>>),
    /// To nothing that the fleet knows.
    Elsewhere,
}

impl<'s, 'f> Target<'s, 'f> {
    /// Whether it leads to `server` and nobody else.
    pub(super) fn is_only(&self, server: &Server<'_>) -> bool {
        matches!(self, Target::Nodes(nodes) if nodes.iter().all(|node| node.name == server.name))
    }

    /// Whom the endpoint reaches in the end, if that is known.
    pub(super) fn reached(&self) -> &[&'s Server<'f>] {
        match self {
            Target::Nodes(nodes) | Target::Balancer(nodes) => nodes,
            Target::WrongPort(_) | Target::Elsewhere => &[],
        }
    }
}

/// Resolves an endpoint as `from` sees it.
pub(super) fn target<'s, 'f>(
    servers: &'s [Server<'f>],
    from: &'s Server<'f>,
    endpoint: &Endpoint,
) -> Target<'s, 'f> {
    let host = endpoint.host.as_str();
    let at: Vec<&Server<'f>> = match (is_loopback(host), is_loopback(&from.node.host)) {
        (true, true) => servers.iter().filter(|server| is_loopback(&server.node.host)).collect(),
        (true, false) => vec![from],
        (false, _) => servers.iter().filter(|server| server.is_at(host)).collect(),
    };
    let exact: Vec<&Server<'f>> =
        at.iter().copied().filter(|server| server.address.ports.contains(&endpoint.port)).collect();
    if !exact.is_empty() {
        return Target::Nodes(exact);
    }
    let named = |server: &&Server<'f>| matches!(&server.address.hostname, Setting::Is(name) if name == host);
    let balanced: Vec<&Server<'f>> = servers.iter().filter(named).collect();
    let is_front = matches!(endpoint.port, 0 | 80 | 443);
    match (at.is_empty(), balanced.is_empty()) {
        (false, true) if is_front => Target::Balancer(at),
        (_, false) if is_front || at.is_empty() => Target::Balancer(balanced),
        (false, _) => Target::WrongPort(at),
        (true, _) => Target::Elsewhere,
    }
}
