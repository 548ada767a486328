//! Third phase: infer.json adds values that follow from others (`type = "mysql"` brings driver and URL).

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use crate::error::MapperError;
use crate::flatten::Flat;
use crate::java;
use crate::value::{Ordered, Table, Value};
use crate::work::{Exhausted, Work};

/// infer.json: trigger key to cases. `$1` in a trigger stands for one word of the key.
#[derive(Debug, Default)]
pub struct Inference {
    triggers: Ordered<Trigger>,
}

#[derive(Debug)]
struct Trigger {
    /// What every matching key starts with: letters only, no dot.
    head: Arc<str>,
    pattern: Option<Regex>,
    /// `$n` with the number of the segment that it stands for.
    holes: Vec<(Arc<str>, usize)>,
    cases: Ordered<Table>,
}

/// One value that inference set: by which key with which value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The key as the user wrote it (after mapping), or as another inference set it.
    pub key: Arc<str>,
    /// Its value as text.
    pub value: String,
}

/// Deepest chain of inferences that trigger each other.
const DEPTH_MAX: usize = 200;

impl Inference {
    /// Takes the file's object. A trigger that is no regex never matches by pattern.
    pub fn new(object: &Table) -> Self {
        let triggers = object.iter().filter_map(|(key, value)| {
            let Value::Map(cases) = value else { return None };
            let cases = cases.iter().filter_map(|(case, values)| match values {
                Value::Map(values) => Some((Arc::clone(case), values.clone())),
                _ => None,
            });
            Some((Arc::clone(key), Trigger::new(key, cases.collect())))
        });
        Self { triggers: triggers.collect() }
    }

    /// Triggers with their cases and what each sets.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Ordered<Table>)> {
        self.triggers.iter().map(|(key, trigger)| (key, &trigger.cases))
    }

    /// The trigger that `key` sets off, by its own name or the first pattern in file order.
    pub fn trigger_of(&self, key: &str) -> Option<&Arc<str>> {
        self.find(key).map(|(name, _)| name)
    }

    /// Adds what follows. The user's values win; direct inference wins over inference by inference.
    pub fn apply(&self, data: &mut Flat, work: &Work) -> Result<BTreeMap<Arc<str>, Cause>, MapperError> {
        let mut inferred = Table::default();
        let mut causes = BTreeMap::new();
        for (key, value) in data.iter() {
            self.search(key, work)?;
            let Some((_, trigger)) = self.find(key) else { continue };
            work.take(value.weight())?;
            let text = value.to_java_string();
            work.take_bytes(text.len())?;
            let Some(case) = trigger.cases.get(&text) else { continue };
            let direct = trigger.substitute(case, key);
            work.take(direct.len())?;
            self.follow(&direct, (&mut inferred, &mut causes), 0, work)?;
            for (name, value) in direct.into_entries() {
                causes.insert(Arc::clone(&name), Cause { key: Arc::clone(key), value: text.clone() });
                inferred.put(name, value);
            }
        }
        for (_, value) in inferred.iter_mut() {
            if let Value::Double(number) = value
                && number.round_ties_even() == *number
            {
                *value = Value::Integer(*number as i32);
            }
        }
        for (key, value) in data.iter() {
            causes.remove(key);
            inferred.put(Arc::clone(key), value.clone());
        }
        data.clear();
        data.put_all(inferred.into_entries());
        Ok(causes)
    }

    /// Pays for a search.
    fn search(&self, key: &str, work: &Work) -> Result<(), Exhausted> {
        if self.triggers.contains_key(key) { work.take(1) } else { work.take(1 + self.triggers.len() / 8) }
    }

    fn find(&self, key: &str) -> Option<(&Arc<str>, &Trigger)> {
        if let Some(found) = self.triggers.get_key_value(key) {
            return Some(found);
        }
        self.triggers.iter().find(|(_, trigger)| {
            key.starts_with(&*trigger.head)
                && trigger.pattern.as_ref().is_some_and(|pattern| pattern.is_match(key))
        })
    }

    /// Inference by inferred values. Their own `$n` stay as they are, as in the mapper.
    fn follow(
        &self,
        set: &Table,
        (inferred, causes): (&mut Table, &mut BTreeMap<Arc<str>, Cause>),
        depth: usize,
        work: &Work,
    ) -> Result<(), MapperError> {
        for (key, value) in set.iter() {
            let Value::Text(text) = value else { continue };
            self.search(key, work)?;
            let Some(case) = self.find(key).and_then(|(_, trigger)| trigger.cases.get(text)) else {
                continue;
            };
            if DEPTH_MAX <= depth {
                return Err(MapperError::InferenceCycle { key: key.to_string() });
            }
            for (name, value) in case.iter() {
                work.take(value.weight())?;
                causes.insert(Arc::clone(name), Cause { key: Arc::clone(key), value: text.to_string() });
                inferred.put(Arc::clone(name), value.clone());
            }
            self.follow(case, (inferred, causes), depth + 1, work)?;
        }
        Ok(())
    }
}

