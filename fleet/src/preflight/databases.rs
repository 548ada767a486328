//! The databases that a deployment.toml logs in to, and what a login from the host told of them: whether the user is let
//! in, whether the product's tables are there, how many connections are allowed.
//!
//! Only for fleets that ask for it: a login is more than a connection. Facts: the project's notes on surroundings,
//! section 3; types and URLs are those of the products' infer.json.

mod url;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Check, Outcome,
    needs::{Address, Password, Typed},
};
use crate::{finding::names, ids::NodeName, observed::RefusalReason};

/// `maxActive` of every data source in the products' default.json.
pub(crate) const POOL_OF_PRODUCT: u64 = 50;
/// `maxActive` of the Tomcat JDBC pool, which data sources of one's own get.
pub(crate) const POOL_OF_TOMCAT: u64 = 100;

/// A data source with a database server behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// The table that says so, e.g. `database.shared_db`.
    pub key: String,
    /// How the server will log in, or why that cannot be tried from here.
    pub login: Result<Login, String>,
    /// Tables that show that the product's script was run, in upper case; empty for data sources of one's own.
    pub tables: &'static [&'static str],
    /// The most connections that this data source opens; `None` if only the running server knows.
    pub connections_max: Option<u64>,
}

/// Who logs in, and where. Data sources with the same login are tried once: databases lock users who fail often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Whose protocol is spoken.
    pub vendor: Vendor,
    /// Tried in turn until one answers; not empty.
    pub addresses: Vec<Address>,
    /// Name of the database.
    pub database: String,
    /// PostgreSQL's `currentSchema`; those of the user's search path if empty.
    pub schemas: Vec<String>,
    /// Who logs in.
    pub user: String,
    /// With this.
    pub password: Password,
    /// How the driver encrypts.
    pub tls: Tls,
}

/// A protocol that can be spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// MySQL and MariaDB.
    MySql,
    /// PostgreSQL.
    PostgreSql,
}

/// What the JDBC driver does about TLS, by its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Off,
    /// If the database offers it, with any certificate.
    IfOffered,
    /// Always, with any certificate.
    Required,
    /// Always, with a certificate that is vouched for.
    Verified {
        /// Whether the certificate must be for the host's name, too.
        name: bool,
        /// A PEM file with those who vouch, absolute; the server's truststore if absent.
        authorities: Option<String>,
    },
}

/// How a login went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginFact {
    /// Nobody tried: why.
    NotTried(String),
    /// No connection came about: why. The check `endpoint` judges that.
    Unreached(String),
    /// The connection came about, and then no answer came within this many seconds.
    Silent(u64),
    /// The database does not let the user in, in its own words.
    Refused(String),
    /// There is no database of this name, in the server's own words.
    NoDatabase(String),
    /// All connections are taken, in the server's own words.
    Full(String),
    /// It went in no way that says whether the user is let in: why.
    Unclear(String),
    /// Logged in.
    In(Inside),
}

/// What a database told of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inside {
    /// E.g. `MariaDB 10.11.6` or `PostgreSQL 15.18`.
    pub version: String,
    /// Character set of the database, e.g. `utf8mb4`.
    pub character_set: String,
    /// Its collation, e.g. `utf8mb4_general_ci`.
    pub collation: String,
    /// The most connections that the server, the database and the user allow; the least of these.
    pub connections_max: u64,
    /// The most connections that the server allows to all databases and users together, less what it keeps for its
    /// administrators; 0: it does not say.
    pub of_server: u64,
    /// Tables that are there, in upper case, as far as they were asked for.
    pub tables: BTreeSet<String>,
}

/// At most this many database servers in one answer.
pub const LIMITS_MAX: usize = 16;

/// How many connections one database server allows in all, as it said itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseLimit {
    /// As the data source names it, also `localhost`; not empty.
    pub addresses: Vec<Address>,
    /// At least 1.
    pub connections_max: u64,
}

/// What database servers say, by [`Address::place`].
pub type DatabaseLimits = BTreeMap<Vec<Address>, SaidLimit>;

/// What a database server said to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidLimit {
    /// The most connections that it allows in all.
    pub connections_max: u64,
    /// The node that logged in.
    pub to: NodeName,
}

/// What each database server that let somebody in allows; the least, should it say different things.
pub fn limits(looked: &[Looked]) -> Vec<DatabaseLimit> {
    let mut of: BTreeMap<&[Address], u64> = BTreeMap::new();
    for one in looked {
        let (Ok(login), LoginFact::In(inside)) = (&one.database.login, &one.fact) else { continue };
        if inside.of_server != 0 {
            let most = of.entry(&login.addresses).or_insert(inside.of_server);
            *most = (*most).min(inside.of_server);
        }
    }
    let limit = |(addresses, connections_max): (&[Address], _)| DatabaseLimit {
        addresses: addresses.to_vec(),
        connections_max,
    };
    of.into_iter().take(LIMITS_MAX).map(limit).collect()
}

