//! `convoy explain KEY`: what a key of deployment.toml is, where it ends up, what sets it and what it sets.

use std::{fs, path::Path};

use carbon::{Value, known::Facts};
use fleet::{
    finding::{MASK, is_secret_key},
    lint::PackFacts,
    product::{Product, built_in},
    spec::canonical::is_owned,
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    pack,
    request::Explain,
    screen::Screen,
    text::{Cell, Table, Tone},
    wait,
};

/// Most lines of one list.
const SHOWN: usize = 40;

/// Output of `explain`.
#[derive(Debug, Default, Serialize)]
struct Explanation {
    /// As the product's resources name it: `[]` an element, `*` any name, `$1` any word.
    key: String,
    /// Old names are renamed before anything else.
    renamed_to: Vec<String>,
    renamed_from: Vec<String>,
    kind: String,
    default: Option<String>,
    /// What durations are converted to.
    unit: Option<String>,
    set_by: Vec<String>,
    sets: Vec<String>,
    rules: Vec<String>,
    /// Where the rendered files show or depend on it.
    places: Vec<String>,
    /// Sub-keys, for a table.
    keys: Vec<String>,
    notes: Vec<String>,
}

/// Explains.
///
/// # Errors
/// The key is unknown, or nothing can be read.
pub fn run(request: &Explain, screen: &mut Screen) -> Result<Exit, Failure> {
    let explanation = match &request.pack {
        Some(home) => from_pack(request, home)?,
        None => from_profile(request)?,
    };
    screen.programs(&explanation);
    let style = wait::style(screen);
    let mut table = Table::indented(0);
    let mut row = |name: &str, values: &[String]| {
        for (n, value) in values.iter().enumerate() {
            let name = if n == 0 { name } else { "" };
            table.row([Cell::toned(Tone::Faint, name), Cell::plain(value.clone())]);
        }
    };
    row("key", std::slice::from_ref(&explanation.key));
    row("renamed to", &explanation.renamed_to);
    row("also written", &explanation.renamed_from);
    row("kind", std::slice::from_ref(&explanation.kind));
    row("default", explanation.default.as_slice());
    row("unit", explanation.unit.as_slice());
    row("set by", &explanation.set_by);
    row("sets", &explanation.sets);
    row("rule", &explanation.rules);
    row("ends up in", &explanation.places);
    row("holds", &explanation.keys);
    row("note", &explanation.notes);
    let text = table.render(style);
    screen.people(&text);
    Ok(Exit::Done)
}

/// What the built-in profile says; it knows products, not their keys.
fn from_profile(request: &Explain) -> Result<Explanation, Failure> {
    let id = request.product.as_deref().unwrap_or_default();
    let product = built_in().get(id).ok_or_else(|| {
        let known: Vec<&str> = built_in().keys().map(String::as_str).collect();
        Failure::failed(format!("there is no product {id}"), format!("use one of {}", known.join(", ")))
    })?;
    let key = normal(&request.key);
    let mut explanation =
        Explanation { kind: "unknown without the pack".to_owned(), ..Explanation::default() };
    notes(&key, Some(product), &mut explanation.notes);
    explanation.notes.push(format!(
        "what {} knows of its keys stands in its pack: add --pack HOME for default, kind, places and inference",
        product.title
    ));
    explanation.key = key;
    Ok(explanation)
}

