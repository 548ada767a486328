//! What a report says that the one before did not: what began, and what ended. Reports are states, so nothing is lost
//! when several of them become one; the events follow from the first and the last.

use std::collections::BTreeMap;

use fleet::{
    ids::NodeName,
    observed::{Concern, ConcernKind, Observed, Verdict},
    time::Timestamp,
};

use crate::events::{Draft, Kind};

/// The events of a new report; differences of files are told by the agents themselves. Nothing became different in a
/// first one: its concerns and its verdict begin.
pub(super) fn told(
    now: Timestamp,
    node: &NodeName,
    before: Option<&Observed>,
    after: &Observed,
) -> Vec<Draft> {
    let known = before.map_or(&[][..], |before| &before.concerns);
    let mut events = concerns(now, known, &after.concerns);
    events.extend(health(now, before.map(|it| &it.health), &after.health));
    events.into_iter().map(|event| event.of_node(node)).collect()
}

/// Concerns of one kind are told apart by their number alone: their sentences hold measurements.
fn concerns(now: Timestamp, before: &[Concern], after: &[Concern]) -> Vec<Draft> {
    let (old, new) = (by_kind(before), by_kind(after));
    let began = new.iter().filter_map(|(kind, concerns)| {
        let more = concerns.get(old.get(kind).map_or(0, Vec::len)..)?.first()?;
        let event = Draft::new(now, Kind::ConcernBegan, format!("{kind}: {}", more.detail));
        Some(event.with("concern", kind).with("remedy", &more.remedy))
    });
    let ended = old.iter().filter_map(|(kind, concerns)| {
        let left = new.get(kind).map_or(0, Vec::len);
        let text = match left {
            0 => format!("{kind} is over"),
            left => format!(
                "{kind}: {} of {} are over",
                concerns.len() - left.min(concerns.len()),
                concerns.len()
            ),
        };
        (left < concerns.len()).then(|| Draft::new(now, Kind::ConcernEnded, text).with("concern", kind))
    });
    began.chain(ended).collect()
}

fn by_kind(concerns: &[Concern]) -> BTreeMap<&ConcernKind, Vec<&Concern>> {
    let mut kinds: BTreeMap<&ConcernKind, Vec<&Concern>> = BTreeMap::new();
    concerns.iter().for_each(|concern| kinds.entry(&concern.kind).or_default().push(concern));
    kinds
}

/// Only what kind of verdict it is counts; the words change with every probe.
fn health(now: Timestamp, before: Option<&Verdict>, after: &Verdict) -> Option<Draft> {
    let is_same = |before: &Verdict| std::mem::discriminant(before) == std::mem::discriminant(after);
    if before.map_or(matches!(after, Verdict::Unknown(_)), is_same) {
        return None;
    }
    let text = match after {
        Verdict::Healthy => "its server is healthy".to_owned(),
        Verdict::Unhealthy(why) => format!("its server is not healthy: {why}"),
        Verdict::Unknown(why) => format!("whether its server is healthy is not known: {why}"),
    };
    Some(Draft::new(now, Kind::Health, text).with("health", &after.word()))
}

#[cfg(test)]
mod tests;
