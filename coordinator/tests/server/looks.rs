//! What a look at the fleet reads from the store: what changed, however large the fleet is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use coordinator::{
    authority::Authority,
    config::Config,
    store::{
        CommitError, Entry, Key, Memory, Range, Read, Store, Transaction, Version, Write,
        records::{
            NodeRecord, Record as _, RevisionRecord, RolloutRecord, Sanction, SeenRecord, ShardRecord, Target,
        },
        revisions,
    },
    tasks::Tasks,
    wall_clock,
};
use fleet::{
    approval::ApprovalRules,
    bundle::RestartClass,
    ids::{Digest, GroupName, NodeName, Revision, RolloutId},
    rollout::{FleetPolicy, FleetView, GroupGoal, NewRollout, NodeGoal, RolloutRules, Target as StepTarget},
    signature::SignatureRules,
    time::Timestamp,
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Nodes of the largest rollout whose steps fit one transaction.
const APPLIED_MAX: u32 = 2_500;
/// Time for some looks; an open rollout is looked at every second. A machine that is slower than this finds nothing wrong.
const LOOKS: Duration = Duration::from_secs(3);
/// What chores store by themselves, whatever the size of the fleet: which of it falls into the time of some looks depends
/// on the machine. A look that reads the fleet reads several hundred times as much.
const CHORES: usize = 2 * 1024;
/// Bytes that a look may read when one node has changed.
const READ_MAX: usize = 64 * 1024;

/// Counts the bytes of all values that leave it. What is written leaves it through the feed.
struct Counting {
    inner: Memory,
    bytes: AtomicUsize,
}

impl Counting {
    fn count<'e>(&self, entries: impl Iterator<Item = &'e Entry>) {
        self.bytes.fetch_add(entries.map(|entry| entry.value.len()).sum(), Ordering::SeqCst);
    }
}

impl coordinator::store::Layer for Counting {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn get(&self, key: &Key) -> Read<'_, Option<Entry>> {
        let reading = self.inner.get(key);
        reading.inspect(|read| self.count(read.iter().flatten())).boxed()
    }

    fn range(&self, range: Range) -> Read<'_, Vec<Entry>> {
        let reading = self.inner.range(range);
        reading.inspect(|read| self.count(read.iter().flatten())).boxed()
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        for write in &transaction.writes {
            if let Write::Put(_, value) = write {
                self.bytes.fetch_add(value.len(), Ordering::SeqCst);
            }
        }
        self.inner.commit(transaction)
    }
}

fn node(number: u32) -> NodeName {
    NodeName::parse(&format!("gateway-frankfurt-{number:05}")).unwrap()
}

fn group() -> GroupName {
    GroupName::parse("gateway-frankfurt").unwrap()
}

/// A revision and its rollout that has not ended, as an apply commits them.
async fn apply(store: &dyn Store, nodes: u32) -> Transaction {
    let digest = Digest::of(b"bundle");
    let target = Target {
        bundle: digest,
        content: digest,
        content_size: 40_000,
        group: group(),
        host: "gateway.frankfurt.acme.internal".to_owned(),
        zone: None,
        product: "wso2am-4.5".to_owned(),
    };
    let goal = NodeGoal {
        group: group(),
        target: StepTarget { bundle: digest, content: digest, size: 40_000 },
        restart: RestartClass::Restart,
        compared_with: None,
        last_good: None,
    };
    let groups = BTreeMap::from([(group(), GroupGoal::default())]);
    let revision = RevisionRecord {
        number: Revision(1),
        parent: Revision(0),
        author: "ops@acme.example".to_owned(),
        message: "A larger pool".to_owned(),
        created: Timestamp(0),
        sources: BTreeMap::new(),
        nodes: (0..nodes).map(|number| (node(number), target.clone())).collect(),
        rolls_back_to: None,
        rules: None,
        left_out: BTreeSet::new(),
        secrets: None,
        origin: None,
        approval: ApprovalRules::default(),
        alerts: fleet::alert::AlertPolicy::default(),
        sanction: Sanction::None,
        signatures: SignatureRules::default(),
        signed: None,
    };
    let rollout = NewRollout {
        id: RolloutId(1),
        revision: Revision(1),
        at: Timestamp(0),
        rules: RolloutRules { policy: FleetPolicy::default(), groups },
        nodes: (0..nodes).map(|number| (node(number), goal.clone())).collect(),
        windows_overridden: None,
    };
    let rollout = rollout.create(&FleetView::default());
    let rollout =
        RolloutRecord::new(rollout, ("ops@acme.example".to_owned(), "A larger pool".to_owned()), None);
    let shards = rollout.shards();
    let shards = (0..).zip(&shards).map(|(number, shard)| (number, ShardRecord::encoded(shard)));
    let (head, parts) = revision.split();
    revisions::put_parts(store, parts).await.unwrap();
    let commit = Transaction::default()
        .put(Key::revision(Revision(1)), head.encode())
        .put(Key::rollout(RolloutId(1)), rollout.encode());
    shards.fold(commit, |all, (number, steps)| all.put(Key::steps(RolloutId(1), number), steps))
}

