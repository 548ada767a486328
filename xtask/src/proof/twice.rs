//! Two builds of the same commit, in two directories of different lengths: what `cargo xtask dist` makes has to be equal,
//! byte for byte. Otherwise nobody can hold what is published against the source.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use super::said;
use crate::{
    cargo::{root, run, step, target},
    dist,
};

const DIRECTORIES: [&str; 2] = ["one", "another-directory-with-a-longer-name"];
/// What is made, by name, with its checksum.
type Made = BTreeMap<String, String>;

/// Builds twice and compares.
///
/// # Errors
/// Something differs, or a build failed.
pub fn prove() -> Result<()> {
    let places = std::path::absolute(target().join("dist/proof/twice"))?;
    if places.exists() {
        fs::remove_dir_all(&places)?;
    }
    fs::create_dir_all(&places)?;
    let tools = dist::tools()?;
    let commit = head()?;
    let mut both = Vec::new();
    for name in DIRECTORIES {
        both.push(build(&places.join(name), (&tools, &commit))?);
    }
    let [first, second] = both.as_slice() else { unreachable!("there are two directories") };
    ensure!(!first.is_empty(), "nothing was made");
    let different: Vec<&String> =
        first.keys().chain(second.keys()).filter(|name| first.get(*name) != second.get(*name)).collect();
    ensure!(different.is_empty(), "not the same in {}: {different:?}", places.display());
    said("equal", &first.keys().map(String::as_str).collect::<Vec<_>>().join(", "));
    Ok(fs::remove_dir_all(&places)?)
}

/// Somebody may commit between the two builds.
fn head() -> Result<String> {
    let output = Command::new("git").current_dir(root()).args(["rev-parse", "HEAD"]).output()?;
    ensure!(output.status.success(), "git does not tell the commit");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Packages the commit, in a clone at `place`; what was made stays there, what was built does not.
fn build(place: &Path, (tools, commit): (&Path, &str)) -> Result<Made> {
    run("clone", Command::new("git").args(["clone", "--quiet", "--no-hardlinks"]).arg(root()).arg(place))?;
    run("clone", Command::new("git").current_dir(place).args(["checkout", "--quiet", "--detach", commit]))?;
    let out = place.join("target/dist");
    fs::create_dir_all(&out)?;
    symlink(tools, out.join("tools"))?;
    let mut make = Command::new("cargo");
    make.current_dir(place).env_remove("CARGO_TARGET_DIR").args(["xtask", "dist"]);
    step(&format!("packages in {}", place.display()), &mut make)?;
    let sums = fs::read_to_string(out.join("SHA256SUMS")).context("no checksums")?;
    for built in ["target/debug", "target/dist/build", "target/dist/stage"] {
        let built: PathBuf = place.join(built);
        if built.exists() {
            fs::remove_dir_all(built)?;
        }
    }
    Ok(sums
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(sum, name)| (name.to_owned(), sum.to_owned()))
        .collect())
}
