//! Doubts about deployment.toml that WSO2 itself never voices: keys that it ignores, values that do something else
//! than they say, nodes that cannot work together.
//!
//! Each deployment.toml is looked at with the resources of the very product that reads it. Pure; gives findings
//! (docs/findings.md, CV5xx). Called by `convoy lint --pack`.

pub mod across;
mod clear;
mod dead;
mod infer;
mod keys;
mod literal;
pub mod refusal;
pub(crate) mod subject;
mod types;
mod xml;

use std::collections::BTreeMap;

use carbon::{
    MapperError, Pack, Rendered,
    flatten::{Flattened, flatten},
    known::KnownKeys,
    render,
};

use crate::{
    finding::Finding,
    spec::{Fleet, report::Report},
};

pub use subject::{ClearText, Subject};

/// A pack with what can be known about its keys; made once, used for every node of the product.
#[derive(Debug)]
pub struct PackFacts {
    /// The resources.
    pub pack: Pack,
    /// Its keys.
    pub known: KnownKeys,
}

impl PackFacts {
    /// Gathers the keys.
    pub fn new(pack: Pack) -> Self {
        let known = KnownKeys::of(&pack);
        Self { pack, known }
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
    /// What the server would use, or why it would not start.
    rendered: Result<Rendered, MapperError>,
}

impl Look<'_> {
    /// The place of a key as typed.
    fn place(&self, key: &str) -> Option<crate::finding::Place> {
        self.subject.place(key, self.typed.positions.get(key).copied())
    }
}

/// Everything doubtful about every node whose product has a pack here.
pub fn packs(fleet: &Fleet, packs: &Packs, clear_text: ClearText) -> Vec<Finding> {
    let mut report = Report::default();
    for (name, node) in &fleet.nodes {
        let Some(facts) = packs.get(&node.bundle.service.product) else { continue };
        let subject = Subject::composed(name, node, clear_text);
        report.node = Some(name.clone());
        look(&subject, facts, &mut report);
        report.node = None;
    }
    report.into_findings()
}

/// Everything doubtful about one deployment.toml.
pub fn with_pack(subject: &Subject<'_>, facts: &PackFacts) -> Vec<Finding> {
    let mut report = Report::default();
    report.node = subject.node.cloned();
    look(subject, facts, &mut report);
    report.into_findings()
}

fn look(subject: &Subject<'_>, facts: &PackFacts, report: &mut Report) {
    let typed = match flatten(subject.text) {
        Ok(typed) => typed,
        Err(error) => return refusal::report(subject, facts, (&error, None), report),
    };
    let rendered = render(&facts.pack, subject.text, &subject.inputs());
    if let Err(error) = &rendered
        && !refusal::is_made_up(error, &typed)
    {
        refusal::report(subject, facts, (error, Some(&typed)), report);
    }
    let look = Look { subject, facts, typed, rendered };
    keys::check(&look, report);
    types::check(&look, report);
    literal::check(&look, report);
    infer::check(&look, report);
    dead::check(&look, report);
    clear::check(&look, report);
    xml::check(&look, report);
}

#[cfg(test)]
mod tests;
