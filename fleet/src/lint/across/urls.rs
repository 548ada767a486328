//! URLs that name other nodes of the fleet: the Key Manager's, and every port that nobody listens on.

use std::collections::BTreeSet;

use super::site::{Peer, Site, Target, Tier, Url, is_loopback};
use crate::spec::report::Report;

const KEY_MANAGER: &str = "apim.key_manager.service_url";

pub(super) fn check(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    if peer.tier.is_api_manager() {
        key_manager(site, peer, report);
    }
    ports(site, peer, report);
}

fn key_manager(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    let is_split = matches!(peer.tier, Tier::Gateway | Tier::TrafficManager);
    let others = || site.peers.iter().any(|it| it.tier.has_api_database() || it.tier == Tier::KeyManager);
    let Some(text) = peer.text(KEY_MANAGER) else {
        if peer.tier == Tier::Gateway && others() {
            report.warning(
                "CV524",
                None,
                format!("{KEY_MANAGER} is not set, and by default {} asks itself for keys", peer.name),
                format!("[apim.key_manager] service_url = \"https://HOST:9443/services/\" of the Key Manager of {}", peer.name),
            );
        }
        return;
    };
    let Some(url) = Url::parse(&text) else { return };
    let place = peer.place(KEY_MANAGER);
    if !url.path.ends_with("/services/") {
        report.warning(
            "CV524",
            place.clone(),
            format!(
                "{KEY_MANAGER} has the path {:?}, and the product appends names of services to it",
                url.path
            ),
            "let the URL end in /services/",
        );
    }
    if is_split && is_loopback(url.host) && others() {
        report.warning(
            "CV524",
            place,
            format!("{KEY_MANAGER} is on {}, and a {} has no Key Manager", url.host, word(peer.tier)),
            "name the Key Manager, or the load balancer before it",
        );
        return;
    }
    let (Target::Nodes(whose) | Target::Tier(whose)) = site.target(peer, url.host) else { return };
    let serves = |it: &&Peer<'_>| !matches!(it.tier, Tier::Gateway | Tier::TrafficManager);
    if !whose.iter().any(serves) {
        report.warning(
            "CV524",
            place,
            format!(
                "{KEY_MANAGER} names {}, which is no Key Manager",
                whose.first().map_or("nobody", |it| it.name.as_str())
            ),
            "name the Key Manager, or the load balancer before it",
        );
    }
    let is_new_identity =
        |it: &&Peer<'_>| it.tier == Tier::IdentityServer && it.version.is_some_and(|(major, _)| 7 <= major);
    if let Some(identity) = whose.iter().copied().find(is_new_identity) {
        report.warning(
            "CV542",
            peer.place(KEY_MANAGER),
            format!("{} is an Identity Server 7, which cannot be the resident Key Manager", identity.name),
            "keep the resident one (type = \"default\", the API Manager's own URL) and register Identity Server 7 as a \
             third-party Key Manager",
        );
    }
}

fn word(tier: Tier) -> &'static str {
    match tier {
        Tier::IdentityServer => "Identity Server",
        Tier::AllInOne => "all-in-one",
        Tier::ControlPlane => "control plane",
        Tier::Gateway => "gateway",
        Tier::TrafficManager => "traffic manager",
        Tier::KeyManager => "Key Manager",
        Tier::Portal => "portal",
    }
}

/// Ports of WSO2 servers, moved by an offset that the fleet uses or used to: only those can be meant for a node.
fn ports(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    let offsets: BTreeSet<u16> =
        site.peers.iter().map(|it| it.node.bundle.service.offset).chain([0]).collect();
    let known: BTreeSet<u16> = site
        .peers
        .iter()
        .flat_map(|it| {
            let own = it.node.bundle.service.offset;
            it.node.bundle.service.ports.iter().map(move |port| port.number.saturating_sub(own))
        })
        .flat_map(|port| offsets.iter().map(move |offset| port.saturating_add(*offset)))
        .collect();
    for (key, text) in peer.every_text() {
        let Some(url) = Url::parse(&text) else { continue };
        if !matches!(url.scheme, "http" | "https" | "tcp" | "ssl" | "ws" | "wss")
            || !known.contains(&url.port)
        {
            continue;
        }
        let Target::Nodes(nodes) = site.target(peer, url.host) else { continue };
        // Where the host is also what a tier calls itself, a load balancer may listen there.
        if nodes.iter().any(|it| it.listens(url.port)) || behind_a_balancer(site, url.host) {
            continue;
        }
        let near: Vec<String> = nodes.iter().filter_map(|it| nearest(it, url.port)).collect();
        report.warning(
            "CV525",
            peer.place(&key),
            format!("{key} names {}:{}, where no node of this fleet listens", url.host, url.port),
            if near.is_empty() {
                "correct the host, or the port".to_owned()
            } else {
                format!("{}; derive it: {{{{ nodes('GROUP')[0].port('https') }}}}", near.join(", "))
            },
        );
    }
}

fn behind_a_balancer(site: &Site<'_>, host: &str) -> bool {
    site.peers.iter().any(|it| {
        it.text("server.hostname").is_some_and(|name| name.eq_ignore_ascii_case(host))
            && it.value("transport.https.properties.proxyPort").is_some()
    })
}

/// The port that was meant, moved by the node's offset.
fn nearest(peer: &Peer<'_>, port: u16) -> Option<String> {
    let own = peer.node.bundle.service.offset;
    let ports = &peer.node.bundle.service.ports;
    let least = ports.iter().min_by_key(|it| it.number.abs_diff(port))?;
    (least.number.abs_diff(port) <= own.max(100))
        .then(|| format!("{} has {} on {}", peer.name, least.name, least.number))
}
