//! Existing deployment.toml files to a fleet directory.
//!
//! What all nodes, the nodes of one product, a group and a single node have in common goes into layers; URLs of other
//! nodes, offsets and own addresses become expressions; passwords become `secret()`. Called by `convoy import`, which
//! does the I/O. Promises: the directory composes to files with the same meaning as the originals, key by key, or
//! nothing is returned; what is a guess is said in a finding with the flag that settles it; no clear-text password
//! that is known as one is in the directory. Does not read key stores, scripts or other files of a home.

mod detect;
mod group;
mod host;
mod layers;
mod prove;
mod rewrite;
mod secrets;
mod template;
mod versions;
mod write;

use std::{collections::BTreeMap, sync::Arc};

use self::template::Template;
use crate::{
    finding::{Finding, Severity},
    ids::{FleetName, GroupName, NodeName},
    spec::{
        Secret, SecretName, Sources,
        canonical::{self, Flat, Unusable},
        tree::{self, At, Parsed, Source},
    },
};

/// One existing server.
#[derive(Debug, Clone)]
pub struct ImportNode {
    /// The file as people named it, for findings.
    pub file: String,
    /// Its deployment.toml.
    pub toml: String,
    /// What it is, if somebody said: a catalogue id, or only a version such as `4.2`.
    pub product: Option<String>,
    /// `bin/version.txt` of its home, if that was at hand.
    pub version: Option<String>,
    /// As other nodes reach it, if somebody said.
    pub host: Option<String>,
    /// Where it is installed, if somebody said.
    pub home: Option<String>,
}

/// A fleet directory that proved to give back what it was made of.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The directory.
    pub sources: Sources,
    /// The values behind its `secret()`; they belong in no directory.
    pub secrets: BTreeMap<SecretName, Secret>,
    /// What was guessed or looks wrong.
    pub findings: Vec<Finding>,
    /// What was made of what.
    pub summary: Summary,
}

/// What people want to know of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Sorted by name.
    pub groups: Vec<GroupSummary>,
    /// Files with layers and how many keys each has, widest first.
    pub layers: Vec<(String, usize)>,
    /// How many values became expressions.
    pub expressions: usize,
    /// Keys that the nodes of one group do not share.
    pub differences: Vec<Difference>,
}

/// A group of the new fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSummary {
    /// Its name.
    pub name: GroupName,
    /// Catalogue id.
    pub product: String,
    /// Sorted.
    pub nodes: Vec<NodeName>,
}

/// A key that stays different within a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The group.
    pub group: GroupName,
    /// The deployment.toml key.
    pub key: String,
    /// The nodes that have a value of their own.
    pub nodes: Vec<NodeName>,
    /// Whether such a key has to differ.
    pub expected: bool,
}

/// Nothing was made, and why.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the files cannot be imported: {} findings", .findings.len())]
pub struct Refused {
    /// At least one error.
    pub findings: Vec<Finding>,
}

/// One node on its way.
struct Server {
    name: NodeName,
    parsed: Parsed,
    flat: Flat,
    source: ImportNode,
}

impl Server {
    /// The text of a string key.
    fn text(&self, key: &str) -> Option<&str> {
        self.parsed.root.leaf(key)?.value.as_str()
    }

    fn has(&self, prefix: &str) -> bool {
        let below = |key: &String| key.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(['.', '[']));
        self.flat.contains_key(prefix) || self.flat.keys().any(below)
    }

    /// How many tables a list of tables has.
    fn elements(&self, list: &str) -> usize {
        (0_usize..).take_while(|n| self.has(&format!("{list}[{n}]"))).count()
    }

    /// The value of a flat key, of a list all of it.
    fn shown(&self, key: &str) -> Option<&str> {
        self.flat.get(key).map(|value| value.trim_matches('"'))
    }

    /// What the file is called, where the server is installed, and what the file says, comments included.
    fn texts(&self) -> [&str; 3] {
        [&self.source.file, self.source.home.as_deref().unwrap_or_default(), &self.source.toml]
    }

    /// The offset, if it is one that fleet.toml can hold; 0 if there is none.
    fn offset(&self) -> u16 {
        let number = self.parsed.root.leaf("server.offset").and_then(|leaf| leaf.value.as_integer());
        let number = number.and_then(|number| u16::try_from(number).ok());
        number.filter(|number| *number <= crate::spec::OFFSET_MAX).unwrap_or(0)
    }
}

