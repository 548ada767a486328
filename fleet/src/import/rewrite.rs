//! One server's file as a layer would say it: peers, own addresses, ports and offset as expressions, secrets by name,
//! everything else so that it means the same after expressions were evaluated.

use std::collections::{BTreeMap, BTreeSet};

use toml_edit::Value;

use super::{
    Server, Site,
    host::is_own,
    secrets::{self, Vault},
};
use crate::{
    ids::{GroupName, NodeName},
    product::{self, Product},
    spec::{
        canonical::join,
        tree::{Leaf, Node, Notes, Table},
    },
};

/// `scheme://host:port/rest`, or `host:port`.
pub(super) struct Address<'a> {
    pub(super) scheme: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
    pub(super) rest: &'a str,
}

impl<'a> Address<'a> {
    /// `None` if the text is neither.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, after) = match text.split_once("://") {
            Some((scheme, after)) if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
                (Some(scheme), after)
            }
            Some(_) => return None,
            None => (None, text),
        };
        let end = after.find(['/', '?', '#', ',', ' ']).unwrap_or(after.len());
        let (authority, rest) = after.split_at(end);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (authority, None),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let good = !host.is_empty() && host.bytes().all(plain) && (scheme.is_some() || port.is_some());
        // A bare `name:1/x` is no address of a node.
        let good = good && (scheme.is_some() || rest.is_empty());
        good.then_some(Self { scheme, host, port, rest })
    }
}

/// Keys that stay as they are, because an expression in their place did not give them back.
pub(super) type Kept = BTreeSet<(NodeName, String)>;

/// Rewrites files for one attempt.
pub(super) struct Rewriter<'a> {
    servers: &'a [Server],
    site: &'a Site,
    vault: &'a Vault,
    kept: &'a Kept,
    places: BTreeMap<&'a str, Vec<Place<'a>>>,
}

/// A node as others name it.
struct Place<'a> {
    node: &'a NodeName,
    group: &'a GroupName,
    /// In its group, by name.
    index: usize,
    offset: u16,
    product: &'a Product,
}

impl Place<'_> {
    /// The name of the port that this node opens under a number.
    fn port(&self, number: u16) -> Option<&str> {
        let ports = &self.product.ports;
        ports.iter().find(|port| port.at(self.offset) == Some(number)).map(|port| port.name.as_str())
    }
}

/// A node and one of its ports.
struct Target<'a> {
    place: &'a Place<'a>,
    port: &'a str,
}

/// What became of one file.
pub(super) struct Rewritten {
    pub(super) table: Table,
    pub(super) values: BTreeMap<&'static str, String>,
    /// To be said in fleet.toml.
    pub(super) offset: Option<u16>,
    pub(super) expressions: usize,
}

/// The file being rewritten.
struct Work<'a> {
    server: &'a Server,
    group: &'a GroupName,
    out: Rewritten,
}

impl<'a> Rewriter<'a> {
    pub(super) fn new(servers: &'a [Server], site: &'a Site, vault: &'a Vault, kept: &'a Kept) -> Self {
        let mut places: BTreeMap<&str, Vec<Place<'_>>> = BTreeMap::new();
        for server in servers {
            let (Some((group_name, group)), Some(host)) =
                (site.group_of(&server.name), site.hosts.get(&server.name))
            else {
                continue;
            };
            let Some(product) = product::built_in().get(&group.product) else { continue };
            let index = group.nodes.iter().position(|node| *node == server.name).unwrap_or_default();
            let offset = server.offset();
            let place = Place { node: &server.name, group: group_name, index, offset, product };
            places.entry(host).or_default().push(place);
        }
        Self { servers, site, vault, kept, places }
    }

    /// The file of one server.
    pub(super) fn rewrite(&self, server: &'a Server, group: &'a GroupName) -> Rewritten {
        let mut table = server.parsed.root.clone();
        let mut work = Work {
            server,
            group,
            out: Rewritten { table: table.clone(), values: BTreeMap::new(), offset: None, expressions: 0 },
        };
        self.table(&mut table, "", &mut work);
        // An offset of 0 that is written down has to stay, since fleet.toml adds none for 0.
        if server.offset() != 0 && !self.is_kept(server, "server.offset") {
            if let Some(Node::Table(settings)) = table.get_mut("server") {
                settings.remove("offset");
            }
            work.out.offset = Some(server.offset());
        }
        work.out.table = table;
        work.out
    }

    fn is_kept(&self, server: &Server, key: &str) -> bool {
        self.kept.contains(&(server.name.clone(), key.to_owned()))
    }

