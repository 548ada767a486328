//! The pools of all nodes against what a database server allows: each node opens connections up to the limit of each of
//! its data sources, and nobody but the database counts them together.
//!
//! Facts: the project's notes on surroundings, section 3.

use std::collections::{BTreeMap, BTreeSet};

use super::server::{Server, Setting};
use crate::{
    finding::names,
    preflight::{
        databases::{DatabaseLimits, POOL_OF_PRODUCT, POOL_OF_TOMCAT},
        needs::{Address, Target, jdbc_target},
    },
    spec::{DatabaseServer, report::Report},
};

/// `max_connections` of a fresh MySQL or MariaDB.
const MYSQL: u64 = 151;
/// `max_connections` of a fresh PostgreSQL; 3 of them are kept for its administrators.
const POSTGRESQL: u64 = 100;

/// `said`: what the database servers themselves say, as far as they were asked.
pub(super) fn check(
    servers: &[Server<'_>],
    (declared, said): (&[DatabaseServer], &DatabaseLimits),
    report: &mut Report,
) {
    let mut at: BTreeMap<Vec<Address>, Vec<Pool<'_>>> = BTreeMap::new();
    for server in servers {
        for (place, pool) in pools(server) {
            at.entry(place).or_default().push(pool);
        }
    }
    unused(&at, declared, report);
    for (place, pools) in &at {
        let meant = declared.iter().filter(|server| place.iter().any(|address| is_same(address, server)));
        let meant = meant.map(|server| u64::from(server.max_connections)).min();
        let limit = match (said.get(place), meant) {
            (Some(said), Some(meant)) if meant < said.connections_max => by_fleet(meant),
            (Some(said), _) => {
                Limit { most: said.connections_max, who: format!("it allows, as {} was told", said.to) }
            }
            (None, Some(meant)) => by_fleet(meant),
            (None, None) => match pools.first().and_then(|pool| pool.vendor.default_limit()) {
                Some((most, who)) => Limit { most, who: who.to_owned() },
                None => continue,
            },
        };
        judge((place, pools), &limit, report);
    }
}

/// How many connections a database server allows.
struct Limit {
    most: u64,
    /// Whose word that is.
    who: String,
}

fn by_fleet(most: u64) -> Limit {
    Limit { most, who: "fleet.toml says".to_owned() }
}

/// Who made a database server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vendor {
    MySql,
    PostgreSql,
    /// Its limit depends on its machine or licence.
    Other,
}

impl Vendor {
    /// By the URL after `jdbc:`, or by `type`.
    fn of(text: &str) -> Self {
        let has = |part: &str| text.contains(part);
        if has("mysql") || has("mariadb") {
            Vendor::MySql
        } else if has("postgre") {
            Vendor::PostgreSql
        } else {
            Vendor::Other
        }
    }

    fn default_limit(self) -> Option<(u64, &'static str)> {
        match self {
            Vendor::MySql => Some((MYSQL, "MySQL and MariaDB allow by default")),
            Vendor::PostgreSql => Some((POSTGRESQL, "PostgreSQL allows by default")),
            Vendor::Other => None,
        }
    }
}

/// The connections that one data source of one node may open.
struct Pool<'s> {
    server: &'s Server<'s>,
    /// `shared_db`.
    name: String,
    /// The key to point at.
    key: String,
    vendor: Vendor,
    /// `None` if only the server's surroundings tell.
    connections_max: Option<u64>,
}

/// The pools of a node with the database servers that they lead to. Databases without a network have no limit.
fn pools<'s>(server: &'s Server<'_>) -> Vec<(Vec<Address>, Pool<'s>)> {
    let mut found = Vec::new();
    let named = |key: &str| {
        let table = key.strip_suffix(".url").or_else(|| key.strip_suffix(".hostname"))?;
        let is_one = table.starts_with("database.") || table.starts_with("datasource.");
        is_one.then(|| table.to_owned())
    };
    let tables: BTreeSet<String> = server.typed.data.iter().filter_map(|(key, _)| named(key)).collect();
    for table in tables {
        let text = |name: &str| server.typed_text(&format!("{table}.{name}"));
        let Some((place, vendor)) = place(server, &text) else { continue };
        let (connections_max, key) = limit(server, &table);
        let name = table.split_once('.').map_or(table.as_str(), |(_, name)| name).to_owned();
        found.push((place, Pool { server, name, key, vendor, connections_max }));
    }
    for element in server.elements("datasource") {
        let Some((place, vendor)) = place(server, &|name: &str| element.text(name)) else { continue };
        let (connections_max, key) = match element.text("pool_options.maxActive") {
            Setting::Absent => (Some(POOL_OF_TOMCAT), element.key_of("url")),
            typed => (number(typed), element.key_of("pool_options.maxActive")),
        };
        let name = element.text("id").known().unwrap_or_else(|| element.key.clone());
        found.push((place, Pool { server, name, key, vendor, connections_max }));
    }
    found
}

