//! The nodes of a fleet as these checks see them: what each is for, what was typed for it, its names and ports.

use std::collections::BTreeSet;

use carbon::{
    Value,
    flatten::{Flattened, flatten},
    java::substrings_between,
    value::Table,
};

use crate::{
    finding::Place,
    ids::NodeName,
    lint::subject::{ClearText, Subject},
    spec::{ComposedNode, Fleet},
};

/// `$ref{}` of `$ref{}` of `$ref{}`; the products' own defaults are three deep.
const REFERENCES_MAX: usize = 8;

/// What a node does. Which one it is, the product says, then `-Dprofile=`, then `server.server_role`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    IdentityServer,
    AllInOne,
    ControlPlane,
    Gateway,
    TrafficManager,
    KeyManager,
    /// A publisher or developer portal of API Manager 3.
    Portal,
}

impl Tier {
    fn of_role(role: &str) -> Option<Self> {
        let has = |part: &str| role.contains(part);
        Some(match role {
            _ if has("gateway") || has("-gw") => Tier::Gateway,
            _ if has("traffic-manager") || has("-tm-") => Tier::TrafficManager,
            _ if has("key-manager") || has("-km-") => Tier::KeyManager,
            _ if has("control-plane") || has("-acp-") => Tier::ControlPlane,
            _ if has("publisher") || has("devportal") => Tier::Portal,
            _ => return None,
        })
    }

    /// Holds APIs and policies, and so needs API Manager's database.
    pub(super) fn has_api_database(self) -> bool {
        matches!(self, Tier::AllInOne | Tier::ControlPlane | Tier::Portal)
    }

    /// Any part of API Manager.
    pub(super) fn is_api_manager(self) -> bool {
        self != Tier::IdentityServer
    }
}

/// One node.
pub(super) struct Peer<'a> {
    pub(super) name: &'a NodeName,
    pub(super) node: &'a ComposedNode,
    pub(super) tier: Tier,
    /// Major and minor version of the product, if its id tells.
    pub(super) version: Option<(u32, u32)>,
    subject: Subject<'a>,
    typed: Flattened,
}

/// All of them. A node whose product or deployment.toml cannot be read is left out; that is told elsewhere.
pub(super) struct Site<'a> {
    pub(super) peers: Vec<Peer<'a>>,
}

/// Who a host name belongs to.
pub(super) enum Target<'s, 'a> {
    /// Nodes of the fleet on that host.
    Nodes(Vec<&'s Peer<'a>>),
    /// Nodes that call themselves so together: the name of the load balancer before them.
    Tier(Vec<&'s Peer<'a>>),
    /// Nobody that the fleet knows.
    Stranger,
}

/// A URL as far as these checks need it.
pub(super) struct Url<'t> {
    pub(super) scheme: &'t str,
    pub(super) host: &'t str,
    /// Typed, or the scheme's own.
    pub(super) port: u16,
    pub(super) path: &'t str,
}

impl<'t> Url<'t> {
    /// `None` if it is none, or its host or port is filled in by the running server.
    pub(super) fn parse(text: &'t str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let authority = authority.rsplit('@').next()?;
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (authority, if matches!(scheme, "https" | "wss") { 443 } else { 80 }),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '[' | ']' | ':');
        (!host.is_empty() && host.chars().all(is_name)).then_some(Self { scheme, host, port, path })
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.starts_with("127.") || host == "::1" || host == "[::1]"
}

impl<'a> Site<'a> {
    pub(super) fn of(fleet: &'a Fleet, clear_text: ClearText) -> Self {
        let peers = fleet.nodes.iter();
        Self { peers: peers.filter_map(|(name, node)| Peer::of(name, node, clear_text)).collect() }
    }

