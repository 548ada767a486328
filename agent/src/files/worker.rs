//! The one thread that touches managed files: jobs in, events out.

use std::{collections::BTreeMap, sync::Arc};

use fleet::{
    bundle::{Applied, Bundle, HomePath},
    drift::{Occasion, generated::RECORD},
    editor::Editor,
    ids::Digest,
    node::{Event, Extent, Failure, Keeping, Recovery, SwitchRecord, Way},
    observed::RefusalReason,
    time::Timestamp,
};
use tokio::sync::{mpsc, watch};

use super::{
    check::{Defaults, check, failure_of},
    generated,
    original::{check_unchanged, stage as stage_original, take},
    pack::{PackAt, PackReader},
    place::{Home, PlaceError},
    scan::Scanner,
    stage::{NEW, Over, Staged, carried, declared, discard, fits, read_bounded, stage, write_beside},
    switch::{recover, switch, switch_one},
};
use crate::{
    cache::Cache, editors::Editors, journal::Switches, preflight::Checkpoint, task::Vital, watch::Watch,
};

/// Jobs that may wait; the engine asks for few at a time.
const JOBS_MAX: usize = 256;

/// Something to do with files.
#[derive(Debug)]
pub enum Job {
    /// Check and stage.
    Stage(Staging),
    /// Switch to what was staged.
    Switch(Applied),
    /// Finish or undo what a crash interrupted.
    Recover(Applied, Way),
    /// Watch these and scan them once.
    Watch(Applied, Arc<Bundle>),
    /// Compare with disk.
    Scan(Extent),
    /// Restore one file.
    Restore {
        /// Which.
        path: HomePath,
        /// Of this bundle.
        bundle: Arc<Bundle>,
        /// Only if it is still what the last scan saw.
        as_seen: bool,
    },
    /// Bring generated files back.
    Mend(Vec<HomePath>, Arc<Bundle>),
    /// Drop content that these bundles do not need.
    Keep(Vec<Digest>),
    /// See whether the configuration resources of this home are as they were.
    ReadPack(String),
}

/// Files to be put beside their targets.
#[derive(Debug)]
pub struct Staging {
    /// Their place in history.
    pub target: Applied,
    /// What they are.
    pub bundle: Arc<Bundle>,
    /// What to keep of those that they replace.
    pub keep: Keeping,
    /// The time of day. Only the agent's own thread may ask for it.
    pub now: Timestamp,
}

/// The way to whoever works on files.
#[derive(Debug)]
pub struct Files {
    jobs: mpsc::Sender<Job>,
    checkpoint: Checkpoint,
}

impl Files {
    /// Starts with what an earlier agent left; stagings pass `checkpoint` first. One job at a time, on a thread that is
    /// held only meanwhile; a panic there is the end of the agent.
    pub fn start(
        kept: Kept,
        defaults: Defaults,
        (watch, editors): (Watch, Editors),
        checkpoint: Checkpoint,
        vital: &Vital,
    ) -> Self {
        let (jobs, mut waiting) = mpsc::channel(JOBS_MAX);
        let mut worker = Worker {
            kept,
            defaults,
            watch,
            editors,
            staged: None,
            taken: None,
            mixed: false,
            watched: None,
            scanner: Scanner::default(),
            generated: generated::Reader::default(),
            reader: PackReader::default(),
        };
        vital.spawn("files", async move {
            let mut next = None;
            loop {
                let job = next.take();
                let working = crate::task::blocking(move || {
                    match job {
                        Some(job) => worker.perform(job),
                        None => worker.clean(),
                    }
                    worker
                });
                worker = working.await.map_err(|error| error.to_string())?;
                next = waiting.recv().await;
                if next.is_none() {
                    return Ok(());
                }
            }
        });
        Self { jobs, checkpoint }
    }

