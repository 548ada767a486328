//! Windows. Ownership and access lists need calls that safe Rust does not offer, so they are not judged.

use std::path::Path;

use fleet::preflight::facts::{Owner, Seen};

use super::{Names, User};

pub(super) fn user(_name: Option<&str>) -> Seen<User> {
    Err("the run user is not judged on Windows".to_owned())
}

/// Owners are not judged here, so they are not named either.
pub(super) fn names() -> Names {
    Names::default()
}

pub(super) fn owner(path: &Path) -> Seen<Owner> {
    std::fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Err("ownership is not judged on Windows".to_owned())
}

pub(super) fn mode(_path: &Path) -> Seen<u32> {
    Err("Windows has no permission bits".to_owned())
}

pub(super) fn disk_free(path: &Path) -> Seen<u64> {
    let mut free = 0;
    let path = path.to_string_lossy();
    winsafe::GetDiskFreeSpaceEx(Some(&path), Some(&mut free), None, None)
        .map(|()| free)
        .map_err(|error| format!("{path}: {error}"))
}

pub(super) fn open_files_limit() -> Seen<Option<u64>> {
    Err("Windows has no such limit".to_owned())
}

// Windows writes no core; Windows Error Reporting is the administrator's.
pub(super) fn forbid_cores() -> std::io::Result<()> {
    Ok(())
}

pub(super) fn processes_limit() -> Seen<Option<u64>> {
    Err("Windows has no such limit".to_owned())
}
