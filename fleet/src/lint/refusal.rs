//! Why the server would not start, in a sentence that says what to do.

use std::sync::Arc;

use carbon::{
    MapperError, Value,
    flatten::{Flattened, flatten},
    toml::Position,
};

use super::{PackFacts, Subject};
use crate::{
    finding::{Finding, Place, is_secret_key},
    spec::report::Report,
};

/// A refusal explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// What is wrong, one sentence without a full stop.
    pub why: String,
    /// What to do, one sentence without a full stop.
    pub remedy: String,
}

/// What a refusal of the mapper means for the one who wrote the file.
pub fn explain(error: &MapperError) -> Explained {
    let (why, remedy) = match error {
        MapperError::Toml { errors } => {
            let first = errors.first().map_or_else(String::new, |error| error.message.clone());
            (format!("the file is not TOML as the server's parser reads it: {first}"), "correct the line; inline tables must stand on one line, lists hold one kind of value".to_owned())
        }
        MapperError::TomlThrown(_) | MapperError::Key { .. } => {
            ("a name in it cannot be read by the server's parser".to_owned(), "use letters, digits, '_' and '-' in names, and quote others".to_owned())
        }
        MapperError::Reopened(reopened) => {
            (
                format!("[{}] is opened after a table inside it (line {}), and the server's parser then goes round in circles until it dies", reopened.table, reopened.child.line),
                format!("move [{}] and its keys above the first table inside it", reopened.table),
            )
        }
        MapperError::SecretType { .. } => {
            ("[secrets] may hold texts only".to_owned(), "write alias = \"...\"".to_owned())
        }
        MapperError::MappingKey { .. } | MapperError::MappingValue { .. } => {
            ("key-mappings.json of the pack is broken, whatever the file says".to_owned(), "restore the pack's resources".to_owned())
        }
        MapperError::InferenceCycle { key } => {
            (format!("infer.json of the pack goes round in circles from {key}"), "restore the pack's resources".to_owned())
        }
        MapperError::SecretMissing { key, alias } => {
            (format!("{key} uses $secret{{{alias}}}, and [secrets] has no {alias}"), format!("add {alias} to [secrets], or correct the alias"))
        }
        MapperError::SecretPlain { alias, .. } => {
            (format!("the secret {alias} is still plain text in brackets"), "run ciphertool, or start once with -DencryptSecrets".to_owned())
        }
        MapperError::SystemProperty { key, name } => {
            (format!("{key} uses $sys{{{name}}}, which is unset or empty"), format!("start the server with -D{name}=VALUE"))
        }
        MapperError::Environment { key, name } => {
            (format!("{key} uses $env{{{name}}}, which the server's environment lacks"), format!("set {name} in the server's environment; `env` of the node or group does that"))
        }
        MapperError::Replacement { key, name, .. } => {
            (format!("{key} uses {name}, whose value holds $ or \\, which this version takes for a pattern"), "write each $ and \\ of the value with a \\ before it, or update the server".to_owned())
        }
        MapperError::ReferenceMissing { missing, used_by } => missing_reference(missing, used_by.first().map(|key| &**key)),
        MapperError::ReferenceCycle { keys } => {
            (format!("these keys refer to each other: {}", keys.join(", ")), "give one of them a plain value".to_owned())
        }
        MapperError::Unit { key, .. } => {
            (format!("{key} is a duration, and its value cannot be converted"), "write a number with one of d, h, m, s, ms, and not so short that nothing is left in the unit that the server counts in".to_owned())
        }
        MapperError::Rule { key, .. } => {
            (format!("the value of {key} breaks a rule of the product"), "choose a value that the message allows".to_owned())
        }
        MapperError::RuleType { key, .. } => {
            (format!("{key} must be a text: the product checks it against a pattern"), "put the value in quotes".to_owned())
        }
        MapperError::Quote { key } => (format!("the name {key} has an odd number of single quotes"), "name the key without quotes inside".to_owned()),
        MapperError::Template { file, line, .. } => {
            (format!("the template of {file} cannot be evaluated with these values (its line {line})"), "check the kinds of the values that go into this file: lists, tables, texts".to_owned())
        }
        MapperError::Limit { .. } => ("the input is beyond what Convoy evaluates".to_owned(), "shorten it".to_owned()),
        _ => ("the product refuses this configuration".to_owned(), "correct what the message names".to_owned()),
    };
    Explained { why, remedy }
}

fn missing_reference(missing: &str, used_by: Option<&str>) -> (String, String) {
    let user = used_by.map_or_else(String::new, |key| format!(", which {key} refers to"));
    (
        format!("there is no {missing}{user}; neither the file nor the product's defaults set it"),
        format!("set {missing}"),
    )
}

