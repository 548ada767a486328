//! TOML as a tree that remembers: where each key and value stands, and the comments around it.
//!
//! Layers are parsed into it, merged in it, and the result is printed from it. `toml_edit` documents are not merged
//! directly, since their tables carry print positions that interleave when documents are mixed, which can move a
//! `[event_listener.properties]` below another `[[event_listener]]`.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use toml_edit::{Document, InlineTable, Item, Key, RawString, TableLike, Value};

use super::canonical::NotToml;
use crate::{finding::Place, mask};

/// One typed file.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) text: String,
    line_starts: Vec<usize>,
    /// The lines as they may be shown.
    shown: Vec<String>,
}

impl Source {
    pub(crate) fn new(name: &str, text: &str) -> Arc<Self> {
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let line_starts = std::iter::once(0).chain(starts).collect();
        let shown = if name.ends_with(".toml") { mask::toml_lines(text) } else { mask::text_lines(text) };
        Arc::new(Self { name: name.to_owned(), text: text.to_owned(), line_starts, shown })
    }

    /// The place of a byte of this file, its line masked.
    pub(crate) fn place(&self, offset: usize) -> Place {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.line_starts.partition_point(|start| *start <= offset) - 1;
        let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
        Place {
            file: self.name.clone(),
            line: number(line),
            column: number(self.text[self.line_starts[line]..offset].chars().count()),
            line_text: self.shown.get(line).cloned().unwrap_or_default(),
        }
    }
}

/// Where something was typed.
#[derive(Debug, Clone)]
pub(crate) struct At {
    pub(crate) source: Arc<Source>,
    /// Byte offset of the key, or of the header.
    pub(crate) key: usize,
    /// Byte offset of the value.
    pub(crate) value: usize,
}

impl At {
    pub(crate) fn start_of(source: &Arc<Source>) -> Self {
        Self { source: Arc::clone(source), key: 0, value: 0 }
    }

    pub(crate) fn key_place(&self) -> Place {
        self.source.place(self.key)
    }

    pub(crate) fn value_place(&self) -> Place {
        self.source.place(self.value)
    }

    pub(crate) fn place_of(&self, offset: usize) -> Place {
        self.source.place(offset)
    }
}

/// Comments of a key or header.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Notes {
    /// Lines above, each starting with '#'; an empty line separates blocks.
    pub(crate) above: Vec<String>,
    /// Behind it on the same line.
    pub(crate) beside: Option<String>,
}

impl Notes {
    fn read(prefix: Option<&str>, suffix: Option<&str>) -> Self {
        let beside = suffix.map(str::trim).filter(|text| text.starts_with('#')).map(str::to_owned);
        Self { above: comment_lines(prefix.unwrap_or("")), beside }
    }

    fn is_empty(&self) -> bool {
        self.above.is_empty() && self.beside.is_none()
    }
}

