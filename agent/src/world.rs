//! The world as the engine sees it: actions are started here and return at once, outcomes come back as events.
//!
//! What waits for the journal is held here until the write that it waits for is durable; if that fails it is dropped,
//! and the engine is told.

use std::{collections::VecDeque, io, sync::Arc};

use fleet::{
    bundle::Bundle,
    call::{Check, HaproxyCall, Hook, HookPoint},
    host::Original,
    ids::Digest,
    key_manager::work,
    node::{Action, Event, Memory},
    observed::{Observed, ProcessIdentity},
    time::{Instant, Timestamp},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{debug, error, info, warn};

use crate::{
    call::{self, Caller},
    files::{Files, Job, Staging, clear_launch_files},
    journal::Journal,
    key_manager,
    link::{Link, Order},
    look::Declared,
    metrics::{Ask, Inside},
    outside::{Machine, Work},
    process::Console,
    spans::Spans,
    task::Vital,
    vitals::Meter,
    watch::{Hint, Hinted},
};

/// Whoever is still writing gets this long before the file is looked at: ciphertool truncates deployment.toml before it
/// writes it anew, and half of it would look like an edit. The end of a write is looked at without delay.
const WRITING_TIME: std::time::Duration = std::time::Duration::from_millis(250);

/// Generated files are looked at when nothing has happened to them for this long: the product's configuration step
/// writes about 150 of them and records their hashes last, and in between they look like edits.
const GENERATED_TIME: std::time::Duration = std::time::Duration::from_secs(3);

/// A write of the journal that takes longer is told to the coordinator as one that failed: reports wait for it.
const JOURNAL_TIME: std::time::Duration = std::time::Duration::from_secs(10);

/// Everything that actions are performed with.
pub struct World {
    /// Where the monotonic clock of this process begins.
    pub begin: tokio::time::Instant,
    /// The time of day.
    pub clock: fn() -> Timestamp,
    /// Durable memory.
    pub journal: Journal,
    /// Managed files.
    pub files: Files,
    /// The coordinator.
    pub link: Link,
    /// What runs the server.
    pub machine: Arc<dyn Machine>,
    /// Tasks that the agent cannot go on without.
    pub vital: Vital,
    /// The server's output.
    pub console: Console,
    /// Hooks and gates.
    pub caller: Caller,
    /// Outcomes.
    pub events: mpsc::Receiver<Event>,
    /// Where tasks put outcomes.
    pub outcomes: mpsc::Sender<Event>,
    /// Hints of the watch.
    pub hints: Hinted,
    /// The journal write under way and what waits for it.
    pub gate: Gate,
    /// Measurements and probes under way, and what they need.
    pub watching: Watching,
    /// What is counted, and who wants to know the node's state.
    pub metrics: Inside,
    /// The agent's part in traced rollouts.
    pub spans: Spans,
    /// The home whose files are in force.
    pub in_force: watch::Sender<Option<String>>,
    /// The Key Managers of those files.
    pub declared: watch::Sender<Declared>,
    /// What is kept of that home from before the first write.
    pub original: watch::Sender<Option<Original>>,
}

/// Holds actions back until the journal has what they depend on.
#[derive(Debug, Default)]
pub struct Gate {
    writing: Option<JoinHandle<io::Result<()>>>,
    /// When the write under way has taken too long.
    late_at: Option<tokio::time::Instant>,
    /// Waits for the write under way.
    waiting: VecDeque<Action>,
    /// The newest memory not handed to a write yet, and what waits for it.
    next: Option<Box<Memory>>,
    later: VecDeque<Action>,
    /// What the newest memory names, durable or not.
    contents: Vec<Digest>,
}

/// What recurs.
#[derive(Debug, Default)]
pub struct Watching {
    probing: Option<JoinHandle<()>>,
    measuring: Option<JoinHandle<Meter>>,
    meter: Option<Meter>,
    /// Digest over the keystores of the watched bundle.
    keystores: String,
    /// When to look at a file that somebody may still be writing.
    hint_due: Option<tokio::time::Instant>,
    /// When to look at generated files, if nothing more happens to them.
    generated_due: Option<tokio::time::Instant>,
}

enum Input {
    Event(Option<Event>),
    Asked(Ask),
    Hint(Option<Hint>),
    Generated,
    Journaled(io::Result<()>),
    Deadline,
}

impl World {
    /// The time of day.
    pub fn wall(&self) -> Timestamp {
        (self.clock)()
    }

    /// The monotonic clock.
    pub fn now(&self) -> Instant {
        Instant(u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The next event; [`Event::Timer`] at `deadline` at the latest. `None` when nothing can come any more. Until then
    /// whoever asks for the node's state gets what `observed` says.
    pub async fn next_event(
        &mut self,
        deadline: Option<Instant>,
        observed: impl Fn() -> Observed,
    ) -> Option<Event> {
        loop {
            match self.next_input(deadline).await {
                Input::Event(event) => return event,
                // Whoever asked may have gone.
                Input::Asked(ask) => drop(ask.send(observed())),
                Input::Hint(Some(Hint::Settled)) => {
                    self.watching.hint_due = None;
                    return Some(Event::FileHint);
                }
                Input::Hint(Some(Hint::Writing)) => {
                    let due = tokio::time::Instant::now() + WRITING_TIME;
                    self.watching.hint_due.get_or_insert(due);
                }
                Input::Hint(None) => return None,
                Input::Generated => {
                    self.watching.generated_due = Some(tokio::time::Instant::now() + GENERATED_TIME);
                }
                Input::Journaled(Ok(())) => self.on_journaled(),
                Input::Journaled(Err(error)) => return Some(self.on_journal_failed(&error)),
                Input::Deadline => {
                    let now = tokio::time::Instant::now();
                    if self.gate.late_at.take_if(|late| *late <= now).is_some() {
                        self.on_journal_late();
                        continue;
                    }
                    if self.watching.hint_due.take_if(|due| *due <= now).is_some() {
                        return Some(Event::FileHint);
                    }
                    let quiet = self.watching.generated_due.take_if(|due| *due <= now).is_some();
                    return Some(if quiet { Event::GeneratedHint } else { Event::Timer });
                }
            }
        }
    }

    async fn next_input(&mut self, deadline: Option<Instant>) -> Input {
        let far = self.begin + std::time::Duration::from_secs(u64::from(u32::MAX));
        let due = deadline.map_or(far, |at| self.begin + std::time::Duration::from_millis(at.0));
        let due = due.min(self.watching.hint_due.unwrap_or(far));
        let due = due.min(self.watching.generated_due.unwrap_or(far));
        let due = due.min(self.gate.late_at.unwrap_or(far));
        tokio::select! {
            // Cancel-safe: channels, a timer, and a handle that is polled again.
            event = self.events.recv() => Input::Event(event),
            Some(ask) = self.metrics.asks.recv() => Input::Asked(ask),
            hint = self.hints.managed.recv() => Input::Hint(hint),
            Some(()) = self.hints.generated.recv() => Input::Generated,
            written = written(&mut self.gate.writing) => Input::Journaled(written),
            () = tokio::time::sleep_until(due) => Input::Deadline,
        }
    }

    /// What comes from outside, before the engine is told.
    pub fn note(&mut self, event: &Event) {
        debug!(?event, "Event");
        let now = self.wall();
        self.spans.on_event(now, event);
    }

    /// Starts an action, now or once the journal allows.
    pub fn start(&mut self, action: Action) {
        let now = self.wall();
        self.spans.on_ordered(now, &action);
        match action {
            Action::Journal(memory) => self.gate_journal(memory),
            action if action.waits_for_journal() && self.gate.next.is_some() => {
                self.gate.later.push_back(action);
            }
            action if action.waits_for_journal() && self.gate.writing.is_some() => {
                self.gate.waiting.push_back(action);
            }
            action => self.begin(action),
        }
    }

    fn begin(&mut self, action: Action) {
        self.metrics.meters.action(&action);
        let now = self.wall();
        self.spans.on_begun(now, &action);
        self.perform(action);
    }

    fn gate_journal(&mut self, memory: Box<Memory>) {
        self.gate.contents = memory.contents();
        if self.gate.writing.is_some() {
            // The newest memory holds all that an unwritten earlier one did.
            self.gate.next = Some(memory);
        } else {
            self.write(memory);
        }
    }

    fn write(&mut self, memory: Box<Memory>) {
        let (journal, meters) = (self.journal.clone(), self.metrics.meters.clone());
        self.gate.late_at = Some(tokio::time::Instant::now() + JOURNAL_TIME);
        self.gate.writing = Some(crate::task::blocking(move || {
            let begun = std::time::Instant::now();
            let written = journal.write(&memory);
            meters.journal(begun.elapsed(), written.is_ok());
            written
        }));
    }

    fn on_journaled(&mut self) {
        (self.gate.writing, self.gate.late_at) = (None, None);
        let ready = std::mem::take(&mut self.gate.waiting);
        if let Some(memory) = self.gate.next.take() {
            self.gate.waiting = std::mem::take(&mut self.gate.later);
            self.write(memory);
        }
        for action in ready {
            self.begin(action);
        }
        // After the reports that waited for it, so that the link sends the newest again.
        self.link.journal_error(None);
    }

    /// It may still succeed; until then nothing is told, so what was told before is no news of the present.
    fn on_journal_late(&self) {
        let seconds = JOURNAL_TIME.as_secs();
        error!(
            seconds,
            "A write of the journal does not end; nothing is promised to the coordinator until it does"
        );
        self.link.journal_error(Some(format!("a write has not ended for {seconds} s")));
    }

    fn on_journal_failed(&mut self, cause: &io::Error) -> Event {
        error!(error = %cause, "The journal cannot be written; nothing is promised to the coordinator until it can");
        self.link.journal_error(Some(cause.to_string()));
        let dropped = std::mem::take(&mut self.gate);
        self.gate.contents.clone_from(&dropped.contents);
        let was_dropped = |is: fn(&Action) -> bool| dropped.waiting.iter().chain(&dropped.later).any(is);
        Event::JournalFailed {
            detail: cause.to_string(),
            switch_dropped: was_dropped(|action| matches!(action, Action::Switch { .. })),
            launch_dropped: was_dropped(|action| matches!(action, Action::Launch(_))),
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Journal(memory) => self.gate_journal(memory),
            Action::Ack { generation, stage, refusal } => {
                match &refusal {
                    Some(refusal) => {
                        error!(%generation, ?stage, reason = %refusal.reason, detail = %refusal.detail, "Not reached");
                    }
                    None => info!(%generation, ?stage, "Reached"),
                }
                self.link.order(Order::Ack(generation, stage, refusal));
            }
            Action::Report(observed) => self.report(observed),
            Action::Tell(notices) => self.link.order(Order::Tell(notices)),
            Action::CommandDone { id, done, detail } => self.link.order(Order::CommandDone(id, done, detail)),
            Action::Obtain { target, size } => self.link.obtain(target, size),
            Action::Keep(mut contents) => {
                contents.extend_from_slice(&self.gate.contents);
                self.files.start_job(Job::Keep(contents));
            }
            Action::Stage { target, bundle, keep } => {
                self.files.start_job(Job::Stage(Staging { target, bundle, keep, now: self.wall() }));
            }
            Action::Switch { target, .. } => self.files.start_job(Job::Switch(target)),
            Action::Recover { target, way } => self.files.start_job(Job::Recover(target, way)),
            Action::Watch { target, bundle } => {
                self.watching.keystores = keystores(&bundle);
                self.in_force.send_replace(Some(bundle.service.home.clone()));
                self.declared.send_replace(Declared {
                    registrations: bundle.key_managers.kept.clone(),
                    keystores: self.watching.keystores.clone(),
                    service: Some(bundle.service.clone()),
                });
                self.files.start_job(Job::Watch(target, bundle));
            }
            Action::Scan(extent) => self.files.start_job(Job::Scan(extent)),
            Action::Restore { path, bundle, as_seen } => {
                self.files.start_job(Job::Restore { path, bundle, as_seen });
            }
            Action::Mend { paths, bundle } => self.files.start_job(Job::Mend(paths, bundle)),
            Action::Look { home } => self.spawn(self.machine.look(home)),
            Action::Launch(bundle) => {
                info!(home = bundle.service.home, script = %bundle.service.script(), "Starting the server");
                // What it will render with.
                self.files.start_job(Job::ReadPack(bundle.service.home.clone()));
                self.follow(self.machine.launch(bundle));
            }
            Action::ClearLaunchFiles(bundle) => self.clear_launch_files(&bundle),
            Action::Adopt { process, bundle } => {
                info!(pid = process.pid, "Adopting the running server");
                self.follow(self.machine.adopt(process, bundle));
            }
            Action::Reload { run, process, bundle } => self.reload(run, process, bundle),
            Action::Stop(process) => {
                info!(pid = process.pid, "Stopping the server");
                self.spawn(self.machine.stop(process));
            }
            Action::Dump(process) => self.machine.dump(&process),
            Action::Kill(process) => {
                error!(pid = process.pid, "Killing the server: it did not stop in time");
                self.spawn(self.machine.kill(process));
            }
            Action::Probe { probes, process } => self.probe(probes, process),
            Action::Hook { run, point, hook } => self.hook(run, point, *hook),
            Action::Check { id, check } => self.check(id, *check),
            Action::AskRotation(call) => self.ask_rotation(call),
            Action::KeyManager { run, work } => self.key_manager(run, *work),
            Action::Measure { process, home } => {
                // Updates of a product change templates in place; a look costs some hundred `stat`s.
                self.files.start_job(Job::ReadPack(home.clone()));
                self.measure(process, home);
            }
        }
    }

    fn reload(&self, run: u64, process: ProcessIdentity, bundle: Arc<Bundle>) {
        info!(pid = process.pid, "Having the load balancer read its configuration anew");
        self.spawn(self.machine.reload(run, process, bundle));
    }

    /// At once and here: a launch that is asked for later writes them later.
    fn clear_launch_files(&self, bundle: &Bundle) {
        let result = clear_launch_files(bundle).map_err(|error| crate::chain(&error));
        if let Err(error) = &result {
            error!(%error, "A launch file cannot be removed");
        }
        let outcomes = self.outcomes.clone();
        self.spawn(async move { drop(outcomes.send(Event::LaunchFilesCleared(result)).await) });
    }

    fn report(&self, observed: Box<Observed>) {
        self.original.send_replace(observed.original.clone());
        self.link.report(observed);
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        crate::task::spawn("action", task);
    }

    /// Begins what follows a server to its end. Without it nobody would learn that the server has ended.
    fn follow(&self, server: Work) {
        self.vital.spawn("supervision", async move {
            server.await;
            Ok(())
        });
    }

    fn probe(&mut self, probes: Vec<fleet::bundle::Probe>, process: ProcessIdentity) {
        if self.watching.probing.as_ref().is_some_and(|round| !round.is_finished()) {
            // Slow answers are not asked for twice.
            return;
        }
        let round = self.machine.probe(probes, process, self.watching.keystores.clone());
        let outcomes = self.outcomes.clone();
        self.watching.probing = Some(crate::task::spawn("probes", async move {
            let results = round.await;
            // Only fails when the agent is ending.
            drop(outcomes.send(Event::Probed(results)).await);
        }));
    }

    fn hook(&self, run: u64, point: HookPoint, hook: Hook) {
        info!(hook = %point, call = %hook.call, "Running a hook");
        let caller = self.caller.with_keystores(&self.watching.keystores);
        let outcomes = self.outcomes.clone();
        self.spawn(async move {
            let outcome = caller.hook(&hook).await;
            match &outcome {
                Ok(detail) => info!(hook = %point, detail, "A hook has run"),
                Err(detail) => error!(hook = %point, detail, "A hook failed"),
            }
            // Only fails when the agent is ending.
            drop(outcomes.send(Event::HookDone { run, outcome }).await);
        });
    }

    fn check(&self, id: u64, check: Check) {
        let caller = self.caller.with_keystores(&self.watching.keystores);
        let outcomes = self.outcomes.clone();
        self.spawn(async move {
            let outcome = caller.tried(&check.call, &check.tries).await;
            info!(gate = check.name, passed = outcome.is_ok(), "Answered a gate");
            drop(outcomes.send(Event::Checked { id, outcome }).await);
        });
    }

    fn key_manager(&self, run: u64, work: work::Work) {
        let caller = self.caller.with_keystores(&self.watching.keystores);
        let outcomes = self.outcomes.clone();
        self.spawn(async move {
            let outcome = key_manager::turn(&caller, &work).await;
            let name = &work.registration.name;
            match &outcome {
                Ok(outcome) => debug!(key_manager = name, ?outcome, "Looked at a Key Manager"),
                Err(trouble) => warn!(key_manager = name, %trouble, "A Key Manager cannot be registered"),
            }
            drop(outcomes.send(Event::KeyManagerDone { run, outcome }).await);
        });
    }

    fn ask_rotation(&self, call: HaproxyCall) {
        let outcomes = self.outcomes.clone();
        self.spawn(async move {
            let state = call::rotation(&call).await;
            drop(outcomes.send(Event::Rotation(state)).await);
        });
    }

    /// Somebody else may have started a server where none is known: an operator, or systemd at the host's start.
    fn tell_strangers(&self, home: String) {
        let (looking, outcomes) = (self.machine.servers(home), self.outcomes.clone());
        self.spawn(async move {
            let seen = looking.await;
            if !seen.is_empty() {
                drop(outcomes.send(Event::Seen(seen)).await);
            }
        });
    }

    fn measure(&mut self, process: Option<ProcessIdentity>, home: String) {
        if self.watching.measuring.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let before = self.watching.meter.take();
        if process.is_none() {
            self.tell_strangers(home.clone());
        }
        let (console, outcomes) = (self.console.clone(), self.outcomes.clone());
        self.watching.measuring = Some(crate::task::blocking(move || {
            let mut meter = before.unwrap_or_default();
            if let Err(error) = console.rotate() {
                tracing::warn!(%error, "Cannot rotate the console log");
            }
            let vitals = meter.measure(process.as_ref(), &home);
            drop(outcomes.blocking_send(Event::Measured(vitals)));
            meter
        }));
    }
}

/// The end of the write under way; never, if there is none.
async fn written(writing: &mut Option<JoinHandle<io::Result<()>>>) -> io::Result<()> {
    match writing {
        Some(handle) => handle.await.map_err(io::Error::other)?,
        None => std::future::pending().await,
    }
}

/// What the certificate of the server's HTTPS ports depends on, as one digest.
fn keystores(bundle: &Arc<Bundle>) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (path, file) in &bundle.files {
        let is_store =
            [".jks", ".p12", ".pfx", ".pem", ".crt"].iter().any(|end| path.as_str().ends_with(end));
        if is_store || *path == bundle.service.config_path {
            writeln!(text, "{path} {}", file.meaning).expect("a String takes any text");
        }
    }
    fleet::ids::Digest::of(text.as_bytes()).short()
}
