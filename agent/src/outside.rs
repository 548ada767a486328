//! What the agent finds outside itself and its files, behind one seam: the time of day, chance, the network to the
//! coordinator, and the machine that runs the server. [`Outside::real`] is this host; a simulation gives others.

use std::{fmt, net::IpAddr, sync::Arc};

use fleet::{
    bundle::{Bundle, Probe},
    health::ProbeResult,
    observed::ProcessIdentity,
    preflight::PreflightFacts,
};
use futures::{FutureExt as _, future::BoxFuture};
use traces::Tracer;

use crate::{
    balancer::Balancer,
    editors::Sight,
    link::{Network, network},
    preflight::{self, Subject},
    probe::{self, Pins},
    process::{Processes, Stopper},
};

/// A task of the machine; what comes of it is told as an event.
pub type Work = BoxFuture<'static, ()>;

/// Runs servers and answers questions about itself.
pub trait Machine: fmt::Debug + Send + Sync + 'static {
    /// Looks for servers of a home.
    fn look(&self, home: String) -> Work;
    /// The live servers of a home.
    fn servers(&self, home: String) -> BoxFuture<'static, Vec<ProcessIdentity>>;
    /// Starts the server unless one lives on its home, and follows it to its end.
    fn launch(&self, bundle: Arc<Bundle>) -> Work;
    /// Has the load balancer of that home read its configuration anew. A machine that has none never answers, and the
    /// engine waits no longer than [`fleet::node::RELOAD_TIME`].
    fn reload(&self, _run: u64, _process: ProcessIdentity, _bundle: Arc<Bundle>) -> Work {
        async {}.boxed()
    }
    /// Follows a server that was found running.
    fn adopt(&self, process: ProcessIdentity, bundle: Arc<Bundle>) -> Work;
    /// Asks the server to stop.
    fn stop(&self, process: ProcessIdentity) -> Work;
    /// Asks the server for its threads.
    fn dump(&self, process: &ProcessIdentity);
    /// Ends the server whatever it does.
    fn kill(&self, process: ProcessIdentity) -> Work;
    /// Asks all probes at once; `keystores` is a digest of what the server's certificate depends on.
    fn probe(
        &self,
        probes: Vec<Probe>,
        process: ProcessIdentity,
        keystores: String,
    ) -> BoxFuture<'static, Vec<ProbeResult>>;
    /// What preflight judges.
    fn gather(&self, subject: Subject) -> BoxFuture<'static, PreflightFacts>;
}

/// The machine that this program runs on.
#[derive(Debug)]
pub struct ThisMachine {
    /// Servers as processes.
    pub processes: Processes,
    /// Certificates of probes.
    pub pins: Pins,
    /// What probes dial.
    pub probe_address: IpAddr,
    /// The load balancer of this host, if the agent looks after one.
    pub balancer: Option<Balancer>,
}

impl ThisMachine {
    /// The load balancer, if this home is its.
    fn balancer(&self, home: &str) -> Option<Balancer> {
        self.balancer.clone().filter(|balancer| balancer.is_at(home))
    }
}

impl Machine for ThisMachine {
    fn look(&self, home: String) -> Work {
        match self.balancer(&home) {
            Some(balancer) => balancer.look().boxed(),
            None => self.processes.clone().look(home).boxed(),
        }
    }

    fn servers(&self, home: String) -> BoxFuture<'static, Vec<ProcessIdentity>> {
        match self.balancer(&home) {
            Some(balancer) => async move { balancer.servers().await }.boxed(),
            None => Processes::servers(home).boxed(),
        }
    }

    fn launch(&self, bundle: Arc<Bundle>) -> Work {
        match self.balancer(&bundle.service.home) {
            Some(balancer) => balancer.launch().boxed(),
            None => self.processes.clone().launch(bundle).boxed(),
        }
    }

    fn adopt(&self, process: ProcessIdentity, bundle: Arc<Bundle>) -> Work {
        match self.balancer(&bundle.service.home) {
            Some(balancer) => balancer.follow(process).boxed(),
            None => self.processes.clone().adopt(process, bundle).boxed(),
        }
    }

    fn reload(&self, run: u64, process: ProcessIdentity, bundle: Arc<Bundle>) -> Work {
        match self.balancer(&bundle.service.home) {
            Some(balancer) => balancer.reload(run, process, bundle).boxed(),
            None => async {}.boxed(),
        }
    }

    fn stop(&self, process: ProcessIdentity) -> Work {
        self.processes.clone().stop(process).boxed()
    }

    fn dump(&self, process: &ProcessIdentity) {
        Stopper.dump(process);
    }

    fn kill(&self, process: ProcessIdentity) -> Work {
        self.processes.clone().kill(process).boxed()
    }

    fn probe(
        &self,
        probes: Vec<Probe>,
        process: ProcessIdentity,
        keystores: String,
    ) -> BoxFuture<'static, Vec<ProbeResult>> {
        probe::round(probes, self.probe_address, process, self.pins.clone(), keystores).boxed()
    }

    fn gather(&self, subject: Subject) -> BoxFuture<'static, PreflightFacts> {
        let balancer = self.balancer(&subject.settings.home);
        async move {
            match balancer {
                Some(balancer) if subject.balancer.is_some() => balancer.gather(&subject).await,
                Some(_) | None => preflight::gather(&subject).await,
            }
        }
        .boxed()
    }
}

/// Takes what the agent would run servers with, and answers with what it is to run them with.
pub type MakeMachine = Box<dyn FnOnce(ThisMachine) -> Arc<dyn Machine> + Send>;

/// Everything outside.
pub struct Outside {
    /// The time of day.
    pub clock: crate::Clock,
    /// Spreads waits, and tells this run of the agent from others.
    pub seed: u64,
    /// The way to the coordinator.
    pub network: Arc<dyn Network>,
    /// What runs the server.
    pub machine: MakeMachine,
    /// Whether this host can say that it shuts down ([`crate::door`]); a simulated one cannot.
    pub has_door: bool,
    /// Whose doing a change of a file is; a simulated host does not tell.
    pub sight: Sight,
    /// Where spans go.
    pub tracer: Tracer,
}

impl Outside {
    /// This host, behind the proxy at `host:port` if there is one.
    pub fn real(proxy: Option<&str>) -> Self {
        let machine = |real: ThisMachine| -> Arc<dyn Machine> { Arc::new(real) };
        Self {
            clock: crate::wall_clock,
            seed: rand::random(),
            network: network(proxy),
            machine: Box::new(machine),
            has_door: cfg!(unix),
            sight: Sight::none(),
            tracer: Tracer::default(),
        }
    }
}
