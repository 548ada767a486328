//! One task per server: from launch or adoption until it is gone. Looks only; what follows is the engine's decision.

use std::{sync::Arc, time::Duration};

use fleet::{
    bundle::Bundle,
    node::{Event, Failure, LogSign},
    observed::{ProcessIdentity, RefusalReason},
};
use tokio::{sync::mpsc, time::Instant};
use tracing::error;

use super::{
    console::{Console, Follower},
    holder::{Holder, ScriptId},
    spawn::{Script, spawn},
    stop,
    stop::Stopper,
    table::{self, Server},
};
use crate::{cache::Cache, files::Defaults, unit::Units};

/// From the script's start to java; the scripts do little before it.
const FIND_TIME: Duration = Duration::from_secs(60);
/// Between two looks at the output of a server that starts.
const FOLLOW_PERIOD: Duration = Duration::from_millis(200);
/// How long the script may outlive java before it no longer counts: its traps have work of a second or two.
const SCRIPT_TIME: Duration = Duration::from_secs(20);
/// A server that has not said "started" after this is followed no longer.
const FOLLOW_TIME: Duration = Duration::from_secs(3600);

/// Launches and follows servers.
#[derive(Debug, Clone)]
pub struct Processes {
    /// What a bundle may leave open.
    pub defaults: Defaults,
    /// Content of launch files.
    pub cache: Cache,
    /// Where output goes.
    pub console: Console,
    /// Homes whose servers are run by systemd.
    pub units: Units,
    /// Where outcomes go.
    pub events: mpsc::Sender<Event>,
}

impl Processes {
    /// Looks for servers of a home.
    pub async fn look(self, home: String) {
        let found = Self::servers(home).await;
        self.tell(Event::Found(found)).await;
    }

    /// The live servers of a home.
    pub async fn servers(home: String) -> Vec<ProcessIdentity> {
        let found = crate::task::blocking(move || table::servers(&home)).await.unwrap_or_default();
        found.into_iter().map(|server| server.process).collect()
    }

    /// Starts the server unless one lives on its home, and follows it to its end.
    pub async fn launch(self, bundle: Arc<Bundle>) {
        let home = bundle.service.home.clone();
        let found = Self::servers(home).await;
        if !found.is_empty() {
            return self.tell(Event::Found(found)).await;
        }
        match self.units.of(&bundle.service.home).cloned() {
            Some(unit) => self.launch_unit(unit, bundle).await,
            None => self.launch_script(bundle).await,
        }
    }

    async fn launch_script(self, bundle: Arc<Bundle>) {
        let script = match spawn(&bundle, (&self.defaults, &self.cache), &self.console) {
            Ok(script) => script,
            Err(failure) => return self.tell(Event::LaunchFailed(failure)).await,
        };
        let Script { child, output_from } = script;
        let holder = child.id().and_then(ScriptId::of).map_or(Holder::Nobody, Holder::Script);
        let reaper = crate::task::spawn("reaper", stop::reap(child));
        let console = self.console.clone();
        self.follow_launch(bundle, holder, (console, output_from)).await;
        // Not awaited to its end: a script that nobody can end must not keep this task.
        drop(reaper);
    }

    /// Follows a server that was found running.
    pub async fn adopt(self, process: ProcessIdentity, bundle: Arc<Bundle>) {
        let Some(server) = table::alive(&process) else {
            let how = "the server had ended".to_owned();
            return self.tell(Event::Exited { process, how }).await;
        };
        let holder = match self.units.holding(process.pid).await {
            Some(unit) => Holder::unit(unit.clone()).await,
            None => ScriptId::of(server.parent).map_or(Holder::Nobody, Holder::Script),
        };
        let console = self.console_of(&bundle);
        let output_from = console.end();
        let follower = console.follow(output_from, bundle.service.ready_lines.clone());
        let follow_until = Instant::now();
        let mut watch =
            Watched { processes: self, bundle, holder, console, output_from, follower, follow_until };
        if table::alive(&process).is_none() {
            // What was asked of systemd meanwhile may be about the server after it, which would then look like a restart
            // of this one from the console.
            return watch.tell_end(process).await;
        }
        watch.until_gone(process).await;
    }

    /// Follows a server whose launch has begun.
    pub(super) async fn follow_launch(
        self,
        bundle: Arc<Bundle>,
        holder: Holder,
        (console, output_from): (Console, u64),
    ) {
        let follower = console.follow(output_from, bundle.service.ready_lines.clone());
        let follow_until = Instant::now() + FOLLOW_TIME;
        let mut watch =
            Watched { processes: self, bundle, holder, console, output_from, follower, follow_until };
        match watch.find_java().await {
            Some(server) => {
                watch.processes.tell(Event::Launched(server.process.clone())).await;
                watch.until_gone(server.process).await;
            }
            None => watch.tell_no_java().await,
        }
    }

    /// Where the server's output is read: systemd gives its own to the journal, so the product's log stands in.
    pub(super) fn console_of(&self, bundle: &Bundle) -> Console {
        match self.units.of(&bundle.service.home) {
            Some(_) => Console::of_product(&bundle.service.home),
            None => self.console.clone(),
        }
    }

    /// Asks the server to stop: systemd, if one of its units holds it, else java itself.
    pub async fn stop(self, process: ProcessIdentity) {
        let Some(unit) = self.units.holding(process.pid).await else { return Stopper.stop(&process) };
        if let Err(error) = unit.stop().await {
            error!(error = %crate::chain(&error), pid = process.pid, "Asking java itself to stop");
            // Not left to the deadline, which ends in KILL.
            Stopper.stop(&process);
        }
    }

