//! Looking at a home for the coordinator (ADR 0017): what lies there, whatever was assigned to it.
//!
//! Reads only, and only files below one of the configured homes, through the same door as managed files: never through
//! a link, never a device, each file up to a bound. One look at a time, on a thread of its own: a file system that
//! hangs costs an answer, not the agent.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use fleet::{
    bundle::{FILE_SIZE_MAX, HomePath, ServiceSettings},
    drift::generated::RECORD,
    host::{
        AskDatabases, AskKeyManagers, CONFIG, ConfigRead, FoundEntry, FoundFile, FoundProduct, FoundServer,
        HomeHistory, HostFacts, HostQuestion, LOOK_CONTENT_MAX, LOOK_PATHS_MAX, Original, WantedContents,
    },
    ids::Digest,
    import,
    key_manager::{Registration, found::Registered},
    node::Allowed,
    observed::ProcessIdentity,
    pack::VERSION_FILE,
    preflight::{databases::DatabaseLimit, needs},
    spec::canonical,
    time::Timestamp,
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};

use crate::{
    call::Caller,
    files::{Content, Facts, Home, Place, PlaceError, config_unread},
    key_manager,
    outside::Machine,
    platform::Names,
    preflight::{Truststore, database_limits, judge, truststore_at, try_all},
};

/// A look that takes longer is not answered; the coordinator has given up by then.
const LOOK_TIME: Duration = Duration::from_millis(2_500);
/// Files that are not read within this are answered as such.
const READ_TIME: Duration = Duration::from_millis(2_000);
/// For one TLS connection; a plan does not wait longer for somebody who does not answer.
const PEER_TIME: Duration = Duration::from_millis(2_000);
/// Keystores of one deployment.toml.
const KEYSTORES_MAX: usize = 16;
/// The log that every start writes.
const LOG: &str = "repository/logs/wso2carbon.log";

/// What the files in force declare of others: these are asked with their credentials, never with those of a question.
#[derive(Debug, Clone, Default)]
pub struct Declared {
    /// The Key Managers that this node keeps.
    pub registrations: Vec<Registration>,
    /// The keystores of those files, of which a pinned certificate depends.
    pub keystores: String,
    /// How the server is run, and whether databases may be logged in to; `None`: nothing is in force.
    pub service: Option<ServiceSettings>,
}

/// Answers questions about this host's home.
#[derive(Debug, Clone)]
pub struct Looker {
    /// Those that may be looked at.
    pub homes: Vec<String>,
    /// The home whose files are in force.
    pub in_force: watch::Receiver<Option<String>>,
    /// What is kept of that home from before the first write.
    pub original: watch::Receiver<Option<Original>>,
    /// Whom the files in force name.
    pub declared: watch::Receiver<Declared>,
    /// Asks the Admin API.
    pub caller: Caller,
    /// Knows what runs.
    pub machine: Arc<dyn Machine>,
    /// What the agent's configuration lets a fleet reach and write.
    pub allowed: Allowed,
    /// Whether peers can be tried from here.
    pub check_endpoints: bool,
    /// The time of day.
    pub clock: fn() -> Timestamp,
    /// Held by the look under way.
    pub turn: Arc<Semaphore>,
}

