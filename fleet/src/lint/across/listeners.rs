//! The event listener that tells API Manager of revoked tokens: every part of it fails without a word.

use super::server::{Element, Endpoint, Family, Role, Server, Setting, Target, target};
use crate::spec::report::Report;

const ID: &str = "token_revocation";
const TYPE: &str = "org.wso2.carbon.identity.core.handler.AbstractIdentityHandler";
const NAME: &str = "org.wso2.is.notification.ApimOauthEventInterceptor";
const HEADER: &str = "properties.'header.X-WSO2-KEY-MANAGER'";
const ENDPOINT: &str = "properties.notification_endpoint";
const PATH: &str = "/internal/data/v1/notify";

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    for server in servers {
        for listener in server.elements("event_listener") {
            if listener.is("id", ID) {
                header(servers, server, &listener, report);
                constants(server, &listener, report);
                endpoint(servers, server, &listener, report);
            } else if listener.table.contains_key(ENDPOINT) {
                let what =
                    "notification_endpoint belongs to another listener than token_revocation".to_owned();
                let remedy = "[event_listener.properties] belongs to the [[event_listener]] right before it";
                server.warn(report, ("CV522", &listener.key_of(ENDPOINT)), (what, remedy.to_owned()));
            }
        }
    }
}

/// A plain look-up: a value without a handler is a success that does nothing.
fn header(servers: &[Server<'_>], server: &Server<'_>, listener: &Element<'_>, report: &mut Report) {
    let apim: Vec<&Server<'_>> = servers.iter().filter(|other| other.family == Family::Apim).collect();
    // 3.2 and its Docker samples write the older word.
    let is_old = apim.is_empty() || apim.iter().any(|other| other.version <= (3, 2));
    let connector = server.text("apim.key_manager.type") == Setting::Is("WSO2-IS".to_owned());
    let wanted: &[&str] = match server.family {
        Family::Apim if connector => &["default", "WSO2-IS"],
        Family::Apim => &["default"],
        Family::Identity if is_old => &["WSO2-IS", "WSO2IS"],
        Family::Identity => &["WSO2-IS"],
    };
    let said = match listener.text(HEADER) {
        Setting::Unknown => return,
        Setting::Absent if server.family == Family::Apim => return,
        Setting::Absent => "no header.X-WSO2-KEY-MANAGER".to_owned(),
        Setting::Is(text) if wanted.contains(&text.as_str()) => return,
        Setting::Is(text) => format!("header.X-WSO2-KEY-MANAGER = {text:?}"),
    };
    let what = format!(
        "token_revocation has {said}, which API Manager has no handler for: it answers 200 and does nothing"
    );
    let remedy = format!("write {:?}; it is the kind of key manager, not its display name", wanted[0]);
    server.warn(report, ("CV521", &listener.key_of(HEADER)), (what, remedy));
}

fn constants(server: &Server<'_>, listener: &Element<'_>, report: &mut Report) {
    for (key, wanted) in [("type", TYPE), ("name", NAME)] {
        let is_wrong = match listener.text(key) {
            Setting::Is(text) => text != wanted,
            Setting::Absent => true,
            Setting::Unknown => false,
        };
        if is_wrong {
            let what = format!("token_revocation with this {key} never fires");
            server.warn(
                report,
                ("CV522", &listener.key_of(key)),
                (what, format!("write {key} = {wanted:?}")),
            );
        }
    }
}

fn endpoint(servers: &[Server<'_>], server: &Server<'_>, listener: &Element<'_>, report: &mut Report) {
    let Some(url) = listener.text(ENDPOINT).known() else { return };
    let remedy =
        format!("name a control plane (or its load balancer) at its management port, with the path {PATH}");
    let key = listener.key_of(ENDPOINT);
    let mut tell = |what: &str| server.warn(report, ("CV523", &key), (what.to_owned(), remedy.clone()));
    let Some(endpoint) = Endpoint::parse(&url) else {
        return tell("the notification endpoint is no URL");
    };
    if endpoint.path != PATH {
        tell("the notification endpoint has another path than the one that API Manager listens at");
    }
    let found = target(servers, server, &endpoint);
    let reached = found.reached();
    let is_self = reached.iter().any(|other| other.name == server.name);
    if !reached.is_empty() && reached.iter().all(|other| matches!(other.role, Role::Gateway | Role::Identity))
    {
        return tell(if is_self && server.role == Role::Identity {
            "revoked tokens are told to this Identity Server itself, which does not listen for them"
        } else {
            "the notification endpoint is on a server that does not listen for revoked tokens"
        });
    }
    if let Target::Nodes(nodes) = &found
        && nodes.iter().all(|node| node.port("https") != Some(endpoint.port))
    {
        tell("the notification endpoint is not at the management port of its server");
    }
}
