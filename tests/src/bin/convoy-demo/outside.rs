//! What can be seen from outside, without asking Convoy: whether a port answers, what a file holds, when it changed.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Result;
use tokio::{
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, interval, timeout},
};

/// Between two looks at every port.
const LOOK_PERIOD: Duration = Duration::from_millis(20);

/// Whether something accepts connections on this port.
pub async fn answers(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    matches!(timeout(Duration::from_millis(500), TcpStream::connect(address)).await, Ok(Ok(_)))
}

/// One time that a port did not answer.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// Since the watch began.
    pub from: Duration,
    pub to: Option<Duration>,
}

/// Looks at some ports again and again.
pub struct Watch {
    outages: Arc<Mutex<Vec<Vec<Outage>>>>,
    together: Arc<Mutex<usize>>,
    task: JoinHandle<()>,
}

impl Watch {
    pub fn start(ports: Vec<u16>) -> Self {
        let outages = Arc::new(Mutex::new(vec![Vec::new(); ports.len()]));
        let together = Arc::new(Mutex::new(0));
        let (seen, most) = (outages.clone(), together.clone());
        let task = tokio::spawn(async move {
            let started = Instant::now();
            let mut ticks = interval(LOOK_PERIOD);
            loop {
                ticks.tick().await;
                let mut down = 0;
                for (index, port) in ports.iter().enumerate() {
                    let is_up = answers(*port).await;
                    down += usize::from(!is_up);
                    let mut seen = seen.lock().expect("nobody panics while holding it");
                    note(&mut seen[index], is_up, started.elapsed());
                }
                let mut most = most.lock().expect("nobody panics while holding it");
                *most = (*most).max(down);
            }
        });
        Self { outages, together, task }
    }

    /// Ends the watch: outages per port, and how many ports were down at once at most.
    pub fn finish(self) -> (Vec<Vec<Outage>>, usize) {
        self.task.abort();
        let outages = self.outages.lock().expect("nobody panics while holding it").clone();
        let together = *self.together.lock().expect("nobody panics while holding it");
        (outages, together)
    }
}

fn note(outages: &mut Vec<Outage>, is_up: bool, now: Duration) {
    let open = outages.last_mut().filter(|outage| outage.to.is_none());
    match (is_up, open) {
        (false, None) => outages.push(Outage { from: now, to: None }),
        (true, Some(outage)) => outage.to = Some(now),
        (false, Some(_)) | (true, None) => {}
    }
}

/// When a file got its present name, by the file system's own record.
pub fn switched_at(path: &Path) -> Result<SystemTime> {
    let meta = fs::metadata(path)?;
    let since = Duration::new(u64::try_from(meta.ctime())?, u32::try_from(meta.ctime_nsec())?);
    Ok(UNIX_EPOCH + since)
}
