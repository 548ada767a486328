//! `convoy-agent setup` and `convoy-coordinator setup` as a person types them: on a host without systemd, on one with it, a
//! second time, and wrongly.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{Daemon, LIMIT, Operator, Programs, Site, until},
    pack::{OffsetLease, Pack},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::small::ensure_holds;

/// A host's files below a directory of the test, with a product in one of the usual places.
struct Host<'a> {
    site: &'a Site,
    root: PathBuf,
    pack: Pack,
}

impl<'a> Host<'a> {
    fn new(site: &'a Site) -> Result<Self> {
        let pack = site.pack("is-1", "wso2is-7.2".parse()?)?;
        let root = site.path("host");
        fs::create_dir_all(root.join("opt/wso2"))?;
        // Where a person would have unpacked it.
        std::os::unix::fs::symlink(&pack.home, root.join("opt/wso2/wso2is-7.2.0"))?;
        Ok(Self { site, root, pack })
    }

    fn config(&self) -> PathBuf {
        self.root.join("etc/convoy/agent.toml")
    }

    fn data_dir(&self) -> PathBuf {
        self.root.join("state")
    }

    async fn token(&self, node: &str) -> Result<String> {
        let reply = self.site.operator().json(["token", "create", "--node", node]).await?;
        Ok(reply["token"].as_str().context("a token")?.to_owned())
    }

