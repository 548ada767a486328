//! The product's own writers, people, assignments and the agent's looks in random order: nobody's edit but a person's
//! is called one, what the product wrote survives, and in the end there is quiet.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{EPOCH, assignment, bundle, content_of, limits, path};
use crate::{
    bundle::{Applied, Bundle, RunState},
    drift::Found,
    ids::Digest,
    node::{Action, Engine, Event, Extent, Memory, StagedFacts},
    observed::{Drift, DriftKind},
    spec::canonical,
    time::{Instant, Timestamp},
};

const RUNS: u64 = 1_000;
const TEMPLATE: &str = "[server]\nhostname = \"template\"\n";

struct World {
    seed: u64,
    state: u64,
    second: u64,
    engine: Engine,
    /// Text by bundle.
    texts: BTreeMap<Digest, String>,
    declared: String,
    disk: Option<String>,
    /// A person's change is on the disk, or the agent has seen one and not answered yet.
    edited: bool,
    generation: u64,
    ciphers: u64,
    key: Option<String>,
    restores: u32,
    /// What was seen last is half of a write.
    half: bool,
    log: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let engine = Engine::new(limits(), Memory::default(), BTreeMap::new(), seed, Timestamp(0));
        let mut world = Self {
            seed,
            state: seed,
            second: 0,
            engine,
            texts: BTreeMap::new(),
            declared: String::new(),
            disk: None,
            edited: false,
            generation: 0,
            ciphers: 0,
            key: None,
            restores: 0,
            half: false,
            log: Vec::new(),
        };
        world.apply();
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn fail(&self, why: &str) -> ! {
        panic!("seed {}: {why}\n{}\ndisk: {:?}", self.seed, self.log.join("\n"), self.disk);
    }

    fn handle(&mut self, event: Event) {
        let wall = Timestamp(i64::try_from(self.second * 1000).unwrap());
        let actions = self.engine.handle(Instant(self.second * 1000), wall, event);
        for action in actions {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Obtain { target, .. } => {
                let bundle = self.bundle();
                self.handle(Event::Obtained { content: target.content, bundle });
            }
            Action::Stage { target, .. } => {
                self.handle(Event::Staged { target, facts: StagedFacts::default() });
            }
            Action::Look { .. } => self.handle(Event::Found(Vec::new())),
            Action::Switch { target, bundle } => {
                let declared = self.texts[&content_of(&bundle)].clone();
                let before = self.declared.clone();
                self.write(&declared, &before);
                self.declared = declared;
                self.handle(Event::Switched { target });
            }
            Action::Watch { target, .. } => self.scan(target),
            // The other half has been written meanwhile.
            Action::Restore { path, as_seen: true, .. } if std::mem::take(&mut self.half) => {
                let edited = self.edited;
                self.handle(Event::RestoreOvertaken { path });
                let now = Timestamp(i64::try_from(self.second * 1000).unwrap());
                let drifts = self.engine.observed().drift;
                let is_new = |drift: &Drift| drift.at == now && drift.kind == DriftKind::Edited;
                if !edited && drifts.iter().any(is_new) {
                    self.fail("half of a write is called a person's edit");
                }
            }
            Action::Scan(Extent::Hinted) => self.look(),
            Action::Restore { path, .. } => {
                self.restores += 1;
                let declared = self.declared.clone();
                self.write(&declared, &declared);
                self.handle(Event::Restored { path, took: std::time::Duration::from_millis(5) });
            }
            _ => {}
        }
    }

    fn owned() -> Vec<String> {
        vec!["encryption.key".to_owned(), "secrets.*".to_owned()]
    }

    fn write(&mut self, declared: &str, before: &str) {
        let disk = self.disk.clone().unwrap_or_default();
        self.disk = Some(canonical::carry_owned(declared, &disk, Some(before), &Self::owned()));
        self.edited = false;
    }

    fn text(&mut self) -> String {
        let (value, secret) = (self.below(3), self.below(2));
        format!("[server]\nhostname = \"h{value}\"\n[secrets]\ndb = \"[plain{secret}]\"\n")
    }

    fn bundle(&self) -> Arc<Bundle> {
        Arc::new(with_owned(&self.texts[&content_of_text(&self.texts, self.generation)]))
    }

    fn apply(&mut self) {
        let text = self.text();
        self.generation += 1;
        let bundle = with_owned(&text);
        self.texts.insert(content_of(&bundle), text.clone());
        self.texts.insert(generation_key(self.generation), text);
        let assignment = assignment(self.generation, &bundle, RunState::Stopped);
        self.handle(Event::Assigned { epoch: EPOCH, assignment });
    }

