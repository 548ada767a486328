//! What the tests on recordings share: where they are, and reading them.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "helpers of tests fail and speak like tests, and read what the library does not"
)]

use std::path::{Path, PathBuf};

use carbon::Pack;
use carbon::pack::RESOURCES;

/// The folder of WSO2's data beside the project, if it is there.
pub fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/wso2");
    let shared = shared.join("golden").is_dir().then_some(shared);
    if shared.is_none() {
        println!("skipped: no recordings at ../shared/wso2");
    }
    shared
}

/// All files below `root` as (path with `/`, bytes).
pub fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// Loads one of the recorded packs.
pub fn pack(shared: &Path, name: &str) -> Pack {
    let mut resources = files(&shared.join("packs").join(name));
    resources.retain(|(path, _)| path.starts_with(RESOURCES) || path == "bin/version.txt");
    Pack::load(resources.into_iter()).unwrap()
}
