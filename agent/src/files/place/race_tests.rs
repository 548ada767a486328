//! Somebody who can write the home swaps files and directories while they are read.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::fs::{CWD, Mode, RenameFlags, mkfifoat, renameat_with};

use super::*;

const ROUNDS: usize = 10_000;

/// What a swapper puts in turn where `conf/a.toml` is read, and back.
const SWAPS: [(&str, &str); 4] =
    [("conf/a.toml", "link"), ("conf/a.toml", "pipe"), ("conf", "elsewhere"), ("conf/a.toml", "directory")];

/// A home with a file, and beside it everything that must not be read in its place.
fn home() -> (tempfile::TempDir, tempfile::TempDir) {
    let (home, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(home.path().join("conf")).unwrap();
    fs::write(home.path().join("conf/a.toml"), "inside").unwrap();
    fs::write(outside.path().join("a.toml"), "secret").unwrap();
    fs::write(outside.path().join("only-outside"), "").unwrap();
    symlink(outside.path().join("a.toml"), home.path().join("link")).unwrap();
    symlink(outside.path(), home.path().join("elsewhere")).unwrap();
    fs::create_dir(home.path().join("directory")).unwrap();
    mkfifoat(CWD, home.path().join("pipe"), Mode::RUSR).unwrap();
    (home, outside)
}

fn swap_until(stop: &AtomicBool, home: &Path) {
    while !stop.load(Ordering::Relaxed) {
        for (target, other) in SWAPS {
            for _ in 0..2 {
                let (target, other) = (home.join(target), home.join(other));
                renameat_with(CWD, target, CWD, other, RenameFlags::EXCHANGE).unwrap();
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn no_swap_leads_out_of_the_home_or_makes_a_read_wait() {
    let (home_dir, _outside) = home();
    let stop = Arc::new(AtomicBool::new(false));
    let swapper = std::thread::spawn({
        let (stop, home) = (Arc::clone(&stop), home_dir.path().to_owned());
        move || swap_until(&stop, &home)
    });
    let home = Home::open(home_dir.path().to_str().unwrap()).unwrap();
    let (file, dir) = (HomePath::parse("conf/a.toml").unwrap(), HomePath::parse("conf").unwrap());
    let (mut reads, mut refusals, mut round) = (0, 0, 0);
    // Both outcomes have to be seen, or nothing was raced.
    while round < ROUNDS || reads == 0 || refusals == 0 {
        round += 1;
        match home.read(&file, 1024) {
            Ok(Some(content)) => {
                assert_eq!(content.bytes, b"inside");
                reads += 1;
            }
            Ok(None) | Err(PlaceError::Unsafe { .. }) => refusals += 1,
            Err(error) => panic!("{}", crate::chain(&error)),
        }
        match home.list(&dir, 10) {
            Ok(entries) => assert!(entries.iter().all(|entry| entry.name != "only-outside")),
            Err(PlaceError::Unsafe { .. }) => {}
            Err(error) => panic!("{}", crate::chain(&error)),
        }
        let named = open_named(&home_dir.path().join("conf/a.toml"), LastPart::IsNoLink);
        assert!(named.is_err() || named.unwrap().metadata().unwrap().is_file());
    }
    stop.store(true, Ordering::Relaxed);
    swapper.join().unwrap();
}

#[test]
fn what_is_in_the_way_is_named_with_a_remedy() {
    let (home_dir, _outside) = home();
    let home = Home::open(home_dir.path().to_str().unwrap()).unwrap();
    for (path, expected) in [
        ("link", "link is a symlink; it is neither followed nor replaced, so put the file itself there"),
        ("elsewhere/a.toml", "elsewhere/a.toml lies behind a symlink"),
        ("pipe", "pipe is not a regular file; it is a pipe, a socket or a device, so remove it"),
        ("directory", "directory is a directory; move it away"),
    ] {
        let path = HomePath::parse(path).unwrap();
        let said = home.read(&path, 1024).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{said}");
        if let Ok(place) = home.place(&path, None) {
            assert_eq!(place.facts().unwrap_err().to_string(), said);
        }
    }
}

#[test]
fn a_file_that_is_larger_than_expected_is_not_read_to_its_end() {
    let (home_dir, _outside) = home();
    let home = Home::open(home_dir.path().to_str().unwrap()).unwrap();
    let file = HomePath::parse("conf/a.toml").unwrap();
    assert!(matches!(home.read(&file, 5), Err(PlaceError::TooLarge { .. })));
    assert_eq!(home.read(&file, 6).unwrap().unwrap().bytes, b"inside");
    assert!(matches!(home.list(&HomePath::parse("conf").unwrap(), 0), Err(PlaceError::TooMany { .. })));
}
