//! `cargo xtask windows`: builds the agent for Windows and runs its tests, and those of `fleet`, under Wine.
//!
//! Installs only when asked (`--setup`). Wine is not Windows: docs/windows.md says what this proves and what not.
//! Three hazards shape the code. A batch file under Wine could delete this machine's files through drive Z: (which is
//! `/`) or through the links to the home directory that Wine makes: so there is no Z:, Wine gets a home of its own, and
//! the runner refuses a prefix that has either. Wine without WINEPREFIX makes a prefix in the home directory: so every
//! call goes through [`Prefix::command`]. Background processes of Wine hold on to their parents' output: so they are
//! started first, on nothing, and ended last, by prefix and never by name.

use std::{
    ffi::OsString,
    fs,
    os::unix::{fs::symlink, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cargo::{cargo, root, step, target};

const TARGET: &str = "x86_64-pc-windows-gnu";
const LINKER: &str = "x86_64-w64-mingw32-gcc";
const PACKAGES: [&str; 3] = ["gcc-mingw-w64-x86-64-posix", "wine64", "wine"];
/// Written last into a prefix: without it the prefix is half made.
const READY: &str = ".convoy-ready";
/// A hanging test must not hold a whole run.
const TESTS_LIMIT: &str = "1500";

/// Rust's standard library takes its random numbers from a DLL that Wine has since version 10 only.
const RANDOM_SHIM: &str = r#"#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE out, SIZE_T size) {
    while (size > 0) {
        ULONG part = size > 0x40000000 ? 0x40000000 : (ULONG)size;
        if (!RtlGenRandom(out, part)) return FALSE;
        out += part;
        size -= part;
    }
    return TRUE;
}
"#;

/// What to do for Windows.
#[derive(Debug, Args)]
pub struct Windows {
    /// Install what is missing: the Rust target, mingw-w64 and Wine (Debian packages, needs root), a Wine prefix.
    #[arg(long)]
    setup: bool,
    /// Do nothing, successfully, where the toolchain is not on this machine.
    #[arg(long)]
    if_present: bool,
    /// Lints instead of tests: needs mingw-w64 but no Wine.
    #[arg(long)]
    check: bool,
    /// Handed to the test programs.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<String>,
}

/// What cargo calls for each Windows program.
#[derive(Debug, Args)]
pub struct WindowsRun {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    words: Vec<OsString>,
}

/// Builds and tests, or lints.
pub fn run(asked: &Windows) -> Result<ExitCode> {
    let prefix = Prefix::own();
    if asked.setup {
        set_up(&prefix)?;
    }
    let missing = missing(&prefix, asked.check);
    if !missing.is_empty() {
        println!("\n=== windows: this machine lacks {}", missing.join(", "));
        println!("    `cargo xtask windows --setup` installs it (Debian, as root); see docs/windows.md");
        return Ok(if asked.if_present { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if asked.check {
        let mut lints = windows_cargo("clippy")?;
        lints.args(["--all-targets", "-p", "convoy-agent", "-p", "convoy-fleet", "--", "-D", "warnings"]);
        return step("windows lints", &mut lints).map(|()| ExitCode::SUCCESS);
    }
    test(&prefix, &asked.words).map(|()| ExitCode::SUCCESS)
}

fn test(prefix: &Prefix, words: &[String]) -> Result<()> {
    prefix.map_checkout()?;
    let mut build = windows_cargo("test")?;
    build.args(["--no-run", "-p", "convoy-agent", "-p", "convoy-fleet"]);
    step("windows build", &mut build)?;
    prefix.wake()?;
    let mut tests = windows_cargo("test")?;
    tests.args(["--no-fail-fast", "-p", "convoy-agent", "-p", "convoy-fleet", "--"]).args(words);
    let outcome = step("windows tests under Wine", &mut limited(&tests));
    prefix.end()?;
    outcome
}

/// Becomes the Windows program, inside the prefix.
pub fn run_program(asked: &WindowsRun) -> Result<ExitCode> {
    let prefix = Prefix::own();
    prefix.refuse_unsafe()?;
    let error = prefix.command("wine").args(&asked.words).exec();
    Err(error).context("cannot run wine")
}

/// Cargo for Windows, with a target folder of its own and this program as the runner.
fn windows_cargo(task: &str) -> Result<Command> {
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let runner = format!("target.{TARGET}.runner=[{:?}, \"windows-run\"]", own.display().to_string());
    let mut command = cargo();
    command
        .args(["--config", &runner])
        .args(["--config", &format!("target.{TARGET}.linker={LINKER:?}")])
        .args([task, "--locked", "--target", TARGET, "--target-dir"])
        .arg(target().join("windows"))
        .env("CARGO_INCREMENTAL", "0")
        .stdin(Stdio::null());
    Ok(command)
}

/// The same command under `timeout`.
fn limited(command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited.arg(TESTS_LIMIT).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        limited.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    limited
}

fn missing(prefix: &Prefix, check_only: bool) -> Vec<String> {
    let mut missing = Vec::new();
    if !has_standard_library() {
        missing.push(format!("the Rust target {TARGET}"));
    }
    if !is_program(LINKER) {
        missing.push(format!("{LINKER} (package {})", PACKAGES[0]));
    }
    if !check_only && !is_program("wine") {
        missing.push("wine (packages wine64 and wine)".to_owned());
    } else if !check_only && !prefix.is_ready() {
        missing.push(format!("a Wine prefix at {}", prefix.directory.display()));
    }
    missing
}

fn has_standard_library() -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    output.is_ok_and(|output| {
        let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        fs::read_dir(directory).is_ok_and(|mut files| files.next().is_some())
    })
}

/// Looks for the program without running it: asking `wine` for its version would make a prefix.
fn is_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn set_up(prefix: &Prefix) -> Result<()> {
    if !has_standard_library() {
        step("windows target", Command::new("rustup").args(["target", "add", TARGET]))?;
    }
    if !is_program(LINKER) || !is_program("wine") {
        let apt = || {
            let mut command = Command::new("apt-get");
            command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
            command
        };
        step("package lists", apt().args(["update", "-qq"]))?;
        step("packages", apt().args(["install", "-y", "-qq", "--no-install-recommends"]).args(PACKAGES))?;
    }
    if prefix.is_ready() { Ok(()) } else { prefix.make() }
}

/// A Wine prefix of this checkout: a C: drive and a registry that nothing else uses.
struct Prefix {
    directory: PathBuf,
    home: PathBuf,
}

impl Prefix {
    fn own() -> Self {
        let base = target().join("wine");
        Self { directory: base.join("prefix"), home: base.join("home") }
    }

    fn is_ready(&self) -> bool {
        self.directory.join(READY).is_file()
    }

    /// The only way to call a program of Wine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("WINEPREFIX", &self.directory)
            .env("HOME", &self.home)
            .env("WINEDEBUG", "-all")
            // No desktop entries, no offers to download Mono and Gecko.
            .env("WINEDLLOVERRIDES", "winemenubuilder.exe=;mscoree=;mshtml=")
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY");
        command
    }

    fn quietly(&self, program: &str, words: &[&str]) -> Result<()> {
        let mut command = self.command(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Wine's tools report failures of parts that are not needed here; what counts is looked at afterwards.
        command.status().map(|_status| ()).with_context(|| format!("cannot run {program}"))
    }

    fn make(&self) -> Result<()> {
        println!("\n=== wine prefix at {}", self.directory.display());
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory).context("cannot remove a half-made prefix")?;
        }
        fs::create_dir_all(&self.directory)?;
        fs::create_dir_all(&self.home)?;
        self.quietly("wine", &["wineboot", "-i"])?;
        let system = self.directory.join("drive_c/windows/system32");
        if !system.is_dir() {
            bail!("wineboot made no prefix at {}", self.directory.display());
        }
        if !system.join("bcryptprimitives.dll").exists() {
            self.build_shim(&system)?;
        }
        // Wine 8 poses as Windows 7, on which Rust programs do not run.
        let version = ["reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f"];
        self.quietly("wine", &version)?;
        self.quietly("wineserver", &["-w"])?;
        self.cut_ways_out()?;
        fs::write(self.directory.join(READY), "")?;
        Ok(())
    }

    fn build_shim(&self, system: &Path) -> Result<()> {
        let source = self.home.join("random.c");
        fs::write(&source, RANDOM_SHIM)?;
        let mut compiler = Command::new(LINKER);
        compiler.args(["-O2", "-s", "-shared", "-o"]).arg(system.join("bcryptprimitives.dll"));
        step("random numbers for Wine", compiler.arg(source).arg("-ladvapi32"))
    }

    /// Removes every link by which a Windows program could reach the machine's own files.
    fn cut_ways_out(&self) -> Result<()> {
        for entry in fs::read_dir(self.directory.join("dosdevices"))? {
            let entry = entry?;
            if entry.file_name() != "c:" {
                fs::remove_file(entry.path())?;
            }
        }
        remove_links(&self.directory.join("drive_c/users"))
    }

    fn refuse_unsafe(&self) -> Result<()> {
        if !self.is_ready() {
            bail!("no Wine prefix; run `cargo xtask windows --setup`");
        }
        for entry in fs::read_dir(self.directory.join("dosdevices"))? {
            let path = entry?.path();
            let leads_to = fs::canonicalize(&path).unwrap_or_default();
            if leads_to == Path::new("/") || path.ends_with("z:") {
                bail!("{} leads to {}: refused", path.display(), leads_to.display());
            }
        }
        Ok(())
    }

    /// The checkout is drive W:, so that tests find their files.
    fn map_checkout(&self) -> Result<()> {
        let drive = self.directory.join("dosdevices/w:");
        if fs::read_link(&drive).is_ok_and(|to| to == root()) {
            return Ok(());
        }
        if fs::symlink_metadata(&drive).is_ok() {
            fs::remove_file(&drive)?;
        }
        symlink(root(), &drive).context("cannot map the checkout to drive W:")
    }

    /// Starts Wine's background processes on nothing, so that they hold nobody's output.
    fn wake(&self) -> Result<()> {
        self.refuse_unsafe()?;
        self.quietly("wine", &["wineboot"])
    }

    /// Ends this prefix's processes, and only these.
    fn end(&self) -> Result<()> {
        self.quietly("wineserver", &["-k"])
    }
}

fn remove_links(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            fs::remove_file(entry.path())?;
        } else if kind.is_dir() {
            remove_links(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(with: &[(&str, &str)]) -> (tempfile::TempDir, Prefix) {
        let dir = tempfile::tempdir().expect("a directory");
        let prefix = Prefix { directory: dir.path().join("prefix"), home: dir.path().join("home") };
        fs::create_dir_all(prefix.directory.join("dosdevices")).expect("a directory");
        fs::create_dir_all(prefix.directory.join("drive_c/users/root")).expect("a directory");
        for (name, to) in with {
            symlink(to, prefix.directory.join(name)).expect("a link");
        }
        fs::write(prefix.directory.join(READY), "").expect("a file");
        (dir, prefix)
    }

    #[test]
    fn a_prefix_with_a_way_out_is_refused() {
        let (_dir, safe) = prefix(&[("dosdevices/c:", "../drive_c")]);
        safe.refuse_unsafe().expect("a prefix with C: alone is safe");
        for way_out in [("dosdevices/z:", "/"), ("dosdevices/y:", "/")] {
            let (_dir, unsafe_one) = prefix(&[("dosdevices/c:", "../drive_c"), way_out]);
            unsafe_one.refuse_unsafe().expect_err("the root of the machine is reachable");
        }
    }

    #[test]
    fn all_ways_out_are_cut() {
        let links = [
            ("dosdevices/c:", "../drive_c"),
            ("dosdevices/z:", "/"),
            ("dosdevices/com1", "/dev/ttyS0"),
            ("drive_c/users/root/Documents", "/root"),
        ];
        let (_dir, prefix) = prefix(&links);
        prefix.cut_ways_out().expect("links can be removed");
        let left = |name: &str| fs::symlink_metadata(prefix.directory.join(name)).is_ok();
        assert_eq!(links.map(|(name, _)| left(name)), [true, false, false, false]);
    }

    #[test]
    fn wine_is_never_called_without_its_own_prefix_and_home() {
        let (_dir, prefix) = prefix(&[]);
        let command = prefix.command("wine");
        let set: Vec<_> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?))).collect();
        assert!(set.contains(&("WINEPREFIX", prefix.directory.as_os_str())), "{set:?}");
        assert!(set.contains(&("HOME", prefix.home.as_os_str())), "{set:?}");
    }
}
