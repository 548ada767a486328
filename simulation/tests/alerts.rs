//! Alerts under everything that goes wrong, from seeds: floods, flaps, nodes that are cut off, a coordinator that ends
//! between its steps, receivers that are away for hours, clocks that jump.
//!
//! What is real: [`Alerts`]. What is modelled: nodes, the store, the coordinator's shell, the receiver. A receiver
//! believes what it is told; in the end it must believe what is true, and on the way nothing may be reported that is
//! not so.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests print and end at the first surprise")]

use std::collections::{BTreeMap, BTreeSet};

use fleet::{
    alert::{
        Alert, AlertId, Alerts, Blindness, ChangeKind, ChannelRules, Expected, FIRST_AFTER, Held, Looks,
        Message, Part, Place, Rule, Severity, Subject,
    },
    ids::{ChannelName, GroupName, NodeName},
    time::Timestamp,
};

/// Seconds between two looks.
const STEP: i64 = 5;
/// Seconds of trouble, then of quiet.
const TROUBLE: i64 = 4 * 3600;
const QUIET: i64 = 2 * 3600;
const NODES: usize = 24;
const GROUPS: usize = 5;

/// A mistake of the shell, planted to see that the simulation finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Notes that a message arrived before it was sent.
    ToldBeforeSent,
    /// Takes a node that it does not hear for one that is in order.
    UnknownIsClear,
    /// Forgets after a restart what channels were told.
    ForgetsTold,
    /// Does not see that somebody explains the trouble.
    ForgetsOwnActs,
    /// Sends before the change is stored.
    SentBeforeStored,
}

struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// About once in `of` times.
    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

#[derive(Clone, Default)]
struct Truth {
    down: bool,
    sick: bool,
    silent: bool,
    in_flight: bool,
}

struct Receiver {
    away_until: i64,
    /// What it believes to be wrong.
    open: BTreeSet<AlertId>,
    /// What it was told is over by a message of which the coordinator does not know that it arrived. If more has changed
    /// by the next one, that says it again under another id.
    unsure: BTreeSet<AlertId>,
    /// When it was last told that something began.
    heard: BTreeMap<AlertId, i64>,
    deliveries: BTreeMap<String, String>,
    messages: usize,
}

struct World {
    chance: Chance,
    bug: Bug,
    now: i64,
    /// What the coordinator's clock is off by.
    skew: i64,
    nodes: Vec<Truth>,
    memory: Alerts,
    stored: Alerts,
    started: i64,
    receiver: Receiver,
    /// When each thing was last in order.
    last_order: BTreeMap<AlertId, i64>,
    tale: Vec<String>,
    fault: Option<String>,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(1_795_910_400_000 + seconds * 1000)
}

fn held(place: &str, reason: &str) -> Held {
    Held { place: Place::Group(GroupName::parse(place).unwrap()), reason: reason.to_owned() }
}

fn channel(name: &str, least: Severity) -> ChannelRules {
    ChannelRules { name: ChannelName::parse(name).unwrap(), least, first_after: FIRST_AFTER }
}

fn name(index: usize) -> NodeName {
    NodeName::parse(&format!("n-{index:02}")).unwrap()
}

/// What a message reports as over.
fn overs(message: &Message) -> impl Iterator<Item = AlertId> {
    let parts = message.parts.iter();
    parts.flat_map(|part| {
        part.over.iter().map(|item| AlertId { rule: part.rule, subject: item.subject.clone() })
    })
}

impl World {
    fn new(seed: u64, bug: Bug) -> Self {
        let receiver = Receiver {
            away_until: 0,
            open: BTreeSet::new(),
            unsure: BTreeSet::new(),
            heard: BTreeMap::new(),
            deliveries: BTreeMap::new(),
            messages: 0,
        };
        Self {
            chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            bug,
            now: 0,
            skew: 0,
            nodes: vec![Truth::default(); NODES],
            memory: Alerts::default(),
            stored: Alerts::default(),
            started: -1_000,
            receiver,
            last_order: BTreeMap::new(),
            tale: Vec::new(),
            fault: None,
        }
    }

    fn clock(&self) -> Timestamp {
        at(self.now + self.skew)
    }

    fn broken(&mut self, why: String) {
        self.tale.push(format!("{}s BROKEN {why}", self.now));
        self.fault.get_or_insert(why);
    }

