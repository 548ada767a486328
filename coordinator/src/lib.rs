//! The coordinator: keeps the desired state, tells it to the agents that dial in, and serves operators.
//!
//! [`run`] is the whole program on a real port and a data directory; [`start`], [`accept`] and [`serve`] are the same on
//! any store, any clock and any [`listener::Listen`], which is what simulations use.

mod absent;
mod access;
pub mod alerts;
mod apply;
pub mod arguments;
mod audit;
pub mod authority;
mod commands;
pub mod config;
mod context;
mod coordinator;
mod databases;
mod differences;
mod disk;
mod effects;
mod enrolment;
pub mod events;
mod garbage;
mod gates;
mod hosts;
pub mod identity;
mod in_force;
pub mod listener;
mod logs;
mod metrics;
mod mirror;
mod operators;
mod original;
mod outlook;
mod packs;
mod plan;
mod private;
mod proposals;
mod questions;
mod rates;
mod reach;
pub mod recovery;
mod rollback;
mod rollouts;
pub mod rpc;
mod secrets;
mod sessions;
pub mod setup;
mod signatures;
mod spans;
pub mod store;
mod subjects;
pub mod tasks;
pub mod telemetry;
mod view;
mod witness;

use std::{future::Future, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use fleet::{ids::FleetEpoch, time::Timestamp};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use coordinator::open_meta;
pub use coordinator::{Coordinator, OpenError};
pub use view::NodeState;

use crate::{
    audit::Audit,
    authority::{Authority, AuthorityError},
    config::Config,
    enrolment::host::{FileError, HostAuthorities},
    events::Events,
    listener::{Acceptor, Listen, TlsError, tls_config},
    metrics::{Metered, Meters},
    mirror::Mirror,
    sessions::Live,
    store::{Sealed, Store, StoreError},
    tasks::{TaskFailure, Tasks},
    witness::Witness,
};

/// After the signal to stop, so long for what is under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// After that, so long for spans that still wait for the collector of traces.
const TRACES_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the coordinator does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error("cannot use the data directory {}", path.display())]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The port.
    #[error("cannot listen on {address}: {remedy}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What to do about it.
        remedy: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The listener of the metrics.
    #[error(transparent)]
    Metrics(#[from] exporter::BindError),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store is not this fleet's.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Something of the data directory is missing.
    #[error(transparent)]
    Recovery(#[from] recovery::Refusal),
    /// The authorities of hosts.
    #[error(transparent)]
    HostAuthorities(#[from] FileError),
    /// A channel of alerts.
    #[error(transparent)]
    Channel(#[from] alerts::ChannelError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The server.
    #[error(transparent)]
    Serve(#[from] rpc::ServeError),
    /// A task that it cannot be without.
    #[error(transparent)]
    Task(#[from] TaskFailure),
}

/// Tells the time of day.
pub type Clock = fn() -> Timestamp;

/// The wall clock of the real program.
pub fn wall_clock() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_millisecond())
}

/// Runs the coordinator until `stop`, then lets what is under way finish. The bound address is written to
/// `<data_dir>/address` once connections are taken.
///
/// # Errors
/// What kept it from starting, or what ended it.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    run_on(config, stop, |store| store).await
}

/// The same with something around the store, such as a defect that a test plants.
///
/// # Errors
/// What kept it from starting, or what ended it.
pub async fn run_on(
    config: Config,
    stop: CancellationToken,
    layer: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
) -> Result<(), RunError> {
    run_by(config, stop, wall_clock, layer).await
}

/// The same by a clock that a test sets.
///
/// # Errors
/// What kept it from starting, or what ended it.
pub async fn run_by(
    config: Config,
    stop: CancellationToken,
    clock: Clock,
    layer: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
) -> Result<(), RunError> {
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    private::create_dir(&config.data_dir).map_err(data_error)?;
    let address_file = config.data_dir.join("address");
    let metrics_file = config.data_dir.join("metrics-address");
    for stale in [&address_file, &metrics_file] {
        remove_if_there(stale).map_err(data_error)?;
    }
    let tasks = Tasks::new(stop);
    let store = layer(recovery::open_store(&config.data_dir, &tasks)?);
    let authority = Arc::new(recovery::open_authority(&*store, &config, clock()).await?);

    let listen_error = |source: io::Error| RunError::Listen {
        address: config.listen,
        remedy: exporter::listen_remedy(source.kind()),
        source,
    };
    let listener = TcpListener::bind(config.listen).await.map_err(listen_error)?;
    let bound = listener.local_addr().map_err(listen_error)?;
    // Before anything is served: a coordinator that cannot start must not have begun a rollout.
    let scraped = match &config.metrics {
        Some(metrics) => {
            let listener = metrics.listener().map_err(exporter::BindError::from)?;
            Some((exporter::Bound::open(&listener).await?, metrics.node_labels))
        }
        None => None,
    };
    let parts = (store, authority, clock);
    let coordinator = start(&config, bound, parts, tasks).await?;
    context::ensure(&config.data_dir.join("operator"), &coordinator, config.certificates.operator)
        .map_err(data_error)?;
    let connections = accept(&coordinator, &config, listener)?;
    if let Some((bound, node_labels)) = scraped {
        let listen = bound.listen().to_string();
        private::write(&metrics_file, listen.as_bytes()).map_err(data_error)?;
        info!(%listen, "Metrics can be read at /metrics");
        let shown = metrics::Shown { coordinator: coordinator.clone(), node_labels };
        let serving = exporter::serve(bound, Arc::new(shown), coordinator.stop.clone());
        coordinator.tasks.vital("metrics", serving);
    }
    private::write(&address_file, bound.to_string().as_bytes()).map_err(data_error)?;
    info!(fleet = %config.fleet, address = %bound, epoch = %coordinator.epoch, "The coordinator is ready");
    notify(&[sd_notify::NotifyState::Ready]);

    let tracer = coordinator.tracer.clone();
    serve(coordinator, connections).await?;
    tracer.finish(TRACES_TIMEOUT).await;
    for stale in [&address_file, &metrics_file] {
        remove_if_there(stale).map_err(data_error)?;
    }
    info!("The coordinator has stopped");
    Ok(())
}

/// Puts the shared parts together: records, authority and wall clock.
///
/// # Errors
/// The store fails or belongs to another fleet.
pub async fn start(
    config: &Config,
    bound: SocketAddr,
    (store, authority, clock): (Arc<dyn Store>, Arc<Authority>, Clock),
    tasks: Tasks,
) -> Result<Arc<Coordinator>, RunError> {
    let channels = config.alerts.open()?;
    let host_authorities = config.join.pki.as_ref().map(|pki| HostAuthorities::open(pki.files(), clock()));
    let host_authorities = host_authorities.transpose()?;
    let vault = Arc::new(recovery::open_vault(&*store, config).await?);
    let epoch =
        open_meta(&*store, &config.fleet, FleetEpoch(rand::random()), authority.fingerprint()).await?;
    recovery::bind_key(&*store, &vault).await?;
    let meters = Arc::new(Meters::default());
    let store = Arc::new(Metered { inner: store, meters: meters.clone() });
    let sealed = Arc::new(Sealed::new(store, vault.clone()));
    let store: Arc<dyn Store> = sealed.clone();
    tasks.spawn("sealing", seal_old(sealed));
    let data_error = |source| RunError::DataDir { path: config.data_dir.clone(), source };
    let witness = Arc::new(Witness::open(&config.data_dir).map_err(data_error)?);
    let commits = witness::commits(&*store).await.map_err(StoreError::not_committed)?;
    witness.check(epoch, commits).map_err(OpenError::Doubt)?;
    store::rollouts::carry_over(&*store).await?;
    let mirror = Mirror::start(store.clone(), &tasks).await?;
    let events = Events::start(store.clone(), config.history.events, &tasks).await?;
    let events = events.counted_by(meters.clone());
    let audit = Audit::start(store.clone(), epoch, events.clone()).await?;
    Ok(Arc::new(Coordinator {
        fleet: config.fleet.clone(),
        epoch,
        disk: disk::Disk { dir: config.data_dir.clone(), reserve: config.limits.disk_reserve },
        trouble: watch::Sender::new(None),
        store,
        mirror,
        older_bundles: in_force::OlderBundles::default(),
        authority,
        vault,
        live: Live::default(),
        packs: packs::Packs::default(),
        turns: rpc::Turns::default(),
        hosts: hosts::Hosts::default(),
        logs: logs::Logs::default(),
        audit,
        events,
        event_index: events::index::NodeIndex::default(),
        witness,
        rates: rates::Rates::default(),
        meters,
        tracer: spans::open(),
        alerts: alerts::Board::new(channels),
        clock,
        applying: tokio::sync::Mutex::new(()),
        taking_down: tokio::sync::Mutex::new(()),
        address: config.dial_address(bound),
        heartbeat: config.heartbeat.clone(),
        limits: config.limits.clone(),
        history: config.history.clone(),
        host_authorities,
        node_certificate: config.certificates.node,
        operator_certificate: config.certificates.operator,
        stop: tasks.stop().clone(),
        tasks,
    }))
}

async fn seal_old(store: Arc<Sealed>) {
    match store.seal_old().await {
        Ok(0) => {}
        Ok(pieces) => info!(pieces, "Sealed content that an earlier version had stored in the clear"),
        Err(error) => {
            warn!(error = rpc::chain(&error), "Cannot seal old content; trying again after the next start");
        }
    }
}

/// Sockets whose peers are known, as [`accept`] passes them on.
pub type Connections<L> = mpsc::Receiver<io::Result<listener::Connection<<L as Listen>::Socket>>>;

/// Begins everything that a coordinator does by itself, and takes connections of `listener`.
///
/// # Errors
/// No certificate can be made.
pub fn accept<L: Listen>(
    coordinator: &Arc<Coordinator>,
    config: &Config,
    listener: L,
) -> Result<Connections<L>, RunError> {
    let tls = Arc::new(ArcSwap::from_pointee(new_tls(coordinator, config)?));
    let tasks = &coordinator.tasks;
    tasks.vital("rollouts", rollouts::run(coordinator.clone()));
    tasks.vital("garbage", garbage::run(coordinator.clone()));
    tasks.vital("packs", packs::run(coordinator.clone()));
    tasks.vital("rates", rates::run(coordinator.clone()));
    tasks.vital("absent agents", absent::run(coordinator.clone()));
    tasks.vital("proposals", proposals::run(coordinator.clone()));
    tasks.vital("witness", witness::run(coordinator.clone()));
    tasks.vital("audit checkpoints", audit::checkpoints::run(coordinator.clone()));
    tasks.vital("alerts", alerts::run(coordinator.clone()));
    tasks.vital("hosts", hosts::run(coordinator.clone()));
    tasks.vital("server certificate", rotate_tls(coordinator.clone(), config.clone(), tls.clone()));
    let (fleet, clock) = (config.fleet.clone(), coordinator.clock);
    let acceptor = Acceptor { listener, tls, fleet, clock, limits: config.limits.clone() };
    Ok(acceptor.start(tasks))
}

/// Serves `connections` until the coordinator is told to stop, then lets what is under way finish.
///
/// # Errors
/// What ended it, above all the failure of a vital task.
pub async fn serve<S: AsyncRead + AsyncWrite + Send + Unpin + 'static>(
    coordinator: Arc<Coordinator>,
    connections: mpsc::Receiver<io::Result<listener::Connection<S>>>,
) -> Result<(), RunError> {
    let tasks = coordinator.tasks.clone();
    let serving = rpc::serve(coordinator, ReceiverStream::new(connections));
    let outcome = until_stopped(serving, &tasks, STOP_TIMEOUT).await;
    // A failure ends what is still running too.
    tasks.stop().cancel();
    outcome
}

/// Waits for the server and all tasks to end, but not longer than `patience` after the signal to stop.
async fn until_stopped(
    serving: impl Future<Output = Result<(), rpc::ServeError>>,
    tasks: &Tasks,
    patience: Duration,
) -> Result<(), RunError> {
    let stop = tasks.stop();
    let finished = async {
        serving.await?;
        // Without the signal the server ends only by an error, so this changes nothing for a clean stop.
        stop.cancel();
        tasks.ended().await;
        Ok(())
    };
    let give_up = async {
        stop.cancelled().await;
        notify(&[sd_notify::NotifyState::Stopping]);
        tokio::time::sleep(patience).await;
    };
    tokio::select! {
        outcome = finished => outcome,
        failure = tasks.failed() => Err(failure.into()),
        () = give_up => {
            warn!("Some connections or tasks did not end in time; stopping without them");
            Ok(())
        }
    }
}

fn new_tls(coordinator: &Coordinator, config: &Config) -> Result<ServerConfig, RunError> {
    let validity = ((coordinator.clock)(), config.certificates.server);
    let server = coordinator.authority.issue_server(&config.server_names(), validity)?;
    Ok(tls_config(&coordinator.authority, &server, coordinator.clock)?)
}

/// Replaces the server certificate at half of its life. Connections that exist keep theirs.
async fn rotate_tls(coordinator: Arc<Coordinator>, config: Config, tls: Arc<ArcSwap<ServerConfig>>) {
    let mut pause = config.certificates.server / 2;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = coordinator.stop.cancelled() => return,
        }
        match new_tls(&coordinator, &config) {
            Ok(renewed) => {
                tls.store(Arc::new(renewed));
                pause = config.certificates.server / 2;
                info!("Renewed the server certificate");
            }
            Err(error) => {
                warn!(error = rpc::chain(&error), "Cannot renew the server certificate");
                pause = (config.certificates.server / 20).max(Duration::from_secs(1));
            }
        }
    }
}

