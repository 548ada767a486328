//! One coordinator without rollouts, one agent, one pack: the test assigns what it likes and waits for what the node
//! says of itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use convoy_tests::{
    first_operators_permit,
    harness::{Agent, LIMIT, Programs, until},
    pack::{self, OffsetLease, Pack, PackSpec, Product, Teardown},
};
use coordinator::{
    Coordinator,
    authority::Authority,
    listener::{Acceptor, tls_config},
    store::{
        Key, Memory, Store, Transaction, blobs,
        records::{Assigned, NodeRecord, Record as _, Target},
    },
    tasks::Tasks,
};
use fleet::{
    access::Action,
    bundle::{
        BodyRule, Bundle, DriftPolicy, FileEntry, HomePath, Port, Probe, ProbeKind, ProbeRole, RestartClass,
        RestartPolicy, RunState, ServiceSettings, Thresholds,
    },
    call::Hooks,
    drift::keys::KeyRules,
    ids::{Digest, Generation, GroupName, NodeName, Revision},
    observed::{Observed, ServiceState, Verdict},
    spec::canonical,
};
use proto::convert::link::encode_bundle;
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

pub const CONFIG: &str = "repository/conf/deployment.toml";
/// Written only for a launch.
const LAUNCH: [&str; 1] = ["password-tmp"];
pub const LOGGING: &str = "repository/conf/log4j2.properties";

/// Everything of one test. Fields are dropped in order: the agent, then its server, then files.
pub struct Rig {
    pub agent: Agent,
    pub pack: Pack,
    pub coordinator: Arc<Coordinator>,
    stop: CancellationToken,
    pub offset: u16,
    teardown: Teardown,
    _lease: OffsetLease,
    directory: tempfile::TempDir,
    contents: BTreeMap<Digest, Vec<u8>>,
}

/// How often the agent says that it is there.
#[derive(Debug, Clone, Copy)]
pub enum Heartbeats {
    /// Every second: tests wait for what they detect.
    Quick,
    /// As a coordinator has them that sets nothing.
    Default,
}

impl Heartbeats {
    const fn settings(self) -> &'static str {
        match self {
            Heartbeats::Quick => "[heartbeat]\ninterval = \"1s\"\n",
            Heartbeats::Default => "",
        }
    }
}

struct Start<'a> {
    directory: tempfile::TempDir,
    programs: &'a Programs,
    product: &'a str,
    heartbeats: Heartbeats,
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What a test wants on the node: files and how the server is judged.
#[derive(Clone)]
pub struct Wanted {
    pub files: BTreeMap<String, (String, DriftPolicy, RestartClass)>,
    pub service: ServiceSettings,
    pub hooks: Hooks,
    pub drift_keys: KeyRules,
    pub unnamed_editors: bool,
}

impl Rig {
    /// A coordinator, an enrolled agent that runs, and a pack that nobody has started.
    pub async fn open(product: &str) -> Result<Self> {
        Self::open_with(product, "").await
    }

