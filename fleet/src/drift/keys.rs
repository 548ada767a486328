//! Rules for single keys of deployment.toml, `[drift.keys]`: which edits are undone, which are only reported, and which
//! keys belong to the host (ADR 40).
//!
//! Keys are the flat ones of [`canonical`](crate::spec::canonical). A list of tables that has grown or shrunk is one key,
//! `event_listener`: which of its elements is which cannot be told any more.

use std::{collections::BTreeSet, fmt};

use toml_edit::{DocumentMut, Item, Table, TableLike};

use crate::{
    bundle::DriftPolicy,
    spec::canonical::{self, Flat},
};

/// Rules of one node at most.
pub const RULES_MAX: usize = 200;
/// Characters of a pattern.
const PATTERN_MAX: usize = 300;

/// Which keys a rule is for: a dotted key with everything below it. `*` stands for any characters of one part.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPattern {
    text: String,
    parts: Vec<String>,
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl fmt::Debug for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Why a text is no pattern of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pattern of keys: {why}")]
pub struct PatternError {
    /// What was given.
    pub text: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl KeyPattern {
    /// # Errors
    /// Empty parts, control characters, more than 300 characters, and patterns that every key fits.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let refuse = |why| Err(PatternError { text: text.chars().take(PATTERN_MAX).collect(), why });
        if PATTERN_MAX < text.chars().count() || text.chars().any(char::is_control) {
            return refuse("it is longer than 300 characters or holds a control character");
        }
        let parts = parts(text);
        if parts.iter().any(String::is_empty) {
            return refuse("a part between two dots is empty");
        }
        if parts.iter().all(|part| part.trim_matches('*').is_empty()) {
            return refuse("every key fits it; for the whole file write a [[files]] rule with `drift`");
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Whether a flat key, or a table above it, fits.
    pub fn fits(&self, key: &str) -> bool {
        let key = parts(key);
        self.parts.len() <= key.len()
            && self.parts.iter().zip(&key).all(|(pattern, part)| glob(pattern, part))
    }

    /// Of two patterns that fit a key the one with more parts decides, then the one with more letters of its own.
    fn weight(&self) -> (usize, usize) {
        (self.parts.len(), self.text.chars().filter(|c| *c != '*').count())
    }
}

/// The parts of a flat key or of a pattern. The number of an element is a part of its own.
fn parts(key: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for c in key.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                part.push(c);
            }
            '.' if !quoted => parts.push(std::mem::take(&mut part)),
            '[' if !quoted && !part.is_empty() => {
                parts.push(std::mem::take(&mut part));
                part.push(c);
            }
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts
}

/// `*` stands for any characters, also none.
fn glob(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let Some(rest) = pieces.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut pieces: Vec<&str> = pieces.collect();
    let Some(last) = pieces.pop() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    for piece in pieces {
        match rest.split_once(piece) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

/// What is done about edits of the keys that fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRule {
    /// Which.
    pub pattern: KeyPattern,
    /// What.
    pub policy: DriftPolicy,
}

/// The rules of one node; the first that fits a key decides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyRules(Vec<KeyRule>);

impl KeyRules {
    /// In the order that was decided before.
    pub fn new(rules: Vec<KeyRule>) -> Self {
        Self(rules)
    }

    /// Of several scopes, the nearest first. Within one the most exact pattern comes first.
    pub fn of_scopes(scopes: impl IntoIterator<Item = Vec<KeyRule>>) -> Self {
        let sorted = |mut rules: Vec<KeyRule>| {
            rules.sort_by(|a, b| {
                b.pattern.weight().cmp(&a.pattern.weight()).then(a.pattern.text.cmp(&b.pattern.text))
            });
            rules
        };
        Self(scopes.into_iter().flat_map(sorted).collect())
    }

    /// In the order in which they decide.
    pub fn iter(&self) -> impl Iterator<Item = &KeyRule> {
        self.0.iter()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is done about edits of `key`, if a rule says so.
    pub fn policy(&self, key: &str) -> Option<DriftPolicy> {
        self.0.iter().find(|rule| rule.pattern.fits(key)).map(|rule| rule.policy)
    }

    /// What is done about edits of `key` in a file with this policy.
    pub fn policy_in(&self, key: &str, file: DriftPolicy) -> DriftPolicy {
        self.policy(key).unwrap_or(file)
    }

    /// Whether the key belongs to the host.
    pub fn leaves(&self, key: &str) -> bool {
        self.policy(key) == Some(DriftPolicy::Ignore)
    }

    /// For the digest of a bundle; `None` if there are none.
    pub fn canonical(&self) -> Option<String> {
        let rules: Vec<String> =
            self.0.iter().map(|rule| format!("{:?} {:?}", rule.pattern.text, rule.policy)).collect();
        (!rules.is_empty()).then(|| rules.join(", "))
    }
}

/// The key under which a difference is judged: the list if one of the lists of tables around it has another length.
pub fn judged_as(key: &str, (one, other): (&Flat, &Flat)) -> String {
    for (at, _) in key.match_indices('[') {
        let list = &key[..at];
        if length(one, list) != length(other, list) {
            return list.to_owned();
        }
    }
    key.to_owned()
}

/// Elements of a list of tables.
fn length(flat: &Flat, list: &str) -> usize {
    let start = format!("{list}[");
    let numbers = flat.range(start.clone()..).take_while(|(key, _)| key.starts_with(&start));
    let numbers = numbers.filter_map(|(key, _)| key[start.len()..].split_once(']')?.0.parse::<usize>().ok());
    numbers.max().map_or(0, |most| most + 1)
}

/// `desired` with those edits of `disk` that are kept. An edit is a difference from `before`, the text that `disk` came
/// from; without one, every key of `disk` is. Where a text is not TOML, or the result would be none, nothing is kept.
pub fn keep_edits(desired: &str, disk: &str, before: Option<&str>, keeps: impl Fn(&str) -> bool) -> String {
    kept(desired, disk, before, keeps).unwrap_or_else(|| desired.to_owned())
}

fn kept(desired: &str, disk: &str, before: Option<&str>, keeps: impl Fn(&str) -> bool) -> Option<String> {
    let (target_flat, disk_flat) = (canonical::flatten(desired).ok()?, canonical::flatten(disk).ok()?);
    let before = match before {
        Some(before) => Some(canonical::flatten(before).ok()?),
        None => None,
    };
    let edited = |key: &str| match &before {
        Some(before) => before.get(key) != disk_flat.get(key),
        None => disk_flat.contains_key(key),
    };
    let units: BTreeSet<String> = canonical::differing_keys(&target_flat, &disk_flat, &[])
        .into_iter()
        .filter(|key| edited(key))
        .map(|key| judged_as(&key, (&target_flat, &disk_flat)))
        .filter(|unit| keeps(unit))
        .collect();
    if units.is_empty() {
        return None;
    }
    let (mut target, disk): (DocumentMut, DocumentMut) = (desired.parse().ok()?, disk.parse().ok()?);
    for unit in &units {
        let found = find(disk.as_table(), &parts(unit)).cloned();
        put(target.as_table_mut(), &parts(unit), found);
    }
    let text = target.to_string();
    if canonical::flatten(&text).is_ok() {
        return Some(text);
    }
    // A table now stands after one inside it; in this order no table does.
    let mut place = 0;
    number(target.as_table_mut(), &mut place);
    let text = target.to_string();
    canonical::flatten(&text).is_ok().then_some(text)
}

/// The name in a part of a key.
fn name(part: &str) -> &str {
    part.strip_prefix('\'').and_then(|part| part.strip_suffix('\'')).unwrap_or(part)
}

fn index(part: &str) -> Option<usize> {
    part.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn find<'a>(table: &'a dyn TableLike, path: &[String]) -> Option<&'a Item> {
    let (first, rest) = path.split_first()?;
    let item = table.get(name(first))?;
    match rest {
        [] => Some(item),
        [number, rest @ ..] if index(number).is_some() => {
            let at = index(number)?;
            let element: &dyn TableLike = match item {
                Item::ArrayOfTables(tables) => tables.get(at)?,
                Item::Value(value) => value.as_array()?.get(at)?.as_inline_table()?,
                Item::None | Item::Table(_) => return None,
            };
            find(element, rest)
        }
        rest => find(item.as_table_like()?, rest),
    }
}

/// Puts `found` at `path`, or takes away what is there. Where the way leads through a value, nothing happens.
fn put(table: &mut dyn TableLike, path: &[String], found: Option<Item>) {
    let Some((first, rest)) = path.split_first() else { return };
    match (rest, found) {
        ([], None) => {
            table.remove(name(first));
        }
        ([], Some(found)) => replace(table, name(first), found),
        ([number, rest @ ..], found) if index(number).is_some() => {
            let (Some(at), Some(item)) = (index(number), table.get_mut(name(first))) else { return };
            match item {
                Item::ArrayOfTables(tables) => {
                    if let Some(element) = tables.get_mut(at) {
                        put(element, rest, found);
                    }
                }
                Item::Value(value) => {
                    let element = value.as_array_mut().and_then(|array| array.get_mut(at));
                    if let Some(element) = element.and_then(toml_edit::Value::as_inline_table_mut) {
                        put(element, rest, found);
                    }
                }
                Item::None | Item::Table(_) => {}
            }
        }
        (rest, found) => {
            if table.get(name(first)).is_none() {
                if found.is_none() {
                    return;
                }
                let mut fresh = Table::new();
                fresh.set_implicit(true);
                fresh.decor_mut().set_prefix("\n");
                table.insert(name(first), Item::Table(fresh));
            }
            if let Some(inner) = table.get_mut(name(first)).and_then(Item::as_table_like_mut) {
                put(inner, rest, found);
            }
        }
    }
}

/// Comments around the old value stay; those of the new one are of another text.
fn replace(table: &mut dyn TableLike, key: &str, mut found: Item) {
    if let (Some(Item::Value(old)), Item::Value(new)) = (table.get(key), &mut found) {
        *new.decor_mut() = old.decor().clone();
    } else if let Item::Value(new) = &mut found {
        new.decor_mut().clear();
    }
    unplaced(&mut found);
    table.insert(key, found);
}

/// The places at which tables are printed are those of another text.
fn unplaced(item: &mut Item) {
    let inner = |table: &mut Table| {
        table.set_position(None);
        table.iter_mut().for_each(|(_, item)| unplaced(item));
    };
    match item {
        Item::Table(table) => inner(table),
        Item::ArrayOfTables(tables) => tables.iter_mut().for_each(inner),
        Item::None | Item::Value(_) => {}
    }
}

/// Prints every table before those inside it.
fn number(table: &mut Table, next: &mut isize) {
    table.set_position(Some(*next));
    *next += 1;
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(inner) => number(inner, next),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|inner| number(inner, next)),
            Item::None | Item::Value(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
