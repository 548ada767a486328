//! Changes on which nodes must agree while only some of them have made them: keystores and signing certificates.
//!
//! Such a change is safe in three rollouts, each an `apply` of its own: **trust** the new certificate everywhere (the
//! truststore gains it), **switch** to the new key, **drop** the old certificate. A single revision that switches a key
//! which not every node trusts yet breaks every call between nodes that have it and nodes that have not, for as long
//! as the rollout lasts, and after a rollback as well. It cannot be split by looking at bytes: whether a truststore
//! holds a certificate is not in a manifest. A revision that changes keys and trust together is therefore refused, with
//! the way out; one that changes keys alone is a switch, and gets a warning that says what must have gone before.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::{
    bundle::{Bundle, HomePath, RestartClass},
    ids::NodeName,
};

/// A change that must not be rolled out in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhasedChange {
    /// The file of class `phased` that changes.
    pub path: HomePath,
    /// On these nodes.
    pub nodes: BTreeSet<NodeName>,
    /// Files that trust keys and change in the same revision: the phases are mixed.
    pub trust_changes_too: bool,
}

impl PhasedChange {
    /// Whether it must be refused: trusting and switching are in one revision. Otherwise it is a warning.
    pub fn is_refused(&self) -> bool {
        self.trust_changes_too
    }
}

impl fmt::Display for PhasedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, nodes, trust_changes_too } = self;
        write!(
            f,
            "{path} changes on {} nodes, which cannot trust each other while only some have it: ",
            nodes.len()
        )?;
        if *trust_changes_too {
            f.write_str(
                "first apply the changed truststore alone, then the key, then drop the old certificate",
            )
        } else {
            f.write_str("every node's truststore must hold the new certificate already, by an earlier apply")
        }
    }
}

/// A keystore that holds what a server trusts, by WSO2's names (`client-truststore.jks`, `.p12`).
fn trusts(path: &HomePath) -> bool {
    path.file_name().contains("truststore")
}

/// The phased changes of a revision: files of class `phased` that mean something else than what the node has, where
/// more than one node takes part. A file that is new on a node is not a switch, and trust may change at any time.
pub fn phased_changes(nodes: &BTreeMap<NodeName, (&Bundle, &Bundle)>) -> Vec<PhasedChange> {
    let mut changes: BTreeMap<&HomePath, BTreeSet<NodeName>> = BTreeMap::new();
    let mut trust_changes_too = false;
    for (name, (old, new)) in nodes {
        for (path, file) in &new.files {
            let changed = old.files.get(path).is_some_and(|before| before.meaning != file.meaning);
            if !changed || file.restart != RestartClass::Phased {
                continue;
            }
            if trusts(path) {
                trust_changes_too = true;
            } else {
                changes.entry(path).or_default().insert(name.clone());
            }
        }
    }
    changes
        .into_iter()
        .filter(|(_, on)| 1 < on.len())
        .map(|(path, nodes)| PhasedChange { path: path.clone(), nodes, trust_changes_too })
        .collect()
}