fn remove_if_there(path: &std::path::Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "Cannot tell the service manager");
    }
}

/// An error and its causes in one line.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    rpc::chain(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending() -> impl Future<Output = Result<(), rpc::ServeError>> {
        std::future::pending()
    }

    #[tokio::test]
    async fn a_connection_and_a_task_that_do_not_end_hold_up_a_stop_only_for_a_while() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.stop().cancel();
        until_stopped(pending(), &tasks, Duration::from_millis(1)).await.unwrap();
        tasks.spawn("stuck", std::future::pending::<()>());
        until_stopped(async { Ok(()) }, &tasks, Duration::from_millis(1)).await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_and_a_store_in_use_are_told_with_what_to_do() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = |dir: &std::path::Path, listen: &str| {
            Config::parse(&format!("fleet = 'acme'\ndata_dir = {dir:?}\nlisten = {listen:?}\n")).unwrap()
        };
        let address = taken.local_addr().unwrap().to_string();
        let error = run(config(other.path(), &address), CancellationToken::new()).await.unwrap_err();
        assert!(error.to_string().contains("another process has this port"), "{error}");

        let tasks = Tasks::new(CancellationToken::new());
        let path = dir.path().join("store.redb");
        let _first = crate::store::Embedded::open(move || private::open(&path), &tasks).unwrap();
        let error = run(config(dir.path(), "127.0.0.1:0"), CancellationToken::new()).await.unwrap_err();
        assert!(
            error.to_string().contains("another convoy-coordinator runs on this data directory"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn the_failure_of_a_vital_task_is_the_coordinators() {
        let tasks = Tasks::new(CancellationToken::new());
        tasks.vital("rollouts", async { panic!("a defect") });
        let error = until_stopped(pending(), &tasks, STOP_TIMEOUT).await.unwrap_err();
        assert!(error.to_string().contains("rollouts"), "{error}");
    }
}
