//! A Wine prefix of this checkout: what its programs see of the machine, and that it is not more.
//!
//! Three hazards shape the code. A batch file under Wine could delete this machine's files through drive Z: (which is
//! `/`) or through the links to the home directory that Wine makes: so there is no Z:, Wine gets a home of its own, and
//! the runner refuses a prefix that has either. Wine without WINEPREFIX makes a prefix in the home directory: so every
//! call goes through [`Prefix::command`]. Background processes of Wine hold on to their parents' output: so they are
//! started first, on nothing, and ended last, by prefix and never by name.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::LINKER;
use crate::cargo::{root, step, target};

/// Written last into a prefix: without it the prefix is half made.
const READY: &str = ".convoy-ready-2";

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

/// A Wine prefix of this checkout: a C: drive and a registry that nothing else uses.
pub struct Prefix {
    directory: PathBuf,
    home: PathBuf,
}

impl Prefix {
    pub fn own() -> Self {
        let base = target().join("wine");
        Self { directory: base.join("prefix"), home: base.join("home") }
    }

    pub fn is_ready(&self) -> bool {
        self.directory.join(READY).is_file()
    }

    /// The only way to call a program of Wine.
    pub fn command(&self, program: &str) -> Command {
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

    pub fn make(&self) -> Result<()> {
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
        // sysinfo reads command lines by a call that Wine 8 lacks, unless the system is older than Windows 8.1.
        let version = ["reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win8", "/f"];
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

    pub fn refuse_unsafe(&self) -> Result<()> {
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
    pub fn map_checkout(&self) -> Result<()> {
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
    pub fn wake(&self) -> Result<()> {
        self.refuse_unsafe()?;
        self.quietly("wine", &["wineboot"])
    }

    /// Ends this prefix's processes, and only these.
    pub fn end(&self) -> Result<()> {
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
