//! What agents would refuse by their own `[allow]`: files, hooks, gates. Found before a rollout begins, because a gate is
//! asked only after a wave has restarted (ADR 0049).

use std::collections::{BTreeMap, BTreeSet};

use super::{Base, Knowledge};
use crate::{
    finding::{Finding, Severity, names},
    ids::NodeName,
    spec::ComposedNode,
};

/// What the agents of these nodes would refuse. Nodes with the same trouble are named together. A host that has not
/// said what it allows, or that nobody knows, is not judged.
pub fn refused_by_agents<'a>(
    nodes: impl IntoIterator<Item = (&'a NodeName, &'a ComposedNode, &'a Base)>,
) -> Vec<Finding> {
    let (mut now, mut earlier) = (Refused::default(), Refused::default());
    for (name, node, base) in nodes {
        let (facts, refused) = match &base.host {
            Knowledge::Now(facts) => (facts, &mut now),
            Knowledge::Seen { facts, .. } => (facts, &mut earlier),
            Knowledge::Unknown { .. } => continue,
        };
        for text in facts.allowed.iter().flat_map(|allowed| allowed.refusals(node)) {
            refused.entry(text).or_default().insert(name);
        }
    }
    let certain = now.into_iter().map(|(text, nodes)| Finding {
        code: "CV122",
        severity: Severity::Error,
        place: None,
        node: None,
        message: format!("{text}; the agent of {} would refuse it", shown(&nodes)),
        remedy: format!(
            "change agent.toml on these hosts and restart their agents ({GOES_ON}), or {LEAVE_OUT}"
        ),
    });
    let likely = earlier.into_iter().map(|(text, nodes)| Finding {
        code: "CV123",
        severity: Severity::Warning,
        place: None,
        node: None,
        message: format!(
            "{text}; the agent of {} would have refused it when it answered last",
            shown(&nodes)
        ),
        remedy: format!("make sure that agent.toml on these hosts allows it by now, or {LEAVE_OUT}"),
    });
    certain.chain(likely).collect()
}

const GOES_ON: &str = "a server goes on while its agent restarts";
const LEAVE_OUT: &str = "leave it out of the fleet directory";

/// Nodes by what would be refused there.
type Refused<'a> = BTreeMap<String, BTreeSet<&'a NodeName>>;

fn shown(nodes: &BTreeSet<&NodeName>) -> String {
    names(nodes.iter().map(|name| name.as_str()))
}
