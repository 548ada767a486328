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

#[test]
fn a_node_cannot_write_what_only_the_coordinator_knows() {
    let node = NodeName::parse("is-1").unwrap();
    let notice = |kind: &str| Notice {
        seq: 1,
        at: Timestamp(5),
        kind: kind.to_owned(),
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
