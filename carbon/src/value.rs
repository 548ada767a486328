//! Values as the mapper holds them between its phases: Java's classes, with Java's text forms.

use std::collections::HashMap;
use std::sync::Arc;

use crate::java;

/// A configuration value. Variants are Java classes, because templates and unit conversion tell them apart.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Java `null`: a key that is present without value. Templates see it as undefined.
    Null,
    /// `java.lang.Boolean`.
    Bool(bool),
    /// `java.lang.Integer`: whole numbers that inference set.
    Integer(i32),
    /// `java.lang.Long`: integers written in deployment.toml.
    Long(i64),
    /// `java.lang.Double`: floats, and every number of a JSON file.
    Double(f64),
    /// `java.lang.String`.
    Text(Arc<str>),
    /// A `java.time` value, kept as its printed form.
    Time(Time),
    /// `java.util.ArrayList`.
    List(Vec<Value>),
    /// An insertion-ordered Java map.
    Map(Table),
}

/// A date or time of deployment.toml.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Time {
    /// `java.time.LocalDate` and the like.
    pub class: TimeClass,
    /// What `toString()` prints.
    pub text: Arc<str>,
}

/// Which `java.time` class a value has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeClass {
    /// `OffsetDateTime`.
    OffsetDateTime,
    /// `LocalDateTime`.
    LocalDateTime,
    /// `LocalDate`.
    LocalDate,
    /// `LocalTime`.
    LocalTime,
}

impl TimeClass {
    /// The class name as `Class.getName()` gives it.
    pub fn java_name(self) -> &'static str {
        match self {
            Self::OffsetDateTime => "java.time.OffsetDateTime",
            Self::LocalDateTime => "java.time.LocalDateTime",
            Self::LocalDate => "java.time.LocalDate",
            Self::LocalTime => "java.time.LocalTime",
        }
    }
}

impl Value {
    /// A string value.
    pub fn text(text: &str) -> Self {
        Self::Text(Arc::from(text))
    }

    /// Values in it, itself included: what copying it is worth in units of work.
    pub fn weight(&self) -> usize {
        match self {
            Self::List(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            Self::Map(map) => 1 + map.iter().map(|(_, value)| 1 + value.weight()).sum::<usize>(),
            Self::Text(_)
            | Self::Null
            | Self::Bool(_)
            | Self::Integer(_)
            | Self::Long(_)
            | Self::Double(_)
            | Self::Time(_) => 1,
        }
    }

    /// `String.valueOf(value)`.
    pub fn to_java_string(&self) -> String {
        let mut out = String::new();
        self.print(&mut out);
        out
    }

    /// `value.getClass().getName()`.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "java.lang.Boolean",
            Self::Integer(_) => "java.lang.Integer",
            Self::Long(_) => "java.lang.Long",
            Self::Double(_) => "java.lang.Double",
            Self::Text(_) => "java.lang.String",
            Self::Time(time) => time.class.java_name(),
            Self::List(_) => "java.util.ArrayList",
            Self::Map(_) => "java.util.LinkedHashMap",
        }
    }

    fn print(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Integer(value) => out.push_str(&value.to_string()),
            Self::Long(value) => out.push_str(&value.to_string()),
            Self::Double(value) => out.push_str(&java::double_to_string(*value)),
            Self::Text(text) => out.push_str(text),
            Self::Time(time) => out.push_str(&time.text),
            Self::List(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push_str(", ");
                    }
                    item.print(out);
                }
                out.push(']');
            }
            Self::Map(map) => {
                out.push('{');
                for (n, (key, value)) in map.iter().enumerate() {
                    if n > 0 {
                        out.push_str(", ");
                    }
                    out.push_str(key);
                    out.push('=');
                    value.print(out);
                }
                out.push('}');
            }
        }
    }
}

/// `LinkedHashMap<String, Value>`.
pub type Table = Ordered<Value>;

/// A map that remembers insertion order; putting a present key keeps its place.
#[derive(Debug, Clone)]
pub struct Ordered<V> {
    entries: Vec<(Arc<str>, V)>,
    /// Only kept above `INDEXED_FROM` entries: most tables are smaller than a cache line is worth.
    /// Hashed so that nobody can choose keys that collide: packs come from hosts.
    index: HashMap<Arc<str>, usize>,
}

const INDEXED_FROM: usize = 12;

impl<V> Default for Ordered<V> {
    fn default() -> Self {
        Self { entries: Vec::new(), index: HashMap::default() }
    }
}

impl<V: PartialEq> PartialEq for Ordered<V> {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<V> Ordered<V> {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Entries in insertion order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &V)> {
        self.entries.iter().map(|(key, value)| (key, value))
    }

    /// Entries in insertion order, values open to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut V)> {
        self.entries.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&V> {
        self.position(key).map(|at| &self.entries[at].1)
    }

    /// The entry of `key`.
    pub fn get_key_value(&self, key: &str) -> Option<(&Arc<str>, &V)> {
        self.position(key).map(|at| (&self.entries[at].0, &self.entries[at].1))
    }

    /// The value of `key`, open to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut V> {
        self.position(key).map(|at| &mut self.entries[at].1)
    }

    /// Whether `key` is present.
    pub fn contains_key(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Sets `key`, in place if present, else at the end.
    pub fn put(&mut self, key: Arc<str>, value: V) {
        if let Some(at) = self.position(&key) {
            self.entries[at].1 = value;
            return;
        }
        if self.entries.len() >= INDEXED_FROM {
            if self.index.is_empty() {
                self.index =
                    self.entries.iter().enumerate().map(|(at, (k, _))| (Arc::clone(k), at)).collect();
            }
            self.index.insert(Arc::clone(&key), self.entries.len());
        }
        self.entries.push((key, value));
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        let at = self.position(key)?;
        let (_, value) = self.entries.remove(at);
        self.index.clear();
        if self.entries.len() > INDEXED_FROM {
            self.index = self.entries.iter().enumerate().map(|(at, (k, _))| (Arc::clone(k), at)).collect();
        }
        Some(value)
    }

    /// The same keys with other values.
    pub fn map_values<U>(self, change: impl Fn(V) -> U) -> Ordered<U> {
        let entries = self.entries.into_iter().map(|(key, value)| (key, change(value))).collect();
        Ordered { entries, index: self.index }
    }

    /// The entries, consumed.
    pub fn into_entries(self) -> Vec<(Arc<str>, V)> {
        self.entries
    }

    fn position(&self, key: &str) -> Option<usize> {
        if self.index.is_empty() {
            return self.entries.iter().position(|(k, _)| &**k == key);
        }
        self.index.get(key).copied()
    }
}

impl<V> FromIterator<(Arc<str>, V)> for Ordered<V> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.put(key, value);
        }
        map
    }
}
