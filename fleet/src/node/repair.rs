//! Edits of managed files: told, and undone where the policy says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    bundle::{Applied, Bundle, DriftPolicy, HomePath},
    drift::{self, Answer, CONFIRM_TIME, Difference, Drifts, Found, KeyOwners, TUG_MAX, TUG_WINDOW},
    editor::{self, EDITORS_MAX, Editor},
    ids::Digest,
    node::{Action, Clock, Engine, Extent, Failure, Out, Phase},
    observed::{DriftAction, DriftKind, RefusalReason},
    spec::canonical,
    time::Instant,
    words::NoticeWord,
};

/// Between two looks at files that cannot be looked at.
const SCAN_AGAIN: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) fn on_scanned(
        &mut self,
        clock: Clock,
        target: Applied,
        (looked, found): (&BTreeSet<HomePath>, &BTreeMap<HomePath, Found>),
        out: &mut Out,
    ) {
        let Some((written, bundle)) = self.written() else { return };
        // Compared with other files than those in force: the watch that follows a switch scans by itself.
        if written.applied != target || matches!(self.phase, Phase::Switching(_) | Phase::Recovering(_)) {
            return;
        }
        self.facts.files_error = None;
        self.facts.scanned = Some(target);
        if written.is_original() {
            // They are whoever's who wrote them.
            return;
        }
        let mut standing = BTreeSet::new();
        for (path, found) in found {
            let Some(file) = bundle.files.get(path) else { continue };
            let Some(difference) = drift::judge(file, found, KeyOwners::of(&bundle)) else { continue };
            // What belongs to the host is no news, also in a pause.
            if difference.policy == DriftPolicy::Ignore && !difference.is_kept() {
                continue;
            }
            standing.insert(path.clone());
            if self.drifts.is_pending(path) {
                continue;
            }
            let answer = if self.is_accepted(path) {
                Some(Answer::Leave(DriftAction::Accepted))
            } else if self.memory.pause.is_some() {
                Some(Answer::Leave(DriftAction::Paused))
            } else {
                self.drifts.answer(path, &difference, clock.now)
            };
            match answer {
                None => {}
                Some(Answer::Restore) => {
                    // Reported as restored only once it is.
                    self.drifts.record_restoring(path, difference, clock.wall);
                    self.drifts.restoring(path, clock.now);
                    out.push(Action::Restore { path: path.clone(), bundle: bundle.clone(), as_seen: true });
                }
                Some(Answer::Leave(action)) => self.leave(clock, path, difference, action),
            }
        }
        self.settle_drifts(clock, looked, &standing);
        self.judge_config_on_disk(&bundle, (looked, found));
        self.answer_accepts((looked, found), &bundle, out);
    }

    /// What ends without a deed of this agent, because somebody undid it on the host, is told as well.
    pub(super) fn settle_drifts(
        &mut self,
        clock: Clock,
        looked: &BTreeSet<HomePath>,
        standing: &BTreeSet<HomePath>,
    ) {
        for (path, action) in self.drifts.settle(looked, standing) {
            let text = format!("{path}: the difference is over; it was {}", action.as_str());
            self.notice(clock, NoticeWord::DriftEnded, &text, &[("path", path.to_string())]);
        }
    }

    /// Told as the loss of deployment.toml, since without its home the server has lost that first of all.
    pub(super) fn on_scan_failed(&mut self, clock: Clock, target: Applied, failure: &Failure) {
        let Some((written, bundle)) = self.written() else { return };
        if written.applied != target {
            return;
        }
        self.facts.scanned = Some(target);
        // Watches have gone with the directories: nothing else will say that they are back.
        self.timers.scan = Some(clock.now.after(SCAN_AGAIN));
        let text = format!("the managed files cannot be looked at: {}", failure.detail);
        self.tell_files_error(clock, NoticeWord::FilesUnseen, text.clone(), failure);
        let policy = DriftPolicy::Report;
        let difference = Difference { kind: DriftKind::Deleted, keys: Vec::new(), detail: text, policy };
        self.record(clock, &bundle.service.config_path, difference, DriftAction::Reported);
    }

    /// Told at once only if it is sure to be what it seems.
    fn leave(&mut self, clock: Clock, path: &HomePath, difference: Difference, action: DriftAction) {
        let may_be_half =
            matches!(action, DriftAction::Reported | DriftAction::Paused) && !difference.is_kept();
        if may_be_half && !self.drifts.is_confirmed(path, (&difference, action), clock.now) {
            self.scan_by(clock.now.after(CONFIRM_TIME));
            return;
        }
        self.record(clock, path, difference, action);
    }

    fn record(&mut self, clock: Clock, path: &HomePath, mut difference: Difference, action: DriftAction) {
        if action == DriftAction::TugOfWar {
            difference.detail = left_alone(&difference.detail);
        }
        if self.drifts.is_known(path, &difference, action) {
            return;
        }
        let text = match action {
            DriftAction::TugOfWar => format!("{path}: {}", difference.detail),
            DriftAction::Restored | DriftAction::Reported | DriftAction::Paused | DriftAction::Accepted => {
                format!("{path}: {}, {}", difference.kind.as_str(), action.as_str())
            }
        };
        let keys = difference.keys.join(", ");
        self.drifts.record(Drifts::describe(path, difference, action, clock.wall));
        let editors = self.editors_of(path);
        let text = format!("{text}{}", by(editors.as_deref()));
        let mut fields = vec![("path", path.to_string()), ("keys", keys)];
        fields.extend(editors.map(|editors| ("editors", editors)));
        self.notice(clock, NoticeWord::of_drift(action), &text, &fields);
    }

    /// Who wrote a file, for people.
    fn editors_of(&self, path: &HomePath) -> Option<String> {
        editor::named(&self.drifts.seen().find(|drift| drift.path == *path)?.editors)
    }

    /// A restore never waits for this: told after it, it is told as news of its own.
    pub(super) fn on_edited(
        &mut self,
        clock: Clock,
        (path, restored): (&HomePath, bool),
        editors: Vec<Editor>,
    ) {
        let Some(who) = editor::named(&editors) else { return };
        let editors = editors.into_iter().take(EDITORS_MAX).collect();
        if !restored || self.drifts.is_pending(path) {
            return self.drifts.written_by(path, editors);
        }
        if self.drifts.was_written_by(path, editors) {
            let fields = [("path", path.to_string()), ("editors", who.clone())];
            self.notice(
                clock,
                NoticeWord::DriftEditors,
                &format!("{path}: the edit that was restored was by {who}"),
                &fields,
            );
        }
    }

    pub(super) fn on_restored(&mut self, clock: Clock, path: &HomePath, took: Duration) {
        if !self.drifts.restored(path, took) {
            return;
        }
        let drift = self.drifts.seen().find(|drift| drift.path == *path).cloned();
        let (kind, keys) = drift.map_or(("edited", String::new()), |d| (d.kind.as_str(), d.keys.join(", ")));
        let editors = self.editors_of(path);
        let took_ms = took.as_secs_f64() * 1000.0;
        let text = format!("{path}: {kind}, restored after {took_ms:.1} ms{}", by(editors.as_deref()));
        let mut fields = vec![
            ("path", path.to_string()),
            ("kind", kind.to_owned()),
            ("keys", keys),
            ("took_us", took.as_micros().to_string()),
        ];
        fields.extend(editors.map(|editors| ("editors", editors)));
        self.notice(clock, NoticeWord::DriftRestored, &text, &fields);
        self.reload_after(path.as_str());
    }

    /// What was seen may have been half of a write, also of the product: it counts as never seen. The file is looked at
    /// again, as the world has noted it; whoever keeps writing ends as a tug-of-war, since every try counts.
    pub(super) fn on_restore_overtaken(&mut self, path: &HomePath, out: &mut Out) {
        if self.drifts.withdraw(path) {
            out.push(Action::Scan(Extent::Hinted));
        }
    }

    /// Tried again after a while, which grows. If its content is gone from the cache, that is fetched again first.
    pub(super) fn on_restore_failed(
        &mut self,
        clock: Clock,
        path: &HomePath,
        failure: &Failure,
        out: &mut Out,
    ) {
        let Some(retry) = self.drifts.restore_failed(path, &failure.detail, clock.now) else { return };
        self.scan_by(retry.at);
        if retry.is_news {
            let text = format!("{path} could not be restored and is tried again: {}", failure.detail);
            let fields = [("path", path.to_string()), ("reason", failure.reason.to_string())];
            self.notice(clock, NoticeWord::DriftRestoreFailed, &text, &fields);
        }
        if failure.reason == RefusalReason::ContentUnavailable {
            self.refetch(out);
        }
    }

    /// The next full look is at `due` at the latest.
    fn scan_by(&mut self, due: Instant) {
        self.timers.scan = Some(self.timers.scan.map_or(due, |planned| planned.min(due)));
    }

    /// Fetches what the cache lacks of the bundle in force. A fetch for an apply may take its place; the next restore
    /// that fails asks again.
    fn refetch(&mut self, out: &mut Out) {
        let Some(target) = self.memory.written else { return };
        if self.facts.refetching.is_some() || matches!(self.phase, Phase::Obtaining(_)) {
            return;
        }
        let size = self.size_of(target);
        self.facts.refetching = Some(target.content);
        out.push(Action::Obtain { target, size });
    }

    /// Whether this content was asked for to restore files.
    pub(super) fn ends_refetch(&mut self, content: Digest) -> bool {
        self.facts.refetching.take_if(|asked| *asked == content).is_some()
    }

    /// The content is there again: restores that lacked it are tried at once.
    pub(super) fn on_refetched(&mut self, clock: Clock, out: &mut Out) {
        self.drifts.retry_now(clock.now);
        out.push(Action::Scan(Extent::All));
    }

    /// Notes whether the product would refuse deployment.toml as it lies on disk.
    fn judge_config_on_disk(
        &mut self,
        bundle: &Bundle,
        (looked, found): (&BTreeSet<HomePath>, &BTreeMap<HomePath, Found>),
    ) {
        let path = &bundle.service.config_path;
        if !looked.contains(path) && !found.contains_key(path) {
            return;
        }
        self.facts.config_refused = match found.get(path) {
            Some(Found::Content { texts: Some((_, disk)) }) => canonical::flatten(disk)
                .err()
                .map(|error| format!("{path} is {error}; the product would refuse it")),
            Some(
                Found::Content { texts: None }
                | Found::Missing
                | Found::Replaced { .. }
                | Found::Unusable { .. }
                | Found::Mode { .. }
                | Found::Owner { .. },
            )
            | None => None,
        };
        if self.facts.config_refused.is_none() {
            self.facts.start_held = None;
        }
    }

    /// Ends a pause that has run out.
    pub(super) fn settle_pause(&mut self, clock: Clock, out: &mut Out) {
        let Some((_, until)) = &self.memory.pause else {
            self.timers.pause = None;
            return;
        };
        let left = until.since(clock.wall);
        if left.is_zero() {
            self.memory.pause = None;
            self.timers.pause = None;
            self.notice(clock, NoticeWord::DriftResumed, "the pause of enforcement has run out", &[]);
            out.push(Action::Scan(Extent::All));
        } else {
            // The wall clock decides; looked at once a minute at least, since it may be set.
            self.timers.pause = Some(clock.now.after(left.min(Duration::from_secs(60))));
        }
    }
}

/// The end of a sentence about an edit.
fn by(editors: Option<&str>) -> String {
    editors.map_or_else(String::new, |editors| format!(", by {editors}"))
}

/// What a tug-of-war means and what ends it.
fn left_alone(detail: &str) -> String {
    let minutes = TUG_WINDOW.as_secs() / 60;
    format!(
        "{detail}; it was restored {TUG_MAX} times in {minutes} minutes and somebody or something writes it again, so it \
         is left alone: find who does, then `convoy drift restore` or `convoy drift accept`"
    )
}
