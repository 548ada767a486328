//! `cargo xtask macos`: type-checks what runs on an operator's or a server's Mac. Nothing is linked and nothing runs;
//! docs/macos.md says what that leaves open.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, has_standard_library, step, target};

const TARGET: &str = "aarch64-apple-darwin";
const PACKAGES: [&str; 4] = ["convoy-carbon", "convoy-fleet", "convoy-agent", "convoy-cli"];

/// `ring` compiles C in its build script, and Apple's compiler is not here. `cargo check` links nothing, so empty
/// objects and archives do: the Rust code is checked in full, the C code not at all.
const STAND_IN: &str = r#"#!/bin/sh
# Makes the output that a C compiler or an archiver was asked for, empty.
out=
while [ $# -gt 0 ]; do
    case "$1" in
        -o) out=$2; shift ;;
        *.a) out=${out:-$1} ;;
    esac
    shift
done
[ -z "$out" ] || : > "$out"
"#;

/// What to do for macOS.
#[derive(Debug, Default, Args)]
pub struct MacOs {
    /// Install the Rust target if it is missing.
    #[arg(long)]
    setup: bool,
    /// Do nothing, successfully, where the Rust target is not on this machine.
    #[arg(long)]
    if_present: bool,
}

/// What `cargo xtask test` asks for.
pub fn where_present() -> Result<()> {
    run(&MacOs { if_present: true, ..MacOs::default() }).map(drop)
}

/// Type-checks.
pub fn run(asked: &MacOs) -> Result<ExitCode> {
    if asked.setup && !has_standard_library(TARGET) {
        step("macos target", Command::new("rustup").args(["target", "add", TARGET]))?;
    }
    if !has_standard_library(TARGET) {
        println!("\n=== macos: not checked; this machine lacks the Rust target {TARGET}");
        println!("    `cargo xtask macos --setup` installs it; see docs/macos.md");
        return Ok(if asked.if_present { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let folder = target().join(TARGET);
    let stand_in = stand_in(&folder)?;
    let mut check = cargo();
    check.args(["check", "--locked", "--lib", "--bins", "--target", TARGET]);
    for package in PACKAGES {
        check.args(["-p", package]);
    }
    check
        .env("CC_aarch64_apple_darwin", &stand_in)
        .env("AR_aarch64_apple_darwin", &stand_in)
        // Otherwise the build script asks a tool of Apple's where it is.
        .env("SDKROOT", &folder)
        .env("CARGO_INCREMENTAL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    step("macos type check", &mut check).map(|()| ExitCode::SUCCESS)
}

fn stand_in(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let path = folder.join("no-compiler.sh");
    fs::write(&path, STAND_IN)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
