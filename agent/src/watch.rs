//! Hints that something happened to a managed file. Never data: the file is read and compared whatever the hint said,
//! and a slow full scan finds what hints miss.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fleet::bundle::{Bundle, HomePath};
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::{sync::mpsc, time::Instant};

/// Hinted files kept by name; beyond that everything is looked at.
const HINTS_MAX: usize = 1_000;
/// Restores whose hint time is remembered.
const TIMES_MAX: usize = 1_000;

/// What came in since the last scan.
#[derive(Debug, Default)]
struct Hints {
    managed: BTreeMap<PathBuf, HomePath>,
    /// Directories on the way to managed files: when they come, go or move, everything is looked at.
    directories: BTreeSet<PathBuf>,
    /// What the product generated, its record, and the directories on the way there.
    generated: BTreeSet<PathBuf>,
    dirty: BTreeSet<HomePath>,
    /// Names were lost: everything may be dirty.
    all: bool,
    /// First hint of each file that is not known to be as desired again.
    first: BTreeMap<HomePath, Instant>,
}

/// How urgent a hint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Whoever wrote is done.
    Settled,
    /// Somebody may still be writing.
    Writing,
}

/// Where hints arrive.
#[derive(Debug)]
pub struct Hinted {
    /// Managed files.
    pub managed: mpsc::Receiver<Hint>,
    /// Files that the product generated.
    pub generated: mpsc::Receiver<()>,
}

/// The directories of managed and generated files, watched.
#[derive(Debug)]
pub struct Watch {
    hints: Arc<Mutex<Hints>>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// A watch of nothing yet, and where its hints arrive. Hints that nobody has taken coalesce.
    pub fn new() -> (Self, Hinted) {
        let (send, managed) = mpsc::channel(2);
        let (send_generated, generated) = mpsc::channel(1);
        let hints = Arc::new(Mutex::new(Hints::default()));
        let inside = Arc::clone(&hints);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let (hint, is_generated) = note(&inside, event);
            if is_generated {
                send_generated.try_send(()).ok();
            }
            let Some(hint) = hint else { return };
            // News of writing leave room for the news of its end, which lead to a look at once. Full then means that such
            // a look is coming already.
            if hint == Hint::Settled || send.capacity() == send.max_capacity() {
                send.try_send(hint).ok();
            }
        });
        let watcher = watcher.map_err(|error| {
            tracing::error!(%error, "Files cannot be watched here; only the slow scan finds edits");
        });
        let hinted = Hinted { managed, generated };
        (Self { hints, watcher: watcher.ok(), watched: BTreeSet::new() }, hinted)
    }

    /// Watches the files of `bundle` instead of those before.
    pub fn set(&mut self, bundle: &Bundle) {
        let home = resolved(&bundle.service.home);
        let kept = bundle.files.iter().filter(|(_, file)| !file.launch);
        let managed: BTreeMap<PathBuf, HomePath> =
            kept.map(|(path, _)| (home.join(path.as_str()), path.clone())).collect();
        let directories = ways(&home, managed.keys());
        {
            let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
            *hints = Hints { managed, directories: directories.clone(), ..Hints::default() };
        }
        let before = std::mem::replace(&mut self.watched, directories);
        if let Some(watcher) = &mut self.watcher {
            for gone in before.difference(&self.watched) {
                if let Err(error) = watcher.unwatch(gone) {
                    tracing::debug!(%error, "Cannot stop watching a directory");
                }
            }
        }
        self.rearm();
    }

    /// Watches these generated files too, until other files are watched.
    pub fn set_generated<'a>(&mut self, home: &str, paths: impl Iterator<Item = &'a HomePath>) {
        let home = resolved(home);
        let mut generated: BTreeSet<PathBuf> = paths.map(|path| home.join(path.as_str())).collect();
        let directories = ways(&home, generated.iter());
        generated.extend(directories.iter().cloned());
        {
            let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
            if hints.generated == generated {
                return;
            }
            hints.generated = generated;
        }
        // Those of files that are generated no longer stay watched until the next bundle: their hints mean nothing.
        self.watched.extend(directories);
        self.rearm();
    }

    /// Watches every directory again: the one of that name may be another by now, and the old watch is silent.
    pub fn rearm(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for directory in &self.watched {
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::debug!(%error, directory = %directory.display(), "Cannot watch a directory");
            }
        }
    }

    /// These files are as desired: the next hint about one is the first of a new edit.
    pub fn settled<'a>(&self, paths: impl Iterator<Item = &'a HomePath>) {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        for path in paths {
            hints.first.remove(path);
        }
    }

    /// This file is to be looked at again.
    pub fn hint(&self, path: &HomePath) {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner).dirty.insert(path.clone());
    }

    /// The files that hints named since the last call; `None` if it may be all.
    pub fn take_hints(&self) -> Option<BTreeSet<HomePath>> {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        let dirty = std::mem::take(&mut hints.dirty);
        if std::mem::take(&mut hints.all) { None } else { Some(dirty) }
    }

    /// Since the first hint about this file; forgets it. Zero if the slow scan found it.
    pub fn since_hint(&self, path: &HomePath) -> Duration {
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        hints.first.remove(path).map_or(Duration::ZERO, |first| first.elapsed())
    }
}

/// Events name the path that was watched; the system resolves symlinks on the way to home, so do we.
fn resolved(home: &str) -> PathBuf {
    let home = Path::new(home);
    home.canonicalize().unwrap_or_else(|_| home.to_owned())
}

/// All directories up to home: one that is moved away and back is announced only by its parent.
fn ways<'a>(home: &Path, files: impl Iterator<Item = &'a PathBuf>) -> BTreeSet<PathBuf> {
    let up = files.flat_map(|path| path.ancestors().skip(1).take_while(|dir| dir.starts_with(home)));
    up.map(Path::to_owned).collect()
}

/// What an event means for managed files, and whether it means something for generated ones.
fn note(hints: &Mutex<Hints>, event: notify::Result<notify::Event>) -> (Option<Hint>, bool) {
    let mut hints = hints.lock().unwrap_or_else(PoisonError::into_inner);
    let event = match event {
        Ok(event) if !event.need_rescan() => event,
        // An overflow names no paths.
        Ok(_) | Err(_) => {
            hints.all = true;
            return (Some(Hint::Settled), true);
        }
    };
    let hint = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Settled,
        // Our own reading.
        EventKind::Access(_) => return (None, false),
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => Hint::Writing,
        EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Any | EventKind::Other => Hint::Settled,
    };
    let only_metadata = matches!(event.kind, EventKind::Modify(ModifyKind::Metadata(_)));
    let (mut relevant, mut is_generated) = (false, false);
    for path in &event.paths {
        if let Some(file) = hints.managed.get(path).cloned() {
            relevant = true;
            if hints.first.len() < TIMES_MAX {
                hints.first.entry(file.clone()).or_insert_with(Instant::now);
            }
            hints.dirty.insert(file);
        } else if hints.directories.contains(path) && !only_metadata {
            relevant = true;
            hints.all = true;
        }
        is_generated |= hints.generated.contains(path) && !only_metadata;
    }
    if HINTS_MAX < hints.dirty.len() {
        hints.all = true;
    }
    (relevant.then_some(hint), is_generated)
}
