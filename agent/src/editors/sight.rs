//! The kernel's events about directories with managed files.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use fleet::{
    bundle::{Bundle, HomePath},
    editor::Editor,
    node::Event,
    panics,
};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::{fs::CWD, thread::CapabilitySet};
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use super::{
    facts::{Names, Processes},
    log::{Log, Writer},
    record::{Record, records},
    unseen::Unseen,
};

/// `FAN_REPORT_DIR_FID` and `FAN_REPORT_NAME`: files are named by directory and name. `nix` has no names for them.
const DFID_NAME: u32 = 0x0c00;
/// Directories that are watched at most.
const DIRECTORIES_MAX: usize = 1_000;
/// Restores whose writers are still to be told.
const WAITING_MAX: usize = 1_000;
/// Bytes of one read.
const BUFFER: usize = 64 * 1024;
/// The thread goes before others: who wrote may end within a fraction of a millisecond. Needs CAP_SYS_NICE.
const NICENESS: i32 = -20;

/// The right to see whose doing a change is, taken before the agent has threads. It lasts without the capability.
#[derive(Debug)]
pub struct Sight {
    group: Option<Fanotify>,
    /// Somebody wants to know, seen or not.
    wanted: bool,
}

impl Sight {
    /// Nothing is seen.
    pub const fn none() -> Self {
        Self { group: None, wanted: false }
    }

    /// Opens it if it is wanted and the agent may, and gives up CAP_SYS_ADMIN in any case. To be called before any thread
    /// is started: capabilities belong to threads.
    pub fn open(wanted: bool) -> Self {
        let held = rustix::thread::capabilities(None).is_ok_and(|sets| has_admin(sets.effective));
        let group = match (wanted, held) {
            (true, true) => {
                open().map_err(|error| warn!(%error, "Edits are told without who made them")).ok()
            }
            (true, false) => {
                info!(
                    "Edits are told without who made them: the agent has no CAP_SYS_ADMIN (docs/agent.md, \"Who edited it\")"
                );
                None
            }
            (false, _) => None,
        };
        if held && let Err(error) = give_up() {
            warn!(%error, "Cannot give up CAP_SYS_ADMIN");
        }
        Self { group, wanted }
    }
}

fn has_admin(set: CapabilitySet) -> bool {
    set.contains(CapabilitySet::SYS_ADMIN)
}

fn open() -> io::Result<Fanotify> {
    let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::from_bits_retain(DFID_NAME);
    Ok(Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?)
}

