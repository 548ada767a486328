//! Ways in which editors, scripts and the kernel make watching files hard, against the real watcher: every edit is undone,
//! whatever was heard of it.

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    disk::{Disk, Files},
    rig::CONFIG,
};

const MANAGED: &str = "repository/conf/convoy/watched.properties";

/// A home whose files are in force, watched by an agent that runs.
async fn watched() -> Result<(Disk, Files, PathBuf)> {
    let mut disk = Disk::open().await?;
    let files = Files::from([
        (CONFIG.to_owned(), b"[server]\nhostname = \"a\"\n".to_vec()),
        (MANAGED.to_owned(), b"declared = 1\n".to_vec()),
    ]);
    let target = disk.desire(&files)?;
    disk.reach(target).await?;
    let path = disk.home().join(MANAGED);
    Ok((disk, files, path))
}

/// Waits until everything is as declared again, and the agent has said that it restored something `count` times.
async fn undone(disk: &mut Disk, files: &Files, count: usize) -> Result<()> {
    disk.until("the edit to be undone", |memory| {
        count <= memory.notices.iter().filter(|notice| notice.kind.as_str() == "drift-restored").count()
    })
    .await?;
    convoy_tests::harness::until("the files to be as declared", convoy_tests::harness::LIMIT, async || {
        Ok(disk.differences(files, &BTreeSet::new()).is_empty().then_some(()))
    })
    .await
}

#[tokio::test]
async fn editors_that_rename_copy_or_truncate_are_seen() -> Result<()> {
    let (mut disk, files, path) = watched().await?;
    let (aside, fresh) = (path.with_extension("bak"), path.with_extension("tmp"));
    // sed -i and many others: a new file over the old one.
    fs::write(&fresh, "by = \"rename\"\n")?;
    fs::rename(&fresh, &path)?;
    undone(&mut disk, &files, 1).await?;
    // vim: the old one is renamed away, a new one is written under its name.
    fs::rename(&path, &aside)?;
    fs::write(&path, "by = \"backup\"\n")?;
    undone(&mut disk, &files, 2).await?;
    fs::remove_file(&aside)?;
    // A shell's redirection.
    fs::write(&path, "by = \"truncation\"\n")?;
    undone(&mut disk, &files, 3).await?;
    // Gone, and gone with its directory.
    fs::remove_file(&path)?;
    undone(&mut disk, &files, 4).await
}

#[tokio::test]
async fn a_directory_that_goes_away_and_one_that_comes_in_its_place_are_seen() -> Result<()> {
    let (mut disk, files, path) = watched().await?;
    let directory = path.parent().context("a directory")?.to_owned();
    let away = directory.with_extension("away");
    fs::rename(&directory, &away)?;
    fs::remove_dir_all(&away)?;
    undone(&mut disk, &files, 1).await?;
    // The directory is another one now: it is watched anew.
    fs::write(&path, "edited = 1\n")?;
    undone(&mut disk, &files, 2).await?;
    fs::rename(&directory, &away)?;
    undone(&mut disk, &files, 3).await?;
    fs::write(&path, "edited = 2\n")?;
    undone(&mut disk, &files, 4).await
}

#[tokio::test]
async fn an_edit_whose_event_the_kernel_dropped_is_found() -> Result<()> {
    let (mut disk, files, path) = watched().await?;
    let pid = disk.agent().daemon.as_ref().and_then(|daemon| daemon.pid()).context("it runs")?;
    let pid = Pid::from_raw(i32::try_from(pid)?).context("a process id")?;
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?.trim().parse::<usize>()?;
    kill_process(pid, Signal::STOP)?;
    // Nobody reads: the queue fills with news of files that nobody manages, two by turns since equal news are one.
    let other = |n: usize| path.with_file_name(format!("unmanaged-{}", n % 2));
    // At least three events for each write.
    for n in 0..queue / 2 {
        fs::write(other(n), "x")?;
    }
    fs::write(&path, "edited = \"unseen\"\n")?;
    kill_process(pid, Signal::CONT)?;
    undone(&mut disk, &files, 1).await
}
