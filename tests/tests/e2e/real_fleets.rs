//! Real deployment.toml files, node by node through the real programs: what lands means what the source means.
//!
//! All nodes of a fleet have the ports of their own machines, so each stand-in listens on a loopback address of its
//! own, and its agent probes that.

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{FleetDir, LIMIT, Site, until},
    pack::Product,
    standin::Misbehaviour,
};

use crate::small::CONFIG;

/// For a node: the product of its group, which is also what stands in for it.
pub type ProductOf = fn(&str) -> &'static str;

async fn lands(fleet: &str, net: u8, nodes: usize, product: ProductOf) -> Result<()> {
    let Some(files) = sources(fleet)? else { return Ok(()) };
    ensure!(files.len() == nodes, "{fleet} holds {} files", files.len());

    let mut site = Site::open("real").await?;
    let dir = FleetDir::create(&site.path("fleet"))?;
    let mut text = String::from(
        "name = \"real\"\n[service]\nprobe_period = \"1s\"\nprobe_grace = \"60s\"\nrestart_delay = \"1s\"\n",
    );
    let mut landing = Vec::new();
    for (index, path) in files.iter().enumerate() {
        let node = name_of(path)?;
        let product = product(&node);
        let pack = site.pack(&node, product.parse::<Product>()?)?;
        let address = Ipv4Addr::new(127, 0, net, u8::try_from(index)? + 1);
        pack.misbehave(&Misbehaviour { bind: Some(address), ..Misbehaviour::default() })?;
        pack.add_driver()?;
        text.push_str(&format!(
            "\n[groups.of-{node}]\nproduct = \"{product}\"\n[groups.of-{node}.rollout]\nsoak = \"0s\"\nmin_healthy_time = \"0s\"\n\
             [nodes.{node}]\ngroup = \"of-{node}\"\nhost = \"{node}.example.org\"\nhome = {:?}\n",
            pack.home
        ));
        dir.write(&format!("config/nodes/{node}.toml"), fs::read(path)?)?;
        site.agent_on(&node, &pack, address).await?;
        landing.push((node, path.clone(), pack.home.join(CONFIG)));
    }
    dir.write("fleet.toml", text)?;

    let operator = site.operator();
    let words = [
        "apply".as_ref(),
        dir.arg(),
        "--yes".as_ref(),
        "--wait".as_ref(),
        "--timeout".as_ref(),
        "8m".as_ref(),
    ];
    operator.done(words).await?;
    for (node, source, landed) in &landing {
        ensure!(meaning(source)? == meaning(landed)?, "{fleet}: {node} means something else than its source");
        until(&format!("{node} to be ready"), LIMIT, async || {
            Ok((operator.node(node).await?["state"] == "ready").then_some(()))
        })
        .await?;
    }
    println!("{fleet}: {} files landed and mean what their sources mean", landing.len());
    Ok(())
}

/// The files of a fleet, sorted; `None` where they are not at hand.
pub fn sources(fleet: &str) -> Result<Option<Vec<PathBuf>>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the project's root")?;
    let source = root.join("../shared/wso2/fleets").join(fleet);
    if !source.is_dir() {
        println!("skipped: {} is not there", source.display());
        return Ok(None);
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(&source)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    files.sort();
    Ok(Some(files))
}

/// The node that a file is of.
pub fn name_of(path: &Path) -> Result<String> {
    Ok(path.file_stem().and_then(|stem| stem.to_str()).context("a node's name")?.to_owned())
}

/// Tables are sets of keys, whatever their order: TOML's own equality.
pub fn meaning(path: &Path) -> Result<toml::Table> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.parse().with_context(|| format!("{} does not parse", path.display()))
}

/// The product of each node of `a-apim-4.2-tm-separated-ha`.
pub fn apim_4_2(node: &str) -> &'static str {
    match &node[..2] {
        "cp" => "wso2am-4.2-control-plane",
        "gw" => "wso2am-4.2-gateway-worker",
        _ => "wso2am-4.2-traffic-manager",
    }
}

/// The same of `b-apim-3.2-active-active-is-5.10-km`.
pub fn apim_3_2(node: &str) -> &'static str {
    if node.starts_with("is") { "wso2is-5.10" } else { "wso2am-3.2" }
}

/// The same of `c-apim-4.5-simple-scalable-is-7.1-km`.
pub fn apim_4_5(node: &str) -> &'static str {
    match &node[..2] {
        "is" => "wso2is-7.1",
        "gw" => "wso2am-universal-gw-4.5",
        _ => "wso2am-4.5",
    }
}

/// The same of `d-apim-3.1-single-is-km-5.10`.
pub fn apim_3_1(node: &str) -> &'static str {
    if node.starts_with("is") { "wso2is-km-5.10" } else { "wso2am-3.1" }
}

#[tokio::test]
async fn apim_4_2_with_separate_traffic_managers() -> Result<()> {
    lands("a-apim-4.2-tm-separated-ha", 31, 6, apim_4_2).await
}

#[tokio::test]
async fn apim_3_2_active_active_with_is_5_10() -> Result<()> {
    lands("b-apim-3.2-active-active-is-5.10-km", 32, 4, apim_3_2).await
}

#[tokio::test]
async fn apim_4_5_simple_scalable_with_is_7_1() -> Result<()> {
    lands("c-apim-4.5-simple-scalable-is-7.1-km", 33, 6, apim_4_5).await
}

#[tokio::test]
async fn apim_3_1_with_is_as_key_manager_5_10() -> Result<()> {
    lands("d-apim-3.1-single-is-km-5.10", 34, 3, apim_3_1).await
}
