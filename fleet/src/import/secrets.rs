//! Passwords out of the files: which values are secret, what each is called, and what stands in their place.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use toml_edit::Value;

use super::{Server, group::Group};
use crate::{
    finding::{is_secret_key, mask_line},
    ids::{GroupName, NodeName},
    published::is_published,
    spec::{
        Secret, SecretName,
        canonical::join,
        tree::{Node, Table},
    },
};

/// One secret text of one server: its key, and its number among the secrets of that key.
type Spot = (String, usize);

/// The names of all secrets of a fleet.
pub(super) struct Vault {
    names: BTreeMap<(NodeName, Spot), SecretName>,
    pub(super) values: BTreeMap<SecretName, Secret>,
}

impl Vault {
    /// Finds and names every secret. One name per key; values that differ between groups or nodes get names that say
    /// whose they are.
    pub(super) fn new(servers: &[Server], groups: &BTreeMap<GroupName, Group>) -> Self {
        let mut found: BTreeMap<Spot, BTreeMap<NodeName, String>> = BTreeMap::new();
        for server in servers {
            collect(&server.parsed.root, "", &mut |spot, value| {
                found.entry(spot).or_default().insert(server.name.clone(), value.to_owned());
            });
        }
        let mut vault = Self { names: BTreeMap::new(), values: BTreeMap::new() };
        for (spot, by_node) in found {
            let base = base_name(&spot);
            if distinct(by_node.values()) == 1 {
                vault.add(&base, &spot, by_node.iter());
                continue;
            }
            for (group_name, group) in groups {
                let own: Vec<_> = by_node.iter().filter(|(node, _)| group.nodes.contains(node)).collect();
                if distinct(own.iter().map(|(_, value)| *value)) <= 1 {
                    vault.add(&format!("{base}.{group_name}"), &spot, own);
                } else {
                    own.into_iter()
                        .for_each(|entry| vault.add(&format!("{base}.{}", entry.0), &spot, [entry]));
                }
            }
        }
        vault
    }

    fn add<'a>(
        &mut self,
        name: &str,
        spot: &Spot,
        entries: impl IntoIterator<Item = (&'a NodeName, &'a String)>,
    ) {
        let entries: Vec<_> = entries.into_iter().collect();
        let Some((_, value)) = entries.first() else { return };
        let numbered = (2..).map(|number| format!("{name}-{number}"));
        let free = std::iter::once(name.to_owned())
            .chain(numbered)
            .filter_map(|name| SecretName::parse(&name).ok())
            .find(|name| !self.values.contains_key(name));
        let Some(free) = free else { return };
        self.values.insert(free.clone(), Secret::new(value.as_str()));
        for (node, _) in entries {
            self.names.insert((node.clone(), spot.clone()), free.clone());
        }
    }

    /// `text` of `key` with its secrets replaced; `None` if it holds none. `count` numbers the secrets of the key.
    pub(super) fn replace(
        &self,
        node: &NodeName,
        (key, count): (&str, &mut usize),
        text: &str,
        rest: impl Fn(&str) -> String,
    ) -> Option<String> {
        let ranges = secret_ranges(key, text);
        let mut out = String::new();
        let mut end = 0;
        for range in &ranges {
            let name = self.names.get(&(node.clone(), (key.to_owned(), *count)))?;
            *count += 1;
            out.push_str(&rest(&text[end..range.start]));
            out.push_str(&format!("{{{{ secret('{name}') }}}}"));
            end = range.end;
        }
        out.push_str(&rest(&text[end..]));
        (!ranges.is_empty()).then_some(out)
    }
}

fn distinct<'a>(values: impl Iterator<Item = &'a String>) -> usize {
    values.collect::<BTreeSet<_>>().len()
}

/// The key itself is the best name there is; what a name may not hold becomes '.' or '-'.
fn base_name((key, number): &Spot) -> String {
    let mut name = String::new();
    for c in key.to_lowercase().chars() {
        match c {
            'a'..='z' | '0'..='9' | '.' | '_' | '-' => name.push(c),
            '[' => name.push('.'),
            ']' | '\'' => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_start_matches(['.', '_', '-']);
    let name = if name.is_empty() { "secret" } else { name };
    let url = if is_secret_key(key) { "" } else { ".password" };
    let number = if *number == 0 { String::new() } else { format!(".{number}") };
    // Room for the name of a group or node behind it.
    format!("{}{url}{number}", &name[..name.len().min(48)])
}

fn collect(table: &Table, prefix: &str, found: &mut dyn FnMut(Spot, &str)) {
    for (key, node) in table.iter() {
        let path = join(prefix, key);
        match node {
            Node::Table(inner) => collect(inner, &path, found),
            Node::Tables(elements) => {
                for (index, inner) in elements.iter().enumerate() {
                    collect(inner, &format!("{path}[{index}]"), found);
                }
            }
            Node::Leaf(leaf) => {
                let mut count = 0;
                each_text(&leaf.value, &mut |text| {
                    for range in secret_ranges(&path, text) {
                        found((path.clone(), count), &text[range]);
                        count += 1;
                    }
                });
            }
        }
    }
}

/// Every string of a value, in order.
fn each_text(value: &Value, found: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => found(text.value()),
        Value::Array(array) => array.iter().for_each(|item| each_text(item, found)),
        _ => {}
    }
}

/// Where in `text` secrets stand: all of it under a secret key, passwords inside a URL elsewhere. What WSO2 resolves
/// itself (`$secret{x}`, `${admin.password}`) is no secret, nor is what every copy of the product ships with.
fn secret_ranges(key: &str, text: &str) -> Vec<Range<usize>> {
    // What everybody knows stays in sight, where lint tells it.
    let is_open = |part: &str| {
        part.is_empty() || (part.starts_with('$') && part.ends_with('}')) || is_published(key, part)
    };
    if is_secret_key(key) {
        return if is_open(text) { Vec::new() } else { std::iter::once(0..text.len()).collect() };
    }
    let mut ranges = Vec::new();
    for marker in ["password=", "Password=", "PASSWORD="] {
        for (at, _) in text.match_indices(marker) {
            let start = at + marker.len();
            let length = text[start..].find(['&', ';', '"', '\'', ' ', ',']).unwrap_or(text.len() - start);
            ranges.push(start..start + length);
        }
    }
    for (at, _) in text.match_indices("://") {
        let start = at + 3;
        let length = text[start..].find(['/', '"', '\'', ' ', ',', '?']).unwrap_or(text.len() - start);
        let authority = &text[start..start + length];
        if let Some((user, _)) = authority.rsplit_once('@')
            && let Some(colon) = user.find(':')
        {
            ranges.push(start + colon + 1..start + user.len());
        }
    }
    ranges.retain(|range| !is_open(&text[range.clone()]));
    ranges.sort_by_key(|range| range.start);
    ranges.dedup_by(|next, before| next.start < before.end);
    ranges
}

/// A comment as it may stand in a directory that others read: `# password = "x"` keeps no password.
pub(super) fn comment(line: &str) -> String {
    let body = line.trim_start_matches('#');
    let (marks, body) = (&line[..line.len() - body.len()], body);
    let indent = &body[..body.len() - body.trim_start().len()];
    format!("{marks}{indent}{}", mask_line(body.trim_start()))
}