    fn table(&self, table: &mut Table, prefix: &str, work: &mut Work<'_>) {
        notes(&mut table.notes);
        let marked: Vec<String> = table
            .iter()
            .filter(|(key, _)| key.len() > 1 && key.starts_with(['+', '=']))
            .map(|(key, _)| key.to_owned())
            .collect();
        for (key, node) in table.values_mut() {
            let path = join(prefix, key);
            match node {
                Node::Table(inner) => self.table(inner, &path, work),
                Node::Tables(elements) => {
                    for (index, inner) in elements.iter_mut().enumerate() {
                        self.table(inner, &format!("{path}[{index}]"), work);
                    }
                }
                Node::Leaf(leaf) => self.leaf(leaf, &path, work),
            }
        }
        // In a layer such a key would be a mark for merging; "=" takes that meaning away.
        for key in marked {
            if let Some(node) = table.remove(&key) {
                table.insert(&format!("={key}"), node);
            }
        }
    }

    fn leaf(&self, leaf: &mut Leaf, path: &str, work: &mut Work<'_>) {
        notes(&mut leaf.notes);
        if !self.is_kept(work.server, path)
            && let Some(value) = self.derived(&leaf.value, path, work)
        {
            leaf.value = value;
            leaf.raw = None;
            work.out.expressions += 1;
            return;
        }
        let mut count = 0;
        let mut value = leaf.value.clone();
        if self.plain(&mut value, (path, &mut count), &work.server.name) {
            leaf.value = value;
            leaf.raw = None;
        }
    }

    /// Secrets replaced, braces kept from being evaluated. Whether anything changed.
    fn plain(&self, value: &mut Value, (path, count): (&str, &mut usize), node: &NodeName) -> bool {
        match value {
            Value::String(text) => {
                let text = text.value().clone();
                let new = self.vault.replace(node, (path, count), &text, escape);
                let new = new.or_else(|| has_braces(&text).then(|| escape(&text)));
                let changed = new.is_some();
                if let Some(new) = new {
                    *value = Value::from(new);
                }
                changed
            }
            Value::Array(array) => {
                let mut changed = false;
                for item in array.iter_mut() {
                    changed |= self.plain(item, (path, &mut *count), node);
                }
                changed
            }
            Value::InlineTable(table) => {
                let mut changed = false;
                for (_, item) in table.iter_mut() {
                    changed |= self.plain(item, (path, &mut *count), node);
                }
                changed
            }
            _ => false,
        }
    }

    /// What a value follows from, if it follows from the fleet itself.
    fn derived(&self, value: &Value, path: &str, work: &mut Work<'_>) -> Option<Value> {
        match value {
            Value::String(text) if has_braces(text.value()) => None,
            Value::String(text) => match path {
                "server.node_ip" | "clustering.local_member_host" => {
                    self.own_address(text.value(), path, work)
                }
                "server.hostname" => self.own_host(text.value(), path, work),
                _ => self.address(text.value(), path, work).map(Value::from),
            },
            Value::Array(array) => {
                let texts: Option<Vec<&str>> = array.iter().map(Value::as_str).collect();
                let texts = texts.filter(|texts| !texts.is_empty())?;
                if let Some(whole) = self.whole_list(&texts, path, work) {
                    return Some(Value::from(whole));
                }
                let items: Vec<Option<String>> =
                    texts.iter().map(|text| self.address(text, path, work)).collect();
                if items.iter().all(Option::is_none) || texts.iter().any(|text| has_braces(text)) {
                    return None;
                }
                let item = |(item, text): (Option<String>, &&str)| item.unwrap_or_else(|| (*text).to_owned());
                Some(Value::Array(items.into_iter().zip(&texts).map(item).collect()))
            }
            _ => None,
        }
    }

    fn own_host(&self, text: &str, path: &str, work: &Work<'_>) -> Option<Value> {
        let is_host = self.site.hosts.get(&work.server.name).is_some_and(|host| host == text);
        (is_host && !is_own(text) && !self.is_shared(path, work)).then(|| Value::from("{{ node.host }}"))
    }

    fn own_address(&self, text: &str, path: &str, work: &mut Work<'_>) -> Option<Value> {
        if let Some(host) = self.own_host(text, path, work) {
            return Some(host);
        }
        if text.is_empty() || text.contains(['$', '{']) || is_own(text) {
            return None;
        }
        // Tables come by name, so `clustering` is seen before the key that the value is called after.
        let node_ip = work.server.text("server.node_ip");
        if node_ip.is_some_and(|ip| ip != text) {
            return None;
        }
        let known = work.out.values.entry("node_ip").or_insert_with(|| text.to_owned());
        (known == text).then(|| Value::from("{{ values.node_ip }}"))
    }

