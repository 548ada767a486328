//! Members of a cluster, what each node must have for itself, and how a server is started.

use std::collections::BTreeMap;

use carbon::{Dialect, Value, Version};

use super::{
    databases::location,
    equal, groups,
    server::{Family, Server, Setting, is_loopback},
};
use crate::spec::report::Report;

const MEMBERS: &str = "clustering.members";
const SCHEME: &str = "clustering.membership_scheme";

/// Arrays of tables whose keys are nothing in one table.
const LISTS: [(&str, &[&str]); 6] = [
    ("apim.throttling.url_group", &["traffic_manager_urls", "traffic_manager_auth_urls", "type"]),
    ("apim.event_hub.publish.url_group", &["urls", "auth_urls", "type"]),
    ("apim.gateway.environment", &["name", "service_url", "http_endpoint", "https_endpoint"]),
    ("event_listener", &["id", "type", "name", "order"]),
    ("resource.access_control", &["context", "secure", "http_method"]),
    ("apim.jwt.issuer", &["name", "consumer_key_claim", "scopes_claim"]),
];

pub(super) fn check(servers: &[Server<'_>], report: &mut Report) {
    for group in groups(servers) {
        members(&group, report);
        variables(&group, report);
    }
    unique(servers, report);
    alone(servers, report);
    for server in servers {
        started(server, report);
        if server.facts.is_none() {
            without_pack(server, report);
        }
    }
}

fn members(group: &[&Server<'_>], report: &mut Report) {
    let typed: Vec<&Server<'_>> = group.iter().copied().filter(|server| server.has("clustering")).collect();
    for server in &typed {
        let mut tell = |key: &str, what: String, remedy: &str| {
            server.warn(report, ("CV541", key), (what, remedy.to_owned()));
        };
        let members = server.texts(MEMBERS);
        if !members.is_empty() && server.typed.data.find(SCHEME).is_none() {
            tell(
                MEMBERS,
                "members without membership_scheme: clustering is off".to_owned(),
                "set membership_scheme = \"wka\"",
            );
            continue;
        }
        if server.text(SCHEME) != Setting::Is("wka".to_owned()) || members.is_empty() {
            continue;
        }
        let host =
            |member: &String| member.rsplit_once(':').map_or(member.clone(), |(host, _)| host.to_owned());
        if 1 < members.len()
            && !is_loopback(&server.node.host)
            && members.iter().any(|member| is_loopback(&host(member)))
        {
            tell(
                MEMBERS,
                "a member is a loopback address, which for every node is itself".to_owned(),
                "write addresses that the others reach",
            );
        }
        let own = (
            server.text("clustering.local_member_host").known(),
            server.text("clustering.local_member_port").known(),
        );
        if let (Some(host), Some(port)) = own {
            let own = format!("{host}:{port}");
            if !members.contains(&own) {
                let what = format!("members lacks {own}, which this node itself listens at");
                tell(
                    MEMBERS,
                    what,
                    "members, local_member_host (by default server.node_ip) and local_member_port belong together",
                );
            }
        }
    }
    let why = "they are two clusters, and caches go stale";
    let remedy = "keep it in the group's layer";
    let on = || typed.iter().copied();
    for key in [SCHEME, "clustering.domain"] {
        equal(on(), ("CV541", key), (why, remedy), report);
    }
    let list = |server: &Server<'_>| {
        let mut members = server.texts(MEMBERS);
        members.sort();
        if members.is_empty() { Setting::Unknown } else { Setting::Is(members.join(" ")) }
    };
    super::same(on(), ("CV541", MEMBERS), list, (why, remedy), report);
}

/// Identity Servers with one database and no cluster: nobody tells the one what the other changed.
fn alone(servers: &[Server<'_>], report: &mut Report) {
    let mut sharing: BTreeMap<String, Vec<&Server<'_>>> = BTreeMap::new();
    for server in servers.iter().filter(|server| server.family == Family::Identity) {
        // An embedded database is shared with nobody, whatever its path.
        let place = location(server, "identity_db").known().filter(|place| !place.starts_with("jdbc:h2:"));
        sharing.entry(place.unwrap_or_default()).or_default().push(server);
    }
    sharing.remove("");
    for server in sharing.into_values().filter(|sharing| 1 < sharing.len()).flatten() {
        if server.text(SCHEME) == Setting::Absent && server.texts(MEMBERS).is_empty() {
            let what = "several Identity Servers share identity_db, and this one is in no cluster: its caches go \
                        stale, users are logged out, and tokens that were revoked elsewhere stay valid";
            let remedy = "set [clustering] membership_scheme = \"wka\", local_member_host and members";
            server.warn(report, ("CV555", "database.identity_db.url"), (what.to_owned(), remedy.to_owned()));
        }
    }
}

/// What two nodes cannot both be.
fn unique(servers: &[Server<'_>], report: &mut Report) {
    let remedy = "give each node its own, as a value of the node in fleet.toml";
    for key in ["server.node_ip", "clustering.local_member_host", "apim.gateway_notification.gateway_id"] {
        let mut owners: BTreeMap<String, Vec<&Server<'_>>> = BTreeMap::new();
        for server in servers.iter().filter(|server| server.typed.data.find(key).is_some()) {
            let Some(own) = server.text(key).known().filter(|own| !is_loopback(own)) else { continue };
            let before = owners.entry(own).or_default();
            let elsewhere =
                |other: &&&Server<'_>| key.ends_with("gateway_id") || other.node.host != server.node.host;
            if let Some(other) = before.iter().find(elsewhere) {
                let what = format!("{key} of {} is that of {} as well", server.name, other.name);
                server.warn(report, ("CV550", key), (what, remedy.to_owned()));
            }
            before.push(server);
        }
    }
}

/// Start arguments that say something else than the file.
fn started(server: &Server<'_>, report: &mut Report) {
    const KEY: &str = "server.server_role";
    let args = &server.node.bundle.service.args;
    if args.iter().any(|arg| arg == "--optimize") && !args.iter().any(|arg| arg == "--skipConfigOptimization")
    {
        let what = "--optimize replaces deployment.toml by the product's own for that profile";
        let remedy = "add --skipConfigOptimization, or leave --optimize out";
        server.warn(report, ("CV547", KEY), (what.to_owned(), remedy.to_owned()));
    }
    let profile = args.iter().find_map(|arg| arg.strip_prefix("-Dprofile="));
    if let (Some(profile), Setting::Is(role)) = (profile, server.text(KEY))
        && role != profile
        && server.typed.data.find(KEY).is_some()
    {
        let what = format!("server_role is {role:?} and the server is started with -Dprofile={profile}");
        server.warn(report, ("CV547", KEY), (what, "let both say the same".to_owned()));
    }
}

/// Variables that the fleet sets for some nodes of a group only. Those it sets for none may come from elsewhere.
fn variables(group: &[&Server<'_>], report: &mut Report) {
    for server in group {
        for (key, value) in server.typed.data.iter() {
            let text = value.to_java_string();
            for name in carbon::java::substrings_between(&text, "$env{", "}") {
                let has = |server: &&&Server<'_>| server.node.bundle.service.env.contains_key(name);
                if has(&server) {
                    continue;
                }
                if let Some(other) = group.iter().find(has) {
                    let what = format!(
                        "$env{{{name}}} is set for {} and not for {}, which then does not start",
                        other.name, server.name
                    );
                    server.warn(report, ("CV545", key), (what, format!("set {name} in `env` of the group")));
                }
            }
        }
    }
}

/// What a pack would say, as far as it can be said without.
fn without_pack(server: &Server<'_>, report: &mut Report) {
    if server.text("server.hostname") == Setting::Absent {
        let what =
            "there is no server.hostname, which other settings refer to: most versions refuse to start";
        server.warn(
            report,
            ("CV546", "server.hostname"),
            (what.to_owned(), "set [server] hostname".to_owned()),
        );
    }
    for (list, keys) in LISTS {
        if let Some(key) =
            keys.iter().map(|key| format!("{list}.{key}")).find(|key| server.typed.data.find(key).is_some())
        {
            let what = format!("{list} is a list of tables; as one table nothing of it is used");
            server.warn(report, ("CV543", &key), (what, format!("write [[{list}]]")));
        }
    }
    let product = match server.family {
        Family::Identity => carbon::Product::IdentityServer,
        Family::Apim => carbon::Product::ApiManager,
    };
    let part = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
    let dialect = Dialect::of(product, Version::new(part(server.version.0), part(server.version.1), 0));
    for (key, value) in server.typed.data.iter() {
        literal((server, dialect), key, value, false, report);
    }
}

/// Placeholders that this version leaves as they are, and values that it takes for a pattern.
fn literal(
    (server, dialect): (&Server<'_>, Dialect),
    key: &str,
    value: &Value,
    is_nested: bool,
    report: &mut Report,
) {
    match value {
        Value::List(items) => {
            for (n, item) in items.iter().enumerate() {
                let is_table = matches!(item, Value::Map(_));
                let key = if is_table { format!("{key}[{n}]") } else { key.to_owned() };
                literal((server, dialect), &key, item, is_nested, report);
            }
        }
        Value::Map(table) => {
            table.iter().for_each(|(name, item)| {
                literal((server, dialect), &format!("{key}.{name}"), item, true, report);
            });
        }
        Value::Text(text) => {
            let variable = ["$env{", "$sys{"].into_iter().find(|open| text.contains(open));
            let stays = match variable {
                _ if is_nested && text.contains("$ref{") => Some("$ref{}"),
                Some("$env{") if is_nested && !dialect.resolves_variables_in_tables() => Some("$env{}"),
                Some(_) if is_nested && !dialect.resolves_variables_in_tables() => Some("$sys{}"),
                _ => None,
            };
            if let Some(stays) = stays {
                let what = format!(
                    "{key} stands in a list of tables, where this version leaves {stays} as it is typed"
                );
                let remedy = "write the value itself, or derive it with an expression {{ }}";
                server.warn(report, ("CV544", key), (what, remedy.to_owned()));
            }
            for name in carbon::java::substrings_between(text, "$env{", "}") {
                let value = server.node.bundle.service.env.get(name);
                if !dialect.quotes_environment() && value.is_some_and(|value| value.contains(['$', '\\'])) {
                    let what = format!(
                        "the value of {name} holds $ or \\, which this version takes for a pattern: it loses them, or does not start"
                    );
                    let remedy = "write each of them with a \\ before it, or choose another value";
                    server.warn(report, ("CV549", key), (what, remedy.to_owned()));
                }
            }
        }
        _ => {}
    }
}