/// A data source with what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What the configuration says.
    pub database: Database,
    /// How the login went.
    pub fact: LoginFact,
    /// Whether a server runs whose deployment.toml has the same login for this data source: then the product's tables
    /// are somewhere, whatever was seen.
    pub is_in_use: bool,
}

/// The data sources of a configuration of this product, in the order of their keys. Those without a network are left out.
pub(super) fn wanted(typed: &Typed<'_>, product: &str) -> Vec<Database> {
    let database = |key: String| {
        let login = login(typed, &key)?;
        let tables = proof(typed, &key, product);
        let connections_max = pool(typed, &key);
        Some(Database { key, login, tables, connections_max })
    };
    typed.tables_of_data_sources().into_iter().filter_map(database).collect()
}

/// How a data source logs in; `None` for one without a network.
fn login(typed: &Typed<'_>, table: &str) -> Option<Result<Login, String>> {
    let part = |name: &str| typed.text(&format!("{table}.{name}"));
    let place = match part("url") {
        Some(Ok(url)) => url::read(&url)?,
        Some(Err(why)) => Err(why),
        None => by_parts(&part)?,
    };
    Some(place.and_then(|place| {
        let user = match part("username") {
            Some(read) => read.map_err(|why| format!("its username: {why}"))?,
            None => return Err(format!("{table} has no `username`")),
        };
        let password = match part("password") {
            Some(read) => read.map_err(|why| format!("its password: {why}"))?,
            None => return Err(format!("{table} has no `password`")),
        };
        Ok(Login {
            vendor: place.vendor,
            addresses: place.addresses,
            database: place.database,
            schemas: place.schemas,
            user,
            password: Password::new(password),
            tls: place.tls,
        })
    }))
}

/// The URL that the product builds of `type`, `hostname`, `port` and `name` has no parameters.
fn by_parts(part: &dyn Fn(&str) -> Option<Result<String, String>>) -> Option<Result<url::Place, String>> {
    let needed = |name: &str| {
        let missing = || format!("it has neither `url` nor `{name}`");
        part(name).ok_or_else(missing).and_then(|read| read)
    };
    let build = || -> Result<Option<url::Place>, String> {
        let scheme = match needed("type")?.as_str() {
            "h2" => return Ok(None),
            "mysql" => "mysql",
            "mariadb" => "mariadb",
            "postgre" => "postgresql",
            other => return Err(not_spoken(other)),
        };
        let (host, port, name) = (needed("hostname")?, needed("port")?, needed("name")?);
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        url::read(&format!("jdbc:{scheme}://{host}:{port}/{name}")).transpose()
    };
    build().transpose()
}

fn not_spoken(kind: &str) -> String {
    format!("{kind} is tried by a connection only (`endpoint`), not by a login")
}

