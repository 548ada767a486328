//! Which product, version and role a server is. From most to least certain: what somebody said, `bin/version.txt`,
//! keys that only some versions know. A version that was chosen among several is told as such.

use std::collections::{BTreeMap, BTreeSet};

use super::{Server, finding, group::Group};
use crate::{
    finding::{Finding, Severity, names},
    ids::{GroupName, NodeName},
    product,
    spec::report::suggest,
};

/// What a server does in a deployment (patterns of WSO2's deployment guides).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Identity Server, also as key manager.
    Identity,
    KeyManager,
    AllInOne,
    ControlPlane,
    Publisher,
    DevPortal,
    TrafficManager,
    Gateway,
}

/// What is known of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Catalogue id.
    pub(super) product: String,
    pub(super) role: Role,
    /// Other versions that would fit as well, newest first; empty if somebody said which it is.
    pub(super) also: Vec<String>,
}

/// The oldest and newest version that fit, both included.
type Range = ((u32, u32), (u32, u32));

/// Identifies every server; hints that make no sense become errors.
pub(super) fn detect(servers: &[Server], findings: &mut Vec<Finding>) -> BTreeMap<NodeName, Identity> {
    let mut identities = BTreeMap::new();
    for server in servers {
        match identify(server) {
            Ok(identity) => {
                identities.insert(server.name.clone(), identity);
            }
            Err((message, remedy)) => {
                let mut error = finding("CV702", Severity::Error, message, remedy);
                error.node = Some(server.name.clone());
                findings.push(error);
            }
        }
    }
    identities
}

fn identify(server: &Server) -> Result<Identity, (String, String)> {
    let role = role(server);
    let catalogue = product::built_in();
    let said = match &server.source.product {
        Some(id) if catalogue.contains_key(id) => {
            return Ok(Identity { product: id.clone(), role, also: Vec::new() });
        }
        Some(hint) => match version(hint) {
            Some(version) if hint.starts_with(|c: char| c.is_ascii_digit()) => Some((version, role)),
            _ => return Err(unknown(&server.name, hint)),
        },
        None => server.source.version.as_deref().and_then(|text| of_pack(text, role)),
    };
    if let Some((version, role)) = said {
        return match id(role, version, server) {
            Some(product) => Ok(Identity { product, role, also: Vec::new() }),
            None => Err(unknown(&server.name, &format!("{}.{}", version.0, version.1))),
        };
    }
    let (oldest, newest) = range(server, role);
    let mut fitting: Vec<String> = versions(role)
        .into_iter()
        .filter(|version| oldest <= *version && *version <= newest)
        .filter_map(|version| id(role, version, server))
        .collect();
    fitting.reverse();
    // A 4.7 that was ever started has its key in the file, for the start script puts it there: without one, older
    // versions are likelier.
    if role != Role::Identity && !server.has("encryption") {
        fitting.sort_by_key(|id| version(id).is_some_and(|version| (4, 7) <= version));
    }
    if fitting.is_empty() {
        return Err(unknown(&server.name, "its version"));
    }
    let product = fitting.remove(0);
    Ok(Identity { product, role, also: fitting })
}

fn unknown(node: &NodeName, hint: &str) -> (String, String) {
    let known = product::built_in().keys().map(String::as_str);
    (
        format!("there is no product {hint:?} for {node}"),
        format!("say --product {node}=ID with an id of the catalogue; {}", suggest(hint, known)),
    )
}

/// The first `number.number` of a text that does not stand within a word, as the 2 of WSO2 does.
fn version(text: &str) -> Option<(u32, u32)> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '.');
    words.map(|word| word.trim_start_matches('v')).find_map(|word| {
        let mut parts = word.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    })
}

/// Version and role from `bin/version.txt`, which names the distribution.
fn of_pack(text: &str, role: Role) -> Option<((u32, u32), Role)> {
    let name = text.to_ascii_lowercase();
    let role = if name.contains("identity server") {
        Role::Identity
    } else if name.contains("gateway") {
        Role::Gateway
    } else if name.contains("traffic manager") {
        Role::TrafficManager
    } else if name.contains("control plane") && role != Role::KeyManager {
        Role::ControlPlane
    } else {
        role
    };
    Some((version(text)?, role))
}

/// From `server.server_role`, else from what the file configures.
fn role(server: &Server) -> Role {
    match server.text("server.server_role") {
        Some("control-plane") => return Role::ControlPlane,
        Some("gateway-worker" | "gateway") => return Role::Gateway,
        Some("traffic-manager") => return Role::TrafficManager,
        Some("api-publisher") => return Role::Publisher,
        Some("api-devportal") => return Role::DevPortal,
        Some(role) if role.starts_with("api-key-manager") => return Role::KeyManager,
        _ => {}
    }
    if is_identity(server) {
        return Role::Identity;
    }
    if server.has("database.apim_db") || server.has("apim.gateway.environment") {
        return Role::AllInOne;
    }
    if server.has("apim.sync_runtime_artifacts.gateway") {
        return Role::Gateway;
    }
    if server.has("apim.throttling.event_duplicate_url") {
        return Role::TrafficManager;
    }
    Role::AllInOne
}

