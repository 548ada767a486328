//! Files that the product generates: judged by its own record, told, and put right before a start that would fail.
//!
//! An edit is never undone unasked: the next start does that by itself. A deleted file is another matter, because the
//! server would not come up again: no restart is begun, and none after a crash either, before it is back.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bundle::{Bundle, DriftPolicy, HomePath},
    drift::{
        Difference, Drifts,
        generated::{self, ConfigStep, GeneratedDrift, Looked, NextStart, SecretResidue},
    },
    node::{Action, Clock, Engine, Extent, Failure, Out},
    observed::{Concern, ConcernKind, DriftAction, DriftKind, RefusalReason},
    service::Service,
    time::Instant,
    words::NoticeWord,
};

/// Told of one look at most; beyond that the number is.
const TOLD_MAX: usize = 20;
/// A restart waits no longer than this for a look.
const LOOK_TIME: std::time::Duration = std::time::Duration::from_secs(30);
/// Bringing files back that is not answered within this never will be.
const MEND_TIME: std::time::Duration = std::time::Duration::from_secs(600);

/// What became of the last attempt to bring deleted files back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Mending {
    /// None since the last look.
    #[default]
    No,
    /// Under way.
    Asked,
    /// Over, not looked at yet.
    Over(String),
    /// It did not help.
    Failed(String),
}

/// What is known of generated files.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Deleted ones that would stop the next start.
    stops: Vec<HomePath>,
    residue: Option<SecretResidue>,
    mending: Mending,
    /// Since when files are being brought back.
    mending_since: Option<Instant>,
    /// A restart waits for a look until then.
    looking: Option<Instant>,
    /// Why a restart was not begun, as it was told.
    held: Option<String>,
}

/// Whether the server would come up again.
pub(super) enum Startable {
    /// Nothing is known that speaks against it.
    Yes,
    /// Being found out or put right.
    Wait,
    /// No, for this reason.
    No(String),
    /// No: the product will refuse deployment.toml as it is, and only another content changes that.
    Refused(String),
}

impl Engine {
    pub(super) fn on_generated(&mut self, clock: Clock, looked: Looked) {
        self.generated.looking = None;
        let Some((_, bundle)) = self.written() else { return };
        if let Service::Starting { .. } = self.service {
            // The configuration step may be writing them right now.
            return;
        }
        let differing: Vec<GeneratedDrift> =
            generated::compare(&looked.recorded, &looked.now, step_of(&bundle))
                .into_iter()
                .filter(|drift| !bundle.files.contains_key(&drift.path))
                .collect();
        let stops = differing.iter().filter(|drift| drift.next_start == NextStart::Stops);
        self.generated.stops = stops.map(|drift| drift.path.clone()).collect();
        self.generated.mending = match std::mem::take(&mut self.generated.mending) {
            Mending::Asked => Mending::Asked,
            Mending::Over(why) if !self.generated.stops.is_empty() => Mending::Failed(why),
            Mending::Over(_) | Mending::Failed(_) | Mending::No => Mending::No,
        };
        if self.generated.stops.is_empty() {
            self.generated.held = None;
        }
        self.tell_generated(clock, &looked.now, &differing);
        if let Some(residue) = &looked.residue
            && self.generated.residue.as_ref() != Some(residue)
        {
            self.notice(clock, NoticeWord::SecretResidue, &residue.detail(), &[("remedy", residue.remedy())]);
        }
        self.generated.residue = looked.residue;
    }

