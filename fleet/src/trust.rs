//! Who must trust whom: the TLS connections of every node's deployment.toml, and who answers at the other end.
//!
//! `convoy trust` prints it. It works on what is typed, as preflight does; nobody is asked. Facts: the project's notes on
//! surroundings, section 2.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    ids::NodeName,
    preflight::needs::{self, Address, Keystore, Needs},
    spec::{ComposedNode, Fleet},
};

/// One node with what it connects to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Truster {
    /// Which.
    pub node: NodeName,
    /// The store that decides whom it trusts.
    pub truststore: Store,
    /// By whom and where.
    pub connections: Vec<Connection>,
}

/// A store of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Below home, or absolute; `None` if the configuration names none, so that the product's own counts.
    pub file: Option<String>,
    /// Whether the fleet directory brings it.
    pub is_in_fleet: bool,
}

/// A place that a node connects to by TLS, all of whose keys are together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Who shows a certificate there.
    pub whom: Whom,
    /// As typed.
    pub address: Address,
    /// The keys of deployment.toml, or `key_managers.NAME` of fleet.toml.
    pub keys: Vec<String>,
}

/// Who shows a certificate at a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// The node itself.
    Itself,
    /// Another member of the fleet.
    Node(NodeName),
    /// A load balancer of fleet.toml, with a certificate of its own.
    Balancer(String),
    /// A name that these nodes have as their own (`server.hostname`): what stands in front of them, or one of them.
    InFrontOf(BTreeSet<NodeName>),
    /// Nobody of the fleet.
    Outside,
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Whom::Itself => f.write_str("itself"),
            Whom::Node(name) => write!(f, "{name}"),
            Whom::Balancer(name) => write!(f, "balancer {name}"),
            Whom::InFrontOf(nodes) => {
                write!(f, "in front of {}", crate::finding::names(nodes.iter().map(NodeName::as_str)))
            }
            Whom::Outside => f.write_str("outside"),
        }
    }
}

/// Every node of the fleet that opens a TLS connection, by name.
pub fn trusters(fleet: &Fleet) -> Vec<Truster> {
    let names = names(fleet);
    let truster = |(name, node): (&NodeName, &ComposedNode)| {
        let needs = needs_of(node);
        let connections = connections(fleet, (name, node), &needs, &names);
        let truststore = store(node, needs.keystores.iter().find(|store| store.key == "truststore"));
        (!connections.is_empty()).then(|| Truster { node: name.clone(), truststore, connections })
    };
    fleet.nodes.iter().filter_map(truster).collect()
}

/// The store whose certificate a node shows.
pub fn shown(node: &ComposedNode) -> Store {
    store(node, shown_store(node).as_ref())
}

/// The same as deployment.toml has it, `keystore.tls` or else the primary one; `None` if it names neither.
pub fn shown_store(node: &ComposedNode) -> Option<Keystore> {
    let stores = needs_of(node).keystores;
    let of = |key: &str| stores.iter().find(|store| store.key == key).cloned();
    of("keystore.tls").or_else(|| of("keystore.primary"))
}

/// The truststore as deployment.toml has it; `None` if it names none.
pub fn truststore(node: &ComposedNode) -> Option<Keystore> {
    needs_of(node).keystores.into_iter().find(|store| store.key == "truststore")
}

/// A deployment.toml that configures no server is a finding of `lint`; here it has no connections.
fn needs_of(node: &ComposedNode) -> Needs {
    let service = &node.bundle.service;
    needs::read(&node.config_text, &service.product, &service.env).unwrap_or_default()
}

fn store(node: &ComposedNode, store: Option<&Keystore>) -> Store {
    let file = store.map(|store| store.file.clone());
    let is_in_fleet =
        file.as_ref().is_some_and(|file| node.bundle.files.keys().any(|path| path.as_str() == file));
    Store { file, is_in_fleet }
}

/// Nodes by their `server.hostname`, in lower case.
fn names(fleet: &Fleet) -> BTreeMap<String, BTreeSet<NodeName>> {
    let mut names: BTreeMap<String, BTreeSet<NodeName>> = BTreeMap::new();
    for (name, node) in &fleet.nodes {
        if let Some(hostname) = needs::hostname(&node.config_text, &node.bundle.service.env) {
            names.entry(hostname.to_ascii_lowercase()).or_default().insert(name.clone());
        }
    }
    names
}

fn connections(
    fleet: &Fleet,
    (name, node): (&NodeName, &ComposedNode),
    needs: &Needs,
    names: &BTreeMap<String, BTreeSet<NodeName>>,
) -> Vec<Connection> {
    let mut found: Vec<Connection> = Vec::new();
    let typed = needs.peers.iter().map(|peer| (peer.key.clone(), peer.address.clone()));
    let registered = node.bundle.key_managers.kept.iter().filter_map(|registration| {
        let address = needs::tls_address(&registration.server)?;
        Some((format!("key_managers.{}", registration.name), address))
    });
    for (key, address) in typed.chain(registered) {
        match found.iter_mut().find(|known| known.address == address) {
            Some(known) => known.keys.push(key),
            None => {
                let whom = whom(fleet, (name, node), &address, names);
                found.push(Connection { whom, address, keys: vec![key] });
            }
        }
    }
    found.sort_by(|one, other| (&one.whom, &one.address).cmp(&(&other.whom, &other.address)));
    found
}

const LOCAL: [&str; 4] = ["localhost", "localhost.localdomain", "127.0.0.1", "::1"];

fn whom(
    fleet: &Fleet,
    (name, node): (&NodeName, &ComposedNode),
    address: &Address,
    names: &BTreeMap<String, BTreeSet<NodeName>>,
) -> Whom {
    let host = address.host.to_ascii_lowercase();
    let host = if LOCAL.contains(&host.as_str()) { node.host.to_ascii_lowercase() } else { host };
    let listens =
        |node: &ComposedNode| node.bundle.service.ports.iter().any(|port| port.number == address.port);
    let at = fleet.nodes.iter().find(|(_, node)| node.host.eq_ignore_ascii_case(&host) && listens(node));
    if let Some((found, _)) = at {
        return if found == name { Whom::Itself } else { Whom::Node(found.clone()) };
    }
    let balances =
        |service: &crate::balancer::Service| service.listen == address.port && service.hosts.contains(&host);
    if let Some(balancer) = fleet.balancers.values().find(|balancer| balancer.services.iter().any(balances)) {
        return Whom::Balancer(balancer.name.clone());
    }
    match names.get(&host) {
        Some(nodes) => Whom::InFrontOf(nodes.clone()),
        None => Whom::Outside,
    }
}

#[cfg(test)]
mod tests;