impl Trigger {
    fn new(key: &str, cases: Ordered<Table>) -> Self {
        let holes: Vec<(Arc<str>, usize)> = key
            .split('.')
            .enumerate()
            .filter(|(_, segment)| is_hole(segment))
            .map(|(n, segment)| (Arc::from(segment), n))
            .collect();
        // Quantifiers may make the head optional; then there is none.
        let plain = !key.contains(['?', '*', '{', '|', '(', '[', '\\', '^']);
        let head = key.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().filter(|_| plain);
        Self { head: Arc::from(head.unwrap_or_default()), pattern: java::regex(&pattern(key)), holes, cases }
    }

    fn substitute(&self, case: &Table, key: &str) -> Table {
        if self.holes.is_empty() {
            return case.clone();
        }
        let segments: Vec<&str> = key.split('.').collect();
        let fill = |text: &str| {
            let mut text = text.to_owned();
            for (hole, n) in &self.holes {
                text = text.replace(&**hole, segments.get(*n).copied().unwrap_or_default());
            }
            Arc::<str>::from(text)
        };
        let mut filled = Table::default();
        for (name, value) in case.iter() {
            let value = match value {
                Value::Text(text) => Value::Text(fill(text)),
                other => other.clone(),
            };
            // Two names may become one; the later then stands at the end, as after Java's remove and put.
            let name = fill(name);
            filled.remove(&name);
            filled.put(name, value);
        }
        filled
    }
}

fn is_hole(segment: &str) -> bool {
    segment
        .strip_prefix('$')
        .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// The trigger as an anchored regex. Its dots match any character: the mapper does not escape them.
fn pattern(key: &str) -> String {
    let mut pattern = String::from("^(?:");
    let mut chars = key.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '$' && chars.peek().is_some_and(char::is_ascii_digit) {
            while chars.peek().is_some_and(char::is_ascii_digit) {
                chars.next();
            }
            pattern.push_str("[A-Za-z0-9_]+");
        } else {
            pattern.push(c);
        }
    }
    pattern.push_str(")$");
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Value)]) -> Value {
        Value::Map(entries.iter().map(|(key, value)| (Arc::from(*key), value.clone())).collect())
    }

    fn inference() -> Inference {
        let Value::Map(object) = map(&[
            (
                "db.$1.type",
                map(&[(
                    "mysql",
                    map(&[
                        ("db.$1.driver", Value::text("com.$1")),
                        ("db.$1.port", Value::Double(3306.0)),
                        ("mode", Value::text("sql")),
                    ]),
                )]),
            ),
            ("mode", map(&[("sql", map(&[("level", Value::Double(0.5)), ("mode", Value::text("deep"))]))])),
            ("flag", map(&[("true", map(&[("level", Value::text("flagged"))]))])),
        ]) else {
            unreachable!()
        };
        Inference::new(&object)
    }

    fn check(data: &[(&str, Value)], expected: &str) {
        let mut flat = Flat::default();
        flat.put_all(data.iter().map(|(key, value)| (Arc::from(*key), value.clone())).collect());
        inference().apply(&mut flat, &Work::default()).unwrap();
        let mut lines: Vec<String> =
            flat.iter().map(|(k, v)| format!("{k}={}", v.to_java_string())).collect();
        lines.sort();
        assert_eq!(lines.join(" "), expected);
    }

    #[test]
    fn a_case_fills_its_holes_and_whole_numbers_become_integers() {
        check(
            &[("db.a.type", Value::text("mysql"))],
            "db.a.driver=com.a db.a.port=3306 db.a.type=mysql level=0.5 mode=sql",
        );
    }

    #[test]
    fn direct_inference_beats_inference_by_inference_and_the_user_beats_both() {
        check(
            &[("db.a.type", Value::text("mysql")), ("mode", Value::text("mine"))],
            "db.a.driver=com.a db.a.port=3306 db.a.type=mysql level=0.5 mode=mine",
        );
    }

    #[test]
    fn booleans_match_by_their_text_and_references_match_nothing() {
        check(&[("flag", Value::Bool(true))], "flag=true level=flagged");
        check(&[("db.a.type", Value::text("$env{T}"))], "db.a.type=$env{T}");
    }

    #[test]
    fn dots_of_a_trigger_match_any_character() {
        assert_eq!(inference().trigger_of("dbxaytype").map(|t| &**t), Some("db.$1.type"));
        assert_eq!(inference().trigger_of("db.a-b.type"), None);
    }
}
