use std::collections::BTreeMap;

use fleet::{
    bundle::RestartClass,
    ids::{Digest, FleetEpoch, FleetName, GroupName, NodeName, Revision},
    rollout::{FleetView, GroupGoal, NewRollout, NodeGoal, RolloutRules, StepState, Target},
    time::Timestamp,
};
use prost::Message as _;
use proto::convert::store::steps_to_wire;

use super::*;
use crate::store::{Memory, Write};

/// No value of a store may be larger, in bytes.
pub(crate) const ENTRY_MAX: usize = 256 * 1024;
const LARGE: u32 = 10_000;

pub(crate) fn node(number: u32) -> NodeName {
    NodeName::parse(&format!("gateway-frankfurt-{number:05}")).unwrap()
}

/// A rollout that goes on, with as many bytes in a step as one usually has.
pub(crate) fn rollout(id: u64, nodes: u32) -> RolloutRecord {
    let group = GroupName::parse("gateway-frankfurt").unwrap();
    let target = |text: &str| {
        let digest = Digest::of(text.as_bytes());
        Target { bundle: digest, content: digest, size: 40_000 }
    };
    let goal = NodeGoal {
        group: group.clone(),
        target: target("new"),
        restart: RestartClass::Restart,
        compared_with: Some(Digest::of(b"old")),
        last_good: Some(target("old")),
    };
    let new = NewRollout {
        id: RolloutId(id),
        revision: Revision(id),
        at: Timestamp(1_800_000_000_000),
        rules: RolloutRules { groups: [(group, GroupGoal::default())].into(), ..RolloutRules::default() },
        nodes: (0..nodes).map(|number| (node(number), goal.clone())).collect(),
        windows_overridden: None,
    };
    let rollout = new.create(&FleetView::default());
    RolloutRecord::new(rollout, ("ops".to_owned(), "A larger pool".to_owned()), None)
}

pub(crate) fn skipped(rollout: &Rollout, name: &NodeName, why: &str) -> Rollout {
    let mut next = rollout.clone();
    next.steps.get_mut(name).unwrap().state = StepState::Skipped { why: why.to_owned() };
    next
}

fn bytes(transaction: &Transaction) -> usize {
    let bytes = |write: &Write| match write {
        Write::Put(_, value) => value.len(),
        Write::Delete(_) => 0,
    };
    transaction.writes.iter().map(bytes).sum()
}

async fn begun(store: &dyn Store, record: &RolloutRecord) -> Arc<Versioned<RolloutRecord>> {
    store.commit(begin(store, record).await.unwrap()).await.unwrap();
    read(store, record.rollout.id).await.unwrap().unwrap()
}

#[tokio::test]
async fn ten_thousand_nodes_are_one_rollout_and_read_back_after_every_change() {
    let (store, record) = (Memory::new(), rollout(3, LARGE));
    let stored = begun(&store, &record).await;
    assert_eq!(stored.record, record);
    let next = skipped(&stored.rollout, &node(7_777), "it is being repaired");
    let (expected, commit) = replace(&stored, next);
    store.commit(commit).await.unwrap();
    let stored = read(&store, RolloutId(3)).await.unwrap().unwrap();
    assert_eq!(stored.record, expected);

    let (expected, commit) = replace(&stored, stored.rollout.supersede(RolloutId(4), Timestamp(5)).unwrap());
    assert!(bytes(&commit) < 4096, "only the head says that a newer one took over: {} bytes", bytes(&commit));
    store.commit(commit).await.unwrap();
    let stored = read(&store, RolloutId(3)).await.unwrap().unwrap();
    assert_eq!(stored.record, expected);
    let is_skipped =
        |name: u32| matches!(&stored.rollout.steps[&node(name)].state, StepState::Skipped { .. });
    assert!((0..LARGE).all(is_skipped));

    let largest = store.range(Range::first("", usize::MAX)).await.unwrap();
    let largest = largest.iter().map(|entry| entry.value.len()).max().unwrap();
    assert!((10_000..ENTRY_MAX).contains(&largest), "{largest} bytes");
}

