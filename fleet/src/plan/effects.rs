//! What a server makes of a deployment.toml with the pack of its host, before and after: the files that it will write
//! at its next start, and the values that change although nobody typed them. Secrets are masked here.

use std::collections::{BTreeMap, BTreeSet};

use carbon::{
    MapperError, Origin, Rendered, Value,
    flatten::{Flattened, flatten},
};

use super::{
    diff::{self, FileDiff},
    shown_value,
};
use crate::{
    bundle::ServiceSettings,
    ids::NodeName,
    lint::{ClearText, PackFacts, Subject, refusal},
    mask::{self, Hidden},
    spec::ComposedNode,
};

/// At most so many values of one node are told; the rest is counted.
pub const DERIVED_MAX: usize = 200;
/// Values that stand for what is set outside of Convoy, and say nothing.
const STAND_IN: &str = "1";

/// What a node runs with, and the pack that it was rendered with.
#[derive(Debug, Clone, Copy)]
pub struct Before<'a> {
    /// The pack.
    pub facts: &'a PackFacts,
    /// Arguments and environment.
    pub service: &'a ServiceSettings,
    /// Its deployment.toml.
    pub text: &'a str,
}

/// What happens to a rendered file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenderedKind {
    /// Not rendered before.
    Added,
    /// Other content.
    Changed,
    /// Not rendered any more; the old file stays on the host.
    Removed,
}

impl RenderedKind {
    /// The word used in every output.
    pub const fn as_str(self) -> &'static str {
        match self {
            RenderedKind::Added => "added",
            RenderedKind::Changed => "changed",
            RenderedKind::Removed => "removed",
        }
    }
}

/// A rendered file that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedChange {
    /// Below home.
    pub path: String,
    /// What happens.
    pub kind: RenderedKind,
    /// Lines that are new.
    pub added: usize,
    /// Lines that go.
    pub removed: usize,
    /// The lines, masked.
    pub diff: FileDiff,
}

/// A value that changes although nobody typed another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedChange {
    /// Name after mapping.
    pub key: String,
    /// Before, masked; absent if there was none.
    pub old: Option<String>,
    /// After, masked; absent if there is none.
    pub new: Option<String>,
    /// One clause: what sets it now.
    pub why: String,
}

/// What becomes of a node's generated files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// How many files the server renders.
    pub rendered: usize,
    /// Those that differ, by path. Empty for a node that had nothing before.
    pub files: Vec<RenderedChange>,
    /// By key, at most [`DERIVED_MAX`].
    pub derived: Vec<DerivedChange>,
    /// How many more there are.
    pub derived_omitted: usize,
    /// Why nothing can be compared: the mapper's refusal of the old or the new file, without values.
    pub unrendered: Option<String>,
}

/// Compares what `before` made of a node with what its composition makes of it with `facts`.
pub fn effects(
    name: &NodeName,
    before: Option<Before<'_>>,
    (node, facts): (&ComposedNode, &PackFacts),
) -> Effects {
    let subject = Subject::composed(name, node, ClearText::Unknown);
    let after = match Side::of(&subject, facts) {
        Ok(after) => after,
        Err(error) => {
            return Effects {
                unrendered: Some(refused("the new", &subject, facts, &error)),
                ..Effects::default()
            };
        }
    };
    let rendered = after.rendered.files.len();
    let Some(before) = before else { return Effects { rendered, ..Effects::default() } };
    let subject = Subject::stored(name, before.service, before.text);
    let before = match Side::of(&subject, before.facts) {
        Ok(side) => side,
        Err(error) => {
            let unrendered = Some(refused("the old", &subject, before.facts, &error));
            return Effects { rendered, unrendered, ..Effects::default() };
        }
    };
    let mut hidden = Hidden::default();
    before.hide(&mut hidden);
    after.hide(&mut hidden);
    let mut derived = derived_changes(&before, &after, &hidden);
    let derived_omitted = derived.len().saturating_sub(DERIVED_MAX);
    derived.truncate(DERIVED_MAX);
    let files = file_changes(&before.rendered, &after.rendered, &hidden);
    Effects { rendered, files, derived, derived_omitted, unrendered: None }
}

fn refused(which: &str, subject: &Subject<'_>, facts: &PackFacts, error: &MapperError) -> String {
    let why = refusal::finding(subject, facts, error).map_or_else(String::new, |finding| finding.message);
    format!("{which} deployment.toml does not render: {why}")
}

/// One of the two.
struct Side<'a> {
    typed: Flattened,
    rendered: Rendered,
    facts: &'a PackFacts,
    environment: BTreeMap<String, String>,
}

impl<'a> Side<'a> {
    fn of(subject: &Subject<'_>, facts: &'a PackFacts) -> Result<Self, MapperError> {
        let typed = flatten(subject.text)?;
        let inputs = subject.inputs();
        let rendered = carbon::render(&facts.pack, subject.text, &inputs)?;
        Ok(Self { typed, rendered, facts, environment: inputs.environment })
    }

