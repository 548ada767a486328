//! What lay in a home before the first write into it ("generation 0"): kept as a bundle in the cache, and staged from
//! there when it is to come back. See ADR 0019.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::ErrorKind,
    sync::Arc,
};

use fleet::{
    bundle::{
        BUNDLE_FILES_MAX, BUNDLE_SIZE_MAX, Bundle, DriftPolicy, FILE_SIZE_MAX, FileEntry, HomePath, Origin,
        OwnerIds, RestartClass, Standing,
    },
    drift::{Occasion, keys::KeyRules},
    ids::Digest,
    key_manager::KeyManagers,
    node::{Failure, Keeping, Replaced, TakenOriginal},
    observed::RefusalReason,
    spec::canonical,
};
use proto::convert::link::encode_bundle;

use super::{
    check::failure_of,
    place::{Facts, Home, Owner, Place, PlaceError},
    stage::{Over, Staged, carried, fits, means_the_same, read_bounded, write_beside},
    worker::Staging,
};
use crate::cache::Cache;

/// Keeps what a switch to `bundle` will replace, durable on return. `None`: nothing was to be kept.
///
/// # Errors
/// A file cannot be read or is too large to be kept, or the cache cannot be written. Then nothing may be replaced.
pub fn take(home: &Home, cache: &Cache, coming: &Staging) -> Result<Option<TakenOriginal>, Failure> {
    let mut original = match &coming.keep {
        Keeping::Nothing => return Ok(None),
        Keeping::All { .. } => empty(coming),
        Keeping::Added { original, .. } => original.as_ref().clone(),
    };
    let paths = paths(&coming.bundle, &coming.keep);
    if paths.is_empty() {
        return Ok(None);
    }
    let taking = Taking { home, cache, coming };
    for path in paths {
        taking.keep(&path, &mut original)?;
    }
    if let Some(offset) = taking.offset(&original) {
        original.service = original.service.with_offset(offset);
    }
    let absent = original.origin.as_ref().map_or(0, |origin| origin.absent.len());
    if BUNDLE_FILES_MAX < original.files.len().max(absent) || BUNDLE_SIZE_MAX < original.size() {
        let (files, size) = (original.files.len(), original.size());
        return Err(unkept(format!(
            "what lies at the files of this bundle is too much to be kept: {files} files, {size} bytes"
        )));
    }
    let encoded = encode_bundle(&original);
    let content = Digest::of(&encoded);
    write(cache, &content, &encoded)?;
    Ok(Some(TakenOriginal { content, bundle: Arc::new(original) }))
}

fn unkept(detail: String) -> Failure {
    Failure { reason: RefusalReason::TargetUnsafe, detail }
}

fn empty(coming: &Staging) -> Bundle {
    let origin = Origin {
        taken: coming.now,
        before: coming.target.generation,
        standing: BTreeMap::new(),
        absent: BTreeSet::new(),
    };
    let (service, hooks) = (coming.bundle.service.clone(), coming.bundle.hooks.clone());
    Bundle {
        files: BTreeMap::new(),
        service,
        hooks,
        origin: Some(origin),
        drift_keys: KeyRules::default(),
        unnamed_editors: false,
        key_managers: KeyManagers::default(),
        balancer: coming.bundle.balancer,
    }
}

/// Every path that an original says something of.
fn known(original: &Bundle) -> impl Iterator<Item = &HomePath> {
    original.files.keys().chain(original.origin.iter().flat_map(|origin| &origin.absent))
}

fn paths(bundle: &Bundle, keep: &Keeping) -> BTreeSet<HomePath> {
    let own = bundle.files.keys();
    match keep {
        Keeping::Nothing => BTreeSet::new(),
        Keeping::All { earlier } => {
            let earlier = earlier.iter().flat_map(|earlier| known(earlier));
            own.chain([&bundle.service.config_path]).chain(earlier).cloned().collect()
        }
        Keeping::Added { original, in_force } => {
            let known: BTreeSet<&HomePath> = known(original).chain(in_force.files.keys()).collect();
            own.filter(|path| !known.contains(path)).cloned().collect()
        }
    }
}

