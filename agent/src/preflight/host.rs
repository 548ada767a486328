//! Home, its owner and its pack; sockets, neighbours and limits of the host.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use fleet::{
    bundle::{FILE_SIZE_MAX, HomePath},
    drift::generated::{RECORD, Recorded},
    preflight::facts::{HomeFact, HostFact, Listener, Neighbour, Owner, Seen},
    spec::canonical,
};
use sysinfo::{Pid, Process, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::Subject;
use crate::{files::Home, platform};

/// How many foreign files are named.
const FOREIGN_MAX: usize = 5;
/// What the server writes at every start or all the time, besides the generated files.
const WRITTEN: [&str; 8] = [
    "repository/conf",
    "repository/conf/deployment.toml",
    "repository/resources/conf/.metadata",
    "repository/resources/conf/.metadata/metadata_config.properties",
    "repository/logs",
    "repository/logs/wso2carbon.log",
    "backup",
    "tmp",
];

pub(super) fn home(subject: &Subject) -> HomeFact {
    let home = subject.home();
    let script = if cfg!(windows) { &subject.settings.script_windows } else { &subject.settings.script_unix };
    let run_user = platform::user(subject.settings.run_user.as_deref()).map(|user| user.owner);
    let foreign = run_user.as_ref().map(|user| foreign(subject, user)).unwrap_or_default();
    HomeFact {
        version: read_text(home, "bin/version.txt").map_err(|why| format!("bin/version.txt: {why}")),
        script: is_file(&home.join(script.as_str())).map_err(|why| format!("{script}: {why}")),
        owner: platform::owner(home),
        run_user,
        foreign,
        disk_free: platform::disk_free(home),
        bundle_size: subject.bundle_size,
    }
}

fn is_file(path: &Path) -> Seen<()> {
    let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
    if metadata.is_file() { Ok(()) } else { Err("is no file".to_owned()) }
}

/// Below home, what the run user must write and cannot. Files that are not there yet are no trouble.
fn foreign(subject: &Subject, user: &Owner) -> Vec<String> {
    if user.id == 0 {
        return Vec::new();
    }
    let home = subject.home();
    let record = read_text(home, RECORD).unwrap_or_default();
    let recorded = Recorded::parse(&record, &subject.settings.config_path);
    let generated = recorded.0.keys().map(HomePath::as_str);
    let foreign = |path: &&str| {
        let path: PathBuf = home.join(path);
        let (Ok(owner), Ok(mode)) = (platform::owner(&path), platform::mode(&path)) else { return false };
        // Who is in the group is not known here; a group that may write is given the benefit of the doubt.
        owner.id != user.id && mode & 0o022 == 0
    };
    let found: BTreeSet<&str> = WRITTEN.into_iter().chain(generated).filter(foreign).collect();
    found.into_iter().take(FOREIGN_MAX).map(str::to_owned).collect()
}

pub(super) fn host(subject: &Subject) -> HostFact {
    let servers = Servers::look(subject.home());
    let sockets = platform::listening().map(|sockets| {
        let listener = |socket: &platform::Socket| Listener {
            port: socket.port,
            pid: socket.pid,
            holder: servers.holder(socket.pid),
        };
        sockets.iter().filter(|socket| meets(socket.address, subject.site.address)).map(listener).collect()
    });
    HostFact {
        sockets,
        own_pids: servers.own_pids(),
        neighbours: servers.neighbours(),
        clock_ahead: subject.clock.clone(),
        open_files: platform::open_files_limit(),
        processes: platform::processes_limit(),
    }
}

/// Whether a socket on `taken` is in the way of one on `wanted`: the same address, or all addresses on either side.
fn meets(taken: IpAddr, wanted: IpAddr) -> bool {
    taken == wanted || taken.is_unspecified() || wanted.is_unspecified()
}

/// All processes of this host, and which of them are WSO2 servers.
struct Servers {
    /// Absent where the platform shows no processes.
    system: Option<System>,
    home: PathBuf,
}

impl Servers {
    fn look(home: &Path) -> Self {
        let wanted = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
        let mut system = System::new().ok();
        if let Some(system) = &mut system {
            system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
        }
        Self { system, home: home.canonicalize().unwrap_or_else(|_| home.to_owned()) }
    }

    fn all(&self) -> impl Iterator<Item = &Process> + Clone {
        self.system.iter().flat_map(|system| system.processes().values())
    }

    /// The value of `-Dcarbon.home=`, links resolved.
    fn home_of(process: &Process) -> Option<PathBuf> {
        let value = argument(process, "-Dcarbon.home=")?;
        Some(Path::new(&value).canonicalize().unwrap_or_else(|_| PathBuf::from(value)))
    }

    /// The servers of this home, and what their scripts started besides: API Manager's diagnostics tool is a second
    /// JVM that knows no `carbon.home`.
    fn own_pids(&self) -> Vec<u32> {
        let own = self.all().filter(|process| Self::home_of(process).as_ref() == Some(&self.home));
        let parents: BTreeSet<Pid> = own.clone().filter_map(Process::parent).collect();
        let is_script = |process: &&Process| {
            let of_home = |word: &OsString| Path::new(word).starts_with(self.home.join("bin"));
            parents.contains(&process.pid()) && process.cmd().iter().any(of_home)
        };
        let scripts: BTreeSet<Pid> = self.all().filter(is_script).map(Process::pid).collect();
        let siblings = self.all().filter(|process| {
            let of_script = process.parent().is_some_and(|parent| scripts.contains(&parent));
            of_script && argument(process, "-Dcarbon.home=").is_none()
        });
        let pids: BTreeSet<u32> = own.chain(siblings).map(|process| process.pid().as_u32()).collect();
        pids.into_iter().collect()
    }

    fn neighbours(&self) -> Vec<Neighbour> {
        let other = |process: &&Process| Self::home_of(process).is_some_and(|home| home != self.home);
        let mut neighbours: Vec<Neighbour> = self
            .all()
            // The script's shell and threads may show the same words; only java has the main class.
            .filter(|process| process.cmd().iter().any(|word| word == "org.wso2.carbon.bootstrap.Bootstrap"))
            .filter(other)
            .map(|process| Neighbour {
                pid: process.pid().as_u32(),
                home: argument(process, "-Dcarbon.home=").unwrap_or_default(),
                offset: offset_of(process),
            })
            .collect();
        neighbours.sort_by_key(|neighbour| neighbour.pid);
        neighbours
    }

    fn holder(&self, pid: Option<u32>) -> String {
        let Some(pid) = pid else { return "a process that this agent may not look at".to_owned() };
        let process = self.system.as_ref().and_then(|system| system.process(Pid::from_u32(pid)));
        let Some(process) = process else { return format!("pid {pid}") };
        let name = process.name().to_string_lossy();
        match argument(process, "-Dcarbon.home=") {
            Some(home) => format!("{name} of {home} (pid {pid})"),
            None => format!("{name} (pid {pid})"),
        }
    }
}

fn argument(process: &Process, prefix: &str) -> Option<String> {
    process.cmd().iter().find_map(|word| Some(word.to_str()?.strip_prefix(prefix)?.to_owned()))
}

fn read_text(home: &Path, path: &str) -> Seen<String> {
    let path = HomePath::parse(path).map_err(|error| error.to_string())?;
    let read = Home::open(&home.to_string_lossy()).and_then(|home| home.read(&path, FILE_SIZE_MAX));
    let content = read.map_err(|error| crate::chain(&error))?.ok_or("it is not there")?;
    String::from_utf8(content.bytes).map_err(|error| error.to_string())
}

/// `-DportOffset` beats deployment.toml.
fn offset_of(process: &Process) -> Seen<u16> {
    let unreadable = || "not a number".to_owned();
    if let Some(offset) = argument(process, "-DportOffset=") {
        return offset.parse().map_err(|_| unreadable());
    }
    // Any user can start a process that names any home.
    let home = argument(process, "-Dcarbon.home=").unwrap_or_default();
    let text = read_text(Path::new(&home), "repository/conf/deployment.toml")
        .map_err(|why| format!("its deployment.toml: {why}"))?;
    let flat = canonical::flatten(&text).map_err(|_| "its deployment.toml does not parse".to_owned())?;
    flat.get("server.offset")
        .map_or(Ok(0), |offset| offset.trim_matches('"').parse().map_err(|_| unreadable()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_another_address_is_in_nobodys_way() {
        let meets = |taken: &str, wanted: &str| meets(taken.parse().unwrap(), wanted.parse().unwrap());
        assert!(meets("127.0.0.2", "0.0.0.0"));
        assert!(meets("::", "127.0.0.2"));
        assert!(meets("127.0.0.2", "127.0.0.2"));
        assert!(!meets("127.0.0.3", "127.0.0.2"));
    }
}
