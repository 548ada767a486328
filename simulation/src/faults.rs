//! The fleet of a seed, and what goes wrong with it and when.

use std::{collections::BTreeSet, time::Duration};

use fleet::{
    ids::{GroupName, NodeName, ZoneName},
    node::{Command, Event},
    observed::ServiceState,
    rollout::{Abort, GroupGoal, OnFailure, Promotion, RolloutPolicy, Share, Target},
};

use super::{Bug, Chance, Entry, Nature, Sim, coordinator::Record, host::Host, soaks::Ambush};

const MINUTE: u64 = 60_000;
/// Zones have a sequence of their own: a seed that gives a fleet none means what it meant before there were any.
const ZONES: u64 = 173_000_519;

impl Sim {
    /// How many zones the fleet has, and its rules for them. None in half of the runs.
    fn choose_zones(&mut self, chance: &mut Chance) -> usize {
        if chance.percent(50) {
            return 0;
        }
        let share = |chance: &mut Chance| {
            let count = u32::try_from(chance.range(1, 2)).unwrap_or(1);
            chance.percent(30).then_some(Share::Count(count))
        };
        self.fleet.parallel_zones = chance.percent(30);
        self.fleet.max_unavailable_per_zone = share(chance);
        for (_, goal) in &mut self.groups {
            goal.policy.max_unavailable_per_zone = share(chance);
        }
        2 + chance.index(2)
    }

    /// Makes the fleet: mostly a handful of nodes, now and then up to 200.
    pub(super) fn found(&mut self, seed: u64) {
        let count = match self.chance.range(0, 999) {
            0..=799 => self.chance.range(1, 6),
            800..=989 => self.chance.range(7, 20),
            990..=997 => self.chance.range(21, 60),
            _ => self.chance.range(61, 200),
        };
        let groups = self.chance.range(1, 3.min(count));
        self.churns = self.chance.percent(25);
        self.gated = self.chance.percent(33);
        self.choose_hooks();
        let spares = if self.churns { self.chance.range(0, 2) } else { 0 };
        for index in 0..groups {
            let name = GroupName::parse(&format!("g{index}")).expect("a fixed name");
            let after = (0..index).filter(|_| self.chance.percent(50)).collect::<BTreeSet<_>>();
            let after =
                after.iter().map(|index| GroupName::parse(&format!("g{index}")).expect("a fixed name"));
            let after = after.collect();
            let goal = GroupGoal { after, policy: self.policy(), gates: self.choose_gates() };
            self.groups.push((name, goal));
        }
        if self.chance.percent(30) {
            self.fleet.max_unavailable =
                Some(Share::Count(u32::try_from(self.chance.range(1, 4)).unwrap_or(1)));
        }
        self.fleet.failures_max = self.chance.percent(50).then_some(Share::Percent(20));
        self.fleet.spread_hosts = self.chance.percent(20);
        let mut of_zones = Chance::new(seed.wrapping_add(ZONES));
        let zones = self.choose_zones(&mut of_zones);
        let members = usize::try_from(count).unwrap_or(0);
        for index in 0..usize::try_from(count + spares).unwrap_or(0) {
            let group = self.chance.index(self.groups.len());
            let name = NodeName::parse(&format!("g{group}-n{index}")).expect("a fixed name");
            let (start, skew) = (self.chance.range(2000, 40_000), self.chance.range(0, 600_000));
            let skew = i64::try_from(skew).unwrap_or(0) - 300_000;
            let mut host = Host::new(index, name, group, start, skew);
            (host.member, host.enrolled) = (index < members, index < members);
            host.zone = (0 < zones).then(|| of_zones.index(zones)).map(zone_name);
            self.hosts.push(host);
            self.found_by_hand(index);
            self.coordinator.store.nodes.push(Record::default());
            self.coordinator.store.wanted.push(None);
        }
        self.coordinator.up = true;
        self.budgets = vec![0; self.groups.len()];
        for index in 0..self.hosts.len() {
            self.agent_starts(index);
        }
        self.after(2000, Entry::Tick);
        let calm = self.chance.percent(15);
        let (faults, applies) = (if calm { 0 } else { self.chance.range(0, 14) }, self.chance.range(1, 4));
        let until = self.chance.range(4, 12) * MINUTE;
        for _ in 0..faults {
            let at = self.chance.range(3000, until);
            self.after(at, Entry::Fault);
        }
        self.after(1500, Entry::Operator);
        for _ in 0..applies + self.chance.range(0, 4) {
            let at = self.chance.range(5000, until);
            self.after(at, Entry::Operator);
        }
        self.after(until + MINUTE, Entry::Heal);
    }

