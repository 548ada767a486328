//! Passwords that nodes use towards each other, by the products' chain of defaults. Values are compared, never told.

use super::site::{Peer, Site, Tier, is_literal};
use crate::spec::report::Report;

/// Where the event hub's password comes from, nearest first.
const PASSWORD: [&str; 3] = ["apim.event_hub.password", "apim.throttling.password", "super_admin.password"];
const USERNAME: [&str; 3] = ["apim.event_hub.username", "apim.throttling.username", "super_admin.username"];
/// Those that end up inside an AMQP URL, and so have to be URL-encoded.
const IN_URLS: [&str; 2] = ["apim.event_hub.jms.password", "apim.throttling.jms.password"];

/// Characters that mean something in a URL, so that a password that holds them must be encoded there.
const BREAKS_URLS: &str = "@:/?#%&<>\"'\\ ";

pub(super) fn check(peer: &Peer<'_>, report: &mut Report) {
    if !peer.tier.is_api_manager() {
        return;
    }
    let Some((key, password)) = peer.first(&PASSWORD).filter(|(_, value)| is_literal(value)) else { return };
    let password = plain(&password);
    let breaks: String = password.chars().filter(|c| BREAKS_URLS.contains(*c)).collect();
    let is_encoded = |text: &str| {
        decode(text).as_deref() == Some(password)
            && !text.chars().any(|c| c != '%' && BREAKS_URLS.contains(c))
    };
    let encoded = IN_URLS.iter().find_map(|key| peer.text(key).map(|text| (*key, text)));
    match encoded.filter(|(_, text)| is_literal(text)) {
        Some((url_key, text)) if !is_encoded(&text) => report.warning(
            "CV528",
            peer.place(url_key),
            format!("{url_key} is not {key} with its special characters URL-encoded, so the broker refuses it"),
            format!("encode the value of {key}; nothing else belongs there"),
        ),
        None if !breaks.is_empty() && !IN_URLS.iter().any(|key| peer.value(key).is_some()) => report.warning(
            "CV528",
            peer.place(key),
            format!("{key} holds characters that end the broker's URL, so the login at the broker fails"),
            "add [apim.event_hub.jms] and [apim.throttling.jms] with the password URL-encoded, or choose another password",
        ),
        _ => {}
    }
    if breaks.contains(['&', '<']) && peer.text(key).is_some_and(|typed| typed == password) {
        report.warning(
            "CV528",
            peer.place(key),
            format!("{key} holds & or <, which breaks the XML files that it is printed into"),
            "wrap it: \"<![CDATA[...]]>\"",
        );
    }
}

/// Without the wrapping that XML asks for.
fn plain(password: &str) -> &str {
    password.strip_prefix("<![CDATA[").and_then(|rest| rest.strip_suffix("]]>")).unwrap_or(password)
}

/// `%XX` decoded; `None` if it is not well formed.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(hex, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

/// Gateways and traffic managers log in at the control plane as users that it knows.
pub(super) fn all(site: &Site<'_>, report: &mut Report) {
    let Some(plane) = site.control_planes().into_iter().next() else { return };
    let (Some(user), Some(password)) =
        (plane.text("super_admin.username"), plane.text("super_admin.password"))
    else {
        return;
    };
    for peer in &site.peers {
        if !matches!(peer.tier, Tier::Gateway | Tier::TrafficManager | Tier::KeyManager) {
            continue;
        }
        let (Some((_, name)), Some((key, own))) = (peer.first(&USERNAME), peer.first(&PASSWORD)) else {
            continue;
        };
        // Another user than the administrator has a password of its own, which no file tells.
        if name == user && plain(&own) != plain(&password) && is_literal(&own) && is_literal(&password) {
            report.node = Some(peer.name.clone());
            report.warning(
                "CV536",
                peer.place(key),
                format!(
                    "{} logs in at {} as {user:?} with another password than {1} has for it",
                    peer.name, plane.name
                ),
                format!(
                    "make {key} of {} and super_admin.password of {} equal, best by one secret()",
                    peer.name, plane.name
                ),
            );
            report.node = None;
        }
    }
}
