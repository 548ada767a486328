//! `[[event_listener]]` `token_revocation`: a Key Manager tells API Manager that a token is no longer good. A wrong word
//! anywhere in it renders, starts, answers 200, and the revoked token goes on working.

use carbon::value::Table;

use super::site::{Peer, Site, Target, Tier, Url};
use crate::spec::report::Report;

const TYPE: &str = "org.wso2.carbon.identity.core.handler.AbstractIdentityHandler";
const NAME: &str = "org.wso2.is.notification.ApimOauthEventInterceptor";
const PATH: &str = "/internal/data/v1/notify";
const HEADER: &str = "header.X-WSO2-KEY-MANAGER";

pub(super) fn check(site: &Site<'_>, peer: &Peer<'_>, report: &mut Report) {
    for (n, row) in peer.rows("event_listener").into_iter().enumerate() {
        let text = |key: &str| row.get(key).and_then(|value| peer.texts_of(value).pop());
        let key = |sub: &str| format!("event_listener[{n}].{sub}");
        let is_revocation = text("id").is_some_and(|id| id == "token_revocation")
            || text("name").is_some_and(|name| name == NAME);
        if !is_revocation {
            continue;
        }
        for (sub, expected) in [("id", "token_revocation"), ("type", TYPE), ("name", NAME)] {
            let given = text(sub).unwrap_or_default();
            if given != expected {
                report.warning(
                    "CV522",
                    peer.place(&key(sub)).or_else(|| peer.place(&format!("event_listener[{n}]"))),
                    format!("with {sub} = {given:?} this listener never hears of a revoked token"),
                    format!("write {sub} = {expected:?}"),
                );
            }
        }
        header(site, peer, (row, n), report);
        match property(row, "notification_endpoint") {
            Some((sub, value)) => {
                let url = peer.texts_of(value).pop().unwrap_or_default();
                endpoint(site, peer, (&key(&sub), &url), report);
            }
            None => report.warning(
                "CV522",
                peer.place(&format!("event_listener[{n}]")),
                "this listener has no notification_endpoint, so nobody is told of a revoked token",
                "give it below [event_listener.properties], which belongs to the last [[event_listener]] before it",
            ),
        }
    }
}

/// A property of the listener, however its name is quoted.
fn property<'r>(row: &'r Table, name: &str) -> Option<(String, &'r carbon::Value)> {
    let plain = |key: &str| key.replace(['\'', '"'], "");
    let mut entries = row.iter();
    entries
        .find(|(key, _)| plain(key) == format!("properties.{name}"))
        .map(|(key, value)| (key.to_string(), value))
}

/// The header is looked up in a map, and a word that is not in it is a silent no-op.
fn header(site: &Site<'_>, peer: &Peer<'_>, (row, n): (&Table, usize), report: &mut Report) {
    let found = property(row, HEADER);
    let given = found.as_ref().and_then(|(_, value)| peer.texts_of(value).pop()).unwrap_or_default();
    // API Manager 3.2 knows the connector by another word.
    let is_old = site.peers.iter().any(|it| it.tier.is_api_manager() && it.version == Some((3, 2)));
    let is_identity = peer.tier == Tier::IdentityServer;
    let expected = if is_identity { "WSO2-IS" } else { "default" };
    let is_known = given == expected || is_identity && is_old && given == "WSO2IS";
    // A custom Key Manager brings its own word, which only its author knows.
    let is_resident = peer.text("apim.key_manager.type").is_none_or(|kind| kind == "default");
    if is_known || !is_identity && !is_resident {
        return;
    }
    let place = found.and_then(|(sub, _)| peer.place(&format!("event_listener[{n}].{sub}")));
    report.warning(
        "CV521",
        place.or_else(|| peer.place(&format!("event_listener[{n}]"))),
        format!("{HEADER} is {given:?}: API Manager answers 200 and forgets the revocation"),
        format!("write '{HEADER}' = {expected:?}"),
    );
}

fn endpoint(site: &Site<'_>, peer: &Peer<'_>, (key, text): (&str, &str), report: &mut Report) {
    let Some(url) = Url::parse(text) else { return };
    let remedy = format!("name a control plane, all-in-one or traffic manager: https://HOST:9443{PATH}");
    if url.path != PATH {
        report.warning(
            "CV523",
            peer.place(key),
            format!("{key} has the path {:?}, which nothing answers", url.path),
            remedy,
        );
        return;
    }
    let (whose, is_node) = match site.target(peer, url.host) {
        Target::Nodes(nodes) => (nodes, true),
        Target::Tier(nodes) => (nodes, false),
        Target::Stranger => return,
    };
    let hears =
        |it: &&Peer<'_>| matches!(it.tier, Tier::AllInOne | Tier::ControlPlane | Tier::TrafficManager);
    let listeners: Vec<_> = whose.iter().copied().filter(hears).collect();
    let message = if listeners.is_empty() {
        let other = whose.first().map_or("nobody", |it| it.name.as_str());
        format!("{key} names {other}, which does not hear of revoked tokens")
    } else if is_node && !listeners.iter().any(|it| it.port("https") == Some(url.port)) {
        let ports: Vec<String> = listeners
            .iter()
            .map(|it| format!("{} listens on {}", it.name, it.port("https").unwrap_or_default()))
            .collect();
        format!("{key} asks port {}, and {}", url.port, ports.join(", "))
    } else {
        return;
    };
    report.warning("CV523", peer.place(key), message, remedy);
}