    fn policy(&mut self) -> RolloutPolicy {
        let share = match self.chance.range(0, 3) {
            0 | 1 => Share::Count(1),
            2 => Share::Count(2),
            _ => Share::Percent(34),
        };
        let secs = Duration::from_secs;
        RolloutPolicy {
            canary: self.chance.percent(30).then_some(Share::Count(1)),
            promotion: if self.chance.percent(20) { Promotion::Manual } else { Promotion::Automatic },
            max_unavailable: share,
            max_unavailable_per_zone: None,
            wave: self.chance.percent(30).then_some(Share::Percent(50)),
            soak: secs(self.chance.range(0, 20)),
            min_healthy_time: secs(self.chance.range(0, 12)),
            healthy_deadline: secs(240),
            progress_deadline: secs(self.chance.range(250, 600)),
            on_failure: OnFailure::ALL[self.chance.index(3)].0,
            windows: Vec::new(),
        }
    }

    /// Something goes wrong.
    pub(super) fn fault(&mut self) {
        self.outcome.faults += 1;
        if self.hands.percent(20) {
            self.edit_by_hand();
        }
        let (index, until) =
            (self.chance.index(self.hosts.len()), self.now + self.chance.range(2000, 90_000));
        match self.chance.range(0, 12) {
            0 => self.cut(index, until),
            1 => {
                // A whole site.
                for index in 0..self.hosts.len() {
                    if self.chance.percent(50) {
                        self.cut(index, until);
                    }
                }
            }
            2 | 3 => {
                self.agent_dies(index);
                let back = self.chance.range(100, 60_000);
                self.after(back, Entry::AgentStarts { host: index });
            }
            4 => self.power_fails(index),
            5 => {
                if let Some(process) = self.hosts[index].process.as_ref().map(|it| it.identity.clone()) {
                    self.after(0, Entry::Ends { host: index, process, how: "crashed" });
                }
            }
            6 if self.coordinator.up => {
                self.coordinator_dies();
                let back = self.chance.range(100, 60_000);
                self.after(back, Entry::CoordinatorStarts);
            }
            7 if self.chance.percent(30) => {
                // Somebody has to notice, and to make room.
                self.hosts[index].disk_fails_until = self.now + self.chance.range(120_000, 600_000);
            }
            7 => self.hosts[index].disk_fails_until = until,
            8 => self.hosts[index].lies_until = until,
            9 => {
                self.trace(|| format!("coordinator: its store is slow until {:.3}s", until as f64 / 1000.0));
                self.coordinator.slow_until = until;
            }
            10 => self.ambushes.push(Ambush::Restart),
            11 => self.ambushes.push(Ambush::Vanish),
            12 => self.restart_all_agents(),
            _ => {}
        }
        if self.bug == Some(Bug::NumbersFromOldStore) {
            self.restore_store();
        }
    }

    /// An older copy of the store is put back. Only together with its bug: what agents have seen saves the others.
    fn restore_store(&mut self) {
        match self.coordinator.backup.take() {
            Some(backup) => {
                self.trace(|| "coordinator: an older store is restored".to_owned());
                let version = self.coordinator.store.version + 1;
                self.coordinator.store = super::coordinator::Store { version, ..backup };
            }
            None => self.coordinator.backup = Some(self.coordinator.store.clone()),
        }
    }

    pub(super) fn cut(&mut self, index: usize, until: u64) {
        self.trace(|| format!("host {index}: cut off until {:.3}s", until as f64 / 1000.0));
        let host = &mut self.hosts[index];
        host.cut_until = until;
        if let Some(session) = host.session {
            host.session_dead = true;
            let notice = self.chance.range(2000, 20_000);
            self.after(notice, Entry::Lost { host: index, session });
        }
    }

