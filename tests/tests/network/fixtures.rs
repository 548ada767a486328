//! States of half-done rollouts as each version wrote them: this one reads them all, and takes them to their end.
//!
//! A fixture holds the coordinator's store with the key that its content is sealed under, and of each node the journal,
//! the cached content and the managed files. Not in it: certificates and their keys, which expire; every run makes its
//! own. Its homes lie below [`PLACE`], on every machine.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use agent::journal::Journal;
use coordinator::{
    config::Config,
    recovery::{Recovery, recover},
    store::{
        Embedded, Key, Range, Store as _, Transaction,
        records::{FORMAT, Meta, Record as _},
    },
    tasks::Tasks,
};
use fleet::{
    ids::{FleetEpoch, FleetName, Generation, Revision, RolloutId},
    node::Memory,
    observed::ProcessIdentity,
    time::Timestamp,
};
use proto::{convert::journal::encode_memory, wire::operator::StatusReply};
use serde::{Deserialize, Serialize};
use simulation::Chance;
use tokio_util::sync::CancellationToken;

use crate::{
    operator::{Operator, newest, nodes_in},
    pages,
    site::{EPOCH, Ground, Group, NODES, Order, Site, run},
};

/// Where the homes of a fixture are.
const PLACE: &str = "/tmp/convoy-fixture";
/// Two groups at once: in one a step is in flight while a wave of the other soaks.
const GROUPS: &[Group] = &[("km", &["is-1", "is-2"], "2s"), ("portal", &["is-3", "is-4"], "60s")];
const SEED: u64 = 10;
const LATENCY: Duration = Duration::from_millis(20);
/// Of an agent's state, what is no fixture: keys, certificates, and what is made anew.
const NOT_KEPT: [&str; 5] = ["identity", "lock", "pins.json", "console", "tmp"];

/// What a store's content is sealed under; 0.1 sealed secrets only, and its fixture has none.
const DATA_KEY: &str = "secrets.key";

/// Set by `cargo xtask fixtures`: what is written is to stay.
const WRITE: &str = "CONVOY_WRITE_FIXTURES";

/// What a fixture says of itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct About {
    /// Of the program that wrote it.
    version: String,
    /// Milliseconds since 1970.
    written: i64,
    /// What the coordinator and the agents say of their state, one line each.
    says: Vec<String>,
    /// Servers that ran on.
    servers: Vec<Running>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Running {
    node: String,
    pid: u32,
    start_id: String,
    started: i64,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The fixed place, empty, and nobody else's until it is dropped.
fn ground() -> Ground {
    let lock = fs::File::create(format!("{PLACE}.lock")).unwrap();
    lock.lock().unwrap();
    let path = PathBuf::from(PLACE);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    Ground::Fixed(path, lock)
}

fn say_rollout(status: &StatusReply) -> Vec<String> {
    let rollout = newest(status).unwrap();
    let mut says =
        vec![format!("rollout {} of revision {}: {}", rollout.id, rollout.revision, rollout.state)];
    for group in &rollout.groups {
        let nodes = group.nodes.iter();
        says.extend(
            nodes.map(|node| format!("{} {} {} {}", group.group, node.node, node.state, node.generation)),
        );
    }
    says
}

fn say_journals(site: &Site) -> Vec<String> {
    let say = |node: &&str| {
        let memory = Journal::of(&site.state(node)).read().unwrap();
        let generation = |of: Option<Generation>| of.map_or(0, |generation| generation.0);
        format!(
            "{node} obeys {}, has written {} and was healthy with {}",
            generation(memory.assignment.as_ref().map(|it| it.applied.generation)),
            generation(memory.written.as_ref().map(|it| it.applied.generation)),
            generation(memory.last_good.as_ref().map(|it| it.applied.generation)),
        )
    };
    NODES.iter().map(say).collect()
}

/// Half a rollout: is-1 is done, is-2 has just been launched with new files, the wave of is-3 soaks, is-4 waits.
async fn half_done(site: Arc<Site>, says: Arc<std::sync::Mutex<Vec<String>>>) {
    let mut operator = Operator::settled(site.clone()).await;
    operator.apply("two").await;
    let status = operator.until(|status| {
        let launched = site.servers["is-2"].lock().launches.len() == 2;
        let is = |states: &[&str], nodes: &[&str]| nodes_in(status, states) == nodes;
        launched
            && is(&["ready"], &["is-1", "is-3"])
            && is(&["restarting"], &["is-2"])
            && is(&["pending"], &["is-4"])
    });
    *says.lock().unwrap() = say_rollout(&status.await);
    site.order(Order::Halt);
    std::future::pending::<()>().await;
}

fn write(to: &Path) {
    let mut chance = Chance::new(SEED);
    let site = Arc::new(Site::new(ground(), GROUPS, &mut chance));
    for (node, seconds) in NODES.iter().zip([4, 15, 4, 4]) {
        site.servers[node].lock().start = Duration::from_secs(seconds);
    }
    let says = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = says.clone();
    let took = run(SEED, (EPOCH, LATENCY), &site, move |site| half_done(site, heard));

    pages::shrink(&site.path().join("coordinator/store.redb"), &to.join("store.pages"));
    fs::copy(site.path().join("coordinator").join(DATA_KEY), to.join(DATA_KEY)).unwrap();
    for node in NODES {
        copy(&site.state(node), &to.join(node).join("state"), &NOT_KEPT);
        copy(&site.home(node).join("repository"), &to.join(node).join("home/repository"), &[]);
    }
    let servers = NODES.iter().map(|node| {
        let ProcessIdentity { pid, start_id, started } = site.servers[node].lock().identity().unwrap();
        Running { node: (*node).to_owned(), pid, start_id, started: started.0 }
    });
    let about = About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        written: EPOCH.after(took).0,
        says: [says.lock().unwrap().clone(), say_journals(&site)].concat(),
        servers: servers.collect(),
    };
    fs::write(to.join("about.toml"), toml::to_string(&about).unwrap()).unwrap();
}

