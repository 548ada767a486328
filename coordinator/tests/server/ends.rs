//! How a coordinator ends: loudly when it cannot go on, and cleanly whoever is still connected.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use coordinator::{
    RunError,
    authority::Authority,
    config::Config,
    store::{Feed, Key, Memory, Store},
    tasks::Tasks,
    wall_clock,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{PATIENCE, TestCoordinator};

/// A store that has a defect: following rollouts panics once it is armed.
struct Panicking {
    inner: Memory,
    armed: AtomicBool,
}

impl coordinator::store::Layer for Panicking {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn feed(&self, prefixes: &'static [&'static str]) -> Feed {
        let is_hit = self.armed.load(Ordering::SeqCst) && prefixes.contains(&Key::ROLLOUTS);
        assert!(!is_hit, "a planted defect");
        self.inner.feed(prefixes)
    }
}

#[tokio::test]
async fn a_panic_where_rollouts_are_executed_ends_the_coordinator() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("fleet = \"acme\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:0\"\n", dir.path());
    let config = Config::parse(&text).unwrap();
    let store = Arc::new(Panicking { inner: Memory::new(), armed: AtomicBool::new(false) });
    let authority = Arc::new(Authority::open(&dir.path().join("ca"), &config.fleet, wall_clock()).unwrap());
    let listener = TcpListener::bind(config.listen).await.unwrap();
    let bound = listener.local_addr().unwrap();
    let parts = (store.clone() as Arc<dyn Store>, authority, wall_clock as coordinator::Clock);
    let tasks = Tasks::new(CancellationToken::new());
    let coordinator = coordinator::start(&config, bound, parts, tasks).await.unwrap();
    // Whoever executes rollouts follows them from the begin.
    store.armed.store(true, Ordering::SeqCst);
    let connections = coordinator::accept(&coordinator, &config, listener).unwrap();
    let ended = tokio::time::timeout(PATIENCE, coordinator::serve(coordinator, connections)).await;
    let error = ended.expect("it must not live on without its rollouts").unwrap_err();
    assert!(matches!(&error, RunError::Task(failure) if failure.why.contains("a planted defect")), "{error}");
}

#[tokio::test]
async fn a_stranger_who_stays_connected_does_not_keep_a_stop_from_being_clean() {
    let coordinator = TestCoordinator::start().await;
    let stranger = coordinator.raw(None).await;
    coordinator.stop().await;
    drop(stranger);
}
