//! How long a rollout takes when nothing goes wrong, against the time that the servers themselves need.
//!
//! Start times are those that are quoted for the products (LIFECYCLE 3.3): an Identity Server 7.2 took 26 s and 36 s,
//! an API Manager 57 s, and on slow machines 260 s. The fleet is as large installations are: key managers, then
//! control planes, then gateways.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet::{
    ids::{GroupName, NodeName},
    rollout::{GroupGoal, RolloutPolicy, Share},
};

use super::{Entry, Nature, Sim, coordinator::Record, host::Host};

/// Name, percent of the nodes, and whether it is an Identity Server.
const GROUPS: [(&str, u64, bool); 3] =
    [("g0-key-manager", 20, true), ("g1-control-plane", 20, false), ("g2-gateway", 60, false)];
/// What LIFECYCLE 3.3 advises.
const START_DEADLINE: Duration = Duration::from_secs(300);
/// Longer than any rollout here takes, milliseconds.
const GIVE_UP: u64 = 48 * 3600 * 1000;

/// What one rollout took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Nodes that were restarted.
    pub nodes: usize,
    /// Waves of all groups together.
    pub waves: usize,
    /// From the apply to the end of the rollout.
    pub wall: Duration,
    /// Of each wave the slowest start, and what the policy waits on purpose.
    pub bound: Duration,
    /// The same with the stop that precedes each start.
    pub bound_with_stops: Duration,
}

/// Runs a rollout over `nodes` nodes, `unavailable` percent of each group at a time, with these deliberate waits.
///
/// # Panics
/// The rollout does not get through: without faults it has to.
pub fn pace(seed: u64, nodes: u64, unavailable: u8, (min_healthy_time, soak): (Duration, Duration)) -> Pace {
    let policy = RolloutPolicy {
        max_unavailable: Share::Percent(unavailable),
        min_healthy_time,
        soak,
        ..RolloutPolicy::default()
    };
    let mut sim = Sim::empty(seed, None, false);
    sim.calm = true;
    sim.healed = Some(0);
    sim.found_large(nodes, &policy);
    // Everybody is down at first, so this one has a pace of its own.
    sim.roll_out();
    let began = sim.now;
    sim.roll_out();
    let (waves, [bound, bound_with_stops]) = sim.bounds(min_healthy_time + soak);
    Pace {
        nodes: sim.hosts.len(),
        waves,
        wall: Duration::from_millis(sim.now - began),
        bound,
        bound_with_stops,
    }
}

impl Sim {
    pub(super) fn found_large(&mut self, nodes: u64, policy: &RolloutPolicy) {
        let group = |name: &str| GroupName::parse(name).expect("a fixed name");
        for (index, (name, percent, is_identity_server)) in GROUPS.into_iter().enumerate() {
            let after: BTreeSet<_> = GROUPS.iter().take(index).map(|(before, ..)| group(before)).collect();
            self.groups.push((group(name), GroupGoal { policy: policy.clone(), after, gates: None }));
            for number in 0..nodes * percent / 100 {
                let node = NodeName::parse(&format!("{name}-{number}")).expect("a fixed name");
                let start = if is_identity_server {
                    self.chance.range(26_000, 36_000)
                } else {
                    match self.chance.range(0, 99) {
                        0..=89 => self.chance.range(50_000, 65_000),
                        90..=98 => self.chance.range(65_000, 120_000),
                        _ => self.chance.range(120_000, 260_000),
                    }
                };
                self.hosts.push(Host::new(index, node, index, start, 0));
                self.coordinator.store.nodes.push(Record::default());
                self.coordinator.store.wanted.push(None);
            }
        }
        self.budgets = vec![0; self.groups.len()];
        self.library.start_deadline = Some(START_DEADLINE);
        self.coordinator.up = true;
        for index in 0..self.hosts.len() {
            self.agent_starts(index);
        }
        self.after(1000, Entry::Tick);
        // All have connected before anything is applied.
        self.run_until(|sim| (0..sim.hosts.len()).all(|index| sim.coordinator.connected(index)));
    }

    pub(super) fn roll_out(&mut self) {
        self.versions += 1;
        let version = self.versions;
        let target = self.library.add(version, (version, version), Nature::Good);
        self.coordinator.know(target);
        self.apply(&vec![target; self.hosts.len()]);
        self.run_until(|sim| sim.coordinator.store.rollout.as_ref().is_some_and(|it| it.phase.is_end()));
        let rollout = self.coordinator.store.rollout.as_ref().expect("one was just applied");
        assert_eq!(rollout.word().as_str(), "done", "{:?}", rollout.why());
    }

    fn run_until(&mut self, is_there: impl Fn(&Self) -> bool) {
        while !is_there(self) {
            let ((at, _), entry) = self.queue.pop_first().expect("ticks never end");
            self.now = at;
            self.handle(entry);
            assert_eq!(self.outcome.violation, None);
            assert!(self.now < GIVE_UP, "waited for {:?}", self.coordinator.waiting);
        }
    }

    /// How many waves there were, and how long they take at least, the groups being in one line: starts alone, and
    /// with stops.
    fn bounds(&self, deliberate: Duration) -> (usize, [Duration; 2]) {
        let rollout = self.coordinator.store.rollout.as_ref().expect("one was applied");
        let mut slowest: BTreeMap<(&GroupName, u32), [u64; 2]> = BTreeMap::new();
        for (name, step) in &rollout.steps {
            let host = self.hosts.iter().find(|host| host.name == *name).expect("steps are of hosts");
            let wave = slowest.entry((&step.group, step.wave)).or_default();
            wave[0] = wave[0].max(host.start);
            wave[1] = wave[1].max(host.start + host.stopped_in);
        }
        let total = |which: usize| {
            let starts = slowest.values().map(|wave| Duration::from_millis(wave[which])).sum::<Duration>();
            starts + deliberate * u32::try_from(slowest.len()).unwrap_or(u32::MAX)
        };
        (slowest.len(), [total(0), total(1)])
    }
}