fn copy(from: &Path, to: &Path, without: &[&str]) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, path) = (entry.file_name(), entry.path());
        if without.iter().any(|left| name == *left) {
            continue;
        }
        if path.is_dir() {
            copy(&path, &to.join(name), without);
        } else {
            fs::copy(path, to.join(name)).unwrap();
        }
    }
}

/// Loads a fixture, compares what it says of itself, and takes it to its end.
fn read(from: &Path) {
    println!("{}", from.display());
    let about: About = toml::from_str(&fs::read_to_string(from.join("about.toml")).unwrap()).unwrap();
    let site = Site::new(ground(), GROUPS, &mut Chance::new(SEED));
    fs::create_dir_all(site.path().join("coordinator")).unwrap();
    pages::expand(&from.join("store.pages"), &site.path().join("coordinator/store.redb"));
    for node in NODES {
        copy(&from.join(node).join("state"), &site.state(node), &[]);
        copy(&from.join(node).join("home"), &site.home(node), &[]);
    }
    for Running { node, pid, start_id, started } in about.servers {
        let identity = ProcessIdentity { pid, start_id, started: Timestamp(started) };
        site.servers[node.as_str()].lock().runs_already(identity);
    }
    site.power.send_replace(false);
    let site = Arc::new(site);
    let journals = say_journals(&site);
    // The time is the one at which it was written: a deadline may have passed since, and that is not what is tested.
    let epoch = Timestamp(about.written).after(Duration::from_secs(1));
    if from.join(DATA_KEY).exists() {
        adopt_authority(&from.join(DATA_KEY), &site.path().join("coordinator"), epoch);
    }
    run(SEED, (epoch, LATENCY), &site, move |site| async move {
        let mut operator = Operator::new(site.clone());
        let status = operator.status().await;
        assert_eq!([say_rollout(&status), journals].concat(), about.says);
        let waiting = &newest(&status).unwrap().waiting;
        for node in ["is-2", "is-3"] {
            let named = |why: &String| why.contains(node) && why.contains("not connected");
            assert!(waiting.iter().any(named), "{node}: {waiting:#?}");
        }
        site.power.send_replace(true);
        operator.done(2).await;
    });
    // Found running and left so; only the node whose turn had not come is restarted.
    assert_eq!(site.launches(), [0, 0, 0, 1]);
    for node in NODES {
        let config = site.home(node).join("repository/conf/deployment.toml");
        assert!(fs::read_to_string(config).unwrap().contains("two.example.org"), "{node}");
        let says = say_journals(&site).join("\n");
        let all = format!("{node} obeys 2, has written 2 and was healthy with 2");
        assert!(says.contains(&all), "{says}");
    }
}

