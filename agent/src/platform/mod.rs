//! What differs between operating systems, behind one seam: users and owners, limits, space, listening sockets.
//!
//! Everything here only looks. A platform that cannot tell says so with words; nothing guesses. Reading is blocking:
//! call it from a blocking task.

#[cfg(target_os = "linux")]
pub mod sock_diag;
pub mod sockets;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as here;

#[cfg(not(unix))]
mod windows;
#[cfg(not(unix))]
use windows as here;

use std::{collections::BTreeMap, path::Path};

use fleet::preflight::facts::{Owner, Seen};

pub use sockets::{Socket, listening};

/// A core of the agent holds every secret of the node, so the system is to write none. A server inherits that.
///
/// # Errors
/// The system refuses.
pub fn forbid_cores() -> std::io::Result<()> {
    here::forbid_cores()
}

/// A user who can run a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Number and name.
    pub owner: Owner,
    /// Primary group; 0 where there are no numbers.
    pub group: u32,
}

/// The user of that name, or the agent's own.
///
/// # Errors
/// There is no such user, or the platform cannot tell: why.
pub fn user(name: Option<&str>) -> Seen<User> {
    here::user(name)
}

/// Who owns a file or directory (of a symlink: the link itself).
///
/// # Errors
/// It is not there, or the platform cannot tell: why.
pub fn owner(path: &Path) -> Seen<Owner> {
    here::owner(path)
}

/// Names of users and groups by their numbers, read once.
#[derive(Debug, Clone, Default)]
pub struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    /// As this host's files have them. Users of a directory (SSSD, LDAP) have only numbers here.
    pub fn read() -> Self {
        here::names()
    }

    /// The name, or the number.
    pub fn user(&self, id: u32) -> String {
        self.users.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// The number of a group that the host's files have.
    pub fn group_of(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|(_, known)| *known == name).map(|(id, _)| *id)
    }

    /// The name, or the number.
    pub fn group(&self, id: u32) -> String {
        self.groups.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }
}

/// Permission bits of a file, without its type.
///
/// # Errors
/// It is not there, or the platform has none: why.
pub fn mode(path: &Path) -> Seen<u32> {
    here::mode(path)
}

/// Bytes that the agent's user may still write on the file system of `path`.
///
/// # Errors
/// The platform cannot tell: why.
pub fn disk_free(path: &Path) -> Seen<u64> {
    here::disk_free(path)
}

/// Hard limit of open files of a child of this process; `None` is unlimited.
///
/// # Errors
/// The platform has no such limit.
pub fn open_files_limit() -> Seen<Option<u64>> {
    here::open_files_limit()
}

/// Soft limit of processes and threads of a child of this process; `None` is unlimited.
///
/// # Errors
/// The platform has no such limit.
pub fn processes_limit() -> Seen<Option<u64>> {
    here::processes_limit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_user_owns_what_it_makes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let user = user(None).map(|user| user.owner);
        let is_told = user.is_ok() || cfg!(windows);
        assert!(is_told, "{user:?}");
        assert_eq!(user.is_ok(), owner(&file).is_ok());
        assert_eq!(user.ok(), owner(&file).ok());
        assert!(owner(&dir.path().join("absent")).is_err());
    }

    #[test]
    fn an_unknown_user_is_an_error_with_its_name() {
        let error = user(Some("no-such-user-here")).unwrap_err();
        assert!(cfg!(windows) || error.contains("no-such-user-here"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn space_and_limits_can_be_told() {
        assert!(disk_free(Path::new("/")).is_ok());
        assert!(open_files_limit().is_ok());
        assert!(processes_limit().is_ok());
    }
}
