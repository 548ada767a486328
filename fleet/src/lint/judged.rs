//! What one run of lint has judged already. Nodes of a group are mostly alike: what is equal is judged once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{PackFacts, Subject};
use crate::{finding::Finding, ids::Digest};

/// Holds digests and names, never a value of a file. It lives for one run, so it is as large as the fleet at most.
#[derive(Default)]
pub(super) struct Judged {
    subjects: RefCell<BTreeMap<Digest, Vec<Finding>>>,
    well_formed: RefCell<BTreeSet<Digest>>,
    nearest: RefCell<BTreeMap<UnknownKey, Option<Arc<str>>>>,
    matters: RefCell<BTreeMap<Digest, bool>>,
}

/// A key that a pack does not know.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnknownKey {
    pack: String,
    key: String,
}

impl Judged {
    /// The findings of a file, judged unless an equal one was: equal text from equal places, with equal inputs and an
    /// equal pack.
    pub(super) fn once(
        &self,
        subject: &Subject<'_>,
        facts: Option<&PackFacts>,
        judge: impl FnOnce() -> Vec<Finding>,
    ) -> Vec<Finding> {
        let print = subject.fingerprint(facts.map(|facts| facts.pack.digest()));
        if let Some(findings) = self.subjects.borrow().get(&print) {
            return findings.clone();
        }
        let findings = judge();
        self.subjects.borrow_mut().insert(print, findings.clone());
        findings
    }

    /// What is wrong with a text, unless it was found to be good before. Most files of alike nodes are the same.
    pub(super) fn fault<E>(&self, text: &str, fault: impl FnOnce(&str) -> Option<E>) -> Option<E> {
        let digest = Digest::of(text.as_bytes());
        if self.well_formed.borrow().contains(&digest) {
            return None;
        }
        let found = fault(text);
        if found.is_none() {
            self.well_formed.borrow_mut().insert(digest);
        }
        found
    }

    /// Whether a key matters with a pack and among the other keys of a file (`context`): each question is a render.
    pub(super) fn matters(
        &self,
        (facts, context): (&PackFacts, &str),
        key: &str,
        judge: impl FnOnce() -> bool,
    ) -> bool {
        let question = Digest::of(format!("{}\n{key}\n{context}", facts.pack.digest()).as_bytes());
        if let Some(matters) = self.matters.borrow().get(&question) {
            return *matters;
        }
        let matters = judge();
        self.matters.borrow_mut().insert(question, matters);
        matters
    }

    /// The known key that an unknown one comes nearest to: a comparison with every key of the pack.
    pub(super) fn nearest(&self, facts: &PackFacts, key: &str) -> Option<Arc<str>> {
        let unknown = UnknownKey { pack: facts.pack.digest().to_owned(), key: key.to_owned() };
        if let Some(nearest) = self.nearest.borrow().get(&unknown) {
            return nearest.clone();
        }
        let nearest = facts.known.nearest(key).cloned();
        self.nearest.borrow_mut().insert(unknown, nearest.clone());
        nearest
    }
}
