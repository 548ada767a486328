//! deployment.toml by meaning: the flat key-value form that WSO2's config-mapper works on. Two texts with equal flat
//! forms configure a server equally, whatever their comments, order, quoting and white space.
//!
//! Keys are written as the mapper writes them: segments joined by '.', a segment outside `[A-Za-z0-9_-]+` in single
//! quotes. Elements of arrays of tables are numbered, `event_listener[0].id`. A table without leaves does not exist.

use std::{collections::BTreeMap, fmt::Write as _};

use toml_edit::{ArrayOfTables, Document, DocumentMut, Item, TableLike, Value};

use crate::ids::Digest;

/// Flat key to canonical value. The value is TOML text, so `"true"` and `true` stay apart, as they do for the
/// mapper's templates.
pub type Flat = BTreeMap<String, String>;

/// A text that is not TOML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not TOML at byte {offset}: {message}")]
pub struct NotToml {
    /// Where in the text the parser gave up.
    pub offset: usize,
    /// What it expected there. Never quotes the text, which may hold secrets.
    pub message: String,
}

/// A text that configures no server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// No TOML.
    #[error(transparent)]
    NotToml(#[from] NotToml),
    /// TOML that the server's own reader dies of.
    #[error("TOML that opens [{table}] after a table inside it")]
    Reopened {
        /// The table.
        table: String,
        /// Where its header stands, in bytes.
        offset: usize,
    },
}

/// The flat form of a deployment.toml.
///
/// # Errors
/// Says where and why `text` is not TOML, or not for the server.
pub fn flatten(text: &str) -> Result<Flat, Unusable> {
    let document = Document::parse(text).map_err(|error| not_toml(&error))?;
    reopened(document.as_table(), "").1?;
    Ok(flat_form(document.as_table()))
}

/// The same of a text that is written anew before any server reads it: its tables may stand in any order.
///
/// # Errors
/// Says where and why `text` is not TOML.
pub(crate) fn flatten_any_order(text: &str) -> Result<Flat, NotToml> {
    Ok(flat_form(parse(text)?.as_table()))
}

fn flat_form(table: &toml_edit::Table) -> Flat {
    let mut flat = Flat::new();
    flatten_table(table, "", &mut flat);
    flat
}

/// Where the first header of a table, or of one inside it, stands, and the first table that is opened after one inside
/// it: WSO2's TOML library puts such a table into itself, and the server ends in a stack overflow.
fn reopened(table: &toml_edit::Table, path: &str) -> (Option<usize>, Result<(), Unusable>) {
    let mut first: Option<usize> = None;
    for (key, item) in table.iter() {
        let path = join(path, key);
        let inner: Vec<&toml_edit::Table> = match item {
            Item::Table(inner) => vec![inner],
            Item::ArrayOfTables(tables) => tables.iter().collect(),
            Item::None | Item::Value(_) => continue,
        };
        for inner in inner {
            let (below, outcome) = reopened(inner, &path);
            if outcome.is_err() {
                return (below, outcome);
            }
            // Dotted keys and tables that only their children name have no header of their own.
            let own =
                inner.span().filter(|_| !inner.is_implicit() && !inner.is_dotted()).map(|span| span.start);
            if let (Some(own), Some(below)) = (own, below)
                && below < own
            {
                return (Some(below), Err(Unusable::Reopened { table: path, offset: own }));
            }
            first = [first, own, below].into_iter().flatten().min();
        }
    }
    (first, Ok(()))
}

fn parse(text: &str) -> Result<DocumentMut, NotToml> {
    text.parse().map_err(|error| not_toml(&error))
}

fn not_toml(error: &toml_edit::TomlError) -> NotToml {
    NotToml { offset: error.span().map_or(0, |span| span.start), message: error.message().to_owned() }
}

/// Equal for texts that configure a server equally. A text that configures none means just its bytes.
pub fn meaning(text: &str) -> Digest {
    match flatten(text) {
        Ok(flat) => meaning_of(&flat),
        Err(_) => Digest::of(text.as_bytes()),
    }
}

