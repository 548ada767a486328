//! Servers that ran before Convoy came, on the first day of it: their hosts are imported, the apply restarts nothing
//! and says so, a changed value rolls out, and every byte of what a person had written comes back.
//!
//! Real deployment.toml files on running stand-ins, each on a loopback address of its own.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{ByHand, LIMIT, Operator, Site, Standing, until},
    pack::Product,
    standin::Misbehaviour,
};
use serde_json::Value;
use tokio::process::Child;

use crate::{
    real_fleets::{ProductOf, apim_3_1, apim_3_2, apim_4_2, apim_4_5, meaning, name_of, sources},
    small::{CONFIG, ensure_holds, is_alive, pid},
};

/// Of a real fleet, and how it is laid out here.
struct Fleet {
    directory: &'static str,
    /// Third byte of the loopback addresses.
    net: u8,
    nodes: usize,
    product: ProductOf,
}

/// One server that a person runs.
struct Server {
    node: String,
    config: PathBuf,
    before: Standing,
    _script: Child,
}

struct FirstDay {
    site: Site,
    operator: Operator,
    servers: Vec<Server>,
    fleet: PathBuf,
}

impl FirstDay {
    /// `None`: the real files are not at hand.
    async fn begin(fleet: &Fleet) -> Result<Option<Self>> {
        let Some(files) = sources(fleet.directory)? else { return Ok(None) };
        ensure!(files.len() == fleet.nodes, "{} holds {} files", fleet.directory, files.len());
        let mut site = Site::open("real").await?;
        let mut servers = Vec::new();
        for (index, path) in files.iter().enumerate() {
            let address = Ipv4Addr::new(127, 0, fleet.net, u8::try_from(index)? + 1);
            servers.push(server(&mut site, path, fleet.product, address).await?);
        }
        let (operator, fleet) = (site.operator(), site.path("fleet"));
        Ok(Some(Self { site, operator, servers, fleet }))
    }

    /// Before anything was applied, a node shows what was found on its host.
    async fn found(&self) -> Result<()> {
        for server in &self.servers {
            let found = until(&format!("the host of {} to be looked at", server.node), LIMIT, async || {
                let shown = self.operator.json(["node", "show", &server.node]).await?;
                Ok((shown["found"]["not_now"].is_null()).then(|| shown["found"]["host"].clone()))
            })
            .await?;
            ensure!(found["server"] == "running" && found["started"] == true, "{}: {found:#}", server.node);
            let size = u64::try_from(server.before.content.len())?;
            let files = found["files"].as_array().cloned().unwrap_or_default();
            let config = files.iter().find(|file| file["path"] == CONFIG).context("deployment.toml")?;
            ensure!(config["size"] == size && config["mode"] == "0644", "{config:#}");
        }
        Ok(())
    }

    async fn import(&self) -> Result<()> {
        let secrets = self.site.path("fleet.secrets");
        let mut words = vec!["import", "--out", text(&self.fleet)?, "--secrets-out", text(&secrets)?];
        words.extend(self.servers.iter().map(|server| server.node.as_str()));
        let imported = self.operator.json(&words).await?;
        ensure!(imported["secrets"].as_u64().is_some_and(|count| 0 < count), "{imported:#}");
        self.operator.done(["secret", "set", "--from", text(&secrets)?]).await?;
        let mut fleet = fs::read_to_string(self.fleet.join("fleet.toml"))?;
        ensure!(fleet.contains("name = \"real\""), "the fleet is the coordinator's:\n{fleet}");
        for group in imported["groups"].as_array().context("groups")? {
            let name = group["name"].as_str().context("a name")?;
            fleet.push_str(&format!(
                "\n[groups.{name}.rollout]\nsoak = \"0s\"\nmin_healthy_time = \"0s\"\nmax_unavailable = 1\n"
            ));
        }
        fs::write(self.fleet.join("fleet.toml"), fleet)?;
        Ok(())
    }

    async fn apply(&self) -> Result<String> {
        let words = ["apply", text(&self.fleet)?, "--yes", "--wait", "--timeout", "8m"];
        self.operator.done(words).await
    }

    /// Process of each server, once it is ready.
    async fn pids(&self) -> Result<Vec<u64>> {
        let mut pids = Vec::new();
        for server in &self.servers {
            let node = self.in_state(&server.node, "ready").await?;
            pids.push(pid(&node)?);
        }
        Ok(pids)
    }

    async fn in_state(&self, node: &str, state: &str) -> Result<Value> {
        until(&format!("{node} to be {state}"), LIMIT, async || {
            let seen = self.operator.node(node).await?;
            Ok((seen["state"] == state).then_some(seen))
        })
        .await
    }