/// Durable, also if damaged content lay there.
fn write(cache: &Cache, digest: &Digest, content: &[u8]) -> Result<(), Failure> {
    if cache.read(digest).is_ok() {
        return Ok(());
    }
    cache.write(digest, content).map_err(|error| {
        let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
        let reason = if full { RefusalReason::DiskFull } else { RefusalReason::IoFailed };
        Failure { reason, detail: format!("what lies there before cannot be kept: {error}") }
    })
}

struct Taking<'a> {
    home: &'a Home,
    cache: &'a Cache,
    coming: &'a Staging,
}

impl Taking<'_> {
    fn keep(&self, path: &HomePath, original: &mut Bundle) -> Result<(), Failure> {
        let coming = self.coming.bundle.files.get(path);
        let found = match look(self.home, path) {
            Ok(found) => found,
            // It is not replaced, so it need not be kept.
            Err(error) if coming.is_none() => {
                tracing::warn!(%path, error = %crate::chain(&error), "Cannot keep a file that was kept before");
                return Ok(());
            }
            Err(error) => return Err(failure_of(&error)),
        };
        let Some(origin) = &mut original.origin else { return Ok(()) };
        let Some((facts, content)) = found else {
            // A launch puts such a file there and takes it away by itself.
            if coming.is_none_or(|file| !file.launch) {
                origin.absent.insert(path.clone());
            }
            return Ok(());
        };
        let Some(content) = content else {
            return Err(unkept(format!(
                "{path} has more than {FILE_SIZE_MAX} bytes and cannot be kept as it was; move it away first"
            )));
        };
        let digest = Digest::of(&content);
        write(self.cache, &digest, &content)?;
        let mode = facts.mode.unwrap_or(0o640);
        let owner = facts.owner.map(|owner| OwnerIds { uid: owner.uid, gid: owner.gid });
        origin.standing.insert(path.clone(), Standing { mode, owner });
        let like = coming.or_else(|| self.earlier()?.files.get(path));
        let entry = FileEntry {
            digest,
            meaning: self.meaning(path, &content),
            size: content.len() as u64,
            mode: mode & 0o777,
            drift: DriftPolicy::Ignore,
            restart: like.map_or(RestartClass::Restart, |file| file.restart),
            secret: like.is_none_or(|file| file.secret),
            launch: false,
        };
        original.files.insert(path.clone(), entry);
        Ok(())
    }

    fn earlier(&self) -> Option<&Bundle> {
        match &self.coming.keep {
            Keeping::All { earlier } => earlier.as_deref(),
            Keeping::Nothing | Keeping::Added { .. } => None,
        }
    }

    /// That of the coming file if the server would read the same.
    fn meaning(&self, path: &HomePath, disk: &[u8]) -> Digest {
        let bundle = &*self.coming.bundle;
        let is_config = *path == bundle.service.config_path;
        if let Some(entry) = bundle.files.get(path)
            && let Ok(content) = self.cache.read(&entry.digest)
        {
            let over = Over { bundle, before: None, occasion: Occasion::Order };
            let content = if is_config { carried(content, Some(disk), &over) } else { content };
            if means_the_same(is_config, &content, Some(disk)) {
                return entry.meaning;
            }
        }
        match std::str::from_utf8(disk) {
            Ok(text) if is_config => canonical::meaning(text),
            Ok(_) | Err(_) => Digest::of(disk),
        }
    }

    /// Where the ports of the original's server are.
    fn offset(&self, original: &Bundle) -> Option<u16> {
        let entry = original.files.get(&original.service.config_path)?;
        let text = String::from_utf8(self.cache.read(&entry.digest).ok()?).ok()?;
        canonical::offset(&text)
    }
}

type Found = Option<(Facts, Option<Vec<u8>>)>;

