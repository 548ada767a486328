//! Disks that refuse: whatever happens the old files stay in force, nothing is left beside them, and the refusal names
//! the reason. What needs root to be brought about is said when it cannot be.
#![allow(clippy::print_stdout, reason = "helpers of tests speak like tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use fleet::bundle::Applied;

use crate::{
    disk::{Disk, Files},
    rig::{CONFIG, LOGGING},
};

const DEEP: &str = "repository/conf/convoy/deep.properties";

fn files(stamp: &str) -> Files {
    Files::from([
        (CONFIG.to_owned(), format!("[server]\nhostname = \"{stamp}\"\n").into_bytes()),
        (LOGGING.to_owned(), format!("stamp = {stamp}\n").into_bytes()),
        (DEEP.to_owned(), stamp.repeat(4_000).into_bytes()),
    ])
}

/// A home in which the files of `one` are in force, and an agent that is down.
async fn with_one() -> Result<Disk> {
    let mut disk = Disk::open().await?;
    let target = disk.desire(&files("one"))?;
    disk.reach(target).await?;
    disk.agent().kill().await?;
    Ok(disk)
}

/// The agent that runs refuses `target` with all of `words`, and `one` stays in force without anything beside it.
async fn refuses(disk: &mut Disk, target: Applied, words: &[&str]) -> Result<()> {
    let said = disk.refusal(target).await?;
    println!("{said}");
    for word in words {
        ensure!(said.contains(word), "{word:?} is not in {said:?}");
    }
    disk.holds_exactly(&files("one"), &BTreeSet::new())?;
    let left = disk.leftovers();
    ensure!(left.is_empty(), "left beside the files: {left:?}");
    disk.agent().kill().await
}

/// Without a fault everything goes on.
async fn three_is_reached(disk: &mut Disk) -> Result<()> {
    let target = disk.desire(&files("three"))?;
    disk.reach(target).await?;
    disk.holds_exactly(&files("three"), &BTreeSet::new())
}

#[tokio::test]
async fn a_failing_fsync_or_any_other_failing_step_leaves_the_old_files() -> Result<()> {
    let mut disk = with_one().await?;
    // fsync of a new file, of its directory before the renames and after them; and every other kind of step.
    let steps = [
        ("sync file:1", "cannot sync the new"),
        ("sync file:3", "cannot sync the new"),
        ("sync directory:1", "cannot sync directory"),
        ("sync directory:2", "cannot sync directory"),
        ("sync directory:3", "cannot sync directory"),
        ("sync directory:4", "cannot sync directory"),
        ("create:1", "cannot create"),
        ("write:2", "cannot write beside"),
        ("set mode:3", "cannot set mode"),
        ("link aside:2", "cannot link aside"),
        ("rename:1", "cannot rename"),
        ("rename:3", "cannot rename"),
    ];
    for (step, said) in steps {
        let target = disk.desire(&files("two"))?;
        disk.agent().start_with(&[("CONVOY_STEP", &format!("fail:{step}"))])?;
        refuses(&mut disk, target, &["io-failed", said, "as a test wants"]).await.context(step)?;
    }
    three_is_reached(&mut disk).await
}

#[tokio::test]
async fn an_own_file_that_cannot_be_written_promises_nothing_that_is_not_so() -> Result<()> {
    let mut disk = with_one().await?;
    // The journal's writes, the intent among them, and the record of the switch.
    for count in 1..=5 {
        let (stamp, before) = (format!("try{count}"), disk.memory()?.written);
        let target = disk.desire(&files(&stamp))?;
        disk.agent().start_with(&[("CONVOY_STEP", &format!("fail:own sync file:{count}"))])?;
        let memory = disk
            .until("the attempt to be over", |memory| {
                let over = memory.attempted.as_ref().is_some_and(|it| it.target == target && it.done);
                over && memory.switching.is_none()
            })
            .await?;
        let failure = memory.attempted.and_then(|attempt| attempt.failure);
        println!("{count}: {failure:?}");
        if failure.is_none() {
            disk.holds_exactly(&files(&stamp), &BTreeSet::new())?;
        } else {
            ensure!(memory.written == before, "refused, and yet in force");
        }
        disk.agent().kill().await?;
    }
    three_is_reached(&mut disk).await
}

#[tokio::test]
async fn a_file_that_may_not_grow_leaves_the_old_files() -> Result<()> {
    let mut disk = with_one().await?;
    let mut large = files("two");
    large.insert(DEEP.to_owned(), vec![b'x'; 2_000_000]);
    let target = disk.desire(&large)?;
    disk.agent().start_limited(1_000_000)?;
    refuses(&mut disk, target, &["io-failed", DEEP, "File too large"]).await?;
    three_is_reached(&mut disk).await
}

#[tokio::test]
async fn a_full_disk_leaves_the_old_files() -> Result<()> {
    let mut disk = with_one().await?;
    let target = disk.home().join(DEEP);
    let directory = target.parent().context("a directory")?.to_owned();
    let content = fs::read(&target)?;
    let Some(mounted) = Mounted::small(&directory)? else { return Ok(()) };
    fs::write(&target, content)?;
    mode(&target, 0o600)?;
    // Room is checked at the home; here it is a part of it that is full, as in a race with whatever fills a disk.
    let filler = directory.join("filler");
    let filled = fs::write(&filler, vec![0_u8; 1_000_000]).is_err();
    ensure!(filled, "the small file system is not full");
    let applied = disk.desire(&files("two"))?;
    disk.agent().start()?;
    refuses(&mut disk, applied, &["disk-full", DEEP, "No space left"]).await?;
    fs::remove_file(filler)?;
    three_is_reached(&mut disk).await?;
    disk.agent().kill().await?;
    drop(mounted);
    Ok(())
}

