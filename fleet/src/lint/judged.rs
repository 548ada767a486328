//! What one run of lint has judged already. Nodes of a group are mostly alike: what is equal is judged once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use carbon::{
    Inputs, MapperError,
    alike::{Alike, Base},
    flatten::Flattened,
    render_typed,
};

use super::{PackFacts, Subject};
use crate::{finding::Finding, ids::Digest};

/// Holds digests and names, and one render per pack. It lives for one run, so it is as large as the fleet at most.
/// Threads share it: what two of them ask at the same moment is judged twice, with the same answer.
#[derive(Default)]
pub(super) struct Judged {
    subjects: Mutex<BTreeMap<Digest, Vec<Finding>>>,
    /// The first render with each pack, by the pack's digest.
    bases: Mutex<BTreeMap<String, Arc<Base>>>,
    /// Files of the bases that were found to be good.
    sound: Mutex<BTreeSet<BaseFile>>,
    well_formed: Mutex<BTreeSet<Digest>>,
    nearest: Mutex<BTreeMap<UnknownKey, Option<Arc<str>>>>,
    matters: Mutex<BTreeMap<Digest, bool>>,
}

/// Each entry is put in whole, so a panic elsewhere leaves nothing half done.
fn lock<T>(known: &Mutex<T>) -> MutexGuard<'_, T> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A key that a pack does not know.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct UnknownKey {
    pack: String,
    key: String,
}

/// A file that a base rendered.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct BaseFile {
    pack: String,
    file: Arc<str>,
}

impl Judged {
    /// Renders a file; what it has in common with the first one of its pack is not rendered again.
    ///
    /// # Errors
    /// The mapper's refusal.
    pub(super) fn rendered(
        &self,
        facts: &PackFacts,
        typed: Flattened,
        inputs: &Inputs,
    ) -> Result<Alike, MapperError> {
        let base = lock(&self.bases).get(facts.pack.digest()).cloned();
        if let Some(base) = base {
            return base.render((&facts.pack, &facts.readers), typed, inputs);
        }
        let rendered = render_typed(&facts.pack, typed, inputs)?;
        let base = Arc::new(Base::new(rendered.clone()));
        // One that another thread has put in meanwhile stays: others were compared with it.
        lock(&self.bases).entry(facts.pack.digest().to_owned()).or_insert(base);
        Ok(Alike { rendered, taken: BTreeSet::new() })
    }

    /// What is wrong with a file that was taken from the base of its pack, unless it was found to be good there.
    pub(super) fn fault_of_base<E>(
        &self,
        (facts, file): (&PackFacts, &Arc<str>),
        text: &str,
        fault: impl FnOnce(&str) -> Option<E>,
    ) -> Option<E> {
        let base = BaseFile { pack: facts.pack.digest().to_owned(), file: Arc::clone(file) };
        if lock(&self.sound).contains(&base) {
            return None;
        }
        let found = self.fault(text, fault);
        if found.is_none() {
            lock(&self.sound).insert(base);
        }
        found
    }

    /// The findings of a file, judged unless an equal one was: equal text from equal places, with equal inputs and an
    /// equal pack.
    pub(super) fn once(
        &self,
        subject: &Subject<'_>,
        facts: Option<&PackFacts>,
        judge: impl FnOnce() -> Vec<Finding>,
    ) -> Vec<Finding> {
        let print = subject.fingerprint(facts.map(|facts| facts.pack.digest()));
        let known = lock(&self.subjects).get(&print).cloned();
        if let Some(findings) = known {
            return findings;
        }
        let findings = judge();
        lock(&self.subjects).insert(print, findings.clone());
        findings
    }

    /// What is wrong with a text, unless it was found to be good before. Most files of alike nodes are the same.
    pub(super) fn fault<E>(&self, text: &str, fault: impl FnOnce(&str) -> Option<E>) -> Option<E> {
        let digest = Digest::of(text.as_bytes());
        if lock(&self.well_formed).contains(&digest) {
            return None;
        }
        let found = fault(text);
        if found.is_none() {
            lock(&self.well_formed).insert(digest);
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
        let known = lock(&self.matters).get(&question).copied();
        if let Some(matters) = known {
            return matters;
        }
        let matters = judge();
        lock(&self.matters).insert(question, matters);
        matters
    }

    /// The known key that an unknown one comes nearest to: a comparison with every key of the pack.
    pub(super) fn nearest(&self, facts: &PackFacts, key: &str) -> Option<Arc<str>> {
        let unknown = UnknownKey { pack: facts.pack.digest().to_owned(), key: key.to_owned() };
        let known = lock(&self.nearest).get(&unknown).cloned();
        if let Some(nearest) = known {
            return nearest;
        }
        let nearest = facts.known.nearest(key).cloned();
        lock(&self.nearest).insert(unknown, nearest.clone());
        nearest
    }
}
