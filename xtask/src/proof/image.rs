//! The image as a container platform would run it: unpacked, as its own user, on a root that cannot be written.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::said;
use crate::{
    cargo::{run, target},
    dist,
};

const STARTS_WITHIN: Duration = Duration::from_secs(30);
const STOPS_WITHIN: Duration = Duration::from_secs(15);
const DATA: &str = "/var/lib/convoy-coordinator";
const CONFIG: &str =
    "fleet = \"acme\"\ndata_dir = \"/var/lib/convoy-coordinator\"\nlisten = \"127.0.0.1:0\"\n";

/// What the image says of how it is run.
struct Unpacked {
    root: PathBuf,
    arguments: Vec<String>,
    environment: Vec<String>,
    user: u32,
}

/// A coordinator that runs; it ends with this.
struct Container(Child);

/// Makes the image, unless the one in `target/dist` is to be taken, and runs it.
///
/// # Errors
/// What does not hold.
pub fn prove(made: bool) -> Result<()> {
    let image = if made { dist::made_image()? } else { dist::make_image()? };
    let places = std::path::absolute(target().join("dist/proof/image"))?;
    if places.exists() {
        fs::remove_dir_all(&places)?;
    }
    let unpacked = unpack(&image, &places)?;
    said("image", &format!("user {}, {}", unpacked.user, unpacked.arguments.join(" ")));
    let (data, etc) = (places.join("data"), places.join("etc"));
    fs::create_dir_all(&etc)?;
    fs::write(etc.join("coordinator.toml"), CONFIG)?;
    fs::create_dir_all(&data)?;
    // As a platform gives a volume to the image's user.
    chown(&data, Some(unpacked.user), Some(unpacked.user))?;
    let fleet = data.join("fleet");
    fs::create_dir_all(fleet.join("config"))?;
    fs::write(fleet.join("fleet.toml"), include_str!("fleet.toml"))?;
    fs::write(fleet.join("config/common.toml"), include_str!("common.toml"))?;

    let first = start(&unpacked, &data, &etc)?;
    let applied = first.command(&unpacked, &["apply", &format!("{DATA}/fleet"), "--yes"])?;
    let refused = first.enter(&unpacked, &["/usr/bin/convoy", "man", "--out", "/usr/share"])?;
    ensure!(
        !refused.status.success(),
        "the root can be written: {}",
        String::from_utf8_lossy(&refused.stdout)
    );
    first.stop()?;
    said("first start", applied.lines().next().unwrap_or_default());

    let second = start(&unpacked, &data, &etc)?;
    let status = second.command(&unpacked, &["status"])?;
    ensure!(status.contains("is-1"), "the second start does not know the node: {status}");
    second.stop()?;
    said("second start", "the volume is taken up again");
    Ok(())
}

fn unpack(image: &Path, places: &Path) -> Result<Unpacked> {
    let (layout, bundle) = (places.join("oci"), places.join("bundle"));
    fs::create_dir_all(&layout)?;
    run(
        "image",
        Command::new("tar").arg("--extract").arg("--file").arg(image).arg("--directory").arg(&layout),
    )?;
    let index: Value = serde_json::from_str(&fs::read_to_string(layout.join("index.json"))?)?;
    let tag = index.pointer("/manifests/0/annotations/org.opencontainers.image.ref.name");
    let tag = tag.and_then(Value::as_str).context("the image has no name")?;
    let tagged = format!("{}:{tag}", layout.display());
    run("image", Command::new("umoci").args(["unpack", "--image", &tagged]).arg(&bundle))?;
    let config: Value = serde_json::from_str(&fs::read_to_string(bundle.join("config.json"))?)?;
    let list = |pointer: &str| -> Result<Vec<String>> {
        let value = config.pointer(pointer).cloned().with_context(|| format!("no {pointer} in the image"))?;
        Ok(serde_json::from_value(value)?)
    };
    let user = config.pointer("/process/user/uid").and_then(Value::as_u64).context("no user")?;
    ensure!(user != 0, "the image runs as root");
    Ok(Unpacked {
        root: bundle.join("rootfs"),
        arguments: list("/process/args")?,
        environment: list("/process/env")?,
        user: user.try_into()?,
    })
}

/// In a file system of its own: the image read-only, volume and configuration mounted into it.
fn start(unpacked: &Unpacked, data: &Path, etc: &Path) -> Result<Container> {
    let script = "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" \
        && mount --bind \"$2\" \"$1$5\" && mount --bind \"$3\" \"$1/etc/convoy\" \
        && mount -o remount,bind,ro \"$1/etc/convoy\" && root=$1 && owner=$4 && shift 5 \
        && exec chroot --userspec=\"$owner:$owner\" \"$root\" \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script, "sh"]).args([&unpacked.root, &data.into(), &etc.into()]);
    command.arg(unpacked.user.to_string()).arg(DATA).args(&unpacked.arguments);
    unpacked.environment(&mut command);
    let log = fs::File::create(data.with_extension("log"))?;
    let address = data.join("address");
    drop(fs::remove_file(&address));
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    let mut container = Container(child.context("cannot run unshare")?);
    let begun = Instant::now();
    while !address.exists() {
        if let Some(status) = container.0.try_wait()? {
            bail!("it ended ({status}): {}", fs::read_to_string(data.with_extension("log"))?);
        }
        ensure!(begun.elapsed() < STARTS_WITHIN, "it does not listen after {STARTS_WITHIN:?}");
        pause();
    }
    Ok(container)
}

impl Unpacked {
    fn environment(&self, command: &mut Command) {
        // `sh` and the tools are the machine's; what the image says is what its own programs get.
        let pairs = self.environment.iter().filter_map(|pair| pair.split_once('='));
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.envs(pairs.filter(|(key, _)| *key != "PATH"));
    }
}

impl Container {
    /// Runs a program of the image beside its first process.
    fn enter(&self, unpacked: &Unpacked, words: &[&str]) -> Result<std::process::Output> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.0.id().to_string(), "--mount", "chroot"]);
        command.arg(format!("--userspec={0}:{0}", unpacked.user)).arg(&unpacked.root).args(words);
        unpacked.environment(&mut command);
        command.stdin(Stdio::null()).output().context("cannot run nsenter")
    }

    /// Runs `convoy` in the container; what it prints.
    fn command(&self, unpacked: &Unpacked, words: &[&str]) -> Result<String> {
        let all: Vec<_> = ["/usr/bin/convoy"].iter().chain(words).copied().collect();
        let output = self.enter(unpacked, &all)?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "convoy {} failed ({}): {out}{err}", words.join(" "), output.status);
        Ok(out.into_owned())
    }

    /// As a platform stops it.
    fn stop(mut self) -> Result<()> {
        run("stop", Command::new("kill").args(["-TERM", &self.0.id().to_string()]))?;
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "it ended with {status}");
                return Ok(());
            }
            ensure!(begun.elapsed() < STOPS_WITHIN, "it is still there after {STOPS_WITHIN:?}");
            pause();
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Between two looks at a state that is waited for.
#[expect(clippy::disallowed_methods, reason = "nothing else runs here, and every wait has its limit")]
fn pause() {
    thread::sleep(Duration::from_millis(100));
}