    /// Hands over a job; returns at once. Staging has to pass the preflight first.
    pub fn start_job(&mut self, job: Job) {
        // What a person had there comes back whatever the preflight thinks of it.
        let job = match job {
            Job::Stage(staging) if staging.bundle.origin.is_none() => {
                return self.checkpoint.pass(staging, self.jobs.clone());
            }
            Job::Watch(target, bundle) => {
                self.checkpoint.note_in_force(&bundle);
                Job::Watch(target, bundle)
            }
            job => job,
        };
        if let Err(error) = self.jobs.try_send(job) {
            // Every job is asked for again by a later event: scans by the timer, others by their missing outcome.
            tracing::error!(%error, "Too many file jobs wait; one was dropped");
        }
    }
}

/// What is worked with besides the home.
#[derive(Debug)]
pub struct Kept {
    /// Content by digest.
    pub cache: Cache,
    /// The record of the switch under way.
    pub switches: Switches,
    /// Bundles that an earlier agent may have staged and not switched to.
    pub known: Vec<Arc<Bundle>>,
    /// A switch was interrupted: what lies beside its files is needed until it is recovered.
    pub interrupted: bool,
    /// Where the pack lies that was read last.
    pub pack: watch::Sender<Option<PackAt>>,
    /// Takes outcomes.
    pub events: mpsc::Sender<Event>,
}

struct Worker {
    kept: Kept,
    defaults: Defaults,
    watch: Watch,
    editors: Editors,
    staged: Option<(Applied, Arc<Bundle>, Staged)>,
    /// The original that was kept last: the journal may not name it yet.
    taken: Option<Digest>,
    /// The files in force are a mix that only a staging of all of them ends.
    mixed: bool,
    watched: Option<(Applied, Arc<Bundle>)>,
    scanner: Scanner,
    generated: generated::Reader,
    reader: PackReader,
}

/// The files that are staged. A launch may be writing its own beside their targets at this moment.
fn staged_paths(bundle: &Bundle) -> impl Iterator<Item = &HomePath> {
    bundle.files.iter().filter(|(_, file)| !file.launch).map(|(path, _)| path)
}

impl Worker {
    fn perform(&mut self, job: Job) {
        match job {
            Job::Stage(staging) => {
                let target = staging.target;
                let event = match self.stage(&staging) {
                    Ok(event) => event,
                    Err(failure) => Event::StageFailed { target, failure },
                };
                self.tell(event);
            }
            Job::Switch(target) => {
                let event = self.switch(target);
                self.tell(event);
            }
            Job::Recover(target, way) => {
                let state = self.recover(target, way);
                self.tell(Event::Recovered { target, state });
            }
            Job::Watch(target, bundle) => {
                self.scanner.reset();
                self.watch.set(&bundle);
                self.editors.set(&bundle);
                self.watched = Some((target, bundle));
                self.scan(Extent::All);
            }
            Job::Scan(extent) => self.scan(extent),
            Job::ReadPack(home) => {
                let pack = self.read_pack(&home);
                self.tell(Event::PackRead(pack));
            }
            Job::Restore { path, bundle, as_seen } => {
                let begun = std::time::Instant::now();
                let event = match self.restore((&path, as_seen), &bundle) {
                    Ok(Restoring::Overtaken) => {
                        self.watch.hint(&path);
                        Event::RestoreOvertaken { path }
                    }
                    Ok(Restoring::Done) => {
                        let took = self.watch.since_hint(&path);
                        // Its directory may have been made anew.
                        self.watch.rearm();
                        self.editors.rearm();
                        let editors = self.editors.replaced(&path, begun);
                        self.tell_editors(&path, editors, true);
                        Event::Restored { path, took }
                    }
                    Ok(Restoring::AsDesired) => Event::AsDesired { path },
                    Err(failure) => Event::RestoreFailed { path, failure },
                };
                self.tell(event);
            }
            Job::Mend(paths, bundle) => {
                let event = self.mend(&paths, &bundle);
                self.tell(event);
                self.look_at_generated(&bundle);
            }
            Job::Keep(mut contents) => {
                contents.extend(self.taken);
                // The journal says that the switch is over, or this would not have been asked for.
                if let Err(error) = self.kept.switches.forget() {
                    tracing::warn!(%error, "Cannot remove the record of a switch that is over");
                }
                if let Err(error) = self.kept.cache.keep(&contents) {
                    tracing::warn!(%error, "Cannot remove content that is not needed any more");
                }
            }
        }
    }

