//! Launch files, such as the secure vault's `password-tmp`: there from right before a launch until the server is ready,
//! late or gone, whoever crashes in between.

use std::time::Duration;

use crate::{
    bundle::HomePath,
    node::{Action, Clock, Engine, Out},
    service::Service,
    time::Instant,
    words::NoticeWord,
};

/// After a clearing that failed or was not answered.
const CLEAR_AGAIN: Duration = Duration::from_secs(30);

/// Whether any may be there.
#[derive(Debug)]
pub(super) struct State {
    /// After a crash of the agent nobody knows, so at first they may.
    maybe: bool,
    again: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self { maybe: true, again: None }
    }
}

impl Engine {
    /// A launch writes them.
    pub(super) fn launch_files_written(&mut self) {
        self.launch_files = State::default();
    }

    /// Whether a server may be about to read them.
    fn needs_launch_files(&self) -> bool {
        match &self.service {
            // Nobody has looked: a server may be starting.
            Service::Unknown => true,
            Service::Starting { late, .. } => !late,
            Service::Stopped
            | Service::Running { .. }
            | Service::Stopping { .. }
            | Service::BackingOff { .. }
            | Service::GaveUp { .. }
            | Service::Foreign { .. } => false,
        }
    }

    pub(super) fn settle_launch_files(&mut self, clock: Clock, out: &mut Out) {
        let is_due = self.launch_files.again.is_none_or(|due| due <= clock.now);
        if !self.launch_files.maybe || !is_due || self.needs_launch_files() {
            return;
        }
        let Some((_, bundle)) = self.written() else { return };
        if !bundle.has_launch_files() {
            return;
        }
        self.launch_files.again = Some(clock.now.after(CLEAR_AGAIN));
        out.push(Action::ClearLaunchFiles(bundle));
    }

    pub(super) fn on_launch_files_cleared(&mut self, clock: Clock, result: Result<Vec<HomePath>, String>) {
        // A launch that came later has written them anew.
        if self.needs_launch_files() {
            return;
        }
        match result {
            Ok(left) => {
                self.launch_files = State { maybe: false, again: None };
                for path in left {
                    let text = format!("{path} was removed: the server has not read it");
                    self.notice(clock, NoticeWord::LaunchFileUnread, &text, &[("path", path.to_string())]);
                }
            }
            Err(detail) => {
                let text = format!("a secret may still be readable in the home: {detail}");
                self.notice(clock, NoticeWord::LaunchFileLeft, &text, &[]);
            }
        }
    }

    /// The script ran java again by itself: the files of the launch before are used up.
    pub(super) fn warn_of_empty_vault(&mut self, clock: Clock) {
        let Some((_, bundle)) = self.written() else { return };
        let Some((path, _)) = bundle.launch_files().next() else { return };
        let text = format!(
            "the server was started without the agent and finds no {path}: its secrets may stay locked; `convoy node restart` \
             launches it with one"
        );
        self.notice(clock, NoticeWord::VaultLocked, &text, &[("path", path.to_string())]);
    }

    /// When a clearing is due again.
    pub(super) fn launch_files_deadline(&self) -> Option<Instant> {
        self.launch_files.again.filter(|_| self.launch_files.maybe && !self.needs_launch_files())
    }
}
