//! Files of the agent's own data directory: readable by its user only, replaced as a whole, durable on return.

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

/// Replaces the file at `path` with `content`, mode 0600.
///
/// # Errors
/// Whatever the file system says; the old file is still there then.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    step("own create")?;
    // A temporary file is born 0600, so the content is never readable by others, not even for a moment.
    let mut staged = tempfile::Builder::new().prefix(STAGED).tempfile_in(dir)?;
    step("own write")?;
    staged.write_all(content)?;
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

#[cfg(not(unix))]
fn restrict(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
