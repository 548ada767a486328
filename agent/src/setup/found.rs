//! What a host has that set-up needs to know. Looks, and changes nothing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use super::Asked;
use crate::{
    config::Config,
    identity::Store,
    link, platform,
    process::{RunningHome, running_homes},
    wall_clock,
};

/// Below these directories a home lies in a directory of its own.
const PARENTS: [&str; 1] = ["opt/wso2"];
/// How names of homes begin that lie in `/opt` itself.
const PRODUCTS: [&str; 3] = ["wso2is", "wso2am", "wso2"];
/// Where distributions and vendors put JDKs, the likeliest first.
const JDK_PLACES: [&str; 4] = ["usr/lib/jvm/default-java", "usr/lib/jvm", "opt", "opt/wso2"];
/// Entries of one directory that are looked at.
const ENTRIES_MAX: usize = 1_000;
/// The agent's unit.
pub(super) const UNIT: &str = "convoy-agent.service";

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// Homes: those that were named, or else those of running servers and of the usual places.
    pub(super) homes: Vec<FoundHome>,
    /// JDKs, the likeliest first.
    pub(super) jdks: Vec<PathBuf>,
    pub(super) config: FoundConfig,
    pub(super) identity: FoundIdentity,
    pub(super) unit: FoundUnit,
    /// Who runs this.
    pub(super) user: u32,
}

/// A home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundHome {
    pub(super) path: String,
    pub(super) owner: Account,
    pub(super) server: Option<FoundServer>,
    /// Whether a product lies there.
    pub(super) is_pack: bool,
}

/// Who owns a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) user: String,
    pub(super) user_id: u32,
    /// The home's group, if it is another one than the user's own.
    pub(super) group: Option<String>,
    pub(super) group_id: u32,
}

/// A server that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundServer {
    pub(super) pid: u32,
    pub(super) jdk: Option<PathBuf>,
    /// The unit of systemd that runs it.
    pub(super) unit: Option<String>,
}

/// The agent's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FoundConfig {
    /// There is none.
    Absent,
    /// As the package ships it: what only the host's operator knows is missing.
    Unfinished {
        /// The file.
        text: String,
    },
    /// Complete.
    Usable(Usable),
    /// It cannot be used.
    Broken {
        /// Why.
        why: String,
    },
}

/// What counts of a complete configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Usable {
    pub(super) homes: Vec<String>,
    pub(super) data_dir: PathBuf,
    pub(super) java_home: Option<PathBuf>,
    pub(super) run_user: Option<String>,
}

/// Whether this host has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FoundIdentity {
    /// It has not.
    None,
    /// As this node, with a certificate that nobody is known to refuse.
    Of {
        /// Its name.
        node: String,
    },
    /// As somebody, with a certificate that does not serve any more.
    Spent {
        /// Why.
        why: String,
    },
}

/// The agent's unit, as systemd sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FoundUnit {
    /// No systemd.
    NoSystemd,
    /// The package is not installed.
    NotInstalled,
    /// It is there.
    Installed {
        /// Started with the host.
        enabled: bool,
        active: bool,
        /// As whom it runs, with all drop-ins.
        user: String,
        /// Empty: the user's own.
        group: String,
    },
}

/// Looks at this host.
pub(super) async fn look(asked: &Asked) -> Found {
    let config = config(&asked.config);
    let data_dir = match &config {
        FoundConfig::Usable(usable) => usable.data_dir.clone(),
        FoundConfig::Absent | FoundConfig::Unfinished { .. } | FoundConfig::Broken { .. } => {
            asked.data_dir.clone()
        }
    };
    let named = match &config {
        FoundConfig::Usable(usable) => usable.homes.clone(),
        FoundConfig::Absent | FoundConfig::Unfinished { .. } | FoundConfig::Broken { .. } => {
            asked.homes.clone()
        }
    };
    Found {
        homes: homes(&named, &asked.root),
        jdks: jdks(&asked.root),
        identity: identity(&data_dir, asked).await,
        unit: unit(&asked.root),
        user: rustix::process::geteuid().as_raw(),
        config,
    }
}

fn config(path: &Path) -> FoundConfig {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return FoundConfig::Absent,
        Err(error) => return FoundConfig::Broken { why: format!("cannot read {}: {error}", path.display()) },
    };
    match Config::parse(path, &text) {
        Ok(config) => FoundConfig::Usable(Usable {
            homes: config.homes,
            data_dir: config.data_dir,
            java_home: config.java_home,
            run_user: config.run_user,
        }),
        Err(_) if is_unfinished(path, &text) => FoundConfig::Unfinished { text },
        Err(error) => FoundConfig::Broken { why: crate::chain(&error) },
    }
}

