//! Engines against a world that loses, delays, crashes and fails: thousands of seeds, promises checked after every
//! step. A failing seed prints itself; `seed(N)` in a test of one's own replays it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use super::{EPOCH, HOME, assignment, bundle, content_of, found, limits, path, placed, process, round};
use crate::{
    bundle::{Applied, Assignment, Bundle, RunState},
    health::Answer,
    ids::{Digest, Generation},
    node::{
        Action, Command, Engine, Event, Failure, Keeping, LogSign, Memory, Recovery, StagedFacts,
        TakenOriginal, Way,
    },
    observed::{ProcessIdentity, RefusalReason, ServiceState, Stage, Verdict},
    time::{Instant, Timestamp},
};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// The host: what a crash of the agent leaves behind.
struct Host {
    journal: Memory,
    /// Whose files are in force; `Err` while a switch was interrupted.
    files: Result<Option<Applied>, Applied>,
    /// Whose were before an interrupted switch; `None` if they were a mix already.
    before: Option<Option<Applied>>,
    server: Option<ProcessIdentity>,
    next_pid: u32,
    /// How often a person has edited the files while they were a person's.
    edits: u64,
    /// What the cache holds of them.
    originals: BTreeMap<Digest, Arc<Bundle>>,
}

impl Host {
    /// Nothing of Convoy's is in force.
    fn is_theirs(&self) -> bool {
        self.files.is_ok_and(|files| files.is_none_or(|files| files.generation == Generation::ORIGINAL))
    }

    fn written_by_hand(&self) -> String {
        format!("hand = {}", self.edits)
    }

    /// Whether the journal leads to what a person had written last.
    fn keeps_original(&self) -> bool {
        let kept = self.journal.originals.get(HOME).map(|kept| kept.placed.content);
        let bundle = kept.and_then(|content| self.originals.get(&content));
        let config = bundle.and_then(|bundle| bundle.files.get(&path("deployment.toml")));
        config.is_some_and(|file| file.digest == Digest::of(self.written_by_hand().as_bytes()))
    }
}

struct World {
    seed: u64,
    random: Random,
    now: u64,
    host: Host,
    engine: Engine,
    /// Outcomes on their way, with when they arrive.
    coming: VecDeque<(u64, Event)>,
    bundles: Vec<Arc<Bundle>>,
    desired: Assignment,
    connected: bool,
    faults: bool,
    highest: Generation,
    commands: u64,
}

fn engine_of(host: &Host, bundles: &[Arc<Bundle>], seed: u64, now: u64) -> Engine {
    // The cache keeps what the journal names.
    let memory = host.journal.clone();
    let contents = memory.contents();
    let kept: BTreeMap<_, _> = bundles
        .iter()
        .chain(host.originals.values())
        .filter(|bundle| contents.contains(&content_of(bundle)))
        .map(|bundle| (content_of(bundle), Arc::clone(bundle)))
        .collect();
    Engine::new(limits(), memory, kept, seed, Timestamp(i64::try_from(now).unwrap()))
}

impl World {
    fn new(seed: u64) -> Self {
        let bundles = vec![
            bundle("a = 1", "x"),
            bundle("a = 1", "y"),
            bundle("a = 2", "x"),
            // This one never starts.
            bundle("bad", "x"),
        ];
        let desired = assignment(1, &bundles[0], RunState::Running);
        let host = Host {
            journal: Memory::default(),
            files: Ok(None),
            before: None,
            // On every other host somebody runs a server already.
            server: (seed % 2 == 1).then(|| process(9, -1000)),
            next_pid: 10,
            edits: 0,
            originals: BTreeMap::new(),
        };
        let engine = engine_of(&host, &bundles, seed, 0);
        let mut world = Self {
            seed,
            random: Random(seed),
            now: 0,
            host,
            engine,
            coming: VecDeque::new(),
            bundles,
            desired,
            connected: false,
            faults: true,
            highest: Generation(0),
            commands: 0,
        };
        let actions = world.engine.start(Instant(0), Timestamp(0));
        world.perform(actions);
        world
    }

    fn fail(&self, why: &str) -> ! {
        panic!("seed {}: {why} at {} ms: {:#?}", self.seed, self.now, self.engine.observed());
    }

    fn soon(&mut self, event: Event) {
        let delay = 1 + self.random.below(if self.faults { 3000 } else { 200 });
        self.coming.push_back((self.now + delay, event));
    }

