//! Tables of deployment.toml: what may be defined where, and in which order Java lists the keys.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lexer::Kind;
use super::parser::{Expression, Raw};
use super::{Position, TomlError};
use crate::java::{JavaHashMap, hash_set_order};
use crate::value::{Time, TimeClass, Value};

/// A file without errors.
pub struct Document {
    /// The top-level table.
    pub root: TomlTable,
    /// The first table that was opened after a table inside it. The library takes the file and puts such a table into
    /// itself, so that whoever lists the keys never comes to an end.
    pub reopened: Option<Reopened>,
}

/// A table whose header stands behind a table inside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reopened {
    /// Its name as a dotted key.
    pub table: String,
    /// Where something inside it was written first.
    pub child: Position,
    /// Where its own header stands.
    pub header: Position,
}

/// What stands under one key.
pub struct Element {
    /// The value.
    pub node: Node,
    /// Where it was defined first.
    pub position: Position,
}

/// A value of the file.
pub enum Node {
    /// A scalar.
    Leaf(Value),
    /// An array, or an array of tables.
    Array(TomlArray),
    /// A table, written in any way.
    Table(TomlTable),
}

/// An array and how it came to be.
pub struct TomlArray {
    literal: bool,
    /// Elements with their places.
    pub items: Vec<Element>,
}

/// A table. Keys are kept as Java's hash map keeps them.
#[derive(Default)]
pub struct TomlTable {
    properties: JavaHashMap<Arc<str>, Element>,
    implicit: bool,
    /// The key under which the table holds itself: the library's mistake with a header that comes late.
    own_key: Option<OwnKey>,
}

struct OwnKey {
    key: Arc<str>,
    position: Position,
}

impl TomlTable {
    /// Looks a path up.
    pub fn get(&self, path: &[Arc<str>]) -> Option<&Element> {
        let (last, parents) = path.split_last()?;
        let mut table = self;
        for key in parents {
            match &table.properties.get(key)?.node {
                Node::Table(inner) => table = inner,
                Node::Leaf(_) | Node::Array(_) => return None,
            }
        }
        table.properties.get(last)
    }

    /// Paths of all values that are not tables, in the order of Java's hash set of paths.
    pub fn leaf_paths(&self) -> Vec<Vec<Arc<str>>> {
        let mut paths = Vec::new();
        for (key, element) in self.properties.iter() {
            match &element.node {
                Node::Table(table) => paths.extend(table.leaf_paths().into_iter().map(|sub| {
                    let mut path = Vec::with_capacity(sub.len() + 1);
                    path.push(Arc::clone(key));
                    path.extend(sub);
                    path
                })),
                Node::Leaf(_) | Node::Array(_) => paths.push(vec![Arc::clone(key)]),
            }
        }
        hash_set_order(paths)
    }

    /// Dotted keys of all values that are not tables, in the order of Java's hash set of strings.
    pub fn dotted_keys(&self) -> Vec<Arc<str>> {
        hash_set_order(self.leaf_paths().iter().map(|path| Arc::<str>::from(join_key_path(path))))
    }

    /// Tables and values directly below, sorted by name: for people, not for the mapper.
    pub fn children(&self) -> BTreeMap<&str, &Element> {
        self.properties.iter().map(|(key, element)| (&**key, element)).collect()
    }

