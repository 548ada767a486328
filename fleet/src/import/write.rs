//! The files of the new directory.

use std::{collections::BTreeMap, fmt::Write as _};

use toml_edit::Value;

use super::{Site, Summary, group, layers::Rest, rewrite::Rewritten};
use crate::{
    ids::{GroupName, NodeName},
    spec::{Sources, tree},
};

/// What stands in which layer.
pub(super) struct Layers {
    /// Of all nodes.
    pub(super) common: Rest,
    /// Of all groups of one product line, by the name of the layer.
    pub(super) families: BTreeMap<&'static str, Rest>,
    /// Of one group.
    pub(super) groups: BTreeMap<GroupName, Rest>,
    /// Of one node.
    pub(super) nodes: BTreeMap<NodeName, Rest>,
}

/// The product line that a group shares a layer with.
pub(super) fn family(product: &str) -> &'static str {
    if product.starts_with("wso2am") { "all-api-manager" } else { "all-identity-server" }
}

/// The whole directory.
pub(super) fn sources(site: &Site, layers: &Layers, nodes: &BTreeMap<NodeName, Rewritten>) -> Sources {
    let mut sources = Sources::default();
    let mut put = |path: String, text: String| {
        sources.0.insert(path, text.into_bytes());
    };
    put("fleet.toml".to_owned(), fleet_toml(site, layers, nodes));
    for (path, rest) in files(layers) {
        put(path, tree::print(&rest.table, &rest.trailing));
    }
    sources
}

/// Every layer that says something, with its path, widest first.
fn files(layers: &Layers) -> Vec<(String, &Rest)> {
    let common = std::iter::once(("config/common.toml".to_owned(), &layers.common));
    let families = layers.families.iter().map(|(name, rest)| (format!("config/{name}.toml"), rest));
    let groups = layers.groups.iter().map(|(name, rest)| (format!("config/{name}.toml"), rest));
    let nodes = layers.nodes.iter().map(|(name, rest)| (format!("config/nodes/{name}.toml"), rest));
    common.chain(families).chain(groups).chain(nodes).filter(|(_, rest)| !rest.is_empty()).collect()
}

/// Notes the layers in a summary.
pub(super) fn tell(layers: &Layers, summary: &mut Summary) {
    summary.layers = files(layers).into_iter().map(|(path, rest)| (path, rest.keys())).collect();
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn fleet_toml(site: &Site, layers: &Layers, nodes: &BTreeMap<NodeName, Rewritten>) -> String {
    let mut text = format!("name = {}\n", quoted(site.fleet.as_str()));
    for (name, group) in &site.groups {
        let family = family(&group.product);
        let mut used = Vec::new();
        if !layers.common.is_empty() {
            used.push("common");
        }
        if layers.families.get(family).is_some_and(|rest| !rest.is_empty()) {
            used.push(family);
        }
        if layers.groups.get(name).is_some_and(|rest| !rest.is_empty()) {
            used.push(name.as_str());
        }
        let list = |names: Vec<&str>| names.into_iter().map(quoted).collect::<Vec<_>>().join(", ");
        let after: Vec<&str> = group::after(name, &site.groups).into_iter().map(GroupName::as_str).collect();
        let product = quoted(&group.product);
        writeln!(text, "\n[groups.{name}]\nproduct = {product}").expect("a String takes any text");
        writeln!(text, "layers = [{}]", list(used)).expect("a String takes any text");
        if !after.is_empty() {
            writeln!(text, "after = [{}]", list(after)).expect("a String takes any text");
        }
    }
    for (group_name, group) in &site.groups {
        for name in &group.nodes {
            let own = |of: &BTreeMap<NodeName, String>| quoted(of.get(name).map_or("", String::as_str));
            write!(
                text,
                "\n[nodes.{name}]\ngroup = {}\nhost = {}\nhome = {}\n",
                quoted(group_name.as_str()),
                own(&site.hosts),
                own(&site.homes)
            )
            .expect("a String takes any text");
            let Some(node) = nodes.get(name) else { continue };
            if let Some(offset) = node.offset {
                writeln!(text, "offset = {offset}").expect("a String takes any text");
            }
            if !node.values.is_empty() {
                let values = node.values.iter().map(|(key, value)| format!("{key} = {}", quoted(value)));
                let values: Vec<String> = values.collect();
                writeln!(text, "values = {{ {} }}", values.join(", ")).expect("a String takes any text");
            }
        }
    }
    text
}
