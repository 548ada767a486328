//! The configuration step's input: deployment.toml, parsed and resolved, or refused in the mapper's own words.
//!
//! Not the whole of WSO2's mapper: no key mapping and no inference. What matters here is which files end a start,
//! with which message, and which few keys the stand-in itself obeys.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use sha2::{Digest, Sha256};
use toml::Value;

/// Path of the input below the home.
pub const FILE: &str = "repository/conf/deployment.toml";

/// A deployment.toml that the server accepts.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub text: String,
    /// Lower-case hex SHA-256 of the bytes.
    pub digest: String,
    /// Every scalar and array by its dotted key, `$env{}` and `$sys{}` resolved.
    pub flat: BTreeMap<String, Value>,
    /// `env:X` and `sys:X` with the values used, as `references.properties` keeps them.
    pub references: BTreeMap<String, String>,
}

/// Why the server exits 1.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Logged by `TomlParser` before the failure is reported.
    #[error("Error parsing deployment configuration")]
    Syntax { message: String },
    #[error("Environment variable {0} not defined in system")]
    Environment(String),
    #[error("Error while retrieving {0} system property")]
    Property(String),
    #[error("Secret references can't be resolved for {0}")]
    SecretUnknown(String),
    #[error("Secret references can't be plain text for {0}")]
    SecretPlain(String),
    #[error("Error parsing file {path}")]
    Read { path: String, source: io::Error },
}

/// Where references get their values from.
pub struct Sources<'a> {
    pub environment: &'a dyn Fn(&str) -> Option<String>,
    pub properties: &'a BTreeMap<String, String>,
}

impl Config {
    /// Reads the file of `home`; `None` if there is none, which the server survives.
    pub fn read(home: &Path, sources: &Sources<'_>) -> Result<Option<Config>, ConfigError> {
        let path = home.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) => Config::parse(text, sources).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ConfigError::Read { path: path.display().to_string(), source }),
        }
    }

    fn parse(text: String, sources: &Sources<'_>) -> Result<Config, ConfigError> {
        let table: toml::Table =
            text.parse().map_err(|error| ConfigError::Syntax { message: syntax_message(&text, &error) })?;
        let mut flat = BTreeMap::new();
        flatten("", &table, &mut flat);
        check_secrets(&flat)?;
        let mut resolver = Resolver { sources, references: BTreeMap::new() };
        for value in flat.values_mut() {
            resolver.resolve(value)?;
        }
        let digest = hex(&Sha256::digest(text.as_bytes()));
        Ok(Config { digest, references: resolver.references, flat, text })
    }

    /// `[server] offset`; a value that is no number is ignored without a word, as the product does.
    pub fn offset(&self) -> u16 {
        self.text_of("server.offset").and_then(|offset| offset.trim().parse().ok()).unwrap_or(0)
    }

    /// Whether a key is switched on, by a boolean or by its text.
    pub fn is_on(&self, key: &str) -> bool {
        self.text_of(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// Whether any value is a secret, which the server looks up in its vault while it runs.
    pub fn has_secrets(&self) -> bool {
        let mut found = false;
        for value in self.flat.values() {
            each_text(value, &mut |text| found |= text.contains("$secret{"));
        }
        found
    }

    /// A value as the generated files would print it.
    pub fn text_of(&self, key: &str) -> Option<String> {
        self.flat.get(key).map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
    }
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn flatten(prefix: &str, table: &toml::Table, flat: &mut BTreeMap<String, Value>) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) => flatten(&path, inner, flat),
            leaf => {
                flat.insert(path, leaf.clone());
            }
        }
    }
}

fn check_secrets(flat: &BTreeMap<String, Value>) -> Result<(), ConfigError> {
    let external = flat.get("runtime_secrets.enable").and_then(Value::as_str) == Some("true");
    let mut failure = None;
    for value in flat.values() {
        each_text(value, &mut |text| {
            for alias in placeholders(text, "$secret{") {
                let quoted = format!("secrets.{alias}");
                match flat.get(&quoted).and_then(Value::as_str) {
                    None if external => {}
                    None => failure = Some(ConfigError::SecretUnknown(alias.to_owned())),
                    Some(secret) if secret.starts_with('[') && secret.ends_with(']') => {
                        failure = Some(ConfigError::SecretPlain(alias.to_owned()));
                    }
                    Some(_) => {}
                }
            }
        });
    }
    failure.map_or(Ok(()), Err)
}

