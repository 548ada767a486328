//! Seventh phase: the rules of validator.json that the mapper enforces. Rules written as `match_regex` are dead.

use std::sync::Arc;

use regex::Regex;

use crate::error::MapperError;
use crate::flatten::Flat;
use crate::java;
use crate::value::{Table, Value};
use crate::work::Work;

/// validator.json, in file order.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// One rule on one key.
#[derive(Debug)]
pub struct Rule {
    /// The flat key, or `array:field`.
    pub key: Arc<str>,
    /// All of these must hold for the rule to count: key and value.
    pub conditions: Option<Table>,
    /// The expression that the whole value must match, as written.
    pub regex: Option<Arc<str>>,
    /// The expression of a rule that WSO2's code never reads.
    pub match_regex: Option<Arc<str>>,
    /// What to say instead of the standard sentence.
    pub error_message: Option<Arc<str>>,
    compiled: Option<Regex>,
}

impl Rules {
    /// Takes the file's object.
    pub fn new(object: &Table) -> Self {
        let mut rules = Vec::new();
        for (key, value) in object.iter() {
            let Value::List(items) = value else { continue };
            rules.extend(items.iter().filter_map(|item| match item {
                Value::Map(fields) => Some(Rule::new(key, fields)),
                _ => None,
            }));
        }
        Self { rules }
    }

    /// All rules, dead ones too.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// Checks in file order, stops at the first violation.
    pub fn check(&self, data: &Flat, work: &Work) -> Result<(), MapperError> {
        self.rules.iter().filter(|rule| rule.counts(data)).try_for_each(|rule| rule.check(data, work))
    }
}

impl Rules {
    /// Every violation, for those who want to know all of them at once.
    pub fn violations(&self, data: &Flat, work: &Work) -> Vec<MapperError> {
        let counting = self.rules.iter().filter(|rule| rule.counts(data));
        counting.filter_map(|rule| rule.check(data, work).err()).collect()
    }
}

impl Rule {
    fn new(key: &Arc<str>, fields: &Table) -> Self {
        let text = |name: &str| match fields.get(name) {
            Some(Value::Text(text)) => Some(Arc::clone(text)),
            _ => None,
        };
        let conditions = match fields.get("if") {
            Some(Value::Map(conditions)) => Some(conditions.clone()),
            _ => None,
        };
        let regex = text("regex");
        // `\Z` may stand before a final line end in Java, but `matches` wants the whole text, so `\z` is the same.
        let compiled =
            regex.as_ref().and_then(|r| java::regex(&format!(r"\A(?:{})\z", r.replace(r"\Z", r"\z"))));
        Self {
            key: Arc::clone(key),
            conditions,
            regex,
            match_regex: text("match_regex"),
            error_message: text("error_message"),
            compiled,
        }
    }

    /// Whether the rule's conditions hold.
    pub fn counts(&self, data: &Flat) -> bool {
        let Some(conditions) = &self.conditions else { return true };
        conditions.iter().all(|(key, wanted)| data.get(key) == Some(wanted))
    }

    /// Whether the values break the pattern that WSO2's code never looks at. False for patterns beyond this engine, and
    /// for empty ones, which allow nothing and mean anything.
    pub fn breaks_dead_pattern(&self, data: &Flat) -> bool {
        let pattern = self.match_regex.as_ref().filter(|pattern| !pattern.is_empty() && self.counts(data));
        let Some(pattern) = pattern else { return false };
        let Some(pattern) = java::regex(&format!(r"\A(?:{})\z", pattern.replace(r"\Z", r"\z"))) else {
            return false;
        };
        self.values(data).is_ok_and(|values| values.iter().any(|value| !pattern.is_match(value)))
    }