/// Waits until nothing was read for the time of some looks.
async fn still(store: &Counting) {
    loop {
        let before = store.bytes.load(Ordering::SeqCst);
        tokio::time::sleep(LOOKS).await;
        if store.bytes.load(Ordering::SeqCst) == before {
            return;
        }
    }
}

/// Bytes that are read because one of `nodes` nodes has reported something new.
async fn read_for_one_change(nodes: u32) -> usize {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("fleet = \"acme\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\n", dir.path());
    let config = Config::parse(&text).unwrap();
    let store = Arc::new(Counting { inner: Memory::new(), bytes: AtomicUsize::new(0) });
    for number in 0..nodes {
        let seen = SeenRecord { last_seen: Timestamp(1), ..SeenRecord::default() };
        let commit = Transaction::default()
            .put(Key::node(&node(number)), NodeRecord::new(node(number)).encode())
            .put(Key::seen(&node(number)), seen.encode());
        store.commit(commit).await.unwrap();
    }
    let authority = Arc::new(Authority::open(&dir.path().join("ca"), &config.fleet, wall_clock()).unwrap());
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let bound = listener.local_addr().unwrap();
    let parts = (store.clone() as Arc<dyn Store>, authority, wall_clock as coordinator::Clock);
    let tasks = Tasks::new(CancellationToken::new());
    let coordinator = coordinator::start(&config, bound, parts, tasks.clone()).await.unwrap();
    // Into the store, with the counters that name them.
    let meta = store.get(&Key::meta()).await.unwrap().unwrap();
    let meta = coordinator::store::records::Meta::read(&meta).unwrap();
    let (newest_revision, newest_rollout) = (Revision(1), RolloutId(1));
    let meta = coordinator::store::records::Meta { newest_revision, newest_rollout, ..meta };
    let applied = apply(&*store, nodes.min(APPLIED_MAX)).await;
    store.commit(applied.put(Key::meta(), meta.encode())).await.unwrap();
    let connections = coordinator::accept(&coordinator, &config, listener).unwrap();
    still(&store).await;
    store.bytes.store(0, Ordering::SeqCst);
    let seen = SeenRecord { last_seen: Timestamp(2), ..SeenRecord::default() };
    store.commit(Transaction::default().put(Key::seen(&node(7)), seen.encode())).await.unwrap();
    still(&store).await;
    let bytes = store.bytes.load(Ordering::SeqCst);
    tasks.stop().cancel();
    drop((coordinator, connections));
    bytes
}

#[tokio::test]
async fn a_look_reads_what_changed_and_not_the_fleet() {
    let (small, large) = (read_for_one_change(1_000).await, read_for_one_change(10_000).await);
    println!("read for one changed node: {small} bytes of 1,000 nodes, {large} bytes of 10,000");
    assert!(0 < small, "the change itself is counted, so a test that counts nothing fails");
    assert!(large <= READ_MAX, "{large} bytes");
    assert!(large <= 3 * small + CHORES, "{small} and {large} bytes");
}
