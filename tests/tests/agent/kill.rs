//! The real agent, killed by SIGKILL at every step of an apply and at random instants: after the next start the node
//! holds exactly the old or exactly the new files, reaches the desired ones, and its journal reads.
//!
//! `CONVOY_SEED` repeats a run. Steps are those of `agent::step`, which only programs with debug assertions count.
#![allow(clippy::print_stdout, reason = "helpers of tests speak like tests")]

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::asked;
use fleet::{bundle::Applied, node::Memory};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    disk::{Disk, Files},
    rig::{CONFIG, LOGGING},
};

/// All kills together in the test command; `CONVOY_KILLS` asks for more.
const ROUNDS: u64 = 200;
/// A file that every second bundle has, in a directory of its own.
const GUEST: &str = "repository/conf/convoy/guest/new.properties";
const BINARY: &str = "repository/resources/security/test-store.p12";

/// When the agent of a round dies.
#[derive(Debug, Clone, Copy)]
enum Kill {
    /// Before its n-th step.
    Step(u64),
    /// The same, and the next agent before its m-th: in the middle of making good.
    Steps(u64, u64),
    /// After so long.
    After(Duration),
}

struct Torture {
    disk: Disk,
    random: StdRng,
    /// What is in force, and which files should not be there.
    old: (Files, BTreeSet<String>),
    round: u64,
    seed: u64,
    /// How rounds ended: with the old files, with the new ones, after a mix.
    ended: (u64, u64, u64),
    longest: Duration,
}

#[tokio::test]
async fn killed_at_every_step_and_at_random_instants_a_node_is_old_or_new() -> Result<()> {
    let seed = asked("CONVOY_SEED").unwrap_or_else(|| rand::rng().random());
    println!("CONVOY_SEED={seed}");
    let mut torture = Torture::begin(seed).await?;
    let begun = Instant::now();
    let mut steps = Vec::new();
    // Once into a home that lacks a file, once into one that has all.
    for _ in 0..2 {
        let mut step = 0;
        loop {
            step += 1;
            if !torture.round(Kill::Step(step)).await? {
                break;
            }
        }
        steps.push(step - 1);
    }
    ensure!(steps.iter().all(|count| 40 < *count), "only {steps:?} steps: are they still announced?");
    let every = torture.round;
    let rounds = asked("CONVOY_KILLS").unwrap_or(ROUNDS);
    while torture.round < rounds {
        let most = steps[0];
        let kill = match torture.random.random_range(0..3) {
            0 => Kill::Steps(torture.random.random_range(1..most), torture.random.random_range(1..most)),
            _ => Kill::After(torture.longest.mul_f64(torture.random.random_range(0.0..1.0))),
        };
        torture.round(kill).await?;
    }
    let (old, new, mixed) = torture.ended;
    println!(
        "{} rounds in {:.1} s: every one of {steps:?} steps in {every} rounds; the kill left the old files {old} times, \
         the new {new} times, a mix {mixed} times",
        torture.round,
        begun.elapsed().as_secs_f64()
    );
    ensure!(0 < old && 0 < new && 0 < mixed, "kills hit only one side");
    Ok(())
}

impl Torture {
    async fn begin(seed: u64) -> Result<Self> {
        let mut disk = Disk::open().await?;
        let mut random = StdRng::seed_from_u64(seed);
        let first = files(&mut random, false);
        let target = disk.desire(&first)?;
        let begun = Instant::now();
        disk.reach(target).await?;
        let longest = begun.elapsed();
        disk.agent().kill().await?;
        let old = (first, BTreeSet::from([GUEST.to_owned()]));
        Ok(Self { disk, random, old, round: 0, seed, ended: (0, 0, 0), longest })
    }

    /// One apply that is killed; whether the kill came before its end.
    async fn round(&mut self, kill: Kill) -> Result<bool> {
        self.round += 1;
        let what = format!("CONVOY_SEED={} round {} {kill:?}", self.seed, self.round);
        self.try_round(kill).await.with_context(|| format!("{what}\n{}", self.disk.rig.agent.log()))
    }

