//! What the Admin API of an API Manager has otherwise than the plan expects, as the agent that keeps its Key Managers has
//! just seen it (ADR 67).

use super::PlannedNode;
use crate::{
    finding::{Finding, Severity},
    ids::NodeName,
    key_manager::{
        KeyManagers,
        found::{Registered, remarks},
    },
    spec::ComposedNode,
};

/// Warnings: what is found there is no reason not to apply. `nodes`: what each gets, what it was assigned before, and
/// what its Admin API has.
pub fn registered<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a ComposedNode, Option<&'a PlannedNode>, &'a Registered)>,
) -> Vec<Finding> {
    let none = KeyManagers::default();
    let mut findings = Vec::new();
    for (name, node, assigned, registered) in nodes {
        let before = assigned.map_or(&none, |assigned| &assigned.bundle.key_managers);
        let remarks = remarks(name.as_str(), before, &node.bundle.key_managers, registered);
        findings.extend(remarks.into_iter().map(|remark| Finding {
            code: "CV574",
            severity: Severity::Warning,
            place: None,
            node: Some(name.clone()),
            message: remark.message,
            remedy: remark.remedy,
        }));
    }
    findings
}
