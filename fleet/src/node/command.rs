//! What operators want done once.

use crate::{
    bundle::HomePath,
    node::{Action, COMMANDS_MAX, Clock, Command, Engine, Extent, Out},
    reason::Reason,
    service::Service,
    words::NoticeWord,
};

impl Engine {
    pub(super) fn on_command(&mut self, clock: Clock, id: u64, command: Command, out: &mut Out) {
        if let Command::Check(check) = command {
            // "Done before" would be an answer about then.
            match self.limits.check_call(&check.call) {
                Ok(()) => out.push(Action::Check { id, check }),
                Err(failure) => on_checked(id, Err(failure.detail), out),
            }
            return;
        }
        if self.memory.commands.contains(&id) {
            let detail = "done before".to_owned();
            return out.push(Action::CommandDone { id, done: true, detail });
        }
        let answer = match command {
            Command::Restart { why } => self.restart(clock, &why, out),
            Command::PauseDrift { reason, until } => {
                self.notice(clock, NoticeWord::DriftPaused, &format!("enforcement is paused: {reason}"), &[]);
                self.memory.pause = Some((reason, until));
                Ok("enforcement is paused".to_owned())
            }
            Command::ResumeDrift => {
                if self.memory.pause.take().is_some() {
                    self.notice(clock, NoticeWord::DriftResumed, "enforcement is resumed", &[]);
                }
                out.push(Action::Scan(Extent::All));
                Ok("enforcement is on".to_owned())
            }
            Command::RestoreDrift { path } => self.restore(clock, path.as_ref(), out),
            Command::RestoreOriginal { why } => self.restore_original(clock, &why),
            Command::AcceptDrift { path, until } => match self.accept(id, path, until, out) {
                // Answered once the file has been looked at.
                Ok(()) => return self.remember(id),
                Err(why) => Err(why),
            },
            Command::Check(_) => return,
        };
        self.remember(id);
        let (done, detail) = match answer {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        out.push(Action::CommandDone { id, done, detail });
    }

    fn remember(&mut self, id: u64) {
        self.memory.commands.push_back(id);
        if COMMANDS_MAX < self.memory.commands.len() {
            self.memory.commands.pop_front();
        }
    }

    fn restart(&mut self, clock: Clock, why: &str, out: &mut Out) -> Result<String, String> {
        if !self.wants_server() {
            return Err("this server is not meant to run; start it first".to_owned());
        }
        self.hooks.forgive();
        match self.service {
            Service::Unknown | Service::Foreign { .. } => {
                return Err(format!("the server's state is {}", self.service.state()));
            }
            Service::BackingOff { .. } | Service::GaveUp { .. } => {
                self.exits.forgive();
                self.facts.failed_starts = 0;
                self.set_service(clock, Service::Stopped, "an operator asked for another try");
            }
            Service::Stopped | Service::Starting { .. } | Service::Running { .. } => {
                self.reload.forgive();
                self.look_before_restart(clock, out);
                self.memory.restart = Some(format!("an operator asked for a restart{}", Reason(why)));
            }
            Service::Stopping { .. } => {}
        }
        Ok(if self.is_balancer() { "the load balancer is reloaded" } else { "the server restarts" }
            .to_owned())
    }

    fn restore(&mut self, clock: Clock, path: Option<&HomePath>, out: &mut Out) -> Result<String, String> {
        let (written, bundle) = self.written().ok_or("no files are in force yet")?;
        if written.is_original() {
            return Err("the original files are in force; edits of those are never undone".to_owned());
        }
        let paths: Vec<HomePath> = match path {
            Some(path) if !bundle.files.contains_key(path) => {
                let not_ours = || format!("{path} is not a file of this node");
                return self.mend_one(path, out).ok_or_else(not_ours);
            }
            Some(path) if bundle.files.get(path).is_some_and(|file| file.launch) => {
                return Err(format!("{path} is there only while the server starts"));
            }
            Some(path) => vec![path.clone()],
            None => self
                .drifts
                .open()
                .into_iter()
                .filter(|path| bundle.files.contains_key(*path))
                .cloned()
                .collect(),
        };
        let open = self.drifts.open();
        let is_known = paths.iter().any(|path| open.contains(path));
        for path in &paths {
            self.memory.accepted.remove(path);
            self.drifts.forgive(path);
            self.drifts.restoring(path, clock.now);
            out.push(Action::Restore { path: path.clone(), bundle: bundle.clone(), as_seen: false });
        }
        Ok(match paths.as_slice() {
            [] => "no file differs; there is nothing to restore".to_owned(),
            [path] if !is_known => {
                format!("{path} has no known difference; it is restored if it turns out to have one")
            }
            [path] => format!("{path} is being restored"),
            more => format!("{} files are being restored", more.len()),
        })
    }
}

pub(super) fn on_checked(id: u64, outcome: Result<String, String>, out: &mut Out) {
    let done = outcome.is_ok();
    let detail = outcome.unwrap_or_else(|detail| detail);
    out.push(Action::CommandDone { id, done, detail });
}