fn comment_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        let repeated_blank = line.is_empty() && lines.last().is_none_or(String::is_empty);
        if (line.is_empty() && !repeated_blank) || line.starts_with('#') {
            lines.push(line.to_owned());
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// A scalar or a list.
#[derive(Debug, Clone)]
pub(crate) struct Leaf {
    pub(crate) value: Value,
    /// As typed, while nothing has changed it.
    pub(crate) raw: Option<String>,
    pub(crate) at: At,
    pub(crate) notes: Notes,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    Leaf(Leaf),
    Table(Table),
    Tables(Vec<Table>),
}

impl Node {
    pub(crate) fn at(&self) -> Option<&At> {
        match self {
            Node::Leaf(leaf) => Some(&leaf.at),
            Node::Table(table) => Some(&table.at),
            Node::Tables(tables) => tables.first().map(|table| &table.at),
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Node::Leaf(leaf) => kind_of(&leaf.value),
            Node::Table(_) => "a table",
            Node::Tables(_) => "an array of tables",
        }
    }
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a decimal number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date or time",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}

/// How a table was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Header,
    Inline,
    /// Only named on the way to another, or by a dotted key.
    Implicit,
}

#[derive(Debug, Clone)]
pub(crate) struct Table {
    entries: BTreeMap<String, (usize, Node)>,
    next: usize,
    pub(crate) at: At,
    pub(crate) notes: Notes,
    pub(crate) shape: Shape,
}

impl Table {
    pub(crate) fn empty(at: At, shape: Shape) -> Self {
        Self { entries: BTreeMap::new(), next: 0, at, notes: Notes::default(), shape }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries.get(key).map(|(_, node)| node)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.entries.get_mut(key).map(|(_, node)| node)
    }

    /// Keeps the place of a key that is already there.
    pub(crate) fn insert(&mut self, key: &str, node: Node) {
        if let Some(existing) = self.get_mut(key) {
            *existing = node;
            return;
        }
        self.entries.insert(key.to_owned(), (self.next, node));
        self.next += 1;
    }

    /// Takes a key out for good.
    pub(crate) fn remove(&mut self, key: &str) -> Option<Node> {
        self.entries.remove(key).map(|(_, node)| node)
    }

    /// The node at `key`, to be put back by `insert`, which finds its place kept.
    pub(crate) fn take(&mut self, key: &str) -> Option<Node> {
        self.get_mut(key).map(|node| std::mem::replace(node, Node::Tables(Vec::new())))
    }

    /// In the order typed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        let mut entries: Vec<_> = self.entries.iter().collect();
        entries.sort_by_key(|(_, (order, _))| *order);
        entries.into_iter().map(|(key, (_, node))| (key.as_str(), node))
    }

    pub(crate) fn into_entries(self) -> Vec<(String, Node)> {
        let mut entries: Vec<_> = self.entries.into_iter().collect();
        entries.sort_by_key(|(_, (order, _))| *order);
        entries.into_iter().map(|(key, (_, node))| (key, node)).collect()
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.entries.iter_mut().map(|(key, (_, node))| (key.as_str(), node))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The leaf at a dotted path of bare keys.
    pub(crate) fn leaf(&self, path: &str) -> Option<&Leaf> {
        let mut table = self;
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            match table.get(part)? {
                Node::Leaf(leaf) if parts.peek().is_none() => return Some(leaf),
                Node::Table(inner) => table = inner,
                _ => return None,
            }
        }
        None
    }
}

/// A parsed file: its tree and the comments after the last key.
#[derive(Debug, Clone)]
pub(crate) struct Parsed {
    pub(crate) root: Table,
    pub(crate) trailing: Vec<String>,
}

/// Deeper nesting is refused: no product has it, and every walk over the tree recurses.
const DEPTH_MAX: usize = 32;

/// Parses one file.
pub(crate) fn parse(source: &Arc<Source>) -> Result<Parsed, NotToml> {
    refuse_deep_keys(&source.text)?;
    let document = Document::parse(source.text.as_str()).map_err(|error| NotToml {
        offset: error.span().map_or(0, |span| span.start),
        message: error.message().lines().collect::<Vec<_>>().join(", "),
    })?;
    let reader = TreeReader { source };
    let mut root = Table::empty(At::start_of(source), Shape::Implicit);
    reader.fill(&mut root, document.as_table(), 0)?;
    let trailing = comment_lines(reader.slice(document.trailing()).unwrap_or(""));
    Ok(Parsed { root, trailing })
}

/// A header of a thousand parts would overflow the stack of any recursive walk, so it is refused before parsing.
fn refuse_deep_keys(text: &str) -> Result<(), NotToml> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let key = line.split(['=', '#']).next().unwrap_or("");
        // Text inside a long multi-line string may look so, and is then refused too; no configuration has it.
        if DEPTH_MAX < key.matches('.').count() && !key.contains(' ') {
            let message = format!("a key of more than {DEPTH_MAX} parts");
            return Err(NotToml { offset: start, message });
        }
        start += line.len();
    }
    Ok(())
}

struct TreeReader<'a> {
    source: &'a Arc<Source>,
}