    /// Removes what an earlier agent staged and did not switch to: it may hold secrets.
    fn clean(&mut self) {
        if self.kept.interrupted {
            return;
        }
        for bundle in std::mem::take(&mut self.kept.known) {
            match Home::open(&bundle.service.home) {
                Ok(home) => discard(&home, bundle.files.keys()),
                Err(error) => tracing::warn!(error = %crate::chain(&error), "Cannot look for leftovers"),
            }
        }
    }

    fn recover(&mut self, target: Applied, way: Way) -> Recovery {
        match self.try_recover(target, way) {
            Ok(Recovery::Lost) => self.lose(target),
            Ok(state) => {
                self.kept.interrupted = false;
                self.clean();
                state
            }
            Err(failure) => Recovery::Stuck(failure),
        }
    }

    fn try_recover(&mut self, target: Applied, way: Way) -> Result<Recovery, Failure> {
        let record = self.kept.switches.read().map_err(|error| io_failure(crate::chain(&error)))?;
        // The journal's intent without a record: that switch had not begun.
        let Some(record) = record else { return Ok(Recovery::Old) };
        if record.target != target || record.files.is_empty() {
            return Ok(if record.mixed { Recovery::Lost } else { Recovery::Old });
        }
        let home = Home::open(&record.home).map_err(|error| missing(&error))?;
        recover(&home, &record, way).map_err(|error| failure_of(&error))
    }

    /// Whatever is switched to next begins from a mix, also for an agent that comes after this one.
    fn lose(&mut self, target: Applied) -> Recovery {
        self.mixed = true;
        let record = SwitchRecord { target, home: String::new(), files: BTreeMap::new(), mixed: true };
        match self.kept.switches.write(&record) {
            Ok(()) => Recovery::Lost,
            Err(error) => Recovery::Stuck(io_failure(format!("cannot record a lost switch: {error}"))),
        }
    }

    fn read_pack(&mut self, home: &str) -> Option<Digest> {
        let digest = self.reader.digest(home);
        let at = digest.map(|digest| PackAt { digest, home: home.to_owned() });
        self.kept.pack.send_if_modified(|known| {
            let changed = *known != at;
            *known = at;
            changed
        });
        digest
    }

    fn tell_editors(&self, path: &HomePath, editors: Vec<Editor>, restored: bool) {
        if !editors.is_empty() {
            self.tell(Event::Edited { path: path.clone(), editors, restored });
        }
    }

    fn tell(&self, event: Event) {
        // Only fails when the agent is ending.
        drop(self.kept.events.blocking_send(event));
    }

    fn stage(&mut self, staging: &Staging) -> Result<Event, Failure> {
        let Staging { target, bundle, .. } = staging;
        let home = Home::open(&bundle.service.home).map_err(|error| missing(&error))?;
        if let Some((_, earlier, _)) = self.staged.take() {
            discard(&home, staged_paths(&earlier));
        }
        let mut staged = match &bundle.origin {
            Some(_) => stage_original(&home, &self.kept.cache, bundle).map_err(|error| {
                discard(&home, bundle.files.keys());
                failure_of(&error)
            })?,
            None => self.stage_new(&home, staging)?,
        };
        staged.facts.pack = self.read_pack(&bundle.service.home);
        staged.facts.config_unread = generated::config_unread(&home, &bundle.service.config_path);
        self.look_at_generated(bundle);
        let facts = staged.facts.clone();
        self.staged = Some((*target, Arc::clone(bundle), staged));
        Ok(Event::Staged { target: *target, facts })
    }

