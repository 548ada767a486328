//! Part of a fleet: `--node A,B` and `--group G`.

use fleet::ids::{GroupName, NodeName};

use super::node;
use crate::exit::Failure;

/// Which nodes take part; all if nothing is named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Only {
    /// These.
    pub nodes: Vec<NodeName>,
    /// And those of these groups.
    pub groups: Vec<GroupName>,
}

impl Only {
    /// What was typed, read.
    pub(super) fn of(nodes: &[String], groups: &[String]) -> Result<Self, Failure> {
        Ok(Self {
            nodes: nodes.iter().map(|name| node(name)).collect::<Result<_, _>>()?,
            groups: groups_named(groups)?,
        })
    }
}

/// Names of groups, read.
pub(super) fn groups_named(names: &[String]) -> Result<Vec<GroupName>, Failure> {
    let group = |name: &String| {
        GroupName::parse(name)
            .map_err(|error| Failure::usage(error.to_string(), "name groups as fleet.toml does"))
    };
    names.iter().map(group).collect()
}
