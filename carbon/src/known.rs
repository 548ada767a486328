//! Every key that a pack knows, and what it knows about it.
//!
//! WSO2 ignores keys that it does not know, without a word. The set of known keys is therefore gathered from all
//! places where a key can matter: mappings, inference, defaults, references, units, rules and what templates read.
//! Components may read further keys at run time through the mapper's map, so "unknown" is a strong hint, no proof.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::java::substrings_between;
use crate::pack::Pack;
use crate::template::{KeyPath, ReadKind, Step};
use crate::value::Value;

/// Where a pack knows a key from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Left side of key-mappings.json.
    MappedFrom,
    /// Right side of key-mappings.json.
    MappedTo,
    /// A trigger of infer.json.
    InferTrigger,
    /// Set by infer.json.
    InferSet,
    /// default.json.
    Default,
    /// Named by a `$ref{}` of infer.json or default.json.
    ReferenceTarget,
    /// unit-resolve.json.
    Unit,
    /// validator.json.
    Rule,
    /// Read by a template.
    Template,
}

/// One place where a template reads the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// Path of the output file.
    pub file: Arc<str>,
    /// Line of the template.
    pub line: u32,
    /// What the template does with it.
    pub kind: ReadKind,
}

/// What is known about one key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// From where.
    pub sources: BTreeSet<Source>,
    /// Its default, if there is one.
    pub default: Option<Value>,
    /// Names after mapping, if the key is an old name.
    pub mapped_to: Vec<Arc<str>>,
    /// Old names that are mapped to the key.
    pub mapped_from: Vec<Arc<str>>,
    /// What sets it: trigger, case, value.
    pub set_by: Vec<(Arc<str>, Arc<str>, Value)>,
    /// As a trigger: case and the keys that it sets.
    pub cases: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// Unit into which durations are converted.
    pub unit: Option<Arc<str>>,
    /// Templates that read it.
    pub uses: Vec<Use>,
}

impl Facts {
    /// Whether a template wants the boolean itself and not the text `"true"`.
    pub fn wants_boolean(&self) -> bool {
        self.uses.iter().any(|usage| usage.kind == ReadKind::Identity)
    }
}

/// What may stand at a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Looped over as a list.
    pub list: bool,
    /// The elements of the list are tables: `[[key]]`.
    pub list_of_tables: bool,
    /// Has named sub-keys: `[key]`.
    pub table: bool,
    /// Takes any sub-key.
    pub open: bool,
}

#[derive(Debug, Default)]
struct Branch {
    keys: BTreeMap<Arc<str>, Branch>,
    element: Option<Box<Branch>>,
    any: Option<Box<Branch>>,
    whole: bool,
    facts: Option<Arc<str>>,
}

/// The set of known keys of one pack.
#[derive(Debug, Default)]
pub struct KnownKeys {
    facts: BTreeMap<Arc<str>, Facts>,
    root: Branch,
}

impl KnownKeys {
    /// Gathers the set. Some 10 ms for the largest product; keep the result.
    pub fn of(pack: &Pack) -> Self {
        let mut known = Self::default();
        known.add_mappings(pack);
        known.add_inference(pack);
        for (key, value) in pack.defaults.iter() {
            known.add(key, Source::Default).default = Some(value.clone());
            known.add_references(value);
        }
        for (key, unit) in pack.units.iter() {
            known.add(key, Source::Unit).unit = Some(Arc::clone(unit));
        }
        for rule in pack.rules.iter() {
            known.add(&rule.key.replace(':', "[]."), Source::Rule);
        }
        for file in &pack.templates {
            for read in file.template.reads() {
                let usage = Use { file: Arc::clone(&file.output), line: read.line, kind: read.kind };
                let facts = known.add(&read.path.to_string(), Source::Template);
                if !facts.uses.contains(&usage) {
                    facts.uses.push(usage);
                }
            }
        }
        known.grow();
        known
    }

