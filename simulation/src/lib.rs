//! The model simulation: the real planner and the real agent engine, any number of each, in one thread without time.
//!
//! What is real: [`fleet::rollout`] and [`fleet::node::Engine`]. What is modelled: the coordinator's and the agent's
//! shells, a store with compare-and-swap, journals, disks, server processes and a network. Everything that happens is
//! an entry of one queue ordered by time, everything that is chance comes from one seed, and after every entry the
//! guarantees are checked ([`check`]). A run that breaks one is repeated with its transcript.

mod bug;
mod bundles;
mod calls;
mod chance;
mod check;
mod coordinator;
mod faults;
mod host;
mod members;
mod originals;
mod pace;
mod server;
mod soaks;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

pub use bug::Bug;
use bundles::{Library, Nature};
use calls::Asked;
pub use chance::Chance;
use coordinator::Coordinator;
use fleet::{
    bundle::Assignment,
    ids::{FleetEpoch, Generation, GroupName, NodeName, RolloutId},
    node::{self, Memory},
    observed::{Observed, ProcessIdentity},
    rollout::{FleetPolicy, GroupGoal, Plan},
    time::Timestamp,
};
use host::Host;
pub use pace::{Pace, pace};
use soaks::Ambush;
pub use soaks::{upgrade_all_agents, vanish_in_a_soak};

/// The number that the environment gives for `name`: how much to try, or a seed to try again. What is no number counts
/// as not given.
pub fn asked<T: FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The store that all agents obey.
pub(crate) const EPOCH: FleetEpoch = FleetEpoch([7; 16]);
/// From the end of all faults until everything must be settled.
const SETTLE_MAX: u64 = 4 * 3600 * 1000;

/// Makes another seed of a seed.
const HANDS: u64 = 0x6861_6e64;

/// Lines of a transcript that are printed of their own accord.
const TALE: usize = 200;

/// Something that happens at its time.
#[derive(Debug)]
enum Entry {
    /// The coordinator looks because time has passed.
    Tick,
    /// Something goes wrong.
    Fault,
    /// An operator does something.
    Operator,
    /// All faults end.
    Heal,
    /// An agent's deadline.
    Timer {
        host: usize,
        incarnation: u64,
    },
    /// Something reaches an agent's engine.
    Node {
        host: usize,
        incarnation: u64,
        event: Box<node::Event>,
    },
    /// A journal write ends.
    Journaled {
        host: usize,
        incarnation: u64,
        writes: u64,
        memory: Box<Memory>,
        durable: bool,
    },
    /// A switch of files ends.
    Switched {
        host: usize,
        incarnation: u64,
        target: fleet::bundle::Applied,
        fails: bool,
    },
    /// A process ends.
    Ends {
        host: usize,
        process: ProcessIdentity,
        how: &'static str,
    },
    /// An agent dials.
    Dial {
        host: usize,
        incarnation: u64,
    },
    /// Both sides notice that a session is dead.
    Lost {
        host: usize,
        session: u64,
    },
    /// A message arrives at an agent.
    ToAgent {
        host: usize,
        session: u64,
        assignment: Box<Assignment>,
    },
    /// A message arrives at the coordinator.
    FromAgent {
        host: usize,
        session: u64,
        report: Box<Observed>,
    },
    Doubt {
        host: usize,
        session: u64,
        doubted: bool,
    },
    /// The coordinator has stored what an agent said.
    Stored {
        incarnation: u64,
        host: usize,
        session: u64,
        report: Box<Observed>,
    },
    /// A store commit ends.
    Committed {
        incarnation: u64,
        parent: u64,
        plan: Box<Plan>,
    },
    /// A gate's question arrives at an agent.
    Asked {
        host: usize,
        session: u64,
        id: u64,
    },
    /// Its answer arrives at the coordinator; `None`: the time for it is over.
    Answered {
        incarnation: u64,
        id: u64,
        failure: Option<Option<String>>,
    },
    /// The answer is stored.
    AnswerStored {
        incarnation: u64,
        asked: Box<Asked>,
        failure: Option<String>,
    },
    /// A hook ends.
    HookEnds {
        host: usize,
        incarnation: u64,
        run: u64,
    },
    /// The coordinator starts again.
    CoordinatorStarts,
    /// An agent dies.
    AgentDies {
        host: usize,
        incarnation: u64,
    },
    /// An agent starts again.
    AgentStarts {
        host: usize,
    },
    /// A host works again.
    HostStarts {
        host: usize,
    },
}

