//! Gates and hooks: what agents are asked beside their servers, and the load balancer in front of them.

use std::{collections::BTreeSet, time::Duration};

use fleet::{
    call::{Call, Check, CommandCall, Hook, HookFailure, HookPoint, Hooks, Tries},
    ids::{Digest, GroupName, NodeName, RolloutId},
    node::{Command, Event},
    observed::ProcessIdentity,
    rollout::{Ask, Gate, GateOn, Gates, OnFailure, Rollout, StepState},
};

use super::{Bug, Entry, Nature, Sim};

/// The only program that agents may run.
pub(super) const PROGRAM: &str = "/opt/convoy/balancer";
/// Until the coordinator asks again what nobody answered.
const UNANSWERED: u64 = 60_000;

/// A question under way.
pub(super) type Asked = (RolloutId, Ask);

/// A hook under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct HookRun {
    point: HookPoint,
    fails: bool,
}

fn call() -> Call {
    Call::Command(CommandCall { program: PROGRAM.to_owned(), args: Vec::new() })
}

fn tries() -> Tries {
    Tries { timeout: Duration::from_secs(5), most: 1, interval: Duration::from_secs(1) }
}

impl Sim {
    /// In every fourth run servers stand behind a load balancer that hooks tell of every stop.
    pub(super) fn choose_hooks(&mut self) {
        if !self.chance.percent(25) {
            return;
        }
        let mut hook = || {
            let on_failure = if self.chance.percent(30) { HookFailure::Continue } else { HookFailure::Abort };
            Some(Hook { call: call(), tries: tries(), settle: Duration::ZERO, on_failure })
        };
        self.library.hooks = Hooks { before_stop: hook(), after_ready: hook() };
    }

    /// Gates of a group, in every third run.
    pub(super) fn choose_gates(&mut self) -> Option<Gates> {
        let count = if self.gated { self.chance.range(0, 2) } else { 0 };
        let mut gate = |index: u64| {
            let on = [GateOn::Both, GateOn::New, GateOn::Old][self.chance.index(3)];
            let own = self.chance.percent(30);
            let on_failure = OnFailure::ALL[self.chance.index(3)].0;
            Gate { name: format!("gate-{index}"), on, on_failure: own.then_some(on_failure) }
        };
        let list: Vec<Gate> = (0..count).map(&mut gate).collect();
        (!list.is_empty()).then(|| Gates { list, content: Digest::of(b"questions") })
    }

    // --- gates ---

    /// Begins to ask what is not being asked yet, and forgets what nobody wants to know any more.
    pub(super) fn ask(&mut self, rollout: RolloutId, asks: Vec<Ask>) {
        let wanted: BTreeSet<Asked> = asks.into_iter().map(|ask| (rollout, ask)).collect();
        self.coordinator.asking.retain(|asked, _| wanted.contains(asked));
        for asked in wanted {
            let Some(index) = self.hosts.iter().position(|host| host.name == asked.1.node) else { continue };
            if self.coordinator.asking.contains_key(&asked) {
                continue;
            }
            self.questions += 1;
            let id = self.questions;
            self.coordinator.asking.insert(asked, id);
            let incarnation = self.coordinator.incarnation;
            self.after(UNANSWERED, Entry::Answered { incarnation, id, failure: None });
            if let Some(session) = self.coordinator.session_of(index) {
                let delay = self.chance.range(5, 300);
                self.after(delay, Entry::Asked { host: index, session, id });
            }
        }
    }

    /// A question arrives.
    pub(super) fn asked(&mut self, index: usize, session: u64, id: u64) {
        let host = &self.hosts[index];
        if host.session != Some(session) || host.session_dead {
            return;
        }
        let (incarnation, check) =
            (host.incarnation, Check { name: String::new(), call: call(), tries: tries() });
        let command = Command::Check(Box::new(check));
        self.deliver(index, incarnation, Event::Commanded { id, command });
    }

    /// The agent tries it: a server that serves and was made for it passes.
    pub(super) fn check(&mut self, index: usize, id: u64) {
        let now = self.now;
        let lies = now < self.hosts[index].lies_until && self.chance.percent(50);
        let host = &self.hosts[index];
        let read = host.process.as_ref().filter(|_| host.serves(now)).map(|process| process.read);
        let passes = read.is_some_and(|read| self.library.nature(&read) == Nature::Good) && !lies;
        let outcome = if passes { Ok("200".to_owned()) } else { Err("status 503".to_owned()) };
        self.later(index, (20, 4000), Event::Checked { id, outcome });
    }

    /// The answer leaves the agent, and with luck arrives.
    pub(super) fn answer(&mut self, index: usize, id: u64, failure: Option<String>) {
        let (delay, incarnation) = (self.chance.range(5, 300), self.coordinator.incarnation);
        if let Some((rollout, ask)) = self.coordinator.asked_as(id)
            && failure.is_none()
        {
            self.passed.insert((rollout, ask.gate, ask.node));
        }
        // What does not work often does not answer either.
        let loss = if failure.is_some() { 40 } else { 5 };
        let host = &self.hosts[index];
        if host.session.is_some() && !host.session_dead && !self.rarely(loss) {
            self.after(delay, Entry::Answered { incarnation, id, failure: Some(failure) });
        }
    }

