//! Doubts about deployment.toml that WSO2 itself never voices: keys that it ignores, values that do something else
//! than they say, nodes that cannot work together.
//!
//! Each deployment.toml is looked at with the resources of the very product that reads it. Pure; gives findings
//! (docs/findings.md, CV5xx). Called by `convoy lint`.

mod across;
mod clear;
mod dead;
pub mod documented;
mod effect;
mod infer;
mod judged;
mod keys;
mod literal;
pub mod refusal;
mod rotation;
mod share;
mod subject;
mod types;
mod workers;
mod xml;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use carbon::{
    Examined, MapperError, Pack, Rendered,
    alike::{Alike, Readers},
    examine,
    flatten::{Flattened, flatten},
    known::KnownKeys,
};

use crate::{
    finding::Finding,
    ids::NodeName,
    preflight::databases::DatabaseLimits,
    spec::{ComposedNode, Fleet, report::Report},
};

use judged::Judged;
pub use subject::{ClearText, Subject};

/// A pack with what can be known about its keys; made once, used for every node of the product.
#[derive(Debug)]
pub struct PackFacts {
    /// The resources.
    pub pack: Pack,
    /// Its keys.
    pub known: KnownKeys,
    /// The tables that its keys begin with.
    tables: BTreeSet<String>,
    /// Which of its templates read what.
    pub readers: Readers,
}

impl PackFacts {
    /// Gathers the keys.
    pub fn new(pack: Pack) -> Self {
        let known = KnownKeys::of(&pack);
        let tables = known.iter().map(|(key, _)| keys::top_table(key).to_owned()).collect();
        let readers = Readers::of(&pack);
        Self { pack, known, tables, readers }
    }
}

/// Packs by the id of the product that they belong to.
pub type Packs = BTreeMap<String, PackFacts>;

/// What every check of one deployment.toml with its pack looks at.
struct Look<'a> {
    subject: &'a Subject<'a>,
    facts: &'a PackFacts,
    /// The keys as typed.
    typed: Flattened,
    /// What the server would use; where it would not start, what it would use without the refusals.
    rendered: Rendered,
    /// Files that are those of another node with this pack.
    taken: BTreeSet<Arc<str>>,
    /// Why it would not start.
    refusals: Vec<MapperError>,
    judged: &'a Judged,
}

impl Look<'_> {
    /// The place of a key as typed.
    fn place(&self, key: &str) -> Option<crate::finding::Place> {
        self.subject.place(key, self.typed.positions.get(key).copied())
    }
}

/// Everything doubtful about a composed fleet: each node by itself, with the resources of its product where a pack is
/// at hand, and then all of them together. Errors are what a server certainly fails on.
pub fn fleet(fleet: &Fleet, packs: &Packs, clear_text: ClearText) -> Vec<Finding> {
    let of_product = |_: &NodeName, node: &ComposedNode| packs.get(&node.bundle.service.product);
    nodes(fleet, of_product, (clear_text, &DatabaseLimits::new()))
}

/// The same where every node may have a pack of its own: hosts are updated one by one. Without a pack a node is looked
/// at as far as that goes. `limits`: what the database servers themselves say.
pub fn nodes<'p>(
    fleet: &'p Fleet,
    pack_of: impl Fn(&NodeName, &ComposedNode) -> Option<&'p PackFacts>,
    (clear_text, limits): (ClearText, &DatabaseLimits),
) -> Vec<Finding> {
    let mut report = Report::default();
    let judged = Judged::default();
    let nodes: Vec<One<'_>> =
        fleet.nodes.iter().map(|(name, node)| One { name, node, facts: pack_of(name, node) }).collect();
    let order = first_of_each_pack(&nodes);
    let mut found = workers::each(&order, |one| (one.name, one.findings(clear_text, &judged)));
    found.sort_by_key(|(name, _)| *name);
    found.into_iter().flat_map(|(_, findings)| findings).for_each(|finding| report.add(finding));
    across::check(fleet, (&pack_of, limits), &mut report);
    rotation::check(fleet, &mut report);
    report.into_findings_by(|found| share::shared(found, fleet))
}

/// A node with the resources of its product, as far as they are at hand.
struct One<'a> {
    name: &'a NodeName,
    node: &'a ComposedNode,
    facts: Option<&'a PackFacts>,
}

impl One<'_> {
    fn findings(&self, clear_text: ClearText, judged: &Judged) -> Vec<Finding> {
        let subject = Subject::composed(self.name, self.node, clear_text);
        let mut findings = judged.once(&subject, self.facts, || {
            let mut report = Report::default();
            match self.facts {
                Some(facts) => look(&subject, (facts, judged), &mut report),
                None => without_pack(&subject, &mut report),
            }
            report.into_findings()
        });
        findings.iter_mut().for_each(|finding| finding.node = Some(self.name.clone()));
        findings
    }
}

/// The first node of each pack, then the second of each, and so on: what is judged once per pack is judged by several
/// threads side by side, not by all of them at once.
fn first_of_each_pack<'n, 'a>(nodes: &'n [One<'a>]) -> Vec<&'n One<'a>> {
    let mut seen: BTreeMap<Option<&str>, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, &One<'_>)> = Vec::with_capacity(nodes.len());
    for one in nodes {
        let rank = seen.entry(one.facts.map(|facts| facts.pack.digest())).or_default();
        ranked.push((*rank, one));
        *rank += 1;
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, one)| one).collect()
}

/// What can be said about one deployment.toml when nothing is known of its product's keys.
fn without_pack(subject: &Subject<'_>, report: &mut Report) {
    match flatten(subject.text) {
        Ok(typed) => clear::check(subject, &typed, report),
        Err(error) => refusal::report(subject, None, (&error, None), report),
    }
}

/// Everything doubtful about one deployment.toml.
pub fn with_pack(subject: &Subject<'_>, facts: &PackFacts) -> Vec<Finding> {
    let mut report = Report::default();
    report.node = subject.node.cloned();
    look(subject, (facts, &Judged::default()), &mut report);
    report.into_findings()
}

fn look(subject: &Subject<'_>, (facts, judged): (&PackFacts, &Judged), report: &mut Report) {
    let typed = match flatten(subject.text) {
        Ok(typed) => typed,
        Err(error) => return refusal::report(subject, Some(facts), (&error, None), report),
    };
    let inputs = subject.inputs();
    let (rendered, taken, refusals) = match judged.rendered(facts, typed.clone(), &inputs) {
        Ok(Alike { rendered, taken }) => (rendered, taken, Vec::new()),
        // One refusal must not hide the next, nor what else is wrong.
        Err(_) => {
            let Examined { rendered, refusals } = examine(&facts.pack, subject.text, &inputs);
            (rendered, BTreeSet::new(), refusals)
        }
    };
    for error in refusals.iter().filter(|error| !refusal::is_made_up(error, &typed)) {
        refusal::report(subject, Some(facts), (error, Some(&typed)), report);
    }
    let look = Look { subject, facts, typed, rendered, taken, refusals, judged };
    keys::check(&look, report);
    types::check(&look, report);
    literal::check(&look, report);
    infer::check(&look, report);
    dead::check(&look, report);
    effect::check(&look, report);
    clear::check(look.subject, &look.typed, report);
    xml::check(&look, report);
}

#[cfg(test)]
mod tests;
