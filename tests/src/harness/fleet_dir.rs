//! A fleet directory on disk, for tests that write and change one.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// A fleet directory.
#[derive(Debug, Clone)]
pub struct FleetDir {
    path: PathBuf,
}

impl FleetDir {
    /// An empty one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path: path.to_owned() })
    }

    /// A copy of another directory.
    ///
    /// # Errors
    /// Something cannot be read or written.
    pub fn copy_of(original: &Path, path: &Path) -> Result<Self> {
        for entry in walkdir::WalkDir::new(original) {
            let entry = entry?;
            let to = path.join(entry.path().strip_prefix(original)?);
            if entry.file_type().is_dir() {
                fs::create_dir_all(to)?;
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
        Ok(Self { path: path.to_owned() })
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Reads one of its files.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(&self, path: &str) -> Result<String> {
        let path = self.path.join(path);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, as an argument.
    pub fn arg(&self) -> &OsStr {
        self.path.as_os_str()
    }
}
