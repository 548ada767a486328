//! Windows. Ownership and access lists need calls that safe Rust does not offer, so they are not judged.

use std::path::Path;

use fleet::preflight::facts::{Owner, Seen};
use sysinfo::Disks;

use super::User;

pub(super) fn user(_name: Option<&str>) -> Seen<User> {
    Err("the run user is not judged on Windows".to_owned())
}

pub(super) fn owner(path: &Path) -> Seen<Owner> {
    std::fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Err("ownership is not judged on Windows".to_owned())
}

pub(super) fn mode(_path: &Path) -> Seen<u32> {
    Err("Windows has no permission bits".to_owned())
}

pub(super) fn disk_free(path: &Path) -> Seen<u64> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // The canonical form is `\\?\C:\…`, mount points are `C:\`.
    let text = path.to_string_lossy().trim_start_matches(r"\\?\").to_owned();
    let disks = Disks::new_with_refreshed_list().map_err(|error| format!("disks: {error}"))?;
    disks
        .iter()
        .filter(|disk| text.starts_with(&*disk.mount_point().to_string_lossy()))
        .max_by_key(|disk| disk.mount_point().as_os_str().len())
        .map(sysinfo::Disk::available_space)
        .ok_or_else(|| format!("no disk is known for {text}"))
}

pub(super) fn open_files_limit() -> Seen<Option<u64>> {
    Err("Windows has no such limit".to_owned())
}

pub(super) fn processes_limit() -> Seen<Option<u64>> {
    Err("Windows has no such limit".to_owned())
}