    /// KILL to everything of the server.
    pub async fn kill(self, process: ProcessIdentity) {
        if let Some(unit) = self.units.holding(process.pid).await
            && let Err(error) = unit.kill().await
        {
            error!(error = %crate::chain(&error), pid = process.pid, "Killing it by its own number");
        }
        Stopper.kill(&process);
    }

    pub(super) async fn tell(&self, event: Event) {
        // Only fails when the agent is ending.
        drop(self.events.send(event).await);
    }
}

struct Watched {
    processes: Processes,
    bundle: Arc<Bundle>,
    holder: Holder,
    console: Console,
    /// Where the output of this server begins.
    output_from: u64,
    follower: Follower,
    follow_until: Instant,
}

impl Watched {
    async fn find_java(&mut self) -> Option<Server> {
        let until = Instant::now() + FIND_TIME;
        while Instant::now() < until {
            if let Some(server) = self.java().await {
                return Some(server);
            }
            self.follow().await;
            if !self.holder.lives().await {
                // java may have come and gone between two looks; the output tells.
                return self.java().await;
            }
            tokio::time::sleep(self.holder.period()).await;
        }
        None
    }

    async fn java(&self) -> Option<Server> {
        let home = self.bundle.service.home.clone();
        crate::task::blocking(move || table::servers(&home)).await.ok()?.into_iter().next()
    }

    /// Tells what the server wrote, before its end is told: whoever names the end quotes one line of it.
    async fn tell_output(&mut self) {
        self.follow().await;
        self.processes.tell(Event::Logged(LogSign::Ended(self.console.last_output(self.output_from)))).await;
    }

    async fn tell_no_java(&mut self) {
        self.tell_output().await;
        let detail = self.holder.ended_without_server().await;
        self.processes
            .tell(Event::LaunchFailed(Failure { reason: RefusalReason::StartFailed, detail }))
            .await;
    }

    /// Follows `process`, and whatever the script runs after it, until nothing of the server is left.
    async fn until_gone(&mut self, mut process: ProcessIdentity) {
        loop {
            self.until_java_ends(&process).await;
            match self.after_java(&process).await {
                Some(next) => {
                    self.processes.tell(Event::Replaced(next.clone())).await;
                    process = next;
                    self.follow_until = Instant::now() + FOLLOW_TIME;
                }
                None => return self.tell_end(process).await,
            }
        }
    }

    /// Tells that `process` has ended, and whatever systemd starts after it.
    async fn tell_end(&mut self, process: ProcessIdentity) {
        self.tell_output().await;
        let how = format!("java process {} ended{}", process.pid, self.holder.what_follows().await);
        self.processes.tell(Event::Exited { process, how }).await;
        self.until_revived().await;
    }

    async fn until_java_ends(&mut self, process: &ProcessIdentity) {
        let ended = wait_for_end(process.clone());
        tokio::pin!(ended);
        loop {
            let following = Instant::now() < self.follow_until;
            tokio::select! {
                () = &mut ended => break,
                // Cancel-safe: a timer.
                () = tokio::time::sleep(FOLLOW_PERIOD), if following => self.follow().await,
            }
        }
        self.follow().await;
    }

    /// The next java of the same script (it asked for that with exit 121), or nothing once the script is gone too.
    async fn after_java(&self, before: &ProcessIdentity) -> Option<ProcessIdentity> {
        let until = Instant::now() + SCRIPT_TIME;
        loop {
            let next = self.java().await.filter(|server| server.process != *before);
            if let Some(server) = next {
                return self.holder.is_same_start().await.then_some(server.process);
            }
            if Instant::now() >= until || !self.holder.lives().await {
                return None;
            }
            tokio::time::sleep(self.holder.period()).await;
        }
    }

    /// systemd may start the server again by itself; that is told as soon as it is there.
    async fn until_revived(&self) {
        while self.holder.may_revive().await {
            if let Some(server) = self.java().await {
                return self.processes.tell(Event::Seen(vec![server.process])).await;
            }
            tokio::time::sleep(self.holder.period()).await;
        }
    }

    async fn follow(&mut self) {
        if self.follow_until <= Instant::now() {
            return;
        }
        for sign in self.follower.look() {
            if sign == LogSign::Ready {
                self.follow_until = Instant::now();
            }
            self.processes.tell(Event::Logged(sign)).await;
        }
    }
}

/// Returns once the process is gone. On Linux a pidfd says so at once; it need not be our child.
#[cfg(target_os = "linux")]
pub(crate) async fn wait_for_end(process: ProcessIdentity) {
    use rustix::{
        event::{PollFd, PollFlags, poll},
        process::{PidfdFlags, pidfd_open},
    };
    let waited = crate::task::blocking({
        let process = process.clone();
        move || {
            let pid = i32::try_from(process.pid).ok().and_then(rustix::process::Pid::from_raw);
            let Some(Ok(fd)) = pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) else { return false };
            // Opened first, then checked: from here on the number cannot become another process's.
            if table::alive(&process).is_none() {
                return true;
            }
            loop {
                match poll(&mut [PollFd::new(&fd, PollFlags::IN)], None) {
                    Ok(_) => return true,
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return false,
                }
            }
        }
    });
    if !waited.await.unwrap_or(false) {
        poll_for_end(&process).await;
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) async fn wait_for_end(process: ProcessIdentity) {
    poll_for_end(&process).await;
}

/// Looks until the process is gone, where the system cannot tell.
async fn poll_for_end(process: &ProcessIdentity) {
    while table::alive(process).is_some() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