impl Looker {
    /// Looks; or says why not, for people.
    ///
    /// # Errors
    /// A home that is not this agent's, none that can be told, or one that cannot be read in time.
    pub async fn look(&self, question: HostQuestion) -> Result<HostFacts, String> {
        if !question.is_bounded() {
            return Err(format!("more than {LOOK_PATHS_MAX} paths at once"));
        }
        let home = self.home_of(question.home.as_deref())?;
        let peers = if self.check_endpoints { question.peers.clone() } else { Vec::new() };
        let (key_managers, databases) = (question.key_managers, question.databases);
        let looking = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.map_err(|_| "the agent is ending")?;
            let servers = self.machine.servers(home.clone()).await;
            let at = (self.clock)();
            let reading = crate::task::blocking(move || {
                // Held to the end of the reading, however long that takes.
                let _turn = turn;
                read(&home, &question, &servers, at).map_err(|error| crate::chain(&error))
            });
            reading.await.map_err(|error| error.to_string())?
        };
        let looked = async {
            let asking = (self.registered(key_managers), self.limits(databases));
            tokio::join!(looking, try_all(peers, PEER_TIME), asking.0, asking.1)
        };
        let looked = tokio::time::timeout(LOOK_TIME, looked).await;
        let (read, tried, registered, limits): (Result<_, String>, _, _, _) =
            looked.map_err(|_| format!("the home was not read within {} ms", LOOK_TIME.as_millis()))?;
        let (mut facts, truststore): (HostFacts, Truststore) = read?;
        facts.peers = judge(tried, &truststore, facts.at);
        facts.allowed = Some(self.allowed.clone());
        if self.in_force.borrow().as_ref() == Some(&facts.home) {
            facts.original = self.original.borrow().clone();
            facts.registered = registered;
            facts.databases = limits;
        }
        Ok(facts)
    }

    /// What the Admin API has, asked with the credentials of the files in force: those of a question would let whoever
    /// may plan have them sent to a port of this host.
    async fn registered(&self, asked: AskKeyManagers) -> Option<Registered> {
        let declared = self.declared.borrow().clone();
        let caller = self.caller.with_keystores(&declared.keystores);
        match asked {
            AskKeyManagers::Yes => key_manager::survey(&caller, &declared.registrations, PEER_TIME).await,
            AskKeyManagers::No => None,
        }
    }

    /// What the databases of the files in force allow, if their fleet has agents log in.
    async fn limits(&self, asked: AskDatabases) -> Vec<DatabaseLimit> {
        let service = self.declared.borrow().service.clone();
        match service.filter(|service| service.check_databases && self.check_endpoints) {
            Some(service) if asked == AskDatabases::Yes => database_limits(service, PEER_TIME).await,
            Some(_) | None => Vec::new(),
        }
    }

    /// The home that is meant, or why none can be told.
    pub(crate) fn home_of(&self, asked: Option<&str>) -> Result<String, String> {
        let plain = |home: &str| home.trim_end_matches('/').to_owned();
        if let Some(asked) = asked {
            let own = self.homes.iter().find(|home| plain(home) == plain(asked));
            return own
                .cloned()
                .ok_or_else(|| format!("{asked} is not among `homes` of the agent's configuration"));
        }
        if let Some(home) = self.in_force.borrow().clone() {
            return Ok(home);
        }
        match self.homes.as_slice() {
            [home] => Ok(home.clone()),
            homes => Err(format!("the agent has {} homes and none is in use yet; name one", homes.len())),
        }
    }
}

fn path(text: &str) -> HomePath {
    HomePath::parse(text).expect("a fixed path below home")
}

fn read(
    home: &str,
    question: &HostQuestion,
    servers: &[ProcessIdentity],
    at: Timestamp,
) -> Result<(HostFacts, Truststore), PlaceError> {
    let opened = Home::open(home)?;
    let mut look = Look {
        home: &opened,
        names: Names::read(),
        until: Instant::now() + READ_TIME,
        wanted: &question.contents,
        left: LOOK_CONTENT_MAX,
        entries: BTreeMap::new(),
        contents: BTreeMap::new(),
    };
    let config = look.file(&path(CONFIG)).map(|content| String::from_utf8_lossy(&content).into_owned());
    let keystores = config.as_deref().map(keystores).unwrap_or_default();
    for path in keystores.iter().chain(&question.paths) {
        if !look.entries.contains_key(path) {
            look.file(path);
        }
    }
    let version = small(&opened, VERSION_FILE).and_then(|content| String::from_utf8(content).ok());
    let product = version.and_then(|text| product(&text, config.as_deref().unwrap_or_default()));
    let has_run = !servers.is_empty() || [RECORD, LOG].iter().any(|name| is_there(&opened, name));
    let truststore = match (question.peers.is_empty(), config.as_deref()) {
        (false, Some(config)) => truststore_at(&opened, config),
        (true, _) | (_, None) => Truststore::default(),
    };
    let facts = HostFacts {
        at,
        home: home.to_owned(),
        product,
        offset: config.as_deref().and_then(canonical::offset),
        server: servers.first().map_or(FoundServer::Stopped, |process| running(&opened, process.started)),
        history: if has_run { HomeHistory::Started } else { HomeHistory::NeverStarted },
        keystores,
        entries: look.entries,
        contents: look.contents,
        original: None,
        allowed: None,
        peers: Vec::new(),
        registered: None,
        databases: Vec::new(),
    };
    Ok((facts, truststore))
}

/// One look under way.
struct Look<'a> {
    home: &'a Home,
    names: Names,
    until: Instant,
    wanted: &'a WantedContents,
    /// Bytes of content that still fit.
    left: u64,
    entries: BTreeMap<HomePath, FoundEntry>,
    contents: BTreeMap<Digest, Arc<[u8]>>,
}