    fn stage_new(&mut self, home: &Home, staging: &Staging) -> Result<Staged, Failure> {
        let bundle = &staging.bundle;
        let owner = self.defaults.owner(bundle)?;
        check(home, &self.kept.cache, bundle, &self.defaults)?;
        let original = take(home, &self.kept.cache, staging)?;
        if let Some(original) = &original {
            self.taken = Some(original.content);
        }
        let before = self.declared_before();
        let staged = stage(home, &self.kept.cache, (bundle, before.as_deref()), owner);
        let mut staged = staged.map_err(|error| {
            discard(home, staged_paths(bundle));
            failure_of(&error)
        })?;
        staged.facts.original = original;
        Ok(staged)
    }

    /// deployment.toml as the bundle in force declares it.
    fn declared_before(&self) -> Option<String> {
        self.watched.as_ref().and_then(|(_, bundle)| declared(bundle, &self.kept.cache))
    }

    fn switch(&mut self, target: Applied) -> Event {
        let failed = |reason, detail, undone| Event::SwitchFailed {
            target,
            undone,
            failure: Failure { reason, detail },
        };
        let Some((of, bundle, staged)) = self.staged.take().filter(|(of, ..)| *of == target) else {
            return failed(RefusalReason::IoFailed, "nothing is staged for it".to_owned(), true);
        };
        let home = match Home::open(&bundle.service.home) {
            Ok(home) => home,
            Err(error) => return failed(RefusalReason::PackMissing, missing(&error).detail, true),
        };
        if staged.facts.original.is_some()
            && let Err(failure) = check_unchanged(&home, &staged.changed)
        {
            discard(&home, staged_paths(&bundle));
            return failed(failure.reason, failure.detail, true);
        }
        let (home_path, files) = (bundle.service.home.clone(), staged.changed);
        let record = SwitchRecord { target, home: home_path, files, mixed: self.mixed };
        // The files in force change now: hints about them are our own doing until the new watch.
        match switch(&home, &self.kept.switches, &record) {
            Ok(()) => {
                self.mixed = false;
                Event::Switched { target: of }
            }
            Err(error) => {
                if error.undone {
                    self.forget_undone(&home, &record);
                }
                let failure = failure_of(&error.cause);
                let rest = if error.undone { "" } else { "; the files before could not all be put back" };
                failed(failure.reason, format!("{}{rest}", failure.detail), error.undone)
            }
        }
    }

    /// The files before are in force again. Should the record stay, recovery finds the same.
    fn forget_undone(&mut self, home: &Home, record: &SwitchRecord) {
        discard(home, record.files.keys());
        if self.mixed {
            self.lose(record.target);
        } else if let Err(error) = self.kept.switches.forget() {
            tracing::warn!(%error, "Cannot remove the record of a switch that was undone");
        }
    }

    fn scan(&mut self, extent: Extent) {
        let Some((target, bundle)) = self.watched.clone() else { return };
        let hinted = match extent {
            Extent::All => None,
            Extent::Hinted => self.watch.take_hints(),
            Extent::Generated => {
                // One that was deleted may have taken its directory along.
                self.watch.rearm();
                return self.look_at_generated(&bundle);
            }
        };
        if hinted.is_none() {
            self.watch.rearm();
            self.editors.rearm();
            self.look_at_generated(&bundle);
        }
        let (begun, all) = (std::time::Instant::now(), hinted.is_none());
        let result = Home::open(&bundle.service.home).map_err(|error| missing(&error)).and_then(|home| {
            let owner = self.defaults.owner(&bundle)?;
            Ok(self.scanner.scan(&home, &self.kept.cache, (&bundle, owner), hinted.as_ref()))
        });
        match result {
            Ok((looked, found)) => {
                if all {
                    let took = begun.elapsed().as_micros();
                    tracing::debug!(files = looked.len(), took_us = took, "Scanned all files");
                }
                self.watch.settled(looked.iter().filter(|path| !found.contains_key(*path)));
                self.editors.clean(looked.iter().filter(|path| !found.contains_key(*path)), begun);
                for path in found.keys() {
                    self.tell_editors(path, self.editors.so_far(path), false);
                }
                self.tell(Event::Scanned { target, looked, found });
            }
            Err(failure) => {
                tracing::error!(reason = %failure.detail, "Cannot look at the managed files");
                self.tell(Event::ScanFailed { target, failure });
            }
        }
        if extent == Extent::All {
            let pack = self.read_pack(&bundle.service.home);
            self.tell(Event::PackRead(pack));
        }
    }

