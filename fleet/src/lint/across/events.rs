//! Who tells whom: throttling counters, gateway events, revoked tokens. All of it goes node to node, never through a
//! load balancer, and each of a pair has to name the other.

use std::collections::BTreeSet;

use carbon::value::Table;

use super::site::{Peer, Site, Target, Tier, Url};
use crate::{ids::NodeName, spec::report::Report};

const URL_GROUP: &str = "apim.throttling.url_group";
const LISTENING: &str = "apim.event_hub.event_listening_endpoints";
const DECISIONS: &str = "apim.throttling.throttle_decision_endpoints";
const LABELS: &str = "apim.sync_runtime_artifacts.gateway.gateway_labels";
/// Both name the other ones of a pair; which of them counts depends on the tier.
const DUPLICATES: [&str; 2] = ["apim.event_hub.event_duplicate_url", "apim.throttling.event_duplicate_url"];

pub(super) fn check(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    if !peer.tier.is_api_manager() {
        return;
    }
    url_groups(site, peer, report);
    if matches!(peer.tier, Tier::Gateway | Tier::TrafficManager)
        && peer.version.is_none_or(|version| (4, 0) <= version)
    {
        listening(site, peer, report);
    }
    if peer.tier == Tier::Gateway {
        labels(site, peer, report);
    }
}

/// The nodes that a list of URLs reaches, as far as it names nodes.
fn reached<'s>(site: &'s Site<'_>, peer: &Peer<'_>, urls: &[String]) -> BTreeSet<&'s NodeName> {
    let urls = urls.iter().filter_map(|text| Url::parse(text));
    site.peers
        .iter()
        .find(|it| it.name == peer.name)
        .map(|from| urls.filter_map(|url| site.reached(from, &url)).map(|it| it.name).collect())
        .unwrap_or_default()
}

fn column(peer: &Peer<'_>, row: &Table, key: &str) -> Vec<String> {
    row.get(key).map_or_else(Vec::new, |value| peer.texts_of(value))
}

/// One group per traffic manager: each then gets every event. Two URLs in one group mean that either gets it.
fn url_groups(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    let managers: BTreeSet<&NodeName> = managers(site).iter().map(|it| it.name).collect();
    let rows = peer.rows(URL_GROUP);
    let mut covered = BTreeSet::new();
    let mut strangers = false;
    for (n, row) in rows.iter().enumerate() {
        let key = |sub: &str| format!("{URL_GROUP}[{n}].{sub}");
        for (sub, scheme) in [("traffic_manager_urls", "tcp"), ("traffic_manager_auth_urls", "ssl")] {
            for text in column(peer, row, sub) {
                let given = text.split_once(':').map_or("", |(scheme, _)| scheme);
                if given != scheme || !text.contains("://") {
                    report.warning(
                        "CV532",
                        peer.place(&key(sub)),
                        format!("{} holds {text:?}, which is no {scheme}:// URL", key(sub)),
                        format!("write {scheme}://HOST:PORT"),
                    );
                }
            }
        }
        let urls = column(peer, row, "traffic_manager_urls");
        let nodes = reached(site, peer, &urls);
        if 1 < nodes.len() {
            report.warning(
                "CV532",
                peer.place(&key("traffic_manager_urls")),
                format!(
                    "{} in one {URL_GROUP}: each event reaches only one of them, and each counts for itself",
                    list(&nodes)
                ),
                "write one [[apim.throttling.url_group]] for each of them",
            );
        }
        strangers |= nodes.len() < urls.len();
        covered.extend(nodes);
    }
    let missing: BTreeSet<_> = managers.difference(&covered).copied().collect();
    let publishes = matches!(peer.tier, Tier::Gateway | Tier::AllInOne | Tier::ControlPlane);
    if publishes && !rows.is_empty() && !strangers && !missing.is_empty() && !covered.is_empty() {
        report.warning(
            "CV532",
            peer.place(&format!("{URL_GROUP}[0]")),
            format!("no {URL_GROUP} names {}, which therefore never counts requests", list(&missing)),
            "write one [[apim.throttling.url_group]] for each traffic manager",
        );
    }
    if peer.tier == Tier::Gateway && rows.is_empty() && !managers.is_empty() {
        report.warning(
            "CV532",
            None,
            format!("{} has no [[{URL_GROUP}]], so it counts requests for itself", peer.name),
            "write one [[apim.throttling.url_group]] for each traffic manager",
        );
    }
}

/// Who counts requests: traffic managers, or else whoever does their job.
fn managers<'s, 'a>(site: &'s Site<'a>) -> Vec<&'s Peer<'a>> {
    let own: Vec<_> = site.tier(Tier::TrafficManager).collect();
    if own.is_empty() { site.control_planes() } else { own }
}