impl Look<'_> {
    /// Notes what lies at a path; answers its content if it is a regular file that could be read.
    fn file(&mut self, path: &HomePath) -> Option<Vec<u8>> {
        let (entry, content) = match self.try_file(path) {
            Ok(Some((file, content))) => (FoundEntry::File(file), Some(content)),
            Ok(None) => (FoundEntry::Absent, None),
            Err(PlaceError::Unsafe { why, .. }) => (FoundEntry::Other { kind: why }, None),
            Err(error) => (FoundEntry::Unreadable { why: crate::chain(&error) }, None),
        };
        if let (FoundEntry::File(file), Some(content)) = (&entry, &content) {
            self.keep(file, content);
        }
        self.entries.insert(path.clone(), entry);
        content
    }

    fn try_file(&self, path: &HomePath) -> Result<Option<(FoundFile, Vec<u8>)>, PlaceError> {
        let failed = |source| PlaceError::Io { what: "read", path: path.to_string(), source };
        if self.until <= Instant::now() {
            return Err(failed(io::Error::new(io::ErrorKind::TimedOut, "other files took too long")));
        }
        let Some((place, _)) = regular(self.home, path)? else { return Ok(None) };
        let Content { bytes: content, facts } = place.read(FILE_SIZE_MAX)?;
        let digest = Digest::of(&content);
        let is_config = path.as_str() == CONFIG;
        let meaning = match std::str::from_utf8(&content) {
            Ok(text) if is_config => canonical::meaning(text),
            Ok(_) | Err(_) => digest,
        };
        let (owner, group) = facts
            .owner
            .map_or_else(Default::default, |owner| (self.names.user(owner.uid), self.names.group(owner.gid)));
        let file = FoundFile {
            digest,
            meaning,
            size: content.len() as u64,
            mode: facts.mode.unwrap_or(0),
            owner,
            group,
            modified: facts.modified(),
        };
        Ok(Some((file, content)))
    }

    fn keep(&mut self, file: &FoundFile, content: &[u8]) {
        let is_wanted = match self.wanted {
            WantedContents::None => false,
            WantedContents::Unknown { known } => !known.contains(&file.digest),
        };
        if is_wanted && file.size <= self.left && !self.contents.contains_key(&file.digest) {
            self.left -= file.size;
            self.contents.insert(file.digest, Arc::from(content));
        }
    }
}