/// A configuration that lacks nothing but `homes`, as packages ship it, is completed; any other that cannot be used is
/// its author's.
fn is_unfinished(path: &Path, text: &str) -> bool {
    let lacks_homes = text.parse::<toml::Table>().is_ok_and(|table| !table.contains_key("homes"));
    lacks_homes && Config::parse(path, &format!("homes = [\"/\"]\n{text}")).is_ok()
}

/// Those that are named, or else all that can be found. Each once, whatever links lead to it.
fn homes(named: &[String], root: &Path) -> Vec<FoundHome> {
    let running = running_homes();
    let running: Vec<RunningHome> =
        running.into_iter().filter(|home| Path::new(&home.path).starts_with(root)).collect();
    let paths: Vec<String> = if named.is_empty() {
        let usual = usual_homes(root);
        running.iter().map(|home| home.path.clone()).chain(usual).collect()
    } else {
        named.to_vec()
    };
    let mut found: BTreeMap<PathBuf, FoundHome> = BTreeMap::new();
    for path in paths {
        let real = fs::canonicalize(&path).unwrap_or_else(|_| PathBuf::from(&path));
        let server = running.iter().find(|home| fs::canonicalize(&home.path).is_ok_and(|it| it == real));
        let server =
            server.map(|home| FoundServer { pid: home.pid, jdk: jdk_of(home.pid), unit: unit_of(home.pid) });
        let (owner, is_pack) = (owner(&real), is_pack(&real));
        let path = path.trim_end_matches('/').to_owned();
        found.entry(real).or_insert(FoundHome { path, owner, server, is_pack });
    }
    found.into_values().collect()
}

fn usual_homes(root: &Path) -> Vec<String> {
    let mut places: Vec<PathBuf> = PARENTS.iter().flat_map(|parent| entries(&root.join(parent))).collect();
    let is_product = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        PRODUCTS.iter().any(|product| name.starts_with(product))
    };
    places.extend(entries(&root.join("opt")).into_iter().filter(is_product));
    places.into_iter().filter(|path| is_pack(path)).map(|path| path.display().to_string()).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().take(ENTRIES_MAX).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn is_pack(home: &Path) -> bool {
    home.join("repository/conf").is_dir() && home.join("bin").is_dir()
}

fn owner(home: &Path) -> Account {
    let Ok(facts) = fs::metadata(home) else {
        return Account { user: String::new(), user_id: 0, group: None, group_id: 0 };
    };
    let (user_id, group_id) = (facts.uid(), facts.gid());
    let user = platform::owner(home).map_or_else(|_| user_id.to_string(), |owner| owner.name);
    let own = platform::user(Some(&user)).map(|user| user.group);
    let group = (own != Ok(group_id)).then(|| platform::Names::read().group(group_id));
    Account { user, user_id, group, group_id }
}

/// The JDK whose java a process runs.
fn jdk_of(pid: u32) -> Option<PathBuf> {
    let java = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let home = java.parent().filter(|bin| bin.ends_with("bin"))?.parent()?;
    // Java 8 keeps its java a level deeper.
    Some(if home.ends_with("jre") { home.parent()?.to_owned() } else { home.to_owned() })
}

/// The service of systemd that a process runs in, unless it is the agent's own.
fn unit_of(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(service_of).filter(|name| name != UNIT)
}

/// `0::/system.slice/wso2is.service` names one; a login session does not.
fn service_of(line: &str) -> Option<String> {
    let (_, path) = line.rsplit_once(':')?;
    let name = path.strip_prefix("/system.slice/")?.split('/').next()?;
    name.ends_with(".service").then(|| name.to_owned())
}

fn jdks(root: &Path) -> Vec<PathBuf> {
    let named = std::env::var_os("JAVA_HOME").map(PathBuf::from);
    let places = JDK_PLACES.iter().map(|place| root.join(place));
    let nested = places.flat_map(|place| std::iter::once(place.clone()).chain(entries(&place)));
    let is_jdk = |path: &PathBuf| path.join("bin/java").is_file();
    let mut found: Vec<PathBuf> = Vec::new();
    for path in named.into_iter().chain(nested).filter(is_jdk) {
        let same = |known: &PathBuf| fs::canonicalize(known).ok() == fs::canonicalize(&path).ok();
        if !found.iter().any(same) {
            found.push(path);
        }
    }
    found
}

async fn identity(data_dir: &Path, asked: &Asked) -> FoundIdentity {
    let store = Store::of(data_dir, wall_clock);
    if !store.exists() {
        return FoundIdentity::None;
    }
    let identity = match store.read(0) {
        Ok(identity) => identity,
        Err(error) => return FoundIdentity::Spent { why: crate::chain(&error) },
    };
    if let Err(expired) = identity.check(wall_clock()) {
        return FoundIdentity::Spent { why: expired.to_string() };
    }
    // Whoever has brought a token may have done so because this certificate was revoked.
    if asked.token.is_some()
        && let Ok(answer) = link::ask_time(&store, asked.coordinator.as_slice(), &network(asked)).await
        && let Some(why) = answer.refused
    {
        return FoundIdentity::Spent { why };
    }
    FoundIdentity::Of { node: identity.node }
}

