//! HAProxy and NGINX as their packages start them, and as an agent looks after them: a master process with workers.

use std::{
    fs,
    io::ErrorKind,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{LIMIT, until};

/// A master process, which ends with its value.
#[derive(Debug)]
pub struct Master(Child);

impl Drop for Master {
    fn drop(&mut self) {
        // TERM to the master ends its workers, too.
        drop(Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status());
        drop(self.0.wait());
    }
}

impl Master {
    /// Starts it and waits until it has written its number; `None` where it is not installed.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start(command: &mut Command, log: &Path, pid_file: &Path) -> Result<Option<Self>> {
        let log = fs::File::create(log)?;
        let started = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        let master = match started {
            Ok(child) => Self(child),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot run {command:?}")),
        };
        until("the balancer to run", LIMIT, async || {
            Ok(fs::read_to_string(pid_file).ok().filter(|text| text.ends_with('\n')))
        })
        .await?;
        Ok(Some(master))
    }
}

/// HAProxy with this configuration.
pub fn haproxy(file: &Path, pid_file: &Path) -> Command {
    let mut command = Command::new("haproxy");
    command.arg("-W").arg("-f").arg(file).arg("-p").arg(pid_file);
    command
}

/// What somebody typed for HAProxy before a fleet knows of it: clients get 503.
pub fn haproxy_by_hand(clients: SocketAddr, socket: &Path) -> String {
    format!(
        "global\n    stats socket {} mode 600 level admin\ndefaults\n    mode http\n    timeout connect 2s\n    timeout \
         client 60s\n    timeout server 60s\nfrontend clients\n    bind {clients}\n    http-request deny deny_status \
         503\n",
        socket.display()
    )
}
