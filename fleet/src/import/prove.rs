//! Makes the directory and judges it: composed again, every node must mean what its file meant. Where an expression
//! does not give its key back, the key stays as it was typed, and a finding says so.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Difference, GroupSummary, Imported, Refused, Server, Site, Summary, finding,
    layers::{self, Rest},
    rewrite::{Kept, Rewriter, Rewritten},
    secrets::{Vault, comment},
    write::{self, Layers, family},
};
use crate::{
    finding::{Finding, Severity, names},
    ids::{GroupName, NodeName},
    spec::{
        Absent, Secrets, Sources,
        canonical::{differing_keys, flatten},
        compose_with,
    },
};

/// Attempts with fewer expressions each; the last has none.
const ATTEMPTS_MAX: usize = 4;

/// One way to write the fleet down.
struct Attempt {
    sources: Sources,
    summary: Summary,
}

/// The directory that gives every file back.
pub(super) fn prove(
    servers: &[Server],
    site: &Site,
    mut findings: Vec<Finding>,
) -> Result<Imported, Refused> {
    let vault = Vault::new(servers, &site.groups);
    let secrets = Secrets::new(vault.values.clone(), Absent::Refuse);
    let mut kept = Kept::new();
    let mut wrong = Vec::new();
    for attempt in 1..=ATTEMPTS_MAX {
        if attempt == ATTEMPTS_MAX {
            kept.extend(servers.iter().flat_map(all_keys));
        }
        let made = make(servers, site, &vault, &kept);
        match differences(servers, &made.sources, &secrets) {
            Ok(different) if different.is_empty() => {
                tell_kept(&kept, &mut findings);
                tell_differences(&made.summary, &mut findings);
                let Attempt { sources, summary } = made;
                return Ok(Imported { sources, secrets: vault.values, findings, summary });
            }
            Ok(different) => {
                wrong = different.iter().map(unproven).collect();
                kept.extend(different);
            }
            Err(errors) => wrong = errors,
        }
    }
    findings.extend(wrong);
    Err(Refused { findings })
}

fn all_keys(server: &Server) -> impl Iterator<Item = (NodeName, String)> {
    server.flat.keys().map(|key| (server.name.clone(), key.clone()))
}

fn unproven((node, key): &(NodeName, String)) -> Finding {
    let mut finding = finding(
        "CV706",
        Severity::Error,
        format!("{key} of {node} would not come back as it was"),
        "report this with the line of the file",
    );
    finding.node = Some(node.clone());
    finding
}

/// Composes the directory and compares; the errors of composition if it does not compose.
fn differences(
    servers: &[Server],
    sources: &Sources,
    secrets: &Secrets,
) -> Result<Vec<(NodeName, String)>, Vec<Finding>> {
    let composition = compose_with(sources, secrets);
    let Some(fleet) = composition.fleet else {
        return Err(composition.findings);
    };
    let mut different = Vec::new();
    for server in servers {
        let composed = fleet.nodes.get(&server.name).and_then(|node| flatten(&node.config_text).ok());
        let composed = composed.unwrap_or_default();
        let keys = differing_keys(&server.flat, &composed, &[]);
        different.extend(keys.into_iter().map(|key| (server.name.clone(), key)));
    }
    Ok(different)
}

fn make(servers: &[Server], site: &Site, vault: &Vault, kept: &Kept) -> Attempt {
    let rewriter = Rewriter::new(servers, site, vault, kept);
    let mut rewritten: BTreeMap<NodeName, Rewritten> = BTreeMap::new();
    let mut rests: BTreeMap<NodeName, Rest> = BTreeMap::new();
    for server in servers {
        let Some((group, _)) = site.group_of(&server.name) else { continue };
        let one = rewriter.rewrite(server, group);
        let trailing = server.parsed.trailing.iter().map(|line| comment(line)).collect();
        rests.insert(server.name.clone(), Rest { table: one.table.clone(), trailing });
        rewritten.insert(server.name.clone(), one);
    }
    let mut summary = Summary {
        groups: groups(site),
        layers: Vec::new(),
        expressions: rewritten.values().map(|one| one.expressions).sum(),
        differences: Vec::new(),
    };
    let Some(layers) = split(site, rests) else {
        return Attempt { sources: Sources::default(), summary };
    };
    summary.differences =
        site.groups.iter().flat_map(|(name, group)| within(name, servers, &group.nodes, &layers)).collect();
    write::tell(&layers, &mut summary);
    Attempt { sources: write::sources(site, &layers, &rewritten), summary }
}

