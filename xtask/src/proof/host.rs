//! Throw-away hosts: a Debian root each, entered as it lies or booted with systemd as its first process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::cargo::run;

const BOOT_TIME: Duration = Duration::from_secs(120);

/// The files of a host.
pub struct Root {
    dir: PathBuf,
}

/// A host that runs; it ends with this.
pub struct Host {
    dir: PathBuf,
    nspawn: Child,
    /// Its first process, as seen from here.
    leader: u32,
}

impl Root {
    /// A fresh copy of a root with these packages; the original is made once and kept.
    pub fn make(places: &Path, name: &str, suite: &str, packages: &str) -> Result<Self> {
        let kept = places.join(format!("{name}.original"));
        if !kept.join("etc/debian_version").exists() {
            println!("=== a root of {suite} for `{name}`");
            let mut make = Command::new("mmdebstrap");
            make.args(["--quiet", "--variant=minbase"]);
            if !packages.is_empty() {
                make.arg(format!("--include={packages}"));
            }
            run("mmdebstrap", make.arg(suite).arg(&kept))?;
        }
        let dir = places.join(name);
        if dir.exists() {
            fs::remove_dir_all(&dir)?;
        }
        run("copy", Command::new("cp").arg("--archive").arg(&kept).arg(&dir))?;
        Ok(Self { dir })
    }

    /// Where a path of the host is here.
    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.join(below)
    }

    /// Copies a file into a directory of the host.
    pub fn bring(&self, file: &Path, directory: &str) -> Result<()> {
        bring(&self.dir, file, directory)
    }

    /// Runs a script on the host without starting it; what it printed.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut command = nspawn(&self.dir);
        command.args(["--pipe", "sh", "-ec", script]);
        spoken(script, &mut command)
    }

    /// Starts the host.
    pub fn boot(&self) -> Result<Host> {
        let console = File::create(self.dir.with_extension("console"))?;
        let mut command = nspawn(&self.dir);
        command.arg("--boot").stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
        let mut host = Host { dir: self.dir.clone(), nspawn: command.spawn()?, leader: 0 };
        let begun = Instant::now();
        while begun.elapsed() < BOOT_TIME {
            ensure!(host.nspawn.try_wait()?.is_none(), "the host ended while it started");
            host.leader = first_child(host.nspawn.id()).unwrap_or_default();
            // `degraded` is up as well: what fails there is not ours.
            let up = "systemctl is-system-running | grep --quiet -e running -e degraded";
            if host.leader != 0 && host.sh(up).is_ok() {
                host.sh("ip link set lo up")?;
                return Ok(host);
            }
            pause();
        }
        bail!(
            "the host is not up after {BOOT_TIME:?}; its console is {}",
            self.dir.with_extension("console").display()
        )
    }
}

impl Host {
    /// Runs a script on the host as root; what it printed, without the last newline.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.leader.to_string(),
            "--all",
            "env",
            "HOME=/root",
            "sh",
            "-ec",
            script,
        ]);
        spoken(script, &mut command)
    }

    /// Runs a script again and again until it succeeds.
    pub fn until(&self, what: &str, limit: Duration, script: &str) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.sh(script) {
                Ok(_) => return Ok(()),
                Err(error) if limit < begun.elapsed() => {
                    return Err(error.context(format!("{what}: not within {limit:?}")));
                }
                Err(_) => pause(),
            }
        }
    }

    /// Writes a file of the host.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.dir.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Copies a file into a directory of the host.
    pub fn bring(&self, file: &Path, directory: &str) -> Result<()> {
        bring(&self.dir, file, directory)
    }

    /// Shuts the host down as its administrator would; how long that took.
    pub fn power_off(mut self, limit: Duration) -> Result<Duration> {
        self.sh("systemctl poweroff")?;
        let begun = Instant::now();
        while begun.elapsed() < limit {
            if self.nspawn.try_wait()?.is_some() {
                return Ok(begun.elapsed());
            }
            pause();
        }
        bail!("the host is still there after {limit:?}")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // The first process takes everything of the host with it.
        let leader = self.leader.to_string();
        if self.nspawn.try_wait().is_ok_and(|ended| ended.is_none()) && self.leader != 0 {
            drop(Command::new("kill").args(["-KILL", &leader]).status());
        }
        drop(self.nspawn.wait());
    }
}

/// With a network of its own and without a place in this machine's own systemd.
fn nspawn(dir: &Path) -> Command {
    let mut command = Command::new("systemd-nspawn");
    command.args(["--quiet", "--register=no", "--keep-unit", "--private-network"]);
    // A real host forbids its services what their units forbid; nspawn forbids more.
    command.arg("--system-call-filter=fanotify_init fanotify_mark");
    command.arg("--directory").arg(dir);
    command
}

fn spoken(script: &str, command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("cannot enter the host")?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        bail!("on the host, this failed ({}):\n{script}\n{text}\n{told}", output.status);
    }
    Ok(text)
}

fn bring(root: &Path, file: &Path, directory: &str) -> Result<()> {
    let to = root.join(directory.trim_start_matches('/'));
    fs::create_dir_all(&to)?;
    let name = file.file_name().context("a file has a name")?;
    fs::copy(file, to.join(name)).with_context(|| format!("cannot bring {}", file.display()))?;
    Ok(())
}

/// Between two looks at a state that is waited for.
#[expect(clippy::disallowed_methods, reason = "nothing else runs here, and every wait has its limit")]
fn pause() {
    thread::sleep(Duration::from_millis(200));
}

fn first_child(pid: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