    fn values(&self) -> BTreeMap<&str, &Value> {
        self.rendered.resolved.values().map(|(key, value)| (&**key, value)).collect()
    }

    /// Every value that must not be shown: under keys that name secrets, wherever they came from. What every copy of
    /// the product ships with is no secret.
    fn hide(&self, hidden: &mut Hidden) {
        let default = |key: &str| self.facts.pack.defaults.get(key);
        for (key, value) in self.values() {
            if default(key) != Some(value) {
                hide_value(key, value, hidden);
            }
        }
        for (key, value) in self.typed.data.iter() {
            hide_value(key, value, hidden);
        }
        self.typed.secrets.values().for_each(|text| hidden.add(text.trim_matches(['[', ']'])));
        let secret = self.environment.iter().filter(|(name, _)| mask::is_hidden(name));
        secret.filter(|(_, value)| *value != STAND_IN).for_each(|(_, value)| hidden.add(value));
    }

    /// What was typed for a final key, if anything was.
    fn typed<'s>(&'s self, key: &str) -> Option<&'s Value> {
        match self.rendered.resolved.origin(key)? {
            Origin::User { key, .. } => self.typed.data.find(&key),
            Origin::Inferred(_) | Origin::Default => None,
        }
    }
}

fn hide_value(key: &str, value: &Value, hidden: &mut Hidden) {
    match value {
        Value::List(items) => items.iter().for_each(|item| hide_value(key, item, hidden)),
        Value::Map(table) => {
            table.iter().for_each(|(below, value)| hide_value(&format!("{key}.{below}"), value, hidden));
        }
        Value::Text(text) if mask::is_hidden(key) && &**text != STAND_IN && !mask::is_open(text) => {
            hidden.add(text);
        }
        _ => {}
    }
}

fn file_changes(before: &Rendered, after: &Rendered, hidden: &Hidden) -> Vec<RenderedChange> {
    let paths: BTreeSet<&str> = before.files.keys().chain(after.files.keys()).map(|path| &**path).collect();
    let change = |path: &str| {
        let (old, new) = (before.files.get(path), after.files.get(path));
        let kind = match (old, new) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(_), Some(_)) => RenderedKind::Changed,
            (None, _) => RenderedKind::Added,
            (Some(_), None) => RenderedKind::Removed,
        };
        let text = |side: Option<&String>| side.map(String::as_str).unwrap_or_default().to_owned();
        let shown = |text: &str| mask::text_lines(text).iter().map(|line| hidden.hide(line)).collect();
        let (diff, (added, removed)) = diff::of_texts(&text(old), &text(new), shown);
        Some(RenderedChange { path: path.to_owned(), kind, added, removed, diff })
    };
    paths.into_iter().filter_map(change).collect()
}

fn derived_changes(before: &Side<'_>, after: &Side<'_>, hidden: &Hidden) -> Vec<DerivedChange> {
    let (old_values, new_values) = (before.values(), after.values());
    let keys: BTreeSet<&str> = old_values.keys().chain(new_values.keys()).copied().collect();
    let change = |key: &str| {
        let (old, new) = (old_values.get(key).copied(), new_values.get(key).copied());
        if old == new {
            return None;
        }
        let why = derived_from(key, before, after, hidden)?;
        let shown = |value: Option<&Value>| value.map(|value| shown(key, value, hidden));
        Some(DerivedChange { key: key.to_owned(), old: shown(old), new: shown(new), why })
    };
    keys.into_iter().filter_map(change).collect()
}

/// What sets the value now; `None` if somebody typed the change.
fn derived_from(key: &str, before: &Side<'_>, after: &Side<'_>, hidden: &Hidden) -> Option<String> {
    let (was_typed, typed) = (before.typed(key), after.typed(key));
    let lost = if was_typed.is_some() { "no longer set; " } else { "" };
    match after.rendered.resolved.origin(key) {
        Some(Origin::User { .. }) if was_typed == typed => Some("refers to a value that changes".to_owned()),
        Some(Origin::User { .. }) => None,
        Some(Origin::Inferred(cause)) => {
            let value = shown(&cause.key, &Value::text(&cause.value), hidden);
            Some(format!("{lost}follows from {} = {value}", cause.key))
        }
        Some(Origin::Default) => Some(format!("{lost}the product's default")),
        // Its removal is a change of a key that was typed.
        None if was_typed.is_some() => None,
        None => Some("nothing sets it any more".to_owned()),
    }
}

fn shown(key: &str, value: &Value, hidden: &Hidden) -> String {
    let text = match value {
        Value::Text(text) => format!("\"{text}\""),
        other => other.to_java_string(),
    };
    hidden.hide(&shown_value(key, &text, mask::is_hidden(key)))
}

#[cfg(test)]
mod tests;
