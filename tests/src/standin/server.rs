//! One launch of the server, from `main` to its exit status.
//!
//! The order of steps and lines is the product's: pid file, configuration step, shutdown hook, transports,
//! `WSO2 Carbon started in`. Faults from `standin.toml` are woven in where the real ones strike.

use std::cell::RefCell;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::descriptor::{Descriptor, Port, PortKind, Role};
use super::journal::{Journal, Level, console};
use super::launch::Launch;
use super::misbehaviour::Misbehaviour;
use super::shared::Shared;
use super::signals::{Signal, Signals};
use super::step::Step;
use super::{key_generator, listen, vault};

const CORE: &str = "org.wso2.carbon.core.internal.CarbonCoreActivator";
const MANAGER: &str = "org.wso2.carbon.core.init.CarbonServerManager";
const FINALIZER: &str = "org.wso2.carbon.core.internal.StartupFinalizerServiceComponent";
const TOMCAT: &str = "org.wso2.carbon.tomcat.internal.CarbonTomcat";

/// How often live faults are looked at.
const TICK: Duration = Duration::from_millis(100);
const LIFETIME_MAX: Duration = Duration::from_secs(3_600);
const WAITING_INTERVAL: Duration = Duration::from_secs(60);

/// Exit status of a JVM that SIGTERM ended.
const TERMINATED: u8 = 143;

/// A server that has read its pack and is about to start.
pub struct Server {
    pub(super) home: PathBuf,
    pub(super) launch: Launch,
    pub(super) descriptor: Descriptor,
    pub(super) journal: Journal,
    launched: Instant,
    /// Set once the shutdown hook exists; a SIGTERM before that ends the JVM without a line.
    hooked: AtomicBool,
    pub(super) shared: Arc<Shared>,
    listeners: RefCell<JoinSet<()>>,
}

impl Server {
    /// Reads the pack at `home`; nothing is changed yet.
    pub fn open(home: PathBuf, launch: Launch, faults: Misbehaviour) -> io::Result<Server> {
        let profile = launch.properties.get("profile").map_or("", String::as_str);
        let descriptor = Descriptor::read(&home)?.for_profile(profile);
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
        if !self.unlock() {
            return self.wait_for_services(&faults).await;
        }
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

    /// Opens the secure vault if the configuration needs it. Without the password the server lives on, useless.
    fn unlock(&self) -> bool {
        if !self.shared.running().needs_vault {
            return true;
        }
        let keep = self.launch.properties.get("persist.password").is_some_and(|value| value == "true");
        let failure = match vault::take_password(&self.home, keep) {
            Ok(true) => return true,
            Ok(false) => {
                console("[Enter KeyStore and Private Key Password :]");
                "java.io.IOException: Keystore was tampered with, or password was incorrect".to_owned()
            }
            Err(error) => error.to_string(),
        };
        let class = "org.wso2.carbon.securevault.keystore.JKSKeyStoreLoader";
        self.journal.line(Level::Error, class, &failure);
        false
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
                let address = faults.bind.filter(Ipv4Addr::is_loopback).unwrap_or(Ipv4Addr::LOCALHOST);
                TcpListener::bind((address, port.number + offset)).await
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