    /// A URL or address of one node.
    fn address(&self, text: &str, path: &str, work: &Work<'_>) -> Option<String> {
        let address = Address::parse(text)?;
        let number = address.port?;
        if is_own(address.host) {
            let port = self.own_port(number, work.server)?;
            // What others have as well stays one value: it must be the same port of theirs.
            if self.sharers(path, work).any(|other| self.own_port(number, other) != Some(port)) {
                return None;
            }
            let (before, rest) = text.split_at(text.len() - address.rest.len());
            let before = before.strip_suffix(&number.to_string())?;
            return Some(format!("{before}{{{{ node.port('{port}') }}}}{rest}"));
        }
        let Target { place, port } = self.target(&address)?;
        let node = if *place.node == work.server.name && !self.is_shared(path, work) {
            "node".to_owned()
        } else {
            // A node has no better name for others than its number in its group.
            format!("nodes('{}')[{}]", place.group, place.index)
        };
        let call = match address.scheme {
            Some(scheme) => format!("url('{scheme}', '{port}')"),
            None => format!("address('{port}')"),
        };
        Some(format!("{{{{ {node}.{call} }}}}{}", address.rest))
    }

    /// The name of the port that a server opens under a number.
    fn own_port(&self, number: u16, server: &Server) -> Option<&str> {
        self.places.values().flatten().find(|place| *place.node == server.name)?.port(number)
    }

    /// The other servers that have the same value under a key.
    fn sharers(&self, path: &str, work: &Work<'_>) -> impl Iterator<Item = &'a Server> {
        let own = work.server.flat.get(path);
        let others = self.servers.iter().filter(|other| other.name != work.server.name);
        others.filter(move |other| other.flat.get(path) == own)
    }

    /// Whether another server has the same value: then it names a certain node, not "this one".
    fn is_shared(&self, path: &str, work: &Work<'_>) -> bool {
        self.sharers(path, work).next().is_some()
    }

    /// Whether a server of another group has the same value: then it names a certain group, not "this one".
    fn is_shared_outside(&self, path: &str, work: &Work<'_>) -> bool {
        let group = self.site.groups.get(work.group);
        self.sharers(path, work).any(|other| group.is_none_or(|group| !group.nodes.contains(&other.name)))
    }

    fn target(&self, address: &Address<'_>) -> Option<Target<'_>> {
        let number = address.port?;
        let mut found = self
            .places
            .get(address.host)?
            .iter()
            .filter_map(|place| Some(Target { place, port: place.port(number)? }));
        let first = found.next()?;
        found.next().is_none().then_some(first)
    }

    /// One expression for a whole list: all nodes of a group, or all others of the own one.
    fn whole_list(&self, texts: &[&str], path: &str, work: &Work<'_>) -> Option<String> {
        let addresses: Option<Vec<Address<'_>>> = texts.iter().map(|text| Address::parse(text)).collect();
        let addresses = addresses?;
        let first = addresses.first()?;
        if addresses.iter().any(|address| address.scheme != first.scheme || !address.rest.is_empty()) {
            return None;
        }
        let targets: Option<Vec<Target<'_>>> = addresses.iter().map(|address| self.target(address)).collect();
        let targets = targets?;
        let (group, port) = targets.first().map(|target| (target.place.group, target.port))?;
        if targets.iter().any(|target| target.place.group != group || target.port != port) {
            return None;
        }
        let named: Vec<&NodeName> = targets.iter().map(|target| target.place.node).collect();
        let all: Vec<&NodeName> = self.site.groups.get(group)?.nodes.iter().collect();
        let others: Vec<&NodeName> = all.iter().copied().filter(|node| **node != work.server.name).collect();
        let nodes = if group == work.group && named == others && !self.is_shared(path, work) {
            "peers".to_owned()
        } else if group == work.group && named == all && !self.is_shared_outside(path, work) {
            "group.nodes".to_owned()
        } else if named == all {
            format!("nodes('{group}')")
        } else {
            return None;
        };
        Some(match first.scheme {
            Some(scheme) => format!("{{{{ {nodes} | urls('{scheme}', '{port}') }}}}"),
            None => format!("{{{{ {nodes} | addresses('{port}') }}}}"),
        })
    }
}

fn notes(notes: &mut Notes) {
    notes.above.iter_mut().for_each(|line| *line = secrets::comment(line));
    if let Some(line) = &mut notes.beside {
        *line = secrets::comment(line);
    }
}

fn has_braces(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|mark| text.contains(mark))
}

/// The text that evaluates to `text`.
fn escape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mark = ["{{", "{%", "{#"].into_iter().find(|mark| rest.starts_with(mark));
        let taken = match mark {
            Some(mark) => {
                out.push_str(&format!("{{{{ '{mark}' }}}}"));
                mark.len()
            }
            None => {
                let length = rest.chars().next().map_or(rest.len(), char::len_utf8);
                out.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[taken..];
    }
    out
}
