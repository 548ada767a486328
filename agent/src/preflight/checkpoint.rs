//! Between the engine's wish to stage a bundle and the staging: the preflight. A bundle that does not pass never gets
//! a file beside its target.

use std::sync::Arc;

use fleet::{
    bundle::{Bundle, FILE_SIZE_MAX, FileEntry, HomePath, RestartClass, ServiceSettings},
    drift::Occasion,
    ids::Digest,
    node::{Event, Failure},
    preflight::{
        Intent, Outcome, PreflightFacts,
        facts::{ClockSkew, Seen},
        refusal,
    },
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{Site, Subject};
use crate::{
    cache::Cache,
    files::{Defaults, Home, Job, Over, Staging, carried, declared, means_the_same},
    outside::Machine,
    unit::Units,
};

/// Runs the preflight of the newest bundle.
#[derive(Debug)]
pub struct Checkpoint {
    cache: Cache,
    defaults: Defaults,
    clock: watch::Receiver<Option<ClockSkew>>,
    site: Site,
    machine: Arc<dyn Machine>,
    units: Units,
    events: mpsc::Sender<Event>,
    in_force: Option<Arc<Bundle>>,
    under_way: Option<AbortHandle>,
}

impl Checkpoint {
    /// `cache` holds the content of the bundles that come, `machine` is what they are to run on, `events` takes
    /// refusals.
    pub fn new(
        cache: Cache,
        defaults: Defaults,
        clock: watch::Receiver<Option<ClockSkew>>,
        (site, units): (Site, Units),
        (machine, events): (Arc<dyn Machine>, mpsc::Sender<Event>),
    ) -> Self {
        Self { cache, defaults, clock, site, units, machine, events, in_force: None, under_way: None }
    }

    /// The files on disk came from this bundle.
    pub fn note_in_force(&mut self, bundle: &Arc<Bundle>) {
        self.in_force = Some(Arc::clone(bundle));
    }

    /// Hands a staging to `jobs` if its bundle passes, else tells why not. A preflight of an earlier bundle that
    /// is still under way is dropped: only the newest counts.
    pub fn pass(&mut self, staging: Staging, jobs: mpsc::Sender<Job>) {
        if let Some(earlier) = self.under_way.take() {
            earlier.abort();
        }
        let target = staging.target;
        let subject = self.subject(&staging.bundle);
        let coming = Coming {
            bundle: Arc::clone(&staging.bundle),
            in_force: self.in_force.clone(),
            cache: self.cache.clone(),
        };
        let (events, machine) = (self.events.clone(), self.machine.clone());
        let task = crate::task::spawn("preflight", async move {
            let settings = subject.settings.clone();
            let facts = machine.gather(subject).await;
            match judge(&facts, &settings, coming).await {
                Ok(()) => drop(jobs.send(Job::Stage(staging)).await),
                // Both only fail when the agent is ending.
                Err(failure) => drop(events.send(Event::StageFailed { target, failure }).await),
            }
        });
        self.under_way = Some(task.abort_handle());
    }

    fn subject(&self, bundle: &Bundle) -> Subject {
        let subject = Subject {
            settings: bundle.service.clone(),
            staged: bundle
                .files
                .iter()
                .map(|(path, file)| (path.clone(), self.cache.path(&file.digest)))
                .collect(),
            bundle_size: bundle.size(),
            clock: (*self.clock.borrow())
                .ok_or_else(|| "no coordinator has greeted this agent yet".to_owned()),
            site: self.site,
            unit: self.units.of(&bundle.service.home).cloned(),
            has_launch_files: bundle.has_launch_files(),
            balancer: bundle.balancer,
        };
        subject.with_defaults(self.defaults.java_home.as_deref(), self.defaults.run_user.as_deref())
    }
}

/// A bundle that is about to be staged.
struct Coming {
    bundle: Arc<Bundle>,
    /// Where the files on disk came from, if this agent knows it.
    in_force: Option<Arc<Bundle>>,
    cache: Cache,
}

async fn judge(facts: &PreflightFacts, settings: &ServiceSettings, coming: Coming) -> Result<(), Failure> {
    let checks = fleet::preflight::check(facts, settings);
    for check in &checks {
        if matches!(check.outcome, Outcome::Warn { .. }) {
            tracing::warn!(check = %check, "Preflight");
        }
    }
    let lives = !facts.host.own_pids.is_empty();
    let intent = if lives && !coming.restarts().await { Intent::WriteOnly } else { Intent::WriteAndStart };
    match refusal(&checks, intent) {
        None => Ok(()),
        Some((reason, detail)) => Err(Failure { reason, detail }),
    }
}

impl Coming {
    /// Whether the bundle changes anything that the server reads only at its start. When in doubt, assume it does.
    async fn restarts(self) -> bool {
        let compare = move || {
            let before = self.in_force.as_deref().and_then(|bundle| declared(bundle, &self.cache));
            let read_at_start =
                self.bundle.files.iter().filter(|(_, file)| RestartClass::Restart <= file.restart);
            read_at_start.into_iter().any(|file| !self.leaves(before.as_deref(), file).unwrap_or(false))
        };
        crate::task::blocking(compare).await.unwrap_or(true)
    }

    /// Whether the staging would leave a file as it is, or write one that means the same.
    fn leaves(&self, before: Option<&str>, (path, file): (&HomePath, &FileEntry)) -> Seen<bool> {
        let home = Home::open(&self.bundle.service.home).map_err(|error| crate::chain(&error))?;
        let Some(disk) = home.read(path, FILE_SIZE_MAX).map_err(|error| crate::chain(&error))? else {
            return Ok(false);
        };
        let disk = disk.bytes;
        if Digest::of(&disk) == file.digest {
            return Ok(true);
        }
        if *path != self.bundle.service.config_path {
            return Ok(false);
        }
        let desired = self.cache.read(&file.digest).map_err(|error| error.to_string())?;
        let over = Over { bundle: &self.bundle, before, occasion: Occasion::Order };
        Ok(means_the_same(true, &carried(desired, Some(&disk), &over), Some(&disk)))
    }
}

#[cfg(test)]
mod tests;
