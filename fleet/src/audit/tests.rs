use super::*;

const EPOCH: FleetEpoch = FleetEpoch([7; 16]);

fn entry(seq: u64) -> Entry {
    Entry {
        seq,
        at: Timestamp(1_800_000_000_000 + i64::try_from(seq).unwrap()),
        actor: "alice".to_owned(),
        serial: "0a".to_owned(),
        from: None,
        act: Act::Of(Action::Restart),
        node: Some(NodeName::parse("is-1").unwrap()),
        text: format!("alice restarts is-1: {seq}"),
        outcome: Outcome::Done,
    }
}

type Chain = Vec<(Entry, Link)>;

fn chain(length: u64) -> Chain {
    let mut previous = Link::NONE;
    (1..=length)
        .map(|seq| {
            let entry = entry(seq);
            previous = link(EPOCH, &previous, &entry);
            (entry, previous)
        })
        .collect()
}

fn verify(entries: &[(Entry, Link)], seen: Option<Head>) -> Result<Head, Broken> {
    let mut verifier = Verifier::new(EPOCH, Head::NONE, seen);
    entries.iter().try_for_each(|(entry, link)| verifier.take(entry, link))?;
    verifier.reaches()?;
    Ok(verifier.last())
}

fn head(entries: &[(Entry, Link)]) -> Head {
    let (entry, link) = entries.last().unwrap();
    Head { seq: entry.seq, link: *link }
}

#[test]
fn a_chain_that_was_not_touched_is_whole() {
    let whole = chain(9);
    assert_eq!(verify(&whole, Some(head(&whole))), Ok(head(&whole)));
    assert_eq!(verify(&[], None), Ok(Head::NONE));
    // After the oldest were removed, the last of them is where it begins.
    let mut rest = Verifier::new(EPOCH, head(&whole[..4]), None);
    whole[4..].iter().for_each(|(entry, link)| rest.take(entry, link).unwrap());
    assert_eq!(rest.last(), head(&whole));
}

#[test]
fn whatever_is_done_to_a_chain_shows() {
    let whole = chain(9);
    let seen = head(&whole);
    let check = |change: &dyn Fn(&mut Chain), broken: Broken| {
        let mut entries = whole.clone();
        change(&mut entries);
        assert_eq!(verify(&entries, Some(seen)), Err(broken));
    };
    check(&|all| drop(all.remove(4)), Broken::Order { after: 4, found: 6 });
    check(&|all| all.swap(2, 6), Broken::Order { after: 2, found: 7 });
    check(&|all| drop(all.pop()), Broken::Cut { last: 8, seen: 9 });
    check(&|all| all.clear(), Broken::Cut { last: 0, seen: 9 });
    check(
        &|all| {
            // With their numbers put right again.
            all.swap(2, 6);
            (all[2].0.seq, all[6].0.seq) = (3, 7);
        },
        Broken::Changed { seq: 3 },
    );
    check(&|all| all[3].1.0[31] ^= 1, Broken::Changed { seq: 4 });
    check(
        &|all| {
            // Somebody who can compute hashes writes the rest anew.
            all.truncate(3);
            for seq in 4..=12 {
                let other = Entry { actor: "mallory".to_owned(), ..entry(seq) };
                let link = link(EPOCH, &all.last().unwrap().1, &other);
                all.push((other, link));
            }
        },
        Broken::Rewritten { seq: 9 },
    );
    // Without somebody who remembers, a lost tail does not show: that is what witnesses are for.
    assert_eq!(verify(&whole[..8], None), Ok(head(&whole[..8])));
}

