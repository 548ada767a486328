//! Files of the agent's own data directory: readable by its user only, replaced as a whole, durable on return. What root
//! writes when it enrols a host belongs to the owner of the directory, the user that the agent runs as.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use crate::step::step;

/// How names of files begin that are being written. One that is found at a start was left by a kill.
const STAGED: &str = ".staged-";

/// Creates a directory that only its owner may enter; tightens one that exists.
///
/// # Errors
/// Whatever the file system says.
pub fn create_dir(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    restrict(path)
}

/// Creates a directory in the agent's data directory that only the owner of that may enter; mends one that somebody else
/// left there.
///
/// # Errors
/// Whatever the file system says; also if this user may not give it to that owner.
pub fn create_dir_in(data_dir: &Path, path: &Path) -> io::Result<()> {
    create_dir(path)?;
    give_to_owner_of(data_dir, path)
}

/// Whether [`write_for_owner`] will work in `dir`: found out before anything is spent on what cannot be kept.
///
/// # Errors
/// It will not.
pub fn probe(dir: &Path) -> io::Result<()> {
    let staged = tempfile::Builder::new().prefix(STAGED).tempfile_in(dir)?;
    give_to_owner_of(dir, staged.path())
}

/// Replaces the file at `path` with `content`, mode 0600, for the user of this process.
///
/// # Errors
/// Whatever the file system says; the old file is still there then.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, |_, _| Ok(()))
}

/// The same, for the owner of the directory, whoever this process is: the enrolment's, mostly root's.
///
/// # Errors
/// Whatever the file system says; the old file is still there then.
pub fn write_for_owner(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, give_to_owner_of)
}

fn replace(path: &Path, content: &[u8], give: fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    step("own create")?;
    // A temporary file is born 0600, so the content is never readable by others, not even for a moment.
    let mut staged = tempfile::Builder::new().prefix(STAGED).tempfile_in(dir)?;
    step("own write")?;
    staged.write_all(content)?;
    // Before its name is there: a kill in between must not leave a file that the agent cannot read.
    give(dir, staged.path())?;
    step("own sync file")?;
    staged.as_file().sync_all()?;
    step("own rename")?;
    staged.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Removes a file, durable on return; no error if there is none.
///
/// # Errors
/// Whatever the file system says.
pub fn remove(path: &Path) -> io::Result<()> {
    step("own remove")?;
    match fs::remove_file(path) {
        Ok(()) => sync_dir(path.parent().unwrap_or(Path::new("."))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what a kill in the middle of [`write`] left in `dir`. Nobody may be writing there.
///
/// # Errors
/// Whatever the file system says.
pub fn clear_staged(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(STAGED)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Without it a crash may undo a rename although the data is safe.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    step("own sync directory")?;
    #[cfg(unix)]
    fs::File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

#[cfg(unix)]
fn restrict(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700))
}

/// Nothing to do, mostly: the agent's user owns both.
#[cfg(unix)]
fn give_to_owner_of(dir: &Path, path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let (owner, now) = (fs::metadata(dir)?, fs::metadata(path)?);
    if owner.uid() == now.uid() {
        return Ok(());
    }
    chown(path, Some(owner.uid()), Some(owner.gid())).map_err(|error| {
        let (dir, uid) = (dir.display(), owner.uid());
        io::Error::new(
            error.kind(),
            format!("{dir} belongs to user {uid}, and only that user or root may write there: {error}"),
        )
    })
}

#[cfg(not(unix))]
fn give_to_owner_of(_dir: &Path, _path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn restrict(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root enrols again on a host whose agent runs as another user: the tests run as root in some places only.
    #[cfg(unix)]
    #[test]
    fn files_belong_to_the_owner_of_the_directory_whoever_writes_them() {
        use std::os::unix::fs::{MetadataExt as _, chown};
        const OTHER: u32 = 47_802;
        let data = tempfile::tempdir().unwrap();
        let dir = data.path().join("identity");
        create_dir(&dir).unwrap();
        write(&dir.join("node.pem"), b"of root").unwrap();
        if chown(data.path(), Some(OTHER), Some(OTHER)).is_err() {
            println!("NOT EXERCISED: giving files to another user needs root");
            return;
        }
        create_dir_in(data.path(), &dir).unwrap();
        probe(&dir).unwrap();
        write_for_owner(&dir.join("node.pem"), b"again").unwrap();
        for path in [&dir, &dir.join("node.pem")] {
            let facts = fs::metadata(path).unwrap();
            assert_eq!((facts.uid(), facts.gid()), (OTHER, OTHER), "{}", path.display());
        }
        let mode = fs::metadata(dir.join("node.pem")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_a_kill_left_half_written_is_cleared_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join("journal"), b"kept").unwrap();
        let left = tempfile::Builder::new().prefix(STAGED).tempfile_in(dir.path()).unwrap();
        let (_, left) = left.keep().unwrap();
        clear_staged(dir.path()).unwrap();
        assert!(!left.exists());
        assert_eq!(fs::read(dir.path().join("journal")).unwrap(), b"kept");
        remove(&dir.path().join("journal")).unwrap();
        remove(&dir.path().join("journal")).unwrap();
    }
}
