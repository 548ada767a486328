//! The host's process table, the one place that knows how a platform names a process.
//!
//! On Linux it is /proc; elsewhere sysinfo. Identity is pid and start time together, so a later process of the same
//! number is never taken for the server.

use fleet::observed::ProcessIdentity;

/// What every WSO2 server of the Carbon platform runs.
const MAIN_CLASS: &str = "org.wso2.carbon.bootstrap.Bootstrap";

/// A live server's java process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Which.
    pub process: ProcessIdentity,
    /// Its parent, usually the start script.
    pub parent: u32,
    /// Its process group.
    pub group: u32,
}

/// Whether a command line is that of a server with this home.
fn is_server(arguments: &[&str], home: &str) -> bool {
    let of_home = arguments
        .iter()
        .any(|argument| argument.strip_prefix("-Dcarbon.home=").is_some_and(|text| same_home(text, home)));
    of_home && arguments.contains(&MAIN_CLASS)
}

fn same_home(text: &str, home: &str) -> bool {
    let plain = |path: &str| path.trim_end_matches('/').to_owned();
    if plain(text) == plain(home) {
        return true;
    }
    match (std::fs::canonicalize(text), std::fs::canonicalize(home)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// A home whose server runs.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningHome {
    /// As its command line says it.
    pub path: String,
    /// The server's.
    pub pid: u32,
}

/// The home that a command line names, if it is a server's.
#[cfg(target_os = "linux")]
fn home_of<'a>(arguments: &[&'a str]) -> Option<&'a str> {
    let home = arguments.iter().find_map(|argument| argument.strip_prefix("-Dcarbon.home="))?;
    arguments.contains(&MAIN_CLASS).then_some(home)
}