#[test]
fn everything_that_somebody_remembers_is_compared() {
    let whole = chain(9);
    let at = |seq: usize| head(&whole[..seq]);
    let verify = |from: usize, seen: Vec<Head>| {
        let begin = if from == 0 { Head::NONE } else { at(from) };
        let mut verifier = Verifier::new(EPOCH, begin, seen);
        whole[from..].iter().try_for_each(|(entry, link)| verifier.take(entry, link))?;
        verifier.reaches()
    };
    let other = |seq| Head { seq, link: Link([9; 32]) };
    assert_eq!(verify(0, vec![at(3), at(9), at(5), Head::NONE]), Ok(()));
    // One that was rewritten shows also if the record goes on far beyond it.
    assert_eq!(verify(0, vec![other(3), at(9)]), Err(Broken::Rewritten { seq: 3 }));
    // Two different words about one entry.
    assert_eq!(verify(0, vec![at(3), other(3)]), Err(Broken::Rewritten { seq: 3 }));
    // What was removed is not compared, where it ended is.
    assert_eq!(verify(4, vec![other(3), at(4), at(9)]), Ok(()));
    assert_eq!(verify(4, vec![other(4)]), Err(Broken::Rewritten { seq: 4 }));
    assert_eq!(verify(4, vec![other(10)]), Err(Broken::Cut { last: 9, seen: 10 }));
}

#[test]
fn every_field_is_covered() {
    let (plain, previous) = (entry(3), Link([1; 32]));
    let before = link(EPOCH, &previous, &plain);
    let other = |change: &dyn Fn(&mut Entry)| {
        let mut changed = plain.clone();
        change(&mut changed);
        assert_ne!(link(EPOCH, &previous, &changed), before, "{changed:?}");
    };
    other(&|it| it.seq += 1);
    other(&|it| it.at.0 += 1);
    other(&|it| it.actor.push('x'));
    other(&|it| it.serial.push('0'));
    other(&|it| it.from = Some([10, 0, 0, 7].into()));
    other(&|it| it.act = Act::Of(Action::SetRun));
    other(&|it| it.node = None);
    other(&|it| it.text.push('.'));
    other(&|it| it.outcome = Outcome::Ordered);
    other(&|it| it.outcome = Outcome::Answered { order: 2, result: Answer::Done });
    other(&|it| it.outcome = Outcome::Denied { why: String::new() });
    other(&|it| it.outcome = Outcome::Denied { why: "no".to_owned() });
    // What moves from one field to the next is another entry.
    other(&|it| {
        it.actor = "alic".to_owned();
        it.serial = "e0a".to_owned();
    });
    assert_ne!(link(FleetEpoch([8; 16]), &previous, &plain), before);
    assert_ne!(link(EPOCH, &Link::NONE, &plain), before);
}

#[test]
fn the_format_stays_what_it_is() {
    // A chain that was written must verify with every later version.
    let text = link(EPOCH, &Link::NONE, &entry(1)).to_string();
    assert_eq!(text.len(), 64);
    assert_eq!(Link::from_hex(&text).unwrap().to_string(), text);
    assert_eq!(text, "6b3681841cea62f82add420bf5c5c38ce23b0b44e38d59088b309e4bd0e62603");
}

#[test]
fn words_are_read_back() {
    let acts = Action::ALL.into_iter().map(Act::Of).chain([Act::Join, Act::Call, Act::Expire]);
    for act in acts {
        assert_eq!(Act::parse(act.as_str()), Some(act));
    }
    let why = || "because".to_owned();
    for outcome in [
        Outcome::Done,
        Outcome::Ordered,
        Outcome::Answered { order: 4, result: Answer::Done },
        Outcome::Answered { order: 4, result: Answer::NotDone { why: why() } },
        Outcome::Answered { order: 4, result: Answer::Unknown { why: why() } },
        Outcome::Refused { why: why() },
        Outcome::Denied { why: why() },
    ] {
        let (order, why) = (outcome.order().unwrap_or(0), outcome.why().unwrap_or("").to_owned());
        assert_eq!(Outcome::parse(outcome.as_str(), order, &why), Some(outcome));
    }
    assert_eq!((Act::parse("shout"), Outcome::parse("maybe", 0, "")), (None, None));
}