/// Binds a store to an authority of this run, as its operator would whose authority is lost.
fn adopt_authority(data_key: &Path, data: &Path, now: Timestamp) {
    fs::copy(data_key, data.join(DATA_KEY)).unwrap();
    let config = Config::parse(&format!("fleet = \"acme\"\ndata_dir = {data:?}\n")).unwrap();
    alone(recover(&config, Recovery::NewAuthority, now)).unwrap();
}

#[cfg(unix)]
#[test]
fn a_half_done_rollout_of_every_version_goes_on_with_this_one() {
    let mut found: Vec<PathBuf> = fs::read_dir(fixtures())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("state-"))
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} holds no fixture", fixtures().display());
    for fixture in found {
        read(&fixture);
    }
}

/// With `CONVOY_WRITE_FIXTURES` what is written stays, as the fixture of this version; otherwise it is only tried.
#[cfg(unix)]
#[test]
fn what_this_version_writes_can_be_a_fixture() {
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let to = fixtures().join(format!("state-{major}.{minor}"));
    let is_to_stay = std::env::var_os(WRITE).is_some();
    assert!(!is_to_stay || !to.exists(), "{} is there; what a version wrote stays as it is", to.display());
    let scratch = tempfile::tempdir().unwrap();
    write(scratch.path());
    read(scratch.path());
    if is_to_stay {
        copy(scratch.path(), &to, &[]);
        println!("{}", to.display());
    }
}

/// Field `number` of a message again, as another number below 128: the last one counts.
fn with_field(message: &[u8], number: u8, value: u8) -> Vec<u8> {
    [message, &[number << 3, value]].concat()
}

/// Ends with everything that `work` began, so that nobody holds a file any more.
fn alone<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn open(file: &Path) -> Embedded {
    let path = file.to_owned();
    let open = move || {
        let mut options = fs::OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true).open(&path)
    };
    Embedded::open(open, &Tasks::new(CancellationToken::new())).unwrap()
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join("store.redb");
    let meta = Meta {
        epoch: FleetEpoch([7; 16]),
        fleet: FleetName::parse("acme").unwrap(),
        newest_revision: Revision(3),
        newest_rollout: RolloutId(3),
        authority: None,
        key_check: None,
    };
    let newer = Transaction::default().put(Key::meta(), with_field(&meta.encode(), 5, 99));
    alone(async { open(&path).commit(newer).await.unwrap() });
    let entries = || alone(async { open(&path).range(Range::first("", usize::MAX)).await.unwrap() });
    let before = entries();
    let text = format!("fleet = \"acme\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\n", data.path());
    let config = Config::parse(&text).unwrap();
    let refused = alone(coordinator::run(config, CancellationToken::new())).unwrap_err();
    let said = coordinator::error_chain(&refused);
    for part in ["format 99", "newer version", &format!("knows {FORMAT}"), "install"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(entries(), before);
}

#[test]
fn a_journal_of_a_newer_version_is_refused_and_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let newer = with_field(&encode_memory(&Memory::default()), 1, 99);
    fs::write(data.path().join("journal"), &newer).unwrap();
    let text = format!("data_dir = {:?}\nhomes = [\"/opt/wso2\"]\n", data.path());
    let refused = alone(agent::run(
        toml::from_str(&text).unwrap(),
        agent::editors::Sight::none(),
        std::future::pending(),
    ))
    .unwrap_err();
    let said = agent::chain(&refused);
    for part in ["journal", "format 99", "newer version", "reads 1", "install"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read(data.path().join("journal")).unwrap(), newer);
}