fn list(names: &BTreeSet<&NodeName>) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Gateways and traffic managers hear of APIs, policies and revoked tokens from every control plane, by name.
fn listening(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    let planes: BTreeSet<&NodeName> = site.control_planes().iter().map(|it| it.name).collect();
    if planes.is_empty() {
        return;
    }
    if peer.is_true("apim.event_hub.enable") == Some(false) {
        report.warning(
            "CV534",
            peer.place("apim.event_hub.enable"),
            format!("the event hub is off, so {} hears of no API, policy or revoked token", peer.name),
            "write enable = true",
        );
        return;
    }
    let key = if peer.value(LISTENING).is_some() { LISTENING } else { DECISIONS };
    let urls = peer.texts(key);
    if urls.is_empty() {
        report.warning(
            "CV534",
            None,
            format!("{LISTENING} is not set, so {} listens to itself", peer.name),
            format!("list every control plane: {}", list(&planes)),
        );
        return;
    }
    // Without the key, the decisions' endpoints stand in, which are traffic managers by right.
    if key == DECISIONS {
        return;
    }
    for text in &urls {
        let Some(url) = Url::parse(text) else { continue };
        if let Target::Tier(nodes) = site.target(peer_of(site, peer), url.host) {
            report.warning(
                "CV534",
                peer.place(key),
                format!(
                    "{key} names {}, the load balancer of {}: events of the others are missed",
                    url.host,
                    list(&names(&nodes))
                ),
                "name every control plane itself, on its AMQP port",
            );
            return;
        }
    }
    let heard = reached(site, peer, &urls);
    let missing: BTreeSet<_> = planes.difference(&heard).copied().collect();
    if !heard.is_empty() && !missing.is_empty() {
        report.warning(
            "CV534",
            peer.place(key),
            format!("{key} lacks {}, whose events {} never hears", list(&missing), peer.name),
            format!("list every control plane: {}", list(&planes)),
        );
    }
}

fn peer_of<'s, 'a>(site: &'s Site<'a>, peer: &'s Peer<'a>) -> &'s Peer<'a> {
    site.peers.iter().find(|it| it.name == peer.name).unwrap_or(peer)
}

fn names<'s>(peers: &[&'s Peer<'_>]) -> BTreeSet<&'s NodeName> {
    peers.iter().map(|it| it.name).collect()
}

/// A gateway serves only APIs that were deployed to an environment of one of its labels.
fn labels(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    let environments: BTreeSet<String> = site
        .control_planes()
        .iter()
        .flat_map(|it| it.rows("apim.gateway.environment").into_iter().map(move |row| (it, row)))
        .flat_map(|(it, row)| column(it, row, "name"))
        .collect();
    if environments.is_empty() {
        return;
    }
    for label in peer.texts(LABELS).into_iter().filter(|label| !environments.contains(label)) {
        report.warning(
            "CV535",
            peer.place(LABELS),
            format!(
                "no control plane has a gateway environment {label:?}, so nothing is ever deployed to {}",
                peer.name
            ),
            format!(
                "use one of {}, or make sure that it was created in the Admin portal",
                environments.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            ),
        );
    }
}

/// Of a pair, each tells the other.
pub(super) fn group(site: &Site<'_>, members: &[&Peer<'_>], report: &mut Report) {
    let paired =
        |it: &&&Peer<'_>| matches!(it.tier, Tier::AllInOne | Tier::ControlPlane | Tier::TrafficManager);
    if members.len() < 2 || members.iter().filter(paired).count() < members.len() {
        return;
    }
    let all = names(members);
    let typed: Vec<&str> =
        DUPLICATES.into_iter().filter(|key| members.iter().any(|it| it.value(key).is_some())).collect();
    if typed.is_empty() {
        report.warning(
            "CV533",
            None,
            format!(
                "{} have no event_duplicate_url: what one of them is told the others never hear",
                list(&all)
            ),
            "set event_duplicate_url to the others of the group, on their AMQP ports",
        );
    }
    for key in typed {
        for peer in members {
            report.node = Some(peer.name.clone());
            duplicate(site, peer, (key, &all), report);
            report.node = None;
        }
    }
}

fn duplicate(
    site: &Site<'_>,
    peer: &Peer<'_>,
    (key, all): (&str, &BTreeSet<&NodeName>),
    report: &mut Report,
) {
    let urls = peer.texts(key);
    let named = reached(site, peer, &urls);
    let others: BTreeSet<_> = all.iter().copied().filter(|name| *name != peer.name).collect();
    let remedy = format!("name the others of the group: {}", list(&others));
    if named.contains(peer.name) {
        let message = format!("{key} names {} itself, which hears everything already", peer.name);
        return report.warning("CV533", peer.place(key), message, remedy);
    }
    let missing: BTreeSet<_> = others.difference(&named).copied().collect();
    // A name that the fleet does not know may be another name of the one that seems to be missing.
    if missing.is_empty() || named.len() < urls.len() {
        return;
    }
    let message =
        format!("{key} of {} lacks {}, which never hears what {0} is told", peer.name, list(&missing));
    report.warning("CV533", peer.place(key), message, remedy);
}
