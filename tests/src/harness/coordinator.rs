//! A coordinator with its data directory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use tokio::{net::TcpStream, process::Command};

use super::{Daemon, LIMIT, Operator, Programs, until};

/// A coordinator, running or not.
#[derive(Debug)]
pub struct Coordinator {
    programs: Programs,
    dir: PathBuf,
    port: u16,
    environment: Vec<(String, String)>,
    /// `None` while it is down.
    pub daemon: Option<Daemon>,
}

impl Coordinator {
    /// Writes its configuration and starts it. Heartbeats are quick: tests wait for what they detect.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn start(programs: &Programs, dir: &Path, fleet: &str, port: u16) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let data = dir.join("data");
        let config = format!(
            "fleet = \"{fleet}\"\ndata_dir = {data:?}\nlisten = \"127.0.0.1:{port}\"\nnames = [\"127.0.0.1\"]\n\n\
             [heartbeat]\ninterval = \"1s\"\n"
        );
        fs::write(dir.join("coordinator.toml"), config)?;
        let mut coordinator = Self {
            programs: programs.clone(),
            dir: dir.to_owned(),
            port,
            environment: Vec::new(),
            daemon: None,
        };
        coordinator.restart().await?;
        Ok(coordinator)
    }

    /// Starts it again on the same data directory and port.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restart(&mut self) -> Result<()> {
        self.begin()?;
        let (port, context) = (self.port, self.context());
        let daemon = self.daemon.as_mut().context("it was just started")?;
        until("the coordinator to listen", LIMIT, async || {
            if let Some(status) = daemon.ended()? {
                bail!("the coordinator ended with {status}:\n{}", daemon.last_lines());
            }
            let listens = TcpStream::connect(("127.0.0.1", port)).await.is_ok();
            Ok((listens && context.is_file()).then_some(()))
        })
        .await
    }

    /// Starts it without waiting until it listens.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn begin(&mut self) -> Result<()> {
        let mut command = Command::new(&self.programs.coordinator);
        command.arg("--config").arg(self.dir.join("coordinator.toml"));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.daemon = Some(Daemon::start(command, &self.dir.join("coordinator.log"))?);
        Ok(())
    }

    /// Has these in its environment from its next start on.
    pub fn set_environment(&mut self, environment: &[(&str, &str)]) {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.environment = environment.iter().map(owned).collect();
    }

    /// Runs another program from its next start on.
    pub fn set_program(&mut self, program: &Path) {
        self.programs.coordinator = program.to_owned();
    }

    /// kill -9.
    ///
    /// # Errors
    /// It was not running.
    pub async fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the coordinator is not running")?;
        daemon.kill().await
    }

    /// More of its configuration; counts from the next start on.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add_settings(&self, lines: &str) -> Result<()> {
        let path = self.dir.join("coordinator.toml");
        let text = fs::read_to_string(&path)?;
        Ok(fs::write(path, text + lines)?)
    }

    /// Where the operator's context file is.
    pub fn context(&self) -> PathBuf {
        self.dir.join("data/operator/context.toml")
    }

    /// The first operator.
    pub fn operator(&self) -> Operator {
        Operator::new(self.programs.convoy.clone(), self.context())
    }

    /// Where its state is.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }
}