    fn set(&mut self, path: &[Arc<str>], node: Node, position: Position) -> Result<(), TomlError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let table = self.ensure(parents, position, false)?;
        if let Some(previous) = table.defined_at(last) {
            let message = format!("{} previously defined at {previous}", join_key_path(path));
            return Err(TomlError::new(message, position));
        }
        table.properties.put(Arc::clone(last), Element { node, position });
        Ok(())
    }

    /// Opens a table; the answer says if it was there already because of a table inside it.
    fn create_table(&mut self, path: &[Arc<str>], position: Position) -> Result<Option<Reopened>, TomlError> {
        let Some((last, parents)) = path.split_last() else { return Ok(None) };
        let table = self.ensure(parents, position, true)?;
        let previously = |defined: Position| {
            let message = format!("{} previously defined at {defined}", join_key_path(path));
            Err(TomlError::new(message, position))
        };
        if let Some(own) = table.own_key.as_ref().filter(|own| own.key == *last) {
            return previously(own.position);
        }
        let Some(element) = table.properties.get_mut(last) else {
            let node = Node::Table(TomlTable::default());
            table.properties.put(Arc::clone(last), Element { node, position });
            return Ok(None);
        };
        match &mut element.node {
            Node::Table(existing) if existing.implicit => {
                existing.implicit = false;
                existing.own_key = Some(OwnKey { key: Arc::clone(last), position });
                let table = join_key_path(path);
                Ok(Some(Reopened { table, child: element.position, header: position }))
            }
            Node::Table(_) | Node::Array(_) | Node::Leaf(_) => previously(element.position),
        }
    }

    /// Where the key was defined, if it is.
    fn defined_at(&self, key: &str) -> Option<Position> {
        let own = self.own_key.as_ref().filter(|own| &*own.key == key).map(|own| own.position);
        own.or_else(|| self.properties.find(key).map(|element| element.position))
    }

    fn create_array_table(&mut self, path: &[Arc<str>], position: Position) -> Result<(), TomlError> {
        let Some((last, parents)) = path.split_last() else { return Ok(()) };
        let table = self.ensure(parents, position, true)?;
        let no_array = |defined: Position| {
            let message =
                format!("{} is not an array (previously defined at {defined})", join_key_path(path));
            Err(TomlError::new(message, position))
        };
        if let Some(own) = table.own_key.as_ref().filter(|own| own.key == *last) {
            return no_array(own.position);
        }
        if !table.properties.contains_key(last) {
            let node = Node::Array(TomlArray { literal: false, items: Vec::new() });
            table.properties.put(Arc::clone(last), Element { node, position });
        }
        let Some(element) = table.properties.get_mut(last) else { return Ok(()) };
        let defined = element.position;
        match &mut element.node {
            Node::Array(array) if !array.literal => {
                array.items.push(Element { node: Node::Table(TomlTable::default()), position });
                Ok(())
            }
            Node::Array(_) => {
                let key = join_key_path(path);
                let message = format!("{key} previously defined as a literal array at {defined}");
                Err(TomlError::new(message, position))
            }
            Node::Leaf(_) | Node::Table(_) => no_array(defined),
        }
    }

    fn ensure(
        &mut self,
        path: &[Arc<str>],
        position: Position,
        follow: bool,
    ) -> Result<&mut TomlTable, TomlError> {
        let mut table = self;
        for (n, key) in path.iter().enumerate() {
            // The table holds itself under this key.
            if table.own_key.as_ref().is_some_and(|own| own.key == *key) {
                continue;
            }
            if !table.properties.contains_key(key) {
                let node = Node::Table(TomlTable { implicit: true, ..TomlTable::default() });
                table.properties.put(Arc::clone(key), Element { node, position });
            }
            let missing = || TomlError::new("table vanished", position);
            let element = table.properties.get_mut(key).ok_or_else(missing)?;
            let defined = element.position;
            let inner = match &mut element.node {
                Node::Table(inner) => Some(inner),
                Node::Array(array) if follow && !array.literal => match array.items.last_mut() {
                    Some(Element { node: Node::Table(inner), .. }) => Some(inner),
                    _ => None,
                },
                Node::Leaf(_) | Node::Array(_) => None,
            };
            table = inner.ok_or_else(|| {
                let key = join_key_path(&path[..=n]);
                TomlError::new(format!("{key} is not a table (previously defined at {defined})"), position)
            })?;
        }
        Ok(table)
    }
}

