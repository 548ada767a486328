//! Sixth phase: durations such as `15m` are converted to the unit that the component expects.

use std::sync::{Arc, LazyLock};

use regex::Regex;

use crate::error::MapperError;
use crate::flatten::Flat;
use crate::value::{Table, Value};

/// unit-resolve.json: key to target unit, in file order.
#[derive(Debug, Default)]
pub struct Units {
    targets: Vec<(Arc<str>, Arc<str>)>,
}

/// Java's `\s`, `\d` and `\w` are ASCII.
static DURATION: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"([0-9]+(?:\.[0-9]+)?)[ \t\n\x0B\x0C\r]*([A-Za-z0-9_]*)").ok());

impl Units {
    /// Takes the file's object.
    pub fn new(object: &Table) -> Self {
        let Some(Value::Map(time)) = object.get("time") else { return Self::default() };
        let targets = time.iter().filter_map(|(key, unit)| match unit {
            Value::Text(unit) => Some((Arc::clone(key), Arc::clone(unit))),
            _ => None,
        });
        Self { targets: targets.collect() }
    }

    /// Keys with their target units.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.targets.iter().map(|(key, unit)| (key, unit))
    }

    /// Converts what is listed. Every listed key that is present becomes text.
    pub fn apply(&self, data: &mut Flat) -> Result<(), MapperError> {
        for (key, unit) in &self.targets {
            let Some(value) = data.get(key) else { continue };
            let converted = convert(value, unit, key)
                .map_err(|message| MapperError::Unit { key: Arc::clone(key), message })?;
            data.put(Arc::clone(key), Value::Text(Arc::from(converted)));
        }
        Ok(())
    }
}

fn convert(value: &Value, target: &str, key: &str) -> Result<String, String> {
    let text = match value {
        Value::Integer(_) | Value::Long(_) | Value::Double(_) => return Ok(value.to_java_string()),
        Value::Null => return Err(format!("Invalid value for configuration key {key}. Value is null")),
        Value::Text(text) => text,
        other => {
            return Err(format!(
                "Invalid value for configuration key {key}. Value type is {}",
                other.class_name()
            ));
        }
    };
    let captures = DURATION.as_ref().and_then(|pattern| pattern.captures(text));
    let Some(captures) = captures else { return Err(format!("Invalid configuration value {key} = {text}")) };
    if captures[2].is_empty() {
        return Ok(text.to_string());
    }
    // Decimals are cut off before the conversion: 1.5h is one hour.
    let number = captures[1].parse::<f64>().unwrap_or(0.0) as i64;
    let source = Unit::parse(&captures[2])?;
    let target = Unit::parse(target)?;
    let converted = source.in_unit(&target, number);
    if converted == 0 && number != 0 {
        return Err(format!(
            "Converted value result in 0 for non zero source value. key: {key}, value given = {text}, \
             converted value = 0 {}",
            target.name
        ));
    }
    Ok(converted.to_string())
}

/// `java.util.concurrent.TimeUnit`.
struct Unit {
    name: &'static str,
    millis: i128,
}

impl Unit {
    fn parse(suffix: &str) -> Result<Self, String> {
        let (name, millis) = match suffix {
            "d" => ("DAYS", 86_400_000),
            "h" => ("HOURS", 3_600_000),
            "m" => ("MINUTES", 60_000),
            "s" => ("SECONDS", 1_000),
            "ms" => ("MILLISECONDS", 1),
            other => return Err(format!("Invalid unit : {other}")),
        };
        Ok(Self { name, millis })
    }

    /// `TimeUnit.convert`: cut off, saturating.
    fn in_unit(&self, target: &Self, number: i64) -> i64 {
        let converted = i128::from(number) * self.millis / target.millis;
        converted.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &Value, unit: &str, expected: &str) {
        let shown = convert(value, unit, "k").unwrap_or_else(|message| message);
        assert_eq!(shown, expected);
    }

    #[test]
    fn durations_convert_as_java_does() {
        let table = [
            ("15m", "s", "900"),
            ("1.9h", "m", "60"),
            ("90 s", "m", "1"),
            ("300", "s", "300"),
            ("x 5m y", "s", "300"),
            (
                "59s",
                "m",
                "Converted value result in 0 for non zero source value. key: k, value given = 59s, converted value = 0 MINUTES",
            ),
            ("0s", "m", "0"),
            ("5w", "s", "Invalid unit : w"),
            ("never", "s", "Invalid configuration value k = never"),
            ("9223372036854775807d", "ms", "9223372036854775807"),
        ];
        for (value, unit, expected) in table {
            check(&Value::text(value), unit, expected);
        }
    }

    #[test]
    fn numbers_become_text_and_other_classes_are_refused() {
        check(&Value::Long(5), "s", "5");
        check(&Value::Double(600.0), "s", "600.0");
        check(
            &Value::Bool(true),
            "s",
            "Invalid value for configuration key k. Value type is java.lang.Boolean",
        );
        check(&Value::Null, "s", "Invalid value for configuration key k. Value is null");
    }
}
