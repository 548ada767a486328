//! Measurements of the server and its host.

use std::path::Path;

use fleet::observed::{ProcessIdentity, Vitals};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::process::threads_and_files;

/// Entries of the logs directory that are summed up at most.
const LOGS_MAX: usize = 10_000;

/// Keeps what two measurements need in common: CPU use is a difference.
#[derive(Debug)]
pub struct Meter {
    system: Option<System>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { system: System::new().ok() }
    }
}

impl Meter {
    /// Measures now.
    pub fn measure(&mut self, process: Option<&ProcessIdentity>, home: &str) -> Vitals {
        let mut vitals = Vitals { disk_free: disk_free(home), logs: logs_size(home), ..Vitals::default() };
        let (Some(process), Some(system)) = (process, &mut self.system) else { return vitals };
        let pid = Pid::from_u32(process.pid);
        let what = ProcessRefreshKind::nothing().with_memory().with_cpu().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, what);
        if let Some(measured) = system.process(pid) {
            vitals.rss = measured.memory();
            vitals.cpu_percent = measured.cpu_usage();
        }
        (vitals.threads, vitals.open_files) = threads_and_files(process);
        vitals
    }
}

fn disk_free(home: &str) -> u64 {
    crate::platform::disk_free(Path::new(home)).unwrap_or(0)
}

fn logs_size(home: &str) -> u64 {
    let logs = Path::new(home).join("repository/logs");
    let entries = walkdir::WalkDir::new(logs).max_depth(2).into_iter().filter_map(Result::ok);
    entries
        .take(LOGS_MAX)
        .filter_map(|entry| entry.metadata().ok())
        .filter(|m| m.is_file())
        .map(|m| m.len())
        .sum()
}