    fn tell_generated(
        &mut self,
        clock: Clock,
        now: &BTreeMap<HomePath, Option<String>>,
        differing: &[GeneratedDrift],
    ) {
        let standing: BTreeSet<HomePath> = differing.iter().map(|drift| drift.path.clone()).collect();
        // Those of an earlier look too: their record may be gone.
        let before = self.drifts.seen().filter(|drift| is_generated(drift.kind));
        let looked = before.map(|drift| &drift.path).chain(now.keys()).cloned().collect();
        for drift in differing.iter().take(TOLD_MAX) {
            let detail = format!("{}; {}", drift.detail(), drift.remedy());
            let difference =
                Difference { kind: drift.kind, keys: Vec::new(), detail, policy: DriftPolicy::Report };
            if self.drifts.is_known(&drift.path, &difference, DriftAction::Reported) {
                continue;
            }
            let fields = [
                ("path", drift.path.to_string()),
                ("next_start", drift.next_start.to_string()),
                ("remedy", drift.remedy()),
            ];
            self.notice(clock, NoticeWord::DriftReported, &drift.detail(), &fields);
            let told = Drifts::describe(&drift.path, difference, DriftAction::Reported, clock.wall);
            self.drifts.record(told);
        }
        self.settle_drifts(clock, &looked, &standing);
    }

    /// An operator's restart is as good as a look at what it will read: asked for before the server is stopped.
    pub(super) fn look_before_restart(&mut self, clock: Clock, out: &mut Out) {
        self.generated.looking = Some(clock.now.after(LOOK_TIME));
        if self.generated.mending != Mending::Asked {
            self.generated.mending = Mending::No;
        }
        out.push(Action::Scan(Extent::All));
    }

    /// Whether a start would get past the configuration step. Brings deleted files back first, if it can.
    pub(super) fn startable(&mut self, out: &mut Out) -> Startable {
        if self.generated.looking.is_some() || self.drifts.holds_start() {
            return Startable::Wait;
        }
        if let Some(why) = &self.facts.config_refused {
            return Startable::Refused(why.clone());
        }
        let Some(first) = self.generated.stops.first() else { return Startable::Yes };
        match &self.generated.mending {
            Mending::Asked | Mending::Over(_) => Startable::Wait,
            Mending::Failed(why) => Startable::No(format!(
                "{first} is generated and was deleted, the server would not start again, and it could not be \
                 brought back: {why}"
            )),
            Mending::No if self.memory.pause.is_some() => Startable::No(format!(
                "{first} is generated and was deleted, the server would not start again, and enforcement is \
                 paused; `convoy drift restore` brings it back"
            )),
            Mending::No => {
                let paths = self.generated.stops.clone();
                self.mend(paths, out);
                Startable::Wait
            }
        }
    }

    /// [`Engine::startable`] for a server that serves: says why it goes on serving.
    pub(super) fn may_restart(&mut self, clock: Clock, out: &mut Out) -> bool {
        let why = match self.startable(out) {
            Startable::Yes => return true,
            Startable::Wait => return false,
            Startable::Refused(why) => {
                self.facts.start_held = Some(why.clone());
                why
            }
            Startable::No(why) => why,
        };
        self.memory.restart = None;
        if self.generated.held.as_ref() != Some(&why) {
            self.notice(clock, NoticeWord::RestartHeld, &format!("the server is not restarted: {why}"), &[]);
            self.generated.held = Some(why.clone());
        }
        if self.is_attempting() {
            self.fail_start(clock, Failure { reason: RefusalReason::PreflightFailed, detail: why }, out);
        }
        false
    }

    fn mend(&mut self, paths: Vec<HomePath>, out: &mut Out) {
        let Some((_, bundle)) = self.written() else { return };
        self.generated.mending = Mending::Asked;
        out.push(Action::Mend { paths, bundle });
    }

    /// An operator wants a generated file back; `None` if it is none that differs.
    pub(super) fn mend_one(&mut self, path: &HomePath, out: &mut Out) -> Option<String> {
        let is_known = self.drifts.seen().any(|drift| drift.path == *path && is_generated(drift.kind));
        if !is_known && !self.generated.stops.contains(path) {
            return None;
        }
        self.mend(vec![path.clone()], out);
        Some(format!(
            "{path} is generated: it is being restored from backup/, if that holds what was recorded"
        ))
    }