/// Builds tables from expressions. All definition errors are gathered, as the library does.
pub(super) fn build(expressions: Vec<Expression>) -> Result<Document, Vec<TomlError>> {
    let mut root = TomlTable::default();
    let mut current: Vec<Arc<str>> = Vec::new();
    let mut errors = Vec::new();
    let mut reopened = None;
    for expression in expressions {
        let outcome = match expression {
            Expression::Table { path, position } => path.and_then(|path| {
                let again = root.create_table(&path, position)?;
                reopened = reopened.take().or(again);
                current = path;
                Ok(())
            }),
            Expression::ArrayTable { path, position } => {
                path.and_then(|path| root.create_array_table(&path, position).map(|()| current = path))
            }
            Expression::KeyValue { path, value, position } => path.and_then(|path| {
                let node = node(value)?;
                let table = root.ensure(&current, position, true)?;
                table.set(&path, node, position)
            }),
        };
        if let Err(error) = outcome {
            if error.thrown {
                return Err(vec![error]);
            }
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(Document { root, reopened }) } else { Err(errors) }
}

fn node(raw: Raw) -> Result<Node, TomlError> {
    let leaf = |value| Ok(Node::Leaf(value));
    match raw {
        Raw::Text(text) => leaf(Value::text(&text?)),
        Raw::Bool(value) => leaf(Value::Bool(value)),
        Raw::Integer { digits, radix, position } => i64::from_str_radix(&digits, radix)
            .map(|value| Node::Leaf(Value::Long(value)))
            .map_err(|_| TomlError::new("Integer is too large", position)),
        Raw::Float { text, position } => float(&text, position).map(|value| Node::Leaf(Value::Double(value))),
        Raw::Time { parts, position } => time(&parts, position).map(|value| Node::Leaf(Value::Time(value))),
        Raw::Array(items) => array(items).map(Node::Array),
        Raw::Inline(entries) => {
            let mut table = TomlTable::default();
            for (path, value, position) in entries {
                table.set(&path?, node(value)?, position)?;
            }
            Ok(Node::Table(table))
        }
    }
}

fn array(raw: Vec<(Raw, Position)>) -> Result<TomlArray, TomlError> {
    let mut items: Vec<Element> = Vec::with_capacity(raw.len());
    for (value, position) in raw {
        let node = node(value)?;
        if let Some(first) = items.first()
            && type_name(&first.node) != type_name(&node)
        {
            let message = format!(
                "Cannot add a {} to an array containing {}s",
                type_name(&node),
                type_name(&first.node)
            );
            return Err(TomlError::new(message, position));
        }
        items.push(Element { node, position });
    }
    Ok(TomlArray { literal: true, items })
}

/// The library's name of a value's type.
pub(crate) fn type_name(node: &Node) -> &'static str {
    match node {
        Node::Array(_) => "array",
        Node::Table(_) => "table",
        Node::Leaf(value) => match value {
            Value::Long(_) | Value::Integer(_) => "integer",
            Value::Double(_) => "float",
            Value::Bool(_) => "boolean",
            Value::Time(time) => match time.class {
                TimeClass::OffsetDateTime => "offset date-time",
                TimeClass::LocalDateTime => "local date-time",
                TimeClass::LocalDate => "local date",
                TimeClass::LocalTime => "local time",
            },
            Value::Text(_) | Value::Null | Value::List(_) | Value::Map(_) => "string",
        },
    }
}

