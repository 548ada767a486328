//! The scenes, in order. Each waits for what it shows and fails if it does not come.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::harness::{FleetDir, Operator, Programs, Site, memory, until};
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    Stay, first_day,
    outside::{Watch, switched_at},
    packs::{self, Member, Source},
    talk::{Talk, span},
};

/// Real servers take minutes; stand-ins seconds.
pub const PATIENCE: Duration = Duration::from_secs(900);
pub const CONFIG: &str = "repository/conf/deployment.toml";

/// All scenes.
pub async fn play(directory: &Path, source: &Source, stay: Stay) -> Result<()> {
    let talk = Talk::new();
    let own = std::env::current_exe()?;
    let programs = Programs::in_directory(own.parent().context("a program lies in a directory")?)?;
    first_day::play(&talk, directory, &programs, source).await?;

    talk.step("A fleet from nothing: start a coordinator");
    let mut site = Site::open_at("is-as-key-manager", directory, programs).await?;
    let operator = site.operator();
    talk.say(&format!("listens on 127.0.0.1, data in {}", site.coordinator.data_dir().display()));

    talk.step("Lay out two Identity Servers and an API Manager");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/is-as-key-manager");
    let fleet = FleetDir::copy_of(&example, &site.path("fleet"))?;
    let members = packs::make(&site, source, &fleet)?;
    for member in &members {
        talk.say(&format!("{}  {}  https port {}", member.node, member.home.display(), member.port));
    }

    talk.step("Enrol three agents, each with a one-time token");
    for member in &members {
        let started = Instant::now();
        site.agent_at(member.node, &member.home, &member.java_home).await?;
        talk.say(&format!("{} enrolled and started in {}", member.node, span(started.elapsed())));
    }

    let durable = apply_example(&talk, &operator, &fleet, &members).await?;
    rolling_change(&talk, &operator, &fleet, &members).await?;
    let restored = hand_edit(&talk, &operator, &members[1]).await?;
    killed_server(&talk, &operator, &members[2]).await?;

    talk.step("Figures");
    talk.say(&format!("apply to last file durable on {} nodes: {}", members.len(), span(durable)));
    talk.say(&format!("hand edit to restored: {}", span(restored)));
    figures(&talk, &site);

    if stay == Stay::UntilInterrupted {
        hints(&talk, &site, &fleet);
        std::future::pending::<()>().await;
    }
    Ok(())
}

/// Shows the real command's output as it comes.
pub async fn shown<const N: usize>(operator: &Operator, words: [&str; N]) -> Result<()> {
    let quoted = words.map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word.to_owned() });
    println!("   $ convoy {}", quoted.join(" "));
    let mut command = operator.command(words);
    command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let status = command.status().await.context("cannot run convoy")?;
    ensure!(status.success(), "convoy {} ended with {status}", words.join(" "));
    Ok(())
}

async fn apply_example(
    talk: &Talk,
    operator: &Operator,
    fleet: &FleetDir,
    members: &[Member],
) -> Result<Duration> {
    talk.step("Apply the example: the Key Managers first, one at a time, then the API Manager");
    let path = fleet.path().display().to_string();
    let started = SystemTime::now();
    shown(operator, ["apply", &path, "--yes", "--wait", "--reason", "first"]).await?;
    let mut last = started;
    for member in members {
        last = last.max(switched_at(&member.home.join(CONFIG))?);
    }
    shown(operator, ["status"]).await?;
    Ok(last.duration_since(started).unwrap_or_default())
}

async fn rolling_change(
    talk: &Talk,
    operator: &Operator,
    fleet: &FleetDir,
    members: &[Member],
) -> Result<()> {
    talk.step("Change a setting of the Identity Servers, and watch their ports meanwhile");
    let layer = "config/key-manager.toml";
    let changed = fleet.read(layer)? + "\n[oauth.token_validation]\nuser_access_token_validity = \"1800\"\n";
    fleet.write(layer, changed)?;
    let path = fleet.path().display().to_string();
    let watch = Watch::start(members.iter().map(|member| member.port).collect());
    shown(operator, ["apply", &path, "--yes", "--wait", "--reason", "shorter tokens"]).await?;
    let (outages, together) = watch.finish();
    talk.say("seen from outside, each port asked every 20 ms:");
    for (member, outages) in members.iter().zip(&outages) {
        let text: Vec<String> = outages
            .iter()
            .map(|outage| {
                let to = outage.to.map_or_else(|| "the end".to_owned(), span);
                format!("down from {} to {to}", span(outage.from))
            })
            .collect();
        let text = if text.is_empty() { "never down".to_owned() } else { text.join(", ") };
        talk.say(&format!("{}  {text}", member.node));
    }
    ensure!(together <= 1, "{together} servers were down at once");
    talk.say("never more than one of them down at once");
    ensure!(outages[0].len() == 1 && outages[1].len() == 1, "each Identity Server restarts exactly once");
    ensure!(outages[2].is_empty(), "nothing changed for the API Manager, yet it was down");
    Ok(())
}