#[tokio::test]
async fn a_read_only_directory_leaves_the_old_files() -> Result<()> {
    let mut disk = with_one().await?;
    let directory = disk.home().join("repository/conf/convoy");
    let read_only = ReadOnly::make(&directory)?;
    let applied = disk.desire(&files("two"))?;
    disk.agent().start()?;
    refuses(&mut disk, applied, &["io-failed", DEEP]).await?;
    drop(read_only);
    three_is_reached(&mut disk).await
}

#[tokio::test]
async fn a_target_that_is_mounted_by_itself_is_refused() -> Result<()> {
    let mut disk = with_one().await?;
    let target = disk.home().join(DEEP);
    let elsewhere = disk.home().join("elsewhere");
    fs::copy(&target, &elsewhere)?;
    let Some(mounted) = Mounted::bind(&elsewhere, &target)? else { return Ok(()) };
    let applied = disk.desire(&files("two"))?;
    disk.agent().start()?;
    refuses(&mut disk, applied, &["target-unsafe", DEEP, "mounted by itself"]).await?;
    drop(mounted);
    three_is_reached(&mut disk).await
}

#[tokio::test]
async fn symlinks_a_missing_script_and_another_owner_are_refused() -> Result<()> {
    let mut disk = with_one().await?;
    let (target, aside) = (disk.home().join(DEEP), disk.home().join("aside"));
    let directory = target.parent().context("a directory")?.to_owned();
    for path in [&target, &directory] {
        fs::rename(path, &aside)?;
        std::os::unix::fs::symlink(&aside, path)?;
        let applied = disk.desire(&files("two"))?;
        disk.agent().start()?;
        refuses(&mut disk, applied, &["target-unsafe", DEEP, "symlink"]).await?;
        fs::remove_file(path)?;
        fs::rename(&aside, path)?;
    }
    let script = disk.rig.pack.script();
    fs::rename(&script, &aside)?;
    let applied = disk.desire(&files("two"))?;
    disk.agent().start()?;
    refuses(&mut disk, applied, &["script-missing"]).await?;
    fs::rename(&aside, &script)?;
    if is_root() {
        std::os::unix::fs::chown(disk.home(), Some(12_345), None)?;
        let applied = disk.desire(&files("two"))?;
        disk.agent().start()?;
        refuses(&mut disk, applied, &["wrong-owner", "12345"]).await?;
        std::os::unix::fs::chown(disk.home(), Some(0), None)?;
    } else {
        println!("NOT EXERCISED: giving the home to another user needs root");
    }
    three_is_reached(&mut disk).await
}

#[tokio::test]
async fn a_vanished_home_is_refused_and_said_and_the_old_files_come_back_with_it() -> Result<()> {
    let mut disk = with_one().await?;
    let (home, away) = (disk.home(), disk.home().with_extension("away"));
    let target = disk.desire(&files("two"))?;
    fs::rename(&home, &away)?;
    disk.agent().start()?;
    let said = disk.refusal(target).await?;
    println!("{said}");
    ensure!(said.contains("pack-missing") && said.contains(&home.display().to_string()), "{said}");
    // The files in force are told missing too, once.
    disk.until("the loss to be told", |memory| {
        memory.notices.iter().any(|notice| notice.kind.as_str() == "files-unseen")
    })
    .await?;
    disk.agent().kill().await?;
    fs::rename(&away, &home)?;
    disk.holds_exactly(&files("one"), &BTreeSet::new())?;
    three_is_reached(&mut disk).await
}

/// A directory that nobody, root included, can write into.
struct ReadOnly {
    path: PathBuf,
    mounted: Option<Mounted>,
}

impl ReadOnly {
    fn make(path: &Path) -> Result<Self> {
        let mounted = if is_root() { Mounted::read_only(path)? } else { None };
        if mounted.is_none() {
            ensure!(!is_root(), "root writes everywhere, and mounting is not allowed here");
            mode(path, 0o500)?;
        }
        Ok(Self { path: path.to_owned(), mounted })
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if self.mounted.is_none() {
            mode(&self.path, 0o755).ok();
        }
    }
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))?)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Something mounted for a test, undone with it.
struct Mounted(PathBuf);

impl Mounted {
    /// A file system with room for nothing but what is there.
    fn small(path: &Path) -> Result<Option<Self>> {
        Self::mount(&["-t", "tmpfs", "-o", "size=64k,mode=755", "tmpfs"], path)
    }

    fn bind(from: &Path, to: &Path) -> Result<Option<Self>> {
        Self::mount(&["--bind", &from.display().to_string()], to)
    }

    fn read_only(path: &Path) -> Result<Option<Self>> {
        let Some(mounted) = Self::bind(path, path)? else { return Ok(None) };
        let done = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(path).status()?;
        ensure!(done.success(), "cannot make {} read-only", path.display());
        Ok(Some(mounted))
    }

    fn mount(words: &[&str], path: &Path) -> Result<Option<Self>> {
        if !is_root() {
            println!("NOT EXERCISED: mounting {} needs root", path.display());
            return Ok(None);
        }
        let done = Command::new("mount").args(words).arg(path).output();
        match done {
            Ok(output) if output.status.success() => Ok(Some(Self(path.to_owned()))),
            Ok(output) => {
                println!("NOT EXERCISED: {}", String::from_utf8_lossy(&output.stderr).trim());
                Ok(None)
            }
            Err(error) => {
                println!("NOT EXERCISED: no mount here: {error}");
                Ok(None)
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}
