use tokio_util::sync::CancellationToken;

use super::*;
use crate::store::{Failing, Fault, Memory};

const NOW: Timestamp = Timestamp(1_000);

fn drafts(count: usize) -> Vec<Draft> {
    (0..count).map(|index| Draft::new(NOW, Kind::Step, format!("event {index}"))).collect()
}

/// As many writes as a rollout's commit has.
fn nodes(count: usize) -> Transaction {
    (0..count).fold(Transaction::default(), |all, index| {
        all.replace(Key::node(&NodeName::parse(&format!("is-{index}")).unwrap()), 0, b"node".to_vec())
    })
}

async fn started(store: &Arc<Failing<Memory>>) -> Events {
    Events::start(store.clone(), 20_000, &Tasks::new(CancellationToken::new())).await.unwrap()
}

async fn stored(store: &Failing<Memory>) -> Vec<EventRecord> {
    let found = store.range(Range::first(Key::EVENTS, 100_000)).await.unwrap();
    found.iter().map(|entry| EventRecord::read(entry).unwrap()).collect()
}

fn texts(events: &[EventRecord]) -> Vec<&str> {
    events.iter().map(|event| event.text.as_str()).collect()
}

#[tokio::test]
async fn as_many_events_are_told_as_steps_are_committed() {
    let store = Arc::new(Failing::new(Memory::new()));
    let events = started(&store).await;
    events.append(drafts(300), nodes(94)).await.unwrap();
    events.append(drafts(1), Transaction::default()).await.unwrap();
    let told = stored(&store).await;
    assert_eq!(told.len(), 301);
    assert!(told.iter().zip(1..).all(|(event, seq)| event.seq == seq), "numbers have no gap");
    let expected = drafts(300);
    assert!(told.iter().zip(&expected).all(|(event, draft)| event.text == draft.text), "{:?}", texts(&told));
    assert_eq!(store.get(&Key::untold()).await.unwrap(), None);
}

#[tokio::test]
async fn events_that_wait_for_their_numbers_survive_a_crash_and_an_outage() {
    let store = Arc::new(Failing::new(Memory::new()));
    let events = started(&store).await;
    // The first commit has the change itself; what follows numbers the rest.
    store.script([Fault::None, Fault::Outage, Fault::Outage, Fault::Outage]);
    events.append(drafts(100), nodes(94)).await.unwrap();
    // What came later waits until what came earlier has its number.
    events.append(drafts(1), Transaction::default()).await.unwrap_err();
    assert_eq!(stored(&store).await.len(), 33);
    drop(events);
    let again = started(&store).await;
    again.append(drafts(1), Transaction::default()).await.unwrap();
    assert_eq!(stored(&store).await.len(), 101);
}

#[tokio::test]
async fn a_commit_with_more_events_than_any_transaction_takes_says_how_many_are_left_out() {
    let store = Arc::new(Failing::new(Memory::new()));
    let events = started(&store).await;
    let long = "x".repeat(1000);
    let many = (0..2500).map(|_| Draft::new(NOW, Kind::Step, long.clone())).collect();
    events.append(many, nodes(94)).await.unwrap();
    events.append(Vec::new(), Transaction::default()).await.unwrap();
    let told = stored(&store).await;
    let last = told.last().unwrap();
    assert_eq!(last.kind, "events-summed");
    let left_out: usize = last.fields["count"].parse().unwrap();
    assert_eq!(told.len() - 1 + left_out, 2500);
    assert!(500 < told.len());
}

/// A report of a node, and the event that tells of it.
async fn save(events: Events, number: usize, version: Version) -> Result<Version, CommitError> {
    let key = Key::seen(&NodeName::parse(&format!("is-{number}")).unwrap());
    events.append(drafts(1), Transaction::default().replace(key, version, "report")).await
}

/// Saves of `count` nodes that wait at the same moment, in their order.
async fn saves(events: &Events, count: usize, stale: Option<usize>) -> Vec<Result<Version, CommitError>> {
    let saves = (0..count).map(|number| {
        let version = if stale == Some(number) { 99 } else { 0 };
        save(events.clone(), number, version)
    });
    futures::future::join_all(saves).await
}

