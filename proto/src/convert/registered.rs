//! What an Admin API has of Key Managers, and how those stand that a node keeps (ADR 67).

use fleet::key_manager::{
    body::Difference,
    found::{DIFFERENCES_MAX, FOUND_MAX, Found, Registered},
    seen::{Seen, State},
};

use fleet::time::Timestamp;

use crate::{
    convert::link::{bounded, foreign},
    wire::agent as wire,
};

pub(super) fn registered_to_wire(registered: &Registered) -> wire::KeyManagersFound {
    let difference = |one: &Difference| wire::KeyManagerDifference {
        field: bounded(&one.field),
        wanted: bounded(&one.wanted),
        found: bounded(&one.found),
    };
    let found = |one: &Found| wire::KeyManagerFound {
        name: bounded(&one.name),
        r#type: bounded(&one.kind),
        differences: one.differences.iter().take(DIFFERENCES_MAX).map(difference).collect(),
    };
    match registered {
        Registered::Listed(listed) => wire::KeyManagersFound {
            unknown: String::new(),
            listed: listed.iter().take(FOUND_MAX).map(found).collect(),
        },
        Registered::Unknown(why) => wire::KeyManagersFound { unknown: bounded(why), listed: Vec::new() },
    }
}

const STATES: [(State, wire::KeyManagerState); 5] = [
    (State::Registered, wire::KeyManagerState::Registered),
    (State::Waiting, wire::KeyManagerState::Waiting),
    (State::Differs, wire::KeyManagerState::Differs),
    (State::Failing, wire::KeyManagerState::Failing),
    (State::Unknown, wire::KeyManagerState::Unspecified),
];

/// How a Key Manager stands; one of a later version is [`State::Unknown`].
pub fn state(wire: wire::KeyManagerState) -> State {
    STATES.iter().find(|(_, known)| *known == wire).map_or(State::Unknown, |(state, _)| *state)
}

pub(super) fn seen_to_wire(seen: &Seen) -> wire::KeyManagerSeen {
    let state = STATES.iter().find(|(known, _)| *known == seen.state);
    wire::KeyManagerSeen {
        name: bounded(&seen.name),
        state: state.map_or(0, |(_, wire)| i32::from(*wire)),
        looked_ms: seen.looked.map(|at| at.0),
    }
}

pub(super) fn seen_from_wire(wire: &wire::KeyManagerSeen) -> Seen {
    Seen { name: foreign(&wire.name), state: state(wire.state()), looked: wire.looked_ms.map(Timestamp) }
}

/// What is beyond the bounds is left out.
pub(super) fn registered_from_wire(wire: &wire::KeyManagersFound) -> Registered {
    if !wire.unknown.is_empty() {
        return Registered::Unknown(foreign(&wire.unknown));
    }
    let difference = |one: &wire::KeyManagerDifference| Difference {
        field: foreign(&one.field),
        wanted: foreign(&one.wanted),
        found: foreign(&one.found),
    };
    let found = |one: &wire::KeyManagerFound| Found {
        name: foreign(&one.name),
        kind: foreign(&one.r#type),
        differences: one.differences.iter().take(DIFFERENCES_MAX).map(difference).collect(),
    };
    Registered::Listed(wire.listed.iter().take(FOUND_MAX).map(found).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_key_manager_stands_reads_back() {
        for (index, (state, _)) in State::ALL.into_iter().enumerate() {
            let looked = (index % 2 == 0).then_some(Timestamp(7));
            let seen = Seen { name: "IS7".to_owned(), state, looked };
            assert_eq!(seen_from_wire(&seen_to_wire(&seen)), seen);
        }
        let later = wire::KeyManagerSeen { state: 99, ..wire::KeyManagerSeen::default() };
        assert_eq!(seen_from_wire(&later).state, State::Unknown);
    }

    #[test]
    fn what_was_found_reads_back() {
        let difference = Difference { field: "enabled".into(), wanted: "true".into(), found: "false".into() };
        let found = |name: &str, differences: Vec<Difference>| Found {
            name: name.to_owned(),
            kind: "WSO2-IS-7".to_owned(),
            differences,
        };
        let listed = Registered::Listed(vec![found("a", vec![difference]), found("b", Vec::new())]);
        for registered in [listed, Registered::Listed(Vec::new()), Registered::Unknown("away".to_owned())] {
            assert_eq!(registered_from_wire(&registered_to_wire(&registered)), registered);
        }
        let many = Registered::Listed(vec![found("a", Vec::new()); FOUND_MAX + 1]);
        let Registered::Listed(read) = registered_from_wire(&registered_to_wire(&many)) else { panic!() };
        assert_eq!(read.len(), FOUND_MAX);
    }
}
