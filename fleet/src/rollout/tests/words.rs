//! What a wait says: a whole sentence, whatever it holds.

use super::*;

/// The one after `reason`, with nothing in it that need not be there; `None` after the last. A new kind of wait has to
/// take its place in the row.
fn next(reason: Option<&WaitReason>) -> Option<WaitReason> {
    let (group, node, nodes) = (GroupName::parse("km").unwrap(), name("km-1"), vec![name("km-1")]);
    let zone = || ZoneName::parse("dc1").unwrap();
    let (zero, share) = (Duration::ZERO, Share::Count(1));
    let Some(reason) = reason else { return Some(WaitReason::Paused { why: String::new(), failed: 0 }) };
    Some(match reason {
        WaitReason::Paused { failed: 0, .. } => WaitReason::Paused { why: "  ".to_owned(), failed: 2 },
        WaitReason::Paused { .. } => WaitReason::Order { group: group.clone(), after: group, open: 0 },
        WaitReason::Order { .. } => WaitReason::Budget { group, down: nodes, count: 7, max: 1, share },
        WaitReason::Budget { .. } => WaitReason::FleetBudget { group, count: 1, max: 1 },
        WaitReason::FleetBudget { .. } => {
            let budget = ZoneBudget { group: None, zone: zone(), down: nodes, count: 1, max: 1, share };
            WaitReason::ZoneBudget(budget)
        }
        WaitReason::ZoneBudget(_) => {
            WaitReason::OtherZone(OtherZone { node, zone: zone(), other: zone(), down: nodes, count: 1 })
        }
        WaitReason::OtherZone(_) => {
            let (kind, stage) = (StepKind::RollBack, FlightStage::Sent);
            WaitReason::InFlight { node, kind, stage, elapsed: zero, connected: false }
        }
        WaitReason::InFlight { .. } => WaitReason::Soak { group, wave: 1, left: zero },
        WaitReason::Soak { .. } => {
            let (gate, elapsed) = ("login".to_owned(), zero);
            WaitReason::Gate { group, wave: 1, gate, nodes, count: 1, elapsed, connected: false }
        }
        WaitReason::Gate { .. } => WaitReason::Promotion { group },
        WaitReason::Promotion { .. } => WaitReason::Unreachable { group, nodes, count: 1 },
        WaitReason::Unreachable { .. } => WaitReason::SoakBlind { group, node, why: None, left: zero },
        WaitReason::SoakBlind { why: None, .. } => {
            WaitReason::SoakBlind { group, node, why: Some(String::new()), left: zero }
        }
        WaitReason::SoakBlind { .. } => WaitReason::Window { group, opens: None },
        WaitReason::Window { .. } => {
            let (takes, left) = (zero, zero);
            WaitReason::WindowTooShort { group, node, takes, is_known: false, left, opens: None }
        }
        WaitReason::WindowTooShort { .. } => WaitReason::Host { node, host: "h1".to_owned() },
        WaitReason::Host { .. } => WaitReason::ReturnOrder { group: group.clone(), before: group },
        WaitReason::ReturnOrder { .. } => return None,
    })
}

#[test]
fn no_wait_is_without_words_or_ends_in_the_middle_of_a_sentence() {
    let (mut reason, mut seen) = (next(None), 0);
    while let Some(one) = reason {
        let text = one.to_string();
        assert!(4 < text.len(), "{one:?}");
        assert_eq!(text.trim_matches([' ', ':', ';', ',']), text, "{one:?}");
        for dangling in [": ;", ":;", "; ;", "()", "  ", " ,", ", )", ": :"] {
            assert!(!text.contains(dangling), "{one:?}: {text}");
        }
        seen += 1;
        reason = next(Some(&one));
    }
    assert_eq!(seen, 18, "each kind, two of them twice");
}
