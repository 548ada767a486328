//! One launch of the server, from `main` to its exit status.
//!
//! The order of steps and lines is the product's: pid file, configuration step, shutdown hook, transports,
//! `WSO2 Carbon started in`. Faults from `standin.toml` are woven in where the real ones strike.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fs, io};

use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::config::{self, Config, ConfigError, Sources, hex};
use super::descriptor::{Descriptor, Port, PortKind, Role};
use super::endpoints::{StateView, View};
use super::journal::{Journal, Level, console};
use super::launch::Launch;
use super::misbehaviour::{FirstStart, Misbehaviour};
use super::outputs::{self, Outcome};
use super::signals::{Signal, Signals};
use super::state::State;
use super::{key_generator, listen};

const CORE: &str = "org.wso2.carbon.core.internal.CarbonCoreActivator";
const MANAGER: &str = "org.wso2.carbon.core.init.CarbonServerManager";
const FINALIZER: &str = "org.wso2.carbon.core.internal.StartupFinalizerServiceComponent";
const TOMCAT: &str = "org.wso2.carbon.tomcat.internal.CarbonTomcat";

/// How often live faults are looked at.
const TICK: Duration = Duration::from_millis(100);
const LIFETIME_MAX: Duration = Duration::from_secs(3_600);
const WAITING_INTERVAL: Duration = Duration::from_secs(60);
const GATEWAY_READY_AFTER: Duration = Duration::from_millis(200);

/// Exit status of a JVM that SIGTERM ended.
const TERMINATED: u8 = 143;

/// A server that has read its pack and is about to start.
pub struct Server {
    home: PathBuf,
    launch: Launch,
    descriptor: Descriptor,
    journal: Journal,
    launched: Instant,
    /// Set once the shutdown hook exists; a SIGTERM before that ends the JVM without a line.
    hooked: AtomicBool,
    shared: Arc<Shared>,
    listeners: RefCell<JoinSet<()>>,
}

/// The part that request handlers see.
struct Shared {
    home: PathBuf,
    role: Role,
    product: String,
    https_base: u16,
    faults: Mutex<Misbehaviour>,
    running: Mutex<Running>,
}

/// What this launch runs on.
#[derive(Debug, Clone, Default)]
struct Running {
    launches: u64,
    launches_with_faults: u32,
    toml: String,
    toml_digest: String,
    offset: u16,
    health_check_enabled: bool,
    started: Option<Instant>,
}

impl Shared {
    /// The faults of this moment. A file that cannot be read at this moment changes nothing.
    fn faults(&self) -> Misbehaviour {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if let Ok(read) = Misbehaviour::read(&self.home) {
            *faults = read;
        }
        faults.clone()
    }