impl<'a> TreeReader<'a> {
    fn slice<'b>(&self, raw: &'b RawString) -> Option<&'b str>
    where
        'a: 'b,
    {
        raw.as_str().or_else(|| self.source.text.get(raw.span()?))
    }

    fn at(&self, key: Option<&Key>, value: Option<std::ops::Range<usize>>) -> At {
        let key = key.and_then(Key::span).map(|span| span.start);
        let value = value.map(|span| span.start);
        At {
            source: Arc::clone(self.source),
            key: key.or(value).unwrap_or(0),
            value: value.or(key).unwrap_or(0),
        }
    }

    fn fill(&self, into: &mut Table, from: &dyn TableLike, depth: usize) -> Result<(), NotToml> {
        if DEPTH_MAX < depth {
            let message = format!("tables nested deeper than {DEPTH_MAX}");
            return Err(NotToml { offset: into.at.key, message });
        }
        for (name, item) in from.iter() {
            let key = from.get_key_value(name).map(|(key, _)| key);
            if let Some(node) = self.node(key, item, depth)? {
                into.insert(name, node);
            }
        }
        Ok(())
    }

    fn node(&self, key: Option<&Key>, item: &Item, depth: usize) -> Result<Option<Node>, NotToml> {
        Ok(Some(match item {
            Item::None => return Ok(None),
            Item::Value(value) => self.value(key, value, depth)?,
            Item::Table(table) => {
                let implicit = table.is_implicit() || table.is_dotted();
                let at = self.at(key.filter(|_| implicit), table.span());
                let shape = if implicit { Shape::Implicit } else { Shape::Header };
                let mut inner = Table::empty(at, shape);
                let decor = table.decor();
                inner.notes = Notes::read(
                    decor.prefix().and_then(|raw| self.slice(raw)),
                    decor.suffix().and_then(|raw| self.slice(raw)),
                );
                self.fill(&mut inner, table, depth + 1)?;
                Node::Table(inner)
            }
            Item::ArrayOfTables(tables) => {
                let mut elements = Vec::new();
                for table in tables {
                    let element = self.node(None, &Item::Table(table.clone()), depth)?;
                    if let Some(Node::Table(mut element)) = element {
                        element.shape = Shape::Header;
                        elements.push(element);
                    }
                }
                Node::Tables(elements)
            }
        }))
    }

    fn value(&self, key: Option<&Key>, value: &Value, depth: usize) -> Result<Node, NotToml> {
        match value {
            Value::InlineTable(table) => {
                let mut inner = self.inline(key, table, depth)?;
                inner.notes = self.value_notes(key, value);
                Ok(Node::Table(inner))
            }
            Value::Array(array) if !array.is_empty() && array.iter().all(Value::is_inline_table) => {
                let elements = array.iter().filter_map(Value::as_inline_table);
                Ok(Node::Tables(
                    elements.map(|table| self.inline(None, table, depth)).collect::<Result<_, _>>()?,
                ))
            }
            _ => Ok(Node::Leaf(Leaf {
                value: value.clone(),
                raw: value.span().and_then(|span| self.source.text.get(span)).map(str::to_owned),
                at: self.at(key, value.span()),
                notes: self.value_notes(key, value),
            })),
        }
    }

    fn inline(&self, key: Option<&Key>, table: &InlineTable, depth: usize) -> Result<Table, NotToml> {
        let mut inner = Table::empty(self.at(key, table.span()), Shape::Inline);
        if table.is_dotted() {
            inner.shape = Shape::Implicit;
        }
        self.fill(&mut inner, table, depth + 1)?;
        Ok(inner)
    }

    fn value_notes(&self, key: Option<&Key>, value: &Value) -> Notes {
        let prefix = key.and_then(|key| {
            let leaf = key.leaf_decor().prefix().and_then(|raw| self.slice(raw));
            leaf.filter(|text| !text.trim().is_empty())
                .or_else(|| key.dotted_decor().prefix().and_then(|raw| self.slice(raw)))
        });
        Notes::read(prefix, value.decor().suffix().and_then(|raw| self.slice(raw)))
    }
}

/// Prints a tree: leaves first, then tables in the order they first appeared. The result parses back to the same
/// values and keeps to what the product's TOML 0.5 parser takes: inline tables stay on one line.
pub(crate) fn print(root: &Table, trailing: &[String]) -> String {
    let mut out = String::new();
    print_body(&mut out, root, "");
    if !trailing.is_empty() {
        out.push('\n');
        print_lines(&mut out, trailing);
    }
    out
}

