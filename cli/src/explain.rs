//! `convoy explain KEY`: what a key of deployment.toml is, where it ends up, what sets it and what it sets.

use std::{fs, path::Path};

use carbon::{Value, known::Facts};
use fleet::{
    finding::{MASK, is_hidden_key},
    lint::{PackFacts, documented},
    product::{Product, built_in},
    spec::{canonical::is_owned, suggest_product},
};
use serde::Serialize;

use crate::{
    exit::{Exit, Failure},
    pack, reference,
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

/// Output of `explain CODE`.
#[derive(Debug, Serialize)]
struct Code {
    code: &'static str,
    title: &'static str,
    severity: &'static str,
    text: &'static str,
}

/// Explains.
///
/// # Errors
/// The key is unknown, or nothing can be read.
pub fn run(request: &Explain, screen: &mut Screen) -> Result<Exit, Failure> {
    if let Some(entry) = named_finding(&request.key)? {
        return Ok(finding(&entry, screen));
    }
    let explanation = match (&request.pack, product(request)?) {
        (Some(home), product) => from_pack(request, home, product)?,
        (None, Some(product)) => from_profile(request, product)?,
        (None, None) => return Err(Failure::usage("there is nothing to look in", "add --pack or --product")),
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

/// The finding whose code is given instead of a key.
fn named_finding(key: &str) -> Result<Option<reference::Entry>, Failure> {
    let found = reference::find(key);
    if found.is_none() && reference::is_code(key) {
        let codes: Vec<&str> = reference::entries().map(|entry| entry.code).collect();
        let (first, last) = (codes.first().unwrap_or(&""), codes.last().unwrap_or(&""));
        return Err(Failure::failed(
            format!("there is no finding {key}"),
            format!("codes go from {first} to {last}, with gaps; docs/findings.md lists them"),
        ));
    }
    Ok(found)
}

/// The reference's words about a finding.
fn finding(entry: &reference::Entry, screen: &mut Screen) -> Exit {
    screen.programs(&Code {
        code: entry.code,
        title: entry.title,
        severity: entry.severity().as_str(),
        text: entry.text,
    });
    screen.people(&format!("{} {}\n\n{}\n", entry.code, entry.title, entry.text));
    Exit::Done
}

/// The product of the catalogue that was named.
fn product(request: &Explain) -> Result<Option<&'static Product>, Failure> {
    let Some(id) = &request.product else { return Ok(None) };
    let known = built_in().keys().map(String::as_str);
    let unknown = || Failure::usage(format!("there is no product {id}"), suggest_product(id, known));
    built_in().get(id).ok_or_else(unknown).map(Some)
}

/// What is known without a pack: the keys that tie nodes together, and those that the product writes itself.
fn from_profile(request: &Explain, product: &Product) -> Result<Explanation, Failure> {
    let key = normal(&request.key);
    let mut explanation = Explanation::default();
    notes(&key, Some(product), &mut explanation.notes);
    let pack = "add --pack HOME for kind, default, places and inference of every key";
    let Some(documented) = documented::find(&key, product) else {
        let near = documented::nearest(&key, product);
        let near = near.map_or_else(String::new, |near| format!("did you mean {near}? Otherwise "));
        return Err(Failure::failed(
            format!("without its pack nothing is known of {key} in {}", product.title),
            format!("{near}{pack}"),
        ));
    };
    explanation.kind = documented.kind.to_owned();
    explanation.default = documented.default.map(|default| shown(&key, &Value::text(default)));
    explanation.notes.insert(0, documented.meaning.to_owned());
    explanation.notes.push(format!("told without the pack of {}: {pack}", product.title));
    explanation.key = key;
    Ok(explanation)
}

fn from_pack(request: &Explain, home: &Path, product: Option<&Product>) -> Result<Explanation, Failure> {
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
    let mut explanation = of_facts(name, facts, shape);
    let targets = facts.mapped_to.iter().filter_map(|target| pack.known.get(target));
    for target in targets {
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
    let reach = places(&pack, (&key, facts), &toml, &mut explanation)?;
    notes(&key, product, &mut explanation.notes);
    if explanation.places.is_empty() && reach == Reach::Files {
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
    if is_hidden_key(key) && !matches!(value, Value::Bool(_)) && !value.to_java_string().contains("$ref{") {
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

/// What becomes of a value that is typed under a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// It reaches the files that are listed, if any.
    Files,
    /// A whole table by default lies over it.
    Covered,
}

/// File and line of the rendered output; lines of the template where the example's values cannot be rendered.
fn places(
    pack: &PackFacts,
    (key, facts): (&str, &Facts),
    toml: &Path,
    explanation: &mut Explanation,
) -> Result<Reach, Failure> {
    let names = std::iter::once(key).chain(facts.mapped_to.iter().map(|target| &**target));
    let (mut own, mut open) = (Vec::new(), Vec::new());
    for (usage, is_own) in names.flat_map(|name| pack.known.uses(name)) {
        if is_own { own.push(usage) } else { open.push(usage) }
    }
    let text = fs::read_to_string(toml).map_err(|error| {
        Failure::failed(format!("cannot read {}", toml.display()), "name a deployment.toml with --toml")
            .because(error)
    })?;
    let subject = fleet::lint::Subject::file("deployment.toml", &text);
    let inputs = subject.inputs();
    if let Some(table) = carbon::effect::covering_default(&pack.pack, key)
        && !carbon::effect::would_matter((&pack.pack, &pack.readers), &text, &inputs, key)
    {
        explanation.notes.push(format!(
            "it reaches no file: the product's default for the whole table {table} lies over what is typed"
        ));
        return Ok(Reach::Covered);
    }
    let word = key.rsplit('.').next().map(|word| word.trim_matches('\''));
    let located = carbon::locate(&pack.pack, &text, &inputs, (&own, None)).and_then(|mut located| {
        // A loop over an open map says where the key is printed; that it loops decides nothing for one key.
        let of_map = carbon::locate(&pack.pack, &text, &inputs, (&open, word))?;
        located.extend(of_map.into_iter().filter(|place| !place.lines.is_empty()));
        Ok(located)
    });
    match located {
        Ok(located) => {
            for place in &located {
                let lines: Vec<String> = place.lines.iter().map(ToString::to_string).collect();
                explanation.places.push(match lines.as_slice() {
                    [] => format!("{} (decides in line {} of its template)", place.file, place.template_line),
                    lines => format!("{}:{}", place.file, lines.join(",")),
                });
            }
        }
        Err(error) => {
            let uses = own.iter().chain(&open);
            explanation.places =
                uses.map(|usage| format!("{} (line {} of its template)", usage.file, usage.line)).collect();
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
    Ok(Reach::Files)
}

fn notes(key: &str, product: Option<&Product>, notes: &mut Vec<String>) {
    if is_hidden_key(key) {
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
    fn without_a_pack_wrong_products_and_unknown_keys_are_refused_with_the_nearest() {
        let ask = |key: &str, id: &str| {
            let request =
                Explain { key: key.to_owned(), product: Some(id.to_owned()), pack: None, toml: None };
            let product = product(&request)?.expect("one was named");
            from_profile(&request, product)
        };
        assert_eq!(ask("server.offset", "wso2is-7.2").unwrap().default.as_deref(), Some("0"));
        assert_eq!(ask("keystore.primary.password", "wso2is-7.2").unwrap().default.as_deref(), Some(MASK));
        let wrong = ask("server.offset", "wso2is-7.22").unwrap_err();
        assert_eq!(wrong.exit, Exit::Usage);
        assert!(wrong.remedy.starts_with("did you mean \"wso2is-7.2\"?"), "{}", wrong.remedy);
        let unknown = ask("server.ofset", "wso2is-7.2").unwrap_err();
        assert_eq!(unknown.exit, Exit::Failed);
        assert!(unknown.remedy.starts_with("did you mean server.offset?"), "{}", unknown.remedy);
    }

    #[test]
    fn a_code_that_no_finding_has_is_no_key() {
        assert_eq!(named_finding("cv502").unwrap().map(|entry| entry.code), Some("CV502"));
        assert_eq!(named_finding("server.offset").unwrap(), None);
        let none = named_finding("CV999").unwrap_err();
        assert_eq!(none.what, "there is no finding CV999");
        assert!(none.remedy.starts_with("codes go from CV0"), "{}", none.remedy);
    }

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
