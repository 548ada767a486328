//! Keys that the product knows and yet nothing reads, and rules that WSO2 wrote down and never enforces.

use std::collections::BTreeSet;

use carbon::known::{Facts, Source};

use super::Look;
use crate::spec::report::Report;

pub(super) fn check(look: &Look<'_>, report: &mut Report) {
    for (key, _) in look.typed.data.iter() {
        if is_dead(look, key) {
            report.info(
                "CV509",
                look.place(key),
                format!("no file of this product is made from {key}"),
                "most likely it has no effect; a component may still read it while the server runs",
            );
        }
    }
    rules(look, report);
}

pub(super) fn is_dead(look: &Look<'_>, key: &str) -> bool {
    const NAMES_ONLY: [Source; 3] = [Source::Default, Source::MappedFrom, Source::MappedTo];
    let known = &look.facts.known;
    let Some((_, facts)) = known.find(key) else { return false };
    let by_name = |sources: &BTreeSet<Source>| sources.iter().all(|source| NAMES_ONLY.contains(source));
    let is_dead = |name: &str, facts: &Facts| by_name(&facts.sources) && known.uses(name).is_empty();
    is_dead(key, facts)
        && facts
            .mapped_to
            .iter()
            .all(|target| known.find(target).is_some_and(|(_, facts)| is_dead(target, facts)))
}

/// Rules that name their pattern `match_regex`, which the product's code never looks at.
fn rules(look: &Look<'_>, report: &mut Report) {
    let data = look.rendered.resolved.all();
    for rule in look.facts.pack.rules.iter().filter(|rule| rule.breaks_dead_pattern(data)) {
        let known = look.facts.known.get(&rule.key);
        let old = known.into_iter().flat_map(|facts| facts.mapped_from.iter());
        let typed = old.chain([&rule.key]).find(|key| look.typed.data.contains_key(*key));
        // A rule on a key that was not typed is caused by the values that make the rule count.
        let conditions = rule.conditions.iter().flat_map(|conditions| conditions.iter().map(|(key, _)| key));
        let cause = typed.or_else(|| conditions.into_iter().find(|key| look.typed.data.contains_key(*key)));
        if cause.is_none() {
            continue;
        }
        let why = match &rule.error_message {
            Some(message) => message.to_string(),
            None => format!("{} has a value that its rule does not allow", rule.key),
        };
        report.warning(
            "CV512",
            cause.and_then(|key| look.place(key)),
            format!("{why} (a rule of this product that the server does not enforce)"),
            format!("correct {}", typed.unwrap_or(&rule.key)),
        );
    }
}
