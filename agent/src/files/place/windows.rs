//! Windows: paths below a canonical home. There is no looking-up in an open directory, so links are refused part by
//! part before each use; permissions are inherited from the directory and not managed.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant, UNIX_EPOCH},
};

use fleet::{bundle::HomePath, host::OtherKind};

use super::{Entry, Facts, LastPart, Owner, PlaceError};

/// A scanner or a backup program holds a file for a moment; whoever holds it longer is reported.
const SHARING_TIME: Duration = Duration::from_secs(5);
const SHARING_PAUSE: Duration = Duration::from_millis(50);
/// ERROR_ACCESS_DENIED and ERROR_SHARING_VIOLATION: what a rename over an open file says.
const SHARING_ERRORS: [i32; 2] = [5, 32];

/// A home that was there.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
}

/// A parent directory and a name in it.
#[derive(Debug)]
pub struct Place {
    dir: PathBuf,
    name: OsString,
    path: HomePath,
}

impl Home {
    /// Looks at a home.
    ///
    /// # Errors
    /// It is not there or not a directory.
    pub fn open(path: &str) -> Result<Self, PlaceError> {
        let failed = |source| PlaceError::Io { what: "open", path: path.to_owned(), source };
        if !fs::metadata(path).map_err(failed)?.is_dir() {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        Ok(Self { path: PathBuf::from(path) })
    }

    /// As it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Facts of the home directory itself.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn facts(&self) -> Result<Facts, PlaceError> {
        let failed =
            |source| PlaceError::Io { what: "look at", path: self.path.display().to_string(), source };
        fs::metadata(&self.path).map(|metadata| facts(&metadata)).map_err(failed)
    }

    /// Bytes that may still be written.
    ///
    /// # Errors
    /// The platform does not tell.
    pub fn free(&self) -> Result<u64, PlaceError> {
        crate::platform::disk_free(&self.path).map_err(|why| PlaceError::Io {
            what: "look at the disk of",
            path: self.path.display().to_string(),
            source: io::Error::other(why),
        })
    }

    /// Walks to a path's parent. Missing directories are made if `make` is given, and an error otherwise.
    ///
    /// # Errors
    /// A part is a link or not a directory, or the file system refuses.
    pub fn place(&self, path: &HomePath, make: Option<Option<Owner>>) -> Result<Place, PlaceError> {
        let failed =
            |source| PlaceError::Io { what: "open the directory of", path: path.to_string(), source };
        let mut dir = self.path.clone();
        let mut parts: Vec<&str> = path.as_str().split('/').collect();
        let name = parts.pop().unwrap_or_default();
        for part in parts {
            dir.push(part);
            match fs::symlink_metadata(&dir) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => {
                    return Err(PlaceError::Unsafe { path: path.to_string(), why: OtherKind::BehindLink });
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && make.is_some() => {
                    fs::create_dir(&dir).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Place { dir, name: OsString::from(name), path: path.clone() })
    }

    /// Names in a directory below home, in no order; none if it is not there.
    ///
    /// # Errors
    /// It, or a directory on its way, is a link or no directory; it holds more than `entries_max` names; or the file
    /// system refuses.
    pub fn list(&self, path: &HomePath, entries_max: usize) -> Result<Vec<Entry>, PlaceError> {
        let place = match self.place(path, None) {
            Ok(place) => place,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let failed = |source| PlaceError::Io { what: "list", path: path.to_string(), source };
        match fs::symlink_metadata(place.target()) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(PlaceError::Unsafe { path: path.to_string(), why: OtherKind::BehindLink });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(place.target()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entries.len() == entries_max {
                return Err(PlaceError::TooMany { path: path.to_string(), entries_max });
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(Entry { name, is_dir: entry.file_type().is_ok_and(|kind| kind.is_dir()) });
        }
        Ok(entries)
    }
}

/// See [`super::open_named`]. There are no pipes among files here.
pub(super) fn open_without_waiting(path: &Path, _last: LastPart) -> io::Result<File> {
    File::open(path)
}

/// What an open file is.
///
/// # Errors
/// Whatever the file system says.
pub fn facts_of(file: &File) -> io::Result<Facts> {
    Ok(facts(&file.metadata()?))
}

impl Place {
    /// The path below home.
    pub fn path(&self) -> &HomePath {
        &self.path
    }

    fn error(&self, what: &'static str, source: io::Error) -> PlaceError {
        PlaceError::Io { what, path: self.path.to_string(), source }
    }

    fn target(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// A hidden name in the same directory, for `purpose`.
    pub fn aside(&self, purpose: &str) -> OsString {
        super::aside(&self.name, purpose)
    }

    /// Facts of the target, `None` if there is none. Only a regular file can be replaced.
    ///
    /// # Errors
    /// It is something else, or the file system refuses.
    pub fn facts(&self) -> Result<Option<Facts>, PlaceError> {
        match fs::symlink_metadata(self.target()) {
            Ok(metadata) if metadata.is_file() => Ok(Some(facts(&metadata))),
            Ok(metadata) => Err(self.unsafe_target(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("look at", error)),
        }
    }

    /// A name beside the target, if it is there.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open_aside(&self, name: &OsStr) -> Result<Option<File>, PlaceError> {
        match File::open(self.dir.join(name)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error("read what lies beside", error)),
        }
    }

    /// Opens the target for reading, and says what it opened.
    ///
    /// # Errors
    /// It is no regular file, or the file system refuses.
    pub fn open(&self) -> Result<(File, Facts), PlaceError> {
        let failed = |error| self.error("read", error);
        let named = fs::symlink_metadata(self.target()).map_err(failed)?;
        if !named.is_file() {
            return Err(self.unsafe_target(&named));
        }
        let file = File::open(self.target()).map_err(failed)?;
        let opened = file.metadata().map_err(failed)?;
        Ok((file, facts(&opened)))
    }

    fn unsafe_target(&self, metadata: &Metadata) -> PlaceError {
        let why = match metadata.file_type() {
            kind if kind.is_symlink() => OtherKind::Symlink,
            kind if kind.is_dir() => OtherKind::Directory,
            _ => OtherKind::Special,
        };
        PlaceError::Unsafe { path: self.path.to_string(), why }
    }

    /// Removes a name beside the target; no error if it is not there.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove(&self, name: &OsStr) -> Result<(), PlaceError> {
        match patiently(|| fs::remove_file(self.dir.join(name))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.error("remove a leftover beside", error))
            }
            _ => Ok(()),
        }
    }

    /// Removes the target.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn remove_target(&self) -> Result<(), PlaceError> {
        self.remove(&self.name)
    }