fn each_text(value: &Value, see: &mut dyn FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, see)),
        Value::Table(table) => table.values().for_each(|item| each_text(item, see)),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn placeholders<'t>(text: &'t str, open: &str) -> Vec<&'t str> {
    text.split(open).skip(1).filter_map(|rest| rest.split_once('}').map(|(name, _)| name)).collect()
}

struct Resolver<'a> {
    sources: &'a Sources<'a>,
    references: BTreeMap<String, String>,
}

impl Resolver<'_> {
    fn resolve(&mut self, value: &mut Value) -> Result<(), ConfigError> {
        match value {
            Value::String(text) => *text = self.substitute(text)?,
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.resolve(item))?,
            Value::Table(table) => table.iter_mut().try_for_each(|(_, item)| self.resolve(item))?,
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
        }
        Ok(())
    }

    fn substitute(&mut self, text: &str) -> Result<String, ConfigError> {
        let mut out = text.to_owned();
        for name in placeholders(text, "$sys{") {
            // The mapper takes an empty property for a missing one.
            let value = self.sources.properties.get(name).filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| ConfigError::Property(name.to_owned()))?;
            out = out.replace(&format!("$sys{{{name}}}"), value);
            self.references.insert(format!("sys:{name}"), value.clone());
        }
        for name in placeholders(text, "$env{") {
            let value = (self.sources.environment)(name);
            let value = value.ok_or_else(|| ConfigError::Environment(name.to_owned()))?;
            out = out.replace(&format!("$env{{{name}}}"), &value);
            self.references.insert(format!("env:{name}"), value);
        }
        Ok(out)
    }
}

/// Says a syntax error in the words of the mapper's TOML parser, as far as its errors are known.
fn syntax_message(text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let (line, column) = position(text, at);
    if error.message().contains("duplicate key") {
        let name = name_at(text, at);
        // For a table the position is that of its bracket, not of its name.
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let header = text[start..].trim_start().starts_with('[').then_some(start);
        let (line, column) = position(text, header.unwrap_or(at));
        let (first_line, first_column) = position(text, first_definition(text, &name).unwrap_or(0));
        return format!(
            "{name} previously defined at line {first_line}, column {first_column} (line {line}, column {column})"
        );
    }
    let rest = text.get(at..).unwrap_or("");
    let unexpected = match rest.chars().next() {
        None => "end of input".to_owned(),
        Some('\n' | '\r') => "end of line".to_owned(),
        Some(first) => format!("'{first}'"),
    };
    let before = text.get(..at).unwrap_or("").trim_end_matches([' ', '\t']);
    let expected = if before.ends_with('=') {
        "', \", ''', \"\"\", a number, a boolean, a date/time, an array, or a table"
    } else if text.lines().nth(line - 1).is_some_and(|line| line.trim_start().starts_with('[')) {
        "] or ."
    } else {
        "a newline or end-of-input"
    };
    format!("Unexpected {unexpected}, expected {expected} (line {line}, column {column})")
}

/// Line and column from 1, in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

fn name_at(text: &str, at: usize) -> String {
    let start = text.get(..at).unwrap_or("").rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or("").trim();
    if line.starts_with('[') {
        return line.trim_matches(['[', ']', ' ']).to_owned();
    }
    line.split('=').next().unwrap_or("").trim().to_owned()
}

