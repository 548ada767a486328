//! What one session knows and what follows from each message: no I/O, no clock. [`super::Session`] performs it.

use fleet::{
    ids::Generation,
    observed::{Attempt, Notice, Observed, Refusal, ServiceState, Stage, Verdict},
    time::Timestamp,
};

use super::{Hello, ToAgent};
use crate::{
    events::{APPEND_MAX, Draft},
    store::records::{NodeRecord, RenderedWith, SeenRecord},
};

/// One session's knowledge of its node.
pub(super) struct Conversation {
    /// What it should be, as last read.
    pub(super) record: NodeRecord,
    /// What it said, as last said; stored when `unsaved`.
    seen: SeenRecord,
    unsaved: bool,
    /// Received, not yet stored.
    notices: Vec<Notice>,
    refusals: Vec<Draft>,
    nonce: u64,
    told: Option<fleet::bundle::Assignment>,
}

/// What is to be stored now.
pub(super) struct Save {
    pub(super) seen: SeenRecord,
    pub(super) events: Vec<Draft>,
}

impl Conversation {
    pub(super) fn new(record: NodeRecord, seen: SeenRecord) -> Self {
        let (notices, refusals) = (Vec::new(), Vec::new());
        Self { record, seen, unsaved: false, notices, refusals, nonce: 0, told: None }
    }

    pub(super) fn on_hello(&mut self, now: Timestamp, hello: Hello) {
        self.seen.agent_version = hello.agent_version;
        self.seen.platform = hello.platform;
        self.seen.last_seen = now;
        self.unsaved = true;
    }

    /// The assignment to send, if the agent was not yet told so on this stream.
    pub(super) fn on_record(&mut self, record: NodeRecord) -> Option<ToAgent> {
        self.record = record;
        let assignment = self.record.assignment()?;
        if self.told.as_ref() == Some(&assignment) {
            return None;
        }
        self.nonce += 1;
        self.told = Some(assignment.clone());
        Some(ToAgent::Assign { nonce: self.nonce, assignment })
    }

    pub(super) fn on_report(&mut self, now: Timestamp, observed: Observed) {
        let news = self.seen.observed.as_ref().is_none_or(|known| !same_facts(known, &observed));
        self.resolve_last_good(&observed);
        self.note_rendered(&observed);
        self.seen.observed = Some(observed);
        if news {
            self.seen.reported = now;
            self.unsaved = true;
        }
    }

    /// An acknowledgement says nothing that a report does not say as well; it is noted so that whichever comes first
    /// counts, and a refusal becomes an event.
    pub(super) fn on_ack(
        &mut self,
        now: Timestamp,
        (generation, stage, refusal): (Generation, Stage, Option<Refusal>),
    ) {
        if let Some(refusal) = &refusal {
            let text = format!("generation {generation} did not get to {stage:?}: {}", refusal.detail);
            let event = Draft::new(now, "assignment-refused", text).of_node(&self.record.name);
            let event = event.with("reason", &refusal.reason).with("generation", &generation);
            if self.refusals.len() < APPEND_MAX / 2 && !self.refusals.contains(&event) {
                self.refusals.push(event);
                self.unsaved = true;
            }
        }
        let Some(target) = self.record.assigned(generation).map(|assigned| assigned.applied()) else {
            return;
        };
        let Some(observed) = &mut self.seen.observed else { return };
        let known = observed.attempted.as_ref();
        if known.is_some_and(|known| (generation, stage) <= (known.target.generation, known.stage))
            && refusal.is_none()
        {
            return;
        }
        let done = refusal.is_some() || stage == Stage::Ready;
        let kept_server = known.is_some_and(|known| known.target == target && known.kept_server);
        observed.attempted = Some(Attempt { target, stage, failure: refusal, done, kept_server });
        self.unsaved = true;
    }

    pub(super) fn on_notices(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            let newest = self.notices.last().map_or(self.seen.notices_up_to, |last| last.seq);
            // What does not fit is resent by the agent, because it is not told "received".
            if newest < notice.seq && self.notices.len() < APPEND_MAX / 2 {
                self.notices.push(notice);
            }
        }
    }

    /// What the agent may be told to have been received.
    pub(super) fn notices_up_to(&self) -> u64 {
        self.seen.notices_up_to
    }

    pub(super) fn has_unsaved(&self) -> bool {
        self.unsaved || !self.notices.is_empty()
    }

    /// Everything to be stored; considered stored until [`Conversation::on_save_failed`].
    pub(super) fn save(&mut self) -> Save {
        let node = &self.record.name;
        let mut events = std::mem::take(&mut self.refusals);
        for notice in self.notices.drain(..) {
            self.seen.notices_up_to = notice.seq;
            let draft = Draft::new(notice.at, &notice.kind, notice.text).of_node(node);
            events.push(Draft { fields: notice.fields, ..draft });
        }
        self.unsaved = false;
        Save { seen: self.seen.clone(), events }
    }

    /// What the store really holds; the notices of the lost save come again from the agent.
    pub(super) fn on_save_failed(&mut self, stored: Option<&SeenRecord>) {
        self.seen.notices_up_to = stored.map_or(0, |stored| stored.notices_up_to);
        self.notices.clear();
        self.unsaved = true;
    }

    pub(super) fn on_end(&mut self, now: Timestamp) {
        self.seen.last_seen = now;
        self.unsaved = true;
    }

    /// A process renders once, at its start: the pack that lies there when it is first seen is what it runs with,
    /// whatever lies there later.
    fn note_rendered(&mut self, observed: &Observed) {
        let (Some(process), Some(pack)) = (&observed.process, observed.pack) else { return };
        let known = self.seen.rendered.as_ref();
        if known.is_some_and(|known| (known.pid, &known.start_id) == (process.pid, &process.start_id)) {
            return;
        }
        self.seen.rendered =
            Some(RenderedWith { pack, pid: process.pid, start_id: process.start_id.clone() });
        self.unsaved = true;
    }

    /// The report names its last good bundle by generation and digest; a rollback needs its content as well.
    fn resolve_last_good(&mut self, observed: &Observed) {
        let Some(good) = &observed.last_good else {
            self.seen.last_good = None;
            return;
        };
        let known = self.record.assigned(good.generation).filter(|known| known.target.bundle == good.bundle);
        if let Some(known) = known {
            self.seen.last_good = Some(known.clone());
        } else if self.seen.last_good.as_ref().is_some_and(|kept| kept.applied() != *good) {
            self.seen.last_good = None;
        }
    }
}

/// Whether two reports say the same of what must survive the coordinator. Measurements are not among it.
fn same_facts(a: &Observed, b: &Observed) -> bool {
    let applied = |o: &Observed| (o.desired, o.written, o.running, o.last_good);
    let counts =
        |o: &Observed| (o.starts_total, o.drift_total, o.process.as_ref().map(|process| process.pid));
    let health = |o: &Observed| match &o.health {
        Verdict::Healthy => 0,
        Verdict::Unhealthy(_) => 1,
        Verdict::Unknown(_) => 2,
    };
    let service = |o: &Observed| std::mem::discriminant::<ServiceState>(&o.service);
    applied(a) == applied(b)
        && a.attempted == b.attempted
        && counts(a) == counts(b)
        && health(a) == health(b)
        && service(a) == service(b)
        && a.pack == b.pack
        && a.drift_pause == b.drift_pause
}

#[cfg(test)]
mod tests;
