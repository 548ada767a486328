//! What a rollout will do, for people, before anything is done.

use std::collections::BTreeMap;

use fleet::{
    ids::GroupName,
    rollout::{GroupRollout, Rollout, order},
    time::Human,
};

/// Groups in the order of execution with their waves, why they come in that order, and what follows each wave:
/// `1. key-manager: is-1, then is-2`. Groups with one number do not wait for each other.
///
/// `reasons` are those of a fleet directory; a rollback has none, since a revision keeps its order and not why.
pub fn waves(rollout: &Rollout, reasons: Option<&[order::Reason]>) -> Vec<String> {
    let after = rollout.groups.iter().map(|(name, group)| (name, &group.after)).collect();
    let mut ranks: BTreeMap<&GroupName, usize> = BTreeMap::new();
    for name in order::sorted(&after) {
        // Those before it are in front of it, unless they take no part.
        let before = after[name].iter().filter_map(|before| ranks.get(before)).max();
        ranks.insert(name, before.map_or(1, |rank| rank + 1));
    }
    let line = |name: &GroupName| {
        let mut by_wave: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (node, step) in rollout.steps.iter().filter(|(_, step)| step.group == *name) {
            by_wave.entry(step.wave).or_default().push(node.as_str());
        }
        let waves: Vec<String> = by_wave.into_values().map(|nodes| nodes.join(", ")).collect();
        let beside: Vec<&str> = ranks
            .iter()
            .filter(|(other, rank)| **other != name && **rank == ranks[name])
            .map(|(other, _)| other.as_str())
            .collect();
        let beside = match beside.as_slice() {
            [] => String::new(),
            others => format!(" (at the same time as {})", others.join(", ")),
        };
        std::iter::once(format!("{}. {name}: {}{beside}", ranks[name], waves.join(", then ")))
            .chain(whys(rollout, name, reasons))
            .chain(rollout.groups.get(name).and_then(after_each_wave).map(|text| format!("   {text}")))
            .collect::<Vec<_>>()
    };
    order::sorted(&after).into_iter().flat_map(line).collect()
}

/// Why a group comes after others that take part: what was derived, that it was typed, or that it is kept.
fn whys(rollout: &Rollout, name: &GroupName, reasons: Option<&[order::Reason]>) -> Vec<String> {
    let before = rollout.groups.get(name).into_iter().flat_map(|group| &group.after);
    let before = before.filter(|before| rollout.groups.contains_key(*before));
    let why = |before: &GroupName| {
        let Some(reasons) = reasons else {
            return format!("   {name} after {before}: as that revision was applied");
        };
        let derived = reasons.iter().find(|reason| reason.group == *name && reason.after == *before);
        match derived {
            Some(reason) => format!("   {reason}"),
            None => format!("   {name} after {before}: its `after` in fleet.toml says so"),
        }
    };
    before.map(why).collect()
}

/// `after each wave: gates login, token`, if the group has gates.
fn after_each_wave(group: &GroupRollout) -> Option<String> {
    let gates = group.gates.as_ref().filter(|gates| !gates.list.is_empty())?;
    let names: Vec<&str> = gates.list.iter().map(|gate| gate.name.as_str()).collect();
    let word = if names.len() == 1 { "gate" } else { "gates" };
    Some(format!("after each wave: {} of soak, then {word} {}", Human(group.policy.soak), names.join(", ")))
}