/// Where a data source leads. A name of the host itself is another one on every host.
fn place(server: &Server<'_>, text: &dyn Fn(&str) -> Setting) -> Option<(Vec<Address>, Vendor)> {
    let (addresses, vendor) = match text("url") {
        Setting::Is(url) => match jdbc_target(&url)? {
            Target::Addresses(addresses) => {
                (addresses, Vendor::of(url.split("//").next().unwrap_or_default()))
            }
            Target::Unknown(_) => return None,
        },
        Setting::Unknown => return None,
        Setting::Absent => {
            let kind = text("type").known()?;
            let host = text("hostname").known().filter(|_| kind != "h2")?;
            let port = text("port").known()?.parse().ok()?;
            (vec![Address { host, port }], Vendor::of(&kind))
        }
    };
    Some((Address::place(addresses, &server.node.host), vendor))
}

/// The most connections of a data source, and the key to point at.
fn limit(server: &Server<'_>, table: &str) -> (Option<u64>, String) {
    let typed = |name: &str| {
        let key = format!("{table}.pool_options.{name}");
        match server.typed_text(&key) {
            Setting::Absent => None,
            value => Some((number(value), key)),
        }
    };
    // key-mappings.json knows the other spelling for this table alone; a pool that gets it ignores it.
    let mapped = || (table == "database.shared_db").then(|| typed("max_active")).flatten();
    if let Some(found) = typed("maxActive").or_else(mapped) {
        return found;
    }
    let by_default = match server.text(&format!("{table}.pool_options.maxActive")) {
        Setting::Absent if table.starts_with("database.") => Some(POOL_OF_PRODUCT),
        Setting::Absent => Some(POOL_OF_TOMCAT),
        of_pack => number(of_pack),
    };
    let has_url = server.typed.data.find(&format!("{table}.url")).is_some();
    (by_default, format!("{table}.{}", if has_url { "url" } else { "hostname" }))
}

fn number(setting: Setting) -> Option<u64> {
    setting.known()?.trim().parse().ok()
}

fn is_same(address: &Address, declared: &DatabaseServer) -> bool {
    address.port == declared.address.port && address.host.eq_ignore_ascii_case(&declared.address.host)
}

fn judge((place, pools): (&[Address], &[Pool<'_>]), limit: &Limit, report: &mut Report) {
    let Limit { most, who } = limit;
    let sum: u64 = pools.iter().filter_map(|pool| pool.connections_max).fold(0, u64::saturating_add);
    if sum <= *most {
        return;
    }
    let mut by_node: BTreeMap<&str, Vec<&Pool<'_>>> = BTreeMap::new();
    for pool in pools {
        by_node.entry(pool.server.name.as_str()).or_default().push(pool);
    }
    let nodes: Vec<String> = by_node.iter().map(|(name, pools)| of_node(name, pools)).collect();
    let place = place.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let least = if pools.iter().any(|pool| pool.connections_max.is_none()) { "at least " } else { "" };
    let what = format!(
        "the pools of this fleet may open {least}{sum} connections to {place}, more than the {most} that {who}: {}",
        names(nodes.iter().map(String::as_str))
    );
    let remedy = "lower maxActive of the data sources, or raise the limit of the database server and write it to \
                  max_connections of [databases.NAME] in fleet.toml";
    let largest = pools.iter().max_by_key(|pool| (pool.connections_max, std::cmp::Reverse(pool.server.name)));
    let at = largest.and_then(|pool| pool.server.place(&pool.key));
    report.warning("CV561", at, what, remedy);
}

/// `is-1 55 (identity_db 50, shared_db 5)`.
fn of_node(name: &str, pools: &[&Pool<'_>]) -> String {
    let sum: u64 = pools.iter().filter_map(|pool| pool.connections_max).fold(0, u64::saturating_add);
    let pools: Vec<String> = pools
        .iter()
        .map(|pool| match pool.connections_max {
            Some(most) => format!("{} {most}", pool.name),
            None => format!("{} unknown", pool.name),
        })
        .collect();
    format!("{name} {sum} ({})", names(pools.iter().map(String::as_str)))
}

/// A limit that nobody is held against is a slip of the pen.
fn unused(at: &BTreeMap<Vec<Address>, Vec<Pool<'_>>>, declared: &[DatabaseServer], report: &mut Report) {
    for server in declared {
        if !at.keys().flatten().any(|address| is_same(address, server)) {
            let what = format!("no data source of this fleet leads to {}", server.address);
            let remedy = "write host and port as the data sources have them";
            report.info("CV562", Some(server.place.clone()), what, remedy);
        }
    }
}
