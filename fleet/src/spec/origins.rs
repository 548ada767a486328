//! Where the keys of a composed deployment.toml were typed. Every node of a fleet has some hundred of them, so what they
//! have in common, the names of keys and the typed files, is held once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Bound::{Included, Unbounded},
    sync::Arc,
};

use super::{
    canonical::join,
    tree::{At, Node, Source, Table},
};
use crate::finding::Place;

/// Where each key of one node was typed, by the keys of [`super::canonical::flatten`].
#[derive(Clone, Default)]
pub struct Origins(BTreeMap<Arc<str>, Spot>);

/// A byte of a typed file.
#[derive(Clone)]
struct Spot {
    source: Arc<Source>,
    /// Of the key; a TOML file has less than 4 GiB ([`super::TOML_SIZE_MAX`]).
    offset: u32,
}

impl Spot {
    fn of_key(at: &At) -> Self {
        Self { source: Arc::clone(&at.source), offset: u32::try_from(at.key).unwrap_or(u32::MAX) }
    }

    fn place(&self) -> Place {
        self.source.place(self.offset as usize)
    }
}

impl Origins {
    /// Where this very key was typed.
    pub fn get(&self, key: &str) -> Option<Place> {
        self.0.get(key).map(Spot::place)
    }

    /// Where a key was typed, or else what it is a part of, or else a part of it.
    pub fn nearest(&self, key: &str) -> Option<Place> {
        let part = || key.rmatch_indices(['.', '[']).find_map(|(end, _)| self.0.get(&key[..end]));
        let below = || {
            let mut from = self
                .0
                .range::<str, _>((Included(key), Unbounded))
                .map(|(found, spot)| (found.strip_prefix(key), spot));
            from.find_map(|(rest, spot)| rest.filter(|rest| rest.starts_with(['.', '['])).map(|_| spot))
        };
        self.0.get(key).or_else(part).or_else(below).map(Spot::place)
    }

    /// Keys with the name of the file and the byte in it where they were typed.
    pub(crate) fn spots(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        self.0.iter().map(|(key, spot)| (&**key, spot.source.name.as_str(), spot.offset))
    }
}

/// Equal: the same keys, typed at the same places.
impl PartialEq for Origins {
    fn eq(&self, other: &Self) -> bool {
        self.spots().eq(other.spots())
    }
}

impl fmt::Debug for Origins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.spots().map(|(key, file, offset)| (key, format!("{file} at byte {offset}")));
        f.debug_map().entries(places).finish()
    }
}

/// The names of keys of all nodes of one composition.
#[derive(Default)]
pub(super) struct KeyNames(RefCell<BTreeSet<Arc<str>>>);

impl KeyNames {
    fn of(&self, key: &str) -> Arc<str> {
        let mut known = self.0.borrow_mut();
        if let Some(known) = known.get(key) {
            return Arc::clone(known);
        }
        let new: Arc<str> = key.into();
        known.insert(Arc::clone(&new));
        new
    }

    /// Where the keys of `config` were typed. `keys`: all that the composed text has; an expression may have become a
    /// table, whose keys stand where the expression does. What composition itself set stands at `by_itself`.
    pub(super) fn origins<'k>(
        &self,
        config: &Table,
        keys: impl Iterator<Item = &'k String>,
        by_itself: &At,
    ) -> Origins {
        let mut origins = Origins::default();
        self.collect(config, "", &mut origins);
        for key in keys.filter(|key| !origins.0.contains_key(key.as_str())).collect::<Vec<_>>() {
            let cut = |end: usize| origins.0.get(&key[..end]).cloned();
            let spot = key.rmatch_indices(['.', '[']).find_map(|(end, _)| cut(end));
            origins.0.insert(self.of(key), spot.unwrap_or_else(|| Spot::of_key(by_itself)));
        }
        origins
    }

    fn collect(&self, table: &Table, prefix: &str, origins: &mut Origins) {
        for (key, node) in table.iter() {
            let path = join(prefix, key);
            match node {
                Node::Leaf(leaf) => {
                    origins.0.insert(self.of(&path), Spot::of_key(&leaf.at));
                }
                Node::Table(inner) => self.collect(inner, &path, origins),
                Node::Tables(tables) => {
                    for (index, element) in tables.iter().enumerate() {
                        self.collect(element, &format!("{path}[{index}]"), origins);
                    }
                }
            }
        }
    }
}
