//! Starting a server through its systemd unit: checked, its launch files written, the job waited for.

use std::{path::Path, sync::Arc};

use fleet::{
    bundle::Bundle,
    node::{Event, Failure},
    observed::RefusalReason,
    preflight::{
        Outcome,
        unit::{self as judged, UnitFact},
    },
};
use tracing::info;

use super::{Processes, holder::Holder, spawn};
use crate::{
    files::write_launch_files,
    unit::{Unit, UnitError},
};

impl Processes {
    /// Has systemd start the server, and follows it to its end. No script is ever started beside the unit.
    pub(super) async fn launch_unit(self, unit: Unit, bundle: Arc<Bundle>) {
        let console = self.console_of(&bundle);
        let output_from = console.end();
        if let Err(failure) = self.begin(&unit, &bundle).await {
            return self.tell(Event::LaunchFailed(failure)).await;
        }
        self.follow_launch(bundle, Holder::unit(unit).await, (console, output_from)).await;
    }

    async fn begin(&self, unit: &Unit, bundle: &Bundle) -> Result<(), Failure> {
        let fact = unit.look().await.map_err(|error| failed(&error))?;
        let mut settings = bundle.service.clone();
        settings.java_home = self.defaults.java_home(bundle).map(str::to_owned);
        settings.run_user = settings.run_user.or_else(|| self.defaults.run_user.clone());
        let outcome = judged::check(&fact, &settings, bundle.has_launch_files());
        if let Outcome::Fail { why, remedy, reason } = outcome {
            return Err(Failure { reason, detail: format!("{why}; {remedy}") });
        }
        self.prepare(&fact, bundle)?;
        info!(unit = unit.name(), state = %fact, "Asking systemd to start the server");
        unit.start(&fact).await.map_err(|error| failed(&error))
    }

    fn prepare(&self, fact: &UnitFact, bundle: &Bundle) -> Result<(), Failure> {
        // One whose script is already at work reads these files.
        if !fact.is_busy() {
            spawn::prepare(Path::new(&bundle.service.home)).map_err(|error| Failure {
                reason: RefusalReason::StartFailed,
                detail: format!("cannot prepare the home: {error}"),
            })?;
        }
        write_launch_files(bundle, &self.cache, self.defaults.owner(bundle)?)
    }
}

fn failed(error: &UnitError) -> Failure {
    Failure { reason: RefusalReason::StartFailed, detail: crate::chain(error) }
}
