//! What a single node needs to start as what it is meant to be, and names that nodes have in common or must not.

use std::collections::BTreeMap;

use super::site::{Peer, Site, Tier, is_literal, is_loopback};
use crate::spec::report::Report;

const HOSTNAME: &str = "server.hostname";

/// What every server's environment has, whatever the fleet says.
const ALWAYS: [&str; 6] = ["CARBON_HOME", "HOME", "JAVA_HOME", "LANG", "PATH", "USER"];

pub(super) fn check(peer: &Peer<'_>, report: &mut Report) {
    if peer.value(HOSTNAME).is_none() {
        report.warning(
            "CV545",
            None,
            format!("{} has no {HOSTNAME}, without which API Manager refuses to start and Identity Server calls itself localhost", peer.name),
            "[server] hostname = \"...\", the load balancer's name where there is one",
        );
    }
    variables(peer, report);
    profile(peer, report);
}

fn variables(peer: &Peer<'_>, report: &mut Report) {
    let environment = &peer.node.bundle.service.env;
    for name in peer.variables() {
        let key = || peer.asks_for(name);
        match environment.get(name) {
            None if !ALWAYS.contains(&name) => report.warning(
                "CV538",
                key().and_then(|key| peer.place(&key)),
                format!("$env{{{name}}} is not in the environment that the fleet gives {}, and the server exits at every start without it", peer.name),
                format!("env = {{ {name} = \"...\" }} of the node or its group"),
            ),
            // The mapper puts the value into a pattern without quoting it, up to 1.0.24.
            Some(value)
                if value.contains(['$', '\\'])
                    && (peer.tier == Tier::IdentityServer || peer.version.is_some_and(|it| it < (4, 7))) =>
            {
                report.warning(
                    "CV539",
                    key().and_then(|key| peer.place(&key)),
                    format!("the value of $env{{{name}}} holds $ or \\, which this version misreads or refuses to start with"),
                    "write the value itself, or derive it with an expression {{ }}",
                );
            }
            _ => {}
        }
    }
}

/// What `-Dprofile=` switches on and what the configuration was written for have to be the same.
fn profile(peer: &Peer<'_>, report: &mut Report) {
    const ROLE: &str = "server.server_role";
    let (Some(profile), Some(role)) = (peer.profile(), peer.text(ROLE)) else { return };
    let kind = |word: &str| word.trim_end_matches("-deprecated").trim_end_matches("-node").to_owned();
    if profile != "default" && role != "default" && kind(profile) != kind(&role) {
        report.warning(
            "CV540",
            peer.place(ROLE),
            format!("{} starts with -Dprofile={profile}, and its {ROLE} is {role:?}", peer.name),
            "make them one word",
        );
    }
}

/// Nodes behind one load balancer call themselves by its name.
pub(super) fn group(members: &[&Peer<'_>], report: &mut Report) {
    let named: Vec<(&Peer<'_>, String)> =
        members.iter().filter_map(|it| Some((*it, it.text(HOSTNAME)?))).collect();
    let count = |name: &String| named.iter().filter(|(_, other)| other == name).count();
    let Some((usual, most)) = named.iter().rev().max_by_key(|(_, name)| count(name)) else { return };
    let is_balanced = named.iter().any(|(it, _)| it.value("transport.https.properties.proxyPort").is_some());
    if count(most) < 2 && !is_balanced {
        return;
    }
    for (peer, name) in named.iter().filter(|(_, name)| name != most) {
        report.node = Some(peer.name.clone());
        report.warning(
            "CV543",
            peer.place(HOSTNAME),
            format!("{HOSTNAME} of {} is {name:?}, and that of {} is {most:?}: tokens and redirects name another server", peer.name, usual.name),
            "nodes behind one load balancer have its name",
        );
        report.node = None;
    }
}

/// What no two nodes may share.
pub(super) fn all(site: &Site<'_>, report: &mut Report) {
    for key in ["server.node_ip", "apim.gateway_notification.gateway_id"] {
        let mut taken: BTreeMap<String, &Peer<'_>> = BTreeMap::new();
        for peer in &site.peers {
            let Some(value) = peer.text(key).filter(|it| is_literal(it) && !is_loopback(it)) else {
                continue;
            };
            let Some(other) = taken.insert(value.clone(), peer) else { continue };
            if key == "server.node_ip" && other.node.host == peer.node.host {
                continue;
            }
            report.node = Some(peer.name.clone());
            report.warning(
                "CV544",
                peer.place(key),
                format!("{key} of {} and {} is {value}", other.name, peer.name),
                format!(
                    "each node needs one of its own: {key} = \"{{{{ values.NAME }}}}\" with a value per node"
                ),
            );
            report.node = None;
        }
    }
}
