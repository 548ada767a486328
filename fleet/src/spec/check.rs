//! Checks between the parts of a fleet: references that lead nowhere, circles, two servers in one place.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    ComposedNode, balancer_nodes,
    compose::{Documents, Draft, layer_path},
    expression::NodeFacts,
    files::whole_file,
    manifest::{GroupText, Manifest, NodeText},
    reader::Typed,
    report::{Report, suggest},
};
use crate::{
    finding::Place,
    ids::{GroupName, NodeName},
    rollout::order::{self, Order, OrderNode},
};

/// Groups, nodes and `after`.
pub(super) fn references(manifest: &Manifest<'_>, report: &mut Report) {
    let names: Vec<&str> = manifest.groups.keys().map(GroupName::as_str).collect();
    for (name, group) in &manifest.groups {
        for after in group.after.iter().flatten() {
            if !names.contains(&after.value.as_str()) {
                report.error(
                    "CV102",
                    Some(after.at.value_place()),
                    format!("group {name} comes after {:?}, which does not exist", after.value),
                    suggest(&after.value, names.iter().copied()),
                );
            }
        }
        if manifest.nodes.values().all(|node| node.group != *name) {
            report.warning(
                "CV107",
                Some(group.at.key_place()),
                format!("group {name} has no nodes"),
                format!("add [nodes.NAME] with group = \"{name}\", or remove the group"),
            );
        }
        if let Some((_, node)) = manifest.nodes.iter().find(|(node, _)| node.as_str() == name.as_str()) {
            report.error(
                "CV104",
                Some(node.at.key_place()),
                format!("a node and a group are both called {name}, so files/{name}/ would mean both"),
                "rename one of them",
            );
        }
    }
    if manifest.nodes.is_empty() && !report.has_errors() {
        report.error(
            "CV108",
            None,
            "the fleet has no nodes; nothing at all never means that all servers should go",
            "add [nodes.NAME] tables to fleet.toml",
        );
    }
    cycles(manifest, report);
}

/// Follows `after` from each group; a circle is told once, as the path that leads around it.
fn cycles(manifest: &Manifest<'_>, report: &mut Report) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for name in manifest.groups.keys() {
        let mut path = Vec::new();
        follow(name, manifest, &mut path, &mut done, report);
    }
}

fn follow<'a>(
    name: &'a GroupName,
    manifest: &'a Manifest<'_>,
    path: &mut Vec<(&'a str, &'a Typed<String>)>,
    done: &mut BTreeSet<&'a str>,
    report: &mut Report,
) {
    let Some(group) = manifest.groups.get(name) else { return };
    for after in group.after.iter().flatten() {
        path.push((name.as_str(), after));
        if let Some(start) = path.iter().position(|(visited, _)| *visited == after.value) {
            let circle: Vec<&str> = path[start..].iter().map(|(visited, _)| *visited).collect();
            report.error(
                "CV103",
                Some(after.at.value_place()),
                format!("`after` goes in a circle: {} after {}", circle.join(" after "), after.value),
                "drop one of these, so that one group can begin",
            );
        } else if !done.contains(after.value.as_str())
            && let Some((next, _)) = manifest.groups.iter().find(|(known, _)| known.as_str() == after.value)
        {
            follow(next, manifest, path, done, report);
        }
        path.pop();
    }
    done.insert(name.as_str());
}

/// The order of the groups: typed in `after`, or derived from the URLs in the composed configuration.
pub(super) fn order(
    manifest: &Manifest<'_>,
    nodes: &BTreeMap<NodeName, ComposedNode>,
    facts: &[Arc<NodeFacts>],
    report: &mut Report,
) -> Order {
    let typed = |group: &GroupText<'_>| {
        let after = group.after.as_ref()?;
        Some(after.iter().filter_map(|typed| GroupName::parse(&typed.value).ok()).collect())
    };
    let typed: BTreeMap<GroupName, BTreeSet<GroupName>> =
        manifest.groups.iter().filter_map(|(name, group)| Some((name.clone(), typed(group)?))).collect();
    let facts: BTreeMap<&str, &Arc<NodeFacts>> =
        facts.iter().map(|facts| (facts.name.as_str(), facts)).collect();
    let order_nodes: Vec<OrderNode<'_>> = nodes
        .iter()
        .filter_map(|(name, node)| Some(order_node(name, node, facts.get(name.as_str())?)))
        .collect();
    let of_balancers = balancer_nodes::reasons(manifest, nodes);
    match order::derive(&typed, &order_nodes, of_balancers) {
        Ok(order) => order,
        // A circle of typed ones alone has been told, with its place.
        Err(cycle) if cycle.reasons.is_empty() => Order::default(),
        Err(cycle) => {
            let group = cycle.reasons.first().and_then(|reason| manifest.groups.get(&reason.group));
            let groups: Vec<&str> = cycle.groups.iter().map(GroupName::as_str).collect();
            let remedy = format!(
                "type `after` for one of {}; after = [] says that it comes after none",
                groups.join(", ")
            );
            report.error("CV103", group.map(|group| group.at.key_place()), cycle.to_string(), remedy);
            Order::default()
        }
    }
}

