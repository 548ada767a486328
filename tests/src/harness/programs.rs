//! Where the built programs are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use anyhow::{Context as _, Result, ensure};

/// Set to `built` by `cargo xtask test`, which builds everything at once beforehand.
const ARE_BUILT: &str = "CONVOY_TEST_PROGRAMS";

/// The four programs, from one build.
#[derive(Debug, Clone)]
pub struct Programs {
    pub coordinator: PathBuf,
    pub agent: PathBuf,
    pub convoy: PathBuf,
    pub standin: PathBuf,
}

impl Programs {
    /// Those beside the running test or program; builds them unless somebody says that this was done.
    ///
    /// # Errors
    /// They cannot be built, or are not where cargo puts them.
    pub fn locate() -> Result<Self> {
        static FOUND: OnceLock<PathBuf> = OnceLock::new();
        let directory = match FOUND.get() {
            Some(directory) => directory.clone(),
            None => {
                let directory = directory()?;
                if env::var(ARE_BUILT).is_ok_and(|value| value == "built") {
                    FOUND.get_or_init(|| directory).clone()
                } else {
                    build(&directory)?;
                    FOUND.get_or_init(|| directory).clone()
                }
            }
        };
        Self::in_directory(&directory)
    }

    /// Those of a directory, as they are.
    ///
    /// # Errors
    /// One is missing.
    pub fn in_directory(directory: &Path) -> Result<Self> {
        let program = |name: &str| -> Result<PathBuf> {
            let path = directory.join(format!("{name}{}", env::consts::EXE_SUFFIX));
            ensure!(path.is_file(), "{} is not built", path.display());
            Ok(path)
        };
        Ok(Self {
            coordinator: program("convoy-coordinator")?,
            agent: program("convoy-agent")?,
            convoy: program("convoy")?,
            standin: program("convoy-standin")?,
        })
    }
}

/// `target/debug` (or `release`), from the running program's own place in it.
fn directory() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    let directory = own.parent().context("a program lies in a directory")?;
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    Ok(directory.to_owned())
}

fn build(directory: &Path) -> Result<()> {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests lie in the project's root")?;
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--quiet", "--locked", "--bins"]);
    for package in ["convoy-coordinator", "convoy-agent", "convoy-cli", "convoy-tests"] {
        cargo.args(["-p", package]);
    }
    if directory.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.status().context("cannot run cargo to build the programs under test")?;
    ensure!(status.success(), "the programs under test do not build");
    Ok(())
}
