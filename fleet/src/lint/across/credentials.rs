//! Names and passwords that servers use among themselves.

use carbon::Value;

use super::{
    equal,
    server::{Family, Server, Setting},
};
use crate::{lint::xml::breaks_element, spec::report::Report};

const WHY: &str = "REST services and brokers of the one refuse the other";
const REMEDY: &str = "keep it in a layer that all nodes share, best as secret('...')";

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    let apim = || servers.iter().filter(|server| server.family == Family::Apim);
    for part in ["username", "password"] {
        let admin = format!("super_admin.{part}");
        // Where the administrator differs, what follows from it differs as well, and is not told again.
        let is_equal = equal(apim(), ("CV530", &admin), (WHY, REMEDY), report);
        if is_equal && equal(apim(), ("CV530", &format!("apim.throttling.{part}")), (WHY, REMEDY), report) {
            equal(apim(), ("CV530", &format!("apim.event_hub.{part}")), (WHY, REMEDY), report);
        }
    }
    listeners(servers, report);
    for server in servers {
        special(server, report);
        if server.family == Family::Apim {
            broker(server, report);
            misplaced(server, report);
        }
    }
}

/// The listener of a key manager asks API Manager, with a name that exists there.
fn listeners(servers: &[Server<'_>], report: &mut Report) {
    let Some(apim) = servers.iter().find(|server| server.role.is_control()) else { return };
    for server in servers.iter().filter(|server| server.family == Family::Identity) {
        for listener in server.elements("event_listener").iter().filter(|it| it.is("id", "token_revocation"))
        {
            for part in ["username", "password"] {
                let said = listener.text(&format!("properties.{part}")).known();
                let admin = apim.text(&format!("super_admin.{part}")).known();
                if said.is_some() && admin.is_some() && said != admin {
                    let key = listener.key_of(&format!("properties.{part}"));
                    let what = format!(
                        "{part} of token_revocation is not that of the administrator of {}: {WHY}",
                        apim.name
                    );
                    server.warn(report, ("CV530", &key), (what, REMEDY.to_owned()));
                }
            }
        }
    }
}

/// The text within `<![CDATA[...]]>`, and whether it was there.
fn plain(text: &str) -> (&str, bool) {
    let inner = text.trim().strip_prefix("<![CDATA[").and_then(|rest| rest.strip_suffix("]]>"));
    inner.map_or((text, false), |inner| (inner, true))
}

/// With a pack the rendered files themselves are parsed.
fn special(server: &Server<'_>, report: &mut Report) {
    if server.facts.is_some() {
        return;
    }
    for (key, value) in server.typed.data.iter() {
        // Secrets are kept in a vault, encrypted; URLs of databases are CV534.
        let is_url = key.starts_with("database.") && key.ends_with(".url");
        if !is_url && !key.starts_with("secrets.") && !key.starts_with("runtime_secrets.") {
            markup(server, key, value, report);
        }
    }
}

/// A value, or one within it, that breaks XML.
fn markup(server: &Server<'_>, key: &str, value: &Value, report: &mut Report) {
    match value {
        Value::List(items) => {
            for (n, item) in items.iter().enumerate() {
                let is_table = matches!(item, Value::Map(_));
                let key = if is_table { format!("{key}[{n}]") } else { key.to_owned() };
                markup(server, &key, item, report);
            }
        }
        Value::Map(table) => {
            table.iter().for_each(|(name, item)| markup(server, &format!("{key}.{name}"), item, report));
        }
        // What a reference leads to is told where it stands.
        Value::Text(text) if !text.contains("$ref{") => {
            let Some(text) = server.resolve(text, 0).known() else { return };
            if text.contains(['<', '&']) && breaks_element(&text) {
                let what = format!(
                    "{key} holds < or &: nearly every value is printed into XML as it is, and breaks it"
                );
                let remedy = "write &amp; and &lt;, or wrap it: \"<![CDATA[...]]>\"; in a password, best choose \
                              other characters";
                server.warn(report, ("CV529", key), (what, remedy.to_owned()));
            }
        }
        _ => {}
    }
}

/// A `<`, or an `&` that begins no entity.
pub(super) fn has_markup(text: &str) -> bool {
    const ENTITIES: [&str; 6] = ["amp;", "lt;", "gt;", "quot;", "apos;", "#"];
    let bare = |rest: &str| !ENTITIES.iter().any(|entity| rest.starts_with(entity));
    text.contains('<') || text.split('&').skip(1).any(bare)
}

/// Brokers are asked by a URL that holds name and password: what means something in a URL is encoded there.
fn broker(server: &Server<'_>, report: &mut Report) {
    let is_special = |text: &str| text.contains(['@', ':', '/', '?', '#', '&', '+', ' ', '%', '=']);
    for (scope, part) in [("event_hub", "username"), ("event_hub", "password"), ("throttling", "password")] {
        let (own, jms) = (format!("apim.{scope}.{part}"), format!("apim.{scope}.jms.{part}"));
        let Some(text) = server.text(&own).known() else { continue };
        let (text, _) = plain(&text);
        let typed = server.typed.data.find(&jms).is_some();
        match server.text(&jms) {
            Setting::Absent if is_special(text) => {
                let what = format!(
                    "{own} has characters that mean something in the broker's URL, which it is put into"
                );
                let remedy = format!("set {jms} to the same, URL-encoded");
                let key =
                    if server.typed.data.find(&own).is_some() { own } else { format!("super_admin.{part}") };
                server.warn(report, ("CV531", &key), (what, remedy));
            }
            Setting::Is(encoded) if typed && decoded(&encoded) != text => {
                let what = format!("{jms} is not {own}, URL-encoded: the broker refuses one of the two");
                server.warn(
                    report,
                    ("CV531", &jms),
                    (what, format!("write {own} with %XX for special characters")),
                );
            }
            Setting::Is(_) | Setting::Absent | Setting::Unknown => {}
        }
    }
}

/// The password of the REST services is taken as it stands: one that is encoded there is another password.
fn misplaced(server: &Server<'_>, report: &mut Report) {
    let known = |key: &str| server.text(key).known();
    let (hub, admin) = (known("apim.event_hub.password"), known("super_admin.password"));
    let (Some(hub), Some(admin)) = (hub, admin) else { return };
    let (hub, admin) = (plain(&hub).0, plain(&admin).0);
    if hub != admin && decoded(hub) == admin {
        let what = "apim.event_hub.password is the administrator's password URL-encoded; REST services take it as it stands";
        let remedy = "write it plainly here, and encoded in [apim.event_hub.jms] only";
        server.warn(report, ("CV531", "apim.event_hub.password"), (what.to_owned(), remedy.to_owned()));
    }
}

/// `%XX` replaced; what is no such sequence stays.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = digits.filter(|_| first == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
