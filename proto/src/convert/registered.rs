//! What an Admin API has of Key Managers (ADR 67).

use fleet::key_manager::{
    body::Difference,
    found::{DIFFERENCES_MAX, FOUND_MAX, Found, Registered},
};

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