    fn trouble(&mut self) {
        let index = self.chance.below(NODES);
        match self.chance.below(60) {
            0..4 => self.nodes[index].down ^= true,
            4..8 => self.nodes[index].sick ^= true,
            8..11 => self.nodes[index].silent ^= true,
            11..13 => self.nodes[index].in_flight ^= true,
            13 => (0..NODES).for_each(|index| self.nodes[index].silent = index % 3 != 0),
            14 => self.nodes.iter_mut().for_each(|node| *node = Truth::default()),
            15 if self.chance.one_in(10) => {
                self.receiver.away_until = self.now + i64::try_from(self.chance.below(9_000)).unwrap();
            }
            16 => self.skew += i64::try_from(self.chance.below(1_200)).unwrap() - 600,
            17 => self.crash(),
            _ => return,
        }
        self.tale.push(format!("{}s trouble", self.now));
    }

    /// The coordinator ends and starts again with what it has stored.
    fn crash(&mut self) {
        self.tale.push(format!("{}s crash", self.now));
        self.started = self.now;
        self.memory = self.stored.clone();
        if self.bug == Bug::ForgetsTold {
            self.memory.places.values_mut().for_each(|place| place.told.clear());
        }
    }

    /// Only what was raised is stored.
    fn store(&mut self) {
        self.stored = self.memory.clone();
        for place in self.stored.places.values_mut() {
            place.alerts.retain(|_, alert| alert.raised.is_some());
            place.alerts.values_mut().for_each(Alert::as_stored);
        }
    }

    fn looks(&self) -> Looks {
        let mut looks = Looks::default();
        let settled = 60 < self.now - self.started;
        for (index, truth) in self.nodes.iter().enumerate() {
            let place = format!("g-{}", index % GROUPS);
            if truth.silent {
                let blindness = if settled { Blindness::Report } else { Blindness::Everything };
                if settled {
                    let id = AlertId { rule: Rule::NodeSilent, subject: Subject::Node(name(index)) };
                    looks.hold(id, held(&place, "not heard"));
                }
                if self.bug != Bug::UnknownIsClear {
                    looks.blind(name(index), blindness);
                }
                continue;
            }
            for (holds, rule) in [(truth.down, Rule::ServerDown), (truth.sick, Rule::Unhealthy)] {
                if holds {
                    looks.hold(AlertId { rule, subject: Subject::Node(name(index)) }, held(&place, "why"));
                }
            }
            if truth.in_flight && self.bug != Bug::ForgetsOwnActs {
                let until = at(self.now + self.skew + 3_600);
                looks.expect(name(index), Expected { until, why: "a rollout".to_owned() });
            }
        }
        looks
    }

    fn step(&mut self) {
        let (looks, channels) = (self.looks(), [channel("ops", Severity::Info)]);
        let looked = self.memory.look(self.clock(), &looks, &[]);
        for change in looked.changes.iter().filter(|change| change.kind == ChangeKind::Raised) {
            if self.expected(&change.id) {
                self.broken(format!("{} is raised although it is expected", change.id));
            }
        }
        // It may end between any two of these.
        if self.bug != Bug::SentBeforeStored {
            self.store();
        }
        if self.crashes() {
            return;
        }
        for message in self.memory.messages(self.clock(), &channels).due {
            if self.bug == Bug::ToldBeforeSent {
                self.memory.told(&message, self.clock());
                self.store();
            }
            if self.crashes() {
                return;
            }
            if self.now < self.receiver.away_until {
                continue;
            }
            self.deliver(&message);
            if self.crashes() {
                self.receiver.unsure.extend(overs(&message));
                return;
            }
            for id in overs(&message) {
                self.receiver.unsure.remove(&id);
            }
            self.memory.told(&message, self.clock());
            self.store();
        }
    }

    fn crashes(&mut self) -> bool {
        let crashes = self.now < TROUBLE && self.chance.one_in(400);
        if crashes {
            self.crash();
        }
        crashes
    }

    fn deliver(&mut self, message: &Message) {
        let text = format!("{} {}", message.headline("acme"), message.text());
        self.tale.push(format!("{}s {} {}", self.now, message.delivery, message.headline("acme")));
        self.receiver.messages += 1;
        if let Some(known) = self.receiver.deliveries.get(&message.delivery) {
            // Times and reasons may have moved; what began and what ended may not.
            if known.lines().next() != text.lines().next() {
                self.broken(format!("delivery {} says two things", message.delivery));
            }
            return;
        }
        self.receiver.deliveries.insert(message.delivery.clone(), text);
        for id in overs(message) {
            if !self.receiver.open.remove(&id) && !self.receiver.unsure.contains(&id) {
                self.broken(format!("{id} is reported as over and never was reported"));
            }
            if !self.was_over(&id) {
                self.broken(format!("{id} is reported as over and never was"));
            }
        }
        for id in message.parts.iter().flat_map(Part::open) {
            self.receiver.unsure.remove(&id);
            if self.receiver.open.insert(id.clone()) {
                self.receiver.heard.insert(id, self.now);
            }
        }
    }

