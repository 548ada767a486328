//! Databases and user stores that nodes share, or silently do not.

use super::{
    credentials::has_markup,
    equal, groups, same,
    server::{Family, Role, Server, Setting},
};
use crate::spec::report::Report;

/// What the product infers driver, URL and validation query from.
const TYPES: [&str; 7] = ["mysql", "mariadb", "oracle", "mssql", "db2", "postgre", "h2"];
const REMEDY: &str = "keep it in a layer that all of them share";

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    shared(servers, report);
    user_stores(servers, report);
    let apim = servers.iter().filter(|server| server.family == Family::Apim).count();
    let identity = servers.iter().filter(|server| server.role == Role::Identity).count();
    for server in servers {
        let siblings = if server.family == Family::Apim { apim } else { identity };
        if 1 < siblings {
            embedded(server, report);
        }
        // With a pack, lint of the node by itself says this more exactly.
        if server.facts.is_none() {
            alone(server, report);
        }
    }
}

/// Where a database is, as one text: by URL or by its parts, which cannot be compared with each other.
pub(super) fn location(server: &Server<'_>, name: &str) -> Setting {
    let of = |part: &str| server.typed.data.find(&format!("database.{name}.{part}"));
    if of("url").is_some() {
        return server.text(&format!("database.{name}.url"));
    }
    if of("hostname").is_none() {
        return Setting::Unknown;
    }
    let parts = ["type", "hostname", "port", "name", "sid"];
    let mut all = String::from("parts");
    for part in parts.iter().filter(|part| of(part).is_some()) {
        match server.text(&format!("database.{name}.{part}")) {
            Setting::Is(text) => all.push_str(&format!(" {part}={text}")),
            Setting::Absent | Setting::Unknown => return Setting::Unknown,
        }
    }
    Setting::Is(all)
}

fn shared(servers: &[Server<'_>], report: &mut Report) {
    let old_identity = |server: &&Server<'_>| server.family == Family::Identity && server.version < (7, 0);
    let users = servers.iter().filter(|server| server.family == Family::Apim || old_identity(server));
    let apis = servers.iter().filter(|server| server.is_apim());
    let mut scopes: Vec<(&str, Vec<&Server<'_>>, &str)> = vec![
        ("shared_db", users.collect(), "users, registry and tenants of the one are unknown to the other"),
        ("apim_db", apis.collect(), "APIs and subscriptions of the one are unknown to the other"),
    ];
    for group in groups(servers) {
        scopes.push((
            "identity_db",
            group,
            "applications, sessions and tokens of the one are unknown to the other",
        ));
    }
    for (name, scope, why) in scopes {
        // A URL and parts say the same in other words: only what is written alike is compared.
        let by_url = |server: &&Server<'_>| server.typed.data.find(&format!("database.{name}.url")).is_some();
        let (urls, parts): (Vec<&Server<'_>>, Vec<&Server<'_>>) = scope.into_iter().partition(by_url);
        for (alike, part) in [(urls, "url"), (parts, "hostname")] {
            let key = format!("database.{name}.{part}");
            same(alike, ("CV535", &key), |server| location(server, name), (why, REMEDY), report);
        }
    }
}

fn user_stores(servers: &[Server<'_>], report: &mut Report) {
    const KEY: &str = "user_store.type";
    let shares = |server: &&Server<'_>| server.family == Family::Apim || server.version < (7, 0);
    let typed = |server: &&Server<'_>| server.typed.data.find(KEY).is_some();
    let why = "users that the one creates, the other cannot read";
    equal(servers.iter().filter(shares).filter(typed), ("CV532", KEY), (why, REMEDY), report);
    for group in groups(servers) {
        let new = group.into_iter().filter(|server| !shares(server)).filter(typed);
        equal(new, ("CV532", KEY), (why, REMEDY), report);
    }
    for server in servers.iter().filter(typed) {
        let since = if server.family == Family::Apim { (3, 1) } else { (5, 10) };
        if since <= server.version && server.text(KEY) == Setting::Is("database".to_owned()) {
            let what = "user_store.type = \"database\" does not fit the schema of this version, whose users have unique ids";
            let remedy =
                "write \"database_unique_id\", unless the database was migrated from an older version";
            server.warn(report, ("CV532", KEY), (what.to_owned(), remedy.to_owned()));
        }
    }
}

/// A database of its own, in a file: nothing fails, and nothing is shared.
fn embedded(server: &Server<'_>, report: &mut Report) {
    let remedy = "give all of them one database server";
    let mut tell = |name: &str, what: String| {
        server.warn(report, ("CV533", &format!("database.{name}.type")), (what, remedy.to_owned()));
    };
    for name in ["apim_db", "shared_db", "identity_db"] {
        let of = |part: &str| {
            server
                .typed
                .data
                .find(&format!("database.{name}.{part}"))
                .map(|_| server.text(&format!("database.{name}.{part}")))
        };
        let is_h2 = of("type") == Some(Setting::Is("h2".to_owned()))
            || matches!(of("url"), Some(Setting::Is(url)) if url.starts_with("jdbc:h2:"));
        if is_h2 {
            tell(
                name,
                format!(
                    "database.{name} is a file of this node alone, and there are other nodes that should share it"
                ),
            );
        }
    }
    if server.role.is_control() && server.family == Family::Apim && !server.has("database.apim_db") {
        tell(
            "apim_db",
            "without [database.apim_db] this node keeps its APIs in a file of its own".to_owned(),
        );
    }
}

/// What a pack would say, as far as it can be said without.
fn alone(server: &Server<'_>, report: &mut Report) {
    let mut names: Vec<&str> = server
        .typed
        .data
        .iter()
        .filter_map(|(key, _)| key.strip_prefix("database.")?.split('.').next())
        .collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let key = |part: &str| format!("database.{name}.{part}");
        let typed = |part: &str| server.typed.data.find(&key(part));
        if let Setting::Is(url) = server.text(&key("url"))
            && typed("url").is_some()
            && !url.contains("<![CDATA[")
            && has_markup(&url)
        {
            let what = format!("{} has a bare &, which breaks the XML of the data sources", key("url"));
            server.warn(report, ("CV534", &key("url")), (what, "write &amp; for &".to_owned()));
        }
        let complete = ["driver", "url", "validationQuery"].iter().all(|part| typed(part).is_some());
        let Some(kind) = typed("type").map(carbon::Value::to_java_string).filter(|_| !complete) else {
            continue;
        };
        if !TYPES.contains(&kind.as_str()) {
            let what = format!(
                "{} = {kind:?} is no type that driver, URL and validation query come from",
                key("type")
            );
            let remedy =
                format!("write one of {}, or driver, url and validationQuery yourself", TYPES.join(", "));
            server.warn(report, ("CV534", &key("type")), (what, remedy));
        }
    }
}
