//! Reads typed settings out of a tree: each getter says what it expected, and `finish` names the keys that nobody
//! asked for, with the nearest known one.

use std::{collections::BTreeSet, time::Duration};

use toml_edit::Value;

use super::{
    report::{Report, suggest},
    tree::{At, Leaf, Node, Table, kind_of},
};
use crate::time::parse_duration;

/// One table of fleet.toml or of a product definition.
pub(crate) struct Reader<'a> {
    table: &'a Table,
    /// As people would write the header: `groups.gateway.rollout`; empty at the root.
    path: String,
    asked: BTreeSet<&'static str>,
}

/// A value with the place it was typed at.
#[derive(Debug, Clone)]
pub(crate) struct Typed<T> {
    pub(crate) value: T,
    pub(crate) at: At,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(table: &'a Table, path: impl Into<String>) -> Self {
        Self { table, path: path.into(), asked: BTreeSet::new() }
    }

    pub(crate) fn at(&self) -> &'a At {
        &self.table.at
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    fn named(&self, key: &str) -> String {
        if self.path.is_empty() { format!("`{key}`") } else { format!("`{key}` of [{}]", self.path) }
    }

    fn ask(&mut self, key: &'static str) -> Option<&'a Node> {
        self.asked.insert(key);
        self.table.get(key)
    }

    fn leaf<T>(
        &mut self,
        key: &'static str,
        (expected, example): (&str, &str),
        read: impl Fn(&Value) -> Option<T>,
        report: &mut Report,
    ) -> Option<Typed<T>> {
        let node = self.ask(key)?;
        let (kind, at) = match node {
            Node::Leaf(leaf) => match read(&leaf.value) {
                Some(value) => return Some(Typed { value, at: leaf.at.clone() }),
                None => (kind_of(&leaf.value), Some(leaf.at.value_place())),
            },
            other => (other.kind(), other.at().map(At::key_place)),
        };
        report.error(
            "CV006",
            at,
            format!("{} must be {expected}, not {kind}", self.named(key)),
            format!("write for example {key} = {example}"),
        );
        None
    }

    pub(crate) fn text(&mut self, key: &'static str, report: &mut Report) -> Option<Typed<String>> {
        self.leaf(key, ("a string", "\"...\""), |value| value.as_str().map(str::to_owned), report)
    }

    pub(crate) fn flag(&mut self, key: &'static str, report: &mut Report) -> Option<bool> {
        self.leaf(key, ("true or false", "true"), Value::as_bool, report).map(|typed| typed.value)
    }

    /// A whole number within `low..=high`.
    pub(crate) fn number(
        &mut self,
        key: &'static str,
        (low, high): (i64, i64),
        report: &mut Report,
    ) -> Option<Typed<i64>> {
        let typed = self.leaf(key, ("a whole number", &low.to_string()), Value::as_integer, report)?;
        if (low..=high).contains(&typed.value) {
            return Some(typed);
        }
        report.error(
            "CV013",
            Some(typed.at.value_place()),
            format!("{} is {}, outside {low} to {high}", self.named(key), typed.value),
            format!("write a number from {low} to {high}"),
        );
        None
    }

    /// A number with or without a fraction.
    pub(crate) fn amount(&mut self, key: &'static str, report: &mut Report) -> Option<f64> {
        let typed = self.leaf(key, ("a number", "0.5"), as_amount, report)?;
        if typed.value.is_finite() {
            return Some(typed.value);
        }
        report.error(
            "CV013",
            Some(typed.at.value_place()),
            format!("{} is {}, which no value can be held against", self.named(key), typed.value),
            format!("write a finite number, for example {key} = 0.5"),
        );
        None
    }

    pub(crate) fn duration(&mut self, key: &'static str, report: &mut Report) -> Option<Duration> {
        let typed = self.leaf(
            key,
            ("a duration in quotes", "\"30s\""),
            |value| value.as_str().map(str::to_owned),
            report,
        )?;
        match parse_duration(&typed.value) {
            Ok(duration) => Some(duration),
            Err(error) => {
                report.error(
                    "CV011",
                    Some(typed.at.value_place()),
                    format!("{}: {} is not a duration", self.named(key), format_args!("{:?}", error.text)),
                    "write a number and a unit (ms, s, m, h, d), as in \"30s\" or \"1h30m\"",
                );
                None
            }
        }
    }

    /// One of `choices`, by its word.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(T, &'static str)],
        report: &mut Report,
    ) -> Option<T> {
        let typed = self.text(key, report)?;
        if let Some((choice, _)) = choices.iter().find(|(_, word)| *word == typed.value) {
            return Some(*choice);
        }
        let words: Vec<&str> = choices.iter().map(|(_, word)| *word).collect();
        report.error(
            "CV010",
            Some(typed.at.value_place()),
            format!("{} cannot be {:?}", self.named(key), typed.value),
            format!("use one of: {}", words.join(", ")),
        );
        None
    }