    fn perform(&mut self, actions: Vec<Action>) {
        let mut journal_failed = false;
        let has = |is: fn(&Action) -> bool| actions.iter().any(is);
        let switch_dropped = has(|action| matches!(action, Action::Switch { .. }));
        let journal = actions.iter().position(|action| matches!(action, Action::Journal(_)));
        let launch = actions.iter().position(|action| matches!(action, Action::Launch(_)));
        let launch_dropped = journal < launch && journal.is_some();
        for action in actions {
            if journal_failed && action.waits_for_journal() {
                continue;
            }
            if let Action::Journal(memory) = action {
                if self.faults && self.random.percent(2) {
                    journal_failed = true;
                } else {
                    self.host.journal = *memory;
                }
                continue;
            }
            self.check(&action);
            self.perform_one(action);
        }
        if journal_failed {
            // Told at once, before any other event.
            self.handle(Event::JournalFailed { detail: "no space".into(), switch_dropped, launch_dropped });
        }
    }

    /// The promises.
    fn check(&mut self, action: &Action) {
        let journal = &self.host.journal;
        match action {
            Action::Ack { generation, stage, refusal: None } => {
                let attempt = journal.attempted.as_ref().filter(|a| a.target.generation == *generation);
                let durable = match stage {
                    Stage::Received => {
                        journal.assignment.as_ref().is_some_and(|a| a.applied.generation == *generation)
                    }
                    // A newer assignment may have taken over in the same breath.
                    _ => {
                        attempt.is_some_and(|attempt| *stage <= attempt.stage)
                            || journal.attempted.as_ref().is_some_and(|a| *generation < a.target.generation)
                    }
                };
                if !durable {
                    self.fail(&format!("{generation} {stage:?} is told before it is durable"));
                }
                if *stage == Stage::Written
                    && self.host.files.map(|f| f.map(|f| f.generation)) != Ok(Some(*generation))
                    && attempt.is_some_and(|a| {
                        self.host.files.map(|f| f.map(|f| f.bundle)) != Ok(Some(a.target.bundle))
                    })
                {
                    self.fail("told as written, but other files are in force");
                }
            }
            Action::Switch { target, .. } if journal.switching.map(|to| to.applied) != Some(*target) => {
                self.fail("a switch without its intent in the journal");
            }
            Action::Report(observed) => {
                let newest = observed.desired.map_or(Generation(0), |desired| desired.generation);
                if newest < self.highest {
                    self.fail("a generation went backwards");
                }
                self.highest = newest;
            }
            Action::Stop(_) | Action::Kill(_) if journal.assignment.is_none() => {
                self.fail("a server is stopped although nothing is desired");
            }
            _ => {}
        }
    }

    fn perform_one(&mut self, action: Action) {
        let bad = |share: u64, world: &mut Self| world.faults && world.random.percent(share);
        let io = || Failure { reason: RefusalReason::IoFailed, detail: "failed".into() };
        match action {
            Action::Obtain { target, .. } => {
                let bundle = self.bundles.iter().find(|bundle| content_of(bundle) == target.content).cloned();
                let content = target.content;
                match bundle {
                    Some(bundle) if !bad(5, self) => self.soon(Event::Obtained { content, bundle }),
                    _ => {
                        let failure =
                            Failure { reason: RefusalReason::ContentUnavailable, detail: "gone".into() };
                        self.soon(Event::ObtainFailed { content, failure });
                    }
                }
            }
            Action::Stage { target, .. } if bad(5, self) => {
                self.soon(Event::StageFailed { target, failure: io() });
            }
            Action::Stage { target, keep, .. } => {
                let original = self.keep(target, &keep);
                self.soon(Event::Staged {
                    target,
                    facts: StagedFacts { original, ..StagedFacts::default() },
                });
            }
            Action::Switch { target, .. } => self.switch(target),
            Action::Recover { target, .. } if bad(5, self) => {
                self.soon(Event::Recovered { target, state: Recovery::Stuck(io()) });
            }
            Action::Recover { target, way } => {
                let state = self.recover(target, way);
                self.soon(Event::Recovered { target, state });
            }
            Action::Look { .. } => {
                let found = self.host.server.iter().cloned().collect();
                self.soon(Event::Found(found));
            }
            Action::Keep(contents) => self.drop_unneeded(&contents),
            Action::Launch(_) => self.launch(),
            Action::Adopt { process, .. } => {
                let gone = self.host.server.as_ref() != Some(&process);
                gone.then(|| self.soon(Event::Exited { process, how: "gone".into() }));
            }
            Action::Stop(process) => {
                let obeyed = !bad(10, self);
                obeyed.then(|| self.end_server(&process, "stopped"));
            }
            Action::Kill(process) => self.end_server(&process, "killed"),
            Action::Probe { process, .. } => {
                let up = self.host.server.as_ref() == Some(&process);
                if up {
                    self.soon(Event::Logged(LogSign::Ready));
                }
                let answer =
                    if up && !bad(5, self) { Answer::Passed } else { Answer::Failed("refused".into()) };
                self.soon(Event::Probed(round(&answer)));
            }
            _ => {}
        }
    }

