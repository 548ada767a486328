use std::{fs, os::unix::fs::symlink, path::Path};

use super::*;

fn fleet_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "fleet.toml", b"name = 'f'\n");
    put(dir.path(), "config/common.toml", b"");
    put(dir.path(), ".git/config", b"hidden");
    put(dir.path(), "README.md", b"for people");
    put(dir.path(), "config/notes.txt", b"for people");
    put(dir.path(), "files/is-1/.hidden", b"hidden");
    put(dir.path(), "files/is-1/bin/x.sh", b"#!/bin/sh\n");
    dir
}

fn put(dir: &Path, path: &str, content: &[u8]) {
    let path = dir.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn refusal(dir: &Path) -> String {
    let failure = read(dir).unwrap_err();
    assert_eq!(failure.exit, crate::exit::Exit::Failed);
    format!("{}; {}", failure.what, failure.remedy)
}

#[test]
fn what_composition_uses_is_read_and_hidden_files_are_not() {
    let dir = fleet_dir();
    let files = read(dir.path()).unwrap().0;
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["config/common.toml", "files/is-1/bin/x.sh", "fleet.toml"]);
    assert_eq!(files["fleet.toml"], b"name = 'f'\n");
}

#[test]
fn a_link_inside_is_content_and_a_link_outside_is_refused() {
    let dir = fleet_dir();
    symlink("common.toml", dir.path().join("config/other.toml")).unwrap();
    assert!(read(dir.path()).unwrap().0.contains_key("config/other.toml"));

    symlink("/etc/hostname", dir.path().join("config/outside.toml")).unwrap();
    assert!(refusal(dir.path()).starts_with("config/outside.toml is a link that leaves the fleet directory"));
}

#[test]
fn a_linked_directory_outside_is_refused_before_anything_in_it_is_read() {
    let dir = fleet_dir();
    symlink("/etc", dir.path().join("files/all")).unwrap();
    assert!(refusal(dir.path()).starts_with("files/all is a link that leaves the fleet directory"));
}

#[test]
fn a_link_to_a_directory_above_or_to_nothing_is_refused() {
    let dir = fleet_dir();
    symlink("..", dir.path().join("config/up")).unwrap();
    assert_eq!(refusal(dir.path()), "config/up is a link to a directory above it; remove the link");
    let dir = fleet_dir();
    symlink("nowhere", dir.path().join("config/dead.toml")).unwrap();
    assert!(refusal(dir.path()).contains("config/dead.toml"));
}

#[test]
fn a_file_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let dir = fleet_dir();
    let large = dir.path().join("files/is-1/large.jar");
    fs::File::create(&large).unwrap().set_len(FILE_SIZE_MAX).unwrap();
    assert_eq!(read(dir.path()).unwrap().0["files/is-1/large.jar"].len() as u64, FILE_SIZE_MAX);
    fs::File::create(&large).unwrap().set_len(FILE_SIZE_MAX + 1).unwrap();
    assert!(refusal(dir.path()).starts_with("files/is-1/large.jar is larger than 8 MiB"));
}

#[test]
fn a_directory_without_a_fleet_says_what_to_name() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refusal(dir.path()).contains("holds no fleet.toml; name the directory"));
    assert!(refusal(&dir.path().join("nowhere")).starts_with("cannot open the fleet directory"));
}

#[test]
fn a_pipe_is_refused_instead_of_waiting_for_it() {
    let dir = fleet_dir();
    let made =
        std::process::Command::new("mkfifo").arg(dir.path().join("config/pipe.toml")).status().unwrap();
    assert!(made.success());
    assert!(refusal(dir.path()).starts_with("config/pipe.toml is neither a file nor a directory"));
}

#[test]
fn a_file_in_place_of_the_directory_is_named_with_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fleet.toml");
    std::fs::write(&file, "").unwrap();
    let failure = read(&file).unwrap_err();
    assert!(failure.what.ends_with("is a file; a fleet is a directory"), "{failure}");
    assert!(failure.remedy.ends_with(&format!("as in {}", dir.path().display())), "{}", failure.remedy);
}
