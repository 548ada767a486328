//! Changes on which nodes must agree while only some of them have made them: keystores and signing certificates.
//!
//! Such a change is safe in three rollouts, each an `apply` of its own: **trust** the new certificate everywhere (the
//! truststore gains it), **switch** to the new key, **drop** the old certificate. A single revision that switches a key
//! which not every node trusts yet breaks every call between nodes that have it and nodes that have not, for as long
//! as the rollout lasts, and after a rollback as well. It cannot be split by looking at bytes: whether a truststore
//! holds a certificate is not in a manifest. A revision that changes keys and trust together is therefore refused, with
//! the way out; one that changes keys alone is a switch, and gets a warning that says what must have gone before.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bundle::{Bundle, HomePath, RestartClass},
    finding::{Finding, Severity},
    ids::{Digest, NodeName},
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

impl From<PhasedChange> for Finding {
    fn from(change: PhasedChange) -> Self {
        let PhasedChange { path, nodes, trust_changes_too } = change;
        let names: Vec<&str> = nodes.iter().map(NodeName::as_str).collect();
        let (code, severity, what, remedy) = if trust_changes_too {
            (
                "CV552",
                Severity::Error,
                "changes together with a truststore",
                "apply the truststore with the old and the new certificate first, then the key, then the truststore \
                 without the old one; a rule with restart = \"restart\" for the path says that it need not be phased",
            )
        } else {
            (
                "CV553",
                Severity::Warning,
                "changes",
                "make sure that every node's truststore holds the new certificate already, by an earlier apply",
            )
        };
        Finding {
            code,
            severity,
            place: None,
            node: None,
            message: format!(
                "{path} {what} on {}, which cannot trust each other while only some of them have it",
                names.join(", ")
            ),
            remedy: remedy.to_owned(),
        }
    }
}

/// A keystore that holds what a server trusts, by WSO2's names (`client-truststore.jks`, `.p12`).
fn trusts(path: &HomePath) -> bool {
    path.file_name().contains("truststore")
}

/// A node that gets other files.
#[derive(Debug, Clone)]
pub struct KeyHolder<'a> {
    /// What the files of `new` meant before, as far as they were there: assigned, or found on the host.
    pub before: BTreeMap<&'a HomePath, Digest>,
    /// What it gets.
    pub new: &'a Bundle,
}

/// The phased changes of a revision: files of class `phased` that mean something else than what the node has, where
/// more than one node takes part. A file that is new on a node is not a switch, and trust may change at any time.
pub fn phased_changes(nodes: &BTreeMap<NodeName, KeyHolder<'_>>) -> Vec<PhasedChange> {
    let mut changes: BTreeMap<&HomePath, BTreeSet<NodeName>> = BTreeMap::new();
    let mut trust_changes_too = false;
    for (name, holder) in nodes {
        for (path, file) in &holder.new.files {
            let changed = holder.before.get(path).is_some_and(|before| *before != file.meaning);
            if changed && trusts(path) {
                trust_changes_too = true;
            } else if changed && file.restart == RestartClass::Phased {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Fleet, Sources, compose};

    fn fleet(rules: &str, files: &[(&str, &str)]) -> Fleet {
        let fleet = "name = \"f\"\n[groups.g]\nproduct = \"wso2is-7.2\"\n\
                     [nodes.a]\ngroup = \"g\"\nhost = \"h1\"\nhome = \"/opt/is\"\n\
                     [nodes.b]\ngroup = \"g\"\nhost = \"h2\"\nhome = \"/opt/is\"\n";
        let fleet = format!("{fleet}{rules}");
        let security = "repository/resources/security";
        let mut sources = vec![("fleet.toml".to_owned(), fleet.as_bytes().to_vec())];
        for (path, content) in files {
            let (of, name) = path.split_once('/').expect("of and name");
            let path = format!("files/{of}/{security}/{name}");
            sources.push((path, content.as_bytes().to_vec()));
        }
        let composition = compose(&Sources(sources.into_iter().collect()));
        composition.fleet.unwrap_or_else(|| panic!("{:?}", composition.findings))
    }

    fn check(old: &[(&str, &str)], new: &[(&str, &str)], expected: &[&str]) {
        assert_eq!(told("", old, new), expected);
    }

    /// What is said of a change under these rules for files.
    fn told(rules: &str, old: &[(&str, &str)], new: &[(&str, &str)]) -> Vec<String> {
        let (old, new) = (fleet(rules, old), fleet(rules, new));
        let pairs = new
            .nodes
            .iter()
            .map(|(name, node)| {
                let files = &old.nodes[name].bundle.files;
                let before = files.iter().map(|(path, file)| (path, file.meaning)).collect();
                (name.clone(), KeyHolder { before, new: &node.bundle })
            })
            .collect();
        let found: Vec<Finding> = phased_changes(&pairs).into_iter().map(Finding::from).collect();
        found.iter().map(|f| format!("{} {} {}", f.severity.as_str(), f.code, f.message)).collect()
    }

    #[test]
    fn a_rule_may_say_that_a_key_need_not_be_phased() {
        let before = [("g/wso2carbon.jks", "k1"), ("g/own.jks", "o1"), ("g/client-truststore.jks", "t1")];
        let after = before.map(|(path, _)| (path, "new"));
        let refused = |rules: &str| {
            let told = told(rules, &before, &after);
            let path = |text: &String| text.split('/').next_back()?.split(' ').next().map(str::to_owned);
            told.iter().filter(|text| text.contains("CV552")).filter_map(path).collect::<Vec<_>>()
        };
        assert_eq!(refused(""), ["own.jks", "wso2carbon.jks"]);
        let rule = |path: &str| {
            format!("[[files]]\npath = \"repository/resources/security/{path}\"\nrestart = \"restart\"\n")
        };
        assert_eq!(refused(&rule("own.jks")), ["wso2carbon.jks"]);
        assert_eq!(refused(&rule("*.jks")), Vec::<String>::new());
    }

    #[test]
    fn keys_that_change_with_what_trusts_them_are_refused_and_alone_warned_about() {
        let (key, trust) = ("g/wso2carbon.jks", "g/client-truststore.jks");
        let before = [(key, "k1"), (trust, "t1")];
        let path = "repository/resources/security/wso2carbon.jks";
        let rest = "on a, b, which cannot trust each other while only some of them have it";
        check(&before, &before, &[]);
        check(&before, &[(key, "k1"), (trust, "t2")], &[]);
        check(&before, &[(key, "k2"), (trust, "t1")], &[&format!("warning CV553 {path} changes {rest}")]);
        check(
            &before,
            &[(key, "k2"), (trust, "t2")],
            &[&format!("error CV552 {path} changes together with a truststore {rest}")],
        );
        // New on the nodes, or on one of them only: nobody else has to agree.
        check(&[], &[(key, "k2"), (trust, "t2")], &[]);
        let own = [("a/wso2carbon.jks", "k1"), ("b/wso2carbon.jks", "k1"), (trust, "t1")];
        check(&own, &[("a/wso2carbon.jks", "k2"), ("b/wso2carbon.jks", "k1"), (trust, "t2")], &[]);
    }
}
