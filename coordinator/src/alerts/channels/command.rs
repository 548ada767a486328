//! A program of the coordinator's configuration that is run for each message: no shell, nothing of the coordinator's
//! environment, and it ends with all its children when it takes too long.

use std::{path::PathBuf, process::Stdio};

use tokio::{io::AsyncWriteExt as _, process::Command};

use super::Payload;

/// A program and its arguments.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
}

impl Program {
    /// Runs it with the message as JSON at its standard input.
    pub(super) async fn run(&self, payload: &Payload) -> Result<(), String> {
        let facts = payload.facts();
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("CONVOY_DELIVERY", payload.delivery())
            .env("CONVOY_OCCASION", facts.occasion)
            .env("CONVOY_SEVERITY", facts.severity.as_str())
            .env("CONVOY_HEADLINE", &facts.headline)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
        let group = Group(child.id());
        if let Some(mut input) = child.stdin.take() {
            // A program that does not read its input may still do its job.
            let written = input.write_all(&payload.json()).await;
            tracing::debug!(?written, "Passed a message to a command");
        }
        let status = child.wait().await.map_err(|error| error.to_string())?;
        group.ended();
        match status.code() {
            Some(0) => Ok(()),
            Some(code) => Err(format!("exit status {code}")),
            None => Err("ended by a signal".to_owned()),
        }
    }
}

/// The process group of a command: killed unless the command ended by itself.
struct Group(Option<u32>);

impl Group {
    fn ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(group) =
            self.0.and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
        {
            let killed = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            tracing::debug!(?killed, "A command took too long and is ended with its children");
        }
    }
}