#[test]
fn what_one_change_writes_hardly_depends_on_the_size_of_the_rollout() {
    let written = |nodes: u32| {
        let before = Versioned { version: 1, record: rollout(3, nodes) };
        bytes(&replace(&before, skipped(&before.record.rollout, &node(nodes / 2), "away")).1)
    };
    let (small, large) = (written(100), written(LARGE));
    println!("one change writes {small} bytes of a rollout of 100 nodes, and {large} of one of 10,000");
    assert!(5_000 < small, "the step is counted");
    assert!(large <= 2 * small, "{small} and {large} bytes");
}

#[tokio::test]
async fn a_rollout_begins_only_with_the_steps_that_were_stored_for_it() {
    let store = Memory::new();
    let (ours, theirs) = (rollout(3, 1_000), rollout(3, 900));
    // Both prepare the same number; the later one replaces the steps of the earlier one.
    let first = begin(&store, &ours).await.unwrap();
    let second = begin(&store, &theirs).await.unwrap();
    assert!(matches!(store.commit(first).await, Err(CommitError::Conflict { .. })));
    assert!(read(&store, RolloutId(3)).await.unwrap().is_none(), "steps alone are no rollout");
    store.commit(second).await.unwrap();
    assert_eq!(read(&store, RolloutId(3)).await.unwrap().unwrap().record, theirs);
    // Nobody touches the steps of one that has begun.
    assert!(matches!(begin(&store, &ours).await, Err(CommitError::Conflict { .. })));
    assert_eq!(read(&store, RolloutId(3)).await.unwrap().unwrap().record, theirs);
}

#[tokio::test]
async fn missing_steps_are_an_error_and_never_a_smaller_rollout() {
    let store = Memory::new();
    begun(&store, &rollout(3, 1_000)).await;
    store.commit(Transaction::default().delete(Key::steps(RolloutId(3), 4))).await.unwrap();
    read(&store, RolloutId(3)).await.unwrap_err();
}

/// As versions without shards stored it.
fn in_one_record(record: &RolloutRecord) -> Vec<u8> {
    let steps = steps_to_wire(record.rollout.steps.iter()).steps;
    proto::wire::store::Rollout { steps, shards: 0, ..record.to_wire() }.encode_to_vec()
}

#[tokio::test]
async fn an_open_rollout_of_a_version_without_shards_goes_on_and_an_ended_one_is_read() {
    let store = Memory::new();
    let (ended, open) = (rollout(1, 300), rollout(2, 2_500));
    let ended = ended.rollout.supersede(RolloutId(2), Timestamp(9)).unwrap();
    let ended = RolloutRecord::new(ended, ("ops".to_owned(), String::new()), None);
    let meta = Meta {
        epoch: FleetEpoch([7; 16]),
        fleet: FleetName::parse("acme").unwrap(),
        newest_revision: Revision(2),
        newest_rollout: RolloutId(2),
        authority: None,
        key_check: None,
    };
    let old = proto::wire::store::Meta { format: 1, ..meta.to_wire() };
    let commit = Transaction::default().put(Key::meta(), old.encode_to_vec());
    store.commit(commit.put(Key::rollout(RolloutId(1)), in_one_record(&ended))).await.unwrap();
    let commit = Transaction::default().put(Key::rollout(RolloutId(2)), in_one_record(&open));
    store.commit(commit).await.unwrap();

    carry_over(&store).await.unwrap();
    let read_ended = read(&store, RolloutId(1)).await.unwrap().unwrap();
    assert_eq!((read_ended.shards, &read_ended.rollout), (0, &ended.rollout));
    let read_open = read(&store, RolloutId(2)).await.unwrap().unwrap();
    assert_eq!(read_open.record, open);
    let head = store.get(&Key::rollout(RolloutId(2))).await.unwrap().unwrap();
    assert!(head.value.len() < 4096, "its steps are in shards now: {} bytes", head.value.len());
    // A version that knows no shards would take the head for a rollout without steps.
    let meta = store.get(&Key::meta()).await.unwrap().unwrap();
    assert_eq!(proto::wire::store::Meta::decode(meta.value).unwrap().format, crate::store::records::FORMAT);

    // Once is enough.
    let before = read_open.version;
    carry_over(&store).await.unwrap();
    assert_eq!(read(&store, RolloutId(2)).await.unwrap().unwrap().version, before);
    let names: BTreeMap<_, _> = open.places();
    assert_eq!(names.len(), 2_500);
}
