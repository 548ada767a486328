//! Memory and CPU of the coordinator's process, as Linux counts them.

use std::{
    fmt, fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

/// Of `utime` and `stime` in `/proc/PID/stat`; Linux has told user space 100 on every machine for decades.
const TICKS_PER_SECOND: f64 = 100.0;
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// A process that is measured.
#[derive(Clone, Copy)]
pub struct Process(pub u32);

/// In bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    /// Everything that is resident.
    pub resident: u64,
    /// Without pages of files, such as the program's own.
    pub anonymous: u64,
    pub threads: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        let (resident, anonymous) = (mega(self.resident), mega(self.anonymous));
        write!(f, "{resident:.0} MB resident ({anonymous:.0} MB anonymous), {} threads", self.threads)
    }
}

impl Process {
    pub fn memory(self) -> Memory {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).unwrap();
        let field = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (resident, anonymous) = (field("VmRSS:") * 1024, field("RssAnon:") * 1024);
        Memory { resident, anonymous, threads: field("Threads:") }
    }

    pub fn cpu(self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).unwrap();
        // The name may hold spaces; it ends with the last parenthesis, and `utime` is the 12th field after it.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = |field: &str| field.parse::<f64>().unwrap();
        let total: f64 = fields.split_whitespace().skip(11).take(2).map(ticks).sum();
        Duration::from_secs_f64(total / TICKS_PER_SECOND)
    }

    /// Notes the most that is resident from now on.
    pub fn watch_peak(self) -> Peak {
        let most = Arc::new(AtomicU64::new(0));
        let seen = most.clone();
        let task = tokio::spawn(async move {
            loop {
                seen.fetch_max(self.memory().resident, Ordering::Relaxed);
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        });
        Peak { most, task }
    }
}

pub struct Peak {
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Peak {
    pub fn end(self) -> u64 {
        self.task.abort();
        self.most.load(Ordering::Relaxed)
    }
}
