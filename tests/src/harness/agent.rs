//! An agent with its configuration and state.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use super::{Daemon, Operator, Programs};

/// An agent, running or not.
#[derive(Debug)]
pub struct Agent {
    programs: Programs,
    dir: PathBuf,
    /// The node's name.
    pub node: String,
    /// `None` while it is down.
    pub daemon: Option<Daemon>,
}

impl Agent {
    /// Writes the configuration of an agent that may manage one home.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn configure(
        programs: &Programs,
        dir: &Path,
        node: &str,
        home: &Path,
        java_home: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let state = dir.join("state");
        // The databases of the fleets in tests are names that nobody answers to.
        let config = format!(
            "data_dir = {state:?}\nhomes = [{home:?}]\njava_home = {java_home:?}\ncheck_endpoints = false\n"
        );
        fs::write(dir.join("agent.toml"), config)?;
        Ok(Self { programs: programs.clone(), dir: dir.to_owned(), node: node.to_owned(), daemon: None })
    }

    /// One more line of its configuration.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add_setting(&self, line: &str) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        Ok(fs::write(self.config(), format!("{text}{line}\n"))?)
    }

    /// Gets a token from the operator and enrols with it.
    ///
    /// # Errors
    /// Says what the agent said.
    pub async fn enrol(&self, operator: &Operator) -> Result<()> {
        let token = operator.json(["token", "create", "--node", &self.node]).await?;
        let token = token["token"].as_str().context("a token")?;
        let (code, said) = self.enrol_with(token).await?;
        ensure!(code == 0, "enrolling {} ended with {code}: {said}", self.node);
        Ok(())
    }

    /// Enrols with any token: exit code and what was said.
    ///
    /// # Errors
    /// The program cannot be run.
    pub async fn enrol_with(&self, token: &str) -> Result<(i32, String)> {
        // By file: a command line can be read by every user of the host.
        let file = self.dir.join("token");
        fs::write(&file, token)?;
        let mut command = Command::new(&self.programs.agent);
        command.arg("enroll").arg("--config").arg(self.config()).arg("--token-file").arg(&file);
        let output = command.output().await.context("cannot run convoy-agent")?;
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let mut command = Command::new(&self.programs.agent);
        command.arg("--config").arg(self.config());
        self.daemon = Some(Daemon::start(command, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// kill -9.
    ///
    /// # Errors
    /// It was not running.
    pub async fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the agent is not running")?;
        daemon.kill().await
    }

    fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }
}
