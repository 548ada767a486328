use fleet::{
    ids::{FleetEpoch, FleetName, NodeName, Revision, RolloutId},
    time::Timestamp,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::store::{
    Memory, Range, Transaction,
    records::{Meta, NodeRecord, Record as _, SeenRecord, Versioned},
    revisions::{self, tests::revision},
    rollouts,
};

fn meta(newest_revision: u64) -> Meta {
    Meta {
        epoch: FleetEpoch([7; 16]),
        fleet: FleetName::parse("acme").unwrap(),
        newest_revision: Revision(newest_revision),
        newest_rollout: RolloutId(0),
        authority: None,
        key_check: None,
    }
}

fn node(number: u32) -> NodeName {
    NodeName::parse(&format!("is-{number}")).unwrap()
}

/// Commits it as an apply does: its parts are there before its head.
async fn put_revision(store: &dyn Store, number: u64, commit: Transaction) -> Transaction {
    let (head, parts) = revision(number, 3).split();
    revisions::put_parts(store, parts).await.unwrap();
    commit.put(Key::revision(Revision(number)), head.encode()).put(Key::meta(), meta(number).encode())
}

async fn new_store() -> Arc<dyn Store> {
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    store.commit(Transaction::default().put(Key::meta(), meta(0).encode())).await.unwrap();
    store
}

async fn mirror_of(store: &Arc<dyn Store>) -> (Mirror, Tasks) {
    let tasks = Tasks::new(CancellationToken::new());
    (Mirror::start(store.clone(), &tasks).await.unwrap(), tasks)
}

/// What a mirror holds that is made from the store now.
async fn read(store: &Arc<dyn Store>) -> Records {
    let mut feed = store.feed(PREFIXES);
    read_all(&**store, &mut feed).await.unwrap()
}

/// A rollout begins, one of its steps or its head changes, or it is removed.
async fn any_rollout(store: &dyn Store, random: &mut StdRng) -> Transaction {
    let id = random.random_range(1..30);
    let Some(known) = rollouts::read(store, RolloutId(id)).await.unwrap() else {
        let nodes = [0, 3, 5, 260][random.random_range(0..4)];
        return rollouts::begin(store, &rollouts::tests::rollout(id, nodes)).await.unwrap();
    };
    let steps: Vec<NodeName> = known.rollout.steps.keys().cloned().collect();
    let changed = match (random.random_range(0..4), steps.is_empty()) {
        // The garbage collection removes the oldest.
        (0, _) => {
            let heads = store.range(Range::first(Key::ROLLOUTS, 1)).await.unwrap();
            let id = heads[0].key.rollout_id().unwrap().0;
            let known = rollouts::read(store, RolloutId(id)).await.unwrap().unwrap();
            let gone = Transaction::default().delete(Key::rollout(RolloutId(id)));
            return (0..known.shards).fold(gone, |all, shard| all.delete(Key::steps(RolloutId(id), shard)));
        }
        (1, _) => known.rollout.supersede(RolloutId(id + 1), Timestamp(3)).ok(),
        (_, true) => None,
        (_, false) => {
            let name = &steps[random.random_range(0..steps.len())];
            Some(rollouts::tests::skipped(&known.rollout, name, "away"))
        }
    };
    rollouts::replace(&known, changed.unwrap_or_else(|| known.rollout.clone())).1
}

/// Something that coordinators commit, drawn at random.
async fn any_commit(store: &dyn Store, random: &mut StdRng, revisions: &mut u64) -> Transaction {
    let name = node(random.random_range(0..12));
    let commit = Transaction::default();
    match random.random_range(0..7) {
        0 | 1 => commit.put(Key::node(&name), NodeRecord::new(name).encode()),
        2 | 3 => {
            let last_seen = Timestamp(random.random_range(0..1000));
            commit.put(Key::seen(&name), SeenRecord { last_seen, ..SeenRecord::default() }.encode())
        }
        4 => commit.delete(Key::node(&name)).delete(Key::seen(&name)),
        5 => {
            *revisions += 1;
            put_revision(store, *revisions, commit).await
        }
        _ => any_rollout(store, random).await,
    }
}

#[tokio::test]
async fn after_every_commit_it_holds_what_the_store_holds() {
    for seed in 0..20 {
        let (store, mut random, mut revisions) = (new_store().await, StdRng::seed_from_u64(seed), 0);
        let (mirror, _tasks) = mirror_of(&store).await;
        for step in 0..120 {
            store.commit(any_commit(&*store, &mut random, &mut revisions).await).await.unwrap();
            let held = mirror.records().await.unwrap();
            let expected = read(&store).await;
            // Those that were read at the begin may be fewer: a mirror keeps what has not ended.
            let newest = |records: &Records| records.rollouts.iter().take(10).cloned().collect::<Vec<_>>();
            assert_eq!(newest(&held), newest(&expected), "seed {seed}, step {step}");
            let without = |records: &Records| {
                let mut others = records.clone();
                others.rollouts.clear();
                others.shards.clear();
                others
            };
            assert_eq!(without(&held), without(&expected), "seed {seed}, step {step}");
        }
    }
}

#[tokio::test]
async fn it_reads_everything_again_if_it_was_too_slow() {
    let store = new_store().await;
    let (mirror, _tasks) = mirror_of(&store).await;
    // This test has the only thread, so nothing is taken in meanwhile: more is committed than a feed keeps.
    for number in 0..9_000 {
        let record = SeenRecord { last_seen: Timestamp(number), ..SeenRecord::default() };
        store.commit(Transaction::default().put(Key::seen(&node(1)), record.encode())).await.unwrap();
    }
    let held = mirror.records().await.unwrap();
    assert_eq!(held.seen[&node(1)].last_seen, Timestamp(8_999));
    assert_eq!(*held, read(&store).await);
}

#[tokio::test]
async fn a_reader_keeps_what_it_has_while_commits_go_on() {
    let store = new_store().await;
    let (mirror, _tasks) = mirror_of(&store).await;
    let before = mirror.records().await.unwrap();
    let record = NodeRecord::new(node(1)).encode();
    store.commit(Transaction::default().put(Key::node(&node(1)), record)).await.unwrap();
    let after = mirror.records().await.unwrap();
    assert_eq!((before.nodes.len(), after.nodes.len()), (0, 1));
}

#[tokio::test]
async fn a_record_that_cannot_be_read_fails_every_reader_until_it_is_replaced() {
    let store = new_store().await;
    let (mirror, _tasks) = mirror_of(&store).await;
    store.commit(Transaction::default().put(Key::node(&node(1)), "damaged")).await.unwrap();
    let error = mirror.records().await.unwrap_err();
    assert!(chain(&error).contains("node/is-1"), "{}", chain(&error));
    store.commit(Transaction::default().delete(Key::node(&node(1)))).await.unwrap();
    assert!(mirror.records().await.unwrap().nodes.is_empty());
}

#[tokio::test]
async fn a_revision_whose_part_is_missing_fails_every_reader_until_the_next_one() {
    let store = new_store().await;
    let (mirror, _tasks) = mirror_of(&store).await;
    let commit = put_revision(&*store, 1, Transaction::default()).await;
    let lost = *revision(1, 3).split().0.parts().first().unwrap();
    store.commit(Transaction::default().delete(Key::part(&lost))).await.unwrap();
    store.commit(commit).await.unwrap();
    let error = mirror.records().await.unwrap_err();
    assert!(chain(&error).contains("a part of a revision"), "{}", chain(&error));
    // The parts of the next one are the same, and it stored them again.
    store.commit(put_revision(&*store, 2, Transaction::default()).await).await.unwrap();
    assert_eq!(mirror.records().await.unwrap().revision.as_ref().unwrap().nodes.len(), 3);
}

#[tokio::test]
async fn what_differs_from_the_store_is_found_and_mended() {
    let store = new_store().await;
    let record = |last_seen| SeenRecord { last_seen: Timestamp(last_seen), ..SeenRecord::default() };
    for number in 1..=3 {
        let commit = Transaction::default().put(Key::seen(&node(number)), record(1).encode());
        store.commit(commit).await.unwrap();
    }
    let mut feed = store.feed(PREFIXES);
    let mut wrong = read_all(&*store, &mut feed).await.unwrap();
    wrong.seen.remove(&node(2));
    wrong.nodes.insert(node(9), Arc::new(Versioned { version: 1, record: NodeRecord::new(node(9)) }));
    let (state, _reader) = watch::channel(State::Holds(Arc::new(wrong)));
    let mut keeper = Keeper { store: store.clone(), feed, state, suspects: BTreeSet::new() };
    // Committed and not taken in: no difference.
    store.commit(Transaction::default().put(Key::seen(&node(3)), record(2).encode())).await.unwrap();
    assert_eq!(keeper.differing().await.unwrap(), [Key::node(&node(9)), Key::seen(&node(2))].into());
    keeper.compare().await;
    keeper.compare().await;
    let State::Holds(held) = &*keeper.state.borrow() else { panic!("it can be read") };
    assert_eq!(**held, read(&store).await);
}
