//! What a rollout will do, for people, before anything is done.

use std::collections::BTreeMap;

use fleet::{
    ids::GroupName,
    rollout::{GroupRollout, Rollout, order},
    time::Human,
};

/// Groups in the order of execution with their waves, why they come in that order where that was derived, and what
/// follows each wave: `1. key-manager: is-1, then is-2`.
pub fn waves(rollout: &Rollout, reasons: &[order::Reason]) -> Vec<String> {
    let after = rollout.groups.iter().map(|(name, group)| (name, &group.after)).collect();
    let line = |(index, name): (usize, &GroupName)| {
        let mut by_wave: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
        for (node, step) in rollout.steps.iter().filter(|(_, step)| step.group == *name) {
            by_wave.entry(step.wave).or_default().push(node.as_str());
        }
        let waves: Vec<String> = by_wave.into_values().map(|nodes| nodes.join(", ")).collect();
        let why = reasons
            .iter()
            .filter(|reason| reason.group == *name && rollout.groups.contains_key(&reason.after))
            .map(|reason| format!("   {reason}"));
        let follows = rollout.groups.get(name).and_then(after_each_wave).map(|text| format!("   {text}"));
        std::iter::once(format!("{}. {name}: {}", index + 1, waves.join(", then ")))
            .chain(why)
            .chain(follows)
            .collect::<Vec<_>>()
    };
    order::sorted(&after).into_iter().enumerate().flat_map(line).collect()
}

/// `after each wave: gates login, token`, if the group has gates.
fn after_each_wave(group: &GroupRollout) -> Option<String> {
    let gates = group.gates.as_ref().filter(|gates| !gates.list.is_empty())?;
    let names: Vec<&str> = gates.list.iter().map(|gate| gate.name.as_str()).collect();
    let word = if names.len() == 1 { "gate" } else { "gates" };
    Some(format!("after each wave: {} of soak, then {word} {}", Human(group.policy.soak), names.join(", ")))
}