    fn check(&self, data: &Flat, work: &Work) -> Result<(), MapperError> {
        for value in self.values(data)? {
            // A regex that this engine cannot run (look-around) is not enforced here.
            let Some(pattern) = &self.compiled else { continue };
            // Matching takes at most text times expression.
            work.take_bytes(value.len().saturating_mul(1 + pattern.as_str().len() / 64))?;
            if !pattern.is_match(&value) {
                return Err(MapperError::Rule { key: Arc::clone(&self.key), message: self.message(&value) });
            }
        }
        Ok(())
    }

    fn message(&self, value: &str) -> String {
        if let Some(message) = &self.error_message {
            return message.to_string();
        }
        let regex = self.regex.as_deref().unwrap_or_default();
        let shown = if value.is_empty() { "an empty string" } else { value };
        format!("Validation failed for {}. Expected value to match \"{regex}\", but was {shown}", self.key)
    }

    fn values(&self, data: &Flat) -> Result<Vec<Arc<str>>, MapperError> {
        let parts: Vec<&str> = self.key.split(':').filter(|part| !part.is_empty()).collect();
        let [array, field] = parts[..] else {
            let value = data.get(&self.key).map_or(Ok(Arc::from("")), |value| self.text(value));
            return value.map(|value| vec![value]);
        };
        let Some(Value::List(items)) = data.get(&Arc::from(array)) else { return Ok(Vec::new()) };
        let maps = items.iter().filter_map(|item| match item {
            Value::Map(map) => Some(map),
            _ => None,
        });
        maps.map(|map| map.get(field).map_or(Ok(Arc::from("")), |value| self.text(value))).collect()
    }

    fn text(&self, value: &Value) -> Result<Arc<str>, MapperError> {
        match value {
            Value::Text(text) => Ok(Arc::clone(text)),
            Value::Null => Ok(Arc::from("")),
            other => {
                let class = other.class_name();
                let message = format!(
                    "class {class} cannot be cast to class java.lang.String ({class} and java.lang.String are in \
                     module java.base of loader 'bootstrap')"
                );
                Err(MapperError::RuleType { key: Arc::clone(&self.key), message })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, Value)]) -> Table {
        entries.iter().map(|(key, value)| (Arc::from(*key), value.clone())).collect()
    }

    fn check(rule: &[(&str, Value)], data: &[(&str, Value)], expected: &str) {
        let rules = Rules::new(&table(&[("k", Value::List(vec![Value::Map(table(rule))]))]));
        let mut flat = Flat::default();
        flat.put_all(table(data).into_entries());
        let shown =
            rules.check(&flat, &Work::default()).map_or_else(|error| error.to_string(), |()| "ok".into());
        assert_eq!(shown, expected);
    }

    #[test]
    fn only_regex_counts_and_the_whole_value_must_match() {
        let rule = [("regex", Value::text(r"\Aone\Z|two"))];
        check(&rule, &[("k", Value::text("one"))], "ok");
        check(
            &rule,
            &[("k", Value::text("ones"))],
            r#"Validation failed for k. Expected value to match "\Aone\Z|two", but was ones"#,
        );
        check(
            &rule,
            &[],
            r#"Validation failed for k. Expected value to match "\Aone\Z|two", but was an empty string"#,
        );
        check(&[("match_regex", Value::text("x"))], &[("k", Value::text("y"))], "ok");
    }

    #[test]
    fn conditions_compare_values_of_the_same_class() {
        let conditions = Value::Map(table(&[("on", Value::Bool(true))]));
        let rule =
            [("if", conditions), ("regex", Value::text(".+")), ("error_message", Value::text("k is needed"))];
        check(&rule, &[("on", Value::Bool(true))], "k is needed");
        check(&rule, &[("on", Value::text("true"))], "ok");
    }

    #[test]
    fn a_value_that_is_no_text_kills_the_mapper_even_under_a_dead_rule() {
        check(
            &[("match_regex", Value::text("x"))],
            &[("k", Value::Bool(true))],
            "class java.lang.Boolean cannot be cast to class java.lang.String (java.lang.Boolean and \
             java.lang.String are in module java.base of loader 'bootstrap')",
        );
    }
}