/// Tables that the product's scripts make.
fn proof(typed: &Typed<'_>, table: &str, product: &str) -> &'static [&'static str] {
    // Users may lie in a database of their own.
    let users_elsewhere = typed.text("realm_manager.data_source").is_some();
    match table {
        // Since 7, Identity Server keeps the registry for itself.
        "database.shared_db" if product.starts_with("wso2is-7") && users_elsewhere => &[],
        "database.shared_db" if product.starts_with("wso2is-7") => &["UM_USER"],
        "database.shared_db" if users_elsewhere => &["REG_RESOURCE"],
        "database.shared_db" => &["REG_RESOURCE", "UM_USER"],
        "database.identity_db" => &["IDN_BASE_TABLE", "IDN_OAUTH2_ACCESS_TOKEN"],
        "database.apim_db" => &["AM_API", "AM_KEY_MANAGER"],
        _ => &[],
    }
}

/// As the products read it; `max_active` counts for `shared_db` alone.
fn pool(typed: &Typed<'_>, table: &str) -> Option<u64> {
    let typed_as = |name: &str| typed.text(&format!("{table}.pool_options.{name}"));
    let mapped = || (table == "database.shared_db").then(|| typed_as("max_active")).flatten();
    match typed_as("maxActive").or_else(mapped) {
        Some(Ok(number)) => number.trim().parse().ok(),
        Some(Err(_)) => None,
        None if table.starts_with("database.") => Some(POOL_OF_PRODUCT),
        None => Some(POOL_OF_TOMCAT),
    }
}

/// One check per data source, then one per database server that allows less than this server's pools may open.
pub(super) fn check(looked: &[Looked]) -> Vec<Check> {
    let one = |looked: &Looked| Check {
        name: "database",
        subject: looked.database.key.clone(),
        outcome: outcome(looked),
    };
    let mut checks: Vec<Check> = looked.iter().map(one).collect();
    checks.extend(pools(looked));
    checks
}

fn outcome(looked: &Looked) -> Outcome {
    let key = &looked.database.key;
    let login = match &looked.database.login {
        Ok(login) => login,
        Err(why) => return Outcome::Skipped(why.clone()),
    };
    let (user, place) = (&login.user, place(login));
    let fail = |why: String, remedy: String| Outcome::Fail {
        why,
        remedy: format!("{remedy}; the server would hang at its start"),
        reason: RefusalReason::PreflightFailed,
    };
    match &looked.fact {
        LoginFact::NotTried(why) => Outcome::Skipped(why.clone()),
        LoginFact::Unreached(why) => Outcome::Skipped(format!("no login at {place}: {why}")),
        LoginFact::Silent(seconds) => fail(
            format!("{place} takes the connection and does not answer a login of {user} within {seconds} s"),
            "see what it waits for".to_owned(),
        ),
        LoginFact::Refused(said) => fail(
            format!("{place} refuses {user}: {said}"),
            format!("correct {key}.username and {key}.password, or let the user in from this host"),
        ),
        LoginFact::NoDatabase(said) => fail(
            format!("{user} is let in at {place}, and there is no database {:?}: {said}", login.database),
            "create it and run what `convoy schema` names, or correct the name".to_owned(),
        ),
        LoginFact::Full(said) => Outcome::Warn {
            why: format!("{place} has no connection left for {user}: {said}"),
            remedy: "raise its limit, or lower maxActive of the data sources".to_owned(),
        },
        LoginFact::Unclear(why) => Outcome::Warn {
            why: format!("whether {place} lets {user} in cannot be told: {why}"),
            remedy: "try it by hand, with the driver's own client".to_owned(),
        },
        LoginFact::In(inside) => of_inside(looked, login, inside),
    }
}

fn of_inside(looked: &Looked, login: &Login, inside: &Inside) -> Outcome {
    let wanted = looked.database.tables;
    let (user, place, name) = (&login.user, place(login), &login.database);
    let missing: Vec<&str> = wanted.iter().copied().filter(|table| !inside.tables.contains(*table)).collect();
    if !missing.is_empty() {
        let remedy =
            "run what `convoy schema` names in it, or correct the name or the user's rights".to_owned();
        let why = format!(
            "{user} is let in at {place}, but sees no table {} in {name:?}",
            names(missing.iter().copied())
        );
        // One table that is there shows that somebody ran the scripts, perhaps of another version.
        if missing.len() < wanted.len() || looked.is_in_use {
            return Outcome::Warn { why, remedy };
        }
        return Outcome::Fail { why, remedy, reason: RefusalReason::PreflightFailed };
    }
    if login.vendor == Vendor::PostgreSql && inside.character_set != "UTF8" {
        return Outcome::Warn {
            why: format!(
                "{name:?} at {place} has the encoding {}: characters that it lacks cannot be stored",
                inside.character_set
            ),
            remedy: "create the database with ENCODING 'UTF8'".to_owned(),
        };
    }
    let tables = if wanted.is_empty() { "" } else { " the schema is there," };
    Outcome::Pass(format!(
        "{place} lets {user} in to {name:?}:{tables} {} ({}), {}, {} connections allowed",
        inside.character_set, inside.collation, inside.version, inside.connections_max
    ))
}

fn place(login: &Login) -> String {
    login.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Of each database server that allows less than the pools of this server alone.
fn pools(looked: &[Looked]) -> Vec<Check> {
    let mut of: BTreeMap<&[Address], (u64, u64, Vec<&str>)> = BTreeMap::new();
    for one in looked {
        let (Ok(login), LoginFact::In(inside)) = (&one.database.login, &one.fact) else { continue };
        let (sum, allowed, keys) =
            of.entry(login.addresses.as_slice()).or_insert((0, inside.connections_max, Vec::new()));
        *sum = sum.saturating_add(one.database.connections_max.unwrap_or(0));
        *allowed = (*allowed).min(inside.connections_max);
        keys.push(&one.database.key);
    }
    let check = |(place, (sum, allowed, keys)): (&[Address], (u64, u64, Vec<&str>))| {
        let place = place.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        (allowed < sum).then(|| Check {
            name: "database",
            subject: place,
            outcome: Outcome::Warn {
                why: format!(
                    "the pools of this server may open {sum} connections ({}), it allows {allowed}",
                    names(keys.iter().copied())
                ),
                remedy: "lower maxActive of the data sources, or raise the limit of the database server"
                    .to_owned(),
            },
        })
    };
    of.into_iter().filter_map(check).collect()
}

/// Whether two configurations have the same login for a data source.
pub fn is_same(one: &Database, other: &Database) -> bool {
    one.key == other.key && one.login.is_ok() && one.login == other.login
}

#[cfg(test)]
mod tests;