    /// An answer arrives, or its time is over. What is stored is the answer and whatever else has changed meanwhile.
    pub(super) fn answered(&mut self, incarnation: u64, id: u64, failure: Option<Option<String>>) {
        if !self.coordinator.up || incarnation != self.coordinator.incarnation {
            return;
        }
        let Some(asked) = self.coordinator.asked_as(id) else { return };
        let failure = match failure {
            None if self.bug == Some(Bug::LostAnswerPasses) => None,
            None => {
                self.coordinator.asking.remove(&asked);
                return;
            }
            Some(failure) => failure,
        };
        let delay = self.store_takes();
        self.after(delay, Entry::AnswerStored { incarnation, asked: Box::new(asked), failure });
    }

    /// The answer is stored, if somebody still waits for it.
    pub(super) fn answer_stored(&mut self, incarnation: u64, asked: &Asked, failure: Option<&String>) {
        let alive = self.coordinator.up && incarnation == self.coordinator.incarnation;
        if !alive && self.chance.percent(50) {
            return;
        }
        let at = self.wall();
        let store = &mut self.coordinator.store;
        let open = store.rollout.as_ref().filter(|rollout| rollout.id == asked.0);
        if let Some(next) = open.and_then(|rollout| rollout.answer(&asked.1, failure.cloned(), at)) {
            store.rollout = Some(next);
            store.version += 1;
            self.outcome.answers += 1;
            self.trace(|| format!("coordinator: {} of {} answered: {failure:?}", asked.1.gate, asked.1.node));
        }
        if alive {
            self.coordinator.asking.remove(asked);
            self.think();
        }
    }

    /// The first gate of a changed node in an earlier wave that the node has not passed, and whose failure is not
    /// tolerated: `group` may not go on past it.
    pub(super) fn gate_owed(
        &self,
        rollout: &Rollout,
        group: &GroupName,
        before: u32,
    ) -> Option<(NodeName, String)> {
        let progress = rollout.groups.get(group)?;
        let gates = progress.gates.iter().flat_map(|gates| &gates.list).filter(|gate| gate.on != GateOn::Old);
        for gate in gates {
            let policy = gate.on_failure.unwrap_or(progress.policy.on_failure);
            let ready = rollout.steps.iter().filter(|(_, step)| {
                step.group == *group && step.wave < before && matches!(step.state, StepState::Ready { .. })
            });
            for (node, _) in ready {
                let passed = self.passed.contains(&(rollout.id, gate.name.clone(), node.clone()));
                let failed = progress.verdicts.iter().any(|verdict| {
                    verdict.node == *node && verdict.gate == gate.name && verdict.failure.is_some()
                });
                let tolerated = failed && policy == OnFailure::Continue;
                if !passed && !tolerated {
                    return Some((node.clone(), gate.name.clone()));
                }
            }
        }
        None
    }

    // --- hooks ---

    /// A hook tells the load balancer, which may not listen.
    pub(super) fn hook(&mut self, index: usize, run: u64, point: HookPoint) {
        let fails = self.healed.is_none() && self.chance.percent(8);
        let takes = if self.rarely(5) { self.chance.range(1000, 15_000) } else { self.chance.range(10, 300) };
        let host = &mut self.hosts[index];
        let incarnation = host.incarnation;
        if host.hook.replace(HookRun { point, fails }).is_some() {
            return self.broken(&format!("host {index}: a hook runs while another does"));
        }
        if point == HookPoint::BeforeStop {
            host.drained_healthy = host.was_known_healthy;
        }
        self.trace(|| format!("host {index}: {point} begins"));
        self.after(takes, Entry::HookEnds { host: index, incarnation, run });
    }

    /// Its agent dies, and it with it; what it had to say may have been said.
    pub(super) fn cut_hook(&mut self, index: usize) {
        let said = self.chance.percent(50);
        let host = &mut self.hosts[index];
        if let Some(hook) = host.hook.take().filter(|_| said) {
            host.in_service = hook.point == HookPoint::AfterReady;
        }
    }

    /// What a hook does it does at its end.
    pub(super) fn hook_ends(&mut self, index: usize, incarnation: u64, run: u64) {
        let host = &mut self.hosts[index];
        if host.incarnation != incarnation {
            return;
        }
        let Some(HookRun { point, fails }) = host.hook.take() else { return };
        if !fails {
            host.in_service = point == HookPoint::AfterReady;
        }
        self.outcome.hooks += 1;
        let lied = self.bug == Some(Bug::HookFailureIsUnseen);
        let outcome =
            if fails && !lied { Err("the balancer is away".to_owned()) } else { Ok("done".to_owned()) };
        self.trace(|| format!("host {index}: {point} ends: {outcome:?}"));
        self.deliver(index, incarnation, Event::HookDone { run, outcome });
    }

    /// A server that serves is stopped on purpose: nobody may be sent to it any more, unless that could not be had and
    /// does not matter.
    pub(super) fn check_drained(&mut self, index: usize, process: &ProcessIdentity) {
        let host = &self.hosts[index];
        let aborts =
            self.library.hooks.before_stop.as_ref().is_some_and(|hook| hook.on_failure == HookFailure::Abort);
        // One that its agent has never seen running may be stopped as it is.
        if aborts && host.in_service && host.seen_running.as_ref() == Some(process) {
            self.broken(&format!("host {index} is stopped while the load balancer sends to it"));
        }
    }
}
