//! Brokers and receivers between control planes, traffic managers and gateways: each node is addressed by itself, never
//! through a load balancer, and each of a pair names the other.

use std::collections::BTreeSet;

use super::{
    groups,
    server::{Endpoint, Family, Role, Server, Setting, Target, is_loopback, target},
};
use crate::{
    ids::{GroupName, NodeName},
    spec::report::Report,
};

const LISTENING: &str = "apim.event_hub.event_listening_endpoints";
const SERVICE_URL: &str = "apim.event_hub.service_url";
const DECISIONS: &str = "apim.throttling.throttle_decision_endpoints";

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    for server in servers.iter().filter(|server| server.is_apim()) {
        receivers(
            (servers, server),
            "apim.throttling.url_group",
            ["traffic_manager_urls", "traffic_manager_auth_urls"],
            report,
        );
        receivers((servers, server), "apim.event_hub.publish.url_group", ["urls", "auth_urls"], report);
        if matches!(server.role, Role::Gateway | Role::TrafficManager) {
            listening(servers, server, report);
        }
    }
    for group in groups(servers) {
        duplicates(servers, &group, report);
    }
}

/// The servers that texts lead to, and whether every text led to one.
fn named<'s>(
    servers: &'s [Server<'_>],
    from: &'s Server<'_>,
    urls: &[String],
) -> (BTreeSet<&'s NodeName>, bool) {
    let (mut names, mut all) = (BTreeSet::new(), true);
    for url in urls {
        match Endpoint::parse(url).map(|endpoint| target(servers, from, &endpoint)) {
            Some(Target::Nodes(nodes) | Target::WrongPort(nodes)) => {
                names.extend(nodes.iter().map(|node| node.name));
            }
            Some(Target::Balancer(_) | Target::Elsewhere) | None => all = false,
        }
    }
    (names, all)
}

fn list<'n>(names: impl IntoIterator<Item = &'n NodeName>) -> String {
    crate::finding::names(names.into_iter().map(NodeName::as_str))
}