    /// `convoy-agent setup` with these words, and this on its standard input: exit code and what it said.
    async fn set_up(&self, words: &[&str], input: &str) -> Result<(i32, String)> {
        let mut command = Command::new(&self.site.programs().agent);
        command
            .arg("--config")
            .arg(self.config())
            .args(["setup", "--root"])
            .arg(&self.root)
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--java-home")
            .arg(&self.pack.java_home)
            .args(words)
            .envs(environment(&self.root, &self.site.programs().agent, &self.config()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().context("standard input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code().unwrap_or(-1), said))
    }

    fn with_systemd(&self, user: &str) -> Result<()> {
        systemctl(&self.root, user)
    }

    fn told(&self) -> String {
        fs::read_to_string(self.root.join("told")).unwrap_or_default()
    }
}

impl Drop for Host<'_> {
    fn drop(&mut self) {
        end(&self.root);
    }
}

/// A `systemctl` below `root` that has a daemon's unit, runs the daemon when it is told to start it, and notes what it is
/// told.
fn systemctl(root: &Path, user: &str) -> Result<()> {
    fs::create_dir_all(root.join("run/systemd/system"))?;
    fs::create_dir_all(root.join("bin"))?;
    let script = format!(
        "#!/bin/sh\n\
         echo \"$*\" >> \"$HOST/told\"\n\
         case \"$1\" in\n\
         show)\n\
           echo LoadState=loaded; echo User={user}; echo Group=\n\
           if [ -e \"$HOST/pid\" ]; then echo UnitFileState=enabled; echo ActiveState=active\n\
           else echo UnitFileState=disabled; echo ActiveState=inactive; fi ;;\n\
         enable)\n\
           if [ ! -e \"$HOST/pid\" ]; then\n\
             \"$PROGRAM\" --config \"$CONFIG\" </dev/null >\"$HOST/log\" 2>&1 &\n\
             echo $! > \"$HOST/pid\"\n\
           fi ;;\n\
         esac\n"
    );
    let path = root.join("bin/systemctl");
    fs::write(&path, script)?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?)
}

/// What that script needs to know, and how it is found.
fn environment(root: &Path, program: &Path, config: &Path) -> [(&'static str, std::ffi::OsString); 4] {
    let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap_or_default());
    [("PATH", path.into()), ("PROGRAM", program.into()), ("CONFIG", config.into()), ("HOST", root.into())]
}

/// Ends the daemon that the script started.
fn end(root: &Path) {
    if let Some(pid) = fs::read_to_string(root.join("pid")).ok().and_then(|text| text.trim().parse().ok()) {
        convoy_tests::harness::kill(pid);
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        walkdir::WalkDir::new(dir).into_iter().flatten().map(walkdir::DirEntry::into_path).collect();
    files.sort();
    files
}

#[tokio::test]
async fn a_host_without_systemd_is_set_up_but_for_the_start() -> Result<()> {
    let site = Site::open("setup").await?;
    let host = Host::new(&site)?;
    let token = host.token("is-1").await?;
    let before = files_below(&host.root);
    let (code, said) = host.set_up(&["--token-file", "-", "--dry-run"], &token).await?;
    ensure!(code == 0, "{code}: {said}");
    ensure_holds(&said, &["would", "join as is-1", "homes = [", "there is no systemd here"])?;
    ensure!(files_below(&host.root) == before, "a dry run writes nothing");

    let (code, said) = host.set_up(&["--token-file", "-"], &token).await?;
    ensure!(code == 0, "{code}: {said}");
    ensure_holds(
        &said,
        &[
            "done     config",
            "joined as is-1 at 127.0.0.1:",
            "checks",
            "no agent runs; start it: convoy-agent --config",
        ],
    )?;
    let config = fs::read_to_string(host.config())?;
    ensure_holds(&config, &["opt/wso2/wso2is-7.2.0\"]", "java_home = "])?;

    // As a person would go on.
    let mut agent = Command::new(&site.programs().agent);
    agent.arg("--config").arg(host.config());
    let _agent = Daemon::start(agent, &host.root.join("log"))?;
    until("the agent to be connected", LIMIT, async || {
        let (code, said) = host.set_up(&[], "").await?;
        ensure!(code == 0, "{code}: {said}");
        Ok(said.contains("connected to 127.0.0.1:").then_some(()))
    })
    .await?;
    let (code, said) = host.set_up(&["--json"], "").await?;
    let told: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(code == 0 && told["ok"] == true && told["changes"] == false, "{told:#}");
    ensure!(told["steps"].as_array().is_some_and(|steps| 4 <= steps.len()), "{told:#}");
    let (_, said) = host.set_up(&[], "").await?;
    ensure!(said.ends_with("nothing to do\n"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_host_with_systemd_is_connected_when_the_command_ends_and_a_second_run_does_nothing() -> Result<()>
{
    let site = Site::open("setup").await?;
    let host = Host::new(&site)?;
    host.with_systemd("somebody-else")?;
    if !rustix::process::geteuid().is_root() {
        println!("NOT EXERCISED: units are root's");
        return Ok(());
    }
    let token = host.token("is-1").await?;
    let (code, said) = host.set_up(&["--token-file", "-"], &token).await?;
    ensure!(code == 0, "{code}: {said}\n{}", fs::read_to_string(host.root.join("log")).unwrap_or_default());
    ensure_holds(&said, &["enabled and started", "connected to 127.0.0.1:", " as is-1"])?;
    ensure_holds(
        &host.told(),
        &["daemon-reload", "enable --now convoy-agent.service convoy-server.service"],
    )?;
    let drop_in = host.root.join("etc/systemd/system/convoy-agent.service.d/10-setup.conf");
    ensure_holds(&fs::read_to_string(&drop_in)?, &["[Service]\nUser=root\n"])?;

    // systemd runs it as the drop-in says now.
    host.with_systemd("root")?;
    fs::remove_file(host.root.join("told"))?;
    let (code, said) = host.set_up(&["--token-file", "-"], &token).await?;
    ensure!(code == 0 && said.ends_with("nothing to do\n"), "{code}: {said}");
    ensure_holds(&said, &["the token was not used"])?;
    ensure!(host.told().lines().all(|line| line.starts_with("show ")), "{}", host.told());
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_is_said_before_anything_is_done() -> Result<()> {
    let site = Site::open("setup").await?;
    let host = Host::new(&site)?;
    let before = files_below(&host.root);
    let token = host.token("is-1").await?;
    for (words, input, expected) in [
        (vec!["--token-file", "-"], "rubbish", "token"),
        (vec!["--token-file", "/no/such/file"], "", "cannot read the token"),
        (vec![], "", "this host has not joined and needs a token"),
        (vec!["--home", "/no/such/home", "--token-file", "-"], token.as_str(), "holds no WSO2 product"),
        (vec!["--home", "home", "--token-file", "-"], token.as_str(), "write it absolute"),
    ] {
        let (code, said) = host.set_up(&words, input).await?;
        ensure!(code == 1 && said.contains(expected), "{words:?} ended with {code}: {said}");
        ensure!(!said.contains(&token), "{said}");
    }
    ensure!(files_below(&host.root) == before, "nothing was written");

    // Somebody's configuration with a mistake in it is not overwritten.
    fs::create_dir_all(host.root.join("etc/convoy"))?;
    fs::write(host.config(), "data_dir = '/x'\nhomez = ['/opt/is']\n")?;
    let (code, said) = host.set_up(&["--token-file", "-"], &token).await?;
    ensure!(code == 1 && said.contains("did you mean \"homes\""), "{code}: {said}");
    fs::remove_file(host.config())?;

    // The token was spent by none of these; a coordinator that is away spends none either, and the next run goes on.
    let elsewhere = ["--token-file", "-", "--coordinator", "127.0.0.1:1"];
    let (code, said) = host.set_up(&elsewhere, &token).await?;
    ensure!(code == 1 && said.contains("failed   enrolment"), "{code}: {said}");
    let (code, said) = host.set_up(&["--token-file", "-"], &token).await?;
    ensure!(code == 0 && said.contains("joined as is-1"), "{code}: {said}");
    let other = host.token("is-2").await?;
    let (code, said) = host.set_up(&["--token-file", "-"], &other).await?;
    ensure!(
        code == 1 && said.contains("this host is node is-1, and the token is for is-2"),
        "{code}: {said}"
    );
    Ok(())
}

/// A coordinator's host: files below a directory, and a port of its own.
struct Seat {
    directory: tempfile::TempDir,
    programs: Programs,
    lease: OffsetLease,
}

impl Seat {
    fn new() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("convoy-e2e-").tempdir()?;
        Ok(Self { directory, programs: Programs::locate()?, lease: OffsetLease::take()? })
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("etc/coordinator.toml")
    }

    async fn set_up(&self, words: &[&str]) -> Result<(i32, String)> {
        let root = self.directory.path();
        let mut command = Command::new(&self.programs.coordinator);
        command
            .arg("--config")
            .arg(self.config())
            .args(["setup", "--root"])
            .arg(root)
            .arg("--data-dir")
            .arg(root.join("data"))
            .args(["--listen", &format!("127.0.0.1:{}", 9043 + self.lease.offset(0))])
            .args(words)
            .envs(environment(root, &self.programs.coordinator, &self.config()));
        let output = command.output().await?;
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        Ok((output.status.code().unwrap_or(-1), said))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        end(self.directory.path());
    }
}

#[tokio::test]
async fn a_coordinator_answers_when_its_set_up_ends_and_its_last_lines_work() -> Result<()> {
    let seat = Seat::new()?;
    let root = seat.directory.path();
    let (code, said) = seat.set_up(&["--fleet", "acme", "--name", "127.0.0.1", "--dry-run"]).await?;
    ensure!(code == 0, "{code}: {said}");
    ensure_holds(&said, &["would", "fleet = \"acme\"", "there is no systemd here"])?;
    ensure!(files_below(root) == [root.to_owned()], "a dry run writes nothing");
    for (words, expected) in [
        (vec!["--name", "c"], "name the fleet with --fleet"),
        (vec!["--fleet", "acme", "--name", "https://c"], "without scheme and port"),
    ] {
        let (code, said) = seat.set_up(&words).await?;
        ensure!(code == 1 && said.contains(expected), "{words:?} ended with {code}: {said}");
        ensure!(!seat.config().exists(), "{words:?} wrote a configuration");
    }
    systemctl(root, "convoy-coordinator")?;
    if !rustix::process::geteuid().is_root() {
        println!("NOT EXERCISED: units are root's");
        return Ok(());
    }
    let (code, said) = seat.set_up(&["--fleet", "acme", "--name", "127.0.0.1"]).await?;
    ensure!(code == 0, "{code}: {said}");
    ensure_holds(
        &said,
        &["enabled and started", "it answers at 127.0.0.1:", "convoy-agent setup --token-file -"],
    )?;
    let operator = Operator::new(seat.programs.convoy.clone(), root.join("data/operator/context.toml"));
    let status = operator.json(["status"]).await?;
    ensure!(status["fleet"] == "acme", "{status:#}");

    let (code, said) = seat.set_up(&["--fleet", "acme", "--json"]).await?;
    let told: serde_json::Value = serde_json::from_str(&said)?;
    ensure!(code == 0 && told["changes"] == false, "{code}: {told:#}");
    ensure!(told["next"].as_array().is_some_and(|next| next.len() == 2), "{told:#}");
    let (code, said) = seat.set_up(&["--fleet", "other"]).await?;
    ensure!(code == 1 && said.contains("keeps the fleet acme, not other"), "{code}: {said}");
    Ok(())
}