/// Makes a fleet directory called `fleet` out of `nodes`.
///
/// # Errors
/// If a file is not TOML, a product hint is unknown, or the product itself would refuse a file.
pub fn import(nodes: &BTreeMap<NodeName, ImportNode>, fleet: &FleetName) -> Result<Imported, Refused> {
    let mut findings = Vec::new();
    let servers = read(nodes, &mut findings);
    if nodes.is_empty() {
        findings.push(finding(
            "CV701",
            Severity::Error,
            "there is nothing to import",
            "name at least one NODE=FILE",
        ));
    }
    let identities = detect::detect(&servers, &mut findings);
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(Refused { findings });
    }
    let groups = group::group(&servers, &identities);
    let hosts = host::hosts(&servers, &groups, &mut findings);
    let homes = host::homes(&servers, &groups, &hosts, &mut findings);
    detect::tell(&groups, &identities, &mut findings);
    let site = Site { fleet: fleet.clone(), groups, hosts, homes };
    prove::prove(&servers, &site, findings)
}

/// The catalogue id of a home, by its `bin/version.txt` and its deployment.toml; `None` if the catalogue has none.
pub fn product_of(version: &str, toml: &str) -> Option<String> {
    let name = NodeName::parse("host").ok()?;
    let node = ImportNode {
        file: String::new(),
        toml: toml.to_owned(),
        product: None,
        version: Some(version.to_owned()),
        host: None,
        home: None,
    };
    let mut findings = Vec::new();
    let servers = read(&BTreeMap::from([(name.clone(), node)]), &mut findings);
    let identity = detect::detect(&servers, &mut findings).remove(&name)?;
    // With others that would fit it is a guess.
    identity.also.is_empty().then_some(identity.product)
}

/// Everything about the fleet that is not in a deployment.toml.
struct Site {
    fleet: FleetName,
    groups: BTreeMap<GroupName, group::Group>,
    hosts: BTreeMap<NodeName, String>,
    homes: BTreeMap<NodeName, String>,
}

impl Site {
    fn group_of(&self, node: &NodeName) -> Option<(&GroupName, &group::Group)> {
        self.groups.iter().find(|(_, group)| group.nodes.contains(node))
    }
}

fn read(nodes: &BTreeMap<NodeName, ImportNode>, findings: &mut Vec<Finding>) -> Vec<Server> {
    let mut servers = Vec::new();
    for (name, node) in nodes {
        let source = Source::new(&node.file, &node.toml);
        let parsed =
            tree::parse(&source).and_then(|parsed| Ok((parsed, canonical::flatten_any_order(&node.toml)?)));
        if let Some(template) = Template::of(&node.file, &node.toml, parsed.is_ok()) {
            findings.push(Finding {
                code: "CV721",
                severity: Severity::Error,
                place: None,
                node: Some(name.clone()),
                message: format!("{} is {template}, not a deployment.toml", node.file),
                remedy: template.remedy().to_owned(),
            });
            continue;
        }
        match parsed {
            Ok((parsed, flat)) => {
                findings.extend(repaired(&source, name));
                servers.push(Server { name: name.clone(), parsed, flat, source: node.clone() });
            }
            Err(error) => findings.push(Finding {
                code: "CV004",
                severity: Severity::Error,
                place: Some(At::start_of(&source).place_of(error.offset)),
                node: Some(name.clone()),
                message: format!("this is not TOML: {}", error.message),
                remedy: "correct the line; the server itself would not start with it".to_owned(),
            }),
        }
    }
    servers
}

/// A file that no server starts with, and that becomes a good one because the layers write every table before those
/// inside it.
fn repaired(source: &Arc<Source>, name: &NodeName) -> Option<Finding> {
    let Err(Unusable::Reopened { table, offset }) = canonical::flatten(&source.text) else { return None };
    Some(Finding {
        code: "CV720",
        severity: Severity::Warning,
        place: Some(At::start_of(source).place_of(offset)),
        node: Some(name.clone()),
        message: format!(
            "[{table}] is opened after a table inside it: the server would not start with this file; the layers write \
             it first"
        ),
        remedy: "nothing: what is applied has the tables in good order".to_owned(),
    })
}

fn finding(
    code: &'static str,
    severity: Severity,
    message: impl Into<String>,
    remedy: impl Into<String>,
) -> Finding {
    Finding { code, severity, place: None, node: None, message: message.into(), remedy: remedy.into() }
}

#[cfg(test)]
mod tests;
