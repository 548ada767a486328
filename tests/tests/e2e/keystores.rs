//! Keystores of servers that ran before Convoy came: the guard for keys holds at the first apply as well.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, ensure};
use convoy_tests::harness::{ByHand, LIMIT, until};
use serde_json::Value;

use crate::small::{Small, common, ensure_holds, is_alive, pid};

const KEYS: &str = "repository/resources/security/wso2carbon.jks";
const TRUST: &str = "repository/resources/security/client-truststore.jks";

struct Guarded {
    small: Small,
    _servers: Vec<tokio::process::Child>,
}

impl Guarded {
    /// Two servers that run with their own keystores, and agents that were given nothing yet.
    async fn open() -> Result<Self> {
        let small = Small::open().await?;
        let mut servers = Vec::new();
        for (index, pack) in small.packs.iter().enumerate() {
            let offset = small.site.offset(u16::try_from(index)?);
            let own = common("first").replacen("[server]\n", &format!("[server]\noffset = {offset}\n"), 1);
            fs::write(small.config(index), own)?;
            servers.push(ByHand::of(pack).start(LIMIT).await?);
        }
        let operator = small.site.operator();
        until("both agents to be connected", LIMIT, async || {
            let nodes = operator.json(["status"]).await?["nodes"].as_array().cloned().unwrap_or_default();
            let connected = nodes.iter().filter(|node| node["connected"] == true).count();
            Ok((connected == 2).then_some(()))
        })
        .await?;
        Ok(Self { small, _servers: servers })
    }

    /// The directory brings these keystores.
    fn declare(&self, key: &[u8], trust: &[u8]) -> Result<()> {
        let directory = self.small.site.path("fleet/files/key-manager/repository/resources/security");
        fs::create_dir_all(&directory)?;
        fs::write(directory.join("wso2carbon.jks"), key)?;
        fs::write(directory.join("client-truststore.jks"), trust)?;
        Ok(())
    }

    async fn plan(&self) -> Result<(Value, BTreeSet<String>)> {
        let words = ["--json".as_ref(), "plan".as_ref(), self.small.fleet.arg()];
        let plan: Value = serde_json::from_str(&self.small.site.operator().run(words).await?.out)?;
        let findings = plan["findings"].as_array().cloned().unwrap_or_default();
        let codes = findings.iter().filter_map(|finding| finding["code"].as_str().map(str::to_owned));
        Ok((plan.clone(), codes.collect()))
    }

    fn on_hosts(&self) -> Result<Vec<Vec<u8>>> {
        let paths = self.small.packs.iter().flat_map(|pack| [pack.home.join(KEYS), pack.home.join(TRUST)]);
        paths.map(|path| Ok(fs::read(path)?)).collect()
    }
}

#[tokio::test]
async fn keystores_that_replace_those_of_running_servers_are_guarded_the_first_time() -> Result<()> {
    let guarded = Guarded::open().await?;
    let before = guarded.on_hosts()?;
    let (key, trust) = (before[0].as_slice(), before[1].as_slice());

    // 1. Another key and another truststore in one go: refused, and nothing is touched.
    guarded.declare(b"another key", b"another truststore")?;
    let (plan, codes) = guarded.plan().await?;
    ensure!(plan["refused"] == true && codes.contains("CV552"), "{plan:#}");
    let words =
        ["apply".as_ref(), guarded.small.fleet.arg(), "--yes".as_ref(), "--replace-unmanaged".as_ref()];
    let applied = guarded.small.site.operator().run(words).await?;
    ensure!(applied.code == 1, "it ended with {}:\n{}{}", applied.code, applied.out, applied.said);
    ensure_holds(&format!("{}{}", applied.out, applied.said), &["CV552", "wso2carbon.jks"])?;
    ensure!(guarded.on_hosts()? == before, "a keystore was replaced");

    // 2. Another key alone: a warning, and each file is named as one that nobody declared.
    guarded.declare(b"another key", trust)?;
    let (plan, codes) = guarded.plan().await?;
    ensure!(plan["refused"] == false && codes.contains("CV553"), "{plan:#}");
    for node in plan["nodes"].as_array().into_iter().flatten() {
        ensure!(node["restart"] == "phased", "{node:#}");
        let lost = node["unmanaged"].as_array().cloned().unwrap_or_default();
        ensure!(lost.iter().any(|lost| lost["path"] == KEYS && lost["kind"] == "file"), "{node:#}");
    }

    // 3. The keystores that lie there: nothing to guard, and nobody restarts.
    guarded.declare(key, trust)?;
    let (plan, codes) = guarded.plan().await?;
    ensure!(!codes.contains("CV552") && !codes.contains("CV553"), "{plan:#}");
    guarded.small.apply().await?;
    for node in ["is-1", "is-2"] {
        let server = pid(&guarded.small.ready(node).await?)?;
        ensure!(is_alive(server), "{node} does not run");
        let events = guarded.small.site.operator().done(["events", "--node", node, "--last", "100"]).await?;
        ensure_holds(&events, &["adopted, no restart"])?;
    }
    ensure!(guarded.on_hosts()? == before, "a keystore was replaced");
    Ok(())
}
