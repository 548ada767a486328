//! The whole way: from deployment.toml to the files that the server will use, or to the mapper's refusal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::defaults;
use crate::error::MapperError;
use crate::flatten::{self, Flat, Flattened};
use crate::infer::Cause;
use crate::known::Use;
use crate::pack::{Pack, TemplateFile};
use crate::reference::{self, Aliases, Inputs, Variables};
use crate::template::{Fault, ReadKind};
use crate::toml::Position;
use crate::tree;
use crate::value::Value;
use crate::work::Work;

/// Where the value of a final key came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Written by the user, under this name before mapping, at this place.
    User { key: Arc<str>, position: Position },
    /// Set by infer.json because another key has a certain value.
    Inferred(Cause),
    /// From default.json.
    Default,
}

/// Everything up to the templates: what the server knows as its parsed configuration.
#[derive(Debug, Clone, Default)]
pub struct Resolved {
    values: Flat,
    written_as: BTreeMap<Arc<str>, Arc<str>>,
    causes: BTreeMap<Arc<str>, Cause>,
    /// Where each leaf stands in deployment.toml, by the name before mapping; elements as `key[0].sub`.
    pub positions: BTreeMap<Arc<str>, Position>,
    /// Variables that were looked up.
    pub variables: Variables,
    /// Aliases of `[secrets]`.
    pub secrets: BTreeSet<String>,
}

impl Resolved {
    /// The final value of a flat key.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.values.find(key)
    }

    /// All final values, in the order in which the mapper goes through them.
    pub fn values(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.values.iter()
    }

    /// The same as the mapper's own map.
    pub fn all(&self) -> &Flat {
        &self.values
    }

    /// Where the value of a final key came from; `None` for a key that does not exist.
    pub fn origin(&self, key: &str) -> Option<Origin> {
        if let Some(written) = self.written_as.get(key) {
            let position = self.positions.get(written).copied().unwrap_or_default();
            return Some(Origin::User { key: Arc::clone(written), position });
        }
        if let Some(cause) = self.causes.get(key) {
            return Some(Origin::Inferred(cause.clone()));
        }
        self.values.find(key).map(|_| Origin::Default)
    }

    /// Every key that the user wrote, by its name before mapping, elements of arrays as `key[].sub`, with the place
    /// where it stands first. This is the form that [`KnownKeys::find`](crate::known::KnownKeys::find) takes.
    pub fn written(&self) -> BTreeMap<String, Position> {
        flatten::written(&self.positions)
    }
}

/// What a render gives.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// File contents by path below the home.
    pub files: BTreeMap<Arc<str>, String>,
    /// The values behind them.
    pub resolved: Resolved,
}

/// Renders every template of the pack.
pub fn render(pack: &Pack, toml: &str, inputs: &Inputs) -> Result<Rendered, MapperError> {
    render_typed(pack, flatten::flatten(toml)?, inputs)
}

/// The same of a file that is flattened already.
pub fn render_typed(pack: &Pack, typed: Flattened, inputs: &Inputs) -> Result<Rendered, MapperError> {
    let work = Work::default();
    let resolved = resolve_typed(pack, typed, inputs, &work)?;
    let tree = tree::build(&resolved.values)?;
    let mut files = BTreeMap::new();
    for file in &pack.templates {
        let text = file.template.render(&tree, &work).map_err(|fault| refusal(file, fault))?;
        files.insert(Arc::clone(&file.output), text);
    }
    Ok(Rendered { files, resolved })
}

/// One place of a rendered file that shows or depends on a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path of the rendered file.
    pub file: Arc<str>,
    /// Line of the template.
    pub template_line: u32,
    /// Lines of the rendered file. Empty when the key only decides what is printed, or is not printed with these
    /// values.
    pub lines: Vec<u32>,
}

