//! Linux and macOS.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Command,
};

use fleet::preflight::facts::{Owner, Seen};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Names, User};

pub(super) fn user(name: Option<&str>) -> Seen<User> {
    let Some(name) = name else {
        let (id, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        return Ok(User { owner: named(id), group });
    };
    let from_file = passwd().lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields[..] {
            [user, _, id, group, ..] if user == name => Some((id.parse().ok()?, group.parse().ok()?)),
            _ => None,
        }
    });
    // Users of a directory (SSSD, LDAP) are not in the file; `id` asks the name service.
    let (id, group) = match from_file {
        Some(found) => found,
        None => id_of(name, "-u").zip(id_of(name, "-g")).ok_or_else(|| format!("no user {name:?}"))?,
    };
    Ok(User { owner: Owner { id, name: name.to_owned() }, group })
}

fn passwd() -> String {
    fs::read_to_string("/etc/passwd").unwrap_or_default()
}

/// `name:password:number:...`, as both files have it.
fn numbered(text: &str) -> BTreeMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    // The first of several names for one number is the one that the system shows.
    text.lines().rev().filter_map(entry).collect()
}

pub(super) fn names() -> Names {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    Names { users: numbered(&passwd()), groups: numbered(&groups) }
}

fn id_of(name: &str, which: &str) -> Option<u32> {
    if name.starts_with('-') {
        return None;
    }
    let output = Command::new("id").args([which, name]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

fn named(id: u32) -> Owner {
    let name = passwd().lines().find_map(|line| {
        let mut fields = line.split(':');
        let user = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| user.to_owned())
    });
    Owner { id, name: name.unwrap_or_else(|| id.to_string()) }
}

pub(super) fn owner(path: &Path) -> Seen<Owner> {
    let metadata = fs::symlink_metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(named(metadata.uid()))
}

pub(super) fn mode(path: &Path) -> Seen<u32> {
    let metadata = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(metadata.permissions().mode() & 0o7777)
}

pub(super) fn disk_free(path: &Path) -> Seen<u64> {
    let stat = rustix::fs::statvfs(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

pub(super) fn forbid_cores() -> std::io::Result<()> {
    let limit = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    Ok(setrlimit(Resource::Core, limit)?)
}

// Both limits are inherited by the server, which the agent starts without changing them.
pub(super) fn open_files_limit() -> Seen<Option<u64>> {
    Ok(getrlimit(Resource::Nofile).maximum)
}

pub(super) fn processes_limit() -> Seen<Option<u64>> {
    Ok(getrlimit(Resource::Nproc).current)
}