#[cfg(target_os = "linux")]
pub use linux::{alive, is_running, owns_port, servers, started, threads_and_files};
#[cfg(target_os = "linux")]
pub use linux::{children, is_server_of, process_called, running_homes};

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        collections::{BTreeMap, BTreeSet},
        fs, io,
        path::PathBuf,
        sync::{Mutex, PoisonError},
    };

    use fleet::{observed::ProcessIdentity, time::Timestamp};

    use super::{RunningHome, Server, home_of, is_server};
    use crate::platform::sockets::inodes_on;

    /// Clock ticks per second in /proc, the same on every platform that Linux runs on today.
    const TICKS: u64 = 100;

    struct Stat {
        state: char,
        parent: u32,
        group: u32,
        threads: u32,
        start: u64,
    }

    fn stat(pid: u32) -> Option<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may itself hold spaces and parentheses.
        let rest: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Stat {
            state: rest.first()?.chars().next()?,
            parent: rest.get(1)?.parse().ok()?,
            group: rest.get(2)?.parse().ok()?,
            threads: rest.get(17)?.parse().ok()?,
            start: rest.get(19)?.parse().ok()?,
        })
    }

    /// Which start of the host this is.
    fn boot_id() -> String {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.chars().take(8).collect()
    }

    /// Milliseconds since the host's start, as its clock of process starts counts.
    fn uptime() -> u64 {
        let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds: f64 = text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
        std::time::Duration::try_from_secs_f64(seconds)
            .map_or(0, |up| u64::try_from(up.as_millis()).unwrap_or(0))
    }

    fn identity(pid: u32, stat: &Stat) -> ProcessIdentity {
        // `btime` of /proc/stat counts whole seconds; the age of the process is good to a tick.
        let age = uptime().saturating_sub(stat.start * 1000 / TICKS);
        let started = crate::wall_clock().0.saturating_sub(i64::try_from(age).unwrap_or(0));
        ProcessIdentity {
            pid,
            // The start time counts from the host's own start, so it needs that as well.
            start_id: format!("{}@{}", stat.start, boot_id()),
            started: Timestamp(started),
        }
    }

    fn pids() -> impl Iterator<Item = u32> {
        let entries = fs::read_dir("/proc").into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
    }

    /// The homes of all live servers, whoever started them.
    pub fn running_homes() -> Vec<RunningHome> {
        pids()
            .filter_map(|pid| {
                let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let text = String::from_utf8_lossy(&bytes);
                let arguments: Vec<&str> = text.split('\0').collect();
                let path = home_of(&arguments)?.to_owned();
                stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
                Some(RunningHome { path, pid })
            })
            .collect()
    }

    /// Whether a process is a server of this home.
    pub fn is_server_of(pid: u32, home: &std::path::Path) -> bool {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let arguments: Vec<&str> = text.split('\0').collect();
        home.to_str().is_some_and(|home| is_server(&arguments, home))
    }

    /// All live servers of a home.
    pub fn servers(home: &str) -> Vec<Server> {
        pids()
            .filter_map(|pid| {
                let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
                let text = String::from_utf8_lossy(&bytes);
                let arguments: Vec<&str> = text.split('\0').collect();
                if !is_server(&arguments, home) {
                    return None;
                }
                let stat = stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
                Some(Server { process: identity(pid, &stat), parent: stat.parent, group: stat.group })
            })
            .collect()
    }

    /// The live process of a number, if its name is `name`, of which the kernel keeps 15 bytes.
    pub fn process_called(pid: u32, name: &str) -> Option<ProcessIdentity> {
        let kept = name.as_bytes().get(..15).unwrap_or(name.as_bytes());
        let called = fs::read(format!("/proc/{pid}/comm")).ok()?;
        let stat = stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
        (called.trim_ascii_end() == kept).then(|| identity(pid, &stat))
    }

    /// The live children of a process, with the ticks at which they began.
    pub fn children(pid: u32) -> Vec<(u32, u64)> {
        let child = |of: u32| {
            let stat = stat(of).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
            (stat.parent == pid).then_some((of, stat.start))
        };
        pids().filter_map(child).collect()
    }

    /// When a process began, if it is there.
    pub fn started(pid: u32) -> Option<Timestamp> {
        stat(pid).map(|stat| identity(pid, &stat).started)
    }

    /// The server of this identity, if it lives.
    pub fn alive(process: &ProcessIdentity) -> Option<Server> {
        let stat = stat(process.pid).filter(|stat| !matches!(stat.state, 'Z' | 'X'))?;
        let now = identity(process.pid, &stat);
        (now.start_id == process.start_id).then(|| Server {
            process: process.clone(),
            parent: stat.parent,
            group: stat.group,
        })
    }

    /// Whether a process of this number lives, and when it was started, to tell it from a later one.
    pub fn is_running(pid: u32) -> Option<u64> {
        stat(pid).filter(|stat| !matches!(stat.state, 'Z' | 'X')).map(|stat| stat.start)
    }

    /// Threads and open files.
    pub fn threads_and_files(process: &ProcessIdentity) -> (u32, u32) {
        let threads = stat(process.pid).map_or(0, |stat| stat.threads);
        let path = format!("/proc/{}/fd", process.pid);
        // Since Linux 6.2 the directory's size is the number of its entries; before it is 0.
        let counted = fs::metadata(&path).map_or(0, |facts| facts.len());
        let files = match usize::try_from(counted) {
            Ok(0) | Err(_) => fs::read_dir(&path).map_or(0, Iterator::count),
            Ok(counted) => counted,
        };
        (threads, u32::try_from(files).unwrap_or(u32::MAX))
    }

    /// Sockets that were found among a server's descriptors, by process, start and port. A socket keeps its inode while it
    /// listens, so a busy server's descriptors, one for each connection, are walked once and not at every probe.
    static PROVED: Mutex<BTreeMap<(u32, String, u16), u64>> = Mutex::new(BTreeMap::new());
    /// More than the ports of a host's servers.
    const PROVED_MAX: usize = 64;

    /// Which of these sockets is behind one of a process's descriptors; `None` if that cannot be told. Root without
    /// CAP_SYS_PTRACE may list the descriptors of a process with more capabilities than its own, and read none of them.
    pub(super) fn one_of(
        links: impl Iterator<Item = io::Result<PathBuf>>,
        inodes: &BTreeSet<u64>,
    ) -> Option<Option<u64>> {
        let mut is_hidden = false;
        for link in links {
            match link {
                Ok(link) => {
                    let inode =
                        link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
                    let inode = inode.and_then(|inode| inode.parse().ok());
                    if inode.is_some_and(|inode| inodes.contains(&inode)) {
                        return Some(inode);
                    }
                }
                // Others were closed meanwhile.
                Err(error) => is_hidden |= error.kind() == io::ErrorKind::PermissionDenied,
            }
        }
        (!is_hidden).then_some(None)
    }

    /// Whether this process listens on a TCP port; `None` if the host does not let us see.
    pub fn owns_port(process: &ProcessIdentity, port: u16) -> Option<bool> {
        let inodes = inodes_on(port).ok()?;
        let key = (process.pid, process.start_id.clone(), port);
        let known = PROVED.lock().unwrap_or_else(PoisonError::into_inner).get(&key).copied();
        if known.is_some_and(|inode| inodes.contains(&inode)) && alive(process).is_some() {
            return Some(true);
        }
        let held = |pid: u32| {
            let files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            one_of(files.filter_map(Result::ok).map(|entry| fs::read_link(entry.path())), &inodes)
        };
        // Of a load balancer it may be a worker that listens. One that cannot be seen is not judged.
        let owned = match held(process.pid)? {
            Some(inode) => Some(inode),
            None => {
                let workers: Option<Vec<Option<u64>>> =
                    children(process.pid).into_iter().map(|(pid, _)| held(pid)).collect();
                workers?.into_iter().flatten().next()
            }
        };
        let mut proved = PROVED.lock().unwrap_or_else(PoisonError::into_inner);
        match owned {
            Some(inode) => {
                if PROVED_MAX <= proved.len() {
                    proved.clear();
                }
                proved.insert(key, inode);
            }
            None => {
                proved.remove(&key);
            }
        }
        Some(owned.is_some())
    }
}

