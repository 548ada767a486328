//! What a person had written before the first apply: kept by the real agent before its first write, put back after a
//! first apply that fails, put back when an operator asks, and recoverable whenever the agent is killed.
#![allow(clippy::print_stdout, reason = "helpers of tests speak like tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::Path,
    time::Duration,
};

use agent::{cache::Cache, journal::Journal};
use anyhow::{Context as _, Result, bail, ensure};
use convoy_tests::asked;
use fleet::{
    bundle::{Applied, OwnerIds, RestartClass, RunState},
    ids::{Digest, Generation},
    node::{Command, Memory},
    observed::{Observed, RefusalReason, ServiceState, Verdict},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    adoption::start_by_hand,
    disk::{Disk, Files},
    rig::{CONFIG, LOGGING, Rig, Wanted, node},
    supervision,
};

/// Kills in the test command; `CONVOY_ORIGINAL_KILLS` asks for more.
const KILLS: u64 = 100;
const NEW_DIR: &str = "repository/conf/convoy/new.properties";
const SCRIPT: &str = "repository/components/lib/extra.sh";

/// A file as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lying {
    content: Vec<u8>,
    mode: u32,
    owner: OwnerIds,
}

type Standing = BTreeMap<String, Option<Lying>>;

fn standing(home: &Path, paths: &[&str]) -> Standing {
    let look = |path: &&str| {
        let target = home.join(path);
        let metadata = fs::metadata(&target).ok()?;
        let owner = OwnerIds { uid: metadata.uid(), gid: metadata.gid() };
        Some(Lying { content: fs::read(&target).ok()?, mode: metadata.mode() & 0o7777, owner })
    };
    paths.iter().map(|path| ((*path).to_owned(), look(path))).collect()
}

/// Only root can give files to somebody else; without that, the owners that tests compare are all the same.
fn give_away(home: &Path, path: &str, to: u32) -> Result<()> {
    let target = home.join(path);
    if fs::metadata(&target)?.uid() == 0 {
        chown(&target, Some(to), Some(to + 1))?;
    }
    Ok(())
}

fn write(home: &Path, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let target = home.join(path);
    fs::create_dir_all(target.parent().context("a parent")?)?;
    fs::write(&target, content)?;
    fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// Files of which one is new, one replaces another, and deployment.toml loses what a person had written.
fn apart(rig: &Rig) -> Wanted {
    let wanted = rig.wanted().with_config("\n[x]\ny = 1\n");
    wanted.with_file(NEW_DIR, "new = true\n", RestartClass::None).with_file(
        SCRIPT,
        "echo ours\n",
        RestartClass::None,
    )
}

const PATHS: [&str; 4] = [CONFIG, LOGGING, NEW_DIR, SCRIPT];

/// What a person left on the host: more keys than the fleet declares, modes of their own.
fn write_by_hand(rig: &Rig) -> Result<Standing> {
    let config = rig.read(CONFIG) + "\n# by hand\n[by_hand]\nkey = \"theirs\"\n";
    write(&rig.pack.home, CONFIG, config.as_bytes(), 0o604)?;
    write(&rig.pack.home, SCRIPT, b"echo theirs\n", 0o755)?;
    give_away(&rig.pack.home, SCRIPT, 4711)?;
    give_away(&rig.pack.home, LOGGING, 4713)?;
    let found = standing(&rig.pack.home, &PATHS);
    ensure!(found[NEW_DIR].is_none() && found[SCRIPT].is_some(), "{found:?}");
    Ok(found)
}

/// The same with a key that no server starts with.
fn poisoned(rig: &Rig) -> Result<Wanted> {
    let sick = convoy_tests::standin::Misbehaviour {
        start_fails_if_toml_contains: Some("poison".to_owned()),
        ..Default::default()
    };
    rig.pack.misbehave(&sick)?;
    Ok(apart(rig).with_config("\n[poison]\nkey = 1\n"))
}

fn up(observed: &Observed) -> bool {
    observed.service == ServiceState::Running && observed.health == Verdict::Healthy
}

#[tokio::test]
async fn a_first_apply_that_fails_goes_back_to_the_original_and_starts_its_server_again() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let bad = poisoned(&rig)?;
    let before = write_by_hand(&rig)?;
    let _child = start_by_hand(&rig).await?;
    rig.assign(&bad, RunState::Running).await?;
    let observed = rig
        .until("the original to be in force again, and its server up", |observed| {
            observed.is_on_original() && up(observed)
        })
        .await?;
    let failure = observed.attempted.and_then(|attempt| attempt.failure).context("the apply failed")?;
    assert_eq!(failure.reason, RefusalReason::StartFailed);
    assert_eq!(standing(&rig.pack.home, &PATHS), before, "byte for byte, and what was not there is gone");
    let original = observed.original.context("the node says what it keeps")?;
    assert_eq!((original.before, original.files), (Generation(1), PATHS.len()));
    Ok(())
}

