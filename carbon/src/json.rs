//! JSON files of a pack, read as gson reads them: every number a double, order kept.

use std::fmt;
use std::sync::Arc;

use serde_json::de::Deserializer;

use crate::value::{Table, Value};

/// Why a JSON file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, too deep (128 levels), or cut off.
    #[error("line {line}, column {column}: not valid JSON")]
    Syntax { line: usize, column: usize, source: serde_json::Error },
    /// The top level is no object.
    #[error("the top level is not an object")]
    NotAnObject,
    /// gson refuses a key that stands twice at the top.
    #[error("duplicate key: {0}")]
    Duplicate(String),
}

/// Reads the object at the top of a file.
pub fn object(bytes: &[u8]) -> Result<Table, JsonError> {
    let mut deserializer = Deserializer::from_slice(bytes);
    let parsed = serde::de::Deserialize::deserialize(&mut deserializer)
        .and_then(|json: Json| deserializer.end().map(|()| json))
        .map_err(|source| JsonError::Syntax { line: source.line(), column: source.column(), source })?;
    if let Some(key) = parsed.duplicate {
        return Err(JsonError::Duplicate(key));
    }
    match parsed.value {
        Value::Map(table) => Ok(table),
        _ => Err(JsonError::NotAnObject),
    }
}

struct Json {
    value: Value,
    duplicate: Option<String>,
}

impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Visitor)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(plain(Value::Double(value as f64)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(plain(Value::Double(value as f64)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(plain(Value::Double(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(plain(Value::text(value)))
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(plain(Value::Null))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Json>()? {
            list.push(item.value);
        }
        Ok(plain(Value::List(list)))
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let mut table = Table::default();
        let mut duplicate = None;
        while let Some((key, value)) = entries.next_entry::<String, Json>()? {
            if table.contains_key(&key) {
                duplicate = duplicate.or_else(|| Some(key.clone()));
            }
            table.put(Arc::from(key), value.value);
        }
        Ok(Json { value: Value::Map(table), duplicate })
    }
}

fn plain(value: Value) -> Json {
    Json { value, duplicate: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_doubles_and_order_is_kept() {
        let table = object(br#"{"z": 600, "a": [true, null, "x"], "m": {"k": 1.5}}"#).unwrap();
        assert_eq!(Value::Map(table).to_java_string(), "{z=600.0, a=[true, null, x], m={k=1.5}}");
    }

    #[test]
    fn bad_files_are_refused_with_a_place() {
        let deep = format!("{}1{}", "[".repeat(4000), "]".repeat(4000));
        let table = [
            ("{\"a\": ", "line 1, column 6: not valid JSON"),
            ("[]", "the top level is not an object"),
            ("{\"a\": 1, \"a\": 2}", "duplicate key: a"),
            (deep.as_str(), "line 1, column 128: not valid JSON"),
        ];
        for (text, message) in table {
            assert_eq!(object(text.as_bytes()).unwrap_err().to_string(), message);
        }
        assert!(object(b"{\"a\": {\"b\": 1, \"b\": 2}}").is_ok(), "gson lets inner duplicates pass");
    }
}
