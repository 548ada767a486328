//! Comparing files with the bundle in force. A file whose directory entry has not changed since it was last read is
//! not read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use super::{
    place::{Facts, Home, Owner, PlaceError},
    stage::{digest_of, fits, read_bounded},
};
use crate::cache::Cache;
use fleet::{
    bundle::{Bundle, FILE_SIZE_MAX, FileEntry, HomePath},
    drift::Found,
    host::OtherKind,
    ids::Digest,
    spec::canonical,
};

/// What is remembered of files that were as desired, or whose difference was read.
#[derive(Debug, Default)]
pub struct Scanner {
    seen: BTreeMap<HomePath, Seen>,
}

#[derive(Debug)]
struct Seen {
    /// They hold the change time, which cannot be set back by ordinary means.
    facts: Facts,
    difference: Option<Found>,
    /// Read so long after the last change that another would have another change time.
    is_settled: bool,
}

/// File systems count time in ticks of up to 10 ms: what changed less than this before it was read may change again
/// without a trace in its facts.
const TICKS: Duration = Duration::from_millis(100);

impl Scanner {
    /// Forgets everything: other files are desired.
    pub fn reset(&mut self) {
        self.seen.clear();
    }

    /// What a file was when it was last looked at; `None` if it was not there.
    pub fn facts(&self, path: &HomePath) -> Option<Facts> {
        self.seen.get(path).map(|seen| seen.facts)
    }

    /// Looks at `paths`, or at every file of the bundle.
    pub fn scan(
        &mut self,
        home: &Home,
        cache: &Cache,
        (bundle, owner): (&Bundle, Option<Owner>),
        paths: Option<&BTreeSet<HomePath>>,
    ) -> (BTreeSet<HomePath>, BTreeMap<HomePath, Found>) {
        let (mut looked, mut found) = (BTreeSet::new(), BTreeMap::new());
        for (path, entry) in &bundle.files {
            if entry.launch || paths.is_some_and(|paths| !paths.contains(path)) {
                continue;
            }
            match self.look(home, cache, (bundle, owner), (path, entry)) {
                Ok(difference) => {
                    looked.insert(path.clone());
                    if let Some(difference) = difference {
                        found.insert(path.clone(), difference);
                    }
                }
                // Not seen is not the same as different; the next scan looks again.
                Err(error) => tracing::warn!(%path, error = %crate::chain(&error), "Cannot look at a file"),
            }
        }
        (looked, found)
    }

    fn look(
        &mut self,
        home: &Home,
        cache: &Cache,
        (bundle, owner): (&Bundle, Option<Owner>),
        (path, entry): (&HomePath, &FileEntry),
    ) -> Result<Option<Found>, PlaceError> {
        let place = match home.place(path, None) {
            Ok(place) => place,
            Err(PlaceError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                self.seen.remove(path);
                return Ok(Some(Found::Missing));
            }
            Err(PlaceError::Unsafe { why, .. }) => return Ok(Some(unusable(why))),
            Err(error) => return Err(error),
        };
        let is_config = *path == bundle.service.config_path;
        let facts = match place.facts() {
            Ok(Some(facts)) => facts,
            Ok(None) => {
                self.seen.remove(path);
                return Ok(Some(if is_config { missing_config(home, entry, path) } else { Found::Missing }));
            }
            Err(PlaceError::Unsafe { why, .. }) => return Ok(Some(unusable(why))),
            Err(error) => return Err(error),
        };
        if let Some(seen) = self.seen.get(path)
            && seen.is_settled
            && seen.facts == facts
        {
            return Ok(seen.difference.clone());
        }
        let is_settled = facts.changed_before(SystemTime::now(), TICKS);
        let disk = read_bounded(&place, &facts)?;
        let difference = if digest_of(disk.as_deref()) == Some(entry.digest) {
            permission(&facts, entry, owner)
        } else {
            Some(if is_config {
                other_config(home, cache, (bundle, entry), disk)
            } else {
                Found::Content { texts: None }
            })
        };
        self.seen.insert(path.clone(), Seen { facts, difference: difference.clone(), is_settled });
        Ok(difference)
    }
}

/// Where API Manager keeps what its profile setup copies over deployment.toml.
const TEMPLATES: &str = "repository/resources/conf/deployment-templates";
/// Templates that are looked at; packs ship about five.
const TEMPLATES_MAX: usize = 50;

/// A directory that holds more names, or cannot be listed, is not the product's.
fn templates(home: &Home) -> Vec<HomePath> {
    let listed = HomePath::parse(TEMPLATES).ok().and_then(|dir| home.list(&dir, TEMPLATES_MAX).ok());
    let files = listed.unwrap_or_default().into_iter().filter(|it| !it.is_dir && it.name.ends_with(".toml"));
    files.filter_map(|it| HomePath::parse(&format!("{TEMPLATES}/{}", it.name)).ok()).collect()
}

fn read_text(home: &Home, path: &HomePath) -> Option<String> {
    String::from_utf8(home.read(path, FILE_SIZE_MAX).ok()??.bytes).ok()
}

fn unusable(why: OtherKind) -> Found {
    Found::Unusable { detail: format!("it {why}; {}", why.remedy()) }
}

/// Profile setup moves the file to `deployment.toml.backup` before it copies its template: that is no person's doing.
fn missing_config(home: &Home, entry: &FileEntry, path: &HomePath) -> Found {
    let moved = || {
        let backup = HomePath::parse(&format!("{path}.backup")).ok()?;
        Some(Digest::of(&home.read(&backup, FILE_SIZE_MAX).ok()??.bytes))
    };
    if !templates(home).is_empty() && moved() == Some(entry.digest) {
        let detail = format!("profile setup has moved it to {path}.backup");
        return Found::Replaced { detail };
    }
    Found::Missing
}

fn other_config(
    home: &Home,
    cache: &Cache,
    (bundle, entry): (&Bundle, &FileEntry),
    disk: Option<Vec<u8>>,
) -> Found {
    let found = texts(cache, entry, disk);
    let on_disk = found.as_ref().and_then(|(_, disk)| canonical::flatten(disk).ok());
    // The key generator may have written into the template already.
    let is_disk = |path: &&HomePath| {
        let template = read_text(home, path).and_then(|text| canonical::flatten(&text).ok());
        let pair = template.as_ref().zip(on_disk.as_ref());
        pair.is_some_and(|(a, b)| canonical::differing_keys(a, b, &bundle.service.owned_keys).is_empty())
    };
    if let Some(template) = templates(home).iter().find(is_disk) {
        let name = template.file_name();
        return Found::Replaced { detail: format!("profile setup has put its template {name} in its place") };
    }
    Found::Content { texts: found }
}

fn texts(cache: &Cache, entry: &FileEntry, disk: Option<Vec<u8>>) -> Option<(String, String)> {
    let desired = String::from_utf8(cache.read(&entry.digest).ok()?).ok()?;
    Some((desired, String::from_utf8(disk?).ok()?))
}

fn permission(facts: &Facts, entry: &FileEntry, owner: Option<Owner>) -> Option<Found> {
    if fits(facts, entry, owner) {
        return None;
    }
    match (facts.mode, facts.owner) {
        (Some(mode), _) if mode != entry.mode => Some(Found::Mode { mode }),
        (_, Some(owner)) => Some(Found::Owner { detail: format!("owner is {}:{}", owner.uid, owner.gid) }),
        _ => None,
    }
}
