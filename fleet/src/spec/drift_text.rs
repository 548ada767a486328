//! `[drift]` of the fleet, a group or a node as typed: patterns of deployment.toml keys and what is done about edits of
//! them, and whether it is asked who made an edit.

use super::{
    reader::{Reader, as_leaf},
    report::Report,
    tree::{Node, Table},
};
use crate::{
    bundle::DriftPolicy,
    drift::keys::{KeyPattern, KeyRule, RULES_MAX},
};

/// Rules of one scope at most: three scopes fit into a bundle.
const SCOPE_MAX: usize = RULES_MAX / 3;
/// The key that ports and probes are computed from.
const OFFSET: &str = "server.offset";
const POLICIES: [(DriftPolicy, &str); 3] =
    [(DriftPolicy::Enforce, "enforce"), (DriftPolicy::Report, "report"), (DriftPolicy::Ignore, "ignore")];

/// What a scope says.
#[derive(Debug, Clone, Default)]
pub(super) struct DriftText {
    /// `keys`.
    pub keys: Vec<KeyRule>,
    /// `name_editors`; `None`: what is above decides.
    pub name_editors: Option<bool>,
}

pub(super) fn read(reader: &mut Reader<'_>, report: &mut Report) -> DriftText {
    let Some(mut table) = reader.table("drift", report) else { return DriftText::default() };
    let keys = table.table("keys", report);
    let name_editors = table.flag("name_editors", report);
    table.finish(report);
    let keys = keys.map_or_else(Vec::new, |keys| read_keys(&keys, report));
    DriftText { keys, name_editors }
}

fn read_keys(keys: &Reader<'_>, report: &mut Report) -> Vec<KeyRule> {
    let mut rules = Vec::new();
    collect(keys.raw(), "", &mut rules, report);
    if SCOPE_MAX < rules.len() {
        report.error(
            "CV118",
            Some(keys.at().key_place()),
            format!("{} rules for keys, more than {SCOPE_MAX}", rules.len()),
            "a pattern covers everything below it, and `*` any characters of one part",
        );
        rules.clear();
    }
    rules
}

/// A key that is not in quotes is a table of TOML: `server.hostname` and `"server.hostname"` say the same.
fn collect(table: &Table, above: &str, rules: &mut Vec<KeyRule>, report: &mut Report) {
    for (key, node) in table.iter() {
        let text = if above.is_empty() { key.to_owned() } else { format!("{above}.{key}") };
        if let Node::Table(inner) = node {
            collect(inner, &text, rules, report);
            continue;
        }
        let Some(at) = node.at().cloned() else { continue };
        let word = as_leaf(node).and_then(|leaf| leaf.value.as_str());
        let policy = POLICIES.iter().find(|(_, known)| word == Some(*known)).map(|(policy, _)| *policy);
        let problem = match (KeyPattern::parse(&text), policy) {
            (_, None) => Some((
                "CV010",
                format!("the rule for {text} must be one of the words enforce, report, ignore"),
                format!("write for example \"{text}\" = \"ignore\""),
            )),
            (Err(error), Some(_)) => Some((
                "CV118",
                error.to_string(),
                "write a key of deployment.toml, such as \"cache.*\"".to_owned(),
            )),
            (Ok(pattern), Some(DriftPolicy::Ignore)) if pattern.fits(OFFSET) => Some((
                "CV118",
                format!(
                    "{text} covers {OFFSET}, which ports and probes are computed from: it cannot be left to the host"
                ),
                format!(
                    "name the keys more exactly, or add \"{OFFSET}\" = \"enforce\" in place of this rule"
                ),
            )),
            (Ok(pattern), Some(policy)) => {
                rules.push(KeyRule { pattern, policy });
                None
            }
        };
        if let Some((code, text, remedy)) = problem {
            report.error(code, Some(at.key_place()), text, remedy);
        }
    }
}
