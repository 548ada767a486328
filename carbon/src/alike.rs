//! Rendering many files that are mostly alike: a fleet's nodes differ in addresses and names. A template is rendered
//! again only if a value that it may read is another than in a file that was rendered before.
//!
//! Exact: where it cannot be told what a template reads, it is rendered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::error::MapperError;
use crate::flatten::{Flat, Flattened};
use crate::pack::{Pack, TemplateFile};
use crate::reference::Inputs;
use crate::render::{Rendered, Resolved, refusal, resolve_typed};
use crate::template::Val;
use crate::tree::{self, segments};
use crate::value::{Ordered, Value};
use crate::work::Work;

/// What is read below a first step: the steps that follow, and the templates that read there, by their place in the pack.
type Below = BTreeMap<Vec<Arc<str>>, BTreeSet<usize>>;

/// Which templates of a pack a key may matter to; made once per pack.
#[derive(Debug, Default)]
pub struct Readers {
    /// By the first step of a read.
    by_first: BTreeMap<Arc<str>, Below>,
    /// Templates that read whatever there is.
    of_all: BTreeSet<usize>,
    /// The first steps of each template's reads.
    firsts: Vec<BTreeSet<Arc<str>>>,
    /// What a template may alter for the next ones: where it is there, none can be left out.
    alters: BTreeSet<Vec<Arc<str>>>,
}

impl Readers {
    /// Looks through all templates.
    pub fn of(pack: &Pack) -> Self {
        let mut readers = Self::default();
        for (index, file) in pack.templates.iter().enumerate() {
            let dependencies = file.template.dependencies();
            readers.alters.extend(dependencies.alters);
            readers.firsts.push(dependencies.keys.iter().filter_map(|key| key.first().cloned()).collect());
            for key in dependencies.keys {
                match key.split_first() {
                    Some((first, rest)) => {
                        let below = readers.by_first.entry(Arc::clone(first)).or_default();
                        below.entry(rest.to_vec()).or_default().insert(index);
                    }
                    None => {
                        readers.of_all.insert(index);
                    }
                }
            }
        }
        readers
    }

    /// Whether a template may alter one of these values.
    fn alter(&self, values: &Flat) -> bool {
        self.alters.iter().any(|altered| {
            let meets = |key: &Arc<str>| segments(key).is_ok_and(|steps| are_related(altered, &steps));
            values.iter().any(|(key, _)| meets(key))
        })
    }

    /// What to render when these keys have other values; `None`: it cannot be told.
    fn of_keys<'k>(&self, keys: impl Iterator<Item = &'k Arc<str>>) -> Option<Affected> {
        let mut templates = self.of_all.clone();
        let mut firsts = BTreeSet::new();
        for key in keys {
            let steps = segments(key).ok()?;
            let (first, rest) = steps.split_first()?;
            firsts.insert(Arc::from(*first));
            let Some(below) = self.by_first.get(*first) else { continue };
            for (read, readers) in below {
                if are_related(read, rest) {
                    templates.extend(readers);
                }
            }
        }
        let of_templates = templates.iter().filter_map(|template| self.firsts.get(*template));
        firsts.extend(of_templates.flatten().cloned());
        Some(Affected { templates: Some(templates), firsts: self.of_all.is_empty().then_some(firsts) })
    }
}

/// What of another file may differ from the base; by default everything.
#[derive(Debug, Default)]
struct Affected {
    /// Templates that may print something else; `None`: all.
    templates: Option<BTreeSet<usize>>,
    /// The first steps of the keys that they may read, and of those that are other ones; `None`: of any.
    firsts: Option<BTreeSet<Arc<str>>>,
}

impl Affected {
    /// Whether the template is to be rendered.
    fn holds(&self, template: usize) -> bool {
        self.templates.as_ref().is_none_or(|templates| templates.contains(&template))
    }

    /// The tree that these templates see.
    fn tree(&self, values: &Flat) -> Result<Ordered<Val>, MapperError> {
        let is_seen = |key: &str| match (&self.firsts, first_step(key)) {
            (Some(firsts), Some(first)) => firsts.contains(first),
            (None, _) | (_, None) => true,
        };
        tree::build_of(values.iter().filter(|(key, _)| is_seen(key)))
    }
}

/// The first step of a key that is written without quotes up to there.
fn first_step(key: &str) -> Option<&str> {
    let end = key.find(['.', '\'']).unwrap_or(key.len());
    Some(&key[..end]).filter(|first| !first.is_empty() && !key[end..].starts_with('\''))
}

/// Whether one of the two is at, above or below the other.
fn are_related(read: &[Arc<str>], steps: &[&str]) -> bool {
    read.iter().zip(steps).all(|(read, step)| **read == **step)
}

