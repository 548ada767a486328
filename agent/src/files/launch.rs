//! Files that are in the home only while a server starts, such as the secure vault's `password-tmp`: written right
//! before a launch, 0600 and owned by the run user, and taken away once the server is up, late or gone.

use std::io::Write as _;

use fleet::{
    bundle::{Bundle, HomePath},
    node::Failure,
    observed::RefusalReason,
};

use super::{
    check::failure_of,
    place::{Home, Owner, PlaceError},
    stage::NEW,
};
use crate::cache::Cache;

/// Writes them all; what an earlier launch has left is replaced.
///
/// # Errors
/// Content that is not here, or whatever the file system says. Some may have been written.
pub fn write_launch_files(bundle: &Bundle, cache: &Cache, owner: Option<Owner>) -> Result<(), Failure> {
    if !bundle.has_launch_files() {
        return Ok(());
    }
    let home = Home::open(&bundle.service.home).map_err(|error| failure_of(&error))?;
    for (path, entry) in bundle.launch_files() {
        let content = cache.read(&entry.digest).map_err(|error| Failure {
            reason: RefusalReason::ContentUnavailable,
            detail: format!("{path}: {error}"),
        })?;
        write(&home, path, &content, owner).map_err(|error| failure_of(&error))?;
    }
    Ok(())
}

fn write(home: &Home, path: &HomePath, content: &[u8], owner: Option<Owner>) -> Result<(), PlaceError> {
    let failed = |what| move |source| PlaceError::Io { what, path: path.to_string(), source };
    let place = home.place(path, Some(owner))?;
    place.facts()?;
    let new = place.aside(NEW);
    place.remove(&new)?;
    // Born 0600, and stays so.
    let mut file = place.create(&new, owner)?;
    file.write_all(content).map_err(failed("write beside"))?;
    file.sync_all().map_err(failed("sync the new"))?;
    place.replace_by(&new)
}

/// Takes them all away. Answers with those that were still there, which the server has not used up.
///
/// # Errors
/// The first that cannot be removed; the others are.
pub fn clear_launch_files(bundle: &Bundle) -> Result<Vec<HomePath>, PlaceError> {
    let home = Home::open(&bundle.service.home)?;
    let (mut left, mut failed) = (Vec::new(), None);
    for (path, _) in bundle.launch_files() {
        match clear(&home, path) {
            Ok(true) => left.push(path.clone()),
            Ok(false) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(left), Err)
}

fn clear(home: &Home, path: &HomePath) -> Result<bool, PlaceError> {
    let place = match home.place(path, None) {
        Ok(place) => place,
        Err(PlaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    // A crash between writing and renaming leaves it under its hidden name.
    place.remove(&place.aside(NEW))?;
    let was_there = place.facts()?.is_some();
    if was_there {
        place.remove_target()?;
    }
    place.sync()?;
    Ok(was_there)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_launch_file_is_for_its_owner_only_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().to_str().unwrap()).unwrap();
        let path = HomePath::parse("password-tmp").unwrap();
        // Left by somebody, readable by all, and half written by an agent that was killed.
        std::fs::write(dir.path().join("password-tmp"), "old").unwrap();
        let place = home.place(&path, None).unwrap();
        place.create(&place.aside(NEW), None).unwrap();
        write(&home, &path, b"s3cret\n", None).unwrap();
        let metadata = std::fs::metadata(dir.path().join("password-tmp")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(dir.path().join("password-tmp")).unwrap(), "s3cret\n");
        place.create(&place.aside(NEW), None).unwrap();
        assert!(clear(&home, &path).unwrap());
        assert!(!clear(&home, &path).unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