    /// All keys with their facts, sorted. `[]` stands for an element, `.*` for any sub-key, `$1` for any word.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Facts)> {
        self.facts.iter()
    }

    /// Facts of a key as it stands in the set.
    pub fn get(&self, key: &str) -> Option<&Facts> {
        self.facts.get(key)
    }

    /// The known key that a written key falls under. Elements of arrays are written `key[].sub`.
    ///
    /// A named sub-key also matches `[]`, because templates loop over tables as over lists, and `.*`.
    pub fn find(&self, key: &str) -> Option<(&Arc<str>, &Facts)> {
        let path = KeyPath::parse(key);
        find(&self.root, &path.0).and_then(|name| self.facts.get_key_value(&*name))
    }

    /// Whether a written key is known: by itself, or as part of a table that is printed whole.
    pub fn contains(&self, key: &str) -> bool {
        self.find(key).is_some() || is_below_whole(&self.root, &KeyPath::parse(key).0)
    }

    /// Every place where templates read a written key: by its own name or a pattern, or with the open map or the whole
    /// table that it is part of. The last member says whether the place names the key itself.
    pub fn uses(&self, key: &str) -> Vec<(Use, bool)> {
        let mut uses = Vec::new();
        collect_uses(self, &self.root, &KeyPath::parse(key).0, (true, &mut uses));
        uses.sort_by(|(a, exact_a), (b, exact_b)| {
            (&a.file, a.line, !exact_a).cmp(&(&b.file, b.line, !exact_b))
        });
        uses.dedup_by(|(later, _), (kept, _)| later == kept);
        uses
    }

    /// What may stand at a key.
    pub fn shape(&self, key: &str) -> Shape {
        let mut shape = Shape::default();
        collect_shape(&self.root, &KeyPath::parse(key).0, &mut shape);
        shape
    }

    /// The known key most like `key`, if one is close enough to be meant.
    pub fn nearest(&self, key: &str) -> Option<&Arc<str>> {
        let limit = (key.chars().count() / 5).clamp(1, 6);
        let mut best: Option<(usize, &Arc<str>)> = None;
        for known in self.facts.keys() {
            let bound = best.map_or(limit, |(distance, _)| distance.saturating_sub(1));
            if let Some(distance) = distance_within(key, known, bound) {
                best = Some((distance, known));
            }
        }
        best.map(|(_, known)| known).or_else(|| self.same_tail(key))
    }

    /// A key with the same last two segments under another table: the usual slip is the wrong table.
    fn same_tail(&self, key: &str) -> Option<&Arc<str>> {
        let tail = key.rmatch_indices('.').nth(1).map(|(at, _)| &key[at..])?;
        let mut candidates = self.facts.keys().filter(|known| known.ends_with(tail) || ***known == tail[1..]);
        let first = candidates.next()?;
        candidates.next().is_none().then_some(first)
    }

    fn add(&mut self, key: &str, source: Source) -> &mut Facts {
        let facts = self.facts.entry(Arc::from(key)).or_default();
        facts.sources.insert(source);
        facts
    }

    fn add_mappings(&mut self, pack: &Pack) {
        for (old, new) in pack.mappings.iter() {
            let name = old.replace(':', "[].");
            self.add(&name, Source::MappedFrom).mapped_to = new.to_vec();
            for target in new {
                self.add(&target.replace(':', "[]."), Source::MappedTo)
                    .mapped_from
                    .push(Arc::from(name.as_str()));
            }
        }
    }

    fn add_inference(&mut self, pack: &Pack) {
        for (trigger, cases) in pack.inference.iter() {
            self.add(trigger, Source::InferTrigger);
            for (case, values) in cases.iter() {
                let keys = values.iter().map(|(key, _)| Arc::clone(key)).collect();
                self.add(trigger, Source::InferTrigger).cases.push((Arc::clone(case), keys));
                for (key, value) in values.iter() {
                    let set_by = (Arc::clone(trigger), Arc::clone(case), value.clone());
                    self.add(key, Source::InferSet).set_by.push(set_by);
                    self.add_references(value);
                }
            }
        }
    }

    fn add_references(&mut self, value: &Value) {
        match value {
            Value::Text(text) => {
                for target in substrings_between(text, "$ref{", "}") {
                    self.add(target, Source::ReferenceTarget);
                }
            }
            Value::List(items) => items.iter().for_each(|item| self.add_references(item)),
            _ => {}
        }
    }

    fn grow(&mut self) {
        for (key, facts) in &self.facts {
            let mut branch = &mut self.root;
            for step in KeyPath::parse(key).0 {
                branch = match step {
                    Step::Key(name) => branch.keys.entry(name).or_default(),
                    Step::Element => branch.element.get_or_insert_default(),
                    Step::Any => branch.any.get_or_insert_default(),
                };
            }
            branch.facts = Some(Arc::clone(key));
            branch.whole |= facts.uses.iter().any(|usage| usage.kind == ReadKind::Whole);
            if facts.uses.iter().any(|usage| usage.kind == ReadKind::Items) {
                branch.any.get_or_insert_default();
            }
            if facts.uses.iter().any(|usage| usage.kind == ReadKind::Looped) {
                branch.element.get_or_insert_default();
            }
        }
    }
}

