//! Runs cargo and its helpers in the project's root, loudly: each step says what it is and how long it took.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

/// The project's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project's root")
}

/// Where built programs are: the directory above this program's own `debug` or `release`.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs one step and fails with it.
pub fn step(title: &str, command: &mut Command) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    println!("\n=== {title}: cargo {}", words.join(" "));
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot run cargo for: {title}"))?;
    let took = started.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{title} failed after {took:.1} s ({status})");
    }
    println!("=== {title}: ok, {took:.1} s");
    Ok(())
}

/// Runs a program of others, quietly unless it fails.
pub fn run(title: &str, command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status();
    let status = status.with_context(|| format!("{title}: cannot run {program}"))?;
    if !status.success() {
        bail!("{title}: {program} failed ({status})");
    }
    Ok(())
}

/// Whether `cargo <name>` is there; nothing is installed for it.
pub fn has(name: &str) -> bool {
    let status = cargo().args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether Rust's standard library for this target is installed.
pub fn has_standard_library(target: &str) -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|output| {
        let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        std::fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some())
    })
}