fn float(text: &str, position: Position) -> Result<f64, TomlError> {
    if text.ends_with("inf") {
        return Ok(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if text.ends_with("nan") {
        return Ok(f64::NAN);
    }
    let value: f64 = text.parse().map_err(|_| TomlError::new("Invalid floating point number", position))?;
    if value.is_infinite() {
        return Err(TomlError::new("Float is too large", position));
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    if value == 0.0 && mantissa.contains(|c: char| ('1'..='9').contains(&c)) {
        return Err(TomlError::new("Float is too small", position));
    }
    Ok(value)
}

fn time(parts: &[(Kind, String)], position: Position) -> Result<Time, TomlError> {
    let numbers: Vec<&str> =
        parts.iter().filter(|(kind, _)| *kind == Kind::DateDigits).map(|(_, text)| text.as_str()).collect();
    let has = |kind: Kind| parts.iter().any(|(k, _)| *k == kind);
    let bad = |what: &str| TomlError::new(format!("Invalid {what}"), position);
    let dated = has(Kind::Dash) && parts.get(1).is_some_and(|(kind, _)| *kind == Kind::Dash);
    let date = if dated { Some(date(&numbers[..3]).ok_or_else(|| bad("date"))?) } else { None };
    let rest = if dated { &numbers[3..] } else { &numbers[..] };
    if rest.is_empty() {
        let text = date.unwrap_or_default();
        return Ok(Time { class: TimeClass::LocalDate, text: Arc::from(text) });
    }
    let fraction = has(Kind::Dot).then(|| rest.get(3).copied()).flatten();
    let clock = clock(&rest[..3], fraction).ok_or_else(|| bad("time"))?;
    let Some(date) = date else {
        return Ok(Time { class: TimeClass::LocalTime, text: Arc::from(clock) });
    };
    let at = 3 + usize::from(fraction.is_some());
    let offset = if has(Kind::Zulu) {
        Some("Z".to_owned())
    } else if rest.len() > at {
        let sign = if has(Kind::Plus) { '+' } else { '-' };
        Some(offset(sign, &rest[at..]).ok_or_else(|| bad("offset"))?)
    } else {
        None
    };
    let class = if offset.is_some() { TimeClass::OffsetDateTime } else { TimeClass::LocalDateTime };
    Ok(Time { class, text: Arc::from(format!("{date}T{clock}{}", offset.unwrap_or_default())) })
}

fn date(parts: &[&str]) -> Option<String> {
    let (year, month, day): (u32, u32, u32) =
        (parts[0].parse().ok()?, parts[1].parse().ok()?, parts[2].parse().ok()?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(leap),
        _ => return None,
    };
    let lengths = parts.iter().map(|part| part.len()).eq([4, 2, 2]);
    (lengths && (1..=days).contains(&day)).then(|| format!("{year:04}-{month:02}-{day:02}"))
}

/// `LocalTime.toString()`: seconds only when there are any, fractions in groups of three digits.
fn clock(parts: &[&str], fraction: Option<&str>) -> Option<String> {
    let (hour, minute, second): (u32, u32, u32) =
        (parts[0].parse().ok()?, parts[1].parse().ok()?, parts[2].parse().ok()?);
    if hour > 23 || minute > 59 || second > 59 || parts.iter().any(|part| part.len() != 2) {
        return None;
    }
    let nanos: u32 = match fraction {
        None => 0,
        Some(digits) if digits.len() > 9 => return None,
        Some(digits) => format!("{digits:0<9}").parse().ok()?,
    };
    let mut text = format!("{hour:02}:{minute:02}");
    if second > 0 || nanos > 0 {
        text.push_str(&format!(":{second:02}"));
    }
    if nanos > 0 {
        let digits = format!("{nanos:09}");
        let kept = [3, 6, 9].into_iter().find(|&n| digits[n..].bytes().all(|b| b == b'0')).unwrap_or(9);
        text.push('.');
        text.push_str(&digits[..kept]);
    }
    Some(text)
}

fn offset(sign: char, parts: &[&str]) -> Option<String> {
    let (hours, minutes): (u32, u32) = (parts.first()?.parse().ok()?, parts.get(1)?.parse().ok()?);
    if hours > 18 || minutes > 59 {
        return None;
    }
    Some(if hours == 0 && minutes == 0 { "Z".into() } else { format!("{sign}{hours:02}:{minutes:02}") })
}

/// The library's text of a key path: segments that are not plain are quoted and escaped.
pub fn join_key_path(path: &[Arc<str>]) -> String {
    let mut text = String::new();
    for (n, segment) in path.iter().enumerate() {
        if n > 0 {
            text.push('.');
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if !segment.is_empty() && segment.chars().all(plain) {
            text.push_str(segment);
        } else {
            text.push('"');
            text.push_str(&escape(segment));
            text.push('"');
        }
    }
    text
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            ' '..='~' => out.push(c),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            _ if (c as u32) > 0xffff => out.push_str(&format!("\\U{:08x}", c as u32)),
            _ => out.push_str(&format!("\\u{:04x}", c as u32)),
        }
    }
    out
}