#[tokio::test]
async fn a_home_whose_server_never_ran_goes_back_without_starting_one() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let bad = poisoned(&rig)?;
    let before = write_by_hand(&rig)?;
    rig.assign(&bad, RunState::Running).await?;
    let observed = rig.until("the original to be in force", Observed::is_on_original).await?;
    assert_eq!(observed.service, ServiceState::Stopped);
    assert_eq!(standing(&rig.pack.home, &PATHS), before);
    Ok(())
}

#[tokio::test]
async fn an_operator_gets_the_original_back_and_nothing_but_a_newer_apply_undoes_that() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = apart(&rig);
    let before = write_by_hand(&rig)?;
    let first = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(first).await?;
    // A file that only a later bundle replaces is kept as well.
    let late = "repository/conf/late.properties";
    write(&rig.pack.home, late, b"theirs = 1\n", 0o600)?;
    let with_late = wanted.with_file(late, "ours = 1\n", RestartClass::None);
    let second = rig.assign(&with_late, RunState::Running).await?;
    rig.ready(second).await?;

    let why = "it was better before".to_owned();
    let outcome = rig.coordinator.command(&node(), Command::RestoreOriginal { why }).await;
    assert!(format!("{outcome:?}").contains("Done"), "{outcome:?}");
    let back = |observed: &Observed| observed.is_on_original() && up(observed);
    rig.until("the original to be in force", back).await?;
    assert_eq!(standing(&rig.pack.home, &PATHS), before);
    assert_eq!(rig.read(late), "theirs = 1\n");
    // Directories stay, and so does whoever looks after the server.
    ensure!(rig.pack.home.join(NEW_DIR).parent().is_some_and(Path::is_dir), "a directory went");
    let served = rig.until("the original to serve", back).await?.process.context("a process")?;
    supervision::kill(served.pid);
    let restarted = |it: &Observed| back(it) && it.process.as_ref().is_some_and(|it| *it != served);
    rig.until("its server to be started again", restarted).await?;

    // Neither a reconnect nor an edit nor a restart of the agent brings the bundle back.
    write(&rig.pack.home, CONFIG, (rig.read(CONFIG) + "# and on\n").as_bytes(), 0o600)?;
    rig.agent.kill().await?;
    rig.agent.start()?;
    let observed = rig.until("the agent to be back", back).await?;
    assert_eq!(observed.drift, []);
    assert!(rig.read(CONFIG).ends_with("# and on\n"));
    let edited = standing(&rig.pack.home, &PATHS);

    // A newer apply keeps what lies there by then.
    let third = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(third).await?;
    let why = "again".to_owned();
    rig.coordinator.command(&node(), Command::RestoreOriginal { why }).await;
    let observed = rig.until("the original to be in force", back).await?;
    assert_eq!(standing(&rig.pack.home, &PATHS), edited);
    assert_eq!(observed.original.map(|original| original.before), Some(third));
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_replaced() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let wanted = apart(&rig);
    write(&rig.pack.home, SCRIPT, &vec![b'x'; (8 << 20) + 1], 0o644)?;
    let before = standing(&rig.pack.home, &PATHS);
    rig.assign(&wanted, RunState::Running).await?;
    let refused = |it: &Observed| it.attempted.as_ref().is_some_and(|it| it.failure.is_some());
    let seen = rig.until("a refusal", refused).await?;
    let failure = seen.attempted.and_then(|it| it.failure).context("a failure")?;
    let says = failure.reason == RefusalReason::TargetUnsafe && failure.detail.contains("cannot be kept");
    ensure!(says && failure.detail.contains(SCRIPT), "{failure:?}");
    ensure!(standing(&rig.pack.home, &PATHS) == before, "something was replaced");
    Ok(())
}

