//! A modelled machine: servers that take simulated time to start and stop, and that read their files at the start.
//! They live on when the agent ends, like real ones.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use agent::{
    outside::{Machine, Work},
    preflight::Subject,
};
use fleet::{
    bundle::{Bundle, Probe},
    health::{Answer, ProbeResult},
    node::{Event, LogSign},
    observed::ProcessIdentity,
    preflight::{
        PreflightFacts,
        facts::{HomeFact, HostFact, JavaFact, Owner},
    },
    time::Timestamp,
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::sync::mpsc;

/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(50);
/// No process of this host has such a number.
const PIDS_FROM: u32 = 0x4000_0000;

/// The server of one node, from its own point of view.
#[derive(Debug)]
pub struct Server {
    /// From the launch to the answer of the first probe.
    pub start: Duration,
    /// From being asked to stop to the end.
    pub stop: Duration,
    process: Option<Process>,
    /// What each launch read.
    pub launches: Vec<String>,
}

#[derive(Debug, Clone)]
struct Process {
    identity: ProcessIdentity,
    ready_at: Duration,
    ends_at: Option<Duration>,
}

impl Server {
    fn process(&self, now: Duration) -> Option<&Process> {
        self.process.as_ref().filter(|process| process.ends_at.is_none_or(|end| now < end))
    }

    /// Whether users are served. A server that was asked to stop takes no more of them.
    pub fn serves(&self, now: Duration) -> bool {
        self.process(now).is_some_and(|process| process.ready_at <= now && process.ends_at.is_none())
    }

    fn launch(&mut self, now: Duration, read: String) -> ProcessIdentity {
        self.launches.push(read);
        let identity = ProcessIdentity {
            pid: PIDS_FROM + u32::try_from(self.launches.len()).unwrap(),
            start_id: format!("{}@simulated", now.as_millis()),
            started: wall_clock(),
        };
        let ready_at = now + self.start;
        self.process = Some(Process { identity: identity.clone(), ready_at, ends_at: None });
        identity
    }

    /// What runs, for whoever is to find it again.
    pub fn identity(&self) -> Option<ProcessIdentity> {
        self.process.as_ref().map(|process| process.identity.clone())
    }

    /// It was started before this simulation, and serves.
    pub fn runs_already(&mut self, identity: ProcessIdentity) {
        self.process = Some(Process { identity, ready_at: Duration::ZERO, ends_at: None });
    }

    fn end(&mut self, process: &ProcessIdentity, at: Duration) {
        if let Some(own) = self.process.as_mut().filter(|own| own.identity == *process) {
            own.ends_at = Some(own.ends_at.map_or(at, |end| end.min(at)));
        }
    }
}

/// The server, shared between its agent and whoever watches.
#[derive(Debug, Clone)]
pub struct Shared(Arc<Mutex<Server>>);

impl Shared {
    pub fn new(start: Duration, stop: Duration) -> Self {
        Self(Arc::new(Mutex::new(Server { start, stop, process: None, launches: Vec::new() })))
    }

    pub fn lock(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }
}

/// The time of day on every simulated host.
pub fn wall_clock() -> Timestamp {
    let since = turmoil::since_epoch().expect("only simulated hosts ask for the time");
    Timestamp(i64::try_from(since.as_millis()).unwrap())
}

fn now() -> Duration {
    turmoil::sim_elapsed().expect("only simulated hosts have servers")
}

/// The machine of one node.
#[derive(Debug, Clone)]
pub struct Modelled {
    pub server: Shared,
    pub events: mpsc::Sender<Event>,
}

impl Modelled {
    async fn tell(&self, event: Event) {
        drop(self.events.send(event).await);
    }

    fn found(&self) -> Vec<ProcessIdentity> {
        self.server.lock().process(now()).map(|process| process.identity.clone()).into_iter().collect()
    }

    async fn follow(self, process: ProcessIdentity, mut says_ready: bool) {
        loop {
            tokio::time::sleep(LOOK).await;
            let (lives, serves) = {
                let server = self.server.lock();
                let lives = server.process(now()).is_some_and(|own| own.identity == process);
                (lives, lives && server.serves(now()))
            };
            if !lives {
                let how = "the modelled server ended".to_owned();
                return self.tell(Event::Exited { process, how }).await;
            }
            if std::mem::take(&mut says_ready) {
                if serves {
                    self.tell(Event::Logged(LogSign::Ready)).await;
                } else {
                    says_ready = true;
                }
            }
        }
    }
}

impl Machine for Modelled {
    fn look(&self, _home: String) -> Work {
        let this = self.clone();
        async move { this.tell(Event::Found(this.found())).await }.boxed()
    }

    fn servers(&self, _home: String) -> BoxFuture<'static, Vec<ProcessIdentity>> {
        let this = self.clone();
        async move { this.found() }.boxed()
    }

    fn launch(&self, bundle: Arc<Bundle>) -> Work {
        let this = self.clone();
        async move {
            let found = this.found();
            if !found.is_empty() {
                return this.tell(Event::Found(found)).await;
            }
            let config = Path::new(&bundle.service.home).join(bundle.service.config_path.as_str());
            let process = this.server.lock().launch(now(), fs::read_to_string(config).unwrap());
            this.tell(Event::Launched(process.clone())).await;
            this.follow(process, true).await;
        }
        .boxed()
    }

    fn adopt(&self, process: ProcessIdentity, _bundle: Arc<Bundle>) -> Work {
        self.clone().follow(process, false).boxed()
    }

    fn stop(&self, process: ProcessIdentity) -> Work {
        let mut server = self.server.lock();
        let at = now() + server.stop;
        server.end(&process, at);
        async {}.boxed()
    }

    fn dump(&self, _process: &ProcessIdentity) {}

    fn kill(&self, process: ProcessIdentity) -> Work {
        self.server.lock().end(&process, now());
        async {}.boxed()
    }

    fn probe(
        &self,
        probes: Vec<Probe>,
        _process: ProcessIdentity,
        _keystores: String,
    ) -> BoxFuture<'static, Vec<ProbeResult>> {
        let serves = self.server.lock().serves(now());
        let answer = if serves { Answer::Passed } else { Answer::Failed("refused".to_owned()) };
        let result =
            |probe: Probe| ProbeResult { name: probe.name, role: probe.role, answer: answer.clone() };
        let results: Vec<ProbeResult> = probes.into_iter().map(result).collect();
        async { results }.boxed()
    }

    fn gather(&self, subject: Subject) -> BoxFuture<'static, PreflightFacts> {
        let own_pids = self.found().iter().map(|process| process.pid).collect();
        async move { facts(&subject, own_pids) }.boxed()
    }
}

/// A machine that nothing speaks against.
fn facts(subject: &Subject, own_pids: Vec<u32>) -> PreflightFacts {
    let owner = || Ok(Owner { id: 801, name: "wso2".to_owned() });
    PreflightFacts {
        java: JavaFact {
            java_home: Some("/opt/jdk".to_owned()),
            output: Ok("openjdk version \"21.0.2\"".to_owned()),
        },
        home: HomeFact {
            version: Ok("WSO2 Identity Server v7.2.0".to_owned()),
            script: Ok(()),
            owner: owner(),
            run_user: owner(),
            foreign: Vec::new(),
            disk_free: Ok(1 << 40),
            bundle_size: subject.bundle_size,
        },
        host: HostFact {
            sockets: Ok(Vec::new()),
            own_pids,
            neighbours: Vec::new(),
            clock_ahead: subject.clock.clone(),
            open_files: Ok(None),
            processes: Ok(None),
        },
        ..PreflightFacts::default()
    }
}
