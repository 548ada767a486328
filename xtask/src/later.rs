//! The long form's second run of all tests: on a day far ahead. A test that depends on the day it was written on fails
//! there long before it fails for whoever checks the project out later.

use std::{
    env::consts::ARCH,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// How far ahead: past every certificate and token of a year's life.
const AHEAD: &str = "+400d";
/// Debian's name of the program and of its package.
const FAKETIME: &str = "faketime";

/// Makes `runner` start every test program 400 days ahead. Build before: compilers stand still under another clock.
///
/// Only the time of day is moved. Monotonic clocks stay, because runtimes wait by them.
pub fn move_ahead(runner: &mut Command) -> Result<()> {
    if !is_installed() {
        install()?;
    }
    let target = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", ARCH.to_uppercase());
    runner.env(target, format!("{FAKETIME} -f {AHEAD}")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    // Files keep the time that the kernel gave them; a program compares them with its own clock.
    runner.env("NO_FAKE_STAT", "1");
    Ok(())
}

fn is_installed() -> bool {
    let tried = Command::new(FAKETIME).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn install() -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("the long form needs the program `{FAKETIME}`; install it with your package manager");
    }
    if !is_root() {
        bail!("the long form needs the program `{FAKETIME}`; run `apt-get install {FAKETIME}` as root");
    }
    for words in [["update", "-qq"].as_slice(), &["install", "-y", "-qq", FAKETIME]] {
        println!("=== apt-get {}", words.join(" "));
        let status = Command::new("apt-get").args(words).status().context("cannot run apt-get")?;
        if !status.success() {
            bail!("apt-get {} failed ({status}); install `{FAKETIME}` by hand", words.join(" "));
        }
    }
    Ok(())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