    /// Windows has no call that makes names durable; NTFS journals them by itself.
    ///
    /// # Errors
    /// None.
    pub fn sync(&self) -> Result<(), PlaceError> {
        Ok(())
    }

    /// A new file beside the target, for writing; it inherits the permissions of its directory.
    ///
    /// # Errors
    /// Whatever the file system says; a name that is taken is an error.
    pub fn create(&self, name: &OsStr, _owner: Option<Owner>) -> Result<File, PlaceError> {
        let created = OpenOptions::new().write(true).create_new(true).open(self.dir.join(name));
        created.map_err(|error| self.error("write beside", error))
    }

    /// Windows has no permission bits.
    ///
    /// # Errors
    /// None.
    pub fn set_mode(&self, _file: &File, _mode: u32) -> Result<(), PlaceError> {
        Ok(())
    }

    /// A second name for the target. No error if there is no target.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn link_aside(&self, name: &OsStr) -> Result<(), PlaceError> {
        match fs::hard_link(self.target(), self.dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error("keep the old", error)),
            _ => Ok(()),
        }
    }

    /// Puts `name` in the target's place. While somebody holds the target open this is tried again for a while.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn replace_by(&self, name: &OsStr) -> Result<(), PlaceError> {
        patiently(|| fs::rename(self.dir.join(name), self.target()))
            .map_err(|error| self.error("replace", error))
    }
}

/// Tries again while another program holds the file. The worker's thread has nothing else to do meanwhile.
fn patiently(mut attempt: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let until = Instant::now() + SHARING_TIME;
    loop {
        match attempt() {
            Err(error)
                if error.raw_os_error().is_some_and(|code| SHARING_ERRORS.contains(&code))
                    && Instant::now() < until =>
            {
                std::thread::park_timeout(SHARING_PAUSE);
            }
            result => return result,
        }
    }
}

fn facts(metadata: &Metadata) -> Facts {
    let nanos = |time: io::Result<std::time::SystemTime>| {
        let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        i128::try_from(since.as_nanos()).unwrap_or(i128::MAX)
    };
    Facts {
        mode: None,
        owner: None,
        size: metadata.len(),
        signature: (metadata.len(), nanos(metadata.modified()), nanos(metadata.created())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_somebody_holds_for_a_moment_is_replaced_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = HomePath::parse("conf/a.toml").unwrap();
        let home = Home::open(dir.path().to_str().unwrap()).unwrap();
        let place = home.place(&path, Some(None)).unwrap();
        fs::write(place.target(), "old").unwrap();
        let held = File::open(place.target()).unwrap();
        fs::write(place.dir.join(place.aside("new")), "new").unwrap();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let holder = std::thread::spawn(move || {
            released.recv_timeout(Duration::from_millis(300)).ok();
            drop(held);
        });
        place.replace_by(&place.aside("new")).unwrap();
        drop(release);
        holder.join().unwrap();
        assert_eq!(fs::read_to_string(place.target()).unwrap(), "new");
    }

    #[test]
    fn only_regular_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("conf/a")).unwrap();
        let home = Home::open(dir.path().to_str().unwrap()).unwrap();
        let place = home.place(&HomePath::parse("conf/a").unwrap(), None).unwrap();
        assert!(matches!(place.facts(), Err(PlaceError::Unsafe { .. })));
        let missing = home.place(&HomePath::parse("nowhere/a").unwrap(), None);
        assert!(matches!(missing, Err(PlaceError::Io { .. })));
    }
}
