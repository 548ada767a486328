//! The operator: runs `convoy` as a person or a program would.

use std::{ffi::OsStr, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::process::Command;

/// Somebody with a context file.
#[derive(Debug, Clone)]
pub struct Operator {
    convoy: PathBuf,
    context: PathBuf,
}

/// What one command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    pub out: String,
    pub said: String,
}

impl Operator {
    /// With this program and context file.
    pub fn new(convoy: PathBuf, context: PathBuf) -> Self {
        Self { convoy, context }
    }

    /// The context file.
    pub fn context(&self) -> &PathBuf {
        &self.context
    }

    /// The command, ready to be started; without a terminal.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.convoy);
        command.arg("--context").arg(&self.context).args(words);
        // What a command remembers of its coordinator is not to be left in the home of whoever runs the tests.
        command.env("XDG_CONFIG_HOME", self.context.with_file_name("remembered"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// It cannot be started. How it ended is data.
    pub async fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Ran> {
        let output = self.command(words).output().await.context("cannot run convoy")?;
        Ok(Ran {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command that has to succeed.
    ///
    /// # Errors
    /// It did not end with 0; says what it said.
    pub async fn done<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<String> {
        let words: Vec<std::ffi::OsString> = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let ran = self.run(&words).await?;
        ensure!(ran.code == 0, "convoy {words:?} ended with {}\n{}{}", ran.code, ran.out, ran.said);
        Ok(ran.out)
    }

    /// Runs a command with `--json` that has to succeed, and reads its document.
    ///
    /// # Errors
    /// It did not end with 0, or printed something else.
    pub async fn json<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Value> {
        let mut all = vec![std::ffi::OsString::from("--json")];
        all.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        let out = self.done(&all).await?;
        serde_json::from_str(&out).with_context(|| format!("not JSON: {out}"))
    }

    /// One node of `status`.
    ///
    /// # Errors
    /// The status cannot be had. A node that is not there is `Value::Null`.
    pub async fn node(&self, name: &str) -> Result<Value> {
        let status = self.json(["status"]).await?;
        let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
        Ok(nodes.into_iter().find(|node| node["name"] == name).unwrap_or(Value::Null))
    }
}
