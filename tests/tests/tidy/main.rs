//! Rules about the documentation that only the programs themselves can judge: every command in it exists, and every word
//! that they say is explained.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail and speak like tests")]

mod commands;
mod shell;
mod words;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// Pages that people read: name and text. Decision records are history, and may name what is no more.
fn pages() -> BTreeMap<String, String> {
    let mut paths: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "SECURITY.md"].map(PathBuf::from).into();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let name = entry.unwrap().file_name();
        if Path::new(&name).extension().is_some_and(|ending| ending == "md") {
            paths.push(Path::new("docs").join(name));
        }
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path.to_string_lossy().into_owned(), text)
    };
    paths.into_iter().map(read).collect()
}

/// Fails with all complaints at once.
fn verdict(rule: &str, complaints: &[String]) {
    assert!(complaints.is_empty(), "{rule}\n  {}", complaints.join("\n  "));
}
