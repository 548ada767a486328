//! The configuration resources of a home, read through the same door as managed files: no symlink is followed. Files
//! are read only when a name, a size or a time of change differs from the last time.

use carbon::pack::{RESOURCES, RULE_FILES, TEMPLATES};
use fleet::{
    bundle::HomePath,
    ids::Digest,
    pack::{FILES_MAX, JARS, Resources, ResourcesError, VERSION_FILE, belongs},
};
use proto::convert::pack::named_pack;

use super::place::{Facts, Home, PlaceError};

/// Names that are looked at in all; `lib` of a pack holds about ten, and its templates are about 200.
const ENTRIES_MAX: usize = 2 * FILES_MAX;

/// Where a pack lies that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackAt {
    /// Of its encoding.
    pub digest: Digest,
    /// CARBON_HOME.
    pub home: String,
}

/// Why a pack cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackReadError {
    /// A file or the home.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// More than any product has.
    #[error(transparent)]
    Resources(#[from] ResourcesError),
    /// A name that no resource has.
    #[error(transparent)]
    Name(#[from] fleet::bundle::HomePathError),
}

/// Remembers the last reading.
#[derive(Debug, Default)]
pub struct PackReader {
    home: String,
    stamps: Vec<(HomePath, Facts)>,
    digest: Option<Digest>,
    failure: String,
}

impl PackReader {
    /// What the home's pack is known by; `None` if there is none that can be read.
    pub fn digest(&mut self, home: &str) -> Option<Digest> {
        match self.look(home) {
            Ok(digest) => {
                self.failure.clear();
                digest
            }
            Err(error) => {
                let failure = crate::chain(&error);
                if failure != self.failure {
                    tracing::warn!(home, error = failure, "Cannot read the pack's configuration resources");
                }
                *self = Self { failure, ..Self::default() };
                None
            }
        }
    }

    fn look(&mut self, home: &str) -> Result<Option<Digest>, PackReadError> {
        let opened = Home::open(home)?;
        let stamps = stamps(&opened)?;
        if self.home == home && self.stamps == stamps && self.digest.is_some() {
            return Ok(self.digest);
        }
        let is_pack = stamps.iter().any(|(path, _)| path.as_str().starts_with(RESOURCES));
        let digest = if is_pack { Some(named_pack(&content(&opened, &stamps)?).0) } else { None };
        let failure = String::new();
        *self = Self { home: home.to_owned(), stamps, digest, failure };
        Ok(digest)
    }
}

/// Reads all resources of a home.
///
/// # Errors
/// See [`PackReadError`].
pub fn read(home: &str) -> Result<Resources, PackReadError> {
    let home = Home::open(home)?;
    let stamps = stamps(&home)?;
    content(&home, &stamps)
}

fn content(home: &Home, stamps: &[(HomePath, Facts)]) -> Result<Resources, PackReadError> {
    let mut files = Vec::with_capacity(stamps.len());
    for (path, facts) in stamps {
        let bytes = if path.as_str().starts_with(JARS) {
            Vec::new()
        } else if (fleet::pack::FILE_BYTES_MAX as u64) < facts.size {
            return Err(ResourcesError::File { path: path.to_string() }.into());
        } else {
            let content = home.read(path, fleet::pack::FILE_BYTES_MAX as u64)?;
            content.map(|content| content.bytes).unwrap_or_default()
        };
        files.push((path.to_string(), bytes));
    }
    Ok(Resources::new(files)?)
}

/// Every file that matters, without reading any.
fn stamps(home: &Home) -> Result<Vec<(HomePath, Facts)>, PackReadError> {
    let mut names: Vec<String> = RULE_FILES.iter().map(|file| format!("{RESOURCES}{file}")).collect();
    names.push(VERSION_FILE.to_owned());
    for jar in home.list(&directory(JARS)?, ENTRIES_MAX)? {
        names.push(format!("{JARS}{}", jar.name));
    }
    let mut dirs = vec![format!("{RESOURCES}{TEMPLATES}")];
    while let Some(dir) = dirs.pop() {
        for entry in home.list(&directory(&dir)?, ENTRIES_MAX)? {
            if entry.is_dir {
                dirs.push(format!("{dir}{}/", entry.name));
            } else {
                names.push(format!("{dir}{}", entry.name));
            }
            if ENTRIES_MAX < names.len() + dirs.len() {
                return Err(ResourcesError::Files.into());
            }
        }
    }
    names.retain(|name| belongs(name));
    if FILES_MAX < names.len() {
        return Err(ResourcesError::Files.into());
    }
    names.sort();
    let mut stamps = Vec::with_capacity(names.len());
    for name in names {
        let path = HomePath::parse(&name)?;
        let facts = match home.place(&path, None) {
            Ok(place) => place.facts()?,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error.into()),
        };
        stamps.extend(facts.map(|facts| (path, facts)));
    }
    Ok(stamps)
}

fn directory(name: &str) -> Result<HomePath, PackReadError> {
    Ok(HomePath::parse(name.trim_end_matches('/'))?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn home() -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        write(&home, "repository/resources/conf/default.json", "{}");
        write(&home, "repository/resources/conf/templates/repository/conf/carbon.xml.j2", "<a/>");
        write(&home, "repository/resources/conf/.metadata/references.properties", "env:PASSWORD=secret");
        write(&home, "repository/conf/deployment.toml", "a = 1");
        home
    }

    fn write(home: &tempfile::TempDir, path: &str, text: &str) {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn names(home: &tempfile::TempDir) -> Vec<String> {
        let resources = read(home.path().to_str().unwrap()).unwrap();
        resources.iter().map(|(path, _)| path.to_owned()).collect()
    }

    #[test]
    fn only_resources_leave_the_host_and_the_digest_follows_them() {
        let (home, mut reader) = (home(), PackReader::default());
        let at = home.path().to_str().unwrap();
        let first = reader.digest(at);
        assert!(first.is_some());
        assert_eq!(
            names(&home),
            [
                "repository/resources/conf/default.json",
                "repository/resources/conf/templates/repository/conf/carbon.xml.j2"
            ]
        );
        write(&home, "repository/conf/deployment.toml", "a = 2");
        assert_eq!(reader.digest(at), first);
        write(&home, "repository/resources/conf/templates/repository/conf/carbon.xml.j2", "<b/>");
        let second = reader.digest(at);
        assert!(second.is_some() && second != first);
        assert_eq!(PackReader::default().digest(at), second);
        write(&home, "lib/jinjava-2.7.2.jar", "");
        assert_ne!(reader.digest(at), second);
    }

    #[test]
    fn what_is_no_pack_has_no_digest() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(PackReader::default().digest(empty.path().to_str().unwrap()), None);
        assert_eq!(PackReader::default().digest("/does/not/exist"), None);
    }

    #[cfg(unix)]
    #[test]
    fn a_symlink_is_not_followed() {
        let (home, outside) = (home(), tempfile::tempdir().unwrap());
        let at = home.path().to_str().unwrap();
        fs::write(outside.path().join("shadow.j2"), "root:secret").unwrap();
        let link = home.path().join("repository/resources/conf/templates/shadow.j2");
        std::os::unix::fs::symlink(outside.path().join("shadow.j2"), &link).unwrap();
        assert!(read(at).is_err());
        fs::remove_file(link).unwrap();
        let below = home.path().join("repository/resources/conf/templates/more");
        std::os::unix::fs::symlink(outside.path(), below).unwrap();
        assert!(!names(&home).iter().any(|name| name.contains("shadow")));
    }
}
