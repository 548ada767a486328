//! A fleet of four in one simulated network, and what must be true of it at every moment.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, UNIX_EPOCH},
};

use agent::{
    identity::{Store as Identity, client_config, with_h2},
    journal::Journal,
    link,
    outside::{Outside, ThisMachine},
};
use convoy_tests::first_operators_permit;
use coordinator::{
    authority::{Authority, IssuedPair},
    config::Config,
    store::{Embedded, Store},
    tasks::Tasks,
};
use fleet::{
    access::Action,
    ids::{Generation, NodeName},
    time::Timestamp,
    token::JoinToken,
};
use rustls::{ClientConfig, RootCertStore};
use simulation::Chance;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    machine::{Modelled, Shared, wall_clock},
    sockets::{Port, Simulated},
    store::{Committed, Slow},
};

pub const NODES: [&str; 4] = ["is-1", "is-2", "is-3", "is-4"];
/// A group of nodes and how long its waves soak.
pub type Group = (&'static str, &'static [&'static str], &'static str);
const ONE_GROUP: &[Group] = &[("km", &NODES, "2s")];
/// Of a call, longer than anything takes that is not cut off.
pub const CALL_TIME: Duration = Duration::from_secs(30);
pub const PORT: u16 = 9443;
/// When every simulation begins: no test depends on the day.
pub const EPOCH: Timestamp = Timestamp(1_900_000_000_000);
/// Nodes of a group that may be down at once.
const BUDGET: usize = 1;
/// Simulated time at most; reached only when something never happens.
const PATIENCE: Duration = Duration::from_secs(1800);
/// Between two looks at journals.
const LOOK_EVERY: u64 = 20;
const TICK: Duration = Duration::from_millis(10);

/// What the outside of the simulation does on request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The host loses power.
    Crash(&'static str),
    /// It is started again, on the same disk.
    Start(&'static str),
    /// All hosts lose power, for good.
    Halt,
}

/// Everything that survives its programs.
pub struct Site {
    directory: Ground,
    groups: &'static [Group],
    pub servers: BTreeMap<&'static str, Shared>,
    pub committed: Committed,
    commit_delay: Duration,
    tokens: Mutex<BTreeMap<&'static str, JoinToken>>,
    operator: Mutex<Option<Arc<ClientConfig>>>,
    orders: Mutex<VecDeque<Order>>,
    /// Whether agents are to run.
    pub power: watch::Sender<bool>,
}

/// Where its files lie.
pub enum Ground {
    /// A directory of this run's own.
    Own(tempfile::TempDir),
    /// Always the same one, so that what is stored there means the same in another run. Locked.
    Fixed(PathBuf, #[expect(dead_code, reason = "held for its lock")] fs::File),
}

impl Ground {
    pub fn own() -> Self {
        Self::Own(tempfile::Builder::new().prefix("convoy-network-").tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Own(directory) => directory.path(),
            Self::Fixed(path, _) => path,
        }
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

impl Site {
    pub fn new(directory: Ground, groups: &'static [Group], chance: &mut Chance) -> Self {
        let mut server = |name| {
            let (start, stop) = (chance.range(2_000, 9_000), chance.range(200, 2_000));
            (name, Shared::new(Duration::from_millis(start), Duration::from_millis(stop)))
        };
        let servers = NODES.map(&mut server).into();
        let site = Self {
            directory,
            groups,
            servers,
            committed: Committed::default(),
            commit_delay: Duration::ZERO,
            tokens: Mutex::default(),
            operator: Mutex::default(),
            orders: Mutex::default(),
            power: watch::Sender::new(true),
        };
        site.unpack();
        site
    }

    /// As much of a JDK and of packs as agents look for.
    fn unpack(&self) {
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let jdk = self.jdk();
        write(jdk.join("release"), "JAVA_VERSION=\"21.0.2\"\n");
        write(jdk.join("bin").join(format!("java{}", std::env::consts::EXE_SUFFIX)), "");
        for node in NODES {
            for script in ["bin/wso2server.sh", "bin/wso2server.bat"] {
                write(self.home(node).join(script), "");
            }
            fs::create_dir_all(self.home(node).join("repository/conf")).unwrap();
        }
    }

    /// Of everything.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn jdk(&self) -> PathBuf {
        self.path().join("jdk")
    }

    pub fn home(&self, node: &str) -> PathBuf {
        self.path().join(node).join("home")
    }

    pub fn state(&self, node: &str) -> PathBuf {
        self.path().join(node).join("state")
    }

    /// Has something done between two moments.
    pub fn order(&self, order: Order) {
        self.orders.lock().unwrap().push_back(order);
    }

    /// The operator's certificate, once a coordinator has made it.
    pub fn operator(&self) -> Option<Arc<ClientConfig>> {
        self.operator.lock().unwrap().clone()
    }

    /// How often each server was launched.
    pub fn launches(&self) -> Vec<usize> {
        self.servers.values().map(|server| server.lock().launches.len()).collect()
    }

    /// The fleet directory whose configuration holds `word`.
    pub fn fleet(&self, word: &str) -> BTreeMap<String, String> {
        let mut fleet = "name = \"acme\"\n".to_owned();
        for (group, nodes, soak) in self.groups {
            fleet.push_str(&format!(
                "[groups.{group}]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
                 [groups.{group}.rollout]\nsoak = \"{soak}\"\nmin_healthy_time = \"2s\"\n"
            ));
            for node in *nodes {
                let home = self.home(node);
                fleet.push_str(&format!(
                    "[nodes.{node}]\ngroup = \"{group}\"\nhost = \"{node}.example.org\"\nhome = {home:?}\n"
                ));
            }
        }
        let common = format!("[server]\nhostname = \"{word}.example.org\"\n");
        BTreeMap::from([("fleet.toml".to_owned(), fleet), ("config/common.toml".to_owned(), common)])
    }

    async fn coordinator(self: Arc<Self>) -> Outcome {
        let data = self.path().join("coordinator");
        fs::create_dir_all(&data)?;
        let text = format!(
            "fleet = \"acme\"\ndata_dir = {data:?}\nnames = [\"coordinator\"]\naddress = \"coordinator:{PORT}\"\n\
             [certificates]\nnode = \"7000d\"\nserver = \"7000d\"\n"
        );
        let config = Config::parse(&text).map_err(|refusal| format!("{refusal:?}"))?;
        let tasks = Tasks::new(CancellationToken::new());
        let store = data.join("store.redb");
        let open = move || {
            let mut options = fs::OpenOptions::new();
            options.create(true).truncate(false).read(true).write(true).open(&store)
        };
        let inner = Embedded::open(open, &tasks)?;
        let store: Arc<dyn Store> =
            Arc::new(Slow { inner, delay: self.commit_delay, committed: self.committed.clone() });
        let authority = Arc::new(Authority::open(&data.join("ca"), &config.fleet, wall_clock())?);
        let port = Port(turmoil::net::TcpListener::bind(("0.0.0.0", PORT)).await?);
        let bound = port.0.local_addr()?;
        let parts = (store, authority, wall_clock as coordinator::Clock);
        let coordinator = coordinator::start(&config, bound, parts, tasks).await?;
        self.hand_out(&coordinator).await?;
        let connections = coordinator::accept(&coordinator, &config, port)?;
        Ok(coordinator::serve(coordinator, connections).await?)
    }

    /// What people carry to the hosts by hand, once.
    async fn hand_out(&self, coordinator: &coordinator::Coordinator) -> Outcome {
        if self.operator().is_some() {
            return Ok(());
        }
        let permit = first_operators_permit(Action::MakeToken)?;
        for node in NODES {
            let valid = Duration::from_secs(3600);
            let token = coordinator.create_token(&NodeName::parse(node)?, valid, &permit).await?;
            self.tokens.lock().unwrap().insert(node, token.0);
        }
        let authority = &coordinator.authority;
        let pair = authority.issue_operator("admin", (wall_clock(), Duration::from_secs(24 * 3600)))?;
        *self.operator.lock().unwrap() = Some(Arc::new(operator_tls(authority, &pair)?));
        Ok(())
    }

    async fn agent(self: Arc<Self>, node: &'static str, seed: u64) -> Outcome {
        drop(self.power.subscribe().wait_for(|power| *power).await);
        let (home, state) = (self.home(node), self.state(node));
        fs::create_dir_all(&state)?;
        let identity = Identity::of(&state, wall_clock);
        while !identity.exists() {
            let token = self.tokens.lock().unwrap().get(node).cloned();
            if let Some(token) = token {
                let way = (token.address.as_str(), Arc::new(Simulated) as Arc<dyn link::Network>);
                drop(link::enroll(&token, way, &identity).await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let java = self.jdk();
        let text = format!(
            "data_dir = {state:?}\nhomes = [{home:?}]\njava_home = {java:?}\ncheck_endpoints = false\n"
        );
        let server = self.servers[node].clone();
        let machine = move |real: ThisMachine| -> Arc<dyn agent::outside::Machine> {
            Arc::new(Modelled { server, events: real.processes.events })
        };
        let outside = Outside {
            clock: wall_clock,
            seed,
            network: Arc::new(Simulated),
            machine: Box::new(machine),
            // A simulated network has no sockets of this host.
            has_door: false,
            sight: agent::editors::Sight::none(),
            tracer: traces::Tracer::default(),
        };
        Ok(agent::run_in(toml::from_str(&text)?, outside, std::future::pending()).await?)
    }

    /// No agent obeys what was not committed.
    fn check_journals(&self) {
        let committed = self.committed.lock().unwrap().clone();
        for node in NODES {
            let memory = Journal::of(&self.state(node)).read().unwrap();
            let Some(desired) = memory.assignment.as_ref().map(|it| it.applied.generation) else { continue };
            let known = committed.get(node).copied().unwrap_or(Generation(0));
            assert!(desired <= known, "(8) {node} obeys {desired}, and only {known} was committed");
        }
    }

    /// Every server that ever served is up, but for the budget.
    fn check_budget(&self, served: &mut BTreeSet<&'static str>, now: Duration) {
        for (_, nodes, _) in self.groups {
            let mut down = Vec::new();
            for node in *nodes {
                if self.servers[node].lock().serves(now) {
                    served.insert(node);
                } else if served.contains(node) {
                    down.push(*node);
                }
            }
            assert!(down.len() <= BUDGET, "(5) {down:?} are down at once");
        }
    }
}

fn operator_tls(authority: &Authority, pair: &IssuedPair) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone())?;
    let config = client_config(roots, wall_clock);
    Ok(with_h2(config.with_client_auth_cert(vec![pair.certificate.clone()], pair.private_key())?))
}

/// How the network and the disk are.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Of a message, at most.
    pub latency: Duration,
    /// Of every commit.
    pub commit: Duration,
}

/// Runs `scenario` with a coordinator and four agents, and checks what must be true after every tick.
pub fn simulate<F: Future<Output = ()> + 'static>(
    seed: u64,
    weather: Weather,
    scenario: impl FnOnce(Arc<Site>, Chance) -> F,
) -> Arc<Site> {
    let mut chance = Chance::new(seed);
    let mut site = Site::new(Ground::own(), ONE_GROUP, &mut chance);
    site.commit_delay = weather.commit;
    let site = Arc::new(site);
    run(seed, (EPOCH, weather.latency), &site, |site| scenario(site, chance));
    site
}

/// The same from `epoch` on with what is given; says for how long.
pub fn run<F: Future<Output = ()> + 'static>(
    seed: u64,
    (epoch, latency): (Timestamp, Duration),
    site: &Arc<Site>,
    scenario: impl FnOnce(Arc<Site>) -> F,
) -> Duration {
    println!("NETWORK_SEED={seed}");
    let mut chance = Chance::new(seed);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(UNIX_EPOCH + Duration::from_millis(epoch.0.unsigned_abs()))
        .tick_duration(TICK)
        .simulation_duration(PATIENCE)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(latency)
        .tcp_capacity(4_096)
        .build();
    let of_coordinator = site.clone();
    sim.host("coordinator", move || of_coordinator.clone().coordinator());
    for node in NODES {
        let (of_agent, seed) = (site.clone(), chance.range(0, u64::MAX - 1));
        sim.host(node, move || of_agent.clone().agent(node, seed));
    }
    let scenario = scenario(site.clone());
    sim.client("operator", async move {
        scenario.await;
        Ok(())
    });
    let (mut served, mut steps) = (BTreeSet::new(), 0_u64);
    while !sim.step().unwrap_or_else(|error| panic!("NETWORK_SEED={seed}: {error}")) {
        site.check_budget(&mut served, sim.elapsed());
        steps += 1;
        if steps.is_multiple_of(LOOK_EVERY) {
            site.check_journals();
        }
        let order = site.orders.lock().unwrap().pop_front();
        match order {
            Some(Order::Crash(host)) => sim.crash(host),
            Some(Order::Start(host)) => sim.bounce(host),
            Some(Order::Halt) => break,
            None => {}
        }
    }
    println!("{} s simulated", sim.elapsed().as_secs());
    for host in NODES.into_iter().chain(["coordinator"]) {
        sim.crash(host);
    }
    sim.elapsed()
}