fn from_pack(request: &Explain, home: &Path) -> Result<Explanation, Failure> {
    let pack = pack::read(home)?;
    let key = normal(&request.key);
    let found = pack.known.find(&key);
    let shape = pack.known.shape(&key);
    let below = below(&pack, &key);
    let Some((name, facts)) = found else {
        if below.is_empty() {
            return Err(unknown(&pack, &key));
        }
        let mut explanation = Explanation { keys: below, ..Explanation::default() };
        explanation.kind = if shape.list_of_tables {
            format!("a list of tables: [[{key}]]")
        } else {
            format!("a table: [{key}]")
        };
        explanation.key = key;
        return Ok(explanation);
    };
    let product = request.product.as_deref().and_then(|id| built_in().get(id));
    let mut explanation = of_facts(name, facts, shape);
    let mut all: Vec<&Facts> = vec![facts];
    all.extend(facts.mapped_to.iter().filter_map(|target| pack.known.get(target)));
    for target in &all[1..] {
        let of_target = of_facts(name, target, shape);
        explanation.kind = of_target.kind;
        explanation.default = explanation.default.or(of_target.default);
        explanation.unit = explanation.unit.or(of_target.unit);
        explanation.set_by.extend(of_target.set_by);
        explanation.sets.extend(of_target.sets);
    }
    explanation.rules = rules(&pack, name, facts);
    explanation.keys = below;
    let toml = request.toml.clone().unwrap_or_else(|| home.join("repository/conf/deployment.toml"));
    places(&pack, &all, &toml, &mut explanation)?;
    notes(&key, product, &mut explanation.notes);
    if explanation.places.is_empty() {
        explanation
            .notes
            .push("no file is made from it; a component may still read it at run time".to_owned());
    }
    Ok(explanation)
}

fn unknown(pack: &PackFacts, key: &str) -> Failure {
    let remedy = pack.known.nearest(key).map_or_else(
        || "the server ignores keys that it does not know, without a word".to_owned(),
        |nearest| format!("did you mean {nearest}?"),
    );
    Failure::failed(format!("this product knows no key {key}"), remedy)
}

/// `a[0].b` and `[[a]]` as the pack's resources write them.
fn normal(typed: &str) -> String {
    let bare = typed.trim().trim_start_matches('[');
    let bare = if bare.len() < typed.trim().len() { bare.trim_end_matches(']') } else { bare };
    let mut key = String::new();
    let mut rest = bare;
    while let Some((before, after)) = rest.split_once('[') {
        key.push_str(before);
        key.push_str("[]");
        rest = after.split_once(']').map_or("", |(_, rest)| rest);
    }
    key + rest
}

fn of_facts(name: &str, facts: &Facts, shape: carbon::known::Shape) -> Explanation {
    let words = |names: &[std::sync::Arc<str>]| names.iter().map(ToString::to_string).collect();
    let kind = match (&facts.default, shape) {
        (_, shape) if shape.list_of_tables => "a list of tables",
        (Some(Value::List(_)), _) => "a list",
        (_, shape) if shape.list => "a list",
        (_, shape) if shape.open || shape.table => "a table",
        (Some(Value::Bool(_)), _) => "true or false",
        _ if facts.wants_boolean() => "true or false",
        (Some(Value::Double(_) | Value::Long(_) | Value::Integer(_)), _) => "a number",
        _ if facts.unit.is_some() => "a duration",
        (Some(Value::Text(_)), _) => "a text",
        _ => "not told by the product's resources",
    };
    let strict = if facts.wants_boolean() { ", without quotes: it is compared as a boolean" } else { "" };
    Explanation {
        key: name.to_owned(),
        renamed_to: words(&facts.mapped_to),
        renamed_from: words(&facts.mapped_from),
        kind: format!("{kind}{strict}"),
        default: facts.default.as_ref().map(|value| shown(name, value)),
        unit: facts.unit.as_ref().map(ToString::to_string),
        set_by: facts
            .set_by
            .iter()
            .map(|(trigger, case, value)| format!("{trigger} = {case:?}: {}", shown(name, value)))
            .collect(),
        sets: facts
            .cases
            .iter()
            .map(|(case, keys)| {
                format!("= {case:?}: {}", keys.iter().map(|key| &**key).collect::<Vec<_>>().join(", "))
            })
            .collect(),
        ..Explanation::default()
    }
}

fn shown(key: &str, value: &Value) -> String {
    if is_secret_key(key) && !matches!(value, Value::Bool(_)) && !value.to_java_string().contains("$ref{") {
        return MASK.to_owned();
    }
    format!("{:?}", value.to_java_string()).trim_matches('"').to_owned()
}