/// Ways on for one written step, most exact first.
fn ways<'b>(branch: &'b Branch, step: &'b Step) -> impl Iterator<Item = &'b Branch> {
    let named = match step {
        Step::Key(name) => branch.keys.get(name),
        Step::Element | Step::Any => None,
    };
    let holes =
        branch.keys.iter().filter(move |(name, _)| matches!(step, Step::Key(_)) && name.starts_with('$'));
    let element = branch.element.as_deref();
    let any = branch.any.as_deref().filter(|_| !matches!(step, Step::Element));
    named.into_iter().chain(holes.map(|(_, branch)| branch)).chain(element).chain(any)
}

fn find(branch: &Branch, steps: &[Step]) -> Option<Arc<str>> {
    let Some((step, rest)) = steps.split_first() else { return branch.facts.clone() };
    ways(branch, step).find_map(|next| find(next, rest))
}

fn is_below_whole(branch: &Branch, steps: &[Step]) -> bool {
    if branch.whole {
        return true;
    }
    match steps.split_first() {
        None => false,
        // The value of an open map may be anything that the map's loop prints.
        Some((step, [])) => {
            ways(branch, step).next().is_some_and(|next| next.facts.is_none() && next.is_leaf())
        }
        Some((step, rest)) => ways(branch, step).any(|next| is_below_whole(next, rest)),
    }
}

fn collect_uses(
    known: &KnownKeys,
    branch: &Branch,
    steps: &[Step],
    (exact, uses): (bool, &mut Vec<(Use, bool)>),
) {
    let facts = branch.facts.as_deref().and_then(|name| known.facts.get(name));
    let here = facts.into_iter().flat_map(|facts| &facts.uses);
    let Some((step, rest)) = steps.split_first() else {
        return uses.extend(here.map(|usage| (usage.clone(), exact)));
    };
    // On the way down only what takes everything below reads the key.
    let open = here.filter(|usage| matches!(usage.kind, ReadKind::Whole | ReadKind::Items));
    uses.extend(open.map(|usage| (usage.clone(), false)));
    for next in ways(branch, step) {
        let is_any = branch.any.as_deref().is_some_and(|any| std::ptr::eq(any, next));
        collect_uses(known, next, rest, (exact && !is_any, uses));
    }
}

impl Branch {
    fn is_leaf(&self) -> bool {
        self.keys.is_empty() && self.element.is_none() && self.any.is_none()
    }
}

fn collect_shape(branch: &Branch, steps: &[Step], shape: &mut Shape) {
    let Some((step, rest)) = steps.split_first() else {
        shape.table |= !branch.keys.is_empty();
        shape.open |= branch.any.is_some() || branch.whole;
        if let Some(element) = &branch.element {
            shape.list = true;
            shape.list_of_tables |= !element.keys.is_empty() || element.any.is_some();
        }
        return;
    };
    for next in ways(branch, step) {
        collect_shape(next, rest, shape);
    }
}

/// Edit distance with swaps of neighbours, if it is at most `limit`.
fn distance_within(a: &str, b: &str, limit: usize) -> Option<usize> {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if limit < a.len().abs_diff(b.len()) {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut next = vec![i + 1; b.len() + 1];
        for (j, &y) in b.iter().enumerate() {
            let mut cost = (row[j] + usize::from(x != y)).min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                cost = cost.min(before[j - 1] + 1);
            }
            next[j + 1] = cost;
        }
        if next.iter().min().is_none_or(|least| limit < *least) {
            return None;
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().filter(|distance| *distance <= limit)
}

#[cfg(test)]
mod tests;