    fn index(id: &AlertId) -> usize {
        let node = id.subject.node().expect("only nodes are in this world");
        node.as_str()[2..].parse().expect("a number")
    }

    /// Whether it is so, whoever knows it.
    fn holds(&self, id: &AlertId) -> Option<bool> {
        let truth = &self.nodes[Self::index(id)];
        match id.rule {
            Rule::ServerDown => Some(truth.down),
            Rule::Unhealthy => Some(truth.sick),
            Rule::NodeSilent => Some(truth.silent),
            _ => None,
        }
    }

    fn expected(&self, id: &AlertId) -> bool {
        let truth = &self.nodes[Self::index(id)];
        truth.in_flight && id.rule != Rule::NodeSilent
    }

    /// Notes what is in order at this moment.
    fn note_order(&mut self) {
        for index in 0..NODES {
            for rule in [Rule::ServerDown, Rule::Unhealthy, Rule::NodeSilent] {
                let id = AlertId { rule, subject: Subject::Node(name(index)) };
                if self.holds(&id) == Some(false) {
                    self.last_order.insert(id, self.now);
                }
            }
        }
    }

    /// It was in order at some time since the receiver heard of it.
    fn was_over(&self, id: &AlertId) -> bool {
        let heard = self.receiver.heard.get(id).copied().unwrap_or(i64::MAX);
        self.last_order.get(id).is_some_and(|order| heard <= *order + STEP)
    }

    fn run(mut self) -> (Option<String>, Vec<String>) {
        while self.now < TROUBLE + QUIET {
            self.now += STEP;
            if self.now < TROUBLE {
                self.trouble();
            } else if self.now < TROUBLE + STEP {
                // Nothing changes any more, but much is wrong.
                self.receiver.away_until = 0;
                self.nodes.iter_mut().for_each(|node| node.in_flight = false);
                self.nodes[0] = Truth { down: true, ..Truth::default() };
                self.nodes[1] = Truth { silent: true, ..Truth::default() };
            }
            self.note_order();
            self.step();
            if self.fault.is_some() {
                return (self.fault, self.tale);
            }
        }
        let wrong: BTreeSet<AlertId> =
            self.memory.all().filter(|(_, _, alert)| alert.is_open()).map(|(_, id, _)| id.clone()).collect();
        if wrong != self.receiver.open {
            let odd: Vec<String> =
                wrong.symmetric_difference(&self.receiver.open).map(ToString::to_string).collect();
            self.broken(format!("the receiver believes something else than is so: {}", odd.join(", ")));
        }
        for (rule, index) in [(Rule::ServerDown, 0), (Rule::NodeSilent, 1)] {
            let id = AlertId { rule, subject: Subject::Node(name(index)) };
            if !self.receiver.open.contains(&id) {
                self.broken(format!("{id} lasts for two hours and the receiver does not know"));
            }
        }
        // Six hours, five groups, three rules: at most one message of each in five minutes, and floods are one.
        if 300 < self.receiver.messages {
            self.broken(format!("{} messages", self.receiver.messages));
        }
        (self.fault, self.tale)
    }
}

/// `ALERT_SEEDS=3000` takes that many.
fn seeds() -> std::ops::Range<u64> {
    0..simulation::asked("ALERT_SEEDS").unwrap_or(150)
}

#[test]
fn receivers_end_up_with_the_truth_whatever_happens() {
    for seed in seeds() {
        let (fault, tale) = World::new(seed, Bug::None).run();
        if let Some(fault) = fault {
            let last = &tale[tale.len().saturating_sub(80)..];
            panic!("seed {seed}: {fault}\n{}", last.join("\n"));
        }
    }
}

#[test]
fn planted_mistakes_are_found() {
    let bugs = [
        Bug::ToldBeforeSent,
        Bug::UnknownIsClear,
        Bug::ForgetsTold,
        Bug::ForgetsOwnActs,
        Bug::SentBeforeStored,
    ];
    for bug in bugs {
        let found = seeds().find_map(|seed| World::new(seed, bug).run().0.map(|fault| (seed, fault)));
        let (seed, fault) = found.unwrap_or_else(|| panic!("nothing shows {bug:?}"));
        println!("{bug:?}: seed {seed}: {fault}");
    }
}