/// Groups of receivers: within one, one of the URLs is taken; all groups get every event.
fn receivers(
    (servers, server): (&[Server<'_>], &Server<'_>),
    key: &str,
    [plain, secure]: [&str; 2],
    report: &mut Report,
) {
    let groups = server.elements(key);
    let mut everybody: BTreeSet<&NodeName> = BTreeSet::new();
    let mut all = true;
    for group in &groups {
        for (part, scheme) in [(plain, "tcp"), (secure, "ssl")] {
            let urls = group.texts(part);
            let wrong = urls.iter().find(|url| !url.starts_with(&format!("{scheme}://")));
            if let Some(url) = wrong.filter(|url| !url.contains('$')) {
                let what = format!("{part} has {url:?}, which is no {scheme}:// URL");
                let remedy = format!("write {scheme}://HOST:PORT");
                server.warn(report, ("CV536", &group.key_of(part)), (what, remedy));
            }
            let (names, known) = named(servers, server, &urls);
            all &= known;
            if 1 < names.len() {
                let what = format!(
                    "one url_group names {}: each event goes to one of them only, and each counts for itself",
                    list(names.iter().copied())
                );
                let remedy = "write one [[...url_group]] for each node, so that every one gets every event";
                server.warn(report, ("CV536", &group.key_of(part)), (what, remedy.to_owned()));
            }
            everybody.extend(names);
        }
    }
    if key != "apim.throttling.url_group" || everybody.is_empty() || !all {
        return;
    }
    // The tier that was meant is that of the nodes that are named.
    let named = servers.iter().filter(|named| everybody.contains(named.name));
    let tiers: BTreeSet<&GroupName> = named.map(|named| &named.node.group).collect();
    let tier = servers.iter().filter(|other| tiers.contains(&other.node.group));
    let missing: Vec<&NodeName> =
        tier.map(|other| other.name).filter(|name| !everybody.contains(name)).collect();
    if !missing.is_empty() {
        let what =
            format!("no url_group names {}, whose counters then miss what this node serves", list(missing));
        server.warn(
            report,
            ("CV536", &groups[0].key_of(plain)),
            (what, "write one [[...url_group]] for each node".to_owned()),
        );
    }
}

/// What a gateway or traffic manager must hear of.
fn listening(servers: &[Server<'_>], server: &Server<'_>, report: &mut Report) {
    if server.family != Family::Apim || server.version < (4, 0) {
        return;
    }
    if server.text("apim.event_hub.enable") == Setting::Is("false".to_owned()) {
        let what = "with apim.event_hub.enable = false this node hears neither of APIs nor of revoked tokens";
        server.warn(
            report,
            ("CV538", "apim.event_hub.enable"),
            (what.to_owned(), "set it to true".to_owned()),
        );
        return;
    }
    let control = |role: Role| role.is_control();
    brokers((servers, server), LISTENING, control, report);
    if server.role == Role::Gateway {
        brokers((servers, server), DECISIONS, |role| role == Role::TrafficManager, report);
        control_plane(servers, server, report);
    }
    if server.typed.data.find(LISTENING).is_none() && server.typed.data.find(DECISIONS).is_none() {
        let what = "without apim.event_hub.event_listening_endpoints this node listens to itself";
        let remedy = "name the broker of every control plane: {{ nodes('CONTROL') | urls('amqp', 'tcp') }}";
        server.warn(report, ("CV538", LISTENING), (what.to_owned(), remedy.to_owned()));
    }
}

/// A gateway fetches APIs, subscriptions and revoked tokens from there when it starts.
fn control_plane(servers: &[Server<'_>], server: &Server<'_>, report: &mut Report) {
    let Some(url) = server.text(SERVICE_URL).known() else { return };
    let is_typed = server.typed.data.find(SERVICE_URL).is_some();
    let remedy =
        "name the services of the control plane, or of its load balancer: https://HOST:PORT/services/";
    let mut tell = |what: &str| {
        server.warn(report, ("CV554", SERVICE_URL), (what.to_owned(), remedy.to_owned()));
    };
    let Some(endpoint) = Endpoint::parse(&url) else {
        return tell("apim.event_hub.service_url is no URL");
    };
    let found = target(servers, server, &endpoint);
    if found.is_only(server) || (is_loopback(&endpoint.host) && !is_loopback(&server.node.host)) {
        tell(if is_typed {
            "apim.event_hub.service_url is this gateway itself, which knows of no APIs, subscriptions and revoked tokens"
        } else {
            "without apim.event_hub.service_url this gateway asks itself for APIs, subscriptions and revoked tokens"
        });
    } else if let Target::Nodes(nodes) = &found
        && nodes.iter().all(|node| node.role == Role::Gateway)
    {
        tell(
            "apim.event_hub.service_url leads to a gateway, which knows of no APIs, subscriptions and revoked tokens",
        );
    }
}

fn brokers(
    (servers, server): (&[Server<'_>], &Server<'_>),
    key: &str,
    wanted: fn(Role) -> bool,
    report: &mut Report,
) {
    let urls = server.texts(key);
    let remedy = "name the broker of every node, one by one";
    for url in &urls {
        let Some(endpoint) = Endpoint::parse(url) else { continue };
        if let Target::Balancer(nodes) = target(servers, server, &endpoint)
            && 1 < nodes.len()
        {
            let what = format!(
                "{key} names {}, which {} share: brokers do not work through a load balancer",
                endpoint.host,
                list(nodes.iter().map(|node| node.name))
            );
            return server.warn(report, ("CV538", key), (what, remedy.to_owned()));
        }
    }
    let (names, all) = named(servers, server, &urls);
    let tier: Vec<&Server<'_>> =
        servers.iter().filter(|other| other.family == Family::Apim && wanted(other.role)).collect();
    let is_some = tier.iter().any(|other| names.contains(other.name));
    let missing: Vec<&NodeName> =
        tier.iter().map(|other| other.name).filter(|name| !names.contains(name)).collect();
    if all && is_some && !missing.is_empty() {
        let what = format!("{key} lacks {}, whose events this node never hears", list(missing));
        server.warn(report, ("CV538", key), (what, remedy.to_owned()));
    }
}

/// Each of a pair sends what it gets to the other.
fn duplicates(servers: &[Server<'_>], group: &[&Server<'_>], report: &mut Report) {
    for server in group {
        if server.family != Family::Apim {
            continue;
        }
        let needed: &[&str] = match server.role {
            Role::TrafficManager => &["apim.throttling.event_duplicate_url"],
            Role::ControlPlane if (4, 0) <= server.version => &["apim.event_hub.event_duplicate_url"],
            Role::AllInOne if (4, 0) <= server.version => {
                &["apim.event_hub.event_duplicate_url", "apim.throttling.event_duplicate_url"]
            }
            Role::AllInOne => &["apim.throttling.event_duplicate_url"],
            Role::ControlPlane | Role::Gateway | Role::KeyManager | Role::Identity => continue,
        };
        let others: BTreeSet<&NodeName> =
            group.iter().map(|other| other.name).filter(|name| *name != server.name).collect();
        let typed = needed.iter().filter(|key| server.typed.data.find(key).is_some()).count();
        if typed == 0 && !others.is_empty() {
            let what = format!(
                "without {} events that this node gets never reach the others of its group",
                needed[0]
            );
            server.warn(
                report,
                ("CV537", needed[0]),
                (what, "name the broker of each other node of the group".to_owned()),
            );
        }
        for key in needed.iter().filter(|key| server.typed.data.find(key).is_some()) {
            let (names, all) = named(servers, server, &server.texts(key));
            let what = if names.contains(server.name) {
                format!("{key} names this node itself, and events go round in circles")
            } else if all && names != others {
                format!(
                    "{key} names {} and not exactly {}",
                    if names.is_empty() { "nobody".to_owned() } else { list(names) },
                    if others.is_empty() { "nobody".to_owned() } else { list(others.iter().copied()) }
                )
            } else {
                continue;
            };
            server.warn(
                report,
                ("CV537", key),
                (what, "name the broker of each other node of the group".to_owned()),
            );
        }
    }
}