fn unit(root: &Path) -> FoundUnit {
    if !root.join("run/systemd/system").is_dir() {
        return FoundUnit::NoSystemd;
    }
    let properties = "LoadState,UnitFileState,ActiveState,User,Group";
    let shown = Command::new("systemctl").args(["show", "--property", properties, UNIT]).output();
    let Ok(shown) = shown else { return FoundUnit::NoSystemd };
    unit_shown(&String::from_utf8_lossy(&shown.stdout))
}

fn unit_shown(text: &str) -> FoundUnit {
    let properties: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &str| properties.get(name).copied().unwrap_or_default();
    if value("LoadState") != "loaded" {
        return FoundUnit::NotInstalled;
    }
    let user = value("User");
    FoundUnit::Installed {
        enabled: value("UnitFileState") == "enabled",
        active: matches!(value("ActiveState"), "active" | "activating" | "reloading"),
        user: if user.is_empty() { "root" } else { user }.to_owned(),
        group: value("Group").to_owned(),
    }
}

/// The way to the coordinator, as the configuration that is there says.
fn network(asked: &Asked) -> std::sync::Arc<dyn link::Network> {
    link::network(Config::read(&asked.config).ok().and_then(|config| config.proxy).as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_server_is_its_cgroup() {
        for (line, unit) in [
            ("0::/system.slice/wso2is.service", Some("wso2is.service")),
            ("0::/system.slice/wso2is.service/nested", Some("wso2is.service")),
            ("1:name=systemd:/system.slice/am.service", Some("am.service")),
            ("0::/user.slice/user-0.slice/session-1.scope", None),
            ("0::/", None),
            ("", None),
        ] {
            assert_eq!(service_of(line).as_deref(), unit, "{line}");
        }
    }

    #[test]
    fn what_systemd_shows_is_read_with_its_gaps() {
        let shown =
            "LoadState=loaded\nUnitFileState=disabled\nActiveState=inactive\nUser=wso2carbon\nGroup=\n";
        let (user, group) = ("wso2carbon".to_owned(), String::new());
        assert_eq!(unit_shown(shown), FoundUnit::Installed { enabled: false, active: false, user, group });
        let shown = "LoadState=loaded\nUnitFileState=enabled\nActiveState=activating\n";
        let (user, group) = ("root".to_owned(), String::new());
        assert_eq!(unit_shown(shown), FoundUnit::Installed { enabled: true, active: true, user, group });
        assert_eq!(unit_shown("LoadState=not-found\n"), FoundUnit::NotInstalled);
        assert_eq!(unit_shown(""), FoundUnit::NotInstalled);
    }

    #[test]
    fn a_configuration_that_lacks_only_its_homes_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let found = |text: &str| {
            fs::write(&path, text).unwrap();
            config(&path)
        };
        let example = include_str!("../../../examples/agent.toml");
        let shipped = example.replace("\nhomes =", "\n# homes =");
        assert_ne!(shipped, example);
        assert_eq!(found(&shipped), FoundConfig::Unfinished { text: shipped.clone() });
        assert!(matches!(found(example), FoundConfig::Usable(_)));
        for (text, why) in [
            ("homes = []\ndata_dir = '/d'\n", "homes is empty"),
            ("data_dir = 'd'\n", "homes is empty"),
            ("data_dir = '/d'\nhome = '/opt'\n", "unknown field `home`"),
        ] {
            let FoundConfig::Broken { why: told } = found(text) else { panic!("{text}") };
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn homes_in_the_usual_places_are_found_once_and_other_directories_are_not() {
        let root = tempfile::tempdir().unwrap();
        for home in ["opt/wso2/wso2is-7.2.0", "opt/wso2am-4.5.0"] {
            fs::create_dir_all(root.path().join(home).join("repository/conf")).unwrap();
            fs::create_dir_all(root.path().join(home).join("bin")).unwrap();
        }
        fs::create_dir_all(root.path().join("opt/wso2/patches")).unwrap();
        std::os::unix::fs::symlink("wso2is-7.2.0", root.path().join("opt/wso2/current")).unwrap();
        let found = homes(&[], root.path());
        let mut names: Vec<_> = found.iter().filter_map(|home| home.path.rsplit('/').next()).collect();
        names.sort_unstable();
        assert_eq!(names, ["current", "wso2am-4.5.0"], "one of the two names of the same home");
        assert!(found.iter().all(|home| home.is_pack && home.server.is_none()));
    }
}
