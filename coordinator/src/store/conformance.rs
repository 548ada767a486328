//! What every engine must do, run against each of them. A third engine passes this or is none.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet::{
    ids::{Digest, FleetName, NodeName, Revision},
    time::Timestamp,
};
use tokio_util::sync::CancellationToken;

use super::{
    CommitError, Embedded, Failing, Fault, Key, LeaseGrant, Memory, News, Order, Range, Sealed, Store,
    TRANSACTION_WRITES_MAX, Transaction, VALUE_MAX, blobs,
};
use crate::tasks::Tasks;

fn node(name: &str) -> Key {
    Key::node(&NodeName::parse(name).unwrap())
}

fn engines(dir: &std::path::Path) -> [(&'static str, Arc<dyn Store>); 4] {
    let path = dir.join("store.redb");
    let fleet = FleetName::parse("acme").unwrap();
    let vault = Arc::new(crate::secrets::Vault::open(&dir.join("secrets.key"), &fleet).unwrap());
    let open = move || crate::private::open(&path);
    [
        ("memory", Arc::new(Memory::new())),
        ("embedded", Arc::new(Embedded::open(open, &Tasks::new(CancellationToken::new())).unwrap())),
        ("sealed", Arc::new(Sealed::new(Arc::new(Memory::new()), vault))),
        ("failing, without a script", Arc::new(Failing::new(Memory::new()))),
    ]
}

macro_rules! conformance {
    ($($name:ident)*) => { $(
        #[tokio::test]
        async fn $name() {
            let dir = tempfile::tempdir().unwrap();
            for (engine, store) in engines(dir.path()) {
                println!("engine: {engine}");
                rules::$name(store).await;
            }
        }
    )* };
}

conformance! {
    a_commit_is_read_back_with_its_version
    a_failed_check_changes_nothing
    of_two_writers_one_wins
    a_range_has_both_directions_and_pages
    whoever_watches_a_key_is_woken_by_it_only
    a_feed_has_every_commit_to_its_keys_in_order_and_before_the_answer
    a_reader_that_is_too_slow_is_told_to_read_everything_again
    what_the_smallest_engine_cannot_take_is_refused
    content_comes_back_whole_and_garbage_goes
    a_lease_is_held_by_one_until_it_ends
}

mod rules {
    use super::*;

    pub(super) async fn a_commit_is_read_back_with_its_version(store: Arc<dyn Store>) {
        assert_eq!(store.get(&node("a")).await.unwrap(), None);
        let first = store.commit(Transaction::default().replace(node("a"), 0, "1")).await.unwrap();
        let second = store.commit(Transaction::default().replace(node("a"), first, "2")).await.unwrap();
        assert!(first < second);
        let entry = store.get(&node("a")).await.unwrap().unwrap();
        assert_eq!((entry.version, entry.value.as_ref()), (second, b"2".as_slice()));
        store.commit(Transaction::default().check(node("a"), second).delete(node("a"))).await.unwrap();
        assert_eq!(store.get(&node("a")).await.unwrap(), None);
        store.health().await.unwrap();
    }

    pub(super) async fn a_failed_check_changes_nothing(store: Arc<dyn Store>) {
        let version = store.commit(Transaction::default().put(node("a"), "1")).await.unwrap();
        let stale = Transaction::default().put(node("b"), "x").replace(node("a"), version - 1, "x");
        let conflict = store.commit(stale).await.unwrap_err();
        assert!(matches!(conflict, CommitError::Conflict { ref key } if *key == node("a")), "{conflict}");
        assert_eq!(store.get(&node("b")).await.unwrap(), None);
        let exists = store.commit(Transaction::default().replace(node("a"), 0, "x")).await.unwrap_err();
        assert!(matches!(exists, CommitError::Conflict { .. }), "{exists}");
        assert_eq!(store.get(&node("a")).await.unwrap().unwrap().value, "1");
    }

    pub(super) async fn of_two_writers_one_wins(store: Arc<dyn Store>) {
        let attempts = (0..32).map(|writer: u32| {
            let store = store.clone();
            async move { store.commit(Transaction::default().replace(node("a"), 0, writer.to_string())).await }
        });
        let outcomes = futures::future::join_all(attempts).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    }

    pub(super) async fn a_range_has_both_directions_and_pages(store: Arc<dyn Store>) {
        for number in 1..=5 {
            store.commit(Transaction::default().put(Key::event(number), number.to_string())).await.unwrap();
        }
        store.commit(Transaction::default().put(node("a"), "other")).await.unwrap();
        let values = async |range| -> String {
            let found = store.range(range).await.unwrap();
            found.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect()
        };
        assert_eq!(values(Range::first(Key::EVENTS, 3)).await, "123");
        assert_eq!(values(Range { after: Some(Key::event(3)), ..Range::first(Key::EVENTS, 9) }).await, "45");
        assert_eq!(values(Range { after: Some(Key::event(5)), ..Range::first(Key::EVENTS, 9) }).await, "");
        assert_eq!(values(Range::last(Key::EVENTS, 2)).await, "54");
        let before =
            Range { after: Some(Key::event(2)), order: Order::Descending, ..Range::first(Key::EVENTS, 9) };
        assert_eq!(values(before).await, "1");
        assert_eq!(values(Range::first(Key::ROLLOUTS, 9)).await, "");
    }

    pub(super) async fn whoever_watches_a_key_is_woken_by_it_only(store: Arc<dyn Store>) {
        let mut own = store.watch(node("a").as_str());
        let mut all = store.watch(Key::NODES);
        let mut other = store.watch(node("ab").as_str());
        let version = store.commit(Transaction::default().put(node("a"), "1")).await.unwrap();
        for watcher in [&mut own, &mut all] {
            watcher.wait_for(|seen| version <= *seen).await.unwrap();
        }
        assert!(!other.has_changed().unwrap());
        other.mark_unchanged();
    }

    pub(super) async fn a_feed_has_every_commit_to_its_keys_in_order_and_before_the_answer(
        store: Arc<dyn Store>,
    ) {
        let before = store.commit(Transaction::default().put(node("a"), "before")).await.unwrap();
        let mut feed = store.feed(&[Key::META, Key::NODES]);
        let newest = feed.newest();
        assert_eq!(newest.get(), before);
        let both = Transaction::default().put(node("a"), "1").put(Key::meta(), "2").delete(node("b"));
        let first = store.commit(both.put(Key::event(1), "not asked for")).await.unwrap();
        assert_eq!(newest.get(), first);
        let conflict = Transaction::default().replace(node("a"), before, "never");
        store.commit(conflict).await.unwrap_err();
        store.commit(Transaction::default().put(Key::event(2), "not asked for")).await.unwrap();
        assert_eq!(newest.get(), first);
        let second = store.commit(Transaction::default().delete(node("a"))).await.unwrap();
        let News::Commits(commits) = feed.next().await else { panic!("it was not slow") };
        let shown: Vec<String> = commits
            .iter()
            .flat_map(|commit| commit.changes.iter().map(move |change| (commit.version, change)))
            .map(|(version, change)| format!("{version} {} {:?}", change.key, change.value))
            .collect();
        let expected = [
            format!("{first} node/a Some(b\"1\")"),
            format!("{first} meta Some(b\"2\")"),
            format!("{first} node/b None"),
            format!("{second} node/a None"),
        ];
        assert_eq!(shown, expected);
    }

    pub(super) async fn a_reader_that_is_too_slow_is_told_to_read_everything_again(store: Arc<dyn Store>) {
        let mut feed = store.feed(&[Key::NODES]);
        let large = vec![0; VALUE_MAX];
        let mut newest = 0;
        for _ in 0..50 {
            newest = store.commit(Transaction::default().put(node("a"), large.clone())).await.unwrap();
        }
        assert_eq!(feed.newest().get(), newest);
        assert!(matches!(feed.next().await, News::Resync));
        let after = store.commit(Transaction::default().put(node("a"), "1")).await.unwrap();
        let News::Commits(commits) = feed.next().await else { panic!("it has caught up") };
        assert_eq!(commits.iter().map(|commit| commit.version).collect::<Vec<_>>(), [after]);
    }

    pub(super) async fn what_the_smallest_engine_cannot_take_is_refused(store: Arc<dyn Store>) {
        let too_large = Transaction::default().put(node("a"), vec![0; VALUE_MAX + 1]);
        let too_many = (0..=TRANSACTION_WRITES_MAX as u64)
            .fold(Transaction::default(), |all, n| all.put(Key::event(n), ""));
        for transaction in [too_large, too_many] {
            let error = store.commit(transaction).await.unwrap_err();
            assert!(matches!(error, CommitError::TooLarge { .. }), "{error}");
        }
        assert_eq!(store.range(Range::first("", 9)).await.unwrap(), []);
    }

    pub(super) async fn content_comes_back_whole_and_garbage_goes(store: Arc<dyn Store>) {
        let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
        let contents = [large.as_slice(), b"small", b""];
        let digests = contents.map(Digest::of);
        let by_digest = digests.into_iter().zip(contents).collect();
        assert_eq!(blobs::missing(&*store, &by_digest).await.unwrap(), by_digest);
        blobs::put_all(&*store, &by_digest).await.unwrap();
        assert_eq!(blobs::missing(&*store, &by_digest).await.unwrap(), BTreeMap::new());
        for (digest, content) in digests.iter().zip(contents) {
            assert!(blobs::get(&*store, digest).await.unwrap().is_some_and(|found| found == content));
        }
        blobs::remove_others(&*store, &BTreeSet::from([digests[1]])).await.unwrap();
        let left = digests.iter().map(|digest| blobs::get(&*store, digest));
        let left = futures::future::join_all(left).await;
        let left: Vec<bool> = left.into_iter().map(|found| found.unwrap().is_some()).collect();
        assert_eq!(left, [false, true, false]);
    }

    pub(super) async fn a_lease_is_held_by_one_until_it_ends(store: Arc<dyn Store>) {
        let at = |seconds: i64| (Timestamp(seconds * 1000), Duration::from_secs(10));
        let held = |seconds: i64| LeaseGrant::Held { until: Timestamp(seconds * 1000) };
        assert_eq!(store.lease("gc", "one", at(0)).await.unwrap(), held(10));
        let taken = LeaseGrant::Taken { holder: "one".into(), until: Timestamp(10_000) };
        assert_eq!(store.lease("gc", "two", at(5)).await.unwrap(), taken);
        assert_eq!(store.lease("gc", "one", at(6)).await.unwrap(), held(16));
        assert_eq!(store.lease("gc", "two", at(17)).await.unwrap(), held(27));
    }
}

#[tokio::test]
async fn an_embedded_store_keeps_what_it_answered_and_its_versions_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = Tasks::new(CancellationToken::new());
    let path = dir.path().join("store.redb");
    let open = || {
        let path = path.clone();
        Embedded::open(move || crate::private::open(&path), &tasks).unwrap()
    };
    let store = open();
    let before = store.commit(Transaction::default().put(Key::revision(Revision(1)), "1")).await.unwrap();
    drop(store);
    tasks.ended().await;
    let store = open();
    assert_eq!(store.get(&Key::revision(Revision(1))).await.unwrap().unwrap().version, before);
    let after = store.commit(Transaction::default().put(Key::meta(), "2")).await.unwrap();
    assert!(before < after);
}

#[tokio::test]
async fn a_lost_reply_is_told_from_a_refusal() {
    let store = Failing::new(Memory::new());
    store.script([Fault::Outage, Fault::LostReply, Fault::Conflict]);
    let put = |value: &'static str| store.commit(Transaction::default().put(node("a"), value));
    assert!(matches!(put("1").await, Err(CommitError::Refused(_))));
    assert_eq!(store.get(&node("a")).await.unwrap(), None);
    assert!(matches!(put("2").await, Err(CommitError::Unknown(_))));
    assert_eq!(store.get(&node("a")).await.unwrap().unwrap().value, "2");
    assert!(matches!(put("3").await, Err(CommitError::Conflict { .. })));
    put("4").await.unwrap();
}
