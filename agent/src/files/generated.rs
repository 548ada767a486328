//! What the product generated, as it is now: its own record, the MD5 of each recorded file, and the values that it
//! keeps in clear. And the way back for files that are gone: `backup/`, or a configuration step from nothing.

use std::{collections::BTreeMap, io::Write as _};

use fleet::{
    bundle::{FILE_SIZE_MAX, HomePath},
    drift::generated::{Looked, RECORD, RECORD_DIR, REFERENCES, Recorded, secret_residue},
    node::Event,
    time::Timestamp,
};
use md5::{Digest as _, Md5};

use super::{
    place::{Facts, Home, Owner, Place, PlaceError},
    stage::{NEW, read_bounded},
    switch::switch_one,
};

/// Recorded files that are looked at, at most; API Manager has about 150.
const FILES_MAX: usize = 5_000;

/// A generated file of more bytes is none that a product makes, and is not read.
const GENERATED_SIZE_MAX: u64 = 64 * 1024 * 1024;

/// Remembers what a file was when it was read last, so that an unchanged one is not read again.
#[derive(Debug, Default)]
pub struct Reader {
    seen: BTreeMap<HomePath, (Facts, String)>,
}

impl Reader {
    /// Looks at the record and at every file in it. What cannot be read is left out: it is not judged.
    pub fn look(&mut self, home: &Home, config: &HomePath) -> Looked {
        let Some((text, _)) = self.read_text(home, RECORD) else { return Looked::default() };
        let recorded = Recorded::parse(&text, config);
        let mut now = BTreeMap::new();
        for path in recorded.0.keys().take(FILES_MAX) {
            match self.md5(home, path) {
                Ok(md5) => {
                    now.insert(path.clone(), md5);
                }
                Err(error) => {
                    tracing::warn!(%path, error = %crate::chain(&error), "Cannot look at a generated file");
                }
            }
        }
        self.seen.retain(|path, _| now.contains_key(path));
        let residue = self.read_text(home, REFERENCES).and_then(|(text, mode)| secret_residue(&text, mode?));
        Looked { recorded, now, residue }
    }

    fn read_text(&self, home: &Home, path: &str) -> Option<(String, Option<u32>)> {
        let content = home.read(&HomePath::parse(path).ok()?, FILE_SIZE_MAX).ok()??;
        // Properties files are Latin-1 with escapes; paths and names are ASCII.
        Some((String::from_utf8_lossy(&content.bytes).into_owned(), content.facts.mode))
    }

    fn md5(&mut self, home: &Home, path: &HomePath) -> Result<Option<String>, PlaceError> {
        let Some((place, facts)) = find(home, path)? else { return Ok(None) };
        if let Some((known, md5)) = self.seen.get(path)
            && *known == facts
        {
            return Ok(Some(md5.clone()));
        }
        let md5 = md5_of(&place)?;
        self.seen.insert(path.clone(), (facts, md5.clone()));
        Ok(Some(md5))
    }
}

/// When deployment.toml was changed, if it is not the one that the product recorded at its last start. `None` as well
/// if there is no record: then nothing is known against it.
pub fn config_unread(home: &Home, config: &HomePath) -> Option<Timestamp> {
    let (text, _) = Reader::default().read_text(home, RECORD)?;
    let read = Recorded::config(&text, config)?;
    let (place, facts) = find(home, config).ok()??;
    let now = md5_of(&place).ok()?;
    (now != read).then(|| facts.modified())
}