    fn switch(&mut self, target: Applied) {
        let edited_since_staged = self.host.is_theirs() && !self.host.keeps_original();
        let fails = edited_since_staged || self.faults && self.random.percent(5);
        let undone = edited_since_staged || self.random.percent(80);
        if !fails || !undone {
            // Half done until its outcome; a crash before that leaves it so.
            self.half_switch(target);
        }
        let failure = Failure { reason: RefusalReason::IoFailed, detail: "failed".into() };
        self.soon(if fails {
            Event::SwitchFailed { target, undone, failure }
        } else {
            Event::Switched { target }
        });
    }

    fn drop_unneeded(&mut self, contents: &[Digest]) {
        let named = self.host.journal.contents();
        self.host.originals.retain(|key, _| contents.contains(key) || named.contains(key));
    }

    fn keep(&mut self, target: Applied, keep: &Keeping) -> Option<TakenOriginal> {
        match keep {
            Keeping::Nothing | Keeping::Added { .. } => None,
            Keeping::All { .. } => {
                if !self.host.is_theirs() {
                    self.fail("what Convoy wrote is kept as what a person had written");
                }
                let bundle = found(&self.host.written_by_hand(), target.generation);
                let content = content_of(&bundle);
                self.host.originals.insert(content, Arc::clone(&bundle));
                Some(TakenOriginal { content, bundle })
            }
        }
    }

    fn half_switch(&mut self, target: Applied) {
        self.host.before = self.host.files.ok();
        self.host.files = Err(target);
    }

    /// What lies beside the files of an interrupted switch leads to either side, unless it is gone.
    fn recover(&mut self, target: Applied, way: Way) -> Recovery {
        let lost = self.faults && self.random.percent(5);
        let back = way == Way::Back && !self.random.percent(10);
        match (self.host.files, self.host.before) {
            (Ok(files), _) if files == Some(target) => Recovery::New,
            (Ok(_), _) => Recovery::Old,
            (Err(half), before) if lost || half != target || back && before.is_none() => Recovery::Lost,
            (Err(_), Some(before)) if back => {
                self.host.files = Ok(before);
                Recovery::Old
            }
            (Err(_), _) => {
                self.host.files = Ok(Some(target));
                Recovery::New
            }
        }
    }

    fn launch(&mut self) {
        if let Some(there) = self.host.server.clone() {
            return self.soon(Event::Found(vec![there]));
        }
        if self.host.files.is_err() {
            self.fail("a server is started on a mix of files");
        }
        self.host.next_pid += 1;
        let started = process(self.host.next_pid, i64::try_from(self.now).unwrap());
        self.host.server = Some(started.clone());
        self.soon(Event::Launched(started.clone()));
        let bad = self.bundles[3].digest();
        let unstartable = self.host.files.is_ok_and(|files| files.is_some_and(|files| files.bundle == bad));
        if unstartable || self.faults && self.random.percent(10) {
            self.host.server = None;
            let (at, _) = *self.coming.back().as_ref().map(|(at, e)| Box::new((*at, e))).unwrap();
            self.coming.push_back((at + 1, Event::Exited { process: started, how: "ended".into() }));
        }
    }