#[cfg(windows)]
pub use portable::is_script;
#[cfg(not(target_os = "linux"))]
pub use portable::{alive, is_running, owns_port, servers, threads_and_files};

#[cfg(not(target_os = "linux"))]
mod portable {
    use fleet::{observed::ProcessIdentity, time::Timestamp};
    use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

    use super::{Server, is_server};
    use crate::platform::sockets;

    fn table(pids: ProcessesToUpdate<'_>) -> Option<System> {
        let mut system = System::new().ok()?;
        let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).without_tasks();
        system.refresh_processes_specifics(pids, true, what);
        Some(system)
    }

    fn server(process: &sysinfo::Process) -> Server {
        let started = process.start_time();
        Server {
            process: ProcessIdentity {
                pid: process.pid().as_u32(),
                start_id: started.to_string(),
                started: Timestamp(i64::try_from(started.saturating_mul(1000)).unwrap_or(i64::MAX)),
            },
            parent: process.parent().map_or(0, Pid::as_u32),
            group: 0,
        }
    }

    /// All live servers of a home.
    pub fn servers(home: &str) -> Vec<Server> {
        let Some(system) = table(ProcessesToUpdate::All) else { return Vec::new() };
        let is_ours = |process: &&sysinfo::Process| {
            let arguments: Vec<&str> =
                process.cmd().iter().filter_map(|argument| argument.to_str()).collect();
            is_server(&arguments, home)
        };
        system.processes().values().filter(is_ours).map(server).collect()
    }

    /// The server of this identity, if it lives.
    pub fn alive(process: &ProcessIdentity) -> Option<Server> {
        let pid = Pid::from_u32(process.pid);
        let system = table(ProcessesToUpdate::Some(&[pid]))?;
        system.process(pid).map(server).filter(|server| server.process.start_id == process.start_id)
    }

    /// Whether a process of this number lives, and when it was started.
    pub fn is_running(pid: u32) -> Option<u64> {
        let pid = Pid::from_u32(pid);
        table(ProcessesToUpdate::Some(&[pid]))?.process(pid).map(sysinfo::Process::start_time)
    }

    /// Threads and open files; not known here.
    pub fn threads_and_files(_process: &ProcessIdentity) -> (u32, u32) {
        (0, 0)
    }

    /// Whether this process listens on a TCP port; `None` if the host does not let us see.
    pub fn owns_port(process: &ProcessIdentity, port: u16) -> Option<bool> {
        sockets::is_held_by(&sockets::listening().ok()?, port, process.pid)
    }

    /// Whether a process is the interpreter of a batch file.
    #[cfg(windows)]
    pub fn is_script(pid: u32) -> bool {
        let pid = Pid::from_u32(pid);
        let system = table(ProcessesToUpdate::Some(&[pid]));
        let name = system.and_then(|system| Some(system.process(pid)?.name().to_ascii_lowercase()));
        name.is_some_and(|name| name == "cmd.exe")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_its_class_and_home_together() {
        let arguments = |home: &'static str| ["java", "-Xmx1g", home, MAIN_CLASS, "RUN"];
        assert!(is_server(&arguments("-Dcarbon.home=/opt/is"), "/opt/is/"));
        assert!(!is_server(&arguments("-Dcarbon.home=/opt/is2"), "/opt/is"));
        assert!(!is_server(&["java", "-Dcarbon.home=/opt/is", "Diagnostics"], "/opt/is"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn descriptors_that_may_not_be_read_are_not_those_of_others() {
        use std::{collections::BTreeSet, io, path::PathBuf};

        let link = |text: &str| -> io::Result<PathBuf> { Ok(PathBuf::from(text)) };
        let fails = |kind: io::ErrorKind| -> io::Result<PathBuf> { Err(io::Error::from(kind)) };
        let told =
            |links: Vec<io::Result<PathBuf>>| linux::one_of(links.into_iter(), &BTreeSet::from([7, 8]));
        let others = || vec![link("/dev/null"), link("socket:[6]"), fails(io::ErrorKind::NotFound)];
        let with = |last: io::Result<PathBuf>| others().into_iter().chain([last]).collect();
        assert_eq!(told(others()), Some(None));
        assert_eq!(told(with(link("socket:[8]"))), Some(Some(8)));
        assert_eq!(told(with(fails(io::ErrorKind::PermissionDenied))), None);
        let hidden_and_found = vec![fails(io::ErrorKind::PermissionDenied), link("socket:[7]")];
        assert_eq!(told(hidden_and_found), Some(Some(7)));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("sleep").arg("3600").spawn().unwrap();
        let started = |pid: u32| format!("{}@", is_running(pid).unwrap_or_default());
        let start_id = started(child.id());
        assert!(is_running(child.id()).is_some());
        child.kill().unwrap();
        // Dead and not waited for: its number, its start time and its entry in the table are still there.
        let dead = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") Z ");
        while !dead() {
            std::thread::yield_now();
        }
        assert_eq!(is_running(child.id()), None);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let start_id = format!("{start_id}{}", boot.chars().take(8).collect::<String>());
        let zombie = ProcessIdentity { pid: child.id(), start_id, started: fleet::time::Timestamp(0) };
        assert_eq!(alive(&zombie), None);
        child.wait().unwrap();
    }

    #[test]
    fn this_process_is_alive_and_its_namesake_of_another_time_is_not() {
        let own = is_running(std::process::id()).unwrap();
        let other = ProcessIdentity {
            pid: std::process::id(),
            start_id: format!("{}@nothere", own + 1),
            started: fleet::time::Timestamp(0),
        };
        assert_eq!(alive(&other), None);
    }
}
