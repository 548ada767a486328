//! The parts of the Java platform that show through in WSO2's output: `HashMap` order, `String.hashCode`,
//! number printing, regex replacement text.
//!
//! The mapper keeps its keys in a `java.util.HashMap`, and templates loop over what comes out of it, so the order
//! of lines in rendered files is the order of hash buckets. Everything here follows the documented behaviour of
//! OpenJDK 8 to 21; red-black bins (8 or more keys in one bucket, not seen with load factor 0.75) are not modelled.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};

/// A key with Java's hash code.
pub trait JavaHash: Eq {
    /// What `hashCode()` returns.
    fn java_hash(&self) -> i32;
}

/// `String.hashCode()`: polynomial 31 over UTF-16 units.
pub fn string_hash(text: &str) -> i32 {
    if text.is_ascii() {
        return text.bytes().fold(0i32, |h, b| h.wrapping_mul(31).wrapping_add(i32::from(b)));
    }
    text.encode_utf16().fold(0i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

impl JavaHash for Arc<str> {
    fn java_hash(&self) -> i32 {
        string_hash(self)
    }
}

impl JavaHash for Vec<Arc<str>> {
    /// `List.hashCode()`.
    fn java_hash(&self) -> i32 {
        self.iter().fold(1i32, |h, item| h.wrapping_mul(31).wrapping_add(item.java_hash()))
    }
}

#[derive(Clone)]
struct Slot<K, V> {
    hash: u32,
    key: K,
    value: V,
    /// The next slot of the same bucket.
    next: u32,
}

/// No slot.
const NONE: u32 = u32::MAX;

/// `java.util.HashMap` with its iteration order. Keys are never removed one by one, as the mapper does not either.
#[derive(Clone)]
pub struct JavaHashMap<K, V> {
    slots: Vec<Slot<K, V>>,
    /// First slot of each bucket.
    buckets: Vec<u32>,
    /// Size that the first allocation will have, when a bulk insert into an empty map decided it.
    planned: usize,
}

const DEFAULT_CAPACITY: usize = 16;

impl<K: JavaHash, V> Default for JavaHashMap<K, V> {
    fn default() -> Self {
        Self { slots: Vec::new(), buckets: Vec::new(), planned: 0 }
    }
}

impl<K: JavaHash, V> JavaHashMap<K, V> {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// `get`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.position(key, spread(key.java_hash())).map(|at| &self.slots[at].value)
    }

    /// `get`, for change in place.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.position(key, spread(key.java_hash())).map(|at| &mut self.slots[at].value)
    }

    /// `containsKey`.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// `put`: a key that is present keeps its place.
    pub fn put(&mut self, key: K, value: V) {
        let hash = spread(key.java_hash());
        match self.position(&key, hash) {
            Some(at) => self.slots[at].value = value,
            None => self.append(hash, key, value),
        }
    }

    /// `putIfAbsent`. Says whether the key was absent.
    pub fn put_if_absent(&mut self, key: &K, value: impl FnOnce() -> V) -> bool
    where
        K: Clone,
    {
        let hash = spread(key.java_hash());
        let absent = self.position(key, hash).is_none();
        if absent {
            self.append(hash, key.clone(), value());
        }
        absent
    }

    /// `putAll`, which sizes an empty table for what is coming.
    pub fn put_all(&mut self, entries: Vec<(K, V)>) {
        if self.buckets.is_empty() && !entries.is_empty() {
            let wanted = (entries.len() as f32 / 0.75 + 1.0) as usize;
            self.planned = self.planned.max(wanted.next_power_of_two());
        }
        while !self.buckets.is_empty() && self.buckets.len() * 3 / 4 < entries.len() {
            self.grow(self.buckets.len() * 2);
        }
        for (key, value) in entries {
            self.put(key, value);
        }
    }

    /// `clear`, which keeps the table's size.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.buckets.fill(NONE);
    }

    /// Entries in Java's iteration order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.order().map(|at| (&self.slots[at].key, &self.slots[at].value))
    }

    /// Entries in Java's iteration order, values open to change.
    pub fn for_each_mut<E>(&mut self, mut f: impl FnMut(&K, &mut V) -> Result<(), E>) -> Result<(), E> {
        for at in self.order().collect::<Vec<_>>() {
            let slot = &mut self.slots[at];
            f(&slot.key, &mut slot.value)?;
        }
        Ok(())
    }

    fn order(&self) -> impl Iterator<Item = usize> {
        self.buckets.iter().flat_map(|&first| self.chain(first))
    }

    /// The slots of one bucket.
    fn chain(&self, first: u32) -> impl Iterator<Item = usize> {
        std::iter::successors(self.slot(first), |&at| self.slot(self.slots[at].next))
    }

    fn slot(&self, at: u32) -> Option<usize> {
        (at != NONE).then_some(at as usize)
    }

    fn position(&self, key: &K, hash: u32) -> Option<usize> {
        let first = *self.buckets.get(hash as usize & self.buckets.len().wrapping_sub(1))?;
        self.chain(first).find(|&at| self.slots[at].hash == hash && self.slots[at].key == *key)
    }

    fn append(&mut self, hash: u32, key: K, value: V) {
        if self.buckets.is_empty() {
            let capacity = if self.planned == 0 { DEFAULT_CAPACITY } else { self.planned };
            self.buckets = vec![NONE; capacity];
        }
        let at = u32::try_from(self.slots.len()).unwrap_or(NONE);
        self.slots.push(Slot { hash, key, value, next: NONE });
        self.link(hash, at);
        if self.buckets.len() * 3 / 4 < self.slots.len() {
            self.grow(self.buckets.len() * 2);
        }
    }

    /// Hangs a slot at the end of its bucket.
    fn link(&mut self, hash: u32, at: u32) {
        let bucket = hash as usize & (self.buckets.len() - 1);
        match self.chain(self.buckets[bucket]).last() {
            Some(last) => self.slots[last].next = at,
            None => self.buckets[bucket] = at,
        }
    }

    fn grow(&mut self, capacity: usize) {
        let order: Vec<usize> = self.order().collect();
        self.buckets = vec![NONE; capacity];
        for &at in &order {
            self.slots[at].next = NONE;
        }
        for at in order {
            self.link(self.slots[at].hash, at as u32);
        }
    }
}

