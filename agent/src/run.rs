//! The agent from its configuration to its end: one loop, one engine.

use std::{io, sync::Arc};

use fleet::node::{Engine, Event};
use tokio::sync::{Semaphore, mpsc, watch};
use traces::Tracer;
use tracing::{info, warn};

use crate::{
    cache::Cache,
    call::{self, Caller},
    config::Config,
    editors::{Editors, Sight},
    files::{Defaults, Files, Job, Kept},
    identity::{IdentityError, Store},
    journal::{Journal, JournalError, Switches},
    link::{Link, LinkSettings, LinkState, Sources},
    logs,
    look::{Declared, Looker},
    metrics::{self, Asking},
    outside::{Machine, MakeMachine, Outside, ThisMachine},
    preflight::Checkpoint,
    private,
    probe::Pins,
    process::{Console, Processes},
    program,
    spans::Spans,
    task::{Death, Vital},
    watch::Watch,
    world::{Gate, Watching, World},
};

/// Outcomes that may wait for the loop.
const EVENTS_MAX: usize = 1_024;
/// When the agent ends, spans that wait for the collector of traces get this long.
const TRACES_TIME: std::time::Duration = std::time::Duration::from_secs(1);

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory.
    #[error("cannot use the data directory {}", path.display())]
    DataDir {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent.
    #[error("another agent uses the data directory {}", path.display())]
    InUse {
        /// Which.
        path: std::path::PathBuf,
    },
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// `[allow] authorities`.
    #[error("`authorities` in [allow] of the agent's configuration cannot be used: {why}")]
    Authorities {
        /// What is wrong with the file.
        why: String,
    },
    /// The certificate.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A part of the agent.
    #[error("the agent cannot go on without its task \"{}\", which has ended: {}", .0.task, .0.why)]
    Task(Death),
}

/// Runs on this host until `stop` resolves. The server is left as it is.
///
/// # Errors
/// The agent could not start.
pub async fn run(config: Config, sight: Sight, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let tracer = Tracer::from_environment("convoy-agent", env!("CARGO_PKG_VERSION")).unwrap_or_else(|why| {
        warn!(why, "Traces are off");
        Tracer::default()
    });
    let outside = Outside { sight, tracer: tracer.clone(), ..Outside::real(config.proxy.as_deref()) };
    let outcome = run_in(config, outside, stop).await;
    tracer.finish(TRACES_TIME).await;
    outcome
}

/// Runs in any surroundings until `stop` resolves.
///
/// # Errors
/// The agent could not start.
pub async fn run_in(
    config: Config,
    outside: Outside,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let data_dir = config.data_dir.clone();
    let failed = |source| RunError::DataDir { path: data_dir.clone(), source };
    private::create_dir(&data_dir).map_err(failed)?;
    let _lock = lock(&data_dir).await?;
    private::clear_staged(&data_dir).map_err(failed)?;
    let journal = Journal::of(&data_dir);
    let memory = journal.read()?;
    let cache = Cache::open(&data_dir).map_err(failed)?;
    let bundles = cache.bundles(&memory.contents());
    let (outcomes, events) = mpsc::channel(EVENTS_MAX);
    let kept = Kept {
        cache,
        switches: Switches::of(&data_dir),
        pack: watch::Sender::new(None),
        known: bundles.values().cloned().collect(),
        interrupted: memory.switching.is_some(),
        events: outcomes.clone(),
    };
    let state = watch::Sender::new(LinkState::Dialling);
    #[cfg(unix)]
    let ends = watch::Sender::new(None);
    #[cfg(unix)]
    if outside.has_door {
        let (events, ends, link) = (outcomes.clone(), ends.subscribe(), state.subscribe());
        crate::door::open(&data_dir, crate::door::Inside { events, ends, link });
    }
    let mut engine = Engine::new(config.limits(), memory, bundles, outside.seed, (outside.clock)());
    let (vital, mut deaths) = Vital::channel();
    let (inside, asking) = metrics::open(&state);
    let parts = Parts { journal, kept, events, vital, state, metrics: inside };
    let mut world = build(&config, outside, parts).map_err(|error| match error {
        BuildError::DataDir(source) => failed(source),
        BuildError::Identity(error) => error.into(),
        BuildError::Authorities(why) => RunError::Authorities { why },
    })?;
    show_metrics(&config, &world, asking);
    world.link.obeys(engine.memory().epoch);
    info!(data_dir = %data_dir.display(), "The agent is up");
    for action in engine.start(world.now(), world.wall()) {
        world.start(action);
    }
    ready();
    tokio::pin!(stop);
    loop {
        let event = tokio::select! {
            () = &mut stop => None,
            Some(death) = deaths.recv() => return Err(RunError::Task(death)),
            // Cancel-safe: an event that was not returned stays in its channel.
            event = world.next_event(engine.next_deadline(), || engine.observed()) => event,
        };
        let Some(event) = event else { break };
        world.note(&event);
        #[cfg(unix)]
        let is_host_end = event == Event::HostEnds;
        for action in engine.handle(world.now(), world.wall(), event) {
            world.start(action);
        }
        world.link.obeys(engine.memory().epoch);
        #[cfg(unix)]
        if is_host_end {
            ends.send_replace(Some(crate::door::Ending::of(engine.ends_with_host())));
        }
    }
    if engine.ends_with_host().is_some() {
        info!("The agent ends, as its server has, with the host");
    } else {
        info!("The agent ends; the server goes on");
    }
    Ok(())
}

enum BuildError {
    DataDir(io::Error),
    Identity(IdentityError),
    Authorities(String),
}

