//! Which database each node really uses. A node that lacks a section runs on an H2 file of its own, without a word.

use super::site::{Peer, Site, Tier, is_literal};
use crate::spec::report::Report;

/// What a section says of a database.
#[derive(PartialEq)]
enum Database {
    /// Not typed: the product's own file.
    Default,
    /// A file of the node.
    Embedded,
    /// One that nodes can share: enough of it to tell it from another.
    Shared(String),
}

fn database(peer: &Peer<'_>, name: &str) -> Database {
    let text = |sub: &str| peer.text(&format!("database.{name}.{sub}"));
    let kind = text("type").unwrap_or_default();
    if let Some(url) = text("url") {
        return if url.starts_with("jdbc:h2:") { Database::Embedded } else { Database::Shared(url) };
    }
    if kind == "h2" {
        return Database::Embedded;
    }
    let (host, schema) = (text("hostname"), text("name").or_else(|| text("sid")));
    match (host, schema) {
        (None, None) if kind.is_empty() => Database::Default,
        (host, schema) => Database::Shared(format!(
            "{kind}://{}:{}/{}",
            host.unwrap_or_default(),
            text("port").unwrap_or_default(),
            schema.unwrap_or_default()
        )),
    }
}

/// Which databases the nodes of a tier have to have together.
fn needed(tier: Tier) -> &'static [&'static str] {
    match tier {
        Tier::IdentityServer => &["identity_db", "shared_db"],
        Tier::AllInOne | Tier::ControlPlane | Tier::Portal => &["apim_db", "shared_db"],
        Tier::Gateway | Tier::TrafficManager | Tier::KeyManager => &[],
    }
}

/// Nodes that do the same job on files of their own do not do it together.
pub(super) fn group(members: &[&Peer<'_>], report: &mut Report) {
    let Some(first) = members.first().filter(|_| 1 < members.len()) else { return };
    for name in needed(first.tier) {
        let own: Vec<&&Peer<'_>> = members
            .iter()
            .filter(|it| matches!(database(it, name), Database::Embedded | Database::Default))
            .collect();
        // The prepackaged Key Manager of API Manager 3.0 and 3.1 keeps everything in API Manager's database.
        let is_prepackaged = first.node.bundle.service.product.contains("-km-");
        if let Some(peer) = own.first().filter(|_| !(is_prepackaged && *name == "identity_db")) {
            let who: Vec<&str> = own.iter().map(|it| it.name.as_str()).collect();
            report.warning(
                "CV530",
                peer.place(&format!("database.{name}.type"))
                    .or_else(|| peer.place(&format!("database.{name}.url"))),
                format!(
                    "database.{name} of {} is an H2 file on the node, so it is not shared with its group",
                    who.join(", ")
                ),
                format!("give the whole group one [database.{name}] on a database server"),
            );
        }
    }
}

/// What is shared must be the same one.
pub(super) fn all(site: &Site<'_>, report: &mut Report) {
    let managers: Vec<&Peer<'_>> = site.peers.iter().filter(|it| it.tier.is_api_manager()).collect();
    let holders: Vec<&Peer<'_>> = managers.iter().copied().filter(|it| it.tier.has_api_database()).collect();
    same("shared_db", &managers, report);
    same("apim_db", &holders, report);
    for (index, peer) in site.peers.iter().enumerate().filter(|(_, it)| it.tier == Tier::IdentityServer) {
        let group: Vec<&Peer<'_>> =
            site.peers[index..].iter().filter(|it| it.node.group == peer.node.group).collect();
        if site.peers[..index].iter().all(|it| it.node.group != peer.node.group) {
            same("shared_db", &group, report);
            same("identity_db", &group, report);
        }
    }
    user_stores(site, report);
}

fn same(name: &str, peers: &[&Peer<'_>], report: &mut Report) {
    let shared = peers.iter().filter_map(|it| match database(it, name) {
        Database::Shared(which) if is_literal(&which) => Some((*it, which)),
        _ => None,
    });
    let shared: Vec<(&Peer<'_>, String)> = shared.collect();
    let count = |which: &String| shared.iter().filter(|(_, other)| other == which).count();
    let Some((usual, most)) = shared.iter().rev().max_by_key(|(_, which)| count(which)) else { return };
    for (peer, which) in shared.iter().filter(|(_, which)| which != most) {
        let key = ["url", "hostname", "name", "port", "type"]
            .map(|sub| format!("database.{name}.{sub}"))
            .into_iter()
            .find(|key| peer.text(key) != usual.text(key))
            .unwrap_or_else(|| format!("database.{name}.type"));
        report.node = Some(peer.name.clone());
        report.warning(
            "CV531",
            peer.place(&key),
            format!(
                "{key}: {} uses {}, and {} uses {}",
                peer.name,
                crate::finding::mask_line(which),
                usual.name,
                crate::finding::mask_line(most)
            ),
            format!("give all of them one [database.{name}]"),
        );
        report.node = None;
    }
}

/// The same users everywhere, and with identifiers that newer versions insist on.
fn user_stores(site: &Site<'_>, report: &mut Report) {
    const TYPE: &str = "user_store.type";
    let is_resident =
        site.peers.iter().any(|it| it.text("apim.key_manager.type").is_some_and(|kind| kind == "WSO2-IS"));
    let of_one: Vec<&Peer<'_>> =
        site.peers.iter().filter(|it| it.tier.is_api_manager() || is_resident).collect();
    let typed: Vec<(&Peer<'_>, String)> =
        of_one.iter().filter_map(|it| Some((*it, it.text(TYPE)?))).collect();
    let Some((first, most)) = typed.first() else { return };
    for (peer, kind) in typed.iter().filter(|(_, kind)| kind != most && is_literal(kind)) {
        report.node = Some(peer.name.clone());
        report.warning(
            "CV529",
            peer.place(TYPE),
            format!("{TYPE} of {} is {kind:?}, and that of {} is {most:?}", peer.name, first.name),
            "use one user store for Key Manager and API Manager",
        );
        report.node = None;
    }
    for peer in &site.peers {
        let since = if peer.tier == Tier::IdentityServer { (5, 10) } else { (3, 1) };
        if peer.version.is_some_and(|version| since <= version)
            && peer.text(TYPE).is_some_and(|kind| kind == "database")
        {
            report.node = Some(peer.name.clone());
            report.warning(
                "CV529",
                peer.place(TYPE),
                "user_store.type = \"database\" gives users no unique id; on a database made by this version users cannot be added",
                "write \"database_unique_id\", unless the database was migrated from an older version",
            );
            report.node = None;
        }
    }
}