    /// The same, with more in the agent's configuration.
    pub async fn open_with(product: &str, settings: &str) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("convoy-agent-").tempdir()?;
        Self::open_in(directory, &Programs::locate()?, product, |_, agent| agent.add_setting(settings)).await
    }

    /// The same, with other heartbeats.
    pub async fn open_beating(product: &str, heartbeats: Heartbeats) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("convoy-agent-").tempdir()?;
        let programs = Programs::locate()?;
        let start = Start { directory, programs: &programs, product, heartbeats };
        Self::open_all(start, |_, _| Ok(())).await
    }

    /// The same in this directory, with these programs; `arrange` may change the pack and the agent's configuration
    /// before the agent first runs.
    pub async fn open_in(
        directory: tempfile::TempDir,
        programs: &Programs,
        product: &str,
        arrange: impl FnOnce(&Pack, &Agent) -> Result<()>,
    ) -> Result<Self> {
        let start = Start { directory, programs, product, heartbeats: Heartbeats::Quick };
        Self::open_all(start, arrange).await
    }

    async fn open_all(start: Start<'_>, arrange: impl FnOnce(&Pack, &Agent) -> Result<()>) -> Result<Self> {
        let Start { directory, programs, product, heartbeats } = start;
        let lease = OffsetLease::take()?;
        let teardown = Teardown::of(directory.path());
        let offset = lease.offset(0);
        let product: Product = product.parse()?;
        let mut spec = PackSpec::new(product, &programs.standin);
        spec.offset = offset;
        let pack = pack::generate(&directory.path().join("node"), &spec)?;
        let (coordinator, stop) = serve(directory.path(), &lease, heartbeats).await?;
        let agent_dir = directory.path().join("agent");
        let mut agent = Agent::configure(programs, &agent_dir, "is-1", &pack.home, &pack.java_home)?;
        arrange(&pack, &agent)?;
        let permit = first_operators_permit(Action::MakeToken)?;
        let token = coordinator.create_token(&node(), Duration::from_secs(600), &permit).await;
        let (token, _) = token.context("a token")?;
        let (code, said) = agent.enrol_with(&token.to_text()).await?;
        if code != 0 {
            bail!("enrolling ended with {code}: {said}");
        }
        agent.start()?;
        let contents = BTreeMap::new();
        Ok(Self { agent, pack, coordinator, stop, offset, teardown, _lease: lease, directory, contents })
    }

    /// A node that runs `deployment.toml` as the pack ships it, and a logging file.
    pub fn wanted(&self) -> Wanted {
        let config = fs::read_to_string(self.pack.deployment_toml()).expect("the pack has one");
        let file = |text: String, restart| (text, DriftPolicy::Enforce, restart);
        Wanted {
            files: BTreeMap::from([
                (CONFIG.to_owned(), file(config, RestartClass::Restart)),
                (LOGGING.to_owned(), file("rootLogger.level = INFO\n".to_owned(), RestartClass::Hot)),
            ]),
            service: self.settings(),
            hooks: Hooks::default(),
            drift_keys: KeyRules::default(),
            unnamed_editors: false,
        }
    }

    fn settings(&self) -> ServiceSettings {
        let path = |text: &str| HomePath::parse(text).expect("a path");
        let script = self.pack.script();
        let script = script.strip_prefix(&self.pack.home).expect("below home").display().to_string();
        let https = 9443 + self.offset;
        let secs = Duration::from_secs;
        let probe = |name: &str, role, kind| Probe { name: name.into(), role, kind, timeout: secs(2) };
        let oidc = ProbeKind::Http {
            tls: true,
            port: https,
            path: "/oauth2/token/.well-known/openid-configuration".into(),
            status: 200,
            body: BodyRule::Any,
        };
        ServiceSettings {
            product: "wso2is-7.2".into(),
            home: self.pack.home.display().to_string(),
            script_unix: path(&script),
            script_windows: path("bin/wso2server.bat"),
            config_path: path(CONFIG),
            args: Vec::new(),
            env: BTreeMap::new(),
            java_home: None,
            run_user: None,
            offset: self.offset,
            ports: vec![Port { name: "https".into(), number: https, required: true }],
            probes: vec![
                probe("https", ProbeRole::Liveness, ProbeKind::Tcp(https)),
                probe("openid", ProbeRole::Readiness, oidc),
            ],
            ready_lines: vec!["WSO2 Carbon started in".into()],
            start_deadline: secs(30),
            stop_deadline: secs(10),
            thresholds: Thresholds {
                period: Duration::from_millis(300),
                failure: 2,
                success: 1,
                grace: secs(3),
            },
            restart_policy: RestartPolicy {
                exits_max: 3,
                window: secs(600),
                delay: Duration::from_millis(200),
                delay_max: secs(2),
            },
            unhealthy_restarts: false,
            check_databases: false,
            owned_keys: vec!["encryption.key".into(), "secrets.*".into()],
            jdk: (11, Some(25)),
        }
    }

    /// Makes `wanted` the node's newest assignment; answers with its generation.
    pub async fn assign(&mut self, wanted: &Wanted, run: RunState) -> Result<Generation> {
        let bundle = self.bundle(wanted);
        let encoded = encode_bundle(&bundle);
        self.contents.insert(Digest::of(&encoded), encoded.clone());
        let store = &*self.coordinator.store;
        let contents = self.contents.iter().map(|(digest, bytes)| (*digest, bytes.as_slice())).collect();
        blobs::put_all(store, &contents).await?;
        let target = Target {
            bundle: bundle.digest(),
            content: Digest::of(&encoded),
            content_size: encoded.len() as u64,
            group: GroupName::parse("group")?,
            host: "127.0.0.1".into(),
            zone: None,
            product: "wso2is-7.2".into(),
        };
        let entry = store.get(&Key::node(&node())).await?.context("the node's record")?;
        let mut record = NodeRecord::read(&entry)?;
        let generation = record.next_generation();
        record.assign(Assigned {
            generation,
            revision: Revision(1),
            target,
            why: "a test".into(),
            trace: None,
        });
        record.run = run;
        store
            .commit(Transaction::default().replace(Key::node(&node()), entry.version, record.encode()))
            .await?;
        Ok(generation)
    }

    fn bundle(&mut self, wanted: &Wanted) -> Bundle {
        let mut files = BTreeMap::new();
        for (path, (text, drift, restart)) in &wanted.files {
            let digest = Digest::of(text.as_bytes());
            self.contents.insert(digest, text.clone().into_bytes());
            let entry = FileEntry {
                digest,
                meaning: if path == CONFIG { canonical::meaning(text) } else { digest },
                size: text.len() as u64,
                mode: 0o640,
                drift: *drift,
                restart: *restart,
                secret: LAUNCH.contains(&path.as_str()),
                launch: LAUNCH.contains(&path.as_str()),
            };
            files.insert(HomePath::parse(path).expect("a path"), entry);
        }
        Bundle {
            files,
            service: wanted.service.clone(),
            hooks: wanted.hooks.clone(),
            origin: None,
            drift_keys: wanted.drift_keys.clone(),
            unnamed_editors: wanted.unnamed_editors,
            key_managers: fleet::key_manager::KeyManagers::default(),
            balancer: None,
        }
    }

    /// What the node says of itself now, if it is connected.
    pub fn observed(&self) -> Option<Observed> {
        self.coordinator.live.node(&node())?.observed.clone()
    }

    /// Waits until what the node says satisfies `holds`.
    pub async fn until(&self, what: &str, holds: impl Fn(&Observed) -> bool) -> Result<Observed> {
        let found = until(what, LIMIT, async || Ok(self.observed().filter(|observed| holds(observed)))).await;
        found.with_context(|| format!("{:#?}\n{}", self.observed(), self.agent.log()))
    }

    /// Waits until this generation is ready and the server healthy.
    pub async fn ready(&self, generation: Generation) -> Result<Observed> {
        self.until(&format!("generation {generation} to be ready"), |observed| {
            observed.last_good.is_some_and(|good| good.generation == generation)
                && observed.running.is_some_and(|running| running.generation == generation)
                && observed.service == ServiceState::Running
                && observed.health == Verdict::Healthy
        })
        .await
    }

    /// The test's own directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the home.
    pub fn path(&self, below: &str) -> PathBuf {
        self.pack.home.join(below)
    }

    /// Content of a file of the home.
    pub fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap_or_default()
    }

    /// Processes of the server and its script.
    pub fn alive(&self) -> Vec<u32> {
        self.teardown.alive()
    }

    /// The coordinator ends and stays away.
    pub fn close_coordinator(&self) {
        self.stop.cancel();
    }
}