fn groups(site: &Site) -> Vec<GroupSummary> {
    let summary = |(name, group): (&GroupName, &super::group::Group)| GroupSummary {
        name: name.clone(),
        product: group.product.clone(),
        nodes: group.nodes.clone(),
    };
    site.groups.iter().map(summary).collect()
}

/// What all share, then what each product line, then what each group shares; the rest is each node's own.
fn split(site: &Site, mut rests: BTreeMap<NodeName, Rest>) -> Option<Layers> {
    let mut all: Vec<&mut Rest> = rests.values_mut().collect();
    let common = layers::shared(&mut all)?;
    let mut families = BTreeMap::new();
    let lines: BTreeSet<&'static str> = site.groups.values().map(|group| family(&group.product)).collect();
    for line in lines {
        let members = site.groups.values().filter(|group| family(&group.product) == line);
        let nodes: Vec<&NodeName> = members.clone().flat_map(|group| &group.nodes).collect();
        // A line of one group has a layer already, and a line of all groups shares all there is to share.
        if members.count() < 2 || nodes.len() == rests.len() {
            continue;
        }
        let shared = layers::shared(&mut some(&mut rests, &nodes));
        families.extend(shared.map(|rest| (line, rest)));
    }
    let mut groups = BTreeMap::new();
    for (name, group) in &site.groups {
        let shared = layers::shared(&mut some(&mut rests, &group.nodes.iter().collect::<Vec<_>>()));
        groups.extend(shared.map(|rest| (name.clone(), rest)));
    }
    Some(Layers { common, families, groups, nodes: rests })
}

fn some<'a>(rests: &'a mut BTreeMap<NodeName, Rest>, nodes: &[&NodeName]) -> Vec<&'a mut Rest> {
    rests.iter_mut().filter(|(name, _)| nodes.contains(name)).map(|(_, rest)| rest).collect()
}

/// The keys that only some nodes of a group have, or have differently. The originals decide: a list is kept in one
/// piece, so that the layer of a node also holds what is equal in it.
fn within(group: &GroupName, servers: &[Server], nodes: &[NodeName], layers: &Layers) -> Vec<Difference> {
    let members: Vec<&Server> = servers.iter().filter(|server| nodes.contains(&server.name)).collect();
    let is_equal = |key: &str| {
        let mut values = members.iter().map(|server| server.flat.get(key));
        let first = values.next().flatten();
        first.is_some() && values.all(|value| value == first)
    };
    let mut keys: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
    for node in nodes {
        let Some(rest) = layers.nodes.get(node) else { continue };
        let text = crate::spec::tree::print(&rest.table, &[]);
        for key in flatten(&text).unwrap_or_default().into_keys().filter(|key| !is_equal(key)) {
            keys.entry(key).or_default().push(node.clone());
        }
    }
    let difference = |(key, nodes): (String, Vec<NodeName>)| {
        let expected = must_differ(&key);
        Difference { group: group.clone(), key, nodes, expected }
    };
    keys.into_iter().map(difference).collect()
}

/// Keys that belong to one node only, by WSO2's deployment guides.
fn must_differ(key: &str) -> bool {
    let exact = [
        "server.node_ip",
        "server.offset",
        "clustering.local_member_host",
        "clustering.local_member_port",
        "apim.gateway_notification.gateway_id",
    ];
    exact.contains(&key) || key.starts_with("database.local.") || key.ends_with(".event_duplicate_url")
}

fn tell_kept(kept: &Kept, findings: &mut Vec<Finding>) {
    let mut nodes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, key) in kept {
        nodes.entry(node.as_str()).or_default().push(key);
    }
    for (node, keys) in nodes {
        findings.push(finding(
            "CV705",
            Severity::Info,
            format!("stays as typed on {node}, since an expression would not give it back: {}", names(keys)),
            "nothing needs to be done; such keys do not follow when hosts or offsets change",
        ));
    }
}

fn tell_differences(summary: &Summary, findings: &mut Vec<Finding>) {
    for difference in summary.differences.iter().filter(|difference| !difference.expected) {
        let Difference { group, key, nodes, .. } = difference;
        let nodes = names(nodes.iter().map(NodeName::as_str));
        findings.push(finding(
            "CV707",
            Severity::Warning,
            format!("{key} is not the same on all nodes of {group}; own values: {nodes}"),
            format!("if that is not meant, move it from config/nodes/ to config/{group}.toml"),
        ));
    }
}