    /// Who `host` is, as seen from `from`.
    pub(super) fn target(&self, from: &Peer<'a>, host: &str) -> Target<'_, 'a> {
        let is_here = is_loopback(host);
        let named = |peer: &&Peer<'a>| {
            if is_here {
                return peer.name == from.name || peer.node.host == from.node.host;
            }
            peer.node.host.eq_ignore_ascii_case(host)
                || peer.text("server.node_ip").is_some_and(|ip| ip == host)
        };
        let nodes: Vec<&Peer<'a>> = self.peers.iter().filter(named).collect();
        if !nodes.is_empty() {
            return Target::Nodes(nodes);
        }
        let called =
            |peer: &&Peer<'a>| peer.text("server.hostname").is_some_and(|it| it.eq_ignore_ascii_case(host));
        let tier: Vec<&Peer<'a>> = self.peers.iter().filter(called).collect();
        if tier.is_empty() { Target::Stranger } else { Target::Tier(tier) }
    }

    /// The node that a URL reaches: on that host, with that port.
    pub(super) fn reached(&self, from: &Peer<'a>, url: &Url<'_>) -> Option<&Peer<'a>> {
        let Target::Nodes(nodes) = self.target(from, url.host) else { return None };
        nodes.into_iter().find(|peer| peer.listens(url.port))
    }

    /// Nodes of a tier.
    pub(super) fn tier(&self, tier: Tier) -> impl Iterator<Item = &Peer<'a>> {
        self.peers.iter().filter(move |peer| peer.tier == tier)
    }

    /// Nodes that hold APIs and hand them to gateways: control planes, or all-in-ones where there are none.
    pub(super) fn control_planes(&self) -> Vec<&Peer<'a>> {
        let planes: Vec<_> = self.tier(Tier::ControlPlane).collect();
        if planes.is_empty() { self.tier(Tier::AllInOne).collect() } else { planes }
    }
}

impl<'a> Peer<'a> {
    fn of(name: &'a NodeName, node: &'a ComposedNode, clear_text: ClearText) -> Option<Self> {
        let typed = flatten(&node.config_text).ok()?;
        let subject = Subject::composed(name, node, clear_text);
        let product = node.bundle.service.product.as_str();
        let script = node.bundle.service.script_unix.file_name();
        let is_identity = product.contains("wso2is") || !product.contains("am") && script == "wso2server.sh";
        let mut peer = Self { name, node, tier: Tier::AllInOne, version: version(product), subject, typed };
        peer.tier = if is_identity { Tier::IdentityServer } else { peer.tier_of(product) };
        Some(peer)
    }

    fn tier_of(&self, product: &str) -> Tier {
        let profile = self.profile();
        let role = self.text("server.server_role");
        let told = Tier::of_role(product).or_else(|| Tier::of_role(profile?));
        told.or_else(|| Tier::of_role(&role?)).unwrap_or(Tier::AllInOne)
    }