    fn end_server(&mut self, process: &ProcessIdentity, how: &str) {
        if self.host.server.as_ref() == Some(process) {
            self.host.server = None;
            self.soon(Event::Exited { process: process.clone(), how: how.into() });
            // One task tells of one server: its start before its end.
            let launched = |event: &Event| matches!(event, Event::Launched(of) if of == process);
            let after = self.coming.iter().find(|(_, event)| launched(event)).map(|(at, _)| at + 1);
            if let (Some(after), Some((at, _))) = (after, self.coming.back_mut()) {
                *at = (*at).max(after);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        if let Event::Switched { target } = &event
            && self.host.files == Err(*target)
        {
            self.host.files = Ok(Some(*target));
        }
        let wall = Timestamp(i64::try_from(self.now).unwrap());
        let actions = self.engine.handle(Instant(self.now), wall, event);
        self.perform(actions);
        if !self.host.is_theirs() && !self.host.keeps_original() {
            self.fail("what a person had written is gone");
        }
    }

    fn ask_for_original(&mut self) {
        self.commands += 1;
        let command = Command::RestoreOriginal { why: "as it was".into() };
        self.handle(Event::Commanded { id: self.commands, command });
    }

    fn crash_agent(&mut self) {
        // Outcomes on their way are lost; a switch may have been half done, done, or not begun.
        if let Err(target) = self.host.files
            && self.random.percent(30)
        {
            self.host.files = Ok(Some(target));
        }
        self.coming.clear();
        self.connected = false;
        self.engine = engine_of(&self.host, &self.bundles, self.seed, self.now);
        let wall = Timestamp(i64::try_from(self.now).unwrap());
        let actions = self.engine.start(Instant(self.now), wall);
        self.perform(actions);
    }

    fn disturb(&mut self) {
        match self.random.below(100) {
            0..4 => self.crash_agent(),
            4..10 => {
                if let Some(server) = self.host.server.clone() {
                    self.end_server(&server, "crashed");
                }
            }
            10..18 => {
                let bundle = self.bundles[usize::try_from(self.random.below(4)).unwrap()].clone();
                let run = if self.random.percent(15) { RunState::Stopped } else { RunState::Running };
                let next = self.desired.applied.generation.next().0;
                self.desired = assignment(next, &bundle, run);
                if self.connected {
                    self.assign();
                }
            }
            18..24 => {
                self.connected = !self.connected;
                let event = if self.connected { Event::Connected } else { Event::Disconnected };
                self.handle(event);
                if self.connected {
                    self.assign();
                }
            }
            24..26 => {
                // A message of long ago.
                let old = assignment(0, &self.bundles[2].clone(), RunState::Stopped);
                self.handle(Event::Assigned { epoch: EPOCH, assignment: old });
            }
            26..30 => self.ask_for_original(),
            // A person edits what is still a person's.
            30..34 if self.host.is_theirs() => self.host.edits += 1,
            _ => {}
        }
    }

    fn assign(&mut self) {
        let assignment = self.desired.clone();
        self.handle(Event::Assigned { epoch: EPOCH, assignment });
    }

    /// Moves to the next outcome or deadline.
    fn step(&mut self) {
        let due = self.engine.next_deadline().map(|at| at.0.max(self.now + 1));
        let index = (0..self.coming.len()).min_by_key(|&index| self.coming[index].0);
        let arrives = index.map(|index| self.coming[index].0);
        match (index, arrives, due) {
            (Some(index), Some(at), due) if due.is_none_or(|due| at <= due) => {
                self.now = self.now.max(at);
                if let Some((_, event)) = self.coming.remove(index) {
                    self.handle(event);
                }
            }
            (_, _, Some(due)) => {
                self.now = due;
                self.handle(Event::Timer);
            }
            _ => self.now += 1000,
        }
    }

    /// Faults stop: the desired state must come about.
    fn converge(&mut self) {
        self.faults = false;
        // Failures that are on their way still arrive; an assignment after them meets none.
        let calm = self.now + 20_000;
        while self.now < calm {
            self.step();
        }
        let good = self.bundles[2].clone();
        let next = self.desired.applied.generation.next().0;
        self.desired = assignment(next, &good, RunState::Running);
        if !self.connected {
            self.connected = true;
            self.handle(Event::Connected);
        }
        self.assign();
        for _ in 0..4000 {
            self.step();
            let observed = self.engine.observed();
            if observed.service == ServiceState::Running
                && observed.health == Verdict::Healthy
                && observed.running == Some(self.desired.applied)
                && self.host.journal.last_good == Some(placed(&self.desired))
                && self.host.files.is_ok_and(|f| f.map(|f| f.bundle) == Some(self.desired.applied.bundle))
            {
                return;
            }
        }
        let journal = &self.host.journal;
        self.fail(&format!(
            "it does not become {:?}: phase {:?}, service {:?}, files {:?}, server {:?}, good {:?}",
            self.desired.applied,
            self.engine.phase,
            self.engine.service,
            self.host.files,
            self.host.server,
            journal.last_good
        ));
    }

    /// An operator asks for what a person had written: it comes back, and nothing undoes it.
    fn go_back(&mut self) {
        self.ask_for_original();
        for step in 0..300 {
            if step == 150 {
                // Said again, as after a reconnect.
                self.assign();
            }
            self.step();
        }
        let original = found(&self.host.written_by_hand(), Generation(0)).files.clone();
        let files = self.host.files.ok().flatten().and_then(|files| {
            self.host.originals.values().find(|kept| kept.digest() == files.bundle).cloned()
        });
        if files.is_none_or(|kept| kept.files != original) {
            self.fail(&format!("what a person had written does not come back: {:?}", self.host.files));
        }
        let observed = self.engine.observed();
        if !observed.is_on_original() || observed.service != ServiceState::Running {
            self.fail("the original is in force, and its server does not run");
        }
    }
}

#[test]
fn whatever_happens_promises_hold_and_the_desired_state_comes_about() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..150 {
            world.disturb();
            world.step();
        }
        world.converge();
        world.go_back();
    }
}
