//! Gathers what [`fleet::preflight`] judges: runs java, opens keystores, tries connections, looks at users, files and
//! sockets. Changes nothing on the host.
//!
//! The agent calls [`run`] with the staged bundle before every apply; `convoy-agent doctor` prints the same checks of
//! what is on disk now. Every look has a time limit, so that a silent database delays an apply by seconds only.

mod checkpoint;
mod components;
mod databases;
mod endpoints;
mod host;
pub(crate) mod java;
mod keystore;
mod peers;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use fleet::{
    balancer::Kind,
    bundle::{FILE_SIZE_MAX, HomePath, ServiceSettings},
    preflight::{
        Check, Keystore, Needs, PreflightFacts,
        components::{Component, ComponentFact},
        databases::{Database, DatabaseLimit},
        facts::{BalancerFact, ClockSkew, ConfigFact, HomeFact, HostFact, KeystoreFact, Seen, StoreContent},
        needs::{self, Target},
        peers::TRY_TIME,
        unit::UnitFact,
    },
};

use crate::{
    files::{Home, read_named},
    unit::Unit,
};

pub use checkpoint::Checkpoint;
pub(crate) use keystore::Truststore;
pub(crate) use peers::{judge, try_all};

/// Everything that preflight reads is read within this, or not at all.
const LOOK_TIME: Duration = Duration::from_secs(30);

const ENDPOINTS_OFF: &str = "`check_endpoints` is off in the agent's configuration";

/// What is to be judged.
#[derive(Debug, Clone)]
pub struct Subject {
    /// How the server is run.
    pub settings: ServiceSettings,
    /// Content of the bundle's files beside their targets; files that are not in it are read from home.
    pub staged: BTreeMap<HomePath, PathBuf>,
    /// Bytes of the bundle; 0 if nothing is to be applied.
    pub bundle_size: u64,
    /// This host's clock against the coordinator's.
    pub clock: Seen<ClockSkew>,
    /// What the agent's configuration says of this host.
    pub site: Site,
    /// The systemd unit that runs the server, if one does.
    pub unit: Option<Unit>,
    /// Whether the server needs files that are there only while it starts.
    pub has_launch_files: bool,
    /// Set if it is no server but a load balancer.
    pub balancer: Option<Kind>,
}

/// What only the owner of a host knows of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Site {
    /// The address on which the server listens; unspecified if on all.
    pub address: IpAddr,
    /// Whether data sources can be tried from here.
    pub check_endpoints: bool,
}

impl Default for Site {
    fn default() -> Self {
        Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), check_endpoints: true }
    }
}

impl Subject {
    /// The server as it is on disk now, without a bundle to apply.
    pub fn on_disk(settings: ServiceSettings) -> Self {
        Self {
            settings,
            staged: BTreeMap::new(),
            bundle_size: 0,
            clock: Err("no coordinator was asked for its time".to_owned()),
            site: Site::default(),
            unit: None,
            has_launch_files: false,
            balancer: None,
        }
    }

    /// Fills in what the settings leave to the agent's own configuration.
    #[must_use]
    pub fn with_defaults(mut self, java_home: Option<&str>, run_user: Option<&str>) -> Self {
        let fill = |own: Option<String>, default: Option<&str>| own.or_else(|| default.map(str::to_owned));
        self.settings.java_home = fill(self.settings.java_home, java_home);
        self.settings.run_user = fill(self.settings.run_user, run_user);
        self
    }

    fn home(&self) -> &Path {
        Path::new(&self.settings.home)
    }

    /// The content that a file below home has, or will have; `None` if there is no such file.
    fn read(&self, path: &HomePath, bytes_max: u64) -> Seen<Option<Vec<u8>>> {
        if let Some(kept) = self.staged.get(path) {
            return read_named(kept, bytes_max).map(Some).map_err(|error| error.to_string());
        }
        let read = Home::open(&self.settings.home).and_then(|home| home.read(path, bytes_max));
        Ok(read.map_err(|error| crate::chain(&error))?.map(|content| content.bytes))
    }
}

/// All checks of `subject`, in the order in which a person would look.
pub async fn run(subject: &Subject) -> Vec<Check> {
    let facts = gather(subject).await;
    fleet::preflight::check(&facts, &subject.settings)
}