    async fn try_round(&mut self, kill: Kill) -> Result<bool> {
        let with_guest = !self.old.0.contains_key(GUEST);
        let new = files(&mut self.random, with_guest);
        let absent = if with_guest { BTreeSet::new() } else { BTreeSet::from([GUEST.to_owned()]) };
        let target = self.disk.desire(&new)?;
        let killed = self.run_and_kill(kill, target).await?;
        let memory = self.disk.memory()?;
        self.judge(&memory, (&new, target)).await?;
        self.disk.reach(target).await?;
        // A file that left the bundle stays; the next round wants it gone.
        if !with_guest {
            std::fs::remove_dir_all(self.disk.home().join(GUEST).parent().context("a directory")?).ok();
        }
        self.disk.holds_exactly(&new, &absent)?;
        let left = self.disk.leftovers();
        ensure!(left.is_empty(), "left beside the files: {left:?}");
        let unfinished = self.disk.unfinished();
        ensure!(unfinished.len() < 3, "half-written files of its own gather: {unfinished:?}");
        self.disk.agent().kill().await?;
        self.old = (new, absent);
        Ok(killed)
    }

    /// Whether it was killed before the apply was over.
    async fn run_and_kill(&mut self, kill: Kill, target: Applied) -> Result<bool> {
        match kill {
            Kill::Step(step) => self.die_at(step, target).await,
            Kill::Steps(first, second) => {
                let killed = self.die_at(first, target).await?;
                self.die_at(second, target).await?;
                Ok(killed)
            }
            Kill::After(time) => {
                self.disk.agent().start()?;
                sleep(time).await;
                self.disk.agent().kill().await?;
                Ok(!is_over(&self.disk.memory()?, target))
            }
        }
    }

    async fn die_at(&mut self, step: u64, target: Applied) -> Result<bool> {
        let wish = format!("kill:{step}");
        self.disk.agent().start_with(&[("CONVOY_STEP", &wish)])?;
        let deadline = Instant::now() + convoy_tests::harness::LIMIT;
        loop {
            let mut daemon = self.disk.agent().daemon.take().context("it was started")?;
            let ended = timeout(Duration::from_millis(2), daemon.wait()).await;
            if let Ok(status) = ended {
                let status = status?;
                use std::os::unix::process::ExitStatusExt as _;
                ensure!(status.signal() == Some(9), "it ended with {status}");
                return Ok(true);
            }
            self.disk.agent().daemon = Some(daemon);
            if is_over(&self.disk.memory()?, target) {
                self.disk.agent().kill().await?;
                return Ok(false);
            }
            ensure!(Instant::now() < deadline, "neither killed nor done");
        }
    }

    /// The journal reads. Unless it says that a switch is under way the files are exactly those that it names;
    /// otherwise the next agent makes them so before it stages anything, which it is kept from here.
    async fn judge(&mut self, memory: &Memory, (new, target): (&Files, Applied)) -> Result<()> {
        let mut memory = memory.clone();
        if memory.switching.is_some() {
            let mixed = !self.disk.differences(&self.old.0, &self.old.1).is_empty()
                && !self.disk.differences(new, &BTreeSet::new()).is_empty();
            self.ended.2 += u64::from(mixed);
            self.disk.hide(new)?;
            self.disk.agent().start()?;
            memory = self.disk.until("the switch to be over", |memory| memory.switching.is_none()).await?;
            self.disk.agent().kill().await?;
            self.disk.unhide(new)?;
            ensure!(memory.written.is_some(), "files are in force");
        }
        let is_new = memory.written.is_some_and(|placed| placed.applied == target);
        if is_new {
            self.ended.1 += 1;
            self.disk.holds_exactly(new, &BTreeSet::new()).context("the journal says the new files")
        } else {
            self.ended.0 += 1;
            self.disk.holds_exactly(&self.old.0, &self.old.1).context("the journal says the old files")
        }
    }
}

fn is_over(memory: &Memory, target: Applied) -> bool {
    memory.switching.is_none()
        && memory.written.is_some_and(|placed| placed.applied == target)
        && memory.attempted.as_ref().is_some_and(|attempt| attempt.target == target && attempt.done)
}

/// Four files of which none is as before, and a fifth every second time.
fn files(random: &mut StdRng, with_guest: bool) -> Files {
    let mut files = Files::new();
    let stamp: u64 = random.random();
    files.insert(CONFIG.to_owned(), format!("[server]\nhostname = \"h{stamp}\"\n").into_bytes());
    files.insert(LOGGING.to_owned(), format!("stamp = {stamp}\n").into_bytes());
    files.insert("repository/conf/convoy/deep.properties".to_owned(), format!("{stamp}").into_bytes());
    let mut bytes = vec![0_u8; 20_000];
    random.fill(bytes.as_mut_slice());
    files.insert(BINARY.to_owned(), bytes);
    if with_guest {
        files.insert(GUEST.to_owned(), format!("guest = {stamp}\n").into_bytes());
    }
    files
}