#[tokio::test]
async fn an_original_that_means_the_same_comes_back_without_a_restart() -> Result<()> {
    let mut rig = Rig::open("wso2is-7.2").await?;
    let mut wanted = rig.wanted();
    wanted.files.remove(LOGGING);
    let config = format!("# by hand\n\n{}", rig.read(CONFIG));
    write(&rig.pack.home, CONFIG, config.as_bytes(), 0o600)?;
    let _child = start_by_hand(&rig).await?;
    let first = rig.assign(&wanted, RunState::Running).await?;
    rig.ready(first).await?;
    assert_ne!(rig.read(CONFIG), config);
    rig.coordinator.command(&node(), Command::RestoreOriginal { why: "why".into() }).await;
    let observed = rig.until("the original to be in force", Observed::is_on_original).await?;
    assert_eq!(rig.read(CONFIG), config);
    rig.until("the server to have read it", |observed| observed.running == observed.written).await?;
    assert_eq!(observed.starts_total, 0, "neither the apply nor the way back restarted anything");
    Ok(())
}

/// When the agent dies.
#[derive(Debug, Clone, Copy)]
enum Kill {
    /// Before its n-th step of the first apply.
    Applying(u64),
    /// Before its n-th step of the way back.
    Returning(u64),
    /// So long after its start, in both.
    After(Duration),
}