    fn running(&self) -> Running {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut Running)) {
        change(&mut self.running.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn view(&self) -> View {
        let (faults, running) = (self.faults(), self.running());
        let up = running.started.map(|started| started.elapsed());
        let since = |span: Duration| up.is_some_and(|up| span <= up);
        let marker = faults.unhealthy_if_toml_contains.as_deref();
        View {
            role: self.role,
            product: self.product.clone(),
            https_port: self.https_base + running.offset,
            health_check_enabled: running.health_check_enabled,
            unhealthy: faults.unhealthy
                || faults.unhealthy_after.is_some_and(|span| since(span.0))
                || marker.is_some_and(|text| running.toml.contains(text)),
            gateway_ready: since(faults.gateway_ready_after.map_or(GATEWAY_READY_AFTER, |span| span.0)),
            state: StateView {
                pid: std::process::id(),
                launches: running.launches,
                toml_digest: running.toml_digest,
                offset: running.offset,
                started: up.is_some(),
            },
        }
    }
}

/// What the configuration step ended with.
enum Step {
    Accepted,
    /// Alive, but the start will not end.
    Hang,
    Exit(u8),
}

impl Server {
    /// Reads the pack at `home`; nothing is changed yet.
    pub fn open(home: PathBuf, launch: Launch, faults: Misbehaviour) -> io::Result<Server> {
        let descriptor = Descriptor::read(&home)?;
        let journal = Journal::open(&home, descriptor.role)?;
        let servlet = descriptor.ports.iter().find(|port| port.kind == PortKind::ServletHttps);
        let shared = Shared {
            home: home.clone(),
            role: descriptor.role,
            product: format!("{}-{}", descriptor.name, descriptor.version),
            https_base: servlet.map_or(9443, |port| port.number),
            faults: Mutex::new(faults),
            running: Mutex::default(),
        };
        Ok(Server {
            home,
            launch,
            descriptor,
            journal,
            launched: Instant::now(),
            hooked: AtomicBool::new(false),
            shared: Arc::new(shared),
            listeners: RefCell::default(),
        })
    }

    /// Runs to the end and gives the JVM's exit status.
    pub async fn run(&self) -> io::Result<u8> {
        let mut signals = Signals::new()?;
        let lifetime = self.shared.faults().lifetime_max.map_or(LIFETIME_MAX, |span| span.0);
        // Each arm runs to its own end exactly once, so losing the others loses nothing.
        tokio::select! {
            status = self.live() => status,
            status = self.obey(&mut signals) => Ok(status),
            status = self.crash() => Ok(status),
            () = tokio::time::sleep(lifetime) => Ok(0),
        }
    }

    async fn live(&self) -> io::Result<u8> {
        let faults = self.shared.faults();
        if faults.die_before_pid {
            return Ok(1);
        }
        if let Some(delay) = faults.pid_delay {
            tokio::time::sleep(delay.0).await;
        }
        write_pid(&self.home)?;
        if faults.writes_encryption_key {
            console(&key_generator::append_key(&self.home.join("repository/conf")));
        }
        match self.configure(&faults)? {
            Step::Exit(status) => return Ok(status),
            Step::Hang => return self.hang(&faults).await,
            Step::Accepted => {}
        }
        self.introduce();
        if let Some(delay) = faults.start_delay {
            tokio::time::sleep(delay.0).await;
        }
        if faults.never_ready || faults.db_down {
            return self.wait_for_services(&faults).await;
        }
        if let Some(status) = self.open_ports(&faults).await? {
            return Ok(status);
        }
        self.announce();
        if self.shared.running().launches_with_faults <= faults.exit_121 {
            self.journal.info(MANAGER, "Starting a new Carbon instance. Current instance will be shutdown");
            self.say_goodbye().await;
            return Ok(121);
        }
        self.leak_errors().await
    }

    /// The configuration step, from counting the launch to the generated files.
    fn configure(&self, faults: &Misbehaviour) -> io::Result<Step> {
        let mut state = State::read(&self.home);
        let faults_text = toml::to_string(faults).map_err(io::Error::other)?;
        state.count_launch(hex(&Sha256::digest(faults_text.as_bytes())));
        self.shared.update(|running| {
            running.launches = state.launches;
            running.launches_with_faults = state.launches_with_faults;
        });
        state.write(&self.home)?;
        let environment = |name: &str| std::env::var(name).ok();
        let sources = Sources { environment: &environment, properties: &self.launch.properties };
        let config = match Config::read(&self.home, &sources) {
            Ok(config) => config,
            Err(error) => return Ok(self.refuse(&error)),
        };
        let Some(config) = config else {
            let path = self.home.join(config::FILE);
            self.journal.mapper(
                Level::Warn,
                "ConfigParser",
                &format!("deployment.toml not found at {}", path.display()),
            );
            self.take_up(None);
            return Ok(Step::Accepted);
        };
        if faults.start_fails_if_toml_contains.as_deref().is_some_and(|text| config.text.contains(text)) {
            self.journal.configuration_failed("Validation failed for a value that standin.toml forbids");
            return Ok(Step::Exit(1));
        }
        let first = state.read_digest != config.digest;
        state.read_digest.clone_from(&config.digest);
        let fault = faults.needs_two_starts.filter(|_| first);
        if fault != Some(FirstStart::Stale) || state.effective_digest.is_empty() {
            state.effective_digest.clone_from(&config.digest);
        }
        state.write(&self.home)?;
        if let Some(status) = self.generate(&config) {
            return Ok(Step::Exit(status));
        }
        self.take_up(Some((&config, &state.effective_digest)));
        Ok(match fault {
            Some(FirstStart::Exit) => Step::Exit(1),
            Some(FirstStart::Hang) => Step::Hang,
            Some(FirstStart::Stale) | None => Step::Accepted,
        })
    }

    fn refuse(&self, error: &ConfigError) -> Step {
        if let ConfigError::Syntax { message } = error {
            self.journal.mapper(Level::Error, "TomlParser", message);
        }
        self.journal.configuration_failed(&error.to_string());
        Step::Exit(1)
    }

    fn take_up(&self, config: Option<(&Config, &str)>) {
        self.shared.update(|running| {
            if let Some((config, effective_digest)) = config {
                running.toml.clone_from(&config.text);
                effective_digest.clone_into(&mut running.toml_digest);
                running.health_check_enabled = config.is_on("carbon_health_check.enable");
                running.offset = config.offset();
            }
            running.offset = self.launch.port_offset().unwrap_or(running.offset);
        });
    }

    /// Writes the generated files; `Some` is the status to exit with.
    fn generate(&self, config: &Config) -> Option<u8> {
        let on = |name: &str| self.launch.properties.get(name).is_some_and(|value| value == "true");
        if on("avoidConfigUpdate") || on("configParseOnly") {
            return None;
        }
        match outputs::generate(&self.home, config, on("forceConfigUpdate")) {
            Ok(outcome) => {
                self.tell_outcome(&outcome);
                None
            }
            Err(error) => {
                self.journal.configuration_failed(&error.to_string());
                Some(1)
            }
        }
    }

    fn tell_outcome(&self, outcome: &Outcome) {
        let level = if self.descriptor.mapper_warns { Level::Warn } else { Level::Info };
        let say = |level, text: &str| self.journal.mapper(level, "ConfigParser", text);
        match outcome {
            Outcome::Unchanged => {}
            Outcome::First => {
                say(Level::Info, "Initializing configurations with deployment configurations");
            }
            Outcome::Changed { outputs, templates, references } => {
                for path in templates {
                    say(Level::Warn, &format!("Configurations templates Changed in :{path}"));
                }
                if !templates.is_empty() {
                    say(Level::Info, "Applying Configurations upon new Templates");
                }
                for path in outputs {
                    say(level, &format!("Configurations Changed in :{path}"));
                }
                let home = self.home.display();
                if !outputs.is_empty() {
                    say(level, &format!("Overriding files in configuration directory {home}"));
                }
                if *references {
                    let text = "Configuration value changed in references, Overriding files in the configuration directory";
                    say(Level::Warn, &format!("{text}{home}"));
                }
            }
        }
    }

    /// The first lines of the running kernel; from `Repository` on, SIGTERM is graceful.
    fn introduce(&self) {
        let property = |name: &str| self.launch.properties.get(name).map_or("", String::as_str);
        let java = std::env::current_exe().ok().and_then(|java| Some(java.parent()?.parent()?.to_owned()));
        self.journal.info(CORE, "Starting WSO2 Carbon...");
        self.journal.info(CORE, &format!("Operating System : {}", std::env::consts::OS));
        self.journal.info(CORE, &format!("Java Home        : {}", java.unwrap_or_default().display()));
        self.journal.info(CORE, &format!("Java Version     : {}", super::jdk_version()));
        self.journal.info(CORE, &format!("Carbon Home      : {}", property("carbon.home")));
        self.hooked.store(true, Ordering::SeqCst);
        let repository = self.home.join("repository/deployment/server/");
        self.journal.info(MANAGER, &format!("Repository       : {}", repository.display()));
    }

    async fn hang(&self, faults: &Misbehaviour) -> io::Result<u8> {
        self.introduce();
        self.wait_for_services(faults).await
    }

    /// A start that never ends: the process lives, nothing listens.
    async fn wait_for_services(&self, faults: &Misbehaviour) -> io::Result<u8> {
        if faults.db_down {
            let activator = "org.wso2.carbon.user.core.internal.Activator";
            self.journal.line(Level::Error, activator, "Cannot start User Manager Core bundle");
            let context = "org.wso2.carbon.registry.core.jdbc.dataaccess.RegistryContext";
            self.journal.line(Level::Error, context, "Unable to get instance of the registry context");
        }
        let interval = faults.waiting_interval.map_or(WAITING_INTERVAL, |span| span.0);
        loop {
            tokio::time::sleep(interval).await;
            self.journal.line(
                Level::Warn,
                "org.wso2.carbon.core.internal.StartupFinalizerServiceComponent",
                "Waiting for required OSGi services: org.wso2.carbon.user.core.service.RealmService,",
            );
        }
    }

    /// Binds what the product binds. `Some` is the status of a conflict that ends the server.
    async fn open_ports(&self, faults: &Misbehaviour) -> io::Result<Option<u8>> {
        let tls = listen::acceptor(&self.home)?;
        let offset = self.shared.running().offset;
        for port in &self.descriptor.ports {
            let number = port.number + offset;
            let transport = "org.wso2.carbon.core.transports.http.HttpTransportListener";
            match port.kind {
                PortKind::ServletHttp => {
                    self.journal.info(transport, &format!("HTTP port        : {number}"));
                }
                PortKind::ServletHttps => self.journal.info(
                    "org.wso2.carbon.core.transports.http.HttpsTransportListener",
                    &format!("HTTPS port       : {number}"),
                ),
                _ => {}
            }
        }
        for port in &self.descriptor.ports {
            let taken = faults.port_taken.contains(&port.number);
            let bound = if taken {
                Err(io::Error::from(io::ErrorKind::AddrInUse))
            } else {
                TcpListener::bind(("127.0.0.1", port.number + offset)).await
            };
            match bound {
                Ok(listener) => {
                    let (kind, shared) = (port.kind, self.shared.clone());
                    let tls = kind.is_tls().then(|| tls.clone());
                    let viewer: listen::Viewer = Arc::new(move || shared.view());
                    self.listeners.borrow_mut().spawn(listen::serve(listener, kind, tls, viewer));
                }
                Err(_) => {
                    if let Some(status) = self.tell_conflict(*port, port.number + offset) {
                        return Ok(Some(status));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Only the broker takes the server down with it; all others leave it half alive.
    fn tell_conflict(&self, port: Port, number: u16) -> Option<u8> {
        let error = |class: &str, text: &str| self.journal.line(Level::Error, class, text);
        match port.kind {
            PortKind::ServletHttps | PortKind::ServletHttp => {
                error(
                    "org.apache.catalina.util.LifecycleBase",
                    &format!("Failed to start component [Connector[HTTP/1.1-{number}]]"),
                );
                error(TOMCAT, "LifeCycleException while starting tomcat connector");
                None
            }
            PortKind::Broker => {
                error(
                    "org.wso2.andes.server.Main",
                    &format!(
                        "Exception during startup. Triggering shutdown org.wso2.andes.transport.TransportException: \
                         Could not bind to /0.0.0.0:{number}"
                    ),
                );
                self.journal.info(MANAGER, "Shutdown hook triggered....");
                Some(1)
            }
            PortKind::Webhook | PortKind::WebhookTls => {
                error(
                    "org.wso2.carbon.inbound.endpoint.persistence.PersistenceUtils",
                    "Error initializing inbound endpoint SecureWebhookServer",
                );
                None
            }
            PortKind::PassthroughHttps
            | PortKind::PassthroughHttp
            | PortKind::WebSocketTls
            | PortKind::WebSocket
            | PortKind::Plain => {
                error(
                    "org.apache.synapse.transport.passthru.core.PassThroughListeningIOReactorManager",
                    "System may be unstable: HTTP ListeningIOReactor encountered a checked exception : Address already in use",
                );
                None
            }
        }
    }

    /// The last lines of a start.
    fn announce(&self) {
        let https = self.shared.view().https_port;
        if self.descriptor.role == Role::IdentityServer && !self.descriptor.console_line {
            let observer = "org.wso2.identity.apps.common.internal.AppsCommonServiceStartupObserver";
            self.journal.info(observer, &format!("My Account URL : https://localhost:{https}/myaccount"));
            self.journal.info(observer, &format!("Console URL : https://localhost:{https}/console"));
        }
        self.journal.info(FINALIZER, &format!("Server           :  {}", self.shared.product));
        self.shared.update(|running| running.started = Some(Instant::now()));
        let seconds = self.launched.elapsed().as_secs();
        self.journal.info(FINALIZER, &format!("WSO2 Carbon started in {seconds} sec"));
        if self.descriptor.console_line {
            self.journal.info(
                "org.wso2.carbon.ui.internal.CarbonUIServiceComponent",
                &format!("Mgt Console URL  : https://localhost:{https}/carbon/"),
            );
        }
        if self.descriptor.role == Role::AllInOne || self.descriptor.role == Role::ControlPlane {
            for (name, path) in [("Developer Portal", "devportal"), ("Publisher", "publisher")] {
                self.journal.info(
                    "org.wso2.carbon.ui.internal.CarbonUIServiceComponent",
                    &format!("API {name} Default Context : https://localhost:{https}/{path}"),
                );
            }
        }
    }

    /// Runs for ever, writing the errors that `standin.toml` asks for.
    async fn leak_errors(&self) -> io::Result<u8> {
        loop {
            let faults = self.shared.faults();
            tokio::time::sleep(faults.log_errors_interval.map_or(Duration::from_secs(1), |span| span.0))
                .await;
            for text in &faults.log_errors {
                self.journal.line(Level::Error, "org.wso2.carbon.identity.oauth.standin.Leak", text);
            }
        }
    }

    async fn crash(&self) -> u8 {
        loop {
            tokio::time::sleep(TICK).await;
            let faults = self.shared.faults();
            let due = faults.crash_after.is_some_and(|after| after.0 <= self.launched.elapsed());
            let launches = self.shared.running().launches_with_faults;
            if due && faults.crash_times.is_none_or(|times| launches <= times) {
                return faults.crash_exit_code.unwrap_or(1);
            }
        }
    }

    async fn obey(&self, signals: &mut Signals) -> u8 {
        loop {
            match signals.next().await {
                Signal::Dump => console(&thread_dump()),
                Signal::Terminate if self.shared.faults().ignore_term => {}
                Signal::Terminate => {
                    if self.hooked.load(Ordering::SeqCst) {
                        self.journal.info(MANAGER, "Shutdown hook triggered....");
                        self.say_goodbye().await;
                    }
                    return TERMINATED;
                }
            }
        }
    }

    async fn say_goodbye(&self) {
        let management = "org.wso2.carbon.core.ServerManagement";
        let name = &self.descriptor.name;
        self.journal.info(MANAGER, &format!("Gracefully shutting down {name}..."));
        self.journal.info(management, "Starting to switch to maintenance mode...");
        // Dropping the tasks closes the sockets.
        drop(self.listeners.take());
        self.journal.info(management, "Stopped all transport listeners");
        self.journal.info(management, "Waiting for request service completion...");
        if let Some(delay) = self.shared.faults().stop_delay {
            tokio::time::sleep(delay.0).await;
        }
        self.journal.info(management, "All requests have been served.");
        self.journal.info(management, "Waiting for deployment completion...");
        self.journal.info(management, "Waiting for server task completion...");
        self.journal.info(MANAGER, &format!("Shutting down {name}..."));
        self.journal.info(MANAGER, "Shutting down OSGi framework...");
        self.journal.info(MANAGER, "Shutdown complete");
        self.journal.info(MANAGER, "Halting JVM");
    }
}

/// The digits, a newline, and NUL up to 100 bytes: the product writes its whole read buffer.
fn write_pid(home: &Path) -> io::Result<()> {
    let mut bytes = format!("{}\n", std::process::id()).into_bytes();
    bytes.resize(100, 0);
    fs::write(home.join("wso2carbon.pid"), bytes)
}

fn thread_dump() -> String {
    let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
    format!(
        "{now}\nFull thread dump OpenJDK 64-Bit Server VM ({} mixed mode, sharing):\n\n\"main\" #1 prio=5 os_prio=0 \
         cpu=1.00ms elapsed=1.00s tid=0x0000000000000001 nid=0x1 runnable\n   java.lang.Thread.State: RUNNABLE\n\n",
        super::jdk_version()
    )
}
