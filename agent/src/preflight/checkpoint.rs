//! Between the engine's wish to stage a bundle and the staging: the preflight. A bundle that does not pass never gets
//! a file beside its target.

use std::sync::Arc;

use fleet::{
    bundle::{Bundle, FILE_SIZE_MAX, FileEntry, HomePath, RestartClass, ServiceSettings},
    node::{Event, Failure},
    preflight::{
        Intent, Outcome, PreflightFacts,
        facts::{ClockSkew, Seen},
        refusal,
    },
    spec::canonical,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{Site, Subject};
use crate::{
    cache::Cache,
    files::{Defaults, Home, Job, Staging},
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
        Self { cache, defaults, clock, site, units, machine, events, under_way: None }
    }

    /// Hands a staging to `jobs` if its bundle passes, else tells why not. A preflight of an earlier bundle that
    /// is still under way is dropped: only the newest counts.
    pub fn pass(&mut self, staging: Staging, jobs: mpsc::Sender<Job>) {
        if let Some(earlier) = self.under_way.take() {
            earlier.abort();
        }
        let (target, bundle) = (staging.target, Arc::clone(&staging.bundle));
        let subject = self.subject(&bundle);
        let (cache, events, machine) = (self.cache.clone(), self.events.clone(), self.machine.clone());
        let task = crate::task::spawn("preflight", async move {
            let settings = subject.settings.clone();
            let facts = machine.gather(subject).await;
            match judge(&facts, &settings, (&bundle, &cache)).await {
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
        };
        subject.with_defaults(self.defaults.java_home.as_deref(), self.defaults.run_user.as_deref())
    }
}

async fn judge(
    facts: &PreflightFacts,
    settings: &ServiceSettings,
    (bundle, cache): (&Arc<Bundle>, &Cache),
) -> Result<(), Failure> {
    let checks = fleet::preflight::check(facts, settings);
    for check in &checks {
        if matches!(check.outcome, Outcome::Warn { .. }) {
            tracing::warn!(check = %check, "Preflight");
        }
    }
    let lives = !facts.host.own_pids.is_empty();
    let intent =
        if lives && !restarts(bundle, cache).await { Intent::WriteOnly } else { Intent::WriteAndStart };
    match refusal(&checks, intent) {
        None => Ok(()),
        Some((reason, detail)) => Err(Failure { reason, detail }),
    }
}

/// Whether the bundle changes anything that the server reads only at its start. When in doubt it does.
async fn restarts(bundle: &Arc<Bundle>, cache: &Cache) -> bool {
    let (bundle, cache) = (Arc::clone(bundle), cache.clone());
    let compare = move || {
        let read_at_start = bundle.files.iter().filter(|(_, file)| RestartClass::Restart <= file.restart);
        read_at_start
            .into_iter()
            .any(|(path, file)| !means_the_same(&bundle, &cache, (path, file)).unwrap_or(false))
    };
    crate::task::blocking(compare).await.unwrap_or(true)
}

fn means_the_same(bundle: &Bundle, cache: &Cache, (path, file): (&HomePath, &FileEntry)) -> Seen<bool> {
    let home = Home::open(&bundle.service.home).map_err(|error| crate::chain(&error))?;
    let Some(content) = home.read(path, FILE_SIZE_MAX).map_err(|error| crate::chain(&error))? else {
        return Ok(false);
    };
    let disk = content.bytes;
    if fleet::ids::Digest::of(&disk) == file.digest {
        return Ok(true);
    }
    if *path != bundle.service.config_path {
        return Ok(false);
    }
    let desired = cache.read(&file.digest).map_err(|error| error.to_string())?;
    let flat =
        |bytes: &[u8]| canonical::flatten(&String::from_utf8_lossy(bytes)).map_err(|error| error.to_string());
    Ok(canonical::differing_keys(&flat(&desired)?, &flat(&disk)?, &bundle.service.owned_keys).is_empty())
}
