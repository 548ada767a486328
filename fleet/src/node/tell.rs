//! What the coordinator is told: the state when it changes, and notices until they are received.

use crate::{
    node::{Action, Clock, Engine, NOTICES_MAX, Out},
    observed::{DRIFT_MAX, Notice, Observed},
    reason::Reason,
    service::Service,
    words::NoticeWord,
};

impl Engine {
    pub(super) fn on_connected(&mut self) {
        self.told.connected = true;
        self.told.observed = None;
        self.told.notice = 0;
    }

    pub(super) fn set_service(&mut self, clock: Clock, service: Service, why: &str) {
        let (from, to) = (self.service.state(), service.state());
        self.service = service;
        self.service_reason = why.to_owned();
        if from.word().as_str() != to.word().as_str() {
            self.service_since = clock.wall;
            let fields = [
                ("from", from.word().as_str().to_owned()),
                ("to", to.word().as_str().to_owned()),
                ("reason", why.to_owned()),
            ];
            self.notice(
                clock,
                NoticeWord::ServiceState,
                &format!("server: {from} to {to}{}", Reason(why)),
                &fields,
            );
        }
    }

    pub(super) fn notice(&mut self, clock: Clock, kind: NoticeWord, text: &str, fields: &[(&str, String)]) {
        self.memory.notice_next += 1;
        self.memory.notices.push_back(Notice {
            seq: self.memory.notice_next,
            at: clock.wall,
            kind: kind.into(),
            text: text.to_owned(),
            fields: fields.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        });
        if NOTICES_MAX < self.memory.notices.len() {
            self.memory.notices.pop_front();
        }
    }

    /// Everything that the node says of itself now.
    pub fn observed(&self) -> Observed {
        let applied = |placed: crate::node::Placed| placed.applied;
        let mut drift: Vec<_> = self.drifts.seen().cloned().collect();
        drift.truncate(DRIFT_MAX);
        // Until a server is ready with what was last assigned, people ask why the last one ended.
        let has_failed = self.memory.attempted.as_ref().is_some_and(|attempt| attempt.failure.is_some());
        let is_over = matches!(self.service, Service::Running { .. }) && !has_failed;
        let last_output = if is_over { Vec::new() } else { self.facts.last_output.lines.clone() };
        Observed {
            desired: self.memory.assignment.as_ref().map(|assignment| assignment.applied),
            attempted: self.memory.attempted.clone(),
            written: self.memory.written.map(applied),
            running: self.service.process().and(self.memory.running).map(applied),
            last_good: self.memory.last_good.map(applied),
            service: self.service.state(),
            service_since: self.service_since,
            service_reason: self.service_reason.clone(),
            health: self.verdict(),
            health_since: self.health_since,
            process: self.service.process().cloned(),
            drift,
            drift_total: self.drifts.total(),
            starts_total: self.memory.starts_total,
            vitals: self.vitals.clone(),
            pack: self.pack,
            drift_pause: self.memory.pause.clone(),
            concerns: self.concerns(),
            key_managers: self.key_managers_seen(),
            last_output,
            original: self.kept_original(),
        }
    }

    pub(super) fn tell(&mut self, clock: Clock, out: &mut Out) {
        let verdict = self.verdict();
        let told = self.told.health.as_ref();
        if told.is_none_or(|told| std::mem::discriminant(told) != std::mem::discriminant(&verdict)) {
            self.health_since = clock.wall;
        }
        self.told.health = Some(verdict);
        if !self.told.connected || self.timers.journal.is_some() {
            return;
        }
        let fresh: Vec<Notice> =
            self.memory.notices.iter().filter(|notice| self.told.notice < notice.seq).cloned().collect();
        if let Some(newest) = fresh.last() {
            self.told.notice = newest.seq;
            out.push(Action::Tell(fresh));
        }
        let observed = self.observed();
        if self.told.observed.as_ref() != Some(&observed) {
            self.told.observed = Some(observed.clone());
            out.push(Action::Report(Box::new(observed)));
        }
    }
}