/// Looks at everything, and judges nothing.
pub async fn gather(subject: &Subject) -> PreflightFacts {
    if let Some(wanted) = subject.balancer {
        // Whoever looks after one at this home answers for it.
        let config = Err("nobody looks after it".to_owned());
        let balancer = Some(BalancerFact { wanted, looked_after: None, config });
        return PreflightFacts { balancer, ..PreflightFacts::default() };
    }
    let settings = &subject.settings;
    let of_subject = subject.clone();
    let (needs, config) = match blocking(move || read_needs(&of_subject)).await {
        Ok(read) => read,
        Err(why) => (Needs::default(), ConfigFact::Unread(why)),
    };
    let mut endpoints = needs.endpoints;
    let mut wanted_peers = needs.peers;
    let mut logins = if settings.check_databases { needs.databases } else { Vec::new() };
    if !subject.site.check_endpoints {
        wanted_peers.clear();
        for endpoint in &mut endpoints {
            endpoint.target = Target::Unknown(ENDPOINTS_OFF.to_owned());
        }
        for database in &mut logins {
            database.login = Err(ENDPOINTS_OFF.to_owned());
        }
    }
    let unit = look_at_unit(subject).await;
    // The server gets the unit's, whatever else is configured.
    let of_unit = unit.as_ref().and_then(|unit| unit.as_ref().ok()?.variable("JAVA_HOME"));
    let java_home = of_unit.map(str::to_owned).or_else(|| settings.java_home.clone());
    let (java, endpoints, tried, (local, databases)) = tokio::join!(
        java::look(java_home, settings.run_user.as_deref()),
        endpoints::try_all(endpoints),
        peers::try_all(wanted_peers, TRY_TIME),
        async {
            let local = look_locally(subject.clone(), needs.keystores, needs.components).await;
            // Some drivers have the database vouched for by the truststore.
            let databases = databases::try_all(logins, &local.databases, &local.truststore).await;
            (local, databases)
        },
    );
    let Local { home, host, keystores, stores, components, truststore, databases: _ } = local;
    let now = crate::wall_clock();
    let peers = peers::judge(tried, &truststore, now);
    let has_launch_files = subject.has_launch_files;
    PreflightFacts {
        java,
        home,
        host,
        endpoints,
        databases,
        components,
        keystores,
        stores,
        peers,
        config,
        unit,
        has_launch_files,
        now,
        balancer: None,
    }
}

async fn look_at_unit(subject: &Subject) -> Option<Seen<UnitFact>> {
    let unit = subject.unit.as_ref()?;
    Some(unit.look().await.map_err(|error| crate::chain(&error)))
}

fn read_needs(subject: &Subject) -> (Needs, ConfigFact) {
    let path = &subject.settings.config_path;
    let read = subject.read(path, FILE_SIZE_MAX).and_then(|content| {
        let content = content.ok_or_else(|| "it is not there".to_owned())?;
        String::from_utf8(content).map_err(|error| error.to_string())
    });
    let text = match read {
        Ok(text) => text,
        Err(why) => return (Needs::default(), ConfigFact::Unread(format!("{path}: {why}"))),
    };
    if let Some(why) = needs::refused(&text) {
        return (Needs::default(), ConfigFact::Refused(format!("{path}, {why}")));
    }
    match needs::read(&text, &subject.settings.product, &subject.settings.env) {
        Ok(needs) => (needs, ConfigFact::Read),
        Err(error) => (Needs::default(), ConfigFact::Unread(format!("{path} is {error}"))),
    }
}

/// What the deployment.toml asks for that lies there now, whatever is to come.
fn in_use(settings: &ServiceSettings) -> Option<InUse> {
    let home = Home::open(&settings.home).ok()?;
    let text = String::from_utf8(home.read(&settings.config_path, FILE_SIZE_MAX).ok()??.bytes).ok()?;
    let needs = needs::read(&text, &settings.product, &settings.env).ok()?;
    Some(InUse { home, text, needs })
}

/// The deployment.toml of a home as it lies there.
struct InUse {
    home: Home,
    text: String,
    needs: Needs,
}

#[derive(Default)]
struct Local {
    home: HomeFact,
    host: HostFact,
    keystores: Vec<(Keystore, KeystoreFact)>,
    stores: Vec<StoreContent>,
    components: Vec<(Component, ComponentFact)>,
    truststore: Truststore,
    /// Those of the server that runs; none if none does.
    databases: Vec<Database>,
}