/// What lies at a path, if anything does; without content if that is larger than is ever kept.
fn look(home: &Home, path: &HomePath) -> Result<Found, PlaceError> {
    let place = match home.place(path, None) {
        Ok(place) => place,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(facts) = place.facts()? else { return Ok(None) };
    let content = read_bounded(&place, &facts)?;
    Ok(Some((facts, content)))
}

/// Whether the files are still what was kept of them: somebody may have edited one between staging and switch.
///
/// # Errors
/// One is not, or cannot be looked at. Then nothing may be replaced.
pub fn check_unchanged(home: &Home, changed: &BTreeMap<HomePath, Replaced>) -> Result<(), Failure> {
    for (path, replaced) in changed {
        let found = look(home, path).map_err(|error| failure_of(&error))?;
        let now = found.map(|(_, content)| Digest::of(content.as_deref().unwrap_or_default()));
        if now != replaced.old {
            return Err(unkept(format!(
                "{path} was edited while its successor was being staged; apply again"
            )));
        }
    }
    Ok(())
}

/// Stages the original: content, mode and owner of each file as they were, and nothing where nothing was.
///
/// # Errors
/// The first file that cannot be staged; what was staged before it is for [`super::stage::discard`].
pub fn stage(home: &Home, cache: &Cache, original: &Bundle) -> Result<Staged, PlaceError> {
    let mut staged = Staged::default();
    let Some(origin) = &original.origin else { return Ok(staged) };
    for (path, entry) in &original.files {
        let standing = origin.standing.get(path);
        let mode = standing.map_or(entry.mode, |standing| standing.mode);
        let entry = FileEntry { mode, ..entry.clone() };
        let owner = standing.and_then(|standing| standing.owner);
        let owner = owner.map(|owner| Owner { uid: owner.uid, gid: owner.gid });
        stage_file(home, cache, &Wanted { original, path, entry, owner }, &mut staged)?;
    }
    for path in &origin.absent {
        if let Some((_, content)) = look(home, path)? {
            let old = Some(Digest::of(content.as_deref().unwrap_or_default()));
            staged.changed.insert(path.clone(), Replaced { old, new: None });
            staged.facts.differing.push(path.clone());
        }
    }
    Ok(staged)
}

struct Wanted<'a> {
    original: &'a Bundle,
    path: &'a HomePath,
    entry: FileEntry,
    owner: Option<Owner>,
}

fn stage_file(
    home: &Home,
    cache: &Cache,
    wanted: &Wanted<'_>,
    staged: &mut Staged,
) -> Result<(), PlaceError> {
    let Wanted { original, path, entry, owner } = wanted;
    let content = cache.read(&entry.digest).map_err(|source| PlaceError::Io {
        what: "read the content kept for",
        path: path.to_string(),
        source,
    })?;
    let place = home.place(path, Some(*owner))?;
    super::stage::clear(&place)?;
    let facts = place.facts()?;
    let disk = match facts {
        Some(facts) => read_bounded(&place, &facts)?,
        None => None,
    };
    let is_config = **path == original.service.config_path;
    if !means_the_same(is_config, &content, disk.as_deref()) {
        staged.facts.differing.push((*path).clone());
    }
    let same = disk.as_deref() == Some(content.as_slice());
    if same && facts.is_some_and(|facts| fits(&facts, entry, *owner)) {
        return Ok(());
    }
    write_owned(&place, entry, &content, *owner)?;
    let old = facts.map(|_| Digest::of(disk.as_deref().unwrap_or_default()));
    staged.changed.insert((*path).clone(), Replaced { old, new: Some(entry.digest) });
    Ok(())
}

/// An agent that is not root cannot give files away. Their content is worth more than their owner.
fn write_owned(
    place: &Place,
    entry: &FileEntry,
    content: &[u8],
    owner: Option<Owner>,
) -> Result<(), PlaceError> {
    match write_beside(place, entry, content, owner) {
        Err(PlaceError::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            tracing::warn!(path = %place.path(), "The original owner cannot be restored: the agent is not root");
            super::stage::clear(place)?;
            write_beside(place, entry, content, None)
        }
        result => result,
    }
}
