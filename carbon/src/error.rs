//! Why the server would not start: the mapper's refusals, in WSO2's own words.

use std::sync::Arc;

use crate::java::ReplacementError;
use crate::toml::{Position, Reopened, TomlError};
use crate::work::{Exhausted, WORK_MAX};

/// A refusal of the config-mapper. `Display` is the first line of WSO2's message, character for character.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapperError {
    /// deployment.toml is not TOML as the mapper reads it. The errors are logged one by one before.
    #[error("Error parsing deployment configuration")]
    Toml { errors: Vec<TomlError> },
    /// A fault in a table's name, which the library throws instead of collecting.
    #[error("{0}")]
    TomlThrown(TomlError),
    /// A table is opened after a table inside it. The library takes that, and listing the keys then never ends: Java
    /// stops with a stack overflow.
    #[error("null")]
    Reopened(Reopened),
    /// A key with a quote inside cannot be looked up again.
    #[error("Invalid key: {message}")]
    Key { key: String, message: String },
    /// `[secrets]` is no table, or holds something else than text.
    #[error("{message}")]
    SecretType { message: String },
    /// key-mappings.json renames inside more than one level of arrays.
    #[error("Unknown key mapping key with multiple array elements: {key}")]
    MappingKey { key: String },
    /// The same, on the right-hand side.
    #[error("Unknown key mapping value with multiple array elements: {value}")]
    MappingValue { value: String },
    /// infer.json sends the mapper round in circles; Java ends with a stack overflow.
    #[error("null")]
    InferenceCycle { key: String },
    /// `$secret{alias}` without an alias in `[secrets]`.
    #[error("Secret references can't be resolved for {alias}")]
    SecretMissing { key: Arc<str>, alias: String },
    /// The secret is still `[plain text]`.
    #[error("Secret references can't be plain text for {alias}")]
    SecretPlain { key: Arc<str>, alias: String },
    /// `$sys{name}`: unset or empty.
    #[error("Error while retrieving {name} system property")]
    SystemProperty { key: Arc<str>, name: String },
    /// `$env{NAME}`: unset.
    #[error("Environment variable {name} not defined in system")]
    Environment { key: Arc<str>, name: String },
    /// The value of a variable holds `$` or `\`, which this mapper takes for regex syntax.
    #[error("{}", error.message)]
    Replacement { key: Arc<str>, name: String, error: ReplacementError },
    /// `$ref{key}`: no such key after mapping, inference and defaults.
    #[error("Configuration with key {missing} doesn't exist")]
    ReferenceMissing { missing: String, used_by: Vec<Arc<str>> },
    /// `$ref{}`s that wait for each other.
    #[error("References can't be resolved for {}", keys.join(","))]
    ReferenceCycle { keys: Vec<String> },
    /// A duration that cannot be converted.
    #[error("{message}")]
    Unit { key: Arc<str>, message: String },
    /// A rule of validator.json.
    #[error("{message}")]
    Rule { key: Arc<str>, message: String },
    /// A value of a class that the validator does not expect.
    #[error("{message}")]
    RuleType { key: Arc<str>, message: String },
    /// A key with an odd number of single quotes.
    #[error("Couldn't find matching ending \"'\" for sub key in flat key {key}")]
    Quote { key: Arc<str> },
    /// A template cannot be read or evaluated with these values.
    #[error("{message}")]
    Template {
        /// Path of the output file.
        file: Arc<str>,
        /// Line of the template, 0 when unknown.
        line: u32,
        message: String,
    },
    /// A limit of this program, not of the mapper, against endless work on hostile input.
    #[error("{what}: more than {limit} {unit}")]
    Limit { what: String, limit: usize, unit: &'static str },
}

impl From<Exhausted> for MapperError {
    fn from(_: Exhausted) -> Self {
        Self::Limit { what: "values and templates".into(), limit: WORK_MAX, unit: "units of work" }
    }
}

impl MapperError {
    /// The Java exception that carries the message, without its package.
    pub fn exception(&self) -> &'static str {
        match self {
            Self::TomlThrown(_) => "TomlParseError",
            Self::Key { .. } => "IllegalArgumentException",
            Self::SecretType { .. } => "TomlInvalidTypeException",
            Self::Reopened(_) | Self::InferenceCycle { .. } => "StackOverflowError",
            Self::RuleType { .. } => "ClassCastException",
            Self::Replacement { error, .. } => error.exception,
            Self::Template { .. } => "FatalTemplateErrorsException",
            Self::Limit { .. } => "Limit",
            Self::Toml { .. }
            | Self::MappingKey { .. }
            | Self::MappingValue { .. }
            | Self::SecretMissing { .. }
            | Self::SecretPlain { .. }
            | Self::SystemProperty { .. }
            | Self::Environment { .. }
            | Self::ReferenceMissing { .. }
            | Self::ReferenceCycle { .. }
            | Self::Unit { .. }
            | Self::Rule { .. }
            | Self::Quote { .. } => "ConfigParserException",
        }
    }

    /// Flat keys of the final names that have to do with the refusal, most telling first.
    pub fn keys(&self) -> Vec<&str> {
        match self {
            Self::SecretMissing { key, .. }
            | Self::SecretPlain { key, .. }
            | Self::SystemProperty { key, .. }
            | Self::Environment { key, .. }
            | Self::Replacement { key, .. }
            | Self::Unit { key, .. }
            | Self::Rule { key, .. }
            | Self::RuleType { key, .. }
            | Self::Quote { key } => vec![key],
            Self::Key { key, .. } | Self::InferenceCycle { key } => vec![key],
            Self::ReferenceMissing { missing, used_by } => {
                used_by.iter().map(|key| &**key).chain([missing.as_str()]).collect()
            }
            Self::ReferenceCycle { keys } => keys.iter().map(String::as_str).collect(),
            Self::Toml { .. }
            | Self::TomlThrown(_)
            | Self::Reopened(_)
            | Self::SecretType { .. }
            | Self::MappingKey { .. }
            | Self::MappingValue { .. }
            | Self::Template { .. }
            | Self::Limit { .. } => Vec::new(),
        }
    }

    /// The place in deployment.toml, when the refusal itself knows it.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Toml { errors } => errors.first().map(|error| error.position),
            Self::TomlThrown(error) => Some(error.position),
            Self::Reopened(reopened) => Some(reopened.header),
            _ => None,
        }
    }
}