fn order_node<'a>(name: &'a NodeName, node: &'a ComposedNode, facts: &'a NodeFacts) -> OrderNode<'a> {
    let ports = facts.open_ports().filter_map(|port| facts.number(port)).collect();
    let (group, host, config) = (&node.group, node.host.as_str(), &*node.config_text);
    OrderNode { node: name, group, host, ports, config }
}

/// Layers that are named but missing, and layers that nobody names.
pub(super) fn layers(manifest: &Manifest<'_>, documents: &Documents, report: &mut Report) {
    let known: Vec<&str> = documents
        .keys()
        .filter_map(|path| path.strip_prefix("config/").and_then(|rest| rest.strip_suffix(".toml")))
        .collect();
    let mut used: BTreeSet<String> =
        manifest.nodes.keys().map(|name| format!("config/nodes/{name}.toml")).collect();
    let typed = manifest.groups.values().flat_map(|group| &group.layers);
    for layer in typed.chain(manifest.nodes.values().flat_map(|node| &node.layers)) {
        let path = layer_path(layer);
        // A layer that is there but does not parse has its own finding.
        if !documents.contains_key(&path) && !report.mentions(&path) {
            report.error(
                "CV201",
                Some(layer.at.value_place()),
                format!("there is no {path}"),
                suggest(&layer.value, known.iter().copied()),
            );
        }
        used.insert(path);
    }
    for path in documents.keys().filter(|path| path.starts_with("config/") && !used.contains(*path)) {
        report.info(
            "CV202",
            Some(whole_file(path)),
            format!("no group and no node uses {path}"),
            "name it in `layers`, or remove it",
        );
    }
}

/// Two servers of one host in one home or on one port.
pub(super) fn hosts(drafts: &[Draft<'_>], report: &mut Report) {
    let mut homes: BTreeMap<(&str, &str), &NodeName> = BTreeMap::new();
    let mut ports: BTreeMap<(&str, u16), (&NodeName, &str)> = BTreeMap::new();
    for draft in drafts {
        let facts = &draft.facts;
        if let Some(other) = homes.insert((&facts.host, &facts.home), draft.name) {
            report.error(
                "CV105",
                Some(draft.text.home.at.value_place()),
                format!("nodes {other} and {} have one home, {} on {}", draft.name, facts.home, facts.host),
                "give each node its own copy of the pack",
            );
        }
        let clash = facts
            .open_ports()
            .filter_map(|port| {
                let number = facts.number(port)?;
                let other = ports.insert((&facts.host, number), (draft.name, &port.name))?;
                Some((number, &port.name, other))
            })
            .next();
        let Some((number, port, (other, other_port))) = clash else { continue };
        let place = match &draft.text.offset {
            Some(offset) => offset.at.value_place(),
            None => draft.text.at.key_place(),
        };
        report.error(
            "CV106",
            Some(place),
            format!(
                "nodes {other} and {} both open port {number} on {} ({other_port} and {port})",
                draft.name, facts.host
            ),
            format!("give {} another `offset`; nodes of one host need different ones", draft.name),
        );
    }
}

/// Nodes that no rule of zones covers although the fleet has zones, and rules of zones in a fleet without any.
pub(super) fn zones(manifest: &Manifest<'_>, report: &mut Report) {
    let without = |node: &&NodeText<'_>| node.zone.is_none();
    let outside: Vec<&NodeText<'_>> = manifest.nodes.values().filter(without).collect();
    if outside.len() < manifest.nodes.len() {
        for node in outside {
            report.warning(
                "CV117",
                Some(node.at.key_place()),
                "this node is in no zone although others are, so it is changed beside any of them",
                "give it a `zone`",
            );
        }
        return;
    }
    let groups = manifest.groups.iter().filter(|(_, group)| group.rollout.max_unavailable_per_zone.is_some());
    let mut rules: Vec<(Option<Place>, String)> =
        groups.map(|(name, group)| (Some(group.at.key_place()), format!("group {name}"))).collect();
    if manifest.rollout.max_unavailable_per_zone.is_some() {
        rules.push((None, "[rollout]".to_owned()));
    }
    for (place, of) in rules {
        report.warning(
            "CV117",
            place,
            format!("{of} says max_unavailable_per_zone, and no node is in a zone, so it limits nothing"),
            "give the nodes a `zone`, or remove the line",
        );
    }
}
