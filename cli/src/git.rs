//! Which commit a fleet directory is at, asked of the program `git` (ADR 0083). Whatever goes wrong with that is said and
//! hinders nothing.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use fleet::{foreign::printable, origin::Origin, spec::Sources};
use tokio::process::Command;

/// For all questions together; a repository on a slow disk must not hold up an apply.
const TIME: Duration = Duration::from_secs(10);
/// Variables of a hook of Git that would name another repository than the directory's.
const FOREIGN: [&str; 3] = ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"];

/// What Git says about a directory.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// It is at this commit.
    Commit(Origin),
    /// It is in no repository.
    NoRepository,
    /// It is in one, and yet no commit is known, for this reason.
    Unknown(String),
}

/// Asks Git about the directory that these files were read from.
pub async fn origin(dir: &Path, files: &Sources) -> Found {
    let Ok(dir) = std::fs::canonicalize(dir) else { return Found::NoRepository };
    if !dir.ancestors().any(|above| above.join(".git").exists()) {
        return Found::NoRepository;
    }
    let asking = ask(&dir, files);
    let answer = tokio::time::timeout(TIME, asking).await;
    answer.unwrap_or_else(|_| Found::Unknown(format!("git gave no answer within {} s", TIME.as_secs())))
}

async fn ask(dir: &Path, files: &Sources) -> Found {
    match asked(dir, files).await {
        Ok(origin) => Found::Commit(origin),
        Err(why) => Found::Unknown(why),
    }
}

async fn asked(dir: &Path, files: &Sources) -> Result<Origin, String> {
    let git = Git { dir: dir.to_owned() };
    let prefix = git.text(&["rev-parse", "--show-prefix"]).await?;
    let commit = git.text(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"]).await;
    let commit = commit.map_err(|_| "the repository has no commit yet".to_owned())?;
    let object = git.text(&["cat-file", "commit", &commit]).await?;
    // Fails if a commit is checked out without a branch, as pipelines do it.
    let branch = git.text(&["symbolic-ref", "--quiet", "--short", "HEAD"]).await.unwrap_or_default();
    let status = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"];
    let status = git.run(&[&status[..], &["--ignored=matching", "--", "."]].concat()).await?;
    let changed = u32::try_from(changed(&status, &prefix, files).len()).unwrap_or(u32::MAX);
    Origin::new(&commit, &branch, author(&object), changed).map_err(|error| error.to_string())
}

struct Git {
    dir: PathBuf,
}

impl Git {
    async fn text(&self, arguments: &[&str]) -> Result<String, String> {
        Ok(self.run(arguments).await?.trim_end_matches('\n').to_owned())
    }

    /// What it prints; names that are not UTF-8 are no names of uploaded files.
    async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new("git");
        // No program of the repository's configuration is started, and nothing is written into the repository.
        command.args(["-c", "core.fsmonitor=false"]).args(arguments).current_dir(&self.dir);
        command.env("LC_ALL", "C").env("GIT_OPTIONAL_LOCKS", "0").stdin(Stdio::null()).kill_on_drop(true);
        for name in FOREIGN {
            command.env_remove(name);
        }
        let output = command.output().await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "the program git was not found".to_owned(),
            _ => format!("git cannot be run: {error}"),
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(refusal(&self.dir, &output))
    }
}

fn refusal(dir: &Path, output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("dubious ownership") {
        return format!(
            "git does not read a repository that belongs to somebody else; if you trust it: \
             git config --global --add safe.directory {}",
            top(dir).display()
        );
    }
    let said = said.lines().next().map(|line| printable(line).into_owned()).unwrap_or_default();
    format!("git says {said:?}")
}

/// Where the repository begins, as `safe.directory` wants it.
fn top(dir: &Path) -> &Path {
    dir.ancestors().find(|above| above.join(".git").exists()).unwrap_or(dir)
}

/// `Ann <ann@example.org>`, of a commit object.
fn author(object: &str) -> &str {
    let headers = object.lines().take_while(|line| !line.is_empty());
    let line = headers.filter_map(|line| line.strip_prefix("author ")).next().unwrap_or_default();
    // The time follows the address.
    line.rfind('>').and_then(|end| line.get(..=end)).unwrap_or_default()
}

/// Files that are uploaded and not as committed, or committed and not there: what `git status -z` lists, below `prefix`.
fn changed(status: &str, prefix: &str, files: &Sources) -> BTreeSet<String> {
    let entries = status.split('\0').filter_map(|entry| entry.get(3..));
    let below = entries.filter_map(|path| path.strip_prefix(prefix));
    let mut changed = BTreeSet::new();
    for path in below {
        // A directory that is ignored, or another repository, stands for all that is in it.
        let dir = format!("{}/", path.trim_end_matches('/'));
        let held =
            files.0.range(dir.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&dir));
        let held: Vec<&String> = held.collect();
        changed.extend(held.iter().map(|path| (*path).clone()));
        let is_hidden = path.split('/').any(|part| part.starts_with('.'));
        let is_missing = held.is_empty() && !path.ends_with('/') && !is_hidden && Sources::wants(path);
        if files.0.contains_key(path) || is_missing {
            changed.insert(path.to_owned());
        }
    }
    changed
}

#[cfg(test)]
mod tests;