impl Entry {
    /// The one host that it is about, if it is about one.
    fn host(&self) -> Option<usize> {
        match self {
            Self::Timer { host, .. }
            | Self::Node { host, .. }
            | Self::Journaled { host, .. }
            | Self::Switched { host, .. }
            | Self::Ends { host, .. }
            | Self::Dial { host, .. }
            | Self::Lost { host, .. }
            | Self::ToAgent { host, .. }
            | Self::FromAgent { host, .. }
            | Self::Doubt { host, .. }
            | Self::Stored { host, .. }
            | Self::Asked { host, .. }
            | Self::HookEnds { host, .. }
            | Self::AgentDies { host, .. }
            | Self::AgentStarts { host }
            | Self::HostStarts { host } => Some(*host),
            Self::Tick
            | Self::Fault
            | Self::Operator
            | Self::Heal
            | Self::Committed { .. }
            | Self::Answered { .. }
            | Self::AnswerStored { .. }
            | Self::CoordinatorStarts => None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The guarantee that was broken, if one was.
    pub violation: Option<String>,
    /// What happened, if it was written down.
    pub transcript: Vec<String>,
    /// Hosts in the run.
    pub hosts: usize,
    /// Entries handled.
    pub entries: u64,
    /// Rollouts begun, and of them ended in: done, failed, rolled back, aborted, superseded.
    pub rollouts: BTreeMap<&'static str, u64>,
    /// Steps committed.
    pub steps: u64,
    /// Servers launched.
    pub launches: u64,
    /// Gates answered.
    pub answers: u64,
    /// Hooks that ran to their end.
    pub hooks: u64,
    /// Faults injected.
    pub faults: u64,
}

/// One run.
#[derive(Debug)]
pub struct Sim {
    now: u64,
    queue: BTreeMap<(u64, u64), Entry>,
    queued: u64,
    chance: Chance,
    /// What people do on hosts, so that it changes nothing else of a seed.
    hands: Chance,
    bug: Option<Bug>,
    traced: bool,
    /// Nothing is slow without a reason, and the coordinator looks as often as the real one.
    calm: bool,
    healed: Option<u64>,
    /// At the end: operators want back what was there before.
    gives_back: bool,
    hosts: Vec<Host>,
    groups: Vec<(GroupName, GroupGoal)>,
    fleet: FleetPolicy,
    /// The most that may be down for steps: in each group, and in the fleet if that is limited.
    budgets: Vec<usize>,
    fleet_budget: Option<usize>,
    /// The most that may be down for steps in a zone: of each group, and of the fleet.
    group_zone_budgets: Vec<Option<usize>>,
    fleet_zone_budget: Option<usize>,
    /// Faults that wait for a wave to soak.
    ambushes: Vec<Ambush>,
    /// Nodes come and go.
    churns: bool,
    library: Library,
    versions: u64,
    /// What the newest bundle means to a server, and what a server does with it.
    newest: (u64, Nature),
    coordinator: Coordinator,
    /// What each (host, generation) was ever committed to be.
    numbered: BTreeMap<(usize, Generation), fleet::ids::Digest>,
    /// Groups may have gates.
    gated: bool,
    /// The newest question to an agent.
    questions: u64,
    /// Which gates nodes have passed in truth, by rollout.
    passed: BTreeSet<(RolloutId, String, NodeName)>,
    /// What was desired when a rollback ended.
    frozen: Option<(fleet::ids::RolloutId, Vec<Option<fleet::bundle::Applied>>)>,
    outcome: Outcome,
}

impl Outcome {
    /// What to print of a run that broke something: the end of its transcript, and how to see all of it.
    pub fn tale(&self, seed: u64) -> String {
        let lines = &self.transcript[self.transcript.len().saturating_sub(TALE)..];
        let what = self.violation.as_deref().unwrap_or("nothing was broken");
        format!(
            "{}\nseed {seed}: {what}\nreplay: cargo xtask sim --replay {seed}, or SIM_SEED={seed} cargo test -p \
             convoy-tests --test sim no_seed -- --nocapture",
            lines.join("\n")
        )
    }
}

/// Runs `seed` once; repeats it with a transcript if it breaks something.
pub fn run(seed: u64, bug: Option<Bug>) -> Outcome {
    let quiet = Sim::new(seed, bug, false).run();
    if quiet.violation.is_none() {
        return quiet;
    }
    Sim::new(seed, bug, true).run()
}

/// Runs `seed` once with its transcript.
pub fn replay(seed: u64, bug: Option<Bug>) -> Outcome {
    Sim::new(seed, bug, true).run()
}

/// Runs many seeds on all processors and hands each outcome to `tell`, in no particular order.
///
/// # Panics
/// A run did.
pub fn sweep(seeds: Range<u64>, bug: Option<Bug>, tell: impl FnMut(u64, Outcome) + Send) {
    let next = AtomicU64::new(seeds.start);
    let tell = Mutex::new(tell);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seeds.end <= seed {
                return;
            }
            let outcome = run(seed, bug);
            tell.lock().expect("nobody panics while telling")(seed, outcome);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

impl Sim {
    fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut sim = Self::empty(seed, bug, traced);
        sim.found(seed);
        sim
    }

    fn empty(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        Self {
            now: 1000,
            queue: BTreeMap::new(),
            queued: 0,
            chance: Chance::new(seed),
            hands: Chance::new(seed ^ HANDS),
            bug,
            traced,
            calm: false,
            healed: None,
            gives_back: false,
            hosts: Vec::new(),
            groups: Vec::new(),
            fleet: FleetPolicy::default(),
            budgets: Vec::new(),
            fleet_budget: None,
            group_zone_budgets: Vec::new(),
            fleet_zone_budget: None,
            ambushes: Vec::new(),
            churns: false,
            library: Library::default(),
            versions: 0,
            newest: (0, Nature::Good),
            coordinator: Coordinator::default(),
            numbered: BTreeMap::new(),
            gated: false,
            questions: 0,
            passed: BTreeSet::new(),
            frozen: None,
            outcome: Outcome::default(),
        }
    }

    fn run(mut self) -> Outcome {
        while self.outcome.violation.is_none() {
            let Some(((at, _), entry)) = self.queue.pop_first() else {
                self.broken("the simulation ran out of things to do");
                break;
            };
            self.now = at;
            self.outcome.entries += 1;
            let is_tick = matches!(entry, Entry::Tick);
            let touched = entry.host();
            self.handle(entry);
            self.check_originals(touched);
            if let Some(healed) = self.healed.filter(|_| is_tick) {
                let open = self.unsettled().or_else(|| self.not_given_back());
                match open {
                    None => break,
                    Some(open) if healed + SETTLE_MAX < self.now => {
                        self.broken(&format!("not settled long after all faults have ended: {open}"));
                    }
                    Some(_) => {}
                }
            }
        }
        self.outcome.hosts = self.hosts.len();
        self.outcome
    }

    fn handle(&mut self, entry: Entry) {
        match entry {
            Entry::Tick => self.tick(),
            Entry::Fault => self.fault(),
            Entry::Operator => self.operator(),
            Entry::Heal => self.heal(),
            Entry::Timer { host, incarnation } => self.timer(host, incarnation),
            Entry::Node { host, incarnation, event } => self.deliver(host, incarnation, *event),
            Entry::Journaled { host, incarnation, writes, memory, durable } => {
                self.journaled(host, incarnation, (writes, durable), *memory);
            }
            Entry::Switched { host, incarnation, target, fails } => {
                self.switched(host, incarnation, target, fails);
            }
            Entry::Ends { host, process, how } => self.process_ends(host, &process, how),
            Entry::Dial { host, incarnation } => self.dial(host, incarnation),
            Entry::Lost { host, session } => self.lost(host, session),
            Entry::ToAgent { host, session, assignment } => self.agent_hears(host, session, *assignment),
            Entry::FromAgent { host, session, report } => self.coordinator_hears(host, session, *report),
            Entry::Doubt { host, session, doubted } => self.coordinator_doubts(host, session, doubted),
            Entry::Stored { incarnation, host, session, report } => {
                self.stored(incarnation, (host, session), *report);
            }
            Entry::Committed { incarnation, parent, plan } => self.committed(incarnation, parent, *plan),
            Entry::Asked { host, session, id } => self.asked(host, session, id),
            Entry::Answered { incarnation, id, failure } => self.answered(incarnation, id, failure),
            Entry::AnswerStored { incarnation, asked, failure } => {
                self.answer_stored(incarnation, &asked, failure.as_ref());
            }
            Entry::HookEnds { host, incarnation, run } => self.hook_ends(host, incarnation, run),
            Entry::CoordinatorStarts => self.coordinator_starts(),
            Entry::AgentDies { host, incarnation } => self.agent_crashes(host, incarnation),
            Entry::AgentStarts { host } => self.agent_starts(host),
            Entry::HostStarts { host } => self.host_starts(host),
        }
    }

    /// True `percent` of the time, where something is out of the ordinary.
    fn rarely(&mut self, percent: u64) -> bool {
        !self.calm && self.chance.percent(percent)
    }

    /// Milliseconds between two looks without a hint.
    fn look_every(&self) -> u64 {
        match (self.calm, self.healed) {
            (true, _) => 1000,
            (false, Some(_)) => 15_000,
            (false, None) => 4000,
        }
    }

    fn after(&mut self, millis: u64, entry: Entry) {
        self.queued += 1;
        self.queue.insert((self.now + millis, self.queued), entry);
    }

    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from(self.now).unwrap_or(i64::MAX))
    }

    fn trace(&mut self, text: impl FnOnce() -> String) {
        if self.traced {
            let line = format!("{:>9.3}s {}", self.now as f64 / 1000.0, text());
            self.outcome.transcript.push(line);
        }
    }

    fn broken(&mut self, what: &str) {
        self.trace(|| format!("BROKEN: {what}"));
        self.outcome.violation.get_or_insert_with(|| what.to_owned());
    }
}