async fn hand_edit(talk: &Talk, operator: &Operator, member: &Member) -> Result<Duration> {
    talk.step(&format!("Edit deployment.toml of {} by hand", member.node));
    let path = member.home.join(CONFIG);
    let desired = fs::read(&path)?;
    let pid = pid(&operator.node(member.node).await?);
    let edited =
        String::from_utf8_lossy(&desired).replace("user_access_token_validity", "user_access_token_valdity");
    ensure!(edited.as_bytes() != desired, "the edit changes nothing");
    fs::write(&path, edited)?;
    let started = Instant::now();
    while fs::read(&path).ok().as_ref() != Some(&desired) {
        ensure!(started.elapsed() < Duration::from_secs(60), "the edit was not repaired");
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let restored = started.elapsed();
    talk.say(&format!("the desired content was back after {} (seen from outside)", span(restored)));
    let entry = until("the coordinator to hear of the edit", PATIENCE, async || {
        let drift = operator.json(["drift", "show", member.node]).await?;
        let entries = drift["entries"].as_array().cloned().unwrap_or_default();
        Ok(entries.into_iter().find(|entry| entry["restored_after_ms"].is_number()))
    })
    .await?;
    talk.say(&format!(
        "the agent itself counted {} ms and names the keys {}",
        entry["restored_after_ms"], entry["keys"]
    ));
    ensure!(self::pid(&operator.node(member.node).await?) == pid, "the server was restarted for nothing");
    shown(operator, ["drift", "list"]).await?;
    Ok(restored)
}

async fn killed_server(talk: &Talk, operator: &Operator, member: &Member) -> Result<()> {
    talk.step(&format!("Kill the server of {} with SIGKILL", member.node));
    let before = pid(&operator.node(member.node).await?).context("the server runs")?;
    let killed = convoy_tests::harness::kill(u32::try_from(before)?);
    ensure!(killed, "cannot kill process {before}");
    let started = Instant::now();
    let after = until("the server to be ready again", PATIENCE, async || {
        let node = operator.node(member.node).await?;
        let is_new = pid(&node).is_some_and(|pid| pid != before);
        Ok((is_new && node["state"] == "ready").then_some(pid(&node)))
    })
    .await?;
    talk.say(&format!(
        "process {before} is process {} now, ready again after {}",
        after.unwrap_or_default(),
        span(started.elapsed())
    ));
    shown(operator, ["events", "--last", "6"]).await
}

pub fn pid(node: &Value) -> Option<u64> {
    node["report"]["process"]["pid"].as_u64()
}

fn figures(talk: &Talk, site: &Site) {
    let of = |daemon: &Option<convoy_tests::harness::Daemon>| {
        daemon.as_ref().and_then(convoy_tests::harness::Daemon::pid).and_then(memory)
    };
    let mib =
        |bytes: Option<u64>| bytes.map_or_else(|| "gone".to_owned(), |bytes| format!("{} MiB", bytes >> 20));
    talk.say(&format!("resident memory: coordinator {}", mib(of(&site.coordinator.daemon))));
    for agent in &site.agents {
        talk.say(&format!("                 agent of {} {}", agent.node, mib(of(&agent.daemon))));
    }
}

pub fn hints(talk: &Talk, site: &Site, fleet: &FleetDir) {
    talk.step("All of it stays up until Ctrl-C. In another terminal:");
    let context = site.coordinator.context();
    talk.say(&format!("export CONVOY_CONTEXT={}", context.display()));
    talk.say(&format!(
        "export PATH={}:$PATH",
        site.programs().convoy.parent().map_or("", |dir| dir.to_str().unwrap_or(""))
    ));
    talk.say("convoy status --watch");
    talk.say("convoy node show is-1");
    talk.say(&format!("vi {}/config/common.toml", fleet.path().display()));
    talk.say(&format!("convoy plan {}", fleet.path().display()));
    talk.say(&format!("convoy apply {} --wait", fleet.path().display()));
    talk.say("convoy rollback --wait");
    talk.say("convoy events --follow");
}