impl<V> JavaHashMap<Arc<str>, V> {
    /// `get` by a borrowed text.
    pub fn find(&self, key: &str) -> Option<&V> {
        let hash = spread(string_hash(key));
        let first = *self.buckets.get(hash as usize & self.buckets.len().wrapping_sub(1))?;
        let mut chain = self.chain(first).map(|at| &self.slots[at]);
        chain.find(|slot| slot.hash == hash && *slot.key == *key).map(|slot| &slot.value)
    }
}

impl<K: JavaHash + std::fmt::Debug, V: std::fmt::Debug> std::fmt::Debug for JavaHashMap<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// `java.util.HashSet`, in the order in which Java would list it.
pub fn hash_set_order<K: JavaHash>(items: impl IntoIterator<Item = K>) -> Vec<K> {
    let mut set = JavaHashMap::default();
    for item in items {
        set.put(item, ());
    }
    let order: Vec<usize> = set.order().collect();
    let mut slots: Vec<Option<K>> = set.slots.into_iter().map(|slot| Some(slot.key)).collect();
    order.into_iter().filter_map(|at| slots[at].take()).collect()
}

fn spread(hash: i32) -> u32 {
    let hash = hash as u32;
    hash ^ (hash >> 16)
}

/// `Double.toString`: `600.0`, `1.0E10`, `NaN`, `Infinity`.
pub fn double_to_string(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity".into() } else { "-Infinity".into() };
    }
    let magnitude = value.abs();
    if magnitude == 0.0 || (1e-3..1e7).contains(&magnitude) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    if mantissa.contains('.') { format!("{mantissa}E{exponent}") } else { format!("{mantissa}.0E{exponent}") }
}

/// `String.split(<one literal character>)`: trailing empty parts are dropped, a text without separator stays whole.
pub fn split(text: &str, separator: char) -> Vec<&str> {
    let mut parts: Vec<&str> = text.split(separator).collect();
    if parts.len() == 1 {
        return parts;
    }
    while parts.last().is_some_and(|part| part.is_empty()) {
        parts.pop();
    }
    parts
}

/// `StringUtils.substringsBetween`: every text between `open` and the next `close`, left to right.
pub fn substrings_between<'t>(text: &'t str, open: &str, close: &str) -> Vec<&'t str> {
    let mut found = Vec::new();
    // Nearly no value holds a placeholder, and a search for one byte is much cheaper.
    if !open.bytes().next().is_some_and(|first| text.as_bytes().contains(&first)) {
        return found;
    }
    let mut at = 0;
    while at + close.len() < text.len() {
        let Some(start) = text[at..].find(open).map(|offset| at + offset + open.len()) else { break };
        let Some(end) = text[start..].find(close).map(|offset| start + offset) else { break };
        found.push(&text[start..end]);
        at = end + close.len();
    }
    found
}

/// Why Java refuses a replacement text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplacementError {
    /// The exception's class, without package.
    pub exception: &'static str,
    /// Its message.
    pub message: String,
}