/// Where a known key ends up in the rendered files: `uses` are what [`KnownKeys`](crate::known::KnownKeys) knows of
/// it. A template line that prints many keys of an open map counts with those of its output lines that hold `word`.
pub fn locate(
    pack: &Pack,
    toml: &str,
    inputs: &Inputs,
    (uses, word): (&[Use], Option<&str>),
) -> Result<Vec<Place>, MapperError> {
    let work = Work::default();
    let resolved = resolve_with(pack, toml, inputs, &work)?;
    let tree = tree::build(&resolved.values)?;
    let mut places: BTreeMap<(Arc<str>, u32), Vec<u32>> = BTreeMap::new();
    for file in &pack.templates {
        let uses: Vec<&Use> = uses.iter().filter(|usage| usage.file == file.output).collect();
        if uses.is_empty() {
            continue;
        }
        let traced = file.template.render_traced(&tree, &work).map_err(|fault| refusal(file, fault))?;
        let shows = |number: u32| {
            let line = traced.0.split('\n').nth((number as usize).saturating_sub(1)).unwrap_or_default();
            word.is_none_or(|word| line.contains(word))
        };
        for usage in uses {
            let lines = places.entry((Arc::clone(&file.output), usage.line)).or_default();
            if matches!(usage.kind, ReadKind::Printed | ReadKind::Whole) {
                lines.extend(traced.1.iter().filter(|(line, _)| *line == usage.line).map(|(_, line)| *line));
                lines.sort_unstable();
                lines.dedup();
                lines.retain(|line| shows(*line));
            }
        }
    }
    let places = places.into_iter();
    Ok(places.map(|((file, template_line), lines)| Place { file, template_line, lines }).collect())
}

pub(crate) fn refusal(file: &TemplateFile, fault: Fault) -> MapperError {
    MapperError::Template { file: Arc::clone(&file.output), line: fault.line, message: fault.message }
}

/// All phases but the templates: enough to know whether the mapper refuses values.
pub fn resolve(pack: &Pack, toml: &str, inputs: &Inputs) -> Result<Resolved, MapperError> {
    resolve_with(pack, toml, inputs, &Work::default())
}

fn resolve_with(pack: &Pack, toml: &str, inputs: &Inputs, work: &Work) -> Result<Resolved, MapperError> {
    resolve_typed(pack, flatten::flatten(toml)?, inputs, work)
}

pub(crate) fn resolve_typed(
    pack: &Pack,
    typed: Flattened,
    inputs: &Inputs,
    work: &Work,
) -> Result<Resolved, MapperError> {
    let prepared = Prepared::new(pack, typed, work)?;
    let mut data = prepared.data.clone();
    let variables = reference::resolve(&mut data, &prepared.aliases, inputs, (pack.dialect, work))?;
    pack.units.apply(&mut data)?;
    pack.rules.check(&data, work)?;
    Ok(prepared.resolved(data, variables))
}

/// A file with its defaults, before references are resolved.
pub(crate) struct Prepared {
    pub(crate) data: Flat,
    pub(crate) aliases: Aliases,
    written_as: BTreeMap<Arc<str>, Arc<str>>,
    causes: BTreeMap<Arc<str>, Cause>,
    positions: BTreeMap<Arc<str>, Position>,
}

impl Prepared {
    pub(crate) fn read(pack: &Pack, toml: &str, work: &Work) -> Result<Self, MapperError> {
        Self::new(pack, flatten::flatten(toml)?, work)
    }

    pub(crate) fn new(pack: &Pack, flattened: Flattened, work: &Work) -> Result<Self, MapperError> {
        let aliases = Aliases::of(&flattened, pack.dialect);
        let mut data = flattened.data;
        let renamed = pack.mappings.apply(&mut data, work)?;
        let written_as =
            data.iter().map(|(key, _)| (Arc::clone(key), Arc::clone(renamed.get(key).unwrap_or(key))));
        let written_as = written_as.collect();
        let causes = pack.inference.apply(&mut data, work)?;
        defaults::apply(&pack.defaults, &mut data);
        Ok(Self { data, aliases, written_as, causes, positions: flattened.positions })
    }

    /// With the final values.
    pub(crate) fn resolved(self, values: Flat, variables: Variables) -> Resolved {
        Resolved {
            values,
            written_as: self.written_as,
            causes: self.causes,
            positions: self.positions,
            variables,
            secrets: self.aliases.names().map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