/// Only API Manager has these; the key manager pack of IS 5.x has a few other tables below `apim`.
const API_MANAGER_ONLY: [&str; 8] = [
    "server.server_role",
    "apim.gateway",
    "apim.key_manager",
    "apim.event_hub",
    "apim.sync_runtime_artifacts",
    "apim.publisher",
    "apim.devportal",
    "apim.analytics",
];

fn is_identity(server: &Server) -> bool {
    server.has("database.identity_db") || !API_MANAGER_ONLY.iter().any(|key| server.has(key))
}

fn is_key_manager_pack(server: &Server) -> bool {
    !server.has("database.identity_db") && server.has("apim")
}

/// The versions that know the keys of this file.
fn range(server: &Server, role: Role) -> Range {
    const NEWEST: (u32, u32) = (u32::MAX, 0);
    if role == Role::Identity {
        return if is_key_manager_pack(server) { ((5, 9), (5, 10)) } else { ((5, 10), NEWEST) };
    }
    let oldest = if server.has("apim.gateway_notification") {
        (4, 6)
    } else if server.has("apim.event_hub") || role == Role::ControlPlane {
        (4, 0)
    } else {
        (3, 0)
    };
    // Since 4.0 events are duplicated by `apim.event_hub`; before, the throttling section did it for both.
    let is_old_pair = server.has("apim.throttling.event_duplicate_url") && !server.has("apim.event_hub");
    let is_old_role = matches!(role, Role::Publisher | Role::DevPortal);
    (oldest, if is_old_pair || is_old_role { (3, 2) } else { NEWEST })
}

/// Versions of the catalogue for a role, oldest first.
fn versions(role: Role) -> BTreeSet<(u32, u32)> {
    let family = if role == Role::Identity { "wso2is-" } else { "wso2am-" };
    product::built_in().keys().filter(|id| id.starts_with(family)).filter_map(|id| version(id)).collect()
}

/// The catalogue id of a role in a version; component packs before profiles of the whole one.
fn id(role: Role, (major, minor): (u32, u32), server: &Server) -> Option<String> {
    let v = format!("{major}.{minor}");
    let names: Vec<String> = match role {
        Role::Identity if is_key_manager_pack(server) => {
            vec![format!("wso2is-km-{v}"), format!("wso2is-{v}")]
        }
        Role::Identity => vec![format!("wso2is-{v}")],
        Role::AllInOne => vec![format!("wso2am-{v}")],
        Role::ControlPlane => vec![format!("wso2am-acp-{v}"), format!("wso2am-{v}-control-plane")],
        Role::Gateway => vec![format!("wso2am-universal-gw-{v}"), format!("wso2am-{v}-gateway-worker")],
        Role::TrafficManager => vec![format!("wso2am-tm-{v}"), format!("wso2am-{v}-traffic-manager")],
        Role::KeyManager => vec![
            format!("wso2am-acp-{v}-key-manager"),
            format!("wso2am-{v}-key-manager"),
            format!("wso2am-{v}-api-key-manager"),
        ],
        Role::Publisher => vec![format!("wso2am-{v}-api-publisher")],
        Role::DevPortal => vec![format!("wso2am-{v}-api-devportal")],
    };
    let fallback = if role == Role::Identity { format!("wso2is-{v}") } else { format!("wso2am-{v}") };
    names.into_iter().chain([fallback]).find(|id| product::built_in().contains_key(id))
}

/// Says per group which version was chosen among several.
pub(super) fn tell(
    groups: &BTreeMap<GroupName, Group>,
    identities: &BTreeMap<NodeName, Identity>,
    findings: &mut Vec<Finding>,
) {
    for (name, group) in groups {
        let also: Vec<&str> = group
            .nodes
            .iter()
            .filter_map(|node| identities.get(node))
            .flat_map(|identity| identity.also.iter().map(String::as_str))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        let Some(first) = group.nodes.first().filter(|_| !also.is_empty()) else { continue };
        findings.push(finding(
            "CV702",
            Severity::Warning,
            format!(
                "the version of group {name} ({}) is a guess: {} fits, and so would {}",
                names(group.nodes.iter().map(NodeName::as_str)),
                group.product,
                names(also)
            ),
            format!(
                "say which it is with --product {first}=VERSION for each node or --product '*=VERSION' for all, name \
                 homes instead of files, or correct `product` in fleet.toml"
            ),
        ));
    }
}