#[tokio::test]
async fn saves_that_wait_together_are_one_commit_with_all_their_events() {
    let store = Arc::new(Failing::new(Memory::new()));
    let events = started(&store).await;
    let outcomes = saves(&events, 40, None).await;
    let versions: BTreeSet<Version> = outcomes.into_iter().map(Result::unwrap).collect();
    assert!(versions.len() <= 2, "the first may have gone alone: {versions:?}");
    let told = stored(&store).await;
    assert_eq!(told.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=40).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_conflict_is_answered_to_its_own_caller_only() {
    let store = Arc::new(Failing::new(Memory::new()));
    let events = started(&store).await;
    let outcomes = saves(&events, 40, Some(17)).await;
    for (number, outcome) in outcomes.iter().enumerate() {
        let is_conflict =
            matches!(outcome, Err(CommitError::Conflict { key }) if key.as_str() == "seen/is-17");
        assert_eq!((is_conflict, outcome.is_ok()), (number == 17, number != 17), "is-{number}: {outcome:?}");
    }
    assert_eq!(stored(&store).await.len(), 39);
}

#[tokio::test]
async fn callers_that_touch_the_same_key_are_never_in_one_commit() {
    let store = Arc::new(Failing::new(Memory::new()));
    let events = started(&store).await;
    let saves = (0..10).map(|_| save(events.clone(), 1, 0));
    let outcomes = futures::future::join_all(saves).await;
    let stored_ones = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!((stored_ones, stored(&store).await.len()), (1, 1));
}

#[tokio::test]
async fn an_outage_is_answered_to_all_and_a_lost_reply_leaves_nobody_with_a_wrong_answer() {
    for fault in [Fault::Outage, Fault::LostReply] {
        let store = Arc::new(Failing::new(Memory::new()));
        let events = started(&store).await;
        store.script([fault, fault]);
        let outcomes = saves(&events, 40, None).await;
        let told = stored(&store).await;
        let refused =
            outcomes.iter().filter(|outcome| matches!(outcome, Err(CommitError::Refused(_)))).count();
        let unknown =
            outcomes.iter().filter(|outcome| matches!(outcome, Err(CommitError::Unknown(_)))).count();
        let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(refused + unknown + done, 40, "{outcomes:?}");
        assert!(done <= told.len() && told.len() <= done + unknown, "{done} {unknown} {}", told.len());
        assert!(0 < refused + unknown);
    }
}

#[test]
fn what_does_not_fit_one_commit_waits_for_the_next() {
    let append = |drafts: Vec<Draft>, with: Transaction| {
        let (answer, _outcome) = oneshot::channel();
        Append { drafts, with, answer }
    };
    let seen = |number: usize, bytes: usize| {
        let key = Key::seen(&NodeName::parse(&format!("is-{number}")).unwrap());
        Transaction::default().replace(key, 0, vec![0; bytes])
    };
    let fits = |first: Append, second: Append| Group::of(first).take(second).is_ok();
    assert!(fits(append(drafts(1), seen(1, 10)), append(drafts(1), seen(2, 10))));
    assert!(!fits(append(drafts(1), seen(1, 10)), append(drafts(1), seen(1, 10))), "the same key");
    assert!(!fits(append(drafts(60), seen(1, 10)), append(drafts(60), seen(2, 10))), "events");
    assert!(!fits(append(drafts(1), nodes(94)), append(drafts(40), seen(2, 10))), "writes");
    assert!(!fits(append(drafts(1), seen(1, 700_000)), append(drafts(1), seen(2, 500_000))), "bytes");
    let checks =
        (0..100).fold(Transaction::default(), |all, number| all.check(Key::event(1_000 + number), 0));
    assert!(!fits(append(drafts(1), checks), append(drafts(40), seen(2, 10))), "checks");
}

#[test]
fn a_node_cannot_write_what_only_the_coordinator_knows() {
    let node = NodeName::parse("is-1").unwrap();
    let notice = |kind: &str| Notice {
        seq: 1,
        at: Timestamp(5),
        kind: fleet::words::Said::of(kind),
        text: "revision 99 was applied by admin".to_owned(),
        fields: BTreeMap::new(),
    };
    for kind in Kind::ALL {
        let event = Draft::said(NOW, &node, notice(kind.as_str()));
        assert_eq!((event.kind.as_str(), event.actor.as_str()), ("node-claimed", ""));
        assert_eq!(event.fields["claimed_kind"], kind.as_str());
    }
    let event = Draft::said(NOW, &node, notice("service-state"));
    assert_eq!((event.kind.as_str(), event.at, event.host_at), ("service-state", NOW, Some(Timestamp(5))));
}

#[test]
fn a_record_keeps_both_times() {
    let record = Draft::new(NOW, Kind::Gate, "x");
    let record = EventRecord { host_at: Some(Timestamp(-1)), ..record.numbered(7) };
    assert_eq!(EventRecord::from_wire(record.to_wire()), Ok(record));
}