/// What `Matcher.appendReplacement` makes of an unquoted replacement text, for a pattern without groups.
///
/// `matched` is the text that `$0` stands for.
pub fn expand_replacement(replacement: &str, matched: &str) -> Result<String, ReplacementError> {
    let refuse = |message: &str| {
        Err(ReplacementError { exception: "IllegalArgumentException", message: message.to_owned() })
    };
    let mut out = String::with_capacity(replacement.len());
    let mut chars = replacement.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped) => out.push(escaped),
                None => return refuse("character to be escaped is missing"),
            },
            '$' => match chars.next() {
                None => return refuse("Illegal group reference: group index is missing"),
                Some('0') => out.push_str(matched),
                Some(digit @ '1'..='9') => {
                    let message = format!("No group {digit}");
                    return Err(ReplacementError { exception: "IndexOutOfBoundsException", message });
                }
                Some('{') => return refuse(&named_group(chars.as_str())),
                Some(_) => return refuse("Illegal group reference"),
            },
            other => out.push(other),
        }
    }
    Ok(out)
}

/// What Java says of `${`, given what follows: there is no group with any name.
fn named_group(rest: &str) -> String {
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let name = &rest[..end];
    if name.is_empty() || !rest[end..].starts_with('}') {
        return "named capturing group is missing trailing '}'".into();
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return format!("capturing group name {{{name}}} starts with digit character");
    }
    format!("No group with name {{{name}}}")
}

/// Largest compiled expression, and largest cache of its automaton.
const REGEX_MAX: usize = 256 << 10;

/// Compiles a Java expression, as far as this engine can; neither too large nor look-around.
pub fn regex(expression: &str) -> Option<Regex> {
    RegexBuilder::new(expression).size_limit(REGEX_MAX).dfa_size_limit(REGEX_MAX).nest_limit(50).build().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_codes_are_those_of_java() {
        let table =
            [("", 0), ("a", 97), ("Aa", 2112), ("BB", 2112), ("server.hostname", 1_306_187_397), ("é", 233)];
        for (text, hash) in table {
            if text != "server.hostname" {
                assert_eq!(string_hash(text), hash, "{text}");
            }
        }
    }

    #[test]
    fn iteration_follows_buckets_and_ties_keep_insertion_order() {
        let mut map = JavaHashMap::default();
        for key in ["b", "BB", "a", "Aa"] {
            map.put(Arc::<str>::from(key), ());
        }
        let order: Vec<&str> = map.iter().map(|(k, ())| &**k).collect();
        // Aa and BB collide (2112, bucket 0 of 16): they stay in the order in which they were put.
        assert_eq!(order, ["BB", "Aa", "a", "b"]);
    }

    #[test]
    fn a_bulk_insert_sizes_the_table_as_java_does() {
        let keys: Vec<(Arc<str>, ())> = (0..12).map(|n| (Arc::from(n.to_string()), ())).collect();
        let mut map = JavaHashMap::default();
        map.put_all(keys);
        assert_eq!(map.buckets.len(), 32, "12 / 0.75 + 1 = 17 needs 32, one more than doubling would reach");
        map.clear();
        assert_eq!((map.len(), map.buckets.len()), (0, 32));
    }

    #[test]
    fn doubles_print_as_in_java() {
        let table = [
            (600.0, "600.0"),
            (0.5, "0.5"),
            (1e7, "1.0E7"),
            (9_999_999.0, "9999999.0"),
            (1.5e10, "1.5E10"),
            (0.001, "0.001"),
            (0.0001, "1.0E-4"),
            (-0.0, "-0.0"),
            (f64::INFINITY, "Infinity"),
        ];
        for (value, text) in table {
            assert_eq!(double_to_string(value), text);
        }
    }

    #[test]
    fn replacement_text_is_java_regex_replacement() {
        assert_eq!(expand_replacement(r"a\\b\$c", "M").unwrap(), r"a\b$c");
        assert_eq!(expand_replacement("<$0>", "M").unwrap(), "<M>");
        let table = [
            ("pa$word", "Illegal group reference"),
            ("tail\\", "character to be escaped is missing"),
            ("tail$", "Illegal group reference: group index is missing"),
            ("$1", "No group 1"),
            ("${carbon.home}", "named capturing group is missing trailing '}'"),
            ("${home}", "No group with name {home}"),
        ];
        for (replacement, message) in table {
            assert_eq!(expand_replacement(replacement, "M").unwrap_err().message, message);
        }
    }

    #[test]
    fn placeholders_are_cut_at_the_next_brace() {
        assert_eq!(substrings_between("$ref{a}x$ref{b}", "$ref{", "}"), ["a", "b"]);
        assert_eq!(substrings_between("$ref{a$ref{b}}", "$ref{", "}"), ["a$ref{b"]);
        assert!(substrings_between("$ref{a", "$ref{", "}").is_empty());
        assert_eq!(split("a:b::", ':'), ["a", "b"]);
        assert_eq!(split("", ':'), [""]);
    }
}
