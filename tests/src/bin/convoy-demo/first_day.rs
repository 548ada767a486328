//! The first part: a server that a person runs with a configuration of its own is taken over without a restart, changed,
//! and given back as it was. It has a coordinator of its own, so that nothing of it reaches the other scenes.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use convoy_tests::harness::{FleetDir, Operator, Programs, Site, Standing, until};
use serde_json::Value;

use crate::{
    outside::Watch,
    packs::{self, LIFETIME, Member, Source},
    scenes::{CONFIG, PATIENCE, pid, shown},
    talk::Talk,
};

const NODE: &str = "iam-1";

/// All of it.
pub async fn play(talk: &Talk, directory: &Path, programs: &Programs, source: &Source) -> Result<()> {
    talk.step("First day: an Identity Server runs with a configuration that somebody wrote by hand");
    let mut site = Site::open_at("first-day", &directory.join("first-day"), programs.clone()).await?;
    let operator = site.operator();
    let member = packs::alone(&site, source, NODE)?;
    let config = member.home.join(CONFIG);
    let original = Standing::of(&config)?;
    let _script = member.by_hand().start(PATIENCE).await?;
    talk.say(&format!("{}, started by its own script, https port {}", member.home.display(), member.port));

    talk.step("Its agent joins; the coordinator shows what is on the host");
    site.agent_at(NODE, &member.home, &member.java_home).await?;
    until("the host to be looked at", PATIENCE, async || {
        let node = operator.json(["node", "show", NODE]).await?;
        Ok(node["found"]["not_now"].is_null().then_some(()))
    })
    .await?;
    shown(&operator, ["node", "show", NODE]).await?;

    let fleet = imported(talk, &site, &operator).await?;
    let before = adopted(talk, &operator, &fleet, &member).await?;
    changed(talk, &operator, &fleet, before).await?;

    talk.step("Take it back to what was there before");
    shown(&operator, ["rollback", "--node", NODE, "--to", "original", "--yes", "--reason", "as it was"])
        .await?;
    until("the server to run on its own configuration", PATIENCE, async || {
        Ok((operator.node(NODE).await?["state"] == "original").then_some(()))
    })
    .await?;
    ensure!(Standing::of(&config)? == original, "deployment.toml is not what it was");
    talk.say(&format!(
        "deployment.toml is the original again: all {} bytes, comments and mode; compared from outside",
        original.content.len()
    ));
    Ok(())
}

async fn imported(talk: &Talk, site: &Site, operator: &Operator) -> Result<FleetDir> {
    talk.step("Make a fleet directory of it");
    let (out, secrets) = (site.path("fleet"), site.path("fleet.secrets"));
    let (out_text, secrets_text) = (out.display().to_string(), secrets.display().to_string());
    shown(operator, ["import", NODE, "--out", &out_text, "--secrets-out", &secrets_text]).await?;
    if secrets.is_file() {
        shown(operator, ["secret", "set", "--from", &secrets_text]).await?;
    }
    let fleet = FleetDir::create(&out)?;
    // Nobody wants to wait for a soak in a demo.
    let text: toml::Table = fleet.read("fleet.toml")?.parse()?;
    let groups = text.get("groups").and_then(toml::Value::as_table).context("the fleet has groups")?;
    let pace =
        |group: &String| format!("\n[groups.{group}.rollout]\nsoak = \"1s\"\nmin_healthy_time = \"1s\"\n");
    let paces: String = groups.keys().map(pace).collect();
    fleet.write("fleet.toml", fleet.read("fleet.toml")? + &paces)?;
    Ok(fleet)
}

async fn adopted(talk: &Talk, operator: &Operator, fleet: &FleetDir, member: &Member) -> Result<u64> {
    talk.step("Plan against what runs there, then apply: the server is adopted, and goes on running");
    let path = fleet.path().display().to_string();
    shown(operator, ["plan", &path]).await?;
    let watch = Watch::start(vec![member.port]);
    shown(operator, ["apply", &path, "--yes", "--wait", "--reason", "Convoy takes over"]).await?;
    let (outages, _) = watch.finish();
    ensure!(outages.iter().all(Vec::is_empty), "the server was down for its adoption");
    let node = operator.node(NODE).await?;
    ensure!(node["report"]["starts_total"] == 0, "the server was restarted for its adoption");
    talk.say("its port, asked every 20 ms from outside, was never down");
    pid(&node).context("the server runs")
}

async fn changed(talk: &Talk, operator: &Operator, fleet: &FleetDir, before: u64) -> Result<()> {
    talk.step("Change a value; the plan names it, and the server restarts for it");
    let layer = layer_with(fleet, LIFETIME)?;
    fleet.write(&layer, fleet.read(&layer)?.replace(LIFETIME, "\"1800\""))?;
    let path = fleet.path().display().to_string();
    shown(operator, ["apply", &path, "--yes", "--wait", "--reason", "shorter tokens"]).await?;
    let after = until("the server to be ready", PATIENCE, async || {
        let node: Value = operator.node(NODE).await?;
        Ok((node["state"] == "ready").then(|| pid(&node)).flatten())
    })
    .await?;
    ensure!(after != before, "the server does not run with the changed value");
    Ok(())
}

/// The file below config/ that holds a value.
fn layer_with(fleet: &FleetDir, value: &str) -> Result<String> {
    for entry in fs::read_dir(fleet.path().join("config"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let layer = format!("config/{name}");
        if fleet.read(&layer).is_ok_and(|text| text.contains(value)) {
            return Ok(layer);
        }
    }
    bail!("no layer holds {value}")
}