/// A regular file, `None` if there is nothing.
fn regular(home: &Home, path: &HomePath) -> Result<Option<(Place, Facts)>, PlaceError> {
    match home.place(path, None) {
        Ok(place) => Ok(place.facts()?.map(|facts| (place, facts))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn running(home: &Home, since: Timestamp) -> FoundServer {
    let changed = config_unread(home, &path(CONFIG)).is_some_and(|changed| since < changed);
    FoundServer::Running { since, config: if changed { ConfigRead::Earlier } else { ConfigRead::OnDisk } }
}

fn small(home: &Home, name: &str) -> Option<Vec<u8>> {
    Some(home.read(&path(name), FILE_SIZE_MAX).ok()??.bytes)
}

fn is_there(home: &Home, name: &str) -> bool {
    regular(home, &path(name)).is_ok_and(|found| found.is_some())
}

/// `WSO2 Identity Server v7.2.0`, as `bin/version.txt` says it.
fn product(text: &str, config: &str) -> Option<FoundProduct> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &&str| {
        let word = word.trim_start_matches(['v', 'V']);
        word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.')
    };
    let at = words.iter().position(number);
    let (name, version) = words.split_at(at.unwrap_or(words.len()));
    Some(FoundProduct {
        id: import::product_of(text, config),
        name: name.join(" "),
        version: version
            .first()
            .map(|word| word.trim_start_matches(['v', 'V']).to_owned())
            .unwrap_or_default(),
    })
}

/// Keystores and truststores below home.
fn keystores(config: &str) -> Vec<HomePath> {
    let Ok(needs) = needs::read(config, "", &BTreeMap::new()) else { return Vec::new() };
    let files = needs.keystores.iter().map(|store| store.file.trim_start_matches("${carbon.home}/"));
    let paths: BTreeSet<HomePath> = files.filter_map(|file| HomePath::parse(file).ok()).collect();
    paths.into_iter().take(KEYSTORES_MAX).collect()
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
        path::Path,
    };

    use fleet::host::OtherKind;

    use super::*;

    const TOML: &str = "[server]\noffset = 3\n[keystore.primary]\nfile_name = \"a.p12\"\n";

    fn write(home: &Path, path: &str, text: &str) {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        write(home.path(), CONFIG, TOML);
        write(home.path(), VERSION_FILE, "WSO2 Identity Server v7.2.0\n");
        write(home.path(), "repository/resources/security/a.p12", "store");
        home
    }

    fn look(home: &tempfile::TempDir, question: &HostQuestion) -> HostFacts {
        read(home.path().to_str().unwrap(), question, &[], Timestamp(7)).unwrap().0
    }

    #[test]
    fn a_home_that_nobody_was_assigned_to_tells_what_it_is() {
        let home = home();
        fs::set_permissions(home.path().join(CONFIG), fs::Permissions::from_mode(0o640)).unwrap();
        let facts = look(&home, &HostQuestion::facts(vec![path("bin/absent.sh")]));
        let product = facts.product.clone().unwrap();
        assert_eq!((product.name.as_str(), product.version.as_str()), ("WSO2 Identity Server", "7.2.0"));
        assert_eq!(product.id.as_deref(), Some("wso2is-7.2"));
        assert_eq!((facts.offset, facts.history), (Some(3), HomeHistory::NeverStarted));
        let file = facts.file(&path(CONFIG)).unwrap();
        assert_eq!((file.digest, file.meaning), (Digest::of(TOML.as_bytes()), canonical::meaning(TOML)));
        assert_eq!(file.mode, 0o640);
        assert!(!file.owner.is_empty() && !file.group.is_empty());
        assert_eq!(facts.keystores, [path("repository/resources/security/a.p12")]);
        assert!(facts.file(&facts.keystores[0]).is_some(), "named keystores are looked at unasked");
        assert_eq!(facts.entries[&path("bin/absent.sh")], FoundEntry::Absent);
        assert!(facts.contents.is_empty());
        write(home.path(), LOG, "TID");
        assert_eq!(look(&home, &HostQuestion::facts(Vec::new())).history, HomeHistory::Started);
    }

    #[test]
    fn content_is_sent_where_it_is_asked_for_and_not_known() {
        let home = home();
        let mut question = HostQuestion::contents(Vec::new());
        let facts = look(&home, &question);
        assert_eq!(facts.content(&path(CONFIG)), Some(TOML.as_bytes()));
        assert_eq!(facts.content(&facts.keystores[0]), Some(&b"store"[..]));
        if let WantedContents::Unknown { known } = &mut question.contents {
            known.insert(Digest::of(TOML.as_bytes()));
        }
        assert_eq!(look(&home, &question).content(&path(CONFIG)), None);
    }

    #[test]
    fn nothing_but_regular_files_of_the_home_is_read() {
        let (home, outside) = (home(), tempfile::tempdir().unwrap());
        write(outside.path(), "shadow", "root:secret");
        symlink(outside.path().join("shadow"), home.path().join("link")).unwrap();
        symlink(outside.path(), home.path().join("dir")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(home.path().join("fifo")).status().unwrap();
        assert!(made.success());
        let large = fs::File::create(home.path().join("large")).unwrap();
        large.set_len(FILE_SIZE_MAX + 1).unwrap();
        let asked = ["link", "dir/shadow", "fifo", "repository", "large"].map(path);
        let facts = look(&home, &HostQuestion::contents(asked.to_vec()));
        let kind = |name: &str| match &facts.entries[&path(name)] {
            FoundEntry::Other { kind } => *kind,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(kind("link"), OtherKind::Symlink);
        assert_eq!(kind("dir/shadow"), OtherKind::BehindLink);
        assert_eq!(kind("fifo"), OtherKind::Special);
        assert_eq!(kind("repository"), OtherKind::Directory);
        let FoundEntry::Unreadable { why } = &facts.entries[&path("large")] else { panic!("{facts:?}") };
        assert!(why.contains("has more than"), "{why}");
        assert!(facts.contents.values().all(|content| !content.starts_with(b"root")));
    }

    #[test]
    fn a_deployment_toml_that_cannot_be_read_has_no_offset_and_no_keystores() {
        let home = home();
        write(home.path(), CONFIG, "[server\noffset = 3");
        let facts = look(&home, &HostQuestion::facts(Vec::new()));
        assert_eq!((facts.offset, facts.keystores.len()), (None, 0));
        assert!(facts.file(&path(CONFIG)).is_some());
        write(home.path(), CONFIG, "[server]\nhostname = 'a'");
        assert_eq!(look(&home, &HostQuestion::facts(Vec::new())).offset, Some(0));
    }
}
