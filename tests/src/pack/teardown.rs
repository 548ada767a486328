//! Ends what a test started, however the test ended.
//!
//! Servers are meant to survive their supervisors, so killing the supervisor or its process group is not enough.
//! What is ended is exactly what runs from packs below one directory, and every test has its own.

use std::path::{Path, PathBuf};

use sysinfo::{Process, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, Signal, System, UpdateKind};

/// On drop, kills all servers and start scripts of the packs below a directory.
#[derive(Debug)]
pub struct Teardown {
    directory: PathBuf,
}

impl Teardown {
    /// Watches over `directory`, which should be a test's own temporary one.
    pub fn of(directory: &Path) -> Teardown {
        Teardown { directory: directory.canonicalize().unwrap_or_else(|_| directory.to_owned()) }
    }

    /// Processes that run from packs below the directory: servers, companions and scripts.
    pub fn alive(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = Vec::new();
        self.each(|process| pids.push(process.pid().as_u32()));
        pids.sort_unstable();
        pids
    }

    /// Kills until none is left: a script may start java again between the look and the blow.
    pub fn kill_all(&self) {
        for _ in 0..20 {
            let mut killed = 0;
            self.each(|process| killed += usize::from(process.kill_with(Signal::Kill).is_some()));
            if killed == 0 {
                return;
            }
        }
    }

    fn each(&self, mut act: impl FnMut(&Process)) {
        // Where processes cannot be listed there is nothing this could end.
        let Ok(mut system) = System::new() else { return };
        let what = ProcessRefreshKind::nothing().with_cmd(UpdateKind::Always).with_exe(UpdateKind::Always);
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, what);
        for process in system.processes().values().filter(|process| self.is_ours(process)) {
            act(process);
        }
    }

    fn is_ours(&self, process: &Process) -> bool {
        if process.thread_kind().is_some() || process.status() == ProcessStatus::Zombie {
            return false;
        }
        let below = |path: &Path| path.starts_with(&self.directory);
        let java =
            process.exe().is_some_and(|exe| below(exe) && exe.file_stem().is_some_and(|stem| stem == "java"));
        let words: Vec<&Path> = process.cmd().iter().map(Path::new).collect();
        let shell = words
            .first()
            .and_then(|word| word.file_name())
            .is_some_and(|name| name == "sh" || name == "dash");
        let script = words
            .iter()
            .take(3)
            .skip(1)
            .any(|word| below(word) && word.extension().is_some_and(|extension| extension == "sh"));
        // A JDK may lie elsewhere; servers name the home that they run, and companions their own place in it.
        let homes = ["-Dcarbon.home=", "-Dapp.home="];
        let names_home =
            |word: &str| homes.iter().find_map(|option| word.strip_prefix(option)).map(PathBuf::from);
        let server =
            process.cmd().iter().filter_map(|word| names_home(word.to_str()?)).any(|home| below(&home));
        java || server || shell && script
    }
}

impl Drop for Teardown {
    fn drop(&mut self) {
        self.kill_all();
    }
}