    /// The plan and the apply restart nothing, and say so.
    async fn adopted(&self) -> Result<Vec<u64>> {
        let running: Vec<u64> = self.running().await?;
        let plan = self.operator.json(["plan", text(&self.fleet)?]).await?;
        for node in plan["nodes"].as_array().context("nodes")? {
            ensure!(node["adoption"] == "adopted" && node["restart"] == "none", "{node:#}");
            ensure!(node["unmanaged"] == Value::Array(Vec::new()), "{node:#}");
            ensure!(node["source"]["kind"] == "now", "{node:#}");
        }
        ensure_holds(&self.apply().await?, &["adopted, no restart", "is done"])?;
        for (server, before) in self.servers.iter().zip(&running) {
            let node = self.in_state(&server.node, "ready").await?;
            ensure!(pid(&node)? == *before, "{} was restarted", server.node);
            ensure!(node["report"]["starts_total"] == 0, "{node:#}");
            let events = self.operator.done(["events", "--node", &server.node, "--last", "200"]).await?;
            ensure_holds(&events, &["adopted, no restart"])?;
            let source: toml::Table = String::from_utf8(server.before.content.clone())?.parse()?;
            ensure!(meaning(&server.config)? == source, "{} means something else now", server.node);
        }
        Ok(running)
    }

    /// As the agents found them, before anything is applied.
    async fn running(&self) -> Result<Vec<u64>> {
        let mut pids = Vec::new();
        for server in &self.servers {
            let home = server.config.ancestors().nth(3).context("a home")?;
            let text = fs::read_to_string(home.join("wso2carbon.pid"))?;
            // The product writes more than digits around it.
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            let pid = digits.parse()?;
            ensure!(is_alive(pid), "{} does not run", server.node);
            pids.push(pid);
        }
        Ok(pids)
    }

    async fn change(&self, before: &[u64]) -> Result<()> {
        let layer = self.fleet.join("config/common.toml");
        let text = fs::read_to_string(&layer)?;
        let changed = text.replace("username = \"admin\"", "username = \"chief\"");
        ensure!(text != changed, "no such value in:\n{text}");
        fs::write(&layer, changed)?;
        self.apply().await?;
        for ((server, pid), before) in self.servers.iter().zip(self.pids().await?).zip(before) {
            ensure!(pid != *before, "{} goes on with what it had read", server.node);
            let value = meaning(&server.config)?["super_admin"]["username"].clone();
            ensure!(value.as_str() == Some("chief"), "{}: {value}", server.node);
        }
        Ok(())
    }

    async fn back(&self) -> Result<()> {
        for server in &self.servers {
            let words = [
                "rollback",
                "--node",
                &server.node,
                "--to",
                "original",
                "--yes",
                "--now",
                "--reason",
                "as it was",
            ];
            let said = self.operator.done(words).await?;
            ensure_holds(&said, &["are in force again"])?;
        }
        for server in &self.servers {
            let node = self.in_state(&server.node, "original").await?;
            ensure!(is_alive(pid(&node)?), "{} does not run", server.node);
            ensure!(Standing::of(&server.config)? == server.before, "{}: other bytes or mode", server.node);
        }
        Ok(())
    }
}

async fn server(site: &mut Site, source: &Path, product: ProductOf, address: Ipv4Addr) -> Result<Server> {
    let node = name_of(source)?;
    let pack = site.pack(&node, product(&node).parse::<Product>()?)?;
    pack.misbehave(&Misbehaviour { bind: Some(address), ..Misbehaviour::default() })?;
    let config = pack.home.join(CONFIG);
    fs::write(&config, fs::read(source)?)?;
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644))?;
    let before = Standing::of(&config)?;
    let script = ByHand::of(&pack).start(LIMIT).await?;
    site.agent_on(&node, &pack, address).await?;
    Ok(Server { node, config, before, _script: script })
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path of text")
}

async fn first_day(fleet: &Fleet) -> Result<()> {
    let Some(day) = FirstDay::begin(fleet).await? else { return Ok(()) };
    day.found().await?;
    day.import().await?;
    let running = day.adopted().await?;
    day.change(&running).await?;
    day.back().await?;
    println!("{}: {} servers adopted, changed and taken back", fleet.directory, day.servers.len());
    Ok(())
}

#[tokio::test]
async fn apim_4_2_with_separate_traffic_managers_is_taken_over_and_given_back() -> Result<()> {
    first_day(&Fleet { directory: "a-apim-4.2-tm-separated-ha", net: 41, nodes: 6, product: apim_4_2 }).await
}

#[tokio::test]
async fn apim_3_2_with_is_5_10_is_taken_over_and_given_back() -> Result<()> {
    first_day(&Fleet {
        directory: "b-apim-3.2-active-active-is-5.10-km",
        net: 42,
        nodes: 4,
        product: apim_3_2,
    })
    .await
}

#[tokio::test]
async fn apim_4_5_with_is_7_1_is_taken_over_and_given_back() -> Result<()> {
    first_day(&Fleet {
        directory: "c-apim-4.5-simple-scalable-is-7.1-km",
        net: 43,
        nodes: 6,
        product: apim_4_5,
    })
    .await
}

#[tokio::test]
async fn apim_3_1_with_is_as_key_manager_is_taken_over_and_given_back() -> Result<()> {
    first_day(&Fleet { directory: "d-apim-3.1-single-is-km-5.10", net: 44, nodes: 3, product: apim_3_1 })
        .await
}
