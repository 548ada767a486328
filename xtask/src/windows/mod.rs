//! `cargo xtask windows`: builds the agent for Windows and runs its tests, and those of `fleet` and `carbon`, under
//! Wine; then a whole path with the built program. Installs only when asked (`--setup`). Wine is not Windows:
//! docs/windows.md says what this proves and what not.

mod outcome;
mod prefix;

use std::{
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::{outcome::Outcome, prefix::Prefix};
use crate::cargo::{cargo, step, target};

const TARGET: &str = "x86_64-pc-windows-gnu";
const LINKER: &str = "x86_64-w64-mingw32-gcc";
const APT: [&str; 3] = ["gcc-mingw-w64-x86-64-posix", "wine64", "wine"];
const PACKAGES: [&str; 8] =
    ["-p", "convoy-agent", "-p", "convoy-proto", "-p", "convoy-fleet", "-p", "convoy-carbon"];
/// Seconds after which a step counts as hanging: a run must end.
const BUILD_LIMIT: u32 = 1_500;
const TESTS_LIMIT: u32 = 600;
const PATH_LIMIT: u32 = 600;

/// What to do for Windows.
#[derive(Debug, Default, Args)]
pub struct Windows {
    /// Install what is missing: the Rust target, mingw-w64 and Wine (Debian packages, needs root).
    #[arg(long)]
    setup: bool,
    /// Do nothing, successfully, where the toolchain is not on this machine.
    #[arg(long)]
    if_present: bool,
    /// Lints instead of tests: needs mingw-w64 but no Wine.
    #[arg(long)]
    check: bool,
    /// Only the whole path with the built agent, not the tests of the crates.
    #[arg(long)]
    path: bool,
    /// Handed to the test programs of the crates.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What cargo calls for each Windows program.
#[derive(Debug, Args)]
pub struct WindowsRun {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<OsString>,
}

/// What `cargo xtask test` asks for: lints and all tests, each as far as the machine can.
pub fn where_present() -> Result<()> {
    let lints = Windows { if_present: true, check: true, ..Windows::default() };
    run(&lints)?;
    if missing(lints.check).is_empty() {
        run(&Windows { if_present: true, ..Windows::default() })?;
    }
    Ok(())
}

/// Builds and tests, or lints.
pub fn run(asked: &Windows) -> Result<ExitCode> {
    if asked.setup {
        set_up()?;
    }
    let missing = missing(asked.check);
    if !missing.is_empty() {
        println!("\n=== windows: not checked; this machine lacks {}", missing.join(", "));
        println!("    `cargo xtask windows --setup` installs it (Debian, as root); see docs/windows.md");
        return Ok(if asked.if_present { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if asked.check {
        let mut lints = windows_cargo("clippy")?;
        lints.arg("--all-targets").args(PACKAGES).args(["--", "-D", "warnings"]);
        return step("windows lints", &mut lints).map(|()| ExitCode::SUCCESS);
    }
    let prefix = Prefix::own();
    if !prefix.is_ready() {
        prefix.make()?;
    }
    prefix.map_checkout()?;
    let mut build = windows_cargo("build")?;
    build.args(["--lib", "--bins", "--examples", "--tests"]).args(PACKAGES);
    step("windows build", &mut limited(&build, BUILD_LIMIT))?;
    prefix.wake()?;
    let outcome = test(asked);
    prefix.end()?;
    outcome.map(|()| ExitCode::SUCCESS)
}

fn test(asked: &Windows) -> Result<()> {
    if !asked.path {
        let mut tests = windows_cargo("test")?;
        tests
            .args(["--no-fail-fast", "--lib", "--bins", "--tests"])
            .args(PACKAGES)
            .arg("--")
            .args(&asked.words);
        logged("windows tests under Wine", &limited(&tests, TESTS_LIMIT))?;
    }
    let mut path = cargo();
    // As the whole workspace's tests are built: nothing has to be built again after them.
    path.args(["test", "--workspace", "--locked", "--test", "agent", "windows::"])
        .env("CONVOY_WINDOWS_PROGRAMS", programs())
        .env("CONVOY_WINDOWS_RUNNER", own_program()?);
    logged("windows whole path under Wine", &limited(&path, PATH_LIMIT))
}

/// Runs tests with their output in a file, which no process that outlives them can hold up, and sums it up in a line.
fn logged(title: &str, command: &Command) -> Result<()> {
    let path = target().join(TARGET).join(title.replace(' ', "-")).with_extension("log");
    println!("\n=== {title}: output in {}", path.display());
    let output = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let started = Instant::now();
    let mut command = again(command);
    let status = command.stdout(output.try_clone()?).stderr(output).stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("cannot run: {title}"))?;
    let text = fs::read_to_string(&path)?;
    let outcome = Outcome::of(&text);
    let took = started.elapsed().as_secs_f64();
    if !status.success() || !outcome.is_whole() {
        println!("{text}");
        bail!("{title} failed after {took:.1} s ({status}): {outcome}");
    }
    println!("=== {title}: ok, {outcome}, {took:.1} s");
    Ok(())
}

/// Becomes the Windows program, inside the prefix.
pub fn run_program(asked: &WindowsRun) -> Result<ExitCode> {
    let prefix = Prefix::own();
    prefix.refuse_unsafe()?;
    let error = prefix.command("wine").args(&asked.words).exec();
    Err(error).context("cannot run wine")
}

fn own_program() -> Result<PathBuf> {
    let path = std::env::current_exe().context("cannot tell where this program is")?;
    // Linux says so of a program that a build has replaced since it was started; the new one does as well.
    let name = path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    Ok(name.map_or_else(|| path.clone(), PathBuf::from))
}

fn programs() -> PathBuf {
    target().join(TARGET).join("debug")
}

/// Cargo for Windows, with this program as the runner. What runs here, macros and build scripts, is shared with other
/// builds; debug information is left out, since it would be most of the disk.
fn windows_cargo(task: &str) -> Result<Command> {
    let runner =
        format!("target.{TARGET}.runner=[{:?}, \"windows-run\"]", own_program()?.display().to_string());
    let mut command = cargo();
    command
        .args(["--config", &runner])
        .args(["--config", &format!("target.{TARGET}.linker={LINKER:?}")])
        .args([task, "--locked", "--target", TARGET])
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        // Where the tests find their snapshots; compiled into them.
        .env("INSTA_WORKSPACE_ROOT", r"W:\")
        .env("INSTA_UPDATE", "no")
        .stdin(Stdio::null());
    Ok(command)
}

/// The same command under `timeout`.
fn limited(command: &Command, seconds: u32) -> Command {
    let mut limited = Command::new("timeout");
    limited.args(["--kill-after=30", &seconds.to_string()]);
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    with_surroundings(limited, command)
}

fn again(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    with_surroundings(same, command)
}

fn with_surroundings(mut to: Command, from: &Command) -> Command {
    for (name, value) in from.get_envs() {
        to.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = from.get_current_dir() {
        to.current_dir(directory);
    }
    to
}

fn missing(check_only: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if !crate::cargo::has_standard_library(TARGET) {
        missing.push(format!("the Rust target {TARGET}"));
    }
    if !is_program(LINKER) {
        missing.push(format!("{LINKER} (package {})", APT[0]));
    }
    if !check_only && !is_program("wine") {
        missing.push("wine (packages wine64 and wine)".to_owned());
    }
    missing
}

/// Looks for the program without running it: asking `wine` for its version would make a prefix.
fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn set_up() -> Result<()> {
    if !crate::cargo::has_standard_library(TARGET) {
        step("windows target", Command::new("rustup").args(["target", "add", TARGET]))?;
    }
    if !is_program(LINKER) || !is_program("wine") {
        let apt = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
            command
        };
        step("package lists", apt().args(["update", "-qq"]))?;
        step("packages", apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(APT))?;
    }
    Ok(())
}
