//! One reload: check, save states, signal, and see that a new worker is there.

use std::{fs, path::Path, time::Duration};

use fleet::{
    balancer::{Kind, states},
    bundle::Bundle,
    observed::ProcessIdentity,
};
use tokio::time::Instant;

use super::{Balancer, STATE_FILE, master};
use crate::call::runtime_command;

/// From the signal to a worker that was not there before.
const WORKER_TIME: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// For the answer of the runtime socket.
const SOCKET_TIME: Duration = Duration::from_secs(5);
/// As HAProxy writes a file without servers: it complains of one that is not there.
const NO_STATES: &str = "1\n";

/// Has `process`, its master, read the configuration anew.
///
/// # Errors
/// In the program's words, if it refuses; how far it got otherwise.
pub(super) async fn reload(
    balancer: &Balancer,
    process: &ProcessIdentity,
    bundle: &Bundle,
) -> Result<String, String> {
    let _turn = balancer.0.members.turn().await;
    if balancer.0.kind == Kind::Nginx {
        balancer.refresh_members()?;
    }
    balancer.whole().await?;
    let saved = save_states(balancer, bundle).await;
    let renewed = renew(balancer, process).await;
    if let Some(states) = &saved {
        // For the reload only: at a later start of the host they would be news of another time.
        forget(states);
    }
    let worker = renewed?.worker;
    if balancer.0.kind == Kind::Nginx {
        balancer.members_loaded();
    }
    let kept = if saved.is_some() { "; states of its servers were kept" } else { "" };
    Ok(format!("worker {worker} serves{kept}"))
}

/// A reload that succeeded.
pub(super) struct Renewed {
    /// A worker that was not there before.
    pub(super) worker: u32,
    /// Those that were there.
    pub(super) before: Vec<(u32, u64)>,
}

/// Signals `process` and waits for a new worker.
///
/// # Errors
/// There is none in time, or the signal cannot be sent.
pub(super) async fn renew(balancer: &Balancer, process: &ProcessIdentity) -> Result<Renewed, String> {
    let before = master::workers(process);
    match &balancer.0.unit {
        Some(unit) => unit.reload().await.map_err(|error| crate::chain(&error))?,
        None => master::signal(process, balancer.0.kind)?,
    }
    let worker = new_worker(process, &before).await.ok_or_else(|| {
        format!(
            "its master process {} has no new worker {} s after the signal, so it goes on with what it had read \
             before; its own log says why",
            process.pid,
            WORKER_TIME.as_secs()
        )
    })?;
    Ok(Renewed { worker, before })
}

async fn new_worker(process: &ProcessIdentity, before: &[(u32, u64)]) -> Option<u32> {
    let until = Instant::now() + WORKER_TIME;
    while Instant::now() < until {
        let new = master::workers(process).into_iter().find(|worker| !before.contains(worker));
        if let Some((pid, _)) = new {
            return Some(pid);
        }
        tokio::time::sleep(LOOK).await;
    }
    None
}

/// Writes what hooks and health checks have found out of the servers, where HAProxy's new workers read it. A socket that
/// does not answer costs the states and not the reload.
async fn save_states(balancer: &Balancer, bundle: &Bundle) -> Option<std::path::PathBuf> {
    let socket = balancer.0.socket.as_ref().filter(|_| balancer.0.kind == Kind::Haproxy)?;
    let home = Path::new(&bundle.service.home);
    let name = socket.display().to_string();
    let asked = runtime_command(&name, "show servers state");
    let answer = match tokio::time::timeout(SOCKET_TIME, asked).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::warn!(socket = %socket.display(), %error, "States of servers are lost at this reload");
            return None;
        }
        Err(_) => {
            tracing::warn!(socket = %socket.display(), "States of servers are lost at this reload: no answer");
            return None;
        }
    };
    let config = fs::read_to_string(&balancer.0.main).unwrap_or_default();
    let path = home.join(STATE_FILE);
    match crate::private::write(&path, states(&answer, &config).as_bytes()) {
        Ok(()) => Some(path),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "States of servers are lost at this reload");
            None
        }
    }
}

fn forget(path: &Path) {
    if let Err(error) = crate::private::write(path, NO_STATES.as_bytes()) {
        tracing::warn!(path = %path.display(), %error, "Old states of servers cannot be removed");
    }
}
