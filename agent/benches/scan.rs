//! How long the scanner takes to compare 10,000 files with their bundle, when it has to read them all and when it knows
//! them, against a bare read and hash of the same files in the same run.
//!
//! Run with `cargo bench -p convoy-agent`; `cargo xtask bench agent` includes it. A bundle that comes over the wire
//! holds at most [`BUNDLE_FILES_MAX`] files; this one is made here to see what a scan costs beyond that.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark reads a clock; the library does not"
)]

#[path = "../../carbon/benches/timing/mod.rs"]
mod timing;

use std::{collections::BTreeMap, fs, hint::black_box, path::Path, time::Duration};

use agent::{
    cache::Cache,
    files::{Home, Scanner},
};
use fleet::{
    bundle::{BUNDLE_FILES_MAX, Bundle, DriftPolicy, FileEntry, HomePath, RestartClass, ServiceSettings},
    call::Hooks,
    drift::keys::KeyRules,
    ids::Digest,
    spec::{Sources, compose},
};
use timing::median;

const RUNS: usize = 9;
const FILES: usize = 10_000;
const DIRECTORIES: usize = 100;
const MODE: u32 = 0o640;

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let bundle = bundle(&home);
    let cache = Cache::open(dir.path()).unwrap();
    let opened = Home::open(home.to_str().unwrap()).unwrap();
    let mut scanner = Scanner::default();
    // What changed a moment ago is read again by every scan; see `TICKS` of the scanner.
    std::thread::park_timeout(Duration::from_millis(500));

    let bare = median(RUNS, || {
        for (path, entry) in &bundle.files {
            assert_eq!(Digest::of(&fs::read(home.join(path.as_str())).unwrap()), entry.digest);
        }
    });
    let scan = |scanner: &mut Scanner| {
        let (looked, found) = black_box(scanner.scan(&opened, &cache, (&bundle, None), None));
        assert_eq!((looked.len(), found.len()), (FILES, 0));
    };
    let read = median(RUNS, || {
        scanner.reset();
        scan(&mut scanner);
    });
    let known = median(RUNS, || scan(&mut scanner));

    println!("{FILES} files in {DIRECTORIES} directories (a bundle holds at most {BUNDLE_FILES_MAX}):");
    println!("  bare read and hash        {bare:>10.1?}");
    println!("  scan that reads them all  {read:>10.1?}, {:.2} times the bare", ratio(read, bare));
    println!("  scan that knows them      {known:>10.1?}, {:.2} times the bare", ratio(known, bare));
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

/// Writes the files below `home`.
fn bundle(home: &Path) -> Bundle {
    let mut files = BTreeMap::new();
    for n in 0..FILES {
        let path = format!("repository/conf/bench/d{}/f{n}.properties", n % DIRECTORIES);
        let content = format!("# file {n}\n{}", "key = value\n".repeat(300)).into_bytes();
        let on_disk = home.join(&path);
        fs::create_dir_all(on_disk.parent().unwrap()).unwrap();
        fs::write(&on_disk, &content).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&on_disk, std::os::unix::fs::PermissionsExt::from_mode(MODE)).unwrap();
        let digest = Digest::of(&content);
        let entry = FileEntry {
            digest,
            meaning: digest,
            size: content.len() as u64,
            mode: MODE,
            drift: DriftPolicy::Enforce,
            restart: RestartClass::Restart,
            secret: false,
            launch: false,
        };
        files.insert(HomePath::parse(&path).unwrap(), entry);
    }
    Bundle {
        files,
        service: service(home),
        hooks: Hooks::default(),
        origin: None,
        drift_keys: KeyRules::default(),
        unnamed_editors: false,
        key_managers: fleet::key_manager::KeyManagers::default(),
        balancer: None,
    }
}

/// Of a node of a fleet of one.
fn service(home: &Path) -> ServiceSettings {
    let fleet = format!(
        "name = \"bench\"\n[groups.g]\nproduct = \"wso2is-7.2\"\n[nodes.n]\ngroup = \"g\"\nhost = \"h\"\nhome = {home:?}\n"
    );
    let sources = Sources([("fleet.toml".to_owned(), fleet.into_bytes())].into());
    let fleet = compose(&sources).fleet.expect("the fleet is sound");
    fleet.nodes.into_values().next().expect("it has a node").bundle.service
}
