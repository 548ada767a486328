//! Where the files of findings lie, as other programs find them: a finding itself names a file below the fleet
//! directory, wherever that directory is.

use std::path::{Component, Path};

use crate::view::Finding;

/// Names each finding's file as it is reached from the working directory. Files that are not of the fleet directory
/// (those of a pack) have no such path.
pub fn locate(findings: &mut [Finding], dir: &Path) {
    for finding in findings {
        finding.path = finding.file.as_deref().and_then(|file| reached(dir, file));
    }
}

fn reached(dir: &Path, file: &str) -> Option<String> {
    let path = dir.join(file);
    path.is_file().then(|| {
        let plain: std::path::PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        plain.to_string_lossy().replace('\\', "/")
    })
}

/// The fleet directory below the repository that it is checked in to, else below the working directory, with a `/` at
/// its end; empty if it is that directory itself, or in neither. Code hosts resolve paths from there.
pub fn below_root(dir: &Path) -> String {
    let working = std::env::current_dir().and_then(|working| working.canonicalize()).ok();
    dir.canonicalize().map_or_else(|_| String::new(), |dir| below(&dir, working.as_deref()))
}

fn below(dir: &Path, working: Option<&Path>) -> String {
    let repository = dir.ancestors().find(|ancestor| ancestor.join(".git").exists());
    let root = repository.or(working);
    let below = root.and_then(|root| dir.strip_prefix(root).ok()).unwrap_or(Path::new(""));
    let parts = below.components().map(|part| format!("{}/", part.as_os_str().to_string_lossy()));
    parts.collect()
}

/// A path as a relative URI reference.
pub fn as_uri(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~@+,=".contains(&byte);
    path.bytes()
        .map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_host_finds_the_file_from_the_root_of_the_repository() {
        let repository = tempfile::tempdir().unwrap();
        let dir = repository.path().join("fleets/prod");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("fleet.toml"), "").unwrap();
        assert_eq!(below(&dir, None), "");
        let working = repository.path().join("fleets");
        assert_eq!(below(&dir, Some(&working)), "prod/", "in no repository, from the working directory");
        assert_eq!(below(&dir, Some(&dir)), "");
        // A worktree of Git has a file there, not a directory.
        std::fs::write(repository.path().join(".git"), "gitdir: elsewhere").unwrap();
        assert_eq!(below(&dir, Some(&working)), "fleets/prod/");
        assert_eq!(below(repository.path(), None), "");
        assert_eq!(as_uri("fleets/prod eu/ü.toml"), "fleets/prod%20eu/%C3%BC.toml");
    }

    #[test]
    fn only_files_of_the_fleet_directory_have_a_path() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("fleet.toml"), "").unwrap();
        let path = |file| reached(dir.path(), file);
        assert_eq!(path("fleet.toml"), Some(format!("{}/fleet.toml", dir.path().display())));
        assert_eq!(path("repository/conf/deployment.toml"), None);
        assert_eq!(path("./fleet.toml"), path("fleet.toml"));
    }
}
