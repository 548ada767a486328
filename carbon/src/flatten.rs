//! First phase: deployment.toml becomes one flat map from dotted key to value, and a map of secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::MapperError;
use crate::java::JavaHashMap;
use crate::toml::{self, Node, Position, TomlTable};
use crate::value::{Table, Value};

/// The mapper's store between phases.
pub type Flat = JavaHashMap<Arc<str>, Value>;

/// What the first phase hands on.
#[derive(Clone)]
pub struct Flattened {
    /// Every leaf of the file. Tables without leaves are gone.
    pub data: Flat,
    /// `[secrets]`: alias to text.
    pub secrets: BTreeMap<String, String>,
    /// `[runtime_secrets]`, which mappers before 1.0.13 do not know: alias to text.
    pub runtime_secrets: BTreeMap<String, String>,
    /// Where each leaf was written. Elements of arrays of tables have `key[0].sub` as well.
    pub positions: BTreeMap<Arc<str>, Position>,
}

/// Parses and flattens.
pub fn flatten(text: &str) -> Result<Flattened, MapperError> {
    let document = toml::parse(text).map_err(|mut errors| {
        if errors.first().is_some_and(|error| error.thrown) {
            return MapperError::TomlThrown(errors.swap_remove(0));
        }
        MapperError::Toml { errors }
    })?;
    if let Some(reopened) = document.reopened {
        return Err(MapperError::Reopened(reopened));
    }
    let root = &document.root;
    let mut entries = Table::default();
    let mut positions = BTreeMap::new();
    for (key, value, position) in leaves(root)? {
        positions.insert(Arc::clone(&key), position);
        entries.put(key, value);
    }
    element_positions(root, &mut positions);
    let mut data = Flat::default();
    data.put_all(entries.into_entries());
    let (secrets, runtime_secrets) = (secrets(root, "secrets")?, secrets(root, "runtime_secrets")?);
    Ok(Flattened { data, secrets, runtime_secrets, positions })
}

/// Leaves of a table with their flat keys, in Java's order, looked up again by text as the mapper does.
///
/// Looking up by text loses keys with characters outside ASCII (null) and fails on keys with quotes.
fn leaves(table: &TomlTable) -> Result<Vec<(Arc<str>, Value, Position)>, MapperError> {
    let mut leaves = Vec::new();
    for dotted in table.dotted_keys() {
        let key: Arc<str> = if dotted.contains('"') { Arc::from(dotted.replace('"', "'")) } else { dotted };
        let path = toml::parse_dotted_key(&key)
            .map_err(|error| MapperError::Key { key: key.to_string(), message: error.message })?;
        let (value, position) = match table.get(&path) {
            Some(element) => (value(&element.node)?, element.position),
            None => (Value::Null, Position::default()),
        };
        leaves.push((key, value, position));
    }
    Ok(leaves)
}

fn value(node: &Node) -> Result<Value, MapperError> {
    match node {
        Node::Leaf(value) => Ok(value.clone()),
        Node::Array(array) => {
            array.items.iter().map(|item| value(&item.node)).collect::<Result<_, _>>().map(Value::List)
        }
        Node::Table(table) => Ok(Value::Map(leaves(table)?.into_iter().map(|(k, v, _)| (k, v)).collect())),
    }
}

fn secrets(root: &TomlTable, name: &str) -> Result<BTreeMap<String, String>, MapperError> {
    let mut secrets = BTreeMap::new();
    let Some(element) = root.get(&[Arc::from(name)]) else { return Ok(secrets) };
    let Node::Table(table) = &element.node else {
        let message = format!("Value of '{name}' is a {}", toml_type(&element.node));
        return Err(MapperError::SecretType { message });
    };
    for dotted in table.dotted_keys() {
        let path = toml::parse_dotted_key(&dotted)
            .map_err(|error| MapperError::Key { key: dotted.to_string(), message: error.message })?;
        let text = match table.get(&path).map(|element| &element.node) {
            Some(Node::Leaf(Value::Text(text))) => text.to_string(),
            None => continue,
            Some(other) => {
                let message = format!("Value of '{dotted}' is a {}", toml_type(other));
                return Err(MapperError::SecretType { message });
            }
        };
        let quoted =
            name == "secrets" && dotted.len() > 1 && dotted.starts_with('"') && dotted.ends_with('"');
        let alias = if quoted { &dotted[1..dotted.len() - 1] } else { &*dotted };
        secrets.insert(alias.to_owned(), text);
    }
    Ok(secrets)
}

fn toml_type(node: &Node) -> &'static str {
    toml::type_name(node)
}

/// Places of the keys inside arrays of tables, for messages: `key[0].sub`.
fn element_positions(root: &TomlTable, positions: &mut BTreeMap<Arc<str>, Position>) {
    let mut open: Vec<(String, &TomlTable)> = vec![(String::new(), root)];
    while let Some((prefix, table)) = open.pop() {
        for (name, element) in table.children() {
            let segment = toml::join_key_path(&[Arc::from(name)]).replace('"', "'");
            let key = if prefix.is_empty() { segment } else { format!("{prefix}.{segment}") };
            match &element.node {
                Node::Table(inner) => open.push((key, inner)),
                Node::Array(array) => {
                    positions.entry(Arc::from(key.as_str())).or_insert(element.position);
                    for (n, item) in array.items.iter().enumerate() {
                        if let Node::Table(inner) = &item.node {
                            let key = format!("{key}[{n}]");
                            positions.insert(Arc::from(key.as_str()), item.position);
                            open.push((key, inner));
                        }
                    }
                }
                Node::Leaf(_) => {
                    positions.entry(Arc::from(key)).or_insert(element.position);
                }
            }
        }
    }
}

/// Every key in `positions`, elements of arrays as `key[].sub`, with the place where it stands first.
pub fn written(positions: &BTreeMap<Arc<str>, Position>) -> BTreeMap<String, Position> {
    let mut written = BTreeMap::new();
    for (key, position) in positions {
        if key.ends_with(']') {
            continue;
        }
        let mut pattern = String::new();
        let mut rest: &str = key;
        while let Some((before, after)) = rest.split_once('[') {
            let Some((_, after)) = after.split_once(']') else { break };
            pattern.push_str(before);
            pattern.push_str("[]");
            rest = after;
        }
        pattern.push_str(rest);
        let first = written.entry(pattern).or_insert(*position);
        *first = (*first).min(*position);
    }
    written
}
