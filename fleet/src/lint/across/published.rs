//! Credentials that every copy of a product ships with and that a server of the fleet still has.

use std::collections::BTreeSet;

use carbon::Value;

use super::server::{Family, Server, Setting};
use crate::{
    bundle::HomePath,
    finding::{is_secret_key, names},
    published::{ENCRYPTION_KEY, KEY_STORES, PASSWORDS, is_published},
    spec::{DefaultCredentials, report::Report},
};

pub(super) fn check(servers: &[Server<'_>], accepted: DefaultCredentials, report: &mut Report) {
    match accepted {
        DefaultCredentials::Told => servers.iter().for_each(|server| tell(server, report)),
        DefaultCredentials::Accepted => {}
    }
}

/// One finding per server: whoever sees one of these sees to all of them.
fn tell(server: &Server<'_>, report: &mut Report) {
    let mut typed = Vec::new();
    for (key, value) in server.typed.data.iter() {
        collect(key, value, &mut typed);
    }
    typed.retain(|key| !is_elsewhere(key) && !is_local_database(server, key));
    let typed: BTreeSet<String> = typed.into_iter().collect();
    let stores = stores(server);
    let place = typed.first().cloned().unwrap_or_else(|| "keystore.primary.file_name".to_owned());
    let mut found: Vec<String> = typed.into_iter().collect();
    found.extend(default_key(server));
    found.extend(stores);
    if found.is_empty() {
        return;
    }
    let what = format!(
        "everybody who has the product knows these credentials: {}",
        names(found.iter().map(String::as_str))
    );
    let remedy = "give the fleet its own; for a test fleet write default_credentials = \"accepted\" at the top of \
                  fleet.toml";
    server.warn(report, ("CV557", &place), (what, remedy.to_owned()));
}

fn collect(key: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Text(text) if is_secret_key(key) && is_published(key, text) => found.push(key.to_owned()),
        Value::List(items) => {
            for (n, item) in items.iter().enumerate() {
                collect(&format!("{key}[{n}]"), item, found);
            }
        }
        Value::Map(table) => {
            table.iter().for_each(|(name, item)| collect(&format!("{key}.{name}"), item, found));
        }
        _ => {}
    }
}

/// Stores are judged by what they hold; a truststore holds nothing secret. Brackets in `[secrets]` are CV514.
fn is_elsewhere(key: &str) -> bool {
    ["keystore.", "truststore.", "secrets.", "runtime_secrets."].iter().any(|table| key.starts_with(table))
}

/// Nobody reaches an H2 file over the network.
fn is_local_database(server: &Server<'_>, key: &str) -> bool {
    let Some((table, _)) = key.rsplit_once('.').filter(|(table, _)| table.starts_with("database.")) else {
        return false;
    };
    let of = |name: &str| server.typed.data.find(&format!("{table}.{name}")).map(Value::to_java_string);
    match (of("url"), of("type")) {
        (Some(url), _) => url.starts_with("jdbc:h2:"),
        (None, Some(kind)) => kind == "h2",
        (None, None) => true,
    }
}

/// The shipped encryption key, if nothing else was typed.
fn default_key(server: &Server<'_>) -> Option<String> {
    let has_default = server.family == Family::Identity && (5, 11) <= server.version;
    let is_default = match server.text("encryption.key") {
        Setting::Absent => has_default,
        Setting::Is(key) => server.typed.data.find("encryption.key").is_none() && key == ENCRYPTION_KEY,
        Setting::Unknown => false,
    };
    is_default.then(|| "encryption.key (by default)".to_owned())
}

/// Key stores that are still the product's, and stores of one's own that its password opens.
fn stores(server: &Server<'_>) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for store in ["primary", "tls", "internal"] {
        let known = |part: &str| server.text(&format!("keystore.{store}.{part}")).known();
        let (Some(file), Some(password)) = (known("file_name"), known("password")) else { continue };
        if !PASSWORDS.contains(&password.as_str()) || !seen.insert(file.clone()) {
            continue;
        }
        if KEY_STORES.contains(&file.as_str()) && !is_brought(server, &file) {
            found.push(format!("the private key in {file}"));
        } else {
            found.push(format!("keystore.{store}.password"));
        }
    }
    found
}

/// Whether the fleet directory has a file for that name.
fn is_brought(server: &Server<'_>, file: &str) -> bool {
    let path = HomePath::parse(&format!("{}{file}", super::keys::SECURITY)).ok();
    path.is_some_and(|path| server.node.bundle.files.contains_key(&path))
}