    /// Somebody truncates the file and has not written yet.
    fn glance(&mut self) {
        let target = self.engine.memory().written.unwrap().applied;
        let found = Found::Content { texts: Some((self.declared.clone(), String::new())) };
        let file = path("deployment.toml");
        self.half = true;
        let found = BTreeMap::from([(file.clone(), found)]);
        self.handle(Event::Scanned { target, looked: BTreeSet::from([file]), found });
        self.half = false;
    }

    fn scan(&mut self, target: Applied) {
        let found = match &self.disk {
            None => Some(Found::Missing),
            Some(disk) if is_template(disk) => Some(Found::Replaced { detail: "profile setup".into() }),
            Some(disk) if *disk != self.declared => {
                Some(Found::Content { texts: Some((self.declared.clone(), disk.clone())) })
            }
            Some(_) => None,
        };
        let file = path("deployment.toml");
        let before = self.edits();
        let edited = self.edited;
        let found = found.map(|found| (file.clone(), found)).into_iter().collect();
        self.handle(Event::Scanned { target, looked: BTreeSet::from([file]), found });
        if !edited && before < self.edits() {
            self.fail("the product's own writing is called a person's edit");
        }
    }

    /// How often a person's edit was told.
    fn edits(&self) -> usize {
        let memory = self.engine.memory();
        let is_edit = |kind: &str| ["edited", "deleted"].contains(&kind);
        let told = memory.notices.iter().filter(|notice| notice.kind.as_str().starts_with("drift-"));
        told.filter(|notice| notice.fields.get("kind").is_some_and(|kind| is_edit(kind))).count()
    }

    fn look(&mut self) {
        let target = self.engine.memory().written.unwrap().applied;
        self.scan(target);
    }

    fn step(&mut self) {
        self.second += 1 + self.below(200);
        let what = self.below(9);
        self.log.push(format!("{what} on {:?}", self.disk));
        match (what, self.disk.clone()) {
            (0, Some(disk)) if !disk.contains("[encryption]") => {
                let key = format!("k{}", self.below(1000));
                self.disk = Some(format!("{disk}\n[encryption]\nkey = \"{key}\"\n"));
                self.key = Some(key);
            }
            (1, Some(disk)) => {
                // In place: every plain secret becomes a cipher of its own.
                self.ciphers += 1;
                let cipher = format!("\"c{}\"", self.ciphers);
                self.disk = Some(disk.replace("\"[plain0]\"", &cipher).replace("\"[plain1]\"", &cipher));
            }
            (2, Some(disk)) if !disk.contains("hand") => {
                self.disk = Some(disk.replace("hostname = \"h", "hostname = \"hand"));
                self.edited = self.disk.as_ref() != Some(&disk);
            }
            (3, Some(_)) => {
                self.disk = None;
                self.edited = true;
                self.key = None;
            }
            (4, Some(_)) => {
                self.disk = Some(TEMPLATE.to_owned());
                self.edited = false;
                self.key = None;
            }
            (5, _) => self.apply(),
            (6, Some(_)) => self.glance(),
            _ => self.look(),
        }
    }

    fn settle(&mut self) {
        // The first look may restore, and the second is the first to see what the product keeps in the result.
        for _ in 0..2 {
            self.second += 10_000;
            self.look();
        }
        let before = self.restores;
        let total = self.engine.observed().drift_total;
        for _ in 0..3 {
            self.second += 600;
            self.look();
        }
        if self.restores != before || self.engine.observed().drift_total != total {
            self.fail("it does not come to rest");
        }
        let disk = self.disk.clone().unwrap_or_default();
        let flat = |text: &str| canonical::flatten(text).unwrap();
        let differing = canonical::differing_keys(&flat(&self.declared), &flat(&disk), &Self::owned());
        if !differing.is_empty() {
            self.fail("what is declared is not in force");
        }
        if self.key.as_ref().is_some_and(|key| !disk.contains(key)) {
            self.fail("the generated key is lost");
        }
    }
}

fn with_owned(text: &str) -> Bundle {
    let mut bundle = (*bundle(text, "x")).clone();
    bundle.service.owned_keys = World::owned();
    bundle
}

/// The key generator may have written into it.
fn is_template(disk: &str) -> bool {
    let flat = |text: &str| canonical::flatten(text).unwrap();
    canonical::differing_keys(&flat(TEMPLATE), &flat(disk), &World::owned()).is_empty()
}

fn generation_key(generation: u64) -> Digest {
    Digest::of(&generation.to_be_bytes())
}

fn content_of_text(texts: &BTreeMap<Digest, String>, generation: u64) -> Digest {
    let key = generation_key(generation);
    assert!(texts.contains_key(&key), "every generation has its text");
    key
}

#[test]
fn writers_of_the_product_people_and_assignments_in_any_order_come_to_rest() {
    for seed in 0..RUNS {
        let mut world = World::new(seed);
        for _ in 0..30 {
            world.step();
        }
        world.settle();
    }
}