fn print_lines(out: &mut String, lines: &[String]) {
    for line in lines {
        out.push_str(line);
        out.push('\n');
    }
}

fn print_body(out: &mut String, table: &Table, path: &str) {
    for (key, node) in table.iter() {
        let (text, notes) = match node {
            Node::Leaf(leaf) => (leaf_text(leaf), &leaf.notes),
            Node::Table(inner) if inner.shape == Shape::Inline => (inline_text(inner), &inner.notes),
            _ => continue,
        };
        print_lines(out, &notes.above);
        let beside = notes.beside.as_deref().map(|note| format!(" {note}")).unwrap_or_default();
        writeln!(out, "{} = {text}{beside}", key_text(key)).expect("a String takes any text");
    }
    for (key, node) in table.iter() {
        let path = header_path(path, key);
        match node {
            Node::Table(inner) if inner.shape != Shape::Inline => print_table(out, inner, &path),
            Node::Tables(tables) if tables.is_empty() => {}
            Node::Tables(tables) => {
                for element in tables {
                    print_header(out, element, &format!("[[{path}]]"));
                    print_body(out, element, &path);
                }
            }
            Node::Leaf(_) | Node::Table(_) => {}
        }
    }
}

fn print_table(out: &mut String, table: &Table, path: &str) {
    let has_leaf = table.iter().any(|(_, node)| match node {
        Node::Leaf(_) => true,
        Node::Table(inner) => inner.shape == Shape::Inline,
        Node::Tables(_) => false,
    });
    let declared = table.shape == Shape::Header && (table.is_empty() || !table.notes.is_empty());
    if has_leaf || declared {
        print_header(out, table, &format!("[{path}]"));
    }
    print_body(out, table, path);
}

fn print_header(out: &mut String, table: &Table, header: &str) {
    if !out.is_empty() {
        out.push('\n');
    }
    print_lines(out, &table.notes.above);
    let beside = table.notes.beside.as_deref().map(|note| format!(" {note}")).unwrap_or_default();
    writeln!(out, "{header}{beside}").expect("a String takes any text");
}

/// TOML 1.1 escapes and inline tables over several lines are valid here but not for the product: those are printed
/// anew, everything else as typed.
fn leaf_text(leaf: &Leaf) -> String {
    let foreign = |raw: &String| {
        raw.contains("\\e") || raw.contains("\\x") || (leaf.value.is_array() && raw.contains('{'))
    };
    match &leaf.raw {
        Some(raw) if !foreign(raw) => raw.clone(),
        _ => value_text(&leaf.value),
    }
}

pub(crate) fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => Value::from(text.value().as_str()).to_string(),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => Value::from(*number.value()).to_string(),
        Value::Boolean(flag) => flag.value().to_string(),
        Value::Datetime(moment) => moment.value().to_string(),
        Value::Array(array) => format!("[{}]", array.iter().map(value_text).collect::<Vec<_>>().join(", ")),
        Value::InlineTable(table) => {
            let entries =
                table.iter().map(|(key, value)| format!("{} = {}", key_text(key), value_text(value)));
            braces(&entries.collect::<Vec<_>>())
        }
    }
}

fn braces(entries: &[String]) -> String {
    if entries.is_empty() { "{}".to_owned() } else { format!("{{ {} }}", entries.join(", ")) }
}

fn inline_text(table: &Table) -> String {
    let entries = table.iter().map(|(key, node)| {
        let text = match node {
            Node::Leaf(leaf) if leaf.value.is_array() => value_text(&leaf.value),
            Node::Leaf(leaf) => leaf_text(leaf),
            Node::Table(inner) => inline_text(inner),
            Node::Tables(tables) => {
                format!("[{}]", tables.iter().map(inline_text).collect::<Vec<_>>().join(", "))
            }
        };
        format!("{} = {text}", key_text(key))
    });
    braces(&entries.collect::<Vec<_>>())
}

fn key_text(key: &str) -> String {
    Key::new(key).display_repr().into_owned()
}

fn header_path(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key_text(key) } else { format!("{prefix}.{}", key_text(key)) }
}
