//! Which servers form a group: one product, one role, and mostly the same configuration.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Server,
    detect::{Identity, Role},
};
use crate::ids::{GroupName, NodeName};

/// One group of the new fleet.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) product: String,
    pub(super) role: Role,
    /// Sorted.
    pub(super) nodes: Vec<NodeName>,
}

/// Sorts servers into groups.
pub(super) fn group(
    servers: &[Server],
    identities: &BTreeMap<NodeName, Identity>,
) -> BTreeMap<GroupName, Group> {
    let mut clusters: Vec<(Vec<&Server>, &Identity)> = Vec::new();
    for server in servers {
        let Some(identity) = identities.get(&server.name) else { continue };
        let home = clusters.iter_mut().find(|(members, other)| {
            other.product == identity.product
                && other.role == identity.role
                && members.first().is_some_and(|first| are_alike(first, server))
        });
        match home {
            Some((members, _)) => members.push(server),
            None => clusters.push((vec![server], identity)),
        }
    }
    let with_api_manager = clusters.iter().any(|(_, identity)| identity.role != Role::Identity);
    let taken: BTreeSet<&str> = servers.iter().map(|server| server.name.as_str()).collect();
    let mut groups: BTreeMap<GroupName, Group> = BTreeMap::new();
    for (members, identity) in clusters {
        let role = base_name(identity.role, with_api_manager);
        let stem = stem(&members);
        let candidates = [role.to_owned(), format!("{role}-{stem}"), format!("{stem}-group")];
        let numbered = (2..).map(|number| format!("{role}-{number}"));
        let name = candidates
            .into_iter()
            .chain(numbered)
            .filter(|name| !taken.contains(name.as_str()))
            .filter_map(|name| GroupName::parse(&name).ok())
            .find(|name| !groups.contains_key(name));
        let Some(name) = name else { continue };
        let nodes = members.iter().map(|server| server.name.clone()).collect();
        groups.insert(name, Group { product: identity.product.clone(), role: identity.role, nodes });
    }
    groups
}

/// Servers that share less than half of their keys do different jobs. Values do not count: in small files most of them
/// are addresses.
fn are_alike(a: &Server, b: &Server) -> bool {
    let shared = a.flat.keys().filter(|key| b.flat.contains_key(*key)).count();
    let all = a.flat.len() + b.flat.len() - shared;
    all <= 2 * shared
}

fn base_name(role: Role, with_api_manager: bool) -> &'static str {
    match role {
        Role::Identity if with_api_manager => "key-manager",
        Role::Identity => "identity-server",
        Role::KeyManager => "key-manager",
        Role::AllInOne => "api-manager",
        Role::ControlPlane => "control-plane",
        Role::Publisher => "publisher",
        Role::DevPortal => "devportal",
        Role::TrafficManager => "traffic-manager",
        Role::Gateway => "gateway",
    }
}

/// What the names of the nodes begin with: `gw-int` of `gw-int-1` and `gw-int-2`.
fn stem(members: &[&Server]) -> String {
    let Some(first) = members.first() else { return String::new() };
    let mut stem = first.name.as_str();
    for server in members {
        let same = stem.bytes().zip(server.name.as_str().bytes()).take_while(|(a, b)| a == b).count();
        stem = &stem[..same];
    }
    let stem = stem.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches('-');
    if stem.is_empty() { first.name.to_string() } else { stem.to_owned() }
}

/// Start order of roles (WSO2: key managers, control plane, traffic managers, gateways last).
fn rank(role: Role) -> u8 {
    match role {
        Role::Identity | Role::KeyManager => 0,
        Role::AllInOne | Role::ControlPlane => 1,
        Role::TrafficManager => 2,
        Role::Publisher | Role::DevPortal => 3,
        Role::Gateway => 4,
    }
}

/// The groups that have to be done right before `name`.
pub(super) fn after<'a>(name: &GroupName, groups: &'a BTreeMap<GroupName, Group>) -> Vec<&'a GroupName> {
    let Some(own) = groups.get(name).map(|group| rank(group.role)) else { return Vec::new() };
    let before = groups.values().map(|group| rank(group.role)).filter(|rank| *rank < own).max();
    groups.iter().filter(|(_, group)| Some(rank(group.role)) == before).map(|(name, _)| name).collect()
}