/// The line that causes a refusal: where the refusal itself says, or where the first of its keys was typed, under its
/// name before or after mapping, or the table that lacks it.
pub fn place(
    subject: &Subject<'_>,
    facts: Option<&PackFacts>,
    error: &MapperError,
    typed: Option<&Flattened>,
) -> Option<Place> {
    if let Some(position) = error.position() {
        return subject.place("", Some(position));
    }
    let typed = typed?;
    if let Some((key, position)) = facts.and_then(|facts| template_key(facts, error, typed)) {
        return subject.place(&key.replace("[]", "[0]"), Some(position));
    }
    let keys = error.keys();
    let mut names: Vec<&str> = Vec::new();
    for key in &keys {
        names.push(key);
        let known = facts.and_then(|facts| facts.known.get(key));
        names.extend(known.into_iter().flat_map(|facts| facts.mapped_from.iter().map(|old| &**old)));
    }
    let typed_key = names.iter().find_map(|key| {
        let position = typed.positions.get(*key).copied()?;
        subject.place(key, Some(position))
    });
    typed_key.or_else(|| near(subject, typed, &keys))
}

/// The typed key that a template was about to read when it failed: on its very line, or nearest to it.
fn template_key(facts: &PackFacts, error: &MapperError, typed: &Flattened) -> Option<(String, Position)> {
    let MapperError::Template { file, line, .. } = error else { return None };
    let known = &facts.known;
    let mut best: Option<(u32, String, Position)> = None;
    for (key, position) in carbon::flatten::written(&typed.positions) {
        let targets = known.find(&key).map_or(&[][..], |(_, facts)| &facts.mapped_to);
        let names = std::iter::once(key.as_str()).chain(targets.iter().map(|target| &**target));
        let uses = names.flat_map(|name| known.uses(name)).filter(|(usage, _)| usage.file == *file);
        let Some(far) = uses.map(|(usage, _)| usage.line.abs_diff(*line)).min() else { continue };
        if best.as_ref().is_none_or(|(least, _, at)| (far, position) < (*least, *at)) {
            best = Some((far, key, position));
        }
    }
    best.map(|(_, key, position)| (key, position))
}

/// A key that was not typed is missed in its table: the first line of the nearest table that is there.
fn near(subject: &Subject<'_>, typed: &Flattened, keys: &[&str]) -> Option<Place> {
    let tables = keys.iter().rev().flat_map(|key| key.rmatch_indices('.').map(|(end, _)| &key[..=end]));
    tables.into_iter().find_map(|table| {
        let inside = typed.positions.iter().filter(|(key, _)| key.starts_with(table));
        let (key, position) = inside.min_by_key(|(_, position)| **position)?;
        subject.place(key, Some(*position))
    })
}

/// The refusal as a finding, with the line that causes it.
pub fn finding(subject: &Subject<'_>, facts: &PackFacts, error: &MapperError) -> Option<Finding> {
    let typed = flatten(subject.text).ok();
    let mut one = Report::default();
    one.node = subject.node.cloned();
    report(subject, Some(facts), (error, typed.as_ref()), &mut one);
    one.into_findings().pop()
}

pub(super) fn report(
    subject: &Subject<'_>,
    facts: Option<&PackFacts>,
    (error, typed): (&MapperError, Option<&Flattened>),
    report: &mut Report,
) {
    let explained = explain(error);
    let key = facts.zip(typed).and_then(|(facts, typed)| template_key(facts, error, typed));
    let because = key.map_or_else(String::new, |(key, _)| format!(", most likely with {key}"));
    report.error(
        "CV501",
        place(subject, facts, error, typed),
        format!("the server would not start: {}{because} ({})", explained.why, words(error)),
        explained.remedy,
    );
}

/// Whether a refusal may only come from the values that stand for unknown variables.
pub(super) fn is_made_up(error: &MapperError, typed: &Flattened) -> bool {
    let from_variable = |key: &str| match typed.data.get(&Arc::from(key)) {
        Some(Value::Text(text)) => text.contains("$env{") || text.contains("$sys{"),
        _ => false,
    };
    matches!(error, MapperError::Unit { .. } | MapperError::Rule { .. })
        && error.keys().iter().any(|key| from_variable(key))
}

/// WSO2's own words, without values: a rule's message quotes the value, which may be a secret. An exception without a
/// message is named.
pub fn words(error: &MapperError) -> String {
    match error {
        MapperError::Reopened(_) | MapperError::InferenceCycle { .. } => {
            format!("java.lang.{}", error.exception())
        }
        MapperError::Rule { key, .. } if is_secret_key(key) => format!("Validation failed for {key}"),
        other => other.to_string(),
    }
}