    fn look_at_generated(&mut self, bundle: &Bundle) {
        match Home::open(&bundle.service.home) {
            Ok(home) => {
                let looked = self.generated.look(&home, &bundle.service.config_path);
                // The record itself, too: a start of somebody else's writes it last of all.
                let record = HomePath::parse(RECORD).ok();
                let paths = looked.recorded.0.keys().filter(|path| !bundle.files.contains_key(*path));
                self.watch.set_generated(&bundle.service.home, paths.chain(&record));
                self.tell(Event::Generated(looked));
            }
            Err(error) => tracing::error!(error = %crate::chain(&error), "Cannot look at generated files"),
        }
    }

    fn mend(&self, paths: &[HomePath], bundle: &Bundle) -> Event {
        let failed = |trouble| Event::Mended { restored: Vec::new(), dropped: false, trouble: Some(trouble) };
        let home = match Home::open(&bundle.service.home) {
            Ok(home) => home,
            Err(error) => return failed(crate::chain(&error)),
        };
        match self.defaults.owner(bundle) {
            Ok(owner) => generated::mend(&home, paths, &bundle.service.config_path, owner),
            Err(failure) => failed(failure.detail),
        }
    }

    /// A writer that truncates and then writes, as ciphertool does, may have been seen in between. So an automatic restore
    /// replaces only what was judged, before it stages and right before it renames.
    fn restore(&mut self, (path, as_seen): (&HomePath, bool), bundle: &Bundle) -> Result<Restoring, Failure> {
        let io = |error: &PlaceError| failure_of(error);
        let Some(entry) = bundle.files.get(path) else { return Ok(Restoring::Done) };
        let owner = self.defaults.owner(bundle)?;
        let home = Home::open(&bundle.service.home).map_err(|error| io(&error))?;
        let content = self.kept.cache.read(&entry.digest).map_err(|error| Failure {
            reason: RefusalReason::ContentUnavailable,
            detail: error.to_string(),
        })?;
        let place = home.place(path, Some(owner)).map_err(|error| io(&error))?;
        let facts = place.facts().map_err(|error| io(&error))?;
        if as_seen && facts != self.scanner.facts(path) {
            return Ok(Restoring::Overtaken);
        }
        let disk = match facts {
            Some(facts) => read_bounded(&place, &facts).map_err(|error| io(&error))?,
            None => None,
        };
        let content = if *path == bundle.service.config_path {
            let declared = String::from_utf8(content.clone()).ok();
            let occasion = if as_seen { Occasion::Restore } else { Occasion::Order };
            carried(content, disk.as_deref(), &Over { bundle, before: declared.as_deref(), occasion })
        } else {
            content
        };
        let is_as_desired = facts.is_some_and(|facts| fits(&facts, entry, owner));
        if !as_seen && is_as_desired && disk.as_deref() == Some(content.as_slice()) {
            return Ok(Restoring::AsDesired);
        }
        place.remove(&place.aside(NEW)).map_err(|error| io(&error))?;
        let switched = write_beside(&place, entry, &content, owner).and_then(|()| {
            if as_seen && place.facts()? != facts {
                return Ok(Restoring::Overtaken);
            }
            switch_one(&place).map(|()| Restoring::Done)
        });
        if !matches!(switched, Ok(Restoring::Done)) {
            discard(&home, std::iter::once(path));
        }
        switched.map_err(|error| io(&error))
    }
}

/// How a restore ended.
enum Restoring {
    /// The file is as desired, durable.
    Done,
    /// It is not what was seen any more; nothing was touched.
    Overtaken,
    /// It was before, so nothing was written.
    AsDesired,
}

fn missing(error: &PlaceError) -> Failure {
    Failure { reason: RefusalReason::PackMissing, detail: crate::chain(error) }
}

fn io_failure(detail: String) -> Failure {
    Failure { reason: RefusalReason::IoFailed, detail }
}