fn first_definition(text: &str, name: &str) -> Option<usize> {
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let found = name_at(line, 0) == name && !line.trim().is_empty();
        if found {
            return Some(at + (line.len() - line.trim_start().len()));
        }
        at += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        let properties = BTreeMap::from([("role".to_owned(), "km".to_owned())]);
        let environment = |name: &str| (name == "HOST").then(|| "is.example".to_owned());
        Config::parse(text.to_owned(), &Sources { environment: &environment, properties: &properties })
    }

    fn syntax(text: &str) -> String {
        match parse(text) {
            Err(ConfigError::Syntax { message }) => message,
            other => panic!("expected a syntax error, got {other:?}"),
        }
    }

    #[test]
    fn a_key_without_value_is_told_as_the_product_tells_it() {
        assert_eq!(
            syntax("[server]\noops = \n"),
            "Unexpected end of line, expected ', \", ''', \"\"\", a number, a boolean, a date/time, an array, or a table (line 2, column 8)"
        );
    }

    #[test]
    fn a_table_defined_twice_names_the_first_place() {
        assert_eq!(
            syntax("[server]\noffset = 1\n\n[server]\nhostname = \"x\"\n"),
            "server previously defined at line 1, column 1 (line 4, column 1)"
        );
    }

    #[test]
    fn references_are_resolved_in_strings_arrays_and_tables_of_arrays() {
        let config =
            parse("a = \"$env{HOST}/$sys{role}\"\n[[b]]\nc = [\"$env{HOST}\"]\n").expect("a good file");
        assert_eq!(config.text_of("a").as_deref(), Some("is.example/km"));
        assert_eq!(config.references["env:HOST"], "is.example");
        assert_eq!(config.flat["b"].as_array().map(|b| b[0]["c"][0].as_str()), Some(Some("is.example")));
    }

    #[test]
    fn what_cannot_be_resolved_ends_the_start() {
        let cases = [
            ("a = \"$env{NOPE}\"", "Environment variable NOPE not defined in system"),
            ("a = \"$sys{nope}\"", "Error while retrieving nope system property"),
            ("a = \"$secret{x}\"", "Secret references can't be resolved for x"),
            ("a = \"$secret{x}\"\n[secrets]\nx = \"[plain]\"", "Secret references can't be plain text for x"),
        ];
        for (text, message) in cases {
            assert_eq!(parse(text).expect_err(text).to_string(), message);
        }
    }

    /// The product's own verdicts are kept beside the project where it is developed.
    #[test]
    fn what_the_products_mapper_accepted_is_accepted() {
        let facts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/wso2");
        let Ok(variables) = fs::read_to_string(facts.join("golden/env.txt")) else {
            println!("skipped: no recorded verdicts at {}", facts.display());
            return;
        };
        let variables: BTreeMap<&str, &str> =
            variables.lines().filter_map(|line| line.split_once('=')).collect();
        let environment = |name: &str| variables.get(name).map(|value| (*value).to_owned());
        let properties = BTreeMap::from([("carbon.home".to_owned(), "/opt/wso2".to_owned())]);
        let mut accepted = 0;
        for pack in ["apim-4.2.0", "apim-4.5.0", "is-6.0.0", "is-7.2.0"] {
            let verdicts = facts.join("golden").join(pack).join("results.tsv");
            let verdicts = fs::read_to_string(verdicts).expect("verdicts");
            for sample in verdicts.lines().filter_map(|line| line.strip_suffix("\tok")) {
                let path = match sample {
                    "default" => facts.join("packs").join(pack).join(FILE),
                    sample => facts.join("samples").join(format!("{sample}.toml")),
                };
                let text =
                    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let sources = Sources { environment: &environment, properties: &properties };
                let verdict = Config::parse(text, &sources);
                assert!(verdict.is_ok(), "{pack} {sample}: {:?}", verdict.err());
                accepted += 1;
            }
        }
        assert!(50 < accepted, "{accepted}");
    }

    #[test]
    fn an_offset_that_is_no_number_counts_as_none() {
        assert_eq!(parse("[server]\noffset = \"abc\"").expect("accepted").offset(), 0);
        assert_eq!(parse("[server]\noffset = 3").expect("accepted").offset(), 3);
        assert_eq!(parse("[server]\noffset = \"4\"").expect("accepted").offset(), 4);
    }
}