fn below(pack: &PackFacts, key: &str) -> Vec<String> {
    let is_below = |known: &str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', '[']));
    let names: Vec<String> =
        pack.known.iter().map(|(known, _)| known.to_string()).filter(|known| is_below(known)).collect();
    let more = names.len().saturating_sub(SHOWN);
    let mut names: Vec<String> = names.into_iter().take(SHOWN).collect();
    if more != 0 {
        names.push(format!("and {more} more"));
    }
    names
}

fn rules(pack: &PackFacts, name: &str, facts: &Facts) -> Vec<String> {
    let concerns = |key: &str| key == name || facts.mapped_to.iter().any(|target| **target == *key);
    let of_key = pack.pack.rules.iter().filter(|rule| concerns(&rule.key));
    let said = of_key.map(|rule| {
        let when = rule.conditions.iter().flat_map(|conditions| conditions.iter());
        let when: Vec<String> =
            when.map(|(key, value)| format!("{key} = {}", value.to_java_string())).collect();
        let when = if when.is_empty() { String::new() } else { format!(" if {}", when.join(" and ")) };
        match (&rule.regex, &rule.match_regex) {
            (Some(regex), _) => format!("must match {regex}{when}; otherwise the server does not start"),
            (None, Some(regex)) => format!("should match {regex}{when}; the server does not enforce it"),
            (None, None) => "a rule without a pattern".to_owned(),
        }
    });
    said.collect()
}

/// File and line of the rendered output; lines of the template where the example's values cannot be rendered.
fn places(
    pack: &PackFacts,
    all: &[&Facts],
    toml: &Path,
    explanation: &mut Explanation,
) -> Result<(), Failure> {
    let uses: Vec<_> = all.iter().flat_map(|facts| facts.uses.iter().cloned()).collect();
    let text = fs::read_to_string(toml).map_err(|error| {
        Failure::failed(format!("cannot read {}", toml.display()), "name a deployment.toml with --toml")
            .because(error)
    })?;
    let subject = fleet::lint::Subject::file("deployment.toml", &text);
    let located = carbon::locate(&pack.pack, &text, &subject.inputs(), &uses);
    match located {
        Ok(located) => {
            for place in located {
                let lines: Vec<String> = place.lines.iter().map(ToString::to_string).collect();
                explanation.places.push(match lines.as_slice() {
                    [] => format!("{} (decides in line {} of its template)", place.file, place.template_line),
                    lines => format!("{}:{}", place.file, lines.join(",")),
                });
            }
        }
        Err(error) => {
            explanation.places = uses
                .iter()
                .map(|usage| format!("{} (line {} of its template)", usage.file, usage.line))
                .collect();
            explanation.notes.push(format!(
                "{} cannot be rendered ({error}), so lines are those of templates",
                toml.display()
            ));
        }
    }
    if SHOWN < explanation.places.len() {
        let more = explanation.places.len() - SHOWN;
        explanation.places.truncate(SHOWN);
        explanation.places.push(format!("and {more} more"));
    }
    Ok(())
}

fn notes(key: &str, product: Option<&Product>, notes: &mut Vec<String>) {
    if is_secret_key(key) {
        notes.push("its value is hidden in plans and diffs; secret('NAME') may stand there".to_owned());
    }
    let Some(product) = product else { return };
    if is_owned(key, &product.owned_keys) {
        notes.push("the product writes it itself; what it wrote is kept".to_owned());
    }
    if let Some(name) = product.merge_keys.get(key.trim_end_matches("[]")) {
        notes.push(format!("layers merge its elements by {name}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_may_be_typed_as_headers_and_with_indexes() {
        let table = [
            ("server.hostname", "server.hostname"),
            ("[[apim.gateway.environment]]", "apim.gateway.environment"),
            ("[server]", "server"),
            ("apim.gateway.environment[0].name", "apim.gateway.environment[].name"),
            ("apim.gateway.environment[].name", "apim.gateway.environment[].name"),
        ];
        for (typed, key) in table {
            assert_eq!(normal(typed), key, "{typed}");
        }
    }
}