    fn power_fails(&mut self, index: usize) {
        self.trace(|| format!("host {index}: power fails"));
        self.agent_dies(index);
        let now = self.now;
        let host = &mut self.hosts[index];
        let served = host.serves(now);
        host.powered = false;
        host.process = None;
        host.taken_down &= !served;
        if served {
            host.down_since = Some(now);
        }
        let back = if self.chance.percent(25) { 400_000 } else { self.chance.range(5000, 120_000) };
        self.after(back, Entry::HostStarts { host: index });
    }

    /// An operator does something, often at a bad moment.
    pub(super) fn operator(&mut self) {
        let at = self.wall();
        if self.hands.percent(15) {
            let index = self.hands.index(self.hosts.len());
            self.ask_for_original(index);
        }
        match self.chance.range(0, 9) {
            _ if self.coordinator.store.rollout.is_none() => self.apply_something(),
            0 => self.control("pauses", |rollout| rollout.pause("lunch", at)),
            1 => self.control("resumes", |rollout| rollout.resume(at)),
            2 => self.control("promotes", |rollout| rollout.promote()),
            3 => self.control("aborts", |rollout| rollout.abort(Abort::Leave, "wrong file")),
            4 => self.control("aborts and returns", |rollout| rollout.abort(Abort::Return, "wrong file")),
            5 | 6 if self.churns => self.change_members(),
            _ => self.apply_something(),
        }
    }

    pub(super) fn apply_something(&mut self) {
        self.versions += 1;
        let version = self.versions;
        let first = version == 1;
        let cosmetic = !first && self.chance.percent(20);
        if !cosmetic {
            let nature = match self.chance.range(0, 9) {
                _ if first => Nature::Good,
                0 | 1 => Nature::Exits,
                2 => Nature::Hangs,
                3 if self.gated => Nature::Useless,
                _ => Nature::Good,
            };
            self.newest = (version, nature);
        }
        let (truth, nature) = self.newest;
        let meaning = if self.bug == Some(Bug::BytesAreMeaning) { version } else { truth };
        let target = self.library.add(version, (meaning, truth), nature);
        self.coordinator.know(target);
        let before = self.coordinator.store.wanted.clone();
        let keep = !first && self.chance.percent(20);
        let targets: Vec<Target> = before
            .iter()
            .map(|before| match before {
                Some(before) if keep && self.chance.percent(50) => *before,
                _ => target,
            })
            .collect();
        self.apply(&targets);
        if self.healed.is_none() && self.chance.percent(15) {
            // Second thoughts, or a colleague.
            let soon = self.chance.range(20, 2500);
            self.after(soon, Entry::Operator);
        }
    }

    /// All faults end, and operators bring to an end what they began.
    pub(super) fn heal(&mut self) {
        self.trace(|| "all faults end".to_owned());
        self.healed = Some(self.now);
        self.coordinator.slow_until = 0;
        self.ambushes.clear();
        if !self.coordinator.up {
            self.coordinator_starts();
        }
        for index in 0..self.hosts.len() {
            let host = &mut self.hosts[index];
            (host.cut_until, host.disk_fails_until, host.lies_until) = (0, 0, 0);
            host.powered = true;
            self.agent_starts(index);
        }
    }

    /// After the faults: resume, promote, and try servers again that gave up.
    pub(super) fn help(&mut self) {
        let at = self.wall();
        self.control("resumes", |rollout| rollout.resume(at));
        self.control("promotes", |rollout| rollout.promote());
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            let Some(agent) = &host.agent else { continue };
            let gave_up = matches!(agent.engine.observed().service, ServiceState::GaveUp { .. });
            if gave_up && host.files.is_some_and(|files| self.library.nature(&files).starts()) {
                let (incarnation, id) = (host.incarnation, self.now);
                let command = Command::Restart { why: "try again".to_owned() };
                self.deliver(index, incarnation, Event::Commanded { id, command });
            }
        }
    }
}

fn zone_name(index: usize) -> ZoneName {
    ZoneName::parse(&format!("z{index}")).expect("a fixed name")
}