/// A file, rendered, that others are compared with.
#[derive(Debug)]
pub struct Base {
    rendered: Rendered,
    /// Keys whose values are templates themselves: what prints one may read anything.
    nested: Vec<Arc<str>>,
}

/// A render, and what of it is the same as in the base.
#[derive(Debug)]
pub struct Alike {
    /// The same as [`render_typed`](crate::render_typed) gives.
    pub rendered: Rendered,
    /// Files that were taken from the base.
    pub taken: BTreeSet<Arc<str>>,
}

/// Another file, ready for its templates.
struct Beside {
    resolved: Resolved,
    affected: Affected,
    tree: Ordered<Val>,
    work: Work,
}

impl Beside {
    fn text(&self, file: &TemplateFile) -> Result<String, MapperError> {
        file.template.render(&self.tree, &self.work).map_err(|fault| refusal(file, fault))
    }
}

impl Base {
    /// Others are compared with this one.
    pub fn new(rendered: Rendered) -> Self {
        let nested = rendered.resolved.values().filter(|(_, value)| !is_plain(value));
        let nested = nested.map(|(key, _)| Arc::clone(key)).collect();
        Self { rendered, nested }
    }

    /// Whether any file of another deployment.toml differs from the base's; stops at the first one.
    ///
    /// # Errors
    /// The mapper's refusal.
    pub fn differs(
        &self,
        (pack, readers): (&Pack, &Readers),
        typed: Flattened,
        inputs: &Inputs,
    ) -> Result<bool, MapperError> {
        let beside = self.beside((pack, readers), typed, inputs)?;
        for (index, file) in pack.templates.iter().enumerate() {
            if beside.affected.holds(index)
                && self.rendered.files.get(&file.output) != Some(&beside.text(file)?)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Renders a flattened file with the pack and the readers that the base was rendered with.
    ///
    /// # Errors
    /// The mapper's refusal.
    pub fn render(
        &self,
        (pack, readers): (&Pack, &Readers),
        typed: Flattened,
        inputs: &Inputs,
    ) -> Result<Alike, MapperError> {
        let beside = self.beside((pack, readers), typed, inputs)?;
        let (mut files, mut taken) = (BTreeMap::new(), BTreeSet::new());
        for (index, file) in pack.templates.iter().enumerate() {
            let text = match self.rendered.files.get(&file.output) {
                Some(text) if !beside.affected.holds(index) => {
                    taken.insert(Arc::clone(&file.output));
                    text.clone()
                }
                _ => beside.text(file)?,
            };
            files.insert(Arc::clone(&file.output), text);
        }
        Ok(Alike { rendered: Rendered { files, resolved: beside.resolved }, taken })
    }

    /// Everything of another file up to its templates.
    fn beside(
        &self,
        (pack, readers): (&Pack, &Readers),
        typed: Flattened,
        inputs: &Inputs,
    ) -> Result<Beside, MapperError> {
        let work = Work::default();
        let resolved = resolve_typed(pack, typed, inputs, &work)?;
        let affected = self.affected(readers, resolved.all()).unwrap_or_default();
        let tree = affected.tree(resolved.all())?;
        Ok(Beside { resolved, affected, tree, work })
    }

    /// What to render for these values; `None`: it cannot be told.
    fn affected(&self, readers: &Readers, values: &Flat) -> Option<Affected> {
        let (mut changed, mut is_nested) = (Vec::new(), !self.nested.is_empty());
        let (mut before, mut now) = (self.rendered.resolved.values(), values.iter());
        loop {
            match (before.next(), now.next()) {
                (None, None) if readers.alter(values) => return None,
                (None, None) => {
                    let mut affected = readers.of_keys(self.nested.iter().chain(changed))?;
                    if is_nested {
                        affected.firsts = None;
                    }
                    return Some(affected);
                }
                // Keys in another order: loops over tables go another way round.
                (Some((key, _)), Some((other, _))) if key != other => return None,
                (Some((_, value)), Some((_, other))) if value == other => {}
                (Some((key, _)), Some((_, other))) => {
                    is_nested |= !is_plain(other);
                    changed.push(key);
                }
                (Some(_), None) | (None, Some(_)) => return None,
            }
        }
    }
}

/// Whether the value holds no template of its own: the engine renders what it prints once more.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Text(text) => !["{{", "{%", "{#"].iter().any(|open| text.contains(open)),
        Value::List(items) => items.iter().all(is_plain),
        Value::Map(map) => map.iter().all(|(key, value)| !key.contains('{') && is_plain(value)),
        Value::Null
        | Value::Bool(_)
        | Value::Integer(_)
        | Value::Long(_)
        | Value::Double(_)
        | Value::Time(_) => true,
    }
}

#[cfg(test)]
mod tests;
