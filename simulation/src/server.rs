//! The server of a host: found, launched, and ended.

use fleet::{
    bundle::Bundle,
    ids::Digest,
    node::{Event, LogSign},
    observed::ProcessIdentity,
    time::Timestamp,
};

use super::{Bug, Entry, Nature, Sim};

#[derive(Debug)]
pub(super) struct Process {
    pub(super) identity: ProcessIdentity,
    pub(super) read: Digest,
    pub(super) ready_at: Option<u64>,
    /// When the agent hears of it; its end is heard of later, since one task waits for both.
    pub(super) heard_at: u64,
}

impl Sim {
    pub(super) fn look(&mut self, index: usize) {
        let (now, delay) = (self.now, self.chance.range(1, 50));
        let process = &mut self.hosts[index].process;
        if let Some(process) = process {
            // The end of a server that was found is heard of after the finding: one task waits for both.
            process.heard_at = process.heard_at.max(now + delay);
        }
        let found = process.iter().map(|process| process.identity.clone());
        let found = if self.bug == Some(Bug::NoAdoption) { Vec::new() } else { found.collect() };
        self.later(index, (delay, delay), Event::Found(found));
    }

    pub(super) fn serves_as(&self, index: usize, process: &ProcessIdentity) -> bool {
        let host = &self.hosts[index];
        host.serves(self.now) && host.process.as_ref().is_some_and(|live| live.identity == *process)
    }

    pub(super) fn launch(&mut self, index: usize, bundle: &Bundle) {
        self.outcome.launches += 1;
        let host = &self.hosts[index];
        if host.process.is_some() {
            return self.broken(&format!("host {index}: a second server is launched while one lives"));
        }
        if host.half_switched {
            return self.broken(&format!("host {index}: a server is launched on half-switched files"));
        }
        let Some(read) = host.files else {
            return self.broken(&format!("host {index}: a server is launched without files"));
        };
        if read != bundle.digest() {
            return self.broken(&format!("host {index}: the agent does not know which files are in force"));
        }
        let nature = self.library.nature(&read);
        let slow = if self.rarely(10) { 2 } else { 1 };
        let (now, host) = (self.now, &mut self.hosts[index]);
        host.pids += 1;
        let identity = ProcessIdentity {
            pid: host.pids,
            start_id: format!("{}", host.pids),
            started: Timestamp(i64::try_from(now).unwrap_or(0) + host.skew),
        };
        let ready_at = nature.starts().then_some(now + host.start * slow);
        let heard_at = now + self.chance.range(50, 500);
        let host = &mut self.hosts[index];
        host.process = Some(Process { identity: identity.clone(), read, ready_at, heard_at });
        self.later(index, (heard_at - now, heard_at - now), Event::Launched(identity.clone()));
        if let Some(ready_at) = ready_at.filter(|_| self.calm) {
            // Where logs are read in time the line hastens a probe.
            let takes = ready_at - now;
            self.later(index, (takes, takes + 100), Event::Logged(LogSign::Ready));
        }
        if nature == Nature::Exits {
            let delay = self.chance.range(1000, 5000);
            self.after(delay, Entry::Ends { host: index, process: identity, how: "exit status 1" });
        }
    }

    pub(super) fn process_ends(&mut self, index: usize, process: &ProcessIdentity, how: &'static str) {
        let (now, host) = (self.now, &mut self.hosts[index]);
        if host.process.as_ref().is_none_or(|live| live.identity != *process) {
            return;
        }
        let served = host.serves(now);
        let heard = host.process.take().map_or(0, |process| process.heard_at.saturating_sub(now));
        if served {
            host.taken_down &= how == "ended by TERM" || how == "killed";
        }
        host.down_since = Some(if served { now } else { host.down_since.unwrap_or(now) });
        self.trace(|| format!("host {index}: process {} {how}", process.pid));
        self.later(
            index,
            (heard + 1, heard + 20),
            Event::Exited { process: process.clone(), how: how.to_owned() },
        );
    }
}
