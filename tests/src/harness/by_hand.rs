//! A server as a person runs it: its own start script, without any agent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};

use super::until;
use crate::pack::Pack;

/// The line that the product logs once it serves.
const STARTED: &str = "WSO2 Carbon started in";

/// A home, and what starts its server.
#[derive(Debug, Clone)]
pub struct ByHand {
    /// CARBON_HOME.
    pub home: PathBuf,
    /// The start script.
    pub script: PathBuf,
    /// JAVA_HOME.
    pub java_home: PathBuf,
}

impl ByHand {
    /// A generated pack.
    pub fn of(pack: &Pack) -> Self {
        Self { home: pack.home.clone(), script: pack.script(), java_home: pack.java_home.clone() }
    }

    /// Starts the server and waits until it says that it is up.
    ///
    /// # Errors
    /// It cannot be started, or does not come up within `limit`.
    pub async fn start(&self, limit: Duration) -> Result<Child> {
        let mut script = Command::new("sh");
        script
            .arg(&self.script)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("JAVA_HOME", &self.java_home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let child = script.spawn().with_context(|| format!("cannot run {}", self.script.display()))?;
        let log = self.home.join("repository/logs/wso2carbon.log");
        until("a server that was started by hand to be up", limit, async || {
            Ok(fs::read_to_string(&log).is_ok_and(|text| text.contains(STARTED)).then_some(()))
        })
        .await?;
        Ok(child)
    }
}

/// A file as it has to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its bytes.
    pub content: Vec<u8>,
    /// All of its mode bits.
    #[cfg(unix)]
    pub mode: u32,
}

impl Standing {
    /// The file as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let context = || format!("cannot read {}", path.display());
        Ok(Self {
            content: fs::read(path).with_context(context)?,
            #[cfg(unix)]
            mode: std::os::unix::fs::PermissionsExt::mode(
                &fs::metadata(path).with_context(context)?.permissions(),
            ) & 0o7777,
        })
    }
}