    /// What `-Dprofile=` says.
    pub(super) fn profile(&self) -> Option<&'a str> {
        self.node.bundle.service.args.iter().find_map(|argument| argument.strip_prefix("-Dprofile="))
    }

    pub(super) fn listens(&self, port: u16) -> bool {
        self.node.bundle.service.ports.iter().any(|it| it.number == port)
    }

    /// The number of a port of the product's, offset applied.
    pub(super) fn port(&self, name: &str) -> Option<u16> {
        self.node.bundle.service.ports.iter().find(|port| port.name == name).map(|port| port.number)
    }

    pub(super) fn place(&self, key: &str) -> Option<Place> {
        self.subject.place(key, self.typed.positions.get(key).copied())
    }

    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        self.typed.data.find(key)
    }

    /// Whether anything was typed under this table.
    pub(super) fn has_table(&self, table: &str) -> bool {
        self.typed
            .data
            .iter()
            .any(|(key, _)| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')))
    }

    /// A single value as text, references to what was typed resolved.
    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::List(_) | Value::Map(_) | Value::Null => None,
            value => Some(self.resolve(&value.to_java_string(), 0)),
        }
    }

    /// The first of these keys that was typed.
    pub(super) fn first(&self, keys: &[&'static str]) -> Option<(&'static str, String)> {
        keys.iter().find_map(|key| self.text(key).map(|text| (*key, text)))
    }

    /// A list of texts; a single text counts as a list of one.
    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.value(key).map_or_else(Vec::new, |value| self.texts_of(value))
    }

    pub(super) fn texts_of(&self, value: &Value) -> Vec<String> {
        match value {
            Value::List(items) => items.iter().flat_map(|item| self.texts_of(item)).collect(),
            Value::Map(_) | Value::Null => Vec::new(),
            value => vec![self.resolve(&value.to_java_string(), 0)],
        }
    }

    /// Elements of an array of tables.
    pub(super) fn rows(&self, key: &str) -> Vec<&Table> {
        match self.value(key) {
            Some(Value::List(items)) => items
                .iter()
                .filter_map(|item| match item {
                    Value::Map(table) => Some(table),
                    _ => None,
                })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// `true` as a boolean or in quotes.
    pub(super) fn is_true(&self, key: &str) -> Option<bool> {
        self.text(key).map(|text| text.eq_ignore_ascii_case("true"))
    }

    /// Every text of the file with its key, elements of lists included.
    pub(super) fn every_text(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for (key, value) in self.typed.data.iter() {
            self.collect(key, value, &mut found);
        }
        found.sort();
        found
    }

    fn collect(&self, key: &str, value: &Value, found: &mut Vec<(String, String)>) {
        match value {
            Value::List(items) => {
                for (n, item) in items.iter().enumerate() {
                    let is_table = matches!(item, Value::Map(_));
                    let key = if is_table { format!("{key}[{n}]") } else { key.to_owned() };
                    self.collect(&key, item, found);
                }
            }
            Value::Map(table) => {
                table.iter().for_each(|(sub, value)| self.collect(&format!("{key}.{sub}"), value, found));
            }
            Value::Text(text) => found.push((key.to_owned(), self.resolve(text, 0))),
            _ => {}
        }
    }

    /// `$ref{}` by what was typed, and those of Carbon's own `${}` that follow from it.
    fn resolve(&self, text: &str, depth: usize) -> String {
        if !text.contains('$') || REFERENCES_MAX <= depth {
            return text.to_owned();
        }
        let mut out = text.to_owned();
        for key in substrings_between(text, "$ref{", "}") {
            let Some(value) = self.typed.data.find(key) else { continue };
            let value = self.resolve(&value.to_java_string(), depth + 1);
            out = out.replace(&format!("$ref{{{key}}}"), &value);
        }
        let ports = [
            ("${mgt.transport.https.port}", "https"),
            ("${carbon.management.port}", "https"),
            ("${https.nio.port}", "gateway-https"),
            ("${http.nio.port}", "gateway-http"),
            ("${jms.port}", "amqp"),
            ("${receiver.url.port}", "binary"),
            ("${auth.url.port}", "binary-ssl"),
        ];
        for (placeholder, port) in ports {
            if let Some(number) = self.port(port).filter(|_| out.contains(placeholder)) {
                out = out.replace(placeholder, &number.to_string());
            }
        }
        out = out.replace("${carbon.local.ip}", "localhost");
        for (placeholder, key) in
            [("${admin.username}", "super_admin.username"), ("${admin.password}", "super_admin.password")]
        {
            if out.contains(placeholder)
                && let Some(value) = self.typed.data.find(key)
            {
                out = out.replace(placeholder, &self.resolve(&value.to_java_string(), depth + 1));
            }
        }
        out
    }

    /// Variables that the configuration asks for.
    pub(super) fn variables(&self) -> BTreeSet<&str> {
        substrings_between(self.subject.text, "$env{", "}").into_iter().collect()
    }

    /// The key that asks for a variable.
    pub(super) fn asks_for(&self, variable: &str) -> Option<String> {
        let open = format!("$env{{{variable}}}");
        let asks = |(_, text): &(String, String)| text.contains(&open);
        self.every_text().into_iter().find(asks).map(|(key, _)| key)
    }
}

/// Whether a text is the value itself and not something that is filled in later.
pub(super) fn is_literal(text: &str) -> bool {
    !text.contains('$') && !text.contains("placeholder-for-")
}

/// The first `N.M` of a product's id.
fn version(product: &str) -> Option<(u32, u32)> {
    product.split('-').find_map(|part| {
        let mut numbers = part.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    })
}