/// `[server] offset`; 0 if none is named, `None` if `text` is not TOML or the offset is no number.
pub fn offset(text: &str) -> Option<u16> {
    let flat = flatten(text).ok()?;
    flat.get("server.offset").map_or(Some(0), |value| value.trim_matches(['"', '\'']).parse().ok())
}

/// The digest of a flat form.
pub fn meaning_of(flat: &Flat) -> Digest {
    let mut text = String::from("convoy-config-1\n");
    for (key, value) in flat {
        writeln!(text, "{key} = {value}").expect("a String takes any text");
    }
    Digest::of(text.as_bytes())
}

/// Whether a flat key is one that the product itself writes. `owned` holds keys (`encryption.key`) and tables
/// (`secrets.*`).
pub fn is_owned(key: &str, owned: &[String]) -> bool {
    owned.iter().any(|pattern| match pattern.strip_suffix(".*") {
        Some(table) => key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.')),
        None => key == pattern,
    })
}

/// The keys that only one side has or whose values differ, sorted, without the product-owned ones.
pub fn differing_keys(a: &Flat, b: &Flat, owned: &[String]) -> Vec<String> {
    let mut keys: Vec<String> = a
        .iter()
        .filter(|(key, value)| b.get(*key) != Some(value))
        .map(|(key, _)| key)
        .chain(b.keys().filter(|key| !a.contains_key(*key)))
        .filter(|key| !is_owned(key, owned))
        .cloned()
        .collect();
    keys.sort();
    keys
}

/// `desired` with what the product itself has written into `disk`: the encryption key that APIM 4.7 generates at its
/// first start, aliases and ciphertexts of ciphertool must survive the next write. `before` is the desired text that
/// `disk` came from: an alias that it declares like `desired` does has been encrypted in place since, so the disk's value
/// stays; one that `desired` declares anew wins. A declared encryption key always wins, since the generator never touches
/// one. Where a text is not TOML, `desired` is returned as it is.
pub fn carry_owned(desired: &str, disk: &str, before: Option<&str>, owned: &[String]) -> String {
    let (Ok(target), Ok(disk)) = (parse(desired), parse(disk)) else { return desired.to_owned() };
    let mut carry = Carry { target, disk, before: before.and_then(|text| parse(text).ok()) };
    let mut carried = false;
    for pattern in owned {
        carried |= match pattern.strip_suffix(".*") {
            Some(table) => carry.table(table),
            None => pattern.rsplit_once('.').is_some_and(|(table, key)| carry.key(table, key)),
        };
    }
    if carried { carry.target.to_string() } else { desired.to_owned() }
}

struct Carry {
    target: DocumentMut,
    disk: DocumentMut,
    before: Option<DocumentMut>,
}

impl Carry {
    fn table(&mut self, table: &str) -> bool {
        let Some(from) = find_table(&self.disk, table) else { return false };
        let keys: Vec<String> = from.iter().map(|(key, _)| key.to_owned()).collect();
        keys.iter().fold(false, |carried, key| self.key(table, key) | self.rewritten(table, key) | carried)
    }

    /// A key that only the disk has.
    fn key(&mut self, table: &str, key: &str) -> bool {
        let Some(mut value) = value_of(&self.disk, table, key).cloned() else { return false };
        value.decor_mut().clear();
        let mut at: &mut dyn TableLike = self.target.as_table_mut();
        for part in table.split('.') {
            let mut fresh = toml_edit::Table::new();
            fresh.decor_mut().set_prefix("\n");
            let Some(next) = at.entry(part).or_insert(Item::Table(fresh)).as_table_like_mut() else {
                return false;
            };
            at = next;
        }
        if at.contains_key(key) {
            return false;
        }
        at.insert(key, Item::Value(value));
        true
    }

    /// A key that was declared as it is now, and that the product has rewritten since.
    fn rewritten(&mut self, table: &str, key: &str) -> bool {
        let Some(disk) = value_of(&self.disk, table, key).cloned() else { return false };
        let before =
            self.before.as_ref().and_then(|before| value_of(before, table, key)).map(canonical_value);
        let mut at: &mut dyn TableLike = self.target.as_table_mut();
        for part in table.split('.') {
            let Some(next) = at.get_mut(part).and_then(Item::as_table_like_mut) else { return false };
            at = next;
        }
        let Some(Item::Value(value)) = at.get_mut(key) else { return false };
        let declared = canonical_value(value);
        if before.as_ref() != Some(&declared) || canonical_value(&disk) == declared {
            return false;
        }
        let decor = value.decor().clone();
        *value = disk;
        *value.decor_mut() = decor;
        true
    }
}