/// The file's place and facts; `None` if it or a directory on its way is gone.
fn find(home: &Home, path: &HomePath) -> Result<Option<(Place, Facts)>, PlaceError> {
    match home.place(path, None) {
        Ok(place) => Ok(place.facts()?.map(|facts| (place, facts))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn md5_of(place: &Place) -> Result<String, PlaceError> {
    let mut digest = Md5::new();
    place.each_chunk(GENERATED_SIZE_MAX, |chunk| digest.update(chunk))?;
    Ok(hex(&digest.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Brings `paths` back from `backup/` where that holds exactly what was recorded. Where a file is gone and cannot be had
/// so, the record is removed: the next start then makes everything anew.
pub fn mend(home: &Home, paths: &[HomePath], config: &HomePath, owner: Option<Owner>) -> Event {
    let looked = Reader::default().look(home, config);
    let (mut restored, mut lost, mut troubles) = (Vec::new(), false, Vec::new());
    for path in paths {
        let Some(recorded) = looked.recorded.0.get(path) else { continue };
        match restore(home, path, recorded, owner) {
            Ok(true) => restored.push(path.clone()),
            Ok(false) if looked.now.get(path).is_some_and(Option::is_none) => lost = true,
            Ok(false) => troubles.push(format!(
                "backup/{path} is not what the product recorded; the next start makes {path} anew by itself"
            )),
            Err(error) => troubles.push(format!("{path}: {}", crate::chain(&error))),
        }
    }
    let dropped = lost
        && match drop_record(home) {
            Ok(()) => true,
            Err(error) => {
                troubles.push(crate::chain(&error));
                false
            }
        };
    let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
    Event::Mended { restored, dropped, trouble }
}

/// `false` if `backup/` does not hold it.
fn restore(home: &Home, path: &HomePath, recorded: &str, owner: Option<Owner>) -> Result<bool, PlaceError> {
    let Ok(backup) = HomePath::parse(&format!("backup/{path}")) else { return Ok(false) };
    let Some((kept, facts)) = find(home, &backup)? else { return Ok(false) };
    if FILE_SIZE_MAX < facts.size || md5_of(&kept)? != recorded.to_ascii_lowercase() {
        return Ok(false);
    }
    let Some(content) = read_bounded(&kept, &facts)? else { return Ok(false) };
    let place = home.place(path, Some(owner))?;
    let owner = owner.or(facts.owner.filter(|_| is_root()));
    let failed = |what| move |source| PlaceError::Io { what, path: path.to_string(), source };
    place.remove(&place.aside(NEW))?;
    let mut file = place.create(&place.aside(NEW), owner)?;
    file.write_all(&content).map_err(failed("write beside"))?;
    place.set_mode(&file, facts.mode.unwrap_or(0o640))?;
    file.sync_all().map_err(failed("sync the new"))?;
    switch_one(&place)?;
    Ok(true)
}

/// Only root can give a file to the server's user; anybody else makes it as the server would.
fn is_root() -> bool {
    crate::platform::user(None).is_ok_and(|user| user.owner.id == 0)
}

/// Removes the record's files; their directory stays.
fn drop_record(home: &Home) -> Result<(), PlaceError> {
    for name in ["metadata_config.properties", "metadata_template.properties", "references.properties"] {
        let Ok(path) = HomePath::parse(&format!("{RECORD_DIR}/{name}")) else { continue };
        let Some((place, _)) = find(home, &path)? else { continue };
        place.remove_target()?;
        place.sync()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    const XML: &str = "repository/conf/carbon.xml";

    fn path(text: &str) -> HomePath {
        HomePath::parse(text).unwrap()
    }

    /// A home whose record holds carbon.xml with content `a`.
    fn home() -> (tempfile::TempDir, Home) {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), RECORD, "#date\nrepository/conf/carbon.xml=0cc175b9c0f1b6a831c399e269772661\n");
        put(dir.path(), REFERENCES, "#date\n");
        let home = Home::open(dir.path().to_str().unwrap()).unwrap();
        (dir, home)
    }

    fn put(home: &Path, path: &str, text: &str) {
        let path = home.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn mend_it(home: &Home) -> (Vec<HomePath>, bool, Option<String>) {
        match mend(home, &[path(XML)], &path("repository/conf/deployment.toml"), None) {
            Event::Mended { restored, dropped, trouble } => (restored, dropped, trouble),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_config_that_no_start_has_read_is_told_from_one_that_was() {
        let (dir, home) = home();
        let config = "repository/conf/deployment.toml";
        put(dir.path(), config, "a");
        assert_eq!(config_unread(&home, &path(config)), None, "the record does not name it");
        put(dir.path(), RECORD, &format!("#date\n{config}=0cc175b9c0f1b6a831c399e269772661\n"));
        assert_eq!(config_unread(&home, &path(config)), None, "it is what the start read");
        put(dir.path(), config, "b");
        assert!(config_unread(&home, &path(config)).is_some());
        fs::remove_file(dir.path().join(RECORD)).unwrap();
        assert_eq!(config_unread(&home, &path(config)), None, "nothing is known against it");
    }

    #[test]
    fn what_backup_holds_as_recorded_comes_back() {
        let (dir, home) = home();
        put(dir.path(), &format!("backup/{XML}"), "a");
        assert_eq!(mend_it(&home), (vec![path(XML)], false, None));
        assert_eq!(fs::read_to_string(dir.path().join(XML)).unwrap(), "a");
        assert!(dir.path().join(RECORD).is_file());
    }

    #[test]
    fn without_it_a_deleted_file_costs_the_record_and_an_edited_one_nothing() {
        let (dir, home) = home();
        put(dir.path(), &format!("backup/{XML}"), "older");
        put(dir.path(), XML, "edited");
        let (restored, dropped, trouble) = mend_it(&home);
        assert!(restored.is_empty() && !dropped && trouble.unwrap().contains("makes"), "an edit is harmless");
        fs::remove_file(dir.path().join(XML)).unwrap();
        assert_eq!(mend_it(&home), (Vec::new(), true, None));
        assert!(!dir.path().join(RECORD).exists() && !dir.path().join(REFERENCES).exists());
        assert_eq!(
            Reader::default().look(&home, &path("repository/conf/deployment.toml")),
            Looked::default()
        );
    }
}