/// What only needs this host's files and tables. Blocking, hence on a thread of its own.
async fn look_locally(subject: Subject, stores: Vec<Keystore>, wanted: Vec<Component>) -> Local {
    let look = move || {
        let mut local = Local { home: host::home(&subject), host: host::host(&subject), ..Local::default() };
        local.components = components::look(&subject, wanted);
        if !local.host.own_pids.is_empty() {
            let in_use = in_use(&subject.settings).map(|found| found.needs).unwrap_or_default();
            components::excuse(&mut local.components, &in_use.components);
            local.databases = in_use.databases;
        }
        // Where none is named, the one that came with the product counts.
        let named = stores.iter().find(|store| store.key == "truststore").cloned();
        let shipped = if named.is_some() { Vec::new() } else { Vec::from(needs::shipped_truststores()) };
        for store in stores {
            let (fact, content) = look_at_keystore(&subject, &store);
            local.stores.extend(content);
            local.keystores.push((store, fact));
        }
        local.stores.extend(shipped.iter().filter_map(|store| look_at_keystore(&subject, store).1));
        let stores = named.map_or(shipped, |named| vec![named]);
        local.truststore = first_truststore(&stores, |store| read_store(&subject, store));
        local
    };
    match blocking(look).await {
        Ok(found) => found,
        Err(why) => {
            tracing::warn!(why, "Preflight could not look at the home");
            Local::default()
        }
    }
}

/// Looks on a thread of its own, and no longer than a person would wait: a disk that does not answer must not keep the
/// node from everything else. The thread is left behind.
async fn blocking<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Seen<T> {
    match tokio::time::timeout(LOOK_TIME, crate::task::blocking(look)).await {
        Ok(looked) => looked.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the disk did not answer within {} s", LOOK_TIME.as_secs())),
    }
}

fn read_store(subject: &Subject, store: &Keystore) -> Seen<Option<Vec<u8>>> {
    match HomePath::parse(&store.file) {
        Ok(path) => subject.read(&path, keystore::SIZE_MAX),
        Err(_) => read_absolute(store),
    }
}

fn read_absolute(store: &Keystore) -> Seen<Option<Vec<u8>>> {
    match read_named(Path::new(&store.file), keystore::SIZE_MAX) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// What the databases allow that the deployment.toml in force logs in to, as far as they say so within `time`. Nothing of
/// what cannot be read.
pub(crate) async fn database_limits(settings: ServiceSettings, time: Duration) -> Vec<DatabaseLimit> {
    let read = blocking(move || {
        let InUse { home, text, needs } = in_use(&settings)?;
        Some((needs.databases, truststore_at(&home, &text)))
    });
    match read.await {
        Ok(Some((databases, truststore))) => databases::limits(databases, &truststore, time).await,
        Ok(None) | Err(_) => Vec::new(),
    }
}

/// The truststore of a deployment.toml in a home, without the environment that its server has.
pub(crate) fn truststore_at(home: &Home, config: &str) -> Truststore {
    let needs = needs::read(config, "", &BTreeMap::new()).unwrap_or_default();
    let named = needs.keystores.into_iter().find(|store| store.key == "truststore");
    let stores = named.map_or_else(|| Vec::from(needs::shipped_truststores()), |named| vec![named]);
    first_truststore(&stores, |store| match HomePath::parse(&store.file) {
        Ok(path) => {
            let read = home.read(&path, keystore::SIZE_MAX).map_err(|error| crate::chain(&error))?;
            Ok(read.map(|content| content.bytes))
        }
        Err(_) => read_absolute(store),
    })
}

/// The first of these that is there.
fn first_truststore(stores: &[Keystore], read: impl Fn(&Keystore) -> Seen<Option<Vec<u8>>>) -> Truststore {
    let mut missing = Truststore::default();
    for store in stores {
        let file = store.file.clone();
        match read(store) {
            Ok(Some(content)) => return keystore::truststore(&content, store),
            Ok(None) => missing = Truststore { file, anchors: Err("it is not there".to_owned()) },
            Err(why) => return Truststore { file, anchors: Err(why) },
        }
    }
    missing
}

fn look_at_keystore(subject: &Subject, store: &Keystore) -> (KeystoreFact, Option<StoreContent>) {
    match read_store(subject, store) {
        Ok(Some(content)) => keystore::look(&content, store),
        Ok(None) => (KeystoreFact::Absent, None),
        Err(why) => (KeystoreFact::NotChecked(why), None),
    }
}

#[cfg(test)]
mod tests;