fn value_of<'a>(document: &'a DocumentMut, table: &str, key: &str) -> Option<&'a Value> {
    find_table(document, table)?.get(key)?.as_value()
}

fn find_table<'a>(document: &'a DocumentMut, path: &str) -> Option<&'a dyn TableLike> {
    let mut at: &dyn TableLike = document.as_table();
    for part in path.split('.') {
        at = at.get(part)?.as_table_like()?;
    }
    Some(at)
}

fn flatten_table(table: &dyn TableLike, prefix: &str, flat: &mut Flat) {
    for (key, item) in table.iter() {
        let path = join(prefix, key);
        match item {
            Item::None => {}
            Item::Value(value) => flatten_value(value, path, flat),
            Item::Table(inner) => flatten_table(inner, &path, flat),
            Item::ArrayOfTables(tables) => flatten_tables(tables, &path, flat),
        }
    }
}

fn flatten_tables(tables: &ArrayOfTables, path: &str, flat: &mut Flat) {
    for (index, table) in tables.iter().enumerate() {
        flatten_table(table, &format!("{path}[{index}]"), flat);
    }
}

fn flatten_value(value: &Value, path: String, flat: &mut Flat) {
    match value {
        Value::InlineTable(table) => flatten_table(table, &path, flat),
        // `x = [{..}]` and `[[x]]` are the same list of maps for the mapper.
        Value::Array(array) if !array.is_empty() && array.iter().all(Value::is_inline_table) => {
            for (index, element) in array.iter().enumerate() {
                flatten_value(element, format!("{path}[{index}]"), flat);
            }
        }
        _ => {
            flat.insert(path, canonical_value(value));
        }
    }
}

