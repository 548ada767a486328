//! URLs of peers: a port that the peer does not have (its offset was forgotten), and key managers that are none.

use carbon::Value;

use super::server::{Endpoint, Family, Role, Server, Setting, Target, is_loopback, target};
use crate::spec::report::Report;

const SERVICE_URL: &str = "apim.key_manager.service_url";

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    for server in servers {
        for (key, value) in server.typed.data.iter() {
            ports((servers, server), key, value, report);
        }
        if server.family == Family::Apim {
            key_manager(servers, server, report);
        }
    }
    generations(servers, report);
}

/// Every URL of a value, wherever it stands.
fn ports((servers, server): (&[Server<'_>], &Server<'_>), key: &str, value: &Value, report: &mut Report) {
    match value {
        Value::List(items) => {
            for (n, item) in items.iter().enumerate() {
                let nested = matches!(item, Value::Map(_));
                let key = if nested { format!("{key}[{n}]") } else { key.to_owned() };
                ports((servers, server), &key, item, report);
            }
        }
        Value::Map(table) => {
            table
                .iter()
                .for_each(|(name, item)| ports((servers, server), &format!("{key}.{name}"), item, report));
        }
        // Neither a URL nor a reference to one: most values.
        Value::Text(text) if !text.contains("://") && !text.contains('$') => {}
        Value::Text(text) => {
            let Some(known) = server.resolve(text, 0).known() else { return };
            for url in known.split(',') {
                port((servers, server), key, url, report);
            }
        }
        _ => {}
    }
}

fn port((servers, server): (&[Server<'_>], &Server<'_>), key: &str, url: &str, report: &mut Report) {
    let Some(endpoint) = Endpoint::parse(url) else { return };
    let is_local = is_loopback(&endpoint.host);
    if is_local && !is_of_servers(server, key, &endpoint) {
        return;
    }
    let Target::WrongPort(nodes) = target(servers, server, &endpoint) else { return };
    if is_local {
        let what =
            format!("{key} names port {} of localhost, where no node of this fleet listens", endpoint.port);
        let remedy =
            "if a server of the fleet is meant, count its offset in; fine if another program listens there";
        return server.warn(report, ("CV525", key), (what, remedy.to_owned()));
    }
    let names: Vec<String> = nodes
        .iter()
        .map(|node| format!("{} (offset {})", node.name, node.node.bundle.service.offset))
        .collect();
    let names = crate::finding::names(names.iter().map(String::as_str));
    let what = format!("{key} names port {} of {names}, which has no such port", endpoint.port);
    let remedy = "the offset of a server does not move ports inside of URLs: derive them, as in \
                  {{ nodes('GROUP') | urls('https') }}";
    server.warn(report, ("CV525", key), (what, remedy.to_owned()));
}

/// Whether a key leads to a WSO2 server: other programs run beside a server, too.
fn is_of_servers(server: &Server<'_>, key: &str, endpoint: &Endpoint) -> bool {
    const OTHERS: [&str; 2] = ["apim.workflow.", "apim.analytics."];
    const ALWAYS: [&str; 3] = ["service_url", "notification_endpoint", "revoke_endpoint"];
    // Shipped configurations name the plain ports, even where nothing listens at them.
    const WITH_OFFSET: [&str; 5] = [
        ".ws_endpoint",
        ".wss_endpoint",
        ".websub_event_receiver_http_endpoint",
        ".websub_event_receiver_https_endpoint",
        "apim.devportal.url",
    ];
    let ends = |names: &[&str]| names.iter().any(|end| key.ends_with(end));
    if OTHERS.iter().any(|other| key.starts_with(other)) {
        return false;
    }
    matches!(endpoint.scheme.as_str(), "tcp" | "ssl")
        || ends(&ALWAYS)
        || (server.node.bundle.service.offset != 0 && ends(&WITH_OFFSET))
}

fn key_manager(servers: &[Server<'_>], server: &Server<'_>, report: &mut Report) {
    let Some(url) = server.text(SERVICE_URL).known() else { return };
    let is_typed = server.typed.data.find(SERVICE_URL).is_some();
    let mut tell = |what: &str, remedy: &str| {
        server.warn(report, ("CV524", SERVICE_URL), (what.to_owned(), remedy.to_owned()));
    };
    let Some(endpoint) = Endpoint::parse(&url) else {
        return tell("apim.key_manager.service_url is no URL", "write https://HOST:PORT/services/");
    };
    if is_typed && endpoint.path != "/services/" {
        tell("apim.key_manager.service_url does not end in /services/", "write https://HOST:PORT/services/");
    }
    let found = target(servers, server, &endpoint);
    let is_self = found.is_only(server) || (is_loopback(&endpoint.host) && !is_loopback(&server.node.host));
    if server.role == Role::Gateway && is_self {
        tell(
            "this gateway takes itself for the key manager, by its own address or by default",
            "name the control plane or key manager, or their load balancer",
        );
    } else if is_typed
        && let Target::Nodes(nodes) = &found
        && nodes.iter().all(|node| matches!(node.role, Role::Gateway | Role::TrafficManager))
    {
        tell("apim.key_manager.service_url leads to a server that is no key manager", "name the key manager");
    }
}

/// Which generation of Identity Server goes with which API Manager, and how.
fn generations(servers: &[Server<'_>], report: &mut Report) {
    let new = |server: &&Server<'_>| server.role == Role::Identity && (7, 0) <= server.version;
    let newest = servers.iter().find(new);
    let all_new = servers.iter().filter(|server| server.role == Role::Identity).all(|server| new(&server));
    let Some(identity) = newest else { return };
    for server in servers.iter().filter(|server| server.family == Family::Apim) {
        let mut tell = |key: &str, what: String, remedy: &str| {
            server.warn(report, ("CV542", key), (what, remedy.to_owned()));
        };
        let url = server.text(SERVICE_URL).known();
        let found = url.and_then(|url| Endpoint::parse(&url)).map(|url| target(servers, server, &url));
        let is_resident = found.is_some_and(|found| {
            let reached = found.reached();
            !reached.is_empty() && reached.iter().all(&new)
        });
        let remedy = "register it as a key manager of its own (WSO2 Identity Server 7) in the Admin portal";
        if is_resident {
            tell(SERVICE_URL, "Identity Server 7 cannot be the resident key manager".to_owned(), remedy);
        } else if all_new && server.text("apim.key_manager.type") == Setting::Is("WSO2-IS".to_owned()) {
            let what = "type \"WSO2-IS\" is for Identity Server before 7, and there is none in this fleet";
            tell("apim.key_manager.type", what.to_owned(), remedy);
        } else if server.version < (4, 3) {
            let what = format!(
                "API Manager {}.{} does not work with {}, which is Identity Server 7",
                server.version.0, server.version.1, identity.name
            );
            tell(SERVICE_URL, what, "take API Manager 4.3 or newer, or Identity Server 6.1");
        }
    }
}
