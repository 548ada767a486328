//! The three servers: stand-ins, or copies of real packs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use convoy_tests::{
    harness::{ByHand, FleetDir, Site},
    pack::{Pack, Product},
};

use crate::scenes::CONFIG;

/// What the server that runs already is, if it is a stand-in.
const IDENTITY_SERVER: &str = "wso2is-7.2";
/// A value of the server that runs already, as its file writes it.
pub const LIFETIME: &str = "\"7200\"";
/// What starts an Identity Server.
const SCRIPT: &str = "bin/wso2server.sh";

/// Where packs come from.
pub enum Source {
    StandIns,
    Real { is: PathBuf, am: PathBuf },
}

/// One node of the example.
pub struct Member {
    pub node: &'static str,
    pub home: PathBuf,
    pub java_home: PathBuf,
    /// Of its HTTPS port, offset applied.
    pub port: u16,
    pub offset: u16,
}

impl Member {
    /// How a person starts its server.
    pub fn by_hand(&self) -> ByHand {
        ByHand { home: self.home.clone(), script: self.home.join(SCRIPT), java_home: self.java_home.clone() }
    }
}

/// One Identity Server whose deployment.toml somebody wrote: its own keys, its own comments, a port offset.
pub fn alone(site: &Site, source: &Source, node: &'static str) -> Result<Member> {
    let offset = site.offset(0);
    let (home, java_home) = match source {
        Source::StandIns => {
            let Pack { home, java_home, .. } = site.pack(node, IDENTITY_SERVER.parse()?)?;
            (home, java_home)
        }
        Source::Real { is, .. } => (copy(is, &site.path("nodes").join(node))?, real_java()?),
    };
    let path = home.join(CONFIG);
    let shipped = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    fs::write(&path, by_hand(&shipped, offset)?)?;
    Ok(Member { node, home, java_home, port: 9443 + offset, offset })
}

fn by_hand(shipped: &str, offset: u16) -> Result<String> {
    let table = "[server]\n";
    ensure!(shipped.contains(table), "the deployment.toml of the pack has no [server]");
    let is_offset = |line: &&str| line.split('=').next().is_some_and(|key| key.trim() == "offset");
    let lines: Vec<&str> = shipped.lines().filter(|line| !is_offset(line)).collect();
    let text = lines.join("\n").replacen(
        table,
        &format!("# Set up by hand in 2023. Ask the identity team before you touch this.\n{table}offset = {offset}\n"),
        1,
    );
    Ok(format!(
        "{text}\n\n# Agreed with the mobile team.\n[oauth.token_validation]\napp_access_token_validity = {LIFETIME}\n"
    ))
}

/// Makes the three homes and writes where they are into the fleet directory's overrides.toml.
pub fn make(site: &Site, source: &Source, fleet: &FleetDir) -> Result<Vec<Member>> {
    let products = example_products(fleet)?;
    let mut members = Vec::new();
    let nodes = [("is-1", 0), ("is-2", 0), ("am-1", 1)];
    for (index, (node, product)) in nodes.into_iter().enumerate() {
        let offset = site.offset(u16::try_from(index)? + 1);
        let (home, java_home) = match source {
            Source::StandIns => {
                let product: Product = products[product].parse()?;
                let pack = site.pack(node, product)?;
                // The example's databases are MySQL's.
                pack.add_driver()?;
                let Pack { home, java_home, .. } = pack;
                (home, java_home)
            }
            Source::Real { is, am } => {
                let original = if product == 0 { is } else { am };
                (copy(original, &site.path("nodes").join(node))?, real_java()?)
            }
        };
        members.push(Member { node, home, java_home, port: 9443 + offset, offset });
    }
    fleet.write("overrides.toml", overrides(&members, source))?;
    Ok(members)
}

/// What differs on this machine: homes, offsets, and for real packs the databases.
fn overrides(members: &[Member], source: &Source) -> String {
    let mut text = String::from("# Written by the demo: what differs on this machine.\n");
    for member in members {
        let cluster = 4000 + member.offset;
        text.push_str(&format!(
            "\n[nodes.{}]\nhome = {:?}\noffset = {}\n",
            member.node, member.home, member.offset
        ));
        if member.node.starts_with("is-") {
            text.push_str(&format!("ports = {{ hazelcast = {cluster} }}\n"));
        }
    }
    if let Source::Real { .. } = source {
        text.push_str(
            "\n# No database server here: each node uses H2 files of its own.\n\
             [groups.key-manager]\nlayers = [\"common\", \"key-manager\", \"key-manager-embedded\"]\n\
             [groups.api-manager]\nlayers = [\"common\", \"api-manager\", \"api-manager-embedded\"]\n",
        );
    }
    text
}

/// The catalogue ids that the example names for its two groups.
fn example_products(fleet: &FleetDir) -> Result<[String; 2]> {
    let text: toml::Table = fleet.read("fleet.toml")?.parse()?;
    let of = |group: &str| -> Result<String> {
        let product =
            text.get("groups").and_then(|groups| groups.get(group)).and_then(|group| group.get("product"));
        let product = product.and_then(toml::Value::as_str);
        Ok(product.with_context(|| format!("the example names no product for {group}"))?.to_owned())
    };
    Ok([of("key-manager")?, of("api-manager")?])
}

fn copy(original: &Path, below: &Path) -> Result<PathBuf> {
    ensure!(original.join("bin/version.txt").is_file(), "{} holds no WSO2 pack", original.display());
    let name = original.file_name().context("a pack has a name")?;
    fs::create_dir_all(below)?;
    let home = below.join(name);
    // cp keeps modes, times and links, and shares blocks where the file system can.
    let status =
        std::process::Command::new("cp").args(["-a", "--reflink=auto"]).arg(original).arg(&home).status();
    ensure!(status.context("cannot run cp")?.success(), "cannot copy {}", original.display());
    Ok(home)
}

fn real_java() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").context("JAVA_HOME names the JDK for the real packs; set it")?;
    Ok(PathBuf::from(home))
}
