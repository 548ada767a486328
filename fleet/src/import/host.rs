//! Where each server is: the host that the others use for it, and its home.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::Value;

use super::{Server, finding, group::Group};
use crate::{
    finding::{Finding, Severity, names},
    ids::{GroupName, NodeName},
    spec::tree::{Node, Table},
};

/// The host of every server, each with its own (host, offset).
pub(super) fn hosts(
    servers: &[Server],
    groups: &BTreeMap<GroupName, Group>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<NodeName, String> {
    let named: BTreeMap<&NodeName, BTreeSet<String>> =
        servers.iter().map(|server| (&server.name, named_hosts(&server.parsed.root, &|_| true))).collect();
    let mut hosts = BTreeMap::new();
    let mut taken: BTreeSet<(String, u16)> = BTreeSet::new();
    let mut guessed = Vec::new();
    for server in servers {
        let candidates = candidates(server, servers, groups, &named);
        let free = candidates.into_iter().find(|host| !taken.contains(&(host.clone(), server.offset())));
        let host = free.unwrap_or_else(|| {
            guessed.push(server.name.as_str());
            server.name.to_string()
        });
        taken.insert((host.clone(), server.offset()));
        hosts.insert(server.name.clone(), host);
    }
    if let Some(first) = guessed.first() {
        findings.push(finding(
            "CV704",
            Severity::Warning,
            format!("no file says at which host these run: {}; their names stand in", names(guessed.clone())),
            format!("say it with --host {first}=HOST, or correct `host` in fleet.toml"),
        ));
    }
    hosts
}

/// Hosts that may be this server's, best first.
fn candidates(
    server: &Server,
    servers: &[Server],
    groups: &BTreeMap<GroupName, Group>,
    named: &BTreeMap<&NodeName, BTreeSet<String>>,
) -> Vec<String> {
    if let Some(said) = &server.source.host {
        return vec![said.clone()];
    }
    let mut found: Vec<String> = Vec::new();
    found.extend(by_elimination(server, servers, groups));
    // A host called like the node: `apim-gw-1` for gw-1.
    let everywhere: BTreeSet<&String> = named.values().flatten().collect();
    let tail = format!("-{}", server.name);
    let label = |host: &str| host.split('.').next().unwrap_or(host).to_owned();
    found.extend(
        everywhere.iter().filter(|host| label(host) == server.name.as_str()).map(|host| (*host).clone()),
    );
    found.extend(everywhere.iter().filter(|host| label(host).ends_with(&tail)).map(|host| (*host).clone()));
    let own = ["server.node_ip", "clustering.local_member_host"];
    let own: Vec<&str> = own.iter().filter_map(|key| server.text(key)).filter(|ip| is_address(ip)).collect();
    let hostname = server.text("server.hostname").filter(|name| is_address(name));
    let alone = |name: &&str| {
        !servers.iter().any(|other| other.name != server.name && other.text("server.hostname") == Some(name))
    };
    let hostname = hostname.filter(alone);
    let mentioned = |host: &&str| everywhere.iter().any(|other| other.as_str() == *host);
    found.extend(own.iter().copied().filter(mentioned).map(str::to_owned));
    found.extend(hostname.filter(mentioned).map(str::to_owned));
    found.extend(own.iter().map(|ip| (*ip).to_owned()));
    found.extend(hostname.map(str::to_owned));
    found
}

/// In a pair each names the other as its duplicate; what the others name and this one does not is this one.
fn by_elimination(
    server: &Server,
    servers: &[Server],
    groups: &BTreeMap<GroupName, Group>,
) -> Option<String> {
    let group = groups.values().find(|group| group.nodes.contains(&server.name))?;
    let duplicates =
        |server: &Server| named_hosts(&server.parsed.root, &|key: &str| key == "event_duplicate_url");
    let mine = duplicates(server);
    let others =
        servers.iter().filter(|other| group.nodes.contains(&other.name) && other.name != server.name);
    let theirs: BTreeSet<String> = others.flat_map(duplicates).collect();
    let mut rest = theirs.difference(&mine);
    let only = rest.next()?;
    (rest.next().is_none() && !mine.is_empty()).then(|| only.clone())
}

/// A name or address that another machine could use.
fn is_address(text: &str) -> bool {
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte));
    plain && !text.is_empty() && !is_own(text) && text != "0.0.0.0"
}

/// A name that means the machine itself.
pub(super) fn is_own(host: &str) -> bool {
    host == "localhost" || host == "127.0.0.1" || host == "::1"
}

/// The hosts in all values below keys that `wanted` takes.
fn named_hosts(table: &Table, wanted: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    collect(table, wanted, &mut found);
    found
}

fn collect(table: &Table, wanted: &dyn Fn(&str) -> bool, found: &mut BTreeSet<String>) {
    for (key, node) in table.iter() {
        match node {
            Node::Table(inner) => collect(inner, wanted, found),
            Node::Tables(elements) => elements.iter().for_each(|inner| collect(inner, wanted, found)),
            Node::Leaf(leaf) if wanted(key) => match &leaf.value {
                Value::String(text) => found.extend(host_of(text.value())),
                Value::Array(array) => {
                    found.extend(array.iter().filter_map(Value::as_str).filter_map(host_of));
                }
                _ => {}
            },
            Node::Leaf(_) => {}
        }
    }
}

fn host_of(text: &str) -> Option<String> {
    let address = super::rewrite::Address::parse(text)?;
    (is_address(address.host)).then(|| address.host.to_owned())
}

/// Where each server is installed; told when nobody said so.
pub(super) fn homes(
    servers: &[Server],
    groups: &BTreeMap<GroupName, Group>,
    hosts: &BTreeMap<NodeName, String>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<NodeName, String> {
    let mut homes = BTreeMap::new();
    let mut guessed = Vec::new();
    for server in servers {
        if let Some(home) = &server.source.home {
            homes.insert(server.name.clone(), home.clone());
            continue;
        }
        guessed.push(server.name.as_str());
        let group = groups.values().find(|group| group.nodes.contains(&server.name));
        let pack = group.map_or_else(String::new, |group| pack_name(&group.product));
        let host = hosts.get(&server.name);
        let shared = hosts.values().filter(|other| Some(*other) == host).count() > 1;
        let above = if shared { format!("/opt/wso2/{}", server.name) } else { "/opt/wso2".to_owned() };
        homes.insert(server.name.clone(), format!("{above}/{pack}"));
    }
    if let Some(first) = guessed.first() {
        findings.push(finding(
            "CV703",
            Severity::Warning,
            format!(
                "no file says where these are installed: {}; /opt/wso2/... stands in",
                names(guessed.clone())
            ),
            format!("say it with --home {first}=PATH, or correct `home` in fleet.toml before applying it"),
        ));
    }
    homes
}

/// The directory in a distribution: `wso2am-4.2.0` of `wso2am-4.2-gateway-worker`.
fn pack_name(product: &str) -> String {
    let parts: Vec<&str> = product.split('-').collect();
    let is_version = |part: &&str| part.starts_with(|c: char| c.is_ascii_digit());
    match parts.iter().position(is_version) {
        Some(at) => format!("{}.0", parts[..=at].join("-")),
        None => product.to_owned(),
    }
}
