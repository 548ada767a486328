//! What one session knows and what follows from each message: no I/O, no clock. [`super::Session`] performs it.

use std::collections::VecDeque;

use fleet::{
    admission::Fingerprint,
    ids::{Generation, NodeName},
    node::NOTICES_MAX,
    observed::{Attempt, Notice, Observed, Refusal, ServiceState, Stage, Verdict},
    time::{Human, Timestamp},
};

use super::{Hello, ToAgent, changes};
use crate::{
    events::{APPEND_MAX, Draft, Kind},
    store::records::{NodeRecord, RenderedWith, SeenRecord},
};

/// Events of its own making, such as refusals, that wait to be stored.
const DRAFTS_MAX: usize = 16;
/// Notices that wait to be stored, as many as an agent keeps; no more is read from the stream until there is room.
const PENDING_MAX: usize = NOTICES_MAX;
/// Bytes of events of one save.
const SAVE_BYTES_MAX: usize = 256 * 1024;

/// A notice that was received and is not known to be stored.
struct Heard {
    seq: u64,
    at: Timestamp,
    /// `None`: only counted, because its node said too much.
    event: Option<Draft>,
}

/// How much of what waits is in the save under way.
#[derive(Default)]
struct InFlight {
    drafts: usize,
    notices: usize,
}

