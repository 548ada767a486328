//! Files of the agent's own data directory: readable by its user only, replaced as a whole, durable on return.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

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
    // A temporary file is born 0600, so the content is never readable by others, not even for a moment.
    let mut staged = tempfile::NamedTempFile::new_in(dir)?;
    staged.write_all(content)?;
    staged.as_file().sync_all()?;
    staged.persist(path).map_err(|error| error.error)?;
    sync_dir(dir)
}

/// Without it a crash may undo a rename although the data is safe.
///
/// # Errors
/// Whatever the file system says.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
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