/// Steps of a first apply and of the way back, then random instants: every second step, or every one if more kills are
/// asked for.
#[tokio::test]
async fn killed_during_a_first_apply_and_on_the_way_back_what_a_person_had_written_is_recoverable()
-> Result<()> {
    let seed = asked("CONVOY_SEED").unwrap_or_else(|| rand::rng().random());
    let (kills, stride) = asked("CONVOY_ORIGINAL_KILLS").map_or((KILLS, 2), |kills| (kills, 1));
    println!("CONVOY_SEED={seed}");
    let mut rounds = Rounds { disk: Disk::open().await?, random: StdRng::seed_from_u64(seed), done: 0 };
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for kill in [Kill::Applying as fn(u64) -> Kill, Kill::Returning] {
        let mut step = 1 + seed % stride;
        while rounds.round(kill(step)).await? {
            step += stride;
        }
        ensure!(20 < step, "only {step} steps: are they still announced?");
        longest = longest.max(begun.elapsed() / u32::try_from(rounds.done)?);
    }
    let steps = rounds.done;
    while rounds.done < kills {
        let time = longest.mul_f64(rounds.random.random_range(0.0..1.0));
        rounds.round(Kill::After(time)).await?;
    }
    println!(
        "{} kills in {:.1} s, {steps} of them each at a step of its own: the original was recoverable each time",
        rounds.done,
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

struct Rounds {
    disk: Disk,
    random: StdRng,
    done: u64,
}

impl Rounds {
    /// Whether the agent was killed before it was done.
    async fn round(&mut self, kill: Kill) -> Result<bool> {
        self.done += 1;
        let what = format!("round {} {kill:?}", self.done);
        self.try_round(kill).await.with_context(|| format!("{what}\n{}", self.disk.rig.agent.log()))
    }

    async fn try_round(&mut self, kill: Kill) -> Result<bool> {
        let theirs = self.begin()?;
        let stamp: u64 = self.random.random();
        let mut ours = Files::new();
        for path in PATHS {
            let text = if path == CONFIG {
                format!("[server]\nhostname = \"h{stamp}\"\n")
            } else {
                format!("stamp = {stamp}\n")
            };
            ours.insert(path.to_owned(), text.into_bytes());
        }
        let target = self.disk.desire(&ours)?;
        let is_applied = move |memory: &Memory| {
            memory.written.is_some_and(|placed| placed.applied == target)
                && memory.attempted.as_ref().is_some_and(|attempt| attempt.target == target && attempt.done)
        };
        let mut killed = false;
        match kill {
            Kill::Applying(step) => killed = self.die_at(step, is_applied).await?,
            Kill::After(time) => self.die_after(time).await?,
            Kill::Returning(_) => {}
        }
        self.check_recoverable(&theirs)?;
        self.disk.reach(target).await?;
        self.disk.agent().kill().await?;
        self.disk.holds_exactly(&ours, &BTreeSet::new())?;
        self.check_recoverable(&theirs)?;

        self.give_up(target)?;
        match kill {
            Kill::Returning(step) => killed = self.die_at(step, is_back).await?,
            Kill::After(time) => self.die_after(time).await?,
            Kill::Applying(_) => {}
        }
        self.check_recoverable(&theirs)?;
        self.disk.agent().start()?;
        self.disk.until("the original to be in force", is_back).await?;
        self.disk.agent().kill().await?;
        ensure!(standing(&self.disk.home(), &PATHS) == theirs, "not what a person had written");
        let left = self.disk.leftovers();
        ensure!(left.is_empty(), "left beside the files: {left:?}");
        Ok(killed)
    }

    /// A host that no agent has written on.
    fn begin(&mut self) -> Result<Standing> {
        self.disk.forget()?;
        let home = self.disk.home();
        let stamp: u64 = self.random.random();
        let modes = [0o600, 0o640, 0o644, 0o755];
        write(
            &home,
            CONFIG,
            format!("[server]\nhostname = \"p{stamp}\"\n").as_bytes(),
            modes[usize::try_from(stamp % 4)?],
        )?;
        write(&home, LOGGING, format!("person = {stamp}\n").as_bytes(), 0o644)?;
        write(&home, SCRIPT, format!("echo {stamp}\n").as_bytes(), 0o755)?;
        give_away(&home, SCRIPT, 4711)?;
        fs::remove_dir_all(home.join(NEW_DIR).parent().context("a directory")?).ok();
        Ok(standing(&home, &PATHS))
    }

    /// As an operator's command leaves it in the journal.
    fn give_up(&self, target: Applied) -> Result<()> {
        let journal = Journal::of(&self.disk.rig.agent.data_dir());
        let mut memory = journal.read()?;
        memory.given_up = Some(target.generation);
        journal.write(&memory)?;
        Ok(())
    }

    async fn die_after(&mut self, time: Duration) -> Result<()> {
        self.disk.agent().start()?;
        sleep(time).await;
        self.disk.agent().kill().await
    }

    async fn die_at(&mut self, step: u64, is_over: impl Fn(&Memory) -> bool) -> Result<bool> {
        let wish = format!("kill:{step}");
        self.disk.agent().start_with(&[("CONVOY_STEP", &wish)])?;
        let deadline = Instant::now() + convoy_tests::harness::LIMIT;
        loop {
            let mut daemon = self.disk.agent().daemon.take().context("it was started")?;
            if let Ok(status) = timeout(Duration::from_millis(2), daemon.wait()).await {
                let status = status?;
                use std::os::unix::process::ExitStatusExt as _;
                ensure!(status.signal() == Some(9), "it ended with {status}");
                return Ok(true);
            }
            self.disk.agent().daemon = Some(daemon);
            if is_over(&self.disk.memory()?) {
                self.disk.agent().kill().await?;
                return Ok(false);
            }
            ensure!(Instant::now() < deadline, "neither killed nor done");
        }
    }

    /// The agent is down: the home is as the person left it, or the journal and the cache lead to that.
    fn check_recoverable(&self, theirs: &Standing) -> Result<()> {
        if standing(&self.disk.home(), &PATHS) == *theirs {
            return Ok(());
        }
        let memory = self.disk.memory()?;
        let kept = memory.originals.get(&self.disk.home().display().to_string());
        let kept = kept.context("files were replaced, and the journal names no original")?;
        let cache = Cache::open(&self.disk.rig.agent.data_dir())?;
        let original = cache.bundle(&kept.placed.content).context("the original's bundle")?;
        let origin = original.origin.as_ref().context("its origin")?;
        for (path, file) in theirs {
            let Some(Lying { content, mode, owner }) = file else {
                ensure!(origin.absent.iter().any(|absent| absent.as_str() == path), "{path} was not there");
                continue;
            };
            let Some((below, entry)) = original.files.iter().find(|(below, _)| below.as_str() == path) else {
                bail!("{path} is not kept");
            };
            ensure!(entry.digest == Digest::of(content), "{path} is kept with another content");
            ensure!(cache.read(&entry.digest)? == *content, "the content of {path} is damaged");
            ensure!(origin.standing[below].mode == *mode, "the mode of {path}");
            ensure!(origin.standing[below].owner == Some(*owner), "the owner of {path}");
        }
        Ok(())
    }
}

fn is_back(memory: &Memory) -> bool {
    memory.switching.is_none() && memory.written.is_some_and(|placed| placed.is_original())
}
