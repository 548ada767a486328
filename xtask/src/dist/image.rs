//! The image of the coordinator and the command: two static programs and nothing else, in OCI's layout.
//!
//! umoci writes it, so no container engine and no rights are needed. What a container is given: its configuration at
//! `/etc/convoy/coordinator.toml` and a volume at `/var/lib/convoy-coordinator`; docs/kubernetes.md.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use super::{Arch, Places, utc};
use crate::{
    cargo::{root, run},
    packages::{self, Needed},
};

const UMOCI: Needed = Needed { program: "umoci", version: "--version", package: "umoci" };
pub const PROGRAMS: [&str; 2] = ["convoy", "convoy-coordinator"];
/// Of the image's only user; no number that hosts give to people or to services of their own.
const USER: u32 = 10_001;
const DATA: &str = "var/lib/convoy-coordinator";

/// Makes the image of a processor from the static programs in `built`; its path. `doc` has bills and licences.
///
/// # Errors
/// A program is not static, or a tool is missing or failed.
pub fn make(places: &Places, arch: Arch, built: &Path, doc: &Path) -> Result<PathBuf> {
    packages::install(UMOCI)?;
    let stage = std::path::absolute(places.out.join("stage").join(format!("image-{}", arch.of_target())))?;
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let layer = layer(places, &stage, built, doc)?;
    let layout = stage.join("oci");
    let tagged = format!("{}:{}", layout.display(), places.version);
    umoci(Command::new("umoci").arg("init").arg("--layout").arg(&layout))?;
    umoci(Command::new("umoci").args(["new", "--image", &tagged]))?;
    let time = utc(places.time)?;
    let mut add = Command::new("umoci");
    add.args(["raw", "add-layer", "--image", &tagged, "--history.created", &time]);
    umoci(add.args(["--history.created_by", "cargo xtask dist"]).arg(&layer))?;
    let mut config = Command::new("umoci");
    config.args(["config", "--image", &tagged, "--no-history", "--created", &time]);
    config.args(["--os", "linux", "--architecture", arch.of_package()]);
    config.args(["--config.user", &format!("{USER}:{USER}"), "--config.stopsignal", "SIGTERM"]);
    config.args(["--config.entrypoint", "/usr/bin/convoy-coordinator"]);
    config.args(["--config.cmd", "--config", "--config.cmd", "/etc/convoy/coordinator.toml"]);
    config.args(["--config.volume", &format!("/{DATA}"), "--config.exposedports", "7843/tcp"]);
    config.args(["--config.env", "PATH=/usr/bin"]);
    // So that `convoy` in the container speaks as the first operator.
    config.args(["--config.env", &format!("CONVOY_CONTEXT=/{DATA}/operator/context.toml")]);
    for (key, value) in [
        ("title", "convoy-coordinator"),
        ("version", &places.version),
        ("licenses", "Apache-2.0"),
        ("description", "Keeps fleets of WSO2 servers on the configuration their operators declared"),
    ] {
        config.args(["--config.label", &format!("org.opencontainers.image.{key}={value}")]);
    }
    umoci(&mut config)?;
    umoci(Command::new("umoci").arg("gc").arg("--layout").arg(&layout))?;
    let path = path(places, arch)?;
    run("image", tar(places, &path, &layout).args(["--owner=0", "--group=0", "."]))?;
    Ok(path)
}

/// Where the image of a processor lies.
pub fn path(places: &Places, arch: Arch) -> Result<PathBuf> {
    let name = format!("convoy-coordinator-{}-{}.oci.tar", places.version, arch.of_target());
    Ok(std::path::absolute(places.out.join(name))?)
}

/// The only layer: programs, their licences, a user, and an empty directory of the user's own for the volume.
fn layer(places: &Places, stage: &Path, built: &Path, doc: &Path) -> Result<PathBuf> {
    let tree = stage.join("root");
    for dir in ["usr/bin", "usr/share/doc/convoy", "etc/convoy", DATA] {
        fs::create_dir_all(tree.join(dir))?;
    }
    for program in PROGRAMS {
        let from = built.join(program);
        is_static(&from)?;
        fs::copy(&from, tree.join("usr/bin").join(program))
            .with_context(|| format!("cannot take {program} from {}", built.display()))?;
        for kind in ["sbom.json", "licences.txt"] {
            let file = format!("{program}.{kind}");
            fs::copy(doc.join(&file), tree.join("usr/share/doc/convoy").join(&file)).context(file)?;
        }
    }
    fs::copy(root().join("LICENSE"), tree.join("usr/share/doc/convoy/LICENSE"))?;
    fs::write(tree.join("etc/passwd"), format!("convoy:x:{USER}:{USER}::/{DATA}:/usr/sbin/nologin\n"))?;
    fs::write(tree.join("etc/group"), format!("convoy:x:{USER}:\n"))?;
    let layer = stage.join("layer.tar");
    let mut all = tar(places, &layer, &tree);
    all.args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX"]).arg(format!("--exclude=./{DATA}"));
    run("image", all.arg("."))?;
    let mut own = Command::new("tar");
    own.current_dir(&tree).args(["--append", "--no-recursion", "--mode=0700", "--numeric-owner"]);
    own.arg(format!("--owner={USER}"))
        .arg(format!("--group={USER}"))
        .arg(format!("--mtime=@{}", places.time));
    run("image", own.arg("--file").arg(&layer).arg(format!("./{DATA}")))?;
    Ok(layer)
}

/// A tar of what is named below `within`, the same bytes each time.
fn tar(places: &Places, path: &Path, within: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.current_dir(within).args(["--create", "--sort=name", "--numeric-owner", "--format=gnu"]);
    tar.arg(format!("--mtime=@{}", places.time)).arg("--file").arg(path);
    tar
}

/// An image without a libc runs only what needs none.
fn is_static(program: &Path) -> Result<()> {
    let output = Command::new("objdump").arg("-p").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && text.contains("Program Header"),
        "objdump does not read {}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(!text.contains("NEEDED"), "{} is not static", program.display());
    Ok(())
}

/// It warns on standard error of each layer that it does not look into.
fn umoci(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().context("cannot run umoci")?;
    ensure!(output.status.success(), "umoci failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
