use std::{collections::BTreeMap, fs, io::Read as _};

use fleet::ids::{GroupName, NodeName};

use super::*;
use crate::{client::fake::node, request::Only};

#[test]
fn those_that_are_named_are_chosen_else_those_that_do_not_do_their_work() {
    let nodes = [
        node("is-1", "is", "ready"),
        node("is-2", "is", "gave-up"),
        node("gw-1", "gw", "unreachable"),
        node("gw-2", "gw", "stopped"),
    ];
    let only = |nodes: &[&str], groups: &[&str]| Only {
        nodes: nodes.iter().map(|name| NodeName::parse(name).unwrap()).collect(),
        groups: groups.iter().map(|name| GroupName::parse(name).unwrap()).collect(),
    };
    let chosen = |only: &Only, most: usize| {
        let (chosen, left_out) = chosen::nodes(&nodes, only, most);
        let names: Vec<String> = chosen.iter().map(|node| node.name.clone()).collect();
        (
            names.join(" "),
            left_out.into_iter().map(|(what, why)| format!("{what}: {why}")).collect::<Vec<_>>(),
        )
    };
    assert_eq!(chosen(&only(&[], &[]), 9), ("is-2 gw-1".to_owned(), Vec::new()));
    assert_eq!(chosen(&only(&["is-1"], &["gw"]), 9).0, "is-1 gw-1 gw-2");
    let (names, left_out) = chosen(&only(&["is-9"], &["none"]), 9);
    assert_eq!((names.as_str(), left_out.len()), ("", 2), "{left_out:?}");
    assert_eq!(left_out[0], "node is-9: there is none of this name");
    let (names, left_out) = chosen(&only(&[], &["is", "gw"]), 3);
    assert_eq!(names, "is-1 is-2 gw-1");
    assert!(left_out[0].contains("1 more than the 3 that a bundle takes"), "{left_out:?}");
}

#[test]
fn of_what_is_too_much_the_newest_lines_are_kept() {
    let mut lines = Newest::default();
    (0..10).for_each(|number| lines.put(format!("line {number}"), 21));
    assert_eq!(lines.text(), "line 7\nline 8\nline 9\n");
    assert_eq!(lines.notes(), ["7 older lines are left out, for its size is bounded"]);
}

/// What is in an archive.
fn unpacked(path: &Path) -> BTreeMap<String, String> {
    let bytes = fs::read(path).unwrap();
    let archive = rawzip::ZipArchive::from_slice(&bytes).unwrap();
    let read = |entry: Result<rawzip::ZipFileHeaderRecord<'_>, _>| {
        let entry = entry.unwrap();
        let name = entry.file_path().try_normalize().unwrap().as_ref().to_owned();
        let part = archive.get_entry(entry.wayfinder()).unwrap();
        let mut text = String::new();
        flate2::read::DeflateDecoder::new(part.data()).read_to_string(&mut text).unwrap();
        (name, text)
    };
    archive.entries().map(read).collect()
}

fn manifest() -> view::Manifest {
    view::Manifest {
        fleet: "acme".to_owned(),
        made: When(1),
        since: When(0),
        convoy_version: "1".to_owned(),
        coordinator_version: "1".to_owned(),
        parts: Vec::new(),
        left_out: Vec::new(),
    }
}

#[test]
fn an_archive_is_private_bounded_masked_and_never_over_another_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("b.zip");
    let mut archive = Archive::create(&path, When(1_800_000_000_000)).unwrap();
    archive.text("a/b.log", "a log", "one\nurl=jdbc:mysql://u:4secret@db/x\n", Vec::new()).unwrap();
    archive.json("c.json", "a document", Ok(["password=5secret\nplain"])).unwrap();
    for outside in ["../x", "/x", "a//b", "a/./b", "a\\b", "a:b", ".ssh/x", "a\nb"] {
        archive.text(outside, "outside", "", Vec::new()).unwrap();
    }
    archive.text("a/b.log", "another log", "", Vec::new()).unwrap();
    archive.text("large", "too much", &"x".repeat((16 << 20) + 1), Vec::new()).unwrap();
    archive.leave_out("logs", "token=6secret");
    let made = archive.finish(&manifest()).unwrap();
    let paths: Vec<&str> = made.parts.iter().map(|part| part.path.as_str()).collect();
    assert_eq!(paths, ["a/b.log", "c.json"]);
    assert_eq!(made.left_out.len(), 11, "{:?}", made.left_out);
    let files = unpacked(&path);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["a/b.log", "c.json", "manifest.json"]);
    assert!(files["a/b.log"].starts_with("one\n") && files["c.json"].contains("plain"), "{files:?}");
    for (name, text) in &files {
        assert!(!text.contains("secret"), "{name}: {text}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }
    let again = Archive::create(&path, When(1)).err().unwrap();
    assert_eq!(again.exit, Exit::Refused, "{again}");
    // One that appeared meanwhile is not replaced either, and nothing else is left.
    let late = dir.path().join("late.zip");
    let archive = Archive::create(&late, When(1)).unwrap();
    fs::write(&late, "another").unwrap();
    assert_eq!(archive.finish(&manifest()).unwrap_err().exit, Exit::Refused);
    assert_eq!(fs::read_to_string(&late).unwrap(), "another");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[test]
fn a_name_is_made_of_the_fleet_and_the_time() {
    let name = default_name("acme-prod/../x", When(1_800_000_000_000));
    assert_eq!(name.to_str().unwrap(), "convoy-support-acme-prodx-20270115-080000.zip");
}
