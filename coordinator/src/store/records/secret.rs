//! Secrets, and which nodes they reach.

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    ids::{GroupName, NodeName},
    spec::SecretName,
    time::Timestamp,
};
use proto::wire::store as wire;

use super::Record;

/// The value of a secret, sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRecord {
    /// Its name.
    pub name: SecretName,
    /// Used once.
    pub nonce: Vec<u8>,
    /// Ciphertext and tag.
    pub sealed: Vec<u8>,
    /// When it was last set.
    pub changed: Timestamp,
    /// By whom.
    pub changed_by: String,
    /// The groups whose operators may let it reach their nodes.
    pub groups: BTreeSet<GroupName>,
}

impl Record for SecretRecord {
    type Wire = wire::Secret;
    const NAME: &'static str = "a secret";

    fn to_wire(&self) -> wire::Secret {
        wire::Secret {
            name: self.name.to_string(),
            nonce: self.nonce.clone(),
            sealed: self.sealed.clone(),
            changed_ms: self.changed.0,
            changed_by: self.changed_by.clone(),
            groups: self.groups.iter().map(ToString::to_string).collect(),
        }
    }

    fn from_wire(wire: wire::Secret) -> Result<Self, String> {
        let group = |name: &String| GroupName::parse(name).map_err(|error| error.to_string());
        Ok(Self {
            name: SecretName::parse(&wire.name).map_err(|error| error.to_string())?,
            nonce: wire.nonce,
            sealed: wire.sealed,
            changed: Timestamp(wire.changed_ms),
            changed_by: wire.changed_by,
            groups: wire.groups.iter().map(group).collect::<Result<_, _>>()?,
        })
    }
}

/// Which secrets reach which nodes. Nodes without any are not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecretUses(BTreeMap<NodeName, BTreeSet<SecretName>>);

impl SecretUses {
    /// Every node with what it uses.
    pub fn new(uses: impl IntoIterator<Item = (NodeName, BTreeSet<SecretName>)>) -> Self {
        Self(uses.into_iter().filter(|(_, secrets)| !secrets.is_empty()).collect())
    }

    /// Every node that uses some.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, &BTreeSet<SecretName>)> {
        self.0.iter()
    }

    /// Whether a secret reaches a node.
    pub fn reaches(&self, secret: &SecretName, node: &NodeName) -> bool {
        self.0.get(node).is_some_and(|secrets| secrets.contains(secret))
    }

    /// A node gets what it got in another revision.
    pub fn keep(&mut self, node: &NodeName, other: Option<&Self>) {
        match other.and_then(|other| other.0.get(node)) {
            Some(secrets) => drop(self.0.insert(node.clone(), secrets.clone())),
            None => drop(self.0.remove(node)),
        }
    }

    /// Takes over what other nodes use.
    pub(super) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(super) fn to_wire(&self) -> wire::SecretUses {
        // Nodes of a group mostly use the same ones: each set is stored once.
        let mut sets: BTreeMap<&BTreeSet<SecretName>, Vec<String>> = BTreeMap::new();
        for (node, secrets) in &self.0 {
            sets.entry(secrets).or_default().push(node.to_string());
        }
        let uses = sets.into_iter().map(|(secrets, nodes)| {
            let secrets = secrets.iter().map(ToString::to_string).collect();
            wire::SecretUse { secrets, nodes }
        });
        wire::SecretUses { uses: uses.collect() }
    }

    pub(super) fn from_wire(wire: wire::SecretUses) -> Result<Self, String> {
        let mut uses = BTreeMap::new();
        for wire::SecretUse { secrets, nodes } in wire.uses {
            let secret = |name: &String| SecretName::parse(name).map_err(|error| error.to_string());
            let secrets = secrets.iter().map(secret).collect::<Result<BTreeSet<_>, _>>()?;
            for node in nodes {
                let node = NodeName::parse(&node).map_err(|error| error.to_string())?;
                uses.insert(node, secrets.clone());
            }
        }
        Ok(Self(uses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_whom_comes_back_and_each_set_is_stored_once() {
        let node = |name: &str| NodeName::parse(name).unwrap();
        let set = |names: &[&str]| names.iter().map(|name| SecretName::parse(name).unwrap()).collect();
        let uses = SecretUses::new([
            (node("is-1"), set(&["db", "admin"])),
            (node("is-2"), set(&["db", "admin"])),
            (node("gw-1"), set(&["db"])),
            (node("gw-2"), set(&[])),
        ]);
        let wire = uses.to_wire();
        assert_eq!(wire.uses.len(), 2);
        let mut back = SecretUses::from_wire(wire).unwrap();
        assert_eq!(back, uses);
        let (db, admin) = (SecretName::parse("db").unwrap(), SecretName::parse("admin").unwrap());
        assert!(back.reaches(&db, &node("gw-1")) && !back.reaches(&admin, &node("gw-1")));
        back.keep(&node("gw-1"), None);
        back.keep(&node("gw-2"), Some(&uses));
        back.keep(&node("is-1"), Some(&uses));
        assert!(!back.reaches(&db, &node("gw-1")) && !back.reaches(&db, &node("gw-2")));
        assert!(back.reaches(&admin, &node("is-1")));
    }
}