    /// A list of strings.
    pub(crate) fn texts(&mut self, key: &'static str, report: &mut Report) -> Option<Typed<Vec<String>>> {
        self.leaf(
            key,
            ("a list of strings", "[\"...\"]"),
            |value| value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
            report,
        )
    }

    /// A list of whole numbers.
    pub(crate) fn numbers(&mut self, key: &'static str, report: &mut Report) -> Option<Typed<Vec<i64>>> {
        self.leaf(
            key,
            ("a list of whole numbers", "[11, 21]"),
            |value| value.as_array()?.iter().map(Value::as_integer).collect(),
            report,
        )
    }

    /// A number or a string, as text: shares such as `2` and `"25%"`.
    pub(crate) fn number_or_text(&mut self, key: &'static str, report: &mut Report) -> Option<Typed<String>> {
        self.leaf(
            key,
            ("a number or a percentage in quotes", "\"25%\""),
            |value| match value {
                Value::Integer(number) => Some(number.value().to_string()),
                Value::String(text) => Some(text.value().clone()),
                _ => None,
            },
            report,
        )
    }

    pub(crate) fn table(&mut self, key: &'static str, report: &mut Report) -> Option<Reader<'a>> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        match self.ask(key)? {
            Node::Table(table) => Some(Reader::new(table, path)),
            other => {
                self.wrong_kind(key, other, ("a table", &format!("[{path}]")), report);
                None
            }
        }
    }

    pub(crate) fn tables(&mut self, key: &'static str, report: &mut Report) -> Vec<Reader<'a>> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        match self.ask(key) {
            None => Vec::new(),
            Some(Node::Tables(tables)) => {
                tables.iter().map(|table| Reader::new(table, format!("[{path}]"))).collect()
            }
            Some(Node::Leaf(leaf)) if leaf.value.as_array().is_some_and(toml_edit::Array::is_empty) => {
                Vec::new()
            }
            Some(other) => {
                self.wrong_kind(key, other, ("an array of tables", &format!("[[{path}]]")), report);
                Vec::new()
            }
        }
    }

    fn wrong_kind(&self, key: &str, node: &Node, (expected, example): (&str, &str), report: &mut Report) {
        report.error(
            "CV006",
            node.at().map(At::key_place),
            format!("{} must be {expected}, not {}", self.named(key), node.kind()),
            format!("write it as {example}"),
        );
    }

    /// Every entry, for tables whose keys are names of people's choice.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Node)> + use<'a> {
        self.table.iter()
    }

    /// The raw table, for values of any shape.
    pub(crate) fn raw(&self) -> &'a Table {
        self.table
    }

    /// `None` and a finding when `key` is not there.
    pub(crate) fn required<T>(
        &mut self,
        key: &'static str,
        found: Option<T>,
        example: &str,
        report: &mut Report,
    ) -> Option<T> {
        if found.is_none() && self.table.get(key).is_none() {
            let of = if self.path.is_empty() { String::new() } else { format!(" in [{}]", self.path) };
            report.error(
                "CV008",
                Some(self.table.at.key_place()),
                format!("`{key}` is missing{of}"),
                format!("add {key} = {example}"),
            );
        }
        found
    }

    /// Names the keys that nobody asked for.
    pub(crate) fn finish(&self, report: &mut Report) {
        for (key, node) in self.table.iter() {
            if !self.asked.contains(key) {
                report.error(
                    "CV005",
                    node.at().map(At::key_place),
                    format!("unknown key {}", self.named(key)),
                    suggest(key, self.asked.iter().copied()),
                );
            }
        }
    }
}

fn as_amount(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => i32::try_from(*number.value()).ok().map(f64::from),
        Value::Float(number) => Some(*number.value()),
        Value::String(_)
        | Value::Boolean(_)
        | Value::Datetime(_)
        | Value::Array(_)
        | Value::InlineTable(_) => None,
    }
}

/// The leaf of a node, if it is one.
pub(crate) fn as_leaf(node: &Node) -> Option<&Leaf> {
    match node {
        Node::Leaf(leaf) => Some(leaf),
        Node::Table(_) | Node::Tables(_) => None,
    }
}
