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

    /// It tries what the server connects to; the addresses of most tests are nobody's.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn check_endpoints(&self) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        Ok(fs::write(self.config(), text.replace("check_endpoints = false", "check_endpoints = true"))?)
    }

    /// One more home that it may manage.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add_home(&self, home: &Path) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        Ok(fs::write(self.config(), text.replace("homes = [", &format!("homes = [{home:?}, ")))?)
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
        self.enrol_by(&["--token-file", &file.display().to_string()]).await
    }

    /// `convoy-agent enroll` with these words: exit code and what was said.
    ///
    /// # Errors
    /// The program cannot be run.
    pub async fn enrol_by(&self, words: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(&self.programs.agent);
        command.arg("enroll").arg("--config").arg(self.config()).args(words);
        let output = command.output().await.context("cannot run convoy-agent")?;
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// `convoy-agent doctor`: exit code and what was said.
    ///
    /// # Errors
    /// The program cannot be run.
    pub async fn doctor(&self) -> Result<(i32, String)> {
        self.doctor_with(&[]).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// The program cannot be run.
    pub async fn doctor_with(&self, options: &[&str]) -> Result<(i32, String)> {
        let mut command = Command::new(&self.programs.agent);
        let output = command.arg("doctor").args(options).arg("--config").arg(self.config()).output().await?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// `convoy-agent stop-server --for-shutdown`, as its unit calls it on a host whose systemd says that it is `state`:
    /// exit code and what was said.
    ///
    /// # Errors
    /// The program cannot be run.
    pub async fn stop_server(&self, state: &str) -> Result<(i32, String)> {
        let bin = self.dir.join("systemctl-says");
        fs::create_dir_all(&bin)?;
        let systemctl = bin.join("systemctl");
        fs::write(&systemctl, format!("#!/bin/sh\n[ \"$*\" = is-system-running ] && echo {state}\n"))?;
        fs::set_permissions(&systemctl, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(&self.programs.agent);
        command.args(["stop-server", "--for-shutdown", "--config"]).arg(self.config()).env("PATH", path);
        let output = command.output().await?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code().unwrap_or(-1), said))
    }

    /// Starts it.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts it with these in its environment.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_with(&mut self, env: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(&self.programs.agent);
        command.envs(env.iter().copied());
        self.launch(command)
    }

    /// Starts it so that no file which it writes can grow beyond `bytes`: it is told so instead of being ended.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_limited(&mut self, bytes: u64) -> Result<()> {
        // The unit of this limit is 512 bytes in every POSIX shell.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", bytes / 512);
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg("sh").arg(&self.programs.agent);
        self.launch(command)
    }

    fn launch(&mut self, mut command: Command) -> Result<()> {
        command.arg("--config").arg(self.config());
        self.daemon = Some(Daemon::start(command, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// From its next start on it is another file, as after an upgrade.
    ///
    /// # Errors
    /// It cannot be copied.
    pub fn replace_program(&mut self) -> Result<()> {
        let newer = self.dir.join("convoy-agent-newer");
        fs::copy(&self.programs.agent, &newer)?;
        self.set_program(&newer);
        Ok(())
    }

    /// Runs another build of the agent from its next start on.
    pub fn set_program(&mut self, program: &Path) {
        self.programs.agent = program.to_owned();
    }

    /// kill -9.
    ///
    /// # Errors
    /// It was not running.
    pub async fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the agent is not running")?;
        daemon.kill().await
    }

    /// Where it keeps its state.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }
}