/// What a server would inherit goes with it. Root takes it back by starting a program, as far as the unit lets it.
fn give_up() -> io::Result<()> {
    rustix::thread::configure_capability_in_ambient_set(CapabilitySet::SYS_ADMIN, false)?;
    let mut sets = rustix::thread::capabilities(None)?;
    for set in [&mut sets.effective, &mut sets.permitted, &mut sets.inheritable] {
        set.remove(CapabilitySet::SYS_ADMIN);
    }
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// What happens to a name that changes the file, in the kernel's words.
fn is_change(mask: u64) -> bool {
    let changes = MaskFlags::FAN_MODIFY
        | MaskFlags::FAN_ATTRIB
        | MaskFlags::FAN_CREATE
        | MaskFlags::FAN_DELETE
        | MaskFlags::FAN_MOVED_FROM
        | MaskFlags::FAN_MOVED_TO;
    mask & changes.bits() != 0
}

/// Openings too: a process that is about to write is looked at while it lives.
fn interesting() -> MaskFlags {
    MaskFlags::FAN_OPEN
        | MaskFlags::FAN_MODIFY
        | MaskFlags::FAN_CLOSE_WRITE
        | MaskFlags::FAN_ATTRIB
        | MaskFlags::FAN_CREATE
        | MaskFlags::FAN_DELETE
        | MaskFlags::FAN_MOVED_FROM
        | MaskFlags::FAN_MOVED_TO
        | MaskFlags::FAN_EVENT_ON_CHILD
}

/// Who writes managed files, or what can be told where that is not seen.
#[derive(Debug, Clone)]
pub struct Editors {
    seen: Option<Arc<Shared>>,
    /// In its place, if somebody wants to know.
    unseen: Option<Unseen>,
}

#[derive(Debug)]
struct Shared {
    group: Fanotify,
    own: i32,
    names: Names,
    /// Apart from the state: whoever reads events has no time to wait for it.
    home: Mutex<Arc<Path>>,
    state: Mutex<State>,
    events: mpsc::Sender<Event>,
}

#[derive(Debug, Default)]
struct State {
    managed: BTreeMap<PathBuf, HomePath>,
    /// Device and inode of each watched directory, and what the kernel calls it.
    watched: BTreeMap<PathBuf, ((u64, u64), Vec<u8>)>,
    /// By what the kernel calls them.
    directories: BTreeMap<Vec<u8>, PathBuf>,
    log: Log,
    /// Restores whose rename was not read yet, and when they began.
    waiting: BTreeMap<HomePath, Instant>,
}

impl Editors {
    /// Reads on a thread of its own until the agent ends. What is known only after a restore goes to `events`.
    pub fn start(sight: Sight, events: &mpsc::Sender<Event>) -> Self {
        let nobody = || Self { seen: None, unseen: sight.wanted.then(Unseen::default) };
        let Some(group) = sight.group else { return nobody() };
        let shared = Arc::new(Shared {
            group,
            own: std::process::id().cast_signed(),
            names: Names::default(),
            home: Mutex::new(Arc::from(Path::new(""))),
            state: Mutex::default(),
            events: events.clone(),
        });
        let reading = Arc::clone(&shared);
        // Not one of the runtime's: those are waited for, and a read may last for ever.
        let started = std::thread::Builder::new()
            .name("editors".to_owned())
            .spawn(move || panics::tamed(|| reading.read()));
        match started {
            Ok(_) => Self { seen: Some(shared), unseen: None },
            Err(error) => {
                warn!(%error, "Edits are told without who made them");
                nobody()
            }
        }
    }

    /// Watches the directories of the files of `bundle` instead of those before.
    pub fn set(&self, bundle: &Bundle) {
        if let Some(unseen) = &self.unseen {
            unseen.set(bundle);
        }
        let Some(shared) = &self.seen else { return };
        let home = Path::new(&bundle.service.home);
        let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
        let kept = bundle.files.iter().filter(|(_, file)| !file.launch && !bundle.unnamed_editors);
        let paths: BTreeSet<HomePath> = kept.map(|(path, _)| path.clone()).collect();
        let managed: BTreeMap<PathBuf, HomePath> =
            paths.iter().map(|path| (home.join(path.as_str()), path.clone())).collect();
        let mut state = shared.state();
        state.log.keep(&paths);
        *shared.home.lock().unwrap_or_else(PoisonError::into_inner) = Arc::from(home);
        state.managed = managed;
        state.waiting.clear();
        shared.arm(&mut state);
    }

    /// Watches directories that were made anew since.
    pub fn rearm(&self) {
        if let Some(shared) = &self.seen {
            shared.arm(&mut shared.state());
        }
    }

    /// A look that began at `begun` found these files as desired.
    pub fn clean<'a>(&self, paths: impl Iterator<Item = &'a HomePath>, begun: Instant) {
        if let Some(unseen) = &self.unseen {
            return unseen.forget(paths);
        }
        if let Some(shared) = &self.seen {
            let mut state = shared.state();
            let State { log, waiting, .. } = &mut *state;
            // Of one whose restore is still to be read, everything is what the restore has replaced.
            let is_read = |path: &&HomePath| !waiting.contains_key(*path);
            paths.filter(is_read).for_each(|path| log.clean(path, begun));
        }
    }

    /// Who has written what lies there now, as far as is known.
    pub fn so_far(&self, path: &HomePath) -> Vec<Editor> {
        match (&self.seen, &self.unseen) {
            (Some(shared), _) => shared.named(shared.state().log.so_far(path)),
            (None, Some(unseen)) => unseen.of(path).into_iter().collect(),
            (None, None) => Vec::new(),
        }
    }

    /// Who had written what a restore that began at `begun` has replaced. Nobody, if that is not known yet: then it is told
    /// by [`Event::Edited`] as soon as it is.
    pub fn replaced(&self, path: &HomePath, begun: Instant) -> Vec<Editor> {
        if let Some(unseen) = &self.unseen {
            // Told before the restore.
            unseen.forget([path].into_iter());
        }
        let Some(shared) = &self.seen else { return Vec::new() };
        let mut state = shared.state();
        let known = state.log.replaced(path, begun);
        if known.is_none() && state.managed.values().any(|managed| managed == path) {
            if WAITING_MAX <= state.waiting.len() {
                state.waiting.clear();
            }
            state.waiting.insert(path.clone(), begun);
        }
        drop(state);
        shared.named(known.unwrap_or_default())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self, editors: Vec<Editor>) -> Vec<Editor> {
        editors.into_iter().map(|editor| self.names.resolve(editor).bounded()).collect()
    }

    /// Makes the marks what the managed files ask for.
    fn arm(&self, state: &mut State) {
        let parents = state.managed.keys().filter_map(|path| path.parent().map(Path::to_owned));
        let wanted: BTreeSet<PathBuf> = parents.take(DIRECTORIES_MAX).collect();
        let is_gone = |path: &PathBuf| !wanted.contains(path);
        for (path, _) in state.watched.extract_if(.., |path, _| is_gone(path)) {
            // A directory that is gone has taken its mark along.
            if let Err(error) = self.group.mark(MarkFlags::FAN_MARK_REMOVE, interesting(), CWD, Some(&path)) {
                debug!(%error, directory = %path.display(), "Cannot stop to watch who writes here");
            }
        }
        for path in wanted {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let is = (metadata.dev(), metadata.ino());
            if state.watched.get(&path).is_some_and(|(watched, _)| *watched == is) {
                continue;
            }
            match self.watch(&path) {
                Ok(key) => drop(state.watched.insert(path, (is, key))),
                Err(error) => {
                    debug!(%error, directory = %path.display(), "Who writes here is not seen");
                }
            }
        }
        state.directories =
            state.watched.iter().map(|(path, (_, key))| (key.clone(), path.clone())).collect();
    }

    fn watch(&self, directory: &Path) -> io::Result<Vec<u8>> {
        let key = identify(directory)?;
        let flags = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR;
        self.group.mark(flags, interesting(), CWD, Some(directory))?;
        Ok(key)
    }

    fn read(&self) {
        let thread = rustix::thread::gettid();
        if let Err(error) = rustix::process::setpriority_process(Some(thread), NICENESS) {
            debug!(%error, "Who writes is looked at without haste");
        }
        let mut processes = Processes::new(self.names.clone());
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match rustix::io::read(&self.group, &mut buffer) {
                Ok(length) => length,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    warn!(%error, "Edits are told without who made them from now on");
                    return;
                }
            };
            let now = Instant::now();
            let home = Arc::clone(&self.home.lock().unwrap_or_else(PoisonError::into_inner));
            let read = records(&buffer[..length]);
            // All processes first: they end, and what they did is written down.
            let seen: Vec<(Record<'_>, Option<Writer>)> = read
                .into_iter()
                .map(|record| {
                    let writer = (record.pid != self.own).then(|| processes.see(record.pid, &home, now));
                    (record, writer)
                })
                .collect();
            let mut state = self.state();
            for (record, writer) in seen {
                self.note(&mut state, &record, writer, now);
            }
        }
    }

    fn note(&self, state: &mut State, record: &Record<'_>, writer: Option<Writer>, now: Instant) {
        if record.mask & MaskFlags::FAN_Q_OVERFLOW.bits() != 0 {
            let all = state.managed.values().cloned().collect();
            return state.log.lost(&all, now);
        }
        let Some(directory) = state.directories.get(record.directory) else { return };
        let Some(path) = state.managed.get(&directory.join(record.name)).cloned() else { return };
        match writer {
            Some(writer) if is_change(record.mask) => state.log.touched(&path, writer, now),
            Some(_) => {}
            // Its own doings are no edits, but its rename ends what was before.
            None if record.mask & MaskFlags::FAN_MOVED_TO.bits() != 0 => {
                state.log.placed(&path, now);
                let Some(begun) = state.waiting.remove(&path) else { return };
                let editors = self.named(state.log.replaced(&path, begun).unwrap_or_default());
                let told = self.events.try_send(Event::Edited { path, editors, restored: true });
                if let Err(error) = told {
                    debug!(%error, "Who wrote is not told: the agent is busy");
                }
            }
            None => {}
        }
    }
}

/// What the kernel calls a directory: a mark of its own, on it alone, and the event of opening it.
fn identify(directory: &Path) -> io::Result<Vec<u8>> {
    let flags = InitFlags::FAN_CLASS_NOTIF
        | InitFlags::FAN_CLOEXEC
        | InitFlags::FAN_NONBLOCK
        | InitFlags::from_bits_retain(DFID_NAME);
    let group = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC)?;
    let add = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR;
    group.mark(add, MaskFlags::FAN_OPEN | MaskFlags::FAN_ONDIR, CWD, Some(directory))?;
    drop(fs::File::open(directory)?);
    let mut buffer = vec![0; 4096];
    let length = rustix::io::read(&group, &mut buffer)?;
    let found = records(&buffer[..length]).first().map(|record| record.directory.to_vec());
    found
        .filter(|key| !key.is_empty())
        .ok_or_else(|| io::Error::other("the file system does not name directories"))
}
