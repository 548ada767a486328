use super::*;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn signed(meaning: Meaning) -> Signed {
    let checkpoint = Checkpoint {
        meaning,
        epoch: FleetEpoch([0xab; 16]),
        head: Head { seq: 120, link: Link([7; 32]) },
        at: Timestamp(1_796_000_000_000),
    };
    Signed { checkpoint, signature: vec![0x30, 0x45, 0xff] }
}

#[test]
fn a_checkpoint_is_one_word_that_is_found_in_any_log() {
    let (reached, removed) = (signed(Meaning::Reached), signed(Meaning::Removed));
    let (epoch, link) = ("ab".repeat(16), "07".repeat(32));
    assert_eq!(
        reached.to_string(),
        format!("convoy-audit-v1.reached.{epoch}.120.{link}.1796000000000.3045ff")
    );
    let log = format!(
        "2026-11-30T20:00:00Z  INFO Audit checkpoint checkpoint={reached} entries=120\n\
         {{\"message\":\"x\",\"checkpoint\":\"{removed}\"}}\nthe last was {reached}.\n\
         convoy-audit-v1.reached.{epoch}.x.{link}.1.30\nconvoy-audit-v1.\nconvoy-audit-v1"
    );
    let found: Vec<Signed> = Signed::in_text(&log).collect();
    assert_eq!(found, [reached.clone(), removed, reached]);
}

#[test]
fn what_is_no_checkpoint_is_none() {
    let good = signed(Meaning::Reached).to_string();
    assert!(Signed::parse(&good).is_some());
    let parts: Vec<&str> = good.split('.').collect();
    for at in 0..parts.len() {
        let mut without = parts.clone();
        without.remove(at);
        assert_eq!(Signed::parse(&without.join(".")), None, "without {}", parts[at]);
        for other in ["", "é", "zz", "-"] {
            let mut changed = parts.clone();
            changed[at] = other;
            assert_eq!(Signed::parse(&changed.join(".")), None, "{other:?} for {}", parts[at]);
        }
    }
    assert_eq!(Signed::parse(&format!("{good}.00")), None);
    assert_eq!(Signed::parse(&format!("{good}0")), None);
}

#[test]
fn a_checkpoint_is_due_after_many_entries_or_an_hour() {
    let due = |last: Option<(u64, i64)>, reached, now| {
        is_due(last.map(|(seq, at)| (seq, Timestamp(at))), reached, Timestamp(now))
    };
    for (last, reached, now, expected) in [
        (None, 0, 0, false),
        (None, 1, 0, true),
        (Some((10, 0)), 10, 9 * HOUR, false),
        (Some((10, 0)), 11, HOUR - 1, false),
        (Some((10, 0)), 11, HOUR, true),
        (Some((10, 0)), 109, 1, false),
        (Some((10, 0)), 110, 1, true),
        // A clock that was set back, and a record that went back.
        (Some((10, HOUR)), 11, 0, true),
        (Some((10, 0)), 9, 9 * HOUR, false),
    ] {
        assert_eq!(due(last, reached, now), expected, "{last:?} {reached} {now}");
    }
}

#[test]
fn entries_go_after_400_days_and_never_the_newest() {
    let removable = |days: &[i64], newest: i64, now: i64| {
        let entries = (1..).zip(days.iter().map(|day| Timestamp(day * DAY)));
        removable(entries, Timestamp(newest * DAY), Timestamp(now * DAY))
    };
    for (days, newest, now, expected) in [
        (&[][..], 0, 1000, None),
        (&[0, 1, 2, 500], 500, 400, None),
        (&[0, 1, 2, 500], 500, 401, Some(1)),
        (&[0, 1, 2, 500], 500, 500, Some(3)),
        // What follows one that is young enough stays.
        (&[0, 300, 1, 500], 500, 500, Some(1)),
        // A clock that jumps removes nothing until something is recorded by it, nor does one that is set back.
        (&[0, 1, 2], 2, 10_000, None),
        (&[0, 1, 2, 10_000], 10_000, 10_000, Some(3)),
        (&[0, 1, 2, 10_000], 10_000, 3, None),
    ] {
        assert_eq!(removable(days, newest, now), expected, "{days:?} {newest} {now}");
    }
}
