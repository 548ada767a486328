//! The daemons with a defect each, for tests of how they end: a task that they cannot go on without panics, with a secret
//! in its hands. Everything else is theirs.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use agent::outside::{Machine, Outside, ThisMachine, Work};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use coordinator::store::{CommitError, Key, Layer, Store, Transaction, Version, Write};
use fleet::{
    bundle::{Bundle, Probe},
    health::ProbeResult,
    observed::ProcessIdentity,
    preflight::PreflightFacts,
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Parser)]
#[command(name = "convoy-panicking", version)]
struct Typed {
    #[command(subcommand)]
    daemon: Daemon,
}

#[derive(Debug, Subcommand)]
enum Daemon {
    /// Panics where it executes rollouts.
    Coordinator {
        #[arg(long)]
        config: PathBuf,
    },
    /// Panics where it starts its server.
    Agent {
        #[arg(long)]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let ended = match Typed::parse().daemon {
        Daemon::Coordinator { config } => coordinate(&config),
        Daemon::Agent { config } => keep(&config),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "convoy-panicking: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn coordinate(config: &Path) -> anyhow::Result<()> {
    let config = coordinator::config::Config::read(config)?;
    coordinator::telemetry::init(&config.log);
    let layer = |inner| -> Arc<dyn Store> { Arc::new(Steps { inner }) };
    Ok(coordinator::run_on(config, CancellationToken::new(), layer).await?)
}

/// A store that cannot bear a step of a rollout. Whoever applies commits a revision as well.
struct Steps {
    inner: Arc<dyn Store>,
}

impl Layer for Steps {
    fn inner(&self) -> &dyn Store {
        &*self.inner
    }

    fn commit(&self, transaction: Transaction) -> BoxFuture<'_, Result<Version, CommitError>> {
        let puts = |prefix: &str| {
            transaction.writes.iter().any(|write| match write {
                Write::Put(key, _) => key.as_str().starts_with(prefix),
                Write::Delete(_) => false,
            })
        };
        if puts(Key::ROLLOUTS) && !puts(Key::REVISIONS) {
            let values = transaction.writes.iter().filter_map(|write| match write {
                Write::Put(_, value) => Some(String::from_utf8_lossy(value)),
                Write::Delete(_) => None,
            });
            panic!("a planted defect in {:?}", values.collect::<Vec<_>>());
        }
        self.inner.commit(transaction)
    }
}

fn keep(config: &Path) -> anyhow::Result<()> {
    let config = agent::config::Config::read(config)?;
    agent::telemetry::start(&config.log);
    let machine = |inner: ThisMachine| -> Arc<dyn Machine> { Arc::new(Starts { inner }) };
    let outside = Outside { machine: Box::new(machine), ..Outside::real(None) };
    let runtime = agent::runtime().context("cannot start")?;
    let ended = runtime.block_on(agent::run_in(config, outside, std::future::pending()));
    runtime.shutdown_timeout(agent::SHUTDOWN_TIME);
    Ok(ended?)
}

/// A machine that cannot start a server.
#[derive(Debug)]
struct Starts {
    inner: ThisMachine,
}

impl Machine for Starts {
    fn look(&self, home: String) -> Work {
        self.inner.look(home)
    }

    fn servers(&self, home: String) -> BoxFuture<'static, Vec<ProcessIdentity>> {
        self.inner.servers(home)
    }

    fn launch(&self, bundle: Arc<Bundle>) -> Work {
        async move { panic!("a planted defect in {:?}", bundle.service.env) }.boxed()
    }

    fn adopt(&self, process: ProcessIdentity, bundle: Arc<Bundle>) -> Work {
        self.inner.adopt(process, bundle)
    }

    fn stop(&self, process: ProcessIdentity) -> Work {
        self.inner.stop(process)
    }

    fn dump(&self, process: &ProcessIdentity) {
        self.inner.dump(process);
    }

    fn kill(&self, process: ProcessIdentity) -> Work {
        self.inner.kill(process)
    }

    fn probe(
        &self,
        probes: Vec<Probe>,
        process: ProcessIdentity,
        keystores: String,
    ) -> BoxFuture<'static, Vec<ProbeResult>> {
        self.inner.probe(probes, process, keystores)
    }

    fn gather(&self, subject: agent::preflight::Subject) -> BoxFuture<'static, PreflightFacts> {
        self.inner.gather(subject)
    }
}
