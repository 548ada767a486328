//! kill -9 of the coordinator at fifty instants that a seed chooses, through rollouts over twelve nodes.
//!
//! What is checked is what the servers themselves saw: their logs, their counters of launches, the files that they
//! read. The first two rollouts are left alone; whatever comes after must end in exactly their states.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};
use convoy_tests::{
    asked,
    harness::{FleetDir, LIMIT, Site, until},
    pack::Pack,
    standin::Misbehaviour,
};
use serde_json::Value;
use simulation::Chance;

use crate::{
    history::{self, History},
    small::{CONFIG, common},
};

/// Unless `KILLS` says another number.
const KILLS: usize = 50;
/// Those after the first come after it.
const GROUPS: [&str; 2] = ["back", "front"];
const GROUP_SIZE: u8 = 6;
const AT_ONCE: usize = 2;
/// Rollouts go from one to the other and back.
const WORDS: [&str; 2] = ["first", "second"];

struct Dozen {
    site: Site,
    fleet: FleetDir,
    packs: BTreeMap<String, Pack>,
    rollouts: usize,
}

/// How a fleet was left: for every node its file and the digest of what its server has read.
type State = BTreeMap<String, (String, String)>;

impl Dozen {
    async fn open() -> Result<Self> {
        let mut site = Site::open("dozen").await?;
        let fleet = FleetDir::create(&site.path("fleet"))?;
        let mut text = String::from(
            "name = \"dozen\"\n[service]\nprobe_period = \"3s\"\nprobe_grace = \"60s\"\nrestart_delay = \"1s\"\n",
        );
        let mut packs = BTreeMap::new();
        for (index, group) in GROUPS.into_iter().enumerate() {
            let after = if index == 0 { "after = []" } else { "after = [\"back\"]" };
            text.push_str(&format!(
                "\n[groups.{group}]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n{after}\n[groups.{group}.rollout]\n\
                 max_unavailable = {AT_ONCE}\nsoak = \"100ms\"\nmin_healthy_time = \"100ms\"\n"
            ));
            for member in 1..=GROUP_SIZE {
                let node = format!("{group}-{member}");
                let pack = site.pack(&node, "wso2is-7.2".parse()?)?;
                let address = Ipv4Addr::new(127, 0, 40 + u8::try_from(index)?, member);
                pack.misbehave(&Misbehaviour { bind: Some(address), ..Misbehaviour::default() })?;
                text.push_str(&format!(
                    "[nodes.{node}]\ngroup = \"{group}\"\nhost = \"{node}.example.org\"\nhome = {:?}\noffset = {}\n",
                    pack.home,
                    site.offset(0)
                ));
                site.agent_on(&node, &pack, address).await?;
                packs.insert(node, pack);
            }
        }
        fleet.write("fleet.toml", text)?;
        Ok(Self { site, fleet, packs, rollouts: 0 })
    }

    /// Begins the next rollout.
    async fn apply(&mut self) -> Result<()> {
        self.fleet.write("config/common.toml", common(self.word()))?;
        self.site.operator().done(["apply".as_ref(), self.fleet.arg(), "--yes".as_ref()]).await?;
        self.rollouts += 1;
        Ok(())
    }

