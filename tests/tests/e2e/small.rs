//! A small fleet of two Identity Servers, and what tests ask about it.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{FleetDir, LIMIT, Site, until},
    pack::Pack,
};
use serde_json::Value;

pub const CONFIG: &str = "repository/conf/deployment.toml";
pub const NODES: [&str; 2] = ["is-1", "is-2"];

/// Two Identity Servers of one group with their agents running, and nothing applied yet.
pub struct Small {
    pub site: Site,
    pub fleet: FleetDir,
    pub packs: Vec<Pack>,
}

/// Waits are short: stand-ins start in well under a second.
const SERVICE: &str = "[service]\nprobe_period = \"1s\"\nprobe_grace = \"30s\"\nrestart_delay = \"1s\"\n";

impl Small {
    pub async fn open() -> Result<Self> {
        Self::open_on(Site::open("small").await?).await
    }

    /// On a site that has a coordinator and no agents yet.
    pub async fn open_on(mut site: Site) -> Result<Self> {
        let mut text = format!(
            "name = \"small\"\n\n{SERVICE}\n[groups.key-manager]\nproduct = \"wso2is-7.2\"\nlayers = [\"common\"]\n\
             [groups.key-manager.rollout]\nmax_unavailable = 1\nsoak = \"1s\"\nmin_healthy_time = \"1s\"\n"
        );
        let mut packs = Vec::new();
        for (index, node) in NODES.into_iter().enumerate() {
            let pack = site.pack(node, "wso2is-7.2".parse()?)?;
            let offset = site.offset(u16::try_from(index)?);
            text.push_str(&format!(
                "\n[nodes.{node}]\ngroup = \"key-manager\"\nhost = \"127.0.0.1\"\nhome = {:?}\noffset = {offset}\n",
                pack.home
            ));
            site.agent(node, &pack).await?;
            packs.push(pack);
        }
        let fleet = FleetDir::create(&site.path("fleet"))?;
        fleet.write("fleet.toml", text)?;
        fleet.write("config/common.toml", common("first"))?;
        Ok(Self { site, fleet, packs })
    }

    /// Applies the directory and waits for the end.
    pub async fn apply(&self) -> Result<String> {
        let words = [
            "apply".as_ref(),
            self.fleet.arg(),
            "--yes".as_ref(),
            "--wait".as_ref(),
            "--timeout".as_ref(),
            "5m".as_ref(),
        ];
        self.site.operator().done(words).await
    }

    /// Waits until a node's state is `ready` and returns it.
    pub async fn ready(&self, node: &str) -> Result<Value> {
        let operator = self.site.operator();
        until(&format!("{node} to be ready"), LIMIT, async || {
            // The coordinator may be away for a moment in these tests.
            let Ok(seen) = operator.node(node).await else { return Ok(None) };
            Ok((seen["state"] == "ready").then_some(seen))
        })
        .await
    }

    pub fn config(&self, index: usize) -> PathBuf {
        self.packs[index].home.join(CONFIG)
    }

    pub fn config_text(&self, index: usize) -> Result<String> {
        Ok(fs::read_to_string(self.config(index))?)
    }
}

/// The one layer; `word` ends up in every deployment.toml and means something to the server.
pub fn common(word: &str) -> String {
    format!(
        "[server]\nhostname = \"{word}.example.org\"\n\n[super_admin]\nusername = \"admin\"\npassword = \"hunter2-{word}\"\n\
         create_admin_account = true\n\n[carbon_health_check]\nenable = true\n"
    )
}

pub fn pid(node: &Value) -> Result<u64> {
    node["report"]["process"]["pid"].as_u64().with_context(|| format!("no process in {node:#}"))
}

/// Whether a process is there.
pub fn is_alive(pid: u64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

pub fn ensure_holds(text: &str, wanted: &[&str]) -> Result<()> {
    for word in wanted {
        ensure!(text.contains(word), "{word:?} is not in:\n{text}");
    }
    Ok(())
}