/// What is there before the world is.
struct Parts {
    journal: Journal,
    kept: Kept,
    /// Outcomes, for the loop.
    events: mpsc::Receiver<Event>,
    vital: Vital,
    /// Where the link says how it is.
    state: watch::Sender<LinkState>,
    /// What is counted, and who wants to know the node's state.
    metrics: metrics::Inside,
}

/// Listens for Prometheus, if that is configured.
fn show_metrics(config: &Config, world: &World, asking: Asking) {
    let Some(settings) = config.metrics.as_ref().and_then(|metrics| metrics.listener().ok()) else { return };
    let shown = metrics::Shown {
        asking,
        journal: world.link.journal(),
        identity: Store::of(&config.data_dir, world.clock),
        meters: world.metrics.meters.clone(),
    };
    metrics::start(&config.data_dir, settings, shown, &world.vital);
}

fn machine(
    config: &Config,
    make: MakeMachine,
    (processes, pins): (Processes, Pins),
    vital: &Vital,
) -> Arc<dyn Machine> {
    let balancer = config.balancer(&processes.units, &processes.events);
    #[cfg(unix)]
    if let Some(balancer) = balancer.clone() {
        vital.spawn("hooks of members", balancer.serve_hooks());
    }
    #[cfg(not(unix))]
    let _no_balancer_here = vital;
    make(ThisMachine { processes, pins, probe_address: config.probe_address, balancer })
}

fn build(config: &Config, outside: Outside, parts: Parts) -> Result<World, BuildError> {
    let Parts { journal, kept, events, vital, state, metrics } = parts;
    let (cache, outcomes) = (kept.cache.clone(), kept.events.clone());
    let (packs, editors) = (kept.pack.subscribe(), Editors::start(outside.sight, &outcomes));
    let (watch, hints) = Watch::new();
    let defaults = defaults(config);
    let console = Console::open(&config.data_dir, config.console_bytes).map_err(BuildError::DataDir)?;
    let settings = LinkSettings {
        coordinators: config.coordinators.clone(),
        home: config.homes.join(" "),
        seed: outside.seed,
        wall_clock: outside.clock,
        network: outside.network,
        state,
        connections: metrics.meters.connections(),
    };
    let pins = Pins::open(&config.data_dir);
    let processes = processes(config, &kept, &console);
    let machine = machine(config, outside.machine, (processes, pins.clone()), &vital);
    let (in_force, original) = (watch::Sender::new(None), watch::Sender::new(None));
    let declared = watch::Sender::new(Declared::default());
    let caller = caller(config, pins)?;
    let looker = Looker {
        homes: config.homes.clone(),
        in_force: in_force.subscribe(),
        original: original.subscribe(),
        declared: declared.subscribe(),
        caller: caller.clone(),
        machine: machine.clone(),
        allowed: config.limits().allowed,
        check_endpoints: config.site().check_endpoints,
        clock: outside.clock,
        turn: Arc::new(Semaphore::new(1)),
    };
    let logs = logs::Reader::new(&looker, &config.data_dir);
    let sources = Sources { cache: cache.clone(), packs, looker, logs, program: program::read() };
    let store = Store::of(&config.data_dir, outside.clock);
    let link = Link::start(settings, store, sources, outcomes.clone(), &vital);
    let link = link.map_err(BuildError::Identity)?;
    let judge = (machine.clone(), outcomes.clone());
    let checkpoint =
        Checkpoint::new(cache, defaults.clone(), link.clock(), (config.site(), config.units()), judge);
    let mut files = Files::start(kept, defaults, (watch, editors), checkpoint, &vital);
    if let [home] = config.homes.as_slice() {
        // Before anything is assigned, so that the first plan knows the host already.
        files.start_job(Job::ReadPack(home.clone()));
    }
    Ok(World {
        begin: tokio::time::Instant::now(),
        clock: outside.clock,
        journal,
        files,
        link,
        machine,
        vital,
        console,
        caller,
        events,
        outcomes,
        hints,
        gate: Gate::default(),
        watching: Watching::default(),
        metrics,
        spans: Spans::new(outside.tracer),
        in_force,
        declared,
        original,
    })
}

fn processes(config: &Config, kept: &Kept, console: &Console) -> Processes {
    Processes {
        defaults: defaults(config),
        cache: kept.cache.clone(),
        console: console.clone(),
        units: config.units(),
        events: kept.events.clone(),
    }
}

fn defaults(config: &Config) -> Defaults {
    Defaults {
        java_home: config.java_home.as_ref().map(|path| path.display().to_string()),
        run_user: config.run_user.clone(),
    }
}

fn caller(config: &Config, pins: Pins) -> Result<Caller, BuildError> {
    let authorities = config.allow.authorities.as_deref().map(call::read_authorities).transpose();
    Ok(Caller::new(pins, authorities.map_err(BuildError::Authorities)?))
}

/// An agent that was killed while it began a program is gone, and that program still holds its files for a moment.
const LOCK_TIME: std::time::Duration = std::time::Duration::from_secs(3);
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// One agent per data directory; the system releases the lock with the process.
async fn lock(data_dir: &std::path::Path) -> Result<std::fs::File, RunError> {
    let path = data_dir.join("lock");
    let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|source| RunError::DataDir { path: data_dir.to_owned(), source })?;
    let until = tokio::time::Instant::now() + LOCK_TIME;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if tokio::time::Instant::now() < until => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(RunError::InUse { path: data_dir.to_owned() });
            }
            Err(std::fs::TryLockError::Error(source)) => {
                return Err(RunError::DataDir { path: data_dir.to_owned(), source });
            }
        }
    }
}

/// Tells systemd, where it asked to be told.
fn ready() {
    #[cfg(target_os = "linux")]
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "No service manager was told");
    }
}