    /// What the next rollout brings.
    fn word(&self) -> &'static str {
        WORDS[self.rollouts % 2]
    }

    /// The newest rollout, unless nobody answers.
    async fn rollout(&self) -> Option<Value> {
        self.site.operator().json(["rollout", "show"]).await.ok()
    }

    async fn has_ended(&self) -> Result<bool> {
        let Some(rollout) = self.rollout().await else { return Ok(false) };
        ensure!(rollout["id"] == self.rollouts, "{rollout:#}");
        match rollout["state"].as_str() {
            Some("running") => Ok(false),
            Some("done") => Ok(true),
            _ => bail!("the rollout did not get through: {rollout:#}"),
        }
    }

    fn launches(&self) -> Result<u64> {
        let launches = |pack: &Pack| -> Result<u64> {
            let server: Value = serde_json::from_slice(&fs::read(pack.home.join("standin-state.json"))?)?;
            server["launches"].as_u64().context("a count")
        };
        self.packs.values().map(launches).sum()
    }

    /// Until one more server was started, or all were.
    async fn goes_on(&self) -> Result<()> {
        let before = self.launches()?;
        let all = (self.packs.len() * self.rollouts) as u64;
        until("another server to be started", LIMIT, async || {
            let launches = self.launches()?;
            Ok((before < launches || launches == all).then_some(()))
        })
        .await
    }

    /// Until it is done, with nobody killed any more.
    async fn wait(&mut self) -> Result<()> {
        let operator = self.site.operator();
        until("the coordinator to answer", LIMIT, async || Ok(self.rollout().await.map(drop))).await?;
        let ran = operator.run(["rollout", "show", "--wait", "--timeout", "10m"]).await?;
        ensure!(ran.code == 0, "{}{}", ran.out, ran.said);
        Ok(())
    }

    /// Every node took every step once, never more than the budget at a time and in order; and that is how it was left.
    async fn check(&self) -> Result<State> {
        let rollout = self.rollout().await.context("the coordinator answers")?;
        let mut generations = BTreeSet::new();
        let groups = rollout["groups"].as_array().context("groups")?;
        for node in groups.iter().flat_map(|group| group["nodes"].as_array()).flatten() {
            ensure!(node["state"] == "ready", "{node:#}");
            generations.insert(node["generation"].as_u64());
        }
        // A step that was repeated, even one without a restart, would have got a number of its own.
        ensure!(generations == BTreeSet::from([Some(self.rollouts as u64)]), "{rollout:#}");
        let mut state = State::new();
        for (node, pack) in &self.packs {
            let server: Value = serde_json::from_slice(&fs::read(pack.home.join("standin-state.json"))?)?;
            ensure!(
                server["launches"] == self.rollouts,
                "{node}: {server:#} after {} rollouts",
                self.rollouts
            );
            let read = server["read_digest"].as_str().context("a digest")?.to_owned();
            state.insert(node.clone(), (fs::read_to_string(pack.home.join(CONFIG))?, read));
        }
        self.check_histories()?;
        Ok(state)
    }

    fn check_histories(&self) -> Result<()> {
        let mut ends = vec![None; self.rollouts];
        for group in GROUPS {
            let members = self.packs.iter().filter(|(node, _)| node.starts_with(group));
            let histories: BTreeMap<String, History> = members
                .map(|(node, pack)| Ok((node.clone(), History::read(&pack.carbon_log())?)))
                .collect::<Result<_>>()?;
            let most = history::most_down(&histories);
            let full = if self.rollouts == 1 { 0 } else { AT_ONCE };
            // On a slow machine restarts may follow each other without meeting.
            let is_used = (0 < most) == (0 < full);
            ensure!(is_used && most <= full, "{most} servers of {group} were down at once: {histories:#?}");
            for (node, history) in &histories {
                ensure!(history.starts() == self.rollouts, "{node}: {history:#?}");
            }
            for (index, end) in ends.iter_mut().enumerate().take(self.rollouts - 1) {
                let turns: Vec<_> = histories.values().filter_map(|history| history.restart(index)).collect();
                let (first, last) = (turns.iter().map(|it| it.0).min(), turns.iter().map(|it| it.1).max());
                ensure!(*end <= first, "{group} began with restart {index} before others had ended");
                *end = last;
            }
        }
        Ok(())
    }
}

/// Milliseconds from the start of a coordinator to its end: now and then while it still starts.
fn instant(chance: &mut Chance) -> u64 {
    if chance.percent(20) { chance.range(0, 300) } else { chance.range(300, 3500) }
}

#[tokio::test]
async fn fifty_kills_of_the_coordinator_neither_lose_nor_repeat_a_step() -> Result<()> {
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seed = asked("KILL_SEED").unwrap_or(clock.as_secs() % 1_000_000);
    println!("KILL_SEED={seed}");
    let mut chance = Chance::new(seed);

    let mut dozen = Dozen::open().await?;
    let mut calm = BTreeMap::new();
    for word in WORDS {
        dozen.apply().await?;
        dozen.wait().await?;
        calm.insert(word, dozen.check().await?);
    }
    ensure!(calm[WORDS[0]] != calm[WORDS[1]], "both words leave the same");

    let most = asked("KILLS").unwrap_or(KILLS);
    let mut kills = 0;
    while kills < most {
        let word = dozen.word();
        dozen.apply().await?;
        while kills < most && !dozen.has_ended().await? {
            if chance.percent(40) {
                // However slow this machine is, kills are spread over the whole rollout.
                dozen.goes_on().await?;
            }
            dozen.site.coordinator.kill().await?;
            dozen.site.coordinator.begin()?;
            kills += 1;
            let instant = instant(&mut chance);
            println!("rollout {}: kill {kills}, the next after {instant} ms", dozen.rollouts);
            tokio::time::sleep(Duration::from_millis(instant)).await;
        }
        dozen.wait().await?;
        println!("rollout {} is done", dozen.rollouts);
        ensure!(
            dozen.check().await? == calm[word],
            "seed {seed}: rollout {} left another state",
            dozen.rollouts
        );
    }
    println!("{kills} kills in {} rollouts over {} nodes", dozen.rollouts - WORDS.len(), dozen.packs.len());
    Ok(())
}