impl Wanted {
    /// Appends lines to deployment.toml.
    pub fn with_config(&self, lines: &str) -> Self {
        let mut wanted = self.clone();
        wanted.files.get_mut(CONFIG).expect("it is there").0.push_str(lines);
        wanted
    }

    /// Another content of a file.
    pub fn with_file(&self, path: &str, text: &str, restart: RestartClass) -> Self {
        let mut wanted = self.clone();
        wanted.files.insert(path.to_owned(), (text.to_owned(), DriftPolicy::Enforce, restart));
        wanted
    }
}

pub fn node() -> NodeName {
    NodeName::parse("is-1").expect("a name")
}

async fn serve(
    directory: &Path,
    lease: &OffsetLease,
    heartbeats: Heartbeats,
) -> Result<(Arc<Coordinator>, CancellationToken)> {
    let stop = CancellationToken::new();
    let tasks = Tasks::new(stop.clone());
    let mut bound = None;
    for index in 0..8 {
        // A connection that is being closed may still hold one of them.
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", 9043 + lease.offset(index))).await {
            bound = Some(listener);
            break;
        }
    }
    let listener = bound.context("a free port for the coordinator")?;
    let port = listener.local_addr()?.port();
    let text = format!(
        "fleet = \"test\"\ndata_dir = {:?}\nlisten = \"127.0.0.1:{port}\"\nnames = [\"127.0.0.1\"]\n{}",
        directory.join("coordinator"),
        heartbeats.settings()
    );
    let config: coordinator::config::Config = toml::from_str(&text)?;
    fs::create_dir_all(&config.data_dir)?;
    let store: Arc<dyn Store> = Arc::new(Memory::new());
    let now = coordinator::wall_clock();
    let authority = Arc::new(Authority::open(&config.data_dir.join("ca"), &config.fleet, now)?);
    let bound = listener.local_addr()?;
    let parts = (store, authority, coordinator::wall_clock as coordinator::Clock);
    let coordinator = coordinator::start(&config, bound, parts, tasks.clone()).await?;
    let server =
        coordinator.authority.issue_server(&config.server_names(), (now, config.certificates.server))?;
    let tls =
        Arc::new(ArcSwap::from_pointee(tls_config(&coordinator.authority, &server, coordinator.clock)?));
    let acceptor = Acceptor {
        listener,
        tls,
        fleet: config.fleet.clone(),
        limits: config.limits.clone(),
        clock: coordinator::wall_clock,
    };
    let connections = acceptor.start(&tasks);
    let serving = coordinator.clone();
    tokio::spawn(async move { coordinator::rpc::serve(serving, ReceiverStream::new(connections)).await });
    Ok((coordinator, stop))
}