/// One session's knowledge of its node.
pub(super) struct Conversation {
    /// What it should be, as last read.
    pub(super) record: NodeRecord,
    /// What it said, as last said; stored when `unsaved`.
    seen: SeenRecord,
    unsaved: bool,
    /// Hello changed `seen`. Its first report follows at once, and one commit stores both.
    greeted: bool,
    notices: VecDeque<Heard>,
    drafts: Vec<Draft>,
    in_flight: InFlight,
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
        let (notices, drafts) = (VecDeque::new(), Vec::new());
        let in_flight = InFlight::default();
        Self {
            record,
            seen,
            unsaved: false,
            greeted: false,
            notices,
            drafts,
            in_flight,
            nonce: 0,
            told: None,
        }
    }

    pub(super) fn on_hello(&mut self, now: Timestamp, hello: Hello, admit: impl Fn() -> bool) {
        if let Some(since) = self.seen.lost.take() {
            let text = format!("its agent is connected again, after {}", Human(now.since(since)));
            let event = Draft::new(now, Kind::AgentReturned, text).of_node(&self.record.name);
            self.note(event, admit);
            self.unsaved = true;
        }
        if self.seen.agent_version != hello.agent_version {
            self.seen.agent_version = hello.agent_version;
            self.seen.agent_since = now;
            self.seen.program = None;
        }
        self.seen.platform = hello.platform;
        self.seen.last_seen = now;
        self.greeted = true;
    }

    /// The agent says which program it runs. A report mostly comes with it, and one commit stores both.
    pub(super) fn on_program(&mut self, program: Fingerprint) {
        self.unsaved |= self.seen.program.replace(program) != Some(program);
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

    pub(super) fn on_report(&mut self, now: Timestamp, observed: Observed, admit: impl Fn() -> bool) {
        for event in changes::told(now, &self.record.name, self.seen.observed.as_ref(), &observed) {
            self.note(event, &admit);
        }
        self.unsaved |= std::mem::take(&mut self.greeted);
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
        admit: impl Fn() -> bool,
    ) {
        if let Some(refusal) = &refusal {
            let text = format!("generation {generation} did not get to {stage:?}: {}", refusal.detail);
            let event = Draft::new(now, Kind::AssignmentRefused, text).of_node(&self.record.name);
            let event = event.with("reason", &refusal.reason).with("generation", &generation);
            self.note(event, admit);
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

    /// The agent's journal cannot be written any more, or can be again.
    pub(super) fn on_journal(&mut self, now: Timestamp, error: Option<&str>, admit: impl Fn() -> bool) {
        let event = match error {
            Some(why) => {
                let text =
                    format!("its agent cannot write its journal and reports nothing until it can: {why}");
                Draft::new(now, Kind::JournalUnwritable, text)
            }
            None => Draft::new(now, Kind::JournalWritable, "its agent can write its journal again"),
        };
        self.note(event.of_node(&self.record.name), admit);
    }

    /// An event of this session, once, and as many as fit into one commit beside notices.
    fn note(&mut self, event: Draft, admit: impl Fn() -> bool) {
        // The same again is nothing new; what came and went and came again is.
        let newest = self.drafts.iter().rev().find(|known| known.kind == event.kind);
        let is_known = newest.is_some_and(|known| known.text == event.text);
        if self.drafts.len() < DRAFTS_MAX && !is_known && admit() {
            self.drafts.push(event);
            self.unsaved = true;
        }
    }

    /// Keeps every notice that is new; those that `admit` refuses are only counted, by whoever gave it.
    pub(super) fn on_notices(&mut self, now: Timestamp, notices: Vec<Notice>, admit: impl Fn() -> bool) {
        for notice in notices {
            let newest = self.notices.back().map_or(self.seen.notices_up_to, |last| last.seq);
            if newest < notice.seq {
                let seq = notice.seq;
                let event = admit().then(|| Draft::said(now, &self.record.name, notice));
                self.notices.push_back(Heard { seq, at: now, event });
            }
        }
    }

    /// Whether more may be read from the agent. If not, its notices wait in the stream and are not lost.
    pub(super) fn has_room(&self) -> bool {
        self.notices.len() < PENDING_MAX
    }

    /// What the agent may be told to have been received, once nothing waits.
    pub(super) fn notices_up_to(&self) -> u64 {
        self.seen.notices_up_to
    }

    pub(super) fn has_unsaved(&self) -> bool {
        self.unsaved || !self.notices.is_empty() || !self.drafts.is_empty()
    }

    /// What is to be stored next: as many of the oldest notices as one commit takes. Followed by
    /// [`Conversation::on_saved`] or [`Conversation::on_save_failed`].
    pub(super) fn save(&mut self) -> Save {
        let mut events = self.drafts.clone();
        let mut bytes: usize = events.iter().map(Draft::size).sum();
        let mut taken = 0;
        for heard in &self.notices {
            let size = heard.event.as_ref().map_or(0, Draft::size);
            // A notice may need a second event, which tells of a gap before it.
            let is_full = APPEND_MAX < events.len() + 2 || SAVE_BYTES_MAX < bytes + size;
            if is_full && taken != 0 {
                break;
            }
            let expected = self.seen.notices_up_to + 1;
            if expected < heard.seq {
                events.push(lost(&self.record.name, heard, expected));
            }
            events.extend(heard.event.clone());
            bytes += size;
            taken += 1;
            self.seen.notices_up_to = heard.seq;
        }
        self.in_flight = InFlight { drafts: self.drafts.len(), notices: taken };
        self.unsaved = false;
        Save { seen: self.seen.clone(), events }
    }

    /// The save under way is stored.
    pub(super) fn on_saved(&mut self) {
        let InFlight { drafts, notices } = std::mem::take(&mut self.in_flight);
        self.drafts.drain(..drafts);
        self.notices.drain(..notices);
    }

    /// What the store really holds; what it does not is saved again.
    pub(super) fn on_save_failed(&mut self, stored: Option<&SeenRecord>) {
        self.in_flight = InFlight::default();
        self.seen.notices_up_to = stored.map_or(0, |stored| stored.notices_up_to);
        self.notices.retain(|heard| self.seen.notices_up_to < heard.seq);
        self.unsaved = true;
    }

    /// The session ends; `lost` says why, unless a newer one has taken over or the coordinator itself stops.
    pub(super) fn on_end(&mut self, now: Timestamp, lost: Option<&str>, admit: impl Fn() -> bool) {
        if let Some(why) = lost {
            self.seen.lost = Some(now);
            let text = format!("its agent is not connected any more: {why}");
            self.note(Draft::new(now, Kind::AgentLost, text).of_node(&self.record.name), admit);
        }
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

/// An agent keeps only so many notices while nobody receives them; what it let go of is told as a gap.
fn lost(node: &NodeName, heard: &Heard, expected: u64) -> Draft {
    let count = heard.seq - expected;
    let text = format!(
        "{count} notices of its agent never arrived: it keeps the newest {NOTICES_MAX} until they are received"
    );
    Draft::new(heard.at, Kind::NoticesLost, text).of_node(node).with("count", &count)
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
    // When they were looked at is a measurement.
    let registrations = |o: &Observed| -> Vec<_> {
        o.key_managers.iter().map(|seen| (seen.name.clone(), seen.state)).collect()
    };
    applied(a) == applied(b)
        && a.attempted == b.attempted
        && counts(a) == counts(b)
        && health(a) == health(b)
        && service(a) == service(b)
        && a.pack == b.pack
        && a.drift_pause == b.drift_pause
        && registrations(a) == registrations(b)
        // Their details hold measurements.
        && a.concerns.iter().map(|concern| &concern.kind).eq(b.concerns.iter().map(|concern| &concern.kind))
}

#[cfg(test)]
mod tests;
