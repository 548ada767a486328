//! The one thread that touches managed files: jobs in, events out.

use std::{collections::BTreeSet, sync::Arc};

use fleet::{
    bundle::{Applied, Bundle, HomePath},
    ids::Digest,
    node::{Event, Extent, Failure},
    observed::RefusalReason,
};
use tokio::sync::mpsc;

use super::{
    check::{Defaults, check, failure_of, pack_digest},
    place::{Home, PlaceError},
    scan::Scanner,
    stage::{Staged, carried, read_bounded, stage, write_beside},
    switch::switch,
};
use crate::{cache::Cache, preflight::Checkpoint, watch::Watch};

/// Jobs that may wait; the engine asks for few at a time.
const JOBS_MAX: usize = 256;

/// Something to do with files.
#[derive(Debug)]
pub enum Job {
    /// Check and stage.
    Stage(Applied, Arc<Bundle>),
    /// Switch to what was staged.
    Switch(Applied),
    /// Watch these and scan them once.
    Watch(Applied, Arc<Bundle>),
    /// Compare with disk.
    Scan(Extent),
    /// Restore one file.
    Restore(HomePath, Arc<Bundle>),
    /// Drop content that these bundles do not need.
    Keep(Vec<Digest>),
}

/// The way to the thread.
#[derive(Debug)]
pub struct Files {
    jobs: mpsc::Sender<Job>,
    checkpoint: Checkpoint,
}

impl Files {
    /// Starts the thread; stagings pass `checkpoint` first. It ends when this is dropped and its jobs are done.
    pub fn start(
        cache: Cache,
        defaults: Defaults,
        watch: Watch,
        checkpoint: Checkpoint,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let (jobs, mut waiting) = mpsc::channel(JOBS_MAX);
        let mut worker = Worker {
            cache,
            defaults,
            watch,
            events,
            staged: None,
            watched: None,
            scanner: Scanner::default(),
        };
        tokio::task::spawn_blocking(move || {
            while let Some(job) = waiting.blocking_recv() {
                worker.perform(job);
            }
        });
        Self { jobs, checkpoint }
    }

    /// Hands over a job; returns at once. Staging has to pass the preflight first.
    pub fn start_job(&mut self, job: Job) {
        if let Job::Stage(target, bundle) = job {
            return self.checkpoint.pass(target, bundle, self.jobs.clone());
        }
        if let Err(error) = self.jobs.try_send(job) {
            // Every job is asked for again by a later event: scans by the timer, others by their missing outcome.
            tracing::error!(%error, "Too many file jobs wait; one was dropped");
        }
    }
}

struct Worker {
    cache: Cache,
    defaults: Defaults,
    watch: Watch,
    events: mpsc::Sender<Event>,
    staged: Option<(Applied, Arc<Bundle>, Staged)>,
    watched: Option<(Applied, Arc<Bundle>)>,
    scanner: Scanner,
}

impl Worker {
    fn perform(&mut self, job: Job) {
        match job {
            Job::Stage(target, bundle) => {
                let event = match self.stage(target, &bundle) {
                    Ok(event) => event,
                    Err(failure) => Event::StageFailed { target, failure },
                };
                self.tell(event);
            }
            Job::Switch(target) => {
                let event = self.switch(target);
                self.tell(event);
            }
            Job::Watch(target, bundle) => {
                self.scanner.reset();
                self.watch.set(&bundle);
                self.watched = Some((target, bundle));
                self.scan(Extent::All);
            }
            Job::Scan(extent) => self.scan(extent),
            Job::Restore(path, bundle) => {
                let event = match self.restore(&path, &bundle) {
                    Ok(()) => {
                        let took = self.watch.since_hint(&path);
                        // Its directory may have been made anew.
                        self.watch.rearm();
                        Event::Restored { path, took }
                    }
                    Err(failure) => Event::RestoreFailed { path, detail: failure.detail },
                };
                self.tell(event);
            }
            Job::Keep(contents) => {
                if let Err(error) = self.cache.keep(&contents) {
                    tracing::warn!(%error, "Cannot remove content that is not needed any more");
                }
            }
        }
    }

    fn tell(&self, event: Event) {
        // Only fails when the agent is ending.
        drop(self.events.blocking_send(event));
    }

    fn stage(&mut self, target: Applied, bundle: &Arc<Bundle>) -> Result<Event, Failure> {
        self.staged = None;
        let owner = self.defaults.owner(bundle)?;
        let home = Home::open(&bundle.service.home)
            .map_err(|error| Failure { reason: RefusalReason::PackMissing, detail: crate::chain(&error) })?;
        check(&home, &self.cache, bundle, &self.defaults)?;
        let mut staged = stage(&home, &self.cache, bundle, owner).map_err(|error| failure_of(&error))?;
        staged.facts.pack = pack_digest(home.path());
        let facts = staged.facts.clone();
        self.staged = Some((target, Arc::clone(bundle), staged));
        Ok(Event::Staged { target, facts })
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
            Err(error) => return failed(RefusalReason::PackMissing, crate::chain(&error), true),
        };
        // The files in force change now: hints about them are our own doing until the new watch.
        match switch(&home, &staged.changed) {
            Ok(()) => Event::Switched { target: of },
            Err(error) => {
                let failure = failure_of(&error.cause);
                let rest = if error.undone { "" } else { "; the files before could not all be put back" };
                failed(failure.reason, format!("{}{rest}", failure.detail), error.undone)
            }
        }
    }

    fn scan(&mut self, extent: Extent) {
        let Some((target, bundle)) = self.watched.clone() else { return };
        let hinted = match extent {
            Extent::All => None,
            Extent::Hinted => self.watch.take_hints(),
        };
        if hinted.is_none() {
            self.watch.rearm();
        }
        let result =
            Home::open(&bundle.service.home).map_err(|error| crate::chain(&error)).and_then(|home| {
                let owner = self.defaults.owner(&bundle).map_err(|failure| failure.detail)?;
                Ok(self.scanner.scan(&home, &self.cache, (&bundle, owner), hinted.as_ref()))
            });
        match result {
            Ok((looked, found)) => {
                self.watch.settled(looked.iter().filter(|path| !found.contains_key(*path)));
                self.tell(Event::Scanned { target, looked, found });
            }
            Err(error) => tracing::error!(%error, "Cannot look at the managed files"),
        }
    }

    fn restore(&mut self, path: &HomePath, bundle: &Bundle) -> Result<(), Failure> {
        let io = |error: &PlaceError| failure_of(error);
        let Some(entry) = bundle.files.get(path) else { return Ok(()) };
        let owner = self.defaults.owner(bundle)?;
        let home = Home::open(&bundle.service.home).map_err(|error| io(&error))?;
        let content = self.cache.read(&entry.digest).map_err(|error| Failure {
            reason: RefusalReason::ContentUnavailable,
            detail: error.to_string(),
        })?;
        let place = home.place(path, Some(owner)).map_err(|error| io(&error))?;
        let facts = place.facts().map_err(|error| io(&error))?;
        let disk = match facts {
            Some(facts) => read_bounded(&place, &facts).map_err(|error| io(&error))?,
            None => None,
        };
        let content = if *path == bundle.service.config_path {
            carried(content, disk.as_deref(), bundle)
        } else {
            content
        };
        place.remove(&place.aside(super::stage::NEW)).map_err(|error| io(&error))?;
        write_beside(&place, entry, &content, owner).map_err(|error| io(&error))?;
        switch(&home, &BTreeSet::from([path.clone()])).map_err(|error| io(&error.cause))
    }
}