    pub(super) fn on_mended(
        &mut self,
        clock: Clock,
        restored: &[HomePath],
        dropped: bool,
        trouble: Option<String>,
    ) {
        for path in restored {
            let text = format!("{path} is generated: restored from backup/{path}");
            self.notice(clock, NoticeWord::DriftRestored, &text, &[("path", path.to_string())]);
        }
        if dropped {
            let text = format!(
                "{} was removed, because backup/ does not hold what was recorded: the next start makes all \
                 generated files anew",
                generated::RECORD_DIR
            );
            self.notice(clock, NoticeWord::DriftRestored, &text, &[]);
        }
        if let Some(trouble) = &trouble {
            self.notice(clock, NoticeWord::DriftRestoreFailed, trouble, &[]);
        }
        self.generated.mending = Mending::Over(trouble.unwrap_or_default());
    }

    /// Whether a start waits for a look or for files to come back: their event wakes the engine, no timer.
    pub(super) fn is_mending(&self) -> bool {
        self.generated.looking.is_some()
            || self.drifts.holds_start()
            || matches!(self.generated.mending, Mending::Asked | Mending::Over(_))
    }

    /// The server is not launched while the product would refuse deployment.toml: it would end at once, again and again.
    pub(super) fn hold_start(&mut self, clock: Clock, why: String) {
        if self.facts.start_held.as_ref() == Some(&why) {
            return;
        }
        self.notice(clock, NoticeWord::StartHeld, &format!("the server is not started: {why}"), &[]);
        self.service_reason.clone_from(&why);
        self.facts.start_held = Some(why);
    }

    /// Whether a launch waits for another deployment.toml.
    pub(super) fn is_start_held(&self) -> bool {
        self.facts.config_refused.is_some()
    }

    /// A look that was never answered holds nothing up.
    pub(super) fn settle_look(&mut self, clock: Clock) {
        self.generated.looking = self.generated.looking.filter(|until| clock.now < *until);
        self.drifts.let_go(clock.now);
        if self.generated.mending == Mending::Asked {
            let since = *self.generated.mending_since.get_or_insert(clock.now);
            if MEND_TIME <= clock.now.since(since) {
                self.generated.mending = Mending::No;
            }
        } else {
            self.generated.mending_since = None;
        }
    }

    /// When a restart that waits for a look goes on without it.
    pub(super) fn look_deadline(&self) -> Option<Instant> {
        let mending = self.generated.mending_since.map(|since| since.after(MEND_TIME));
        [self.generated.looking, mending].into_iter().flatten().min()
    }

    /// What an operator should look at besides drift and health.
    pub(super) fn concerns(&self) -> Vec<Concern> {
        let residue = self.generated.residue.as_ref().map(|residue| Concern {
            kind: ConcernKind::SecretResidue,
            detail: residue.detail(),
            remedy: residue.remedy(),
        });
        let held = self.generated.held.as_ref().map(|why| Concern {
            kind: ConcernKind::RestartHeld,
            detail: why.clone(),
            remedy: "bring the file back, then restart".to_owned(),
        });
        let start_held = self.facts.start_held.as_ref().map(|why| Concern {
            kind: ConcernKind::StartHeld,
            detail: why.clone(),
            remedy: "correct the file, or `convoy drift restore`; the server starts by itself then"
                .to_owned(),
        });
        let standing = residue.into_iter().chain(held).chain(start_held).chain(self.disk_concerns());
        standing.chain(self.key_manager_concerns()).collect()
    }
}

const fn is_generated(kind: DriftKind) -> bool {
    matches!(kind, DriftKind::GeneratedEdited | DriftKind::GeneratedDeleted)
}

/// How the next start treats generated files: `JAVA_OPTS` is read before the arguments, so those win.
fn step_of(bundle: &Bundle) -> ConfigStep {
    let options = bundle.service.env.get("JAVA_OPTS").map_or("", String::as_str);
    ConfigStep::of(options.split_whitespace().chain(bundle.service.args.iter().map(String::as_str)))
}