/// One spelling per value: `0x10`, `16` and `1_6` are the same integer, `'a'` and `"a"` the same string.
fn canonical_value(value: &Value) -> String {
    match value {
        Value::String(text) => Value::from(text.value().as_str()).to_string(),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => Value::from(*number.value()).to_string(),
        Value::Boolean(flag) => flag.value().to_string(),
        Value::Datetime(moment) => moment.value().to_string(),
        Value::Array(array) => {
            let elements: Vec<String> = array.iter().map(canonical_value).collect();
            format!("[{}]", elements.join(", "))
        }
        Value::InlineTable(table) => {
            let mut flat = Flat::new();
            flatten_table(table, "", &mut flat);
            let entries: Vec<String> = flat.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

pub(crate) fn join(prefix: &str, segment: &str) -> String {
    let bare = !segment.is_empty()
        && segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let segment = if bare { segment.to_owned() } else { format!("'{segment}'") };
    if prefix.is_empty() { segment } else { format!("{prefix}.{segment}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned() -> Vec<String> {
        vec!["encryption.key".to_owned(), "secrets.*".to_owned()]
    }

    #[test]
    fn comments_order_spacing_and_spelling_do_not_change_the_meaning() {
        let a = "[server]\nhostname = \"a\"\noffset=1\n[[l]]\nid='x'\n[l.p]\nq=0x10\n";
        let b = "# note\nl = [ { p.q = 16, id = \"x\" } ]\n[server]\n\n offset = 1 # one\nhostname = 'a'\n[empty]\n";
        assert_eq!(flatten(a).unwrap(), flatten(b).unwrap());
        assert_eq!(meaning(a), meaning(b));
    }

    #[test]
    fn a_string_is_not_a_boolean_and_list_order_counts() {
        assert_ne!(meaning("a = true"), meaning("a = 'true'"));
        assert_ne!(meaning("a = [1, 2]"), meaning("a = [2, 1]"));
        assert_ne!(meaning("a = 1"), meaning("a = 1.0"));
    }

    #[test]
    fn keys_are_spelt_as_the_mapper_spells_them() {
        let flat = flatten("[[e]]\n[e.properties]\n'header.X-Y' = 'v'\n").unwrap();
        assert_eq!(flat.keys().collect::<Vec<_>>(), ["e[0].properties.'header.X-Y'"]);
    }

    #[test]
    fn a_broken_text_means_its_bytes() {
        assert!(flatten("a = ").is_err());
        assert_ne!(meaning("a = "), meaning("a =  "));
    }

    #[test]
    fn a_table_that_is_opened_after_its_child_configures_no_server() {
        let good =
            ["[a]\n[a.b]\n", "[a.b]\n[a.c]\n", "[[a]]\n[a.b]\n[[a]]\n[a.b]\n", "[a]\nb.c = 1\nb.d = 2\n"];
        for text in good {
            assert!(flatten(text).is_ok() && carbon::flatten::flatten(text).is_ok(), "{text}");
        }
        let bad = [
            ("[x]\n[a.b]\n[a]\n", "a", 10),
            ("[[a.b.c]]\nd = 1\n[a.b]\n", "a.b", 16),
            ("[[a]]\n[a.b.c]\n[a.b]\n", "a.b", 14),
            ("['x y'.b]\n['x y']\n", "'x y'", 10),
        ];
        for (text, table, offset) in bad {
            let table = table.to_owned();
            assert_eq!(flatten(text), Err(Unusable::Reopened { table, offset }), "{text}");
            assert!(
                matches!(carbon::flatten::flatten(text), Err(carbon::MapperError::Reopened(_))),
                "{text}"
            );
            assert!(flatten_any_order(text).is_ok(), "{text}");
            // It is an edit, whatever its keys.
            assert_ne!(meaning(text), meaning(&format!("{text}\n")));
        }
    }

    #[test]
    fn owned_keys_do_not_count_as_different() {
        let a = flatten("a = 1\n[encryption]\nkey = 'x'\n[secrets]\ndb = 'p'").unwrap();
        let b = flatten("a = 2\n").unwrap();
        assert_eq!(differing_keys(&a, &b, &owned()), ["a"]);
        assert_eq!(differing_keys(&b, &a, &owned()), ["a"]);
    }

    #[test]
    fn a_generated_key_is_carried_into_the_next_write() {
        let desired = "# top\n[server]\nhostname = \"a\"\n";
        let disk = "[server]\nhostname = \"old\"\n[encryption]\nkey = \"abc\"\n";
        let carried = carry_owned(desired, disk, None, &owned());
        assert!(carried.starts_with(desired), "{carried}");
        assert_eq!(flatten(&carried).unwrap()["encryption.key"], "\"abc\"");
        assert_eq!(flatten(&carried).unwrap()["server.hostname"], "\"a\"");
        assert_eq!(carry_owned(&carried, disk, None, &owned()), carried);
    }

    #[test]
    fn an_alias_that_was_encrypted_in_place_stays_until_it_is_declared_anew() {
        let desired = "[secrets]\ndb = \"[plain]\" # the database\n";
        let disk = "[secrets]\ndb = \"Y2lwaGVy\"\nextra = \"ZXh0cmE\"\n";
        let same = carry_owned(desired, disk, Some(desired), &owned());
        assert_eq!(same, "[secrets]\ndb = \"Y2lwaGVy\" # the database\nextra = \"ZXh0cmE\"\n");
        let rotated = carry_owned("[secrets]\ndb = \"[newer]\"\n", disk, Some(desired), &owned());
        assert!(rotated.starts_with("[secrets]\ndb = \"[newer]\"\n"), "{rotated}");
    }

    #[test]
    fn a_declared_key_beats_the_one_on_disk_and_broken_texts_change_nothing() {
        let desired = "[encryption]\nkey = \"ours\"\n";
        assert_eq!(
            carry_owned(desired, "[encryption]\nkey = \"theirs\"\n", Some(desired), &owned()),
            desired
        );
        assert_eq!(carry_owned(desired, "[encr", None, &owned()), desired);
        assert_eq!(carry_owned("a = ", "[encryption]\nkey = 'k'\n", None, &owned()), "a = ");
    }
}
