//! What happens to agents while a wave soaks or is asked its gates: they restart, they vanish, all of them are upgraded.

use std::time::Duration;

use fleet::rollout::{Phase, Rollout, RolloutPolicy, Share, StepState};

use super::{Entry, Nature, Sim};

/// A fault that waits for a wave whose nodes are ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ambush {
    /// The agent of one of its nodes restarts.
    Restart,
    /// One of its nodes is cut off.
    Vanish,
}

/// Nodes of the fleet that agents are upgraded in, or vanish from.
const NODES: u64 = 10;
/// Long enough that most of a rollout is soaks.
const SOAK: Duration = Duration::from_secs(30);
/// Longer than any rollout here takes, milliseconds: a fleet of two waves in three groups, each of which may wait for
/// the slowest start and the whole progress deadline.
const GIVE_UP: u64 = 6 * 3600 * 1000;

/// How a rollout ended whose agents were restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its final state, and why.
    pub word: String,
    /// The servers that were started for it.
    pub launches: u64,
    /// Nodes in the fleet.
    pub nodes: u64,
    /// How long it took.
    pub wall: Duration,
    /// How long the policy lets a node be silent.
    pub progress_deadline: Duration,
}

/// Upgrades all agents in the middle of a rollout, again and again while it lasts.
///
/// # Panics
/// A guarantee was broken, or the rollout never ended.
pub fn upgrade_all_agents(seed: u64) -> Ended {
    let mut sim = Sim::for_soaks(seed);
    let began = sim.begin();
    let mut next = sim.now + 30_000;
    sim.until_ended(|sim| {
        if next <= sim.now {
            sim.restart_all_agents();
            next = sim.now + sim.chance.range(90_000, 180_000);
        }
    });
    sim.ended(began)
}

/// Lets a node vanish for good while its wave soaks.
///
/// # Panics
/// A guarantee was broken, or the rollout never ended.
pub fn vanish_in_a_soak(seed: u64) -> Ended {
    let mut sim = Sim::for_soaks(seed);
    let began = sim.begin();
    let mut gone = false;
    sim.until_ended(|sim| {
        if !gone && let Some(index) = sim.soaking().first().copied() {
            sim.cut(index, u64::MAX);
            gone = true;
        }
    });
    assert!(gone, "no wave ever soaked");
    sim.ended(began)
}

impl Sim {
    /// Strikes if a wave soaks now.
    pub(super) fn spring_ambush(&mut self) {
        if self.ambushes.is_empty() {
            return;
        }
        let soaking = self.soaking();
        if soaking.is_empty() {
            return;
        }
        let index = soaking[self.chance.index(soaking.len())];
        match self.ambushes.pop() {
            None => {}
            Some(Ambush::Restart) => {
                let (delay, incarnation) = (self.chance.range(0, 8000), self.hosts[index].incarnation);
                self.after(delay, Entry::AgentDies { host: index, incarnation });
            }
            Some(Ambush::Vanish) => {
                let longest = if self.chance.percent(30) { 900_000 } else { 90_000 };
                let until = self.now + self.chance.range(2000, longest);
                self.cut(index, until);
            }
        }
    }

    /// An upgrade: all agents end, and each is back after a while of its own.
    pub(super) fn restart_all_agents(&mut self) {
        self.trace(|| "operator: upgrades all agents".to_owned());
        for index in 0..self.hosts.len() {
            let (delay, incarnation) = (self.chance.range(0, 5000), self.hosts[index].incarnation);
            self.after(delay, Entry::AgentDies { host: index, incarnation });
        }
    }

    /// The nodes that were restarted in a wave that is being watched.
    fn soaking(&self) -> Vec<usize> {
        let Some(rollout) = self.coordinator.store.rollout.as_ref() else { return Vec::new() };
        if rollout.phase != Phase::Running {
            return Vec::new();
        }
        let soaks = |(index, host): (usize, &super::host::Host)| {
            let step = rollout.steps.get(&host.name)?;
            let group = &rollout.groups[&step.group];
            let watched = group.wave_ready.is_some() && step.wave == group.wave;
            (watched && matches!(step.state, StepState::Ready { restarted: true, .. })).then_some(index)
        };
        self.hosts.iter().enumerate().filter_map(soaks).collect()
    }

    /// A calm fleet with gates, all of whose servers run already.
    fn for_soaks(seed: u64) -> Self {
        let policy = RolloutPolicy {
            max_unavailable: Share::Percent(50),
            soak: SOAK,
            min_healthy_time: Duration::from_secs(5),
            ..RolloutPolicy::default()
        };
        let mut sim = Self::empty(seed, None, true);
        sim.calm = true;
        sim.healed = Some(0);
        sim.gated = true;
        sim.found_large(NODES, &policy);
        for index in 0..sim.groups.len() {
            sim.groups[index].1.gates = sim.choose_gates();
        }
        sim.roll_out();
        sim
    }

    fn begin(&mut self) -> (u64, u64) {
        self.versions += 1;
        let version = self.versions;
        let target = self.library.add(version, (version, version), Nature::Good);
        self.coordinator.know(target);
        let began = (self.now, self.outcome.launches);
        self.apply(&vec![target; self.hosts.len()]);
        began
    }

    fn until_ended(&mut self, mut meddle: impl FnMut(&mut Self)) {
        let until = self.now + GIVE_UP;
        while !self.coordinator.store.rollout.as_ref().is_some_and(|rollout| rollout.phase.is_end()) {
            let ((at, _), entry) = self.queue.pop_first().expect("ticks never end");
            self.now = at;
            self.handle(entry);
            meddle(self);
            assert_eq!(self.outcome.violation, None, "{}", self.outcome.transcript.join("\n"));
            assert!(
                self.now < until,
                "{:?}\n{}",
                self.coordinator.waiting,
                self.outcome.transcript.join("\n")
            );
        }
    }

    fn ended(&self, (began, launches): (u64, u64)) -> Ended {
        let rollout: &Rollout = self.coordinator.store.rollout.as_ref().expect("one was applied");
        let policy = &self.groups[0].1.policy;
        Ended {
            word: format!("{} {}", rollout.word().as_str(), rollout.why().unwrap_or_default())
                .trim()
                .to_owned(),
            launches: self.outcome.launches - launches,
            nodes: self.hosts.len() as u64,
            wall: Duration::from_millis(self.now - began),
            progress_deadline: policy.progress_deadline,
        }
    }
}
